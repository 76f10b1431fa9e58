"""A fast completions endpoint on loopback: a fixed answer to each prompt, faults at seeded rates, and an audit."""

from __future__ import annotations

import asyncio
import hashlib
import math
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
import uvloop

from icl_engine.models.probing import TEXT

Body = dict[str, Any]

BUSY = (500, 502, 503, 529)
GARBAGE = (b"", b"<html>busy</html>", b'{"choices": [', b'{"choices": []}', b'{"error": null}', b"\xff\xfe")
CUT = len(GARBAGE)
"""The garbage that is no body: an answer that ends before its length."""

WIDEST = 20
"""The widest top-k it gives."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how often: shares of all requests.

    Which of a prompt's tries goes wrong, and how, follows from the seed and the prompt, never from the order in which
    requests arrive.

    Args:
        errors: are answered with a 5xx, which costs nothing.
        resets: lose their connection once the answer has been made.
        garbage: get something unreadable in place of the answer that was made.
        slow: get their answer late.
        slow_seconds: so much later.
        latency: seconds that every answer takes.
        rate: requests a second above which they are told to come back in a second (429).
        sent_away: the numbers of requests, in order of arrival, that are told so in any case.
        seed: decides who is hit.
    """

    errors: float = 0.0
    resets: float = 0.0
    garbage: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 1.5
    latency: float = 0.0
    rate: int = 0
    sent_away: tuple[int, ...] = ()
    seed: int = 0

    def fate(self, prompt: str, nth: int) -> tuple[str, int]:
        """What happens to the nth request with a prompt, and a number that decides the details."""
        drawn = hashlib.blake2b(f"{self.seed}|{nth}|{prompt}".encode(), digest_size=12).digest()
        share, detail = int.from_bytes(drawn[:8], "big") / 2**64, int.from_bytes(drawn[8:], "big")
        for name in ("errors", "resets", "garbage", "slow"):
            if share < getattr(self, name):
                return name, detail
            share -= getattr(self, name)
        return "", detail


@dataclass
class Audit:
    """What came, and what was answered.

    Args:
        received: prompt -> times it came.
        answered: prompt -> times it was answered, late or in time.
        late: those that were answered late.
        faults: what went wrong -> times.
        arrivals: when each request came, by the monotonic clock.
        refusals: when each 429 was sent.
        billed: answers that were made, whether they arrived or not.
        prompt_tokens: of these; tokens are words.
        completion_tokens: of these.
        flying: requests that wait for their answer.
        peak: the most of them at once.
    """

    received: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    late: set[str] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    billed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    flying: int = 0
    peak: int = 0

    def bill(self, prompt: float, completion: float) -> float:
        """USD, by prices of a million tokens."""
        return (self.prompt_tokens * prompt + self.completion_tokens * completion) / 1e6

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def twice(self) -> set[str]:
        """Prompts that were answered more than once; what a model can do is asked in several ways with one prompt."""
        return {prompt for prompt, times in self.answered.items() if times > 1 and not prompt.startswith(TEXT)}


