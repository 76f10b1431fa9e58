"""The rows that demonstrations come from: solved, checked, and none of them in the test split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from icl_engine.data.source import examples, fingerprint, place
from icl_engine.errors import DataError, TaskError, did_you_mean
from icl_engine.images import restored
from icl_engine.manipulation.few_shot import FewShot
from icl_engine.protocols import Component, Encoder, Retriever
from icl_engine.types import Example

if TYPE_CHECKING:
    from icl_engine.alignment.chain import Chain
    from icl_engine.config.load import Loaded


LOOKED = 4096
"""Rows whose vectors are looked up at once."""


def with_demonstrations(loaded: Loaded, manipulator: FewShot, outputs: Chain, retriever: Retriever) -> FewShot:
    """The manipulator with its retriever fitted on the pool, or as a saved program has it.

    Raises:
        TaskError: the pool does not do. EndpointError: an encoder cannot be used.
    """
    lessons = loaded.saved_lessons or {}
    ranks, rationales = lessons.get("ranks"), lessons.get("rationales")
    manipulator = replace(manipulator, ranks=None if ranks is None else tuple(ranks), rationales=rationales)
    saved = loaded.saved_demonstrations
    if saved is not None and not _refers(saved) and manipulator.fitted:
        pool = () if manipulator.learned else loaded.pool  # an order is learned anew for another model
        return replace(manipulator, state=retriever.restore(restored(saved), manipulator.view), pool=pool)
    source, key, pool = _source(loaded, retriever)
    _check(loaded, manipulator, outputs, pool, source, key)
    own = getattr(retriever, "items", None) is not None or getattr(retriever, "path", None) is not None
    kept = saved is not None and _refers(saved)
    without = _without(saved, source) if kept else _overlap(loaded, manipulator, pool)
    told = _told(len(without), len(pool), own=own)
    if not own:
        left = frozenset(without)
        pool = [x for i, x in enumerate(pool) if i not in left]
    manipulator = replace(manipulator, pool=pool, overlap=told)
    if not manipulator.fitted:
        return manipulator  # the model solves rows first
    try:
        state = retriever.fit(pool, manipulator.view, manipulator.seed)
    except TaskError as error:
        why = f"; {told[0]}" if told else ""
        raise loaded.document.error(error.what + why, ("input", "demonstrations")) from error
    reference = None
    if retriever.per_query and not isinstance(source, list):
        reference = {"train": fingerprint(source), "without": without}
    return replace(manipulator, state=state, reference=reference)


def unknown_vectors(loaded: Loaded, manipulator: FewShot) -> bool:
    """Whether an encoder would ask a network for vectors: some of the pool's or the test split's are not kept."""
    encoders = (*_encoders(manipulator.retriever), *_encoders(manipulator.cot))
    return any(_asks(loaded, manipulator, encoder) for encoder in encoders if encoder.remote)


def _encoders(component: Component | None) -> Iterator[Encoder]:
    """Those of a component, and of the retrievers it is made of."""
    if isinstance(encoder := getattr(component, "encoder", None), Encoder):
        yield encoder
    for part in getattr(component, "of", ()):
        yield from _encoders(part)


def _asks(loaded: Loaded, manipulator: FewShot, encoder: Encoder) -> bool:
    rows = chain(loaded.pool, () if loaded.task.data.test is None else loaded.test(need_target=False))
    while some := list(islice(rows, LOOKED)):
        if encoder.known(some, manipulator.view) < len(some):
            return True
    return False


def _refers(saved: Any) -> bool:
    """Whether a saved program names its pool by its hash."""
    return isinstance(saved, Mapping) and saved.keys() == {"train", "without"}


def _without(saved: Mapping[str, Any], source: Any) -> list[int]:
    """The rows that the program leaves out of its pool.

    Raises:
        DataError: the pool is not the one it was saved with.
    """
    if fingerprint(source) != saved["train"]:
        raise DataError("is not the train split that the program was saved with", file=source, key="data.train")
    return list(saved["without"])


def _overlap(loaded: Loaded, manipulator: FewShot, pool: Sequence[Example]) -> list[int]:
    """The places of pool rows that are in the test split too, but for case, width and white space."""
    if loaded.task.data.test is None:
        return []
    keys = [manipulator.identity(x) for x in pool]
    known, both = frozenset(keys), set()
    with suppress(DataError):  # a row that cannot be read ends a run before anything is asked, but no `predict`
        for x in loaded.test(need_target=False):
            key = manipulator.identity(x)
            if key in known:
                both.add(key)
    return [i for i, key in enumerate(keys) if key in both]


def _told(count: int, rows: int, *, own: bool) -> tuple[str, ...]:
    if not count:
        return ()
    are, they = ("is", "it is") if count == 1 else ("are", "they are")
    what, then = ("demonstrations", "left out where") if own else ("train rows", "never shown as")
    end = f"{they} the query" if own else "a demonstration" if count == 1 else "demonstrations"
    return (f"{count} of {rows} {what} {are} also in the test split; {they} {then} {end}",)


def _source(loaded: Loaded, retriever: Retriever) -> tuple[Any, str, list[Example]]:
    """Where the pool comes from, its key, and its rows."""
    rows, path = getattr(retriever, "items", None), getattr(retriever, "path", None)
    if rows or path is not None:
        key = "input.demonstrations.items"
        source: Any = path if path is not None else rows
        return source, key, list(examples(source, loaded.schema, need_target=True, key=key))
    if loaded.task.data.train is None:
        raise TaskError("demonstrations need a pool; give data.train")
    return loaded.task.data.train, "data.train", loaded.pool


def _check(
    loaded: Loaded, manipulator: FewShot, outputs: Chain, pool: Sequence[Example], source: Any, key: str
) -> None:
    """See that every row can be rendered, and has a target that O can write."""
    for index, x in enumerate(pool):
        if index == 0 or loaded.template.missing(x.inputs):
            loaded.template.example(x.inputs)
    if getattr(manipulator.cot, "use", "") == "auto":
        return  # it shows the model's own answers
    for index, x in enumerate(pool):
        check_target(loaded, outputs, x, source, index, key)


def train_rows(loaded: Loaded, manipulator: FewShot, outputs: Chain) -> Sequence[Example]:
    """The rows of the train split for output steps that have yet to learn; none of them is in the test split.

    Raises:
        TaskError: there are none, and a step must have them. DataError: a target that O cannot express, where a step
            learns from targets.
    """
    states = loaded.saved_states
    fits, grounds = ([at for at in places if at not in states] for places in (outputs.fitting, outputs.grounded))
    if not fits and not grounds and (outputs.own or not outputs.learners.keys() - states.keys()):
        return ()
    if (fits or grounds) and (not loaded.pool or (fits and loaded.task.data.target is None)):
        at = (fits or grounds)[0]
        what, give = ("rows with targets", "data.train and data.target") if fits else ("inputs", "data.train")
        name = outputs.steps[at].use
        raise loaded.document.error(f"{name} learns from train {what}: give {give}", ("output", at))
    if fits:
        for index, x in enumerate(loaded.pool):
            if x.target is not None:
                check_target(loaded, outputs, x, loaded.task.data.train, index, "data.train")
    left = frozenset(_overlap(loaded, manipulator, loaded.pool))
    return [x for i, x in enumerate(loaded.pool) if i not in left]


def check_target(loaded: Loaded, chain: Chain, x: Example, source: Any, index: int, key: str) -> None:
    """See that an example has a target, and that O can express it.

    Raises:
        DataError: it has none, or O cannot.
    """
    try:
        if x.target is None:
            field = str(loaded.task.data.target)
            raise ValueError(f"row has no target {field!r}{did_you_mean(field, map(str, x.inputs), 'the row has')}")
        chain.canon(x.target)
    except ValueError as error:
        raise DataError(str(error), **place(source, index, key)) from error
