"""`hybrid`: what several rankings agree on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_serializer
from pydantic_core import PydanticCustomError

from icl_engine.manipulation.retrieve.ranked import Choice, Ranked
from icl_engine.protocols import Retriever, View
from icl_engine.registry import resolve
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np

FUSED = ("bm25", "knn", "tfidf")
"""The retrievers that rank a whole pool."""

HERE = frozenset(Ranked.model_fields)
"""The keys that are written beside `of`, not inside it."""

CHUNK = 1000
"""Queries whose rankings are held at once."""


def _ranking(found: Any, info: ValidationInfo) -> Any:
    """A retriever whose ranking is fused: by its name, or as a mapping."""
    if isinstance(found, Ranked):
        return found
    given = {"use": found} if isinstance(found, str) else found
    name = given.get("use") if isinstance(given, Mapping) else None
    if name not in FUSED:
        what = f"takes names or mappings with 'use' of retrievers that rank by one score: {', '.join(FUSED)}"
        raise PydanticCustomError("shape", "{what}", {"what": what})
    if elsewhere := sorted(set(given) & HERE - {"use"}):
        what = f"{name} inside 'of' takes no {', '.join(map(repr, elsewhere))}: write it beside 'of'"
        raise PydanticCustomError("shape", "{what}", {"what": what})
    return resolve("retriever", name).model_validate({**given, "k": 1}, context=info.context)


Ranking = Annotated[SerializeAsAny[Retriever], BeforeValidator(_ranking, json_schema_input_type=str | dict[str, Any])]


class Hybrid(Ranked):
    """The `k` examples that stand highest in several rankings: reciprocal rank fusion (Cormack et al. 2009).

    A row's score is Σ over the rankings that have it of 1 / (`rank_constant` + its rank there). A ranking has its first
    `depth` rows; those by words only rows that share one with the query.

    Args:
        of: the rankings: ``bm25``, ``tfidf``, ``knn``, or mappings with `use` and their keys.
        rank_constant: the larger, the less the first ranks stand out.
        depth: how many rows of each ranking count, `k` at least.

    >>> pool = [Example(i, {"t": t}, "") for i, t in enumerate(["a good film", "a bad film", "a wet day"])]
    >>> view, hybrid = View(lambda x: x.inputs["t"]), Hybrid(k=1, of=["bm25", "tfidf"])
    >>> hybrid.select(hybrid.fit(pool, view, seed=0), Example("q", {"t": "what a wet film"}), view)[0].why
    'rank 1 by bm25, 1 by tfidf'
    """

    use: Literal["hybrid"] = "hybrid"
    of: tuple[Ranking, ...] = Field(default=("bm25", "knn"), min_length=2, validate_default=True)
    rank_constant: float = Field(default=60, ge=0)
    depth: int = Field(default=100, ge=1)

    @field_serializer("of")
    def _their_own_keys(self, of: tuple[Ranked, ...]) -> list[dict[str, Any]]:
        return [{k: v for k, v in part.model_dump().items() if k == "use" or k not in HERE} for part in of]

    def index(self, pool: Sequence[Example], view: View, seed: int) -> list[Any]:
        """What each knows of the pool."""
        return [part.index(pool, view, seed) for part in self._parts]

    def choose(
        self, learned: list[Any], pool: Sequence[Example], xs: Sequence[Example], own: np.ndarray, k: int, view: View
    ) -> list[list[Choice]]:
        """The k with the highest fused scores."""
        chosen = []
        for start in range(0, len(xs), CHUNK):
            some = slice(start, start + CHUNK)
            rankings = [
                part.choose(known, pool, xs[some], own[some], max(k, self.depth), view)
                for part, known in zip(self._parts, learned, strict=True)
            ]
            chosen += [self._fused(found, k) for found in zip(*rankings, strict=True)]
        return chosen

    def _fused(self, rankings: Sequence[list[Choice]], k: int) -> list[Choice]:
        scores: dict[int, float] = defaultdict(float)
        reasons: dict[int, list[str]] = defaultdict(list)
        for part, ranking in zip(self.of, rankings, strict=True):
            for rank, choice in enumerate(ranking, start=1):
                # Rows that share no word are listed in the pool's order only: they have no rank, but may fill up.
                counts = part.use == "knn" or choice.score > 0
                scores[choice.place] += 1 / (self.rank_constant + rank) if counts else 0.0
                reasons[choice.place] += [f"{rank} by {part.use}"] if counts else []
        best = sorted(scores, key=lambda place: (-scores[place], place))[:k]
        return [Choice(i, scores[i], f"rank {', '.join(reasons[i])}" if reasons[i] else "no rank") for i in best]

    @property
    def _parts(self) -> list[Ranked]:
        return [part for part in self.of if isinstance(part, Ranked)]
