"""What goes over the wire to the Messages API by way of Anthropic's SDK, and what is made of what comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.messages_server import Answer, MessagesApi, blocks, refusal, said

from icl_engine.driver.driver import Driver
from icl_engine.errors import EndpointError, IclError, NoLogprobsError, RequestError, TaskError
from icl_engine.models.anthropic import Anthropic, AnthropicEndpoint
from icl_engine.models.messages import closed, message_of, turns
from icl_engine.protocols import Steps
from icl_engine.types import (
    Capabilities,
    Continuation,
    Generate,
    Image,
    Message,
    NextToken,
    Request,
    Response,
    Sampling,
    Spelling,
    Usage,
)

SECRET = "sk-ant-very-secret-0123456789"
QUESTION = (Message("user", "Review: fine"),)
TURNS = (
    Message("system", "Judge."),
    Message("user", "Review: poor"),
    Message("assistant", "negative"),
    Message("user", "Review: fine"),
)
PLAIN = {"model": "m", "max_tokens": 256, "temperature": 0.0}
ASKED = [{"role": "user", "content": "Review: fine"}]
MARK = {"cache_control": {"type": "ephemeral"}}
PNG = Image("a.png", data=b"\x89PNG", media_type="image/png")
WEB = Image("https://example.org/b.jpg", url="https://example.org/b.jpg")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi() as running:
        yield running


def endpoint(url: str | None = None, **keys: Any) -> AnthropicEndpoint:
    return Anthropic(**{"name": "m", "base_url": url, "api_key": SECRET, **keys}).connect()


def opened(url: str, work: Callable[[AnthropicEndpoint], Any], **keys: Any) -> Any:
    async def once() -> Any:
        found = endpoint(url, **keys)
        try:
            return await work(found)
        finally:
            await found.close()
            await found.close()

    return asyncio.run(once())


def ask(api: MessagesApi, request: Request, **keys: Any) -> Response:
    answer: Response = opened(api.url, lambda found: found.send(request), **keys)
    return answer


def check(url: str, **keys: Any) -> Capabilities:
    async def work(found: AnthropicEndpoint) -> Capabilities:
        await found.check()
        return found.capabilities

    able: Capabilities = opened(url, work, **keys)
    return able


def secretless(found: pytest.ExceptionInfo[BaseException]) -> str:
    """An error's words, after a look for the key in them and in its whole traceback, as ``--debug`` shows it."""
    shown = "".join(traceback.format_exception(found.value))
    assert SECRET not in shown
    assert "\n" not in str(found.value)
    return str(found.value)


# -- golden bodies


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        pytest.param(Request(QUESTION, Generate()), {**PLAIN, "messages": ASKED}, id="one turn"),
        pytest.param(
            Request(TURNS, Generate()),
            {
                **PLAIN,
                "system": "Judge.",
                "messages": [
                    {"role": "user", "content": "Review: poor"},
                    {"role": "assistant", "content": "negative"},
                    *ASKED,
                ],
            },
            id="system and turns",
        ),
        pytest.param(
            Request((Message("user", "One."), *QUESTION), Generate()),
            {**PLAIN, "messages": [{"role": "user", "content": "One."}, *ASKED]},
            id="two turns of one role stay two",
        ),
        pytest.param(
            Request(QUESTION, Generate(Sampling(max_tokens=8, stop=("\n", "Q:", "", " \n ", "###")))),
            {**PLAIN, "max_tokens": 8, "messages": ASKED, "stop_sequences": ["Q:", "###"]},
            id="a stop of white space is left out",
        ),
        pytest.param(
            Request(QUESTION, Generate(Sampling(stop=("\n",)))), {**PLAIN, "messages": ASKED}, id="no stop is left"
        ),
        pytest.param(
            Request(QUESTION, Generate(Sampling(temperature=0.7, seed=5)), sample=3),
            {**PLAIN, "temperature": 0.7, "messages": ASKED},
            id="there are no seeds",
        ),
        pytest.param(
            Request(QUESTION, Generate(Sampling(temperature=1.0))),
            {"model": "m", "max_tokens": 256, "messages": ASKED},
            id="the API's own temperature",
        ),
        pytest.param(
            Request(QUESTION, Generate(schema={"type": "object", "properties": {"a": {"type": "string"}}})),
            {
                **PLAIN,
                "messages": ASKED,
                "output_config": {
                    "format": {
                        "type": "json_schema",
                        "schema": {
                            "type": "object",
                            "properties": {"a": {"type": "string"}},
                            "additionalProperties": False,
                        },
                    }
                },
            },
            id="schema",
        ),
        pytest.param(
            Request((Message("user", (PNG, "\n", WEB, "\nWhich is red?")),), Generate()),
            {
                **PLAIN,
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/png",
                                    "data": base64.b64encode(b"\x89PNG").decode(),
                                },
                            },
                            {"type": "image", "source": {"type": "url", "url": "https://example.org/b.jpg"}},
                            {"type": "text", "text": "\nWhich is red?"},
                        ],
                    }
                ],
            },
            id="images",
        ),
        pytest.param(
            Request((*QUESTION, Message("assistant", "The tone is \n")), Generate()),
            {**PLAIN, "messages": [*ASKED, {"role": "assistant", "content": "The tone is"}]},
            id="an answer that is begun",
        ),
        pytest.param(
            Request((*TURNS[1:3], *QUESTION), Generate()),
            {**PLAIN, "messages": [*[{"role": m.role, "content": m.content} for m in TURNS[1:3]], *ASKED]},
            id="no system",
        ),
    ],
)
def test_the_body_of_a_request(request_: Request, body: dict[str, Any]) -> None:
    assert endpoint().body(request_) == body


