"""What O learns before the first row: from the train split's inputs, and from the model's answers to its rows.

Rows come in one seeded order, so that a step that learns from fewer of them learns from the first of the others'. Never
among them are the demonstrations that every prompt shows, and rows that the test split has too.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from icl_engine.alignment.chain import Chain
from icl_engine.errors import EndpointError, RequestError, TaskError
from icl_engine.protocols import Answered, Batched, Reader
from icl_engine.types import Example, Prediction, Reading

if TYPE_CHECKING:
    from icl_engine.pipeline import Pipeline

log = logging.getLogger("icl_engine")


def rows(pipeline: Pipeline, count: int, at: int, *, solved: bool) -> list[Example]:
    """The first train rows in seeded order, none of which all prompts show.

    Args:
        pipeline: the task's.
        count: how many.
        at: the place of the step that learns from them.
        solved: only those with a target.

    Raises:
        TaskError: there are none.
    """
    order = list(range(len(pipeline.train)))
    random.Random(pipeline.seed).shuffle(order)
    found = (pipeline.train[i] for i in order)
    kept = [x for x in found if not (solved and x.target is None) and not pipeline.manipulator.shows(x)]
    if not kept:
        step = pipeline.chain.steps[at].use
        what = "no train row is left to learn from" if solved else "needs a batch"
        way = "give more rows in data.train" if solved else "use `icl run`, give data.train"
        raise TaskError(f"{step}: {what}; {way}, or load a saved program", key=f"output[{at}]")
    return kept[:count]


def wanted(pipeline: Pipeline) -> list[int]:
    """The places of the steps that have yet to learn from train rows with targets."""
    return [at for at in pipeline.chain.fitting if at not in pipeline.states and at not in pipeline.fits]


def ground(pipeline: Pipeline) -> None:
    """Have the steps that take something from the train split's inputs do so."""
    for at, step in pipeline.chain.grounded.items():
        if at not in pipeline.states:
            with _at(at):
                pipeline.states[at] = step.ground(pipeline.train, pipeline.seed)


async def fit(pipeline: Pipeline) -> list[Prediction]:
    """Have the steps learn that learn from train rows, but for what a batch step takes from the run's own rows.

    Returns:
        The rows that were asked, for the record.

    Raises:
        TaskError: nothing can be learned. EndpointError: too few answers.
    """
    ground(pipeline)
    places = wanted(pipeline)
    if not places:
        return []
    chain = pipeline.chain
    count = max(chain.fitting[at].learns for at in places)
    xs = rows(pipeline, count, places[0], solved=True)
    names = ", ".join(dict.fromkeys(chain.steps[at].use for at in places))
    log.warning("%d train rows are asked first, for %s to learn from", len(xs), names)
    asked: list[Prediction] = []
    for _ in range(passes(chain)):
        answers = await _asked(pipeline, xs)
        asked += answers
        learned, fits = learn(chain, pipeline.states, answers)
        if not _rewritten(pipeline, learned):
            break
    pipeline.states.update(learned)
    pipeline.fits.update(fits)
    for at in places:
        state = pipeline.fits.get(at, pipeline.states.get(at)) or {}
        for told in state.get("told", ()):
            log.warning("%s (output[%d]): %s", chain.steps[at].use, at, told)
    return asked


async def batch(pipeline: Pipeline, at: int, step: Batched) -> Any:
    """What a batch step learns where there is no run: from train rows; the engine's own learns nothing."""
    gathered = step.start()
    if at == pipeline.chain.own:
        log.warning(
            "%s", "answers of single rows are not calibrated: a run over many rows would be (calibration: auto)"
        )
        return step.finish(gathered)
    xs = rows(pipeline, getattr(step, "inputs", 128), at, solved=False)
    for answer in await _asked(pipeline, xs):
        gathered = step.gather(gathered, answer.distribution)
    return step.finish(gathered, pipeline.fits.get(at))


