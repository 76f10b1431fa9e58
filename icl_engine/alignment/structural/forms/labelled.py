"""How an answer says one of several labels in words; `verbalizer` is the step."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from icl_engine.alignment.structural.forms.label_cues import (
    ANSWER_CUE,
    ASKED,
    BETWEEN,
    ENUMERATES,
    FINAL_CUE,
    PHRASE_ENDS,
    PREAMBLE,
    SUMS_UP,
    TOPIC_CUE,
    Mention,
    doubted,
    joins,
    of_another_row,
)
from icl_engine.alignment.structural.forms.nearest import Neighbours
from icl_engine.alignment.structural.forms.phrasing import FIRST, WIDE, boxed, ends, plain, turn

MENTIONS = 100
"""How many mentions of labels are looked at, the last ones: no answer has more."""

_QUOTES = str.maketrans("_", " ", "*`\"'‘’“”„«»")
_OUTER = " \t\n\r.,;:!()[]{}<>#-–—•|/\\"
_NOT = re.compile(r"\b(?:is|are|was|were|does|do|did)nt\b")
_GAP = re.compile(r"[\s-]+(?:(?:an?|the)[\s-]+)?")


def flat(text: str) -> str:
    """A text as labels are looked for in it: without quotes and markup, in one case."""
    return text.translate(WIDE).translate(_QUOTES).casefold()


def key(text: str) -> str:
    """What two spellings of a label's word have in common: "Not_entailment" and "not-entailment" are one.

    >>> key("**Not_entailment**."), key("isn't an entailment")
    ('not entailment', 'not entailment')
    """
    return _GAP.sub(" ", _NOT.sub("not", flat(text)).strip(_OUTER))


@dataclass(frozen=True)
class Labelled:
    """Labels, the words that stand for them, and how an answer says one of them.

    Args:
        labels: label -> its words.
        least: the least similarity of a misspelt word that is taken for a label's (see `nearest`); None for none.

    >>> Labelled({"pos": ("positive",), "neg": ("negative",)}, 0.85).read("Not positive but negative.")
    ('neg', '')
    """

    labels: Mapping[str, Sequence[str]]
    least: float | None

    @cached_property
    def _exact(self) -> Mapping[str, str]:
        return {word: label for label, words in self.labels.items() for word in words}

    @cached_property
    def _folded(self) -> Mapping[str, str | None]:
        """A word in any case -> its label, None where several have it."""
        return self._by(str.casefold)

    @cached_property
    def _keyed(self) -> Mapping[str, str | None]:
        """The same by `key`."""
        return {spelt: label for spelt, label in self._by(key).items() if spelt}

    def _by(self, form: Callable[[str], str]) -> dict[str, str | None]:
        known: dict[str, str | None] = {}
        for label, words in self.labels.items():
            for spelt in map(form, words):
                known[spelt] = label if known.get(spelt, label) == label else None
        return known

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours({tuple(_split(spelt)): label for spelt, label in self._keyed.items()}, self.least)

    @cached_property
    def _joined(self) -> Mapping[str, str | None]:
        """The same written as one word."""
        return self._by(lambda word: "".join(_split(key(word))))

    @cached_property
    def _words(self) -> re.Pattern[str]:
        """Any label's word as whole words, the longest first: no "spam" in "non-spam", no C in "C++"."""
        spelt = sorted({re.sub(r"[\s-]+", " ", flat(w)).strip() for w in self._exact} - {""}, key=len, reverse=True)
        return re.compile(rf"(?<!\w)(?<!\w[.-])(?:{'|'.join(map(_loose, spelt)) or '(?!)'})(?![\w+#])(?![.-]\w)")

    def read(self, text: str) -> tuple[str | None, str]:
        """The label that a text says, and why there is none ("" where there is one)."""
        text = text.strip()
        label = self._exact.get(text)
        if label is None and len(text) < FIRST:
            label = self._folded.get(text.strip("\"'`*.!,;: ").casefold())
        if label is None:
            found = next((x for x in self._ways(plain(turn(ends(text)))) if x is not None), None)
            return (found, "") if found else (None, "no label" if found is None else "no single label")
        return label, ""

    def _ways(self, text: str) -> Iterator[str | None]:
        """What each way to say a label gives, the surest first: a label, "" where two have equal right, or None."""
        held = boxed(text)
        if held is not None:
            yield self._keyed.get(key(held)) or self._neighbours.nearest(_split(key(held)))
        body = flat(text).strip()
        lines = body.split("\n")
        yield self._keyed.get(key(lines[0]))
        mentions = self._mentions(body)
        yield self._cued(body, mentions, FINAL_CUE, last=True)
        yield self._beginning(body)
        yield self._cued(body, mentions, ANSWER_CUE, last=True)
        yield self._cued(body, mentions, TOPIC_CUE, last=False)
        line = lines[0][:2000]
        yield self._only(line, self._mentions(line))
        if len(lines) > 1:
            yield self._keyed.get(key(lines[-1]))
            if SUMS_UP.match(lines[-1]):
                yield self._only(lines[-1], self._mentions(lines[-1]))
        if not mentions:
            yield self._nearest(line)

    def _mentions(self, body: str) -> list[Mention]:
        found = deque(self._words.finditer(body), maxlen=MENTIONS)
        return [Mention(self._keyed.get(key(m[0])) or self._folded.get(m[0]), *m.span()) for m in found]

    def _held(self, body: str, mentions: Sequence[Mention]) -> list[Mention]:
        """Those that are meant: neither denied nor doubted, nor asked about."""
        kept: list[Mention] = []
        before: Mention | None = None
        for m in mentions:
            # "Not sports, business or politics" denies all three.
            chained = before is not None and before not in kept and joins(body[before.end : m.start], ENUMERATES)
            if not chained and not doubted(body, m):
                kept.append(m)
            before = m
        return kept

    def _cued(self, body: str, mentions: Sequence[Mention], cue: re.Pattern[str], *, last: bool) -> str | None:
        """What stands behind a cue: the last, or the only one."""
        found = [m for m in self._held(body, mentions) if cue.search(body[max(0, m.start - 140) : m.start])]
        if not found or of_another_row(body, found[-1].start):
            return None
        if last:
            return self._single(body, found[-1])
        labels = {self._single(body, m) for m in found}
        return labels.pop() if len(labels) == 1 else ""

    def _beginning(self, body: str) -> str | None:
        start = len(body) - len(body.lstrip(_OUTER + "\"'"))
        article = re.compile(r"(?:an?|the)\s").match(body, start)
        match = self._words.match(body, start) or (article and self._words.match(body, article.end()))
        if not match:
            return None
        m = Mention(self._keyed.get(key(match[0])) or self._folded.get(match[0]), *match.span())
        if ASKED.match(body, m.end):
            return None  # "Positive? No."
        return self._single(body, m) if self._held(body, [m]) and not self._outdone(body, m) else ""

    def _single(self, body: str, mention: Mention) -> str:
        """A mention's label; "" where another stands beside it: "positive or negative"."""
        ahead = self._words.search(body, mention.end, mention.end + 60)
        behind = deque(self._words.finditer(body, max(0, mention.start - 60), mention.start), maxlen=1)
        for other in filter(None, [ahead, *behind]):
            beside = Mention(self._keyed.get(key(other[0])), *other.span())
            between = body[min(mention.end, beside.end) : max(mention.start, beside.start)]
            if beside.label != mention.label and joins(between, BETWEEN) and not doubted(body, beside):
                return ""
        return mention.label or ""

    def _only(self, line: str, mentions: Sequence[Mention]) -> str | None:
        labels = {None if self._outdone(line, m) else m.label for m in self._held(line, mentions)}
        return ((labels.pop() or "") if len(labels) == 1 else "") if labels else None

    def _outdone(self, body: str, mention: Mention) -> bool:
        """Whether the phrase is more like another label, misspelt: "wrng exchange rate" is no "exchange rate"."""
        start = max(
            (m.end() for m in PHRASE_ENDS.finditer(body, max(0, mention.start - 100), mention.start)), default=0
        )
        end = PHRASE_ENDS.search(body, mention.end, mention.end + 100)
        said = body[max(start, mention.start - 100) : end.start() if end else mention.end + 100]
        said = key(said[_end(PREAMBLE.match(said[: mention.start - start])) :])
        return self._neighbours.outdone(said, mention.label)

    def _nearest(self, line: str) -> str | None:
        """What a short answer means that says no label to the letter."""
        core = line[_end(PREAMBLE.match(line)) :]
        for words in (_split(key(x)) for x in dict.fromkeys((line, core)) if len(x) < 200):
            label = self._joined.get("".join(words)) or self._neighbours.nearest(words)
            if label:
                return label
        return None


def _loose(spelt: str) -> str:
    """A pattern for a label's word, its parts set apart by blanks or hyphens, with or without an article."""
    first, *rest = spelt.split(" ")
    start = r"(?:not|(?:is|are|was|were|does|do|did)nt)" if first == "not" and rest else re.escape(first)
    return r"[\s-]{1,3}(?:(?:an?|the)\s)?".join([start, *map(re.escape, rest)])


def _split(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _end(match: re.Match[str] | None) -> int:
    return match.end() if match else 0
