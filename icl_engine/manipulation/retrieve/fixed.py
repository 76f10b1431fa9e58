"""`fixed`: the demonstrations the user wrote, in the order they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_serializer, model_validator

from icl_engine.errors import TaskError
from icl_engine.images import written
from icl_engine.manipulation.retrieve.drawn import Drawn, DrawnOnce
from icl_engine.protocols import View
from icl_engine.types import Demonstration, Example


class Fixed(DrawnOnce):
    """The first `k` (default: all) of the demonstrations in `path` (a data file) or `items`, in order.

    One that is the query itself, or its duplicate, is left out for that query.

    Args:
        path: a data file of solved rows; either this or `items`.
        items: the solved rows themselves.
        k: how many are shown; by default all.
    """

    use: Literal["fixed"] = "fixed"
    path: str | None = None
    items: tuple[Mapping[str, Any], ...] | None = None
    k: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Fixed:
        if (self.path is None) == (self.items is None):
            raise ValueError("give either path (a data file) or items (a list of rows)")
        return self

    @field_serializer("items")
    def _without_bytes(self, items: tuple[Mapping[str, Any], ...] | None) -> Any:
        return written(items)

    def fit(self, pool: Sequence[Example], view: View, seed: int) -> Drawn:
        """The demonstrations themselves. `pool` holds the rows of `path` or `items`."""
        if self.k is not None and self.k > len(pool):
            raise TaskError(f"k is {self.k}, but there are {len(pool)} rows", key="input.demonstrations.k")
        chosen = pool if self.k is None else pool[: self.k]
        shown = tuple(Demonstration(x, why=f"fixed {i + 1}") for i, x in enumerate(chosen))
        return Drawn(shown, tuple(view(x) for x in chosen))

    def select(self, state: Drawn, x: Example, view: View) -> tuple[Demonstration, ...]:
        """All of them but x."""
        own = view(x)
        if own not in state.keys:
            return state.shown
        return tuple(d for d, key in zip(state.shown, state.keys, strict=True) if key != own)
