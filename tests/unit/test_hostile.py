"""Hostile answers through every structural reader and common chains: no exception, and nothing that cannot be written.

A sample of the corpus that benchmarks/hostile.py reads in full, and times.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import ROW, UNITS, answers, readers, said

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.text import LONGEST
from icl_engine.registry import resolve
from icl_engine.types import Need, Reading

STEPS = readers(more=True)
EVERY = pytest.mark.parametrize("name", STEPS)
CORPUS = tuple(answers(200, seed=11, longest=120_000))
WILD = st.text(st.characters(codec=None), max_size=60) | st.lists(st.sampled_from(UNITS + said()), max_size=8).map(
    "".join
)


@cache
def chain(name: str) -> Chain:
    return Chain(tuple(resolve("aligner", step["use"]).model_validate(step) for step in STEPS[name]))


def survives(name: str, text: str) -> None:
    """Assert that the steps make a reading of a text that can be written to a run directory."""
    steps = chain(name)
    inputs: dict[str, Any] = dict(ROW)
    reading, _ = steps.advance(*steps.begin(Need("text"), text, None, inputs), {}, len(steps.steps))
    assert isinstance(reading, Reading)
    assert reading.status in ("ok", "unparsed")
    assert (reading.value is None) or reading.status == "ok"
    orjson.dumps([reading.value, reading.trace])
    assert sum(map(len, reading.trace)) < 2_000
    assert inputs == ROW


@EVERY
def test_no_answer_of_the_corpus_breaks_a_reader(name: str) -> None:
    for text in CORPUS:
        survives(name, text)


@EVERY
@given(text=WILD)
@settings(deadline=None, max_examples=15)
def test_no_text_breaks_a_reader(name: str, text: str) -> None:
    survives(name, text)


def test_the_corpus_is_the_same_for_a_seed_and_has_what_it_is_for() -> None:
    assert tuple(answers(200, seed=11, longest=120_000)) == CORPUS
    assert max(map(len, CORPUS)) > LONGEST
    together = "".join(CORPUS)
    assert all(mark in together for mark in ("\x00", "\u202e", "\ud800", "\u200b", "\U0001f600", "\\boxed{" * 9, "```"))
