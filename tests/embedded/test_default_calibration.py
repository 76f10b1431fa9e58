"""What the engine does about calibration where a task says nothing, on the real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icl_engine as icl
from icl_engine.config.calibration import calibrated
from icl_engine.config.load import load_task

Record = dict[str, Any]
Configure = Callable[..., Record]

WORDS = ("warm", "slow", "dull", "bright", "thin", "moving", "flat", "sharp", "stale", "fresh")
ROWS = [
    {"text": f"a {a} and {b} film", "label": ("good", "bad")[i % 2]}
    for i, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS[:6])
]
LABELS = {"good": "good", "bad": "bad"}
TRAIN = [{"text": f"{what} news", "label": ("good", "bad")[i % 2]} for i, what in enumerate(WORDS)]
SHOWN = {"demonstrations": {"use": "random", "k": 2}}


@pytest.fixture(scope="module")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all tests here, so that no answer is asked for twice."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def _shared_cache(model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_CACHE_DIR", str(model_cache))


def task(rows: int = 60, **keys: Any) -> Record:
    verbalizer = {"use": "verbalizer", "labels": LABELS, **keys.pop("verbalizer", {})}
    return {
        "name": "opinion",
        "data": {"train": TRAIN, "test": ROWS[:rows], "target": "label", **keys.pop("data", {})},
        "input": {"template": {"inline": "{{ text }}. Opinion: {{ answer }}"}, **SHOWN, **keys.pop("input", {})},
        "model": "gemma-3-270m",
        "output": [verbalizer],
        "metrics": ["accuracy"],
        **keys,
    }


def predictions(result: icl.RunResult) -> list[tuple[Any, Any]]:
    return [(p["prediction"], p["distribution"]) for p in result.predictions]


def test_a_run_over_enough_rows_is_calibrated_and_says_so(tmp_path: Path) -> None:
    by_itself = icl.run(task(), out=tmp_path / "default", save=tmp_path / "it.icl.json")
    named = task()
    named["output"] += [{"use": "batch_calibration"}]
    asked = icl.run(named, out=tmp_path / "named")
    assert predictions(by_itself) == predictions(asked)
    assert "batch_calibration over these 60 rows" in by_itself.summary["calibration"]
    assert "calibration: none" in by_itself.summary["calibration"]
    assert asked.summary["calibration"] is None
    assert by_itself.summary["usage"]["requests"] == asked.summary["usage"]["requests"]
    assert asked.summary["usage"]["paid"] == 0
    manifest = json.loads((tmp_path / "default" / "manifest.json").read_text())
    assert manifest["fits"]["output[1]"]["state"]["rows"] == 60
    first = by_itself.predictions[0]
    with icl.load(tmp_path / "it.icl.json") as program:
        assert program.predict(first["inputs"]).distribution == first["distribution"]


def test_it_can_be_left_out_and_few_rows_are_left_alone(tmp_path: Path) -> None:
    without = icl.run(task(verbalizer={"calibration": "none"}), out=tmp_path / "none")
    few = icl.run(task(rows=20), out=tmp_path / "few")
    assert [p for p, _ in predictions(few)] == [p for p, _ in predictions(without)[:20]]
    assert without.summary["calibration"] is None
    assert few.summary["calibration"] == "label scores are not calibrated: 20 rows are too few: 50 are needed"


def test_a_single_prediction_says_that_it_is_not_calibrated(caplog: pytest.LogCaptureFixture) -> None:
    with icl.load(task()) as pipeline:
        one = pipeline.predict(ROWS[0])
        pipeline.predict(ROWS[1])
    assert one.distribution is not None
    assert sum("not calibrated" in message for message in caplog.messages) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"input": {"demonstrations": {"use": "bm25", "k": 2}}},
        {"input": {"demonstrations": None}},
        {"data": {"train": [*TRAIN, *({**TRAIN[0], "text": f"more {i}"} for i in range(30))]}},
        {"data": {"train": None}, "input": {"demonstrations": {"use": "fixed", "items": TRAIN[:2]}}},
        {"verbalizer": {"want": "distribution"}},
        {"verbalizer": {"read": "text"}},
        {"verbalizer": {"normalization": "pmi"}},
        {"model": {"use": "fake"}},
    ],
    ids=["retrieved", "none shown", "uneven", "not known", "asked for", "text", "pmi", "another model"],
)
def test_nothing_is_assumed_where_it_was_measured_to_hurt_or_was_not_measured(change: Record) -> None:
    assert not calibrated(load_task(task(**change))).assumed


@pytest.mark.parametrize("shown", [{"use": "random", "k": 2}, {"use": "fixed", "items": TRAIN[:2]}])
def test_it_is_taken_where_all_queries_share_their_demonstrations(shown: Any) -> None:
    assert calibrated(load_task(task(input={"demonstrations": shown}))).assumed
