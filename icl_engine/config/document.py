"""A task as a tree of plain values that knows the line of each key: YAML, ``--set``, ``${VAR}``, short forms.

What the keys mean is `task.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from icl_engine.errors import TaskError, bounded

At = tuple[str | int, ...]
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

ROWS: frozenset[At] = frozenset({("data", "train"), ("data", "test"), ("input", "demonstrations", "items")})
"""Where rows may stand in place of a file: data is never expanded."""

VERBATIM = frozenset({"inline", "instruction", "separator", "answer", "pattern", "cue", "then"})
"""Texts in which a ``${…}`` is the user's own."""


NOWHERE = "http://model.invalid/v1"
"""An address that is never asked, for one that is not known."""


def dotted(at: At) -> str:
    """A path as users write it.

    >>> dotted(("output", 0, "labels"))
    'output[0].labels'
    """
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass
class Document:
    """A task's tree, as written, and where it came from.

    Args:
        tree: plain values, short forms spelt out, ``${VAR}`` unexpanded.
        file: the file, for errors; None for a task given as a mapping.
        lines: the line of each key.
        set: the keys given by ``--set``.
        swapped: whether ``--model`` put another model in the task's place.
    """

    tree: dict[str, Any]
    file: Path | None = None
    lines: Mapping[At, int] = field(default_factory=dict)
    set: frozenset[At] = frozenset()
    swapped: bool = False

    @property
    def base(self) -> Path:
        """The folder that relative paths are relative to."""
        return self.file.parent if self.file else Path.cwd()

    def is_set(self, *at: str | int) -> bool:
        """Whether ``--set`` changed the key or something in it."""
        return any(given[: len(at)] == at for given in self.set) or (self.swapped and at == ("model",))

    def error(self, what: str, at: At = (), kind: type[TaskError] = TaskError) -> TaskError:
        """A mistake at a key: with the nearest line known."""
        given = any(at[: len(s)] == s or (at not in self.lines and s[: len(at)] == at) for s in self.set)
        if at and given:
            return kind(what, key=f"--set {dotted(at)}")
        if at[:1] == ("model",) and self.swapped:
            return kind(what, key="--model")
        known = next((at[:n] for n in range(len(at), 0, -1) if at[:n] in self.lines), None)
        line = self.lines[known] if known is not None else None
        return kind(what, file=self.file, line=line, key=dotted(at) or None)

    @contextmanager
    def placing(self, at: At = ()) -> Iterator[None]:
        """Give mistakes that name only a key their file and line; those that name none are at `at`."""
        try:
            yield
        except TaskError as error:
            key = error.key or dotted(at)
            if error.file is None and key and not key.startswith("--"):
                placed = self.error(error.what, path_of(key))
                error.file, error.line, error.key = placed.file, placed.line, placed.key
            raise


def read(path: Path) -> Document:
    """A YAML 1.2 file (`yes` and `no` are strings; a key given twice is an error).

    Raises:
        TaskError: no such file, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TaskError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise TaskError("is not UTF-8 text", file=path) from error
    try:
        node = _yaml().compose(StringIO(text))
        tree, lines = _yaml().load(StringIO(text)), dict(_lines(node, ()))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = bounded(str(error.problem or error.context or "not YAML"))
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        raise TaskError(what + _advice(what, line), file=path, line=mark.line + 1 if mark else None) from error
    except (YAMLError, ValueError) as error:
        raise TaskError(f"not YAML: {bounded(str(error))}", file=path) from error
    except RecursionError as error:
        raise TaskError("is nested without end (an alias inside its own anchor?)", file=path) from error
    if not isinstance(tree, dict):
        raise TaskError("a task file is a mapping of keys (name, data, input, model, output …)", file=path, line=1)
    return Document(spelt_out(tree), path, lines)


def _advice(problem: str, line: str) -> str:
    """What to do about a line that is not YAML; nothing where its cause is not plain."""
    if "\\t" in problem or "\t" in line:
        return "; indent with spaces, not tabs"
    if "${" in line and "{" in line.replace("${", ""):
        return '; inside braces a variable needs quotes: "${NAME}"'
    if "{{" in line:
        return "; a template needs quotes around it, or stands on lines of its own after inline: |"
    if "mapping values" in problem:
        return "; a text with a colon and a space in it needs quotes"
    return ""


class _Constructor(SafeConstructor):
    """YAML 1.2's core schema has no timestamps: dates are text to a task."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def value(text: str) -> Any:
    """A YAML value, as ``--set`` takes it."""
    try:
        return _yaml().load(StringIO(text))
    except YAMLError as error:
        raise TaskError(f"not a YAML value: {bounded(text)}") from error


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    return yaml


def _lines(node: Node | None, at: At) -> Iterator[tuple[At, int]]:
    if isinstance(node, MappingNode):
        for key, child in node.value:
            yield (*at, str(key.value)), key.start_mark.line + 1
            yield from _lines(child, (*at, str(key.value)))
    elif isinstance(node, SequenceNode):
        for i, child in enumerate(node.value):
            yield (*at, i), child.start_mark.line + 1
            yield from _lines(child, (*at, i))


