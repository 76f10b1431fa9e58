"""Guessing a task from a table: which field is the answer, of what kind it is, and which fields a model should see.

What values look like is `column.py`, how rows are split `split.py`, how the guess becomes a task file `text.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_engine.errors import DataError, bounded, did_you_mean
from icl_engine.starter.column import (
    ENOUGH,
    IDS,
    Column,
    Kind,
    decides,
    holds_lists,
    in_order,
    is_id,
    kind_of,
    words_of,
)

TIERS = (
    frozenset({"label", "labels", "target", "targets", "gold", "y", "class", "classes"}),
    frozenset(
        {"answer", "answers", "sentiment", "emotion", "intent", "output", "outputs", "summary", "translation"}
        | {"completion", "response"}
    ),
    frozenset({"category", "topic", "tag", "tags", "genre", "rating", "stars"}),
)
"""Names that answers have, the surest first; in a tier the last field wins, since answers stand last.

The last tier's are as often the names of inputs (a topic to write on): there the values have to look like labels.
"""

REASONS = frozenset(
    {"rationale", "explanation", "reasoning", "cot", "thought", "thoughts", "justification", "solution"}
)
SPLITS = frozenset({"split", "fold"})

EMPTY = "empty"
CONSTANT = "always the same"
ID_NAME = "an id, by its name"
ID_VALUES = "unique numbers or ids"
SPLIT = "names a split"
REASON = "gives the answer's reasons"
TELLS = "tells the answer"


@dataclass(frozen=True)
class Guess:
    """What was guessed of a table.

    Args:
        target: the answer's field.
        why: how it was found.
        kind: what the answers are.
        labels: label -> how many rows have it, in the order they are listed; empty for other kinds.
        inputs: the fields shown to the model.
        lists: those of them whose values are lists.
        left_out: the other fields, and why they are not shown.
    """

    target: str
    why: str
    kind: Kind
    labels: Mapping[str, int]
    inputs: tuple[str, ...]
    lists: frozenset[str]
    left_out: Mapping[str, str]


def likely_target(table: Sequence[Column]) -> tuple[Column, str]:
    """The field that looks most like the answer, and why: by its name, else the last with labels, else the last.

    >>> from icl_engine.starter.column import columns
    >>> rows = [{"text": f"film {i}", "gold_label": "ab"[i % 2], "id": i} for i in range(9)]
    >>> found, why = likely_target(columns(rows))
    >>> found.name, why
    ('gold_label', 'by its name')
    """
    usable = [column for column in table if len(column.counts) > 1] or list(table)
    # A field called label that never changes is told as a mistake rather than passed over.
    named = _named(usable) or _named([column for column in table if column.counts])
    if named is not None:
        twin = _named_labels(named, usable)
        return (named, "by its name") if twin is None else (twin, f"the names of {bounded(named.name, 60)}")
    answers = [column for column in usable if not is_id(column)] or usable
    labelled = [column for column in answers if kind_of(column) == "labels"]
    return (labelled[-1], "the last field with labels") if labelled else (answers[-1], "the last field")


def _named(usable: Sequence[Column]) -> Column | None:
    for names in TIERS:
        for fits in (lambda words: len(words) == 1, bool):
            found = [c for c in usable if fits(w := words_of(c.name)) and w[-1] in names]
            sure = found if names is not TIERS[-1] else [c for c in found if kind_of(c) in ("labels", "json")]
            if sure:
                return sure[-1]
    return None


def _named_labels(coded: Column, usable: Sequence[Column]) -> Column | None:
    """The field that holds the names of another's numbers (label and label_text): names say more to a model."""
    if kind_of(coded) != "labels" or not coded.numeric:
        return None
    akin = [c for c in usable if c is not coded and set(words_of(c.name)) & set(words_of(coded.name))]
    worded = [c for c in akin if kind_of(c) == "labels" and not c.numeric]
    return next((c for c in worded if decides(c, coded) and decides(coded, c)), None)


def guess(table: Sequence[Column], target: str, why: str, file: Path | None = None) -> Guess:
    """What a task over the table looks like, its answer's field given.

    Args:
        table: the columns.
        target: the answer's field.
        why: how it was found.
        file: the table's file, for errors.

    Raises:
        DataError: there is no such field, it has nothing to predict, or no other field is left to predict it from.
    """
    if len(table) < 2:
        name = f" ({bounded(table[0].name, 60)})" if table else ""
        raise DataError(f"has one field{name}; a task needs an input and an answer", file=file)
    answer = next((column for column in table if column.name == target), None)
    if answer is None:
        near = did_you_mean(target, (column.name for column in table))
        raise DataError(f"there is no field {bounded(target, 60)!r}{bounded(near)}", file=file)
    _check_answer(answer, file)
    kind = kind_of(answer)
    left_out = {c.name: reason for c in table if c is not answer and (reason := _no_input(c, answer, kind))}
    shown = [column for column in table if column is not answer and column.name not in left_out]
    if not shown:
        shown = _brought_back(table, left_out, answer, file)
    return Guess(
        target,
        why,
        kind,
        {label: answer.counts[label] for label in in_order(answer.counts)} if kind == "labels" else {},
        tuple(column.name for column in shown),
        frozenset(column.name for column in shown if holds_lists(column)),
        {name: reason for name, reason in left_out.items() if name not in {column.name for column in shown}},
    )


def _check_answer(answer: Column, file: Path | None) -> None:
    name = bounded(answer.name, 60)
    if not answer.counts:
        raise DataError(f"the field {name!r} is empty in every row; name the answer's field with --target", file=file)
    if len(answer.counts) == 1:
        (only,) = answer.counts
        what = f"every row has the same answer {bounded(only, 60)!r} in {name!r}; there is nothing to predict"
        raise DataError(f"{what} (another field: --target)", file=file)


def _no_input(column: Column, answer: Column, kind: Kind) -> str | None:
    """Why a field is not shown to the model; None where it is."""
    rows, words = len(column.values), words_of(column.name)
    if column.filled < 0.05 * rows:
        return f"{EMPTY} in {100 * (rows - column.filled) / rows:.0f}% of the rows" if column.filled else EMPTY
    if len(column.counts) == 1 and column.filled == rows:
        return CONSTANT
    if is_id(column):
        return ID_NAME if words and words[-1] in IDS else ID_VALUES
    if words and (words[-1] in REASONS or words[:3] == ["chain", "of", "thought"]):
        return REASON
    if words and words[-1] in SPLITS:
        return SPLIT
    return TELLS if kind == "labels" and _tells(column, answer) else None


def _tells(column: Column, answer: Column) -> bool:
    """Whether a field is the label in other words (label_id, fine_label): one that no query would come with."""
    if len(column.counts) > max(2, column.filled // 3) or not decides(column, answer):
        return False
    words = set(words_of(column.name))
    if words & set(words_of(answer.name)):
        return True
    return len(column.values) >= ENOUGH and (bool(words & frozenset().union(*TIERS)) or decides(answer, column))


def _brought_back(
    table: Sequence[Column], left_out: Mapping[str, str], answer: Column, file: Path | None
) -> list[Column]:
    """The least doubtful of the fields that were left out, since without any there is no task."""
    for reason in (ID_VALUES, ID_NAME, REASON, TELLS, SPLIT):
        found = [column for column in table if left_out.get(column.name) == reason]
        if found:
            return found
    what = f"no field is left to predict {bounded(answer.name, 60)!r} from"
    raise DataError(f"{what}: {bounded(', '.join(f'{n} is {r}' for n, r in left_out.items()))}", file=file)
