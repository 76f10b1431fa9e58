"""Answers of a run, in the model's place: `answers.jsonl` as an endpoint that never asks anybody."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from icl_engine.driver.cache import ANSWERS, Cache, content_key
from icl_engine.engine.records import Record, content
from icl_engine.errors import DataError, IclError, RequestError, TaskError
from icl_engine.protocols import Model
from icl_engine.types import (
    Capabilities,
    Exchange,
    Generate,
    LabelScores,
    Message,
    Need,
    Prompt,
    Request,
    Response,
    Usage,
)

OWN = ("main", "sample")
"""Whose questions are a row's own."""

PARTS = {"key", "id", "role", "text", "logprobs", "usage"}
"""What every line has."""

Shown = str | tuple[Message, ...]


class Stored:
    """The answers in a run's `answers.jsonl`: text by prompt and sample, label scores by prompt.

    The file is read once; what is kept of a line in memory is 16 bytes, and it is read again when it is asked for.

    Args:
        path: the run directory.
        model: what was asked, never opened for an answer: its tokenizer counts prompts where it is at hand.
        identity: the model's, for answers that the cache may have.
        failed: how many rows of the run got no answer.
        kept: the folder of the cache, in which an answer is looked for that the run did not ask for; None for none.

    Raises:
        DataError: there are no answers, or they cannot be read.
    """

    uncertain: frozenset[str] = frozenset()

    def __init__(self, path: Path, model: Model, identity: str, *, failed: int = 0, kept: Path | None = None) -> None:
        self.path = path / "answers.jsonl"
        self.identity = identity
        self.rows = self.texts = self.scored = self.partial = 0
        self._failed = failed
        self._lost: set[int] = set()
        self._kept = kept if kept is not None and (kept / ANSWERS).is_file() else None
        self._cache: Cache | None = None
        self.explain: Callable[[Request], TaskError] = self._unknown
        """What to tell of a request that the run did not ask."""
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}; a run has its answers there", file=self.path) from error
        try:
            self._keys, self._places = self._indexed()
        except BaseException:
            self._file.close()
            raise
        self.allow(model, scores=bool(self.scored))

    def allow(self, model: Model, *, scores: bool) -> None:
        """Say what can be had: text or label scores, and of the model what matters to prompts, where it is at hand."""
        own = Capabilities()
        self.count: Callable[[str], int] | None = None
        with suppress(IclError, OSError):  # neither its file nor its package need be there
            endpoint = model.connect()
            if endpoint.identity == self.identity:
                own, self.count = endpoint.capabilities, getattr(endpoint, "count", None)
        if not scores:
            own = Capabilities(context=own.context)
        elif not (own.top_logprobs or own.continuation):
            own = Capabilities(top_logprobs=20, continuation=True, context=own.context)
        # As it was asked, for what the cache may have beside; but nothing is to be read from constrained text.
        self.capabilities = replace(
            own, text=True, chat=True, images=True, schema=False, choice=False, samples=False, together=1
        )

    # -- the file

    def _indexed(self) -> tuple[Any, Any]:
        """Hash of each question -> where its line begins; sorted by hash, equal ones as they stand in the file."""
        import numpy as np

        keys, places, last = array("Q"), array("Q"), object()
        for place, record in self._lines():
            keys.append(_key(_told(record), None if _scores(record) else record.get("sample", 0)))
            places.append(place)
            if record["role"] in OWN:
                self.rows += record["id"] != last
                last = record["id"]
                self.scored += _scores(record)
                self.texts += not _scores(record)
                self.partial += _scores(record) and not record.get("whole", False)
        found = np.frombuffer(keys, dtype=np.uint64), np.frombuffer(places, dtype=np.uint64)
        order = np.argsort(found[0], kind="stable")
        return found[0][order], found[1][order]

    def _lines(self) -> Iterator[tuple[int, Record]]:
        place = 0
        for number, line in enumerate(self._file, start=1):
            try:
                record = orjson.loads(line)
                known = record.keys() >= PARTS and ("prompt" in record or "messages" in record)
            except (ValueError, AttributeError):
                known = False
            if not known:
                what = "is cut off, damaged, or no answer; run it again to have it whole"
                raise DataError(what, file=self.path, line=number)
            yield place, record
            place += len(line)

    def _find(self, shown: Shown, sample: int | None) -> Record | None:
        """The first stored answer to a prompt: text (of a sample), or label scores (sample None)."""
        import numpy as np

        said = _said(shown)
        key = _key(said, sample)
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        while at < len(self._keys) and int(self._keys[at]) == key:
            self._file.seek(int(self._places[at]))
            record: Record = orjson.loads(self._file.readline())
            same = _told(record) == said and _scores(record) == (sample is None)
            if same and (sample is None or record.get("sample", 0) == sample):
                return record
            at += 1
        return None

    def has(self, shown: Shown) -> bool:
        """Whether there is an answer to a prompt."""
        return self._find(shown, 0) is not None or self._find(shown, None) is not None

    # -- an endpoint

    def scores(self, prompt: Prompt, need: Need) -> LabelScores | None:
        """The label scores on record; None where they are not, or not as exact as they are needed."""
        record = self._find(prompt.shown, None)
        if record is None or record["logprobs"].keys() != need.words.keys():
            return None
        whole = bool(record.get("whole", False))
        if need.want == "distribution" and not whole:
            return None
        figures = {label: -math.inf if p is None else p for label, p in record["logprobs"].items()}
        asked = Request(prompt.shown, Generate())
        each = record.get("requests") or [[record["key"], *_usage(record["usage"])]]
        took = tuple(Exchange(asked, Response("", usage=Usage(*used)), key) for key, *used in each)
        bounded = tuple(record.get("bounded", ()))
        return LabelScores(
            figures, record.get("method", "stored"), bounded, whole=whole, text=record["text"], exchanges=took
        )

    async def check(self) -> None:
        """Always there."""

    async def send(self, request: Request) -> Response:
        """The stored answer.

        Raises:
            RequestError: there is none, as there was none in the run. TaskError: the run was not asked this.
        """
        readout = request.readout
        if isinstance(readout, Generate) and not (readout.choices or readout.grammar):
            record = self._find(request.prompt, request.sample)
            if record is not None:
                return Response(record["text"], usage=Usage(*_usage(record["usage"])))
        kept = self._cached(request)
        if kept is not None:
            return kept
        self._lost.add(_key(_said(request.prompt), None))
        if len(self._lost) > self._failed:
            raise self.explain(request)
        raise RequestError(f"no answer is stored: in {self.path.parent} this row has none either")

    def _cached(self, request: Request) -> Response | None:
        if self._kept is None:
            return None
        if self._cache is None:
            self._cache = Cache(self._kept, reserve=False)
        return self._cache.get(content_key(self.identity, request))

    def _unknown(self, request: Request) -> TaskError:
        return TaskError("the run was not asked this", file=self.path)

    async def close(self) -> None:
        """It is closed by whoever opened it."""

    def shut(self) -> None:
        """Let go of the file and the cache."""
        self._file.close()
        if self._cache is not None:
            self._cache.close()