def spelt_out(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with its short forms spelt out: a bare model name or path, a step or metric by its name alone.

    A step or metric that is null is left out, so that ``--set 'output[1]=null'`` runs without it.

    >>> spelt_out({"model": "gemma-3-270m", "output": ["identity"]})
    {'model': {'use': 'embedded', 'name': 'gemma-3-270m'}, 'output': [{'use': 'identity'}]}
    """
    full = dict(tree)
    if isinstance(full.get("model"), str):
        full["model"] = {"use": "embedded", "name": full["model"]}
    for key in ("output", "metrics"):
        if isinstance(full.get(key), list):
            full[key] = [{"use": item} if isinstance(item, str) else item for item in full[key] if item is not None]
    shown = full.get("input")
    if isinstance(shown, Mapping):
        names = {key: {"use": shown[key]} for key in ("demonstrations", "cot") if isinstance(shown.get(key), str)}
        full["input"] = {**shown, **names}
    return full


def override(document: Document, settings: Mapping[str, Any]) -> Document:
    """The document with some keys set: a path as ``output[0].read`` or ``output.0.read`` -> its value.

    Raises:
        TaskError: the path leads through something that is not there.
    """
    tree, given = document.tree, set(document.set)
    for path, new in settings.items():
        at = path_of(path)
        tree = _set(tree, at, new, path)
        given.add(at)
    return Document(spelt_out(tree), document.file, document.lines, frozenset(given), document.swapped)


def path_of(text: str) -> At:
    """A path from what a user wrote.

    >>> path_of("output[0].labels") == path_of("output.0.labels") == ("output", 0, "labels")
    True
    """
    parts = re.findall(r"[^.\[\]]+", text)
    if not parts:
        raise TaskError("--set takes a.b=value")
    return tuple(int(p) if p.isdigit() else p for p in parts)


def _set(tree: Any, at: At, new: Any, path: str) -> Any:
    if not at:
        return new
    head, rest = at[0], at[1:]
    tree = [] if tree is None and isinstance(head, int) else tree
    if isinstance(tree, list):
        if not isinstance(head, int) or head > len(tree):
            raise TaskError(f"the list there has {len(tree)} items, counted from 0; not {head!r}", key=f"--set {path}")
        if head == len(tree):
            return [*tree, _set(None, rest, new, path)]
        return [_set(item, rest, new, path) if i == head else item for i, item in enumerate(tree)]
    if tree is None or isinstance(tree, Mapping):
        inside = dict(tree or {})
        # A mapping's keys may be numbers in YAML: data.labels.0.
        key = next((k for k in inside if str(k) == str(head)), str(head))
        inside[key] = _set(inside.get(key), rest, new, path)
        return inside
    raise TaskError(f"{head!r} cannot be set: there is a plain value, not a mapping", key=f"--set {path}")


def expanded(document: Document, *, model: bool = True) -> dict[str, Any]:
    """The tree with every ``${VAR}`` read from the environment. Only ever held in memory.

    Args:
        document: the task as written.
        model: whether the model is used; else what it needs of the environment may be missing.

    Raises:
        TaskError: a variable is not set, or a key is written out instead of read from the environment.
    """

    def walk(node: Any, at: At) -> Any:
        if at in ROWS and isinstance(node, list | tuple):
            return node
        if isinstance(node, Mapping):
            return {k: walk(v, (*at, str(k))) for k, v in node.items()}
        if isinstance(node, list):
            return [walk(v, (*at, i)) for i, v in enumerate(node)]
        if not isinstance(node, str):
            return node
        if at and at[-1] == "api_key" and not VARIABLE.fullmatch(node):
            raise document.error("a key does not belong in a task; put it in the environment and write ${NAME}", at)
        if (at and at[-1] in VERBATIM) or not VARIABLE.search(node):
            return node

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if name not in os.environ and not model and at[0] == "model":
                return NOWHERE if at[-1] == "base_url" and match[0] == node else match[0]
            if name not in os.environ:
                raise document.error(f"the environment variable {name} is not set", at)
            return os.environ[name]

        text = VARIABLE.sub(replaced, node)
        return _yaml_scalar(text) if VARIABLE.fullmatch(node) and at[-1] != "api_key" else text

    return {k: walk(v, (k,)) for k, v in document.tree.items()}


def _yaml_scalar(text: str) -> Any:
    """A variable that is a whole value reads as YAML would read it, where that is a number or true/false."""
    try:
        found = value(text)
    except TaskError:
        return text
    return found if isinstance(found, bool | int | float) else text


def unexpanded(dumped: Any, written: Any) -> Any:
    """What may be written down: the dumped value, with what the user wrote put back wherever that was text."""
    if isinstance(dumped, Mapping) and isinstance(written, Mapping):
        by_name = {str(k): v for k, v in written.items()}
        return {k: unexpanded(v, by_name.get(str(k))) for k, v in dumped.items()}
    if isinstance(dumped, list) and isinstance(written, list) and len(dumped) == len(written):
        return [unexpanded(d, w) for d, w in zip(dumped, written, strict=True)]
    if isinstance(written, str) and (VARIABLE.search(written) or not isinstance(dumped, Mapping | list)):
        return written
    return dumped
