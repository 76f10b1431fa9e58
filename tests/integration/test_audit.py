"""What a run could not read, by shape; where another way to read says something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import icl_engine as icl
from icl_engine.engine.shapes import MOST, OTHERS, Shapes, shape
from icl_engine.errors import DataError, TaskError

Record = dict[str, Any]
WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]

LABELS = {"positive": "positive", "negative": "negative"}
SCORED: Record = {"use": "verbalizer", "labels": LABELS, "want": "distribution"}


@pytest.fixture
def said(write_task: WriteTask) -> Callable[..., Path]:
    """A run over given answers, and its task."""

    def write(answers: list[str], targets: list[Any], output: list[Any], **keys: Any) -> Path:
        test = [{"text": f"number {i}", "label": y} for i, y in enumerate(targets)]
        record = [{"prompt": f"{row['text']}:", "completion": a} for row, a in zip(test, answers, strict=True)]
        Path("said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in record))
        path = write_task(
            test=test,
            input={"template": {"inline": "{{ text }}: {{ answer }}"}},
            model={"use": "replay", "path": "said.jsonl"},
            output=output,
            **keys,
        )
        icl.run(path, out="run")
        return path

    return write


@pytest.fixture
def command(icl: CommandLine) -> CommandLine:
    """The command line, beside the package of that name."""
    return icl


HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/bold] \u202eltr"


def test_unread_answers_are_listed_by_shape_with_the_step_that_failed(said: Callable[..., Path]) -> None:
    answers = ["It is 5.", "no idea", "none at all", "", "I cannot answer that.", "\x1b[mred\x1b[m"]
    said(answers, [5] * 6, ["number"])
    found = icl.audit("run")
    assert (found.rows, found.status["unparsed"]) == (6, 5)
    shapes = {s.name: s for s in found.shapes}
    assert shapes["words"].count == 2
    assert [row for row, _ in shapes["words"].examples] == [1, 2]
    assert "number" in next(iter(shapes["words"].reasons))
    assert shapes["empty"].count == 1
    assert shapes["words. · a refusal"].count == 1


def test_nothing_of_an_answer_reaches_the_terminal_as_a_command(
    said: Callable[..., Path], command: CommandLine
) -> None:
    said([HOSTILE, "12"], [5, 12], ["number"])
    for options in ((), ("--json",)):
        status, out, err = command("audit", "run", *options)
        assert (status, err) == (0, "")
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_a_better_way_to_read_comes_first(said: Callable[..., Path], command: CommandLine) -> None:
    answers = [f"First 1, then 2.\nThe answer is {i}." for i in range(10, 16)] + ["The answer is many."]
    said(answers, [*range(10, 16), 9], [{"use": "number", "take": "first"}])
    found = icl.audit("run", examples=2)
    best = found.others[0]
    assert (best.right_other, best.right_own, best.judged) == (6, 0, 7)
    assert (best.both, best.differ) == (6, 6)
    assert len([row for row in best.examples if row["kind"] == "differ"]) == 2
    assert best.examples[0]["other"].strip("'") == best.examples[0]["target"] == "10"
    status, out, _ = command("audit", "run")
    assert status == 0
    assert f"{best.name}" in out
    assert "right 0.8571, the run's steps 0.0000 (n = 7)" in out


def test_readers_that_cannot_express_the_targets_are_not_tried(said: Callable[..., Path]) -> None:
    said(["red", "blue"] * 2, ["red", "blue"] * 2, ["identity"])
    names = {name for other in icl.audit("run").others for name in (other.name, *other.alike)}
    assert "verbalizer by text" in names
    assert not any("number" in name or "boolean" in name for name in names)


def test_the_same_answer_in_another_form_is_no_disagreement(said: Callable[..., Path]) -> None:
    said(["Yes.", "No, it is not.", "yes"], ["yes", "no", "yes"], [{"use": "regex", "pattern": "(?i)yes|no"}])
    found = icl.audit("run")
    boolean = next(other for other in found.others if "boolean" in (other.name, *other.alike))
    assert (boolean.both, boolean.differ) == (3, 0)


def test_against_a_task(said: Callable[..., Path], command: CommandLine) -> None:
    path = said(["so 3 = 3", "none"], [3, 4], ["identity"])
    task = path.read_text().replace('["identity"]', '[{"use": "regex", "pattern": "= (.)"}, "number"]')
    Path("other.yaml").write_text(task.replace("said.jsonl", "gone.jsonl"))
    found = icl.audit("run", against=["other.yaml"])
    named = next(other for other in found.others if other.asked)
    assert named.name == "regex → number of other.yaml"
    assert (named.both, named.only_own, named.right_other) == (1, 1, 1)
    told = json.loads(command("audit", "run", "--against", "other.yaml", "--json")[1])
    assert told["others"][0]["reader"] == named.name


def test_what_each_correction_changed(write_task: WriteTask, command: CommandLine) -> None:
    rows = [{"text": f"play {i}", "label": ("positive", "negative")[i % 3 == 0]} for i in range(30)]
    chain = [SCORED, {"use": "batch_calibration"}, {"use": "abstain", "below": 0.6}]
    path = write_task(test=rows, output=chain)
    plain = icl.run(write_task(test=rows, output=[SCORED], name="plain.yaml"), out="plain")
    result = icl.run(path, out="run")
    found = icl.audit("run")
    batch, abstain = found.corrected
    assert batch.right_before == sum(row["correct"] for row in plain.predictions)
    assert abstain.right_after == sum(row["correct"] for row in result.predictions)
    assert abstain.changed == found.status["abstained"] == result.summary["abstained"] > 0
    assert not found.others
    with pytest.raises(TaskError, match="the run holds label scores"):
        icl.audit("run", against=["plain.yaml"])
    status, out, _ = command("audit", "run")
    assert status == 0
    assert f"output[1] (batch_calibration): {batch.changed} answers changed" in out
    assert f"{abstain.changed} abstained, as row" in out


def test_capped_failed_and_cut_answers_are_counted(said: Callable[..., Path], command: CommandLine) -> None:
    said(["x " * 40_000, "12", "no"], [1, 12, 3], ["number"])
    Path("said.jsonl").write_text("".join(Path("said.jsonl").read_text().splitlines(keepends=True)[:2]))
    icl.run("task.yaml", out="failing")
    found = icl.audit("failing")
    assert found.capped == 1
    assert found.status == {"failed": 1, "ok": 1, "unparsed": 1}
    assert sum(found.errors.values()) == 1
    assert found.shapes[0].name.endswith("very long")
    status, out, _ = command("audit", "failing")
    assert status == 0
    assert "1 failed: the prompt is not on record" in out
    assert "1 too long" in out


def test_an_answer_that_ran_to_its_limit_is_cut_off(write_task: WriteTask) -> None:
    model = {"use": "fake", "answers": ["so we think", "well it is"], "max_tokens": 1}
    icl.run(write_task(model=model, output=["number"], metrics=[]), out="run")
    shapes = [s.name for s in icl.audit("run").shapes]
    told = [json.loads(line) for line in Path("run/answers.jsonl").read_text().splitlines()]
    assert all(a["usage"]["completion_tokens"] >= 1 for a in told)
    assert all(name.endswith("cut off at max_tokens") for name in shapes)


def test_votes_and_second_answers_are_joined_to_their_rows(write_task: WriteTask) -> None:
    model = {"use": "fake", "temperature": 0.7}
    spoken = {"use": "verbalizer", "labels": LABELS, "read": "text"}
    icl.run(write_task(model=model, output=[spoken, {"use": "vote", "samples": 3}]), out="voted")
    found = icl.audit("voted")
    assert found.status == {"ok": 6}
    assert all(other.both == 6 for other in found.others)
    icl.run(write_task(output=["number", "reask"], metrics=[]), out="asked")
    assert icl.audit("asked").status == {"unparsed": 6}


def test_no_run_and_damaged_runs(said: Callable[..., Path]) -> None:
    with pytest.raises(TaskError, match="is not a run directory"):
        icl.audit("nowhere")
    said(["1"], [1], ["number"])
    Path("run/predictions.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"predictions\.jsonl:1: "):
        icl.audit("run")


@given(st.text(max_size=400), st.booleans())
def test_a_shape_is_short_and_can_be_printed(text: str, cut: bool) -> None:
    found = shape(text, cut=cut)
    assert found.isprintable()
    assert 0 < len(found) < 400
    assert shape(text, cut=cut) == found


@pytest.mark.parametrize("text", ["a " * 500_000, "*" * 500_000, "\n" * 500_000, "9," * 500_000, "((" * 500_000])
def test_a_shape_costs_little(text: str) -> None:
    assert len(shape(text)) < 400


def test_no_more_shapes_are_kept_than_fit() -> None:
    shapes = Shapes()
    for i in range(MOST + 50):
        shapes.add(i, "".join("!?+#"[i >> 2 * b & 3] + " " for b in range(7)), "why")
    ranked = shapes.ranked()
    assert len(ranked) == MOST + 1
    assert sum(s.count for s in ranked) == MOST + 50
    assert ranked[0].name == OTHERS
