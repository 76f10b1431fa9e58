"""What a run may spend, by the server's own bill: a cap is never passed, and a higher one goes on from there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chaos import Audit, Chaos, Faults

from icl_engine.driver.budget import Budget, Caps
from icl_engine.errors import BudgetError
from icl_engine.types import Generate, Request, Sampling, Usage

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]

INPUT, OUTPUT = 100.0, 1000.0
"""USD for a million tokens."""

MOST = 8
"""Tokens of an answer; the server says one."""

ROWS = [{"text": f"film number {i}", "label": ("positive", "negative")[i % 2]} for i in range(700)]
TEXT = [{"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}, "read": "text"}]

WORST_TOKENS = len("Review: film number 123\nSentiment:") + 1 + MOST
WORST_USD = (WORST_TOKENS - MOST) * INPUT / 1e6 + MOST * OUTPUT / 1e6
"""The most that one of these requests may cost: its bytes bound its tokens."""

ROUNDING = 1e-9


@pytest.fixture
def server() -> Iterator[Chaos]:
    with Chaos(Faults(latency=0.01)) as running:
        yield running


@pytest.fixture(autouse=True)
def _priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"prices": [{"model": "m", "input": INPUT, "output": OUTPUT}]}), encoding="utf-8")
    monkeypatch.setenv("ICL_PRICES", str(path))


@pytest.fixture
def task(server: Chaos, write_task: WriteTask) -> Path:
    model = {"use": "vllm", "base_url": server.url, "name": "m", "max_tokens": MOST, "stop": "\n"}
    return write_task(model=model, test=ROWS, output=TEXT, run={"concurrency": 256})


def bill(audit: Audit) -> float:
    return audit.bill(INPUT, OUTPUT)


def told(err: str) -> str:
    """The line that says why a run was stopped; nothing but progress stands beside it."""
    (line,) = (line for line in err.splitlines() if not line.startswith("{"))
    return line


def predictions(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "predictions.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Cap:
    """A kind of cap.

    Args:
        key: of `run`.
        spent: what it caps, of the server's audit.
        low: a cap that stops the run on its way.
        worst: what one request may take of it at most.
        high: one that lets it finish.
    """

    key: str
    spent: Callable[[Audit], float]
    low: float
    worst: float
    high: float


CAPS = [
    Cap("max_cost_usd", bill, 0.4005, WORST_USD, 1.2),
    Cap("max_tokens", lambda audit: audit.tokens, 1500, WORST_TOKENS, 4500),
    Cap("max_requests", lambda audit: audit.billed, 301, 1, 700),
]


@pytest.mark.parametrize("cap", CAPS, ids=lambda cap: cap.key)
def test_a_cap_is_spent_but_never_passed_and_a_higher_one_goes_on(
    cap: Cap, server: Chaos, task: Path, icl: CommandLine
) -> None:
    status, _, err = icl("run", task, "--out", "out", "--set", f"run.{cap.key}={cap.low}")
    first = cap.spent(server.audit)
    assert (status, told(err).split(":")[0]) == (4, f"stopped at run.{cap.key}")
    assert told(err).endswith("raise it to go on from here")
    assert cap.low - cap.worst < first + ROUNDING
    assert first <= cap.low
    assert {p["status"] for p in predictions("out")} == {"ok"}

    status, _, err = icl("run", task, "--out", "out", "--set", f"run.{cap.key}={cap.low}")
    assert status == 4, "what an earlier sitting spent counts"
    assert cap.spent(server.audit) == first

    middle = cap.low + 0.25 * (cap.high - cap.low)
    status, _, err = icl("run", task, "--out", "out", "--set", f"run.{cap.key}={int(middle * 1000) / 1000:g}")
    if cap.key != "max_requests":  # which has to be a whole number
        assert status == 4
        assert middle - cap.worst < cap.spent(server.audit) + ROUNDING
        assert cap.spent(server.audit) <= middle

    assert icl("run", task, "--out", "out", "--set", f"run.{cap.key}={cap.high}")[0] == 0
    assert cap.spent(server.audit) <= cap.high
    assert len(server.audit.answered) == len(ROWS)
    assert not server.audit.twice
    assert icl("run", task, "--out", "free", "--no-cache")[0] == 0
    assert Path("out/predictions.jsonl").read_bytes() == Path("free/predictions.jsonl").read_bytes()


@pytest.mark.parametrize("cap", CAPS, ids=lambda cap: cap.key)
def test_a_finished_run_pays_nothing_and_needs_no_budget(cap: Cap, server: Chaos, task: Path, icl: CommandLine) -> None:
    assert icl("run", task, "--out", "out", "--limit", 60)[0] == 0
    before = Path("out/predictions.jsonl").read_bytes()
    server.forget()
    assert icl("run", task, "--out", "out", "--limit", 60, "--set", f"run.{cap.key}=0")[0] == 0
    assert not server.audit.arrivals
    assert Path("out/predictions.jsonl").read_bytes() == before
    status, _, err = icl("run", task, "--out", "out", "--limit", 61, "--set", f"run.{cap.key}=0")
    assert (status, told(err).split(":")[0]) == (4, f"stopped at run.{cap.key}")
    assert not server.audit.arrivals


@pytest.mark.parametrize("cap", CAPS, ids=lambda cap: cap.key)
def test_what_is_paid_for_and_lost_counts(cap: Cap, server: Chaos, task: Path, icl: CommandLine) -> None:
    """Cut and unreadable answers, and those that come too late, are on the bill, in every sitting."""
    server.faults = Faults(latency=0.01, resets=0.15, garbage=0.15, slow=0.02, slow_seconds=1, errors=0.05, seed=3)
    sets = [task, "--out", "out", "--set", "model.timeout=0.5"]
    for part in (0.3, 0.5, 0.7):
        cap_now = int(part * cap.low) if cap.low > 1 else part * cap.low
        status, _, err = icl("run", *sets, "--set", f"run.{cap.key}={cap_now}")
        assert (status, told(err).split(":")[0]) == (4, f"stopped at run.{cap.key}")
        assert cap.spent(server.audit) <= cap_now
    assert server.audit.twice <= server.audit.late
    assert len(server.audit.answered) > 20


def test_a_cap_counts_what_was_lost_while_there_was_none(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.faults = Faults(resets=0.1, garbage=0.1, seed=4)
    assert icl("run", task, "--out", "out", "--limit", 100)[0] == 0
    spent = server.audit.billed
    assert spent > 110
    status, _, err = icl("run", task, "--out", "out", "--set", f"run.max_requests={spent}")
    stopped = f"stopped at run.max_requests: {spent} of {spent} spent; raise it to go on from here"
    assert (status, told(err)) == (4, stopped)
    assert server.audit.billed == spent


def test_who_waits_for_the_budget_keeps_a_pause_too(server: Chaos, task: Path, icl: CommandLine) -> None:
    cap = 0.1
    server.faults = Faults(latency=0.005, sent_away=(20,))
    assert icl("run", task, "--out", "out", "--set", f"run.max_cost_usd={cap}")[0] == 4
    (refused,) = server.audit.refusals
    meanwhile = [at for at in server.audit.arrivals if 0 < at - refused < 0.9]
    assert len(meanwhile) < cap / WORST_USD, "what was in flight by then, no more"


def test_time_runs_on_while_a_request_waits_its_turn(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.faults = Faults(latency=0.005, sent_away=(20,))
    before = time.monotonic()
    status, _, err = icl("run", task, "--out", "out", "--set", "run.max_seconds=0.9")
    assert (status, told(err).split(";")[0]) == (4, "stopped at run.max_seconds: 1 of 0.9 seconds gone")
    assert not [at for at in server.audit.arrivals if at > server.audit.refusals[0] + 0.9]
    assert time.monotonic() - before < 10


def test_a_limit_of_time_stops_and_the_next_sitting_goes_on(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.faults = Faults(latency=0.05)
    slow = [task, "--out", "out", "--set", "run.concurrency=4"]
    status, _, err = icl("run", *slow, "--set", "run.max_seconds=1")
    first = server.audit.billed
    assert (status, told(err).split(";")[0]) == (4, "stopped at run.max_seconds: 1 of 1 seconds gone")
    assert 8 < first <= 4 * (1 / 0.05 + 1)
    assert len(predictions("out")) <= first
    server.faults = Faults()
    assert icl("run", task, "--out", "out", "--set", "run.max_seconds=600")[0] == 0
    assert not server.audit.twice
    assert len(server.audit.answered) == len(ROWS)


def test_another_run_directory_has_its_own_budget(server: Chaos, task: Path, icl: CommandLine) -> None:
    for n, out in enumerate(("one", "two"), 1):
        status, _, _ = icl("run", task, "--out", out, "--set", "run.max_requests=40")
        assert status == 4
        assert server.audit.billed == 40 * n
    assert not server.audit.twice, "though they share their answers"


# -- the law


@dataclass(frozen=True)
class Job:
    """A request, and what becomes of it.

    Args:
        prompt: bytes of its prompt.
        said: tokens that it may get.
        share: of the worst that it really takes.
        fate: answered, refused (at no cost), lost (at the cost of the answer), or cancelled by whoever asked it.
        begins: turns of the event loop before it is asked.
        takes: turns until it is settled; the cancelled one is cancelled by then, in flight or waiting.
    """

    prompt: int
    said: int
    share: float
    fate: str
    begins: int
    takes: int


JOBS = st.builds(
    Job,
    prompt=st.integers(0, 60),
    said=st.integers(1, 40),
    share=st.floats(0, 1),
    fate=st.sampled_from(["answered"] * 4 + ["refused", "lost", "cancelled"]),
    begins=st.integers(0, 20),
    takes=st.integers(0, 12),
)
AMOUNTS = st.one_of(st.none(), st.integers(0, 1200))


def cost(used: Usage) -> float:
    return used.prompt_tokens * 0.3e-3 + used.completion_tokens * 1.1e-3


class Bill:
    """What the server charges; never above a cap, at any moment."""

    def __init__(self, caps: Caps) -> None:
        self.caps, self.requests, self.used = caps, 0, Usage()

    def charge(self, used: Usage) -> None:
        self.requests += 1
        self.used += used
        tokens = self.used.prompt_tokens + self.used.completion_tokens
        assert self.caps.requests is None or self.requests <= self.caps.requests
        assert self.caps.tokens is None or tokens <= self.caps.tokens
        assert self.caps.cost_usd is None or cost(self.used) <= self.caps.cost_usd + 1e-9


async def play(budget: Budget, bill: Bill, job: Job) -> str:
    """One request: how it ended."""
    for _ in range(job.begins):
        await asyncio.sleep(0)
    request = Request("x" * job.prompt, Generate(Sampling(max_tokens=job.said)))
    claim = await budget.claim(request)
    worst = budget.worst(request)
    real = Usage(int(job.share * worst.prompt_tokens), 0, int(job.share * worst.completion_tokens))
    try:
        for _ in range(job.takes):
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        bill.charge(real)
        budget.settle(claim, None)
        raise
    if job.fate == "refused":
        budget.settle(claim, None, billed=False)
    elif job.fate == "lost":
        bill.charge(real)
        budget.settle(claim, None, billed=True)
    else:
        bill.charge(real)
        budget.settle(claim, real)
    return job.fate


@given(
    jobs=st.lists(JOBS, max_size=30),
    caps=st.builds(Caps, cost_usd=st.one_of(st.none(), st.floats(0, 0.6)), tokens=AMOUNTS, requests=AMOUNTS),
)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_no_cap_is_passed_and_nobody_is_left_waiting(jobs: list[Job], caps: Caps) -> None:
    async def scenario() -> None:
        budget, bill = Budget(caps, cost), Bill(caps)
        tasks = [asyncio.ensure_future(play(budget, bill, job)) for job in jobs]
        for turn in range(32):
            await asyncio.sleep(0)
            for job, playing in zip(jobs, tasks, strict=True):
                if job.fate == "cancelled" and turn == job.begins + job.takes // 2:
                    playing.cancel()
        async with asyncio.timeout(20):
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, str | BudgetError | asyncio.CancelledError) for end in ended), ended
        assert caps or not any(isinstance(end, BudgetError) for end in ended)
        assert not [one for one in budget._waiting if not one.done()]
        assert budget._flying == 0
        assert budget._claimed.tokens == 0
        assert budget._claimed.cost == pytest.approx(0, abs=1e-12)

    asyncio.run(scenario())
