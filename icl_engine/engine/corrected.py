"""Label scores before and behind each step that corrects them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icl_engine.alignment.chain import Chain
from icl_engine.engine.records import Record
from icl_engine.engine.second import shown
from icl_engine.protocols import Scorer
from icl_engine.types import LabelScores, Reading


@dataclass
class Corrected:
    """How a step that corrects label scores changed the answer.

    Args:
        name: the step.
        changed: rows with another answer behind it.
        judged: rows with a target.
        right_before: of these, rows right before it.
        right_after: rows right behind it.
        examples: of rows that it changed.
    """

    name: str
    changed: int = 0
    judged: int = 0
    right_before: int = 0
    right_after: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Mapping[str, Any], before: Reading, after: Reading, most: int) -> None:
        """Compare the answer before the step with that behind it."""
        one, other = (r.value if r.status == "ok" else None for r in (before, after))
        if row["target"] is not None:
            self.judged += 1
            self.right_before += one == row["target"]
            self.right_after += other == row["target"]
        if one == other:
            return
        self.changed += 1
        if len(self.examples) < most:
            told = {"before": shown(one), "after": shown(other), "target": shown(row["target"])}
            self.examples.append({"id": row["id"], **told})


class Stages:
    """For label scores, the answer as scored and behind each step whose state is known, and the run's."""

    def __init__(self, manifest: Mapping[str, Any], own: Chain, examples: int) -> None:
        self._at, scorer = own.scorer
        assert scorer is not None
        self._scorer: Scorer = scorer
        self._own, self._examples = own, examples
        fits = manifest.get("fits") or {}
        self._states = {i: fits[f"output[{i}]"]["state"] for i in range(len(own.steps)) if f"output[{i}]" in fits}
        self._known = []
        for i in range(self._at + 1, len(own.steps)):
            if i not in self._states and (i in own.probing or i in own.learners or i in own.fitting):
                break  # what it learned is another thing for each set of demonstrations
            self._known.append(i)
        rest = own.steps[self._at + 1 + len(self._known) :]
        self.found = [Corrected(f"output[{i}] ({own.steps[i].use})") for i in self._known]
        if rest or not self._known:
            self.found.append(Corrected(f"to the prediction ({', '.join(s.use for s in rest) or 'as scored'})"))

    def add(self, row: Record, answers: Sequence[Record]) -> None:
        """Read a row's scores step by step."""
        first = next((a for a in answers if a["logprobs"] is not None), None)
        if first is None:
            return
        reading = self._scorer.from_scores(_scores(first))
        for step, i in zip(self.found, self._known, strict=False):
            after, _ = self._own.advance(reading, i, self._states, i + 1)
            step.add(row, reading, after, self._examples)
            reading = after
        if len(self.found) > len(self._known):
            last = Reading(value=row["prediction"], status=row["status"])
            self.found[-1].add(row, reading, last, self._examples)


def _scores(answer: Record) -> LabelScores:
    figures = {label: -math.inf if p is None else p for label, p in answer["logprobs"].items()}
    return LabelScores(figures, answer.get("method", ""), whole=bool(answer.get("whole", False)))
