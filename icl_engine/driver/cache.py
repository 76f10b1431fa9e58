"""Answers on disk, by content: what was paid for once is never paid for again."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_random

from icl_engine.errors import TaskError
from icl_engine.types import Continuation, Generate, NextToken, Place, Request, Response, Spelling, Usage

ANSWERS = "answers.sqlite3"
"""The cache's file."""

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, body BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS capabilities (endpoint TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
)


def content_key(identity: str, request: Request) -> str:
    """SHA-256 (hex) of the endpoint, the whole prompt, its sampling and readout, and the sample's index.

    An HTTP batch, `n`, retry settings and keys are not part of it; neither is whose question it was.

    >>> a = Request("2 + 2 =", Generate())
    >>> content_key("m", a) == content_key("m", Request("2 + 2 =", Generate(), role="probe"))
    True
    >>> content_key("m", a) == content_key("n", a)
    False
    """
    prompt: Any = request.prompt
    if not isinstance(prompt, str):
        prompt = [
            [m.role, *(part if isinstance(part, str) else ["image", part.identity] for part in m.parts)] for m in prompt
        ]
    match request.readout:
        case Generate(s, grammar, schema, choices):
            stop = list(s.stop)
            readout: list[Any] = ["text", s.max_tokens, s.temperature, stop, s.seed, grammar, schema, *choices]
        case NextToken(top, named, spelt, places):
            readout = ["next", top, named, spelt, places]
        case Continuation(text):
            readout = ["continuation", text]
        case Spelling(texts):
            readout = ["spelling", texts]
    parts = [identity, prompt, readout, request.sample]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def encode(response: Response) -> bytes:
    """A response as JSON; floats survive exactly."""
    u = response.usage
    used = [u.prompt_tokens, u.cached_prompt_tokens, u.completion_tokens]
    places = [[p.said, list(p.seen.items()), p.floor] for p in response.places]
    return orjson.dumps([response.text, response.tokens, response.finish, used, places, response.spelt])


def decode(body: bytes) -> Response:
    """The response that was encoded; what an older version kept has fewer parts."""
    text, tokens, finish, used, *more = orjson.loads(body)
    places, spelt = more or ((), ())
    return Response(
        text,
        tuple((t, p) for t, p in tokens),
        tuple(Place(said, dict(map(tuple, seen)), floor) for said, seen, floor in places),
        tuple(map(tuple, spelt)),
        finish,
        Usage(*used),
    )


class Cache:
    """A SQLite file of answers, safe among processes and crashes (write-ahead log, one transaction an answer).

    Args:
        folder: where ``answers.sqlite3`` stands; made if missing.

    Raises:
        TaskError: the folder or the file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ANSWERS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise TaskError(
                f"the cache {self.path} cannot be used ({error}); "
                "set ICL_CACHE_DIR to another folder, or run with --no-cache"
            ) from error

    @retry(
        # Several who open a new file at once: SQLite does not wait for the one who changes the journal's mode.
        retry=retry_if_exception_message(match=r".*locked"),
        wait=wait_random(0.01, 0.1),
        stop=stop_after_delay(30),
        reraise=True,
    )
    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        for table in SCHEMA:
            self._db.execute(table)

    def get(self, key: str) -> Response | None:
        """The answer kept under a key."""
        row = self._db.execute("SELECT body FROM answers WHERE key = ?", (bytes.fromhex(key),)).fetchone()
        return None if row is None else decode(row[0])

    def put(self, key: str, response: Response) -> None:
        """Keep an answer; it is on disk when this returns."""
        row = (bytes.fromhex(key), encode(response), time.time())
        self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row)

    def recall(self, endpoint: str) -> dict[str, Any] | None:
        """What was found of an endpoint's capabilities."""
        row = self._db.execute("SELECT body FROM capabilities WHERE endpoint = ?", (endpoint,)).fetchone()
        return None if row is None else dict(orjson.loads(row[0]))

    def remember(self, endpoint: str, found: Mapping[str, Any]) -> None:
        """Keep what was found of an endpoint's capabilities."""
        self._db.execute("INSERT OR REPLACE INTO capabilities VALUES (?, ?)", (endpoint, orjson.dumps(found)))

    def forget(self, endpoint: str) -> None:
        """Have an endpoint's capabilities found anew."""
        self._db.execute("DELETE FROM capabilities WHERE endpoint = ?", (endpoint,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
