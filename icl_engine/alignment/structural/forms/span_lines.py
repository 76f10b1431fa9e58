"""Spans in a model's own words: "type: text; type: text", "- text (type)", sections of a type, tags, tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from icl_engine.alignment.structural.forms.aligned import Aligned
from icl_engine.alignment.structural.forms.span_shapes import Pairs, nothing

_BULLET = re.compile(r"(?:[-*•–+>]|\(?\d{1,3}[.)]|#{1,6})\s+")
_PART = {mark: re.compile(rf'(?:"[^"\n]*+"|[^{mark}\n])++') for mark in ";,"}
"""What stands between two marks that are outside quotes."""
_QUOTED = re.compile(r'"[^"\n]*+"')
_SEPARATOR = re.compile(r":|->|→|=>|=|\t|\s[-–—]\s")
_BRACKETED = re.compile(r"[(\[]([^()\[\]\n]{1,60})[)\]]")
_TOLD = re.compile(r"(.{1,200}) (?:is|was) (?:an?|the) (.{1,60}?)\.?")
_TAGGED = re.compile(r"<([A-Za-z][\w -]{0,40})>([^<>]{1,500})</([A-Za-z][\w -]{0,40})>")
_WORD = re.compile(r"\w")
_NEXT = re.compile(
    r"(?:sentence|text|input|question|query|q|example|passage|review)\s{0,3}\d{0,3}\s{0,3}:", re.IGNORECASE
)
"""The next example, which a base model goes on with."""
_CUES = frozenset(("answer", "entities", "named entities", "spans", "output", "result", "the entities are"))
_MARKUP = "*_`"
_TYPE_HEADS = frozenset(("type", "label", "category", "entity type"))
_TEXT_HEADS = frozenset(("text", "entity", "span", "mention", "value"))
_WORDS = 12
"""Words before a bracket that may be a span's text."""
_MOST = 500


