"""What goes over the wire to an OpenAI-compatible server, and what is made of what comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.server import Reply, StandIn, html, scores

from icl_engine.errors import EndpointError, NoLogprobsError, RequestError
from icl_engine.models.vllm import Vllm, VllmEndpoint
from icl_engine.types import (
    Capabilities,
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
FIGURES = {"tokens": [" b"], "token_logprobs": [-0.5], "top_logprobs": [{" a": -2.5, " b": -0.5}], "text_offset": [0]}
SECRET = "sk-very-secret-0123456789"


def endpoint(url: str = "http://127.0.0.1:9/v1", **keys: Any) -> VllmEndpoint:
    return Vllm(base_url=url, name="m", **keys).connect()


def ask_all(server: StandIn, requests: Sequence[Request], can: dict[str, Any] | None = None, **keys: Any) -> list[Any]:
    """The answers or errors; with capabilities, after a check."""

    async def once() -> list[Any]:
        opened = endpoint(server.url, **keys)
        try:
            if can is not None:
                await opened.check()
                opened.capabilities = replace(opened.capabilities, **can)
            return await asyncio.gather(*map(opened.send, requests), return_exceptions=True)
        finally:
            await opened.close()

    return asyncio.run(once())


def ask(server: StandIn, request: Request, can: dict[str, Any] | None = None, **keys: Any) -> Response:
    (answer,) = ask_all(server, [request], can, **keys)
    if isinstance(answer, BaseException):
        raise answer
    assert isinstance(answer, Response)
    return answer


def check(url: str, **keys: Any) -> VllmEndpoint:
    async def once() -> VllmEndpoint:
        opened = endpoint(url, **keys)
        try:
            await opened.check()
        finally:
            await opened.close()
        return opened

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("request_", "answer", "read"),
    [
        pytest.param(
            Request("Hi", Generate()),
            {"choices": [{"text": " there", "finish_reason": "stop", "logprobs": None}]},
            Response(" there", finish="stop"),
            id="completion",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"choices": [{"message": {"content": "there"}, "finish_reason": "length"}]},
            Response("there", finish="length"),
            id="chat",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]},
            Response("", finish="stop"),
            id="chat without content",
        ),
        pytest.param(
            Request(TURNS, Generate()),
            {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]},
            Response("No.", finish="stop"),
            id="a refusal",
        ),
        pytest.param(
            Request("Hi", NextToken(2)),
            {"choices": [{"text": " b", "finish_reason": "length", "logprobs": FIGURES}]},
            Response(" b", places=(Place(" b", {" b": -0.5, " a": -2.5}, -2.5),), finish="length"),
            id="log-probabilities",
        ),
        pytest.param(
            Request("Hi", Generate()),
            {
                "choices": [{"text": "x", "finish_reason": None}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            },
            Response("x", usage=Usage(9, 4, 2)),
            id="usage with cached tokens",
        ),
        pytest.param(
            Request("Hi", Generate()),
            {
                "choices": [{"text": "x", "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None},
            },
            Response("x", finish="stop", usage=Usage(9, 0, 0)),
            id="usage with nulls",
        ),
    ],
)
def test_the_reading_of_an_answer(server: StandIn, request_: Request, answer: dict[str, Any], read: Response) -> None:
    server.script.append(Reply(body=json.dumps(answer).encode()))
    assert ask(server, request_) == read


def test_log_probabilities_left_out_are_told(server: StandIn) -> None:
    server.logprobs = False
    with pytest.raises(NoLogprobsError, match="left out"):
        ask(server, Request("Hi", NextToken(5)))


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


def test_a_prompt_that_is_no_unicode_is_told(server: StandIn) -> None:
    with pytest.raises(RequestError, match="cannot be sent") as found:
        ask(server, Request("a \ud800 b", Generate()))
    assert not found.value.retryable


# -- what the server is asked before anything is posted


def test_the_context_is_learnt_from_the_list(server: StandIn) -> None:
    server.models = [{"id": "m", "max_model_len": 2048}]
    assert check(server.url).capabilities == Capabilities(chat=True, top_logprobs=20, together=32, context=2048)
    assert server.received == []


def test_a_server_without_a_list_is_used(server: StandIn) -> None:
    server.models = None
    assert ask(server, Request("Hi", Generate()), can={}).text


def test_an_unknown_model_is_told_with_the_nearest_that_is_listed(server: StandIn) -> None:
    server.models = [{"id": "mm"}, {"id": "other"}]
    server.script.append(Reply(404, message="The model `m` does not exist."))
    with pytest.raises(EndpointError, match=r"has no model 'm' \(model\.name\); did you mean 'mm'\?"):
        ask(server, Request("Hi", Generate()), can={})


@pytest.mark.parametrize("prompt", ["Hi", TURNS], ids=["text", "chat"])
def test_a_missing_route_ends_the_run_but_answers_a_question_for_a_capability(server: StandIn, prompt: Any) -> None:
    server.routes = ()
    with pytest.raises(EndpointError, match=f"use api: {'chat' if prompt == 'Hi' else 'completions'}"):
        ask(server, Request(prompt, Generate()), can={})
    with pytest.raises(RequestError, match="no route") as found:
        ask(server, Request(prompt, NextToken(5), role="capability"), can={})
    assert not found.value.retryable


def test_a_server_of_another_kind_altogether_is_the_wrong_address(server: StandIn) -> None:
    server.routes, server.models = (), None
    with pytest.raises(EndpointError, match=r"has no route /completions; is model\.base_url right"):
        ask(server, Request("Hi", Generate()), can={})


def test_a_key_that_is_none_is_not_quoted() -> None:
    with pytest.raises(EndpointError, match="white space or letters") as found:
        check("http://127.0.0.1:9/v1", api_key=f"{SECRET}\n")
    assert SECRET not in str(found.value)


# -- constrained text


@pytest.mark.parametrize(
    ("owner", "structured"), [("vllm", ("choice", "grammar")), ("llamacpp", ("grammar", "json_schema"))]
)
def test_each_kind_of_server_is_asked_in_its_own_words(
    server: StandIn, owner: str, structured: tuple[str, ...]
) -> None:
    server.models, server.structured = [{"id": "m", "owned_by": owner}], structured
    server.schema = owner == "vllm"
    shape = {"type": "object", "properties": {"a": {"enum": ["é"]}}}
    readouts = [Generate(choices=(" x", " y")), Generate(grammar='root ::= "zq"'), Generate(schema=shape)]
    answers = ask_all(server, [Request("Hi", readout) for readout in readouts], can={})
    assert [answer.text for answer in answers] == [" x", "zq", '{"a": "\\u00e9"}']


def test_images_travel_in_turns_only(server: StandIn) -> None:
    shown = (Message("user", ("x", Image("a.png", data=b"1", media_type="image/png"))),)
    with pytest.raises(EndpointError, match="use api: chat"):
        ask(server, Request(shown, Generate()))
    assert ask(server, Request((Message("user", "x"),), Generate()), api="chat").text


# -- tokens

POSITIVE = {" positive": (" posit", "ive"), "positive": ("posit", "ive")}
EACH = pytest.mark.parametrize("prompt", ["Review: a\nSentiment:", TURNS], ids=["text", "chat"])


def words_after(prompt: Any) -> tuple[str, str]:
    """The words of the stand-in, with their space."""
    lead = " " if isinstance(prompt, str) else ""
    return f"{lead}positive", f"{lead}negative"


def truth(prompt: Any) -> dict[str, float]:
    """The stand-in's own log p of each word."""
    shown = prompt if isinstance(prompt, str) else "\n".join(f"{m.role}: {m.text}" for m in prompt)
    return scores(shown, words_after(prompt))