class Chaos:
    """The server, on a thread of its own; use it in a ``with`` block.

    Args:
        faults: may be replaced while it runs.
        words: what it may say.
        refuse: prompt -> the status with which it is refused at every try; None answers.
    """

    def __init__(
        self,
        faults: Faults | None = None,
        words: tuple[str, ...] = (" positive", " negative"),
        refuse: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        self.faults, self.words, self.refuse = faults or Faults(), words, refuse
        self.audit = Audit()
        self.window: deque[float] = deque()
        self.open: set[asyncio.Transport] = set()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        making = self._loop.create_server(lambda: _Http(self), "127.0.0.1", 0)
        running: Any = asyncio.run_coroutine_threadsafe(making, self._loop).result(10)
        self._server = running
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for transport in tuple(self.open):
            transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    def forget(self) -> Audit:
        """The audit so far; a new one begins."""
        before, self.audit = self.audit, Audit()
        return before

    def gone(self) -> bool:
        """Wait until nobody is connected any more, as after a client's end; whether that came."""
        deadline = time.monotonic() + 10
        while self.open and time.monotonic() < deadline:
            time.sleep(0.002)
        return not self.open

    # -- what it says

    def reply(self, body: Body) -> Body:
        """The answers to a body's prompts: the same to the same, whenever it is asked."""
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        wide = body.get("logprobs")
        choices = []
        for index, prompt in enumerate(prompts):
            figures = self._figures(prompt)
            first = figures[0][0]
            logprobs = {
                "tokens": [first],
                "token_logprobs": [figures[0][1]],
                "top_logprobs": [dict(figures[: max(wide or 0, 1)])],
                "text_offset": [0],
            }
            choices.append({"index": index, "text": first, "logprobs": logprobs if wide else None})
        sent, said = sum(len(prompt.split()) for prompt in prompts), len(prompts)
        usage = {"prompt_tokens": sent, "completion_tokens": said, "total_tokens": sent + said}
        return {"id": "1", "model": body["model"], "choices": choices, "usage": usage}

    def _figures(self, prompt: str) -> list[tuple[str, float]]:
        drawn = hashlib.blake2b(prompt.encode(), digest_size=len(self.words)).digest()
        weights = [byte / 64 for byte in drawn]
        total = math.log(sum(map(math.exp, weights))) + 0.05  # something else might be said, too
        pairs = zip(self.words, weights, strict=True)
        return sorted(((word, weight - total) for word, weight in pairs), key=lambda pair: -pair[1])

    def is_over(self, now: float) -> bool:
        """Whether one more request is above the rate; it counts if not."""
        if not self.faults.rate:
            return False
        while self.window and now - self.window[0] >= 1.0:
            self.window.popleft()
        if len(self.window) >= self.faults.rate:
            return True
        self.window.append(now)
        return False


class _Http(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Chaos) -> None:
        self._server, self._read = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = None
        self._transport = transport
        self._server.open.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].decode("latin-1").split("\r\n")
            named = (line.split(":", 1) for line in head[1:])
            length = next((int(value) for name, value in named if name.lower() == "content-length"), 0)
            whole = end + 4 + length
            if len(self._read) < whole:
                return
            content, self._read = self._read[end + 4 : whole], self._read[whole:]
            self._handle(head[0].rsplit(" ", 1)[0], content)

    def _handle(self, asked: str, content: bytes) -> None:
        if asked == "GET /v1/models":
            self._send(200, orjson.dumps({"data": [{"id": "m", "object": "model"}]}))
        elif asked == "POST /v1/completions":
            self._complete(orjson.loads(content))
        else:
            self._refuse(404, f"no route {asked}")

    def _complete(self, body: Body) -> None:
        server, audit, faults = self._server, self._server.audit, self._server.faults
        prompt = body["prompt"] if isinstance(body["prompt"], str) else "\x1e".join(body["prompt"])
        now = time.monotonic()
        audit.arrivals.append(now)
        audit.received[prompt] += 1
        if len(audit.arrivals) in faults.sent_away or server.is_over(now):
            audit.faults["429"] += 1
            audit.refusals.append(now)
            return self._refuse(429, "too many requests", "retry-after: 1\r\n")
        if (body.get("logprobs") or 0) > WIDEST:
            return self._refuse(400, f"logprobs is at most {WIDEST}")
        if status := server.refuse(prompt):
            audit.faults[str(status)] += 1
            return self._refuse(status, "refused for good")
        fate, detail = faults.fate(prompt, audit.received[prompt])
        if fate:
            audit.faults[fate] += 1
        if fate == "errors":
            return self._refuse(BUSY[detail % len(BUSY)], "injected")
        answer = server.reply(body)
        audit.billed += 1
        audit.prompt_tokens += answer["usage"]["prompt_tokens"]
        audit.completion_tokens += answer["usage"]["completion_tokens"]
        content = orjson.dumps(answer)
        if fate in ("resets", "garbage"):
            return self._spoil(fate, content, detail % (len(GARBAGE) + 1))
        audit.answered[prompt] += 1
        seconds = faults.latency
        if fate == "slow":
            audit.late.add(prompt)
            seconds += faults.slow_seconds
        if not seconds:
            return self._send(200, content)
        audit.flying += 1
        audit.peak = max(audit.peak, audit.flying)
        asyncio.get_running_loop().call_later(seconds, self._later, audit, content)
        return None

    def _later(self, audit: Audit, content: bytes) -> None:
        audit.flying -= 1
        self._send(200, content)

    def _spoil(self, fate: str, content: bytes, kind: int) -> None:
        if fate == "resets":
            self._reset()
        elif kind == CUT:
            self._send(200, content[:-20], missing=20)
            self._transport.close()
        else:
            self._send(200, GARBAGE[kind])

    def _reset(self) -> None:
        """Drop the connection with a reset rather than an end."""
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _refuse(self, status: int, message: str, headers: str = "") -> None:
        self._send(status, orjson.dumps({"error": {"message": message}}), headers)

    def _send(self, status: int, content: bytes, headers: str = "", missing: int = 0) -> None:
        if not self._transport.is_closing():
            head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}"
            length = f"content-length: {len(content) + missing}\r\n\r\n"
            self._transport.write(f"{head}{length}".encode() + content)