def shared(*at: int) -> tuple[Message, ...]:
    return tuple(replace(message, shared=i in at) for i, message in enumerate(TURNS))


def wire(*, system: Any = "Judge.", first: Any = "Review: poor", second: Any = "negative") -> dict[str, Any]:
    return {
        **PLAIN,
        "system": system,
        "messages": [{"role": "user", "content": first}, {"role": "assistant", "content": second}, *ASKED],
    }


def marked(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, **MARK}]


@pytest.mark.parametrize(
    ("prompt", "body"),
    [
        pytest.param(shared(0, 1, 2), wire(second=marked("negative")), id="system and demonstrations"),
        pytest.param(shared(0), wire(system=marked("Judge.")), id="system alone"),
        pytest.param(shared(1), wire(first=marked("Review: poor")), id="up to a demonstration"),
        pytest.param(shared(), wire(), id="nothing"),
    ],
)
def test_one_breakpoint_stands_after_what_is_shared(prompt: tuple[Message, ...], body: dict[str, Any]) -> None:
    request = Request(prompt, Generate())
    assert endpoint().body(request) == body
    assert endpoint(prompt_cache=False).body(request) == wire()


def test_a_breakpoint_stands_on_the_last_block() -> None:
    prompt = [Message("user", ("Which?", PNG, "\n"), shared=True), Message("user", "This?")]
    first, second = turns(prompt, cache=True)["messages"]
    assert [block["type"] for block in first["content"]] == ["text", "image"]
    assert [block.get("cache_control") for block in first["content"]] == [None, {"type": "ephemeral"}]
    assert second == {"role": "user", "content": "This?"}


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_turn_is_not_marked(empty: str) -> None:
    prompt = [Message("system", empty, shared=True), Message("user", empty, shared=True)]
    assert turns(prompt, cache=True) == {"messages": [{"role": "user", "content": empty}]}
    assert turns(prompt[:1], cache=True) == {"messages": []}


