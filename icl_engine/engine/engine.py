"""The run engine: every row through the pipeline, judged and written, one run directory at a time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from icl_engine.config.calibration import note
from icl_engine.config.load import Loaded
from icl_engine.driver.budget import Budget, Caps, in_bytes
from icl_engine.driver.cache import Spent
from icl_engine.driver.counts import Counts
from icl_engine.driver.driver import StoppedError
from icl_engine.engine.expected import Expected, Question, questions
from icl_engine.engine.held import TEMPORARY, spool
from icl_engine.engine.journal import Journal, unwritable, write_json
from icl_engine.engine.judge import Judge
from icl_engine.engine.keyset import KeySet
from icl_engine.engine.plan import summed
from icl_engine.engine.prices import FREE, Price
from icl_engine.engine.progress import OFTEN, Meter, Progress
from icl_engine.engine.records import (
    Record,
    answer_records,
    lesson_record,
    line,
    prediction_record,
    reading_of,
    rests_on,
    usage_record,
    with_reading,
)
from icl_engine.engine.stream import Stream
from icl_engine.errors import FailuresError, InterruptedRunError, RequestError
from icl_engine.pipeline import Pipeline
from icl_engine.tokens import counter
from icl_engine.types import Example, Exchange, Prediction, Score, Usage


class Row(NamedTuple):
    """What is kept of a row until it is its turn to be written."""

    record: Record
    answers: list[tuple[str, bool, bytes]]
    """Of each question: the key of its first answer, whether it is a probe, its line."""
    used: list[tuple[str, Usage]]
    """Of each answer: its key, and what it cost."""
    asked: list[Question]
    scoring: tuple[str, bool] | None
    """The rung that read the labels, and whether a figure is a bound."""


@dataclass
class Engine:
    """One run of a loaded task.

    Args:
        loaded: the task.
        pipeline: its pipeline, open.
        path: the run directory.
        total: how many rows there are.
        price: of the model's tokens, where it is known.
        progress: told how far it is.
        stop: asked before a row is begun; true ends it after what is in flight.
        source: the run whose stored answers are aligned anew, as the manifest names it; None where the model is asked.
    """

    loaded: Loaded
    pipeline: Pipeline
    path: Path
    total: int
    price: Price | None = None
    progress: Callable[[Progress], None] | None = None
    stop: Callable[[], bool] = lambda: False
    source: Mapping[str, str] | None = None
    used: Counts = field(default_factory=Counts)
    failed: int = 0
    status: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    scoring: Counter[tuple[str, bool]] = field(default_factory=Counter)
    states: dict[int, Any] = field(default_factory=dict)
    _begun: bool = False
    _seen: KeySet = field(default_factory=KeySet)
    _probes: set[str] = field(default_factory=set)

    async def run(self, rows: Iterator[Example]) -> tuple[Mapping[str, Score], Mapping[str, Any]]:
        """Predict, judge and write; the metrics and the summary.

        Raises:
            InterruptedRunError, BudgetError, FailuresError, EndpointError, StorageError: stopped before its end; what
                was answered is kept.
        """
        self._keep_books()
        watching = asyncio.ensure_future(self._watch())
        try:
            return await self._whole(rows)
        except StoppedError:
            raise self._cut_short(0) from None
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """Have nothing more sent once the run is to end: what waits for its turn does not ask."""
        driver = self.pipeline.driver
        while not (self.stop() or (driver.budget is not None and driver.budget.late)):
            await asyncio.sleep(OFTEN)
        driver.stop()

    def _cut_short(self, done: int) -> InterruptedRunError:
        """Why a run ends before its last row, if it was not for an error."""
        budget = self.pipeline.driver.budget
        if budget is not None and not self.stop():
            budget.in_time()
        return InterruptedRunError(f"interrupted after {done} of {self.total}; run the same again to go on from here")

    async def _whole(self, rows: Iterator[Example]) -> tuple[Mapping[str, Score], Mapping[str, Any]]:
        began = time.monotonic()
        driver = self.pipeline.driver
        lessons, fits = await self.pipeline.learn(), await self.pipeline.fit()
        first = next(rows)
        self.expected = Expected(self.pipeline, first)
        self.states = dict(self.pipeline.states)
        self._meter = Meter(self.total, driver.counts, self.price)
        self._judging = Judge(self.loaded.task, self.pipeline.chain, self.states)
        learner = next((i for i in self.pipeline.chain.learners if i not in self.states), None)
        with (
            Journal(self.path / "answers.jsonl") as answers,
            Journal(self.path / "predictions.jsonl") as predictions,
        ):
            self._answers, self._predictions = answers, predictions
            self._write_lessons(lessons)
            self._write_fits(fits)
            if learner is None:
                await self._stream(chain((first,), rows), self._judge)
            else:
                await self._learn(chain((first,), rows), learner)
        self._write_manifest()
        scores = self._judging.scores()
        summary = self._summary(scores, time.monotonic() - began)
        write_json(self.path / "summary.json", summary)
        return scores, summary

    # -- what may be spent

    def _keep_books(self) -> None:
        """Add up what this run directory pays, in the cache; keep its caps."""
        driver, run = self.pipeline.driver, self.loaded.task.run
        if self.source is not None:
            return  # nothing is paid
        driver.ledger = f"{self.loaded.fingerprint} {self.path.resolve()}"
        priced = self.price is not None and self.price is not FREE
        caps = Caps(run.max_cost_usd if priced else None, run.max_tokens, run.max_requests, run.max_seconds)
        if not caps:
            return
        before = Spent() if driver.cache is None else driver.cache.spent(driver.ledger)
        cost = (lambda _: 0.0) if self.price is None else self.price.most
        count = counter(self.pipeline.model)
        exact = (lambda text: round(count.text(text).high)) if count.method == "tiktoken" else in_bytes
        driver.budget = Budget(caps, cost, exact, before.usage, before.requests)

    # -- the passes

    async def _stream(self, rows: Iterator[Example], take: Callable[[Record], None]) -> None:
        """Ask the model; every row's record, as far as O can go without having seen the others, in data order."""

        def emit(row: Row) -> None:
            self._write_answers(row)
            take(row.record)

        allowed = self.loaded.task.run.failures(self.total)
        early = self.loaded.task.run.max_failures is not None
        stream: Stream[Example, Prediction, Row] = Stream(
            self.pipeline.driver,
            lambda x: self.pipeline.steps(x, self.states),
            self._made,
            emit,
            lambda: self.stop() or (early and self.failed > allowed),
            self._report,
            self.pipeline.manipulator.foresee if self.pipeline.manipulator.foresees else None,
        )
        done = await stream.run(rows)
        if early and self.failed > allowed and done < self.total:
            raise FailuresError(
                f"stopped: {self.failed} of {self.total} rows got no answer, run.max_failures allows {allowed} "
                f"({self._reason}); run the same again to go on from here"
            )
        if done < self.total:
            raise self._cut_short(done)

    async def _learn(self, rows: Iterator[Example], at: int) -> None:
        """Let a batch step learn from all rows, then take it and the steps after it."""
        step = self.pipeline.chain.learners[at]
        gathered = step.start()

        def gather(record: Record) -> None:
            nonlocal gathered
            if record["status"] != "failed":
                gathered = step.gather(gathered, record["distribution"])
            with unwritable(TEMPORARY):
                file.write(line(record))

        with spool() as file:
            await self._stream(rows, gather)
            self.states[at] = self.pipeline.states[at] = step.finish(gathered, self.pipeline.fits.get(at))
            with unwritable(TEMPORARY):
                file.seek(0)
            for stored in file:
                record = orjson.loads(stored)
                if record["status"] != "failed":
                    end = len(self.pipeline.chain.steps)
                    reading, _ = self.pipeline.chain.advance(reading_of(record), at, self.states, end)
                    record = with_reading(record, reading)
                self._judge(record)

    # -- a row

    def _made(self, number: int, x: Example, result: Prediction | RequestError, exchanges: tuple[Exchange, ...]) -> Row:
        """What is kept of a row, as soon as it is there."""
        exchanges = rests_on(result, exchanges) if isinstance(result, Prediction) else exchanges
        record = prediction_record(x, result, exchanges)
        asked = questions(number, exchanges)
        if not isinstance(result, Prediction):
            self.failed += 1
            self._reason = str(result)
            return Row(record, [], [], asked or self.expected.unanswered(number, x), None)
        lines = _lines(result, exchanges)
        used = [(e.key, e.response.usage) for e in exchanges if e.request.role != "spelling"]
        scores = result.scoring
        return Row(record, lines, used, asked, None if scores is None else (scores.method, bool(scores.bounded)))

    def _write_lessons(self, exchanges: Sequence[Exchange]) -> None:
        """Write what I asked before the first row."""
        if exchanges:
            self._begin()
        for exchange in exchanges:
            if self._seen.add(exchange.key):
                self.used.pay(exchange.response.usage)
                self._answers.write(line(lesson_record(exchange)))

    def _write_fits(self, predictions: Sequence[Prediction]) -> None:
        """Write what O asked before the first row."""
        for prediction in predictions:
            exchanges = rests_on(prediction, prediction.exchanges)
            used = [(e.key, e.response.usage) for e in exchanges if e.request.role != "spelling"]
            self._write_answers(Row({}, _lines(prediction, exchanges), used, questions(0, exchanges), None))

    def _begin(self) -> None:
        """Say whose run it is, before there is a line of it."""
        if not self._begun:
            self._begun = True
            self._write_manifest()

    def _write_answers(self, row: Row) -> None:
        """Write what was said for a row, and count it once, whoever rests on it."""
        self._begin()
        new = set()
        for key, used in row.used:
            if self._seen.add(key):
                new.add(key)
                self.used.pay(used)
        (self.expected.add if row.record else self.expected.before)(row.asked, new)
        for key, probe, written in row.answers:
            if probe:
                if key in self._probes:
                    continue
                self._probes.add(key)
            self._answers.write(written)
        if row.scoring is not None:
            self.scoring[row.scoring] += 1

    def _judge(self, record: Record) -> None:
        """Judge a row and write its prediction."""
        self.status[record["status"]] += 1
        dropped = len(record.get("dropped", ()))
        self.dropped.update(rows=dropped > 0, demonstrations=dropped)
        self._judging.judge(record)
        self._predictions.write(line(record))

    def _report(self, done: int) -> None:
        if self.progress is not None and self._meter.due(done):
            self.progress(self._meter.read(done, self.failed))

    # -- the run's own files

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
            "learned": self.pipeline.manipulator.dump_learned(),
            "overlap": list(self.pipeline.manipulator.overlap),
            **({} if self.source is None else {"rescored_from": self.source}),
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
            "abstained": self.status["abstained"],
            "dropped": {name: self.dropped[name] for name in ("demonstrations", "rows")},
            "metrics": {name: {"value": s.value, "ci95": list(s.ci95), "n": s.n} for name, s in metrics.items()},
            "usage": {
                "requests": len(self._seen),
                "paid": counts.paid,
                "cached": max(0, len(self._seen) - counts.paid),
                **usage_record(self.used.usage),
                "cost_usd": None if self.price is None else self.price.of(self.used.usage),
            },
            "plan": summed(self.loaded, self.expected.finish(), self.price).expected,
            "scoring": {
                "method": methods.most_common(1)[0][0] if methods else "text",
                "exact": sum(n for (_, bounded), n in self.scoring.items() if not bounded),
                "bounded": sum(n for (_, bounded), n in self.scoring.items() if bounded),
            },
            "calibration": note(self.loaded, self.pipeline.chain, self.states, scored=bool(methods)),
            **self._judging.tables(),
            "taxonomy": self.pipeline.taxonomy,
            "seconds": round(seconds, 2),
        }


def _lines(prediction: Prediction, exchanges: Sequence[Exchange]) -> list[tuple[str, bool, bytes]]:
    """Of each question: the key of its first answer, whether it is a probe, its line."""
    return [(r["key"], r["role"] == "probe", line(r)) for r in answer_records(prediction, exchanges)]
