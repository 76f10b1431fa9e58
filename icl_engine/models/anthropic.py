"""`anthropic`: the Messages API, through Anthropic's own SDK."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field, field_validator

from icl_engine.errors import EndpointError, IclError, RequestError, bounded
from icl_engine.models.base import Provider
from icl_engine.models.messages import closed, message_of, turns
from icl_engine.models.rates import asked, passing, pause, spent
from icl_engine.models.server import CONGESTED, cause, fault_of, header_safe, lost
from icl_engine.types import Capabilities, Generate, Request, Response

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic

log = logging.getLogger("icl_engine")

KEY, URL = "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"
USUAL = 1.0
"""The API's own temperature: left out, since newer models refuse the field whatever it says."""
WITH_TEMPERATURE = {"anthropic-version": "2023-06-01"}
"""The last version of the API that has a temperature; the SDK asks for a newer one from its version 2 on."""
NO_TEMPERATURE = re.compile(
    r"temperature.*(deprecated|not support|unsupported|not permitted|only be set|only.*default)|anthropic-version"
)
DECLARED = {"schema": "structured_outputs", "images": "image_input"}
"""Our capabilities -> what newer versions of the API declare of a model."""


class Anthropic(Provider):
    """A model behind Anthropic's Messages API: text and JSON, no log-probabilities.

    The API takes no seed, so none is sent: what is drawn at a temperature above 0 cannot be drawn again.

    Args:
        name: the model's name.
        base_url: another server that speaks this API; null is Anthropic's, or that of ``ANTHROPIC_BASE_URL``.
        api_key: ``${VAR}``; null reads ``ANTHROPIC_API_KEY``. It is never written anywhere.
        timeout: seconds to wait for one answer.
        api: ``chat``, the only one.
        prompt_cache: mark where what many prompts share ends, so that the API keeps it for a few minutes and charges
            less for reading it again.
    """

    use: Literal["anthropic"] = "anthropic"
    name: str = Field(min_length=1)
    base_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    timeout: float = Field(default=120.0, gt=0.0)
    api: Literal["completions", "chat"] = "chat"
    prompt_cache: bool = True

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

    def connect(self) -> AnthropicEndpoint:
        """An endpoint that connects at its first request."""
        return AnthropicEndpoint(self)


