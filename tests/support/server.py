"""A stand-in for an OpenAI-compatible API on loopback: deterministic answers, an audit, and faults on demand."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from support.tongue import BOS, Tongue, scores, turns_text

__all__ = ["HTML", "Body", "Reply", "StandIn", "html", "prompt_of", "scores"]

from icl_engine.models.probing import CHAT, TEXT

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
        cut: drop it so many bytes before the end of the body.
        headers: further headers.
    """

    status: int = 200
    body: bytes | None = None
    message: str = "scripted"
    retry_after: str | None = None
    content_type: str = "application/json"
    reset: bool = False
    cut: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        return json.dumps({"error": {"message": self.message}}).encode() if self.body is None else self.body


def html(status: int = 200) -> Reply:
    return Reply(status, HTML, content_type="text/html")


def prompt_of(body: Body) -> str:
    """The text prompt, or the turns as one text."""
    return str(body["prompt"]) if "prompt" in body else turns_text(body["messages"])


def instance(schema: Body) -> Any:
    """A value that keeps a simple JSON Schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: instance(field) for name, field in schema["properties"].items()}
    return "zq"


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
        models: what ``GET /models`` lists; None for no such route.
        routes: the POST routes it has, beside those of a tokenizer.
        tokenizer: whether it shows its tokenizer, and token ids where they are asked for.
        pieces: words, with their space -> the tokens they are cut into.
        named: whether it knows ``logprob_token_ids``; otherwise it ignores the field.
        partial: a top-k has only its first figure, as in vLLM beside a request for named tokens.
        echo: ``ignored``, ``refused``, ``honoured``, or honoured with ``zeros`` or with figures ``missing``.
        prefill: whether it goes on with an assistant's last turn; otherwise that turn is taken for ended.
        samples: whether it knows `n`; otherwise it ignores the field.
        schema: whether it knows ``response_format``; otherwise it ignores the field.
        structured: the fields for grammars and choices that it knows, others are ignored.
        unsupported: fields it refuses -> its words.
        hold_after: once so many prompts have been answered, further ones wait for `release` or `drop`.
        received: the body of every POST, in order of arrival.
        answered: those that got their deterministic answer, in order.
        headers: the headers of every request.
        paths: the method and path of every request.
        tokenized: the body of every question to the tokenizer.
        probes: the body of every question for what the model can do, which stand nowhere else.
    """

    words: tuple[str, ...] = ("positive", "negative")
    script: deque[Reply] = field(default_factory=deque)
    refuse: Callable[[str], Reply | None] = lambda _: None
    latency: Callable[[str], float] = lambda _: 0.0
    logprobs: bool = True
    html: bool = False
    models: list[Body] | None = field(default_factory=lambda: [{"id": "m", "object": "model"}])
    routes: tuple[str, ...] = ("/v1/completions", "/v1/chat/completions")
    tokenizer: bool = False
    pieces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    named: bool = False
    partial: bool = False
    echo: str = "ignored"
    prefill: bool = False
    samples: bool = False
    schema: bool = False
    structured: tuple[str, ...] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)
    hold_after: int | None = None
    received: list[Body] = field(default_factory=list)
    answered: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    tokenized: list[Body] = field(default_factory=list)
    probes: list[Body] = field(default_factory=list)
    peak: int = 0
    holding: threading.Event = field(default_factory=threading.Event)
    _now: int = 0
    _begun: int = 0
    _gate: threading.Event = field(default_factory=threading.Event)
    _dropped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tongue: Tongue | None = None

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
        """Hang up on the prompts that wait, and hold no more; back once all that a client now gone had sent is over."""
        self._dropped = True
        self.release()
        with socket.create_connection(
            ("127.0.0.1", self._http.server_port)
        ) as last:  # those that came before are accepted before
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        deadline = time.monotonic() + 10
        while self._http.open and time.monotonic() < deadline:
            time.sleep(0.01)

    def forget(self) -> None:
        """An empty audit."""
        with self._lock:
            for kept in (self.received, self.answered, self.headers, self.paths, self.tokenized, self.probes):
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
        if self._is_probe(body):
            # Out of the audit: what a model can do is asked before, and beside, the prompts that tests count.
            with self._lock:
                self.probes.append(body)
            return self._refused(body) or Reply(body=json.dumps(self.answer(body)).encode())
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
            refused = self._refused(body)
            if refused is not None:
                return refused
            answer = Reply(body=json.dumps(self.answer(body)).encode())
            with self._lock:
                self.answered.append(body)
            return answer
        finally:
            with self._lock:
                self._now -= 1

    @property
    def tongue(self) -> Tongue:
        """Its tokenizer and model."""
        if self._tongue is None or (self._tongue.words, self._tongue.pieces) != (self.words, self.pieces):
            self._tongue = Tongue(self.words, self.pieces)
        return self._tongue

    def _is_probe(self, body: Body) -> bool:
        """Whether a body asks what the model can do, rather than a task's question."""
        shown = self._shown(body)[0].removeprefix("<s>")
        return shown.startswith((TEXT, f"user: {CHAT[0].content}"))

    def _refused(self, body: Body) -> Reply | None:
        """A 400 for a field that is not supported."""
        refused = next((field for field in self.unsupported if field in body), None)
        if body.get("echo") and self.echo == "refused":
            return Reply(400, message="echo is not supported")
        if refused is None:
            return None
        error = {"message": self.unsupported[refused], "param": refused, "code": "unsupported_parameter"}
        return Reply(400, json.dumps({"error": error}).encode())

    def answer(self, body: Body) -> Body:
        chosen: list[Body] = []
        count = said = 0
        for shown in self._shown(body):
            count += len(shown.removeprefix("<s>").replace("<turn>", " ").split())
            for sample in range(int(body.get("n") or 1) if self.samples else 1):
                chosen.append({"index": len(chosen), **self._choice(shown, body, sample)})
                said += int(chosen[-1].pop("tokens"))
        usage = {"prompt_tokens": count, "completion_tokens": said, "total_tokens": count + said}
        return {"id": "1", "model": body.get("model"), "choices": chosen[::-1], "usage": usage}

    def _shown(self, body: Body) -> list[str]:
        """What the model sees of each prompt: its text, ``<turn>`` where an answer's turn begins."""
        if "messages" in body:
            *before, last = body["messages"]
            if self.prefill and last["role"] == "assistant":
                return [f"{turns_text(before)}<turn>{last['content']}"]
            return [f"{turns_text(body['messages'])}<turn>"]
        prompts = body["prompt"]
        if isinstance(prompts, str) or not prompts or isinstance(prompts[0], int):
            prompts = [prompts]
        return [p if isinstance(p, str) else "".join(self.tongue.decode(p)) for p in prompts]

    def _choice(self, shown: str, body: Body, sample: int) -> Body:
        """One answer: as many tokens as are wanted where figures are, else a word."""
        chat = "messages" in body
        wide = body.get("top_logprobs") if chat else body.get("logprobs")
        figures = bool(body.get("logprobs")) and self.logprobs
        held = self._held(body)
        path: list[str] = []
        rows: list[Body] = []
        for _ in range(body["max_tokens"] if figures and "max_tokens" in body else 8):
            top = self.tongue.following(shown + "".join(path))
            allowed = [t for t in top if self.named and self.tongue.id_of(t) in body.get("allowed_token_ids", ())]
            said = (allowed or list(top))[sample % len(top) if not path else 0]
            if said == "\n" and path:
                break
            rows.append(self._row(shown + "".join(path), said, top, body, int(wide or 0)))
            path.append(said)
        text = "".join(path) if held is None else held
        if body.get("echo") and self.echo in ("honoured", "zeros", "missing"):
            rows, text = [*self._echoed(shown, body), *rows], shown.replace("<turn>", "") + text
        form = _chat_figures if chat else _lists
        choice: Body = {"logprobs": form(rows) if figures else None, "finish_reason": "length" if wide else "stop"}
        choice["tokens"] = len(path)
        return choice | ({"message": {"role": "assistant", "content": text}} if chat else {"text": text})

    def _name(self, token: str, body: Body) -> str:
        ids = self.tokenizer and body.get("return_tokens_as_token_ids")
        return f"token_id:{self.tongue.id_of(token)}" if ids else token

    def _row(self, shown: str, said: str, top: Mapping[str, float], body: Body, wide: int) -> Body:
        """The figures of one place."""
        if self.named and body.get("logprob_token_ids"):
            known = {i: token for token, i in self.tongue.ids.items()}
            tokens = [known.get(i, f"<{i}>") for i in body["logprob_token_ids"]]
            self.tongue.ids.update({f"<{i}>": i for i in body["logprob_token_ids"] if i not in known})
            kept = {t: self.tongue.logprob(shown, t) for t in [said, *tokens]}
        else:
            kept = dict(list(top.items())[:wide])
            if self.partial:
                kept = {said: top[said], "!": -9999.0}
        named = {self._name(t, body): p for t, p in kept.items()}
        return {"said": self._name(said, body), "logprob": top.get(said), "top": named}

    def _echoed(self, shown: str, body: Body) -> list[Body]:
        """The figures of the prompt's own tokens; a text gets what stands before every prompt."""
        bos = "<s>" if isinstance(body["prompt"], str) and self.tokenizer else ""
        tokens, rows = self.tongue.cut(bos + shown), []
        for i, token in enumerate(tokens):
            p = None if not i else self.tongue.logprob("".join(tokens[:i]), token)
            figure = {"zeros": 0.0, "missing": None}.get(self.echo, p)
            rows.append({"said": self._name(token, body), "logprob": figure, "top": None})
        return rows

    def _held(self, body: Body) -> str | None:
        """The text that a constraint leaves; None for no constraint."""
        form = body.get("response_format")
        if form and self.schema:
            return json.dumps(instance(form["json_schema"]["schema"]))
        outputs = body.get("structured_outputs", {})
        for name, value in (outputs | body).items():
            if name in self.structured:
                return {
                    "choice": lambda v: str(v[0]),
                    "grammar": lambda v: str(json.loads(v.split(" ", 2)[2].split(" | ")[0])),
                    "json_schema": lambda v: json.dumps(instance(v)),
                }[name](value)
        return None

    def tokenize(self, body: Body) -> Body:
        """The ids of a text or of turns, in the form of vLLM or of llama.cpp."""
        with self._lock:
            self.tokenized.append(body)
        if "messages" in body:
            return {"tokens": [BOS, *self.tongue.encode(self._shown(body)[0])]}
        special = body.get("add_special_tokens", body.get("add_special"))
        text = body.get("content" if self.owner == "llamacpp" else "prompt", "")
        return {"tokens": [BOS] * bool(special) + self.tongue.encode(text)}

    @property
    def owner(self) -> str:
        """What kind of server it says it is."""
        return str((self.models or [{}])[0].get("owned_by", ""))


