"""Answers on disk, by content: what was paid for once is never paid for again."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import orjson

from icl_engine.driver import pruning
from icl_engine.driver.content import content_key as content_key
from icl_engine.driver.content import decode, encode
from icl_engine.driver.pruning import Pruned, Stats
from icl_engine.driver.reserve import Reserve
from icl_engine.driver.salvage import ailment, cause, full, sound, unusable
from icl_engine.driver.store import ANSWERS as ANSWERS
from icl_engine.driver.store import PATIENCE, Row, Store, patiently, row
from icl_engine.types import Response, Usage

log = logging.getLogger("icl_engine")

T = TypeVar("T")

AGAIN = 0.01
"""Seconds after which a commit is tried again that another process stood in the way of."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What runs under one name have paid for, in all their processes: answers, and their tokens."""

    requests: int = 0
    usage: Usage = field(default_factory=Usage)


class Cache:
    """Answers on disk, found by their content; safe among processes, crashes, full disks and flipped bytes.

    What is kept in one turn of the event loop goes to disk in one transaction.

    Args:
        folder: where ``answers.sqlite3`` stands; made if missing.
        reserve: set space aside, for what is in flight when the disk is full; who asks nothing needs none.

    Raises:
        TaskError: the folder or the file cannot be used, or not be written.
    """

    def __init__(self, folder: Path, *, reserve: bool = True) -> None:
        self.fault: str | None = None
        """Why answers can no longer be written; None as long as they can."""
        self.damaged = 0
        """Bodies met that were not what was kept."""
        self._store = Store(folder)
        self.path = self._store.path
        try:
            self._reserve = Reserve(folder) if reserve else None
        except OSError as error:
            self._store.close()
            raise unusable(self.path, error) from error
        self._answers: dict[str, Row] = {}
        self._notes: dict[str, bytes | None] = {}
        self._charges: dict[str, list[int]] = {}
        self._anew: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._locked: float | None = None
        self._given_up = False
        self._lock = threading.RLock()  # what is queued; most of it comes from one event loop

    # -- answers

    def get(self, key: str) -> Response | None:
        """The answer kept under a key; None for none, or for one whose bytes are no longer what was kept."""
        queued = self._answers.get(key)
        if queued is not None:
            return decode(queued[2])
        name = bytes.fromhex(key)
        try:
            found = self._store.find(name)
        except (sqlite3.Error, MemoryError, UnicodeDecodeError):
            found = self._read(lambda: self._store.find(name))
        if found is None:
            return None
        try:
            if sound(name, *found):
                return decode(found[0])
        except (TypeError, ValueError):
            pass  # kept by another version
        self._leave_out(key)
        return None

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of some hundred keys that are not in the file: one look for all."""
        found = self._read(lambda: self._store.missing([bytes.fromhex(key) for key in keys]))
        return [key.hex() for key in found or ()]

    async def keep(self, key: str, response: Response) -> None:
        """Keep an answer, if it is the first: committed when this returns, or in memory where there is a `fault`."""
        with self._lock:
            if key not in self._answers:
                self._answers[key] = row(bytes.fromhex(key), encode(response), int(time.time()))
            if self._given_up:
                return
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            self._soon()
        await waiting

    @property
    def unsaved(self) -> int:
        """Answers that could not be written: they are in memory alone."""
        return len(self._answers) if self._given_up else 0

    def _leave_out(self, key: str) -> None:
        """Have the next answer take the place of a damaged one."""
        self._anew.add(key)
        self.damaged += 1
        if self.damaged == 1:
            log.warning("the cache %s holds damaged answers; they are left out, and asked again", self.path)

    # -- what runs have paid for

    def charge(self, run: str, spent: Spent) -> None:
        """Add what a run has paid for; it goes to disk with the answers that are kept in the same turn."""
        used = spent.usage
        with self._lock:
            sums = self._charges.setdefault(run, [0, 0, 0, 0])
            sums[0] += spent.requests
            sums[1] += used.prompt_tokens
            sums[2] += used.cached_prompt_tokens
            sums[3] += used.completion_tokens
            self._soon()

    def spent(self, run: str) -> Spent:
        """What runs under a name have paid for."""
        kept = self._read(lambda: self._store.note(f"spent {run}"))
        requests, *used = _sums(kept, self._charges.get(run, ()))
        return Spent(requests, Usage(*used))

    # -- what endpoints can do

    def recall(self, endpoint: str) -> dict[str, Any] | None:
        """What was found of an endpoint's capabilities."""
        name = f"capabilities {endpoint}"
        body = self._notes[name] if name in self._notes else self._read(lambda: self._store.note(name))
        return None if body is None else dict(orjson.loads(body))

    def remember(self, endpoint: str, found: Mapping[str, Any]) -> None:
        """Keep what was found of an endpoint's capabilities."""
        self._note(f"capabilities {endpoint}", orjson.dumps(found))

    def forget(self, endpoint: str) -> None:
        """Have an endpoint's capabilities found anew."""
        self._note(f"capabilities {endpoint}", None)

    def _note(self, name: str, body: bytes | None) -> None:
        with self._lock:
            self._notes[name] = body
            self._soon()

    # -- size

    def stats(self) -> Stats:
        """How much it holds."""
        return self._whole(lambda: pruning.stats(self._store))

    def prune(self, max_bytes: int | None = None, older_than: timedelta | None = None) -> Pruned:
        """Drop the oldest answers, and give their space back; other processes may keep answers meanwhile.

        Args:
            max_bytes: until the file is no larger; None for any size.
            older_than: those that are older; None for any age.

        Raises:
            TaskError: the file cannot be written.
        """
        return self._whole(lambda: pruning.prune(self._store, max_bytes, older_than))

    def _whole(self, work: Callable[[], T]) -> T:
        with self._lock:
            try:
                return work()
            except (sqlite3.Error, OSError) as error:
                raise unusable(self.path, error) from error

    # -- to and from the disk

    def _read(self, work: Callable[[], T]) -> T | None:
        """What `work` reads; None where that cannot be done."""
        with self._lock:
            try:
                return patiently(lambda: self._store.whole(work))
            except (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError) as error:
                self._fail(error)
                return None

    def _soon(self) -> None:
        """Write what is queued in the event loop's next turn, or at once where there is no loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._save(wait=True)
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not self._save():
            self._loop = loop
            loop.call_later(AGAIN, self._flush)
            return
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _save(self, *, wait: bool = False) -> bool:
        """Write what is queued; returns whether that is over, one way or the other.

        Args:
            wait: for another process that holds the lock, and try what was given up; else the loop tries again.
        """
        with self._lock:
            if not (self._answers or self._notes or self._charges) or (self._given_up and not wait):
                return True
            try:
                if wait:
                    patiently(self._store.write, self._work)
                else:
                    self._store.write(self._work)
            except (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError) as error:
                if not wait and self._patient(error):
                    return False
                self._given_up = not self._rescue(error)
                if self._given_up:
                    return True
            self._given_up, self._locked = False, None
            self._anew.difference_update(self._answers)
            self._answers.clear()
            self._notes.clear()
            self._charges.clear()
        return True

    def _work(self) -> None:
        """All that is queued, in one transaction."""
        if self._anew:
            self._store.add([self._answers[key] for key in self._anew & self._answers.keys()], anew=True)
        self._store.add(self._answers.values())
        for name, body in self._notes.items():
            self._store.set_note(name, body)
        for run, sums in self._charges.items():
            name = f"spent {run}"
            self._store.set_note(name, orjson.dumps(_sums(self._store.note(name), sums)))

    def _patient(self, error: Exception) -> bool:
        """Whether to wait on for another process."""
        if ailment(error) != "locked":
            return False
        now = time.monotonic()
        self._locked = now if self._locked is None else self._locked
        return now - self._locked < PATIENCE

    def _rescue(self, error: Exception) -> bool:
        """Write what is queued into the space that was set aside, or that the log gives back; whether that went."""
        self._fail(error)
        if ailment(error) == "locked":
            return False
        for free in ([] if self._reserve is None else [self._reserve.close]) + [self._store.shrink]:
            free()
            try:
                self._store.write(self._work)
            except (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError):
                continue
            return True
        return False

    def _fail(self, error: Exception) -> None:
        """Say why nothing more can be written, and what to do; the first cause is what matters."""
        why = f"another process has locked it for {PATIENCE:g} s" if ailment(error) == "locked" else cause(error)
        mend = "free some space, then run it again" if full(error) else "run it again"
        self.fault = self.fault or f"the cache {self.path} cannot be written ({why}); {mend} to go on"

    def close(self) -> None:
        """Write what is still queued, and close the file."""
        self._save(wait=True)
        if self._reserve is not None:
            self._reserve.close()
        self._store.close()


def _sums(kept: bytes | None, more: Sequence[int]) -> list[int]:
    """A run's figures as they are kept, and what is to be added."""
    return [a + b for a, b in zip_longest(orjson.loads(kept or b"[0,0,0,0]"), more, fillvalue=0)]
