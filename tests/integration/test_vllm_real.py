"""A real vLLM server, opt-in: what label scores cost there, and whether they are right.

    bash shared/tools/vllm_cpu.sh serve DIR 8000 &
    ICL_VLLM_URL=http://127.0.0.1:8000 python -m pytest -m vllm -s tests/integration/test_vllm_real.py

Data sets come from $ICL_SHARED/data. Scores are compared with those the server gives of whole texts (echo and prompt
log-probabilities), read here with plain HTTP. $ICL_VLLM_ROWS is how many rows of each set are compared so.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

import icl_engine as icl

URL = os.environ.get("ICL_VLLM_URL", "").rstrip("/").removesuffix("/v1")
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ICL_SHARED", ROOT.parent / "shared")) / "data"

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(not URL, reason="set ICL_VLLM_URL to a vLLM server's URL")]

SHOTS, COSTED = 8, 200
MEDIAN = 0.01
MOST, MARGIN = {"completions": 0.05, "chat": 0.07}, {"completions": 0.1, "chat": 0.2}
"""Bounds of |Δp|; where the two likeliest labels are nearer than the margin, their order may differ.

Served in float32, the gaps are below 0.0001. In bfloat16 a prompt that the prefix cache serves and a cold one (as an
echo always is) round otherwise. Logits from 16 on come in steps of 0.125 nats: one moves p = 1/2 by 0.031; from 32 on,
as those of SmolLM2's chat answers, of 0.25: one moves it by 0.062.
"""

TEMPLATES = {
    "sst2": "Review: {{ text }}\nSentiment: {{ answer }}",
    "trec": "Question: {{ text }}\nType: {{ answer }}",
    "banking77": "Customer: {{ text }}\nIntent: {{ answer }}",
}
COMPARED = {"sst2": 60, "trec": 30, "banking77": 4}
"""Rows compared with echo, which takes one full prompt for each label."""
MOST_REQUESTS = {"sst2": 1.0, "trec": 1.1, "banking77": 3.0}
"""HTTP requests an example for the best label. TREC's Abbreviation has three tokens, its other labels one."""

PROBES = 8
"""Requests at the most that find out what the server gives."""

Scores = Mapping[str, float]


