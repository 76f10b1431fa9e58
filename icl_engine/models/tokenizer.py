"""A server's own tokenizer, over HTTP: the ids of a prompt as the server itself makes them, and of what follows.

vLLM and SGLang have ``/tokenize`` of texts, vLLM of turns too; llama.cpp has its own form, and ``/apply-template``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from icl_engine.errors import RequestError
from icl_engine.models.wire import Body, has_images, turns
from icl_engine.types import Message

Post = Callable[[str, Body], Awaitable[Any]]
"""(route, body) -> the answer's JSON."""

Ids = tuple[int, ...]
Shown = str | tuple[Message, ...]

KEPT = 512
"""Prompts whose ids are kept: the questions about one row share its prompt."""

AT_ONCE = 16
"""Requests in flight."""

ANYTHING = Message("user", "x")
"""A turn before an answer; what it says does not matter."""


class RemoteTokenizer:
    """Cuts texts as the server does.

    Args:
        post: asks the server, below its root.
        name: the model's name there.
        llama: whether it speaks as llama.cpp does.
    """

    def __init__(self, post: Post, name: str, *, llama: bool = False) -> None:
        self._post, self._name, self.llama = post, name, llama
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._known: OrderedDict[Shown, asyncio.Task[Ids]] = OrderedDict()

    async def ids(self, prompt: Shown) -> Ids:
        """The ids of a whole prompt, with all that the server puts before one; of a chat, up to the answer's beginning.

        Raises:
            RequestError: the server does not show them.
        """
        task = self._known.get(prompt)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            cut = self._cut(prompt, special=True) if isinstance(prompt, str) else self._cut_chat(prompt)
            task = self._known[prompt] = asyncio.ensure_future(cut)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(prompt)
        return await asyncio.shield(task)  # several may wait for it

    async def spell(self, prompt: Shown, texts: Sequence[str]) -> tuple[Ids, ...]:
        """The ids of each text as it follows a prompt: cut together with the prompt's end where the cut falls there.

        Raises:
            RequestError: the server does not show them.
        """
        if not isinstance(prompt, str):
            before = await self.ids((ANYTHING,))
        else:
            before = await self._cut(prompt, special=False) if prompt else ()
        return tuple(await asyncio.gather(*(self._follow(prompt, before, text) for text in texts)))

    async def _follow(self, prompt: Shown, before: Ids, text: str) -> Ids:
        if isinstance(prompt, str):
            both = await self._cut(prompt + text, special=False)
        else:
            both = await self._cut_chat((ANYTHING,), text)
        if len(both) > len(before) and both[: len(before)] == before:
            return both[len(before) :]
        return await self._cut(text, special=False)

    async def _cut(self, text: str, *, special: bool) -> Ids:
        """The ids of a text; a special one begins a prompt, and gets what the model puts before it (BOS)."""
        if self.llama:
            return await self._ask({"content": text, "add_special": special})
        return await self._ask({"model": self._name, "prompt": text, "add_special_tokens": special})

    async def _cut_chat(self, messages: tuple[Message, ...], begun: str = "") -> Ids:
        """The ids of a chat up to its answer, and of the answer's beginning."""
        if has_images(messages):
            raise RequestError("a chat with images has no token ids")
        if self.llama:
            found = await self._fetch("apply-template", {"messages": turns(messages)}, "prompt", str)
            return await self._cut(found + begun, special=True)
        if not begun:
            return await self._ask({"model": self._name, "messages": turns(messages), "add_generation_prompt": True})
        said = turns((*messages, Message("assistant", begun)))
        going_on = {"add_generation_prompt": False, "continue_final_message": True}
        return await self._ask({"model": self._name, "messages": said, **going_on})

    async def _ask(self, body: Body) -> Ids:
        tokens = await self._fetch("tokenize", body, "tokens", list)
        if not tokens or not all(isinstance(i, int) for i in tokens):
            raise RequestError("the server's /tokenize gives no token ids")
        return tuple(tokens)

    async def _fetch(self, route: str, body: Body, key: str, kind: type[Any]) -> Any:
        async with self._slots:
            answer = await self._post(route, body)
        found = answer.get(key) if isinstance(answer, dict) else None
        if not isinstance(found, kind):
            raise RequestError(f"the server's /{route} gives no {key}")
        return found
