"""Types in a user's words, and the forms of a value that a validator takes beside its type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from icl_engine.config.task import BASES

Schema = Mapping[str, Any]
"""A JSON Schema, or a part of one."""

SAMPLES: Mapping[str, list[Any]] = {
    "string": ["A", "B"],
    "integer": [1, 2],
    "number": [0.5, 1.5],
    "boolean": [True, False],
}
"""JSON Schema's plain types, and two values of each to try a validator with."""


def forms(cls: type[BaseModel], name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key, with the other forms that its own validator turns into its type.

    A validator that runs before the type is checked takes more than the type says (one text for a list of one, a
    number that stands for a label). Where it does not declare what, it is tried out, so that no editor marks as wrong
    what the engine takes.
    """
    validators = [v for v in cls.__pydantic_decorators__.field_validators.values() if {name, "*"} & {*v.info.fields}]
    undeclared = [
        v for v in validators if v.info.mode == "before" and v.info.json_schema_input_type is PydanticUndefined
    ]
    if not undeclared:
        return schema
    adapter = TypeAdapter(cls.model_fields[name].rebuild_annotation())

    def takes(value: Any) -> bool:
        try:
            for validator in undeclared:
                value = validator.func(value)
            adapter.validate_python(value)
        except Exception:  # whatever a validator raises, it does not take the value
            return False
        return True

    return _widened(schema, takes)


def _widened(schema: dict[str, Any], takes: Callable[[Any], bool]) -> dict[str, Any]:
    """The schema with all other forms of which samples are taken."""

    def taken(wrapped: Callable[[list[Any]], Any]) -> list[str]:
        kinds = [kind for kind, pair in SAMPLES.items() if takes(wrapped(pair))]
        return [kind for kind in kinds if kind != "integer" or "number" not in kinds]

    listed = taken(lambda pair: pair)
    mapped = taken(lambda pair: {"A": pair[0], "B": pair[1]})
    mapped_lists = taken(lambda pair: {"A": pair[:1], "B": pair[1:]})
    options = [
        _holding(_holding(option, "items", listed), "additionalProperties", mapped, mapped_lists)
        for option in schema.get("anyOf", [schema])
    ]
    known = {option.get("type") for option in options}
    if listed and "array" not in known:
        options.append({"type": "array", "items": _with({}, listed)})
    if mapped and "object" not in known:
        options.append({"type": "object", "additionalProperties": _with({}, mapped)})
    return _with(options[0] if len(options) == 1 else {"anyOf": options}, taken(lambda pair: pair[0]))


def _holding(schema: dict[str, Any], at: str, kinds: list[str], in_lists: Sequence[str] = ()) -> dict[str, Any]:
    """A list's or mapping's schema that may also hold values of the kinds, and lists of those in lists."""
    inner = schema.get(at)
    if not isinstance(inner, Mapping):
        return schema
    return {**schema, at: _with(_holding(dict(inner), "items", list(in_lists)), kinds)}


def _with(schema: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """The schema, or a value of one of the plain kinds that it does not take yet."""
    options = schema.get("anyOf", [schema] if schema else [])
    new = [kind for kind in kinds if all(kind != option.get("type") for option in options)]
    if not new:
        return schema
    if set(schema) == {"type"} and schema["type"] in SAMPLES:
        return {"type": [schema["type"], *new]}
    plain = {"type": new[0] if len(new) == 1 else new}
    return {"anyOf": [plain, *options]} if options else plain


WORDS = {
    "string": ("text", "texts"),
    "integer": ("whole number", "whole numbers"),
    "number": ("number", "numbers"),
    "boolean": ("true or false", "true or false"),
    "null": ("null", "null"),
    "object": ("mapping", "mappings"),
    "array": ("list", "lists"),
}
"""JSON Schema's types for someone who writes YAML: one, and many."""

OR_NULL = ", or null"


def words(schema: Schema, many: bool = False) -> str:
    """The type that a JSON Schema describes, in a user's words.

    >>> words({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]})
    'list of whole numbers, or null'
    >>> words({"enum": ["scores", "text", "auto"]})
    'one of scores, text, auto'
    """
    if "$ref" in schema:
        return _reference(schema["$ref"].rsplit("/", 1)[-1], many)
    if "const" in schema or "enum" in schema:
        valid = [_word(v) for v in schema.get("enum", [schema.get("const")])]
        return valid[0] if len(valid) == 1 else f"one of {', '.join(valid)}"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _either([words(s, many) for s in options])
    kind = schema.get("type")
    if isinstance(kind, list):
        # A text that may look like a number in YAML is a text to the reader.
        return words({**schema, "type": "string" if "string" in kind else kind[0]}, many)
    if kind is None:
        return "any value"
    noun = WORDS[kind][many]
    if kind == "array" and "items" in schema:
        return f"{noun} of {words(schema['items'], many=True)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        inside = words(schema["additionalProperties"])
        return noun if inside == "any value" else f"{noun} of text to {inside}"
    return noun


def _either(options: list[str]) -> str:
    # A mapping's own "or" would be read as the whole type's: it comes last.
    distinct = sorted({o: 0 for o in options if o != "null"}, key=lambda o: o.startswith("mapping"))
    return " or ".join(distinct) + (OR_NULL if "null" in options else "")


def _reference(name: str, many: bool) -> str:
    """A reference in words: any component of a kind, or a mapping with keys of its own."""
    base = next((kind for kind, cls in BASES.items() if cls.__name__ == name), None)
    if base is None:
        return WORDS["object"][many]
    noun = "name or path" if base == "model" else "name"
    return f"{noun}s or mappings with `use`" if many else f"{noun}, or a mapping with `use`"


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
    "pattern": "matching `{}`",
}


def limits(schema: Schema) -> tuple[str, ...]:
    """What a value must keep to beside its type, in words.

    >>> limits({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    ('at least 1',)
    """
    found = [said.format(_figure(schema[key])) for key, said in LIMITS.items() if key in schema]
    inside = [limit for option in schema.get("anyOf", ()) for limit in limits(option)]
    singular = {"at least 1 items": "at least 1 item", "at least 1 characters": "not empty"}
    return tuple(dict.fromkeys(singular.get(limit, limit) for limit in (*found, *inside)))


def _figure(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