@pytest.fixture
def tokens(server: StandIn) -> StandIn:
    """A server that shows its tokenizer, cuts a word in two, and scores named tokens and prompts."""
    server.tokenizer = server.named = server.prefill = True
    server.echo, server.pieces = "honoured", POSITIVE
    return server


def spell(server: StandIn, prompt: Any) -> tuple[tuple[int, ...], ...]:
    end: Any = "Sentiment:" if isinstance(prompt, str) else ()
    return ask(server, Request(end, Spelling(words_after(prompt)), role="spelling")).spelt


@EACH
def test_words_are_spelt_by_the_servers_tokenizer(tokens: StandIn, prompt: Any) -> None:
    assert [len(ids) for ids in spell(tokens, prompt)] == [2, 1]
    assert tokens.received == []


def test_a_server_without_a_tokenizer_spells_nothing(server: StandIn) -> None:
    with pytest.raises(RequestError, match="HTTP 404") as found:
        ask(server, Request("Hi", Spelling((" a",))), can={})
    assert not found.value.retryable


def test_a_page_for_all_that_is_not_there_is_no_tokenizer(server: StandIn) -> None:
    server.html = server.tokenizer = True
    with pytest.raises(RequestError, match="unreadable") as found:
        ask(server, Request("Hi", Spelling((" a",))))
    assert not found.value.retryable


