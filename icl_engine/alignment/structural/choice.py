"""`choice`: one of several lettered options."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from icl_engine.alignment.structural.forms.lettered import Lettered
from icl_engine.alignment.text import said, text_of, took, unread
from icl_engine.errors import bounded, did_you_mean
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_LINE = re.compile(r"^[ \t]{0,8}\(?([A-Za-z0-9]{1,2})[).:][ \t]{0,8}(\S[^\n]*)$", re.MULTILINE)
"""An option in a text that lists them: "(A) Paris", "B. Rome"."""


class Choice(Aligner):
    r"""The letter of the option that the text names: "(B)", "B.", "**B**", "Answer: B", "B) Paris", or its text.

    In order: what is boxed; the whole text, or its last line, is a letter or an option's text; the last "final answer";
    it begins with a letter set off by a bracket, full stop or colon, and its first paragraph says no other; the last
    phrase such as "the answer is (B)"; the only letter called correct; the only one chosen ("I'd go with B", "it must
    be B"); the only letter in brackets, or option's text, of its first line. What comes after "wait" or "actually" goes
    first, and what is denied ("not A", "A is wrong", "if A") does not count. Anything else is ``unparsed``: two options
    with equal right, and a letter beside another option's text ("(A) Paris" where Paris is B).

    Args:
        choices: the letters (default A to Z), or letter -> the option's text where it is the same for all rows.
        options: the field of a row that holds its options, where they differ: a list of texts (lettered in the order of
            `choices`), letter -> text, ``{"label": [...], "text": [...]}``, or text with an option a line: "(A) Paris".
            Targets are letters then. A row without the field is read as though there were no such key.

    >>> c = Choice(choices={"A": "Rome", "B": "Paris"})
    >>> [c.apply(Reading(text=t)).value for t in ("(B)", "B. It is the capital", "Not A, so B.", "It is Paris.")]
    ['B', 'B', 'B', 'B']
    >>> c.apply(Reading(text="Both (A) and (B).")).status
    'unparsed'
    >>> Choice(options="cities").apply(Reading(text="It is Paris.", inputs={"cities": ["Rome", "Paris"]})).value
    'B'
    """

    kind: ClassVar[Kind] = "structural"
    closed: ClassVar[bool] = True

    use: Literal["choice"] = "choice"
    choices: Mapping[str, str] = Field(default=dict.fromkeys(string.ascii_uppercase, ""), min_length=2)
    options: str | None = Field(default=None, min_length=1)

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

    @cached_property
    def _lettered(self) -> Lettered:
        return Lettered(self.choices)

    def write(self, target: Any) -> str:
        """The target as it stands in the data: "B", "(B)" or the option's text."""
        return text_of(target)

    def canon(self, value: Any) -> str:
        """The letter."""
        text = text_of(value)
        letter = self._lettered.whole(text)
        if letter is None:
            valid = self.choices if len(self.choices) < 26 else ()
            raise ValueError(f"target {bounded(text, 60)!r} is not a choice{did_you_mean(text, valid)}")
        return letter

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Read the letter from what is left of the text."""
        letter, why = self._of(reading.inputs).read(said(reading))
        return took(reading, self.use, letter, text=letter) if letter else unread(reading, self.use, why)

    def _of(self, inputs: Mapping[str, Any]) -> Lettered:
        """The options of a row, where it brings its own."""
        if self.options is None or self.options not in inputs:
            return self._lettered
        texts = _texts(inputs[self.options], tuple(self.choices))
        known = {letter: text for letter, text in texts.items() if letter in self.choices}
        return Lettered(known) if len(known) > 1 else self._lettered


def _texts(options: Any, letters: tuple[str, ...]) -> Mapping[str, str]:
    """Letter -> text, of options as data files hold them."""
    if isinstance(options, str):
        return {letter.upper(): text.strip() for letter, text in _LINE.findall(options[:20_000])}
    if isinstance(options, list | tuple):
        texts = [text_of(option).strip() for option in options]
        lines = [_LINE.fullmatch(text) for text in texts]
        if all(lines):  # each brings its own letter
            return {line[1].upper(): line[2].strip() for line in lines if line}
        return dict(zip(letters, texts, strict=False))
    if not isinstance(options, Mapping):
        return {}
    names, named = options.get("label"), options.get("text")
    if isinstance(names, list | tuple) and isinstance(named, list | tuple):
        options = dict(zip(map(text_of, names), named, strict=False))
    return {text_of(letter).strip().upper(): text_of(text).strip() for letter, text in options.items()}
