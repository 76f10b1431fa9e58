"""`embeddings`: vectors by an OpenAI-compatible embeddings API (OpenAI, Azure, vLLM, llama-server, Ollama …)."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson
from pydantic import Field, field_validator
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.openai import KEY, URL
from icl_engine.models.rates import asked, passing, spent
from icl_engine.models.server import Server, fault_of, header_safe, lost
from icl_engine.models.text_encoder import TextEncoder

if TYPE_CHECKING:
    import numpy as np
    from openai import APIStatusError, OpenAI

log = logging.getLogger("icl_engine")

PATIENCE = 120.0
"""Seconds for which one batch is asked for again and again."""

REFUSED = frozenset({400, 413, 422})
"""Statuses that say that a request is too much: more texts than the server takes at once, or a text too long."""

_backoff = wait_random_exponential(multiplier=0.25, max=20.0)


class TooMuchError(RequestError):
    """The server refuses a batch; a smaller one may do."""


class Embeddings(TextEncoder):
    """Vectors by a model behind an OpenAI-compatible embeddings API.

    Texts travel one batch after another; each batch's vectors are kept before the next is asked for. A server that
    refuses a batch is asked for half as many texts at once.

    Args:
        name: the model's name.
        base_url: up to and with ``/v1``; null is OpenAI's, or that of ``OPENAI_BASE_URL``.
        api_key: ``${VAR}``; null reads ``OPENAI_API_KEY`` where there is no `base_url`, else sends none. It is never
            written anywhere.
        dimensions: how many numbers a vector has, for models that leave a choice; null: the model's own.
        batch: how many texts one request has.
        timeout: seconds to wait for one answer.

    >>> Embeddings(name="text-embedding-3-small", api_key="secret").batch
    256
    """

    remote: ClassVar[bool] = True

    use: Literal["embeddings"] = "embeddings"
    name: str = Field(min_length=1)
    base_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    dimensions: int | None = Field(default=None, ge=1)
    batch: int = Field(default=256, ge=1, le=2048)
    timeout: float = Field(default=60.0, gt=0.0)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url and (fault := fault_of(url)):
            raise ValueError(fault)
        return url

    @property
    def identity(self) -> str:
        """The server, the model, and how many numbers are asked for; never the key."""
        # What only the environment says decides the vectors, yet is not written down.
        hidden = hashlib.sha256(self._url.encode()).hexdigest()
        return f"{self.use}|{self._url if self.base_url else hidden}|{self.name}|{self.dimensions}"

    @property
    def _url(self) -> str:
        return (self.base_url or os.environ.get(URL, "")).rstrip("/")

    def embed(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """The vectors of texts, a batch at a time."""
        client, server = self._connection()
        size, done = self.batch, 0
        with client:
            while done < len(texts):
                batch = texts[done : done + size]
                try:
                    rows = self._retried(client, server, batch)
                except TooMuchError as error:
                    if len(batch) == 1:
                        text = server.redacted(batch[0])[:60]
                        raise EndpointError(f"{server.address} refuses to embed {text!r}: {error}") from None
                    size = len(batch) // 2
                    continue
                except RequestError as error:
                    raise EndpointError(f"{server.address}/embeddings: {error}") from None
                yield rows
                done += len(batch)

    def _connection(self) -> tuple[OpenAI, Server]:
        """The SDK's client; it does not retry, since we do.

        Raises:
            EndpointError: there is no key, or it cannot be one.
        """
        key = self.api_key or ("" if self.base_url else os.environ.get(KEY, ""))
        if not key and not self.base_url:
            raise EndpointError(f"no key for embeddings: set {KEY}, or write api_key: ${{NAME}}, or base_url")
        header_safe(key)
        import openai

        client = openai.OpenAI(
            api_key=key or "none",  # the SDK wants one; a server without keys does not look at it
            base_url=self._url or None,
            timeout=openai.Timeout(self.timeout, connect=min(10.0, self.timeout)),
            max_retries=0,
        )
        return client, Server(str(client.base_url).rstrip("/"), self.name, key)

    def _retried(self, client: OpenAI, server: Server, batch: Sequence[str]) -> np.ndarray:
        """A batch's vectors, asked for again while the server says that it may do later."""
        tries = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, RequestError) and error.retryable),
            wait=_wait,
            stop=stop_before_delay(PATIENCE),
            before_sleep=lambda state: _tell(state, server),
            reraise=True,
        )
        return tries(self._ask, client, server, batch)

    def _ask(self, client: OpenAI, server: Server, batch: Sequence[str]) -> np.ndarray:
        """One request."""
        import openai

        sent = [text or " " for text in batch]  # servers refuse an empty text
        wanted = {} if self.dimensions is None else {"dimensions": self.dimensions}
        resource: Any = client.embeddings.with_raw_response
        try:
            # As numbers: the SDK would ask for base64, which not every server knows.
            answer = resource.create(model=self.name, input=sent, encoding_format="float", **wanted)
        except openai.APIConnectionError as error:
            raise lost(error, server.address) from None
        except openai.APIStatusError as error:
            raise self._refusal(error, server) from None
        return _vectors(answer.http_response.content, len(batch), server)

    def _refusal(self, error: APIStatusError, server: Server) -> EndpointError | RequestError:
        """What an answer with an error status means: for this try, or for all."""
        status, content = error.status_code, error.response.content
        quoted = f"HTTP {status}: {server.words(content)}"
        wait = asked(status, error.response.headers, content)
        if why := spent(status, content, wait):
            return EndpointError(f"{server.address}: {why}: {quoted}")
        if status in REFUSED:
            return TooMuchError(quoted)
        if passing(status) and status != 501:
            return RequestError(quoted, retryable=True, retry_after=wait)
        if status in (401, 403):
            return EndpointError(f"{server.address} refuses the key (encoder.api_key): {quoted}")
        if status in (404, 405):
            hint = f"are encoder.base_url (…/v1) and encoder.name ({self.name!r}) right?"
            return EndpointError(f"{server.address}/embeddings is not there, or has no such model; {hint} {quoted}")
        return EndpointError(f"{server.address}/embeddings: {quoted}")


