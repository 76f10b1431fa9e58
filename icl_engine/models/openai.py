"""`openai`: OpenAI's API, and Azure's form of it, through OpenAI's own SDK."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field, field_validator

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.base import Provider
from icl_engine.models.coalesce import MOST, Together, is_drawn, samples_of, shares
from icl_engine.models.rates import pause
from icl_engine.models.server import NoRouteError, Server, cause, fault_of, header_safe, lost, without_route
from icl_engine.models.wire import Body, choices, has_images, json_format, response, stopped, turns, usage
from icl_engine.types import Capabilities, Generate, NextToken, Request, Response

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

log = logging.getLogger("icl_engine")

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"

REFUSED = re.compile(r"unsupported|not supported|does not support|unrecognized|unknown parameter|only the default")
"""What the API says of a field that a model does not take."""

SPARED = {
    "temperature": "its own is used, so the same question may get two answers",
    "stop": "answers are cut there after they came",
    "seed": "what is drawn cannot be drawn again",
}
"""Fields that are left out for a model that does not take them, and what that means."""


class OpenAI(Provider):
    """A model behind OpenAI's API: chat completions, or completions for base models.

    Args:
        name: the model's name; on Azure, the deployment's.
        base_url: another server of this API, as ``https://NAME.openai.azure.com/openai/v1/``; null is OpenAI's, or
            that of ``OPENAI_BASE_URL``.
        api_key: ``${VAR}``; null reads ``OPENAI_API_KEY``. It is never written anywhere.
        organization: who pays, for keys of several organizations.
        timeout: seconds to wait for one answer.
        api: ``chat`` sends turns, ``completions`` one text.
        reasoning_effort: how long a reasoning model may think, in the API's words (``none``, ``low`` …); null leaves
            it to the model.
    """

    use: Literal["openai"] = "openai"
    name: str = Field(min_length=1)
    base_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    organization: str | None = None
    timeout: float = Field(default=120.0, gt=0.0)
    api: Literal["completions", "chat"] = "chat"
    reasoning_effort: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url and (fault := fault_of(url)):
            raise ValueError(fault)
        return url

    @property
    def title(self) -> str:
        """The model's name."""
        return self.name

    def connect(self) -> OpenAIEndpoint:
        """An endpoint that connects at its first request."""
        return OpenAIEndpoint(self)


