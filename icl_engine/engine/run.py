"""`run`: every row of a task through the pipeline, judged, and written to a run directory. Resume is a rerun."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from icl_engine.config.load import Loaded, TaskLike, build, load_task
from icl_engine.driver.budget import Budget
from icl_engine.engine.expected import Expected
from icl_engine.engine.journal import Journal, write_json
from icl_engine.engine.plan import affordable, summed
from icl_engine.engine.prices import FREE, Price
from icl_engine.engine.records import (
    Record,
    answer_records,
    cluster_of,
    line,
    prediction_record,
    reading_of,
    usage_record,
    with_reading,
)
from icl_engine.engine.stream import Stream
from icl_engine.engine.survey import survey
from icl_engine.errors import InterruptedRunError, TaskError
from icl_engine.metrics.tally import Tally
from icl_engine.pipeline import Pipeline
from icl_engine.protocols import Batched, Metric
from icl_engine.types import Example, Exchange, Prediction, Score, Usage


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    paid: int
    cached: int
    retries: int


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
    progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Run a task over its test rows.

    Args:
        task: a task file, a saved program, a shipped task's name, or a mapping.
        limit: only the first rows.
        out: the run directory; by default ``runs/<name>/<fingerprint>``.
        model: stands in for the task's model.
        settings: task paths and values, as ``--set``.
        cache: false asks everything anew and keeps nothing.
        progress: called after each row.

    Raises:
        TaskError, EndpointError: nothing was paid, nothing is half-written.
        InterruptedRunError: stopped by the user; running again goes on from there.
    """
    loaded = load_task(task, settings=settings, model=model)
    return run_loaded(loaded, limit=limit, out=out, cache=cache, progress=progress)