async def _asked(pipeline: Pipeline, xs: Sequence[Example]) -> list[Prediction]:
    """The answers to train rows, as far as O can go; rows without an answer are left out.

    Raises:
        EndpointError: fewer than half were answered.
    """
    states = dict(pipeline.states)
    driving = (pipeline.driver.drive(pipeline.steps(x, states, "fit")) for x in xs)
    results = await asyncio.gather(*driving, return_exceptions=True)
    found, lost = [], []
    for result in results:
        if isinstance(result, RequestError):
            lost.append(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            found.append(replace(result[0], exchanges=result[1]))
    if len(lost) >= max(1, len(found)):
        raise EndpointError(f"no answer to what is asked before the first row: {lost[0]}")
    if lost:
        log.warning("%d of %d train rows got no answer, and nothing is learned from them", len(lost), len(xs))
    return found


def passes(chain: Chain) -> int:
    """How often train rows are asked at most: more than once where what is learned changes the demonstrations."""
    return 1 if chain.mapping is None else chain.mapping[1].passes


def learn(
    chain: Chain, states: Mapping[int, Any], answers: Sequence[Prediction]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """The states of steps that have yet to learn, and of a batch step what it learned from labels.

    A batch step that stands before others is taken over these rows here; over the run's own it learns anew.
    """
    learned, fits, known = dict[int, Any](), dict[int, Any](), dict(states)
    readings = [answer.reading for answer in answers]
    targets = [chain.canon(answer.example.target) for answer in answers]
    at, last = chain.reach(states), max(i for i in chain.fitting if i not in states)
    while at <= last:
        step, fitting = chain.steps[at], chain.fitting.get(at)
        if isinstance(step, Batched) and at not in known:
            gathered = step.start()
            for reading in readings:
                gathered = step.gather(gathered, reading.distribution)
            known[at] = step.finish(gathered)
            if fitting is not None:
                with _at(at):
                    fits[at] = fitting.fit(_answered(chain, readings[: fitting.learns], targets), known[at])
                known[at] = step.finish(gathered, fits[at])
        elif fitting is not None and at not in known:
            with _at(at):
                learned[at] = known[at] = fitting.fit(_answered(chain, readings[: fitting.learns], targets))
        readings = [chain.advance(reading, at, known, at + 1)[0] for reading in readings]
        at += 1
    return learned, fits


def _answered(chain: Chain, readings: Sequence[Reading], targets: Sequence[Any]) -> list[Answered]:
    pairs = ((chain.canonical(reading), target) for reading, target in zip(readings, targets, strict=False))
    return [Answered(r.value if r.status == "ok" else None, r.distribution, target) for r, target in pairs]


@contextmanager
def _at(place: int) -> Iterator[None]:
    """Say of a mistake at which step it was found."""
    try:
        yield
    except TaskError as error:
        raise TaskError(error.what, key=error.key or f"output[{place}]") from error


def _rewritten(pipeline: Pipeline, learned: Mapping[int, Any]) -> bool:
    """Whether demonstrations now show other words, those of the labels that the targets were mapped to."""
    write = writer(pipeline.chain, learned)
    if write is None:
        return False
    before, pipeline.manipulator = pipeline.manipulator, pipeline.manipulator.writing(write)
    x = replace(pipeline.train[0], target=None)
    chat = pipeline.model.api == "chat"
    return before.preview(x, chat).shown != pipeline.manipulator.preview(x, chat).shown


def writer(chain: Chain, states: Mapping[int, Any]) -> Callable[[Any], str] | None:
    """How a demonstration shows a target whose label was mapped, where the mapping says so; None where it does not."""
    scorer = chain.steps[chain.scorer[0]]
    if chain.mapping is None or passes(chain) == 1 or chain.mapping[0] not in states or not isinstance(scorer, Reader):
        return None
    at, step = chain.mapping
    mapped = step.mapped(states[at])

    def write(target: Any) -> str:
        label = chain.canon(target)
        return scorer.write(mapped[label]) if label in mapped else chain.write(target)

    return write
