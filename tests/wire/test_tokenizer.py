"""A server's tokenizer over HTTP: the ids of prompts and of what follows them, from servers of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from icl_engine.errors import RequestError
from icl_engine.models.tokenizer import AT_ONCE, KEPT, RemoteTokenizer
from icl_engine.types import Image, Message

VOCABULARY = ["<s>", "</s>", "<user>", "<answer>", "x", "y", " ", "a", "b", " a", "ab", "c"]
USER = (Message("user", "x"),)


class Served:
    """A server with a tokenizer that takes the longest token.

    Args:
        kind: ``vllm`` or ``llamacpp``.
        answers: replies in place of the tokenizer's.
    """

    def __init__(self, kind: str = "vllm", answers: Sequence[Any] = ()) -> None:
        self.kind, self.answers = kind, list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.now = self.peak = 0

    async def post(self, route: str, body: dict[str, Any]) -> Any:
        self.asked.append((route, body))
        self.now += 1
        self.peak = max(self.peak, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if route == "apply-template":
            return {"prompt": self.template(body["messages"]) + "<answer>"}
        if "messages" in body:
            *before, last = body["messages"]
            goes_on = body.get("continue_final_message", False)
            assert goes_on is not body.get("add_generation_prompt", True)
            text = self.template(before if goes_on else body["messages"]) + "<answer>"
            return {"count": 0, "tokens": [0, *self.cut(text + (last["content"] if goes_on else ""))]}
        special, text = ("add_special", "content") if self.kind == "llamacpp" else ("add_special_tokens", "prompt")
        return {"tokens": [0] * body[special] + self.cut(body[text])}

    def template(self, messages: Sequence[dict[str, Any]]) -> str:
        return "".join(f"<{m['role']}>{m['content']}" for m in messages)

    def cut(self, text: str) -> list[int]:
        found = []
        while text:
            token = max((t for t in VOCABULARY if text.startswith(t)), key=len)
            found.append(VOCABULARY.index(token))
            text = text[len(token) :]
        return found

    def tokenizer(self) -> RemoteTokenizer:
        return RemoteTokenizer(self.post, "m", llama=self.kind == "llamacpp")


def ids(*tokens: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.index(t) for t in tokens)


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_a_prompt_is_cut_as_the_server_does_it(kind: str) -> None:
    tokenizer = Served(kind).tokenizer()
    assert asyncio.run(tokenizer.ids("x a")) == ids("<s>", "x", " a")
    assert asyncio.run(tokenizer.ids(USER)) == ids("<s>", "<user>", "x", "<answer>")


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        pytest.param("x", " ab", ids(" a", "b"), id="after a prompt"),
        pytest.param("", "ab", ids("ab"), id="at the beginning"),
        pytest.param("a", "b", ids("b"), id="where the cut is not between them, alone"),
        pytest.param((), "ab", ids("ab"), id="an answer in a chat"),
        pytest.param(USER, " ab", ids(" a", "b"), id="in any chat"),
    ],
)
def test_a_text_is_cut_as_it_follows_the_prompt(kind: str, prompt: Any, text: str, expected: tuple[int, ...]) -> None:
    assert asyncio.run(Served(kind).tokenizer().spell(prompt, [text, "c"])) == (expected, ids("c"))


def test_vllms_questions() -> None:
    served = Served()
    asyncio.run(served.tokenizer().ids("x"))
    asyncio.run(served.tokenizer().spell((), ["ab"]))
    user = {"role": "user", "content": "x"}
    assert served.asked == [
        ("tokenize", {"model": "m", "prompt": "x", "add_special_tokens": True}),
        ("tokenize", {"model": "m", "messages": [user], "add_generation_prompt": True}),
        (
            "tokenize",
            {
                "model": "m",
                "messages": [user, {"role": "assistant", "content": "ab"}],
                "add_generation_prompt": False,
                "continue_final_message": True,
            },
        ),
    ]


def test_llama_cpps_questions() -> None:
    served = Served("llamacpp")
    asyncio.run(served.tokenizer().ids("x"))
    asyncio.run(served.tokenizer().ids(USER))
    assert served.asked == [
        ("tokenize", {"content": "x", "add_special": True}),
        ("apply-template", {"messages": [{"role": "user", "content": "x"}]}),
        ("tokenize", {"content": "<user>x<answer>", "add_special": True}),
    ]


def test_a_prompt_is_asked_for_once_even_by_many_at_once() -> None:
    async def run() -> int:
        served = Served()
        tokenizer = served.tokenizer()
        await asyncio.gather(*(tokenizer.ids("x a") for _ in range(20)))
        await tokenizer.ids("x a")
        return len(served.asked)

    assert asyncio.run(run()) == 1


def test_only_so_many_prompts_are_kept_those_used_last() -> None:
    async def run() -> list[str]:
        served = Served()
        tokenizer = served.tokenizer()
        await tokenizer.ids("x")
        for i in range(KEPT):
            await tokenizer.ids("a" * i + "c")
            await tokenizer.ids("x")
        await tokenizer.ids("c")
        return [body["prompt"] for _, body in served.asked]

    asked = asyncio.run(run())
    assert asked.count("x") == 1
    assert asked.count("c") == 2


def test_a_failure_is_not_kept() -> None:
    served = Served(answers=[RequestError("busy", retryable=True)])

    async def run() -> Any:
        tokenizer = served.tokenizer()
        with pytest.raises(RequestError, match="busy"):
            await tokenizer.ids("x")
        return await tokenizer.ids("x")

    assert asyncio.run(run()) == ids("<s>", "x")


def test_one_who_is_cancelled_does_not_disturb_the_others() -> None:
    async def run() -> Any:
        tokenizer = Served().tokenizer()
        first, second = (asyncio.ensure_future(tokenizer.ids("x")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(run()) == ids("<s>", "x")


def test_many_texts_are_asked_for_at_once_within_bounds() -> None:
    served = Served()
    asyncio.run(served.tokenizer().spell("x", ["a" * i for i in range(1, 60)]))
    assert served.peak == AT_ONCE


@pytest.mark.parametrize("answer", [{}, {"tokens": None}, {"tokens": []}, {"tokens": ["a"]}, {"prompt": 3}, [], "x"])
@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_an_answer_without_ids_is_told(kind: str, answer: Any) -> None:
    with pytest.raises(RequestError, match="gives no") as found:
        asyncio.run(Served(kind, [answer]).tokenizer().ids(USER))
    assert not found.value.retryable


def test_a_chat_with_images_has_no_ids() -> None:
    shown = (Message("user", ("x", Image("a.png", data=b"1", media_type="image/png"))),)
    with pytest.raises(RequestError, match="images"):
        asyncio.run(Served().tokenizer().ids(shown))
