"""A run that was killed or interrupted goes on where it stopped: nothing answered is asked again, nothing differs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server import StandIn

ROWS = [{"text": f"film number {i}", "label": ("positive", "negative")[i % 2]} for i in range(60)]
HALF = 30
CONCURRENCY = 4
VERBALIZER = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
OUTPUTS = {
    "scores": [VERBALIZER],
    "calibrated": [VERBALIZER, {"use": "contextual_calibration"}, {"use": "batch_calibration"}],
}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=list(OUTPUTS.values()), ids=list(OUTPUTS))
def task(request: pytest.FixtureRequest, server: StandIn, write_task: Callable[..., Path]) -> Path:
    return write_task(
        model={"use": "vllm", "base_url": server.url, "name": "m"},
        output=request.param,
        test=ROWS,
        run={"concurrency": CONCURRENCY},
    )


def half_way(server: StandIn, task: Path, start: Start) -> subprocess.Popen[str]:
    """A run of which half the prompts are answered and as many as may be are in flight."""
    server.hold_after = HALF
    process = start("run", task, "--out", "out")
    assert server.holding.wait(10)
    return process


def whole_lines(path: Path) -> list[Any]:
    raw = path.read_bytes()
    assert raw == b"" or raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


def finished(start: Start, task: Path, out: str, **environment: str) -> dict[str, bytes]:
    """A run to its end: its files, but for the summary's counts of this very run."""
    process = start("run", task, "--out", out, **environment)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    found = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    summary = json.loads(found["summary.json"])
    del summary["seconds"], summary["usage"]["paid"], summary["usage"]["cached"]
    return {**found, "summary.json": json.dumps(summary).encode()}


def test_a_killed_run_goes_on(server: StandIn, task: Path, start: Start, tmp_path: Path) -> None:
    process = half_way(server, task, start)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    server.drop()
    answered = set(server.served)
    assert len(answered) == HALF
    for journal in Path("out").glob("*.jsonl"):
        whole_lines(journal)

    server.forget()
    resumed = finished(start, task, "out")
    again = answered & set(server.asked)
    assert len(again) <= CONCURRENCY
    assert set(server.asked.values()) == {1}

    straight = finished(start, task, "straight", ICL_CACHE_DIR=str(tmp_path / "another"))
    assert resumed == straight


def test_an_interrupted_run_goes_on(server: StandIn, task: Path, start: Start, tmp_path: Path) -> None:
    process = half_way(server, task, start)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)  # for what is in flight
    server.release()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in err
    for journal in Path("out").glob("*.jsonl"):
        whole_lines(journal)

    resumed = finished(start, task, "out")
    assert set(server.asked.values()) == {1}
    straight = finished(start, task, "straight", ICL_CACHE_DIR=str(tmp_path / "another"))
    assert resumed == straight


def test_a_second_interrupt_does_not_wait(server: StandIn, task: Path, start: Start) -> None:
    process = half_way(server, task, start)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    server.drop()


def test_a_torn_last_line_is_written_anew(server: StandIn, task: Path, start: Start) -> None:
    before = finished(start, task, "out")
    for name in ("answers.jsonl", "predictions.jsonl"):
        path = Path("out") / name
        path.write_bytes(path.read_bytes()[: len(before[name]) // 2])
    asked = len(server.received)
    assert finished(start, task, "out") == before
    assert len(server.received) == asked
