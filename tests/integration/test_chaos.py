"""A run against an endpoint that errs, resets, babbles, dawdles and sends away gives what a calm one gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.chaos import Chaos, Faults

import icl_engine as icl
from icl_engine.engine.run import RunResult

WriteTask = Callable[..., Path]
Summary = dict[str, Any]

CALM = Faults()
STORM = Faults(errors=0.05, resets=0.02, garbage=0.02, slow=0.005, rate=400, seed=1)
SITTING = ("paid", "cached")
"""What of a summary's usage is this sitting's."""

ROWS = [{"text": f"film number {i} of many", "label": ("positive", "negative")[i % 2]} for i in range(1500)]
OUTPUT = [
    {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}},
    {"use": "contextual_calibration"},
    {"use": "batch_calibration"},
]


@pytest.fixture
def server() -> Iterator[Chaos]:
    with Chaos() as running:
        yield running


def summary(result: RunResult) -> Summary:
    """A summary without what belongs to its sitting."""
    whole: Summary = json.loads((result.path / "summary.json").read_text())
    del whole["seconds"]
    whole["usage"] = {k: v for k, v in whole["usage"].items() if k not in SITTING}
    return whole


def contents(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "summary.json"}


def test_a_storm_changes_nothing(
    server: Chaos, write_task: WriteTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = {"use": "vllm", "base_url": server.url, "name": "m", "timeout": 1.0}
    task = write_task(model=model, test=ROWS, output=OUTPUT, run={"concurrency": 64})
    calm = icl.run(task, out="calm")
    assert not server.forget().twice

    server.faults = STORM
    monkeypatch.setenv("ICL_CACHE_DIR", str(tmp_path / "another"))
    storm = icl.run(task, out="storm")
    audit = server.forget()
    assert {k for k, n in audit.faults.items() if n} == {"errors", "resets", "garbage", "slow", "429"}
    assert storm.failed == 0
    assert contents(storm.path) == contents(calm.path)
    assert summary(storm) == summary(calm)
    asked = {prompt for prompt in audit.answered if prompt.startswith("Review: ")}
    assert len(asked) == storm.summary["usage"]["requests"] == storm.summary["usage"]["paid"] == len(ROWS) + 3
    assert audit.twice == audit.late, "no prompt is answered twice but those that came too late"
    assert set(audit.answered.values()) <= {1, 2}

    again = icl.run(task, out="storm")
    assert again.summary["usage"]["paid"] == 0
    assert not server.audit.received
    assert contents(again.path) == contents(calm.path)


def test_no_more_are_in_flight_than_may_be(server: Chaos, write_task: WriteTask) -> None:
    server.faults = Faults(latency=0.02, resets=0.05)
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    icl.run(write_task(model=model, test=ROWS[:600], run={"concurrency": 40}), out="out")
    assert 16 < server.audit.peak <= 40


def test_a_pause_is_kept_by_the_whole_endpoint(server: Chaos, write_task: WriteTask) -> None:
    concurrency = 16
    server.faults = Faults(latency=0.005, rate=300)
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    result = icl.run(write_task(model=model, test=ROWS[:700], output=[], run={"concurrency": concurrency}), out="out")
    audit = server.audit
    assert result.failed == 0
    assert not audit.twice
    assert len(audit.refusals) >= 2
    sent_away, later = audit.refusals[0], audit.refusals[-1]
    for refused in {sent_away, later}:
        meanwhile = [at - refused for at in audit.arrivals if 0 < at - refused < 0.9]
        assert len(meanwhile) < concurrency, "what was in flight by then, no more"
        assert all(after < 0.5 for after in meanwhile)
    assert any(at > sent_away + 0.9 for at in audit.arrivals)
