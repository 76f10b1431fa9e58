"""The data of the shipped tasks, written for this project: complete, balanced, without duplicates, without leaks."""

from __future__ import annotations

import difflib
import json
import operator
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import pytest

from icl_engine.config.load import load_task
from icl_engine.paths import shipped

SPLITS = ("train", "test")
MIN_ROWS = 40
MAX_RUN = 4
NEAR = 0.8
"""Share of words in common, as sets or in order, from which two texts count as the same."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What the rows of a data set look like.

    Args:
        fields: each row's fields, in order.
        texts: the fields that may not repeat (together).
        words: the fewest and the most words of each text field.
        label: the field with labels, which are balanced.
        labels: the labels.
        times: how often a text stands in its split.
    """

    fields: tuple[str, ...]
    texts: tuple[str, ...]
    words: Mapping[str, tuple[int, int]]
    label: str | None = None
    labels: frozenset[str] = frozenset()
    times: int = 1


PLEASED = frozenset({"positive", "negative"})
KINDS = {
    "sentiment": Kind(("text", "label"), ("text",), {"text": (4, 40)}, "label", PLEASED),
    "topic": Kind(
        ("text", "label"),
        ("text",),
        {"text": (12, 40)},
        "label",
        frozenset({"business", "food", "music", "science", "sports", "travel"}),
    ),
    "intent": Kind(
        ("text", "label"),
        ("text",),
        {"text": (4, 35)},
        "label",
        frozenset(
            {"cancel_order", "change_address", "opening_hours", "report_damage", "request_refund", "track_parcel"}
        ),
    ),
    "aspect": Kind(
        ("text", "aspect", "label"), ("text",), {"text": (10, 40), "aspect": (1, 3)}, "label", PLEASED, times=2
    ),
    "nli": Kind(
        ("premise", "hypothesis", "label"),
        ("premise", "hypothesis"),
        {"premise": (5, 25), "hypothesis": (4, 15)},
        "label",
        frozenset({"entailment", "neutral", "contradiction"}),
    ),
    "entities": Kind(("text", "entities"), ("text",), {"text": (8, 30)}),
    "summary": Kind(("text", "summary"), ("text",), {"text": (40, 80), "summary": (8, 20)}),
    "translation": Kind(("english", "french"), ("english",), {"english": (4, 14), "french": (3, 20)}),
    "arithmetic": Kind(
        ("question", "rationale", "answer"), ("question",), {"question": (12, 45), "rationale": (8, 45)}
    ),
}
EVERY = pytest.mark.parametrize("name", sorted(KINDS))
BOTH = pytest.mark.parametrize("split", SPLITS)


def load(name: str, split: str) -> list[Row]:
    raw = (shipped("tasks") / "data" / name / f"{split}.jsonl").read_text(encoding="utf-8")
    assert raw.endswith("\n")
    return [json.loads(line) for line in raw.removesuffix("\n").split("\n")]


def whole(name: str) -> list[Row]:
    return [row for split in SPLITS for row in load(name, split)]


def tokens(text: str) -> list[str]:
    words = ("".join(c for c in word.casefold() if c.isalnum()) for word in text.split())
    return [word for word in words if word]


def similar(a: list[str], b: list[str]) -> bool:
    """Whether two texts share too many words, as sets or in order."""
    left, right = set(a), set(b)
    if len(left & right) / len(left | right) > NEAR:
        return True
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return matcher.real_quick_ratio() > NEAR and matcher.quick_ratio() > NEAR and matcher.ratio() > NEAR


def test_every_shipped_task_has_its_data_described() -> None:
    assert {path.stem for path in shipped("tasks").glob("*.yaml")} == set(KINDS)
    assert {path.name for path in (shipped("tasks") / "data").iterdir()} == set(KINDS)


@EVERY
def test_a_task_uses_its_own_data(name: str) -> None:
    task = load_task(name).task
    assert task.name == name
    assert [Path(p).relative_to(shipped("tasks") / "data") for p in (task.data.train, task.data.test)] == [
        Path(name) / f"{split}.jsonl" for split in SPLITS
    ]


@EVERY
@BOTH
def test_rows_are_well_formed(name: str, split: str) -> None:
    kind, rows = KINDS[name], load(name, split)
    assert len(rows) >= MIN_ROWS
    for row in rows:
        assert tuple(row) == kind.fields, row
        for field, (least, most) in kind.words.items():
            assert row[field] == row[field].strip(), row
            assert row[field].isprintable(), row
            assert least <= len(row[field].split()) <= most, row


