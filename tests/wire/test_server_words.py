"""What a server says of itself, and what its refusals mean: for one request, or for all."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.server import Server, header_safe

SECRET = "sk-very-secret-0123456789"
URL = "http://h/v1"


def server(listed: Any = None, name: str = "gpt-x") -> Server:
    found = Server(URL, name, SECRET)
    if listed is not None:
        found.describe(200, json.dumps(listed).encode(), "application/json")
    return found


def models(*entries: Any) -> dict[str, Any]:
    return {"object": "list", "data": [e if isinstance(e, dict) else {"id": e} for e in entries]}


def said(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


LISTS = models("gpt-x-mini", "llama", "other")

GONE = [
    pytest.param(401, said(f"Incorrect API key provided: {SECRET}"), "refuses the key", id="401"),
    pytest.param(403, said("Country not supported"), "refuses the key", id="403"),
    pytest.param(402, said("Insufficient credits"), "may not spend more", id="402"),
    pytest.param(429, said("You exceeded your quota", code="insufficient_quota"), "may not spend more", id="quota"),
    pytest.param(404, said("The model `gpt-x` does not exist."), "has no model 'gpt-x'", id="vLLM, OpenAI"),
    pytest.param(404, said("model 'gpt-x' not found"), "has no model 'gpt-x'", id="Ollama"),
    pytest.param(404, said("The API deployment for this resource does not exist."), "has no model", id="Azure"),
]
ONE = [
    pytest.param(404, b'{"detail":"Not Found"}', id="no route: FastAPI"),
    pytest.param(404, said("File Not Found", type="not_found_error"), id="no route: llama.cpp"),
    pytest.param(404, said("no route POST /v1/completions for models"), id="no route: a mock"),
    pytest.param(404, said("Unknown request URL: POST /v1/x. Is the model right?"), id="no route: OpenAI"),
    pytest.param(404, said("This is a chat model and not supported in the v1/completions endpoint."), id="chat model"),
    pytest.param(405, b'{"detail":"Method Not Allowed"}', id="405"),
    pytest.param(403, said("You are not allowed to request logprobs from this model"), id="logprobs"),
    pytest.param(400, said("too long"), id="400"),
    pytest.param(422, b'{"object":"error","message":"too long"}', id="422"),
    pytest.param(500, said("image input is not supported - hint: mmproj"), id="llama.cpp: 500 for what it cannot do"),
    pytest.param(501, said("no"), id="501"),
    pytest.param(
        429, said("Request too large for m on tokens per min (TPM): try again in 6s"), id="more than a minute"
    ),
]
AGAIN = [pytest.param(code, said("busy"), id=str(code)) for code in (408, 409, 425, 429, 500, 502, 503, 529)]


@pytest.mark.parametrize(("status", "content", "says"), GONE)
def test_what_no_request_survives(status: int, content: bytes, says: str) -> None:
    found = server(LISTS).refusal(status, content, {}, "completions")
    assert isinstance(found, EndpointError)
    assert says in str(found)
    assert URL in str(found)
    assert SECRET not in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(("status", "content"), ONE)
def test_what_one_request_does_not_survive(status: int, content: bytes) -> None:
    found = server(LISTS).refusal(status, content, {}, "completions")
    assert isinstance(found, RequestError)
    assert (found.retryable, found.retry_after, found.congested, found.billed) == (False, None, False, False)
    assert str(found).startswith(f"HTTP {status}: ")


@pytest.mark.parametrize(("status", "content"), AGAIN)
def test_what_may_pass(status: int, content: bytes) -> None:
    found = server(LISTS).refusal(status, content, {"retry-after": "7"}, "completions")
    assert isinstance(found, RequestError)
    assert (found.retryable, found.retry_after) == (True, 7.0)


def test_an_unknown_model_is_told_with_the_nearest_that_is_listed() -> None:
    found = server(LISTS).refusal(404, said("The model does not exist."), {}, "completions")
    assert "(model.name); did you mean 'gpt-x-mini'?" in str(found)


def test_many_models_are_not_all_told() -> None:
    found = server(models(*[f"{i:03}" for i in range(500)])).refusal(404, said("no such model"), {}, "completions")
    assert "(it lists: 000, 001" in str(found)
    assert len(str(found)) < 400


def test_a_server_that_lists_nothing_and_has_no_route_is_the_wrong_address() -> None:
    found = server().refusal(404, b"<html>", {}, "chat/completions")
    assert isinstance(found, EndpointError)
    assert "is model.base_url right" in str(found)
    assert isinstance(server().refusal(404, b"<html>", {}, "tokenize"), RequestError)


@pytest.mark.parametrize("status", [401, 403])
def test_a_route_beside_the_models_may_be_barred(status: int) -> None:
    found = server(LISTS).refusal(status, b"<html>", {}, "tokenize")
    assert isinstance(found, RequestError)
    assert not found.retryable


def test_a_server_that_answered_once_may_lack_a_route() -> None:
    quiet = server()
    quiet.answered("chat/completions")
    assert isinstance(quiet.refusal(404, b"{}", {}, "completions"), RequestError)


# -- what it says of itself


@pytest.mark.parametrize(
    ("listed", "context"),
    [
        (models({"id": "gpt-x", "max_model_len": 2048}), 2048),
        (models({"id": "gpt-x", "context_length": 8192}, "b"), 8192),
        (models({"id": "/path/of.gguf", "owned_by": "llamacpp", "meta": {"n_ctx": 512, "n_ctx_train": 8192}}), 512),
        (models({"id": "a", "max_model_len": 2048}, "b"), None),
        (models("gpt-x"), None),
        ([{"id": "gpt-x", "context_length": 7}], 7),
        (models({"id": "gpt-x", "max_model_len": "long"}), None),
    ],
)
def test_the_context_is_read_from_the_list(listed: Any, context: int | None) -> None:
    assert server(listed).context == context


@pytest.mark.parametrize("listed", [{}, [], {"data": None}, {"data": "x"}, {"data": [None, 3]}, "x", None])
def test_a_list_that_is_none_is_no_fault(listed: Any) -> None:
    found = server()
    found.describe(200, json.dumps(listed).encode(), "application/json")
    assert (found.listed, found.owner, found.context) == ((), "", None)


@pytest.mark.parametrize("owner", ["vllm", "llamacpp", "sglang"])
def test_the_kind_of_server_is_read_from_the_list(owner: str) -> None:
    assert server(models("a", {"id": "b", "owned_by": owner})).owner == owner


@pytest.mark.parametrize(("status", "content"), [(404, b"<html>"), (405, b""), (500, b'{"error": "x"}')])
def test_a_server_without_a_list_is_used_all_the_same(status: int, content: bytes) -> None:
    server().describe(status, content, "text/html")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_noticed_at_once(status: int) -> None:
    with pytest.raises(EndpointError, match=r"refuses the key \(model.api_key\): HTTP 40") as found:
        server().describe(status, said(f"bad {SECRET}"), "application/json")
    assert SECRET not in str(found.value)


def test_html_is_no_list() -> None:
    with pytest.raises(EndpointError, match="answers text/html, not JSON"):
        server().describe(200, b"<html>", "text/html; charset=utf-8")


def test_an_unlisted_model_is_worth_a_word_once_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    for listed in (LISTS, models("gpt-x", "a"), models({"id": "p.gguf", "owned_by": "llamacpp"})):
        found = server(listed)
        for _ in range(3):
            found.answered("completions")
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "did you mean 'gpt-x-mini'?" in caplog.text


# -- its words


@pytest.mark.parametrize(
    "content",
    [
        said("too long"),
        b'{"object": "error", "message": "too long"}',
        b'{"error": "too long"}',
        b'{"detail": "too long"}',
        b'{"detail": [{"msg": "too long"}]}',
        b'["too long"]',
        b'[{"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}}]',
        b"<html>too long</html>",
        b"too long \xff",
    ],
)
def test_its_words_are_found_in_any_shape(content: bytes) -> None:
    assert "too long" in server().words(content)


def test_its_words_are_bounded_and_the_key_is_taken_out() -> None:
    words = server().words(f"{SECRET} \n".encode() * 200)
    assert len(words) <= 300
    assert SECRET not in words
    assert words.isprintable()


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        ({"error": {"message": "overloaded"}}, True),
        ({"error": "overloaded"}, True),
        ({"error": {"message": "overloaded"}, "choices": []}, True),
        ({"error": "Unexpected endpoint or method. (POST /v1/x)"}, False),
    ],
)
def test_an_error_with_status_200_is_an_error(answer: Any, retryable: bool) -> None:
    found = server().fault(answer)
    assert isinstance(found, RequestError)
    assert found.retryable is retryable


def upstream(code: Any, message: str = "overloaded", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


@pytest.mark.parametrize(
    ("answer", "congested", "retry_after"),
    [
        pytest.param(upstream(502), False, None, id="502"),
        pytest.param(upstream(503), True, None, id="503"),
        pytest.param(upstream("429", "Please retry after 6 seconds"), True, 6.0, id="429"),
        pytest.param(upstream("server_error"), False, None, id="no status"),
        pytest.param(upstream(10**9), False, None, id="a number that is no status"),
        pytest.param({"choices": [{**upstream(503), "message": {"content": "I"}}]}, True, None, id="midway"),
    ],
)
def test_an_error_after_the_model_had_begun_may_be_paid_for(
    answer: Any, congested: bool, retry_after: float | None
) -> None:
    found = server().fault(answer)
    assert isinstance(found, RequestError)
    assert (found.retryable, found.congested, found.retry_after) == (True, congested, retry_after)
    assert found.billed


@pytest.mark.parametrize("answer", [upstream(400, "too long"), {"choices": [upstream(403, "flagged")]}])
def test_an_error_of_the_request_itself_is_not_asked_again(answer: Any) -> None:
    found = server().fault(answer)
    assert isinstance(found, RequestError)
    assert not found.retryable


@pytest.mark.parametrize(
    "answer",
    [upstream(402, "Insufficient credits"), upstream("insufficient_quota"), upstream(429, "free-models-per-day")],
)
def test_a_spent_quota_may_be_told_with_status_200(answer: Any) -> None:
    found = server().fault(answer)
    assert isinstance(found, EndpointError)
    assert str(found).startswith(URL)


@pytest.mark.parametrize(
    "answer", [{"error": None}, {"choices": [{}], "error": None}, {"choices": [3]}, {"choices": "x"}, [], "x", {}]
)
def test_what_is_no_error_with_status_200(answer: Any) -> None:
    assert server().fault(answer) is None


@pytest.mark.parametrize("key", ["sk 1", "sk-1\n", "sk-é", "sk-\x00"])
def test_a_key_that_is_none_is_not_quoted(key: str) -> None:
    with pytest.raises(EndpointError, match="white space or letters") as found:
        header_safe(key)
    assert key not in str(found.value)
