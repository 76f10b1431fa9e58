"""Which rows are the task's, and how a row becomes an example."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from icl_engine.data.files import files
from icl_engine.data.formats import Row, rows
from icl_engine.errors import DataError, did_you_mean
from icl_engine.images import images_in
from icl_engine.types import Example

Source = str | Path | Iterable[Mapping[str, Any]]
"""What names data files (a path, a pattern, an ``hf://`` address), or rows."""


SIMPLE = frozenset({str, int, float, bool, type(None)})
"""Types of values that are no images by themselves."""


@dataclass(frozen=True, slots=True)
class Schema:
    """How stored rows become examples.

    Args:
        target: the field with the answer; every other field is a template variable.
        fields: template variable -> stored field, for those that are named otherwise in the file.
        labels: stored value (as a string) -> label.
        images: the template variables that hold images by their path or address.
        base: the folder that images of rows that are no file's are relative to.
    """

    target: str | None = None
    fields: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    images: frozenset[str] = frozenset()
    base: Path = field(default_factory=Path)

    def inputs(self, row: Mapping[str, Any]) -> Row:
        """A row's template variables, under their own or their stored names; the target left out.

        Raises:
            DataError: an image is not there, is none, or is too large.

        >>> Schema("label", {"text": "sentence"}).inputs({"sentence": "fine", "label": 1})
        {'text': 'fine'}
        """
        named = self.renamed(row)
        named.pop(self.target or "", None)
        return self._seen(named, {})

    def renamed(self, row: Mapping[str, Any]) -> Row:
        """The row with `fields` renamed."""
        if not self.fields:
            return dict(row)
        stored = set(self.fields.values())
        kept = {k: v for k, v in row.items() if k not in stored or k in self.fields}
        return kept | {variable: row[name] for variable, name in self.fields.items() if name in row}

    def _seen(self, named: Row, where: Mapping[str, Any]) -> Row:
        """The row with its images made such, told by their field where that is not possible."""
        for name, value in named.items():
            if type(value) in SIMPLE and name not in self.images:
                continue
            base = self.base if where.get("file") is None else Path(where["file"]).parent
            try:
                named[name] = images_in(value, base, listed=name in self.images)
            except DataError as error:
                raise DataError(f"field {name!r}: {error.what}", **where) from error
        return named

    def example(self, row: Mapping[str, Any], index: int, where: Mapping[str, Any], *, need_target: bool) -> Example:
        """The row as an example.

        Raises:
            DataError: the target (or a renamed field) is missing, its value is not among `labels`, or an image is
                not there, is none, or is too large.
        """
        named = self.renamed(row)
        for variable, stored in (self.fields or {}).items():
            if variable not in named:
                near = did_you_mean(stored, map(str, row), "the row has")
                raise DataError(f"row has no field {stored!r}{near}", **where)
        target = named.pop(self.target, None) if self.target else None
        if target is None and need_target:
            if self.target is None:
                raise DataError("metrics and demonstrations need the answers; name their field", key="data.target")
            is_null = self.target in named or self.target in row
            near = "; it is null" if is_null else did_you_mean(self.target, row, "the row has")
            raise DataError(f"row has no target {self.target!r}{near}", **where)
        if target is not None and self.labels:
            stored_value = target if isinstance(target, str) else orjson.dumps(target, default=str).decode()
            # Demonstrations written by hand may already have the label.
            if stored_value not in self.labels and stored_value not in self.labels.values():
                raise DataError(
                    f"target {stored_value!r} is not in data.labels{did_you_mean(stored_value, self.labels)}", **where
                )
            target = self.labels.get(stored_value, stored_value)
        return Example(row.get("id", index), self._seen(named, where), target)


def examples(source: Source, schema: Schema, *, need_target: bool, key: str) -> Iterator[Example]:
    """The examples of files or of rows, streamed.

    Args:
        source: what names data files, or rows.
        schema: how rows become examples.
        need_target: whether a row without an answer is a mistake.
        key: the task key to name where the source itself is at fault.
    """
    for index, (file, number, line, row) in enumerate(_located(source, key)):
        yield schema.example(row, index, _where(file, number, line, key), need_target=need_target)


def place(source: Source, index: int, key: str) -> dict[str, Any]:
    """Where a row stands, for an error: its file, and its line or its number there; or key. Reads files again."""
    if not isinstance(source, str | Path):
        return _where(None, index, None, key)
    at = next(islice(_located(source, key), index, None), None)
    return _where(*at[:3], key) if at else {"file": source, "key": f"row {index}"}


def _where(file: Path | None, number: int, line: int | None, key: str) -> dict[str, Any]:
    if file is None:
        return {"key": f"{key}[{number}]"}
    return {"file": file, "line": line} if line is not None else {"file": file, "key": f"row {number}"}


def _located(source: Source, key: str) -> Iterator[tuple[Path | None, int, int | None, Row]]:
    """Each row with its file, its number and line in it; with its number alone where it is no file's."""
    if isinstance(source, str | Path):
        for file in files(source):
            for number, (line, row) in enumerate(rows(file)):
                yield file, number, line, row
        return
    for number, given in enumerate(source):
        if not isinstance(given, Mapping):
            raise DataError(f"is a {type(given).__name__}, not a mapping", key=f"{key}[{number}]")
        yield None, number, None, dict(given)


def fingerprint(source: Source) -> str:
    """SHA-256 of the rows' bytes: a file's own, several files' in their order."""
    if isinstance(source, str | Path):
        digests = [_digest(file) for file in files(source)]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    digest = hashlib.sha256()
    for row in source:
        digest.update(orjson.dumps(row, default=_plain, option=orjson.OPT_NON_STR_KEYS) + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path) from error
