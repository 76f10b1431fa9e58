"""`random`: demonstrations drawn once a run, by seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.drawn import Drawn, DrawnOnce
from icl_engine.protocols import View
from icl_engine.types import Demonstration, Example


class Random(DrawnOnce):
    """`k` demonstrations drawn once per run from the train split.

    Where the draw contains the query (or its duplicate), the next in seeded order stands in. `balanced` gives
    ⌊k/K⌋ to each of the K labels and the remainder to labels drawn by seed, then shuffles; the stand-in then has the
    label of the one it replaces where there is one.

    Args:
        k: how many are shown.
        balanced: as many of each label, as far as `k` divides.

    >>> pool = [Example(i, {"t": str(i)}, "ab"[i % 2]) for i in range(10)]
    >>> who = View(lambda x: x.inputs["t"])
    >>> r = Random(k=4, balanced=True)
    >>> shown = r.select(r.fit(pool, who, seed=0), Example("q", {"t": "?"}), who)
    >>> sorted(d.example.target for d in shown)
    ['a', 'a', 'b', 'b']
    """

    use: Literal["random"] = "random"
    k: int = Field(ge=1)
    balanced: bool = False

    def fit(self, pool: Sequence[Example], view: View, seed: int) -> Drawn:
        """The draw, and a stand-in for each group of labels."""
        rng = random.Random(seed if self.seed is None else self.seed)
        order = _distinct(rng.sample(pool, len(pool)), view)
        if len(order) < self.k:
            raise TaskError(
                f"k is {self.k}, but the train split has {len(order)} different rows", key="input.demonstrations.k"
            )
        chosen = self._balanced(order, rng) if self.balanced else order[: self.k]
        taken = {id(x) for x in chosen}
        spare: dict[str, Example] = {}
        for x in order:
            # At most one of the draw is the query (they are distinct), so one stand-in a group is enough.
            if id(x) not in taken:
                spare.setdefault(self._group(x), x)
        shown = tuple(Demonstration(x, why=f"random draw {i + 1}") for i, x in enumerate(chosen))
        return Drawn(shown, tuple(view(x) for x in chosen), spare)

    def select(self, state: Drawn, x: Example, view: View) -> tuple[Demonstration, ...]:
        """The draw; a duplicate of x in it is replaced by its stand-in."""
        own = view(x)
        if own not in state.keys:
            return state.shown
        at = state.keys.index(own)
        replaced = state.shown[at]
        spare = state.spare.get(self._group(replaced.example)) or next(iter(state.spare.values()), None)
        stand_in = () if spare is None else (Demonstration(spare, why=f"stands in: {replaced.why} is the query"),)
        return (*state.shown[:at], *stand_in, *state.shown[at + 1 :])

    def _group(self, x: Example) -> str:
        return str(x.target) if self.balanced else ""

    def _balanced(self, order: list[Example], rng: random.Random) -> list[Example]:
        by_label: dict[str, list[Example]] = defaultdict(list)
        for x in order:
            by_label[str(x.target)].append(x)
        labels = sorted(by_label)
        share = dict.fromkeys(labels, self.k // len(labels))
        for label in rng.sample(labels, self.k % len(labels)):
            share[label] += 1
        for label in labels:
            if len(by_label[label]) < share[label]:
                raise TaskError(
                    f"balanced k = {self.k} needs {share[label]} different rows labelled {label!r}, "
                    f"the train split has {len(by_label[label])}",
                    key="input.demonstrations.k",
                )
        chosen = [x for label in labels for x in by_label[label][: share[label]]]
        rng.shuffle(chosen)
        return chosen


def _distinct(examples: Sequence[Example], view: View) -> list[Example]:
    """The first of each set of duplicates, in order."""
    return list({view(x): x for x in reversed(examples)}.values())[::-1]
