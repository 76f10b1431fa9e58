"""`compare`: finished runs over the same rows, each metric they share, paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from icl_engine.alignment.text import text_of
from icl_engine.engine.records import Record, cluster_of
from icl_engine.errors import DataError, TaskError, bounded
from icl_engine.metrics.compare import Comparison, compare, holm
from icl_engine.metrics.tally import Tally
from icl_engine.protocols import Metric
from icl_engine.registry import resolve
from icl_engine.types import Score

READ = {"id", "inputs", "prediction", "status", "target"}
"""What is read of a line of `predictions.jsonl`."""
UNFINISHED = "the run has not come to its end; run it again to finish it"


@dataclass(frozen=True)
class FinishedRun:
    """A run directory.

    Args:
        path: where it is.
        manifest: its `manifest.json`.
        metrics: name -> metric, as its task says.
        examples: how many rows it has, by its summary.
    """

    path: Path
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    examples: int

    @property
    def cluster(self) -> str | None:
        """The field that rows drawn together share."""
        field = self.manifest["task"]["data"].get("cluster")
        return None if field is None else str(field)

    @property
    def seed(self) -> int:
        """The seed of its intervals."""
        return int(self.manifest["seed"])

    def rows(self) -> Iterator[Record]:
        """The lines of `predictions.jsonl`."""
        path = self.path / "predictions.jsonl"
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    row = orjson.loads(line)
                    if not isinstance(row, dict) or not row.keys() >= READ:
                        raise DataError("is no prediction; run it again", file=path, line=number)
                    yield row
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}; run it again", file=path) from error
        except orjson.JSONDecodeError as error:
            raise DataError("is cut off or damaged; run it again", file=path, line=number) from error


@dataclass(frozen=True)
class Pair:
    """One metric, two runs.

    Args:
        metric: its name.
        a: the place of the first run among those compared.
        b: the place of the second.
        best: the metric's value of a perfect run.
        result: B against A.
        p_holm: p adjusted for the number of pairs (Holm 1979).
        worst: the other end of the metric's scale.
    """

    metric: str
    a: int
    b: int
    best: float
    result: Comparison
    p_holm: float
    worst: float = 0.0

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at the 5% level."""
        return self.p_holm < 0.05

    @property
    def lower(self) -> bool:
        """Whether lower is better."""
        return self.best < self.worst


@dataclass(frozen=True)
class Compared:
    """Runs and how they differ.

    Args:
        runs: in the order given.
        n: rows.
        clusters: groups of rows that were drawn together; None where rows are independent.
        scores: for each run, metric -> score.
        failed: for each run, rows that got no answer (they count as wrong).
        pairs: each metric and each pair of runs.
    """

    runs: tuple[FinishedRun, ...]
    n: int
    clusters: int | None
    scores: tuple[Mapping[str, Score], ...]
    failed: tuple[int, ...]
    pairs: tuple[Pair, ...]


def compare_runs(paths: Sequence[str | Path], *, every_pair: bool = False, seed: int = 0) -> Compared:
    """Compare finished runs with the first of them, metric by metric.

    Args:
        paths: run directories.
        every_pair: compare each with each, not only with the first.
        seed: of the resampling.

    Raises:
        TaskError: not a finished run, not the same rows, or no metric in common.
    """
    if len(paths) < 2:
        raise TaskError("takes two run directories or more", key="compare")
    runs = tuple(_finished(Path(path)) for path in paths)
    shared = [m for m in runs[0].metrics if all(run.metrics.get(m) == runs[0].metrics[m] for run in runs)]
    if not shared:
        listed = "; ".join(f"{run.path}: {', '.join(run.metrics) or 'none'}" for run in runs)
        raise TaskError(f"the runs have no metric in common ({bounded(listed)})", key="compare")
    counted = _counted(runs, shared)
    places = list(combinations(range(len(runs)), 2)) if every_pair else [(0, b) for b in range(1, len(runs))]
    return Compared(
        runs=runs,
        n=counted.n,
        clusters=len(counted.clusters) if counted.clusters else None,
        scores=tuple({m: tallies[m].score() for m in shared} for tallies in counted.tallies),
        failed=tuple(counted.failed),
        pairs=tuple(pair for m in shared for pair in _pairs(m, runs[0].metrics[m], counted, places, seed)),
    )


