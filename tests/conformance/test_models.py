"""The laws of models: opened cheaply, and what answers offline answers through the `Endpoint` protocol."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import pytest
from conformance.specs import RECORD, Case, cases, made

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.replay import Replay
from icl_engine.types import Capabilities, Continuation, Generate, Message, NextToken, Request, Response, Sampling

EVERY = pytest.mark.parametrize(("name", "case"), cases("model"))
OFFLINE = pytest.mark.parametrize(("name", "case"), cases("model", offline=True))
PROMPT = "Q: one\nA:"


def answers(endpoint: Any, requests: Sequence[Request]) -> list[Response]:
    """What an endpoint answers, opened and closed as the driver does."""

    async def ask() -> list[Response]:
        await endpoint.check()
        try:
            return [await endpoint.send(request) for request in requests]
        finally:
            await endpoint.close()
            await endpoint.close()

    return asyncio.run(ask())


def answer(endpoint: Any, request: Request) -> Response:
    return answers(endpoint, [request])[0]


# -- every model: no weights, no network


@EVERY
def test_a_model_opens_as_an_endpoint(name: str, case: Case) -> None:
    endpoint = made("model", name, case).connect()
    assert isinstance(endpoint.capabilities, Capabilities)
    assert endpoint.capabilities.text or endpoint.capabilities.chat
    assert all(inspect.iscoroutinefunction(getattr(endpoint, f)) for f in ("check", "send", "close"))


@EVERY
def test_a_model_has_a_title_of_one_line(name: str, case: Case) -> None:
    title = made("model", name, case).title
    assert title
    assert title.isprintable()


@EVERY
def test_sampling_is_what_the_task_says(name: str, case: Case) -> None:
    keys = {"max_tokens": 7, "temperature": 0.5, "stop": "\n", "seed": 3}
    model = made("model", name, Case({**case.keys, **keys}))
    assert model.sampling() == Sampling(7, 0.5, ("\n",), 3)


@EVERY
def test_the_default_is_greedy_and_without_stop(name: str, case: Case) -> None:
    given = {k: v for k, v in case.keys.items() if k not in ("temperature", "stop", "seed", "api")}
    model = made("model", name, Case(given))
    assert model.sampling() == Sampling(256, 0.0, (), None)
    assert model.api == ("chat" if name in ("openai", "anthropic") else "completions")


@EVERY
@pytest.mark.parametrize("keys", [{"max_tokens": 0}, {"temperature": -1}, {"api": "telepathy"}, {"stop": 3}])
def test_nonsense_is_refused(name: str, case: Case, keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys))):
        made("model", name, Case({**case.keys, **keys}))


# -- models that answer offline


@OFFLINE
def test_an_endpoint_says_what_its_answers_depend_on(name: str, case: Case) -> None:
    model = made("model", name, case)
    assert model.connect().identity
    assert model.connect().identity == model.connect().identity


@OFFLINE
def test_a_model_is_named_in_the_caches_key_as_the_task_says(name: str, case: Case) -> None:
    model = made("model", name, Case({**case.keys, "identity": "the one"}))
    assert "the one" in model.connect().identity


@OFFLINE
def test_the_same_request_has_the_same_answer(name: str, case: Case) -> None:
    model = made("model", name, case)
    requests = [Request(PROMPT, Generate(), sample=i) for i in range(3)]
    assert answers(model.connect(), requests) == answers(model.connect(), requests)


@OFFLINE
def test_text_is_answered_with_text(name: str, case: Case) -> None:
    found = answer(made("model", name, case).connect(), Request(PROMPT, Generate()))
    assert found.text
    assert (found.tokens, found.finish) == ((), "stop")


@OFFLINE
def test_chat_is_answered_where_an_endpoint_can_and_refused_elsewhere(name: str, case: Case) -> None:
    endpoint = made("model", name, case).connect()
    request = Request((Message("user", PROMPT),), Generate())
    if endpoint.capabilities.chat:
        assert answer(endpoint, request).text
    else:
        with pytest.raises((RequestError, EndpointError)):
            answer(endpoint, request)


@OFFLINE
@pytest.mark.parametrize("top", [1, 2, 50])
def test_next_tokens_are_the_likeliest_first_where_an_endpoint_can(name: str, case: Case, top: int) -> None:
    endpoint = made("model", name, case).connect()
    request = Request(PROMPT, NextToken(top))
    if not endpoint.capabilities.top_logprobs:
        with pytest.raises((RequestError, EndpointError)):
            answer(endpoint, request)
        return
    found = answer(endpoint, request)
    (place,) = found.places
    assert 0 < len(place.seen) <= top
    assert found.text == place.said == next(iter(place.seen))
    figures = list(place.seen.values())
    assert all(a >= b for a, b in pairwise(figures))
    assert all(isfinite(p) and p <= 0 for p in figures)
    assert place.floor <= figures[-1]


@OFFLINE
def test_a_continuation_is_spelt_by_its_tokens_where_an_endpoint_can(name: str, case: Case) -> None:
    endpoint = made("model", name, case).connect()
    request = Request(PROMPT, Continuation(" of some words"))
    if not endpoint.capabilities.continuation:
        with pytest.raises((RequestError, EndpointError)):
            answer(endpoint, request)
        return
    found = answer(endpoint, request)
    assert found.text == "".join(str(token) for token, _ in found.tokens) == " of some words"
    assert all(isfinite(p) and p <= 0 for _, p in found.tokens)


@OFFLINE
def test_a_likely_next_token_scores_the_same_as_a_continuation(name: str, case: Case) -> None:
    endpoint = made("model", name, case).connect()
    if not (endpoint.capabilities.continuation and endpoint.capabilities.top_logprobs):
        return
    (place,) = answer(endpoint, Request(PROMPT, NextToken(5))).places
    for token, p in place.seen.items():
        found = answer(endpoint, Request(PROMPT, Continuation(str(token))))
        assert sum(q for _, q in found.tokens) == pytest.approx(p)


# -- replay


def test_replay_answers_the_samples_of_a_prompt_in_turn() -> None:
    requests = [Request(PROMPT, Generate(), sample=i) for i in range(3)]
    assert [r.text for r in answers(Replay(path=RECORD).connect(), requests)] == [" 1", " uno", " 1"]


def test_replay_never_applies_stop_nor_length() -> None:
    request = Request(PROMPT, Generate(Sampling(max_tokens=1, stop=("1", " "))))
    assert answer(Replay(path=RECORD).connect(), request).text == " 1"


def test_replay_shows_where_a_prompt_leaves_the_record() -> None:
    with pytest.raises(RequestError, match="from character 5 on 'o\\\\nA:', not 'in"):
        answer(Replay(path=RECORD).connect(), Request("Q: twin\nA:", Generate()))