@EACH
def test_a_word_of_several_tokens_is_scored_at_its_nodes(tokens: StandIn, prompt: Any) -> None:
    positive, negative = spell(tokens, prompt)
    requests = [
        Request(prompt, NextToken(0, (positive[0], negative[0]), ())),
        Request(prompt, NextToken(0, (positive[1],), positive[:1])),
        Request(prompt, NextToken(2, (), positive[:1])),
    ]
    root, inner, top = (answer.places[0] for answer in ask_all(tokens, requests))
    of_positive, of_negative = (truth(prompt)[word] for word in words_after(prompt))
    assert root.seen[negative[0]] == pytest.approx(of_negative)
    assert root.seen[positive[0]] + inner.seen[positive[1]] == pytest.approx(of_positive, abs=1e-5)
    assert top.said == positive[1]
    sent = [body["prompt"] for body in tokens.received if isinstance(body.get("prompt"), list)]
    assert len(sent) == 2
    assert all(ids[-1] == positive[0] for ids in sent)


@EACH
def test_a_path_of_named_tokens_is_read_in_one_request(tokens: StandIn, prompt: Any) -> None:
    positive, negative = spell(tokens, prompt)
    named = (*positive, *negative)
    answer = ask(tokens, Request(prompt, NextToken(0, named, (), places=2)))
    likeliest = next(iter(truth(prompt))).strip()
    assert [p.said for p in answer.places] == list(positive if likeliest == "positive" else negative)
    assert set(named) <= set(answer.places[0].seen)


@EACH
def test_a_server_that_ignores_named_tokens_is_noticed(tokens: StandIn, prompt: Any) -> None:
    positive, negative = spell(tokens, prompt)
    tokens.named = False
    with pytest.raises(NoLogprobsError, match="ignores logprob_token_ids") as found:
        ask(tokens, Request(prompt, NextToken(0, (positive[0], negative[0]), ())))
    assert not found.value.retryable


def test_a_top_k_that_is_partial_is_worth_another_try(server: StandIn) -> None:
    server.partial = True
    with pytest.raises(NoLogprobsError, match="gave 1 of 5") as found:
        ask(server, Request("Hi", NextToken(5)))
    assert found.value.retryable


@pytest.mark.parametrize(("prompt", "begun"), [("Q:", " posit"), (TURNS, "posit")], ids=["text", "chat"])
def test_text_that_is_begun_goes_on(server: StandIn, prompt: Any, begun: str) -> None:
    server.pieces, server.prefill = POSITIVE, True
    (place,) = ask(server, Request(prompt, NextToken(5, (), begun))).places
    assert place.said == "ive"
    assert place.seen["ive"] == pytest.approx(0.0)


# -- a given text


