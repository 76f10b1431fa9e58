"""Tables of a run beside its metrics: which labels were taken for which, what is right where it is sure, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icl_engine.errors import bounded
from icl_engine.metrics.label import OTHERS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Record = Mapping[str, Any]

LABELS = 12
"""Labels of a confusion matrix that are shown; the rest are added up."""

VALUES = 20
"""Slices of a field that are shown."""

WIDTH = 24
"""Characters of a label that are shown."""

ACROSS = 72
"""Characters that the labels above a table share."""

WIDEST = 1000
"""Characters across, more than any table has."""


def print_confusion(out: Console, record: Record) -> None:
    """The confusion matrix as `Confusion.record` gives it: a row for each target."""
    labels, counts, unread = _folded(record["labels"], record["counts"], record["unread"])
    if not labels:
        return
    silent = any(unread)
    narrow = max(6, min(WIDTH, ACROSS // len(labels)))
    above = [_shown(label, narrow) for label in labels]
    table = _table(_shown("target \\ prediction"), [*above, *([_shown("no answer")] if silent else [])])
    for label, row, without in zip(labels, counts, unread, strict=True):
        table.add_row(_shown(label), *(f"{count:,}" for count in (*row, *([without] if silent else []))))
    _print(out, table)


def print_coverage(out: Console, record: Record) -> None:
    """The coverage-accuracy table as `Coverage.record` gives it."""
    lines = {(line["n"], line["threshold"]): line for line in (*record["rows"], *record["thresholds"])}
    if not lines:
        return
    columns = ("where p ≥", "accuracy", "95% interval", "n")
    table = _table(_shown("answered"), [_shown(column) for column in columns])
    for line in sorted(lines.values(), key=lambda line: -line["n"]):
        where = "" if line["threshold"] is None else f"{line['threshold']:.4f}"
        right = "" if line["accuracy"] is None else f"{line['accuracy']:.4f}"
        share = "" if line["coverage"] is None else f"{line['coverage']:.0%}"
        table.add_row(share, where, right, _interval(line["ci95"]), f"{line['n']:,}")
    _print(out, table)
    if record["aurc"] is not None:
        out.print(f"area under the risk-coverage curve {record['aurc']:.4f} (lower is better)", markup=False)


def print_slices(out: Console, record: Record) -> None:
    """Each field's metrics by its values as `Slices.record` gives them."""
    for field, values in record.items():
        if not values:
            continue
        metrics = list(next(iter(values.values())))
        columns = [column for metric in metrics for column in (metric, "95% interval")]
        table = _table(_shown(field), [_shown(column) for column in (*columns, "n")])
        for value, found in list(values.items())[:VALUES]:
            cells = [cell for m in metrics for cell in (f"{found[m]['value']:.4f}", _interval(found[m]["ci95"]))]
            table.add_row(_shown(value), *cells, f"{max((found[m]['n'] for m in metrics), default=0):,}")
        _print(out, table)
        if len(values) > VALUES:
            out.print(f"and {len(values) - VALUES} more in summary.json", markup=False)


def _table(first: Text, rest: Sequence[Text]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, justify="left", no_wrap=True)
    for column in rest:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _print(out: Console, table: Table) -> None:
    """Print a table as wide as it is, whatever the terminal's width: a figure that is cut off is another figure."""
    from rich.console import Console

    Console(file=out.file, width=WIDEST, highlight=False, soft_wrap=True).print(table)


def _shown(label: str, width: int = WIDTH) -> Text:
    """A label as a cell: on one line, short, nothing in it a command to a terminal or to rich."""
    from rich.text import Text

    return Text(bounded(label, width))


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4f} – {ends[1]:.4f}"


def _folded(
    labels: Sequence[str], counts: Sequence[Sequence[int]], unread: Sequence[int]
) -> tuple[list[str], list[list[int]], list[int]]:
    """The first labels, the rest as one."""
    if len(labels) <= LABELS + (OTHERS in labels):
        return list(labels), [list(row) for row in counts], list(unread)
    folded = [[*row[:LABELS], sum(row[LABELS:])] for row in counts]
    rest = [sum(column) for column in zip(*folded[LABELS:], strict=True)]
    return [*labels[:LABELS], OTHERS], [*folded[:LABELS], rest], [*unread[:LABELS], sum(unread[LABELS:])]
