"""A run killed again and again, at any moment, ends with the files of one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chaos import Audit, Chaos, Faults

import icl_engine as icl

WriteTask = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]

KILLS = 6
CONCURRENCY = 16
ROWS = [{"text": f"film number {i}", "label": ("positive", "negative")[i % 2]} for i in range(900)]
LABELS = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
OUTPUTS = {
    "a stream": [LABELS],
    "two passes": [LABELS, {"use": "contextual_calibration"}, {"use": "batch_calibration"}],
}


@pytest.fixture
def server() -> Iterator[Chaos]:
    with Chaos(Faults(latency=0.01)) as running:
        yield running


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run, but for the summary's counts of one sitting."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary: dict[str, Any] = json.loads(found["summary.json"])
    del summary["seconds"], summary["usage"]["paid"], summary["usage"]["cached"]
    return {**found, "summary.json": json.dumps(summary).encode()}


def whole(folder: Path) -> None:
    """Nothing is half written."""
    for path in folder.glob("*.jsonl"):
        raw = path.read_bytes()
        assert not raw or raw.endswith(b"\n")
        ids = [json.loads(line)["id"] for line in raw.splitlines()]
        assert ids == sorted(ids)
    for path in folder.glob("*.json"):
        json.loads(path.read_bytes())


def killed(process: subprocess.Popen[str], server: Chaos, answers: int, later: float) -> Audit:
    """Kill a run a moment after so many answers; what it asked."""
    deadline = time.monotonic() + 60
    while server.audit.billed < answers and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(later)
    process.kill()
    process.communicate()
    assert server.gone()
    return server.forget()


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_kills_at_any_moment_change_nothing(
    server: Chaos, write_task: WriteTask, start: Start, output: list[Any], tmp_path: Path
) -> None:
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    task = write_task(model=model, test=ROWS, output=output, run={"concurrency": CONCURRENCY})
    draw = random.Random(f"kills {len(output)}")
    kills = KILLS // len(OUTPUTS)
    seen: set[str] = set()
    for kill in range(kills):
        process = start("run", task, "--out", "out")
        audit = killed(process, server, draw.randrange(1, 2 * len(ROWS) // (kills + 1)), draw.uniform(0, 0.05))
        assert process.returncode in (-signal.SIGKILL, 0), f"kill {kill}"
        again = {prompt for prompt in audit.received if prompt in seen and prompt.startswith("Review:")}
        assert len(again) <= CONCURRENCY, f"before kill {kill} no more were in flight"
        assert not audit.twice
        seen.update(audit.received)
        if Path("out").exists():
            whole(Path("out"))

    process = start("run", task, "--out", "out")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    audit = server.forget()
    again = {prompt for prompt in audit.received if prompt in seen and prompt.startswith("Review:")}
    assert len(again) <= CONCURRENCY
    assert len(seen | audit.received.keys()) >= len(ROWS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICL_CACHE_DIR", str(tmp_path / "another"))
        calm = icl.run(task, out="calm")
    assert contents(Path("out")) == contents(calm.path), "the same files, the same bytes, no lock among them"


def test_a_kill_while_another_process_uses_the_cache(
    server: Chaos, write_task: WriteTask, start: Start, tmp_path: Path
) -> None:
    """Two runs of one task in two folders share what is paid for; one is killed, the other never notices."""
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    task = write_task(model=model, test=ROWS, output=[LABELS], run={"concurrency": CONCURRENCY})
    first, second = start("run", task, "--out", "first"), start("run", task, "--out", "second")
    while server.audit.billed < 200 and first.poll() is None:
        time.sleep(0.001)
    first.kill()
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    third = start("run", task, "--out", "first")
    _, err = third.communicate(timeout=60)
    assert third.returncode == 0, err
    before, after = contents(Path("second")), contents(Path("first"))
    assert before == after