def _tell(state: RetryCallState, server: Server) -> None:
    """Say once that a batch is asked for again: nothing else shows that a run has not begun yet."""
    if state.attempt_number == 1 and state.outcome is not None:
        why = state.outcome.exception()
        log.warning("%s/embeddings: %s; asking again for up to %d s", server.address, why, PATIENCE)


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: as long as the server asks, at least what grows with the tries."""
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, RequestError) else None
    return max(told or 0.0, _backoff(state))


def _vectors(content: bytes, count: int, server: Server) -> np.ndarray:
    """The vectors of an answer in the order of the texts.

    Raises:
        EndpointError: it is none, or has another number of vectors, or they have different lengths.
    """
    import numpy as np

    try:
        data = orjson.loads(content)["data"]
        places = [row.get("index", i) for i, row in enumerate(data)]
        rows = [row["embedding"] for row in data]
        if sorted(places) != list(range(count)):
            what = f"answers {count} texts with {len(rows)} vectors (index {', '.join(map(str, places[:5]))} …)"
            raise EndpointError(f"{server.address}/embeddings {what}")
        vectors = np.asarray(rows, dtype=float)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        said = server.redacted(content[:2000].decode("utf-8", "replace"))
        what = f"gives an answer that is no list of vectors of one length; is encoder.base_url right (…/v1)? {said!r}"
        raise EndpointError(f"{server.address}/embeddings {what}") from error
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise EndpointError(f"{server.address}/embeddings gives vectors of no numbers")
    ordered = np.empty_like(vectors)
    ordered[places] = vectors
    return ordered
