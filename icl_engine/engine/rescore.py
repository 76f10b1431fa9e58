"""`rescore`: stored answers aligned anew, without a model call. A run like any other, but for who answers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import orjson

from icl_engine.config.load import Loaded, TaskLike, build, load_task
from icl_engine.engine.directory import claimed
from icl_engine.engine.engine import Engine
from icl_engine.engine.mismatch import fits, unasked
from icl_engine.engine.prices import price_of
from icl_engine.engine.progress import Progress
from icl_engine.engine.records import Record
from icl_engine.engine.run import RunResult, finished
from icl_engine.engine.stored import Stored
from icl_engine.engine.survey import survey
from icl_engine.errors import DataError, TaskError
from icl_engine.paths import cache_dir
from icl_engine.pipeline import Pipeline


@dataclass(frozen=True)
class Changes:
    """How a rescoring's predictions differ from those of the run it rests on.

    Args:
        rows: how many were compared; 0 where the run has no predictions.
        changed: of these, those with another prediction, or another status.
        gained: wrong before, right now.
        lost: right before, wrong now.
    """

    rows: int = 0
    changed: int = 0
    gained: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Rescored(RunResult):
    """A run over stored answers.

    Args:
        changes: against the run they come from.
        allowed: how many rows may be without an answer, by the task.
    """

    changes: Changes = Changes()
    allowed: int = 0


def rescore(
    directory: str | Path,
    task: TaskLike,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Rescored:
    """Align a run's stored answers anew, as a task says; nobody is asked, and neither model nor key need be there.

    The task's prompts are looked up among those of the run. Its model is the run's, whatever the task names.

    Args:
        directory: a run directory; of it, `manifest.json` and `answers.jsonl` are needed.
        task: a task file, a saved program, a shipped task's name, or a mapping.
        limit: only the first rows.
        out: the new run directory; by default ``runs/<name>/<fingerprint>``.
        settings: task paths and values, as ``--set``.
        progress: called as rows are done.
        stop: asked before a row is begun; true ends the work as an interrupt does.

    Raises:
        TaskError: the stored answers are not those to what the task asks.
        InterruptedRunError: stopped by the user.

    >>> from tempfile import TemporaryDirectory
    >>> from icl_engine.engine.run import run
    >>> step = {"use": "regex", "pattern": "(?i)positive|negative"}
    >>> with TemporaryDirectory() as folder:
    ...     plain = {"output": ["identity"]}
    ...     first = run("sentiment", model={"use": "fake"}, settings=plain, limit=8, out=f"{folder}/a")
    ...     again = rescore(first.path, "sentiment", settings={"output": [step]}, out=f"{folder}/b")
    >>> again.summary["usage"]["paid"], again.changes.rows
    (0, 8)
    """
    source = Path(directory)
    manifest = manifest_of(source)
    loaded = rescored_task(source, manifest, task, settings)
    rows, failed = _counted(source)
    with ExitStack() as held:
        stored = Stored(
            source,
            loaded.task.model,
            loaded.identity,
            failed=failed,
            kept=cache_dir() if loaded.task.run.cache else None,
        )
        held.callback(stored.shut)
        pipeline = held.enter_context(_built(loaded, stored))
        held.enter_context(loaded.document.placing())
        limit = _rows(source, stored, rows, limit if limit is not None else loaded.task.run.limit)
        fits(loaded, pipeline, stored, manifest)
        stored.explain = lambda request: unasked(loaded, pipeline, stored, manifest, request)
        total = survey(loaded, pipeline, limit)
        path = Path(out) if out is not None else Path("runs") / loaded.task.name / loaded.fingerprint
        origin = {"path": str(directory), "fingerprint": str(manifest["fingerprint"])}
        if path.resolve() == source.resolve() and rows != total:
            raise TaskError(f"takes {total} rows of this run's, and would replace all; give another --out", file=path)
        with claimed(path, loaded.fingerprint), _workplace(path, source) as place:
            price = price_of(loaded.task.model)
            engine = Engine(loaded, pipeline, place, total, price, progress, stop or (lambda: False), origin)
            scores, summary = finished(engine, islice(loaded.test(need_target=False), total))
            changes = _changes(source, place)
    return Rescored(path, scores, summary, changes, loaded.task.run.failures(total))


def manifest_of(path: Path) -> Mapping[str, Any]:
    """A run's manifest.

    Raises:
        TaskError: it is no run directory.
    """
    if not (path / "manifest.json").is_file():
        raise TaskError("is not a run directory; give one that `icl run` wrote (runs/<name>/<fingerprint>)", file=path)
    try:
        manifest: Mapping[str, Any] = orjson.loads((path / "manifest.json").read_bytes())
        known = {"fingerprint", "endpoint", "task", "seed"} <= manifest.keys() and {"model", "output"} <= set(
            manifest["task"]
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError("cannot be read; run it again", file=path / "manifest.json") from error
    if not known:
        raise DataError("is not the manifest of a run; run it again", file=path / "manifest.json")
    return manifest


def rescored_task(
    source: Path, manifest: Mapping[str, Any], task: TaskLike, settings: Mapping[str, Any] | None = None
) -> Loaded:
    """The task, its model being the run's.

    Raises:
        TaskError: the task's first mistake, or a setting of the model's.
    """
    for key in settings or {}:
        if key.split(".")[0].split("[")[0] == "model":
            raise TaskError(f"the answers of {source} are its model's; to ask another, use icl run", key=f"--set {key}")
    return load_task(task, settings=settings, recorded=manifest)


def _counted(source: Path) -> tuple[int | None, int]:
    """How many rows a run has (None for one that has not come to its end), and how many of them have no answer."""
    try:
        summary = orjson.loads((source / "summary.json").read_bytes())
        return int(summary["examples"]), int(summary["failed"])
    except FileNotFoundError:
        return None, 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("cannot be read; run it again", file=source / "summary.json") from error


def _rows(source: Path, stored: Stored, rows: int | None, limit: int | None) -> int:
    """How many rows to take: no more than were answered."""
    if rows is not None:
        return rows if limit is None else min(rows, limit)
    if stored.rows and limit is not None and limit <= stored.rows:
        return limit
    what = f"the run has not come to its end, {stored.rows} rows are answered; run it again to finish it"
    raise TaskError(what + (f", or rescore with --limit {stored.rows}" if stored.rows else ""), file=source)


def _built(loaded: Loaded, stored: Stored) -> Pipeline:
    """The task's pipeline over stored answers.

    Raises:
        TaskError: the task's parts do not fit together, or the answers are text and scores are needed.
    """
    try:
        pipeline = build(loaded, endpoint=stored)
    except TaskError as error:
        if stored.scored or not _needs_scores(loaded, stored):
            raise
        what = f"needs label scores, and {stored.path.parent} holds text; run the task, or read text"
        raise loaded.document.error(what, ("output",)) from error
    pipeline.cache_folder = None  # what is stored does not go to the cache; vectors are found there all the same
    pipeline.requests_per_minute = pipeline.tokens_per_minute = None
    return pipeline


def _needs_scores(loaded: Loaded, stored: Stored) -> bool:
    """Whether nothing but label scores is amiss."""
    stored.allow(loaded.task.model, scores=True)
    try:
        build(loaded, endpoint=stored).close()
    except TaskError:
        return False
    return True


@contextmanager
def _workplace(path: Path, source: Path) -> Iterator[Path]:
    """Where to write: the run directory; for the run itself a folder beside it, from which its results are moved.

    Raises:
        TaskError: the directory holds a run that asked the model.
    """
    if path.resolve() == source.resolve():
        with tempfile.TemporaryDirectory(prefix=".rescore-", dir=path) as folder:
            yield Path(folder)
            for name in ("predictions.jsonl", "summary.json"):  # what it was asked, and answered, stays as it is
                os.replace(Path(folder) / name, path / name)
        return
    if (path / "manifest.json").exists() and "rescored_from" not in manifest_of(path):
        raise TaskError("holds a run of this task that asked the model; give another --out", file=path)
    yield path


def _changes(source: Path, place: Path) -> Changes:
    """Compare predictions with those of the run, row by row, as far as it has them."""
    old, new = source / "predictions.jsonl", place / "predictions.jsonl"
    rows = changed = gained = lost = 0
    if old.is_file():
        with old.open("rb") as before, new.open("rb") as after:
            for a, b in zip_longest(map(_row, before), map(_row, after)):
                if b is None:
                    break
                if a is None or a.get("id") != b["id"]:
                    return Changes()
                rows += 1
                changed += any(a.get(key) != b[key] for key in ("prediction", "status"))
                gained += a.get("correct") is False and b["correct"] is True
                lost += a.get("correct") is True and b["correct"] is False
    return Changes(rows, changed, gained, lost)


def _row(line: bytes) -> Record | None:
    try:
        found: Record = orjson.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
