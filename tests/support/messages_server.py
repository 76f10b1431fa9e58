"""A stand-in for Anthropic's Messages API on loopback: it refuses what that API refuses, keeps prompts that are marked
for its cache, and gives scripted replies on demand."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A reply in place of the usual one.

    Args:
        status: the HTTP status.
        body: JSON to write, or bytes as they are.
        headers: further headers.
        content_type: of the body.
        latency: seconds before it is sent.
        reset: drop the connection instead.
        cut: drop it so many bytes before the end of the body.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    latency: float = 0.0
    reset: bool = False
    cut: int = 0

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def refusal(status: int, kind: str, message: str, **headers: str) -> Answer:
    """An error in the API's form."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def said(text: str, **keys: Any) -> Body:
    """The body of an answer."""
    body: Body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    body |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    return {**body, "usage": {"input_tokens": 7, "output_tokens": 2}, **keys}


def blocks(content: Any) -> list[Body]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def objects(schema: Any) -> Iterator[Body]:
    """Every object schema within a schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def kept(schema: Body, text: str) -> Any:
    """A value that keeps an object's schema or an enumeration, and says the text where it can."""
    if "properties" in schema:
        return {name: kept(part, text) for name, part in schema["properties"].items()}
    return text if text in schema.get("enum", [text]) else schema["enum"][0]


@dataclass
class MessagesApi:
    """The server; use it in a ``with`` block. Every switch may be changed while it runs.

    Args:
        says: what the model says to the turns, read as one text.
        script: replies to the next POSTs, in order.
        model: the reply to a question for a model; None is the usual one.
        models: whether it has a route for that at all.
        prefill: false refuses an answer that is begun for the model, as newer models do.
        received: the body of every POST.
        answered: the body of every usual answer.
        headers: the headers of every request.
        paths: the method and path of every request.
    """

    says: Callable[[str], str] = lambda _: "positive"
    script: deque[Answer] = field(default_factory=deque)
    model: Answer | None = None
    models: bool = True
    prefill: bool = True
    received: list[Body] = field(default_factory=list)
    answered: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    _kept: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        owner: MessagesApi = self

        class Handler(_Handler):
            api = owner

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()

    def get(self, path: str) -> Answer:
        name = unquote(path.removeprefix("/v1/models/"))
        if not self.models or name == path:
            return Answer(404, {"error": {"message": f"no route GET {path}"}})
        if self.model is not None:
            return self.model
        if name != "m":
            return refusal(404, "not_found_error", f"model: {name}")
        return Answer(body={"type": "model", "id": "m", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"})

    def post(self, path: str, body: Body, version: str) -> Answer:
        if path != "/v1/messages":
            return refusal(404, "not_found_error", "Not Found")
        self.received.append(body)
        if self.script:
            return self.script.popleft()
        wrong = self._wrong(body, version)
        return Answer(body=self._answer(body)) if wrong is None else refusal(400, "invalid_request_error", wrong)

    def _wrong(self, body: Body, version: str) -> str | None:
        """What the API would refuse a body for."""
        known = {"model", "max_tokens", "messages", "system", "stop_sequences", "temperature", "output_config"}
        if more := sorted(body.keys() - known):
            return f"{more[0]}: Extra inputs are not permitted"
        if "temperature" in body and version > "2023-06-01":
            return "temperature: Extra inputs are not permitted"
        if not all(stop.strip() for stop in body.get("stop_sequences", ())):
            return "stop_sequences: each stop sequence must contain non-whitespace"
        shape = body.get("output_config", {}).get("format", {}).get("schema", {})
        if any(found.get("additionalProperties") is not False for found in objects(shape)):
            return "output_config.format.schema: For 'object' type, 'additionalProperties' must be set to false"
        texts = [b["text"] for m in body["messages"] for b in blocks(m["content"]) if b["type"] == "text"]
        if not all(text.strip() for text in texts):
            return "messages: text content blocks must contain non-whitespace text"
        last = body["messages"][-1]
        if last["role"] == "assistant":
            if not self.prefill:
                return "This model does not support assistant message prefill."
            if texts[-1] != texts[-1].rstrip():
                return "messages: final assistant content cannot end with trailing whitespace"
        return None

    def _answer(self, body: Body) -> Body:
        """What the model says, and what of the prompt was written to or read from the cache (a word is a token)."""
        parts = [b for b in blocks(body.get("system", "")) if b.get("text")]
        parts += [b for m in body["messages"] for b in blocks(m["content"])]
        marks = [i for i, part in enumerate(parts) if "cache_control" in part]
        texts = [part.get("text", "<image>") for part in parts]
        text = self.says("\n".join(texts))
        if "output_config" in body:
            text = json.dumps(kept(body["output_config"]["format"]["schema"], text))
        head = texts[: marks[0] + 1] if marks else []
        words, tail = len(" ".join(head).split()), len(" ".join(texts[len(head) :]).split())
        key = json.dumps(head)
        read, self._kept = key in self._kept, self._kept | ({key} if head else set())
        usage = {"input_tokens": tail, "output_tokens": len(text.split())}
        usage |= {"cache_creation_input_tokens": 0 if read else words, "cache_read_input_tokens": words if read else 0}
        self.answered.append(said(text, usage=usage))
        return self.answered[-1]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: MessagesApi

    def log_message(self, *_: object) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        self._note()
        self._send(self.api.get(self.path))

    def do_POST(self) -> None:
        self._note()
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        self._send(self.api.post(self.path, json.loads(raw), self.headers["anthropic-version"]))

    def _note(self) -> None:
        self.api.paths.append(f"{self.command} {self.path}")
        self.api.headers.append({name.lower(): value for name, value in self.headers.items()})

    def _send(self, answer: Answer) -> None:
        time.sleep(answer.latency)
        if answer.reset:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.raw)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = self.close_connection or bool(answer.cut)
        self.wfile.write(answer.raw[: len(answer.raw) - answer.cut])
