"""Files of whole lines. A rerun leaves what it would write again as it stands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from filelock import Timeout

from icl_engine.errors import StorageError


class Journal:
    """A JSONL file written line by line, each in one unbuffered write, so that a killed process leaves whole lines.

    Lines that the file already holds are compared and kept; from the first that differs on the file is written anew.
    So running again never takes back a line before it has its successor.

    Args:
        path: the file; its folder is made with the first line.

    Raises:
        StorageError: it cannot be written; all lines before are whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with unwritable(path):
            self._old = path.open("rb") if path.exists() else None
        self._kept = 0
        self._file: int | None = None

    def write(self, line: bytes) -> None:
        """Add one line."""
        if self._old is not None:
            if self._old.readline() == line:
                self._kept += len(line)
                return
            self._old.close()
            self._old = None
        try:
            file = self._open() if self._file is None else self._file
            written = os.write(file, line)
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError as error:
            if self._file is not None:
                os.truncate(self._file, self._kept)  # of a line that has no room, nothing stays
            raise unwritten(self._path, error) from error
        self._kept += len(line)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.truncate(file, self._kept)
        os.lseek(file, self._kept, os.SEEK_SET)
        return file

    def close(self, *, complete: bool) -> None:
        """Close the file; a complete one drops what an earlier, longer run left after its last line."""
        if self._old is not None:
            self._old.close()
            self._old = None
            if complete:
                os.truncate(self._path, self._kept)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close(complete=kind is None)


@contextmanager
def unwritable(path: str | Path) -> Iterator[None]:
    """Say in one line that nothing can be written there.

    Raises:
        StorageError: in the place of an OSError.
    """
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise unwritten(path, error) from error


def unwritten(path: str | Path, error: OSError) -> StorageError:
    """One line on what could not be written."""
    return StorageError(
        f"{path}: cannot be written ({error.strerror or error}); what was answered is in the cache: "
        "make room, and run the same again to go on from here"
    )


def write_json(path: Path, content: object) -> None:
    """Write a JSON file in one step: readers see the old one or the new one."""
    part = path.with_name(f".{path.name}.part")
    with unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        os.replace(part, path)
