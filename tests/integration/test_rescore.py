"""Stored answers aligned anew: the same as a run would give, and nobody is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server import StandIn

import icl_engine as icl
from icl_engine.driver.cache import Cache
from icl_engine.errors import DataError, InterruptedRunError, TaskError
from icl_engine.models.fake import FakeEndpoint

Record = dict[str, Any]
WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]

LABELS = {"positive": "positive", "negative": "negative"}
SCORED: Record = {"use": "verbalizer", "labels": LABELS, "want": "distribution"}
SPOKEN: Record = {"use": "verbalizer", "labels": LABELS, "read": "text"}
BATCH: Record = {"use": "batch_calibration"}
FILES = ["answers.jsonl", "manifest.json", "predictions.jsonl", "summary.json"]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
BBH = ["navigate", "logical_deduction_three_objects", "boolean_expressions"]


def rows(count: int, what: str) -> list[Record]:
    return [{"text": f"{what} number {i}", "label": ("positive", "negative")[i % 3 == 0]} for i in range(count)]


@pytest.fixture
def task(write_task: WriteTask) -> Callable[..., Path]:
    def write(output: list[Record | str], **keys: Any) -> Path:
        return write_task(train=rows(40, "film"), test=rows(24, "play"), output=output, **keys)

    return write


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on there is no model, and no cache."""

    def refuse(*_: object) -> None:
        raise AssertionError("the model was asked")

    def go() -> None:
        shutil.rmtree("cache", ignore_errors=True)
        monkeypatch.setattr(FakeEndpoint, "send", refuse)

    return go


def lines(path: Path | str) -> list[Record]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def summary(folder: Path | str) -> Record:
    """A summary, but for the counts of one sitting."""
    found: Record = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    del found["seconds"], found["usage"]["paid"], found["usage"]["cached"], found["plan"]
    return found


def same(a: Path | str, b: Path | str) -> bool:
    both = ("answers.jsonl", "predictions.jsonl")
    return all(Path(a, f).read_bytes() == Path(b, f).read_bytes() for f in both) and summary(a) == summary(b)


