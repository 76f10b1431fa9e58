"""What was to be expected of a run, summed while its rows come in, to stand beside the real figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from icl_engine.engine.planning import Planner
from icl_engine.engine.stream import WINDOW, flat
from icl_engine.engine.sums import Taken
from icl_engine.engine.tokens import counter
from icl_engine.pipeline import Pipeline
from icl_engine.types import Example, Exchange, Message, Role

Question = tuple[Role, str | tuple[Message, ...], str]
"""Whose it is, its prompt, and the content key of its first request."""


class Expected:
    """Plans rows as if nothing were in the cache, from the prompts that the run has made of them.

    Args:
        pipeline: the run's.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.planner = Planner(pipeline, counter(pipeline.model))
        self._usual: dict[Role, Taken] = {}
        self._window: list[tuple[int, list[Question]]] = []

    def add(self, x: Example, exchanges: Sequence[Exchange]) -> None:
        """Count a row by what was asked for it; one without an answer, by its prompt."""
        sums = self.planner.sums
        if not sums.rows:
            self._usual = self.planner.usual(x)
        asked = groupby(
            (e for e in exchanges if e.request.role != "spelling"), key=lambda e: (e.request.role, e.request.prompt)
        )
        questions = [(role, prompt, next(group).key) for (role, prompt), group in asked]
        if not questions:
            questions = [("main", self.planner.pipeline.check(x).shown, "")]
        self._window.append((sums.rows, questions))
        sums.rows += 1
        if len(self._window) == WINDOW:
            self.flush()

    def flush(self) -> None:
        """Count the rows that wait for their window to be full."""
        rows, self._window = self._window, []
        for index, questions in sorted(rows, key=lambda row: flat(row[1][0][1])):
            for role, prompt, key in questions:
                if not key or self.planner.sums.new(key):
                    self.planner.sums.add(index, role, prompt, self._usual.get(role, Taken()))
