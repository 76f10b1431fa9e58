"""`vllm`: any OpenAI-compatible server (vLLM, SGLang, llama-server, LM Studio, Ollama …)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Literal

import orjson
from pydantic import Field, field_validator

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.base import Provider
from icl_engine.models.coalesce import MOST, Together, is_drawn, samples_of, shares
from icl_engine.models.connection import Answer, Connection
from icl_engine.models.dialect import body_of
from icl_engine.models.figures import echoed_ids, echoed_text
from icl_engine.models.rates import pause
from icl_engine.models.server import NoRouteError, Server, fault_of, header_safe, without_route
from icl_engine.models.tokenizer import Ids, RemoteTokenizer
from icl_engine.models.wire import Body, choices, has_images, response, usage
from icl_engine.types import Capabilities, Continuation, Generate, NextToken, Request, Response, Spelling

TOP = 20
"""The widest top-k that vLLM's servers give unless told otherwise."""

TRIES = 3
"""How often a server is asked what models it has, if it was reached."""

TOGETHER = 32
"""Nodes of a trie of labels in one HTTP request."""


class Vllm(Provider):
    """A model behind an OpenAI-compatible HTTP API.

    Args:
        base_url: up to and with ``/v1``.
        name: the model's name on the server.
        api_key: ``${VAR}``; sent as a bearer token, never written anywhere.
        timeout: seconds to wait for one answer.
        batch: how many text prompts may travel in one HTTP request. More than 1 saves this machine's time where the
            server answers hundreds of prompts a second; they come back together, as late as the longest, and usage is
            known for the whole request, and divided evenly.
    """

    use: Literal["vllm"] = "vllm"
    base_url: str
    name: str
    api_key: str | None = Field(default=None, repr=False)
    timeout: float = Field(default=120.0, gt=0.0)
    batch: int = Field(default=1, ge=1, le=64)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if fault := fault_of(url):
            raise ValueError(fault)
        return url.rstrip("/")

    @property
    def title(self) -> str:
        """The model's name on the server."""
        return self.name

    def connect(self) -> VllmEndpoint:
        """An endpoint that connects at its first request."""
        return VllmEndpoint(self)


