"""A run against an endpoint that errs, resets, babbles, dawdles and sends away gives what a calm one gives."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.chaos import Chaos, Faults
from support.server import StandIn

import icl_engine as icl
from icl_engine.engine.run import RunResult
from icl_engine.models.probing import PIXEL

WriteTask = Callable[..., Path]
Summary = dict[str, Any]

CALM = Faults()
STORM = Faults(errors=0.05, resets=0.02, garbage=0.02, slow=0.005, slow_seconds=2.5, rate=400, seed=1)
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
    model = {"use": "vllm", "base_url": server.url, "name": "m", "timeout": 1.5}
    task = write_task(model=model, test=ROWS, output=OUTPUT, run={"concurrency": 64})
    calm = icl.run(task, out="calm")
    assert not server.forget().twice

    server.faults = STORM
    monkeypatch.setenv("ICL_CACHE_DIR", str(tmp_path / "another"))
    storm = icl.run(task, out="storm")
    audit = server.forget()
    assert audit.faults.keys() >= {"errors", "resets", "garbage", "slow"}
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
    server.faults = Faults(latency=0.005, sent_away=(100, 250))
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    result = icl.run(write_task(model=model, test=ROWS[:400], output=[], run={"concurrency": concurrency}), out="out")
    audit = server.audit
    assert result.failed == 0
    assert not audit.twice
    assert len(audit.refusals) == 2
    for refused in audit.refusals:
        after = [at - refused for at in audit.arrivals if at > refused]
        meanwhile = [seconds for seconds in after if seconds < 0.9]
        assert len(meanwhile) < concurrency, "what was in flight by then, no more"
        assert all(seconds < 0.5 for seconds in meanwhile)
        assert len(after) > 100


def test_what_overtakes_a_straggler_waits_on_disk_and_comes_back_whole(
    server: Chaos, write_task: WriteTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("icl_engine.engine.held.NEAR", 3)
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    task = write_task(model=model, test=ROWS[:400], output=OUTPUT, run={"concurrency": 16})
    calm = icl.run(task, out="calm")
    server.faults = Faults(slow=0.02, slow_seconds=0.4)
    monkeypatch.setenv("ICL_CACHE_DIR", str(tmp_path / "another"))
    late = icl.run(task, out="late")
    assert server.audit.late
    assert contents(late.path) == contents(calm.path)
    assert summary(late) == summary(calm)


def test_turns_and_images_wait_on_disk_too(write_task: WriteTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_engine.engine.held.NEAR", 0)
    pixel = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    rows = [{"image": pixel, **row} for row in ROWS[:40]]
    with StandIn() as chat:
        model = {"use": "vllm", "base_url": chat.url, "name": "m", "api": "chat"}
        template = {"template": {"inline": "{{ image }}Review: {{ text }}\nSentiment: {{ answer }}"}}
        task = write_task(model=model, test=rows, train=rows[:4], output=OUTPUT, input=template)
        calm = icl.run(task, out="calm", cache=False)
        chat.latency = lambda prompt: 0.3 if "number 0 of" in prompt else 0.0
        late = icl.run(task, out="late", cache=False)
    assert contents(late.path) == contents(calm.path)
    assert summary(late) == summary(calm)
