"""What may stand in a task file, in words: read from the types and docstrings of its sections and components.

The JSON Schema for editors, `icl models` and the reference in ``docs/`` all tell it from here, so that a key is
described in one place: the ``Args:`` of the class that has it (or of a base class, for keys it inherits).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from icl_engine.config.docstrings import docstring
from icl_engine.config.forms import OR_NULL, Schema, forms, limits, words
from icl_engine.config.task import BASES
from icl_engine.errors import bounded
from icl_engine.protocols import Component
from icl_engine.registry import TABLES, Kind, names, resolve

log = logging.getLogger("icl_engine")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section or component.

    Args:
        name: as it is written in YAML.
        type: what it takes, in words.
        limits: what its value must keep to beside its type, in words.
        required: whether it must be written.
        default: its value where it is not written.
        text: what it means; empty where no docstring says so.
        schema: the JSON Schema of its value.
    """

    name: str
    type: str
    limits: tuple[str, ...]
    required: bool
    default: Any
    text: str
    schema: Schema

    @property
    def takes(self) -> str:
        """Type and limits: ``whole number, at least 1, or null``."""
        kind = self.type.removesuffix(OR_NULL)
        return ", ".join((kind, *self.limits)) + self.type.removeprefix(kind)


@dataclass(frozen=True, slots=True)
class Description:
    """A section or component of a task file.

    Args:
        cls: its class.
        summary: the first paragraph of its docstring.
        details: the paragraphs after it.
        example: its doctests.
        keys: what may be written in it, without ``use``.
        schema: pydantic's JSON Schema of the class.
        inner: (key, class) of the keys that take a mapping with keys of its own.
    """

    cls: type[BaseModel]
    summary: str
    details: tuple[str, ...]
    example: str
    keys: tuple[Key, ...]
    schema: Schema
    inner: tuple[tuple[str, type[BaseModel]], ...]

    def inside(self, above: frozenset[type[BaseModel]] = frozenset()) -> Iterator[tuple[str, Description]]:
        """(key, description) of each mapping that its keys take, and of those inside them: ``template``, ``a.b``.

        A class inside itself is left out.
        """
        above |= {self.cls}
        for key, cls in self.inner:
            if cls not in above:
                found = described(cls)
                yield key, found
                yield from ((f"{key}.{deeper}", d) for deeper, d in found.inside(above))


class _Generator(GenerateJsonSchema):
    """pydantic's, without made-up titles, silent about a default that JSON cannot say."""

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}


def described(cls: type[BaseModel]) -> Description:
    """What a section or component says of itself.

    >>> from icl_engine.registry import resolve
    >>> [(k.name, k.type, k.limits, k.default) for k in described(resolve("aligner", "domain_calibration")).keys]
    [('texts', 'whole number', ('at least 1',), 20)]
    """
    said = docstring(vars(cls).get("__doc__"))
    schema = cls.model_json_schema(schema_generator=_Generator)
    if "$ref" in schema:  # pydantic's way with a class that holds itself
        schema = {**schema["$defs"][schema["$ref"].rsplit("/", 1)[-1]], "$defs": schema["$defs"]}
    properties, required = schema.get("properties", {}), schema.get("required", [])
    keys = tuple(
        _key(cls, name, field, properties[_written(name, field)], _written(name, field) in required)
        for name, field in cls.model_fields.items()
        if not (name == "use" and issubclass(cls, Component))
    )
    inner = tuple((_written(n, f), c) for n, f in cls.model_fields.items() for c in _sections_in(f.annotation))
    return Description(cls, said.summary, said.details, said.example, keys, schema, inner)


def _written(name: str, field: FieldInfo) -> str:
    """A field's name in YAML."""
    alias: Any = field.validation_alias or field.alias or name
    return alias if isinstance(alias, str) else str(alias.convert_to_aliases()[0][0])


def _key(cls: type[BaseModel], name: str, field: FieldInfo, schema: Schema, required: bool) -> Key:
    bare = {k: v for k, v in schema.items() if k not in ("default", "description")}
    form = forms(cls, name, bare)
    written = _written(name, field)
    default = None if required else _plain(field)
    return Key(written, words(form), limits(form), required, default, _text(cls, name, written), form)


def _text(cls: type[BaseModel], name: str, written: str) -> str:
    """What the docstring of the class, or of the nearest base class that names the key, says of it."""
    for base in cls.__mro__:
        args = docstring(vars(base).get("__doc__")).args if issubclass(base, BaseModel) else {}
        if found := args.get(written) or args.get(name):
            return found
    return ""


def _plain(field: FieldInfo) -> Any:
    """A default as YAML says it; None where it cannot."""
    try:
        default = field.default if field.default_factory is None else field.default_factory()  # type: ignore[call-arg]
        if isinstance(default, BaseModel):
            return {}
        return json.loads(json.dumps(default, default=list))
    except TypeError:
        return None


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes in a type that have keys of their own; components aside, which are described by their kind."""
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, BaseModel) and not issubclass(annotation, Component):
            yield annotation
        return
    for part in get_args(annotation):
        yield from _sections_in(part)


@cache
def components(kind: Kind) -> Mapping[str, Description]:
    """Every component of a kind by the name that `use` takes, sorted.

    One that another package brings and that cannot be loaded is left out, with a warning: it must not take editors
    and listings down with it.
    """
    found = {}
    for name in sorted(names(kind)):
        try:
            found[name] = _component(kind, name)
        except Exception as error:
            if name in TABLES[kind]:
                raise
            why = bounded(f"{type(error).__name__}: {error}")
            log.warning("%s %r (%s) is left out: %s", kind, name, names(kind)[name], why)
    return found


def _component(kind: Kind, name: str) -> Description:
    cls = resolve(kind, name)
    if not issubclass(cls, BASES[kind]):
        raise TypeError(f"is not a sub-class of icl_engine.protocols.{BASES[kind].__name__}")
    return described(cls)