def _scores(record: Record) -> bool:
    return record.get("logprobs") is not None


def _usage(used: Mapping[str, int]) -> list[int]:
    return [used["prompt_tokens"], used["cached_prompt_tokens"], used["completion_tokens"]]


def _said(shown: Shown) -> bytes:
    """What was shown, as bytes; an image counts by its URL or hash."""
    if isinstance(shown, str):
        return shown.encode(errors="surrogatepass")
    return _turns([{"role": m.role, "content": content(m)} for m in shown])


def _told(record: Record) -> bytes:
    """The same of a stored answer."""
    return record["prompt"].encode(errors="surrogatepass") if "prompt" in record else _turns(record["messages"])


def _turns(messages: list[Record]) -> bytes:
    said = [
        [m["role"], m["content"] if isinstance(m["content"], str) else [_part(part) for part in m["content"]]]
        for m in messages
    ]
    return b"\x00" + orjson.dumps(said)


def _part(part: str | Record) -> str | list[str | None]:
    return part if isinstance(part, str) else ["image", part.get("sha256") or part.get("url")]


def _key(said: bytes, sample: int | None) -> int:
    """64 bits of a question: its prompt, and which sample of the text; None for label scores."""
    salt = b"scores" if sample is None else str(sample).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8, person=salt[:16]).digest(), "little")
