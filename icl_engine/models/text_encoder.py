"""What encoders by a model of texts share: each different text is embedded once, and its vector kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from icl_engine.errors import EndpointError
from icl_engine.models.vectors import FILE, Vectors
from icl_engine.protocols import Encoder, View
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np


class TextEncoder(Encoder):
    """An encoder by a model of texts: each different text is embedded once, and its vector kept in `View.vectors`."""

    @property
    def identity(self) -> str:
        """All that a vector depends on beside its text."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """The vectors of texts in their order, some at a time: each lot is kept before the next is asked for.

        Raises:
            MissingExtraError, EndpointError: the model cannot be used.
        """
        raise NotImplementedError

    def known(self, xs: Sequence[Example], view: View) -> int:
        """Of how many examples the vector is kept: for those no model is asked."""
        if view.vectors is None or not (view.vectors / FILE).is_file():
            return 0
        texts = _clean(view.texts(xs))
        different = list(dict.fromkeys(texts))
        with closing(Vectors(view.vectors, self.identity)) as kept:
            found = {different[place] for place, _ in kept.find(different)}
        return sum(text in found for text in texts)

    def encode(self, state: Any, xs: Sequence[Example], view: View) -> np.ndarray:
        """A row of unit length for each."""
        import numpy as np

        places: dict[str, int] = {}
        order = [places.setdefault(text, len(places)) for text in _clean(view.texts(xs))]
        if not places:
            return np.zeros((0, 1), dtype=np.float32)
        texts = list(places)
        table = _Table(len(texts), self.use)
        with closing(Vectors(view.vectors, self.identity)) as kept:
            for place, vector in kept.find(texts):
                table.put([place], np.frombuffer(vector, dtype=np.float32)[None])
            missing = np.flatnonzero(~table.filled).tolist()
            for lot in self.embed([texts[i] for i in missing]) if missing else ():
                now, missing = missing[: len(lot)], missing[len(lot) :]
                rows = unit(lot, self.use)
                kept.keep([texts[i] for i in now], rows)
                table.put(now, rows)
        assert table.rows is not None, "there are texts, and embed gives a row for each"
        return table.rows if len(texts) == len(order) else table.rows[order]


class _Table:
    """Rows that come one lot after another; the first tells how long they are."""

    def __init__(self, size: int, use: str) -> None:
        import numpy as np

        self.rows: np.ndarray | None = None
        self.filled = np.zeros(size, dtype=bool)
        self._use = use

    def put(self, places: Sequence[int], rows: np.ndarray) -> None:
        import numpy as np

        if self.rows is None:
            self.rows = np.zeros((len(self.filled), rows.shape[1]), dtype=np.float32)
        if rows.shape[1] != self.rows.shape[1]:
            sizes = f"{self.rows.shape[1]} and {rows.shape[1]}"
            raise EndpointError(
                f"encoder {self._use}: vectors of the same name have {sizes} numbers: another model answers under it; "
                f"remove {FILE} from the cache folder"
            )
        self.rows[places] = rows
        self.filled[places] = True


def unit(rows: Any, use: str) -> np.ndarray:
    """x / ‖x‖ for each row, as float32; a row of zeros stays one.

    Raises:
        EndpointError: a figure is no number.

    >>> unit([[3.0, 4.0], [0.0, 0.0]], "embeddings").round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    import numpy as np

    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is found below
        rows = np.asarray(rows, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise EndpointError(
            f"encoder {use}: the model gives vectors with figures that are no numbers (NaN or infinite)"
        )
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _clean(texts: Sequence[str]) -> list[str]:
    """Texts as they can be written: half a character (a lone surrogate) becomes a question mark."""
    return [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in texts]
