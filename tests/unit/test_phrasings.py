"""How models phrase answers, and what each reader makes of it: the rows of tests/phrasings/<reader>.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from icl_engine.registry import resolve
from icl_engine.types import Reading

FILES = sorted(Path(__file__).parents[1].glob("phrasings/*.jsonl"))
ROWS: list[tuple[str, dict[str, Any]]] = [
    (path.stem, orjson.loads(line)) for path in FILES for line in path.read_bytes().splitlines()
]
"""Each a reader's name, and its keys, the text, the value (None where nothing is to be read) and the query's inputs."""


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{row['text'][:20]!r}" for name, row in ROWS])
def test_an_answer_is_read_as_it_was_meant(name: str, row: dict[str, Any]) -> None:
    step = resolve("aligner", name).model_validate({"use": name, **row["keys"]})
    result = step.apply(Reading(text=row["text"], inputs=row.get("inputs", {})))
    assert (result.status, result.value) == ("unparsed" if row["value"] is None else "ok", row["value"])
    assert type(result.value) is type(row["value"])  # true is not 1


def test_there_are_many_phrasings_of_what_is_meant_and_of_what_is_not() -> None:
    said = {(name, orjson.dumps(row)) for name, row in ROWS}
    assert len(said) == len(ROWS), "a row stands twice"
    assert len(said) >= 200
    assert sum(row["value"] is None for _, row in ROWS) >= 60
