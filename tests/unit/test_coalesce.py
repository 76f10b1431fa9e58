"""Requests that arrive together: who travels with whom, and what becomes of a group that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.coalesce import Together, is_drawn, samples_of, shares
from icl_engine.types import Generate, Image, Message, NextToken, Request, Response, Sampling, Usage

DRAWN = Request("Q", Generate(Sampling(temperature=1.0)))


def samples(count: int, request: Request = DRAWN) -> list[Request]:
    return [replace(request, sample=i) for i in range(count)]


@dataclass
class Server:
    """Answers each request with its sample's number.

    Args:
        gives: the most it answers of a group.
        fails: what it raises for a group of that many or more.
        refuses: samples it refuses whatever their company.
    """

    gives: int = 99
    fails: tuple[int, Exception] = (99, RequestError("never"))
    refuses: tuple[int, ...] = ()
    groups: list[list[int]] = field(default_factory=list)

    async def ask(self, requests: Sequence[Request]) -> Sequence[Response]:
        self.groups.append([r.sample for r in requests])
        await asyncio.sleep(0)
        if len(requests) >= self.fails[0]:
            raise self.fails[1]
        if any(r.sample in self.refuses for r in requests):
            raise RequestError("refused")
        return [Response(str(r.sample)) for r in requests[: self.gives]]


def send(server: Server, requests: Sequence[Request], most: int = 99, rounds: int = 1) -> list[str]:
    async def run() -> list[str]:
        together = Together(server.ask, lambda r: samples_of(r) if is_drawn(r) else None, lambda _: most)
        for _ in range(rounds):
            got = await asyncio.gather(*map(together.send, requests), return_exceptions=True)
        await together.close()
        return [r.text if isinstance(r, Response) else str(r) for r in got]

    return asyncio.run(run())


def test_samples_of_one_prompt_travel_together() -> None:
    server = Server()
    assert send(server, samples(3)) == ["0", "1", "2"]
    assert server.groups == [[0, 1, 2]]


def test_a_group_has_a_limit() -> None:
    server = Server()
    assert send(server, samples(5), most=2) == ["0", "1", "2", "3", "4"]
    assert sorted(server.groups) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    "other",
    [
        Request("R", DRAWN.readout, 1),
        Request("Q", Generate(Sampling(temperature=0.5)), 1),
        Request("Q", Generate(Sampling(temperature=1.0, stop=("x",))), 1),
        Request("Q", Generate(Sampling(temperature=1.0), schema={"type": "object"}), 1),
        Request("Q", DRAWN.readout, 1, "probe"),
        Request((Message("user", (Image("a", data=b"1"),)),), DRAWN.readout, 1),
    ],
)
def test_what_differs_in_more_than_the_sample_travels_apart(other: Request) -> None:
    server = Server()
    assert send(server, [DRAWN, other]) == ["0", "1"]
    assert sorted(server.groups) == [[0], [1]]


def test_schemas_are_compared_by_what_they_say() -> None:
    server = Server()
    readouts = [Generate(Sampling(temperature=1.0), schema={"type": "object"}) for _ in range(2)]
    send(server, [Request("Q", readout, i) for i, readout in enumerate(readouts)])
    assert server.groups == [[0, 1]]


@pytest.mark.parametrize(
    "alone",
    [
        Request("Q", Generate()),
        Request("Q", Generate(Sampling(temperature=1.0, seed=3))),
        Request("Q", NextToken(5)),
    ],
    ids=["greedy", "seeded", "next token"],
)
def test_what_is_not_drawn_freely_travels_alone(alone: Request) -> None:
    server = Server()
    send(server, [alone, replace(alone, sample=1)])
    assert server.groups == [[0], [1]]


def test_what_arrives_later_travels_later() -> None:
    async def run() -> list[list[int]]:
        server = Server()
        together = Together(server.ask, samples_of, lambda _: 99)
        first = asyncio.ensure_future(together.send(DRAWN))
        await asyncio.sleep(0.01)
        await together.send(replace(DRAWN, sample=1))
        await first
        return server.groups

    assert asyncio.run(run()) == [[0], [1]]


def test_the_rest_of_a_short_answer_is_asked_for_and_no_group_is_made_again() -> None:
    server = Server(gives=1)
    assert send(server, samples(3), rounds=2) == ["0", "1", "2"]
    assert server.groups[0] == [0, 1, 2]
    assert sorted(server.groups[1:]) == [[0], [1], [1], [2], [2]]


def test_a_group_that_is_refused_is_asked_one_by_one_and_no_group_is_made_again() -> None:
    server = Server(fails=(2, RequestError("n must be 1")))
    assert send(server, samples(2), rounds=2) == ["0", "1"]
    assert server.groups == [[0, 1], [0], [1], [0], [1]]


def test_one_bad_request_does_not_spoil_the_others() -> None:
    server = Server(refuses=(1,))
    assert send(server, samples(3)) == ["0", "refused", "2"]


def test_where_each_is_refused_groups_are_made_again() -> None:
    server = Server(refuses=(0, 1))
    assert send(server, samples(2), rounds=2) == ["refused", "refused"]
    assert server.groups == [[0, 1], [0], [1], [0, 1], [0], [1]]


@pytest.mark.parametrize("error", [RequestError("busy", retryable=True), EndpointError("no key"), KeyError("x")])
def test_a_fault_that_may_pass_or_is_everyones_falls_on_each(error: Exception) -> None:
    server = Server(fails=(2, error))
    assert send(server, samples(2)) == [str(error)] * 2
    assert server.groups == [[0, 1]]


@pytest.mark.parametrize("server", [Server(gives=1), Server(fails=(2, RequestError("n must be 1")))])
def test_a_probe_of_the_capability_is_told_of_the_failure(server: Server) -> None:
    told = send(server, samples(2, replace(DRAWN, role="capability")))
    assert told[0] == told[1]
    assert "1 of 2" in told[0] or "n must be 1" in told[0]
    assert server.groups == [[0, 1]]


def test_one_who_is_cancelled_does_not_disturb_the_others() -> None:
    async def run() -> str:
        together = Together(Server().ask, samples_of, lambda _: 99)
        first, second = (asyncio.ensure_future(together.send(r)) for r in samples(2))
        await asyncio.sleep(0)
        first.cancel()
        return (await second).text

    assert asyncio.run(run()) == "1"


def test_closing_gives_up_what_is_in_flight() -> None:
    async def run() -> None:
        async def never(_: Sequence[Request]) -> Sequence[Response]:
            await asyncio.sleep(60)
            raise AssertionError

        together = Together(never, samples_of, lambda _: 99)
        waiting = [asyncio.ensure_future(together.send(r)) for r in samples(2)]
        await asyncio.sleep(0.01)
        await together.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(r) for r in results] == [asyncio.CancelledError] * 2

    asyncio.run(run())


@pytest.mark.parametrize("one_prompt", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_add_up(one_prompt: bool, count: int) -> None:
    whole = Usage(101, 40, 13)
    parts = shares(whole, count, one_prompt=one_prompt)
    assert len(parts) == count
    assert sum(parts, Usage()) == whole