@dataclass
class _Counts:
    """What one pass over the runs' rows, side by side, has counted."""

    tallies: list[dict[str, Tally]]
    verdicts: dict[str, dict[tuple[int, int], list[int]]]
    failed: list[int]
    clusters: set[str]
    n: int = 0

    def add(self, rows: Sequence[Record], metrics: Sequence[str], cluster: str | None) -> None:
        """Count one row of each run."""
        self.n += 1
        if cluster is not None:
            self.clusters.add(cluster)
        for i, row in enumerate(rows):
            self.failed[i] += row["status"] == "failed"
        for m in metrics:
            own = [
                t[m].add(row["prediction"], row["target"], cluster, row.get("distribution"))
                for t, row in zip(self.tallies, rows, strict=True)
            ]
            for (a, b), counts in self.verdicts[m].items():
                counts[0] += own[a] == 1.0 and own[b] == 0.0
                counts[1] += own[b] == 1.0 and own[a] == 0.0


def _counted(runs: Sequence[FinishedRun], metrics: Sequence[str]) -> _Counts:
    everyone = list(combinations(range(len(runs)), 2))
    counts = _Counts(
        tallies=[{m: Tally(run.metrics[m], run.seed) for m in metrics} for run in runs],
        verdicts={m: {pair: [0, 0] for pair in everyone} for m in metrics},
        failed=[0] * len(runs),
        clusters=set(),
    )
    fields = {run.cluster for run in runs}
    field = fields.pop() if len(fields) == 1 else None
    if fields:
        raise TaskError("the runs' tasks differ in data.cluster; run both with the same", key="compare")
    for index, rows in enumerate(zip_longest(*(run.rows() for run in runs))):
        _same(runs, rows, index)
        counts.add(rows, metrics, cluster_of(rows[0]["inputs"], field))
    for run in runs:
        if run.examples != counts.n:
            raise TaskError(UNFINISHED, file=run.path)
    return counts


def _same(runs: Sequence[FinishedRun], rows: Sequence[Record | None], index: int) -> None:
    """Refuse rows that are not the same example: a paired test of different rows means nothing."""
    for run, row in zip(runs, rows, strict=True):
        if row is None:
            lengths = ", ".join(f"{r.path} has {sum(1 for _ in r.rows())}" for r in runs)
            raise TaskError(
                f"not the same rows: {lengths}; run them with the same data and the same limit", key="compare"
            )
        first = rows[0]
        assert first is not None
        if (row["id"], _values(row)) != (first["id"], _values(first)):
            raise TaskError(
                f"not the same rows: row {index} is {row['id']!r} in {run.path} and {first['id']!r} in {runs[0].path}"
                + ("" if row["id"] != first["id"] else ", with other fields"),
                key="compare",
            )
        if _target(row) != _target(first):
            raise TaskError(
                f"not the same rows: the target of row {index} is {bounded(text_of(row['target']), 60)!r} in {run.path}"
                f" and {bounded(text_of(first['target']), 60)!r} in {runs[0].path}",
                key="compare",
            )


def _target(row: Record) -> str:
    """A row's target, whatever reader wrote it down: typed spans without their places, in any order."""
    target = row["target"]
    if not isinstance(target, list) or not all(isinstance(span, dict) and "text" in span for span in target):
        return text_of(target)
    spans = ({k: v for k, v in span.items() if k not in ("start", "end")} for span in target)
    return text_of(sorted(map(text_of, spans)))


def _values(row: Record) -> list[str]:
    """A row's fields, whatever the task calls them."""
    return sorted(map(text_of, row["inputs"].values()))


def _pairs(name: str, metric: Metric, counted: _Counts, places: Sequence[tuple[int, int]], seed: int) -> list[Pair]:
    found = []
    for a, b in places:
        tally_a, tally_b = counted.tallies[a][name], counted.tallies[b][name]
        only_a, only_b = counted.verdicts[name][a, b]
        verdicts = (only_a, only_b) if tally_a.verdicts and tally_b.verdicts else None
        result = compare(tally_a, tally_b, verdicts, seed=seed)
        found.append(Pair(name, a, b, metric.best, result, result.p, metric.worst))
    adjusted = holm([pair.result.p for pair in found])
    return [replace(pair, p_holm=p) for pair, p in zip(found, adjusted, strict=True)]


def _finished(path: Path) -> FinishedRun:
    """A run directory, opened.

    Raises:
        TaskError: it is none, or the run has not come to its end.
    """
    if not path.is_dir() or not (path / "manifest.json").is_file():
        raise TaskError("is not a run directory; give one that `icl run` wrote (runs/<name>/<fingerprint>)", file=path)
    if not (path / "summary.json").is_file():
        raise TaskError(UNFINISHED, file=path)
    try:
        manifest = orjson.loads((path / "manifest.json").read_bytes())
        examples = int(orjson.loads((path / "summary.json").read_bytes())["examples"])
        specs = manifest["task"]["metrics"]
        found = [resolve("metric", spec["use"]).model_validate(spec) for spec in specs]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(f"cannot be read: {bounded(str(error))}", file=path / "manifest.json") from error
    for metric in found:
        metric.check()
    return FinishedRun(path, manifest, {metric.title: metric for metric in found}, examples)
