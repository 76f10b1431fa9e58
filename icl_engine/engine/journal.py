"""Files of whole lines. A rerun leaves what it would write again as it stands."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson


class Journal:
    """A JSONL file written line by line, each in one unbuffered write, so that a killed process leaves whole lines.

    Lines that the file already holds are compared and kept; from the first that differs on the file is written anew.
    So running again never takes back a line before it has its successor.

    Args:
        path: the file; its folder is made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
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
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.truncate(self._file, self._kept)
            os.lseek(self._file, self._kept, os.SEEK_SET)
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]

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


def write_json(path: Path, content: object) -> None:
    """Write a JSON file in one step: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    os.replace(part, path)
