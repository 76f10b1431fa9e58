"""`icl run` twice or more, then `icl compare`: plain words, JSON, Holm, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import jsonl
from support.server import StandIn

from icl_engine.console.compare import letters, sentence
from icl_engine.engine.compare import Compared, Pair, compare_runs
from icl_engine.metrics.compare import Comparison, mcnemar

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Record = dict[str, Any]
Finish = Callable[..., Path]

ROWS: Sequence[Record] = [
    {"id": f"q{i}", "text": f"film number {i}", "label": ("positive", "negative")[i % 2], "group": f"text {i // 5}"}
    for i in range(40)
]
DATA = {"test": "test.jsonl", "target": "label"}
NUMBER = r"-?\d+(?:\.\d+)?(?:e-\d+)?"


def wrong(label: str) -> str:
    return {"positive": "negative", "negative": "positive"}[label]


@pytest.fixture
def finish(write_task: WriteTask, icl: CommandLine, tmp_path: Path) -> Finish:
    """A run by `icl run` over recorded answers: of the rows of those numbers wrong ones, of others none at all."""

    def run(
        out: str,
        *,
        miss: Collection[int] = (),
        silent: Collection[int] = (),
        rows: Sequence[Mapping[str, Any]] = ROWS,
        field: str = "text",
        options: Sequence[object] = (),
        **keys: Any,
    ) -> Path:
        record = [
            {
                "prompt": f"Review: {row[field]}\nSentiment:",
                "completion": " " + (wrong(row["label"]) if i in miss else row["label"]),
            }
            for i, row in enumerate(rows)
            if i not in silent
        ]
        jsonl(tmp_path / f"{out}.record.jsonl", record)
        keys = {"model": {"use": "replay", "path": f"{out}.record.jsonl"}, "data": DATA, **keys}
        status, _, err = icl("run", write_task(name=f"{out}.yaml", test=rows, **keys), "--out", out, *options)
        assert status == (3 if silent else 0), err
        return Path(out)

    return run


def told(icl: CommandLine, *arguments: object) -> str:
    """What `icl compare` refuses: one line."""
    status, out, err = icl("compare", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


def shown(icl: CommandLine, *arguments: object) -> Any:
    """What `icl compare --json` prints."""
    status, out, err = icl("compare", *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


# -- in plain words


def test_a_shown_difference_is_a_sentence(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=range(20))
    finish("b")
    status, out, err = icl("compare", "a", "b")
    assert (status, err) == (0, "")
    said = out.splitlines()
    assert said[:4] == [
        "A = a",
        "    accuracy 0.5000 (95% CI 0.3520 to 0.6480)",
        "B = b",
        "    accuracy 1.0000 (95% CI 0.9124 to 1.0000)",
    ]
    found = re.fullmatch(
        rf"accuracy: B is better than A by 50\.0 points, 95% CI ({NUMBER}) to ({NUMBER}), p = 1\.91e-06, n = 40",
        said[4],
    )
    assert found is not None
    assert 30 < float(found[1]) < 40 < 60 < float(found[2]) < 70
    assert len(said) == 5


def test_the_better_run_comes_first_in_the_sentence_whatever_the_order(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=range(20))
    finish("b")
    forth, back = icl("compare", "a", "b")[1], icl("compare", "b", "a")[1]
    ends = rf"by 50\.0 points, 95% CI {NUMBER} to {NUMBER}, p = 1\.91e-06, n = 40"
    (one,) = re.findall(rf"accuracy: B is better than A {ends}", forth)
    (other,) = re.findall(rf"accuracy: A is better than B {ends}", back)
    assert one.replace("B is better than A", "A is better than B") == other


def test_a_difference_that_may_be_chance_is_not_shown(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=[0, 1, 2])
    finish("b", miss=[3, 4])
    out = icl("compare", "a", "b")[1]
    assert "accuracy: no difference shown: B is 2.5 points above A, 95% CI -" in out
    assert out.endswith(", p = 1, n = 40\n")


def test_equal_runs_are_equal(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=[0, 1])
    finish("b", miss=[5, 6])
    assert "accuracy: no difference shown: A and B are equal, 95% CI -" in icl("compare", "a", "b")[1]
    assert icl("compare", "a", "a")[1].endswith(
        "accuracy: no difference shown: A and B are equal, 95% CI 0.0 to 0.0, p = 1, n = 40\n"
    )


def test_runs_of_the_fake_model_compare(write_task: WriteTask, icl: CommandLine) -> None:
    metrics = ["accuracy", "macro_f1", "exact_match"]
    assert icl("run", write_task(metrics=metrics, test=ROWS), "--out", "a")[0] == 0
    other = {"template": {"inline": "Film: {{ text }}\nMood: {{ answer }}"}}
    assert icl("run", write_task(metrics=metrics, test=ROWS, input=other), "--out", "b")[0] == 0
    found = shown(icl, "a", "b")
    assert [c["metric"] for c in found["comparisons"]] == metrics
    values = {name: json.loads(Path(name, "summary.json").read_text())["metrics"]["macro_f1"]["value"] for name in "ab"}
    assert found["comparisons"][1]["difference"] == pytest.approx(values["b"] - values["a"])
    assert [c["test"] for c in found["comparisons"]] == ["mcnemar", "randomisation", "mcnemar"]


def test_a_score_on_a_scale_of_100_is_told_in_points_too(finish: Finish, icl: CommandLine) -> None:
    rows = [{"text": str(i), "label": "positive"} for i in range(12)]
    keys: Record = {"metrics": ["chrf"], "output": [], "rows": rows}
    finish("a", miss=range(12), **keys)
    finish("b", **keys)
    value = json.loads(Path("a", "summary.json").read_text())["metrics"]["chrf"]["value"]
    assert 20 < value < 90
    assert f"chrf: B is better than A by {100 - value:.1f} points" in icl("compare", "a", "b")[1]


def test_rows_without_an_answer_are_mentioned_and_count_as_wrong(finish: Finish, icl: CommandLine) -> None:
    finish("a", silent=[3, 7, 9])
    finish("b", miss=[3])
    said = icl("compare", "a", "b")[1].splitlines()
    assert said[0] == "A = a; 3 rows without an answer: counted as wrong"
    assert said[2] == "B = b"
    found = shown(icl, "a", "b")
    assert [run["failed"] for run in found["runs"]] == [3, 0]
    (pair,) = found["comparisons"]
    assert (pair["only_a"], pair["only_b"], pair["difference"]) == (0, 2, pytest.approx(2 / 40))


def test_no_end_of_an_interval_is_minus_nothing() -> None:
    pair = Pair("accuracy", 0, 1, 1.0, Comparison(-0.1, (-0.2, 0.0), 0.25, "mcnemar", 3, 0), 0.25)
    assert "95% CI 0.0 to 20.0" in sentence(pair, ["A", "B"], Compared((), 30, None, (), (), (pair,)))


@pytest.mark.parametrize(
    ("metric", "best", "worst", "p", "says"),
    [
        ("mcc", 1.0, -1.0, 0.01, "mcc: B is better than A by 10.0 points, 95% CI 2.0 to 20.0, p = 0.01, n = 30"),
        ("ece", 0.0, 1.0, 0.01, "ece (lower is better): A is better than B by 10.0 points, 95% CI 2.0 to 20.0"),
        ("brier", 0.0, 2.0, 0.01, "brier (lower is better): A is better than B by 0.1000, 95% CI 0.0200 to 0.2000"),
        ("log_loss", 0.0, 36.0, 0.2, "log_loss (lower is better): no difference shown: B is 0.1000 above A, 95% CI"),
        ("bleu", 100.0, 0.0, 0.01, "bleu: B is better than A by 0.1 points, 95% CI 0.0 to 0.2"),
    ],
)
def test_a_sentence_knows_which_end_is_better(metric: str, best: float, worst: float, p: float, says: str) -> None:
    pair = Pair(metric, 0, 1, best, Comparison(0.1, (0.02, 0.2), p, "randomisation"), p, worst)
    assert sentence(pair, ["A", "B"], Compared((), 30, None, (), (), (pair,))).startswith(says)


# -- JSON


def test_the_json_has_every_figure(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=range(9))
    finish("b", miss=[0, 39])
    found = shown(icl, "a", "b")
    assert found.keys() == {"runs", "n", "clusters", "comparisons"}
    assert (found["n"], found["clusters"]) == (40, None)
    assert [run.keys() for run in found["runs"]] == [{"path", "failed", "metrics"}] * 2
    assert [(run["path"], run["failed"]) for run in found["runs"]] == [("a", 0), ("b", 0)]
    for run in found["runs"]:
        assert run["metrics"] == json.loads(Path(run["path"], "summary.json").read_text())["metrics"]
    (pair,) = found["comparisons"]
    low, high = pair.pop("ci95")
    assert 0 < low < 7 / 40 < high < 0.5
    p = mcnemar(1, 8)
    assert pair == {
        "metric": "accuracy",
        "a": "a",
        "b": "b",
        "difference": pytest.approx(7 / 40),
        "lower_is_better": False,
        "p": p,
        "p_holm": p,
        "test": "mcnemar",
        "only_a": 1,
        "only_b": 8,
        "shown": True,
    }


def test_the_seed_decides_the_resamples(finish: Finish, icl: CommandLine) -> None:
    keys: Record = {"metrics": ["macro_f1"]}
    finish("a", miss=[*range(12), 17], **keys)
    finish("b", miss=range(5, 11), **keys)
    first = shown(icl, "a", "b")
    assert shown(icl, "a", "b") == shown(icl, "a", "b", "--seed", "0") == first
    assert shown(icl, "a", "b", "--seed", "1")["comparisons"][0]["ci95"] != first["comparisons"][0]["ci95"]


def test_the_intervals_of_runs_are_those_of_their_summaries(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=range(9), metrics=["macro_f1"], run={"seed": 7})
    (run, _) = shown(icl, "a", "a")["runs"]
    assert run["metrics"] == json.loads(Path("a", "summary.json").read_text())["metrics"]


# -- several runs


@pytest.fixture
def three(finish: Finish) -> list[Path]:
    return [finish("a", miss=range(9)), finish("b", miss=[0, 1]), finish("c", miss=range(4, 7))]


@pytest.mark.usefixtures("three")
def test_several_runs_are_compared_with_the_first_and_adjusted_by_holm(icl: CommandLine) -> None:
    found = shown(icl, "a", "b", "c")["comparisons"]
    assert [(pair["a"], pair["b"]) for pair in found] == [("a", "b"), ("a", "c")]
    to_b, to_c = mcnemar(0, 7), mcnemar(0, 6)
    assert [pair["p"] for pair in found] == [to_b, to_c]
    assert [pair["p_holm"] for pair in found] == [2 * to_b, max(2 * to_b, to_c)]
    assert [pair["shown"] for pair in found] == [True, True]
    said = icl("compare", "a", "b", "c")[1].splitlines()
    assert re.fullmatch(
        r"accuracy: B is better .*, p = 0\.0156 \(0\.031[23] after Holm over 2 comparisons\), n = 40", said[-2]
    )
    assert re.fullmatch(
        r"accuracy: C is better .*, p = 0\.031[23] \(0\.031[23] after Holm over 2 comparisons\), n = 40", said[-1]
    )


@pytest.mark.usefixtures("three")
def test_every_pair_compares_each_with_each(icl: CommandLine) -> None:
    found = shown(icl, "a", "b", "c", "--every-pair")["comparisons"]
    assert [(pair["a"], pair["b"]) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    to_b, to_c = mcnemar(0, 7), mcnemar(0, 6)
    assert [pair["p_holm"] for pair in found] == pytest.approx([3 * to_b, 2 * to_c, 1.0])
    assert [pair["shown"] for pair in found] == [True, False, False]
    out = icl("compare", "a", "b", "c", "--every-pair")[1]
    assert out.count("after Holm over 3 comparisons") == 3
    assert "accuracy: no difference shown: C is 15.0 points above A" in out
    assert "accuracy: no difference shown: B is 2.5 points above C" in out


def test_holm_is_over_the_runs_and_not_over_the_metrics(finish: Finish, icl: CommandLine) -> None:
    keys: Record = {"metrics": ["accuracy", "exact_match"]}
    finish("a", miss=range(9), **keys)
    finish("b", **keys)
    finish("c", miss=[30], **keys)
    found = shown(icl, "a", "b", "c")["comparisons"]
    assert [(pair["metric"], pair["b"]) for pair in found] == [
        *[("accuracy", "b"), ("accuracy", "c")],
        *[("exact_match", "b"), ("exact_match", "c")],
    ]
    assert [pair["p_holm"] for pair in found[:2]] == [pair["p_holm"] for pair in found[2:]]
    assert found[0]["p_holm"] == 2 * mcnemar(0, 9)


def test_the_metrics_that_all_runs_share_are_compared(finish: Finish, icl: CommandLine) -> None:
    finish("a", metrics=["macro_f1", "accuracy", "exact_match"], miss=[1])
    finish("b", metrics=["accuracy", "macro_f1"])
    finish("c", metrics=["accuracy", {"use": "exact_match", "name": "macro_f1"}])
    assert [pair["metric"] for pair in shown(icl, "a", "b")["comparisons"]] == ["macro_f1", "accuracy"]
    assert [pair["metric"] for pair in shown(icl, "a", "b", "c")["comparisons"]] == ["accuracy", "accuracy"]


def test_the_twenty_seventh_run_has_a_name_too() -> None:
    assert letters(28)[25:] == ["Z", "R27", "R28"]


# -- metrics with names


def test_two_metrics_of_one_use_are_told_apart_by_their_names(finish: Finish, icl: CommandLine) -> None:
    metrics = [
        {"use": "rouge", "variant": "rouge1", "name": "words"},
        {"use": "rouge", "variant": "rouge2", "name": "pairs"},
    ]
    keys: Record = {"metrics": metrics, "output": [], "rows": [{"text": str(i), "label": "positive"} for i in range(9)]}
    finish("a", miss=range(7), **keys)
    finish("b", **keys)
    summary = json.loads(Path("a", "summary.json").read_text())["metrics"]
    assert {name: score["value"] for name, score in summary.items()} == {"words": pytest.approx(2 / 9), "pairs": 0.0}
    said = icl("compare", "a", "b")[1].splitlines()
    assert [line.partition(":")[0] for line in said[-2:]] == ["words", "pairs"]
    assert "words: B is better than A by 77.8 points" in said[-2]


@pytest.mark.parametrize(
    "metrics",
    [
        ["accuracy", {"use": "exact_match", "name": "accuracy"}],
        [{"use": "rouge"}, {"use": "rouge", "variant": "rouge2"}],
        [{"use": "accuracy", "name": "right"}, {"use": "macro_f1", "name": "right"}],
    ],
)
def test_two_metrics_under_one_name_are_a_mistake_with_file_and_line(
    write_task: WriteTask, icl: CommandLine, metrics: list[Any]
) -> None:
    task = write_task(metrics=metrics)
    line = 1 + next(i for i, text in enumerate(task.read_text().splitlines()) if text.startswith("metrics:"))
    status, out, err = icl("run", task, "--out", "out")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {task}:{line}: metrics")
    assert "give one a name" in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


# -- rows that were drawn together

CLUSTERED = {**DATA, "cluster": "group"}


def test_clusters_are_mentioned_and_decide_the_test(finish: Finish, icl: CommandLine) -> None:
    finish("a", miss=range(20), data=CLUSTERED)
    finish("b", data=CLUSTERED)
    out = icl("compare", "a", "b")[1]
    assert out.endswith(", n = 40 in 8 clusters\n")
    found = shown(icl, "a", "b")
    assert found["clusters"] == 8
    (pair,) = found["comparisons"]
    assert (pair["test"], pair["only_a"], pair["only_b"]) == ("randomisation", 0, 20)
    # Of the 2^4 ways in which the four texts that differ change hands, two are as large.
    assert pair["p"] == pytest.approx(2 / 16, abs=0.02)
    for run in found["runs"]:
        assert run["metrics"] == json.loads(Path(run["path"], "summary.json").read_text())["metrics"]


def test_clusters_widen_the_interval_of_the_run_itself(finish: Finish) -> None:
    finish("rows", miss=range(20))
    finish("texts", miss=range(20), data=CLUSTERED)
    plain, clustered = (
        json.loads(Path(name, "summary.json").read_text())["metrics"]["accuracy"] for name in ("rows", "texts")
    )
    assert plain["value"] == clustered["value"] == 0.5
    assert clustered["ci95"][1] - clustered["ci95"][0] > 1.5 * (plain["ci95"][1] - plain["ci95"][0])


def test_a_row_without_the_clusters_field_is_told_before_anything_is_asked(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    rows = [*ROWS[:2], {"text": "film number 2", "label": "positive", "grup": "text 0"}]
    task = write_task(model={"use": "vllm", "base_url": server.url, "name": "m"}, test=rows, data=CLUSTERED)
    status, out, err = icl("run", task, "--out", "out")
    assert (status, out) == (2, "")
    assert re.fullmatch(
        r"error: \S*test\.jsonl:3: row has no field 'group' \(data\.cluster\); did you mean 'grup'\?\n", err
    )
    assert server.received == []
    assert not Path("out").exists()


# -- the same rows, written otherwise


def test_runs_whose_tasks_rename_fields_differently_still_compare(finish: Finish, icl: CommandLine) -> None:
    stored = [{"id": row["id"], "sentence": row["text"], "label": row["label"], "extra": None} for row in ROWS]
    for name, variable in (("a", "text"), ("b", "review"), ("c", "sentence")):
        finish(
            name,
            miss=[0, 1] if name == "a" else [],
            rows=stored,
            field="sentence",
            data={**DATA, "fields": {} if variable == "sentence" else {variable: "sentence"}},
            input={"template": {"inline": f"Review: {{{{ {variable} }}}}\nSentiment: {{{{ answer }}}}"}},
        )
    found = shown(icl, "a", "b", "c")
    assert [pair["difference"] for pair in found["comparisons"]] == pytest.approx([0.05, 0.05])


# -- refusals


def test_one_directory_is_not_enough(finish: Finish, icl: CommandLine) -> None:
    finish("a")
    assert told(icl, "a") == "compare: takes two run directories or more"


def test_no_directory_is_a_mistake_of_the_command(icl: CommandLine) -> None:
    assert icl("compare")[0] == 2


@pytest.mark.parametrize("what", ["missing", "empty", "a file"])
def test_what_is_no_run_directory_is_refused(finish: Finish, icl: CommandLine, what: str) -> None:
    finish("a")
    if what == "empty":
        Path("b").mkdir()
    elif what == "a file":
        Path("b").write_text("{}")
    assert told(icl, "a", "b").startswith("b: is not a run directory; ")
    assert told(icl, "b", "a").startswith("b: is not a run directory; ")


OTHER_ROWS: Mapping[str, tuple[Callable[[Record], Record], str]] = {
    "id": (
        lambda row: {**row, "id": "q7b"},
        "compare: not the same rows: row 7 is 'q7b' in b and 'q7' in a",
    ),
    "inputs": (
        lambda row: {**row, "text": "another film"},
        "compare: not the same rows: row 7 is 'q7' in b and 'q7' in a, with other fields",
    ),
    "a field that is not shown": (
        lambda row: {**row, "group": "elsewhere"},
        "compare: not the same rows: row 7 is 'q7' in b and 'q7' in a, with other fields",
    ),
    "target": (
        lambda row: {**row, "label": wrong(row["label"])},
        "compare: not the same rows: the target of row 7 is 'positive' in b and 'negative' in a",
    ),
}


@pytest.mark.parametrize(("change", "words"), OTHER_ROWS.values(), ids=OTHER_ROWS.keys())
def test_other_rows_are_refused(
    finish: Finish, icl: CommandLine, change: Callable[[Record], Record], words: str
) -> None:
    finish("a")
    finish("b", rows=[change(row) if i == 7 else row for i, row in enumerate(ROWS)])
    assert told(icl, "a", "b") == words


def test_rows_in_another_order_are_refused(finish: Finish, icl: CommandLine) -> None:
    finish("a")
    finish("b", rows=ROWS[::-1])
    assert told(icl, "a", "b") == "compare: not the same rows: row 0 is 'q39' in b and 'q0' in a"


def test_rows_without_ids_are_told_apart_by_their_fields(finish: Finish, icl: CommandLine) -> None:
    rows = [{k: v for k, v in row.items() if k != "id"} for row in ROWS]
    finish("a", rows=rows)
    finish("b", rows=rows, miss=[0])
    finish("c", rows=[rows[1], rows[0], *rows[2:]])
    assert shown(icl, "a", "b")["n"] == 40
    assert told(icl, "a", "c") == "compare: not the same rows: row 0 is 0 in c and 0 in a, with other fields"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_another_number_of_rows_is_refused(finish: Finish, icl: CommandLine, order: tuple[str, str]) -> None:
    finish("a")
    finish("b", options=["--limit", 30])
    has = {"a": "a has 40", "b": "b has 30"}
    assert told(icl, *order) == (
        f"compare: not the same rows: {has[order[0]]}, {has[order[1]]}; run them with the same data and the same limit"
    )


def test_a_run_that_was_stopped_before_its_summary_is_refused(finish: Finish, icl: CommandLine) -> None:
    finish("a")
    finish("b")
    Path("b", "summary.json").unlink()
    assert told(icl, "a", "b") == "b: the run has not come to its end; run it again to finish it"


def test_a_run_that_was_stopped_while_it_grew_beyond_its_limit_is_refused(finish: Finish, icl: CommandLine) -> None:
    finish("a")
    finish("b", options=["--limit", 30])
    short = Path("b", "summary.json").read_bytes()
    finish("b")
    Path("b", "summary.json").write_bytes(short)
    assert told(icl, "a", "b") == "b: the run has not come to its end; run it again to finish it"


def test_runs_without_a_metric_in_common_are_refused(finish: Finish, icl: CommandLine) -> None:
    finish("a", metrics=["accuracy", "macro_f1"])
    finish("b", metrics=["exact_match"])
    finish("c", metrics=[], data={"test": "test.jsonl"})
    assert told(icl, "a", "b") == ("compare: the runs have no metric in common (a: accuracy, macro_f1; b: exact_match)")
    assert told(icl, "a", "c") == "compare: the runs have no metric in common (a: accuracy, macro_f1; c: none)"


def test_a_metric_with_other_options_is_another_metric(finish: Finish, icl: CommandLine) -> None:
    finish("a", metrics=[{"use": "rouge", "variant": "rouge1"}], output=[])
    finish("b", metrics=[{"use": "rouge", "variant": "rouge2"}], output=[])
    assert "no metric in common" in told(icl, "a", "b")


@pytest.mark.parametrize("other", [DATA, {**DATA, "cluster": "label_of_text"}])
def test_other_clusters_are_refused(finish: Finish, icl: CommandLine, other: Record) -> None:
    rows = [{**row, "label_of_text": "x"} for row in ROWS]
    finish("a", rows=rows, data=CLUSTERED)
    finish("b", rows=rows, data=other)
    assert told(icl, "a", "b") == "compare: the runs' tasks differ in data.cluster; run both with the same"


def test_a_missing_package_of_a_metric_is_told(
    finish: Finish, icl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish("a", metrics=["rouge"], output=[])
    monkeypatch.setattr("icl_engine.metrics.text.find_spec", lambda module: None)
    assert "rouge-score; run: pip install 'icl-engine[metrics]'" in told(icl, "a", "a")


@pytest.mark.parametrize("file", ["manifest.json", "summary.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"task": {"metrics": [{"use": "accuracy", "x": 1}]}}'])
def test_a_broken_run_directory_is_refused(finish: Finish, icl: CommandLine, file: str, content: bytes) -> None:
    finish("a")
    shutil.copytree("a", "b")
    Path("b", file).write_bytes(content)
    assert told(icl, "a", "b").startswith("b/")


# -- known faults


@pytest.mark.parametrize("how", ["missing", "cut off", "not a row"])
def test_broken_predictions_are_refused(finish: Finish, icl: CommandLine, how: str) -> None:
    finish("a")
    shutil.copytree("a", "b")
    path = Path("b", "predictions.jsonl")
    match how:
        case "missing":
            path.unlink()
        case "cut off":
            path.write_bytes(path.read_bytes()[:-20])
        case _:
            path.write_bytes(b"3\n" * 40)
    assert told(icl, "a", "b").startswith("b")


def test_a_negative_seed_is_no_fault_of_compare(finish: Finish, icl: CommandLine) -> None:
    finish("a")
    assert icl("compare", "a", "a", "--seed", "-1")[0] in (0, 2)


def test_a_negative_seed_of_a_run_is_no_fault_of_its_intervals(write_task: WriteTask, icl: CommandLine) -> None:
    assert icl("run", write_task(metrics=["macro_f1"], run={"seed": -1}), "--out", "out")[0] in (0, 2)


def test_runs_whose_readers_place_spans_or_do_not_are_of_the_same_rows(
    write_task: WriteTask, icl: CommandLine, tmp_path: Path
) -> None:
    said = '[{"type": "person", "text": "Bo"}, {"type": "person", "text": "Ann"}]'
    test = [{"text": f"Ann met Bo at {i}.", "entities": json.loads(said)} for i in range(8)]
    keys = {
        "test": test,
        "data": {"test": "test.jsonl", "target": "entities"},
        "model": {"use": "fake", "answers": [said]},
        "metrics": ["span_f1"],
    }
    for reader in ("spans", "json"):
        assert icl("run", write_task(**keys, output=[reader]), "--out", reader)[0] == 0
    written = [(tmp_path / reader / "predictions.jsonl").read_text().splitlines()[0] for reader in ("spans", "json")]
    assert json.loads(written[0])["target"] != json.loads(written[1])["target"]
    (pair,) = compare_runs(["spans", "json"]).pairs
    assert pair.result.difference == 0.0