class Server:
    """The server under test, by plain HTTP."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.model = str(self.http.get("/v1/models").raise_for_status().json()["data"][0]["id"])

    def post(self, path: str, **body: Any) -> Any:
        return self.http.post(path, json={"model": self.model, **body}).raise_for_status().json()

    def ids(self, **what: Any) -> list[int]:
        return [int(i) for i in self.post("/tokenize", **what)["tokens"]]

    def counts(self) -> list[int]:
        """HTTP requests for answers, prompts the engine worked on, their tokens, and those the prefix cache had."""
        rows = self.http.get("/metrics").text.splitlines()
        asked = [row for row in rows if row.startswith("http_requests_total") and "completions" in row]
        names = ("vllm:request_success_total{", "vllm:prompt_tokens_total{", "vllm:prefix_cache_hits_total{")
        groups = [asked, *([row for row in rows if row.startswith(name)] for name in names)]
        return [sum(int(float(row.rpartition(" ")[2])) for row in group) for group in groups]

    def text_score(self, prompt: str, label: str) -> float:
        """log p(label | prompt), from an echo of both."""
        before, whole = self.ids(prompt=prompt), self.ids(prompt=f"{prompt} {label}")
        assert whole[: len(before)] == before
        shown = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
        (choice,) = self.post("/v1/completions", prompt=f"{prompt} {label}", **shown)["choices"]
        return math.fsum(choice["logprobs"]["token_logprobs"][len(before) : len(whole)])

    def chat_score(self, messages: Sequence[Any], label: str) -> float:
        """log p(label | chat), from the prompt log-probabilities of the chat with its answer begun by the label."""
        open_ = {"add_generation_prompt": False, "continue_final_message": True}
        answered = [*messages, {"role": "assistant", "content": label}]
        before, whole = self.ids(messages=messages), self.ids(messages=answered, **open_)
        assert whole[: len(before)] == before
        shown = {"prompt_logprobs": 0, "max_tokens": 1, "temperature": 0}
        rows = self.post("/v1/chat/completions", messages=answered, **open_, **shown)["prompt_logprobs"]
        assert len(rows) == len(whole)
        return math.fsum(rows[i][str(whole[i])]["logprob"] for i in range(len(before), len(whole)))


@pytest.fixture(scope="module")
def vllm() -> Iterator[Server]:
    with httpx.Client(base_url=URL, timeout=600) as http:
        yield Server(http)


@dataclass(frozen=True)
class Row:
    """What a run found of one example."""

    value: str
    distribution: Scores | None
    bounded: bool
    shown: Any

    @property
    def chat(self) -> bool:
        return not isinstance(self.shown, str)


@dataclass(frozen=True)
class Found:
    """A run, and its cost by the server's own counters."""

    rows: list[Row]
    labels: tuple[str, ...]
    summary: Mapping[str, Any]
    requests: int
    prompts: int
    tokens: int
    hits: int

    def __str__(self) -> str:
        n, accuracy = len(self.rows), self.summary["metrics"]["accuracy"]["value"]
        return (
            f"{n} rows: {self.requests / n:.2f} HTTP requests and {self.prompts / n:.2f} prompts an example, "
            f"{self.tokens} prompt tokens, {self.hits} from the prefix cache, {self.summary['seconds']} s, "
            f"accuracy {accuracy:.3f}, {self.summary['scoring']}"
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        pytest.skip(f"{path} is not there; set ICL_SHARED to the folder that holds data/")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _run(vllm: Server, folder: Path, name: str, rows: int, want: str, api: str = "completions") -> Found:
    train, test = DATA / name / "train.jsonl", folder / f"{name}.jsonl"
    labels = tuple(sorted({row["label"] for row in _rows(train)}))
    drawn = random.Random(0).sample(_rows(DATA / name / "test.jsonl"), rows)
    test.write_text("".join(json.dumps(row) + "\n" for row in drawn), encoding="utf-8")
    shots = {"use": "random", "k": SHOTS}
    model = {"use": "vllm", "base_url": f"{URL}/v1", "name": vllm.model, "api": api}
    task = {
        "name": name,
        "data": {"train": str(train), "test": str(test), "target": "label"},
        "input": {"template": {"inline": TEMPLATES[name]}, "demonstrations": shots},
        "model": model,
        "output": [{"use": "verbalizer", "labels": {y: y for y in labels}, "read": "scores", "want": want}],
        "metrics": ["accuracy"],
    }
    before = vllm.counts()
    result = icl.run(task, out=folder / f"{name}-{want}-{api}", cache=False)
    spent = [after - b for after, b in zip(vllm.counts(), before, strict=True)]
    answers = (result.path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    found = [
        Row(p["prediction"], p["distribution"], bool(a["bounded"]), a.get("prompt") or a["messages"])
        for p, a in zip(result.predictions, map(json.loads, answers), strict=True)
    ]
    return Found(found, labels, result.summary, *spent)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_best_label_costs_few_requests(vllm: Server, tmp_path: Path, name: str) -> None:
    found = _run(vllm, tmp_path, name, COSTED, "argmax")
    print(f"\n{name}, best label, {found}")  # noqa: T201 - the figures are what this test is for
    # Probing is asked once: it is no example's.
    assert found.requests - PROBES <= MOST_REQUESTS[name] * COSTED
    assert found.summary["failed"] == found.summary["scoring"]["bounded"] == 0
    assert found.hits > found.tokens / 2


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_distributions_are_those_of_whole_texts(vllm: Server, tmp_path: Path, name: str, api: str) -> None:
    rows = int(os.environ.get("ICL_VLLM_ROWS", COMPARED[name]))
    whole = _run(vllm, tmp_path, name, rows, "distribution", api)
    quick = _run(vllm, tmp_path, name, rows, "argmax", api)
    print(f"\n{name}, {api}, distribution, {whole}\n{name}, {api}, best label, {quick}")  # noqa: T201
    gaps: list[float] = []
    kept = 0
    for row, fast in zip(whole.rows, quick.rows, strict=True):
        assert row.distribution is not None
        assert not row.bounded
        score = vllm.chat_score if row.chat else vllm.text_score
        reference = _distribution({y: score(row.shown, y) for y in whole.labels})
        gaps += [abs(row.distribution[y] - p) for y, p in reference.items()]
        first, second = sorted(reference.values(), reverse=True)[:2]
        if first - second > MARGIN[api]:
            kept += 1
            assert row.value == max(reference, key=reference.__getitem__)
            assert fast.bounded or fast.value == row.value
    print(f"{name}, {api}, |dp| to echo: median {median(gaps):.5f}, most {max(gaps):.4f}; {kept} clear rows of {rows}")  # noqa: T201
    assert median(gaps) <= MEDIAN
    assert max(gaps) <= MOST[api]


def _distribution(logprobs: Scores) -> dict[str, float]:
    peak = max(logprobs.values())
    total = math.fsum(math.exp(p - peak) for p in logprobs.values())
    return {label: math.exp(p - peak) / total for label, p in logprobs.items()}
