"""A server that follows OpenAI's API: what it says of itself, and what it means where it refuses."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from icl_engine.errors import EndpointError, RequestError, bounded, did_you_mean
from icl_engine.models.rates import asked, passing, spent
from icl_engine.types import Generate, Request

log = logging.getLogger("icl_engine")

LONGEST = ("max_model_len", "context_length", "context_window")
"""What vLLM and SGLang, OpenRouter, and Groq call the longest prompt and answer together."""

NO_MODEL = re.compile(r"\b(model|deployment)\b")
NO_ROUTE = re.compile(r"no route|endpoint|\burl\b|chat model|not a completion model|: not found$|method not allowed")
"""What a 404 says of a model that is not there, and of a route that is not: the latter may name a model, too."""

CANNOT = re.compile(r"not supported|unsupported|not implemented|does not support")
"""What some servers say with a status of 500, where they will never answer."""

TOO_LARGE = re.compile(r"request too large")
"""What OpenAI says with a status of 429 of a request that is more than a whole minute allows."""

CONGESTED = frozenset({402, 408, 429, 503, 504, 522, 524, 529})
"""Statuses that say that there is too much to do, or that it took too long: fewer requests in flight may help.

A 502 says nothing of the kind: what stands behind a gateway gave no answer that was one, as when it starts again;
where it has too much to do, gateways say 503 or 504. At 402 there is too much that is not paid yet (OpenRouter).
"""

UNSENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "LocalProtocolError", "UnsupportedProtocol"}
)
"""What goes wrong in httpx before a request is sent."""


class Server:
    """What is known of one server.

    Args:
        address: its base URL.
        name: the model that is asked for.
        key: the key, which is taken out of all that is quoted.
    """

    def __init__(self, address: str, name: str, key: str | None) -> None:
        self.address, self.name = address, name
        self._key = key
        self.listed: tuple[str, ...] = ()
        self.owner = ""
        self.context: int | None = None
        self._speaks = False
        self._answered: set[str] = set()

    # -- what it says of itself

    def unreachable(self, cause: str) -> EndpointError:
        """Nobody answers."""
        return EndpointError(
            f"nothing answers at {self.address} ({cause}); is the server running, is model.base_url right?"
        )

    def describe(self, status: int, content: bytes, kind: str) -> None:
        """Learn from what it answers to ``GET /models``.

        A server without that route is used all the same: its first answer decides.

        Args:
            status: the HTTP status.
            content: the body.
            kind: the content type.

        Raises:
            EndpointError: it refuses the key, or is no such server.
        """
        if status in (401, 403):
            raise self._refused_key(self._quoted(status, content))
        if status in (404, 405) or passing(status):
            return
        try:
            listing = orjson.loads(content)
        except ValueError as error:
            raise EndpointError(
                f"{self.address}/models answers {kind.split(';')[0] or 'text'}, not JSON; "
                "is model.base_url that of an OpenAI-compatible server (…/v1)?"
            ) from error
        if status == 200:
            self._learn(listing.get("data") if isinstance(listing, dict) else listing)

    def _learn(self, models: Any) -> None:
        """Take over the names it lists, its kind, and the model's context."""
        entries = [m for m in models if isinstance(m, dict)] if isinstance(models, list) else []
        self._speaks = bool(entries)
        self.listed = tuple(str(m["id"]) for m in entries if m.get("id"))
        self.owner = next((str(m["owned_by"]) for m in entries if m.get("owned_by")), "")
        ours = [m for m in entries if self.name == m.get("id")] or (entries if len(entries) == 1 else [])
        for entry in ours:
            meta = entry.get("meta")
            sizes = [entry.get(key) for key in LONGEST] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
            self.context = next((size for size in sizes if isinstance(size, int) and size > 0), None)

    def answered(self, route: str) -> None:
        """It gave an answer on a route: a model that it does not list is then worth a word, once."""
        self._speaks = True
        self._answered.add(route)
        # llama.cpp has but one model, and takes any name for it.
        if self.listed and self.name not in self.listed and self.owner != "llamacpp":
            log.warning("%s answers for the model %r, which it does not list%s", *self._hint())
        self.listed = ()

    def _hint(self) -> tuple[str, str, str]:
        hint = bounded(did_you_mean(self.name, self.listed, "it lists"), 200)
        return self.address, self.name, f" {hint}" if hint.startswith("(") else hint

    # -- what it means

    def redacted(self, text: str) -> str:
        """Its words, bounded, the key taken out."""
        return bounded(text.replace(self._key, "***") if self._key else text)

    def words(self, content: bytes) -> str:
        """What it says in the body of an error, in whatever shape."""
        try:
            said = orjson.loads(content)
            said = said[0] if isinstance(said, list) and said else said  # Google's form
            error = said.get("error") or said
            text = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
        except (ValueError, AttributeError):
            text = content.decode("utf-8", "replace")
        return self.redacted(str(text))

    def _quoted(self, status: int, content: bytes) -> str:
        return f"HTTP {status}: {self.words(content)}"

    def _refused_key(self, quoted: str) -> EndpointError:
        return EndpointError(f"{self.address} refuses the key (model.api_key): {quoted}")

    def refusal(
        self, status: int, content: bytes, headers: Mapping[str, str], route: str
    ) -> EndpointError | RequestError:
        """What an answer with an error status means: for this request, or for all.

        Args:
            status: the HTTP status.
            content: the body.
            headers: the headers, their names in lower case or found in any.
            route: what was asked, as ``completions``.
        """
        quoted = self._quoted(status, content)
        low = quoted.lower()
        main = route.endswith("completions")  # what else there is may be barred, or not there, where this works
        wait = asked(status, headers, content)
        if why := spent(status, content, wait):
            return EndpointError(f"{self.address}: {why}: {quoted}")
        if main and (status == 401 or (status == 403 and "logprobs" not in low)):
            return self._refused_key(quoted)
        if status == 404 and NO_MODEL.search(low) and not NO_ROUTE.search(low):
            address, name, hint = self._hint()
            return EndpointError(f"{address} has no model {name!r} (model.name){hint} ({quoted})")
        if main and status in (404, 405) and not self._speaks:
            return EndpointError(f"{self.address} has no route /{route}; is model.base_url right (…/v1)? {quoted}")
        if main and status in (404, 405) and route not in self._answered and NO_ROUTE.search(low):
            return NoRouteError(quoted)
        never = status == 501 or (status >= 500 and CANNOT.search(low)) or (status == 429 and TOO_LARGE.search(low))
        again = passing(status) and not never
        if not again:
            return RequestError(quoted)
        load = {"congested": status in CONGESTED, "limited": status == 429}
        return RequestError(quoted, retryable=True, retry_after=wait, **load)

    def unreadable(self, content: bytes, route: str = "completions") -> RequestError:
        """An answer that is none: a model may do better next time, elsewhere it is a page for what is not there."""
        words = self.redacted(content.decode("utf-8", "replace"))
        model = route.endswith("completions")
        return RequestError(f"an unreadable answer: {words!r}", retryable=model, billed=model)

    def fault(self, answer: Any) -> EndpointError | RequestError | None:
        """What an answer means that is an error, though its status was 200, as where a model had begun (OpenRouter)."""
        if not isinstance(answer, dict):
            return None
        found = answer.get("choices")
        first = found[0] if isinstance(found, list) and found else answer
        error = first.get("error") if isinstance(first, dict) else None
        if not error:
            return None
        content = orjson.dumps(first)
        words = self.words(content)
        code = str(error.get("code")) if isinstance(error, dict) else ""
        status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 0
        wait = asked(status or 429, {}, content)
        if why := spent(status or 429, content, wait):
            return EndpointError(f"{self.address}: {why}: {words}")
        # So LM Studio answers on a route that it does not have.
        if "unexpected endpoint" in words.lower() or (status and not passing(status)):
            return RequestError(words)
        return RequestError(words, retryable=True, retry_after=wait, congested=status in CONGESTED, billed=True)


