"""`icl show`: the exact prompt of one example."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from icl_engine.console.options import ModelOption, SetOption, TaskArgument, loaded
from icl_engine.errors import RequestError, TaskError

if TYPE_CHECKING:
    from icl_engine.types import Demonstration


def show(
    task: TaskArgument,
    index: Annotated[int, typer.Option("--index", metavar="I", min=0, help="Which test row, from 0.")] = 0,
    model: ModelOption = None,
    sets: SetOption = None,
) -> None:
    """Print the exact prompt or messages of one example, and where each demonstration came from."""
    from icl_engine.config.load import build
    from icl_engine.engine.recall import recalled_prompt

    found = loaded(task, model, sets)
    pipeline = build(found)
    x = next(islice(found.test(need_target=False), index, None), None)
    if x is None:
        count = sum(1 for _ in found.test(need_target=False))
        raise TaskError(f"there is no test row {index}; there are {count}, counted from 0", key="--index")
    with pipeline, found.document.placing():
        try:
            prompt, final = recalled_prompt(pipeline, x)
        except RequestError as error:
            raise TaskError(str(error), key="input.max_prompt_tokens") from error
    if prompt.text is not None:
        sys.stdout.write(prompt.text + "\n")
    for message in prompt.messages or ():
        sys.stdout.write(f"[{message.role}]\n{message.text}\n")
    sys.stdout.flush()
    say = _dim
    if not final:
        say("--- the model was not asked yet for what comes before the answer: this is the first prompt")
    say(
        f"--- example {x.id!r}; the answer follows {prompt.lead!r}"
        + (f", then {prompt.after!r}" if prompt.after else "")
    )
    if x.target is not None:
        say(f"target: {pipeline.chain.canon(x.target)!r}")
    for i, d in enumerate(prompt.demonstrations, start=1):
        say(f"demonstration {i}: {_told(d)}")
    for d in prompt.dropped:
        say(f"left out, the prompt would be too long: {_told(d)}")
    need = pipeline.need(prompt)
    words = {label: list(ws) for label, ws in need.words.items()}
    say(f"asks for {need.kind}" + (f" of {words} ({need.scores}, {need.want})" if words else ""))


def _told(d: Demonstration) -> str:
    score = "" if d.score is None else f", score {d.score:.4f}"
    return f"row {d.example.id!r}, target {d.example.target!r}, {d.why}{score}"


def _dim(text: str) -> None:
    """Notes go to standard error, so that standard output is the prompt and nothing else."""
    print(typer.style(text, dim=True) if sys.stderr.isatty() else text, file=sys.stderr)
