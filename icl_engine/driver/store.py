"""The cache's file: one SQLite database, shared by processes, that outlives crashes and flipped bytes."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from icl_engine.driver import salvage
from icl_engine.driver.salvage import DamagedError, ailment, cause, checksum, sound, unusable

log = logging.getLogger("icl_engine")

T = TypeVar("T")

ANSWERS = "answers.sqlite3"
"""The cache's file."""

LOCK = "answers.lock"
"""The file whose lock is held while the cache's file is opened, moved or removed."""

EMPTY = 8 * salvage.PAGE
"""Bytes of a file that holds hardly anything."""

PATIENCE = 30.0
"""Seconds for which another process that writes is waited for."""

OPENING = 120.0
"""Seconds for which another process that opens or mends the file is waited for."""

SETTINGS = (
    "PRAGMA auto_vacuum=INCREMENTAL",  # before the first table, and before the journal's mode
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA cache_size=-16000",
)
SCHEMA = (
    # Rows stand in the order in which they came: pages are filled one after the other, the oldest go first, and only
    # the index of short keys is written here and there. It is a tenth of the whole.
    """CREATE TABLE IF NOT EXISTS answers (
        id INTEGER PRIMARY KEY, short INTEGER UNIQUE NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,
        at INTEGER NOT NULL, checksum INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS notes (
        name BLOB PRIMARY KEY, body BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID""",
)
OLD = [b"key", b"body", b"at"]
"""The columns of a file that an earlier version made: no checksums, and in the order of keys."""

READ_OLD = """SELECT key, body, CAST(at AS INTEGER) FROM old
    WHERE typeof(key) = 'blob' AND typeof(body) = 'blob' ORDER BY at"""
COLUMNS = [b"id", b"short", *OLD, b"checksum"]
FIND = "SELECT body, checksum FROM answers WHERE short = ?"
ADD = "INSERT OR IGNORE INTO answers (short, key, body, at, checksum) VALUES (?, ?, ?, ?, ?)"
REPLACE = ADD.replace("IGNORE", "REPLACE")

Row = tuple[int, bytes, bytes, int, int]

_waiting = Retrying(
    retry=retry_if_exception(lambda error: isinstance(error, sqlite3.Error) and ailment(error) == "locked"),
    wait=wait_random(0.01, 0.05),
    stop=stop_after_delay(PATIENCE),
    reraise=True,
)


