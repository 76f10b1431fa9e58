"""Google-style docstrings, taken apart: what a class says of itself and of each of its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import cleandoc
from textwrap import dedent


@dataclass(frozen=True, slots=True)
class Docstring:
    """A Google-style docstring, taken apart; code in its texts stands between single backticks.

    Args:
        summary: the first paragraph.
        details: the paragraphs after it.
        args: name -> what its entry in ``Args:`` says.
        raises: error -> what its entry in ``Raises:`` says.
        example: the lines of its doctests, as written.
    """

    summary: str
    details: tuple[str, ...]
    args: Mapping[str, str]
    raises: Mapping[str, str]
    example: str


HEADING = re.compile(r"(Args|Attributes|Examples?|Notes?|Raises|Returns|Yields):$")
ENTRY = re.compile(r"\*{0,2}(\w+(?:, *\w+)*)(?: *\([^)]*\))?: *(.*)")
LISTED = re.compile(r"( |[-*] |\d+\. )")


def docstring(text: str | None) -> Docstring:
    r"""Take a docstring apart.

    >>> d = docstring('''The mean.
    ...
    ... Args:
    ...     k: how many,
    ...         at least one.
    ...
    ... Of ``k`` values.
    ...
    ... >>> 1 + 1
    ... 2
    ... ''')
    >>> d.summary, d.details, d.args, d.example
    ('The mean.', ('Of `k` values.',), {'k': 'how many, at least one.'}, '>>> 1 + 1\n2')
    """
    parts = _sections(cleandoc(text or "").splitlines())
    prose, examples = _paragraphs(parts[""])
    summary = prose[0] if prose else ""
    args, raises = _entries(parts["Args"]), _entries(parts["Raises"])
    return Docstring(summary, tuple(prose[1:]), args, raises, "\n".join(examples))


def _sections(lines: list[str]) -> dict[str, list[str]]:
    """The lines under each heading; those under none, and examples, under ''."""
    parts: dict[str, list[str]] = {"": [], "Args": [], "Raises": []}
    heading = ""
    for line in lines:
        if found := HEADING.match(line):
            heading = found[1]
        elif line and not line[0].isspace():
            heading = ""
            parts[""].append(line)
        elif heading.startswith("Example"):
            parts[""].append(line.strip())
        else:
            parts.setdefault(heading, []).append(line)
    return parts


def _paragraphs(lines: list[str]) -> tuple[list[str], list[str]]:
    """The paragraphs of text, and the doctests."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        starts_example = line.startswith(">>>") and blocks[-1] and not blocks[-1][0].startswith(">>>")
        if not line.strip() or starts_example:
            blocks.append([])
        if line.strip():
            blocks[-1].append(line)
    blocks = [block for block in blocks if block]
    examples = [line for block in blocks if block[0].startswith(">>>") for line in block]
    return [_joined(block) for block in blocks if not block[0].startswith(">>>")], examples


def _joined(block: list[str]) -> str:
    """A paragraph on one line; lists and indented text keep their lines."""
    keeps = any(LISTED.match(line) for line in block)
    return _marked(("\n" if keeps else " ").join(line.rstrip() for line in block))


def _marked(text: str) -> str:
    """Code between single backticks, as Markdown and editors have it."""
    return re.sub(r"(?<!`)``(?!`)", "`", text)


def _entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current: tuple[str, ...] = ()
    for line in dedent("\n".join(lines)).splitlines():
        entry = None if line[:1].isspace() else ENTRY.match(line)
        if entry:
            current = tuple(re.split(", *", entry[1]))
        for name in current:
            found.setdefault(name, []).append(entry[2] if entry else line.strip())
    return {name: _marked(" ".join(filter(None, texts))) for name, texts in found.items()}
