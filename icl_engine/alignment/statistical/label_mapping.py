"""`label_mapping`: what the model's own answers mean for the task, counted on train rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from icl_engine.alignment.fits import counted, labels_of, left_out, named, too_few
from icl_engine.alignment.statistical.distribution import likeliest, normal
from icl_engine.alignment.text import quoted, text_of
from icl_engine.errors import TaskError
from icl_engine.protocols import Aligner, Answered, Kind
from icl_engine.types import Reading

LONGEST = 200
"""Characters by which an answer that was read as text is told from others."""

SHARE = 0.15
"""Bayesian mapping+: the share of the source labels that a row counts for."""

Table = Mapping[str, Mapping[str, float]]
"""Source label -> target label -> a figure."""


class LabelMapping(Aligner):
    """Answers of the model (source labels) become labels of the task (targets): q ∝ p W, W learned from train rows.

    A[s, t] is how many rows with target t were answered s. ``frequency`` (Tsai et al. 2020): repeatedly, the
    largest entry of A is taken, its row and column deleted: one source a target. ``iterative`` (Chen et al. 2023):
    the same map, in whose words demonstrations are then written, and A is counted again. ``bayesian`` (BLM, Cai et al.
    2024): W[s, t] = M[s, t] / Σ_s M[s, t] with M[s, t] = A[s, t] / (Σ_t A[s, t] + λ). ``bayesian_plus``
    (BLM+): a row adds p(s) to A for each of its likeliest sources s, not 1 for the likeliest.

    The source labels are those of the distribution; of an answer that was read as text, the answer has p = 1.

    Args:
        kind: how W is made.
        rows: from how many train rows it is learned.
        smoothing: λ: the greater, the less an answer says that was rarely given. Of the bayesian kinds.
        top: of ``bayesian_plus``: how many sources a row counts for; by default 0.15 of them, at least one.
        rounds: of ``iterative``: how often the rows are asked, at most.

    >>> step = LabelMapping(kind="frequency")
    >>> rows = [Answered(said, None, y) for said, y in (("good", "5"), ("good", "5"), ("good", "1"), ("bad", "1"))]
    >>> state = step.fit(rows)
    >>> dict(step.mapped(state)), step.apply(Reading(value="bad"), state).value
    ({'1': 'bad', '5': 'good'}, '1')
    """

    kind: ClassVar[Kind] = "statistical"
    corrects: ClassVar[bool] = True

    use: Literal["label_mapping"] = "label_mapping"
    method: Literal["frequency", "iterative", "bayesian", "bayesian_plus"] = Field(default="bayesian", alias="kind")
    rows: int = Field(default=128, ge=1)
    smoothing: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    top: int | None = Field(default=None, ge=1)
    rounds: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _soft(self) -> Self:
        if self.top is not None and self.method != "bayesian_plus":
            raise ValueError(f"top is of kind: bayesian_plus, and this is {self.method}")
        return self

    @property
    def learns(self) -> int:
        """How many labelled rows are counted."""
        return self.rows

    @property
    def passes(self) -> int:
        """How often the rows are asked, at most."""
        return self.rounds if self.method == "iterative" else 1

    def write(self, target: Any) -> str:
        """The label as text."""
        return text_of(target)

    def canon(self, value: Any) -> str:
        """The label as text."""
        return text_of(value)

    def mapped(self, state: Any) -> dict[str, str]:
        """Target -> the source with the largest weight for it; a target that no source stands for is missing."""
        found: dict[str, tuple[float, str]] = {}
        for source, row in state["weights"].items():
            for target, weight in row.items():
                if weight > found.get(target, (0.0, ""))[0]:
                    found[target] = weight, source
        return {target: found[target][1] for target in state["targets"] if target in found}

    def fit(self, answered: Sequence[Answered], state: Any = None) -> dict[str, Any]:
        """{"targets", "weights": W without zeros, "rows", "told"}.

        Raises:
            TaskError: no row has an answer.
        """
        read = [(_sources(a.value, a.distribution), text_of(a.target)) for a in answered]
        rows = [(p, y) for p, y in read if p]
        if not rows:
            raise TaskError(f"{self.use} counts the answers to train rows, and {counted(len(read))} could not be read")
        sources, targets = labels_of([p for p, _ in rows]), sorted({y for _, y in rows})
        told = [*left_out(len(read), len(rows), "no answer"), *too_few([y for _, y in rows], targets)]
        if lost := sorted({y for _, y in read} - set(targets)):
            told.append(f"never the answer, since no train row that has it could be read: {named(lost)}")
        if self.method == "bayesian":
            weights = bayesian(_counts(rows, 1, soft=False), self.smoothing)
        elif self.method == "bayesian_plus":
            top = self.top or max(1, int(SHARE * len(sources)))
            weights = bayesian(_counts(rows, top, soft=True), self.smoothing)
        else:
            hits, mass = _counts(rows, 1, soft=False), _counts(rows, len(sources), soft=True)
            weights, notes = one_to_one(hits, mass, sources, targets)
            told += notes
        return {"targets": targets, "weights": weights, "rows": len(rows), "told": told}

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """q ∝ p W; unparsed where the model's answers stand for no label of the task."""
        q = dict.fromkeys(state["targets"], 0.0)
        for source, p in _sources(reading.value, reading.distribution).items():
            for target, weight in state["weights"].get(source, {}).items():
                q[target] += p * weight
        if not any(q.values()):
            note = f"{self.use}: {quoted(reading.value)} stands for no label: it answers no train row that was counted"
            return replace(reading, value=None, distribution=None, status="unparsed", trace=(*reading.trace, note))
        q = normal(q)
        value = likeliest(q)
        note = f"{self.use}: {quoted(reading.value)} -> {quoted(value)}"
        return replace(reading, value=value, distribution=q, trace=(*reading.trace, note))


