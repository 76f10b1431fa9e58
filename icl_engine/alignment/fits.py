"""What the steps that learn from labelled rows share: which rows do, in which order, and what is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icl_engine.alignment.text import quoted, text_of
from icl_engine.errors import TaskError
from icl_engine.protocols import Answered

ENOUGH = 5
"""Rows a label, on average, below which a fit is told to be rough."""

NAMED = 3
"""How many labels a note names."""


@dataclass(frozen=True)
class Rows:
    """Label distributions of train rows with their labels, in an order of their own: the rows' order changes no fit.

    Args:
        labels: the distributions' labels, in their order.
        p: one distribution a row, its figures in the order of `labels`.
        targets: each row's label.
        told: what the user should know of the rows.
    """

    labels: tuple[str, ...]
    p: tuple[tuple[float, ...], ...]
    targets: tuple[str, ...]
    told: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def seen(self) -> tuple[str, ...]:
        """The labels that a row has, in order."""
        had = set(self.targets)
        return tuple(label for label in self.labels if label in had)


def rows_of(answered: Sequence[Answered], step: str) -> Rows:
    """The rows that a step which corrects label distributions can learn from.

    Raises:
        TaskError: there are none.

    >>> rows = rows_of([Answered("a", {"a": 0.75, "b": 0.25}, "b"), Answered(None, None, "a")], "linear")
    >>> rows.p, rows.targets
    (((0.75, 0.25),), ('b',))
    >>> for told in rows.told:
    ...     print(told)
    1 of 2 train rows left out: no label distribution
    1 train row for 2 labels: the fit is rough
    no train row has: 'a'
    """
    read = [(a.distribution, text_of(a.target)) for a in answered if a.distribution is not None]
    labels = labels_of([p for p, _ in read])
    known = set(labels)
    pairs = sorted((tuple(p.get(label, 0.0) for label in labels), y) for p, y in read if y in known)
    if not pairs:
        raise TaskError(f"{step} learns from train rows with label distributions, and none of {len(answered)} has one")
    p, targets = zip(*pairs, strict=True)
    told = left_out(len(answered), len(pairs), "no label distribution")
    return Rows(labels, p, targets, (*told, *too_few(targets, labels)))


def labels_of(distributions: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """All labels of some distributions: in their order where all have the same ones, else sorted.

    >>> labels_of([{"b": 1.0, "a": 0.0}, {"b": 0.5, "a": 0.5}]), labels_of([{"b": 1.0}, {"a": 1.0}])
    (('b', 'a'), ('a', 'b'))
    """
    every = dict.fromkeys(label for p in distributions for label in p)
    return tuple(every) if not distributions or len(every) == len(distributions[0]) else tuple(sorted(every))


def left_out(rows: int, used: int, why: str) -> tuple[str, ...]:
    """A note on the rows that could not be learned from; none where all could."""
    return () if used == rows else (f"{rows - used} of {counted(rows)} left out: {why}",)


def too_few(targets: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Notes on too little data: fewer than `ENOUGH` rows a label on average, and labels that no row has.

    >>> too_few(["a"] * 10, ["a", "b"])
    ("no train row has: 'b'",)
    """
    counts = Counter(targets)
    missing = [label for label in labels if not counts[label]]
    rough = (f"{counted(len(targets))} for {len(labels)} label{'s'[len(labels) == 1 :]}: the fit is rough",)
    none = (f"no train row has: {named(missing)}",)
    return (*(rough if len(targets) < ENOUGH * len(labels) else ()), *(none if missing else ()))


def named(labels: Sequence[str]) -> str:
    """The first of some labels, and how many more there are.

    >>> named("ab"), named("abcde")
    ("'a', 'b'", "'a', 'b', 'c' and 2 more")
    """
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return ", ".join(map(quoted, labels[:NAMED])) + more


def counted(rows: int) -> str:
    """The number of train rows in words.

    >>> counted(1), counted(128)
    ('1 train row', '128 train rows')
    """
    return f"{rows} train row{'' if rows == 1 else 's'}"
