"""The driver: twins (the same content asked at the same time), requests that got no answer, and its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tenacity import wait_random_exponential

from icl_engine.driver.budget import Budget, Caps
from icl_engine.driver.cache import Cache, Spent
from icl_engine.driver.driver import Driver, StoppedError
from icl_engine.driver.limiter import Limiter
from icl_engine.driver.slot import Slot
from icl_engine.errors import RequestError
from icl_engine.protocols import Steps
from icl_engine.types import Capabilities, Generate, Request, Response, Sampling, Spelling, Usage

REQUEST = Request("2 + 2 =", Generate())


class Slow:
    """An endpoint that answers when it is told to."""

    identity = "slow"
    capabilities = Capabilities()
    uncertain: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.sent = 0
        self.fails = False
        self.go = asyncio.Event()

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def send(self, request: Request) -> Response:
        self.sent += 1
        await self.go.wait()
        if self.fails:
            raise RequestError("refused")
        return Response("4")


async def asked(driver: Driver, endpoint: Slow, twins: int) -> list[asyncio.Task[str]]:
    """Twins on their way, the first of them at the endpoint."""

    async def text() -> str:
        return (await driver.ask(REQUEST)).response.text

    tasks = [asyncio.ensure_future(text()) for _ in range(twins)]
    while not endpoint.sent:
        await asyncio.sleep(0)
    return tasks


def test_twins_are_sent_once() -> None:
    async def scenario() -> None:
        endpoint = Slow()
        tasks = await asked(Driver(endpoint), endpoint, twins=3)
        endpoint.go.set()
        assert await asyncio.gather(*tasks) == ["4", "4", "4"]
        assert endpoint.sent == 1

    asyncio.run(scenario())


def test_a_cancelled_twin_takes_no_other_with_it() -> None:
    async def scenario() -> None:
        endpoint = Slow()
        first, *others = await asked(Driver(endpoint), endpoint, twins=3)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(5):
            while endpoint.sent < 2:
                await asyncio.sleep(0)
        await asyncio.sleep(0)  # the third joins the second
        endpoint.go.set()
        assert await asyncio.gather(*others) == ["4", "4"]
        assert endpoint.sent == 2

    asyncio.run(scenario())


def test_twins_share_a_failure() -> None:
    async def scenario() -> None:
        endpoint = Slow()
        endpoint.fails = True
        tasks = await asked(Driver(endpoint), endpoint, twins=2)
        endpoint.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(r) for r in results] == ["refused", "refused"]
        assert endpoint.sent == 1

    asyncio.run(scenario())


# -- requests that got no answer


class Picky:
    """Answers a prompt with itself, some sooner than others; one that begins with "no" it refuses."""

    identity = "picky"
    uncertain: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.capabilities = Capabilities()
        self.sent: list[str] = []

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def send(self, request: Request) -> Response:
        prompt = str(request.prompt)
        self.sent.append(prompt)
        if prompt.startswith("no"):
            await asyncio.sleep(0 if prompt == "no 2" else 0.02)
            raise RequestError(f"refused {prompt}")
        await asyncio.sleep(0.01)
        return Response(prompt)


def test_a_generator_is_told_of_the_first_failure_in_order_and_may_know_another_way() -> None:
    told: list[str] = []

    def steps() -> Steps[str]:
        try:
            yield [Request(p, Generate()) for p in ("a", "no 1", "no 2", "b")]
        except RequestError as error:
            told.append(str(error))
        (answer,) = yield [Request("c", Generate())]
        return answer.text

    endpoint = Picky()
    result, exchanges = asyncio.run(Driver(endpoint).drive(steps()))
    assert (result, told) == ("c", ["refused no 1"])
    assert [e.response.text for e in exchanges] == ["c"]
    assert sorted(endpoint.sent) == ["a", "b", "c", "no 1", "no 2"]  # none is left in flight


def test_a_failure_that_a_generator_does_not_take_is_raised() -> None:
    def steps() -> Steps[str]:
        (answer,) = yield [Request("no", Generate())]
        return answer.text

    with pytest.raises(RequestError, match="refused no"):
        asyncio.run(Driver(Picky()).drive(steps()))


def test_what_is_asked_of_the_tokenizer_is_answered_before_rows_are_ordered_and_costs_nothing() -> None:
    def steps() -> Steps[str]:
        yield [Request("end", Spelling((" a",)), role="spelling")]
        (answer,) = yield [Request("prompt", Generate())]
        return answer.text

    async def scenario() -> None:
        driver = Driver(endpoint)
        for _ in range(3):
            started = await driver.begin(steps())
            assert started.first is not None
            assert started.first[0].prompt == "prompt"
            assert (await driver.finish(started))[0] == "prompt"
        assert (driver.counts.paid, driver.counts.cached, driver.counts.probes) == (3, 0, 0)

    endpoint = Picky()
    asyncio.run(scenario())
    assert endpoint.sent.count("end") == 1


# -- nothing more


def test_a_driver_that_is_stopped_sends_nothing_more_and_what_is_in_flight_comes_home() -> None:
    async def scenario() -> None:
        endpoint = Slow()
        driver = Driver(endpoint, concurrency=1)
        flying = asyncio.ensure_future(driver.ask(REQUEST))
        waiting = [asyncio.ensure_future(driver.ask(Request(f"{n} + 3 =", Generate()))) for n in range(3)]
        twin = asyncio.ensure_future(driver.ask(Request("0 + 3 =", Generate())))
        while not endpoint.sent:
            await asyncio.sleep(0)
        driver.stop()
        async with asyncio.timeout(5):
            ended = await asyncio.gather(*waiting, twin, return_exceptions=True)
        assert [type(end) for end in ended] == [StoppedError] * 4
        with pytest.raises(StoppedError):
            await driver.ask(Request("later", Generate()))
        endpoint.go.set()
        assert (await flying).response.text == "4"
        assert endpoint.sent == 1
        assert driver.limiter.flying == 0

    asyncio.run(scenario())


def test_a_driver_that_is_stopped_tries_nothing_again() -> None:
    class Busy(Slow):
        async def send(self, request: Request) -> Response:
            self.sent += 1
            raise RequestError("busy", retryable=True)

    async def scenario() -> None:
        endpoint = Busy()
        driver = Driver(endpoint)
        driver._backoff = wait_random_exponential(min=60, max=60)
        asking = asyncio.ensure_future(driver.ask(REQUEST))
        while not endpoint.sent:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        driver.stop()
        async with asyncio.timeout(5):
            with pytest.raises(StoppedError):
                await asking
        assert endpoint.sent == 1

    asyncio.run(scenario())


def test_a_place_that_was_never_had_is_not_given_back() -> None:
    async def scenario() -> None:
        limiter = Limiter(most=1)
        assert limiter.try_acquire()
        slot, alone = Slot(limiter), asyncio.ensure_future(limiter.acquire())
        waiting = [asyncio.ensure_future(slot.take()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        limiter.stop(StoppedError())
        ended = await asyncio.gather(*waiting, alone, return_exceptions=True)
        assert [type(end) for end in ended] == [asyncio.CancelledError, *[StoppedError] * 3]
        assert limiter.flying == 1
        limiter.release()
        assert limiter.flying == 0

    asyncio.run(scenario())


# -- what was lost


class Losing(Slow):
    """Loses an answer, then gives it."""

    async def send(self, request: Request) -> Response:
        self.sent += 1
        if self.sent == 1:
            raise RequestError("the connection was cut", retryable=True, billed=True)
        if self.sent == 2:
            raise RequestError("HTTP 500", retryable=True)
        return Response("4", usage=Usage(3, 0, 1))


def test_what_may_have_been_paid_for_an_answer_that_was_lost_is_in_the_books(tmp_path: Path) -> None:
    async def scenario() -> None:
        driver = Driver(Losing(), Cache(tmp_path))
        driver.ledger = "run"
        driver._backoff = wait_random_exponential(max=0)
        await driver.ask(Request("2 + 2 =", Generate(Sampling(max_tokens=5))))
        assert driver.cache is not None
        worst = Usage(len("2 + 2 =") + 1, 0, 5)
        assert driver.cache.spent("run") == Spent(2, worst + Usage(3, 0, 1))
        assert driver.counts.paid == 1
        await driver.close()

    asyncio.run(scenario())


def test_what_is_given_up_in_flight_is_in_the_books_but_what_never_went_out_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        endpoint = Slow()
        driver = Driver(endpoint, Cache(tmp_path), concurrency=1)
        driver.ledger = "run"
        driver.budget = Budget(Caps(requests=5))
        flying = asyncio.ensure_future(driver.ask(REQUEST))
        waiting = asyncio.ensure_future(driver.ask(Request("3 + 3 =", Generate())))
        while not endpoint.sent:
            await asyncio.sleep(0)
        flying.cancel()
        waiting.cancel()
        await asyncio.gather(flying, waiting, return_exceptions=True)
        assert driver.cache is not None
        assert driver.cache.spent("run").requests == 1
        assert driver.budget.requests == 1
        assert driver.limiter.flying == 0
        await driver.close()

    asyncio.run(scenario())


class Together(Slow):
    """An endpoint whose requests travel as one, ten tokens each."""

    def kind(self, request: Request) -> str:
        return "all"

    async def send(self, request: Request) -> Response:
        return Response("4", usage=Usage(9, 0, 1))


def test_requests_that_travel_as_one_take_the_tokens_of_each_from_the_minute() -> None:
    def steps() -> Steps[int]:
        answers = yield [Request(f"{i} + 2 =", Generate(Sampling(max_tokens=100))) for i in range(5)]
        return len(answers)

    async def scenario() -> None:
        driver = Driver(Together(), tokens_per_minute=60)
        assert (await driver.drive(steps()))[0] == 5
        assert not driver.limiter.try_acquire(1), "50 of 60 are gone, most of a minute's before their time"

    asyncio.run(scenario())
