"""`icl run`: the main job."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_engine.console.options import ModelOption, SetOption, TaskArgument, loaded

if TYPE_CHECKING:
    from rich.console import Console

    from icl_engine.config.load import Loaded
    from icl_engine.engine.run import Progress, RunResult


SELDOM = 30.0
"""Seconds after which progress is told where less than a tenth was done."""


def run(
    task: TaskArgument,
    model: ModelOption = None,
    sets: SetOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run directory.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N rows.")] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Write a program with all that was learned (*.icl.json)."),
    ] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="Print the confusion matrix, and coverage against accuracy.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask everything anew, keep nothing.")] = False,
) -> None:
    """Predict every test row, score, and write a run directory. Run again to resume."""
    from icl_engine.engine.run import run_loaded

    found = loaded(task, model, sets)
    # What was loaded stays until the end, and rows leave no cycles: looking for some takes a tenth of a fast run.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with Bar(notes(found)) as bar:
        result = run_loaded(
            found, limit=limit, out=out, cache=False if no_cache else None, save=save, progress=bar.update
        )
    print_result(result, tables=tables, abstains=any(step.decides for step in found.task.output))
    if result.failed > found.task.run.failures(result.summary["examples"]):
        count = "1 example" if result.failed == 1 else f"{result.failed} examples"
        print(f"{count} failed; run again to retry", file=sys.stderr)
        raise typer.Exit(3)


def notes(found: Loaded) -> list[str]:
    """What the user should know before the run."""
    model = found.task.model
    reads_scores = any(step.use == "verbalizer" for step in found.task.output) and not found.task.input.answer
    if model.api == "completions" and not model.stop and model.use != "replay" and not reads_scores:
        return ["no model.stop is set; a base model runs on after its answer, to max_tokens"]
    return []


class Bar:
    """Progress on standard error: a bar on a terminal; elsewhere now and then a line of JSON, as machines read it."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._live = sys.stderr.isatty() and sys.stdout.isatty()
        self._said, self._at = 0, time.monotonic()

    def __enter__(self) -> Bar:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._row = self._bar.add_task("", total=None, note="")
        return self

    def update(self, p: Progress) -> None:
        """Show how far the run is; before that, once, what the user should know."""
        while self._notes:
            print(f"note: {self._notes.pop(0)}", file=sys.stderr)
        if self._live:
            self._bar.update(self._row, completed=p.done, total=p.total, note=told(p))
        elif p.done == p.total or p.done * 10 // p.total > self._said or time.monotonic() - self._at > SELDOM:
            self._said, self._at = p.done * 10 // p.total, time.monotonic()
            print(json.dumps(asdict(p)), file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bar.stop()


def told(p: Progress) -> str:
    """The figures beside the bar."""
    parts = [f"{p.rate:,.1f} rows/s", f"{p.paid:,} asked", f"{p.cached:,} cached", f"{p.tokens:,} tokens"]
    if p.cost_usd:
        parts.append(f"${p.cost_usd:,.4f}")
    if p.retries:
        parts.append(f"{p.retries:,} retries")
    if p.failed:
        parts.append(f"{p.failed:,} failed")
    if p.eta is not None and p.done < p.total:
        parts.append(f"{timedelta(seconds=round(p.eta))} to go")
    return " · ".join(parts)


def print_result(result: RunResult, *, tables: bool, abstains: bool) -> None:
    """Print a run's figures.

    Args:
        result: the run.
        tables: with the tables that are not always printed.
        abstains: whether the task withholds answers, so that coverage is told.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    s = result.summary
    table = Table(box=box.SIMPLE_HEAD, title=f"{s['task']} · {s['model']}", title_justify="left")
    for column in ("metric", "value", "95% interval", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, score in result.metrics.items():
        low, high = score.ci95
        table.add_row(name, f"{score.value:.4f}", f"{low:.4f} – {high:.4f}", str(score.n))
    u = s["usage"]
    out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    if result.metrics:
        out.print(table)
    _beside(out, s, tables=tables, abstains=abstains)
    abstained = f"{s['abstained']} abstained, " if s["abstained"] else ""
    out.print(
        f"{s['examples']} examples, {s['unparsed']} unparsed, {abstained}{s['failed']} failed · "
        f"{u['requests']} requests ({u['paid']} paid, {u['cached']} cached) · "
        f"{u['prompt_tokens']} prompt tokens, {u['completion_tokens']} completion tokens · {s['seconds']} s",
        markup=False,
    )
    scoring = s["scoring"]
    if scoring["bounded"]:
        out.print(f"{scoring['bounded']} of the label distributions hold a bound, not an exact figure", markup=False)
    if s["calibration"]:
        out.print(s["calibration"], markup=False)
    out.print(str(result.path), markup=False)


def _beside(out: Console, summary: Mapping[str, Any], *, tables: bool, abstains: bool) -> None:
    """The tables that were asked for, and those that say what a step of the task has done."""
    from icl_engine.console.tables import print_confusion, print_coverage, print_slices

    if "slices" in summary:
        print_slices(out, summary["slices"])
    if tables and "confusion" in summary:
        print_confusion(out, summary["confusion"])
    if (tables or abstains) and "coverage" in summary:
        print_coverage(out, summary["coverage"])