CHAINS: dict[str, list[Record]] = {
    "scores": [SCORED],
    "batch": [SCORED, BATCH],
    "contextual": [SCORED, {"use": "contextual_calibration"}],
    "domain": [SCORED, {"use": "domain_calibration"}],
    "pmi": [{**SCORED, "normalization": "pmi"}],
    "linear": [SCORED, {"use": "linear", "rows": 20}],
    "abstain": [SCORED, BATCH, {"use": "abstain", "below": 0.6}],
    "text": [SPOKEN],
    "vote": [SPOKEN, {"use": "vote", "samples": 3}],
    "reask": [{"use": "number"}, {"use": "reask"}],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_a_run_rescored_by_its_own_task_is_the_run(
    chain: list[Record], task: Callable[..., Path], unasked: Callable[[], None]
) -> None:
    metrics = ["accuracy"] if chain[0]["use"] == "verbalizer" else []
    path = task(chain, metrics=metrics, model={"use": "fake", "temperature": 0.7})
    icl.run(path, out="first")
    unasked()
    again = icl.rescore("first", path, out="second")
    assert same("first", "second")
    assert again.changes.rows == 24
    assert again.changes.changed == 0
    assert again.summary["usage"]["paid"] == 0
    assert json.loads(Path("second/manifest.json").read_text())["rescored_from"]["path"] == "first"
    assert sorted(p.name for p in Path("second").iterdir()) == FILES


@pytest.mark.parametrize("step", [BATCH, {"use": "abstain", "below": 0.7}], ids=["batch", "abstain"])
def test_other_steps_over_stored_scores_give_what_a_run_gives(
    step: Record, task: Callable[..., Path], unasked: Callable[[], None]
) -> None:
    chain = [SCORED, step]
    first = icl.run(task([SCORED]), out="first")
    wanted = icl.run(task(chain), out="wanted")
    unasked()
    found = icl.rescore("first", task(chain))
    assert same(wanted.path, found.path)
    assert found.path.name == json.loads((wanted.path / "manifest.json").read_text())["fingerprint"]
    changed = [a["prediction"] != b["prediction"] for a, b in zip(first.predictions, found.predictions, strict=True)]
    assert found.changes.changed == sum(changed)
    before = {f: (found.path / f).read_bytes() for f in FILES[:3]}
    icl.rescore("first", task(chain))
    assert {f: (found.path / f).read_bytes() for f in FILES[:3]} == before


def test_two_stages_and_demonstrations_chosen_for_each_query(
    task: Callable[..., Path], unasked: Callable[[], None]
) -> None:
    shown = {"use": "bm25", "k": 2}
    template = {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"}
    path = task([SPOKEN], input={"template": template, "demonstrations": shown, "cot": {"use": "zero_shot"}})
    icl.run(path, out="first")
    unasked()
    icl.rescore("first", path, out="second")
    assert same("first", "second")


def test_it_is_not_the_cache_that_answers_and_nothing_goes_into_it(task: Callable[..., Path]) -> None:
    icl.run(task([SPOKEN]), out="first", cache=False)
    told = lines("first/answers.jsonl")
    turned = {" positive": " negative", " negative": " positive"}
    Path("first/answers.jsonl").write_text("".join(json.dumps({**a, "text": turned[a["text"]]}) + "\n" for a in told))
    icl.run(task([SPOKEN]), out="cached")
    kept = Cache(Path("cache"), reserve=False)
    try:
        before = kept.stats().answers
        found = icl.rescore("first", task([SPOKEN]), out="second")
        assert found.changes.changed == 24
        assert kept.stats().answers == before == 24
    finally:
        kept.close()


def test_the_cache_stands_in_for_what_a_run_did_not_ask(task: Callable[..., Path]) -> None:
    icl.run(task([SCORED]), out="first")
    chain = [SCORED, {"use": "contextual_calibration"}]
    with pytest.raises(TaskError, match=r"contextual_calibration asks about inputs without content.*run the task"):
        icl.rescore("first", task(chain), out="none")
    assert not Path("none").exists()
    wanted = icl.run(task(chain), out="wanted")
    found = icl.rescore("first", task(chain), out="second")
    assert found.metrics == wanted.metrics
    assert found.summary["usage"]["paid"] == 0


REFUSED = {
    "another word": ([{**SCORED, "labels": {"positive": "good", "negative": "bad"}}], "has other words"),
    "another label": ([{**SCORED, "labels": {**LABELS, "mixed": "mixed"}}], "the label 'mixed' is new"),
    "the mean": ([{**SCORED, "normalization": "mean"}], "normalization was sum"),
    "a trie": ([{**SCORED, "scores": "trie"}], "scores was sequence"),
    "text": ([SPOKEN], "reads text, and first holds label scores"),
    "a fit": ([SCORED, {"use": "linear", "rows": 20}], "linear learns from train rows"),
}


@pytest.mark.parametrize(("chain", "why"), REFUSED.values(), ids=REFUSED)
def test_scores_that_are_not_of_this_are_refused(
    chain: list[Record], why: str, task: Callable[..., Path], unasked: Callable[[], None]
) -> None:
    icl.run(task([SCORED]), out="first")
    unasked()
    with pytest.raises(TaskError, match=why) as told:
        icl.rescore("first", task(chain, metrics=[]), out="second")
    assert told.value.line is not None
    assert "\n" not in str(told.value)
    assert not Path("second").exists()


def test_text_has_no_distribution(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    icl.run(task(["identity"]), out="first")
    unasked()
    for chain in ([SCORED, BATCH], [{**SCORED, "read": "scores"}]):
        with pytest.raises(TaskError, match="needs label scores, and first holds text"):
            icl.rescore("first", task(chain), out="second")
    found = icl.rescore("first", task([{"use": "verbalizer", "labels": LABELS}]), out="second")
    assert found.summary["scoring"]["method"] == "text"


def test_bounds_are_no_distribution(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    chain = [{"use": "verbalizer", "labels": LABELS, "calibration": "none"}]
    icl.run(task(chain), out="first")
    told = lines("first/answers.jsonl")
    told[3] |= {"whole": False, "bounded": ["negative"]}
    Path("first/answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in told))
    unasked()
    assert icl.rescore("first", task(chain), out="second").changes.changed == 0
    with pytest.raises(TaskError, match=r"1 answers in first have only the best label's exact; .*want: distribution"):
        icl.rescore("first", task([*chain, BATCH]), out="third")


def test_samples_that_were_not_drawn(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    model = {"use": "fake", "temperature": 0.7}
    vote = {"use": "vote", "samples": 3, "stop_early": False}
    icl.run(task([SPOKEN, vote], model=model), out="first")
    unasked()
    assert icl.rescore("first", task([SPOKEN, {**vote, "samples": 2}], model=model), out="fewer").changes.rows == 24
    assert icl.rescore("first", task([SPOKEN], model=model), out="one").summary["usage"]["requests"] == 24
    with pytest.raises(TaskError, match="vote counts up to 5 samples, and first does not hold all"):
        icl.rescore("first", task([SPOKEN, {**vote, "samples": 5}], model=model), out="more")


def test_another_prompt_is_told_by_what_differs(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    icl.run(task([SPOKEN]), out="first")
    unasked()
    for key, value, told in (
        ("input.instruction", "Be kind.", r"for row 0 \(input.instruction differs: '' there, 'Be kind.' here\)"),
        ("input.template", {"inline": "{{ text }} {{ answer }}"}, "input.template has another text"),
    ):
        with pytest.raises(TaskError, match=told):
            icl.rescore("first", task([SPOKEN]), settings={key: value}, out="second")
    Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows(5, "play"), *rows(3, "opera")]))
    with pytest.raises(TaskError, match="asks another prompt than first did for row 5"):
        icl.rescore("first", "task.yaml", out="second")


def test_the_model_is_the_runs(task: Callable[..., Path], unasked: Callable[[], None], caplog: Any) -> None:
    icl.run(task([SPOKEN]), out="first", settings={"model.max_tokens": 7})
    unasked()
    found = icl.rescore("first", task([SPOKEN], model={"use": "replay", "path": "gone.jsonl"}), out="second")
    assert found.summary["model"] == "fake"
    assert json.loads(Path("second/manifest.json").read_text())["task"]["model"]["max_tokens"] == 7
    assert "is not used" in caplog.text
    with pytest.raises(TaskError, match=r"--set model\.stop: the answers of first are its model's"):
        icl.rescore("first", task([SPOKEN]), settings={"model.stop": "x"})


def test_neither_server_nor_key_is_needed(task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"use": "openai", "base_url": "${PLACE}", "name": "m", "api_key": "${SECRET}"}
    monkeypatch.setenv("SECRET", "sk-1234")
    with StandIn() as server:
        monkeypatch.setenv("PLACE", server.url)
        icl.run(task(["identity"], model=model, metrics=[]), out="first")
    monkeypatch.delenv("SECRET")
    monkeypatch.delenv("PLACE")
    shutil.rmtree("cache")
    found = icl.rescore("first", task([SPOKEN], model=model), out="second")
    assert found.summary["examples"] == 24
    written = [Path("second", f).read_text() for f in FILES]
    assert not any("sk-1234" in text or server.url in text for text in written)
    assert json.loads(written[1])["endpoint"] == json.loads(Path("first/manifest.json").read_text())["endpoint"]
    assert "${PLACE}" in written[1]


def test_rows_that_failed_stay_failed(task: Callable[..., Path], icl_: CommandLine) -> None:
    prompts = [f"Review: play number {i}\nSentiment:" for i in range(24) if i != 5]
    record = [{"prompt": prompt, "completion": " positive"} for prompt in prompts]
    Path("said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in record))
    path = task([SPOKEN], model={"use": "replay", "path": "said.jsonl"})
    first = icl.run(path, out="first")
    assert first.failed == 1
    Path("said.jsonl").unlink()
    found = icl.rescore("first", path, out="second")
    assert [p["status"] for p in found.predictions].index("failed") == 5
    assert found.failed == 1
    status, out, err = icl_("rescore", "first", path, "--out", "third")
    assert status == 3
    assert "0 of 24 predictions differ from first" in out
    assert "no answer is stored for 1 row; run first's task again" in err


@pytest.fixture
def icl_(icl: CommandLine) -> CommandLine:
    """The command line, beside the package of that name."""
    return icl


def test_a_run_that_was_cut_short(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    path = task([SPOKEN])
    icl.run(path, out="first")
    Path("first/summary.json").unlink()
    told = Path("first/answers.jsonl").read_bytes().splitlines(keepends=True)
    Path("first/answers.jsonl").write_bytes(b"".join(told[:10]))
    unasked()
    with pytest.raises(TaskError, match=r"10 rows are answered; run it again to finish it, or rescore with --limit 10"):
        icl.rescore("first", path, out="second")
    assert icl.rescore("first", path, out="second", limit=10).summary["examples"] == 10
    with pytest.raises(TaskError, match="give another --out"):
        icl.rescore("first", path, out="first", limit=10)
    Path("first/answers.jsonl").write_bytes(b"".join(told[:10])[:-5])
    with pytest.raises(DataError, match=r"answers.jsonl:10: is cut off"):
        icl.rescore("first", path, out="second", limit=10)


def test_a_rescore_that_was_stopped_goes_on(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    icl.run(task(["identity"]), out="first")
    unasked()
    looks = iter(range(10**6))
    with pytest.raises(InterruptedRunError):
        icl.rescore("first", task([SPOKEN]), out="second", stop=lambda: next(looks) > 5)
    assert not Path("second/summary.json").exists()
    icl.rescore("first", task([SPOKEN]), out="second")
    icl.rescore("first", task([SPOKEN]), out="third")
    assert same("second", "third")


def test_a_directory_without_answers(task: Callable[..., Path]) -> None:
    path = task([SPOKEN])
    with pytest.raises(TaskError, match="is not a run directory"):
        icl.rescore("nowhere", path)
    icl.run(path, out="first")
    Path("first/answers.jsonl").unlink()
    with pytest.raises(DataError, match="a run has its answers there"):
        icl.rescore("first", path, out="second")


def test_a_limited_run_is_rescored_as_far_as_it_goes(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    path = task([SPOKEN])
    icl.run(path, out="first", limit=9)
    unasked()
    assert icl.rescore("first", path, out="second").summary["examples"] == 9
    assert icl.rescore("first", path, out="third", limit=4).changes.rows == 4


def test_in_its_own_place_what_was_answered_stays(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    path = task([SPOKEN])
    icl.run(path, out="first")
    whole = {f: Path("first", f).read_bytes() for f in FILES}
    lost = lines("first/predictions.jsonl")
    Path("first/predictions.jsonl").write_text(json.dumps(lost[0]) + "\n")
    unasked()
    icl.rescore("first", path, out="first")
    assert {f: Path("first", f).read_bytes() for f in FILES[:3]} == {f: whole[f] for f in FILES[:3]}
    assert sorted(p.name for p in Path("first").iterdir()) == FILES
    with pytest.raises(TaskError, match="holds another run"):
        icl.rescore("first", task(["identity"]), out="first")


def test_a_run_that_asked_is_not_written_over(task: Callable[..., Path]) -> None:
    icl.run(task([SPOKEN]), out="first")
    paid = icl.run(task(["identity"]))
    with pytest.raises(TaskError, match="holds a run of this task that asked the model; give another --out"):
        icl.rescore("first", task(["identity"]))
    assert "rescored_from" not in json.loads((paid.path / "manifest.json").read_text())


def test_the_command_prints_the_table_and_what_changed(
    task: Callable[..., Path], icl_: CommandLine, unasked: Callable[[], None]
) -> None:
    assert icl_("run", task([{"use": "regex", "pattern": "tive"}]), "--out", "first")[0] == 0
    unasked()
    status, out, _ = icl_("rescore", "first", "task.yaml", "--set", f"output=[{json.dumps(SPOKEN)}]", "--out", "second")
    assert status == 0
    assert "accuracy" in out
    assert "(0 paid, 24 cached)" in out
    right = sum(row["correct"] for row in lines("second/predictions.jsonl"))
    assert f"24 of 24 predictions differ from first: {right} right now, 0 no longer" in " ".join(out.split())


def test_caps_and_rates_of_the_task_are_for_asking(task: Callable[..., Path], unasked: Callable[[], None]) -> None:
    icl.run(task([SPOKEN]), out="first")
    unasked()
    run = {"max_requests": 1, "requests_per_minute": 1, "max_cost_usd": 0.001}
    assert icl.rescore("first", task([SPOKEN], run=run), out="second").summary["examples"] == 24


@pytest.mark.skipif(not (SHARED / "bbh").is_dir(), reason=f"no BIG-Bench-Hard data at {SHARED}")
@pytest.mark.parametrize("name", BBH)
def test_recorded_chains_of_thought_give_the_published_accuracy(name: str) -> None:
    data = SHARED / "bbh"
    published = json.loads((data / "published_accuracy.json").read_text())[name]["cot"]
    whole = {
        "name": name,
        "data": {"test": str(data / f"{name}.jsonl"), "target": "target"},
        "input": {
            "template": "bbh_cot",
            "instruction": (data / f"{name}.instruction.txt").read_text(),
            "demonstrations": {"use": "fixed", "path": str(data / f"{name}.demos.cot.jsonl")},
            "answer": "{{ rationale }}",
        },
        "model": {"use": "replay", "path": str(data / f"{name}.replay.cot.jsonl")},
        "output": ["identity"],
        "metrics": ["exact_match"],
    }
    assert icl.run(whole, out="first").metrics["exact_match"].value == 0
    for step in ({"use": "regex", "pattern": r"(?s)^.*the answer is (.*?)\.?\s*$"}, {"use": "after"}):
        found = icl.rescore("first", {**whole, "output": [step]}, out=str(step["use"]))
        assert 100 * found.metrics["exact_match"].value == pytest.approx(published, abs=0.01)


@pytest.mark.skipif(not (SHARED / "gsm8k").is_dir(), reason=f"no GSM8K data at {SHARED}")
def test_recorded_solutions_give_the_published_flags() -> None:
    with (SHARED / "gsm8k" / "model_solutions.jsonl").open() as file:
        solved = [json.loads(line) for line in file]
    prompts = [f"Q: {row['question']}\nA:" for row in solved]
    said = [row["6b_finetuning"] for row in solved]
    pairs = [{"prompt": p, "completion": s["solution"]} for p, s in zip(prompts, said, strict=True)]
    Path("said.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    asked = [{"question": row["question"], "answer": row["answer"]} for row in solved]
    Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    whole = {
        "name": "gsm8k",
        "data": {"test": "test.jsonl", "target": "answer"},
        "input": {"template": {"inline": "Q: {{ question }}\nA: {{ answer }}"}},
        "model": {"use": "replay", "path": "said.jsonl"},
        "output": ["identity"],
        "metrics": ["accuracy"],
    }
    icl.run(whole, out="first")
    found = icl.rescore("first", {**whole, "output": [{"use": "after", "marker": "A:"}, "number"]}, out="second")
    assert [row["correct"] for row in found.predictions] == [s["is_correct"] for s in said]