def test_a_probe_and_a_main_question_look_the_same_on_the_wire() -> None:
    request = Request(QUESTION, Generate())
    assert endpoint().body(request) == endpoint().body(replace(request, role="probe"))


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        pytest.param({"type": "string", "maxLength": 3, "pattern": "a+"}, {"type": "string"}, id="bounds"),
        pytest.param({"type": "string", "format": "date"}, {"type": "string", "format": "date"}, id="a known format"),
        pytest.param({"type": "string", "format": "regex"}, {"type": "string"}, id="an unknown format"),
        pytest.param(
            {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "number", "minimum": 0}},
            {"type": "array", "minItems": 1, "items": {"type": "number"}},
            id="list",
        ),
        pytest.param({"type": "array", "minItems": 2}, {"type": "array"}, id="a longer list"),
        pytest.param(
            {"type": ["string", "null"], "enum": ["a", None]},
            {"type": ["string", "null"], "enum": ["a", None]},
            id="enum",
        ),
        pytest.param(
            {"oneOf": [{"const": 1}, {"type": "boolean"}]}, {"anyOf": [{"const": 1}, {"type": "boolean"}]}, id="one of"
        ),
        pytest.param(
            {
                "$defs": {"p": {"properties": {"x": {"type": "integer"}}, "additionalProperties": True}},
                "type": "object",
                "properties": {"type": {"$ref": "#/$defs/p"}, "all": {"allOf": [{"$ref": "#/$defs/p"}]}},
                "required": ["type"],
            },
            {
                "$defs": {
                    "p": {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": False}
                },
                "type": "object",
                "properties": {"type": {"$ref": "#/$defs/p"}, "all": {"allOf": [{"$ref": "#/$defs/p"}]}},
                "required": ["type"],
                "additionalProperties": False,
            },
            id="objects within, and a field named type",
        ),
    ],
)
def test_a_schema_is_sent_as_the_api_takes_it(schema: dict[str, Any], sent: dict[str, Any]) -> None:
    before = json.dumps(schema)
    assert closed(schema) == sent
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"required": ["b"]},
        {"type": "object"},
        {"type": ["object", "array"]},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "patternProperties": {"^x": {"type": "string"}}},
        {"allOf": [{"type": "string"}, {"enum": ["a"]}]},
        {"type": "array", "items": False},
        {"not": {"type": "string"}},
    ],
)
def test_a_schema_that_would_say_something_else_is_not_sent(schema: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        closed(schema)


def test_what_is_left_out_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    found = endpoint()
    for _ in range(3):
        found.body(Request(QUESTION, Generate(Sampling(stop=("\n",)))))
    assert [(record.levelname, "white space" in record.message) for record in caplog.records] == [("WARNING", True)]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(QUESTION, NextToken(5)), "log-probabilities"),
        (Request(QUESTION, Continuation(" a")), "log-probabilities"),
        (Request(QUESTION, Spelling((" a",))), "tokenizer"),
        (Request(QUESTION, Generate(grammar='root ::= "a"')), "grammar"),
        (Request(QUESTION, Generate(choices=("a", "b"))), "choices"),
        (Request(QUESTION, Generate(schema={"type": "object"})), "schema: an object with keys of any name"),
        (Request("Hi", Generate()), "api: chat"),
    ],
)
def test_what_the_api_cannot_give_is_refused_unasked(api: MessagesApi, request_: Request, words: str) -> None:
    with pytest.raises(RequestError, match=words) as found:
        ask(api, request_)
    assert not found.value.retryable
    assert not isinstance(found.value, NoLogprobsError)
    assert api.paths == []


# -- reading