@EACH
def test_a_continuation_is_scored_by_echo_of_ids(tokens: StandIn, prompt: Any) -> None:
    positive, negative = spell(tokens, prompt)
    for word, ids in zip(words_after(prompt), (positive, negative), strict=True):
        found = ask(tokens, Request(prompt, Continuation(word)))
        assert [token for token, _ in found.tokens] == list(ids)
        assert sum(p for _, p in found.tokens) == pytest.approx(truth(prompt)[word])
        assert found.text == word
        body = tokens.received[-1]
        assert body.pop("prompt")[-len(ids) :] == list(ids)
        assert body == {"model": "m", "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}


def test_a_continuation_is_scored_by_echo_of_text_where_there_is_no_tokenizer(server: StandIn) -> None:
    server.pieces, server.echo = POSITIVE, "honoured"
    prompt = "Review: a\nSentiment:"
    answers = ask_all(server, [Request(prompt, Continuation(" positive"))] * 2)
    for found in answers:
        assert [token for token, _ in found.tokens] == [" posit", "ive"]
        assert sum(p for _, p in found.tokens) == pytest.approx(truth(prompt)[" positive"])
    assert server.received[0]["prompt"] == f"{prompt} positive"


def test_a_server_without_a_tokenizer_is_asked_for_it_once(server: StandIn) -> None:
    server.echo = "honoured"

    async def run() -> None:
        opened = endpoint(server.url)
        await opened.check()
        for _ in range(3):
            await opened.send(Request("Q:", Continuation(" positive")))
        await opened.close()

    asyncio.run(run())
    assert server.paths.count("POST /tokenize") == 1


def test_a_continuation_in_a_chat_needs_the_tokenizer(server: StandIn) -> None:
    server.echo = "honoured"
    with pytest.raises(RequestError, match="HTTP 404") as found:
        ask(server, Request(TURNS, Continuation("positive")), can={})
    assert not found.value.retryable


@pytest.mark.parametrize("tokenizer", [True, False])
@pytest.mark.parametrize(
    ("echo", "says"), [("ignored", "echo"), ("refused", "HTTP 400"), ("zeros", "zeros"), ("missing", "leaves them out")]
)
def test_a_server_without_prompt_log_probabilities_is_noticed(
    server: StandIn, tokenizer: bool, echo: str, says: str
) -> None:
    server.tokenizer, server.echo = tokenizer, echo
    with pytest.raises(RequestError, match=says) as found:
        ask(server, Request("Review: a\nSentiment:", Continuation(" positive")), can={})
    assert not found.value.retryable
    assert isinstance(found.value, NoLogprobsError) is (echo != "refused")


# -- several in one HTTP request

DRAWN = Generate(Sampling(temperature=1.0))


def test_samples_of_a_prompt_travel_together_where_the_server_can(server: StandIn) -> None:
    server.samples = True
    requests = [Request("Hi", DRAWN, i) for i in range(3)]
    answers = ask_all(server, requests, can={"samples": True})
    (body,) = server.received
    assert body["n"] == 3
    best, other = (text for text, _ in sorted(scores("Hi", words_after("")).items(), key=lambda pair: -pair[1]))
    assert [answer.text for answer in answers] == [best, other, best]  # in the order of their index
    assert sum((answer.usage for answer in answers), Usage()) == Usage(1, 0, 3)


def test_samples_travel_alone_unless_the_server_is_known_to_answer_several(server: StandIn) -> None:
    server.samples = True
    ask_all(server, [Request("Hi", DRAWN, i) for i in range(3)])
    assert [body.get("n") for body in server.received] == [None] * 3


def test_a_server_that_ignores_n_is_asked_for_the_rest(server: StandIn) -> None:
    answers = ask_all(server, [Request("Hi", DRAWN, i) for i in range(3)], can={"samples": True})
    assert all(answer.text for answer in answers)
    assert [body.get("n") for body in server.received] == [3, None, None]


def test_a_probe_of_n_is_told_that_it_is_ignored(server: StandIn) -> None:
    requests = [Request("Hi", DRAWN, i, "capability") for i in range(2)]
    assert [type(e) for e in ask_all(server, requests, can={"samples": True})] == [RequestError] * 2


def test_prompts_travel_together_where_that_is_wanted(server: StandIn) -> None:
    prompts = [f"film {i}\nSentiment:" for i in range(5)]
    answers = ask_all(server, [Request(p, NextToken(2)) for p in prompts], batch=2)
    sent = [body["prompt"] for body in server.received]
    assert sorted(len(p) if isinstance(p, list) else 1 for p in sent) == [1, 2, 2]
    assert [dict(a.places[0].seen) for a in answers] == [truth(p) for p in prompts]
    assert sum((a.usage for a in answers), Usage()) == Usage(15, 0, 5)


def test_prompts_whose_text_is_generated_travel_together_too(server: StandIn) -> None:
    prompts = [f"film {i}\nSentiment:" for i in range(5)]
    alone = ask_all(server, [Request(p, Generate(Sampling(max_tokens=4))) for p in prompts])
    assert sorted(body["prompt"] for body in server.received) == prompts
    together = ask_all(server, [Request(p, Generate(Sampling(max_tokens=4))) for p in prompts], batch=8)
    assert server.received[5:][0]["prompt"] == prompts
    assert len(server.received) == 6
    assert [a.text for a in together] == [a.text for a in alone]


def test_prompts_travel_alone_by_default_and_where_they_are_chats_or_keep_a_schema(server: StandIn) -> None:
    ask_all(server, [Request(f"film {i}", NextToken(2)) for i in range(2)])
    ask_all(server, [Request(f"film {i}", Generate(schema={"type": "string"})) for i in range(2)], batch=8)
    ask_all(server, [Request((Message("user", str(i)),), NextToken(2)) for i in range(2)], batch=8)
    assert [type(body.get("prompt", "")) for body in server.received] == [str] * 6


def test_llama_cpp_is_asked_one_prompt_at_a_time(server: StandIn) -> None:
    server.models = [{"id": "m", "owned_by": "llamacpp"}]
    ask_all(server, [Request(f"film {i}", NextToken(2)) for i in range(2)], can={}, batch=8)
    assert sorted(body["prompt"] for body in server.received) == ["film 0", "film 1"]


def test_one_bad_prompt_does_not_spoil_its_company(server: StandIn) -> None:
    server.refuse = lambda prompt: Reply(400, message="too long") if "film 1" in prompt else None
    answers = ask_all(server, [Request(f"film {i}:", NextToken(2)) for i in range(3)], batch=8)
    assert [isinstance(answer, Response) for answer in answers] == [True, False, True]
    assert "too long" in str(answers[1])
