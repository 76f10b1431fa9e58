"""Making a table fit a task, and cutting it into a train and a test split that share no input."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from icl_engine.alignment.text import text_of
from icl_engine.config.document import VARIABLE
from icl_engine.errors import DataError
from icl_engine.starter.column import empty
from icl_engine.starter.guess import Guess

Row = Mapping[str, Any]
Key = tuple[str, ...]
"""What the model is shown of a row, but for case and white space: rows with the same key are duplicates."""

TRAIN_SHARE = 0.4
MOST_TRAIN = 1000
FEWEST = 4
LIMIT = 200
"""How many test rows a first run takes."""


@dataclass(frozen=True)
class Table:
    """Rows that fit a task: each with an answer, and with text where a field shown to the model was null or missing.

    Args:
        rows: the rows.
        unanswered: how many rows were left out because they have no answer.
        doubles: how many were left out because the same inputs stand with the same answer before.
        mended: whether a row is not as it was in the file.
    """

    rows: list[Row]
    unanswered: int = 0
    doubles: int = 0
    mended: bool = False


def normal(value: Any) -> str:
    r"""What a value is compared as: case and white space do not count, as in `FewShot.identity`.

    >>> normal(" A  Film\n"), normal(None)
    ('a film', '')
    """
    return "" if value is None else " ".join(str(value).casefold().split())


def key_of(row: Row, guess: Guess) -> Key:
    """What makes two rows duplicates."""
    return tuple(normal(row.get(name)) for name in guess.inputs)


def without_variables(text: str) -> str:
    """A text in which a task file reads no ``${VAR}``.

    >>> without_variables("${HOME} costs $5")
    'HOME costs $5'
    """
    while VARIABLE.search(text):
        text = VARIABLE.sub(r"\1", text)
    return text


def safe_name(name: str, taken: Iterable[str]) -> str:
    """A name for a field in which a task file reads no ``${VAR}``: its own, where there is none."""
    new, others = without_variables(name), set(taken) - {name}
    while new in others:
        new += "_"
    return new


def renamed(rows: Sequence[Row], old: str, new: str) -> Sequence[Row]:
    """The rows with a field under another name."""
    return rows if old == new else [{new if n == old else n: value for n, value in row.items()} for row in rows]


def usable(rows: Sequence[Row], guess: Guess, *, distinct: bool) -> Table:
    """The rows that can be used.

    Args:
        rows: as they were read.
        guess: the answer's field, and the fields shown to the model.
        distinct: leave out a row whose inputs and answer, to the letter, stand before.
    """
    kept: list[Row] = []
    seen: set[tuple[str, ...]] = set()
    unanswered = doubles = 0
    mended = False
    for row in rows:
        if empty(row.get(guess.target)):
            unanswered += 1
            continue
        exact = (*(text_of(row.get(name)) for name in guess.inputs), text_of(row[guess.target]))
        if distinct and exact in seen:
            doubles += 1
            continue
        if distinct:
            seen.add(exact)
        blank = {name: "" for name in guess.inputs if not isinstance(row.get(name), str) and empty(row.get(name))}
        mended = mended or bool(blank)
        kept.append({**row, **blank})
    return Table(kept, unanswered, doubles, mended or unanswered > 0)


def split(table: Table, guess: Guess, seed: int) -> tuple[list[Row], list[Row]]:
    """Train and test rows, each in the order of the file.

    Rows with the same key go to the same side. Two fifths are train rows, a thousand at the most, drawn from each label
    by its share; a label with two different inputs or more stands on both sides.

    Raises:
        DataError: too few rows, or too few different inputs.
    """
    if len(table.rows) < FEWEST:
        different = "different " if table.doubles else ""
        what = f"has {len(table.rows)} {different}rows with an answer; a task needs {FEWEST} at least"
        raise DataError(f"{what}, to show some and to test on others")
    groups: dict[Key, list[int]] = defaultdict(list)
    strata: dict[str, list[Key]] = defaultdict(list)
    for index, row in enumerate(table.rows):
        key = key_of(row, guess)
        if key not in groups:
            strata[text_of(row[guess.target]) if guess.kind == "labels" else ""].append(key)
        groups[key].append(index)
    if len(groups) < 2:
        raise DataError("every row has the same input; there is nothing to tell the answers by")
    taken = _drawn(strata, groups, len(table.rows), random.Random(seed))
    train = [row for index, row in enumerate(table.rows) if index in taken]
    return train, [row for index, row in enumerate(table.rows) if index not in taken]


def _drawn(strata: Mapping[str, list[Key]], groups: Mapping[Key, list[int]], rows: int, rng: random.Random) -> set[int]:
    """The train split's rows."""
    total = min(MOST_TRAIN, max(1, round(TRAIN_SHARE * rows)))
    sizes = {label: sum(len(groups[key]) for key in keys) for label, keys in strata.items()}
    share = {label: max(1, math.floor(total * size / rows)) for label, size in sizes.items()}
    while sum(share.values()) > MOST_TRAIN:
        share[max(share, key=lambda label: share[label])] -= 1
    chosen: list[Key] = []
    for label in sorted(strata):
        chosen += _filled(rng.sample(strata[label], len(strata[label])), share[label], groups)
    left = groups.keys() - set(chosen)
    if not chosen or not left:
        # All labels have one input each: one of them has to stand on the other side.
        moved = rng.choice([key for key in groups if key in left] or chosen)
        chosen = [moved] if not chosen else [key for key in chosen if key != moved]
    return {index for key in chosen for index in groups[key]}


def _filled(keys: Sequence[Key], share: int, groups: Mapping[Key, list[int]]) -> list[Key]:
    """As many of a label's inputs, in the order drawn, as its share has room for; at least one stays for the test."""
    chosen: list[Key] = []
    room = share
    for key in keys:
        if len(groups[key]) <= room and len(chosen) < max(1, len(keys) - 1):
            chosen.append(key)
            room -= len(groups[key])
    if not chosen and len(keys) > 1:
        chosen = [min(keys, key=lambda key: len(groups[key]))]
    return chosen


def one_sided(test: Sequence[Row], target: str) -> bool:
    """Whether the first rows have other labels than the rest, as in a file that is sorted by its labels."""
    labels = [text_of(row[target]) for row in test]
    first, whole = Counter(labels[:LIMIT]), Counter(labels)
    expected = {label: LIMIT * count / len(labels) for label, count in whole.items()}
    missing = any(count >= 8 and not first[label] for label, count in expected.items())
    apart = sum(abs(first[label] - count) for label, count in expected.items()) / (2 * LIMIT)
    return missing or apart > 0.4


class Most(NamedTuple):
    """How many demonstrations a train split can give: different ones, and as many of each label."""

    different: int
    balanced: int


def most_demonstrations(train: Sequence[Row], guess: Guess) -> Most:
    """The most demonstrations that the train split can give, whatever the seed.

    An input that stands with two labels counts for neither, since the seed decides which of the two is drawn.
    """
    labels: dict[Key, set[str]] = defaultdict(set)
    for row in train:
        labels[key_of(row, guess)].add(text_of(row[guess.target]))
    known = {label for several in labels.values() for label in several}
    clear = Counter(next(iter(several)) for several in labels.values() if len(several) == 1)
    return Most(len(labels), len(known) * min(clear[label] for label in known))
