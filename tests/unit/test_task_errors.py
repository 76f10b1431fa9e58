"""Mistakes in a task: one line with file, line, key and the nearest name; status 2; nothing written, nothing asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.server import StandIn

TASK = """\
name: small
data:
  train: train.jsonl
  test: test.jsonl
  target: label
input:
  template: {inline: "Review: {{ text }} Sentiment: {{ answer }}"}
  instruction: Judge.
  demonstrations:
    use: random
    k: 2
    balanced: true
model:
  use: vllm
  base_url: URL
  name: m
output:
  - use: verbalizer
    labels:
      positive: positive
      negative: negative
  - use: batch_calibration
metrics: [accuracy]
run:
  seed: 0
"""
DATA = {
    "train.jsonl": ["bright,positive", "dull,negative", "warm,positive", "flat,negative"],
    "test.jsonl": ["fine,positive", "poor,negative", "great,positive"],
}
REPLAY = {"  use: vllm": "  use: replay", "  base_url: URL\n": "", "  name: m": "  path: record.jsonl"}
NO_CALIBRATION = {"  - use: batch_calibration\n": ""}
NO_DEMONSTRATIONS = {"  demonstrations:\n    use: random\n    k: 2\n    balanced: true\n": ""}
FIXED = {"    use: random\n    k: 2\n    balanced: true\n": "    use: fixed\n"}


@dataclass(frozen=True)
class Mistake:
    """What is changed, and what must be said.

    Args:
        task: text of the task -> what stands in its place.
        at: the text in whose line the mistake is; None where it is nowhere in particular.
        words: what the error says beside file and line.
        data: file -> its rows, or its bytes.
        file: the file at fault.
        line: its line, where `at` does not give it.
    """

    task: Mapping[str, str]
    at: str | None
    words: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    file: str = "task.yaml"
    line: int | None = None


MISTAKES = {
    # misspelt keys, at each level
    "key of the task": Mistake({"metrics:": "metrcs:"}, "metrcs", ("metrcs", "did you mean 'metrics'")),
    "key of data": Mistake({"  target:": "  taget:"}, "taget", ("data", "taget", "did you mean 'target'")),
    "key of input": Mistake(
        {"  instruction:": "  instructon:"}, "instructon", ("input", "instructon", "did you mean 'instruction'")
    ),
    "key of the template": Mistake({"{inline:": "{inlin:"}, "inlin", ("input.template", "inlin", "inline")),
    "key of the demonstrations": Mistake(
        {"    balanced:": "    ballanced:"}, "ballanced", ("input.demonstrations", "did you mean 'balanced'")
    ),
    "key of the model": Mistake(
        {"  name: m": "  name: m\n  max_token: 3"}, "max_token", ("model", "max_token", "did you mean 'max_tokens'")
    ),
    "key of an output step": Mistake(
        {"    labels:": "    lables:"}, "lables", ("output[0]", "lables", "did you mean 'labels'")
    ),
    "key of the second output step": Mistake(
        {"  - use: batch_calibration": "  - use: batch_calibration\n    input: 3"},
        "    input: 3",
        ("output[1]", "did you mean 'inputs'"),
    ),
    "key of a metric": Mistake(
        {"[accuracy]": "[{use: accuracy, averag: 1}]"}, "averag", ("metrics[0]", "averag", "use")
    ),
    "key of the run": Mistake({"  seed: 0": "  sed: 0"}, "sed: 0", ("run", "sed", "did you mean 'seed'")),
    # wrong types and values
    "a word for a number": Mistake({"k: 2": "k: two"}, "k: two", ("input.demonstrations.k", "whole number")),
    "a number below its range": Mistake({"k: 2": "k: -1"}, "k: -1", ("input.demonstrations.k", "greater")),
    "a word for true or false": Mistake(
        {"balanced: true": "balanced: perhaps"}, "perhaps", ("input.demonstrations.balanced", "true or false")
    ),
    "a list for a word": Mistake({"target: label": "target: [label]"}, "[label]", ("data.target", "text")),
    "a number for data": Mistake({"test: test.jsonl": "test: 3"}, "test: 3", ("data.test", "path")),
    "a word for a section": Mistake({"run:\n  seed: 0": "run: fast"}, "run: fast", ("run", "run")),
    "a word for a list": Mistake({"metrics: [accuracy]": "metrics: accuracy"}, "metrics: accuracy", ("metrics",)),
    "a list for a step": Mistake({"  - use: batch_calibration": "  - []"}, "- []", ("output[1]", "use")),
    "one label": Mistake({"      negative: negative\n": ""}, "labels:", ("output[0].labels", "2")),
    "a missing key": Mistake({"  base_url: URL\n": ""}, "model:", ("model", "base_url", "missing")),
    "a missing section": Mistake(
        {"output:": "extra: null\noutput:", "model:\n  use: vllm\n  base_url: URL\n  name: m\n": ""},
        "extra",
        ("extra",),
    ),
    "no model": Mistake({"model:\n  use: vllm\n  base_url: URL\n  name: m\n": ""}, None, ("model", "missing")),
    "no use": Mistake({"  - use: batch_calibration": "  - inputs: 3"}, "inputs: 3", ("output[1]", "use", "verbalizer")),
    "no URL": Mistake({"base_url: URL": "base_url: 127.0.0.1"}, "base_url", ("model.base_url", "URL")),
    "a limit of 0": Mistake({"seed: 0": "limit: 0"}, "limit: 0", ("run.limit", "greater")),
    "a cost cap": Mistake({"seed: 0": "max_cost_usd: -1"}, "max_cost_usd", ("run.max_cost_usd", "greater")),
    "a value that is near": Mistake(
        {"    labels:": "    read: score\n    labels:"}, "read: score", ("output[0].read", "did you mean 'scores'")
    ),
    # unknown names
    "retriever": Mistake(
        {"use: random": "use: randm"}, "use: randm", ("input.demonstrations", "randm", "did you mean 'random'")
    ),
    "encoder": Mistake(
        {"use: random": "use: knn\n    encoder: {use: tfdif}", "    balanced: true\n": ""},
        "encoder",
        ("input.demonstrations.encoder", "tfdif", "did you mean 'tfidf'"),
    ),
    "an encoder's key": Mistake(
        {"use: random": "use: knn\n    encoder: {use: tfidf, ngram: 2}", "    balanced: true\n": ""},
        "encoder",
        ("input.demonstrations.encoder", "did you mean 'ngrams'"),
    ),
    "order": Mistake(
        {"k: 2": "k: 2\n    order: randm"}, "order", ("input.demonstrations.order", "did you mean 'random'")
    ),
    "a key of an order": Mistake(
        {"k: 2": "k: 2\n    order: {use: entropy, mesure: local}"},
        "order",
        ("input.demonstrations.order", "'mesure'", "did you mean 'measure'"),
    ),
    "a value in an order": Mistake(
        {"k: 2": "k: 2\n    order: {use: entropy, measure: locale}"},
        "order",
        ("input.demonstrations.order.measure", "did you mean 'local'"),
    ),
    "an order that needs scores": Mistake(
        {"k: 2": "k: 2\n    order: similarity"}, "order", ("input.demonstrations.order", "does not tell how similar")
    ),
    "chain of thought": Mistake(
        {"instruction: Judge.": "instruction: Judge.\n  cot: {use: zeroshot}"},
        "cot",
        ("input.cot", "did you mean 'zero_shot'"),
    ),
    "model": Mistake({"use: vllm": "use: vlm"}, "use: vlm", ("model", "vlm", "did you mean 'vllm'")),
    "aligner": Mistake(
        {"batch_calibration": "batch_callibration"}, "batch_cal", ("output[1]", "did you mean 'batch_calibration'")
    ),
    "metric": Mistake({"[accuracy]": "[acuracy]"}, "acuracy", ("metrics[0]", "did you mean 'accuracy'")),
    "template": Mistake(
        {'{inline: "Review: {{ text }} Sentiment: {{ answer }}"}': "clasification"},
        "clasification",
        ("input.template", "did you mean 'classification'"),
    ),
    "data format": Mistake(
        {"test: test.jsonl": "test: test.jsnl"},
        None,
        ("test.jsnl",),
        data={"test.jsnl": ["fine,positive"]},
        file="test.jsnl",
    ),
    "data file": Mistake({"test: test.jsonl": "test: tst.jsonl"}, "tst.jsonl", ("data.test", "no such file")),
    "data file of the train split": Mistake(
        {"train: train.jsonl": "train: trn.jsonl"}, "trn.jsonl", ("data.train", "no such file")
    ),
    "template file": Mistake(
        {'{inline: "Review: {{ text }} Sentiment: {{ answer }}"}': "./none.j2"},
        "./none.j2",
        ("input.template", "none.j2"),
    ),
    # templates
    "no answer mark": Mistake({"{{ answer }}": "…"}, "inline", ("answer",)),
    "the answer mark twice": Mistake({"{{ answer }}": "{{ answer }} {{ answer }}"}, "inline", ("answer", "once")),
    "a filter on the answer": Mistake({"{{ answer }}": "{{ answer | upper }}"}, "inline", ("answer", "filter")),
    "an unknown variable": Mistake({"{{ text }}": "{{ txt }}"}, "inline", ("txt", "did you mean 'text'")),
    "bad syntax": Mistake({"{{ text }}": "{{ text"}, "inline", ()),
    "an instruction that is not printed": Mistake(
        {"Review: {{ text }}": "{% block instruction %}Hi{% endblock %}{% block example %}{{ text }}"}
        | {'{{ answer }}"': '{{ answer }}{% endblock %}"'},
        "in",
        ("instruction",),
        line=7,
    ),
    # rows that do not fit
    "a train label that is no label": Mistake(
        {},
        None,
        ("postive", "did you mean 'positive'"),
        data={"train.jsonl": ["bright,positive", "dull,postive"]},
        file="train.jsonl",
        line=2,
    ),
    "a test label that is no label": Mistake(
        {},
        None,
        ("postive", "did you mean 'positive'"),
        data={"test.jsonl": ["fine,positive", "poor,negative", "great,postive"]},
        file="test.jsonl",
        line=3,
    ),
    "a test row without a target": Mistake(
        {},
        None,
        ("label",),
        data={"test.jsonl": b'{"text": "a", "label": "positive"}\n{"text": "b"}\n'},
        file="test.jsonl",
        line=2,
    ),
    "a train row without a target": Mistake(
        {},
        None,
        ("label",),
        data={"train.jsonl": b'{"text": "a", "label": "positive"}\n{"text": "b", "label": null}\n'},
        file="train.jsonl",
        line=2,
    ),
    "a test row without a template variable": Mistake(
        {},
        None,
        ("text",),
        data={"test.jsonl": b'{"text": "a", "label": "positive"}\n{"txt": "b", "label": "negative"}\n'},
        file="test.jsonl",
        line=2,
    ),
    "a broken test row": Mistake(
        {},
        None,
        ("JSON",),
        data={"test.jsonl": b'{"text": "a", "label": "positive"}\n{"text": \n'},
        file="test.jsonl",
        line=2,
    ),
    "no test rows": Mistake({}, "test: test.jsonl", ("data.test", "no rows"), data={"test.jsonl": b""}),
    "no test split": Mistake({"  test: test.jsonl\n": ""}, "data:", ("data", "test")),
    "metrics without a target": Mistake(NO_DEMONSTRATIONS | {"  target: label\n": ""}, "metrics:", ("data.target",)),
    # what does not fit together
    "a calibration without scores": Mistake(
        REPLAY, "batch_calibration", ("output[1]", "scores", "log-prob"), data={"record.jsonl": b""}
    ),
    "a calibration of what is read as text": Mistake(
        {"    labels:": "    read: text\n    labels:"}, "batch_calibration", ("output[1]", "scores", "text")
    ),
    "a calibration of an answer with a rationale": Mistake(
        {"  instruction:": '  answer: "Because. {{ answer_text }}"\n  instruction:'},
        "batch_calibration",
        ("output[1]", "rationale"),
    ),
    "scores of a model without": Mistake(
        {**REPLAY, **NO_CALIBRATION, "    labels:": "    read: scores\n    labels:"},
        "use: verbalizer",
        ("output[0]", "scores"),
        data={"record.jsonl": b""},
    ),
    "a reader after a calibration": Mistake(
        {"  - use: batch_calibration": "  - use: batch_calibration\n  - use: identity"},
        "use: identity",
        ("output[2]", "calibration"),
    ),
    "two batch steps": Mistake(
        {"  - use: batch_calibration": "  - use: batch_calibration\n  - {use: batch_calibration}"},
        "{use: batch_calibration}",
        ("output[2]", "second"),
    ),
    "a batch step before one that asks": Mistake(
        {"  - use: batch_calibration": "  - use: batch_calibration\n  - use: contextual_calibration"},
        "use: batch_calibration",
        ("output[1]", "last"),
    ),
    "no step that reads": Mistake(
        {
            "  - use: verbalizer\n    labels:\n      positive: positive\n      negative: negative\n": "",
        },
        "output:",
        ("output", "verbalizer"),
    ),
    "a cloze read as text": Mistake(
        {**NO_CALIBRATION, "{{ answer }}": "{{ answer }} it is."}, "use: verbalizer", ("output[0]", "cloze")
    ),
    "a cloze by chat": Mistake(
        {"{{ answer }}": "{{ answer }} it is.", "  name: m": "  name: m\n  api: chat"},
        "inline",
        ("cloze", "completions"),
    ),
    # demonstrations
    "k larger than the pool": Mistake(
        {"k: 2": "k: 9", "balanced: true": "balanced: false"}, "demonstrations", ("input.demonstrations", "9", "4")
    ),
    "k larger than a label's share": Mistake(
        {"k: 2": "k: 4"},
        "demonstrations",
        ("input.demonstrations", "negative"),
        data={"train.jsonl": ["a,positive", "b,positive", "c,positive", "d,negative"]},
    ),
    "no train split": Mistake({"  train: train.jsonl\n": ""}, "demonstrations", ("input.demonstrations", "data.train")),
    "fixed with neither": Mistake(FIXED, "demonstrations", ("input.demonstrations", "path", "items")),
    "fixed with both": Mistake(
        {"    use: random\n    k: 2\n    balanced: true\n": "    {use: fixed, path: train.jsonl, items: []}\n"},
        "demonstrations",
        ("input.demonstrations", "path", "items"),
    ),
    "fixed with a file that is not there": Mistake(
        {"    use: random\n    k: 2\n    balanced: true\n": "    use: fixed\n    path: none.jsonl\n"},
        "none.jsonl",
        ("input.demonstrations.path", "no such file"),
    ),
    "fixed with an item that is no label": Mistake(
        {
            "    use: random\n    k: 2\n    balanced: true\n": "    use: fixed\n    items:\n"
            "      - {text: a, label: positive}\n      - {text: b, label: postive}\n"
        },
        "label: postive",
        ("input.demonstrations", "postive"),
    ),
    # regex and verbalizer
    "a bad pattern": Mistake(
        {"  - use: verbalizer": "  - use: regex\n    pattern: '(a'\n  - use: verbalizer", **NO_CALIBRATION},
        "pattern:",
        ("output[0].pattern", "RE2"),
    ),
    "a pattern RE2 does not know": Mistake(
        {"  - use: verbalizer": "  - use: regex\n    pattern: '(?=a)'\n  - use: verbalizer", **NO_CALIBRATION},
        "pattern:",
        ("output[0].pattern", "RE2"),
    ),
    "a group the pattern does not have": Mistake(
        {"  - use: verbalizer": "  - {use: regex, pattern: '(a)', group: 2}\n  - use: verbalizer", **NO_CALIBRATION},
        "group: 2",
        ("output[0]", "group", "2"),
    ),
    "a word for two labels": Mistake(
        {"      negative: negative": "      negative: [negative, positive]"},
        "labels:",
        ("output[0].labels", "'positive'", "both"),
    ),
    "an empty word": Mistake({"      negative: negative": '      negative: ""'}, "labels:", ("output[0].labels",)),
    "a label without a word": Mistake({"      negative: negative": "      negative: []"}, "labels:", ("negative",)),
}


def lay_out(folder: Path, mistake: Mistake, url: str) -> Path:
    """Write the task with its mistake, and its data."""
    text = TASK
    for old, new in mistake.task.items():
        assert old in text, old
        text = text.replace(old, new, 1)
    for name, rows in {**DATA, **mistake.data}.items():
        if isinstance(rows, list):
            pairs = (row.split(",") for row in rows)
            rows = "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in pairs).encode()
        (folder / name).write_bytes(rows)
    path = folder / "task.yaml"
    path.write_text(text.replace("URL", url) if "URL\n" in text else text, encoding="utf-8")
    return path


def expected_line(path: Path, mistake: Mistake) -> int | None:
    if mistake.line is not None or mistake.at is None:
        return mistake.line
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if mistake.at in line)


def checked(err: str, path: Path, mistake: Mistake) -> None:
    place = str(path.parent / mistake.file)
    line = expected_line(path, mistake)
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert (place if line is None else f"{place}:{line}:") in err, err
    assert [word for word in mistake.words if word not in err] == [], err


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_in_one_line(
    mistake: Mistake, server: StandIn, icl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = lay_out(tmp_path, mistake, server.url)
    status, out, err = icl("run", path, "--out", "out")
    assert status == 2, out + err
    checked(err, path, mistake)
    assert server.received == []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


def test_the_task_without_a_mistake_runs(
    server: StandIn, icl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = lay_out(tmp_path, Mistake({}, None, ()), server.url)
    status, _, err = icl("run", path, "--out", "out")
    assert status == 0, err
    assert len(server.received) == 3


@pytest.mark.parametrize("name", ["key of data", "metric", "a test label that is no label"])
def test_a_mistake_in_a_process_of_its_own(
    name: str, server: StandIn, start: Callable[..., Any], tmp_path: Path
) -> None:
    path = lay_out(tmp_path, MISTAKES[name], server.url)
    process = start("run", path, "--out", "out")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    checked(err, path, MISTAKES[name])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["show", "predict"])
def test_other_commands_tell_it_the_same_way(
    command: str, server: StandIn, icl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = lay_out(tmp_path, MISTAKES["aligner"], server.url)
    options = ["--input", '{"text": "a"}'] if command == "predict" else []
    status, _, err = icl(command, path, *options)
    assert status == 2
    checked(err, path, MISTAKES["aligner"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["runn", "task.yaml"],
        ["run", "task.yaml", "--limt", "3"],
        ["run", "task.yaml", "--limit", "0"],
        ["show", "task.yaml", "--index", "99"],
        ["predict", "task.yaml", "--input", "[1]"],
        ["predict", "task.yaml", "--input", "{"],
    ],
)
def test_a_mistake_in_the_command(
    arguments: list[str], server: StandIn, icl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    lay_out(tmp_path, Mistake({}, None, ()), server.url)
    status, out, err = icl(*arguments)
    assert status == 2, out + err
    assert err
    assert "Traceback" not in err
    assert server.received == []
