"""`domain_calibration`: take out what the prompt says to words of the domain in no order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any, ClassVar, Literal

from pydantic import Field

from icl_engine.alignment.statistical.distribution import decide, divide, mean
from icl_engine.errors import TaskError
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Example, Reading

LOOKED_AT = 10_000
"""Train rows whose words are drawn from, at most; of more, a seeded sample."""

WIDEST = 64
"""Of a list in a train row, so many parts have texts of their own; they begin again for the parts after these."""


class DomainCalibration(Aligner):
    """q ∝ p / p_d, p_d the mean of p over texts of random words of the domain (Fei et al. 2023).

    Each text has as many words as a train input on average, drawn with replacement from all words of the train inputs.
    Every field has its own words and length. The probes keep the query's demonstrations, so they are asked once for
    each demonstration set.

    Args:
        texts: how many texts.

    >>> step = DomainCalibration(texts=2)
    >>> pool = [Example(0, {"text": "a b c", "n": 1}), Example(1, {"text": "b", "n": 2})]
    >>> [dict(p.inputs) for p in step.probes(Example(2, {"text": "new", "n": 3}), step.ground(pool, 0))]
    [{'text': 'b c', 'n': 2}, {'text': 'c c', 'n': 1}]
    """

    kind: ClassVar[Kind] = "statistical"
    corrects: ClassVar[bool] = True

    use: Literal["domain_calibration"] = "domain_calibration"
    texts: int = Field(default=20, ge=1)

    def ground(self, pool: Sequence[Example], seed: int) -> list[dict[str, list[Any]]]:
        """For each text: field -> what stands in it; for lists, what stands in each of their parts.

        Raises:
            TaskError: the train inputs have no words.
        """
        rows = pool if len(pool) <= LOOKED_AT else Random(seed).sample(pool, LOOKED_AT)
        fields: dict[str, _Field] = {}
        for x in rows:
            parts: dict[str, int] = {}
            for path, leaf in _leaves(x.inputs):
                fields.setdefault(path, _Field()).add(leaf)
                parts[path] = parts.get(path, 0) + 1
            for path, n in parts.items():
                fields[path].parts = max(fields[path].parts, min(n, WIDEST))
        if not any(its.words for its in fields.values()):
            raise TaskError(
                f"{self.use} draws words of the train inputs, and they have none; give data.train with texts"
            )
        draws = {path: Random(f"{seed} {path}") for path in fields}
        return [{path: its.texts(draws[path]) for path, its in fields.items()} for _ in range(self.texts)]

    def probes(self, x: Example, state: Any = None) -> tuple[Example, ...]:
        """x with every variable replaced, once for each text."""
        return tuple(
            Example(f"domain {i}", _replaced(x.inputs, "", {path: cycle(t) for path, t in texts.items()}))
            for i, texts in enumerate(state)
        )

    def fit_probes(self, distributions: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """p_d: label -> mean p over the texts."""
        return mean(distributions)

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Divide by p_d."""
        if reading.distribution is None:
            return reading
        return decide(reading, divide(reading.distribution, state), self.use)


@dataclass
class _Field:
    """What a field holds over the train rows.

    Args:
        words: all words of its texts.
        values: its numbers, truth values and nulls, which stand for themselves.
        leaves: how many texts and values.
        parts: the most that it has in one row.
    """

    words: list[str] = field(default_factory=list)
    values: list[bool | int | float | None] = field(default_factory=list)
    leaves: int = 0
    parts: int = 1

    def add(self, leaf: Any) -> None:
        """One more; images and what no JSON holds are left out."""
        self.leaves += 1
        if isinstance(leaf, str):
            self.words += leaf.split()
        elif leaf is None or isinstance(leaf, bool | int) or (isinstance(leaf, float) and math.isfinite(leaf)):
            self.values.append(leaf)

    def texts(self, random: Random) -> list[Any]:
        """A random text for each part: words where there are any, else one of the values."""
        if not self.words:
            return [random.choice(self.values) if self.values else "" for _ in range(self.parts)]
        length = max(1, round(len(self.words) / self.leaves))
        return [" ".join(random.choices(self.words, k=length)) for _ in range(self.parts)]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) pairs; the parts of a list share a path.

    >>> list(_leaves({"a": "x", "b": {"c": [1, 2]}}))
    [('.a', 'x'), ('.b.c[]', 1), ('.b.c[]', 2)]
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part, f"{path}[]")
    else:
        yield path, value


def _replaced(value: Any, path: str, texts: Mapping[str, Iterator[Any]]) -> Any:
    """Every leaf replaced by the next text of its path; lists and mappings keep their shape: loops still run."""
    if isinstance(value, Mapping):
        return {key: _replaced(part, f"{path}.{key}", texts) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(part, f"{path}[]", texts) for part in value]
    return next(texts[path]) if path in texts else ""
