"""Examples whose vectors are given, for retrievers that compare vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from icl_engine.protocols import Encoder, View
from icl_engine.types import Demonstration, Example

VIEW = View(lambda x: str(x.inputs["t"]))


class Given(Encoder):
    """The vector in the column ``v``, scaled to unit length."""

    use: Literal["given"] = "given"

    def encode(self, state: Any, xs: Sequence[Example], view: View) -> Any:
        return np.stack([unit(x) for x in xs]) if xs else np.zeros((0, 1), dtype=np.float32)


def unit(x: Example) -> Any:
    found = np.asarray(x.inputs["v"], dtype=np.float64)
    return (found / (np.linalg.norm(found) or 1.0)).astype(np.float32)


def rows(vectors: Any, labels: Sequence[Any] = "ab") -> list[Example]:
    """Examples whose order by identity is that of their ids."""
    return [
        Example(i, {"t": f"{i:04}", "v": tuple(map(float, v))}, labels[i % len(labels)]) for i, v in enumerate(vectors)
    ]


def drawn(n: int, width: int, seed: int) -> Any:
    """Random vectors."""
    return np.random.default_rng(seed).standard_normal((n, width))


def cosines(xs: Sequence[Example], ys: Sequence[Example]) -> Any:
    """In double precision, of the vectors as they are stored."""
    if not xs or not ys:
        return np.zeros((len(xs), len(ys)))
    return np.stack([unit(x) for x in xs]).astype(np.float64) @ np.stack([unit(y) for y in ys]).astype(np.float64).T


def ids(shown: Sequence[Demonstration]) -> list[int | str]:
    return [d.example.id for d in shown]
