"""How far a run is: rates and what is to go, on a terminal a bar, elsewhere lines that machines read."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.server import Reply, StandIn

import icl_engine as icl
from icl_engine.console.run import told
from icl_engine.driver.counts import Counts
from icl_engine.engine.prices import Price
from icl_engine.engine.progress import OFTEN, SPAN, Meter, Progress
from icl_engine.types import Usage

CommandLine = Callable[..., tuple[int, str, str]]
WriteTask = Callable[..., Path]
KEYS = ["done", "total", "failed", "paid", "cached", "retries", "tokens", "cost_usd", "rate", "eta"]
ROWS = [{"text": f"film number {i}", "label": ("positive", "negative")[i % 2]} for i in range(40)]


class Clock:
    """Time that goes on when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("icl_engine.engine.progress.time", SimpleNamespace(monotonic=clock))
    return clock


# -- the meter


def test_a_report_is_due_now_and_then_and_at_the_end(clock: Clock) -> None:
    meter = Meter(100, Counts(), None)
    said = []
    for done in range(1, 101):
        clock.now += OFTEN / 3.9
        if meter.due(done):
            said.append(done)
    assert said[0] == 1
    assert said[-1] == 100
    assert len(said) in range(25, 28)


def test_the_rate_is_that_of_late(clock: Clock) -> None:
    meter, done = Meter(100_000, Counts(), None), 0
    for _ in range(600):  # 60 s at 100 a second
        clock.now, done = clock.now + 0.1, done + 10
        p = meter.read(done, 0)
    assert p.rate == pytest.approx(100)
    assert p.eta == pytest.approx((100_000 - done) / 100, rel=0.01)
    for _ in range(int(SPAN) + 1):  # then 10 a second
        clock.now, done = clock.now + 1, done + 10
        p = meter.read(done, 0)
    assert p.rate == pytest.approx(10, rel=0.1)
    assert p.eta == pytest.approx((100_000 - done) / 10, rel=0.1)


def test_a_long_silence_counts(clock: Clock) -> None:
    meter = Meter(10, Counts(), None)
    clock.now += 1
    assert meter.read(4, 0).rate == 4
    clock.now += 99
    assert meter.read(5, 0).rate == pytest.approx(1 / 99, abs=0.01)


def test_nothing_done_is_no_rate_and_nothing_is_said_of_the_end(clock: Clock) -> None:
    meter = Meter(10, Counts(), None)
    assert (meter.read(0, 0).rate, meter.read(0, 0).eta) == (0.0, None)
    clock.now += 5
    assert (meter.read(0, 0).rate, meter.read(0, 0).eta) == (0.0, None)


def test_at_the_end_nothing_is_to_go(clock: Clock) -> None:
    meter = Meter(10, Counts(), None)
    clock.now += 2
    assert meter.read(10, 0).eta == 0.0


def test_counts_and_cost_are_the_drivers(clock: Clock) -> None:
    counts = Counts(cached=3, retries=2)
    meter = Meter(10, counts, Price(model=("m",), input=2.0, output=8.0, cached_input=1.0))
    for _ in range(4):
        counts.paid += 1
        counts.pay(Usage(1000, 500, 10))
    clock.now += 1
    p = meter.read(7, 1)
    assert (p.done, p.total, p.failed, p.paid, p.cached, p.retries) == (7, 10, 1, 4, 3, 2)
    assert p.tokens == 4040
    assert p.cost_usd == pytest.approx(4 * (500 * 2.0 + 500 * 1.0 + 10 * 8.0) / 1e6)
    assert Meter(10, counts, None).read(7, 1).cost_usd is None


# -- what is said


def progress(**keys: Any) -> Progress:
    plain = {"done": 50, "total": 100, "failed": 0, "paid": 1234, "cached": 5, "retries": 0, "tokens": 98765}
    return Progress(**{**plain, "cost_usd": 0.0, "rate": 12.34, "eta": 4.2, **keys})


def test_the_figures_beside_the_bar() -> None:
    assert told(progress()) == "12.3 rows/s · 1,234 asked · 5 cached · 98,765 tokens · 0:00:04 to go"
    more = told(progress(cost_usd=1234.5, retries=7, failed=2, eta=90_000.0))
    assert more.split(" · ")[4:] == ["$1,234.5000", "7 retries", "2 failed", "1 day, 1:00:00 to go"]
    assert "to go" not in told(progress(eta=None))
    assert "to go" not in told(progress(done=100, eta=0.0))
    assert "$" not in told(progress(cost_usd=None))


def lines(err: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]


@pytest.fixture
def priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"prices": [{"model": "m", "input": 100.0, "output": 1000.0}]}))
    monkeypatch.setenv("ICL_PRICES", str(path))


@pytest.mark.usefixtures("priced")
def test_without_a_terminal_progress_is_lines_of_json(server: StandIn, write_task: WriteTask, icl: CommandLine) -> None:
    server.script.extend([Reply(503), Reply(503)])
    server.refuse = lambda prompt: Reply(400) if "number 7\n" in prompt else None
    server.latency = lambda _: 0.02
    model = {"use": "vllm", "base_url": server.url, "name": "m", "stop": "\n"}
    task = write_task(model=model, test=ROWS, output=[], run={"concurrency": 2, "max_failures": 40})
    status, out, err = icl("run", task, "--out", "out")
    assert (status, out.count("{")) == (0, 0)
    found = lines(err)
    assert len(found) == len(err.splitlines()), "nothing else is said"
    assert all(list(line) == KEYS for line in found)
    assert 2 <= len(found) <= 12
    done = [line["done"] for line in found]
    assert done == sorted(set(done))
    last, summary = found[-1], json.loads(Path("out/summary.json").read_text())
    used = summary["usage"]
    assert (last["done"], last["total"], last["failed"], last["eta"]) == (40, 40, 1, 0.0)
    assert last["paid"] == used["paid"] == 39
    assert last["retries"] == 2
    assert last["tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    assert last["cost_usd"] == pytest.approx(used["cost_usd"])
    assert last["rate"] > 0

    server.refuse = lambda _: None
    _, _, err = icl("run", task, "--out", "out")
    last = lines(err)[-1]
    assert (last["paid"], last["cached"], last["retries"]) == (1, 39, 0)
    assert 0 < last["cost_usd"] < 0.1 * used["cost_usd"], "what this process paid"


def test_a_note_comes_once_before_all_else(server: StandIn, write_task: WriteTask, icl: CommandLine) -> None:
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    _, _, err = icl("run", write_task(model=model, output=[]), "--out", "out")
    assert err.startswith("note: no model.stop is set")
    assert err.count("note:") == 1


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(
    server: StandIn, write_task: WriteTask, icl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.latency = lambda _: 0.03
    task = write_task(model={"use": "vllm", "base_url": server.url, "name": "m"}, test=ROWS, run={"concurrency": 2})
    for variable, value in {"TERM": "xterm", "COLUMNS": "200", "LINES": "20"}.items():
        monkeypatch.setenv(variable, value)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out := Terminal())
        patch.setattr(sys, "stderr", err := Terminal())
        status, _, _ = icl("run", task, "--out", "out")
    assert status == 0
    assert "{" not in err.getvalue()
    assert "rows/s" in err.getvalue()
    assert "/40" in err.getvalue()
    assert "accuracy" in out.getvalue()
    assert "rows/s" not in out.getvalue()


def test_the_sdk_prints_nothing(write_task: WriteTask, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Progress] = []
    icl.run(write_task(test=ROWS), out="out", progress=seen.append)
    assert seen[-1].done == seen[-1].total == 40
    assert capsys.readouterr() == ("", "")