@pytest.mark.parametrize("name", sorted(name for name, kind in KINDS.items() if kind.label))
@BOTH
def test_labels_are_balanced_and_mixed(name: str, split: str) -> None:
    labels = [row[KINDS[name].label or ""] for row in load(name, split)]
    counts = Counter(labels)
    assert set(counts) == KINDS[name].labels
    assert len(set(counts.values())) == 1
    assert max(len(list(run)) for _, run in groupby(labels)) <= MAX_RUN


@EVERY
def test_no_text_repeats_within_or_across_splits(name: str) -> None:
    kind = KINDS[name]
    seen = Counter(" ".join(tokens(" ".join(row[field] for field in kind.texts))) for row in whole(name))
    assert {text: n for text, n in seen.items() if n != kind.times} == {}


@EVERY
def test_no_text_nearly_repeats_within_or_across_splits(name: str) -> None:
    for field in KINDS[name].texts:
        texts = list(dict.fromkeys(row[field] for row in whole(name)))
        split_up = [tokens(text) for text in texts]
        close = [
            (texts[i], texts[j]) for i, j in combinations(range(len(texts)), 2) if similar(split_up[i], split_up[j])
        ]
        assert close == []


def test_an_aspects_text_is_in_one_split_with_one_verdict_of_each_kind() -> None:
    splits = [{row["text"] for row in load("aspect", split)} for split in SPLITS]
    assert not splits[0] & splits[1]
    verdicts: dict[str, list[tuple[str, str]]] = {}
    for row in whole("aspect"):
        verdicts.setdefault(row["text"], []).append((row["label"], row["aspect"]))
    for text, found in verdicts.items():
        assert {label for label, _ in found} == PLEASED, text
        assert len({aspect for _, aspect in found}) == 2, text


def test_a_topic_is_not_named_in_its_text() -> None:
    for row in whole("topic"):
        assert not re.search(r"business|food|music|scien|sport|travel", row["text"], re.IGNORECASE), row


def test_a_cloze_reads_as_a_sentence() -> None:
    for row in whole("nli"):
        assert row["premise"][0].isupper(), row
        assert row["premise"][-1] not in ".?!,;:", row
        assert row["hypothesis"].endswith("."), row


def test_negation_does_not_give_a_contradiction_away() -> None:
    negated = re.compile(r"\b(not|no|never|nobody|nothing|none|nor|without|cannot)\b|n't\b")
    rows = whole("nli")
    shares = {
        label: sum(bool(negated.search(r["hypothesis"])) for r in rows if r["label"] == label)
        / sum(r["label"] == label for r in rows)
        for label in KINDS["nli"].labels
    }
    assert max(shares.values()) - min(shares.values()) < 0.15, shares


def test_entities_stand_in_their_sentence_once_listed() -> None:
    for row in whole("entities"):
        assert list(row["entities"]) == ["person", "place", "organisation"], row
        named = [name for several in row["entities"].values() for name in several]
        assert len(named) == len(set(named)), row
        for name in named:
            assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", row["text"]), (name, row)


def test_no_person_or_organisation_is_in_both_splits() -> None:
    for kind in ("person", "organisation"):
        named = [{n for row in load("entities", split) for n in row["entities"][kind]} for split in SPLITS]
        assert not named[0] & named[1]
        assert min(map(len, named)) >= 20


def test_a_summary_is_one_sentence_that_is_not_in_its_text() -> None:
    for row in whole("summary"):
        assert row["summary"].endswith("."), row
        assert row["summary"].rstrip(".") not in row["text"], row


OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def test_every_equation_of_a_rationale_is_true_and_the_last_gives_the_answer() -> None:
    for row in whole("arithmetic"):
        equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", row["rationale"])
        assert equations, row
        assert len(equations) == row["rationale"].count("="), row
        for left, sign, right, result in equations:
            assert OPERATIONS[sign](int(left), int(right)) == int(result), row
        assert type(row["answer"]) is int
        assert int(equations[-1][3]) == row["answer"], row
        assert "the answer is" not in row["rationale"].casefold(), row


def test_an_answer_is_not_guessed_from_how_often_it_occurs() -> None:
    for split in SPLITS:
        assert max(Counter(row["answer"] for row in load("arithmetic", split)).values()) <= 4
