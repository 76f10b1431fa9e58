"""`complexity`: the rows whose rationales have the most steps; the same for every query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.drawn import ANY, Pick, PickedOnce
from icl_engine.protocols import View
from icl_engine.thoughts import steps
from icl_engine.types import Example


class Complexity(PickedOnce):
    r"""The rows whose rationale has the most steps (Fu et al. 2023): its lines, or the sentences of its only line.

    Of equally many steps the longer text is first, then the pool's order.

    Args:
        field: the template variable that holds the rationale.

    >>> pool = [Example(i, {"q": f"q{i}", "rationale": "\n".join("ab" * i)}, i) for i in range(3)]
    >>> view, complexity = View(lambda x: x.inputs["q"]), Complexity(k=2)
    >>> [d.why for d in complexity.select(complexity.fit(pool, view, seed=0), Example("q", {"q": "?"}), view)]
    ['4 steps', '2 steps']
    """

    use: Literal["complexity"] = "complexity"
    field: str = "rationale"

    def pick(self, pool: Sequence[Example], view: View, seed: int) -> tuple[Sequence[Pick], Mapping[str, int]]:
        """The longest by steps, and the next."""
        texts = [self._text(x) for x in pool]
        counts = [steps(text) for text in texts]
        best = sorted(range(len(pool)), key=lambda i: (-counts[i], -len(texts[i]), i))
        picked = [Pick(i, f"{counts[i]} step{'s' * (counts[i] != 1)}") for i in best[: self.k]]
        return picked, {ANY: best[self.k]} if len(best) > self.k else {}

    def _text(self, x: Example) -> str:
        found = x.inputs.get(self.field)
        if found is None:
            raise TaskError(f"row {x.id!r} of the train split has no {self.field!r}", key="input.demonstrations.field")
        return str(found).strip()