@pytest.mark.parametrize(
    ("answer", "stop", "read"),
    [
        pytest.param(said("fine"), (), Response("fine", finish="end_turn", usage=Usage(7, 0, 2)), id="text"),
        pytest.param(
            said("", content=[{"type": "text", "text": "a"}, {"type": "thinking"}, {"type": "text", "text": "b"}]),
            (),
            Response("ab", finish="end_turn", usage=Usage(7, 0, 2)),
            id="text blocks are joined",
        ),
        pytest.param(
            said(
                "fine",
                usage={
                    "input_tokens": 3,
                    "cache_creation_input_tokens": 20,
                    "cache_read_input_tokens": 100,
                    "output_tokens": 1,
                },
            ),
            (),
            Response("fine", finish="end_turn", usage=Usage(123, 100, 1)),
            id="usage with cache reads",
        ),
        pytest.param(
            said("fine", usage={"input_tokens": 3, "cache_read_input_tokens": None, "output_tokens": None}),
            (),
            Response("fine", finish="end_turn", usage=Usage(3, 0, 0)),
            id="usage with nulls",
        ),
        pytest.param(said("fine", usage=None), (), Response("fine", finish="end_turn"), id="no usage"),
        pytest.param(
            said("I cannot", stop_reason="refusal"),
            (),
            Response("I cannot", finish="refusal", usage=Usage(7, 0, 2)),
            id="a refusal is an answer",
        ),
        pytest.param(
            said("", content=[], stop_reason="refusal"),
            (),
            Response("", finish="refusal", usage=Usage(7, 0, 2)),
            id="a refusal without words",
        ),
        pytest.param(
            said("", content=[{"type": "thinking", "thinking": "hm"}], stop_reason="max_tokens"),
            (),
            Response("", finish="max_tokens", usage=Usage(7, 0, 2)),
            id="cut off before the first word",
        ),
        pytest.param(
            said("one\ntwo\n\nthree"),
            ("\n\n", "\n"),
            Response("one", finish="stop_sequence", usage=Usage(7, 0, 2)),
            id="cut at the first stop",
        ),
        pytest.param(
            said("one", stop_reason="max_tokens"),
            ("\n", ""),
            Response("one", finish="max_tokens", usage=Usage(7, 0, 2)),
            id="no stop in it",
        ),
        pytest.param(said("\nfine"), ("\n",), Response("", finish="stop_sequence", usage=Usage(7, 0, 2)), id="at once"),
    ],
)
def test_the_reading_of_an_answer(
    api: MessagesApi, answer: dict[str, Any], stop: tuple[str, ...], read: Response
) -> None:
    assert message_of(answer, stop) == read
    api.script.append(Answer(body=answer))
    assert ask(api, Request(QUESTION, Generate(Sampling(stop=stop)))) == read


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(reset=True), id="reset"),
        pytest.param(Answer(body=b""), id="empty"),
        pytest.param(Answer(body=b'{"content": ['), id="cut off"),
        pytest.param(Answer(body={"content": []}), id="neither text nor reason"),
        pytest.param(Answer(body={"content": None}), id="null content"),
        pytest.param(Answer(body={"content": [{}], "stop_reason": "end_turn"}), id="an empty block"),
        pytest.param(
            Answer(body={"content": [{"type": "text"}], "stop_reason": "end_turn"}), id="a block without text"
        ),
        pytest.param(Answer(body={"content": [{"type": "text", "text": 3}]}), id="a number for a text"),
        pytest.param(Answer(body=said("\ud800")), id="half a character"),
        pytest.param(Answer(body={"choices": []}), id="another API's answer"),
        pytest.param(Answer(body={"error": None}), id="no content"),
        pytest.param(Answer(body=[]), id="a list"),
        pytest.param(Answer(body=5), id="a number"),
        pytest.param(Answer(body=None), id="null"),
        pytest.param(Answer(body=b"\xff\xfe"), id="bytes"),
        pytest.param(Answer(body=b"<html>\nbusy</html>", content_type="text/html"), id="html"),
        pytest.param(Answer(body=said("late"), latency=0.5), id="too late"),
    ],
)
def test_an_unreadable_answer_is_worth_another_try(api: MessagesApi, answer: Answer) -> None:
    api.script.append(answer)
    with pytest.raises(RequestError) as found:
        ask(api, Request(QUESTION, Generate()), timeout=0.3)
    assert found.value.retryable
    secretless(found)
    assert len(api.received) == 1, "the driver tries again, not the SDK"


# -- the whole way


def test_turns_go_out_and_come_back_with_what_the_cache_served(api: MessagesApi) -> None:
    api.says = lambda prompt: prompt.rsplit(" ", 1)[-1]
    first, again = [ask(api, Request(shared(0, 1, 2), Generate())) for _ in range(2)]
    assert api.received[0] == wire(second=marked("negative"))
    assert first == Response("fine", finish="end_turn", usage=Usage(6, 0, 1))
    assert again.usage == Usage(6, 4, 1)
    assert api.paths == ["POST /v1/messages"] * 2


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_a_base_url_may_end_in_v1(api: MessagesApi, path: str) -> None:
    opened(f"{api.url}{path}", lambda found: found.send(Request(QUESTION, Generate())))
    assert api.paths == ["POST /v1/messages"]
    assert endpoint(f"{api.url}{path}").identity == f"anthropic:{api.url}|m"


