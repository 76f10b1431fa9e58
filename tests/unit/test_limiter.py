"""Who may send now: places, their order, pauses and rates a minute, in virtual time."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual import now, run, waits

from icl_engine.driver.limiter import Limiter
from icl_engine.driver.pace import GRAIN, MINUTE

DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=200)


class Crowd:
    """Those who ask a limiter for a place: who has one, and the order and time in which they got it.

    Args:
        limiter: whom they ask.
        stay: whether they keep it until they are told to leave.
    """

    def __init__(self, limiter: Limiter, *, stay: bool = True) -> None:
        self.limiter, self.stay = limiter, stay
        self.asked: list[asyncio.Task[None]] = []
        self.started: list[tuple[int, float]] = []
        self.holding: list[int] = []

    def ask(self, tokens: int = 0) -> None:
        self.asked.append(asyncio.ensure_future(self._ask(len(self.asked), tokens)))

    async def _ask(self, name: int, tokens: int) -> None:
        if not self.limiter.try_acquire(tokens):
            await self.limiter.acquire(tokens)
        self.started.append((name, now()))
        self.holding.append(name)
        if not self.stay:
            self.leave()

    def leave(self, which: int = 0) -> None:
        self.holding.pop(which)
        self.limiter.release()

    @property
    def order(self) -> list[int]:
        return [name for name, _ in self.started]


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def within(starts: Sequence[tuple[float, int]], end: int) -> list[int]:
    """The amounts that started in the minute up to and including the start of that number."""
    last = starts[end][0]
    return [amount for at, amount in starts[: end + 1] if at > last - MINUTE]


def test_places_are_given_in_the_order_asked() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(2, clock=now))
        for _ in range(10):
            crowd.ask()
        await turns()
        assert crowd.order == [0, 1]
        for _ in range(8):
            crowd.leave()
            assert not crowd.limiter.try_acquire()  # the place is the next one's, though it has not woken yet
            assert crowd.limiter.flying == 2
            await turns()
        assert crowd.order == list(range(10))

    run(scenario())


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_below_one_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match="at least 1 request"):
        Limiter(most)


def test_a_rate_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Limiter(1, requests_per_minute=0)
    with pytest.raises(ValueError, match="at least 1, not -1"):
        Limiter(1, tokens_per_minute=-1)


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 40)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("both"), st.integers(0, 30)),
        st.tuples(st.just("pause"), st.integers(0, 5)),
        st.tuples(st.just("sleep"), st.integers(0, 3)),
    ),
    max_size=60,
)


@DETERMINISTIC
@given(
    OPS,
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(1, 200)),
    st.one_of(st.none(), st.integers(1, 200)),
)
def test_no_place_leaks_and_none_is_given_twice(
    ops: list[tuple[str, int]], most: int, requests: int | None, tokens: int | None
) -> None:
    """Whatever is asked, cancelled and given back: at most `most` at once, in order, and all are served in the end."""

    async def scenario() -> None:
        crowd = Crowd(Limiter(most, requests, tokens, clock=now))
        for op, number in ops:
            if op == "ask":
                crowd.ask(number)
            if op in ("leave", "both") and crowd.holding:
                crowd.leave(number % len(crowd.holding))
            if op in ("cancel", "both") and crowd.asked:  # both: the place may have come in this very turn
                crowd.asked[number % len(crowd.asked)].cancel()
            if op == "pause":
                crowd.limiter.pause(number)
            if op == "sleep":
                await asyncio.sleep(number)
            assert len(crowd.holding) <= crowd.limiter.flying <= most
        while not all(task.done() for task in crowd.asked) or crowd.holding:
            while crowd.holding:
                crowd.leave()
            await asyncio.sleep(1)
        assert crowd.limiter.flying == 0
        assert crowd.order == sorted(crowd.order)
        kept = [name for name, task in enumerate(crowd.asked) if not task.cancelled()]
        assert crowd.order == kept
        for _ in range(most):
            await crowd.limiter.acquire()
        assert not crowd.limiter.try_acquire()

    run(scenario())


def test_a_place_that_comes_with_the_cancellation_goes_to_the_next() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(1, clock=now))
        for _ in range(3):
            crowd.ask()
        await turns()
        crowd.leave()
        crowd.asked[1].cancel()  # the place is its own by now
        await turns()
        assert crowd.order == [0, 2]
        assert crowd.limiter.flying == 1

    run(scenario())


def test_a_closed_waiter_leaves_the_queue() -> None:
    async def scenario() -> None:
        limiter = Limiter(1, clock=now)
        assert limiter.try_acquire()
        waiter = limiter.acquire()
        waiter.send(None)
        waiter.close()
        limiter.release()
        assert limiter.flying == 0
        assert limiter.try_acquire()

    run(scenario())


def test_nobody_starts_in_a_pause_and_all_after_it() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(8, clock=now))
        crowd.limiter.pause(5.0)
        for _ in range(5):
            crowd.ask()
        await asyncio.sleep(2)
        crowd.limiter.pause(1.0)  # shorter than what is left: nothing changes
        crowd.ask()
        await asyncio.sleep(2)
        crowd.limiter.pause(3.0)  # longer
        await asyncio.sleep(20)
        assert crowd.order == list(range(6))
        assert all(at == pytest.approx(7.0, abs=1e-5) for _, at in crowd.started)
        assert all(at >= 7.0 for _, at in crowd.started)
        assert crowd.limiter.try_acquire()

    run(scenario())


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    async def scenario() -> None:
        limiter = Limiter(1, clock=now)
        limiter.pause(5.0)
        limiter.pause(1.0)
        await asyncio.sleep(4)
        assert not limiter.try_acquire()
        await asyncio.sleep(1)
        assert limiter.try_acquire()

    run(scenario())


@pytest.mark.parametrize("seconds", [0.0, -1.0, -math.inf, math.inf, math.nan])
def test_what_is_no_time_is_no_pause(seconds: float) -> None:
    async def scenario() -> None:
        limiter = Limiter(1, clock=now)
        limiter.pause(seconds)
        assert limiter.try_acquire()

    run(scenario())


def test_waiting_costs_nothing() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(16, requests_per_minute=1, clock=now), stay=False)
        crowd.limiter.pause(3600)
        for _ in range(10):
            crowd.ask()
        await asyncio.gather(*crowd.asked)
        assert now() > 3600 + 9 * 60
        assert waits() < 3 * 10  # the end of the pause and of each minute, but for rounding

    run(scenario())


@DETERMINISTIC
@given(
    st.integers(1, 300),
    st.lists(st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, 90.0)), min_size=1, max_size=120),
)
def test_in_every_minute_at_most_so_many_requests_start(allowance: int, gaps: list[float]) -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(16, requests_per_minute=allowance, clock=now), stay=False)
        for gap in gaps:
            for _ in range(5):
                crowd.ask()
            await asyncio.sleep(gap)
        await asyncio.gather(*crowd.asked)
        starts = [(at, 1) for _, at in crowd.started]
        assert all(len(within(starts, end)) <= allowance for end in range(len(starts)))
        assert crowd.order == sorted(crowd.order)

    run(scenario())


@DETERMINISTIC
@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 1500), st.integers(0, 1500)), min_size=1, max_size=60),
)
def test_in_every_minute_at_most_so_many_tokens_start(allowance: int, asked: list[tuple[float, int, int]]) -> None:
    """What is expected bounds what is real; a request over the allowance has its minute for itself."""

    async def scenario() -> None:
        limiter = Limiter(16, tokens_per_minute=allowance, clock=now)
        starts: list[tuple[float, int]] = []

        async def ask(expected: int, real: int, seconds: float) -> None:
            await limiter.acquire(expected)
            starts.append((now(), real))
            limiter.release()
            await asyncio.sleep(seconds)
            limiter.used(expected, real, seconds)

        tasks = []
        for gap, one, other in asked:
            tasks.append(asyncio.ensure_future(ask(max(one, other), min(one, other), 3 * gap)))
            await asyncio.sleep(gap)
        await asyncio.gather(*tasks)
        assert len(starts) == len(asked)
        for end in range(len(starts)):
            amounts = within(starts, end)
            assert sum(amounts) <= max(allowance, max(amounts))

    run(scenario())


@pytest.mark.parametrize(("allowance", "tokens"), [(1, 1), (7, 1), (60, 1), (6000, 1), (6000, 2000), (1000, 300)])
def test_a_rate_is_used_up(allowance: int, tokens: int) -> None:
    """Over ten minutes as much starts as the law allows, but for the grain of the log, and evenly."""

    async def scenario() -> None:
        limiter = Limiter(1, tokens_per_minute=allowance, clock=now)
        times = []
        while now() < 10 * MINUTE:
            await limiter.acquire(tokens)
            limiter.release()
            times.append(now())
        each = allowance // tokens
        assert len(times) - 1 >= 10 * each * MINUTE / (MINUTE + GRAIN) - 1
        assert max(bisect_left(times, at + 1) - i for i, at in enumerate(times)) <= 2 * allowance / tokens / MINUTE + 2

    run(scenario())


def test_more_than_a_minutes_tokens_start_once_a_minute_is_free() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(8, tokens_per_minute=100, clock=now))
        crowd.ask(10)
        crowd.ask(1000)
        crowd.ask(10)
        await asyncio.gather(*crowd.asked)
        (_, first), (_, second), (_, third) = crowd.started
        assert first == 0.0
        assert MINUTE < second < MINUTE + 2 * GRAIN
        assert third - second == pytest.approx(10 * MINUTE, abs=2)  # 1000 tokens take ten minutes of 100

    run(scenario())


def test_an_answer_corrects_the_tokens() -> None:
    async def scenario() -> None:
        limiter = Limiter(8, tokens_per_minute=600, clock=now)
        await limiter.acquire(600)
        limiter.used(600, 10)  # 590 come back
        await limiter.acquire(500)
        assert now() <= 1.0
        limiter.used(500, 1100)  # and these were 600 too few
        await limiter.acquire(1)
        assert now() > MINUTE

    run(scenario())


def test_tokens_that_come_back_are_not_those_of_a_later_request() -> None:
    async def scenario() -> None:
        limiter = Limiter(8, tokens_per_minute=150, clock=now)
        await limiter.acquire(100)
        await asyncio.sleep(50)
        await limiter.acquire(50)
        limiter.used(100, 0, 50.0)
        await limiter.acquire(150)
        assert now() > 50 + MINUTE

    run(scenario())


def test_tokens_that_come_back_wake_who_waits_for_them() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(8, tokens_per_minute=600, clock=now))
        crowd.ask(600)
        crowd.ask(500)
        await asyncio.sleep(3)
        assert crowd.order == [0]
        crowd.limiter.used(600, 20)
        await turns()
        assert crowd.started[1] == (1, 3.0)

    run(scenario())


def test_a_cancelled_request_for_many_tokens_lets_the_next_go() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(8, tokens_per_minute=600, clock=now))
        for tokens in (300, 600, 1):
            crowd.ask(tokens)
        await asyncio.sleep(32)
        assert crowd.order == [0]
        assert not crowd.limiter.try_acquire(1)  # there would be a token, but others asked before
        crowd.asked[1].cancel()
        await turns()
        assert crowd.order == [0, 2]

    run(scenario())


def test_a_place_given_up_gives_its_request_and_tokens_back() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(1, requests_per_minute=2, tokens_per_minute=100, clock=now))
        crowd.ask(10)
        crowd.ask(90)
        crowd.ask(90)
        await asyncio.sleep(40)
        crowd.leave()
        crowd.asked[1].cancel()  # it had its place, a request and the tokens of this minute
        await turns()
        assert crowd.started == [(0, 0.0), (2, 40.0)]

    run(scenario())


def test_what_is_not_limited_by_the_minute_is_not_corrected() -> None:
    limiter = Limiter(1)
    limiter.used(0, 10**9)
    assert limiter.try_acquire(10**9)


def test_requests_start_evenly() -> None:
    async def scenario() -> None:
        crowd = Crowd(Limiter(16, requests_per_minute=600, clock=now), stay=False)
        for _ in range(600):
            crowd.ask()
        await asyncio.gather(*crowd.asked)
        gaps = [later - earlier for (_, earlier), (_, later) in pairwise(crowd.started)]
        assert max(gaps) == pytest.approx(0.1, abs=1e-3)

    run(scenario())
