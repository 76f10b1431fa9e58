"""`replay`: recorded answers to exact prompts, for reproducing a table without the model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import orjson

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.base import Provider
from icl_engine.types import Capabilities, Generate, Request, Response


class Replay(Provider):
    """Answers only prompts it has on record, byte for byte. `stop` and `max_tokens` are never applied.

    Args:
        path: a JSONL file of ``prompt`` and ``completion``; one recorded several times answers its samples in turn.
        name: shown in summaries.
    """

    drawn: ClassVar[bool] = False

    use: Literal["replay"] = "replay"
    path: str
    name: str = "replay"

    @property
    def title(self) -> str:
        """Its name."""
        return self.name

    def connect(self) -> ReplayEndpoint:
        """Read the record."""
        return ReplayEndpoint(Path(self.path), self.identity)


class ReplayEndpoint:
    """See `Replay`."""

    uncertain: frozenset[str] = frozenset()
    capabilities = Capabilities(text=True, chat=False)

    def __init__(self, path: Path, identity: str | None) -> None:
        self._record: dict[str, list[str]] = {}
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise EndpointError(f"{path}: the replay file cannot be read: {error.strerror}") from error
        for number, line in enumerate(raw.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
                prompt, completion = row["prompt"], row["completion"]
            except (ValueError, KeyError, TypeError) as error:
                raise EndpointError(f"{path}:{number}: not a row with prompt and completion") from error
            if not isinstance(prompt, str) or not isinstance(completion, str):
                raise EndpointError(f"{path}:{number}: prompt and completion are texts")
            self._record.setdefault(prompt, []).append(completion)
        self.identity = identity or f"replay:{hashlib.sha256(raw).hexdigest()}"

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Holds nothing."""

    async def send(self, request: Request) -> Response:
        """The recorded answer, or a `RequestError` that shows the first difference to the nearest prompt."""
        if not isinstance(request.prompt, str) or not isinstance(request.readout, Generate):
            raise EndpointError("replay answers text prompts with text; use api: completions and read: text")
        answers = self._record.get(request.prompt)
        if answers is None:
            raise RequestError(f"the prompt is not on record; {self._difference(request.prompt)}")
        return Response(answers[request.sample % len(answers)], finish="stop")

    def _difference(self, prompt: str) -> str:
        best, at = "", -1
        for known in self._record:
            n = next((i for i, (a, b) in enumerate(zip(known, prompt, strict=False)) if a != b), None)
            n = min(len(known), len(prompt)) if n is None else n
            if n > at:
                best, at = known, n
        if at < 0:
            return "the record is empty"
        return f"nearest one: from character {at} on {best[at : at + 40]!r}, not {prompt[at : at + 40]!r}"
