"""What `fixed` and `random` share: a set of demonstrations that is drawn once and shown to every query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icl_engine.protocols import Identity, Retriever
from icl_engine.types import Demonstration, Example


@dataclass(frozen=True)
class Drawn:
    """The demonstrations in the order they are shown, their identities, and a stand-in for each group of labels."""

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

    def restore(self, saved: Mapping[str, Any], identity: Identity) -> Drawn:
        """The state that `dump` saved."""
        shown = tuple(Demonstration(Example(**d["example"]), d["why"], d["score"]) for d in saved["shown"])
        spare = {group: Example(**x) for group, x in saved["spare"].items()}
        return Drawn(shown, tuple(identity(d.example) for d in shown), spare)


def _plain(x: Example) -> dict[str, Any]:
    return {"id": x.id, "inputs": dict(x.inputs), "target": x.target}
