"""Twins: requests with the same content, asked at the same time."""

from __future__ import annotations

import asyncio

import pytest

from icl_engine.driver.driver import Driver
from icl_engine.errors import RequestError
from icl_engine.types import Capabilities, Generate, Request, Response

REQUEST = Request("2 + 2 =", Generate())


class Slow:
    """An endpoint that answers when it is told to."""

    identity = "slow"
    capabilities = Capabilities()

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
