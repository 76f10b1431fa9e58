"""`spans`: parts of the row's text with their types (named entities, slots), aligned back to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field, field_validator

from icl_engine.alignment.structural.forms.aligned import Aligned
from icl_engine.alignment.structural.forms.json_text import values
from icl_engine.alignment.structural.forms.phrasing import turn
from icl_engine.alignment.structural.forms.span_lines import Lines
from icl_engine.alignment.structural.forms.span_shapes import Pairs, is_span, nothing, spans_of
from icl_engine.alignment.structural.forms.span_types import Types, folded
from icl_engine.alignment.text import LONGEST, said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_MOST = 500
"""Spans that one answer may name."""
_BROKEN = re.compile(r"[\[{]\s{0,9}[\[{\"'\u201c]")
"""JSON begins; where none can be read, it is cut off or broken."""
_NONE = re.compile(
    r"""(?:(?:the\ )?(?:answer|entities|spans|output)(?:\ is|\ are)?:?\ )?
        (?:none|nothing|n/?a|nil|null|empty
          |(?:there\ (?:are|is|were|was)\ |i\ (?:found|see|find)\ |the\ \w{1,20}\ (?:contains|names|mentions|has)\ )?
           no\ (?:\w{1,20}\ ){0,3}?(?:entity|entities|spans?|mentions?|names?))
        (?:\ (?:were|was|are|is))?(?:\ (?:found|mentioned|named|present|given|identified|detected))?
        (?:\ (?:in|here)\b[\w\ ]{0,40})?""",
    re.VERBOSE,
)


class Spans(Aligner):
    r"""Typed spans: a list of objects with ``type`` and ``text``, and where they stand in the row's text.

    Read are JSON (a list of objects, or an object of type -> texts; repaired as `json` repairs it), ``type: text`` with
    semicolons or line breaks between (``type: text, text`` too), ``- text: type``, ``text (type)``, sections, tables.
    The nth mention of a text stands at its nth place in the row's text: the same characters, else the same but for
    case, white space and punctuation, else the words that are most like it. What is so found is spelt as the row
    spells it, and has its ``start`` and ``end`` (in characters); spans are in the order in which they stand there.

    Args:
        types: the types there are. Their names are compared without regard to case, and nearly; what has another type
            is left out, and the trace says so. By default any.
        field: the row's field with the text that the spans are part of.
        nearest: how alike, from 0 to 1, a mention and its place in the text have to be; ``null``: the same but for
            case, white space and punctuation.
        unaligned: whether to ``keep`` spans that the text does not hold, which then count as false alarms, or to
            ``drop`` them, which hides what a model made up. The trace tells how many.
        format: how demonstrations show spans: on one ``line``, on ``lines`` of their own, or as ``json``. What a line
            cannot show (a text with quotes and line breaks, say) is shown as JSON.
        empty: how an empty list is shown.

    >>> row = {"text": "Ann and Bo met in New York."}
    >>> Spans().apply(Reading(text="person: Ann, Bo; place: new york", inputs=row)).value[-1]
    {'type': 'place', 'text': 'New York', 'start': 18, 'end': 26}
    >>> Spans().write([{"type": "person", "text": "Ann"}, {"type": "place", "text": "Rome"}])
    'person: Ann; place: Rome'
    >>> Spans().apply(Reading(text="none")).value, Spans().apply(Reading(text="I do not know")).status
    ([], 'unparsed')
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["spans"] = "spans"
    types: Sequence[str] | None = Field(default=None, min_length=1)
    field: str = "text"
    nearest: float | None = Field(default=0.9, ge=0.5, le=1)
    unaligned: Literal["keep", "drop"] = "keep"
    format: Literal["line", "lines", "json"] = "line"
    empty: str = Field(default="none", min_length=1)

    @field_validator("types")
    @classmethod
    def _are_different(cls, types: Sequence[str] | None) -> Sequence[str] | None:
        names = [folded(one) for one in types or ()]
        if "" in names or len(set(names)) < len(names):
            raise ValueError("a type is empty, or is named twice (case, spaces, _ and - make no difference)")
        return types

    def model_post_init(self, context: Any) -> None:
        """Refuse a word for an empty list that would not be read as one."""
        if self._pairs(self.empty, None) != ([], 0):
            raise ValueError(f"empty: {self.empty!r} would not be read as an empty list")

    def write(self, target: Any) -> str:
        """The spans as a demonstration shows them."""
        pairs = [(span["type"], span["text"]) for span in self.canon(target)]
        if not pairs and self.format != "json":
            return self.empty
        if self.format != "json":
            line = ("\n" if self.format == "lines" else "; ").join(self._shown(*pair) for pair in pairs)
            if self._pairs(line, None) == (pairs, 0):
                return line
        return json.dumps([{"type": kind, "text": text} for kind, text in pairs], ensure_ascii=False)

    def canon(self, value: Any) -> list[dict[str, Any]]:
        """The spans as objects with ``type`` and ``text``, and with ``start`` and ``end`` where the target has them.

        Raises:
            ValueError: it lists no spans, or one without a type or text, or with a type that is none.
        """
        if isinstance(value, str):
            pairs, others = self._pairs(value, None)
            if pairs is None or others:
                raise ValueError(f"target {bounded(value, 60)!r} lists no spans")
            return [{"type": kind, "text": text} for kind, text in pairs]
        found = spans_of(value, self._kinds.named if self.types else None)
        if found is None or len(found) > _MOST:
            raise ValueError(f"target {bounded(text_of(value), 60)!r} lists no spans (objects with type and text)")
        spans: list[dict[str, Any]] = [
            {"type": self._kinds.of_target(kind), "text": text.strip()} for kind, text in found
        ]
        try:
            orjson.dumps(spans)
        except TypeError:
            raise ValueError("target holds half a character, which cannot be written") from None
        if not all(span["type"] and span["text"] for span in spans):
            raise ValueError(f"target {bounded(text_of(value), 60)!r} holds a span without a type or text")
        if isinstance(value, list | tuple) and len(value) == len(spans):
            spans = [span | _offsets(item) for span, item in zip(spans, value, strict=True)]
        return spans

    def place(self, value: list[dict[str, Any]], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Canonical spans with their places in the row's text: their own, else those of their texts.

        >>> Spans().place([{"type": "x", "text": "b"}, {"type": "y", "text": "z"}], {"text": "a b"})
        [{'type': 'x', 'text': 'b', 'start': 2, 'end': 3}, {'type': 'y', 'text': 'z'}]
        """
        text = inputs.get(self.field)
        return value if not isinstance(text, str) else self._placed(value, Aligned(text, self.nearest))

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take the spans and find their places; an answer that names none, nor says so, is status ``unparsed``."""
        text, asked = said(reading), reading.inputs.get(self.field)
        aligned = Aligned(asked, self.nearest) if isinstance(asked, str) else None
        pairs, others = self._pairs(text, aligned)
        if pairs is None:
            return unread(reading, "spans", "no spans" if text.strip() else "no text")
        spans: list[dict[str, Any]] = [{"type": kind, "text": mention} for kind, mention in pairs]
        if aligned is not None:  # "none" in place of a text
            spans = [span for span in spans if not nothing(span["text"]) or aligned.holds(span["text"])]
            spans = [span | {"text": text} for span in spans for text in aligned.parts(span["text"])]
        notes = [f"{others} of another type left out"] if others else []
        if aligned is not None:
            spans = self._placed(spans, aligned)
            if lost := sum("start" not in span for span in spans):
                notes.append(f"{lost} not in the text" + (" left out" if self.unaligned == "drop" else ""))
            spans = [span for span in spans if "start" in span or self.unaligned == "keep"]
        return took(reading, f"spans ({', '.join(notes)})" if notes else "spans", spans)

    def _placed(self, spans: Sequence[Mapping[str, Any]], aligned: Aligned) -> list[dict[str, Any]]:
        placed: list[dict[str, Any]] = []
        for span in spans:
            at: tuple[int, int] | None
            if "start" in span and aligned.spells(span["start"], span["end"], span["text"]):
                at = span["start"], span["end"]
                aligned.take(span["type"], *at)
            else:
                at = aligned.place(span["type"], span["text"])
            found = {} if at is None else {"text": aligned.text[at[0] : at[1]], "start": at[0], "end": at[1]}
            placed.append({"type": span["type"], "text": span["text"], **found})
        return sorted(placed, key=lambda span: (span.get("start", len(aligned.text)), span.get("end", 0)))

    def _pairs(self, text: str, aligned: Aligned | None) -> tuple[Pairs | None, int]:
        """What an answer names, and how much in it has no type that there is; None where it names nothing."""
        listed = self._listed(text, aligned)
        if listed is None:
            broken = _BROKEN.search(text)
            if broken and not self._headed(text[: broken.start()]):
                return None, 0
            lines = self._lines(text, aligned)
            if len(lines.pairs) > _MOST or not (lines.pairs or self._says_none(turn(text))):
                return None, 0
            return (lines.pairs, lines.others) if lines.pairs else ([], 0)
        pairs = [
            (kind, bare)
            for said_kind, said_text in listed
            if (kind := self._kinds.named(said_kind)) and (bare := said_text.strip())
        ]
        others = len(listed) - len(pairs)
        return (None, 0) if len(listed) > _MOST or (others and not pairs) else (pairs, others)

    def _lines(self, text: str, aligned: Aligned | None) -> Lines:
        return Lines(self._kinds.named, self.types is not None, aligned).read(turn(text))

    def _listed(self, text: str, aligned: Aligned | None) -> Pairs | None:
        """The spans of the first JSON in the text that lists some; of several objects that are a span, of all."""
        bracket = re.search(r"[\[{]", text)
        if bracket is None or self._headed(text[: bracket.start()]):
            return None
        listed: Pairs | None = None
        for found in values(text, repair=len(text) <= LONGEST, schema=True):
            one = is_span(found.value)
            if listed is not None and not one:
                break
            pairs = spans_of(found.value, self._kinds.named if self.types else None)
            if pairs is None and isinstance(found.value, list) and all(isinstance(item, str) for item in found.value):
                pairs = self._lines("\n".join(found.value), aligned).pairs or None
            if pairs is not None:
                listed = (listed or []) + pairs
                if not one:
                    break
        if listed and aligned and not self.types and all(aligned.holds(a) and not aligned.holds(b) for a, b in listed):
            return [(kind, text) for text, kind in listed]  # an object of text -> type
        return listed

    def _headed(self, before: str) -> bool:
        """Whether what begins there is the texts of a type: "person: [Ann, Bo]"."""
        head = before.rstrip().rpartition("\n")[2].strip(" \t-*•_`")
        return self.types is not None and head.endswith(":") and self._kinds.named(head.rstrip(":* ")) is not None

    def _says_none(self, text: str) -> bool:
        """Whether the first line that is no heading says that there are none."""
        lines = (line.strip(" *#\t") for line in text.splitlines())
        line = next((line for line in lines if line and not line.endswith(":")), "")
        bare = line.strip(" .!*_`\"'").casefold()
        return (
            bare == self.empty.strip(" .").casefold() or nothing(bare or "x") or _NONE.fullmatch(bare[:200]) is not None
        )

    def _shown(self, kind: str, text: str) -> str:
        plain = f"{kind}: {text}"
        return plain if self._pairs(plain, None) == ([(kind, text)], 0) else f'{kind}: "{text}"'

    @cached_property
    def _kinds(self) -> Types:
        return Types(self.types)


def _offsets(span: Any) -> dict[str, int]:
    """A span's own start and end."""
    if not isinstance(span, Mapping):
        return {}
    start, end = span.get("start"), span.get("end")
    if type(start) is not int or type(end) is not int or not 0 <= start < end < 2**31:
        return {}
    return {"start": start, "end": end}
