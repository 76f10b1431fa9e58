"""The limit on what is in flight, against simulated servers in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from support.virtual import now, run

from icl_engine.driver.adaptive import EPOCHS, RECOVERY, SAMPLES, Adaptive
from icl_engine.driver.limiter import Limiter

TURNED_AWAY = 0.005
"""Seconds until a server that has too much to do says so."""


@dataclass
class Server:
    """Answers after a time that depends on how many requests it has in hand, and turns away what is too much.

    Args:
        latency: (requests in hand, time) -> seconds.
        capacity: (time) -> the most it has in hand.
        spread: of the logarithm of its latencies, at random around `latency`.
    """

    latency: Callable[[int, float], float]
    capacity: Callable[[float], float] = lambda _: math.inf
    spread: float = 0.0
    hand: int = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draws = random.Random(0)

    async def answer(self) -> bool:
        """Whether it answered."""
        if self.hand >= self.capacity(now()):
            await asyncio.sleep(TURNED_AWAY)
            self.refused.append(now())
            return False
        self.hand += 1
        await asyncio.sleep(self.latency(self.hand, now()) * self._draws.lognormvariate(0.0, self.spread))
        self.hand -= 1
        self.answered.append(now())
        return True

    def rate(self, start: float, end: float) -> float:
        """Answers a second."""
        return sum(start <= at < end for at in self.answered) / (end - start)

    def refusals(self, start: float, end: float) -> float:
        """The share that was turned away."""
        refused = sum(start <= at < end for at in self.refused)
        return refused / (refused + self.rate(start, end) * (end - start))


@dataclass
class Client:
    """Sends to a server all the limiter allows.

    Args:
        server: who answers.
        most: the most in flight.
        busy: seconds of its own work for an answer, one at a time.
        timed: whether it tells how long it took to be turned away.
    """

    server: Server
    most: int
    busy: float = 0.0
    timed: bool = True
    limits: list[tuple[float, int]] = field(default_factory=list)

    async def send(self, seconds: float) -> None:
        limiter = Limiter(self.most, clock=now)
        lock, draws = asyncio.Lock(), random.Random(1)

        async def one() -> None:
            while now() < seconds:
                if not limiter.try_acquire():
                    await limiter.acquire()
                began = now()
                answered = await self.server.answer()
                if answered and self.busy:
                    async with lock:
                        await asyncio.sleep(self.busy)
                limiter.release(
                    now() - began if answered or self.timed else None, congested=not answered, limited=not answered
                )
                self.limits.append((now(), limiter.limit))
                if not answered:
                    await asyncio.sleep(draws.uniform(0.0, 0.5))

        await asyncio.gather(*(one() for _ in range(self.most)))
        assert limiter.flying == 0

    def limit(self, start: float, end: float) -> list[int]:
        """The limits of that time."""
        return [limit for at, limit in self.limits if start <= at < end]


def mean_of(spread: float) -> float:
    """The mean of a log-normal latency whose median is 1."""
    return math.exp(spread**2 / 2)


def sent(server: Server, most: int, seconds: float, *, busy: float = 0.0, timed: bool = True) -> Client:
    client = Client(server, most, busy, timed)
    run(client.send(seconds))
    return client


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("most", [64, 512])
@pytest.mark.parametrize("capacity", [4, 40])
def test_it_finds_the_capacity_of_a_server_that_turns_away(
    capacity: int, most: int, spread: float, timed: bool
) -> None:
    server = Server(lambda hand, at: 1.0, lambda at: capacity, spread)
    client = sent(server, most, 80.0, timed=timed)
    assert server.rate(20, 80) >= 0.85 * min(capacity, most) / mean_of(spread)
    assert server.refusals(20, 80) < (0.03 if capacity >= 40 else 0.06)
    limits = client.limit(20, 80)
    assert 0.65 * min(capacity, most) - 1 <= min(limits) <= max(limits) <= capacity + 1


@pytest.mark.parametrize(("spread", "times"), [(0.0, 4), (0.3, 4), (0.5, 5), (0.8, 5)])
def test_it_stops_where_more_in_flight_buys_nothing(spread: float, times: int) -> None:
    """64 at once take 0.2 s; beyond, the time is proportional: 320 answers a second is all there is."""
    server = Server(lambda hand, at: 0.2 * max(1.0, hand / 64), spread=spread)
    client = sent(server, 1024, 80.0)
    assert server.rate(20, 80) >= 0.95 * 320 / mean_of(spread)
    settled = client.limit(20, 80)
    assert 64 <= min(settled) <= max(settled) <= 64 * times
    assert max(client.limit(0, 20)) <= 64 * 6


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_server_that_batches_is_used(spread: float) -> None:
    """Latency rises with every request in hand, and throughput with it, towards 160 a second."""
    server = Server(lambda hand, at: 0.2 * (1 + hand / 32), spread=spread)
    client = sent(server, 256, 120.0)
    fixed = 256 / (0.2 * (1 + 256 / 32)) / mean_of(spread)
    assert server.rate(30, 120) >= 0.9 * fixed
    assert min(client.limit(30, 120)) >= 128


@pytest.mark.parametrize("busy", [0.0, 0.0005])
@pytest.mark.parametrize("most", [4, 16, 64])
def test_a_client_that_is_the_bottleneck_loses_nothing(most: int, busy: float) -> None:
    """A server that answers in a millisecond: 2,000 answers a second is all the client can do."""
    server = Server(lambda hand, at: 0.001)
    client = sent(server, most, 2.0, busy=busy)
    fixed = min(most / (0.001 + busy), 1 / busy if busy else math.inf)
    assert server.rate(0.5, 2) >= 0.95 * fixed
    assert min(client.limit(0, 2)) >= 4


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("most", [16, 256])
def test_a_steady_server_is_used_in_full(most: int, spread: float) -> None:
    client = sent(Server(lambda hand, at: 0.2, spread=spread), most, 40.0)
    assert set(client.limit(5, 40)) == {most}


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("start", [2, 20])
def test_a_server_that_gets_slow_is_sent_as_much(start: int, spread: float) -> None:
    """Fewer in flight would not make it faster: the prompts are longer, or others are being served."""
    server = Server(lambda hand, at: 2.0 if start < at < 40 else 0.2, spread=spread)
    client = sent(server, 64, 60.0)
    assert set(client.limit(start, 60)) == {64}


def test_a_server_that_has_too_much_to_do_for_a_while_is_used_again() -> None:
    server = Server(lambda hand, at: 0.2, lambda at: 4 if 20 < at < 50 else math.inf)
    client = sent(server, 64, 100.0)
    assert max(client.limit(25, 50)) <= 6
    assert server.rate(25, 50) >= 0.8 * 4 / 0.2
    assert set(client.limit(65, 100)) == {64}


@pytest.mark.parametrize(("spread", "back"), [(0.0, 5), (0.5, 20), (0.8, 8)])
def test_a_decrease_that_was_wrong_is_taken_back(spread: float, back: int) -> None:
    """The prompts become longer while the limit still doubles: only smaller loads were seen to be fast."""
    server = Server(lambda hand, at: 0.2 if at < 0.9 else 0.8, spread=spread)
    client = sent(server, 512, 40.0)
    assert min(client.limit(2, 40)) >= 192
    assert set(client.limit(back, 40)) == {512}


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(adaptive: Adaptive, clock: Clock, count: int, seconds: float = 1.0, flying: int | None = None) -> None:
    """So many answers, each to a request sent after the last decrease."""
    clock.now += seconds
    for _ in range(count):
        clock.now += 1e-6
        adaptive.answered(seconds - 1e-3, adaptive.limit if flying is None else flying)


def test_slow_start_doubles_every_round_trip_up_to_the_most() -> None:
    clock = Clock()
    adaptive = Adaptive(100, clock)
    limits = []
    for _ in range(4):
        limits.append(adaptive.limit)
        answers(adaptive, clock, adaptive.limit)
    assert limits == [16, 32, 64, 100]
    assert Adaptive(5, clock).limit == 5


def test_a_limit_that_was_not_reached_does_not_grow() -> None:
    clock = Clock()
    adaptive = Adaptive(100, clock)
    answers(adaptive, clock, 1000, flying=15)
    assert adaptive.limit == 16


def test_a_load_that_the_limit_does_not_keep_says_nothing_of_it() -> None:
    """As many answers a second as the rates a minute allow: twice the latency is twice as many in flight."""
    clock = Clock()
    adaptive = Adaptive(100, clock)
    answers(adaptive, clock, 300)
    for flying in (10, 30):
        answers(adaptive, clock, 100 * EPOCHS + 100, seconds=flying / 10, flying=flying)
    assert adaptive.limit == 100


@pytest.mark.parametrize("seconds", [0.5, None])
def test_it_decreases_once_a_round_trip(seconds: float | None) -> None:
    clock = Clock()
    adaptive = Adaptive(100, clock)
    clock.now = 1.0
    for _ in range(10):
        adaptive.congested(seconds)
    assert adaptive.limit == 11  # 0.7 · 16
    clock.now += 0.25
    adaptive.congested(seconds)
    assert adaptive.limit == 11  # sent before that decrease
    clock.now += 1.0
    adaptive.congested(seconds)
    assert adaptive.limit == 7


@pytest.mark.parametrize(("times", "sure"), [(20, True), (200, False)])
def test_it_does_not_decrease_below_its_least_and_comes_back(times: int, sure: bool) -> None:
    clock = Clock()
    adaptive = Adaptive(64, clock)
    for _ in range(times):
        clock.now += 2.0
        adaptive.congested(1.0, sure=sure)
    assert adaptive.limit == 4
    trips = 0
    while adaptive.limit < 64:
        answers(adaptive, clock, adaptive.limit)
        trips += 1
    assert trips <= 80


def test_it_is_back_after_the_recovery_and_then_probes() -> None:
    clock = Clock()
    adaptive = Adaptive(1000, clock)
    answers(adaptive, clock, 84)
    assert adaptive.limit == 100
    clock.now += 1.0
    adaptive.congested(0.5)
    limits = [adaptive.limit]
    for _ in range(2 * RECOVERY):
        answers(adaptive, clock, adaptive.limit)
        limits.append(adaptive.limit)
    assert limits[0] == 70
    assert limits == sorted(limits)
    assert 99 <= limits[RECOVERY] <= 101
    assert limits[RECOVERY // 2] >= 95  # most of the time it is near where it was too much
    assert limits[-1] >= 120


def test_answers_to_requests_sent_before_a_decrease_tell_nothing() -> None:
    clock = Clock()
    adaptive = Adaptive(100, clock)
    clock.now = 10.0
    adaptive.congested(1.0)
    for _ in range(1000):
        clock.now += 1e-3
        adaptive.answered(5.0, adaptive.limit)
    assert adaptive.limit == 11


def trips(adaptive: Adaptive, clock: Clock, latency: Callable[[int], float], count: int) -> list[int]:
    """The limits after each of so many round trips to a server with that latency at that load."""
    limits = []
    for _ in range(count):
        answers(adaptive, clock, adaptive.limit, seconds=latency(adaptive.limit))
        limits.append(adaptive.limit)
    return limits


@pytest.mark.parametrize("knee", [4, 32])
def test_it_stops_though_all_answers_come_at_once(knee: int) -> None:
    clock = Clock()
    limits = trips(Adaptive(1024, clock), clock, lambda load: max(1.0, load / knee), 200)
    assert max(limits) <= 192


def test_latency_alone_does_not_bring_it_below_four() -> None:
    clock = Clock()
    adaptive = Adaptive(4, clock)
    answers(adaptive, clock, 5 * SAMPLES, seconds=1.0, flying=2)
    answers(adaptive, clock, 5 * SAMPLES, seconds=8.0, flying=4)
    assert adaptive.limit == 4


def test_congestion_ends_the_trial_of_a_smaller_limit() -> None:
    """What was lost by the second decrease does not speak against the first."""

    def latency(load: int) -> float:
        return max(1.0, load / 32)

    clock = Clock()
    adaptive = Adaptive(1024, clock)
    limits = trips(adaptive, clock, latency, 1)
    while limits[-1] >= max(limits):
        limits += trips(adaptive, clock, latency, 1)
        assert len(limits) < 100
    clock.now += 100.0
    adaptive.congested(1.0)
    assert adaptive.limit < limits[-1]
    assert max(trips(adaptive, clock, lambda load: max(limits) / 32, 4)) < limits[-1]
