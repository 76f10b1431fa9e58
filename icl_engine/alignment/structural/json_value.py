"""`json`: a JSON value, found inside prose and fences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import orjson
import re2
from pydantic import Field, field_validator

from icl_engine.alignment.structural.forms.json_text import plain, values
from icl_engine.alignment.structural.forms.patterns import compiled
from icl_engine.alignment.text import LONGEST, said, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading


class Json(Aligner):
    r"""The JSON value in the text: the whole text, else its first object or list (prose and ``` fences around it).

    Args:
        schema: a JSON Schema (draft 2020-12) that the value has to keep; a value that breaks it is not taken.
        repair: whether to repair what is nearly JSON.
        constrain: have the model keep the schema while it writes, where its endpoint can.

    >>> Json().apply(Reading(text='Here you are:\n```json\n{"a": [1, 2]}\n```')).value
    {'a': [1, 2]}
    >>> Json().apply(Reading(text="I'd say {'a': True, b: [1, 2,],}")).value
    {'a': True, 'b': [1, 2]}
    >>> Json(schema={"required": ["b"]}).apply(Reading(text='{"a": 1}')).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["json"] = "json"
    shape: Mapping[str, Any] | None = Field(default=None, alias="schema")
    repair: bool = True
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
            whole = plain(value.strip())
            value = value if whole is ... else whole
        try:
            data = orjson.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))
            orjson.dumps([[data]])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"target is no JSON data: {bounded(str(error), 80)}") from None
        if data is None:
            raise ValueError("target is null, which stands for no answer")
        if broken := self._broken(data):
            raise ValueError(f"target breaks the schema: {broken}")
        return data

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take the first value that keeps the schema; none is status ``unparsed``."""
        text, why = said(reading), "no JSON"
        # A text that was capped is not repaired: what is missing in its middle would be.
        repair = self.repair and len(text) <= LONGEST
        for found in values(text, repair=repair, schema=self.shape is not None):
            why = "null" if found.value is None else self._broken(found.value) or ""
            if not why:
                return took(reading, "json (repaired)" if found.repaired else "json", found.value)
        return unread(reading, "json", why)

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
            return bounded(f"the schema's $ref {unknown.ref!r} is not in it", 100)
        return None if error is None else bounded(f"{error.json_path}: {error.message}", 80)


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