def test_the_key_is_sent_and_found_in_no_log_record(api: MessagesApi, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(api, Request(QUESTION, Generate()))
    assert SECRET in f"{api.headers[0].get('x-api-key')} {api.headers[0].get('authorization')}"
    assert SECRET not in caplog.text


def test_the_key_and_the_address_of_the_environment(api: MessagesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    found = endpoint(api_key=None)

    async def work() -> None:
        await found.check()
        await found.send(Request(QUESTION, Generate()))
        await found.close()

    asyncio.run(work())
    assert api.paths == ["GET /v1/models/m", "POST /v1/messages"]
    assert all(SECRET in str(headers) for headers in api.headers)
    assert api.url not in found.identity
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    assert found.identity != endpoint().identity == "anthropic:|m"


@pytest.mark.parametrize(
    "words",
    [
        "`temperature` is deprecated for this model.",
        "temperature: Extra inputs are not permitted",
        "`temperature` may only be set to 1 when thinking is enabled.",
        'anthropic-version: "2023-06-01" is not a valid version',
    ],
)
def test_a_refused_temperature_is_left_out_from_then_on(
    api: MessagesApi, caplog: pytest.LogCaptureFixture, words: str
) -> None:
    api.script.append(refusal(400, "invalid_request_error", words))

    async def work(found: AnthropicEndpoint) -> list[Response]:
        return [await found.send(Request(QUESTION, Generate())) for _ in range(2)]

    assert [answer.text for answer in opened(api.url, work)] == ["positive"] * 2
    assert ["temperature" in body for body in api.received] == [True, False, False]
    versions = [headers["anthropic-version"] for headers in api.headers]
    assert versions[0] == "2023-06-01", "later versions of the API have no temperature"
    assert versions[1] == versions[2]
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "m takes no temperature; its own is used, so the same question may get two answers"
    ]


def test_a_temperature_out_of_range_is_told(api: MessagesApi) -> None:
    api.script.append(refusal(400, "invalid_request_error", "temperature: range: 0..1"))
    with pytest.raises(RequestError, match="range"):
        ask(api, Request(QUESTION, Generate(Sampling(temperature=2.0))))


@pytest.mark.parametrize("prefill", [True, False])
def test_a_begun_answer_is_sent_and_may_be_refused(api: MessagesApi, prefill: bool) -> None:
    api.prefill = prefill
    request = Request((*QUESTION, Message("assistant", "It is ")), Generate())
    if prefill:
        assert ask(api, request).text == "positive"
        return
    with pytest.raises(RequestError, match="prefill") as found:
        ask(api, request)
    assert not found.value.retryable


# -- errors


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, "authentication_error", f"invalid x-api-key {SECRET}"), "refuses the key (model.api_key)"),
        (refusal(403, "permission_error", f"{SECRET} may not use this"), "refuses the key (model.api_key)"),
        (refusal(404, "not_found_error", "model: m"), "has no model 'm' (model.name)"),
        (refusal(404, "not_found_error", "Not Found"), "is model.base_url right?"),
        (Answer(404, b"404 page not found", content_type="text/plain"), "is model.base_url right?"),
        (Answer(404, b"<html></html>", content_type="text/html"), "answers text/html, not JSON"),
        (refusal(402, "billing_error", "no card"), "may not spend more"),
        (
            refusal(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            "may not spend more",
        ),
        (refusal(403, "permission_error", "Your credit balance is too low"), "may not spend more"),
        (
            refusal(400, "invalid_request_error", "You have reached your specified API usage limits."),
            "may not spend more",
        ),
        (
            Answer(
                429,
                {
                    "type": "error",
                    "error": {
                        "type": "rate_limit_error",
                        "message": "limit",
                        "details": {"error_code": "enforced_spend_limit_reached"},
                    },
                },
            ),
            "may not spend more",
        ),
    ],
)
def test_a_refusal_of_all_requests_is_an_endpoint_error(api: MessagesApi, answer: Answer, words: str) -> None:
    api.script.append(answer)
    with pytest.raises(EndpointError) as found:
        ask(api, Request(QUESTION, Generate()))
    assert words in secretless(found)
    assert api.url in str(found.value)


@pytest.mark.parametrize(
    ("answer", "retryable", "retry_after"),
    [
        pytest.param(refusal(400, "invalid_request_error", "too long"), False, None, id="400"),
        pytest.param(refusal(413, "request_too_large", "too long"), False, None, id="413"),
        pytest.param(refusal(429, "rate_limit_error", "too long", retry_after="7"), True, 7.0, id="429"),
        pytest.param(
            refusal(429, "rate_limit_error", "too long", retry_after="soon"), True, None, id="429 with a date"
        ),
        pytest.param(
            refusal(429, "rate_limit_error", "too long", retry_after="²"), True, None, id="429 with an odd digit"
        ),
        pytest.param(refusal(500, "api_error", "too long"), True, None, id="500"),
        pytest.param(refusal(503, "api_error", "too long", retry_after="0.5"), True, 0.5, id="503"),
        pytest.param(refusal(529, "overloaded_error", "too long"), True, None, id="529"),
        pytest.param(Answer(502, b"<html>too long</html>", content_type="text/html"), True, None, id="502 in HTML"),
        pytest.param(Answer(400, {"error": "too long"}), False, None, id="an error that is a text"),
        pytest.param(Answer(400, ["too long"]), False, None, id="a list"),
    ],
)
def test_a_refusal_of_one_request(api: MessagesApi, answer: Answer, retryable: bool, retry_after: float | None) -> None:
    api.script.append(answer)
    with pytest.raises(RequestError, match="too long") as found:
        ask(api, Request(QUESTION, Generate()))
    assert str(answer.status) in secretless(found)
    assert (found.value.retryable, found.value.retry_after) == (retryable, retry_after)
    assert len(api.received) == 1, "the driver tries again, not the SDK"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_key_is_taken_out_of_the_providers_words(api: MessagesApi, status: int) -> None:
    api.script.append(refusal(status, "some_error", f"debug: Authorization: Bearer {SECRET}"))
    with pytest.raises(IclError) as found:
        ask(api, Request(QUESTION, Generate()))
    assert "Bearer ***" in secretless(found)


