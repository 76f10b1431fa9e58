"""The same answers, read by other steps: where two ways to read disagree, one of them is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.text import quoted, text_of
from icl_engine.errors import IclError, bounded
from icl_engine.protocols import Aligner, Reader
from icl_engine.registry import names, resolve
from icl_engine.types import Need

LABELS = 50
"""Distinct targets up to which they are taken for labels."""

WIDE = 60
"""Characters of the longest of them."""

EXTRACT = ("after", "boxed", "code", "regex")
"""Steps that take a part of the text, and leave it text."""

UNREAD = object()


def value(chain: Chain, text: str, inputs: Mapping[str, Any]) -> Any:
    """What the steps of a chain that read make of a text; `UNREAD` where they cannot."""
    reading, at = chain.begin(Need(), text, None, inputs)
    reading, _ = chain.advance(reading, at, {}, chain.reads)
    return reading.value if reading.status == "ok" else UNREAD


def readers(targets: Sequence[Any], own: Chain, *, labels: bool = True) -> Iterator[tuple[str, Chain]]:
    """Every registered way to read that can express all targets, but a run's own: (what it is called, its steps).

    Args:
        targets: distinct ones; none known, none offered.
        own: the run's output steps.
        labels: whether the targets are all there are, so that a verbalizer can tell them apart.
    """
    after: Aligner = resolve("aligner", "after")()
    for spec in _specs(targets, labels=labels):
        with suppress(Exception):  # what cannot be made, or does not take these targets, is not tried
            step: Aligner = resolve("aligner", spec["use"]).model_validate(spec)
            if not isinstance(step, Reader) or not _expresses(Chain((step,)), targets):
                continue
            both = () if spec["use"] in EXTRACT else ((after, step),)
            for steps in ((step,), *both):
                if steps != own.steps[: own.reads]:
                    yield " → ".join((*(s.use for s in steps[:-1]), _title(spec))), Chain(steps)


def _specs(targets: Sequence[Any], *, labels: bool) -> Iterator[dict[str, Any]]:
    """Steps with keys that make sense without knowing more than the targets."""
    texts = list(dict.fromkeys(text_of(target).strip() for target in targets))
    if labels and 2 <= len(texts) <= LABELS and all(0 < len(text) <= WIDE for text in texts):
        yield {"use": "verbalizer", "read": "text", "labels": dict(zip(texts, texts, strict=True))}
    for name in names("aligner"):
        found = _class(name)
        if found is None or found.kind != "structural" or not issubclass(found, Aligner) or name == "verbalizer":
            continue
        if any(field.is_required() for field in found.model_fields.values()):
            continue
        take = found.model_fields.get("take")
        ways = get_args(take.annotation) if take is not None and get_origin(take.annotation) is Literal else ()
        for way in [w for w in ways if w in ("first", "last")] or [None]:
            yield {"use": name, **({} if way is None else {"take": way})}


def _class(name: str) -> type[Any] | None:
    try:
        return resolve("aligner", name)
    except (IclError, ImportError):
        return None


def _expresses(chain: Chain, targets: Sequence[Any]) -> bool:
    """Whether the steps have a canonical form for each target, and tell them apart."""
    if not targets:
        return False
    return len({text_of(chain.canon(target)) for target in targets}) == len({text_of(t) for t in targets})


def _title(spec: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{k}: {v}" for k, v in spec.items() if k not in ("use", "labels", "read"))
    by = " by text" if spec.get("read") == "text" else ""
    return f"{spec['use']}{by}{f' ({keys})' if keys else ''}"


def same(a: Any, b: Any, one: Chain, other: Chain) -> bool:
    """Whether two values are the same answer, in either one's canonical form."""
    return text_of(a) == text_of(b) or _canon(one, b) == a or _canon(other, a) == b


def right(chain: Chain, read: Any, target: Any) -> bool:
    """Whether a value is the target, in the canonical form of who read it."""
    return read is not UNREAD and bool(read == _canon(chain, target))


def _canon(chain: Chain, found: Any) -> Any:
    try:
        return chain.canon(found)
    except Exception:  # of a value that another reader made, no reader promises anything
        return UNREAD


@dataclass
class Second:
    """How another way to read compares with a run's own.

    Args:
        name: what it is called.
        own: the run's steps.
        chain: the others.
        most: examples that are kept.
        asked: whether it was asked for by name.
        both: rows that both read.
        differ: of these, rows that they read as different answers.
        only_own: rows that the run's own steps alone read.
        only_other: rows that the others alone read.
        judged: rows with a target.
        right_own: of these, rows that the run's own steps read right.
        right_other: rows that the others read right.
        examples: of rows on which they disagree.
        alike: further ways that read every row the same.
    """

    name: str
    own: Chain
    chain: Chain
    most: int = 3
    asked: bool = False
    both: int = 0
    differ: int = 0
    only_own: int = 0
    only_other: int = 0
    judged: int = 0
    right_own: int = 0
    right_other: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    _kept: dict[str, int] = field(default_factory=dict)
    _said: Any = field(default_factory=hashlib.sha256)

    def add(self, row: Mapping[str, Any], mine: Any) -> None:
        """Read a row's text the other way, and compare."""
        theirs = value(self.chain, row["text"], row["inputs"])
        said = None if theirs is UNREAD else text_of(theirs)
        self._said.update(repr(said).encode(errors="backslashreplace"))
        if row["target"] is not None:
            self.judged += 1
            self.right_own += right(self.own, mine, row["target"])
            self.right_other += right(self.chain, theirs, row["target"])
        if mine is UNREAD and theirs is UNREAD:
            return
        if theirs is UNREAD:
            self.only_own += 1
            kind = "only_own"
        elif mine is UNREAD:
            self.only_other += 1
            kind = "only_other"
        else:
            self.both += 1
            if same(mine, theirs, self.own, self.chain):
                return
            self.differ += 1
            kind = "differ"
        self._show(kind, row, mine, theirs)

    def _show(self, kind: str, row: Mapping[str, Any], mine: Any, theirs: Any) -> None:
        if self._kept.get(kind, 0) >= self.most:
            return
        self._kept[kind] = self._kept.get(kind, 0) + 1
        told = {"own": shown(mine), "other": shown(theirs), "target": shown(row["target"])}
        self.examples.append({"id": row["id"], "kind": kind, "text": ending(row["text"]), **told})

    @property
    def sensible(self) -> bool:
        """Whether it reads anything, and something right where that is known."""
        return self.asked or bool(self.both + self.only_other if not self.judged else self.right_other)

    @property
    def disagreements(self) -> int:
        """Rows on which they disagree."""
        return self.differ + self.only_own + self.only_other


def shown(found: Any) -> str | None:
    """A value in few characters; None where nothing was read."""
    return None if found is UNREAD or found is None else bounded(quoted(found), 100)


def ending(text: str) -> str:
    r"""The end of an answer, on one line.

    >>> ending("So\nit is 12.")
    "'So\\nit is 12.'"
    """
    end = text.strip()[-80:]
    return repr(end if len(end) == len(text.strip()) else f"…{end}")


def apart(found: Sequence[Second]) -> list[Second]:
    """Those that read some row as none before does; what reads all alike is named there."""
    first: dict[bytes, Second] = {}
    for second in found:
        known = first.setdefault(second._said.digest(), second)
        if known is not second:
            known.alike.append(second.name)
    return list(first.values())
