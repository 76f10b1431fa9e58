"""`icl predict`: predictions as JSONL."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from icl_engine.console.options import ModelOption, SetOption, TaskArgument, loaded
from icl_engine.errors import DataError, IclError, TaskError, bounded

BATCH = 64


def predict(
    task: TaskArgument,
    given: Annotated[
        str, typer.Option("--input", metavar="JSON", help="Template variables as JSON, or - for JSONL on stdin.")
    ],
    model: ModelOption = None,
    sets: SetOption = None,
) -> None:
    """Predict the given inputs, one JSON line each."""
    import orjson

    from icl_engine.config.load import build

    failed = 0
    rows = _rows(sys.stdin.buffer) if given == "-" else iter([_row(given.encode(), "--input")])
    with build(loaded(task, model, sets)) as pipeline:
        while chunk := list(islice(rows, BATCH)):
            for row, result in zip(chunk, pipeline.batch(chunk, errors="return"), strict=True):
                if given != "-" and isinstance(result, TaskError):
                    raise result
                failed += isinstance(result, IclError)
                line = {"id": row["id"]} if "id" in row else {}
                sys.stdout.buffer.write(orjson.dumps({**line, **_shown(result)}, option=orjson.OPT_APPEND_NEWLINE))
            sys.stdout.buffer.flush()
    if failed:
        raise typer.Exit(3)


def _rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _row(line, f"stdin line {number}")


def _row(raw: bytes, where: str) -> dict[str, Any]:
    import orjson

    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DataError(f"not JSON: {bounded(str(error))}", key=where) from error
    if not isinstance(row, dict):
        raise DataError("takes an object with the template's variables", key=where)
    return row


def _shown(result: Any) -> dict[str, Any]:
    if isinstance(result, IclError):
        return {"prediction": None, "status": "failed", "error": str(result)}
    return {
        "prediction": result.value,
        "status": result.status,
        "distribution": result.distribution,
        "text": result.text,
    }
