"""A run that is to end sends nothing more: what is in flight comes home, what waits for its turn does not go out."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chaos import Chaos, Faults

import icl_engine as icl
from icl_engine.driver.adaptive import START
from icl_engine.errors import BudgetError, EndpointError, InterruptedRunError

WriteTask = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]

ROWS = [{"text": f"film number {i}", "label": ("positive", "negative")[i % 2]} for i in range(600)]
SOON = 5.0
"""Seconds within which a run ends; where it did not, it would take more than ten times as long."""


@pytest.fixture
def server() -> Iterator[Chaos]:
    with Chaos() as running:
        yield running


@pytest.fixture
def write(server: Chaos, write_task: WriteTask) -> Callable[..., Path]:
    """A task with these keys of `run`."""

    def write(**run: Any) -> Path:
        model = {"use": "vllm", "base_url": server.url, "name": "m"}
        return write_task(model=model, test=ROWS, output=[], run=run)

    return write


class Stop:
    """Told to stop once the server answered so many; remembers what was on its way then."""

    def __init__(self, server: Chaos, after: int) -> None:
        self._server, self._after = server, after
        self.when = self.received = self.answered = 0.0

    def __call__(self) -> bool:
        audit = self._server.audit
        if not self.when and audit.billed >= self._after:
            self.when, self.received, self.answered = time.monotonic(), len(audit.arrivals), audit.billed
        return bool(self.when)

    @property
    def since(self) -> float:
        return time.monotonic() - self.when


WAITS: dict[str, tuple[Faults, int, dict[str, Any]]] = {
    "a rate": (Faults(latency=0.005), 3, {"concurrency": 64, "requests_per_minute": 60}),
    "tokens a minute": (Faults(latency=0.005), 3, {"concurrency": 64, "tokens_per_minute": 600}),
    "a place": (Faults(latency=0.6), 20, {"concurrency": 256}),
    "its next try": (Faults(latency=0.005, errors=0.85), 6, {"concurrency": 16}),
    "the budget": (Faults(latency=0.6), 3, {"concurrency": 64, "max_tokens": 900}),
}


@pytest.mark.parametrize(("faults", "after", "run"), WAITS.values(), ids=WAITS)
def test_an_interrupt_does_not_wait_for_what_waits(
    faults: Faults, after: int, run: dict[str, Any], server: Chaos, write: Callable[..., Path]
) -> None:
    server.faults = faults
    task, stop = write(**run), Stop(server, after)
    with pytest.raises(InterruptedRunError, match=r"^interrupted after \d+ of 600; run the same again"):
        icl.run(task, out="out", stop=stop)
    assert stop.since < SOON
    assert len(server.audit.arrivals) - stop.received <= 2 * START, "what had gone out, and not arrived yet"

    server.faults = Faults()
    anew = icl.run(task, out="out", settings={f"run.{key}": None for key in run if key != "concurrency"})
    assert anew.failed == 0
    assert not server.audit.twice, "what was in flight is kept"


def test_a_pause_does_not_hold_an_interrupt(server: Chaos, write: Callable[..., Path]) -> None:
    server.faults = Faults(sent_away=tuple(range(20, 600)))
    stop = Stop(server, 15)
    with pytest.raises(InterruptedRunError):
        icl.run(write(), out="out", stop=stop)
    assert stop.since < SOON


@pytest.mark.parametrize("run", [{"requests_per_minute": 60}, {"tokens_per_minute": 600}], ids=["requests", "tokens"])
def test_a_limit_of_time_does_not_wait_either(run: dict[str, Any], server: Chaos, write: Callable[..., Path]) -> None:
    before = time.monotonic()
    with pytest.raises(BudgetError, match=r"^stopped at run\.max_seconds: 2 of 2 seconds gone; raise it"):
        icl.run(write(concurrency=64, max_seconds=2, **run), out="out")
    assert 2 <= time.monotonic() - before < 2 + SOON
    assert not [at for at in server.audit.arrivals if at > before + SOON]


def test_a_limit_of_time_ends_what_is_tried_again(server: Chaos, write: Callable[..., Path]) -> None:
    server.refuse = lambda _: 503
    before = time.monotonic()
    with pytest.raises(BudgetError, match=r"^stopped at run\.max_seconds"):
        icl.run(write(max_seconds=1), out="out")
    assert time.monotonic() - before < 1 + SOON


def test_a_key_that_is_refused_is_not_shown_again_by_all_who_wait(server: Chaos, write: Callable[..., Path]) -> None:
    server.faults = Faults(latency=0.05)
    server.refuse = lambda _: 401
    with pytest.raises(EndpointError, match="refuses the key"):
        icl.run(write(concurrency=256), out="out")
    assert len(server.audit.arrivals) < 64


def test_an_interrupt_while_all_is_tried_again(server: Chaos, write: Callable[..., Path], start: Start) -> None:
    server.refuse = lambda _: 503
    process = start("run", write(concurrency=64), "--out", "out")
    while len(server.audit.arrivals) < 64 and process.poll() is None:
        time.sleep(0.005)
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted after 0 of 600; run the same again to go on from here"
    assert time.monotonic() - before < SOON
    assert not Path("out").exists()


def test_a_run_that_is_stopped_before_it_begins_asks_nothing(server: Chaos, write: Callable[..., Path]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError, match="interrupted after 0 of 600"):
        icl.run(write(), out="out", stop=stop.is_set)
    assert not server.audit.arrivals
    assert not Path("out").exists()