@dataclass
class Lines:
    r"""What the lines of an answer name.

    Args:
        named: tells a type by its spelling; None for what is no type.
        known: whether the types are known; else any few words before a colon are a type.
        asked: the text asked about; None where it is not known.
        pairs: (type, text) of each span.
        others: how many spans were of another type.
        section: the type that a heading named.
        half: the type of a span whose text is yet to come, as in "type: person, text: Ann".

    >>> types = {"person": "person", "place": "place"}
    >>> Lines(types.get, True).read("person: Ann, Bo; place: Rome").pairs
    [('person', 'Ann'), ('person', 'Bo'), ('place', 'Rome')]
    >>> Lines(types.get, True).read("- Ann (person)\n- Rome: place\nSo it is.").pairs
    [('person', 'Ann'), ('place', 'Rome')]
    """

    named: Callable[[str], str | None]
    known: bool
    asked: Aligned | None = None
    pairs: Pairs = field(default_factory=list)
    others: int = 0
    section: str | None = None
    half: str | None = None

    def read(self, text: str) -> Lines:
        """Take the spans of a text, until the next example begins."""
        tags = [(kind, said) for tag, said, end in _TAGGED.findall(text) if tag == end and (kind := self.named(tag))]
        if tags:
            self.pairs = [(kind, said.strip()) for kind, said in tags]
            return self
        for line in text.splitlines():
            if not _WORD.search(line):
                continue
            said = _bare(line)
            if _NEXT.match(said) and not self.half and not (self.known and self._kind(said.partition(":")[0])):
                break
            if "|" in said and ":" not in said:
                self._row([cell.strip() for cell in said.split("|") if cell.strip()])
            elif not said.startswith("```"):
                for part in _PART[";"].findall(said.replace("|", ";"))[: _MOST + 1]:
                    self._segment(part.strip(), cue=True)
            if len(self.pairs) > _MOST:
                break
        return self

    def _kind(self, said: str) -> str | None:
        """The type that a few words name."""
        bare = said.strip(" \t" + _MARKUP + "\"'[]()<>:")
        if self.known:
            return self.named(bare)
        few = 0 < len(bare) <= 40 and len(bare.split()) <= 3 and any(c.isalpha() for c in bare)
        return bare if few and not re.search(r"[.,;:!?\"|]", bare) else None

    def _row(self, cells: Sequence[str]) -> None:
        """A row of a table with two columns."""
        if len(cells) == 2 and self.known and not self._pair(cells[0], cells[1]):
            self._pair(cells[1], cells[0])

    def _pair(self, head: str, tail: str) -> bool:
        kind = self._kind(head)
        if kind is None:
            return False
        self.pairs += [(kind, text) for text in self._texts(tail)]
        return True

    def _segment(self, said: str, *, cue: bool) -> None:
        """What stands between two semicolons."""
        if not said or self._bracketed(said):
            return
        groups = self._groups(said)
        for group in groups:
            head, tail = _split(group)
            if tail is None or not self._separates(group):
                self._alone(group)
            elif cue and self._is_cue(head):
                self._segment(tail, cue=False)
            elif not tail:
                self.section = self._kind(head) or self.section
            elif not (self._halves(head, tail) or self._either(group, head, tail)):
                self.others += 1

    def _either(self, group: str, head: str, tail: str) -> bool:
        """Take "type: text", or "text: type" where only the tail is a type."""
        text, last = _split_last(group) if ":" in group else (head, tail)
        swapped = self.asked and not self.known and self.asked.holds(head) and not self.asked.holds(tail)
        if swapped or (self.known and not self._kind(head)):
            return self._pair(last, text)
        return self._pair(head, tail)

    def _halves(self, head: str, tail: str) -> bool:
        """Whether it is "type: person", or the "text: Ann" that follows."""
        name = head.strip(_MARKUP).casefold()
        if name in _TYPE_HEADS and not (self.known and self._kind(head)):
            self.half = self._kind(tail.rstrip("."))
            return self.half is not None
        if self.half is None or name not in _TEXT_HEADS:
            return False
        self.pairs += [(self.half, text) for text in self._texts(tail)]
        self.half = None
        return True

    def _separates(self, said: str) -> bool:
        """Whether a separator is one: "a - b" does not tell a type from a text where neither is known."""
        return self.known or self.asked is not None or ":" in said or "=" in said

    def _is_cue(self, head: str) -> bool:
        return not (self.known and self._kind(head)) and head.strip(" " + _MARKUP).casefold() in _CUES

    def _alone(self, said: str) -> None:
        """What stands without a type: of the section's type, or nothing."""
        told = _TOLD.fullmatch(said) if self.known else None
        if told and (kind := self._kind(told[2])):
            self.pairs.append((kind, _unquoted(self._ending(told[1]))))
        elif self.section is not None:
            self.pairs += [(self.section, text) for text in self._texts(said)]

    def _bracketed(self, said: str) -> bool:
        """Whether it is "text (type)", once or several times."""
        found, at = list[tuple[str, str]](), 0
        for mark in _BRACKETED.finditer(said):
            if kind := self._kind(mark[1]):
                found.append((said[at : mark.start()], kind))
                at = mark.end()
        if not found or (
            not self.known and (_split(said)[1] is not None or not said.rstrip(" .").endswith((")", "]")))
        ):
            return False
        for text, kind in found:
            if mention := _unquoted(self._ending(_and(text.strip(" ,;.:" + _MARKUP + "[]")))):
                self.pairs.append((kind, mention))
        return True

    def _ending(self, said: str) -> str:
        """The longest ending of what was said that the text asked about holds, if it holds one."""
        words = said.split()[-_WORDS:]
        if self.asked is None or self.asked.holds(said):
            return said
        return next((e for i in range(1, len(words)) if self.asked.holds(e := " ".join(words[i:]))), said)

    def _groups(self, said: str) -> Iterator[str]:
        """The parts between commas, put together again but where another type begins."""
        group: list[str] = []
        for part in _PART[","].findall(said):
            head, tail = _split(part.strip())
            begins = tail is not None and bool(self._kind(head) or head.casefold() in _TYPE_HEADS | _TEXT_HEADS)
            if tail is not None and self.known and self._kind(tail):  # the texts before it may be of its type, too
                begins = not group or _split(group[0])[1] is not None
            if begins and group:
                yield ",".join(group).strip()
                group = []
            group.append(part)
        if group:
            yield ",".join(group).strip()

    def _texts(self, said: str) -> list[str]:
        """The texts behind a type: cut at commas, but where the text asked about holds what is around one."""
        said = said.strip().strip(_MARKUP).strip()
        if nothing(said):
            return []
        if said[:1] == "[" and said[-1:] == "]":
            said = said[1:-1]
        parts = [part.strip() for part in _PART[","].findall(said)]
        texts: list[str] = []
        while parts and len(texts) <= _MOST:
            many = next((n for n in range(min(len(parts), 8), 1, -1) if self._holds(parts[:n])), 1)
            texts.append(_and(", ".join(parts[:many])) if texts else ", ".join(parts[:many]))
            parts = parts[many:]
        return [bare for text in texts if (bare := _unquoted(text))]

    def _holds(self, parts: Sequence[str]) -> bool:
        return self.asked is not None and self.asked.says(", ".join(parts))


def _bare(line: str) -> str:
    """A line without bullets, numbers and heading marks before it."""
    said = line.strip()
    while bullet := _BULLET.match(said):
        said = said[bullet.end() :]
    return said


def _split(said: str) -> tuple[str, str | None]:
    """What stands before and behind the first separator; None where there is none."""
    match = _SEPARATOR.search(_QUOTED.sub(lambda quoted: "_" * len(quoted[0]), said))
    return (
        (said, None)
        if match is None
        else (said[: match.start()].strip(), said[match.end() :].strip().strip(_MARKUP).strip())
    )


def _split_last(said: str) -> tuple[str, str]:
    head, _, tail = said.rpartition(":")
    return head.strip(), tail.strip()


def _and(text: str) -> str:
    """A text without the "and" that joins it to the one before."""
    return re.sub(r"^(?:and|&)\s+", "", text, flags=re.IGNORECASE)


def _unquoted(text: str) -> str:
    """A text without the quotes around it, else without markup and the full stop of a sentence."""
    said = text.strip().strip(_MARKUP).strip()
    for opening, closing in ('""', "''", "\u201c\u201d", "\u2018\u2019"):
        if len(said) > 1 and said[0] == opening and said.rstrip(".,")[-1:] == closing:
            return said.rstrip(".,")[1:-1].strip()
    dotted = re.search(r"(?:^|\W)(?:\w\.)+$", said) is not None
    return said if dotted and len(said) > 2 else said.removesuffix(".").strip()
