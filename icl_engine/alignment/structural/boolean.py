"""`boolean`: yes or no, true or false."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from icl_engine.alignment.structural.forms.latex import ascii_digits, boxes, plain
from icl_engine.alignment.structural.forms.phrasing import plain as untagged
from icl_engine.alignment.structural.forms.phrasing import turn
from icl_engine.alignment.text import said, text_of, took, unread
from icl_engine.errors import bounded, did_you_mean
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

TRUE = ("yes", "true", "correct", "right", "yeah", "yep", "accurate")
FALSE = ("no", "false", "incorrect", "wrong", "nope", "inaccurate", "untrue")
_FLIPS = {"true", "correct", "right", "accurate", "false", "incorrect", "wrong", "inaccurate", "untrue"}
"""What "not" turns round; "not yes" is refused."""
_LONGEST = 2_000
"""Characters of the first line and of the last that are looked at."""

_MARKUP = str.maketrans(
    {"’": "'", "‘": "'", "`": None, "*": None, "_": " ", "“": None, "”": None, '"': None, "$": None}
)
_LEAD = re.compile(
    r"""(?:(?:well|hmm+|ok(?:ay)?|so|thus|therefore|hence|in\ short|in\ conclusion|overall|finally
        |in\ fact|actually|honestly|sadly|(?:un)?fortunately|alas|luckily
        |i\ (?:think|believe|guess|would\ say|would\ answer|say)(?:\ that)?|i'd\ (?:say|go\ with)|i\ would\ go\ with
        |(?:my|the|your|final|correct|short){0,3}\ ?answer(?:\ is|:)
        |(?:it|this|that)(?:'s|\ is|\ was|(?=\ isn't|\ wasn't))
        |(?:the|this|that|your)\ (?:\w{1,12}\ )?
          (?:statement|claim|sentence|hypothesis|proposition|assertion|answer|assumption)
          (?:\ (?:is|was|would\ be|seems|must\ be)|(?=\ isn't|\ wasn't))
        |(?:is|would\ be|should\ be|must\ be|that\ is|simply|indeed)
        |definitely|clearly|probably|most\ likely|likely|certainly|absolutely|surely|obviously|simply|a|an)[,:]?\ +
        |[-#>:(\[.•\ ]{1,6}){0,5}+""",
    re.VERBOSE,
)
_NEGATION = re.compile(r"(?:(?:is|was|are|does|do)?(?:\ ?not|n't)\ +(?:quite\ |really\ |actually\ )?)")
_TAIL = (
    r"(?=\s*(?:$|[.,;:!)\](\n]|[-–—]+(?:\s|$)|(?:because|since|as|it|he|she|they|this|that|these|those|there|we|i|you|based|given"
    r"|due|according|and\ (?:it|he|she|they|this|that|the)|for)\b))"
)
_END = r"(?=\s*(?:$|[.,;:!\n]))"
_SAYS_NO = re.compile(
    r"(?:i (?:do not|don't|wouldn't|would not) (?:think|believe|say) (?:so|it is|that it is|it's)"
    r"|(?:(?:definitely|absolutely|certainly|of course|probably|surely|obviously|clearly|likely) )?not"
    r"(?: at all| really)?"
    rf"|by no means|(?:it|this|that|he|she|they) (?:is|does|was|did|has|can|are|do)(?: not|n't)){_END}"
)
_SAYS_YES = re.compile(
    rf"(?:i (?:do )?(?:think|believe) so|of course|definitely|absolutely|certainly|indeed|without (?:a |any )?doubt"
    rf"|no doubt(?: about it)?|undoubtedly|(?:it|this|that|he|she|they) (?:is|does|was|did|has|can|are|do)){_END}"
)
_MARKER = re.compile(
    r"(?:\b(?:answer|verdict|conclusion|judge?ment|response|prediction|label)"
    r"(?: to (?:the|this|your) question)?(?: (?:is|would be|should be|must be|has to be)\b| ?[:=])|####)\s*"
)
_HEDGED = re.compile(
    r"\b(?:if|whether|unless|unclear|cannot|can't|unsure|uncertain|depends?|maybe|perhaps|might|may|could"
    r"|either|neither|no one|nobody|none|nothing"
    r"|partly|partially|necessarily|not (?:sure|certain|possible|enough|the case|clear|know|that)"
    r"|don't know|impossible to|hard to|(?<!no )(?<!without a )(?<!without )doubt"
    r"|n't (?:say|think|believe|sure|know|the case)|not (?:say|think|believe))\b|\?"
)
_IS = (
    r"(?:\b(?:is|was|are|were|be|being|seems|appears)|'s)\s(?:(?:definitely|indeed|clearly|actually|certainly|therefore"
    r"|in fact|thus|also|likely|probably|absolutely|completely|factually)\s)?"
)


class Boolean(Aligner):
    """Whether the text says yes or no: True or False.

    In order: the whole text is a word, or what stands in its last box; "the answer is …" (the last one), the
    beginning ("Yes, because …"), the beginning of the last line; else "it is true" in its first or last sentence.
    Where two of these say different things, or one says both ("yes and no"), or what is said is hedged ("if it is
    true"), the answer is ``unparsed``.
    "Not true" is False, "not wrong" True; "no doubt" and "no one" say nothing.

    Args:
        true: the words for True; a demonstration shows the first.
        false: the words for False; a demonstration shows the first.

    >>> [Boolean().apply(Reading(text=t)).value for t in ("Yes, it is.", "**No**.", "That isn't so", "Not true.")]
    [True, False, None, False]
    >>> Boolean().canon("No"), Boolean().write(True)
    (False, 'yes')
    """

    kind: ClassVar[Kind] = "structural"
    closed: ClassVar[bool] = True

    use: Literal["boolean"] = "boolean"
    true: tuple[str, ...] = Field(default=TRUE, min_length=1)
    false: tuple[str, ...] = Field(default=FALSE, min_length=1)

    @field_validator("true", "false", mode="before")
    @classmethod
    def _words(cls, words: Any) -> Any:
        """A single word is short for a list of one; true and 1 are words too."""
        several = words if isinstance(words, list | tuple) else [words]
        return (
            tuple(text_of(word).strip() for word in several) if isinstance(words, str | int | list | tuple) else words
        )

    @model_validator(mode="after")
    def _distinct(self) -> Boolean:
        folded = [_folded(word) for word in (*self.true, *self.false)]
        if "" in folded:
            raise ValueError("a word for true or false holds no letter or digit")
        if both := {_folded(w) for w in self.true} & {_folded(w) for w in self.false}:
            raise ValueError(f"the word {min(both)!r} stands for both true and false")
        return self

    def write(self, target: Any) -> str:
        """The first word for the target."""
        return (self.true if self.canon(target) else self.false)[0]

    def canon(self, value: Any) -> bool:
        """True or False: of a boolean, of 1 and 0, and of every word.

        Raises:
            ValueError: it is none of these.
        """
        text = _folded(text_of(value))
        known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, **self._known}
        if text not in known:
            shown = bounded(text_of(value), 60)
            raise ValueError(f"target {shown!r} is neither true nor false{did_you_mean(text, self._known)}")
        return known[text]

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Read yes or no from what is left of the text; neither, or both, is status ``unparsed``."""
        text = said(reading)
        boxed = boxes(text)
        values = self._read(boxed[-1] if boxed else turn(text))
        if len(values) != 1:
            return unread(reading, self.use, "both are said" if values else "neither is said")
        value = values.pop()
        return took(reading, self.use, value, text=self.write(value))

    @cached_property
    def _known(self) -> dict[str, bool]:
        return {_folded(w): v for words, v in ((self.true, True), (self.false, False)) for w in words}

    @cached_property
    def _plain(self) -> bool:
        """Whether the words are yes and no, so that "I think so" says one of them."""
        return "yes" in self._known and "no" in self._known

    @cached_property
    def _word(self) -> str:
        return "|".join(re.escape(word).replace("\\ ", r"\s") for word in sorted(self._known, key=len, reverse=True))

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
        """A word at the beginning, another one beside it, and words in a sentence."""
        word = self._word
        begins = re.compile(rf"(?P<word>{word})(?:(?<=yes)(?=\s)|{_TAIL})")
        beside = re.compile(
            rf"\s{{0,3}}(?:\s|,|/|\||\bor\b|\band\b|\bbut\b(?: also)?)\s{{0,2}}(?P<word>{word})"
            rf"(?:{_TAIL}|(?=\s*\?))"
        )
        inside = re.compile(
            rf"(?:{_IS})?(?P<no>(?:\bnot|n't)\s(?:quite\s|really\s)?)??(?<![\w'-])(?P<word>{word})(?![\w'-])"
        )
        return begins, beside, inside

    def _read(self, text: str) -> set[bool]:
        """What the text says: one value, none, or both."""
        text = plain(ascii_digits(untagged(text))).translate(_MARKUP).strip().lower()
        if (whole := _folded(text)) in self._known:
            return {self._known[whole]}
        letters = {"y": True, "t": True, "1": True, "n": False, "f": False, "0": False}
        if self._plain and whole in letters:
            return {letters[whole]}
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            return set()
        first, last = lines[0][:_LONGEST], lines[-1][-_LONGEST:]
        values = set()
        markers = list(_MARKER.finditer(text))
        if markers:
            rest = text[markers[-1].end() :][:_LONGEST].split("\n", 1)[0]
            values |= self._begun(rest) or self._sentence(rest)
        for line in (first, last):
            values |= self._begun(line)
        if values:
            return values
        beginning, end = re.split(r"(?<=[.!?;])\s", first)[0], re.split(r"(?<=[.!?;])\s", last)[-1]
        return self._begun(end) or self._sentence(beginning) | self._sentence(end)

    def _begun(self, text: str) -> set[bool]:
        """What a text begins with: "Well, no.", "it is not true", "I don't think so"."""
        if self._plain:
            for pattern, value in ((_SAYS_NO, False), (_SAYS_YES, True)):
                if pattern.match(text):
                    return {value}
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
        begins, beside, _ = self._patterns
        negation = None
        word = begins.match(text, start)
        if word is None and (negation := _NEGATION.match(text, start)):
            word = begins.match(text, negation.end())
        if word is None:
            follows = _SAYS_NO.match(text, start) if self._plain and start else None
            return {False} if follows else set()
        value = self._known[_folded(word["word"])]
        if negation:
            return {not value} if word["word"] in _FLIPS else set()
        if (other := beside.match(text, word.end())) and self._known[_folded(other["word"])] != value:
            return {True, False}
        return {value}

    def _sentence(self, text: str) -> set[bool]:
        """What a sentence says in passing: "I find that the claim is false"."""
        if _HEDGED.search(text):
            return set()
        values = set()
        for match in self._patterns[2].finditer(text):
            value = self._known[_folded(match["word"])]
            if match["word"] not in _FLIPS:
                values |= set() if match["word"] in TRUE + FALSE else {True, False} if match["no"] else {value}
            elif re.match(rf"{_IS}", match[0]) or match["no"]:
                follows = re.compile(rf"\s?that\b|{_TAIL}").match(text, match.end())
                values |= {value != bool(match["no"])} if follows else set()
        return values


def _folded(word: str) -> str:
    """What words are compared as."""
    return " ".join(word.casefold().translate(_MARKUP).strip(" \t\r\n.,;:!()[]{}<>'-").split())