class NoRouteError(RequestError):
    """The server has no such route, though it answers on others."""


def without_route(error: NoRouteError, address: str, request: Request) -> RequestError | EndpointError:
    """What a missing route means: for a question about a capability that it is not there, for any other that none is.

    >>> without_route(NoRouteError("HTTP 404"), "http://h/v1", Request("2 + 2 =", Generate()))
    EndpointError('http://h/v1 does not complete a plain prompt (HTTP 404); use api: chat')
    """
    readout = request.readout
    plain = isinstance(readout, Generate) and not (readout.choices or readout.grammar or readout.schema)
    if request.role == "capability" and not plain:
        return error
    chat = not isinstance(request.prompt, str)
    what, other = ("take turns", "completions") if chat else ("complete a plain prompt", "chat")
    return EndpointError(f"{address} does not {what} ({error}); use api: {other}")


def header_safe(key: str) -> None:
    """Make sure of a key before the HTTP client does, whose words would quote it.

    Raises:
        EndpointError: it has white space or letters in it that no header has.
    """
    if not all("!" <= c <= "~" for c in key):
        raise EndpointError("the key (model.api_key) has white space or letters in it that no key has")


def fault_of(url: str) -> str | None:
    """What is wrong with a server's URL.

    >>> fault_of("127.0.0.1:8000")
    'is not a URL like http://127.0.0.1:8000/v1'
    """
    try:
        parts = urlsplit(url)
        found = parts.hostname and parts.port != 0
    except ValueError:
        found = False
    if not found or parts.scheme not in ("http", "https"):
        return "is not a URL like http://127.0.0.1:8000/v1"
    return "has a password in it; use api_key: ${VAR}" if parts.username or parts.password else None


def cause(error: Exception) -> str:
    """The name of what went wrong below an SDK; never its words, which may quote a header."""
    return type(error.__cause__ or error).__name__


def lost(error: Exception, address: str) -> RequestError:
    """What it means that an SDK got no answer: one that was asked for may have been given, and is paid for then."""
    name = cause(error)
    what = f"no answer from {address} ({name})"
    return RequestError(what, retryable=True, congested="Timeout" in name, billed=name not in UNSENT)
