"""What the model was asked before, told from the cache: nobody is asked."""

from __future__ import annotations

from typing import TypeVar

from icl_engine.asking import Started
from icl_engine.driver.cache import ANSWERS, content_key
from icl_engine.errors import TaskError
from icl_engine.pipeline import Pipeline
from icl_engine.protocols import Steps
from icl_engine.types import Example, Prompt

T = TypeVar("T")


def recalled(pipeline: Pipeline, steps: Steps[T]) -> T | None:
    """The result of a generator; None where an answer it needs is not in the cache."""
    started = Started(steps)
    batch = started.first
    while batch is not None:
        cache, identity = pipeline.driver.cache, pipeline.driver.endpoint.identity
        answers = [cache.get(content_key(identity, request)) if cache is not None else None for request in batch]
        if any(answer is None for answer in answers):
            return None
        batch = started.send([answer for answer in answers if answer is not None])
    return started.result()


def recalled_prompt(pipeline: Pipeline, x: Example) -> tuple[Prompt, bool]:
    """The prompt for x, and whether it is the last one: else what I asks the model on the way is not known yet.

    Raises:
        TaskError: what I learns before the first row is not known yet.
    """
    if pipeline.cache_folder is None or not (pipeline.cache_folder / ANSWERS).is_file():
        pipeline.cache_folder = None  # nothing is made for a look
    pipeline.driver.recall(pipeline.model.api)
    while not pipeline.manipulator.learned:
        found = recalled(pipeline, pipeline.learning())
        if found is None:
            what = "the prompt rests on answers of the model that are not in the cache; first run it, with --limit 1"
            raise TaskError(what, key="input")
        pipeline.manipulator = found
    prompt = pipeline.check(x)
    whole = recalled(pipeline, pipeline.prompting(x))
    return (prompt, False) if whole is None else (whole, True)
