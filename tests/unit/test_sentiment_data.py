"""Checks on the hand-written sentiment data set under tasks/data/sentiment."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "tasks" / "data" / "sentiment"
MIN_ROWS = {"train": 60, "test": 100}
LABELS = {"positive", "negative"}
MIN_WORDS, MAX_WORDS = 4, 40
MAX_RUN = 4
NEAR = 0.8

Row = dict[str, str]


def load(split: str) -> list[Row]:
    raw = (DATA / f"{split}.jsonl").read_text(encoding="utf-8")
    assert raw.endswith("\n")
    return [json.loads(line) for line in raw.removesuffix("\n").split("\n")]


def normalise(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def tokens(text: str) -> list[str]:
    return [word for word in map(normalise, text.split()) if word]


def similar(a: list[str], b: list[str]) -> bool:
    """Whether two token lists overlap too much, as sets or as sequences."""
    left, right = set(a), set(b)
    if len(left & right) / len(left | right) > NEAR:
        return True
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() > NEAR


@pytest.mark.parametrize("split", sorted(MIN_ROWS))
def test_split_is_well_formed(split: str) -> None:
    rows = load(split)
    assert len(rows) >= MIN_ROWS[split]
    for row in rows:
        assert set(row) == {"text", "label"}, row
        assert row["label"] in LABELS, row
        assert isinstance(row["text"], str), row
        assert row["text"] == row["text"].strip(), row
        assert MIN_WORDS <= len(row["text"].split()) <= MAX_WORDS, row


@pytest.mark.parametrize("split", sorted(MIN_ROWS))
def test_labels_are_balanced_and_mixed(split: str) -> None:
    labels = [row["label"] for row in load(split)]
    counts = Counter(labels)
    assert set(counts) == LABELS
    assert counts["positive"] == counts["negative"]
    assert max(len(list(run)) for _, run in groupby(labels)) <= MAX_RUN


def test_no_duplicates_within_or_across() -> None:
    counts = Counter(normalise(row["text"]) for split in MIN_ROWS for row in load(split))
    assert [text for text, n in counts.items() if n > 1] == []


def test_no_near_duplicates_within_or_across() -> None:
    texts = [row["text"] for split in MIN_ROWS for row in load(split)]
    split_up = [tokens(text) for text in texts]
    close = [(texts[i], texts[j]) for i in range(len(texts)) for j in range(i) if similar(split_up[i], split_up[j])]
    assert close == []
