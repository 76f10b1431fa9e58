"""`icl audit`: what a run could not read, and where two ways to read disagree."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from icl_engine.engine.audit import Audit
    from icl_engine.engine.corrected import Corrected
    from icl_engine.engine.second import Second
    from icl_engine.engine.shapes import Shape

SHAPES = 20
"""Shapes that are printed."""

OTHERS = 6
"""Other ways to read that are printed."""


def audit(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The run directory.")],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="TASK", help="Read the same answers as this task does. Repeatable."),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", min=0, max=1000, help="Rows shown of each disagreement.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List a run's unread answers by shape, and the rows that another way to read takes for something else."""
    import orjson

    from icl_engine.engine.audit import audit

    found = audit(directory, against=against or (), examples=examples)
    if as_json:
        sys.stdout.write(orjson.dumps(found.record(), option=orjson.OPT_INDENT_2, default=str).decode() + "\n")
        return
    for line in lines(found):
        print("".join(c if c.isprintable() else "\ufffd" for c in line))  # no command of an answer to the terminal


def lines(found: Audit) -> Iterator[str]:
    """The audit as text."""
    counts = ", ".join(f"{n} {status}" for status, n in sorted(found.status.items()))
    capped = f" · {found.capped} too long, of which the ends were read" if found.capped else ""
    yield f"{found.task} · {found.model} · {' → '.join(found.output)}"
    yield f"{found.rows} rows: {counts}{capped}"
    unread = found.status["unparsed"]
    if unread:
        yield ""
        yield f"{unread} unparsed ({unread / found.rows:.1%}), by shape"
        for each in found.shapes[:SHAPES]:
            yield from _shape(each, unread)
        if len(found.shapes) > SHAPES:
            yield f"  and {len(found.shapes) - SHAPES} more shapes (--json)"
    for held in found.withheld[:1]:
        yield ""
        yield f"{found.status['abstained']} abstained, as row {held['id']!r}: {held['why']}"
    for error, n in found.errors.most_common(SHAPES):
        yield f"{n} failed: {error}"
    yield from _others(found.others)
    for step in found.corrected:
        yield ""
        yield from _corrected(step)


def _shape(found: Shape, unread: int) -> Iterator[str]:
    why = next((why for why, _ in found.reasons.most_common(1)), "")
    yield f"  {found.count:>6} ({found.count / unread:.0%})  {found.name}{f'  [{why}]' if why else ''}"
    for row, text in found.examples:
        yield f"          row {row!r}: {text}"


def _others(found: Sequence[Second]) -> Iterator[str]:
    agreeing = [name for other in found if not other.disagreements for name in (other.name, *other.alike)]
    disagreeing = [other for other in found if other.disagreements]
    if found:
        yield ""
        yield "the same text, read by other steps"
    if agreeing:
        yield f"  no row otherwise: {', '.join(agreeing)}"
    for other in disagreeing[:OTHERS]:
        yield from _second(other)
    if len(disagreeing) > OTHERS:
        yield f"  and {len(disagreeing) - OTHERS} more (--json)"


def _second(found: Second) -> Iterator[str]:
    rates = ""
    if found.judged:
        right, own = (n / found.judged for n in (found.right_other, found.right_own))
        rates = f"; right {right:.4f}, the run's steps {own:.4f} (n = {found.judged})"
    sole = f"only it reads {found.only_other}, only the run's steps {found.only_own}"
    name = ", ".join((found.name, *found.alike))
    yield f"  {name}: {found.differ} of {found.both} read otherwise; {sole}{rates}"
    for row in found.examples:
        yield f"      row {row['id']!r} {row['text']}: {_told(row, 'own', 'the run')}, {_told(row, 'other', 'it')}" + (
            f", target {row['target']}" if row["target"] is not None else ""
        )


def _told(row: dict[str, Any], key: str, who: str) -> str:
    return f"{who} {'nothing' if row[key] is None else row[key]}"


def _corrected(found: Corrected) -> Iterator[str]:
    rates = ""
    if found.judged:
        before, after = (n / found.judged for n in (found.right_before, found.right_after))
        rates = f"; right {before:.4f} before, {after:.4f} after (n = {found.judged})"
    yield f"{found.name}: {found.changed} answers changed{rates}"
    for row in found.examples:
        target = f", target {row['target']}" if row["target"] is not None else ""
        yield f"      row {row['id']!r}: {row['before'] or 'nothing'} -> {row['after'] or 'nothing'}{target}"
