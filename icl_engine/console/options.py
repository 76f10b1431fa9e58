"""Options that several commands take. The engine is imported when a command runs, so that ``icl --help`` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_engine.errors import TaskError

if TYPE_CHECKING:
    from icl_engine.config.load import Loaded

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task file, a saved program, or a shipped task.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="M", help="Use this model (a name or a .gguf path) instead of the task's."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=V", help="Set a key of the task; lists by index. Repeatable.")
]


def settings(given: list[str] | None) -> Mapping[str, Any]:
    """``a.b=v`` pairs as task paths and YAML values.

    >>> settings(["run.seed=1", "output[0].read=text"])
    {'run.seed': 1, 'output[0].read': 'text'}
    """
    from icl_engine.config.document import value

    found = {}
    for item in given or []:
        path, equals, text = item.partition("=")
        if not equals or not path.strip():
            raise TaskError(f"takes a.b=value, not {item!r}", key="--set")
        try:
            found[path.strip()] = value(text)
        except TaskError as error:
            raise TaskError(error.what, key=f"--set {path.strip()}") from error
    return found


def loaded(task: str, model: str | None, sets: list[str] | None) -> Loaded:
    """The task a command was given."""
    from icl_engine.config.load import load_task

    if model is not None and (model.endswith(".gguf") or "/" in model):
        model = str(Path(model).expanduser().absolute())  # a path typed here is relative to here
    return load_task(task, model=model, settings=settings(sets))
