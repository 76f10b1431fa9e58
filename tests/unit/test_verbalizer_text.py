"""`verbalizer` by text: which label an answer says, what it must not be taken for, and how misspelt it may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from icl_engine.alignment.structural.forms.labelled import key
from icl_engine.alignment.structural.forms.nearest import Neighbours, forms, similar
from icl_engine.alignment.structural.verbalizer import Verbalizer
from icl_engine.types import LabelScores, Reading

SENTIMENT = {"positive": "positive", "negative": "negative"}
INTENTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "banking77" / "train.jsonl"

PARTS = st.sampled_from(
    ["good", "bad", "not", "un", "un-", "entailment", "A", "b", ".", "_", " ", "(", "'", "no", "é", "ß"]
)
WORDS = (
    st.one_of(st.lists(PARTS, min_size=1, max_size=4).map("".join), st.text(max_size=12)).map(str.strip).filter(bool)
)
LABELS = st.lists(WORDS, min_size=2, max_size=6, unique=True)
"""Any words a user may give: that contain one another, deny one another, or differ in case or marks alone."""

PLAIN = st.lists(st.text("abcdefghij", min_size=3, max_size=9), min_size=1, max_size=3).map(" ".join)
"""Words of letters."""


def labelled(words: list[str], **keys: Any) -> Verbalizer:
    return Verbalizer(labels={f"label {i}": word for i, word in enumerate(words)}, read="text", **keys)


def read(text: str, labels: Mapping[str, Any] = SENTIMENT, **keys: Any) -> str | None:
    """The label; None for none."""
    step = Verbalizer(labels=labels, **keys)
    result = step.apply(Reading(text=text))
    assert (result.value is None) == (result.status == "unparsed")
    assert step.said(text) == result.value, "the same where answers are drawn and counted"
    value: str | None = result.value
    return value


# -- laws


@given(words=LABELS, nearest=st.none() | st.floats(0.01, 1))
def test_any_label_reads_back_as_itself(words: list[str], nearest: float | None) -> None:
    step = labelled(words, nearest=nearest)
    for label in step.labels:
        result = step.apply(Reading(text=step.write(label)))
        assert (result.status, result.value) == ("ok", step.canon(label))
        assert step.canon(step.canon(label)) == step.canon(label)
        assert step.said(f" {step.write(label)}\n") == label


@pytest.mark.parametrize(
    "said",
    ["**{}**", "{}.", "Label: {}", "The answer is {}.", "\\boxed{{{}}}", "It is {}.", "<label>{}</label>", "# {}"],
)
@given(words=st.lists(PLAIN, min_size=2, max_size=5, unique=True))
def test_a_label_is_read_in_marks_and_phrases(said: str, words: list[str]) -> None:
    step = labelled(words)
    for label, (word,) in step.labels.items():
        assert step.said(said.format(word)) == label
        assert step.said(said.format(word.upper())) == label


@pytest.mark.parametrize(
    "said", ["not {}", "It is not {}.", "It isn't {}!", "non-{}", "It might be {}.", "{} is wrong", "{}?"]
)
@given(words=st.lists(PLAIN, min_size=2, max_size=5, unique=True))
def test_a_label_denied_or_doubted_is_not_read(said: str, words: list[str]) -> None:
    step = labelled(words)
    for label, (word,) in step.labels.items():
        assert step.said(said.format(word)) != label


@pytest.mark.parametrize(
    "prefix", ["un", "in", "im", "ir", "il", "dis", "mis", "non", "anti", "a", "non-", "anti-", "un-"]
)
@given(words=st.lists(st.text("abdeilnrstu", min_size=2, max_size=14), min_size=2, max_size=5, unique=True))
def test_a_word_with_a_prefix_is_another_word(prefix: str, words: list[str]) -> None:
    step = labelled(words, nearest=0.5)
    for label, (word,) in step.labels.items():
        assert step.said(prefix + word) != label or prefix + word in words


@given(words=st.lists(PLAIN, min_size=2, max_size=2, unique=True))
def test_two_labels_with_equal_right_are_none(words: list[str]) -> None:
    one, other = words
    assume(one not in other and other not in one)
    step = labelled(words)
    for said in ("{} or {}", "{}/{}", "{} and {}", "Both {} and {}.", "The answer is {} or {}.", "neither {} nor {}"):
        assert step.said(said.format(one, other)) is None


@given(st.text())
def test_the_row_stays_with_the_reading(text: str) -> None:
    inputs = {"q": "?"}
    assert Verbalizer(labels=SENTIMENT).apply(Reading(text=text, inputs=inputs)).inputs is inputs


# -- what the traces say


def test_the_trace_tells_what_was_seen_and_taken() -> None:
    step = Verbalizer(labels=SENTIMENT)
    assert step.apply(Reading(text="Positive.")).trace == ("verbalizer: 'positive', of 'Positive.'",)
    assert step.apply(Reading(text="good")).trace == ("verbalizer: no label, in 'good'",)
    seen = step.apply(Reading(text="positive or negative")).trace
    assert seen == ("verbalizer: no single label, in 'positive or negative'",)


def test_the_trace_of_scores_tells_the_label_and_its_probability() -> None:
    step = Verbalizer(labels=SENTIMENT)
    scores = LabelScores({"positive": -1.0, "negative": -1.0}, "continuation")
    assert step.from_scores(scores).trace == ("verbalizer: 'positive', p = 0.5 by continuation",)
    best = LabelScores({"positive": -2.0, "negative": -1.0}, "top_k", whole=False)
    assert step.from_scores(best).trace == ("verbalizer: 'negative', the likeliest by top_k",)


# -- the nearest label


@pytest.mark.parametrize(
    ("said", "label"),
    [
        *(("negatve", "negative"), ("Positve.", "positive"), ("Label: negtaive", "negative"), ("negativ", "negative")),
        *(("negate", None), ("posit", None), ("native", None), ("not negatve", None), ("a negatve and postive", None)),
    ],
)
def test_a_misspelt_label_is_its_nearest(said: str, label: str | None) -> None:
    assert read(said) == label
    assert read(said, nearest=None) is None


@pytest.mark.parametrize(
    ("word", "label"),
    [
        *(("unlikely", "likely"), ("unhappy", "happy"), ("incorrect", "correct"), ("not entailment", "entailment")),
        *(("atypical", "typical"), ("unacceptable", "acceptable"), ("insufficient", "sufficient"), ("bed", "bad")),
        *(("short", "sport"), ("would", "world"), ("food", "good"), ("implicit", "explicit"), ("harmless", "harmful")),
        *(("deductive", "inductive"), ("unreasonable statement", "reasonable statement"), ("type 1", "type 2")),
        *(("likely", "like"), ("new", "news"), ("hardly", "hard"), ("unentailment", "entailment"), ("lately", "late")),
    ],
)
def test_a_word_is_not_taken_for_another(word: str, label: str) -> None:
    assert read(word, {"it": label, "other": "something else"}) is None


@given(
    least=st.floats(0.01, 1), words=st.lists(st.text("abc", min_size=1), min_size=2, unique=True), said=st.text("abc")
)
def test_two_labels_that_are_about_as_near_are_none(least: float, words: list[str], said: str) -> None:
    known: dict[tuple[str, ...], str | None] = {(word,): word for word in words}
    found = Neighbours(known, least).nearest([said] if said else [])
    if found is not None:
        assert similar(said, found, least)
        assert Neighbours({**known, (found,): None}, least).nearest([said]) is None


@pytest.mark.parametrize(
    ("word", "inflected"),
    [
        ("entailment", ["entailed", "entails", "entail", "entailments"]),
        ("contradiction", ["contradicts", "contradicted", "contradictory", "contradictions"]),
        ("positive", ["positively", "positives", "positivity"]),
        ("neutral", ["neutrally", "neutrality"]),
        ("sarcastic", ["sarcastically"]),
        ("sports", ["sport"]),
        ("business", ["businesses"]),
        ("category", ["categories"]),
    ],
)
def test_a_label_may_be_inflected(word: str, inflected: list[str]) -> None:
    assert forms(word) >= set(inflected)
    for form in inflected:
        assert read(form, {"it": word, "other": "something else"}, nearest=None) == "it"
        assert read(f"The answer is {form}.", {"it": word, "other": "something else"}, nearest=None) == "it"
        assert read(f"not {form}", {"it": word, "other": "something else"}) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("not_entailment", "Not Entailment"),
        ("not_entailment", "isn't an entailment."),
        ("Sci/Tech", "**sci/tech**"),
        ("card_arrival", "Card-Arrival"),
        ("don't know", "Don’t know"),
    ],
)
def test_two_spellings_of_one_word(one: str, other: str) -> None:
    assert key(one) == key(other)


# -- many labels


@pytest.fixture(scope="module")
def intents() -> Verbalizer:
    """The 77 intents of Banking77."""
    if not INTENTS.exists():
        pytest.skip(f"no data at {INTENTS}")
    with INTENTS.open(encoding="utf-8") as file:
        names = sorted({json.loads(line)["label"] for line in file})
    return Verbalizer(labels={name: name for name in names})


def test_of_many_labels_each_is_read_and_misspelt_never_taken_for_another(intents: Verbalizer) -> None:
    right = tried = 0
    for label in intents.labels:
        for said in (
            label,
            label.replace(" ", "_"),
            f"Intent: {label.title()}",
            f"The intent is **{label}**.",
            f"the {label}",
        ):
            assert intents.said(said) == label
        for i in range(1, len(label) - 1):
            swapped = f"{label[:i]}{label[i + 1]}{label[i]}{label[i + 2 :]}"
            for slip in (label[:i] + label[i + 1 :], swapped, f"{label[:i]}x{label[i:]}"):
                found = intents.said(slip)
                assert found in (label, None), slip
                tried, right = tried + 1, right + (found == label)
    assert right > tried / 2


def test_many_labels_are_looked_for_quickly(intents: Verbalizer) -> None:
    said = ["card arrival", "The intent is card arival.", "I do not know what this is about.", "Paris", "transfer"]
    for text in said:
        intents.said(text)
    start = process_time()
    for text in said * 20:
        intents.said(text)
    assert process_time() - start < 0.5, "a hundred answers"


@pytest.mark.parametrize(
    "piece",
    ["positive ", "not ", "label: ", "negatve ", "-", "İ", "\\boxed{", "so ", "positive or ", "a: b\n", "?", "is "],
)
def test_long_answers_take_little_time(piece: str) -> None:
    step = Verbalizer(labels=SENTIMENT)
    step.apply(Reading(text="x"))
    start = process_time()
    step.apply(Reading(text=(piece * 50_000)[:50_000]))
    assert process_time() - start < 0.5
