"""A table's columns, and what their values look like: labels, numbers, JSON, free text, ids.

Which of them is the answer, and which a model should see, is `guess.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from icl_engine.alignment.text import text_of

Kind = Literal["labels", "number", "json", "text"]
"""What answers are: a few labels, numbers, JSON lists or objects, free text."""

IDS = frozenset({"id", "ids", "idx", "index", "uuid", "guid", "uid", "rowid"})

LONGEST_LABEL = 80
MANY_LABELS = 100
ENOUGH = 20
"""From so many rows on, what holds in every row is no accident."""

_NUMBER = re.compile(r"[-+\u2212]?[$€£¥]?(?:0|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,17})(?:\.\d{1,18})?%?", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?=\D*\d)[0-9a-f]{16,64}", re.I)


def empty(value: Any) -> bool:
    """Whether a table says nothing there: null, not-a-number, nothing but white space.

    >>> [empty(v) for v in (None, " ", float("nan"), 0, [])]
    [True, True, True, False, False]
    """
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def words_of(name: str) -> list[str]:
    """The words of a field's name, in lower case.

    >>> words_of("goldLabel"), words_of("review-text.en")
    (['gold', 'label'], ['review', 'text', 'en'])
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).lower().split()


@dataclass(frozen=True)
class Column:
    """A field and its values, one a row; None where a row lacks it."""

    name: str
    values: Sequence[Any] = field(repr=False)

    @cached_property
    def texts(self) -> list[str | None]:
        """Each value as text, None where it is empty."""
        return [None if empty(value) else text_of(value) for value in self.values]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each text stands there, empty ones left out."""
        return Counter(text for text in self.texts if text is not None)

    @cached_property
    def filled(self) -> int:
        """In how many rows it says something."""
        return self.counts.total()

    @cached_property
    def numeric(self) -> bool:
        """Whether all that it says are numbers."""
        return all(_NUMBER.fullmatch(text) for text in self.counts)


def columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """A table's fields in the order they first appear.

    >>> [(c.name, c.values) for c in columns([{"a": 1}, {"a": 2, "b": "x"}])]
    [('a', [1, 2]), ('b', [None, 'x'])]
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return [Column(name, [row.get(name) for row in rows]) for name in names]


def kind_of(column: Column) -> Kind:
    """What the values of a field are, were they the answers.

    >>> kind_of(Column("y", ["good", "bad"] * 5)), kind_of(Column("y", [17, 4, 85, 23]))
    ('labels', 'number')
    """
    counts = column.counts
    if counts and all(_is_json(value) for value in column.values if not empty(value)):
        return "json"
    few = len(counts) <= max(2, min(MANY_LABELS, column.filled // 3)) and len(counts) < column.filled
    if few and (_is_code(counts) if column.numeric else _are_short(counts)):
        return "labels"
    return "number" if column.numeric else "text"


def _is_json(value: Any) -> bool:
    """A list or an object, or the text of one, as CSV files hold them."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return False
    return isinstance(value, list | dict)


def _are_short(texts: Iterable[str]) -> bool:
    return all(len(text) <= LONGEST_LABEL and len(text.splitlines()) <= 1 for text in texts)


def _is_code(texts: Mapping[str, int]) -> bool:
    """Whether numbers name classes: at most ten of them, or 0 … K-1, or 1 … K."""
    if len(texts) <= 10:
        return True
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return False
    numbers = sorted(map(int, texts))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def holds_lists(column: Column) -> bool:
    """Whether every value is a list."""
    return all(isinstance(value, list) for value in column.values if not empty(value))


def is_id(column: Column) -> bool:
    """Whether values only tell rows apart: by the name, else unique hashes, or unique whole numbers.

    In a short table unique numbers may well be data, so there they have to be ascending as well.
    """
    words = words_of(column.name)
    if words and words[-1] in IDS:
        return True
    counts = column.counts
    if len(counts) < len(column.values) or len(counts) < 3:
        return False
    if all(_HASH.fullmatch(text) for text in counts):
        return True
    if not all(_WHOLE.fullmatch(text) for text in counts):
        return False
    numbers = [int(text) for text in counts]
    return len(numbers) >= ENOUGH or numbers == sorted(numbers)


def decides(one: Column, other: Column) -> bool:
    """Whether each value of one field (or its lack) always stands with the same value of the other."""
    pairs = {(a, b) for a, b in zip(one.texts, other.texts, strict=True) if b is not None}
    return len(pairs) == len({a for a, _ in pairs})


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels in the order of their numbers where all are numbers, else of the alphabet.

    >>> in_order(["10", "9"]), in_order(["b", "A"])
    (['9', '10'], ['A', 'b'])
    """
    numeric = all(_WHOLE.fullmatch(label) for label in labels)
    return sorted(labels, key=lambda label: (int(label) if numeric else 0, label.casefold(), label))
