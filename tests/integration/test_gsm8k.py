"""GSM8K: four systems' recorded solutions, and the published flags that say which of them are right.

The data is not part of the project; without it these tests skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.structural.after import After
from icl_engine.alignment.structural.number import Number
from icl_engine.types import Reading

SOLUTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k" / "model_solutions.jsonl"
CORRECT = {"6b_finetuning": 286, "6b_verification": 515, "175b_finetuning": 458, "175b_verification": 742}
"""System -> how many of the 1,319 problems it solves (Cobbe et al. 2021)."""

CHAIN = Chain((After(marker="A:"), Number()))

pytestmark = pytest.mark.skipif(not SOLUTIONS.is_file(), reason=f"no GSM8K solutions at {SOLUTIONS}")


@cache
def rows() -> list[Mapping[str, Any]]:
    with SOLUTIONS.open("rb") as file:
        return [orjson.loads(line) for line in file]


def read(solution: str) -> Reading:
    reading, _ = CHAIN.advance(Reading(text=solution), 0, {}, len(CHAIN.steps))
    return reading


def test_the_record_is_whole() -> None:
    assert len(rows()) == 1319
    assert all(set(row) == {"question", "answer", *CORRECT} for row in rows())


@pytest.mark.parametrize("system", CORRECT)
def test_every_flag_of_the_authors_is_reproduced(system: str) -> None:
    flags = [row[system]["is_correct"] for row in rows()]
    judged = [read(row[system]["solution"]).value == CHAIN.canon(row["answer"]) for row in rows()]
    assert [i for i, (mine, theirs) in enumerate(zip(judged, flags, strict=True)) if mine != theirs] == []
    assert sum(judged) == CORRECT[system]


def test_comparing_texts_would_miss_right_answers() -> None:
    said = [(row["answer"], row[system]) for row in rows() for system in CORRECT]
    missed = [y for y, it in said if it["is_correct"] and it["solution"].split("A:")[-1].strip() != y]
    assert len(said) == 4 * 1319
    assert len(missed) == 10


def test_a_solution_without_an_answer_is_unparsed_and_wrong() -> None:
    unparsed = [
        (row[system], reading)
        for row in rows()
        for system in CORRECT
        if (reading := read(row[system]["solution"])).status == "unparsed"
    ]
    assert len(unparsed) == 11
    assert not any(solution["is_correct"] for solution, _ in unparsed)
    assert all(reading.value is None and reading.trace for _, reading in unparsed)
