"""What retrievers that choose for each query share: the pool, whose own row is never shown, and shared sets.

A sub-class says how the pool is indexed (`index`) and how rows of it are chosen (`choose`), for many queries at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from icl_engine.errors import TaskError
from icl_engine.manipulation.encode.tfidf import TfIdf
from icl_engine.manipulation.retrieve.kmeans import kmeans
from icl_engine.protocols import Encoder, Retriever, View
from icl_engine.types import Demonstration, Example

if TYPE_CHECKING:
    import numpy as np


class Choice(NamedTuple):
    """A row of the pool that is to be shown."""

    place: int
    score: float
    why: str


@dataclass(frozen=True)
class Group:
    """Queries that are shown the same demonstrations: the set that their middle would be shown, and one in reserve.

    Args:
        centre: of their vectors.
        choices: the best first.
        shown: place in the pool -> that row, shown.
    """

    centre: Any
    choices: list[Choice]
    shown: Mapping[int, Demonstration]


@dataclass(frozen=True)
class Index:
    """The pool in an order that does not depend on that of the file, and what was learned of it.

    Args:
        pool: its different rows.
        places: identity -> place in the pool.
        learned: the retriever's own.
        seed: of the draws.
        groups: for ``prefix: shared``.
        encoded: what the encoder learned that tells a query's group.
    """

    pool: Sequence[Example]
    places: Mapping[str, int]
    learned: Any
    seed: int
    groups: Sequence[Group] = ()
    encoded: Any = None


class Ranked(Retriever):
    """A retriever that chooses for each query.

    Args:
        k: how many are shown.
        prefix: ``query``: every query gets its own demonstrations. ``shared``: the pool is split into `groups` (by
            k-means over its vectors), and a query is shown what the row in the middle of its nearest group would be
            shown, so that prompts of a group begin alike and a prefix cache can serve them.
        groups: how many sets there are with ``prefix: shared``.
    """

    per_query: ClassVar[bool] = True
    scored: ClassVar[bool] = True

    k: int = Field(ge=1)
    prefix: Literal["query", "shared"] = "query"
    groups: int = Field(default=16, ge=1)

    # -- for sub-classes

    def index(self, pool: Sequence[Example], view: View, seed: int) -> Any:
        """What is to be known of the pool."""
        raise NotImplementedError

    def choose(
        self, learned: Any, pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """For each x the k rows to show, the best first, never the one at its own place (-1: x is not in the pool)."""
        raise NotImplementedError

    def grouping(self) -> Encoder:
        """By what the pool is split into groups."""
        return TfIdf()

    def vectors(self, learned: Any, pool: Sequence[Example], view: View) -> tuple[Any, Any]:
        """What that encoder learned, and its vectors of the pool."""
        encoded = self.grouping().fit(pool, view)
        return encoded, self.grouping().encode(encoded, pool, view)

    def most(self, choices: list[Choice], k: int, pool: Sequence[Example]) -> list[Choice]:
        """Of more choices than are wanted, the best k."""
        return choices[:k]

    # -- the protocol

    @property
    def shares(self) -> bool:
        return self.prefix == "shared"

    def fit(self, pool: Sequence[Example], view: View, seed: int) -> Index:
        """The index of the pool's different rows."""
        rows, places = canonical(pool, view)
        if len(rows) < self.k:
            raise TaskError(
                f"k is {self.k}, but the train split has {len(rows)} different rows", key="input.demonstrations.k"
            )
        seed = seed if self.seed is None else self.seed
        index = Index(rows, places, self.index(rows, view, seed), seed)
        return self._grouped(index, view) if self.shares else index

    def select(self, state: Index, x: Example, view: View) -> tuple[Demonstration, ...]:
        """Chosen for x alone."""
        return self.select_many(state, [x], view)[0]

    def select_many(self, state: Index, xs: Sequence[Example], view: View) -> list[tuple[Demonstration, ...]]:
        """Chosen for all at once."""
        return self.best_many(state, xs, self.k, view)

    @property
    def reach(self) -> int:
        """How many may be wanted for a query."""
        return self.k

    def best_many(self, state: Index, xs: Sequence[Example], k: int, view: View) -> list[tuple[Demonstration, ...]]:
        """For each x its best k (at most `reach`)."""
        import numpy as np

        if not xs:
            return []
        own = np.array([state.places.get(view(x), -1) for x in xs])
        if state.groups:
            of = self._group(state, xs, view)
            return [self._of_group(state, group, place, k) for group, place in zip(of, own, strict=True)]
        found = self.choose(state.learned, state.pool, xs, own, k, view)
        return [tuple(_shown(choice, state.pool) for choice in choices) for choices in found]

    def dump(self, state: Index) -> Any:
        """The pool: its index is made anew from it."""
        return {
            "pool": [{"id": x.id, "inputs": dict(x.inputs), "target": x.target} for x in state.pool],
            "seed": state.seed,
        }

    def restore(self, saved: Mapping[str, Any], view: View) -> Index:
        """The state that `dump` saved."""
        return self.fit([Example(**x) for x in saved["pool"]], view, saved["seed"])

    # -- shared sets

    def _grouped(self, index: Index, view: View) -> Index:
        import numpy as np

        encoded, vectors = self.vectors(index.learned, index.pool, view)
        count = min(self.groups, len(index.pool))
        centres, _ = kmeans(vectors, count, index.seed)
        middles = [int(np.argmax(np.asarray(vectors @ centre).ravel())) for centre in centres]
        alone = np.full(count, -1)
        rows = [index.pool[i] for i in middles]
        chosen = self.choose(index.learned, index.pool, rows, alone, self.reach + 1, view)
        groups = [
            Group(centre, found, {choice.place: _shown(choice, index.pool) for choice in found})
            for centre, found in zip(centres, chosen, strict=True)
        ]
        return Index(index.pool, index.places, index.learned, index.seed, groups, encoded)

    def _group(self, state: Index, xs: Sequence[Example], view: View) -> list[Group]:
        import numpy as np

        vectors = self.grouping().encode(state.encoded, xs, view)
        centres = np.stack([group.centre for group in state.groups])
        # The nearest centre in Euclidean distance; the query's own length is the same for all.
        # Rounded, since a product of matrices rounds by their shape.
        far = ((centres**2).sum(axis=1) / 2 - np.asarray(vectors @ centres.T)).round(5)
        return [state.groups[i] for i in far.argmin(axis=1)]

    def _of_group(self, state: Index, group: Group, own: int, k: int) -> tuple[Demonstration, ...]:
        kept = self.most([choice for choice in group.choices if choice.place != own], k, state.pool)
        return tuple(group.shown[choice.place] for choice in kept)


def _shown(choice: Choice, pool: Sequence[Example]) -> Demonstration:
    return Demonstration(pool[choice.place], choice.why, choice.score)


def canonical(pool: Sequence[Example], view: View) -> tuple[list[Example], dict[str, int]]:
    """The different rows of a pool in the order of their identity, so that its own order changes nothing.

    Of duplicates the one with the most frequent label stands for all.
    """
    alike: dict[str, list[Example]] = defaultdict(list)
    for x in pool:
        alike[view(x)].append(x)
    keys = sorted(alike)
    return [_usual(alike[key]) for key in keys], {key: i for i, key in enumerate(keys)}


def _usual(rows: list[Example]) -> Example:
    if len(rows) == 1:
        return rows[0]
    count = Counter(str(x.target) for x in rows)
    return min(
        rows,
        key=lambda x: (
            -count[str(x.target)],
            str(x.target),
            sorted((k, str(v)) for k, v in x.inputs.items()),
            str(x.id),
        ),
    )
