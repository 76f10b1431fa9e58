"""What I learns from the model before the first query: rows solved by it, and an order of demonstrations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from icl_engine.asking import side_by_side
from icl_engine.errors import TaskError
from icl_engine.manipulation.cot import THEN, Auto, Bootstrap
from icl_engine.manipulation.order import MEASURES, arranged, candidates
from icl_engine.protocols import Ask, EntropyOrder, Steps
from icl_engine.thoughts import steps
from icl_engine.types import Example, Reading

if TYPE_CHECKING:
    from icl_engine.manipulation.few_shot import FewShot

TOGETHER = 256
"""Questions asked at once."""


@dataclass(frozen=True)
class Solved:
    """A row that the model solved.

    Args:
        example: the row; for Auto-CoT its target is the model's answer.
        thought: the chain of thought.
        why: what speaks for it.
    """

    example: Example
    thought: str
    why: str


def _solve(manipulator: FewShot, x: Example, ask: Ask, chat: bool) -> Steps[tuple[str, Reading]]:
    """The model's chain of thought for x, without demonstrations, and the answer that O reads behind it."""
    prompt = yield from manipulator.alone(x, chat)
    assert manipulator.cot is not None
    said = f"{prompt.thought.strip()} {manipulator.cot.then or THEN}"
    reading = yield from ask(prompt, "fit", said)
    return prompt.thought.strip(), reading


def rightly_solved(manipulator: FewShot, cot: Bootstrap, ask: Ask, chat: bool) -> Steps[list[Solved]]:
    """Of a seeded sample of rows, those that the model answers as their target says."""
    pool = manipulator.pool
    rows = random.Random(manipulator.seed).sample(pool, min(cot.rows, len(pool)))
    kept: list[Solved] = []
    for few in _batches(rows):
        found = yield from side_by_side([_solve(manipulator, x, ask, chat) for x in few])
        for x, (thought, reading) in zip(few, found, strict=True):
            if thought and reading.status == "ok" and reading.value == manipulator.canon(x.target):
                kept.append(Solved(x, thought, "solved by the model"))
    if not kept:
        raise TaskError(
            f"the model solved none of {len(rows)} train rows; raise input.cot.rows, or give rationales of your own",
            key="input.cot",
        )
    return kept


def one_a_cluster(manipulator: FewShot, cot: Auto, ask: Ask, chat: bool) -> Steps[list[Solved]]:
    """From each cluster the row nearest its centre whose question and chain are simple; all clusters side by side."""
    from icl_engine.manipulation.retrieve.kmeans import clusters
    from icl_engine.manipulation.retrieve.ranked import canonical

    rows, _ = canonical(manipulator.pool, manipulator.view)
    if len(rows) < cot.k:
        raise TaskError(f"k is {cot.k}, but the train split has {len(rows)} different rows", key="input.cot.k")
    state = cot.encoder.fit(rows, manipulator.view)
    seed = manipulator.seed if cot.seed is None else cot.seed
    members = clusters(cot.encoder.encode(state, rows, manipulator.view), cot.k, seed)
    tries = [_first_simple(manipulator, cot, [rows[i] for i in places], ask, chat) for places in members]
    found = yield from side_by_side(tries)
    kept = [solved for solved in found if solved is not None]
    if not kept:
        what = "no chain of thought of the model is simple enough; raise input.cot.steps, words or tries"
        raise TaskError(what, key="input.cot")
    return kept


def _first_simple(
    manipulator: FewShot, cot: Auto, rows: Sequence[Example], ask: Ask, chat: bool
) -> Steps[Solved | None]:
    short = [x for x in rows if len(manipulator.text(x).split()) <= cot.words]
    for n, x in enumerate(short[: cot.tries], start=1):
        thought, reading = yield from _solve(manipulator, x, ask, chat)
        if reading.status == "ok" and 1 <= steps(thought) <= cot.steps:
            return Solved(replace(x, target=reading.value), thought, f"nearest to its cluster's centre, try {n}")
    return None


def best_ranks(manipulator: FewShot, order: EntropyOrder, ask: Ask, chat: bool) -> Steps[tuple[int, ...]]:
    """The order of ranks under which the answers to a probe set have the highest entropy (Lu et al. 2022).

    Orders are of ranks, so that one is found for all queries, also where each has demonstrations of its own. The probe
    set is a seeded sample of train rows, in place of the texts that the paper has the model write.
    """
    pool = manipulator.pool
    rows = random.Random(manipulator.seed).sample(pool, min(order.rows, len(pool)))
    plain = replace(manipulator, ranks=tuple(range(TOGETHER)))
    found = [(x, plain.best_that_fit(x, chat)) for x in rows]
    tried = candidates(max((len(best) for _, best in found), default=0), order.orders, manipulator.seed)
    asked: list[Steps[Reading]] = []
    for ranks in tried:
        for x, best in found:
            shown = arranged(best, order, manipulator.seed, ranks)
            asked.append(ask(manipulator.render(x, shown, chat), "fit", ""))
    readings: list[Reading] = []
    for few in _batches(asked):
        readings += yield from side_by_side(few)
    measure = MEASURES[order.measure]
    scores = [measure(readings[i * len(rows) : (i + 1) * len(rows)]) for i in range(len(tried))]
    return tried[max(range(len(tried)), key=lambda i: (scores[i], -i))]


def _batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[i : i + TOGETHER] for i in range(0, len(items), TOGETHER)]
