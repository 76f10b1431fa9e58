"""`icl schema`: the JSON Schema of a task file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from icl_engine.errors import TaskError


def schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it to this file.")] = None,
) -> None:
    """Print the JSON Schema of a task file, with which editors complete and check it."""
    import json

    from icl_engine.config.schema import task_schema

    text = json.dumps(task_schema(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        # UTF-8 whatever the terminal's encoding: it is a file's content.
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return
    try:
        out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise TaskError(f"cannot be written: {error.strerror}", file=out, key="--out") from error
    print(f"as the first line of a task file: # yaml-language-server: $schema={out.absolute()}", file=sys.stderr)
