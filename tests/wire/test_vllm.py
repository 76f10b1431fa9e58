"""What goes over the wire to an OpenAI-compatible server, and what is made of what comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.server import HTML, Reply, StandIn, html, scores

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.vllm import Vllm, VllmEndpoint
from icl_engine.types import Generate, Message, NextToken, Request, Response, Sampling, Usage

TURNS = (Message("system", "Judge."), Message("user", "Review: fine"))
MESSAGES = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Review: fine"}]
SECRET = "sk-very-secret-0123456789"


def endpoint(url: str = "http://127.0.0.1:9/v1", **keys: Any) -> VllmEndpoint:
    return Vllm(base_url=url, name="m", **keys).connect()


def ask(server: StandIn, request: Request, **keys: Any) -> Response:
    async def once() -> Response:
        opened = endpoint(server.url, **keys)
        try:
            return await opened.send(request)
        finally:
            await opened.close()

    return asyncio.run(once())


def check(url: str, **keys: Any) -> None:
    async def once() -> None:
        opened = endpoint(url, **keys)
        try:
            await opened.check()
        finally:
            await opened.close()

    asyncio.run(once())


def model(server: StandIn, **keys: Any) -> dict[str, Any]:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        pytest.param(
            Request("Hi", Generate()),
            {"model": "m", "prompt": "Hi", "max_tokens": 256, "temperature": 0.0},
            id="text",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"model": "m", "messages": MESSAGES, "max_tokens": 256, "temperature": 0.0},
            id="chat",
        ),
        pytest.param(
            Request("Hi", NextToken(20)),
            {"model": "m", "prompt": "Hi", "max_tokens": 1, "temperature": 0, "logprobs": 20},
            id="next token",
        ),
        pytest.param(
            Request(TURNS, NextToken(5)),
            {
                "model": "m",
                "messages": MESSAGES,
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": 5,
            },
            id="next token by chat",
        ),
        pytest.param(
            Request("Hi", Generate(Sampling(max_tokens=8, stop=("\n", "Q:")))),
            {"model": "m", "prompt": "Hi", "max_tokens": 8, "temperature": 0.0, "stop": ["\n", "Q:"]},
            id="stop",
        ),
        pytest.param(
            Request("Hi", Generate(Sampling(temperature=0.7, seed=5)), sample=3),
            {"model": "m", "prompt": "Hi", "max_tokens": 256, "temperature": 0.7, "seed": 8},
            id="sample i is sent with seed + i",
        ),
        pytest.param(
            Request("Hi", Generate(schema={"type": "object"})),
            {
                "model": "m",
                "prompt": "Hi",
                "max_tokens": 256,
                "temperature": 0.0,
                "structured_outputs": {"json": {"type": "object"}},
            },
            id="schema",
        ),
        pytest.param(
            Request("Hi", Generate(grammar='root ::= "a"')),
            {
                "model": "m",
                "prompt": "Hi",
                "max_tokens": 256,
                "temperature": 0.0,
                "structured_outputs": {"grammar": 'root ::= "a"'},
            },
            id="grammar",
        ),
    ],
)
def test_the_body_of_a_request(request_: Request, body: dict[str, Any]) -> None:
    assert endpoint().body(request_) == body


def test_a_probe_and_a_main_question_look_the_same_on_the_wire() -> None:
    request = Request("Hi", NextToken(20))
    assert endpoint().body(request) == endpoint().body(replace(request, role="probe"))


@pytest.mark.parametrize(
    ("request_", "answer", "read"),
    [
        pytest.param(
            Request("Hi", Generate()),
            {"choices": [{"text": " there", "finish_reason": "stop", "logprobs": None}]},
            Response(" there", (), "stop"),
            id="completion",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"choices": [{"message": {"content": "there"}, "finish_reason": "length"}]},
            Response("there", (), "length"),
            id="chat",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]},
            Response("", (), "stop"),
            id="chat without content",
        ),
        pytest.param(
            Request("Hi", NextToken(2)),
            {
                "choices": [
                    {"text": " b", "finish_reason": "length", "logprobs": {"top_logprobs": [{" a": -2.5, " b": -0.5}]}}
                ]
            },
            Response(" b", ((" b", -0.5), (" a", -2.5)), "length"),
            id="log-probabilities, the likeliest first",
        ),
        pytest.param(
            Request(TURNS, NextToken(2)),
            {
                "choices": [
                    {
                        "message": {"content": "b"},
                        "finish_reason": "length",
                        "logprobs": {
                            "content": [
                                {
                                    "token": "b",
                                    "logprob": -0.5,
                                    "top_logprobs": [
                                        {"token": "a", "logprob": -2.5},
                                        {"token": "b", "logprob": -0.5},
                                    ],
                                }
                            ]
                        },
                    }
                ]
            },
            Response("b", (("b", -0.5), ("a", -2.5)), "length"),
            id="log-probabilities by chat",
        ),
        pytest.param(
            Request("Hi", NextToken(2)),
            {
                "choices": [
                    {
                        "text": " b",
                        "finish_reason": "length",
                        "logprobs": {
                            "content": [
                                {"top_logprobs": [{"id": 7, "token": " b", "bytes": [32, 98], "logprob": -0.5}]},
                            ]
                        },
                    }
                ]
            },
            Response(" b", ((" b", -0.5),), "length"),
            id="llama.cpp: chat-shaped log-probabilities of a completion",
        ),
        pytest.param(
            Request("Hi", NextToken(2)),
            {"choices": [{"text": " b", "finish_reason": "length", "logprobs": None}]},
            Response(" b", (), "length"),
            id="log-probabilities left out",
        ),
        pytest.param(
            Request("Hi", Generate()),
            {
                "choices": [{"text": "x", "finish_reason": None}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            },
            Response("x", (), None, Usage(9, 4, 2)),
            id="usage with cached tokens",
        ),
        pytest.param(
            Request("Hi", Generate()),
            {
                "choices": [{"text": "x", "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None},
            },
            Response("x", (), "stop", Usage(9, 0, 0)),
            id="usage with nulls",
        ),
    ],
)
def test_the_reading_of_an_answer(server: StandIn, request_: Request, answer: dict[str, Any], read: Response) -> None:
    server.script.append(Reply(body=json.dumps(answer).encode()))
    assert ask(server, request_) == read


@pytest.mark.parametrize(
    ("prompt", "path"), [("Hi", "POST /v1/completions"), (TURNS, "POST /v1/chat/completions")], ids=["text", "chat"]
)
def test_the_route_and_the_key(server: StandIn, prompt: Any, path: str) -> None:
    ask(server, Request(prompt, Generate()), api_key=SECRET)
    assert server.paths == [path]
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert server.headers[0]["content-type"] == "application/json"


def test_without_a_key_none_is_sent(server: StandIn) -> None:
    ask(server, Request("Hi", Generate()))
    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_all_requests_is_an_endpoint_error(server: StandIn, status: int) -> None:
    server.script.append(Reply(status, message=f"the key {SECRET} may not use model m"))
    with pytest.raises(EndpointError) as found:
        ask(server, Request("Hi", Generate()), api_key=SECRET)
    said = str(found.value)
    assert "may not use model m" in said
    assert server.url in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("reply", "retryable", "retry_after"),
    [
        pytest.param(Reply(400, message="too long"), False, None, id="400"),
        pytest.param(Reply(422, message="too long"), False, None, id="422"),
        pytest.param(Reply(429, message="too long", retry_after="7"), True, 7.0, id="429 with retry-after"),
        pytest.param(Reply(429, message="too long", retry_after="soon"), True, None, id="429 with a date"),
        pytest.param(Reply(500, message="too long"), True, None, id="500"),
        pytest.param(Reply(503, message="too long", retry_after="0.5"), True, 0.5, id="503"),
        pytest.param(Reply(502, b"<html>too long</html>", content_type="text/html"), True, None, id="502 in HTML"),
        pytest.param(Reply(400, b'{"object": "error", "message": "too long"}'), False, None, id="vLLM's shape"),
        pytest.param(Reply(400, b'{"error": "too long"}'), False, None, id="Ollama's shape"),
        pytest.param(Reply(400, b'["too long"]'), False, None, id="a list"),
    ],
)
def test_a_refusal_of_one_request(server: StandIn, reply: Reply, retryable: bool, retry_after: float | None) -> None:
    server.script.append(reply)
    with pytest.raises(RequestError, match="too long") as found:
        ask(server, Request("Hi", Generate()))
    assert str(reply.status) in str(found.value)
    assert (found.value.retryable, found.value.retry_after) == (retryable, retry_after)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(reset=True), id="reset"),
        pytest.param(Reply(body=b""), id="empty"),
        pytest.param(Reply(body=b'{"choices": ['), id="cut off"),
        pytest.param(Reply(body=b'{"choices": []}'), id="no choice"),
        pytest.param(Reply(body=b'{"choices": null}'), id="null choices"),
        pytest.param(Reply(body=b'{"choices": [{}]}'), id="an empty choice"),
        pytest.param(Reply(body=b'{"error": null}'), id="no choices"),
        pytest.param(Reply(body=b"[]"), id="a list"),
        pytest.param(Reply(body=b"\xff\xfe"), id="bytes"),
        pytest.param(html(), id="html"),
    ],
)
def test_an_unreadable_answer_is_worth_another_try(server: StandIn, reply: Reply) -> None:
    server.script.append(reply)
    with pytest.raises(RequestError) as found:
        ask(server, Request("Hi", Generate()))
    assert found.value.retryable
    assert "\n" not in str(found.value)


def test_the_key_is_taken_out_of_an_unreadable_answer(server: StandIn) -> None:
    server.script.append(Reply(body=f"debug: Authorization: Bearer {SECRET}".encode()))
    with pytest.raises(RequestError) as found:
        ask(server, Request("Hi", Generate()), api_key=SECRET)
    assert SECRET not in str(found.value)


def test_the_key_is_in_no_log_record(server: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(server, Request("Hi", Generate()), api_key=SECRET)
    assert SECRET not in caplog.text


def test_a_web_page_on_the_port_is_noticed_before_anything_is_posted(
    server: StandIn, write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    server.html = True
    process = start("run", write_task(model=model(server)), "--out", "out")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert server.url in err
    assert "html" in err
    assert HTML.decode() not in err
    assert server.received == []
    assert not (tmp_path / "out").exists()


def test_nothing_listening_ends_the_run_in_one_line(
    write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        process = start("run", write_task(model={"use": "vllm", "base_url": url, "name": "m"}), "--out", "out")
        _, err = process.communicate(timeout=20)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert url in err
    assert not (tmp_path / "out").exists()


def test_a_refused_key_is_noticed_before_anything_is_posted(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.server.html", lambda: Reply(401, message=f"bad key {SECRET}"))
    server.html = True
    with pytest.raises(EndpointError, match="bad key") as found:
        check(server.url, api_key=SECRET)
    assert SECRET not in str(found.value)


def test_nothing_listening_is_an_endpoint_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=url):
            check(url)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://h/v1", "http://user:password@h/v1", "http://"])
def test_a_base_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|password"):
        Vllm(base_url=url, name="m")


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_label_scores_are_the_servers_own(server: StandIn, write_task: Callable[..., Path], api: str) -> None:
    import icl_engine as icl

    with icl.load(write_task(model=model(server, api=api))) as pipeline:
        found = pipeline.predict({"text": "a fine film"})
    lead = " " if api == "completions" else ""
    shown = "Review: a fine film\nSentiment:"
    expected = scores(shown if api == "completions" else f"user: {shown}", (f"{lead}positive", f"{lead}negative"))
    assert found.scoring is not None
    assert found.scoring.logprobs == {label: expected[f"{lead}{label}"] for label in ("positive", "negative")}
    assert found.distribution is not None
    assert math.isclose(found.distribution["positive"], math.exp(expected[f"{lead}positive"]) / 0.98)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(429, retry_after="0.1"),
        Reply(429, retry_after="0"),
        Reply(503),
        Reply(reset=True),
        Reply(body=b'{"choices": ['),
        Reply(body=b""),
        html(),
        html(502),
    ],
    ids=["429 retry-after", "429", "503", "reset", "cut off", "empty", "html", "502 html"],
)
def test_a_passing_fault_is_retried_and_each_prompt_answered_once(
    server: StandIn, write_task: Callable[..., Path], reply: Reply
) -> None:
    import icl_engine as icl

    server.script.extend([reply] * 3)
    result = icl.run(write_task(model=model(server)), out="out")
    assert result.failed == 0
    assert result.summary["usage"]["paid"] == 6
    assert set(server.served.values()) == {1}
    assert len(server.served) == 6
    assert len(server.received) == 9


def test_log_probabilities_left_out_are_a_failure_never_a_zero(
    server: StandIn, write_task: Callable[..., Path], icl: Callable[..., tuple[int, str, str]]
) -> None:
    server.logprobs = False
    status, _, _ = icl("run", write_task(model=model(server)), "--out", "out")
    lines = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert status == 3
    assert {line["status"] for line in lines} == {"failed"}
    assert {line["prediction"] for line in lines} == {None}
    assert {line["distribution"] for line in lines} == {None}
    assert all("log-prob" in line["error"] for line in lines)
    assert json.loads(Path("out/summary.json").read_text())["failed"] == len(lines)


@pytest.mark.parametrize("status", [401, 404])
def test_an_endpoint_error_ends_the_run_in_one_line(
    server: StandIn, write_task: Callable[..., Path], start: Callable[..., Any], status: int
) -> None:
    server.refuse = lambda _: Reply(status, message=f"bearer {SECRET} has no access to model m")
    task = write_task(model=model(server, api_key="${SERVER_KEY}"))
    process = start("run", task, "--out", "out", SERVER_KEY=SECRET)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert "has no access to model m" in err
    assert SECRET not in out + err


def test_the_key_is_in_no_file_and_no_output(
    server: StandIn, write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    server.refuse = lambda prompt: Reply(400, message=f"no: {SECRET}") if "film 0" in prompt else None
    task = write_task(model=model(server, api_key="${SERVER_KEY}"))
    process = start("run", task, "--out", "out", SERVER_KEY=SECRET)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert server.headers[-1]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in out + err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"manifest.json", "answers.jsonl", "predictions.jsonl", "summary.json"} <= {path.name for path in written}
    assert any("cache" in path.parts for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert "${SERVER_KEY}" in Path("out/manifest.json").read_text()
