"""How large a cache is, and how it is made smaller: the oldest answers go first."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from icl_engine.driver import salvage
from icl_engine.driver.salvage import unusable
from icl_engine.driver.store import ANSWERS, LOCK, Store, patiently

BATCH = 5000
"""The most answers dropped in one transaction, so that a run that keeps answers meanwhile need not wait long."""

PAGES = 1000
"""The most pages given back in one transaction."""

INCREMENTAL = 2
"""The mode in which free pages are given back some at a time."""

NEWEST = (1 << 63) - 1
"""No answer has a higher number, nor a later time."""

OLD_ENOUGH = """
    SELECT max(id) FROM (SELECT id, at, max(at) OVER (ORDER BY id) AS latest FROM answers WHERE at <= :now)
    WHERE at < :since AND at = latest"""
"""The last answer that is surely older: answers stand in the order in which they came, and its stamp is no earlier than
those before it. Stamps in the future say nothing, and what has one is taken for new; nor do those of a clock that ran
backwards."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache holds.

    Args:
        answers: how many.
        bytes: on disk; damaged files that were moved aside not counted.
        oldest: when the first of them was kept; None for none.
        newest: when the last of them was kept; None for none.
        damaged: files that were moved aside.
    """

    answers: int = 0
    bytes: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    damaged: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped: answers, and bytes on disk."""

    answers: int
    bytes: int


def stats(store: Store) -> Stats:
    """What a cache holds."""
    store.shrink()
    return patiently(lambda: store.whole(lambda: _stats(store)))


def _stats(store: Store) -> Stats:
    (answers,) = store.db.execute("SELECT count(*) FROM answers").fetchone()
    oldest, newest = (_stamp(store.db, order) for order in ("ASC", "DESC"))
    return Stats(answers, salvage.size(store.path), oldest, newest, damaged(store.path))


def _stamp(db: sqlite3.Connection, order: str) -> datetime | None:
    """When the first or the last answer was kept: no later than now, whatever the clock said then."""
    found = db.execute(f"SELECT at FROM answers ORDER BY id {order} LIMIT 1").fetchone()  # noqa: S608 (ASC or DESC)
    if found is None or not isinstance(found[0], int):
        return None
    return datetime.fromtimestamp(max(0, min(found[0], time.time())), UTC)


def damaged(path: Path) -> tuple[Path, ...]:
    """Damaged files that were moved aside."""
    return tuple(sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}")))


def prune(store: Store, max_bytes: int | None, older_than: timedelta | None) -> Pruned:
    """Drop the oldest answers, and give their space back.

    Args:
        store: the cache's file; other processes may write to it meanwhile.
        max_bytes: until the file is no larger; None for any size.
        older_than: those that are older; None for any age.
    """
    store.shrink()
    before = salvage.size(store.path)
    dropped = 0
    if older_than is not None:
        now = time.time()
        since = {"now": now, "since": now - older_than.total_seconds()}
        (last,) = store.whole(lambda: store.db.execute(OLD_ENOUGH, since).fetchone())
        while last is not None and (n := _drop(store, BATCH, last, int(now))):
            dropped += n
    if max_bytes is not None:
        dropped += _fit(store, max_bytes)
    if dropped:
        _give_back(store)
    return Pruned(dropped, max(0, before - salvage.size(store.path)))


def _drop(store: Store, most: int, last: int = NEWEST, now: int = NEWEST) -> int:
    """Drop some of the oldest answers, none after the last nor of a later time; returns how many it were."""
    dropped = 0
    oldest = "SELECT id FROM answers WHERE id <= ? AND at <= ? ORDER BY id LIMIT ?"

    def work() -> None:
        nonlocal dropped
        found = store.db.execute(f"DELETE FROM answers WHERE id IN ({oldest})", (last, now, most))  # noqa: S608
        dropped = found.rowcount

    patiently(store.write, work)
    return dropped


def _fit(store: Store, max_bytes: int) -> int:
    """Drop the oldest answers until what is left takes no more; returns how many it were."""
    (count,) = store.db.execute("SELECT count(*) FROM answers").fetchone()
    dropped = 0
    while (over := (used := _used(store.db)) - max_bytes) > 0:
        # Half of what seems to be too much, so that the last steps are single answers.
        share = over * (count - dropped) // (2 * used)
        n = _drop(store, min(max(share, 1), BATCH))
        if not n:
            break
        dropped += n
    return dropped


def _used(db: sqlite3.Connection) -> int:
    """Bytes of the pages in use."""
    pages, free, each = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * each)


def _give_back(store: Store) -> None:
    """Give free pages back to the disk."""
    db = store.db
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:  # made by an earlier version
        patiently(db.execute, "VACUUM")  # takes up the mode that was asked for when the file was opened
    free = -1
    while free != (free := db.execute("PRAGMA freelist_count").fetchone()[0]) and free:
        patiently(lambda: db.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall())
    store.shrink()


def clear(folder: Path) -> Pruned:
    """Drop all that a cache holds, damaged files as well; runs that write meanwhile begin a new one.

    Raises:
        TaskError: a file cannot be removed.
    """
    from filelock import FileLock

    path = folder / ANSWERS
    files = [path, *damaged(path)]
    before = sum(map(salvage.size, files))
    try:
        with FileLock(folder / LOCK):
            answers = _readable(path)
            for file in files:
                salvage.remove(file)
    except OSError as error:
        raise unusable(path, error) from error
    return Pruned(answers, before)


def _readable(path: Path) -> int:
    """How many answers a file holds, so far as that can be read."""
    try:
        with closing(sqlite3.connect(path)) as db:
            return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.Error:
        return 0
