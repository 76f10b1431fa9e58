"""A run from task file to run directory, over `fake`, `replay` and the stand-in server."""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.server import Reply, StandIn, scores

import icl_engine as icl
from icl_engine.errors import TaskError

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Record = dict[str, Any]

FILES = ["answers.jsonl", "manifest.json", "predictions.jsonl", "summary.json"]
VERBALIZER = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
ROWS = [{"text": f"film number {i}", "label": ("positive", "negative")[i % 2]} for i in range(24)]
PREDICTION_KEYS = {
    "id",
    "inputs",
    "prompt_sha256",
    "text",
    "prediction",
    "target",
    "correct",
    "scores",
    "status",
    "distribution",
    "demonstrations",
    "trace",
    "usage",
}
USAGE_KEYS = {"prompt_tokens", "cached_prompt_tokens", "completion_tokens"}


def at(server: StandIn, **keys: Any) -> Record:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


def lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the summary's counts of this very run."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(found["summary.json"])
    del summary["seconds"], summary["usage"]["paid"], summary["usage"]["cached"]
    return {**found, "summary.json": json.dumps(summary).encode()}


def by_hash(seconds: float) -> Callable[[str], float]:
    """A latency that differs from prompt to prompt."""
    return lambda prompt: seconds * hashlib.sha256(prompt.encode()).digest()[0] / 255


def shown(text: str) -> str:
    return f"Review: {text}\nSentiment:"


def test_the_four_files_and_their_keys(server: StandIn, write_task: WriteTask) -> None:
    result = icl.run(
        write_task(
            model=at(server),
            output=[VERBALIZER, {"use": "batch_calibration"}],
            metrics=["accuracy", "macro_f1"],
            run={"seed": 7},
        ),
        out="out",
    )
    assert result.path == Path("out")
    assert sorted(p.name for p in result.path.iterdir()) == FILES

    predictions = lines(result.path / "predictions.jsonl")
    assert all(record.keys() == PREDICTION_KEYS for record in predictions)
    first = predictions[0]
    assert first["id"] == 0
    assert first["inputs"] == {"text": "film 0 is fine"}
    assert first["prompt_sha256"] == hashlib.sha256(shown("film 0 is fine").encode()).hexdigest()
    assert first["target"] == "positive"
    assert first["correct"] is (first["prediction"] == "positive")
    assert first["scores"]["accuracy"] == float(first["correct"])
    assert math.isclose(sum(first["distribution"].values()), 1.0)
    assert first["usage"].keys() == USAGE_KEYS

    answers = lines(result.path / "answers.jsonl")
    assert [a["id"] for a in answers] == [p["id"] for p in predictions]
    assert {a["role"] for a in answers} == {"main"}
    assert answers[0].keys() >= {"key", "id", "role", "prompt", "text", "logprobs", "usage"}
    assert answers[0]["prompt"] == shown("film 0 is fine")
    expected = scores(answers[0]["prompt"], (" positive", " negative"))
    assert answers[0]["logprobs"] == {label.strip(): p for label, p in expected.items()}

    manifest = json.loads((result.path / "manifest.json").read_text())
    assert manifest.keys() >= {"task", "fingerprint", "versions"}
    assert manifest["task"]["run"]["seed"] == 7
    assert manifest["fits"]["output[1]"]["state"]["rows"] == 6

    summary = json.loads((result.path / "summary.json").read_text())
    assert summary == result.summary
    assert summary.keys() == {
        "task",
        "model",
        "examples",
        "failed",
        "unparsed",
        "abstained",
        "dropped",
        "metrics",
        "usage",
        "plan",
        "scoring",
        "calibration",
        "confusion",
        "coverage",
        "taxonomy",
        "seconds",
    }
    assert (summary["task"], summary["model"], summary["examples"]) == ("small", "m", 6)
    assert summary["metrics"].keys() == {"accuracy", "macro_f1"}
    assert summary["metrics"]["accuracy"].keys() == {"value", "ci95", "n"}
    assert summary["metrics"]["accuracy"]["n"] == 6
    assert summary["usage"].keys() == USAGE_KEYS | {"requests", "paid", "cached", "cost_usd"}
    assert summary["usage"]["requests"] == summary["usage"]["paid"] == 6
    assert summary["usage"]["prompt_tokens"] == sum(len(a["prompt"].split()) for a in answers)
    assert summary["scoring"] == {"method": "top_k", "exact": 6, "bounded": 0}
    assert summary["taxonomy"] == {
        "format": "fixed",
        "location": "input",
        "operator": "concatenative",
        "alignment": ["structural", "statistical"],
    }


