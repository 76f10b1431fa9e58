"""In which order demonstrations stand in a prompt."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, permutations

from icl_engine.errors import TaskError
from icl_engine.protocols import EntropyOrder, OrderName, Retriever
from icl_engine.types import Demonstration, Reading

Shown = tuple[Demonstration, ...]

KEY = "input.demonstrations.order"


def order_of(retriever: Retriever) -> OrderName | EntropyOrder:
    """The order that a retriever's demonstrations get: what its `order` says, or the default of its kind.

    Raises:
        TaskError: its demonstrations cannot be ordered so.
    """
    order = retriever.order
    if order is None:
        return "similarity" if retriever.scored else "as_retrieved"
    if order == "similarity" and not retriever.scored:
        raise TaskError(f"{retriever.use} does not tell how similar a demonstration is to the query", key=KEY)
    return EntropyOrder() if order == "entropy" else order


def arranged(found: Shown, order: OrderName | EntropyOrder, seed: int, ranks: Sequence[int] = ()) -> Shown:
    """Demonstrations in the order in which they are shown.

    Args:
        found: as retrieved, the best first.
        order: see `Retriever.order`.
        seed: of a random order; equal sets get equal orders, so that prompts still share their beginning.
        ranks: for an order by entropy, the ranks in the order that was found.

    >>> from icl_engine.types import Example
    >>> found = tuple(Demonstration(Example(i, {}, y), score=1.0 - i / 10) for i, y in enumerate("aab"))
    >>> [[d.example.id for d in arranged(found, o, 0)] for o in ("as_retrieved", "similarity", "label_interleaved")]
    [[0, 1, 2], [2, 1, 0], [1, 2, 0]]
    """
    if isinstance(order, EntropyOrder) or order == "entropy":
        return tuple(found[i] for i in ranks if i < len(found))
    if order == "similarity":
        nearest_last = list(reversed(found))
        return tuple(sorted(nearest_last, key=lambda d: d.score or 0.0))
    if order == "random":
        names = "\x1f".join(f"{d.example.id}\x1e{d.example.target}" for d in found)
        return tuple(random.Random(f"{seed}\x1f{names}").sample(found, len(found)))
    if order == "label_interleaved":
        # The best last, where one is better than another.
        scored = any(d.score is not None for d in found)
        return tuple(reversed(_interleaved(found))) if scored else _interleaved(found)
    return found


def _interleaved(found: Shown) -> Shown:
    """One of each label in turn, labels by their best demonstration, for as long as there are several labels."""
    by_label: dict[str, deque[Demonstration]] = defaultdict(deque)
    for demonstration in found:
        by_label[str(demonstration.example.target)].append(demonstration)
    taken: list[Demonstration] = []
    while by_label:
        for label in list(by_label):
            taken.append(by_label[label].popleft())
            if not by_label[label]:
                del by_label[label]
    return tuple(taken)


# -- by entropy


def candidates(k: int, most: int, seed: int) -> list[tuple[int, ...]]:
    """Orders of k ranks to try, that of the ranks first: all of them, or `most` drawn by seed."""
    if math.factorial(k) <= most:
        return list(permutations(range(k)))
    rng = random.Random(seed)
    drawn = {tuple(range(k)): None}
    while len(drawn) < most:
        drawn.setdefault(tuple(rng.sample(range(k), k)))
    return list(islice(drawn, most))


def entropy(p: Iterable[float]) -> float:
    """H(p) = −Σ p ln p, in nats.

    >>> round(entropy([0.5, 0.5]), 4), entropy([1.0, 0.0])
    (0.6931, 0.0)
    """
    return -sum(x * math.log(x) for x in p if x > 0) + 0.0


def global_entropy(readings: Sequence[Reading]) -> float:
    """GlobalE: the entropy of the labels predicted for a probe set; what cannot be read is no label."""
    counts = Counter(str(r.value) for r in readings if r.status == "ok")
    return entropy(n / counts.total() for n in counts.values())


def local_entropy(readings: Sequence[Reading]) -> float:
    """LocalE: the mean entropy of the label distributions over a probe set."""
    found: list[Mapping[str, float]] = [r.distribution for r in readings if r.distribution is not None]
    return sum(entropy(p.values()) for p in found) / max(1, len(found))


MEASURES: Mapping[str, Callable[[Sequence[Reading]], float]] = {"global": global_entropy, "local": local_entropy}