def _lists(rows: Sequence[Body]) -> Body:
    """Figures side by side, as completions have them."""
    tokens = [row["said"] for row in rows]
    offsets = [len("".join(tokens[:i])) for i in range(len(tokens))]
    tops = [row["top"] for row in rows]
    return {
        "tokens": tokens,
        "token_logprobs": [row["logprob"] for row in rows],
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def _chat_figures(rows: Sequence[Body]) -> Body:
    """Figures in a row for each token, as chats have them."""
    return {
        "content": [
            {
                "token": row["said"],
                "logprob": row["logprob"],
                "top_logprobs": [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in row["top"].items()],
            }
            for row in rows
        ]
    }


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.open = 0
        """Connections that are not at their end."""
        self._counting = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._counting:
            self.open += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._counting:
            self.open -= 1

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
        listed = self.stand_in.models
        models = {"object": "list", "data": listed}
        if self.stand_in.html:
            self._send(html())
        elif self.path == "/v1/models" and listed is not None:
            self._send(Reply(body=json.dumps(models).encode()))
        else:
            self._send(Reply(404, message=f"no route {self.path}"))

    def do_POST(self) -> None:
        self._note()
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.stand_in.tokenizer and self.path in ("/tokenize", "/apply-template"):
            ids = Reply(body=json.dumps(self._tokens(json.loads(raw))).encode())
            self._send(html() if self.stand_in.html else ids)
            return
        if self.path not in self.stand_in.routes:
            self._send(Reply(404, message=f"no route {self.path}"))
            return
        reply = self.stand_in.reply(self.path.removeprefix("/v1/"), json.loads(raw))
        self._send(html() if self.stand_in.html else reply)

    def _tokens(self, body: Body) -> Body:
        if self.path == "/tokenize":
            return self.stand_in.tokenize(body)
        return {"prompt": f"{turns_text(body['messages'])}<turn>"}

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
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = self.close_connection or bool(reply.cut)
        self.wfile.write(reply.raw[: len(reply.raw) - reply.cut])