class AnthropicEndpoint:
    """See `Anthropic`."""

    uncertain: frozenset[str] = frozenset(DECLARED)
    capabilities = Capabilities(text=False, chat=True, schema=True, images=True)

    def __init__(self, spec: Anthropic) -> None:
        self._spec = spec
        # The SDK adds /v1 itself. What only the environment says decides the answers, yet is not written down.
        self._url = (spec.base_url or os.environ.get(URL, "")).rstrip("/").removesuffix("/v1")
        hidden = bool(self._url) and not spec.base_url
        address = hashlib.sha256(self._url.encode()).hexdigest() if hidden else self._url
        self.identity = f"{spec.identity or f'anthropic:{address}'}|{spec.name}"
        self._key = ""
        self._client: AsyncAnthropic | None = None
        self._temperature = True
        self._warned: set[str] = set()

    def _connection(self) -> AsyncAnthropic:
        """The SDK's client; it does not retry, since the driver does.

        Raises:
            EndpointError: there is no key, or it cannot be one.
        """
        if self._client is None:
            self._key = self._spec.api_key or os.environ.get(KEY, "")
            if not self._key:
                raise EndpointError(f"no key for anthropic: set {KEY}, or write api_key: ${{NAME}}")
            header_safe(self._key)
            if self._url and (fault := fault_of(self._url)):
                raise EndpointError(f"{URL} {fault}")
            import anthropic

            self._client = anthropic.AsyncAnthropic(
                api_key=self._key,
                base_url=self._url or None,
                timeout=anthropic.Timeout(self._spec.timeout, connect=10.0),
                max_retries=0,
            )
        return self._client

    async def check(self) -> None:
        """Ask for the model: is there a server, does it speak JSON, does it take the key, does it have the model?

        A server without a route for that is used all the same.
        """
        import anthropic

        client = self._connection()
        try:
            found: Any = await client.models.retrieve(self._spec.name)
        except anthropic.APIConnectionError as error:
            raise EndpointError(
                f"nothing answers at {client.base_url} ({cause(error)}); "
                "is the server running, is model.base_url right?"
            ) from None
        except anthropic.APIStatusError as error:
            if (fatal := self._fatal(error)) is not None:
                raise fatal from None
            return
        except ValueError:
            raise self._no_json("no readable body") from None
        if not isinstance(found, anthropic.BaseModel):
            raise self._no_json("text")
        self._learn(found.to_dict(warnings=False))

    def _learn(self, found: Mapping[str, Any]) -> None:
        """Take over what the API itself says of the model: that need not be tried."""
        told: dict[str, Any] = {}
        for ours, theirs in DECLARED.items():
            match found:
                case {"capabilities": {**declared}} if isinstance(support := declared.get(theirs), Mapping):
                    told[ours] = support.get("supported") is True
        if isinstance(context := found.get("max_input_tokens"), int):
            told["context"] = context
        can = self.capabilities
        told = {name: value for name, value in told.items() if name not in can.probed}
        self.capabilities = replace(can, **told, probed=can.probed | (told.keys() & self.uncertain))

    def _no_json(self, kind: str) -> EndpointError:
        base = self._connection().base_url
        return EndpointError(f"{base} answers {kind}, not JSON; is model.base_url that of a server with /v1/messages?")

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def send(self, request: Request) -> Response:
        """POST one request and read its answer."""
        import anthropic

        client = self._connection()
        body = self.body(request)
        stop = request.readout.sampling.stop if isinstance(request.readout, Generate) else ()
        named = {key: body[key] for key in ("model", "max_tokens", "messages")}
        # Not every version of the SDK has arguments for the rest; all take it this way.
        rest = {key: value for key, value in body.items() if key not in named}
        headers = WITH_TEMPERATURE if "temperature" in body else None
        try:
            create = client.messages.with_raw_response.create
            answer = (await create(**named, extra_body=rest, extra_headers=headers)).http_response
        except UnicodeEncodeError as error:
            raise RequestError(f"the prompt cannot be sent: {error.reason}") from None
        except anthropic.APIConnectionError as error:
            raise lost(error, str(client.base_url)) from None
        except anthropic.APIStatusError as error:
            if "temperature" in body and self._without_temperature(error):
                return await self.send(request)
            raise self._refusal(error) from None
        try:
            read = message_of(orjson.loads(answer.content), stop)
        except (ValueError, LookupError, TypeError, AttributeError):
            words = self._redacted(answer.content.decode("utf-8", "replace"))
            raise RequestError(f"an unreadable answer: {words!r}", retryable=True, billed=True) from None
        wait = pause(answer.headers)
        return replace(read, pause=wait) if wait else read

    def body(self, request: Request) -> dict[str, Any]:
        """The wire body of a request.

        Raises:
            RequestError: the API cannot give what it asks for.
        """
        readout, prompt = request.readout, request.prompt
        if not isinstance(readout, Generate):
            raise RequestError("the Anthropic API gives no log-probabilities and shows no tokenizer")
        if readout.grammar is not None or readout.choices:
            raise RequestError("the Anthropic API takes no grammar and no list of choices, only a JSON Schema")
        if isinstance(prompt, str):
            raise RequestError("the Anthropic API takes turns, not one text; use api: chat")
        sampling = readout.sampling
        body = {"model": self._spec.name, "max_tokens": sampling.max_tokens, **turns(prompt, self._spec.prompt_cache)}
        if stop := [text for text in sampling.stop if text.strip()]:
            body["stop_sequences"] = stop
        if len(stop) < len(sampling.stop):
            self._warn("the Anthropic API takes no stop of white space alone; answers are cut there after they came")
        if self._temperature and sampling.temperature != USUAL:
            body["temperature"] = sampling.temperature
        if readout.schema is not None:
            try:
                body["output_config"] = {"format": {"type": "json_schema", "schema": closed(readout.schema)}}
            except ValueError as error:
                raise RequestError(f"the Anthropic API cannot hold answers to the schema: {error}") from None
        return body

    def _warn(self, what: str) -> None:
        """Say something once."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning(what)

    def _without_temperature(self, error: APIStatusError) -> bool:
        """Whether the model refused the temperature; none is sent to it from then on."""
        if error.status_code != 400 or not NO_TEMPERATURE.search(_said(error)[1].lower()):
            return False
        self._temperature = False
        self._warn(f"{self._spec.name} takes no temperature; its own is used, so the same question may get two answers")
        return True

    def _fatal(self, error: APIStatusError) -> EndpointError | None:
        """The error where no further request would be answered, or None."""
        status, (kind, words) = error.status_code, _said(error)
        said, base = f"HTTP {status}: {self._redacted(words)}", self._connection().base_url
        content = error.response.content
        if why := spent(status, content, asked(status, error.response.headers, content)):
            return EndpointError(f"{base}: {why}: {said}")
        if status in (401, 403):
            return EndpointError(f"{base} refuses the key (model.api_key): {said}")
        if status == 404 and kind == "not_found_error" and re.search(r"\bmodel\b", words):
            return EndpointError(f"{base} has no model {self._spec.name!r} (model.name): {said}")
        if status < 500 and "html" in error.response.headers.get("content-type", ""):
            return self._no_json("text/html")
        return None

    def _refusal(self, error: APIStatusError) -> IclError:
        """What an answer with an error status means."""
        if (fatal := self._fatal(error)) is not None:
            return fatal
        status = error.status_code
        words = f"HTTP {status}: {self._redacted(_said(error)[1])}"
        if status == 404:
            return EndpointError(f"{self._connection().base_url}: {words}; is model.base_url right?")
        if not passing(status):
            return RequestError(words)
        wait = asked(status, error.response.headers, error.response.content)
        return RequestError(
            words, retryable=True, retry_after=wait, congested=status in CONGESTED, limited=status == 429
        )

    def _redacted(self, text: str) -> str:
        return bounded(text.replace(self._key, "***") if self._key else text)


def _said(error: APIStatusError) -> tuple[str, str]:
    """The API's words for the kind of error (with its code, where it has one), and its message."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    if not isinstance(inner, Mapping):
        return "", str(inner or error.response.text)
    details = inner.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    kind = str(inner.get("type") or "")
    return f"{kind} {code}" if code else kind, str(inner.get("message") or inner)
