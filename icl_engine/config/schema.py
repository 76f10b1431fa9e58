"""The JSON Schema of a task file, for editors: what `task.py` checks, said before the task is run.

It is made from the registry and from what `describe.py` reads in types and docstrings, so it never lags behind. Where
a schema cannot say a rule (a pattern's syntax, two keys that exclude each other), it takes more than the engine does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from icl_engine.config.describe import Description, Key, components, described
from icl_engine.config.document import VARIABLE
from icl_engine.config.forms import Schema, words
from icl_engine.config.task import BASES, Task
from icl_engine.models.gguf import PACKAGED
from icl_engine.registry import Kind

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCALARS = frozenset({"integer", "number", "boolean"})
LOCAL = "#/$defs/"
SLOTS = frozenset(cls.__name__ for cls in BASES.values())
"""The parts that stand for any component of a kind."""


def task_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a task file, third parties' components included.

    >>> schema = task_schema()
    >>> schema["required"], schema["properties"]["run"]["$ref"]
    (['input', 'model'], '#/$defs/Run')
    """
    parts: dict[str, Any] = {}
    root = _mapping(described(Task), parts)
    for kind in BASES:
        parts[BASES[kind].__name__] = _slot(kind, parts)
    # Of what a base class holds, pydantic gives a part beside those of the components themselves: nothing refers to it.
    for name in parts.keys() - set(_referred([root, parts])):
        del parts[name]
    return {"$schema": DRAFT, "title": "icl-engine task", **root, "$defs": dict(sorted(parts.items()))}


def _referred(node: Any) -> Iterator[str]:
    """The names of the parts that are referred to."""
    if isinstance(node, Mapping) and isinstance(node.get("$ref"), str):
        yield node["$ref"].removeprefix(LOCAL)
    for part in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _referred(part)


def _mapping(found: Description, parts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The schema of a section or component; those of mappings inside it go to `parts`, under `prefix`."""
    known = {k: v for k, v in found.schema.items() if k not in ("$defs", "description", "properties", "title")}
    inner = {d.cls.__name__: d for d in (found, *(d for _, d in found.inside()))}
    for name, schema in found.schema.get("$defs", {}).items():
        if name not in SLOTS and prefix + name not in parts:
            parts[prefix + name] = {}  # a class that holds itself is met again on the way
            mapping = inner.get(name)
            parts[prefix + name] = _mapping(mapping, parts, prefix) if mapping else _referring(schema, prefix)
    properties = {key.name: _property(key, prefix) for key in found.keys}
    return {"description": found.summary, **known, "properties": properties}


def _property(key: Key, prefix: str) -> dict[str, Any]:
    schema = _expandable(_referring(key.schema, prefix), key.takes)
    if key.name == "api_key":
        # The engine refuses a key that is written out: it must not get into a file that is shared.
        secret = _variable("a key does not belong in a task; put it in the environment and write ${NAME}", whole=True)
        schema = {"anyOf": [secret, {"type": "null"}]}
    said = [f"({limit})" for limit in key.limits if not limit.startswith("matching")]
    meaning = " ".join(filter(None, (key.text, *said)))
    # null and {} say no more than leaving the key out, and editors would write them.
    default = {} if key.default in (None, {}) else {"default": key.default}
    return {"description": meaning, **schema, **default}


def _expandable(schema: Schema, what: str) -> dict[str, Any]:
    """The schema, and a text with a ``${VAR}`` wherever such a text would be no valid value as it stands."""
    options = [_inside(s) for s in schema.get("anyOf", [schema])]
    if _wants_variable(schema):
        options.append(_variable(f"takes {what} (or ${{NAME}}, read from the environment)"))
    elif "anyOf" not in schema:
        return options[0]
    return {**{k: v for k, v in schema.items() if k != "anyOf" and "anyOf" in schema}, "anyOf": options}


def _inside(schema: Schema) -> dict[str, Any]:
    found = dict(schema)
    for at in ("items", "additionalProperties"):
        if isinstance(found.get(at), Mapping):
            found[at] = _expandable(found[at], words(found[at]))
    return found


def _wants_variable(schema: Schema) -> bool:
    options = schema.get("anyOf", [schema])
    if any(_types(s) >= {"string"} and not s.keys() & {"enum", "const", "pattern"} for s in options):
        return False
    return any(_types(s) & SCALARS or s.keys() & {"enum", "const", "pattern"} for s in options)


def _types(schema: Schema) -> set[str]:
    kind = schema.get("type", [])
    return {kind} if isinstance(kind, str) else set(kind)


def _variable(message: str, *, whole: bool = False) -> dict[str, Any]:
    """A text with a ``${VAR}`` in it; the message is what VS Code and its like show for another text."""
    pattern = f"^{VARIABLE.pattern}$" if whole else VARIABLE.pattern
    return {"type": "string", "pattern": pattern, "patternErrorMessage": message}


def _referring(schema: Any, prefix: str) -> Any:
    """The schema with references to what pydantic put beside it pointing to where it is put here."""
    if isinstance(schema, list):
        return [_referring(s, prefix) for s in schema]
    if not isinstance(schema, Mapping):
        return schema
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith(LOCAL) and target.removeprefix(LOCAL) not in SLOTS:
        schema = {**schema, "$ref": LOCAL + prefix + target.removeprefix(LOCAL)}
    return {k: _referring(v, prefix) for k, v in schema.items()}


def _slot(kind: Kind, parts: dict[str, Any]) -> dict[str, Any]:
    """Where a component of a kind may stand: a name alone where no key must be given, or a mapping with ``use``."""
    found = components(kind)
    for name, description in found.items():
        parts[f"{kind}.{name}"] = _component(kind, name, description, parts)
    alone = {name: d.summary for name, d in found.items() if not any(key.required for key in d.keys)}
    if kind == "model":
        alone = {name: f"An embedded model of {m.parameters} parameters." for name, m in PACKAGED.items()}
    # Of a model or an encoder, the name may also be a path; any name may be read from the environment, and then its
    # keys are not known.
    variable = _variable(f"names no {kind}")
    text = {"type": "string"} if kind in ("model", "encoder") else variable
    mappings = [{"$ref": f"{LOCAL}{kind}.{name}"} for name in found]
    unknown = {"type": "object", "required": ["use"], "properties": {"use": variable}}
    # Said beside the alternatives too, so that editors offer every name, whatever keys are still missing.
    use = {"anyOf": [*_names({name: d.summary for name, d in found.items()}), variable]}
    return {"properties": {"use": use}, "anyOf": [*_names(alone), text, *mappings, unknown]}


def _names(meanings: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"const": name, "description": meaning} for name, meaning in meanings.items()]


def _component(kind: Kind, name: str, found: Description, parts: dict[str, Any]) -> dict[str, Any]:
    schema = _mapping(found, parts, f"{kind}.{name}.")
    use = {"const": name, "description": found.summary}
    required = ["use", *(key for key in schema.get("required", ()) if key != "use")]
    properties = {"use": use, **schema["properties"]}
    return {"title": f"{kind} {name}", **schema, "properties": properties, "required": required}
