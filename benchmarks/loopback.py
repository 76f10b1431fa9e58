"""A server that answers at once, for measuring clients: ``python loopback.py --port 8900``.

It speaks ``POST /v1/completions`` and ``/v1/chat/completions`` in the form of OpenAI and vLLM, ``GET /v1/models``,
``GET /stats`` (what it was asked) and ``POST /reset``. The answer is " positive" or " negative", by a checksum of the
prompt; a chat's prompt is its last message. Nothing is simulated: no latency, no limits, no errors.
"""

from __future__ import annotations

import argparse
import asyncio
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import orjson

LABELS = (" positive", " negative")
HEADERS = b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Audit:
    """What the server was asked."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.prompts: Counter[int] = Counter()
        self.digest = 0
        self.sent = 0

    def stats(self) -> dict[str, Any]:
        """As ``GET /stats`` tells it; `digest` is the sum of the prompts' checksums, so each one counts."""
        return {
            "requests": dict(self.requests),
            "prompts_received": self.prompts.total(),
            "unique_prompts": len(self.prompts),
            "answered_more_than_once": sum(n > 1 for n in self.prompts.values()),
            "digest": self.digest,
            "bytes": self.sent,
        }

    def answer(self, prompt: str) -> str:
        """The answer to one prompt, which is counted."""
        checksum = zlib.crc32(prompt.encode())
        self.prompts[hash(prompt)] += 1
        self.digest += checksum
        return LABELS[checksum & 1]


def usage(*prompts: str) -> dict[str, int]:
    """Tokens, counted as words."""
    words, said = sum(prompt.count(" ") + 1 for prompt in prompts), len(prompts)
    return {"prompt_tokens": words, "completion_tokens": said, "total_tokens": words + said}


def completion(audit: Audit, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to ``/v1/completions``: one prompt or several."""
    prompts = [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]
    choices = [
        {"index": i, "text": audit.answer(prompt), "logprobs": None, "finish_reason": "stop"}
        for i, prompt in enumerate(prompts)
    ]
    return {"id": "cmpl-0", "object": "text_completion", "created": 0, "choices": choices, "usage": usage(*prompts)}


def chat(audit: Audit, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to ``/v1/chat/completions``."""
    prompt = body["messages"][-1]["content"]
    message = {"role": "assistant", "content": audit.answer(prompt).strip()}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage(prompt)}


ROUTES: dict[str, Callable[[Audit, dict[str, Any]], dict[str, Any]]] = {
    "/v1/completions": completion,
    "/v1/chat/completions": chat,
}
MODELS = {"object": "list", "data": [{"id": "mock", "object": "model", "owned_by": "mock", "max_model_len": 32768}]}


class Http(asyncio.Protocol):
    """One connection: requests with a content length, answered in their order."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are of no such class

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1").split("\r\n")
            lengths = (h.partition(":")[2] for h in head[1:] if h[:15].lower() == "content-length:")
            whole = end + 4 + int(next(lengths, 0))
            if len(self._received) < whole:
                return
            content, self._received = self._received[end + 4 : whole], self._received[whole:]
            method, path, _ = head[0].split(" ")
            self._send(*self._answer(method, path, content))

    def _answer(self, method: str, path: str, content: bytes) -> tuple[int, Any]:
        audit = self._audit
        match method, path:
            case "GET", "/stats":
                return 200, audit.stats()
            case "POST", "/reset":
                audit.__init__()  # type: ignore[misc]
                return 200, {}
            case "GET", "/v1/models":
                return 200, MODELS
            case "POST", _ if path in ROUTES:
                audit.requests[path] += 1
                audit.sent += len(content)
                body = orjson.loads(content)
                return 200, {"model": body["model"], **ROUTES[path](audit, body)}
        return 404, {"error": {"message": f"no route {method} {path}"}}

    def _send(self, status: int, content: Any) -> None:
        body = orjson.dumps(content)
        if not self._transport.is_closing():
            self._transport.write(HEADERS % (status, len(body)) + body)


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    audit = Audit()
    server = await asyncio.get_running_loop().create_server(lambda: Http(audit), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """The command line; faster with uvloop, where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    try:
        from uvloop import run
    except ImportError:
        asyncio.run(serve(port))
    else:
        run(serve(port))


if __name__ == "__main__":
    main()
