"""`icl rescore`: stored answers, aligned anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl_engine.console.options import SetOption, TaskArgument, settings

if TYPE_CHECKING:
    from icl_engine.engine.rescore import Changes


def rescore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The run directory whose answers are read anew.")],
    task: TaskArgument,
    sets: SetOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR2", help="The new run directory.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N rows.")] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="Print the confusion matrix, and coverage against accuracy.")
    ] = False,
) -> None:
    """Align the stored answers of a run as a task says. Neither the model nor its key is needed."""
    from icl_engine.console.run import Bar, print_result
    from icl_engine.engine.rescore import rescore

    with Bar([]) as bar:
        result = rescore(directory, task, limit=limit, out=out, settings=settings(sets), progress=bar.update)
    print_result(result, tables=tables, abstains=result.summary["abstained"] > 0)
    print(told(result.changes, directory))
    if result.failed > result.allowed:
        count = f"{result.failed} row{'s' * (result.failed != 1)}"
        print(f"no answer is stored for {count}; run {directory}'s task again, then this", file=sys.stderr)
        raise typer.Exit(3)


def told(changes: Changes, source: Path) -> str:
    """What changed against the run, in a sentence."""
    if not changes.rows:
        return f"{source} has no predictions of these rows to compare with"
    judged = f": {changes.gained} right now, {changes.lost} no longer" if changes.gained or changes.lost else ""
    return f"{changes.changed} of {changes.rows} predictions differ from {source}{judged}"
