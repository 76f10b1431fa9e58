"""What goes over the wire to OpenAI's API through its own SDK, and what is made of what comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.server import Reply, StandIn, html, scores

from icl_engine.errors import EndpointError, NoLogprobsError, RequestError
from icl_engine.models.openai import OpenAI, OpenAIEndpoint
from icl_engine.types import (
    Continuation,
    Generate,
    Image,
    Message,
    NextToken,
    Place,
    Request,
    Response,
    Sampling,
    Spelling,
    Usage,
)

TURNS = (Message("system", "Judge."), Message("user", "Review: fine"))
MESSAGES = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Review: fine"}]
SECRET = "sk-very-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
DRAWN = Generate(Sampling(temperature=1.0))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


def endpoint(url: str | None = "http://127.0.0.1:9/v1", **keys: Any) -> OpenAIEndpoint:
    return OpenAI(**{"base_url": url, "name": "m", "api_key": SECRET, **keys}).connect()


def ask_all(opened: OpenAIEndpoint, requests: Sequence[Request], *, checked: bool = False) -> list[Any]:
    """The answers or errors."""

    async def once() -> list[Any]:
        try:
            if checked:
                await opened.check()
            return await asyncio.gather(*map(opened.send, requests), return_exceptions=True)
        finally:
            await opened.close()

    return asyncio.run(once())


def ask(server: StandIn, request: Request, **keys: Any) -> Response:
    (answer,) = ask_all(endpoint(server.url, **keys), [request])
    if isinstance(answer, BaseException):
        raise answer
    assert isinstance(answer, Response)
    return answer


def check(url: str | None, **keys: Any) -> OpenAIEndpoint:
    opened = endpoint(url, **keys)
    ask_all(opened, [], checked=True)
    return opened


def text(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "prompt": "Hi", **fields}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": MESSAGES, **fields}


@pytest.mark.parametrize(
    ("request_", "keys", "body"),
    [
        pytest.param(Request(TURNS, Generate()), {}, chat(max_completion_tokens=256, temperature=0.0), id="chat"),
        pytest.param(Request("Hi", Generate()), {}, text(max_tokens=256, temperature=0.0), id="text"),
        pytest.param(
            Request(TURNS, NextToken(20)),
            {},
            chat(max_completion_tokens=1, temperature=0, logprobs=True, top_logprobs=20),
            id="next token",
        ),
        pytest.param(
            Request("Hi", NextToken(5, (), " the", 2)),
            {},
            {"model": "m", "prompt": "Hi the", "max_tokens": 2, "temperature": 0, "logprobs": 5},
            id="next tokens of text that is begun",
        ),
        pytest.param(
            Request(TURNS, Generate(Sampling(8, 0.7, ("\n",), 5)), sample=3),
            {},
            chat(max_completion_tokens=8, temperature=0.7, stop=["\n"], seed=8),
            id="sampling; sample i is sent with seed + i",
        ),
        pytest.param(
            Request(TURNS, Generate(schema=SCHEMA)),
            {},
            chat(
                max_completion_tokens=256,
                temperature=0.0,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                },
            ),
            id="schema",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"reasoning_effort": "low"},
            chat(max_completion_tokens=256, temperature=0.0, reasoning_effort="low"),
            id="reasoning effort",
        ),
        pytest.param(
            Request((Message("user", ("x", Image("a.png", data=b"1", media_type="image/png"))),), Generate()),
            {},
            {
                "model": "m",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "x"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,MQ=="}},
                        ],
                    }
                ],
                "max_completion_tokens": 256,
                "temperature": 0.0,
            },
            id="image",
        ),
    ],
)
def test_the_body_of_a_request(server: StandIn, request_: Request, keys: dict[str, Any], body: dict[str, Any]) -> None:
    assert endpoint(**keys).body(request_) == body
    answer = ask(server, request_, **keys)
    assert answer.text
    assert server.received == [body]  # the SDK adds nothing
    assert server.paths == [f"POST /v1/{'chat/' if 'messages' in body else ''}completions"]


@pytest.mark.parametrize(
    "request_",
    [
        Request("Hi", Continuation(" a")),
        Request("Hi", Spelling((" a",))),
        Request(TURNS, NextToken(0, (7,), ())),
        Request(TURNS, NextToken(5, (), (7,))),
        Request(TURNS, NextToken(5, (), ())),
        Request(TURNS, NextToken(5, (), "pos")),
        Request(TURNS, Generate(grammar='root ::= "a"')),
        Request(TURNS, Generate(choices=("a", "b"))),
        Request("Hi", Generate(schema=SCHEMA)),
    ],
)
def test_what_the_api_cannot_give_is_refused_before_it_is_sent(server: StandIn, request_: Request) -> None:
    with pytest.raises(RequestError, match="the OpenAI API") as found:
        ask(server, request_)
    assert not found.value.retryable
    assert server.paths == []


def test_images_travel_in_turns_only(server: StandIn) -> None:
    shown = (Message("user", ("x", Image("a.png", data=b"1", media_type="image/png"))),)
    with pytest.raises(EndpointError, match="use api: chat"):
        ask(server, Request(shown, Generate()), api="completions")


FIGURES = {
    "content": [
        {
            "token": "b",
            "logprob": -0.5,
            "bytes": [98],
            "top_logprobs": [
                {"token": "b", "logprob": -0.5, "bytes": [98]},
                {"token": "a", "logprob": -2.5, "bytes": [97]},
            ],
        }
    ]
}


@pytest.mark.parametrize(
    ("request_", "answer", "read"),
    [
        pytest.param(
            Request(TURNS, Generate()),
            {
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            },
            Response("x", finish="stop", usage=Usage(9, 4, 2)),
            id="chat, usage with cached tokens",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}], "usage": None},
            Response("No.", finish="stop"),
            id="a refusal",
        ),
        pytest.param(
            Request(TURNS, NextToken(2)),
            {"choices": [{"message": {"content": "b"}, "finish_reason": "length", "logprobs": FIGURES}]},
            Response("b", places=(Place("b", {"b": -0.5, "a": -2.5}, -2.5),), finish="length"),
            id="log-probabilities",
        ),
        pytest.param(
            Request("Hi", Generate()),
            {"choices": [{"text": " x", "index": 0, "logprobs": None, "finish_reason": "length"}]},
            Response(" x", finish="length"),
            id="completion",
        ),
    ],
)
def test_the_reading_of_an_answer(server: StandIn, request_: Request, answer: dict[str, Any], read: Response) -> None:
    server.script.append(Reply(body=json.dumps(answer).encode()))
    assert ask(server, request_) == read


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_label_scores_are_the_servers_own(server: StandIn, api: str) -> None:
    prompt: Any = "Review: a\nSentiment:" if api == "completions" else TURNS
    lead = " " if api == "completions" else ""
    shown = prompt if isinstance(prompt, str) else "\n".join(f"{m.role}: {m.text}" for m in prompt)
    found = ask(server, Request(prompt, NextToken(5)), api=api).places[0]
    assert found.seen == scores(shown, (f"{lead}positive", f"{lead}negative"))


def test_log_probabilities_left_out_are_told(server: StandIn) -> None:
    server.logprobs = False
    with pytest.raises(NoLogprobsError, match="left out") as found:
        ask(server, Request(TURNS, NextToken(5)))
    assert not found.value.retryable


# -- who is asked, and as whom


def test_the_key_and_the_organization(server: StandIn) -> None:
    ask(server, Request(TURNS, Generate()), organization="org-1")
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert server.headers[0]["openai-organization"] == "org-1"


def test_the_key_and_the_address_may_stand_in_the_environment(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    opened = endpoint(None, api_key=None)
    assert isinstance(ask_all(opened, [Request(TURNS, Generate())])[0], Response)
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert server.url not in opened.identity
    assert SECRET not in opened.identity


@pytest.mark.parametrize(
    ("keys", "identity"),
    [
        ({"base_url": None}, "openai:|m"),
        ({"base_url": "http://h/v1/"}, "openai:http://h/v1|m"),
        ({"base_url": "http://h/v1", "identity": "mine"}, "mine|m"),
    ],
)
def test_the_identity(keys: dict[str, Any], identity: str) -> None:
    assert OpenAI(name="m", api_key=SECRET, **keys).connect().identity == identity


def test_servers_of_different_environments_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {OpenAI(name="m").connect().identity}
    for url in ("http://a/v1", "http://b/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        seen.add(OpenAI(name="m").connect().identity)
    assert len(seen) == 3


def test_no_key_is_told_in_one_line() -> None:
    with pytest.raises(EndpointError, match=r"^no key for openai: set OPENAI_API_KEY, or write api_key: \$\{NAME\}$"):
        check(None, api_key=None)


def test_a_key_that_is_none_is_not_quoted() -> None:
    with pytest.raises(EndpointError, match="white space or letters") as found:
        check("http://127.0.0.1:9/v1", api_key=f"{SECRET}\n")
    assert SECRET not in str(found.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://h/v1", "http://user:password@h/v1", "http://"])
def test_a_base_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|password"):
        OpenAI(name="m", base_url=url)


def test_the_key_is_in_no_repr_and_no_log_record(server: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    assert SECRET not in repr(OpenAI(name="m", api_key=SECRET))
    image = Image("a.png", data=b"seen by nobody", media_type="image/png")
    with caplog.at_level(logging.DEBUG):
        ask(server, Request((Message("user", (image,)),), Generate()))
    assert SECRET not in caplog.text
    assert "c2VlbiBieSBub2JvZHk" not in caplog.text


# -- check


def test_a_check_costs_nothing_and_learns_the_context(server: StandIn) -> None:
    server.models = [{"id": "m", "context_window": 128}]
    assert check(server.url).capabilities.context == 128
    assert server.paths == ["GET /v1/models"]


def test_a_server_without_a_list_is_used(server: StandIn) -> None:
    server.models = None
    assert check(server.url).capabilities.context is None
    assert isinstance(ask_all(endpoint(server.url), [Request(TURNS, Generate())], checked=True)[0], Response)


def test_nothing_listening_is_an_endpoint_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=f"nothing answers at {url} "):
            check(url)


def test_a_web_page_is_no_api(server: StandIn) -> None:
    server.html = True
    with pytest.raises(EndpointError, match="answers text/html, not JSON"):
        check(server.url)


def test_a_refused_key_is_noticed_at_once(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.server.html", lambda: Reply(401, message=f"bad key {SECRET}"))
    server.html = True
    with pytest.raises(EndpointError, match="bad key") as found:
        check(server.url)
    assert SECRET not in str(found.value)


# -- refusals


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(401, message=f"Incorrect API key: {SECRET}"), "refuses the key"),
        (Reply(403, message="no"), "refuses the key"),
        (Reply(404, message="The model `m` does not exist"), "has no model 'm' .* did you mean 'mm'"),
        (Reply(429, b'{"error": {"message": "quota", "code": "insufficient_quota"}}'), "may not spend more"),
        (Reply(402, message="credits"), "may not spend more"),
    ],
)
def test_what_no_request_survives(server: StandIn, reply: Reply, says: str) -> None:
    server.models = [{"id": "mm"}]
    server.script.append(reply)
    (found,) = ask_all(endpoint(server.url), [Request(TURNS, Generate())], checked=True)
    assert isinstance(found, EndpointError)
    with pytest.raises(EndpointError, match=says):
        raise found
    assert server.url in str(found)
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("reply", "retryable", "retry_after"),
    [
        pytest.param(Reply(400, message="too long"), False, None, id="400"),
        pytest.param(Reply(422, message="too long"), False, None, id="422"),
        pytest.param(Reply(403, message="too long; not allowed to request logprobs"), False, None, id="logprobs"),
        pytest.param(Reply(429, message="too long", retry_after="7"), True, 7.0, id="429 with retry-after"),
        pytest.param(Reply(500, message="too long"), True, None, id="500"),
        pytest.param(Reply(502, b"<html>too long</html>", content_type="text/html"), True, None, id="502 in HTML"),
        pytest.param(Reply(200, b'{"error": {"message": "too long"}}'), True, None, id="an error with 200"),
    ],
)
def test_a_refusal_of_one_request(server: StandIn, reply: Reply, retryable: bool, retry_after: float | None) -> None:
    server.script.append(reply)
    with pytest.raises(RequestError, match="too long") as found:
        ask(server, Request(TURNS, Generate()))
    assert (found.value.retryable, found.value.retry_after) == (retryable, retry_after)
    assert len(server.received) == 1  # the SDK does not retry: the driver does


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(reset=True), id="reset"),
        pytest.param(Reply(body=b""), id="empty"),
        pytest.param(Reply(body=b'{"choices": ['), id="cut off"),
        pytest.param(Reply(body=b'{"choices": []}'), id="no choice"),
        pytest.param(Reply(body=b'{"choices": null}'), id="null choices"),
        pytest.param(Reply(body=b'{"choices": [{}]}'), id="an empty choice"),
        pytest.param(Reply(body=b'{"choices": [{"message": {"content": 3}}]}'), id="a number for a text"),
        pytest.param(Reply(body=b'{"error": null}'), id="no choices"),
        pytest.param(Reply(body=b"[]"), id="a list"),
        pytest.param(Reply(body=b"\xff\xfe"), id="bytes"),
        pytest.param(Reply(body=f"debug: Bearer {SECRET}".encode()), id="the key"),
        pytest.param(html(), id="html"),
    ],
)
def test_an_unreadable_answer_is_worth_another_try(server: StandIn, reply: Reply) -> None:
    server.script.append(reply)
    with pytest.raises(RequestError) as found:
        ask(server, Request(TURNS, Generate()))
    assert found.value.retryable
    assert "\n" not in str(found.value)
    assert SECRET not in str(found.value)


def test_a_prompt_that_is_no_unicode_is_told(server: StandIn) -> None:
    with pytest.raises(RequestError, match="cannot be sent") as found:
        ask(server, Request((Message("user", "a \ud800 b"),), Generate()))
    assert not found.value.retryable


def test_a_timeout_is_worth_another_try(server: StandIn) -> None:
    server.latency = lambda _: 1.0
    with pytest.raises(RequestError, match=f"no answer from {server.url} ") as found:
        ask(server, Request(TURNS, Generate()), timeout=0.1)
    assert found.value.retryable


# -- models that refuse a field


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        "Unrecognized request argument supplied: temperature",
    ],
)
def test_a_field_that_a_model_refuses_is_left_out_from_then_on(
    server: StandIn, caplog: pytest.LogCaptureFixture, words: str
) -> None:
    server.unsupported = {"temperature": words}
    opened = endpoint(server.url)
    requests = [Request((Message("user", str(i)),), Generate()) for i in range(3)]

    async def run() -> list[Response]:
        first = await asyncio.gather(*map(opened.send, requests))
        then = [await opened.send(request) for request in requests]
        await opened.close()
        return [*first, *then]

    assert all(answer.text for answer in asyncio.run(run()))
    assert ["temperature" in body for body in server.received[-3:]] == [False] * 3
    assert len(server.received) <= 9
    (said,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert said.getMessage().startswith("m takes no temperature; its own is used")


def test_several_fields_are_left_out_one_after_the_other(server: StandIn) -> None:
    server.unsupported = {
        name: f"Unsupported parameter: '{name}' is not supported with this model."
        for name in ("temperature", "stop", "seed")
    }
    request = Request(TURNS, Generate(Sampling(temperature=0.5, stop=("x",), seed=1)))
    assert ask(server, request).text
    assert server.received[-1] == chat(max_completion_tokens=256)


def test_a_stop_that_a_model_refuses_is_applied_here(server: StandIn) -> None:
    server.unsupported = {"stop": "Unsupported parameter: 'stop' is not supported with this model."}
    server.words = ("positive|Review:next", "positive|Review:other")
    found = ask(server, Request(TURNS, Generate(Sampling(stop=("zz", "|", "tive|R")))))
    assert (found.text, found.finish) == ("posi", "stop")


def test_a_model_without_log_probabilities_is_told_by_a_request_error(server: StandIn) -> None:
    server.unsupported = {
        "temperature": "Unsupported parameter: 'temperature' is not supported with this model.",
        "logprobs": "Unsupported parameter: 'logprobs' is not supported with this model.",
    }
    with pytest.raises(RequestError, match="'logprobs' is not supported") as found:
        ask(server, Request(TURNS, NextToken(5)))
    assert not found.value.retryable


def test_a_value_that_is_wrong_is_no_field_that_is_refused(server: StandIn) -> None:
    error = {"message": "Invalid 'temperature': above the maximum", "param": "temperature", "code": "above_max_value"}
    server.script.append(Reply(400, json.dumps({"error": error}).encode()))
    with pytest.raises(RequestError, match="above the maximum"):
        ask(server, Request(TURNS, Generate(Sampling(temperature=3.0))))
    assert len(server.received) == 1


# -- samples


def test_samples_of_a_prompt_travel_together(server: StandIn) -> None:
    server.samples = True
    answers = ask_all(endpoint(server.url), [Request(TURNS, DRAWN, i) for i in range(3)])
    (body,) = server.received
    assert body["n"] == 3
    ranked = list(scores("system: Judge.\nuser: Review: fine", ("positive", "negative")))
    assert [answer.text for answer in answers] == [ranked[0], ranked[1], ranked[0]]
    assert sum((answer.usage for answer in answers), Usage()) == Usage(5, 0, 3)


@pytest.mark.parametrize("readout", [Generate(Sampling(temperature=1.0, seed=3)), Generate()], ids=["seeded", "greedy"])
def test_what_is_not_drawn_freely_travels_alone(server: StandIn, readout: Generate) -> None:
    server.samples = True
    ask_all(endpoint(server.url), [Request(TURNS, readout, i) for i in range(3)])
    assert [body.get("n") for body in server.received] == [None] * 3


def test_samples_travel_alone_where_probing_said_so(server: StandIn) -> None:
    opened = endpoint(server.url)
    opened.capabilities = replace(opened.capabilities, samples=False)
    ask_all(opened, [Request(TURNS, DRAWN, i) for i in range(2)])
    assert [body.get("n") for body in server.received] == [None] * 2


def test_a_gateway_that_ignores_n_is_asked_for_the_rest(server: StandIn) -> None:
    answers = ask_all(endpoint(server.url), [Request(TURNS, DRAWN, i) for i in range(3)])
    assert all(answer.text for answer in answers)
    assert [body.get("n") for body in server.received] == [3, None, None]


# -- what it can give


def test_what_is_declared() -> None:
    can = endpoint().capabilities
    assert (can.text, can.chat, can.top_logprobs, can.named, can.spelling, can.prefill) == (
        False,
        True,
        20,
        0,
        False,
        False,
    )
    assert (can.schema, can.samples, can.seed, can.images, can.grammar, can.choice) == (
        True,
        True,
        True,
        True,
        False,
        False,
    )
    base = endpoint(api="completions").capabilities
    assert (base.text, base.chat, base.top_logprobs, base.schema, base.images) == (True, False, 5, False, False)
    assert {"top_logprobs", "schema", "samples"} <= endpoint().uncertain


def test_the_sdk_is_loaded_only_when_it_is_needed() -> None:
    code = (
        "import sys; from icl_engine.models.openai import OpenAI; from icl_engine.models.vllm import Vllm;"
        "OpenAI(name='m').connect(); Vllm(base_url='http://h/v1', name='m').connect();"
        "print([m for m in ('openai', 'httpx', 'httpx2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
