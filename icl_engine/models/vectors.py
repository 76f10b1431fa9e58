"""The file in which vectors of texts are kept by content: none is computed, or paid for, twice."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from icl_engine.errors import bounded

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("icl_engine")

T = TypeVar("T")

FILE = "vectors.sqlite3"
"""The file of all encoders' vectors: a key tells whose they are."""

PATIENCE = 30.0
"""Seconds for which another process that writes is waited for."""

LOT = 500
"""Keys in one query: SQLite takes 999 at most in old versions."""

SETTINGS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
TABLE = """CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, vector BLOB NOT NULL, checksum INTEGER NOT NULL)"""

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
"""What SQLite says of flipped bytes and cut files; the last where they make another table of ours."""

FAULTS = (sqlite3.Error, OSError, UnicodeDecodeError, MemoryError)
"""How faults are told; the last two by flipped bytes in a name that SQLite quotes, and in a size that it reads."""

_told: set[Path] = set()
"""Files of whose faults this process has told."""


class Vectors:
    """The vectors of one encoder's texts. No fault of the file ends a run: what cannot be kept is computed.

    Args:
        folder: where the file stands, made if missing; None keeps nothing.
        identity: of the encoder: all that its vectors depend on beside the text.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        self._path = None if folder is None else folder / FILE
        self._salt = hashlib.sha256(identity.encode()).digest()
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._safely(self._open, None)

    def find(self, texts: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        """(place of a text, its vector's float32 bytes) for each text whose vector is kept."""
        for start in range(0, len(texts), LOT):
            places = {self._key(text): start + i for i, text in enumerate(texts[start : start + LOT])}
            none: list[Any] = []
            for key, vector, checksum in self._safely(partial(self._rows, tuple(places)), none):
                # A vector whose bytes flipped is computed anew, and put in its place.
                if key in places and isinstance(vector, bytes) and checksum == _checksum(key, vector):
                    yield places[key], vector

    def keep(self, texts: Sequence[str], rows: np.ndarray) -> None:
        """Keep the vectors of texts; they outlive the process when this returns."""
        pairs = [(self._key(text), row.tobytes()) for text, row in zip(texts, rows, strict=True)]
        self._safely(partial(self._add, [(key, vector, _checksum(key, vector)) for key, vector in pairs]), None)

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _key(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._salt, digest_size=16).digest()

    def _rows(self, keys: Sequence[bytes]) -> list[Any]:
        if self._db is None:
            return []
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, vector, checksum FROM vectors WHERE key IN ({marks})"  # noqa: S608 - marks
        return self._db.execute(query, keys).fetchall()

    def _add(self, rows: list[tuple[bytes, bytes, int]]) -> None:
        if self._db is None:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR REPLACE INTO vectors (key, vector, checksum) VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                self._db.execute("ROLLBACK")
            raise

    # -- the file

    def _open(self) -> None:
        self.close()
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        self._db.text_factory = bytes  # what flipped bytes make of text may not be UTF-8
        self._inode = self._path.stat().st_ino
        for statement in (*SETTINGS, TABLE):
            self._db.execute(statement).fetchall()

    def _safely(self, work: Callable[[], T], otherwise: T) -> T:
        """Do something with the file: again in a new one if it is damaged, and not at all once it cannot be used."""
        for last in (False, True):
            try:
                return work()
            except FAULTS as error:
                self.close()
                try:
                    mended = not last and self._mend(error)
                except FAULTS:
                    mended = False
                if not mended:
                    self._tell(f"cannot be used ({bounded(str(error))}); vectors are computed without it")
                    self.close()
                    return otherwise
        return otherwise

    def _mend(self, error: Exception) -> bool:
        """Move a damaged file out of the way, unless another process has, and open a new one; whether that was it."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._path is None or not (code in DAMAGED or isinstance(error, UnicodeDecodeError | MemoryError)):
            return False
        if self._path.stat().st_ino == self._inode:
            self._path.rename(self._path.with_name(f"{self._path.name}.damaged"))
            for side in ("-wal", "-shm"):  # they would be taken for the new file's
                Path(f"{self._path}{side}").unlink(missing_ok=True)
            self._tell(f"was damaged ({bounded(str(error))}) and is begun anew")
        self._open()
        return True

    def _tell(self, what: str) -> None:
        if self._path is not None and self._path not in _told:
            _told.add(self._path)
            log.warning("the file of vectors %s %s", self._path, what)


def _checksum(key: bytes, vector: bytes) -> int:
    """CRC-32 of a vector under its key, so that a vector under another's key is noticed too."""
    return zlib.crc32(vector, zlib.crc32(key))
