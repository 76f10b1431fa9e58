"""`icl init`: a first task, guessed from a table, or a copy of a shipped one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from icl_engine.errors import TaskError


def init(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="A table with answers: CSV, TSV, JSON, JSONL …")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="FIELD", help="The answer's field (else it is guessed).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The task's name (else the file's).")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", metavar="FILE", help="Your own test rows; DATA is then all train.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="A model's name or a .gguf path (gemma-3-270m).")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="A server's …/v1; --model names its model.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the new files.")] = Path(),
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the split and the draws.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing, take what is guessed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    shipped: Annotated[
        str | None, typer.Option("--from", metavar="TASK", help="Copy a shipped task instead, to change it.")
    ] = None,
) -> None:
    """Write a first task from a table, or copy a shipped one (--from)."""
    from icl_engine.starter.copying import copy_shipped
    from icl_engine.starter.starting import Wanted, start, task_name

    if (data is None) == (shipped is None):
        raise TaskError("takes a table (icl init DATA), or --from and a shipped task's name", key="icl init")
    if shipped is not None:
        told = {"--target": target, "--test": test, "--model": model, "--base-url": base_url}
        given = [option for option, value in told.items() if value is not None]
        if given:
            raise TaskError(f"copies a task as it is; leave out {given[0]} and change the copy", key="--from")
        lines = copy_shipped(shipped, task_name(name, Path(shipped)), out, force=force)
    else:
        assert data is not None
        asks = not yes and sys.stdin.isatty() and sys.stdout.isatty()
        wanted = Wanted(data, target, name, test, model, base_url, out, seed, force, ask_target if asks else None)
        lines = start(wanted)
    print("\n".join(lines), flush=True)


def ask_target(names: list[str], guess: str) -> str:
    """Ask a person which field is the answer."""
    from icl_engine.errors import bounded, did_you_mean

    print(f"fields: {', '.join(bounded(name, 60) for name in names)}")
    while True:
        try:
            said = input(f"Which field is the answer? [{bounded(guess, 60)}] ")
        except EOFError:
            raise KeyboardInterrupt from None
        for answer in (said, said.strip()):
            if not answer or answer in names:
                return answer or guess
        print(f"there is no field {bounded(said.strip(), 60)!r}{bounded(did_you_mean(said.strip(), names))}")
