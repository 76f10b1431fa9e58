"""O that learns, asks again, abstains: from task file to run directory, plan, saved program, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icl_engine
import icl_engine as icl
from icl_engine.errors import EndpointError, TaskError

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Record = dict[str, Any]

LABELS = {"positive": "positive", "negative": "negative"}
VERBALIZER = {"use": "verbalizer", "labels": LABELS}
FAKE = {"use": "fake"}


def rows(count: int, what: str) -> list[Record]:
    return [{"text": f"{what} number {i}", "label": ("positive", "negative")[i % 3 == 0]} for i in range(count)]


TRAIN, TEST = rows(60, "film"), rows(20, "play")


def lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fits(path: Path) -> Record:
    found: Record = json.loads((path / "manifest.json").read_text())["fits"]
    return found


LEARN = [
    {"use": "linear", "rows": 40},
    {"use": "temperature", "rows": 40},
    {"use": "knn_prompting", "rows": 40},
    {"use": "label_mapping", "kind": "frequency", "rows": 40},
    {"use": "label_mapping", "kind": "iterative", "rows": 40},
    {"use": "label_mapping", "kind": "bayesian", "rows": 40},
    {"use": "label_mapping", "kind": "bayesian_plus", "rows": 40},
    {"use": "batch_calibration", "strength": "fitted", "rows": 40},
    {"use": "abstain", "accuracy": 0.6, "rows": 40},
]
FITTED = pytest.mark.parametrize("step", LEARN, ids=[f"{s['use']}-{s.get('kind', '')}" for s in LEARN])


@FITTED
def test_a_fit_asks_train_rows_once_and_stands_in_the_manifest(step: Record, write_task: WriteTask) -> None:
    task = write_task(train=TRAIN, test=TEST, model=FAKE, output=[VERBALIZER, step])
    planned = json.loads(json.dumps(icl_plan(task)))
    result = icl.run(task, out="out")
    answers = lines(result.path / "answers.jsonl")
    asked = [a for a in answers if a["role"] == "fit"]
    assert len(asked) == 40 == planned["roles"]["fit"][0]
    assert all("film" in a["prompt"] and a["logprobs"] for a in asked)
    assert [a["role"] for a in answers[:40]] == ["fit"] * 40
    assert fits(result.path)["output[1]"]["use"] == step["use"]
    assert result.summary["usage"]["requests"] == 60 == planned["requests"]
    assert result.summary["plan"]["requests"][0] == 60
    again = icl.run(task, out="out")
    assert again.summary["usage"]["paid"] == 0
    assert lines(again.path / "predictions.jsonl") == lines(result.path / "predictions.jsonl")


def icl_plan(task: Path) -> Record:
    from icl_engine.config.load import load_task
    from icl_engine.engine.plan import plan

    return plan(load_task(task)).record()


@FITTED
def test_a_saved_program_predicts_without_asking_train_rows(step: Record, write_task: WriteTask) -> None:
    task = write_task(train=TRAIN, test=TEST, model=FAKE, output=[VERBALIZER, step])
    with icl.load(task) as pipeline:
        before = pipeline.predict({"text": "one more"})
        pipeline.save("it.icl.json")
    Path("train.jsonl").unlink()
    with icl.load("it.icl.json") as program:
        after = program.predict({"text": "one more"})
        assert (after.value, after.status) == (before.value, before.status)
        assert program.driver.counts.paid == 0
        program.predict({"text": "and one more"})
        assert program.driver.counts.paid == 1


def test_fits_learn_from_no_test_row_and_from_no_demonstration(write_task: WriteTask) -> None:
    both = TEST[:5]
    task = write_task(
        train=[*both, *TRAIN[:30]],
        test=TEST,
        model=FAKE,
        input={
            "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
            "demonstrations": {"use": "random", "k": 4},
        },
        output=[VERBALIZER, {"use": "temperature", "rows": 200}],
    )
    result = icl.run(task, out="out")
    asked = [a for a in lines(result.path / "answers.jsonl") if a["role"] == "fit"]
    shown = {d for p in lines(result.path / "predictions.jsonl") for d in p["demonstrations"]}
    assert len(shown) == 4
    assert len(asked) == 26
    assert not {a["id"] for a in asked} & shown
    assert all("film number" in a["prompt"].rsplit("Review:", 1)[1] for a in asked)
    assert len({a["prompt"].rsplit("Review:", 1)[0] for a in asked}) == 1


def test_a_fit_is_over_what_the_steps_before_it_left(write_task: WriteTask) -> None:
    chain = [VERBALIZER, {"use": "batch_calibration"}, {"use": "temperature", "rows": 40}]
    result = icl.run(write_task(train=TRAIN, test=TEST, model=FAKE, output=chain), out="out")
    found = fits(result.path)
    assert found["output[1]"]["state"]["rows"] == 20  # p̄ is that of the run's own rows
    assert found["output[2]"]["state"]["rows"] == 40
    assert all(p["distribution"] for p in lines(result.path / "predictions.jsonl"))


def test_too_little_data_is_told(write_task: WriteTask, caplog: pytest.LogCaptureFixture) -> None:
    train = [{**row, "label": "positive"} for row in TRAIN[:4]]
    task = write_task(train=train, test=TEST, model=FAKE, output=[VERBALIZER, {"use": "temperature"}])
    icl.run(task)
    assert "temperature (output[1]): 4 train rows for 2 labels: the fit is rough" in caplog.messages
    assert "temperature (output[1]): no train row has: 'negative'" in caplog.messages


@pytest.mark.parametrize("step", [{"use": "linear"}, {"use": "domain_calibration"}], ids=["targets", "inputs"])
def test_without_a_train_split_nothing_is_asked(step: Record, write_task: WriteTask, icl: CommandLine) -> None:
    task = write_task(test=TEST, model=FAKE, output=[VERBALIZER, step], data={"test": "test.jsonl", "target": "label"})
    code, _, err = icl("run", task)
    assert code == 2
    assert err.count("\n") == 1
    assert f"task.yaml:5: output[1]: {step['use']}" in err
    assert "data.train" in err
    assert not Path("runs").exists()


def test_a_train_row_with_a_target_that_cannot_be_is_told_before_anything_is_asked(
    write_task: WriteTask, icl: CommandLine
) -> None:
    train = [*TRAIN, {"text": "odd", "label": "neutral"}]
    task = write_task(train=train, test=TEST, model=FAKE, output=[VERBALIZER, {"use": "linear"}])
    code, _, err = icl("run", task)
    assert code == 2
    assert "train.jsonl:61" in err
    assert "neutral" in err


def test_domain_calibration_probes_with_words_of_the_train_split(write_task: WriteTask) -> None:
    step = {"use": "domain_calibration", "texts": 5}
    result = icl.run(write_task(train=TRAIN, test=TEST, model=FAKE, output=[VERBALIZER, step]), out="out")
    probes = [a for a in lines(result.path / "answers.jsonl") if a["role"] == "probe"]
    assert len(probes) == 5
    words = {w for row in TRAIN for w in row["text"].split()}
    assert all(set(a["prompt"].split("\n")[0].removeprefix("Review: ").split()) <= words for a in probes)


@pytest.mark.parametrize(
    ("output", "key"),
    [
        ([VERBALIZER, {"use": "abstain", "below": 0.5}, {"use": "temperature", "t": 2.0}], "output[2]"),
        ([{"use": "reask"}, {"use": "number"}], "output[0]"),
        ([{"use": "number"}, {"use": "reask"}, {"use": "reask"}], "output[2]"),
        ([VERBALIZER, {"use": "linear"}, {"use": "contextual_calibration"}], "output[1]"),
        ([VERBALIZER, {"use": "linear"}, {"use": "label_mapping"}], "output[1]"),
        ([{"use": "number"}, {"use": "abstain", "below": 0.5}], "output[1]"),
        ([{"use": "number"}, {"use": "vote"}, {"use": "abstain", "accuracy": 0.5}], "output[2]"),
        ([{"use": "number"}, {"use": "vote"}, {"use": "linear"}], "output[2]"),
    ],
)
def test_what_does_not_fit_is_told_at_its_key(output: list[Record], key: str, write_task: WriteTask) -> None:
    model = {**FAKE, "temperature": 0.7}
    with pytest.raises(TaskError) as told:
        icl.run(write_task(train=TRAIN, test=TEST, model=model, output=output))
    assert told.value.key == key


# -- abstain


def test_abstained_rows_are_counted_shown_and_wrong(write_task: WriteTask) -> None:
    result = icl.run(
        write_task(train=TRAIN, test=TEST, model=FAKE, output=[VERBALIZER, {"use": "abstain", "below": 0.6}])
    )
    predictions = lines(result.path / "predictions.jsonl")
    none = [p for p in predictions if p["status"] == "abstained"]
    assert 0 < len(none) < len(predictions)
    assert all(p["prediction"] is None and not p["correct"] for p in none)
    assert all(max(p["distribution"].values()) < 0.6 for p in none)
    assert result.summary["abstained"] == len(none)
    assert result.summary["unparsed"] == 0
    right = sum(p["prediction"] == p["target"] for p in predictions)
    assert result.metrics["accuracy"].value == right / len(predictions)


def test_a_vote_may_abstain(write_task: WriteTask) -> None:
    output = [{"use": "verbalizer", "labels": LABELS, "read": "text"}, {"use": "vote", "samples": 3}]
    model = {**FAKE, "temperature": 1.0}
    whole = icl.run(write_task(test=TEST, model=model, output=output), out="whole")
    some = icl.run(write_task(test=TEST, model=model, output=[*output, {"use": "abstain", "below": 0.9}]), out="some")
    for before, after in zip(
        lines(whole.path / "predictions.jsonl"), lines(some.path / "predictions.jsonl"), strict=True
    ):
        sure = max(before["distribution"].values()) >= 0.9
        assert after["prediction"] == (before["prediction"] if sure else None)


# -- reask

NUMBERS = {"use": "fake", "answers": ["many", "12", "few"]}


def test_an_unreadable_answer_is_asked_for_once_more(write_task: WriteTask) -> None:
    test = [{"text": f"how many {i}", "label": 12} for i in range(30)]
    once = icl.run(write_task(test=test, model=NUMBERS, output=["number"]), out="once")
    task = write_task(test=test, model=NUMBERS, output=["number", {"use": "reask", "say": "Only a number:"}])
    twice = icl.run(task, out="twice")
    before, after = lines(once.path / "predictions.jsonl"), lines(twice.path / "predictions.jsonl")
    unread = sum(p["status"] == "unparsed" for p in before)
    assert 0 < unread < 30
    repairs = [a for a in lines(twice.path / "answers.jsonl") if a["role"] == "repair"]
    assert len(repairs) == unread
    assert twice.summary["usage"]["requests"] == 30 + unread
    assert 0 < twice.summary["unparsed"] < unread
    for a, b in zip(before, after, strict=True):
        if a["status"] == "ok":
            assert (a["prediction"], a["trace"]) == (b["prediction"], b["trace"])
        else:
            assert any("reask" in line for line in b["trace"])
    shown = repairs[0]["prompt"]
    assert shown.endswith("\n\nOnly a number:")
    assert shown.startswith("Review: how many")


def test_a_second_turn_is_counted_by_plan_and_cap(write_task: WriteTask, icl: CommandLine) -> None:
    test = [{"text": f"how many {i}", "label": 12} for i in range(30)]
    keys = {"test": test, "model": NUMBERS, "output": ["number", "reask"]}
    task = write_task(**keys)
    code, out, _ = icl("plan", task, "--json")
    assert code == 0
    assert (json.loads(out)["requests"], json.loads(out)["requests_max"]) == (30, 60)
    code, _, err = icl("run", write_task(**keys, run={"max_requests": 30}), "--out", "capped")
    assert code == 4
    assert "max_requests" in err


def test_a_vote_repairs_each_sample(write_task: WriteTask) -> None:
    test = [{"text": f"how many {i}", "label": 12} for i in range(10)]
    output = ["number", "reask", {"use": "vote", "samples": 3, "stop_early": False}]
    result = icl.run(write_task(test=test, model={**NUMBERS, "temperature": 1.0}, output=output), out="out")
    answers = lines(result.path / "answers.jsonl")
    repairs = {(a["id"], a["sample"]) for a in answers if a["role"] == "repair"}
    unread = {(a["id"], a["sample"]) for a in answers if a["role"] == "sample" and a["text"].strip() != "12"}
    assert repairs == unread
    assert sum(a["role"] == "sample" for a in answers) == 30


# -- label mapping


def test_labels_that_mean_nothing_are_mapped_by_what_the_model_says(write_task: WriteTask) -> None:
    answers = {"good": "positive", "bad": "negative"}

    def row(i: int, what: str) -> Record:
        return {"text": f"{what} {i}", "label": "x" if i % 2 else "y"}

    task = write_task(
        train=[row(i, "film") for i in range(80)],
        test=[row(i, "play") for i in range(10)],
        model=FAKE,
        output=[{"use": "verbalizer", "labels": answers}, {"use": "label_mapping", "kind": "frequency", "rows": 60}],
    )
    result = icl.run(task, out="out")
    predictions = lines(result.path / "predictions.jsonl")
    assert {p["prediction"] for p in predictions} <= {"x", "y"}
    assert {p["target"] for p in predictions} == {"x", "y"}
    assert all(p["distribution"].keys() == {"x", "y"} for p in predictions)


def test_an_answer_read_as_text_is_mapped_too(write_task: WriteTask) -> None:
    train = [{"text": f"film {i}", "label": "x" if i % 2 else "y"} for i in range(80)]
    task = write_task(
        train=train,
        test=[{"text": f"play {i}", "label": "x"} for i in range(10)],
        model={"use": "fake", "answers": ["Rome", "Paris", "Oslo"]},
        output=["identity", {"use": "label_mapping", "kind": "bayesian", "rows": 60}],
    )
    result = icl.run(task, out="out")
    assert {p["prediction"] for p in lines(result.path / "predictions.jsonl")} <= {"x", "y"}
    assert result.summary["scoring"]["method"] == "text"


def test_an_iterative_mapping_writes_its_demonstrations_with_the_words_it_found(write_task: WriteTask) -> None:
    train = [{"text": f"film {i}", "label": "x" if i % 2 else "y"} for i in range(80)]
    task = write_task(
        train=train,
        test=[{"text": f"play {i}", "label": "x"} for i in range(6)],
        model=FAKE,
        input={
            "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
            "demonstrations": {"use": "random", "k": 2, "balanced": True},
        },
        output=[VERBALIZER, {"use": "label_mapping", "kind": "iterative", "rows": 40}],
    )
    with icl.load(task) as pipeline:
        pipeline.predict({"text": "one more"})
        pipeline.save("it.icl.json")
    result = icl.run(task, out="out")
    answers = lines(result.path / "answers.jsonl")
    first, last = answers[0]["prompt"], answers[-1]["prompt"]
    assert answers[0]["role"] == "fit"
    assert "Sentiment: x" in first
    assert "Sentiment: y" in first
    assert "Sentiment: positive" in last
    assert "Sentiment: negative" in last
    with icl.load("it.icl.json") as program:
        assert "Sentiment: positive" in str(program.predict({"text": "and one more"}).prompt.text)


# -- failures


def test_fits_go_on_without_the_rows_that_got_no_answer(write_task: WriteTask, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    known = [r for i, r in enumerate(TRAIN) if i % 4]
    said = [{"prompt": f"Review: {r['text']}\nSentiment:", "completion": " " + r["label"]} for r in [*known, *TEST]]
    record.write_text("".join(json.dumps(line) + "\n" for line in said), encoding="utf-8")
    output = [{"use": "verbalizer", "labels": LABELS, "read": "text"}, {"use": "label_mapping", "rows": 60}]
    model = {"use": "replay", "path": str(record)}
    result = icl.run(write_task(train=TRAIN, test=TEST, model=model, output=output), out="out")
    assert result.metrics["accuracy"].value == 1.0
    assert fits(result.path)["output[1]"]["state"]["rows"] == len(known)
    record.write_text(json.dumps(said[0]) + "\n", encoding="utf-8")
    with pytest.raises(EndpointError, match="before the first row"):
        icl.run(write_task(train=TRAIN, test=TEST, model=model, output=output), out="other")


def test_a_program_saved_by_a_run_has_all_that_the_run_learned(write_task: WriteTask, icl: CommandLine) -> None:
    output = [VERBALIZER, {"use": "batch_calibration"}, {"use": "temperature", "rows": 40}]
    task = write_task(train=TRAIN, test=TEST, model=FAKE, output=output)
    assert icl("run", task, "--out", "out", "--save", "it.icl.json")[0] == 0
    first = lines(Path("out/predictions.jsonl"))[0]
    code, out, _ = icl("predict", "it.icl.json", "--input", json.dumps(first["inputs"]))
    assert code == 0
    assert json.loads(out)["distribution"] == first["distribution"]
    code, _, err = icl("run", task, "--save", "it.json")
    assert code == 2
    assert "it.json" in err


# -- what a summary shows beside its metrics


def test_the_summary_has_confusion_coverage_and_slices(write_task: WriteTask, icl: CommandLine) -> None:
    test = [{**row, "lang": ("en", "de")[i % 4 == 0]} for i, row in enumerate(TEST)]
    data = {"train": "train.jsonl", "test": "test.jsonl", "target": "label", "slices": ["lang"]}
    task = write_task(
        train=TRAIN, test=test, data=data, model=FAKE, output=[VERBALIZER, {"use": "abstain", "below": 0.55}]
    )
    code, out, _ = icl("run", task, "--out", "out", "--tables")
    assert code == 0
    predictions = lines(Path("out/predictions.jsonl"))
    summary = json.loads(Path("out/summary.json").read_text())
    matrix = summary["confusion"]
    for label, row, unread in zip(matrix["labels"], matrix["counts"], matrix["unread"], strict=True):
        mine = [p for p in predictions if p["target"] == label]
        assert unread == sum(p["prediction"] is None for p in mine)
        assert row == [sum(p["prediction"] == other for p in mine) for other in matrix["labels"]]
    answered = [p for p in predictions if p["status"] == "ok"]
    (line,) = summary["coverage"]["thresholds"]
    assert (line["threshold"], line["n"]) == (0.55, len(answered))
    assert line["accuracy"] == sum(p["correct"] for p in answered) / len(answered)
    for value, metrics in summary["slices"]["lang"].items():
        mine = [p for p in predictions if p["inputs"]["lang"] == value]
        assert metrics["accuracy"]["n"] == len(mine)
        assert metrics["accuracy"]["value"] == sum(p["correct"] for p in mine) / len(mine)
    assert "target \\ prediction" in out
    assert "lang" in out
    assert "answered" in out


def test_a_slice_of_a_field_that_is_not_there_is_told(write_task: WriteTask, icl: CommandLine) -> None:
    data = {"test": "test.jsonl", "target": "label", "slices": ["language"]}
    code, _, err = icl("run", write_task(test=[{**TEST[0], "lang": "en"}], data=data, model=FAKE, output=[VERBALIZER]))
    assert code == 2
    assert "test.jsonl:1" in err
    assert "data.slices" in err
    assert "lang" in err


def test_a_metric_of_distributions_has_them_asked_for_or_is_refused(write_task: WriteTask, icl: CommandLine) -> None:
    result = icl_engine.run(
        write_task(test=TEST, model=FAKE, output=[VERBALIZER], metrics=["accuracy", "ece", "log_loss"])
    )
    assert all(p["distribution"] for p in lines(result.path / "predictions.jsonl"))
    assert result.metrics["log_loss"].value > 0
    code, _, err = icl("run", write_task(test=TEST, model=FAKE, output=["identity"], metrics=["accuracy", "ece"]))
    assert code == 2
    assert "metrics[1]: ece judges label distributions" in err


def test_mapped_labels_that_the_verbalizer_knows_are_shown_in_its_words(write_task: WriteTask) -> None:
    task = write_task(
        train=TRAIN,
        test=TEST[:2],
        model={"use": "fake", "answers": ["good", "bad"]},
        input={
            "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
            "demonstrations": {"use": "random", "k": 4, "balanced": True},
        },
        output=[
            {"use": "verbalizer", "labels": {"positive": "good", "negative": "bad"}},
            {"use": "label_mapping", "rows": 20},
        ],
    )
    answers = lines(icl.run(task, out="out").path / "answers.jsonl")
    assert all(a["prompt"].count("Sentiment: good") == a["prompt"].count("Sentiment: bad") == 2 for a in answers)
