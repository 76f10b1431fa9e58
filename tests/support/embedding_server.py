"""A stand-in for an OpenAI-compatible embeddings API on loopback: letters counted, an audit, and faults on demand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.server import Body, Reply, StandIn


def letters(text: str, size: int = 26) -> list[float]:
    """A text's vector: how often it has each letter, by turns in so many places; a one at the end."""
    counts = [0.0] * size
    for letter, count in Counter(text.lower()).items():
        counts[ord(letter) % size] += count
    return [*counts[:-1], 1.0]


@dataclass
class EmbeddingServer(StandIn):
    """The server; see `StandIn` for its script and audit.

    Args:
        most: how many texts one request may have.
        longest: how many characters one text may have.
        backwards: whether the vectors come in another order than the texts.
    """

    routes: tuple[str, ...] = ("/v1/embeddings",)
    most: int = 2048
    longest: int = 8192
    backwards: bool = False

    def reply(self, path: str, body: Body) -> Reply:
        self.received.append(body)
        if self.script:
            return self.script.popleft()
        texts = body["input"]
        if "" in texts:
            return Reply(400, message="input cannot be an empty string")
        if len(texts) > self.most:
            return Reply(413, message=f"batch size {len(texts)} > maximum allowed batch size {self.most}")
        if any(len(text) > self.longest for text in texts):
            return Reply(400, message="maximum context length exceeded")
        self.answered.append(body)
        rows = vectors([letters(text, body.get("dimensions", 26)) for text in texts])
        return answer(rows[::-1] if self.backwards else rows)

    @property
    def texts(self) -> list[str]:
        """Every text that was embedded, in order."""
        return [text for body in self.answered for text in body["input"]]


def vectors(rows: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Vectors as an answer has them."""
    return [{"object": "embedding", "index": i, "embedding": list(row)} for i, row in enumerate(rows)]


def answer(data: Any) -> Reply:
    """An answer with these vectors."""
    return Reply(body=json.dumps({"object": "list", "data": data, "model": "m", "usage": {}}).encode())
