"""What ails a cache's file, and what can still be read of a damaged one."""

from __future__ import annotations

import errno
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal

from icl_engine.errors import TaskError, bounded

SIDES = ("-wal", "-shm", "")
"""What SQLite appends to a file's name for the files beside it; the file itself last."""

KEY = 32
"""Bytes of a key: no row is smaller."""

PAGE = 4096
"""Bytes of a page."""

VERSIONS = slice(18, 20)
"""Where the first page says that there is a log: twice 2."""

PAGES = slice(28, 32)
"""Where the first page says how many pages there are; 0 for as many as are found."""

FAR = 1 << 40
"""How far ahead the next row that can be read is looked for."""

READ = "SELECT id, key, body, at, checksum FROM answers WHERE id >= ? ORDER BY id"

_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    # What flipped bytes in the schema or in a row lead to: no such column, a value of another type or size.
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
}
_STORAGE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}
Ailment = Literal["locked", "damaged", "storage", "none"]


class DamagedError(sqlite3.DatabaseError):
    """A database, but not with a cache's tables."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def checksum(name: bytes, body: bytes) -> int:
    """CRC-32 of a body under its name, so that a body under another's name is noticed too."""
    return zlib.crc32(body, zlib.crc32(name))


def sound(name: object, body: object, kept: object) -> bool:
    """Whether a body is what was kept under a name; flipped bytes may have made anything of all three."""
    return isinstance(name, bytes) and isinstance(body, bytes) and checksum(name, body) == kept


def ailment(error: Exception) -> Ailment:
    """What an error says of a file: held by another process, damaged, or its disk cannot be written.

    >>> ailment(OSError(28, "No space left on device"))
    'storage'
    >>> ailment(sqlite3.ProgrammingError("Cannot operate on a closed database."))
    'none'
    """
    if isinstance(error, OSError):
        return "storage"
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "none"
    code &= 0xFF  # what is above tells kinds of the same error apart
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "locked"
    return "damaged" if code in _DAMAGED else "storage" if code in _STORAGE else "none"


def cause(error: Exception) -> str:
    """The error in a few words.

    >>> cause(OSError(28, "No space left on device", "/tmp/x"))
    'No space left on device'
    """
    words = error.strerror if isinstance(error, OSError) else None
    return bounded(words or str(error))


def full(error: Exception) -> bool:
    """Whether it says that nothing is left on the disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def unusable(path: Path, error: Exception) -> TaskError:
    """A cache that cannot be used, in one line."""
    return TaskError(
        f"the cache {path} cannot be used ({cause(error)}); {'free some space, or ' if full(error) else ''}"
        "set ICL_CACHE_DIR to another folder, or run with --no-cache"
    )


def size(path: Path) -> int:
    """Bytes of a database and of its log."""
    return sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())


def move(source: Path, target: Path) -> None:
    """Rename a database and what stands beside it."""
    for side in SIDES:
        beside = Path(f"{source}{side}")
        if beside.exists():
            beside.rename(f"{target}{side}")


def remove(path: Path) -> None:
    """Remove a database, then what stands beside it, which means nothing without it."""
    for side in reversed(SIDES):
        Path(f"{path}{side}").unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """Move a damaged file out of the way; it is still to be read."""
    taken = [int(n) for other in path.parent.iterdir() for n in re.findall(r"\.damaged-(\d+)\.", other.name)]
    target = path.with_name(f"{path.stem}.damaged-{max(taken, default=0) + 1}.unread{path.suffix}")
    move(path, target)
    return target


def unread(path: Path) -> list[Path]:
    """Damaged files of which nothing has been taken over yet: more than none where a process was killed at it."""
    return sorted(path.parent.glob(f"{path.stem}.damaged-*.unread{path.suffix}"))


def rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Every row of a damaged file that can still be read, some perhaps twice: (id, key, body, at, checksum)."""
    most = size(path) // KEY  # a tree whose branches lead back to each other has no end
    first: int | None = 1
    with closing(_opened(path)) as db:
        while first is not None:
            last = first - 1
            try:
                for row in db.execute(READ, (first,)):
                    last, most = row[0], most - 1
                    yield row
                    if not most:
                        return
            except (sqlite3.Error, MemoryError, UnicodeDecodeError):
                # The module reads one row ahead: the row before the one that cannot be read was read, but not given.
                for row in _one(db, last + 1):
                    last = row[0]
                    yield row
                first = _beyond(db, last)
            else:
                return


def _one(db: sqlite3.Connection, first: int) -> list[tuple[Any, ...]]:
    """The next row from an id on, alone; none if it cannot be read, or there is none."""
    try:
        return db.execute(f"{READ} LIMIT 1", (first,)).fetchall()
    except (sqlite3.Error, MemoryError, UnicodeDecodeError):
        return []


def _beyond(db: sqlite3.Connection, last: int) -> int | None:
    """The first id after a page that cannot be read; None if none is near enough."""
    step = 2  # the next row is the one that could not be read
    while not _one(db, last + step):
        step *= 2
        if step > FAR:
            return None
    low, high = last + step // 2, last + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _one(db, middle) else (middle, high)
    return high


def notes(path: Path) -> Iterator[tuple[Any, ...]]:
    """Every note of a damaged file that can still be read, up to the first that cannot: (name, body, checksum)."""
    with closing(_opened(path)) as db, suppress(sqlite3.Error, MemoryError):
        yield from db.execute("SELECT name, body, checksum FROM notes")


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.text_factory = bytes
    with suppress(sqlite3.Error):
        db.execute("PRAGMA writable_schema=ON")  # reads on where the file is shorter than it says
    return db


def lend(path: Path, first: bytes) -> None:
    """Put another file's first page in the place of a damaged one: it says where tables begin, and holds no answers."""
    page = bytearray(first)
    page[VERSIONS] = b"\2\2"
    page[PAGES] = bytes(4)
    with path.open("r+b") as damaged:
        damaged.write(page)
