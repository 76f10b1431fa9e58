"""The SDK as applications use it: scripts, notebooks (a running loop), threads, saved programs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.server import Reply, StandIn

import icl_engine as icl

WriteTask = Callable[..., Path]

TEXTS = [{"text": f"film number {i}"} for i in range(12)]
VERBALIZER = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
FEW_SHOT = {
    "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
    "instruction": "Judge.",
    "demonstrations": {"use": "random", "k": 4, "balanced": True},
}


def at(server: StandIn, **keys: Any) -> dict[str, Any]:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


def shape(predictions: list[icl.Prediction]) -> list[tuple[Any, Mapping[str, float] | None]]:
    return [(p.value, p.distribution) for p in predictions]


def run_script(*arguments: str) -> str:
    """Standard output of Python in a process of its own, which must leave standard error empty."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_predict(write_task: WriteTask) -> None:
    with icl.load(write_task()) as pipeline:
        p = pipeline.predict({"text": "a gripping, funny film"})
    assert p.value in ("positive", "negative")
    assert p.status == "ok"
    assert p.distribution is not None
    assert max(p.distribution, key=lambda label: p.distribution[label] if p.distribution else 0) == p.value
    assert p.prompt.text == "Review: a gripping, funny film\nSentiment:"


def test_a_mapping_is_a_task_too() -> None:
    task = {
        "data": {"test": [{"text": "fine", "label": "positive"}, {"text": "poor", "label": "negative"}]},
        "input": {"template": {"inline": "{{ text }} => {{ answer }}"}},
        "model": {"use": "fake"},
        "output": [VERBALIZER],
        "metrics": ["accuracy"],
    }
    task["data"] = {**task["data"], "target": "label"}  # type: ignore[dict-item]
    result = icl.run(task, out="out")
    assert result.metrics["accuracy"].n == 2
    assert [p["target"] for p in result.predictions] == ["positive", "negative"]


def test_the_target_and_renamed_fields_of_a_row(write_task: WriteTask) -> None:
    data = {"test": "test.jsonl", "target": "label", "fields": {"text": "sentence"}}
    with icl.load(write_task(data=data)) as pipeline:
        renamed = pipeline.predict({"sentence": "fine", "label": "positive"})
        named = pipeline.predict({"text": "fine"})
    assert renamed.prompt.text == named.prompt.text == "Review: fine\nSentiment:"


def test_every_way_to_ask_gives_the_same(server: StandIn, write_task: WriteTask) -> None:
    async def both(pipeline: icl.Pipeline) -> list[list[icl.Prediction]]:
        one = [await pipeline.apredict(row) for row in TEXTS]
        return [one, await pipeline.abatch(TEXTS)]

    with icl.load(write_task(model=at(server), input=FEW_SHOT)) as pipeline:
        single = [pipeline.predict(row) for row in TEXTS]
        ways = [pipeline.batch(TEXTS), *asyncio.run(both(pipeline))]
    assert [shape(way) for way in ways] == [shape(single)] * 3
    assert [p.example.inputs["text"] for p in ways[0]] == [row["text"] for row in TEXTS]
    assert set(server.asked.values()) == {1}


def test_an_empty_batch(write_task: WriteTask) -> None:
    with icl.load(write_task()) as pipeline:
        assert pipeline.batch([]) == []


def test_sync_calls_work_inside_a_running_loop(server: StandIn, write_task: WriteTask) -> None:
    async def cell() -> list[icl.Prediction]:
        with icl.load(write_task(model=at(server))) as pipeline:
            sync = pipeline.predict(TEXTS[0])
            return [sync, await pipeline.apredict(TEXTS[0]), *pipeline.batch(TEXTS[:1])]

    found = asyncio.run(cell())
    assert shape(found) == shape(found[:1]) * 3


def test_a_pipeline_survives_several_loops(server: StandIn, write_task: WriteTask) -> None:
    with icl.load(write_task(model=at(server))) as pipeline:
        found = [asyncio.run(pipeline.apredict(row)) for row in TEXTS[:3]]
    assert [p.status for p in found] == ["ok"] * 3


@pytest.mark.parametrize("opened", [True, False])
def test_threads_share_a_pipeline(server: StandIn, write_task: WriteTask, opened: bool) -> None:
    server.latency = lambda _: 0.005
    pipeline = icl.load(write_task(model=at(server), run={"concurrency": 2}))
    if opened:
        pipeline.predict({"text": "the first"})
    together = threading.Barrier(8)

    def work(i: int) -> icl.Prediction:
        together.wait(5)
        return pipeline.predict(TEXTS[i])

    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
    finally:
        pipeline.close()
    assert [p.example.inputs["text"] for p in found] == [row["text"] for row in TEXTS[:8]]
    assert [p.status for p in found] == ["ok"] * 8
    assert server.peak <= 2
    assert [t.name for t in threading.enumerate() if t.name == "icl-loop"] == []


