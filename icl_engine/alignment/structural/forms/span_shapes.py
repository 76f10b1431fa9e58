"""Spans as JSON spells them: objects with a type and a text, an object of type -> texts, pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from icl_engine.alignment.text import text_of

Pairs = list[tuple[str, str]]
"""(type, text) of each span."""

_TEXTS = ("text", "span", "mention", "word", "phrase", "value", "surface", "name", "entity", "content")
_TYPES = ("type", "label", "category", "class", "tag", "entity_type", "entity_group", "kind", "ner", "entity")
_WRAPPERS = frozenset(("entities", "spans", "answer", "answers", "mentions", "results", "result", "output", "labels"))
_NOTHING = frozenset(("", "none", "null", "n/a", "na", "-", "nothing", "[]", "{}", "()"))


def nothing(text: str) -> bool:
    """Whether a text stands for no span."""
    return text.strip(" .*_`\"'").casefold() in _NOTHING


def spans_of(value: Any, named: Callable[[str], str | None] | None = None) -> Pairs | None:
    """The spans that a JSON value lists; None for what lists no spans.

    Args:
        value: plain JSON data.
        named: what tells a type from a text, where the types are known: a type's name, or None.

    >>> spans_of([{"label": "person", "text": "Ann"}, {"place": ["Rome", "Bonn"]}, {"date": None}])
    [('person', 'Ann'), ('place', 'Rome'), ('place', 'Bonn')]
    >>> spans_of(["Ann"]) is None
    True
    """
    if isinstance(value, Mapping):
        return _of_object(value, named)
    if not isinstance(value, list | tuple):
        return None
    if len(value) == 2 and all(isinstance(part, str) for part in value):
        return _of_pair(value[0], value[1], named)
    found: Pairs = []
    for item in value:
        pairs = spans_of(item, named) if isinstance(item, Mapping | list | tuple) else None
        if pairs is None:
            return None
        found += pairs
    return found


def is_span(value: Any) -> bool:
    """Whether a JSON value is one span alone.

    >>> is_span({"type": "person", "text": "Ann"}), is_span({"person": ["Ann"]})
    (True, False)
    """
    return isinstance(value, Mapping) and _keys(value) is not None


def _keys(value: Mapping[Any, Any]) -> tuple[Any, Any] | None:
    """The keys of a span's type and text."""
    names = {str(key).casefold().replace(" ", "_"): key for key in reversed(list(value))}
    text = next((name for name in _TEXTS if name in names), None)
    kind = next((name for name in _TYPES if name in names and name != text), None)
    if text is None or kind is None or not isinstance(value[names[kind]], str):
        return None
    return names[kind], names[text]


def _of_object(value: Mapping[Any, Any], named: Callable[[str], str | None] | None) -> Pairs | None:
    keys = _keys(value)
    if keys and not (named and all(named(str(key)) for key in value)):
        text = value[keys[1]]
        return [(value[keys[0]], text)] if isinstance(text, str) else _texts(value[keys[0]], text)
    wrapped = [v for key, v in value.items() if str(key).casefold() in _WRAPPERS and isinstance(v, Mapping | list)]
    if len(wrapped) == 1:
        return spans_of(wrapped[0], named)
    if named and value and not any(named(str(key)) for key in value):
        swapped = [(v, key) for key, v in value.items() if isinstance(v, str) and named(v)]
        if len(swapped) == len(value):  # text -> type
            return [(kind, str(text)) for kind, text in swapped]
    found: Pairs = []
    for key, several in value.items():
        pairs = _texts(str(key), several)
        if pairs is None:
            return None
        found += pairs
    return found


def _texts(kind: str, several: Any) -> Pairs | None:
    """Spans of one type: a text, a list of texts, or of objects with a text."""
    if isinstance(several, list | tuple):
        found: Pairs = []
        for item in several:
            pairs = None if isinstance(item, list | tuple) else _texts(kind, item)
            if pairs is None:
                return None
            found += pairs
        return found
    if isinstance(several, Mapping):
        text = next((several[name] for name in _TEXTS if name in several), None)
        return None if text is None or isinstance(text, Mapping | list) else _texts(kind, text)
    if several is None or (isinstance(several, str) and nothing(several)):
        return []
    return None if isinstance(several, bool) else [(kind, text_of(several))]


def _of_pair(one: str, other: str, named: Callable[[str], str | None] | None) -> Pairs | None:
    """A pair of strings: which of the two is the type must be known."""
    if named is None or bool(named(one)) == bool(named(other)):
        return None
    return [(one, other)] if named(one) else [(other, one)]