@pytest.mark.parametrize(
    ("output", "kinds"),
    [([], ["identity"]), ([VERBALIZER], ["structural"]), ([{"use": "regex", "pattern": "(.*)"}], ["structural"])],
)
def test_the_taxonomy_follows_the_output(write_task: WriteTask, output: list[Record], kinds: list[str]) -> None:
    assert icl.run(write_task(output=output), out="out").summary["taxonomy"]["alignment"] == kinds


def test_predictions_by_chat_keep_the_messages(server: StandIn, write_task: WriteTask) -> None:
    result = icl.run(write_task(model=at(server, api="chat")), out="out")
    first = lines(result.path / "answers.jsonl")[0]
    assert first["messages"] == [{"role": "user", "content": shown("film 0 is fine")}]
    assert "prompt" not in first


def test_the_default_folder_is_named_by_task_and_fingerprint(write_task: WriteTask) -> None:
    result = icl.run(write_task())
    fingerprint = json.loads((result.path / "manifest.json").read_text())["fingerprint"]
    assert result.path == Path("runs") / "small" / fingerprint


def test_predictions_are_in_data_order_whatever_order_answers_arrive_in(server: StandIn, write_task: WriteTask) -> None:
    server.latency = by_hash(0.06)
    result = icl.run(write_task(model=at(server), test=ROWS), out="out")
    arrived = [body["prompt"] for body in server.answered]
    assert sorted(arrived) != arrived != [shown(row["text"]) for row in ROWS]
    assert [p["id"] for p in result.predictions] == list(range(24))
    assert [p["inputs"]["text"] for p in result.predictions] == [row["text"] for row in ROWS]
    assert [a["prompt"] for a in lines(result.path / "answers.jsonl")] == [shown(row["text"]) for row in ROWS]


def test_ids_of_the_data_are_kept(write_task: WriteTask) -> None:
    rows = [{"id": f"q{i}", **row} for i, row in enumerate(ROWS[:3])]
    result = icl.run(write_task(test=rows), out="out")
    assert [p["id"] for p in result.predictions] == ["q0", "q1", "q2"]


OUTPUTS = {
    "scores": [VERBALIZER],
    "text": [{**VERBALIZER, "read": "text"}],
    "batch calibration": [VERBALIZER, {"use": "batch_calibration"}],
    "contextual calibration": [VERBALIZER, {"use": "contextual_calibration"}],
    "both": [VERBALIZER, {"use": "contextual_calibration"}, {"use": "batch_calibration"}],
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_a_rerun_pays_nothing_and_gives_the_same_bytes(
    server: StandIn, write_task: WriteTask, output: list[Record]
) -> None:
    server.latency = by_hash(0.02)
    task = write_task(
        model=at(server), output=output, test=ROWS, input={**inline(), "demonstrations": {"use": "random", "k": 2}}
    )
    first = icl.run(task, out="out")
    before, posted = contents(first.path), len(server.received)
    again = icl.run(task, out="out")
    elsewhere = icl.run(task, out="else/where", settings={"run.concurrency": 1})
    assert len(server.received) == posted == first.summary["usage"]["paid"]
    assert again.summary["usage"]["paid"] == 0
    assert again.summary["usage"]["cached"] == first.summary["usage"]["paid"]
    assert contents(again.path) == before
    changed = {name for name, raw in contents(elsewhere.path).items() if raw != before[name]}
    assert changed <= {"manifest.json"}


def inline() -> Record:
    return {"template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"}}


