"""`choice`: one of several lettered options."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from icl_engine.alignment.text import text_of
from icl_engine.errors import bounded, did_you_mean
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_MARKUP = str.maketrans("", "", "*_`\"'$")
_SAID = r"(?:answer|choice|option)\s*(?:is\s*)?[:=]?\s*(?:option\s*)?"

_NO_ARTICLE = r"(?!(?<=[AaIi])\s+(?!because|since|as\b)\w)"
"""The A of "the best option is a good one" names no option."""


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
        if isinstance(choices, list | tuple):
            choices = dict.fromkeys(map(text_of, choices), "")
        if not isinstance(choices, Mapping):
            return choices
        found = {text_of(k).strip().upper(): text_of(v).strip() for k, v in choices.items()}
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
        letter = self._whole(text) or self._beginning(text) or self._said(text) or self._only(text)
        if letter is None:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "choice: none"))
        return replace(reading, text=letter, value=letter, trace=(*reading.trace, f"choice: {letter}"))

    @cached_property
    def _options(self) -> dict[str, str]:
        """An option's text -> its letter, where no two share it."""
        texts = [t.translate(_MARKUP).casefold().strip(" .") for t in self.choices.values()]
        pairs = zip(texts, self.choices, strict=True)
        return {text: letter for text, letter in pairs if text and texts.count(text) == 1}

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        letter = "|".join(sorted(map(re.escape, self.choices), key=len, reverse=True))
        begins = re.compile(rf"\(\s?({letter})\s?\)|\[({letter})\]|({letter})(?=[).:,\n]|\s+[-–—])")
        said = re.compile(rf"{_SAID}(?:\(\s?({letter})\s?\)|({letter})(?![\w'’]){_NO_ARTICLE})", re.IGNORECASE)
        bracket = re.compile(rf"\(({letter})\)")
        another = re.compile(rf"\s*(?:,|/|&|or\b|and\b)\s*[(\[]?(?:{letter})(?!\w)")
        return begins, said, bracket, another

    def _known(self, letter: str) -> str | None:
        return letter if letter in self.choices else None

    def _whole(self, text: str) -> str | None:
        bare = text.strip("()[].:, \n")
        return self._known(bare.upper()) or self._options.get(bare.casefold())

    def _beginning(self, text: str) -> str | None:
        match = self._patterns[0].match(text)
        if match is None or self._patterns[3].match(text, match.end()):  # "(A) or (B)" names two
            return None
        return match[match.lastindex or 0]

    def _said(self, text: str) -> str | None:
        found = [m[m.lastindex or 0].upper() for m in self._patterns[1].finditer(text)]
        return found[-1] if found else None

    def _only(self, text: str) -> str | None:
        line = text.split("\n", 1)[0][:2000]
        bracketed = {m[1] for m in self._patterns[2].finditer(line)}
        folded = line.casefold()
        named = {v for t, v in self._options.items() if re.search(rf"(?<!\w){re.escape(t)}(?!\w)", folded)}
        found = bracketed or named
        return found.pop() if len(found) == 1 else None