def test_batch_returns_errors_in_their_places(server: StandIn, write_task: WriteTask) -> None:
    server.refuse = lambda prompt: Reply(400, message="too long") if "number 3" in prompt else None
    rows = [*TEXTS[:5], {"txt": "no such variable"}]
    with icl.load(write_task(model=at(server))) as pipeline:
        found = pipeline.batch(rows, errors="return")
    assert isinstance(found[3], icl.RequestError)
    assert "too long" in str(found[3])
    assert isinstance(found[5], icl.TemplateError)
    assert "'text'" in str(found[5])
    rest = [p for i, p in enumerate(found) if i not in (3, 5)]
    assert [p.example.inputs["text"] for p in rest] == [TEXTS[i]["text"] for i in (0, 1, 2, 4)]


@pytest.mark.parametrize("way", ["predict", "batch"])
def test_no_answer_is_an_exception(server: StandIn, write_task: WriteTask, way: str) -> None:
    server.refuse = lambda prompt: Reply(400, message="too long") if "number 3" in prompt else None
    with icl.load(write_task(model=at(server))) as pipeline, pytest.raises(icl.RequestError, match="too long"):
        pipeline.predict(TEXTS[3]) if way == "predict" else pipeline.batch(TEXTS)


def test_an_unreadable_answer_is_a_status(write_task: WriteTask) -> None:
    with icl.load(write_task(output=[{"use": "regex", "pattern": "never"}])) as pipeline:
        p = pipeline.predict({"text": "fine"})
    assert (p.status, p.value) == ("unparsed", None)
    assert p.text.strip() in ("positive", "negative")


def test_a_closed_pipeline_may_be_closed_again(write_task: WriteTask) -> None:
    pipeline = icl.load(write_task())
    pipeline.close()
    pipeline.predict({"text": "fine"})
    pipeline.close()
    pipeline.close()


# -- saved programs

PROGRAMS = {
    "random balanced": {"input": FEW_SHOT},
    "batch calibration": {"input": FEW_SHOT, "output": [VERBALIZER, {"use": "batch_calibration", "inputs": 5}]},
    "contextual calibration": {"input": FEW_SHOT, "output": [VERBALIZER, {"use": "contextual_calibration"}]},
    "fixed from a file": {"input": {**FEW_SHOT, "demonstrations": {"use": "fixed", "path": "train.jsonl", "k": 3}}},
    "fixed items": {
        "input": {**FEW_SHOT, "demonstrations": {"use": "fixed", "items": [{"text": "a", "label": "negative"}]}}
    },
    "a named template": {"input": {**FEW_SHOT, "template": "classification"}},
    "zero-shot": {},
}