def test_the_key_is_taken_out_of_an_unreadable_answer(api: MessagesApi) -> None:
    api.script.append(Answer(body={"debug": f"Bearer {SECRET}"}))
    with pytest.raises(RequestError) as found:
        ask(api, Request(QUESTION, Generate()))
    assert "***" in secretless(found)


def test_a_missing_key_is_told(api: MessagesApi) -> None:
    for work in (lambda found: found.check(), lambda found: found.send(Request(QUESTION, Generate()))):
        with pytest.raises(EndpointError) as found:
            opened(api.url, work, api_key=None)
        assert str(found.value) == "no key for anthropic: set ANTHROPIC_API_KEY, or write api_key: ${NAME}"
    assert api.paths == []


def test_an_address_of_the_environment_with_a_password_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://user:{SECRET}@127.0.0.1:9")
    with pytest.raises(EndpointError, match="ANTHROPIC_BASE_URL has a password") as found:
        opened("", lambda found: found.check())
    secretless(found)
    assert SECRET not in endpoint().identity


@pytest.mark.parametrize("tail", ["\n", " ", "é", "\x00"])
def test_a_key_that_cannot_be_one_is_told(api: MessagesApi, tail: str) -> None:
    with pytest.raises(EndpointError, match="white space") as found:
        check(api.url, api_key=SECRET + tail)
    secretless(found)
    assert api.paths == []


# -- check


def test_the_check_asks_for_the_model_and_for_nothing_that_costs(api: MessagesApi) -> None:
    assert check(api.url) == AnthropicEndpoint.capabilities
    assert api.paths == ["GET /v1/models/m"]


def test_the_check_learns_what_the_api_says_of_the_model(api: MessagesApi) -> None:
    support = {"structured_outputs": {"supported": False}, "image_input": {"supported": True}}
    known = {"type": "model", "id": "m", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}
    api.model = Answer(body={**known, "max_input_tokens": 200000, "capabilities": support})
    expected = Capabilities(
        text=False, chat=True, schema=False, images=True, context=200000, probed=frozenset({"schema", "images"})
    )
    assert check(api.url) == expected

    async def work(found: AnthropicEndpoint) -> Capabilities:
        found.capabilities = replace(found.capabilities, schema=True, probed=frozenset({"schema"}))
        await found.check()
        return found.capabilities

    assert opened(api.url, work) == replace(expected, schema=True), "what was tried stands"


@pytest.mark.parametrize("capabilities", [["completion"], {"structured_outputs": True}, None, "all", {}])
def test_what_another_server_says_of_its_model_is_not_taken_for_it(api: MessagesApi, capabilities: Any) -> None:
    api.model = Answer(body={"id": "m", "capabilities": capabilities, "max_input_tokens": "many"})
    assert check(api.url) == AnthropicEndpoint.capabilities


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, {"error": {"message": "no route GET /v1/models/m"}}),
        Answer(404, b"404 page not found", content_type="text/plain"),
        Answer(405, {"detail": "Method Not Allowed"}),
        refusal(404, "not_found_error", "Not Found"),
        refusal(429, "rate_limit_error", "slowly"),
        refusal(500, "api_error", "no"),
        Answer(502, b"<html></html>", content_type="text/html"),
    ],
)
def test_a_server_that_does_not_say_whether_it_has_the_model_is_used(api: MessagesApi, answer: Answer) -> None:
    api.model = answer
    assert check(api.url) == AnthropicEndpoint.capabilities


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, "authentication_error", f"invalid x-api-key {SECRET}"), "refuses the key (model.api_key)"),
        (refusal(403, "permission_error", "no"), "refuses the key (model.api_key)"),
        (refusal(404, "not_found_error", "model: m"), "has no model 'm' (model.name)"),
        (refusal(400, "invalid_request_error", "Your credit balance is too low"), "may not spend more"),
        (Answer(200, b"<html></html>", content_type="text/html"), "not JSON"),
        (Answer(200, b"<html></html>"), "not JSON"),
        (Answer(200, b"[]"), "not JSON"),
        (Answer(404, b"<html></html>", content_type="text/html; charset=utf-8"), "not JSON"),
    ],
)
def test_the_check_finds_what_no_request_would_survive(api: MessagesApi, answer: Answer, words: str) -> None:
    api.model = answer
    with pytest.raises(EndpointError) as found:
        check(api.url)
    assert words in secretless(found)
    assert api.url in str(found.value)
    assert api.received == []


