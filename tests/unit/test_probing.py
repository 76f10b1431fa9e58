"""Probing: a capability is found by its effect, and kept only from clear replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from icl_engine.driver.cache import Cache
from icl_engine.driver.driver import TRIES, Driver
from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.places import place
from icl_engine.models.probing import ALL, CHAT, NAMED, ODD, hoped, probe
from icl_engine.types import Capabilities, Continuation, Generate, NextToken, Request, Response, Spelling, Usage

NOTHING = Capabilities()
EVERY = frozenset(ALL)
COLOURS = [(f" colour{i}", -2.0 - i / 3) for i in range(12)]


@dataclass
class Server:
    """An endpoint of which each answer can be chosen.

    Args:
        answers: kind of readout -> its answer; a kind that is missing is refused.
    """

    answers: dict[str, Callable[[Request], Response]]
    capabilities: Capabilities = NOTHING
    uncertain: frozenset[str] = EVERY
    identity: str = "server"
    asked: list[Request] = field(default_factory=list)
    fault: RequestError | EndpointError | None = None

    async def check(self) -> None:
        if isinstance(self.fault, EndpointError):
            raise self.fault

    async def close(self) -> None: ...

    async def send(self, request: Request) -> Response:
        self.asked.append(request)
        if self.fault is not None:
            raise self.fault
        kind = kind_of(request.readout)
        if kind not in self.answers:
            raise RequestError(f"no {kind}")
        return self.answers[kind](request)


def kind_of(readout: Any) -> str:
    match readout:
        case NextToken(_, named, _, _) if named:
            return "named"
        case NextToken():
            return "top"
        case Generate() if readout.choices:
            return "choice"
        case Generate() if readout.grammar:
            return "grammar"
        case Generate() if readout.schema:
            return "schema"
        case Generate():
            return "text"
    return {Continuation: "continuation", Spelling: "spelling"}[type(readout)]


def text(said: str, tokens: int = 5) -> Callable[[Request], Response]:
    return lambda _: Response(said, usage=Usage(tokens, 0, 1))


def top(wide: int, tokens: int = 5) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        assert isinstance(request.readout, NextToken)
        if request.readout.top > wide:
            raise RequestError(f"at most {wide}")
        seen = COLOURS[: request.readout.top]
        behind = str(request.readout.spelt).split()
        used = Usage(tokens + len(behind), 0, 1)
        return Response("", places=(place(seen[0][0], seen, ranked=True),), usage=used)

    return answer


def named(most: int, *, honest: bool = True) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        assert isinstance(request.readout, NextToken)
        wanted = request.readout.named
        if len(wanted) > most:
            raise RequestError("too many")
        shown = wanted if honest else wanted[:1]
        return Response("", places=(place(1, [(i, -9.0) for i in shown], ranked=False),))

    return answer


def find(server: Server, *wanted: str, api: str = "completions", cache: Cache | None = None) -> Capabilities:
    async def run() -> None:
        driver = Driver(server, cache)
        await driver.probe(api, wanted, probe)

    asyncio.run(run())
    return server.capabilities


def questions(server: Server) -> Sequence[str]:
    return [kind_of(request.readout) for request in server.asked]


# -- by effect


@pytest.mark.parametrize(("wide", "width"), [(1000, 12), (20, 12), (5, 5), (4, 1), (0, 0)])
def test_the_width_of_the_top_is_what_came_back(wide: int, width: int) -> None:
    assert find(Server({"top": top(wide)}), "top_logprobs").top_logprobs == width


@pytest.mark.parametrize(("most", "width"), [(128, 128), (127, 16), (2, 2), (1, 0)])
def test_named_tokens_are_counted(most: int, width: int) -> None:
    server = Server({"named": named(most), "spelling": lambda r: Response("", spelt=((1,), (2, 3)))})
    assert find(server, "named", "spelling").named == width


def test_named_tokens_that_are_ignored_are_noticed() -> None:
    server = Server({"named": named(128, honest=False), "spelling": lambda r: Response("", spelt=((1,), (2, 3)))})
    found = find(server, "named", "spelling")
    assert (found.named, found.spelling) == (0, True)
    assert questions(server).count("named") == len(NAMED)


def test_named_tokens_need_a_tokenizer() -> None:
    server = Server({"named": named(128)})
    assert find(server, "named", "spelling").named == 0
    assert questions(server) == ["spelling"]


@pytest.mark.parametrize(
    ("figures", "can"),
    [
        ([(" colour0", -2.1)], True),
        ([(" colour0", -2.2)], True),
        ([(" colour0", -3.0)], False),
        ([(" colour0", 0.0)], False),
        ([], False),
        ([("a", -0.5), ("b", -0.5)], False),
    ],
)
def test_a_continuation_has_to_agree_with_the_next_token(figures: list[tuple[str, float]], can: bool) -> None:
    server = Server({"top": top(20), "continuation": lambda r: Response("", tuple(figures))})
    assert find(server, "continuation").continuation is can


@pytest.mark.parametrize(("extra", "can"), [(0, True), (4, False)])
def test_a_turn_that_was_begun_anew_is_no_prefill(extra: int, can: bool) -> None:
    server = Server({"top": top(20, tokens=8 + extra), "text": text("Red", tokens=8)})
    assert find(server, "prefill", api="chat").prefill is can
    assert [r.prompt for r in server.asked] == [CHAT] * 3


def test_a_prefill_that_is_left_out_is_noticed() -> None:
    def answer(request: Request) -> Response:
        return replace(top(20)(replace(request, readout=NextToken(1))), usage=Usage(8, 0, 1))

    assert find(Server({"top": answer, "text": text("Red", tokens=8)}), "prefill", api="chat").prefill is False


@pytest.mark.parametrize("name", ["schema", "grammar", "choice"])
def test_a_constraint_has_to_show_in_the_text(name: str) -> None:
    kept = '{"a": "zq"}' if name == "schema" else ODD[0]
    assert getattr(find(Server({name: text(kept)}), name), name) is True
    assert getattr(find(Server({name: text("Blue is my favourite")}), name), name) is False
    assert getattr(find(Server({}), name), name) is False


def test_a_seed_repeats_what_was_drawn() -> None:
    assert find(Server({"text": text("teal")}), "seed").seed is True
    drawn = iter(("teal", "ochre"))
    server = Server({"text": lambda _: Response(next(drawn))})
    assert find(server, "seed").seed is False
    sent = {
        r.readout.sampling.seed + r.sample
        for r in server.asked
        if isinstance(r.readout, Generate) and r.readout.sampling.seed
    }
    assert sent == {8}


@pytest.mark.parametrize(("with_image", "can"), [(90, True), (8, False)])
def test_an_image_that_costs_nothing_was_not_looked_at(with_image: int, can: bool) -> None:
    def answer(request: Request) -> Response:
        return Response("Red", usage=Usage(8 if request.prompt == CHAT else with_image, 0, 1))

    assert find(Server({"text": answer}), "images", api="chat").images is can


def test_samples_are_tried_with_the_endpoint_told_to_gather_them() -> None:
    seen = []

    def answer(request: Request) -> Response:
        seen.append(server.capabilities.samples)
        raise RequestError("n is not supported")

    server = Server({"text": answer})
    assert find(server, "samples").samples is False
    assert set(seen) == {True}


# -- once


def test_what_was_found_is_kept_for_the_endpoint_and_api(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first, second, other = (Server({"top": top(20)}) for _ in range(3))
    assert find(first, "top_logprobs", cache=cache).top_logprobs == 12
    assert find(second, "top_logprobs", cache=cache).top_logprobs == 12
    assert second.asked == []
    find(other, "top_logprobs", api="chat", cache=cache)
    assert other.asked
    cache.close()


def test_what_was_not_tried_before_is_tried_later(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    find(Server({"top": top(20)}), "top_logprobs", cache=cache)
    later = Server({"top": top(20), "choice": text(ODD[1])})
    found = find(later, "top_logprobs", "choice", cache=cache)
    assert (found.top_logprobs, found.choice, found.probed) == (12, True, frozenset({"top_logprobs", "choice"}))
    assert questions(later) == ["choice"]
    cache.close()


def test_an_unclear_reply_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    ill = Server({}, fault=RequestError("busy", retryable=True, retry_after=0.0))
    assert find(ill, "choice", cache=cache).choice is False
    assert len(ill.asked) == TRIES
    well = Server({"choice": text(ODD[0])})
    assert find(well, "choice", cache=cache).choice is True
    cache.close()


def test_asked_anew_nothing_comes_from_the_cache_of_answers(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    server = Server({"choice": text(ODD[0])})

    async def run() -> None:
        driver = Driver(server, cache)
        for _ in range(2):
            driver.forget("completions")
            await driver.probe("completions", ["choice"], probe)

    asyncio.run(run())
    assert questions(server) == ["choice"] * 2
    cache.close()


def test_an_endpoint_that_cannot_be_used_is_told() -> None:
    with pytest.raises(EndpointError, match="nothing answers"):
        find(Server({}, fault=EndpointError("nothing answers")), "choice")


def test_what_is_certain_is_not_asked() -> None:
    server = Server({}, Capabilities(choice=True), frozenset())
    assert find(server, *EVERY).choice is True
    assert server.asked == []


def test_what_was_not_tried_is_hoped_for() -> None:
    found = hoped(Capabilities(probed=frozenset({"choice"})), EVERY)
    assert (found.named, found.top_logprobs, found.continuation, found.choice) == (128, 20, True, False)
