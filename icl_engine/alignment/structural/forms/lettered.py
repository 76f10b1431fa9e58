"""How an answer names one of several lettered options; `choice` is the step."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from icl_engine.alignment.structural.forms.letter_patterns import (
    AFTERTHOUGHT,
    BESIDE,
    CUE,
    REJECTS,
    VERDICT,
    Patterns,
    letter_of,
    patterns,
    start_of,
)
from icl_engine.alignment.structural.forms.phrasing import WIDE, asked, boxed, denied, ends, plain, turn

MARKUP = str.maketrans("", "", "*_`\"'$‘’“”")

_SIGNS = re.compile(r"^(?:[#>•*=–—-]{1,6}\s{1,3}){1,3}|[\u2600-\u27bf\U0001f300-\U0001faff\ufe0f\u200d]")
"""Bullets and headings before an answer, and emoji."""

MENTIONS = 100
"""How many places that name an option are looked at, the last ones: no answer has more."""


def bare(text: str) -> str:
    """What options and whole answers are compared as."""
    return text.translate(MARKUP).strip("()[].:,! \n").casefold()


@dataclass(frozen=True)
class Lettered:
    """Options and their letters, and how an answer names one of them.

    Args:
        texts: letter -> the option's text, empty where it is not known.

    >>> Lettered({"A": "Rome", "B": "Paris"}).read("Not A, so it must be B.")
    ('B', '')
    """

    texts: Mapping[str, str]

    @cached_property
    def _spelt(self) -> Mapping[str, str]:
        """An option's text as it is compared -> its letter, where no two share it."""
        spelt = [bare(text) for text in self.texts.values()]
        pairs = zip(spelt, self.texts, strict=True)
        return {text: letter for text, letter in pairs if text and spelt.count(text) == 1}

    @cached_property
    def _longest(self) -> int:
        """Characters of the longest text that may be an option's alone, with marks around it."""
        return max(len(text) for text in self.texts.values()) + 1_000

    @cached_property
    def _unmarked(self) -> Mapping[str, str]:
        """The same without articles, again where no two share it."""
        pairs = [(_no_article(text), letter) for text, letter in self._spelt.items()]
        texts = [text for text, _ in pairs]
        return {text: letter for text, letter in pairs if text and texts.count(text) == 1}

    @cached_property
    def _named(self) -> re.Pattern[str] | None:
        """Any option's text as whole words, the longest first."""
        texts = sorted(self._spelt, key=len, reverse=True)
        if not texts:
            return None
        # As whole words and numbers: no "toxic" in "non-toxic", no 5 in "-5", "5%", "1.5" or "5/6".
        return re.compile(rf"(?<![\w−-])(?<!\d[.,/])(?:{'|'.join(map(re.escape, texts))})(?![\w−%-]|[.,:/]\d)")

    @property
    def _all(self) -> Patterns:
        return patterns(tuple(self.texts))

    def whole(self, text: str) -> str | None:
        """The letter where the text is one, or an option's text, and nothing else."""
        spelt = bare(text)
        letter = spelt.upper()
        return letter if letter in self.texts else self._spelt.get(spelt)

    def read(self, text: str) -> tuple[str, str]:
        """The letter that a text names, and why there is none ("" where there is one)."""
        text = text.translate(MARKUP).strip()
        letter = self.whole(text) if len(text) <= self._longest else None
        if letter is None:
            text = plain(turn(ends(text))).translate(WIDE).strip()
            letter = next((found for found in self._ways(text) if found is not None), None)
        return (letter, "") if letter else ("", "no option" if letter is None else "no single option")

    def _ways(self, text: str) -> Iterator[str | None]:
        """What each way to name an option gives, the surest first: a letter, "" where two have equal right, or None."""
        first = self._first(text)
        yield self._boxed(text)
        yield self._whole_line(text, first)
        yield self._afterthought(text)
        yield self._last(text, self._all.final)
        yield first
        yield self._said(text)
        yield self._only(text, self._all.verdict)
        yield self._only(text, self._all.chosen)
        yield self._only(text, self._all.option)
        yield self._last(text, self._all.alone)
        yield None if self._listing(text) else self._anywhere(text.split("\n", 1)[0][:2000])

    def _boxed(self, text: str) -> str | None:
        held = boxed(text)
        return None if held is None else self._loosely(held) or self._beginning(held)

    def _loosely(self, text: str) -> str | None:
        """The same with bullets, signs and articles around it."""
        text = _SIGNS.sub("", text).strip("{}<> ")
        return self.whole(text) or self._unmarked.get(_no_article(bare(text)))

    def _whole_line(self, text: str, first: str | None) -> str | None:
        """The whole text, or its last line where that stands alone."""
        whole = self._loosely(text)
        if whole or "\n" not in text:
            return whole
        last = None if first is not None or self._listing(text) else self._loosely(text[text.rindex("\n") :])
        return "" if last and self._said(text) not in (None, last) else last

    def _afterthought(self, text: str) -> str | None:
        """What is said after "wait" or "actually", if that names an option surely."""
        turns = [m.end() for m in AFTERTHOUGHT.finditer(text.lower())]
        if not turns:
            return None
        rest = text[turns[-1] :]
        ways = (self._loosely(rest), self._last(rest, self._all.final), self._said(rest), *self._onlies(rest))
        return next((found for found in ways if found is not None), None)

    def _onlies(self, text: str) -> tuple[str | None, ...]:
        return self._only(text, self._all.verdict), self._only(text, self._all.chosen)

    def _listing(self, text: str) -> bool:
        """Whether the text begins by repeating the options in their order."""
        order = tuple(self.texts)[:2]
        found = (letter_of(m) for m in self._all.listed.finditer(text[:4000]))
        return (next(found, None), next((x for x in found if x != order[0]), None)) == order

    def _first(self, text: str) -> str | None:
        """The letter it begins with, unless its first paragraph says another."""
        found = self._beginning(text)
        if found:
            return self._said(text.split("\n\n", 1)[0]) or found
        return found

    def _beginning(self, text: str) -> str | None:
        match = self._all.begins.match(text)
        if match is None or self._listing(text) or denied(text.lower(), match.end(), match.end()):
            return None
        if text.startswith("A:"):  # the option, or the A of "Q: … A: …"? What follows may tell.
            rest = text[2:].strip()
            deeper = self._all.begins.match(rest)
            spelt = self._loosely(rest)
            if spelt not in (None, "A") and bare(rest).upper() != spelt:
                return ""  # "A: Paris", where Paris is B
            found = next((x for x in (spelt, self._said(rest), *self._onlies(rest)) if x is not None), None)
            return self._one(deeper or match) if found is None else found
        return self._one(match)

    def _one(self, match: re.Match[str]) -> str:
        """The letter of a match; "" where another stands beside it, as in "(A) or (B)", or another option's text."""
        text, letter = match.string, letter_of(match)
        other = self._all.another.match(text, match.end())
        if other and letter_of(other) != letter and not denied(text.lower(), other.end() - 1, other.end()):
            return ""
        beside = self._all.before.search(text[max(0, match.start() - 20) : match.start()])
        if beside and letter_of(beside) != letter:
            return ""
        if self._named is None:
            return letter
        behind = text[match.end() : match.end() + 2000].lstrip(" \t\n)].:,-–—").casefold().removeprefix("the ")
        named = self._named.match(behind)
        if named and self._spelt[named[0]] != letter and behind[named.end() :].lstrip(" ")[:1] in ("", *".,;:!)\n"):
            return ""
        before = text[max(0, match.start() - 200) : match.start()].rstrip(" (").casefold()
        named = next((m for m in self._named.finditer(before) if m.end() == len(before)), None)
        return "" if named and self._spelt[named[0]] != letter and not denied(before, *named.span()) else letter

    def _stated(self, text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """The places where a pattern names a letter that is neither denied nor asked about; else those asked about."""
        lower = text.lower()
        lower = lower if len(lower) == len(text) else text
        found = deque(pattern.finditer(text), maxlen=MENTIONS)
        held = [m for m in found if not denied(lower, start_of(m), m.end())]
        return [m for m in held if not asked(text, m.end())] or held

    def _last(self, text: str, pattern: re.Pattern[str]) -> str | None:
        found = self._stated(text, pattern)
        return self._one(found[-1]) if found else None

    def _only(self, text: str, pattern: re.Pattern[str]) -> str | None:
        letters = {self._one(m) for m in self._stated(text, pattern)}
        return (letters.pop() if len(letters) == 1 else "") if letters else None

    def _said(self, text: str) -> str | None:
        """What "the answer is" names last: a letter, or an option's text."""
        found = [(m.start(), self._one(m)) for m in self._stated(text, self._all.says)]
        lines = (m for m in self._all.line.finditer(text) if not REJECTS.search(m[1].lower()))
        found += [(m.start(), self._one(m)) for m in lines]
        found += self._said_texts(text)
        return max(found)[1] if found else None

    def _said_texts(self, text: str) -> list[tuple[int, str]]:
        if self._named is None:
            return []
        folded = text.casefold()
        found = []
        for cue in CUE.finditer(folded):
            named = self._named.match(folded, cue.end())
            if named and not denied(folded, cue.start(), named.end()) and not asked(folded, named.end()):
                letter = self._spelt[named[0]]
                beside = BESIDE.match(folded, named.end())
                other = beside and self._named.match(folded, beside.end())
                doubt = other and self._spelt[other[0]] != letter and not denied(folded, *other.span())
                behind = re.match(r"\s{0,3}[(\[]([a-z0-9]{1,2})[)\]]", folded[named.end() : named.end() + 10])
                doubt = doubt or (behind and behind[1].upper() in self.texts and behind[1].upper() != letter)
                found.append((cue.start(), "" if doubt else letter))
        texts = deque(self._named.finditer(folded), maxlen=MENTIONS)
        judged = (m for m in texts if VERDICT.match(folded, m.end()) and not _meant_otherwise(m))
        return found + [(m.start(), self._spelt[m[0]]) for m in judged]

    def _anywhere(self, line: str) -> str | None:
        """The only option that a line names in brackets, or by its text."""
        letters = {self._one(m) for m in self._stated(line, self._all.bracket)}
        if letters:
            return letters.pop() if len(letters) == 1 else ""
        if self._named is None:
            return None
        folded = line.casefold()
        # The longest text is found first, so that "New York" names no York.
        spans = [m for m in self._named.finditer(folded) if not _meant_otherwise(m)]
        named = {self._spelt[m[0]] for m in spans}
        return (named.pop() if len(named) == 1 else "") if named else None


def _meant_otherwise(match: re.Match[str]) -> bool:
    """Whether an option's text is denied, asked about, or the no of "there is no reason"."""
    if denied(match.string, *match.span()) or asked(match.string, match.end()):
        return True
    return match[0] == "no" and match.start() > 0 and bool(re.match(r"[ \t]+\w", match.string[match.end() :]))


def _no_article(text: str) -> str:
    for article in ("the ", "a ", "an "):
        text = text.removeprefix(article)
    return text.strip()
