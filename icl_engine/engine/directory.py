"""A run directory belongs to one task, and to one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from icl_engine.engine.journal import unwritable
from icl_engine.errors import TaskError

LOCK = ".lock"
"""The file that a process at work holds locked; a killed one's lock is gone with it."""


@contextmanager
def claimed(path: Path, fingerprint: str) -> Iterator[None]:
    """Hold a run directory; one that was made for nothing is taken away again.

    Args:
        path: the run directory; made if missing.
        fingerprint: the task's.

    Raises:
        TaskError: it is no folder, holds another task's run, or is held by another process.
        StorageError: it cannot be made or written.
    """
    if path.exists() and not path.is_dir():
        raise TaskError("is not a folder; give --out a folder", file=path)
    lock = FileLock(path / LOCK, timeout=0, is_singleton=False)
    with unwritable(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        with unwritable(path):
            lock.acquire()
    except Timeout:
        raise TaskError("another process is at work here; wait for it, or give another --out", file=path) from None
    try:
        _check(path, fingerprint)
        yield
    finally:
        with suppress(OSError):
            (path / LOCK).unlink()  # while it is held, so that nobody else's is taken away
        lock.release()
        with suppress(OSError):
            path.rmdir()


def _check(path: Path, fingerprint: str) -> None:
    """Refuse a run directory that belongs to another task."""
    manifest = path / "manifest.json"
    if not manifest.exists():
        return
    try:
        found = orjson.loads(manifest.read_bytes()).get("fingerprint")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != fingerprint:
        raise TaskError(
            f"holds another run (fingerprint {found}, this task has {fingerprint}); give another --out", file=path
        )