def run_loaded(
    loaded: Loaded,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    cache: bool | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """`run` for a task that has been loaded."""
    pipeline = build(loaded)
    if cache is False:
        pipeline.cache_folder = None
    limit = limit if limit is not None else loaded.task.run.limit
    with pipeline, loaded.document.placing():
        price = affordable(loaded)
        total = survey(loaded, pipeline, limit)
        path = Path(out) if out is not None else Path("runs") / loaded.task.name / loaded.fingerprint
        engine = Engine(loaded, pipeline, path, total, price, progress)
        engine.claim()
        future = pipeline.submit(engine.run(islice(loaded.test(need_target=False), total)))
        try:
            return future.result()
        except KeyboardInterrupt:
            # The first interrupt lets what is in flight come home; a second one does not wait.
            engine.stopping = True
            try:
                return future.result()
            except KeyboardInterrupt:
                future.cancel()
                raise InterruptedRunError("interrupted; run the same again to go on from here") from None


@dataclass
class Engine:
    """One run of a loaded task.

    Args:
        loaded: the task.
        pipeline: its pipeline, open.
        path: the run directory.
        total: how many rows there are.
        price: of the model's tokens, where it is known.
        progress: called after each row.
    """

    loaded: Loaded
    pipeline: Pipeline
    path: Path
    total: int
    price: Price | None = None
    progress: Callable[[Progress], None] | None = None
    stopping: bool = False
    usage: Usage = field(default_factory=Usage)
    status: Counter[str] = field(default_factory=Counter)
    scoring: Counter[tuple[str, bool]] = field(default_factory=Counter)
    states: dict[int, Any] = field(default_factory=dict)
    expected: Expected = field(init=False)
    _seen: set[int] = field(default_factory=set)
    _probes: set[str] = field(default_factory=set)

    def claim(self) -> None:
        """Refuse a run directory that belongs to another task.

        Raises:
            TaskError: it does.
        """
        manifest = self.path / "manifest.json"
        if self.path.exists() and not self.path.is_dir():
            raise TaskError("is not a folder; give --out a folder", file=self.path)
        if not manifest.exists():
            return
        try:
            found = orjson.loads(manifest.read_bytes()).get("fingerprint")
        except (OSError, ValueError, AttributeError):
            found = None
        if found != self.loaded.fingerprint:
            raise TaskError(
                f"holds another run (fingerprint {found}, this task has {self.loaded.fingerprint}); give another --out",
                file=self.path,
            )

    async def run(self, rows: Iterator[Example]) -> RunResult:
        """Predict, judge and write; see `run`."""
        began = time.monotonic()
        cap = self.loaded.task.run.max_cost_usd
        if cap is not None and self.price not in (None, FREE):
            self.pipeline.driver.budget = Budget(cap, self.price.of)
        await self.pipeline.ready()
        self.expected = Expected(self.pipeline)
        self.states = dict(self.pipeline.states)
        learner = next(
            (i for i, s in enumerate(self.pipeline.chain.steps) if isinstance(s, Batched) and i not in self.states),
            None,
        )
        with Journal(self.path / "answers.jsonl") as answers, Journal(self.path / "predictions.jsonl") as predictions:
            tallies = {m.title: Tally(m, self.loaded.task.run.seed) for m in self._metrics()}
            first = self._first_pass(rows, answers)
            records = first if learner is None else self._second_pass(first, learner)
            async for record in records:
                predictions.write(line(self._judged(record, tallies)))
        self._write_manifest()
        metrics = {name: tally.score() for name, tally in tallies.items()}
        summary = self._summary(metrics, time.monotonic() - began)
        write_json(self.path / "summary.json", summary)
        return RunResult(self.path, metrics, summary)

    async def _first_pass(self, rows: Iterator[Example], answers: Journal) -> AsyncIterator[Record]:
        """Ask the model; the record of each row as far as O can go without having seen the others."""
        stream: Stream[Example, Prediction] = Stream(
            self.pipeline.driver,
            lambda x: self.pipeline.steps(x, self.states),
            lambda: self.stopping,
            self._report,
        )
        done = 0
        async for x, result, exchanges in stream.over(rows):
            self.expected.add(x, exchanges)
            if isinstance(result, Prediction):
                result = replace(result, exchanges=exchanges)
                if not self._seen:
                    self._write_manifest()
                self._write_answers(result, answers)
                if result.scoring is not None:
                    self.scoring[result.scoring.method, bool(result.scoring.bounded)] += 1
            yield prediction_record(x, result)
            done += 1
        self.expected.flush()
        if done < self.total:
            raise InterruptedRunError(
                f"interrupted after {done} of {self.total}; run the same again to go on from here"
            )

    async def _second_pass(self, first: AsyncIterator[Record], at: int) -> AsyncIterator[Record]:
        """Let a batch step learn from all rows, then take it and the steps after it."""
        step = self.pipeline.chain.steps[at]
        assert isinstance(step, Batched)
        gathered = step.start()
        with tempfile.TemporaryFile() as spool:
            async for record in first:
                if record["distribution"] is not None:
                    gathered = step.gather(gathered, record["distribution"])
                spool.write(line(record))
            self.states[at] = step.finish(gathered)
            self.pipeline.states[at] = self.states[at]
            spool.seek(0)
            for stored in spool:
                record = orjson.loads(stored)
                if record["status"] != "failed":
                    end = len(self.pipeline.chain.steps)
                    reading, _ = self.pipeline.chain.advance(reading_of(record), at, self.states, end)
                    record = with_reading(record, reading)
                yield record

    def _report(self, done: int) -> None:
        if self.progress is not None:
            c = self.pipeline.driver.counts
            self.progress(Progress(done, self.total, c.paid, c.cached, c.retries))

    def _metrics(self) -> tuple[Metric, ...]:
        return self.loaded.task.metrics

    def _judged(self, record: Record, tallies: Mapping[str, Tally]) -> Record:
        self.status[record["status"]] += 1
        if not tallies:
            return record
        target = self.pipeline.chain.canon(record["target"])
        cluster = cluster_of(record["inputs"], self.loaded.task.data.cluster)
        scores = {name: tally.add(record["prediction"], target, cluster) for name, tally in tallies.items()}
        record["scores"] = {name: score for name, score in scores.items() if score is not None}
        graded = {m.title for m in self._metrics() if m.graded}
        verdicts = [score for name, score in record["scores"].items() if name not in graded]
        record["target"] = target
        record["correct"] = bool(verdicts[0]) if verdicts else None
        return record

    def _write_answers(self, prediction: Prediction, answers: Journal) -> None:
        for e in prediction.exchanges:
            self._count(e)
        for record in answer_records(prediction):
            if record["role"] == "probe":
                if record["key"] in self._probes:
                    continue
                self._probes.add(record["key"])
            answers.write(line(record))

    def _count(self, exchange: Exchange) -> None:
        """Count an answer's tokens once, whoever rests on it (64 bits of the key: a million rows fit in memory)."""
        if exchange.request.role == "spelling":
            return
        key = int(exchange.key[:16], 16)
        if key not in self._seen:
            self._seen.add(key)
            self.usage += exchange.response.usage

    def _write_manifest(self) -> None:
        loaded = self.loaded
        steps = enumerate(self.pipeline.chain.steps)
        manifest = {
            "task": loaded.resolved,
            "fingerprint": loaded.fingerprint,
            "seed": loaded.task.run.seed,
            "template": loaded.template.source,
            "endpoint": loaded.endpoint,
            "versions": {"icl-engine": version("icl-engine"), "python": sys.version.split()[0]},
            "fits": {f"output[{i}]": {"use": s.use, "state": self.states[i]} for i, s in steps if i in self.states},
        }
        write_json(self.path / "manifest.json", manifest)

    def _summary(self, metrics: Mapping[str, Score], seconds: float) -> dict[str, Any]:
        counts = self.pipeline.driver.counts
        methods = Counter({m: n for (m, _), n in sorted(self.scoring.items())})
        return {
            "task": self.loaded.task.name,
            "model": self.loaded.task.model.title,
            "examples": self.total,
            "failed": self.status["failed"],
            "unparsed": self.status["unparsed"],
            "metrics": {name: {"value": s.value, "ci95": list(s.ci95), "n": s.n} for name, s in metrics.items()},
            "usage": {
                "requests": len(self._seen),
                "paid": counts.paid,
                "cached": max(0, len(self._seen) - counts.paid),
                **usage_record(self.usage),
                "cost_usd": None if self.price is None else self.price.of(self.usage),
            },
            "plan": summed(self.loaded, self.expected.planner, self.price).expected,
            "scoring": {
                "method": methods.most_common(1)[0][0] if methods else "text",
                "exact": sum(n for (_, bounded), n in self.scoring.items() if not bounded),
                "bounded": sum(n for (_, bounded), n in self.scoring.items() if bounded),
            },
            "taxonomy": self.pipeline.taxonomy,
            "seconds": round(seconds, 2),
        }


def _lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from map(orjson.loads, file)
