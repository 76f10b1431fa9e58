"""Golden bodies: what a request is on the wire, for each kind of OpenAI-compatible server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from icl_engine.models.dialect import body_of
from icl_engine.models.wire import closed, json_format
from icl_engine.types import Generate, Image, Message, NextToken, Request, Sampling

TURNS = (Message("system", "Judge."), Message("user", "Review: fine"))
MESSAGES = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Review: fine"}]
COMPLETIONS, CHAT = "completions", "chat/completions"
GREEDY = {"max_tokens": 256, "temperature": 0.0}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**SCHEMA, "required": ["a"], "additionalProperties": False}


def text(**fields: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"model": "m", "prompt": "Hi", **fields}


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "m", "messages": MESSAGES, **fields}


def case(name: str, request: Request, expected: tuple[str, dict[str, Any]], owner: str = "") -> Any:
    return pytest.param(request, owner, expected, id=f"{name} ({owner})" if owner else name)


@pytest.mark.parametrize(
    ("request_", "owner", "expected"),
    [
        case("text", Request("Hi", Generate()), text(**GREEDY)),
        case("chat", Request(TURNS, Generate()), chat(**GREEDY)),
        case(
            "stop",
            Request("Hi", Generate(Sampling(max_tokens=8, stop=("\n", "Q:")))),
            text(max_tokens=8, temperature=0.0, stop=["\n", "Q:"]),
        ),
        case(
            "sample i is sent with seed + i",
            Request("Hi", Generate(Sampling(temperature=0.7, seed=5)), sample=3),
            text(max_tokens=256, temperature=0.7, seed=8),
        ),
        case("next token", Request("Hi", NextToken(20)), text(max_tokens=1, temperature=0, logprobs=20)),
        case(
            "next token by chat",
            Request(TURNS, NextToken(5)),
            chat(max_tokens=1, temperature=0, logprobs=True, top_logprobs=5),
        ),
        case(
            "next tokens at several places",
            Request("Hi", NextToken(5, places=3)),
            text(max_tokens=3, temperature=0, logprobs=5),
        ),
        case(
            "next token as an id",
            Request("Hi", NextToken(5, (), ())),
            text(max_tokens=1, temperature=0, logprobs=5, return_tokens_as_token_ids=True),
        ),
        case(
            "named tokens",
            Request("Hi", NextToken(0, (7, 9), ())),
            text(
                max_tokens=1,
                temperature=0,
                logprobs=1,
                logprob_token_ids=[7, 9],
                return_tokens_as_token_ids=True,
            ),
        ),
        case(
            "named tokens by chat",
            Request(TURNS, NextToken(0, (7, 9), ())),
            chat(
                max_tokens=1,
                temperature=0,
                logprobs=True,
                logprob_token_ids=[7, 9],
                return_tokens_as_token_ids=True,
            ),
        ),
        case(
            "named tokens along a path that says only them",
            Request("Hi", NextToken(0, (7, 9), (), places=2)),
            text(
                max_tokens=2,
                temperature=0,
                logprobs=1,
                logprob_token_ids=[7, 9],
                allowed_token_ids=[7, 9],
                return_tokens_as_token_ids=True,
            ),
        ),
        case(
            "text that is begun",
            Request("Hi", NextToken(5, (), " the")),
            (COMPLETIONS, {"model": "m", "prompt": "Hi the", "max_tokens": 1, "temperature": 0, "logprobs": 5}),
        ),
        case(
            "an answer that is begun",
            Request(TURNS, NextToken(5, (), "pos")),
            (
                CHAT,
                {
                    "model": "m",
                    "messages": [*MESSAGES, {"role": "assistant", "content": "pos"}],
                    "add_generation_prompt": False,
                    "continue_final_message": True,
                    "max_tokens": 1,
                    "temperature": 0,
                    "logprobs": True,
                    "top_logprobs": 5,
                },
            ),
        ),
        case(
            "grammar",
            Request("Hi", Generate(grammar='root ::= "a"')),
            text(**GREEDY, structured_outputs={"grammar": 'root ::= "a"'}),
            "vllm",
        ),
        case(
            "grammar",
            Request(TURNS, Generate(grammar='root ::= "a"')),
            chat(**GREEDY, grammar='root ::= "a"'),
            "llamacpp",
        ),
        case(
            "grammar",
            Request("Hi", Generate(grammar='root ::= "a"')),
            text(**GREEDY, ebnf='root ::= "a"'),
            "sglang",
        ),
        case(
            "choices",
            Request("Hi", Generate(choices=(" a", " b"))),
            text(**GREEDY, structured_outputs={"choice": [" a", " b"]}),
        ),
        case(
            "choices",
            Request("Hi", Generate(choices=(" a", ' "é"'))),
            text(**GREEDY, grammar='root ::= " a" | " \\"é\\""'),
            "llamacpp",
        ),
        case("choices", Request("Hi", Generate(choices=(" a", "b."))), text(**GREEDY, regex=r"( a|b\.)"), "sglang"),
        case(
            "schema",
            Request("Hi", Generate(schema=SCHEMA)),
            text(
                **GREEDY,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False},
                },
            ),
            "vllm",
        ),
        case("schema", Request("Hi", Generate(schema=SCHEMA)), text(**GREEDY, json_schema=SCHEMA), "llamacpp"),
        case(
            "schema by chat",
            Request(TURNS, Generate(schema=CLOSED)),
            chat(
                **GREEDY,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": CLOSED, "strict": True},
                },
            ),
            "llamacpp",
        ),
    ],
)
def test_the_body_of_a_request(request_: Request, owner: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert body_of("m", request_, owner) == expected


def test_a_prompt_of_ids_is_gone_on_with_in_ids() -> None:
    request = Request(TURNS, NextToken(5, (), (3, 4)))
    assert body_of("m", request, ids=(1, 2)) == (
        COMPLETIONS,
        {
            "model": "m",
            "prompt": [1, 2, 3, 4],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 5,
            "return_tokens_as_token_ids": True,
        },
    )


def test_a_probe_and_a_main_question_look_the_same_on_the_wire() -> None:
    request = Request("Hi", NextToken(20))
    assert body_of("m", request) == body_of("m", replace(request, role="probe"))


def test_images_become_content_parts_where_they_stand() -> None:
    png = Image("cat.png", data=b"\x89PNG", media_type="image/png")
    far = Image("far", url="https://a.example/b.jpg")
    turns = (Message("system", "Judge."), Message("user", ("Which? ", png, " or ", far, "")), Message("user", "Go."))
    route, body = body_of("m", Request(turns, Generate()))
    assert route == CHAT
    assert body["messages"] == [
        {"role": "system", "content": "Judge."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which? "},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "text", "text": " or "},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.jpg"}},
            ],
        },
        {"role": "user", "content": "Go."},
    ]


def test_texts_side_by_side_are_one_content() -> None:
    assert body_of("m", Request((Message("user", ("a", "b")),), Generate()))[1]["messages"][0]["content"] == "ab"


NESTED = {**CLOSED, "properties": {"a": {"type": "array", "items": SCHEMA}}}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "properties": {"a": CLOSED}}, True),
        ({**CLOSED, "properties": {"a": {"enum": [{"type": "object"}]}}}, True),
        ({**CLOSED, "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": CLOSED}}, True),
        (SCHEMA, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        (NESTED, False),
        ({**CLOSED, "properties": {"a": {"anyOf": [SCHEMA, {"type": "null"}]}}}, False),
        ({**CLOSED, "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": SCHEMA}}, False),
        ({**CLOSED, "properties": {"a": {"type": ["object", "null"]}}}, False),
        ({"type": "string"}, False),
        ({"type": "array", "items": CLOSED}, False),
    ],
)
def test_a_schema_is_strict_where_it_keeps_the_rules_for_that(schema: dict[str, Any], strict: bool) -> None:
    assert json_format(schema)["json_schema"]["strict"] is strict
    assert closed(schema) or not strict
