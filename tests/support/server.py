"""A stand-in for an OpenAI-compatible API on loopback: deterministic answers, an audit, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HTML = b"<html><body>It works!</body></html>"
Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """A scripted reply in place of the deterministic one.

    Args:
        status: the HTTP status.
        body: the bytes; None writes an OpenAI-shaped error with `message`.
        message: the provider's words.
        retry_after: the header of that name.
        content_type: of the body.
        reset: drop the connection instead of answering.
    """

    status: int = 200
    body: bytes | None = None
    message: str = "scripted"
    retry_after: str | None = None
    content_type: str = "application/json"
    reset: bool = False

    @property
    def raw(self) -> bytes:
        return json.dumps({"error": {"message": self.message}}).encode() if self.body is None else self.body


def html(status: int = 200) -> Reply:
    return Reply(status, HTML, content_type="text/html")


def scores(prompt: str, words: tuple[str, ...]) -> dict[str, float]:
    """Log p of each word, the likeliest first: a function of the prompt's bytes; 0.02 is left to other tokens."""
    digest = hashlib.sha256(prompt.encode()).digest()
    weights = {word: 1 + digest[i % 32] for i, word in enumerate(words)}
    total = sum(weights.values())
    found = {word: math.log(0.98 * w / total) for word, w in weights.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def prompt_of(body: Body) -> str:
    """The text prompt, or the turns as one text."""
    if "prompt" in body:
        return str(body["prompt"])
    return "\n".join(f"{m['role']}: {m['content']}" for m in body["messages"])


@dataclass
class StandIn:
    """The server; use it in a ``with`` block. Every switch may be changed while it runs.

    Args:
        words: what the model may say.
        script: replies given to the next POSTs, in order, in place of answers.
        refuse: a reply for certain prompts, at every try; None answers.
        latency: seconds before a prompt is answered.
        logprobs: false leaves log-probabilities out.
        html: HTML on every route, as a wrong port would give.
        hold_after: once so many prompts have been answered, further ones wait for `release` or `drop`.
        received: the body of every POST, in order of arrival.
        answered: those that got their deterministic answer, in order.
        headers: the headers of every request.
        paths: the method and path of every request.
    """

    words: tuple[str, ...] = ("positive", "negative")
    script: deque[Reply] = field(default_factory=deque)
    refuse: Callable[[str], Reply | None] = lambda _: None
    latency: Callable[[str], float] = lambda _: 0.0
    logprobs: bool = True
    html: bool = False
    hold_after: int | None = None
    received: list[Body] = field(default_factory=list)
    answered: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    peak: int = 0
    holding: threading.Event = field(default_factory=threading.Event)
    _now: int = 0
    _begun: int = 0
    _gate: threading.Event = field(default_factory=threading.Event)
    _dropped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        owner: StandIn = self

        class Handler(_Handler):
            stand_in = owner

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
        self._http.shutdown()
        self._http.server_close()

    def release(self) -> None:
        """Let the prompts that wait be answered, and hold no more."""
        self.hold_after = None
        self._gate.set()

    def drop(self) -> None:
        """Hang up on the prompts that wait, and hold no more."""
        self._dropped = True
        self.release()

    def forget(self) -> None:
        """An empty audit."""
        with self._lock:
            for kept in (self.received, self.answered, self.headers, self.paths):
                kept.clear()
            self.peak = self._begun = 0
            self._dropped = False
            self._gate.clear()
            self.holding.clear()

    @property
    def asked(self) -> Counter[str]:
        """How often each prompt was received."""
        return Counter(map(prompt_of, self.received))

    @property
    def served(self) -> Counter[str]:
        """How often each prompt was answered."""
        return Counter(map(prompt_of, self.answered))

    def reply(self, path: str, body: Body) -> Reply:
        """The reply to a POST, after its latency."""
        with self._lock:
            self.received.append(body)
            self._now += 1
            self.peak = max(self.peak, self._now)
            scripted = self.script.popleft() if self.script else self.refuse(prompt_of(body))
            if scripted is None:
                self._begun += 1
            held = scripted is None and self.hold_after is not None and self._begun > self.hold_after
        try:
            if scripted is not None:
                return scripted
            time.sleep(self.latency(prompt_of(body)))
            if held:
                self.holding.set()
                self._gate.wait(30)
                if self._dropped:
                    return Reply(reset=True)
            answer = Reply(body=json.dumps(self.answer(body, chat=path.startswith("chat"))).encode())
            with self._lock:
                self.answered.append(body)
            return answer
        finally:
            with self._lock:
                self._now -= 1

    def answer(self, body: Body, *, chat: bool) -> Body:
        prompt = prompt_of(body)
        top = scores(prompt, self.words if chat else tuple(f" {w}" for w in self.words))
        said = next(iter(top))
        wide = body.get("top_logprobs") if chat else body.get("logprobs")
        kept = dict(list(top.items())[: int(wide or 0)])
        shown: Body | None = None
        if wide and self.logprobs and chat:
            rows = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in kept.items()]
            shown = {"content": [{"token": said, "logprob": top[said], "top_logprobs": rows}]}
        elif wide and self.logprobs:
            shown = {"tokens": [said], "token_logprobs": [top[said]], "top_logprobs": [kept], "text_offset": [0]}
        choice = {"index": 0, "logprobs": shown, "finish_reason": "length" if wide else "stop"}
        choice |= {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
        words = len(prompt.split())
        usage = {"prompt_tokens": words, "completion_tokens": 1, "total_tokens": words + 1}
        return {"id": "1", "model": body.get("model"), "choices": [choice], "usage": usage}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed hangs up: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stand_in: StandIn

    def log_message(self, *_: object) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        self._note()
        models = {"object": "list", "data": [{"id": "m", "object": "model"}]}
        if self.stand_in.html:
            self._send(html())
        elif self.path == "/v1/models":
            self._send(Reply(body=json.dumps(models).encode()))
        else:
            self._send(Reply(404, message=f"no route {self.path}"))

    def do_POST(self) -> None:
        self._note()
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path not in ("/v1/completions", "/v1/chat/completions"):
            self._send(Reply(404, message=f"no route {self.path}"))
            return
        reply = self.stand_in.reply(self.path.removeprefix("/v1/"), json.loads(raw))
        self._send(html() if self.stand_in.html else reply)

    def _note(self) -> None:
        self.stand_in.paths.append(f"{self.command} {self.path}")
        self.stand_in.headers.append({k.lower(): v for k, v in self.headers.items()})

    def _send(self, reply: Reply) -> None:
        if reply.reset:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.raw)))
        if reply.retry_after is not None:
            self.send_header("Retry-After", reply.retry_after)
        self.end_headers()
        self.wfile.write(reply.raw)