def patiently(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function, and again as long as another process holds the lock."""
    done: T = _waiting(work, *arguments)
    return done


def short(key: bytes) -> int:
    """What an answer is found by: the first 64 bits of its key; its checksum holds the rest."""
    return int.from_bytes(key[:8], "big", signed=True)


def row(key: bytes, body: bytes, at: int) -> Row:
    """An answer as it is kept."""
    return short(key), key, body, at, checksum(key, body)


class Store:
    """A cache's file. Not for several threads at once, `find` apart.

    Args:
        folder: where ``answers.sqlite3`` stands; made if missing.

    Raises:
        TaskError: the folder or the file cannot be used, or not be written.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self.path = folder / ANSWERS
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Held while the file is opened or moved, so that none opens what another is about to move.
            self._opening = FileLock(folder / LOCK, timeout=OPENING)
            with self._opening:
                try:
                    self._open()
                except UnicodeDecodeError as error:  # flipped bytes in a name that SQLite quotes
                    self._mend(DamagedError(str(error)))
                except sqlite3.Error as error:
                    self._mend(error)
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise unusable(self.path, error) from error

    # -- read and write

    def find(self, key: bytes) -> tuple[Any, Any] | None:
        """The body kept under a key, and its checksum; the caller compares them."""
        found: tuple[Any, Any] | None = self.db.execute(FIND, (short(key),)).fetchone()
        return found

    def missing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of at most some hundred keys under which nothing is kept."""
        asked = {short(key): key for key in keys}
        marks = ",".join("?" * len(asked))
        found = self.db.execute(f"SELECT short FROM answers WHERE short IN ({marks})", tuple(asked))  # noqa: S608 - marks
        there = {at for (at,) in found}
        return [key for at, key in asked.items() if at not in there]

    def note(self, name: str) -> bytes | None:
        """What is noted under a name; None for nothing, or where it is damaged."""
        found = self.db.execute("SELECT body, checksum FROM notes WHERE name = ?", (name.encode(),)).fetchone()
        if found is None:
            return None
        if not sound(name.encode(), *found):
            log.warning("the cache %s: what was noted as %r is damaged and left out", self.path, name)
            return None
        return bytes(found[0])

    def set_note(self, name: str, body: bytes | None) -> None:
        """Note something under a name; None forgets it."""
        key = name.encode()
        if body is None:
            self.db.execute("DELETE FROM notes WHERE name = ?", (key,))
        else:
            self.db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (key, body, checksum(key, body)))

    def add(self, rows: Iterable[Row], *, anew: bool = False) -> None:
        """Add answers; of two under one key the first stays, or the last where it is added anew."""
        self.db.executemany(REPLACE if anew else ADD, rows)

    def write(self, work: Callable[[], None]) -> None:
        """Do all that `work` writes in one transaction; it outlives the process when this returns.

        Work is done again in a new file where this one was damaged, moved or removed.

        Raises:
            sqlite3.Error: another process holds the lock, or the disk cannot be written; OSError: the same.
        """
        for _ in range(3):
            self.whole(lambda: self._transact(work))
            if self._in_place():
                return
            with self._opening:
                self._open()  # another process moved the file while we wrote: it may not have read what we wrote
        raise OSError(f"{self.path} is moved away again and again")

    def whole(self, work: Callable[[], T]) -> T:
        """Do something with the file; if it turns out to be damaged, mend it and do it again."""
        try:
            return work()
        except sqlite3.Error as error:
            self._mend(error)
            return work()

    def shrink(self) -> None:
        """Write the log into the file, and give its space back, as far as that goes."""
        with suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The open file."""
        assert self._db is not None, "opened by the constructor"
        return self._db

    def _transact(self, work: Callable[[], None]) -> None:
        db = self.db
        db.execute("BEGIN IMMEDIATE")
        try:
            work()
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                db.execute("ROLLBACK")
            raise

    # -- open and mend

    def _open(self, why: str = "") -> None:
        """Open the file, make its tables, and take over what damaged files hold. The lock for opening is held."""
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever writes is soon done; who is not is waited for by `patiently`, or by the event loop.
        self._db = sqlite3.connect(self.path, timeout=0.005, isolation_level=None, check_same_thread=False)
        self._db.text_factory = bytes  # what flipped bytes make of text may not be UTF-8
        self._inode = self.path.stat().st_ino
        patiently(self._prepare)
        for damaged in salvage.unread(self.path):
            saved, read = self._take_over(damaged)
            log.warning(
                "the cache %s was damaged%s: %d answers were saved from it; it is now %s", self.path, why, saved, read
            )

    def _prepare(self) -> None:
        for setting in SETTINGS:
            self.db.execute(setting).fetchall()
        self._transact(self._tables)

    def _tables(self) -> None:
        columns = [name for (name,) in self.db.execute("SELECT name FROM pragma_table_info('answers')")]
        if columns == OLD:
            self.db.execute("ALTER TABLE answers RENAME TO old")
        elif columns not in ([], COLUMNS):
            raise DamagedError(f"its columns are {columns}")
        for statement in SCHEMA:
            self.db.execute(statement)
        if columns == OLD:
            self._migrate()
        self.set_note("opened", str(int(time.time())).encode())  # a file that cannot be written is found here

    def _migrate(self) -> None:
        """Take over what an earlier version kept."""
        db = self.db
        self.add(row(*found) for found in db.execute(READ_OLD))
        db.execute("CREATE TABLE IF NOT EXISTS capabilities (endpoint, body)")
        for endpoint, body in db.execute("SELECT endpoint, body FROM capabilities").fetchall():
            self.set_note(f"capabilities {endpoint.decode(errors='replace')}", bytes(body))
        for table in ("old", "capabilities"):
            db.execute(f"DROP TABLE {table}")

    def _in_place(self) -> bool:
        """Whether the file that is open still stands where it stood."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _mend(self, error: sqlite3.Error) -> None:
        """Put a new file in the place of a damaged one, unless another process has; any other error is raised again."""
        what = ailment(error)
        # A header whose bytes are flipped may say that the file is only for reading.
        effective = os.access in os.supports_effective_ids
        lies = "readonly" in str(error) and os.access(self.path, os.W_OK, effective_ids=effective)
        if what != "damaged" and not lies:
            raise error
        with self._opening:
            if self._in_place():
                with suppress(sqlite3.Error):
                    self.close()
                salvage.aside(self.path)
            self._open(f" ({cause(error)})")

    def _take_over(self, damaged: Path) -> tuple[int, Path]:
        """Take over what a damaged file still holds; returns how many answers that were, and the file's last name."""
        before = self._count()
        if not self._copy(damaged) and salvage.size(damaged) > EMPTY:
            salvage.lend(damaged, _first_page())
            self._copy(damaged)
        read = damaged.with_name(damaged.name.replace(".unread", ""))
        salvage.move(damaged, read)
        return self._count() - before, read

    def _copy(self, damaged: Path) -> int:
        """Copy the answers and notes whose checksums are right; returns how many answers that were."""
        copied = 0
        found = (row(key, body, at) for _, key, body, at, kept in salvage.rows(damaged) if sound(key, body, kept))
        while some := list(islice(found, 1000)):
            patiently(self._transact, lambda some=some: self.add(some))
            copied += len(some)
        for name, body, kept in salvage.notes(damaged):
            if sound(name, body, kept):
                patiently(self._transact, lambda name=name, body=body: self.set_note(name.decode(), body))
        return copied

    def _count(self) -> int:
        return int(self.db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])


def _first_page() -> bytes:
    """The first page of a file in which nothing is kept."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(SETTINGS[0])
        for statement in SCHEMA:
            db.execute(statement)
        return db.serialize()[: salvage.PAGE]
