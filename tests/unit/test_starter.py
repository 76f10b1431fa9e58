"""What `icl init` guesses of a table, how it splits it, and how it writes the task."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icl_engine.config.document import VARIABLE, value
from icl_engine.config.load import load_task
from icl_engine.errors import DataError, TaskError
from icl_engine.manipulation.retrieve.random import Random
from icl_engine.manipulation.template import Template
from icl_engine.protocols import View
from icl_engine.starter.column import Column, columns, kind_of
from icl_engine.starter.guess import Guess, guess, likely_target
from icl_engine.starter.split import key_of, most_demonstrations, one_sided, split, usable
from icl_engine.starter.starting import Wanted, start, task_name
from icl_engine.starter.text import Side, Starter
from icl_engine.starter.wording import answer_title, instruction, printed, scalar, template, title, words
from icl_engine.types import Example

Rows = list[dict[str, Any]]

# What breaks careless readers and writers of YAML, Jinja, JSON and CSV.
NASTY = [
    *("yes", "no", "null", "true", "~", "1.5", "1e3", "0x1F", "007", "a: b", "#x", "a #b", "- a", "? a", "{a}", "[b"),
    *("'", '"', "it's", '"q"', "\\", "a\\n", "${HOME}", "${NO_SUCH}", "$${A}{B}", "{{ x }}", "{% if %}", "{# c", "}}"),
    *(
        "&a",
        "*a",
        "!t",
        "%d",
        "@",
        "`",
        "|",
        ">",
        "<<",
        "=",
        "---",
        "...",
        "\u2028",
        "\ufeffbom",
        "é",
        "日本",
        "🙂",
        "a\tb",
    ),
    *(
        " lead",
        "trail ",
        "a\x00b",
        "a\x7fb",
        "\x85",
        "x",
        "answer",
        "target",
        "instruction",
        "if",
        "range",
        "id",
        "items",
    ),
    *("self", "_x", "a b", "a-b", "a_b", "LOUD", "not", "None", "data.labels", "output[0]", "get", ",", ":", "e.g. ☃"),
]


def rows_of(**fields: Sequence[Any]) -> Rows:
    return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]


def guessed(rows: Rows, target: str | None = None) -> Guess:
    table = columns(rows)
    likely, why = likely_target(table)
    return guess(table, likely.name if target is None else target, why)


N = 24
TEXTS = [f"text {i}" for i in range(N)]
AB = ["a", "b"] * (N // 2)
OTHER = [f"other {i}" for i in range(N)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": TEXTS, "label": AB}, "label"),
        ({"label": AB, "text": TEXTS}, "label"),
        ({"Label": AB, "Text": TEXTS}, "Label"),
        ({"gold_label": AB, "text": TEXTS}, "gold_label"),
        ({"goldLabel": AB, "text": TEXTS}, "goldLabel"),
        ({"label": AB, "text": TEXTS, "fine_label": AB[::-1]}, "label"),
        ({"summary": TEXTS, "dialogue": OTHER}, "summary"),
        ({"topic": AB, "text": TEXTS, "label": OTHER}, "label"),
        ({"category": AB, "sentiment": AB, "text": TEXTS}, "sentiment"),
        ({"y": AB, "x": TEXTS}, "y"),
        ({"topic": AB, "text": TEXTS}, "topic"),
        ({"topic": TEXTS, "poem": OTHER}, "poem"),
        ({"input": TEXTS, "output": OTHER}, "output"),
        # nothing named so: the last field that looks like labels, else the last
        ({"mood": AB, "text": TEXTS, "more": OTHER}, "mood"),
        ({"one": OTHER, "two": TEXTS}, "two"),
        ({"one": OTHER, "two": TEXTS, "row": range(N)}, "two"),
        # a name whose field says nothing is passed over, unless nothing else is named so
        ({"label": [""] * N, "text": TEXTS, "intent": AB}, "intent"),
        ({"label": ["a"] * N, "text": TEXTS}, "label"),
        # names of the labels say more than their numbers
        ({"text": TEXTS, "label": [0, 1] * (N // 2), "label_text": AB}, "label_text"),
    ],
)
def test_which_field_is_the_answer(fields: Mapping[str, Sequence[Any]], expected: str) -> None:
    assert likely_target(columns(rows_of(**fields)))[0].name == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (AB, "labels"),
        ([0, 1] * 5, "labels"),
        ([True, False] * 5, "labels"),
        ([1.0, 2.0] * 5, "labels"),
        (["1", "2", "3"] * 4, "labels"),
        (["a", "b", "c"] * 4, "labels"),
        (["a", "b", "c", "a", "b", "c"], "text"),  # three of six do not repeat enough
        (["a", "b", "a", "b"], "labels"),
        (list(range(12)) * 4, "labels"),  # 0 … 11: codes
        ([i + 2 for i in range(12)] * 4, "number"),  # 2 … 13: counts
        (["5", "17", "1,024", "-3", "$9.50", "12%"], "number"),
        (["007", "008", "009", "010"], "text"),
        ([f"label {i}" for i in range(100)] * 3, "labels"),
        ([f"label {i}" for i in range(101)] * 4, "text"),
        (["long " * 30, "text " * 30] * 5, "text"),
        (["a\nb", "c\nd"] * 5, "text"),
        (TEXTS, "text"),
        ([["a"], ["b", "c"], []], "json"),
        ([{"a": 1}, {"a": 2}], "json"),
        (['[{"a": 1}]', "[]"], "json"),
        (["[a]", "[b]", "[c]"], "text"),
        ([{"a": 1}, "text"], "text"),
        ([None, "", *AB], "labels"),
    ],
)
def test_what_kind_the_answers_are(values: Sequence[Any], expected: str) -> None:
    assert kind_of(Column("y", values)) == expected


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("id", TEXTS, "an id, by its name"),
        ("tweet_id", AB, "an id, by its name"),
        ("n", [str(i) for i in range(N)], "unique numbers or ids"),
        ("n", random.Random(0).sample(range(1000), N), "unique numbers or ids"),
        ("n", [f"{i:032x}" for i in range(N)], "unique numbers or ids"),
        ("lang", ["en"] * N, "always the same"),
        ("note", [""] * N, "empty"),
        ("note", ["", None] * (N // 2 - 1) + ["x", ""], "empty in 96% of the rows"),
        ("rationale", TEXTS, "gives the answer's reasons"),
        ("split", AB[::-1], "names a split"),
        ("fine_label", ["a1", "b1", "a2", "b2"] * (N // 4), "tells the answer"),
        ("code", [7, 9] * (N // 2), "tells the answer"),
        ("year", [2000 + i % 7 for i in range(N)], None),
        ("author", OTHER, None),
        ("flag", ["x", ""] * (N // 2), "tells the answer"),
        ("flag", ["x", "", "", ""] * (N // 4), None),
        ("title", ["", *OTHER[1:]], None),
    ],
)
def test_which_fields_the_model_sees(name: str, values: Sequence[Any], reason: str | None) -> None:
    found = guessed(rows_of(text=TEXTS, **{name: values}, label=AB))
    assert found.target == "label"
    assert found.left_out.get(name) == reason
    assert found.inputs == (("text",) if reason else ("text", name))


def test_a_short_table_may_have_unique_numbers_as_data() -> None:
    rows = rows_of(a=[3, 9, 4, 1, 7], b=[5, 2, 8, 6, 0], sum=[8, 11, 12, 7, 7])
    assert guessed(rows).inputs == ("a", "b")


def test_without_any_other_field_the_least_doubtful_one_comes_back() -> None:
    assert guessed(rows_of(n=range(30), word=[f"number {i}" for i in range(30)])).inputs == ("n",)
    assert guessed(rows_of(id=range(30), lang=["en"] * 30, answer=[f"number {i}" for i in range(30)])).inputs == ("id",)
    with pytest.raises(DataError, match="lang is always the same"):
        guessed(rows_of(lang=["en"] * 30, answer=[f"number {i}" for i in range(30)]))


@pytest.mark.parametrize(
    ("fields", "target", "words_said"),
    [
        ({"label": AB}, None, "has one field (label)"),
        ({"text": TEXTS, "label": AB}, "lable", "there is no field 'lable'; did you mean 'label'?"),
        ({"text": TEXTS, "label": ["a"] * N}, None, "every row has the same answer 'a' in 'label'"),
        ({"text": TEXTS, "label": [None] * N}, "label", "the field 'label' is empty in every row"),
    ],
)
def test_what_cannot_be_a_task(fields: Mapping[str, Sequence[Any]], target: str | None, words_said: str) -> None:
    with pytest.raises(DataError) as raised:
        guessed(rows_of(**fields), target)
    assert words_said in str(raised.value)


# -- splits


def test_a_split_is_two_fifths_by_label_in_the_order_of_the_file() -> None:
    rows = rows_of(text=[f"text {i}" for i in range(100)], label=["a"] * 90 + ["b"] * 10)
    found = guessed(rows)
    train, test = split(usable(rows, found, distinct=True), found, seed=0)
    assert [len(train), len(test)] == [40, 60]
    assert sum(row["label"] == "b" for row in train) == 4
    assert train == [row for row in rows if row in train]
    assert test == [row for row in rows if row in test]
    assert split(usable(rows, found, distinct=True), found, seed=0) == (train, test)
    assert split(usable(rows, found, distinct=True), found, seed=1) != (train, test)


def test_a_split_has_a_thousand_train_rows_at_the_most() -> None:
    rows = rows_of(text=[f"text {i}" for i in range(5000)], label=[f"label {i % 90}" for i in range(5000)])
    found = guessed(rows)
    train, test = split(usable(rows, found, distinct=True), found, seed=0)
    assert 900 <= len(train) <= 1000
    assert len(train) + len(test) == 5000


def test_rows_that_cannot_be_used_are_left_out() -> None:
    rows = rows_of(text=["a", "a", "A ", "a", None, "b", "c"], y=["p", "p", "p", "q", "q", "", None])
    found = guessed(rows, "y")
    table = usable(rows, found, distinct=True)
    assert [(row["text"], row["y"]) for row in table.rows] == [("a", "p"), ("A ", "p"), ("a", "q"), ("", "q")]
    assert (table.unanswered, table.doubles, table.mended) == (2, 1, True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": ["a", "b", "c"], "label": ["x", "y", "x"]}, "has 3 rows with an answer"),
        ({"text": ["a", "a", "a", "a", "b"], "label": ["x", "x", "y", "y", "x"]}, "has 3 different rows"),
        ({"text": ["a", "A", "a ", " a"], "label": ["x", "y", "x", "y"]}, "same input"),
    ],
)
def test_too_little_to_split(fields: Mapping[str, Sequence[Any]], said: str) -> None:
    rows = rows_of(**fields)
    found = guessed(rows)
    with pytest.raises(DataError, match=said):
        split(usable(rows, found, distinct=True), found, seed=0)


def test_a_sorted_file_is_noticed() -> None:
    labels = [f"label {i // 40}" for i in range(1200)]
    assert one_sided(rows_of(text=labels, label=labels), "label")
    random.Random(0).shuffle(labels)
    assert not one_sided(rows_of(text=labels, label=labels), "label")
    rare = ["b"] * 60 + ["a"] * 1140
    assert one_sided(rows_of(text=rare, label=rare[::-1]), "label")


SMALL = st.lists(st.tuples(st.sampled_from(["a", "A", " a", "b", "c", "d", "e", "f g", "f  g", "h"]), st.booleans()))


@given(SMALL, st.integers(0, 5))
def test_splits_share_no_input_and_each_label_is_on_both_sides(pairs: list[tuple[str, bool]], seed: int) -> None:
    rows: Rows = [{"text": text, "label": "yn"[no]} for text, no in pairs]
    found = Guess("label", "", "labels", {"y": 1, "n": 1}, ("text",), frozenset(), {})
    table = usable(rows, found, distinct=True)
    try:
        train, test = split(table, found, seed)
    except DataError:
        return
    assert train
    assert test
    assert len(train) + len(test) == len(table.rows)
    keys = [{key_of(row, found) for row in side} for side in (train, test)]
    assert not keys[0] & keys[1]
    # A label with two inputs that are no other label's is on both sides.
    for label in "yn":
        own = {key_of(row, found) for row in table.rows if row["label"] == label}
        if len(own) > 1 and not own & {key_of(row, found) for row in table.rows if row["label"] != label}:
            assert all(any(row["label"] == label for row in side) for side in (train, test))


@given(SMALL.filter(bool), st.integers(0, 5))
def test_so_many_demonstrations_can_be_drawn_whatever_the_seed(pairs: list[tuple[str, bool]], seed: int) -> None:
    rows: Rows = [{"text": text, "label": "yn"[no]} for text, no in pairs]
    found = Guess("label", "", "labels", {"y": 1, "n": 1}, ("text",), frozenset(), {})
    pool = [Example(i, {"text": row["text"]}, row["label"]) for i, row in enumerate(rows)]
    most = most_demonstrations(rows, found)
    for k, balanced in ((most.different, False), *((k, True) for k in range(1, most.balanced + 1))):
        state = Random(k=k, balanced=balanced).fit(pool, View(lambda x: "|".join(key_of(x.inputs, found))), seed)
        assert len(state.shown) == k


# -- wording


@given(st.one_of(st.sampled_from(NASTY), st.text()))
def test_any_text_survives_yaml(text: str) -> None:
    assert value(f"- {scalar(text)}  # a comment") == [text]
    assert value(f"{scalar(text[:80])}: {scalar(text)}") == {text[:80]: text}


@given(st.one_of(st.sampled_from(NASTY), st.text(max_size=40)), st.text(max_size=5))
def test_any_field_is_printed_by_its_name(name: str, said: str) -> None:
    made = Template(f"{title(name)}: {printed(name)}|{{{{ answer }}}}")
    assert made.example({name: said}).before == f"{title(name)}: {said}|"
    assert made.variables == {name}


@given(st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=12)).filter(str.strip), unique=True, max_size=9))
def test_each_label_has_a_word_of_its_own(labels: list[str]) -> None:
    found = words(labels)
    assert list(found) == labels
    assert len(set(found.values())) == len(labels)
    assert all(word and word == word.strip() and not VARIABLE.search(word) for word in found.values())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("text", "Text"),
        ("review_text", "Review text"),
        ("reviewText", "Review text"),
        ("Review Text", "Review Text"),
        ("product-name", "Product name"),
        ("URL", "URL"),
        ("What do you think?", "What do you think?"),
        ("a\nb", "A b"),
        ("{{ x }}", "X"),
        ("", "Input"),
        ("größe", "Größe"),
    ],
)
def test_titles(name: str, shown: str) -> None:
    assert title(name) == shown


@pytest.mark.parametrize(
    ("target", "kind", "shown", "said"),
    [
        ("sentiment", "labels", "Sentiment", "Choose the sentiment: bad or good."),
        ("y", "labels", "Label", "Choose the label: bad or good."),
        ("gold_label", "labels", "Label", "Choose the label: bad or good."),
        ("target", "number", "Answer", "Give the answer as a number."),
        ("total price", "number", "Total price", "Give the total price as a number."),
        ("entities", "json", "Entities", "Give the entities as JSON."),
        ("summary", "text", "Summary", "Write the summary."),
        ("answer", "text", "Answer", "Give the answer."),
    ],
)
def test_instructions(target: str, kind: Any, shown: str, said: str) -> None:
    labels = {"bad": 1, "good": 1} if kind == "labels" else {}
    found = Guess(target, "", kind, labels, ("text",), frozenset(), {})
    assert answer_title(found) == shown
    assert instruction(found, words(labels)) == said


@pytest.mark.parametrize(
    ("given_name", "data", "expected"),
    [
        (None, "reviews.csv", "reviews"),
        (None, "a/b/reviews.jsonl.gz", "reviews"),
        (None, "v1.2.TSV", "v1.2"),
        (None, "*.jsonl", "task"),
        (None, "${HOME}.csv", "HOME"),
        (None, "über uns.json", "über uns"),
        ("mine", "reviews.csv", "mine"),
    ],
)
def test_the_name(given_name: str | None, data: str, expected: str) -> None:
    assert task_name(given_name, Path(data)) == expected


@pytest.mark.parametrize("name", ["", "a/b", "..", "${A}", "a\nb", " a"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(TaskError, match="plain name"):
        task_name(name, Path("reviews.csv"))


# -- the task's text


def starter(rows: Rows, model: Mapping[str, Any] | None = None) -> Starter:
    found = guessed(rows)
    train, test = split(usable(rows, found, distinct=True), found, seed=0)
    spec = {"use": "embedded", "name": "gemma-3-270m"} if model is None else model
    return Starter("t", "t.csv", found, Side("t.train.jsonl", train), Side("t.test.jsonl", test), spec)


def labelled(count: int, labels: int, size: int = 3) -> Rows:
    texts = [f"text {i} " + "word " * size for i in range(count)]
    return rows_of(text=texts, label=[f"class {'abcdefghijklmnopqrstuvwxyz'[i % labels]}" for i in range(count)])


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        (labelled(100, 2), 8),
        (labelled(100, 3), 8),
        (labelled(200, 12), 12),
        (labelled(400, 20), 8),
        (labelled(100, 2, size=250), 4),
        (labelled(100, 6, size=500), 2),
        (labelled(100, 2, size=3000), 1),
        (labelled(9, 2), 2),  # 2 + 1 train rows: one of each
        (labelled(4, 2), 2),
    ],
)
def test_how_many_demonstrations(rows: Rows, k: int) -> None:
    assert starter(rows).demonstrations() == (k, True)


def test_demonstrations_of_a_label_whose_inputs_have_another_label_too_are_not_balanced() -> None:
    texts = [f"text {i}" for i in range(20)]
    rows = rows_of(text=texts, label=["a"] * 20) + rows_of(text=texts, label=["b"] * 20)
    made = starter(rows)
    assert made.demonstrations() == (8, False)


def read(made: Starter) -> dict[str, Any]:
    tree: dict[str, Any] = value(made.text())
    return tree


def test_the_task_of_labels() -> None:
    tree = read(starter(labelled(800, 2)))
    assert tree["data"] == {"train": "t.train.jsonl", "test": "t.test.jsonl", "target": "label"}
    assert tree["input"]["template"]["inline"] == "Text: {{ text }}\nLabel: {{ answer }}\n"
    assert tree["model"] == "gemma-3-270m"
    assert tree["output"][0]["labels"] == {"class a": "class a", "class b": "class b"}
    assert tree["output"][1] == {"use": "batch_calibration"}
    assert tree["metrics"] == ["accuracy", "macro_f1"]
    assert tree["run"] == {"seed": 0, "limit": 200}


@pytest.mark.parametrize(
    ("answers", "output", "metrics", "max_tokens", "stop"),
    [
        ([str(i * 7) for i in range(30)], "number", ["accuracy"], 16, "\n"),
        ([f"answer {i} " + "z" * 90 for i in range(30)], "identity", ["token_f1"], 42, "\n"),
        ([f"answer {i}\nof two lines" for i in range(30)], "identity", ["token_f1"], 16, "\n\n"),
        ([f"answer {i}\n" for i in range(30)], "identity", ["token_f1"], 16, "\n"),
        ([f"answer {i} " + "z" * 9000 for i in range(30)], "identity", ["token_f1"], 512, "\n"),
        ([{"n": i} for i in range(30)], "json", ["accuracy"], 16, "\n"),
        ([[{"type": "a", "text": f"b{i}"}] for i in range(30)], "json", ["accuracy", "span_f1"], 16, "\n"),
        ([json.dumps([{"type": "a", "text": f"b{i}"}]) for i in range(30)], "json", ["accuracy", "span_f1"], 16, "\n"),
    ],
)
def test_the_task_of_other_answers(
    answers: Sequence[Any], output: str, metrics: list[str], max_tokens: int, stop: str
) -> None:
    tree = read(starter(rows_of(text=[f"text {i}" for i in range(30)], answer=answers)))
    assert tree["output"] == [{"use": output}]
    assert tree["metrics"] == metrics
    assert abs(tree["model"]["max_tokens"] - max_tokens) <= 2
    assert tree["model"]["stop"] == [stop]
    assert "balanced" not in tree["input"]["demonstrations"]


def test_long_rows_get_a_longer_context() -> None:
    rows = [*labelled(30, 2), {"text": "word " * 5000, "label": "class a"}]
    assert read(starter(rows))["model"]["context"] >= 5000 * 5 / 3
    server = {"use": "vllm", "base_url": "http://127.0.0.1:1/v1", "name": "m"}
    assert read(starter(rows, server))["model"] == server


def test_numbers_as_labels_are_told_how_to_get_names() -> None:
    text = starter(rows_of(text=TEXTS, label=[0, 1] * (N // 2))).text()
    assert "labels: {0: negative, 1: positive}" in text
    assert '"0": "0"' in text


def test_a_rationale_is_offered_as_a_chain_of_thought() -> None:
    rows = rows_of(question=TEXTS, rationale=OTHER, answer=[i * 31 for i in range(N)])
    text = starter(rows).text()
    assert '# answer: "{{ rationale }} So the answer is {{ answer_text }}."' in text
    assert "Rationale:" not in text


def test_lists_among_the_inputs_are_joined() -> None:
    rows = rows_of(text=TEXTS, tags=[["a", "b"]] * (N // 2) + [["c"]] * (N // 2), label=AB)
    made = Template(template(guessed(rows)))
    assert made.example(rows[0]).before == "Text: text 0\nTags: a, b\nLabel:"


# -- the whole

NAMES = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=12))
VALUES = st.one_of(st.sampled_from(NASTY), st.text(max_size=30), st.none(), st.integers(-3, 3), st.booleans())


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[str], Rows]:
    """The answer's field, the labels, and rows: every label four times or more, other fields as they come."""
    target, *fields = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    word = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=12)).filter(
        lambda text: bool(text.strip()) and len(text.splitlines()) == 1
    )
    labels = draw(st.lists(word, min_size=2, max_size=4, unique=True))
    size = draw(st.integers(4, 8)) * len(labels)
    rows: Rows = [{name: draw(VALUES) for name in fields if draw(st.integers(0, 9))} for _ in range(size)]
    for i, row in enumerate(rows):
        row[target] = labels[i % len(labels)]
        row["text of its own"] = f"{draw(st.sampled_from(['row', 'Row ']))} {i - draw(st.integers(0, 1))}"
    return target, labels, rows


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables(), st.integers(0, 3))
def test_any_table_makes_a_task_that_runs(table: tuple[str, list[str], Rows], seed: int) -> None:
    target, labels, rows = table
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        list(start(Wanted(data, target=target, out=Path(folder), seed=seed)))  # tries the task out on all rows
        loaded = load_task(Path(folder) / "data.yaml")
        found = loaded.task.output[0]
        sides = [loaded.pool, list(loaded.test(need_target=True))]
        shown = sorted(loaded.template.variables)
        keys = [{tuple(" ".join(str(x.inputs[n]).casefold().split()) for n in shown) for x in side} for side in sides]
        assert not keys[0] & keys[1]
        assert {x.target for side in sides for x in side} <= set(labels)
        if hasattr(found, "labels"):
            assert set(found.labels) == set(labels)


def test_another_fit_of_the_same_rows_is_the_same(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in labelled(50, 2)), encoding="utf-8")
    for name in ("one", "two"):
        list(start(Wanted(data, name="t", out=tmp_path / name)))
    for file in ("t.yaml", "t.train.jsonl", "t.test.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