@pytest.mark.parametrize("keep_data", [True, False], ids=["data kept", "data gone"])
@pytest.mark.parametrize("keys", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_saved_program_predicts_the_same(
    server: StandIn, write_task: WriteTask, tmp_path: Path, keys: dict[str, Any], keep_data: bool
) -> None:
    task = write_task(model=at(server), **keys)
    rows = [*TEXTS, *(json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines())]
    with icl.load(task) as pipeline:
        first = pipeline.batch(rows)
        program = pipeline.save(tmp_path / "small.icl.json")
    if not keep_data:
        for path in (task, tmp_path / "train.jsonl", tmp_path / "test.jsonl"):
            path.unlink()
    asked = len(server.received)
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    moved = program.rename(elsewhere / program.name)
    with icl.load(moved) as pipeline:
        again = pipeline.batch(rows)
        resaved = pipeline.save(elsewhere / "again.icl.json")
    assert shape(again) == shape(first)
    assert [p.prompt.text for p in again] == [p.prompt.text for p in first]
    assert [[d.example for d in p.demonstrations] for p in again] == [
        [d.example for d in p.demonstrations] for p in first
    ]
    assert len(server.received) == asked
    assert json.loads(resaved.read_bytes()) == json.loads(moved.read_bytes())


def test_a_saved_program_keeps_the_prior_it_learned(write_task: WriteTask, tmp_path: Path) -> None:
    task = write_task(output=[VERBALIZER, {"use": "batch_calibration", "inputs": 5}])
    with icl.load(task) as pipeline:
        saved = json.loads(pipeline.save("small.icl.json").read_bytes())
    assert saved["states"]["1"]["rows"] == 5
    assert sum(saved["states"]["1"]["prior"].values()) == pytest.approx(1.0)


def test_batch_calibration_without_anything_to_learn_from_is_a_mistake(write_task: WriteTask) -> None:
    task = write_task(data={"test": "test.jsonl", "target": "label"}, output=[VERBALIZER, {"use": "batch_calibration"}])
    with icl.load(task) as pipeline, pytest.raises(icl.TaskError, match="batch_calibration"):
        pipeline.predict({"text": "fine"})


def test_the_command_line_takes_a_saved_program(
    write_task: WriteTask, icl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    import icl_engine

    task = write_task(input=FEW_SHOT)
    with icl_engine.load(task) as pipeline:
        expected = pipeline.predict({"text": "fine"})
        pipeline.save("small.icl.json")
    status, out, err = icl("predict", "small.icl.json", "--input", '{"text": "fine"}')
    assert status == 0, err
    assert json.loads(out)["distribution"] == expected.distribution
    first = icl("run", task, "--out", "one")
    second = icl("run", "small.icl.json", "--out", "two")
    assert (first[0], second[0]) == (0, 0), second[2]
    assert Path("one/predictions.jsonl").read_bytes() == Path("two/predictions.jsonl").read_bytes()


@pytest.mark.parametrize("use", ["random", "tfidf"])
def test_a_task_of_rows_can_be_saved(tmp_path: Path, use: str) -> None:
    rows = [{"text": f"t{i}", "label": ("positive", "negative")[i % 2]} for i in range(4)]
    task = {
        "data": {"train": rows, "test": [{"text": "t?", "label": "positive"}], "target": "label"},
        "input": {**FEW_SHOT, "demonstrations": {"use": use, "k": 2}},
        "model": {"use": "fake"},
        "output": [VERBALIZER],
    }
    with icl.load(task) as pipeline:
        first = pipeline.batch(TEXTS)
        program = pipeline.save("rows.icl.json")
    with icl.load(program) as pipeline:
        assert shape(pipeline.batch(TEXTS)) == shape(first)


@pytest.mark.parametrize("raw", ["", "[]", "{}", '{"task": 1}', '{"task": {"model": "m"}}'])
def test_a_file_that_is_no_program_is_a_mistake(tmp_path: Path, raw: str) -> None:
    path = tmp_path / "bad.icl.json"
    path.write_text(raw)
    with pytest.raises(icl.TaskError, match=r"bad\.icl\.json"):
        icl.load(path)


# -- run


def test_run_gives_metrics_predictions_and_the_path(write_task: WriteTask) -> None:
    result = icl.run(write_task(), limit=4, out="out")
    score = result.metrics["accuracy"]
    assert score.n == 4
    assert score.value == sum(p["correct"] for p in result.predictions) / 4
    assert score.ci95[0] <= score.value <= score.ci95[1]
    assert result.path == Path("out")
    assert len(result.predictions) == 4


def test_arun_is_run(write_task: WriteTask) -> None:
    async def two() -> list[icl.RunResult]:
        task = write_task()
        return list(await asyncio.gather(icl.arun(task, out="one"), icl.arun(task, out="two", limit=3)))

    one, two_ = asyncio.run(two())
    assert one.metrics == icl.run(write_task(), out="one").metrics
    assert (len(one.predictions), len(two_.predictions)) == (6, 3)


def test_run_works_inside_a_running_loop(write_task: WriteTask) -> None:
    async def cell() -> icl.RunResult:
        return icl.run(write_task(), out="out")

    assert asyncio.run(cell()).failed == 0


# -- the package


def test_the_public_names_are_complete_and_sorted() -> None:
    assert icl.__all__ == sorted(set(icl.__all__))
    assert dir(icl) == icl.__all__
    assert all(getattr(icl, name).__name__ == name for name in icl.__all__)
    promised = {"load", "run", "arun", "Pipeline", "Prediction", "RunResult", "IclError", "TaskError", "RequestError"}
    assert promised <= set(icl.__all__)
    with pytest.raises(AttributeError, match="lod"):
        icl.lod  # noqa: B018


def test_every_error_is_public() -> None:
    from icl_engine import errors

    raised = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.IclError)
    }
    assert raised <= set(icl.__all__)


HEAVY = ("openai", "anthropic", "torch", "pandas", "xllamacpp", "httpx", "numpy", "sentence_transformers")
LOADED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


@pytest.mark.parametrize(
    "script",
    [
        "import icl_engine",
        "import icl_engine; icl_engine.load",
        "import icl_engine; icl_engine.load('sentiment', model={'use': 'fake'})",
        "from icl_engine.console import main",
        "from icl_engine.registry import names; [names(k) for k in ('retriever', 'model', 'aligner', 'metric')]",
    ],
)
def test_heavy_packages_are_imported_when_they_are_needed(script: str) -> None:
    assert run_script("-c", f"{script}; {LOADED}") == "[]\n"


def test_help_imports_no_heavy_package() -> None:
    script = (
        "import sys; sys.argv = ['icl', '--help']\n"
        "from icl_engine.console.main import main\n"
        f"try: main()\nexcept SystemExit as e: print('status', e.code)\n{LOADED}"
    )
    out = run_script("-c", script).splitlines()
    assert out[-2:] == ["status 0", "[]"]


@pytest.mark.parametrize("options", [[], ["-W", "always"]], ids=["plain", "warnings shown"])
def test_a_pipeline_left_open_closes_itself_at_exit(server: StandIn, write_task: WriteTask, options: list[str]) -> None:
    task = write_task(model=at(server))
    script = f"import icl_engine as icl; print(icl.load({str(task)!r}).predict({{'text': 'fine'}}).status)"
    assert run_script(*options, "-c", script) == "ok\n"
    kept = f"import icl_engine as icl; p = icl.load({str(task)!r}); print(p.predict({{'text': 'fine'}}).status)"
    assert run_script(*options, "-c", kept) == "ok\n"
