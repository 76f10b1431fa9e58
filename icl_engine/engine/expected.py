"""What was to be expected of a run, summed while its rows come in, to stand beside the real figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby

from icl_engine.engine.planning import Planner
from icl_engine.engine.stream import WINDOW, flat
from icl_engine.engine.sums import Taken
from icl_engine.pipeline import Pipeline
from icl_engine.tokens import counter
from icl_engine.types import Example, Exchange, Message, Role

Question = tuple[Role, str | tuple[Message, ...] | int, str]
"""Whose it is, its prompt (beyond the first rows, its length), and the content key of its first request."""

COUNTED = 2048
"""Rows whose tokens are counted. Those of further rows follow from the length of their prompts."""


class Expected:
    """Plans rows as if nothing were in the cache, from the prompts that the run has made of them.

    Args:
        pipeline: the run's.
        first: its first row: all rows' questions take as much as its own, as long as nothing is known.
    """

    def __init__(self, pipeline: Pipeline, first: Example) -> None:
        self.planner = Planner(pipeline, counter(pipeline.model))
        self._usual = self.planner.usual(first)
        self._window: list[tuple[int, Sequence[Question]]] = []
        self._rows = self._length = self._further_length = 0
        self._further: Counter[Role] = Counter()

    def unanswered(self, number: int, x: Example) -> list[Question]:
        """The question of a row that got no answer."""
        prompt = self.planner.pipeline.check(x).shown
        role: Role = "main" if self.planner.pipeline.chain.vote is None else "sample"
        return [(role, prompt if number < COUNTED else len(flat(prompt)), "")]

    def add(self, asked: Sequence[Question], new: Collection[str]) -> None:
        """Count a row.

        Args:
            asked: for it.
            new: the keys of its answers that no row before rests on.
        """
        asked = [question for question in asked if not question[2] or question[2] in new]
        if self._rows < COUNTED:
            self._window.append((self._rows, asked))
        else:
            for role, length, _ in asked:
                self._further[role] += 1
                self._further_length += length if isinstance(length, int) else len(flat(length))
        self._rows += 1
        if len(self._window) == WINDOW:
            self._flush()

    def before(self, asked: Sequence[Question], new: Collection[str]) -> None:
        """Count what a train row was asked before the first row; it takes as much as a row's own question."""
        for role, prompt, key in asked:
            if key in new and not isinstance(prompt, int):
                taken = self._usual.get(role) or self._usual.get("main", Taken())
                self.planner.sums.add(0, role, prompt, taken)

    def _flush(self) -> None:
        """Count the rows that wait for their window to be full, in the order in which they were sent."""
        rows, self._window = self._window, []
        for index, asked in sorted(rows, key=lambda row: _first(row[1])):
            for role, prompt, _ in asked:
                assert not isinstance(prompt, int)
                self._length += len(flat(prompt))
                self.planner.sums.add(index, role, prompt, self._usual.get(role, Taken()))

    def finish(self) -> Planner:
        """The planner, all rows counted."""
        self._flush()
        sums = self.planner.sums
        sums.rows = self._rows
        if self._further and self._length:
            sums.extend(self._further, self._usual, self._further_length / self._length)
        self._further.clear()
        return self.planner


def _first(asked: Sequence[Question]) -> str:
    """By what rows of a window are sorted: the prompt that is asked first."""
    prompt = asked[0][1] if asked else ""
    return "" if isinstance(prompt, int) else flat(prompt)


def questions(number: int, exchanges: Sequence[Exchange]) -> list[Question]:
    """What was asked for a row, one question for each prompt."""
    if len(exchanges) == 1 and (request := exchanges[0].request).role != "spelling":
        prompt = request.prompt
        return [(request.role, prompt if number < COUNTED else len(flat(prompt)), exchanges[0].key)]
    # The first sample stands for all: they take as many as the first row's.
    asked = groupby(
        (e for e in exchanges if e.request.role != "spelling" and not e.request.sample),
        key=lambda e: (e.request.role, e.request.prompt),
    )
    return [
        (role, prompt if number < COUNTED else len(flat(prompt)), next(group).key) for (role, prompt), group in asked
    ]
