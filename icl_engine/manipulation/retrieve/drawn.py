"""A set of demonstrations that is drawn once and shown to every query: as written or by seed, or by the whole pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import Field

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.ranked import canonical
from icl_engine.protocols import Retriever, View
from icl_engine.types import Demonstration, Example


@dataclass(frozen=True)
class Drawn:
    """The demonstrations in the order they are shown, their identities, and stand-ins for the one that is the query.

    Args:
        spare: name -> row; what the name says is the retriever's own: a label, or a rank.
    """

    shown: tuple[Demonstration, ...]
    keys: tuple[str, ...]
    spare: Mapping[str, Example] = field(default_factory=dict)


class DrawnOnce(Retriever):
    """A retriever whose state is a `Drawn`."""

    def dump(self, state: Drawn) -> dict[str, Any]:
        """The state as JSON."""
        return {
            "shown": [{"example": _plain(d.example), "why": d.why, "score": d.score} for d in state.shown],
            "spare": {group: _plain(x) for group, x in state.spare.items()},
        }

    def restore(self, saved: Mapping[str, Any], view: View) -> Drawn:
        """The state that `dump` saved."""
        shown = tuple(Demonstration(Example(**d["example"]), d["why"], d["score"]) for d in saved["shown"])
        spare = {group: Example(**x) for group, x in saved["spare"].items()}
        return Drawn(shown, tuple(view(d.example) for d in shown), spare)


class Pick(NamedTuple):
    """A row of the pool that is shown to every query."""

    place: int
    why: str


ANY = ""
"""The name of the stand-in for those that have none of their own."""


class PickedOnce(DrawnOnce):
    """A retriever that picks `k` rows once, by what the whole pool is like; the order of the pool's file is no matter.

    Where the query (or its duplicate) is picked, another row stands in: at its place the one that is for this rank,
    else, as the last, the one that is for any.

    Args:
        k: how many are shown.
    """

    k: int = Field(ge=1)

    def pick(self, pool: Sequence[Example], view: View, seed: int) -> tuple[Sequence[Pick], Mapping[str, int]]:
        """The `k` rows to show, the best first; and the places of the stand-ins, by rank (from 0), or for `ANY`."""
        raise NotImplementedError

    def fit(self, pool: Sequence[Example], view: View, seed: int) -> Drawn:
        """The rows, and their stand-ins."""
        rows, _ = canonical(pool, view)
        if len(rows) < self.k:
            raise TaskError(
                f"k is {self.k}, but the train split has {len(rows)} different rows", key="input.demonstrations.k"
            )
        picked, spare = self.pick(rows, view, seed if self.seed is None else self.seed)
        shown = tuple(Demonstration(rows[p.place], p.why) for p in picked)
        keys = tuple(view(d.example) for d in shown)
        return Drawn(shown, keys, {name: rows[place] for name, place in spare.items()})

    def select(self, state: Drawn, x: Example, view: View) -> tuple[Demonstration, ...]:
        """The rows; a duplicate of x among them is replaced by its stand-in."""
        own = view(x)
        if own not in state.keys:
            return state.shown
        at = state.keys.index(own)
        why = f"stands in: {state.shown[at].why} is the query"
        before, after = state.shown[:at], state.shown[at + 1 :]
        if str(at) in state.spare:
            return (*before, Demonstration(state.spare[str(at)], why), *after)
        return (*before, *after, *(Demonstration(state.spare[name], why) for name in (ANY,) if name in state.spare))


def _plain(x: Example) -> dict[str, Any]:
    return {"id": x.id, "inputs": dict(x.inputs), "target": x.target}