def test_nothing_listening_is_an_endpoint_error_and_worth_no_wait() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(EndpointError, match=f"nothing answers at {url}") as found:
            check(url)
        assert "ConnectError" in secretless(found)


# -- the spec


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://h", "http://user:password@h", "http://", "http://[::1", "http://h:99999"]
)
def test_a_base_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|password"):
        Anthropic(base_url=url, name="m")


def test_the_spec_and_the_endpoint_show_no_key() -> None:
    spec = Anthropic(name="m", api_key=SECRET)
    assert SECRET not in repr(spec) + str(spec) + repr(spec.connect()) + spec.connect().identity
    assert (spec.title, spec.api) == ("m", "chat")
    assert (spec.connect().identity, Anthropic(name="m", identity="x").connect().identity) == ("anthropic:|m", "x|m")


def test_what_is_found_out_can_be_set_for_one_endpoint() -> None:
    one, other = endpoint(), endpoint()
    one.capabilities = replace(one.capabilities, schema=False)
    assert other.capabilities.schema


def test_the_sdk_is_imported_at_the_first_request_only() -> None:
    code = (
        "import sys; from icl_engine.models.anthropic import Anthropic; Anthropic(name='m').connect(); "
        "assert not {'anthropic', 'httpx', 'httpx2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- under the driver


def test_the_driver_tries_again_as_the_api_asks(api: MessagesApi) -> None:
    api.script.extend([refusal(429, "rate_limit_error", "slowly", retry_after="0.05"), Answer(reset=True)])

    def steps() -> Steps[str]:
        (answer,) = yield [Request(QUESTION, Generate())]
        return answer.text

    async def work() -> tuple[str, int, int]:
        driver = Driver(endpoint(api.url))
        text, _ = await driver.drive(steps())
        await driver.close()
        return text, driver.counts.paid, driver.counts.retries

    assert asyncio.run(work()) == ("positive", 1, 2)
    assert api.paths == ["GET /v1/models/m", *["POST /v1/messages"] * 3]


# -- in a run


def model(api: MessagesApi) -> dict[str, Any]:
    return {"use": "anthropic", "base_url": api.url, "name": "m", "api_key": "${SOME_KEY}"}


LABELS = {"positive": "positive", "negative": "negative"}
TONE = {"template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"}, "instruction": "Judge."}


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)


@pytest.mark.usefixtures("_key")
@pytest.mark.parametrize("shown", [{"use": "fixed", "items": [{"text": "dull", "label": "negative"}]}, None])
def test_a_run_reads_text_and_has_the_api_keep_what_rows_share(
    api: MessagesApi, write_task: Callable[..., Path], shown: Any
) -> None:
    import icl_engine as icl

    result = icl.run(write_task(model=model(api), input={**TONE, "demonstrations": shown}), out="out")
    assert result.metrics["accuracy"].value == 0.5
    assert (result.failed, result.summary["usage"]["paid"], result.summary["scoring"]["method"]) == (0, 6, "text")
    for body in api.received:
        marks = [part for part in blocks(body["system"]) if MARK.items() <= part.items()]
        marks += [part for m in body["messages"] for part in blocks(m["content"]) if MARK.items() <= part.items()]
        assert [part["text"] for part in marks] == ["negative" if shown else "Judge."]
    read = [body["usage"]["cache_read_input_tokens"] for body in api.answered]
    assert result.summary["usage"]["cached_prompt_tokens"] == sum(read) > 0


