"""`choice`: one of several lettered options."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator

from icl_engine.alignment.text import text_of
from icl_engine.errors import bounded, did_you_mean
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_MARKUP = str.maketrans("", "", "*_`\"'$")
_SAID = r"\b(?:answer|choice|option)(?:\s{1,3}is)?\s{0,3}[:=]?\s{0,3}(?:option\s{1,3})?(?<![^\W_])"

_NO_ARTICLE = r"(?!(?<=[AaIi])[ \t]+(?!because|since|as\b)\w)"
"""The A of "the best option is a good one" names no option."""


class _Patterns(NamedTuple):
    """A letter at the beginning, after "the answer is", in brackets anywhere, and beside another with equal right."""

    begins: re.Pattern[str]
    said: re.Pattern[str]
    bracket: re.Pattern[str]
    another: re.Pattern[str]


class Choice(Aligner):
    """The letter of the option that the text names: "(B)", "B.", "**B**", "Answer: B", "B) Paris", or its text.

    In order: the whole text is a letter or an option's text; it begins with a letter set off by a bracket, full stop or
    colon; a phrase such as "the answer is (B)" stands in it (the last one counts); one letter in brackets, or one
    option's text, stands in its first line. Anything else, or two options with equal right, is ``unparsed``.

    Args:
        choices: the letters (default A to Z), or letter -> the option's text where it is the same for all rows.

    >>> c = Choice(choices={"A": "Rome", "B": "Paris"})
    >>> [c.apply(Reading(text=t)).value for t in ("(B)", "B. It is the capital", "So the answer is B.", "It is Paris.")]
    ['B', 'B', 'B', 'B']
    >>> c.apply(Reading(text="Both (A) and (B).")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["choice"] = "choice"
    choices: Mapping[str, str] = Field(default=dict.fromkeys(string.ascii_uppercase, ""), min_length=2)

    @field_validator("choices", mode="before")
    @classmethod
    def _letters(cls, choices: Any) -> Any:
        """A list is letters alone; letters are written as capitals."""
        if not isinstance(choices, list | tuple | Mapping):
            return choices
        pairs = choices.items() if isinstance(choices, Mapping) else ((letter, "") for letter in choices)
        found = {text_of(k).strip().upper(): text_of(v).strip() for k, v in pairs}
        if len(found) < len(choices):
            raise ValueError("two choices have the same letter")
        for letter in found:
            if not re.fullmatch(r"[A-Z0-9]{1,2}", letter):
                raise ValueError(f"a choice is named by a letter or number, not {bounded(letter, 40)!r}")
        return found

    def write(self, target: Any) -> str:
        """The target as it stands in the data: "B", "(B)" or the option's text."""
        return text_of(target)

    def canon(self, value: Any) -> str:
        """The letter."""
        text = text_of(value)
        letter = self._whole(text.translate(_MARKUP).strip())
        if letter is None:
            valid = self.choices if len(self.choices) < 26 else ()
            raise ValueError(f"target {bounded(text, 60)!r} is not a choice{did_you_mean(text, valid)}")
        return letter

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Read the letter from what is left of the text."""
        text = (reading.text or "").translate(_MARKUP).strip()
        letter = self._whole(text)
        for find in (self._beginning, self._said, self._only):
            letter = find(text) if letter is None else letter
        if not letter:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "choice: none"))
        return replace(reading, text=letter, value=letter, trace=(*reading.trace, f"choice: {letter}"))

    @cached_property
    def _options(self) -> dict[str, str]:
        """An option's text -> its letter, where no two share it."""
        texts = [_bare(t) for t in self.choices.values()]
        pairs = zip(texts, self.choices, strict=True)
        return {text: letter for text, letter in pairs if text and texts.count(text) == 1}

    @cached_property
    def _patterns(self) -> _Patterns:
        letter = "|".join(sorted(map(re.escape, self.choices), key=len, reverse=True))
        begins = re.compile(
            rf"(?i:\(\s?({letter})\s?\)|\[({letter})\]|({letter})(?=\)))|({letter})(?=[.:,!\n]|\s+[-–—])"
        )
        said = re.compile(
            rf"{_SAID}(?:\(\s?({letter})\s?\)|\[({letter})\]|({letter})(?![\w'’]){_NO_ARTICLE})", re.IGNORECASE
        )
        bracket = re.compile(rf"(?<!\w)\(({letter})\)", re.IGNORECASE)
        another = re.compile(
            rf"[)\]]?\s{{0,3}}(?:,|/|&|or\b|and\b)\s{{0,3}}(?:[(\[](?:{letter})[)\]]|(?:{letter})(?![\w'’]){_NO_ARTICLE})"
        )
        return _Patterns(begins, said, bracket, another)

    def _known(self, letter: str) -> str | None:
        return letter if letter in self.choices else None

    def _whole(self, text: str) -> str | None:
        bare = _bare(text)
        return self._known(bare.upper()) or self._options.get(bare)

    def _beginning(self, text: str) -> str | None:
        match = self._patterns.begins.match(text)
        if match is None:
            return None
        if text.startswith("A:"):  # the option, or the A of "Q: … A: …"? What follows may tell.
            rest = text[2:].strip()
            deeper = self._patterns.begins.match(rest)
            return self._whole(rest) or self._said(rest) or self._one(deeper or match)
        return self._one(match)

    def _one(self, match: re.Match[str]) -> str:
        """The letter of a match; nothing where another stands beside it with equal right: "(A) or (B)"."""
        return (
            "" if self._patterns.another.match(match.string, match.end()) else str(match[match.lastindex or 0]).upper()
        )

    def _said(self, text: str) -> str | None:
        found = list(self._patterns.said.finditer(text))
        return self._one(found[-1]) if found else None

    def _only(self, text: str) -> str | None:
        line = text.split("\n", 1)[0][:2000]
        bracketed = {m[1].upper() for m in self._patterns.bracket.finditer(line)}
        folded = line.casefold()
        texts = [t for t in self._options if re.search(rf"(?<!\w){re.escape(t)}(?!\w)", folded)]
        # "New York" names no York.
        named = {self._options[t] for t in texts if not any(t != other and t in other for other in texts)}
        found = bracketed or named
        return found.pop() if len(found) == 1 else None


def _bare(text: str) -> str:
    """What options and whole answers are compared as."""
    return text.translate(_MARKUP).strip("()[].:,! \n").casefold()