class VllmEndpoint:
    """See `Vllm`. Every server of this kind gives something else, so nearly all is found by probing."""

    uncertain: frozenset[str] = frozenset(
        {"top_logprobs", "spelling", "named", "continuation", "prefill"}
        | {"schema", "grammar", "choice", "samples", "seed", "images"}
    )

    def __init__(self, spec: Vllm) -> None:
        self._spec = spec
        self.identity = f"{spec.identity or spec.base_url}|{spec.name}"
        self.capabilities = Capabilities(text=True, chat=True, top_logprobs=TOP, together=TOGETHER)
        self._server = Server(spec.base_url, spec.name, spec.api_key)
        self._tokenizer = RemoteTokenizer(self._below_root, spec.name)
        self._together = Together(self._answers, self.kind, self._most)
        self._by_text = False
        self._connection = Connection(spec.base_url, spec.api_key, spec.timeout)

    async def check(self) -> None:
        """Ask for the list of models: is there a server, does it speak JSON, take the key, and of what kind is it?"""
        header_safe(self._spec.api_key or "")
        for tried in range(1, TRIES + 1):
            try:
                status, content, headers = await self._connection.get(f"{self._spec.base_url}/models")
            except RequestError as error:
                if tried == TRIES or not error.billed:  # nobody is there, or nothing comes of it
                    raise self._server.unreachable(str(error)) from error
            else:
                if status < 500 or tried == TRIES:
                    break
            await asyncio.sleep(0.2 * tried)
        self._server.describe(status, content, headers.get("content-type", ""))
        self._tokenizer.llama = self._server.owner == "llamacpp"
        # llama.cpp counts the tokens of but one of several prompts.
        together = 1 if self._server.owner == "llamacpp" else TOGETHER
        self.capabilities = replace(self.capabilities, context=self._server.context, together=together)

    async def close(self) -> None:
        """Close the connections."""
        await self._together.close()
        await self._connection.close()

    async def send(self, request: Request) -> Response:
        """Answer one request: in one HTTP request of its own or with others, or from the tokenizer."""
        prompt, readout = request.prompt, request.readout
        if self._spec.api == "completions" and has_images(prompt):
            raise EndpointError("images travel in turns only (model.api); use api: chat")
        if isinstance(readout, Spelling):
            return Response("", spelt=await self._tokenizer.spell(prompt, readout.texts))
        if isinstance(readout, Continuation):
            return await self._scored(request, readout.text)
        if _spelt(request):
            await self._tokenizer.ids(prompt)  # once, before those that ask behind the same prompt gather
        return await self._together.send(request)

    def body(self, request: Request, ids: Ids = ()) -> tuple[str, Body]:
        """The route and the wire body of a request.

        Args:
            request: the request.
            ids: the prompt's, where it travels as ids.
        """
        return body_of(self._spec.name, request, self._server.owner, ids)

    def kind(self, request: Request) -> Hashable | None:
        """What requests must have in common to travel together: samples of one prompt, or prompts of one readout."""
        if is_drawn(request):
            return samples_of(request) if self.capabilities.samples else None
        readout = request.readout
        if self.capabilities.together == 1:
            return None
        if isinstance(readout, NextToken) and _spelt(request):
            return replace(request, readout=replace(readout, spelt=()))
        if self._spec.batch == 1 or not isinstance(request.prompt, str):
            return None
        text = isinstance(readout, Generate) and readout.schema is None and request.role != "capability"
        return replace(request, prompt="") if text or isinstance(readout, NextToken) else None

    def _most(self, request: Request) -> int:
        """How many requests may travel together."""
        return MOST if is_drawn(request) else TOGETHER if _spelt(request) else self._spec.batch

    async def _answers(self, requests: Sequence[Request]) -> Sequence[Response]:
        """The answers to samples of one prompt, or to several prompts of one readout, in one HTTP request."""
        ids = await self._tokenizer.ids(requests[0].prompt) if _spelt(requests[0]) else ()
        route, body = self.body(requests[0], ids)
        drawn = is_drawn(requests[0])
        if len(requests) > 1:
            body |= {"n": len(requests)} if drawn else {"prompt": [self.body(r, ids)[1]["prompt"] for r in requests]}
        try:
            answer, got = await self._post(f"{self._spec.base_url}/{route}", body, route)
        except NoRouteError as error:
            raise without_route(error, self._spec.base_url, requests[0]) from error
        try:
            found = choices(answer)[: len(requests)]
            costs = shares(usage(answer), len(found), one_prompt=drawn)
            wait = pause(got.headers)
            return [response(c, r, used, wait) for c, r, used in zip(found, requests, costs, strict=False)]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._server.unreadable(got.content) from error

    async def _scored(self, request: Request, text: str) -> Response:
        """The log-probabilities of a text after the prompt, by echo: as ids, where the server shows its tokenizer."""
        prompt = request.prompt
        ids: Ids = ()
        spelt: Ids = ()
        if not self._by_text:
            try:
                # Tokens do not reach across white space: the last word decides how what follows is cut.
                end = re.findall(r"\S*\s*\Z", prompt)[0][-32:] if isinstance(prompt, str) else ()
                ids, (spelt,) = await self._tokenizer.ids(prompt), await self._tokenizer.spell(end, [text])
            except RequestError as error:
                if error.retryable or not isinstance(prompt, str):
                    raise
                self._by_text = True
        whole: Any = [*ids, *spelt] if spelt else f"{prompt}{text}"
        body = {"model": self._spec.name, "prompt": whole, "max_tokens": 1, "temperature": 0, "logprobs": 1}
        answer, got = await self._post(f"{self._spec.base_url}/completions", {**body, "echo": True}, "completions")
        try:
            logprobs = choices(answer)[0].get("logprobs")
            tokens = echoed_ids(logprobs, len(ids), spelt) if spelt else echoed_text(logprobs, str(prompt), text)
            return Response(text, tokens, usage=usage(answer), pause=pause(got.headers))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._server.unreadable(got.content) from error

    async def _below_root(self, route: str, body: Body) -> Any:
        return (await self._post(f"{self._spec.base_url.removesuffix('/v1')}/{route}", body, route))[0]

    async def _post(self, url: str, body: Body, route: str) -> tuple[Any, Answer]:
        """POST a body; the answer's JSON, and the answer."""
        try:
            content = orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise RequestError(f"the prompt cannot be sent: {error}") from error
        answer = await self._connection.post(url, content)
        if answer.status != 200:
            raise self._server.refusal(answer.status, answer.content, answer.headers, route)
        try:
            found = orjson.loads(answer.content)
        except ValueError as error:
            raise self._server.unreadable(answer.content, route) from error
        if (fault := self._server.fault(found)) is not None:
            raise fault
        self._server.answered(route)
        return found, answer


def _spelt(request: Request) -> bool:
    """Whether it asks behind tokens that were said after the prompt."""
    readout = request.readout
    return isinstance(readout, NextToken) and isinstance(readout.spelt, tuple) and bool(readout.spelt)