@pytest.mark.usefixtures("_key")
def test_the_best_label_is_read_from_constrained_generation(api: MessagesApi, write_task: Callable[..., Path]) -> None:
    import icl_engine as icl

    output = [{"use": "verbalizer", "labels": LABELS, "read": "scores"}]
    result = icl.run(write_task(model=model(api), input=TONE, output=output), out="out")
    assert (result.failed, result.summary["scoring"]["method"]) == (0, "constrained")
    assert result.metrics["accuracy"].value == 0.5
    shapes = [body["output_config"]["format"]["schema"]["properties"] for body in api.received[-6:]]
    assert shapes == [{"label": {"type": "string", "enum": list(LABELS)}}] * 6


@pytest.mark.usefixtures("_key")
def test_a_distribution_is_read_from_votes(api: MessagesApi, write_task: Callable[..., Path]) -> None:
    import icl_engine as icl

    output = [{"use": "verbalizer", "labels": LABELS, "samples": 3}, {"use": "batch_calibration"}]
    result = icl.run(write_task(model=model(api), input=TONE, output=output), out="out")
    assert (result.failed, result.summary["scoring"]["method"]) == (0, "votes")
    votes = api.received[-18:]
    assert all("temperature" not in body for body in votes), "its own, 1"


@pytest.mark.usefixtures("_key")
def test_a_schema_is_kept_while_the_model_writes(api: MessagesApi, write_task: Callable[..., Path]) -> None:
    import icl_engine as icl

    shape = {"type": "object", "properties": {"tone": {"enum": list(LABELS)}}, "required": ["tone"]}
    output = [{"use": "json", "schema": shape}]
    result = icl.run(write_task(model=model(api), input=TONE, output=output, metrics=[]), out="out")
    assert [line["prediction"] for line in result.predictions] == [{"tone": "positive"}] * 6


@pytest.mark.usefixtures("_key")
def test_images_of_rows_and_demonstrations_travel_in_blocks(
    api: MessagesApi, write_task: Callable[..., Path], tmp_path: Path
) -> None:
    import icl_engine as icl

    raw = [b"\x89PNG\r\n\x1a\n" + bytes([i]) * 9 for i in range(2)]
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(raw[i])
    rows = [{"image": "1.png", "label": "positive"}, {"image": "https://example.org/b.jpg", "label": "negative"}]
    shown = {"use": "fixed", "items": [{"image": "0.png", "label": "negative"}]}
    template = {"inline": "{{ image }}\nTone: {{ answer }}"}
    task = write_task(model=model(api), test=rows, input={"template": template, "demonstrations": shown})
    assert icl.run(task, out="out").failed == 0
    # Whether images are looked at was asked before, by another prompt.
    received = [body for body in api.received if "Name a colour." not in str(body["messages"])]
    sources = [
        [b["source"] for m in body["messages"] for b in blocks(m["content"]) if "source" in b] for body in received
    ]
    first, one = [{"type": "base64", "media_type": "image/png", "data": base64.b64encode(r).decode()} for r in raw]
    assert sorted(sources, key=str) == [[first, one], [first, {"type": "url", "url": rows[1]["image"]}]]
    marks = [[b for m in body["messages"] for b in blocks(m["content"]) if "cache_control" in b] for body in received]
    assert marks == [[{"type": "text", "text": "negative", **MARK}]] * 2


def test_a_refused_key_ends_the_run_in_one_line(
    api: MessagesApi, write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    api.model = refusal(401, "authentication_error", f"invalid key {SECRET}")
    process = start("run", write_task(model=model(api)), "--out", "out", SOME_KEY=SECRET)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert "refuses the key (model.api_key)" in err
    assert SECRET not in out + err
    assert api.received == []
    assert not (tmp_path / "out").exists()


def test_the_key_is_in_no_file_and_no_output(
    api: MessagesApi, write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    api.script.append(refusal(400, "invalid_request_error", f"no: {SECRET}"))
    process = start("run", write_task(model=model(api)), "--out", "out", SOME_KEY=SECRET)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert SECRET in str(api.headers)
    assert SECRET not in out + err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"manifest.json", "answers.jsonl", "predictions.jsonl", "summary.json"} <= {path.name for path in written}
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert "${SOME_KEY}" in Path("out/manifest.json").read_text()


@pytest.mark.usefixtures("_key")
def test_completions_are_refused_when_the_task_is_loaded(api: MessagesApi, write_task: Callable[..., Path]) -> None:
    import icl_engine as icl

    with pytest.raises(TaskError, match="anthropic does not take completions; use chat"):
        icl.load(write_task(model={**model(api), "api": "completions"}))
    assert api.paths == []
