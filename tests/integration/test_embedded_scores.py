"""Label scores of the embedded model next to step-by-step scoring: one request a token, the whole vocabulary's top."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import icl_engine as icl
from icl_engine.models.embedded import EmbeddedEndpoint
from icl_engine.pipeline import Pipeline
from icl_engine.types import NextToken, Request, Token

LABELS = {
    "cancel_order": "cancel the order",
    "change_address": "change the address",
    "opening_hours": "opening hours",
    "report_damage": "report damage",
    "request_refund": "request a refund",
    "track_parcel": "track the parcel",
}
WIDE = 4_000
"""Next tokens read at each step: wide enough that none of the labels' tokens is missing."""
ROWS = 3
MEDIAN, MOST, MARGIN = 0.01, 0.05, 0.1
"""Bounds of |Δp|. Quantised arithmetic differs with a batch's shape, by up to 0.2 nats (a forced word is another batch
than its steps); as dp = p (1 - p) d log p, that moves a probability by 0.05 at the most."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def intent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pipeline]]:
    """The shipped task with labels of several tokens, once for all labels and once for the best one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        opened = {want: _pipeline(want) for want in ("distribution", "argmax")}
        yield opened
        for pipeline in opened.values():
            pipeline.close()


def _pipeline(want: str) -> Pipeline:
    verbalizer = {"use": "verbalizer", "labels": LABELS, "read": "scores", "want": want}
    return icl.load("intent", settings={"output": [verbalizer], "run.cache": False})


def _rows() -> list[dict[str, Any]]:
    lines = (ROOT / "tasks/data/intent/test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:: len(lines) // ROWS][:ROWS]]


class Steps:
    """Step-by-step scores after one prompt: each node of the labels' tokens is asked once, on its own."""

    def __init__(self, pipeline: Pipeline, prompt: str) -> None:
        self._pipeline, self._prompt = pipeline, prompt
        self._seen: dict[tuple[int, ...], Mapping[Token, float]] = {}

    def score(self, word: str) -> float:
        """log p of a word: its tokens as the whole text is cut, each after those before it."""
        endpoint = self._pipeline.driver.endpoint
        assert isinstance(endpoint, EmbeddedEndpoint)
        before, whole = (endpoint._tokenize(text, True) for text in (self._prompt, f"{self._prompt} {word}"))
        assert whole[: len(before)] == before
        path = tuple(whole[len(before) :])
        return sum(self._after(path[:at])[token] for at, token in enumerate(path))

    def _after(self, node: tuple[int, ...]) -> Mapping[Token, float]:
        if node not in self._seen:
            request = Request(self._prompt, NextToken(WIDE, (), node))
            answer = self._pipeline.submit(self._pipeline.driver.ask(request)).result().response
            self._seen[node] = answer.places[0].seen
        return self._seen[node]


def _distribution(logprobs: Mapping[str, float]) -> dict[str, float]:
    total = sum(map(math.exp, logprobs.values()))
    return {label: math.exp(p) / total for label, p in logprobs.items()}


def test_a_distribution_is_that_of_step_by_step_scoring(intent: dict[str, Pipeline]) -> None:
    gaps: list[float] = []
    for row in _rows():
        prediction = intent["distribution"].predict(row)
        assert prediction.scoring is not None
        assert not prediction.scoring.bounded
        assert prediction.distribution is not None
        steps = Steps(intent["distribution"], prediction.prompt.text or "")
        reference = _distribution({y: steps.score(word) for y, word in LABELS.items()})
        found = [abs(prediction.distribution[y] - p) for y, p in reference.items()]
        gaps += found
        first, second = sorted(reference.values(), reverse=True)[:2]
        if first - second > MARGIN:
            best = max(reference, key=reference.__getitem__)
            assert prediction.value == best
            (quick,) = intent["argmax"].batch([row])
            assert quick.value == best
            assert not quick.scoring.bounded
    print(f"|dp| of {len(gaps)} labels: median {median(gaps):.6f}, most {max(gaps):.6f}")  # noqa: T201
    assert median(gaps) <= MEDIAN
    assert max(gaps) <= MOST
