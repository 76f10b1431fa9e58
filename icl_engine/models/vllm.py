"""`vllm`: any OpenAI-compatible server (vLLM, SGLang, llama-server, LM Studio, Ollama …)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import Field, field_validator

from icl_engine.errors import EndpointError, RequestError, bounded
from icl_engine.models.base import Provider
from icl_engine.types import Capabilities, Continuation, Generate, NextToken, Request, Response, Usage

if TYPE_CHECKING:
    import httpx

TOP = 20
"""The widest top-k that vLLM's servers give unless told otherwise."""


class Vllm(Provider):
    """A model behind an OpenAI-compatible HTTP API.

    Args:
        base_url: up to and with ``/v1``.
        name: the model's name on the server.
        api_key: ``${VAR}``; sent as a bearer token, never written anywhere.
        timeout: seconds to wait for one answer.
    """

    use: Literal["vllm"] = "vllm"
    base_url: str
    name: str
    api_key: str | None = Field(default=None, repr=False)
    timeout: float = 120.0

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not a URL like http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ValueError("has a password in it; use api_key: ${VAR}")
        return url.rstrip("/")

    @property
    def title(self) -> str:
        """The model's name on the server."""
        return self.name

    def connect(self) -> VllmEndpoint:
        """An endpoint that connects at its first request."""
        return VllmEndpoint(self)


class VllmEndpoint:
    """See `Vllm`."""

    capabilities = Capabilities(text=True, chat=True, top_logprobs=TOP)

    def __init__(self, spec: Vllm) -> None:
        self._spec = spec
        self.identity = f"{spec.identity or spec.base_url}|{spec.name}"
        self._client: httpx.AsyncClient | None = None

    def _connection(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            headers = {"Authorization": f"Bearer {self._spec.api_key}"} if self._spec.api_key else {}
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            timeout = httpx.Timeout(self._spec.timeout, connect=10.0)
            self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        return self._client

    async def check(self) -> None:
        """Ask for the list of models: is there a server, does it speak JSON, does it take the key?"""
        import httpx

        url = f"{self._spec.base_url}/models"
        try:
            answer = await self._connection().get(url)
        except httpx.HTTPError as error:
            raise EndpointError(
                f"nothing answers at {self._spec.base_url} ({type(error).__name__}); "
                "is the server running, is model.base_url right?"
            ) from error
        if answer.status_code in (401, 403):
            raise EndpointError(f"{self._spec.base_url} refuses the key (model.api_key): {self._words(answer)}")
        try:
            orjson.loads(answer.content)
        except ValueError as error:
            kind = answer.headers.get("content-type", "text").split(";")[0]
            raise EndpointError(
                f"{url} answers {kind}, not JSON; is model.base_url that of an OpenAI-compatible server (…/v1)?"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def send(self, request: Request) -> Response:
        """POST one request and read its answer."""
        import httpx

        path = "completions" if isinstance(request.prompt, str) else "chat/completions"
        try:
            answer = await self._connection().post(
                f"{self._spec.base_url}/{path}",
                content=orjson.dumps(self.body(request)),
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise RequestError(f"{type(error).__name__}: {bounded(str(error))}", retryable=True) from error
        self._refuse(answer)
        try:
            return self._read(orjson.loads(answer.content), request)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise RequestError(f"an unreadable answer: {self._redacted(answer.text)!r}", retryable=True) from error

    def body(self, request: Request) -> dict[str, Any]:
        """The wire body of a request."""
        chat = not isinstance(request.prompt, str)
        body: dict[str, Any] = {"model": self._spec.name}
        if isinstance(request.prompt, str):
            body["prompt"] = request.prompt
        else:
            body["messages"] = [{"role": m.role, "content": m.content} for m in request.prompt]
        match request.readout:
            case NextToken(top):
                body |= {"max_tokens": 1, "temperature": 0}
                body |= {"logprobs": True, "top_logprobs": top} if chat else {"logprobs": top}
            case Generate(sampling, grammar, schema):
                body |= {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
                if sampling.stop:
                    body["stop"] = list(sampling.stop)
                if sampling.seed is not None:
                    body["seed"] = sampling.seed + request.sample
                if grammar is not None:
                    body["structured_outputs"] = {"grammar": grammar}
                elif schema is not None:
                    body["structured_outputs"] = {"json": dict(schema)}
            case Continuation():
                raise EndpointError("scores of a given continuation are not read from OpenAI-compatible servers yet")
        return body

    def _words(self, answer: httpx.Response) -> str:
        """The provider's own words, bounded, the key taken out."""
        try:
            said = orjson.loads(answer.content)
            error = said.get("error", said)
            text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        except (ValueError, AttributeError):
            text = answer.text
        return self._redacted(text)

    def _redacted(self, text: str) -> str:
        return bounded(text.replace(self._spec.api_key, "***") if self._spec.api_key else text)

    def _refuse(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status == 200:
            return
        words = f"HTTP {status}: {self._words(answer)}"
        if status in (401, 403, 404):
            raise EndpointError(f"{self._spec.base_url}: {words}")
        retry_after = answer.headers.get("retry-after", "")
        raise RequestError(
            words,
            retryable=status in (408, 409, 425, 429) or status >= 500,
            retry_after=float(retry_after) if retry_after.replace(".", "", 1).isdigit() else None,
        )

    def _read(self, answer: dict[str, Any], request: Request) -> Response:
        choice = answer["choices"][0]
        chat = not isinstance(request.prompt, str)
        text = (choice["message"]["content"] if chat else choice["text"]) or ""
        tokens: tuple[tuple[str, float], ...] = ()
        if isinstance(request.readout, NextToken):
            tokens = _top(choice.get("logprobs"), chat)
        used = answer.get("usage") or {}
        return Response(
            text,
            tokens,
            choice.get("finish_reason"),
            Usage(
                used.get("prompt_tokens") or 0,
                (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
                used.get("completion_tokens") or 0,
            ),
        )


def _top(logprobs: dict[str, Any] | None, chat: bool) -> tuple[tuple[str, float], ...]:
    """(token, log p) of the likeliest first tokens; empty where the server left them out."""
    if not logprobs:
        return ()
    if chat or "content" in logprobs:
        rows = (logprobs.get("content") or [{}])[0].get("top_logprobs") or []
        pairs = [(row["token"], float(row["logprob"])) for row in rows]
    else:
        first = (logprobs.get("top_logprobs") or [{}])[0] or {}
        pairs = [(token, float(p)) for token, p in first.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))
