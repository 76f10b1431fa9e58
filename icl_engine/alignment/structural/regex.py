"""`regex`: a part of the model's text."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import re2
from pydantic import Field, field_validator

from icl_engine.alignment.structural.patterns import compiled
from icl_engine.alignment.text import canon_text, text_of
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class Regex(Aligner):
    r"""The part of the text that `pattern` matches.

    Patterns are RE2's: they meet hostile text, and RE2 runs in time linear in it (no look-around, no back-references).

    Args:
        pattern: RE2 syntax; flags as ``(?i)`` ignore case, ``(?s)`` dot matches line breaks, ``(?m)`` ^ and $ at lines.
        group: the group taken, by number or name; 1 if the pattern has one, else 0 (the whole match).
        take: the ``first`` match, the ``last``, or ``all`` (a list).

    >>> Regex(pattern=r"answer is (\w+)").apply(Reading(text="So the answer is No.")).value
    'No'
    >>> Regex(pattern="answer").apply(Reading(text="no idea")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["regex"] = "regex"
    pattern: str
    group: int | str | None = None
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
        known = [*range(self._regex.groups + 1), *self._regex.groupindex]
        if self.group is not None and self.group not in known:
            raise ValueError(f"the pattern has no group {self.group!r}; it has {', '.join(map(str, known))}")

    @cached_property
    def _regex(self) -> Any:
        return compiled(self.pattern)

    def write(self, target: Any) -> str:
        """The target as text; with ``take: all`` a list's items with commas between."""
        if self.take == "all" and isinstance(target, list | tuple):
            return ", ".join(map(text_of, target))
        return text_of(target)

    def canon(self, value: Any) -> Any:
        """Text without outer white space; with ``take: all`` a list of such texts."""
        if self.take != "all":
            return canon_text(value)
        return [canon_text(v) for v in (value if isinstance(value, list | tuple) else [value])]

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Search what is left of the text; no match is status ``unparsed``."""
        group = self.group if self.group is not None else min(1, self._regex.groups)
        # RE2 reads UTF-8, which has no lone surrogates.
        text = (reading.text or "").encode("utf-8", "replace").decode()
        found = [part for m in self._matches(text) if (part := m.group(group)) is not None]
        if not found:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "regex: no match"))
        if self.take == "all":
            value: Any = self.canon(found)
            return replace(reading, text="\n".join(found), value=value, trace=(*reading.trace, f"regex: {len(found)}"))
        taken = found[-1 if self.take == "last" else 0]
        return replace(reading, text=taken, value=self.canon(taken), trace=(*reading.trace, f"regex: {taken[:80]!r}"))

    def _matches(self, text: str) -> list[Any]:
        if self.take == "first":
            match = self._regex.search(text)
            return [match] if match else []
        return list(self._regex.finditer(text))


def _message(error: Exception) -> str:
    argument = error.args[0] if error.args else error
    return argument.decode("utf-8", "replace") if isinstance(argument, bytes) else str(argument)
