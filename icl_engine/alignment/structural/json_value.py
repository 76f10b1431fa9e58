"""`json`: a JSON value, found inside prose and fences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal

import orjson
import re2
from pydantic import Field, field_validator

from icl_engine.alignment.structural.patterns import compiled
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_LONGEST = 200_000
_TRIES = 64
"""Beginnings that are tried in one text: hostile text may be all brackets."""


class Json(Aligner):
    r"""The JSON value in the text: the whole text, else its first object or list (prose and ``` fences around it).

    Args:
        schema: a JSON Schema (draft 2020-12) that the value has to keep; a value that breaks it is not taken.
        constrain: have the model keep the schema while it writes, where its endpoint can.

    >>> Json().apply(Reading(text='Here you are:\n```json\n{"a": [1, 2]}\n```')).value
    {'a': [1, 2]}
    >>> Json(schema={"required": ["b"]}).apply(Reading(text='{"a": 1}')).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["json"] = "json"
    shape: Mapping[str, Any] | None = Field(default=None, alias="schema")
    constrain: bool = True

    @property
    def shaped(self) -> Mapping[str, Any] | None:
        """The schema that the model is to keep while it writes."""
        return self.shape if self.constrain else None

    @field_validator("shape")
    @classmethod
    def _is_a_schema(cls, shape: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if shape is not None:
            from jsonschema import Draft202012Validator, SchemaError

            try:
                Draft202012Validator.check_schema(dict(shape))
            except SchemaError as error:
                raise ValueError(f"not a JSON Schema: {bounded(error.message)}") from None
        return shape

    def write(self, target: Any) -> str:
        """The target as JSON on one line."""
        return json.dumps(self.canon(target), ensure_ascii=False)

    def canon(self, value: Any) -> Any:
        """Plain JSON data; a text that is a JSON object or list (as a CSV file holds it) is taken as such.

        Raises:
            ValueError: it is no JSON data, or breaks the schema.
        """
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = next(_plain(value.strip()), value)
        try:
            plain = orjson.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))
            orjson.dumps([[plain]])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"target is no JSON data: {bounded(str(error), 80)}") from None
        if plain is None:
            raise ValueError("target is null, which stands for no answer")
        if broken := self._broken(plain):
            raise ValueError(f"target breaks the schema: {broken}")
        return plain

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take the first value that keeps the schema; none is status ``unparsed``."""
        why = "no JSON"
        for value in _found((reading.text or "")[:_LONGEST]):
            why = "null" if value is None else self._broken(value) or ""
            if not why:
                kind = type(value).__name__
                return replace(reading, value=value, trace=(*reading.trace, f"json: {kind}"))
        return replace(reading, value=None, status="unparsed", trace=(*reading.trace, f"json: {why}"))

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend
        from referencing import Registry

        linear: Any = extend(Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique})  # type: ignore[no-untyped-call]
        # A registry of its own: by default jsonschema would fetch a foreign $ref from the network.
        return linear(dict(self.shape or {}), registry=Registry())

    def _broken(self, value: Any) -> str | None:
        """How a value breaks the schema, in a few words."""
        if self.shape is None:
            return None
        from referencing.exceptions import Unresolvable

        try:
            error = next(self._validator.iter_errors(value), None)
        except RecursionError:
            return "nested too deep"
        except Unresolvable as unknown:
            return bounded(f"the schema's $ref {unknown.ref!r} is not in it", 160)
        return None if error is None else bounded(f"{error.json_path}: {error.message}", 160)


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    """`pattern` by RE2: hostile text must not make a pattern backtrack."""
    from jsonschema import ValidationError

    try:
        if isinstance(instance, str) and not compiled(pattern).search(instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")
    except re2.error:
        yield ValidationError(f"the schema's pattern {pattern!r} is not RE2 syntax")


def _unique(_validator: Any, unique: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    """`uniqueItems` in linear time."""
    from jsonschema import ValidationError

    if unique and isinstance(instance, list):
        seen = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("the list has equal items")


def _found(text: str) -> Iterator[Any]:
    """The JSON values of a text: the whole, else each object or list that begins in it."""
    yield from _plain(text.strip())
    decoder, at = json.JSONDecoder(), 0
    for _ in islice(iter(int, 1), _TRIES):
        starts = [i for i in (text.find("{", at), text.find("[", at)) if i >= 0]
        if not starts:
            return
        try:
            _, end = decoder.raw_decode(text, min(starts))
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
                return  # cut off: what stands inside is not the answer
            at = min(starts) + 1
            continue
        except (ValueError, RecursionError):
            at = min(starts) + 1
            continue
        yield from _plain(text[min(starts) : end])
        at = end


def _plain(text: str) -> Iterator[Any]:
    """The value of a text that is all JSON, if it can be written again (not too deep, no half characters)."""
    try:
        value = orjson.loads(text)
        orjson.dumps([[value]])
    except (ValueError, TypeError):
        return
    yield value