def bayesian(counts: Table, smoothing: float) -> dict[str, dict[str, float]]:
    """W[s, t] = M[s, t] / Σ_s M[s, t] with M[s, t] = A[s, t] / (Σ_t A[s, t] + λ): each target's weights sum to 1.

    >>> bayesian({"s": {"a": 3, "b": 1}, "t": {"b": 1}}, 0)
    {'s': {'a': 1.0, 'b': 0.2}, 't': {'b': 0.8}}
    """
    scaled = {s: {t: n / (fsum(row.values()) + smoothing) for t, n in row.items() if n} for s, row in counts.items()}
    columns: dict[str, list[float]] = {}
    for row in scaled.values():
        for t, m in row.items():
            columns.setdefault(t, []).append(m)
    return {s: {t: m / fsum(columns[t]) for t, m in row.items()} for s, row in scaled.items() if row}


def one_to_one(
    hits: Table, mass: Table, sources: Sequence[str], targets: Sequence[str]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """The frequency map: the largest entry of A, then the largest outside its row and column, and so on.

    Of equal counts, that of a source and a target with the same name, then the one with more probability, then the
    first. What no row speaks for, neither by count nor by probability, is not mapped.

    Returns:
        W (zeros left out), and what to tell.

    >>> one_to_one({"s": {"a": 3, "b": 2}, "t": {"a": 1}}, {"s": {"a": 3, "b": 2}, "t": {"a": 1}}, "st", "ab")
    ({'s': {'a': 1.0}}, ["never the answer, since no answer is left for it: 'b'"])
    """
    entries = [
        (-hits.get(s, {}).get(t, 0.0), s != t, -found, i, j)
        for i, s in enumerate(sources)
        for j, t in enumerate(targets)
        if (found := mass.get(s, {}).get(t, 0.0))
    ]
    weights: dict[str, dict[str, float]] = {}
    left, guessed = dict.fromkeys(targets), []
    for count, _, _, i, j in sorted(entries):
        s, t = sources[i], targets[j]
        if s not in weights and t in left:
            weights[s] = {t: 1.0}
            del left[t]
            if not count:
                guessed.append(t)
    told = {
        "mapped by name or probability, since no row's answer is left for it": guessed,
        "never the answer, since no answer is left for it": list(left),
    }
    return weights, [f"{what}: {named(labels)}" for what, labels in told.items() if labels]


def _sources(value: Any, distribution: Mapping[str, float] | None) -> Mapping[str, float]:
    """p over the source labels: the distribution, or all of it on what was read; empty where nothing was."""
    if distribution is not None:
        return distribution
    return {} if value is None else {text_of(value)[:LONGEST]: 1.0}


def _counts(rows: Sequence[tuple[Mapping[str, float], str]], top: int, *, soft: bool) -> dict[str, dict[str, float]]:
    """A[s, t]: over the rows with target t, the sum of p(s), or of 1, where s is among the row's likeliest sources."""
    found: dict[str, dict[str, list[float]]] = {}
    for p, t in rows:
        for s in sorted(p, key=lambda s: -p[s])[:top]:
            found.setdefault(s, {}).setdefault(t, []).append(p[s] if soft else 1.0)
    return {s: {t: fsum(parts) for t, parts in row.items()} for s, row in found.items()}  # exact in any order of rows
