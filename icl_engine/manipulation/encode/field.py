"""`field`: vectors that the data has already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Key

from icl_engine.errors import TaskError, did_you_mean
from icl_engine.protocols import Encoder, View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


class Field(Encoder):
    """Vectors that stand in a field of each row, as a list of numbers; they are scaled to unit length.

    Args:
        name: the field.

    >>> pool = [Example(0, {"v": [3, 4]}), Example(1, {"v": [0.0, 2.0]})]
    >>> view, encoder = View(lambda x: str(x.id)), Field(name="v")
    >>> encoder.encode(encoder.fit(pool, view), pool, view).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]
    """

    use: Literal["field"] = "field"
    name: str = Key(min_length=1)

    def fit(self, pool: Sequence[Example], view: View) -> int | None:
        """How many numbers a vector has; None for an empty pool."""
        return self._vector(pool[0]).size if pool else None

    def encode(self, state: int | None, xs: Sequence[Example], view: View) -> np.ndarray:
        """x / ‖x‖ for each row; a row of zeros stays one.

        Raises:
            TaskError: a row's field is no list of numbers, or of another length than the pool's.
        """
        import numpy as np

        rows = np.empty((len(xs), state or 1))
        for i, x in enumerate(xs):
            vector = self._vector(x)
            if vector.size != rows.shape[1]:
                lengths = f"has {vector.size} numbers, those of the train split have {rows.shape[1]}"
                raise self._error(x, lengths)
            rows[i] = vector
        rows /= np.maximum(np.abs(rows).max(axis=1, keepdims=True, initial=0.0), np.finfo(float).tiny)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)

    def _vector(self, x: Example) -> np.ndarray:
        import numpy as np

        if self.name not in x.inputs:
            raise self._error(x, f"is not there{did_you_mean(self.name, map(str, x.inputs), 'it has')}")
        try:
            vector: Any = np.asarray(x.inputs[self.name])
        except ValueError:  # lists of different lengths in it
            vector = np.asarray(None)
        if vector.dtype.kind not in "iuf" or vector.ndim != 1 or not vector.size:
            raise self._error(x, "is no list of numbers")
        if not np.isfinite(vector).all():
            raise self._error(x, "has a number that is infinite or none")
        return np.asarray(vector, dtype=float)

    def _error(self, x: Example, what: str) -> TaskError:
        return TaskError(f"row {x.id}: field {self.name!r} {what}", key="input.demonstrations.encoder.name")
