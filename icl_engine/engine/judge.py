"""How a run is judged, row by row: its metrics, which labels were taken for which, what is right where it is sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_engine.alignment.chain import Chain
from icl_engine.config.task import Task
from icl_engine.engine.records import Record, cluster_of
from icl_engine.metrics.confusion import Confusion
from icl_engine.metrics.coverage import Coverage
from icl_engine.metrics.slices import Slices
from icl_engine.metrics.tally import Tally
from icl_engine.types import Score


class Judge:
    """Counts rows; memory does not grow with them.

    Args:
        task: its metrics, and by which fields they are told apart.
        chain: O, which says what predictions are compared with.
        states: what its steps learned.
    """

    def __init__(self, task: Task, chain: Chain, states: Mapping[int, Any]) -> None:
        self._chain, self._cluster, seed = chain, task.data.cluster, task.run.seed
        self._tallies = {m.title: Tally(m, seed) for m in task.metrics}
        self._verdicts = [m.title for m in task.metrics if not m.graded]
        self._confusion = Confusion() if chain.closed else None
        self._coverage = Coverage(chain.thresholds(states))
        self._slices = Slices(task.data.slices, task.metrics, seed)

    def judge(self, record: Record) -> None:
        """Judge a row and write the verdict into its record; without metrics there is none."""
        if not self._tallies:
            return
        prediction, distribution = record["prediction"], record["distribution"]
        target = self._chain.target(record["target"], record["inputs"])
        cluster = cluster_of(record["inputs"], self._cluster)
        row = (prediction, target, cluster, distribution)
        scores = {name: tally.add(*row) for name, tally in self._tallies.items()}
        self._slices.add(record["inputs"], *row)
        if self._confusion is not None:
            self._confusion.add(prediction, target)
        self._coverage.add_row(prediction, target, distribution)
        record["scores"] = {name: score for name, score in scores.items() if score is not None}
        record["target"] = target
        verdicts = [record["scores"][name] for name in self._verdicts if name in record["scores"]]
        record["correct"] = bool(verdicts[0]) if verdicts else None

    def scores(self) -> dict[str, Score]:
        """The metrics."""
        return {name: tally.score() for name, tally in self._tallies.items()}

    def tables(self) -> Record:
        """What a summary shows beside them, as far as there is something to show."""
        if not self._tallies:
            return {}
        found: Record = {}
        if self._confusion is not None:
            found["confusion"] = self._confusion.record()
        if self._coverage.confident:
            found["coverage"] = self._coverage.record()
        if slices := self._slices.record():
            found["slices"] = slices
        return found
