"""The few functions applications call: `load`, `run`, `arun`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from icl_engine.config.load import TaskLike, build, load_task
from icl_engine.engine.run import RunResult, run
from icl_engine.errors import IclError
from icl_engine.pipeline import Pipeline


def load(
    task: TaskLike, *, model: str | Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> Pipeline:
    """The pipeline of a task file, a saved program, a shipped task's name, or a mapping.

    Args:
        task: what to load.
        model: stands in for the task's model.
        settings: task paths and values, as ``--set`` takes them.

    Raises:
        TaskError: the first mistake in the task.

    >>> with load("sentiment", model={"use": "fake"}) as pipeline:
    ...     pipeline.predict({"text": "a gripping, funny film"}).value in ("positive", "negative")
    True
    """
    return build(load_task(task, model=model, settings=settings))


async def arun(task: TaskLike, **options: Any) -> RunResult:
    """`run` for async code; takes the same options. If it is cancelled, what is in flight still comes home."""
    stop = threading.Event()
    options.setdefault("stop", stop.is_set)
    work = asyncio.ensure_future(asyncio.to_thread(lambda: run(task, **options)))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(IclError):
            await work
        raise