def test_another_cache_gives_the_same_bytes(
    server: StandIn, write_task: WriteTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.latency = by_hash(0.02)
    task = write_task(model=at(server), test=ROWS, output=OUTPUTS["both"])
    first = icl.run(task, out="one")
    monkeypatch.setenv("ICL_CACHE_DIR", str(tmp_path / "another"))
    second = icl.run(task, out="two")
    assert second.summary["usage"]["paid"] == first.summary["usage"]["paid"]
    assert contents(second.path) == contents(first.path)


@pytest.mark.parametrize("setting", ["input.instruction=Judge.", "run.seed=5", "model.temperature=1"])
def test_another_task_in_the_same_folder_is_refused(write_task: WriteTask, icl: CommandLine, setting: str) -> None:
    task = write_task()
    assert icl("run", task, "--out", "out")[0] == 0
    before = contents(Path("out"))
    status, _, err = icl("run", task, "--out", "out", "--set", setting)
    assert status == 2
    assert err.startswith("error: out: ")
    assert "--out" in err
    assert contents(Path("out")) == before


def test_other_data_in_the_same_folder_is_refused(write_task: WriteTask) -> None:
    icl.run(write_task(), out="out")
    with pytest.raises(TaskError, match="another run"):
        icl.run(write_task(test=ROWS), out="out")


def test_a_limited_run_and_the_full_run_share_a_folder(server: StandIn, write_task: WriteTask) -> None:
    task = write_task(model=at(server), test=ROWS)
    first = icl.run(task, limit=5)
    assert (first.summary["examples"], len(server.received)) == (5, 5)
    assert first.metrics["accuracy"].n == 5
    head = (first.path / "predictions.jsonl").read_bytes()
    full = icl.run(task)
    assert full.path == first.path
    assert (full.path / "predictions.jsonl").read_bytes().startswith(head)
    assert len(full.predictions) == 24
    assert set(server.asked.values()) == {1}
    assert full.summary["usage"]["paid"] == 19


@pytest.mark.parametrize(
    "how", [["--no-cache"], ["--set", "run.cache=false"]], ids=["the option", "the key of the task"]
)
def test_without_a_cache_everything_is_asked_anew(
    server: StandIn, write_task: WriteTask, icl: CommandLine, tmp_path: Path, how: list[str]
) -> None:
    task = write_task(model=at(server))
    assert icl("run", task, "--out", "out", *how)[0] == 0
    assert icl("run", task, "--out", "out", *how)[0] == 0
    assert set(server.asked.values()) == {2}
    assert not (tmp_path / "cache").exists()
    assert json.loads(Path("out/summary.json").read_text())["usage"]["paid"] == 6


@pytest.mark.parametrize("data", [{"test": "test.jsonl"}, {"test": "test.jsonl", "target": "label"}])
def test_an_unlabelled_run_needs_no_targets(write_task: WriteTask, data: Record) -> None:
    rows = [{"text": row["text"]} for row in ROWS[:4]]
    result = icl.run(write_task(data=data, metrics=[], test=rows), out="out")
    assert result.metrics == result.summary["metrics"] == {}
    assert {p["target"] for p in result.predictions} == {None}
    assert {p["correct"] for p in result.predictions} == {None}
    assert {p["status"] for p in result.predictions} == {"ok"}


def test_an_example_without_an_answer_is_failed_and_the_others_are_kept(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    server.refuse = lambda prompt: Reply(400, message="prompt is too long") if "film 2" in prompt else None
    task = write_task(model=at(server), output=OUTPUTS["batch calibration"])
    status, _, err = icl("run", task, "--out", "out")
    assert status == 3
    assert "1 example" in err
    found = lines(Path("out/predictions.jsonl"))
    assert [p["status"] for p in found] == ["ok", "ok", "failed", "ok", "ok", "ok"]
    assert (found[2]["prediction"], found[2]["distribution"]) == (None, None)
    assert "prompt is too long" in found[2]["error"]
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["failed"], summary["unparsed"], summary["metrics"]["accuracy"]["n"]) == (1, 0, 6)
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["fits"]["output[1]"]["state"]["rows"] == 5
    assert server.asked[shown("film 2 is great")] == 1

    server.refuse = lambda _: None
    assert icl("run", task, "--out", "out")[0] == 0
    assert {p["status"] for p in lines(Path("out/predictions.jsonl"))} == {"ok"}
    assert set(server.served.values()) == {1}


def test_a_failed_example_has_every_key_too(server: StandIn, write_task: WriteTask) -> None:
    server.refuse = lambda prompt: Reply(400) if "film 2" in prompt else None
    result = icl.run(write_task(model=at(server)), out="out")
    assert [sorted(PREDICTION_KEYS - p.keys()) for p in result.predictions] == [[]] * 6


def test_failures_below_the_allowed_number_are_no_failure(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    server.refuse = lambda prompt: Reply(400) if "film 2" in prompt else None
    task = write_task(model=at(server), run={"max_failures": 1})
    assert icl("run", task, "--out", "out")[0] == 0


def test_a_run_in_which_all_failed_says_so(server: StandIn, write_task: WriteTask, icl: CommandLine) -> None:
    server.refuse = lambda _: Reply(400, message="prompt is too long")
    status, _, err = icl("run", write_task(model=at(server), output=OUTPUTS["both"]), "--out", "out")
    assert status == 3
    assert "Traceback" not in err
    assert json.loads(Path("out/summary.json").read_text())["failed"] == 6


@pytest.mark.parametrize("where", ["check", "send"])
def test_a_model_that_cannot_be_used_is_told_once_for_all_rows(
    write_task: WriteTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async def refuse(*_: object) -> None:
        raise icl.EndpointError("there is no such model")

    monkeypatch.setattr(f"icl_engine.models.fake.FakeEndpoint.{where}", refuse)
    with pytest.raises(icl.EndpointError, match="no such model"):
        icl.run(write_task(test=ROWS), out="out")
    gc.collect()
    assert caplog.text == ""
    assert not Path("out").exists()


def test_a_row_far_down_that_cannot_be_rendered_is_found_before_anything_is_asked(
    server: StandIn, write_task: WriteTask
) -> None:
    rows = [{"text": f"film number {i}", "label": "positive"} for i in range(299)]
    task = write_task(
        model=at(server),
        input={"template": {"inline": "{{ 'Review: ' + text }}\nSentiment: {{ answer }}"}},
        test=[*rows, {"text": 7, "label": "positive"}],
    )
    with pytest.raises(TaskError):
        icl.run(task, out="out")
    assert server.received == []
    assert not Path("out").exists()


def test_unparsed_is_not_failed(write_task: WriteTask, icl: CommandLine) -> None:
    task = write_task(output=[{"use": "regex", "pattern": "never"}])
    assert icl("run", task, "--out", "out")[0] == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["failed"], summary["unparsed"], summary["metrics"]["accuracy"]["value"]) == (0, 6, 0.0)
    assert {(p["status"], p["prediction"]) for p in lines(Path("out/predictions.jsonl"))} == {("unparsed", None)}


def test_batch_calibration_divides_by_the_mean_over_all_rows(server: StandIn, write_task: WriteTask) -> None:
    plain = icl.run(write_task(model=at(server), test=ROWS), out="plain").predictions
    task = write_task(model=at(server), test=ROWS, output=OUTPUTS["batch calibration"])
    found = icl.run(task, out="calibrated")
    assert found.summary["usage"]["paid"] == 0
    fit = json.loads((found.path / "manifest.json").read_text())["fits"]["output[1]"]["state"]
    prior = {y: sum(p["distribution"][y] for p in plain) / 24 for y in ("positive", "negative")}
    assert fit["rows"] == 24
    assert fit["prior"] == pytest.approx(prior)
    for before, after in zip(plain, found.predictions, strict=True):
        q = {y: p / prior[y] for y, p in before["distribution"].items()}
        assert after["distribution"] == pytest.approx({y: v / sum(q.values()) for y, v in q.items()})
        assert after["prediction"] == max(q, key=q.__getitem__)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_content_free_inputs_are_asked_once_per_demonstration_set(
    server: StandIn, write_task: WriteTask, cache: bool, concurrency: int
) -> None:
    server.latency = by_hash(0.02)
    train = [{"text": f"old film {i}", "label": row["label"]} for i, row in enumerate(ROWS[:4])]
    task = write_task(
        model=at(server),
        input={**inline(), "demonstrations": {"use": "tfidf", "k": 3}},
        output=OUTPUTS["contextual calibration"],
        train=train,
        test=[*ROWS, *({"text": f"film {i}", "label": row["label"]} for i, row in enumerate(ROWS[:4]))],
        run={"cache": cache, "concurrency": concurrency},
    )
    result = icl.run(task, out="out")
    probes = [a for a in lines(result.path / "answers.jsonl") if a["role"] == "probe"]
    sets = {tuple(p["demonstrations"]) for p in result.predictions}
    assert len(sets) > 1
    assert set(server.asked.values()) == {1}
    assert len(probes) == 3 * len(sets)
    assert len(server.received) == 28 + 3 * len(sets) == result.summary["usage"]["requests"]


def test_contextual_calibration_divides_by_the_probes_mean(server: StandIn, write_task: WriteTask) -> None:
    task = write_task(model=at(server), output=OUTPUTS["contextual calibration"])
    result = icl.run(task, out="out")
    words = (" positive", " negative")
    asked = [scores(shown(text).rstrip() if text else shown(""), words) for text in ("N/A", "", "[MASK]")]
    assert {shown(""), shown("N/A"), shown("[MASK]")} <= set(server.asked)
    prior = {y: sum(math.exp(s[f" {y}"]) / 0.98 for s in asked) / 3 for y in ("positive", "negative")}
    for p in result.predictions:
        plain = scores(shown(p["inputs"]["text"]), words)
        q = {y: math.exp(plain[f" {y}"]) / prior[y] for y in prior}
        assert p["distribution"] == pytest.approx({y: v / sum(q.values()) for y, v in q.items()})


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_than_the_given_number_are_in_flight(server: StandIn, write_task: WriteTask, concurrency: int) -> None:
    server.latency = lambda _: 0.01
    task = write_task(
        model=at(server), test=ROWS, output=OUTPUTS["contextual calibration"], run={"concurrency": concurrency}
    )
    icl.run(task, out="out")
    assert server.peak == concurrency


def test_equal_rows_are_asked_once(server: StandIn, write_task: WriteTask) -> None:
    server.latency = lambda _: 0.01
    result = icl.run(write_task(model=at(server), test=[*ROWS[:3], *ROWS[:3]]), out="out")
    assert set(server.asked.values()) == {1}
    assert result.summary["usage"]["requests"] == result.summary["usage"]["paid"] == 3
    assert result.summary["usage"]["cached"] == 0
    assert len(result.predictions) == len(lines(result.path / "answers.jsonl")) == 6


def replay(path: Path, rows: Sequence[Record], answer: Callable[[Record], str]) -> Record:
    recorded = [{"prompt": shown(row["text"]), "completion": answer(row)} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in recorded))
    return {"use": "replay", "path": path.name}


def test_a_replayed_run_reads_the_record(write_task: WriteTask, tmp_path: Path) -> None:
    model = replay(tmp_path / "record.jsonl", ROWS, lambda row: f" {row['label']}, I think.\n\nReview: another")
    result = icl.run(write_task(model=model, test=ROWS), out="out")
    assert result.metrics["accuracy"].value == 1.0
    assert result.summary["scoring"] == {"method": "text", "exact": 0, "bounded": 0}
    assert result.predictions[0]["text"] == " positive, I think.\n\nReview: another"
    assert result.predictions[0]["distribution"] is None


def test_a_prompt_that_is_not_on_record_fails_and_shows_the_difference(write_task: WriteTask, tmp_path: Path) -> None:
    model = replay(tmp_path / "record.jsonl", ROWS[:-1], lambda row: str(row["label"]))
    result = icl.run(write_task(model=model, test=ROWS), out="out")
    assert result.failed == 1
    assert result.predictions[-1]["status"] == "failed"
    assert "not on record" in result.predictions[-1]["error"]


def test_the_command_line_prints_a_table_and_the_folder(write_task: WriteTask, icl: CommandLine) -> None:
    status, out, err = icl("run", write_task(), "--out", "out")
    assert status == 0
    assert "accuracy" in out
    assert "6 examples" in out
    assert out.rstrip().endswith("out")
    assert json.loads(err.splitlines()[-1])["done"] == 6


def test_progress_counts_every_row(server: StandIn, write_task: WriteTask) -> None:
    seen: list[tuple[int, int]] = []
    icl.run(write_task(model=at(server)), out="out", progress=lambda p: seen.append((p.done, p.total)))
    assert seen == sorted(seen)
    assert seen[-1] == (6, 6)


def test_show_prints_the_prompt_and_asks_nothing(server: StandIn, write_task: WriteTask, icl: CommandLine) -> None:
    status, out, err = icl("show", write_task(model=at(server)), "--index", "1")
    assert status == 0
    assert out == shown("film 1 is poor") + "\n"
    assert "negative" in err
    assert server.paths == []


def test_predict_prints_a_line_for_each_input(write_task: WriteTask, icl: CommandLine) -> None:
    status, out, _ = icl("predict", write_task(), "--input", '{"text": "fine", "id": "q1"}')
    assert status == 0
    (found,) = [json.loads(line) for line in out.splitlines()]
    assert (found["id"], found["status"]) == ("q1", "ok")
    assert found["prediction"] in ("positive", "negative")