class OpenAIEndpoint:
    """See `OpenAI`."""

    def __init__(self, spec: OpenAI) -> None:
        self._spec = spec
        # What only the environment says decides the answers, yet is not written down.
        self._url = (spec.base_url or os.environ.get(URL, "")).rstrip("/")
        hidden = bool(self._url) and not spec.base_url
        address = hashlib.sha256(self._url.encode()).hexdigest() if hidden else self._url
        self.identity = f"{spec.identity or f'openai:{address}'}|{spec.name}"
        self.uncertain: frozenset[str] = frozenset({"top_logprobs", "samples", "seed"})
        self.capabilities = Capabilities(top_logprobs=5, samples=True, seed=True)
        if spec.api == "chat":
            self.uncertain |= {"schema", "images"}
            chat = Capabilities(text=False, chat=True, top_logprobs=20, schema=True, images=True)
            self.capabilities = replace(chat, samples=True, seed=True)
        self._together = Together(self._answers, self.kind, lambda _: MOST)
        self._left_out: set[str] = set()
        self._connected: tuple[AsyncOpenAI, Server] | None = None

    def _connection(self) -> tuple[AsyncOpenAI, Server]:
        """The SDK's client; it does not retry, since the driver does.

        Raises:
            EndpointError: there is no key, or it cannot be one.
        """
        if self._connected is None:
            key = self._spec.api_key or os.environ.get(KEY, "")
            if not key:
                raise EndpointError(f"no key for openai: set {KEY}, or write api_key: ${{NAME}}")
            header_safe(key)
            import openai

            client = openai.AsyncOpenAI(
                api_key=key,
                base_url=self._url or None,
                organization=self._spec.organization,
                timeout=openai.Timeout(self._spec.timeout, connect=10.0),
                max_retries=0,
            )
            self._connected = client, Server(str(client.base_url).rstrip("/"), self._spec.name, key)
        return self._connected

    async def check(self) -> None:
        """Ask for the list of models: is there a server, does it speak JSON, does it take the key?"""
        client, server = self._connection()
        import openai

        try:
            answer: Any = (await client.models.with_raw_response.list()).http_response
        except openai.APIConnectionError as error:
            raise server.unreachable(cause(error)) from None
        except openai.APIStatusError as error:
            answer = error.response
        server.describe(answer.status_code, answer.content, answer.headers.get("content-type", ""))
        self.capabilities = replace(self.capabilities, context=server.context)

    async def close(self) -> None:
        """Close the connections."""
        await self._together.close()
        if self._connected is not None:
            client, _ = self._connected
            self._connected = None
            await client.close()

    async def send(self, request: Request) -> Response:
        """Answer one request: in one HTTP request of its own, or with other samples of its prompt."""
        if self._spec.api == "completions" and has_images(request.prompt):
            raise EndpointError("images travel in turns only (model.api); use api: chat")
        answer = await self._together.send(request)
        return stopped(answer, request) if "stop" in self._left_out else answer

    def kind(self, request: Request) -> Hashable | None:
        return samples_of(request) if is_drawn(request) and self.capabilities.samples else None

    def body(self, request: Request) -> Body:
        """The wire body of a request.

        Raises:
            RequestError: the API cannot give what it asks for.
        """
        prompt, readout = request.prompt, request.readout
        chat = not isinstance(prompt, str)
        body: Body = {"model": self._spec.name}
        body |= {"prompt": prompt} if isinstance(prompt, str) else {"messages": turns(prompt)}
        limit = "max_completion_tokens" if chat else "max_tokens"
        if isinstance(readout, NextToken):
            if readout.named or isinstance(readout.spelt, tuple):
                raise RequestError("the OpenAI API takes no token ids, and gives none")
            if readout.spelt and chat:
                raise RequestError("the OpenAI API does not go on with an answer that is begun for the model")
            if not chat:
                body["prompt"] = f"{prompt}{readout.spelt}"
            body |= {limit: readout.places, "temperature": 0}
            body |= {"logprobs": True, "top_logprobs": readout.top} if chat else {"logprobs": readout.top}
        elif isinstance(readout, Generate):
            if readout.grammar is not None or readout.choices or (readout.schema is not None and not chat):
                raise RequestError("the OpenAI API holds answers to a JSON Schema in chats, and to nothing else")
            sampling = readout.sampling
            body |= {limit: sampling.max_tokens, "temperature": sampling.temperature}
            if sampling.stop:
                body["stop"] = list(sampling.stop)
            if sampling.seed is not None:
                body["seed"] = sampling.seed + request.sample
            if readout.schema is not None:
                body["response_format"] = json_format(readout.schema)
        else:
            raise RequestError("the OpenAI API shows no tokenizer, and scores no text that is given to it")
        if chat and self._spec.reasoning_effort is not None:
            body["reasoning_effort"] = self._spec.reasoning_effort
        return {field: value for field, value in body.items() if field not in self._left_out}

    async def _answers(self, requests: Sequence[Request]) -> Sequence[Response]:
        """The answers to samples of one prompt, in one HTTP request."""
        several = {"n": len(requests)} if len(requests) > 1 else {}
        content, headers = await self._post(requests[0], several)
        server = self._connection()[1]
        try:
            answer = orjson.loads(content)
            if (fault := server.fault(answer)) is not None:
                raise fault
            found = choices(answer)[: len(requests)]
            costs = shares(usage(answer), len(found), one_prompt=True)
            wait = pause(headers)
            read = [response(c, r, used, wait) for c, r, used in zip(found, requests, costs, strict=False)]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise server.unreadable(content) from error
        server.answered("chat/completions" if "messages" in self.body(requests[0]) else "completions")
        return read

    async def _post(self, request: Request, several: Body) -> tuple[bytes, Mapping[str, str]]:
        """POST a request; the answer's bytes and headers. A field that the model refuses is left out, from then on."""
        client, server = self._connection()
        import openai

        body = self.body(request) | several
        chat = "messages" in body
        resource: Any = client.chat.completions if chat else client.completions
        try:
            answer = (await resource.with_raw_response.create(**body)).http_response
            return answer.content, answer.headers
        except UnicodeEncodeError as error:
            raise RequestError(f"the prompt cannot be sent: {error.reason}") from None
        except openai.APIConnectionError as error:
            raise lost(error, server.address) from None
        except openai.APIStatusError as error:
            if (field := _refused(error)) in body:
                self._spare(field)
                return await self._post(request, several)
            route = "chat/completions" if chat else "completions"
            found = server.refusal(error.status_code, error.response.content, error.response.headers, route)
            raise (
                without_route(found, server.address, request) if isinstance(found, NoRouteError) else found
            ) from None

    def _spare(self, field: str) -> None:
        """Send a field no longer; say so once."""
        if field not in self._left_out:
            self._left_out.add(field)
            log.warning("%s takes no %s; %s", self._spec.name, field, SPARED[field])


def _refused(error: APIStatusError) -> str:
    """The field that a model does not take, of those it can be spared; empty for any other reason."""
    words = f"{error.code} {error.message}".lower()
    if error.status_code != 400 or not REFUSED.search(words):
        return ""
    return next((name for name in SPARED if error.param == name or re.search(rf"\b{name}\b", words)), "")
