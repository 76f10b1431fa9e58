"""`run`: every row of a task through the pipeline, judged, and written to a run directory. Resume is a rerun."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from icl_engine.config.load import PROGRAM, Loaded, TaskLike, build, load_task
from icl_engine.engine.directory import claimed
from icl_engine.engine.engine import Engine
from icl_engine.engine.plan import affordable
from icl_engine.engine.progress import Progress
from icl_engine.engine.records import Record
from icl_engine.engine.survey import survey
from icl_engine.errors import InterruptedRunError, TaskError
from icl_engine.types import Example, Score

__all__ = ["Progress", "RunResult", "run", "run_loaded"]


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        path: the run directory.
        metrics: name -> score.
        summary: what `summary.json` holds.
    """

    path: Path
    metrics: Mapping[str, Score]
    summary: Mapping[str, Any]

    @property
    def predictions(self) -> list[Record]:
        """The lines of `predictions.jsonl`, in data order."""
        return list(_lines(self.path / "predictions.jsonl"))

    @property
    def failed(self) -> int:
        """How many examples got no answer."""
        return int(self.summary["failed"])


def run(
    task: TaskLike,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    model: str | Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    cache: bool | None = None,
    save: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Run a task over its test rows.

    Args:
        task: a task file, a saved program, a shipped task's name, or a mapping.
        limit: only the first rows.
        out: the run directory; by default ``runs/<name>/<fingerprint>``.
        model: stands in for the task's model.
        settings: task paths and values, as ``--set``.
        cache: false asks everything anew and keeps nothing.
        save: where a frozen program is written at the end, with all that was learned: demonstrations, fits, p̄.
        progress: called as rows are done, at most ten times a second, and when all are.
        stop: asked before a row is begun; true ends the run as an interrupt does.

    Raises:
        TaskError, EndpointError: nothing was paid, nothing is half-written.
        BudgetError, FailuresError: stopped by a cap of the task; what was answered is kept.
        StorageError: what was answered can no longer be written down.
        InterruptedRunError: stopped by the user; running again goes on from there.
    """
    loaded = load_task(task, settings=settings, model=model)
    return run_loaded(loaded, limit=limit, out=out, cache=cache, save=save, progress=progress, stop=stop)


def run_loaded(
    loaded: Loaded,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    cache: bool | None = None,
    save: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """`run` for a task that has been loaded."""
    if save is not None:
        _check_program(Path(save))
    pipeline = build(loaded, cache=cache is not False)
    limit = limit if limit is not None else loaded.task.run.limit
    with pipeline, loaded.document.placing():
        price = affordable(loaded)
        total = survey(loaded, pipeline, limit)
        path = Path(out) if out is not None else Path("runs") / loaded.task.name / loaded.fingerprint
        with claimed(path, loaded.fingerprint):
            engine = Engine(loaded, pipeline, path, total, price, progress, stop or (lambda: False))
            scores, summary = finished(engine, islice(loaded.test(need_target=False), total))
        if save is not None:
            pipeline.save(save)
    return RunResult(path, scores, summary)


def finished(engine: Engine, rows: Iterator[Example]) -> tuple[Mapping[str, Score], Mapping[str, Any]]:
    """Wait for a run. The first interrupt lets what is in flight come home; a second one does not wait."""
    future = engine.pipeline.submit(engine.run(rows))
    try:
        return future.result()
    except KeyboardInterrupt:
        engine.stop = lambda: True
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise InterruptedRunError("interrupted; run the same again to go on from here") from None


def _check_program(path: Path) -> None:
    """See that a program can be written there, before anything is paid for."""
    if not path.name.endswith(PROGRAM):
        raise TaskError(f"a saved program's name ends in {PROGRAM}", file=path, key="--save")
    if not path.absolute().parent.is_dir():
        raise TaskError("there is no such folder", file=path.absolute().parent, key="--save")


def _lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from map(orjson.loads, file)
