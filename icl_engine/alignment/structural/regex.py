"""`regex`: a part of the model's text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal

import re2
from pydantic import Field, field_validator

from icl_engine.alignment.structural.forms.patterns import compiled
from icl_engine.alignment.text import canon_text, said, text_of, took, unread
from icl_engine.errors import TaskError, bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class Regex(Aligner):
    r"""The part of the text that `pattern` matches.

    Patterns are RE2's: they meet hostile text, and RE2 runs in time linear in it (no look-around, no back-references).

    Args:
        pattern: RE2 syntax; flags as ``(?i)`` ignore case, ``(?s)`` dot matches line breaks, ``(?m)`` ^ and $ at lines.
        group: the group taken, by number or name; 1 if the pattern has one, else 0 (the whole match). A list of names
            takes them all: the value is name -> text, null for a group that has no part in the match.
        take: the ``first`` match, the ``last``, or ``all`` (a list, of the first 1,000).

    >>> Regex(pattern=r"answer is (\w+)").apply(Reading(text="So the answer is No.")).value
    'No'
    >>> dates = Regex(pattern=r"(?P<month>\w+) (?P<year>\d{4})", group=["month", "year"])
    >>> dates.apply(Reading(text="In July 1969.")).value
    {'month': 'July', 'year': '1969'}
    >>> Regex(pattern="answer").apply(Reading(text="no idea")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["regex"] = "regex"
    pattern: str
    group: int | str | tuple[str, ...] | None = None
    take: Literal["first", "last", "all"] = Field(default="first")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            compiled(pattern)
        except re2.error as error:
            raise ValueError(f"not an RE2 pattern: {bounded(_message(error))}") from error
        return pattern

    def model_post_init(self, context: Any) -> None:
        """Refuse a group the pattern does not have."""
        named = isinstance(self.group, tuple)
        known = [*([] if named else range(self._regex.groups + 1)), *self._regex.groupindex]
        for group in self.group if isinstance(self.group, tuple) else (self.group,):
            if group is not None and group not in known:
                shown = ", ".join(map(str, known)) or "none with a name"
                raise ValueError(f"the pattern has no group {group!r}; it has {shown}")
        if self.group == ():
            raise ValueError("group: an empty list")

    @cached_property
    def _regex(self) -> Any:
        return compiled(self.pattern)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return self.group if isinstance(self.group, tuple) else ()

    @cached_property
    def _bytes(self) -> Any:
        return compiled(self.pattern.encode())

    def write(self, target: Any) -> str:
        """The target as text; with ``take: all`` a list's items with commas between.

        Named texts are written one after the other, with what stands between them chosen so that they are read back.

        Raises:
            TaskError: named texts cannot be written so; the target has to be a text that the pattern matches.
        """
        if self._names:
            return target if isinstance(target, str) else self._spelt(target)
        if self.take == "all" and isinstance(target, list | tuple):
            return ", ".join(map(text_of, target))
        return text_of(target)

    def canon(self, value: Any) -> Any:
        """Text without outer white space, or name -> such texts; with ``take: all`` a list of these.

        Raises:
            ValueError: of a target for named groups: the pattern does not match it, or it has other names.
        """
        if self._names:
            return self._value(value) if isinstance(value, str) else self._tidy(value)
        if self.take != "all":
            return canon_text(value)
        return [canon_text(v) for v in (value if isinstance(value, list | tuple) else [value])]

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Search what is left of the text; no match is status ``unparsed``."""
        found = self._found(said(reading))
        if not found:
            return unread(reading, self.use, "no match")
        if self.take == "all":
            texts, values = zip(*found, strict=True)
            return took(reading, self.use, list(values), text="\n".join(texts))
        text, value = found[0]
        return took(reading, self.use, value, text=text)

    def _found(self, text: str) -> list[tuple[str, Any]]:
        """For each match that counts: what later steps read (with named groups all of it), and the value."""
        # RE2 reads UTF-8, which has no lone surrogates; on bytes it is several times as quick as on text.
        data = text.encode("utf-8", "replace")
        if self.take == "first":
            first = self._bytes.search(data)
            matches: Iterable[Any] = [first] if first else []
        elif self.take == "all":
            matches = islice(self._bytes.finditer(data), MOST)
        else:
            matches = reversed(list(self._bytes.finditer(data)))
        parts = (part for match in matches if (part := self._part(match, data)) is not None)
        return list(parts) if self.take == "all" else list(islice(parts, 1))

    def _part(self, match: Any, data: bytes) -> tuple[str, Any] | None:
        """What a match gives; None where the group has no part in it."""
        start, end = match.span()
        if start == end < len(data) and data[start] & 0xC0 == 0x80:
            return None  # nothing, in the midst of a character
        if self._names:
            index = self._regex.groupindex
            named = {name: match.group(index[name]) for name in self._names}
            return match.group(0).decode(), {
                name: None if text is None else canon_text(text.decode()) for name, text in named.items()
            }
        group = self.group if self.group is not None else min(1, self._regex.groups)
        part = match.group(self._regex.groupindex[group] if isinstance(group, str) else group)
        return None if part is None else (part.decode(), canon_text(part.decode()))

    def _value(self, text: str) -> Any:
        reading = self.apply(Reading(text=text))
        if reading.status != "ok":
            raise ValueError(f"target {bounded(text, 60)!r} is not matched by the pattern")
        return reading.value

    def _tidy(self, value: Any) -> Any:
        """Named texts in the pattern's own order, if they can be read back."""
        several = list(value) if self.take == "all" and isinstance(value, list | tuple) else [value]
        if not several or not all(isinstance(one, Mapping) and set(one) == set(self._names) for one in several):
            raise ValueError(
                f"target {bounded(text_of(value), 60)!r} is no mapping of {', '.join(self._names)} to texts"
            )
        tidy = [{name: None if one[name] is None else canon_text(one[name]) for name in self._names} for one in several]
        return tidy if self.take == "all" else tidy[0]

    def _spelt(self, value: Any) -> str:
        """Named texts written so that the pattern reads them."""
        several = value if isinstance(value, list | tuple) else [value]
        order = sorted(self._names, key=self._regex.groupindex.__getitem__)
        wanted = [
            {name: None if one[name] is None else canon_text(one[name]) for name in self._names} for one in several
        ]
        for gap in _GAPS:
            text = "\n".join(gap.join(part for name in order if (part := one[name]) is not None) for one in wanted)
            reading = self.apply(Reading(text=text))
            if reading.status == "ok" and reading.value == (wanted if self.take == "all" else wanted[0]):
                return text
        what = "cannot be written as the pattern reads it; give the target as text that the pattern matches"
        raise TaskError(f"target {bounded(text_of(value), 60)!r} {what}", key="output")


MOST = 1_000
"""Matches that are listed: more are no answer to anything."""
_GAPS = (" ", ", ", ": ", "; ", "", "\n")
"""What may stand between named texts."""


def _message(error: Exception) -> str:
    argument = error.args[0] if error.args else error
    return argument.decode("utf-8", "replace") if isinstance(argument, bytes) else str(argument)
