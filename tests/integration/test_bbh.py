"""BIG-Bench-Hard: the published prompts, byte for byte, and a published score through a model API.

The data is not part of the project; without it these tests skip.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import icl_engine as icl
from icl_engine.alignment.chain import Chain
from icl_engine.config.load import build, load_task
from icl_engine.registry import resolve
from icl_engine.types import Reading

SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA = SHARED / "data" / "bbh"
TASKS = sorted(p.name.removesuffix(".instruction.txt") for p in DATA.glob("*.instruction.txt"))
PUBLISHED = json.loads((DATA / "published_accuracy.json").read_text()) if TASKS else {}

pytestmark = pytest.mark.skipif(not TASKS, reason=f"no BIG-Bench-Hard data at {DATA}")

ANSWER = {"use": "regex", "pattern": r"(?s)^.*the answer is (.*?)\.?\s*$"}


def bbh(name: str, kind: str, model: dict[str, object]) -> dict[str, object]:
    """The task of one published table cell."""
    template = "bbh_direct" if kind == "direct" else "bbh_cot"
    if kind == "cot" and name == "sports_understanding":
        template = "bbh_cot_sports"
    shown = {"use": "fixed", "path": str(DATA / f"{name}.demos.{kind}.jsonl")}
    return {
        "name": f"{name}-{kind}",
        "data": {"test": str(DATA / f"{name}.jsonl"), "target": "target"},
        "input": {
            "template": template,
            "instruction": (DATA / f"{name}.instruction.txt").read_text(),
            "demonstrations": shown,
            **({"answer": "{{ rationale }}"} if kind == "cot" else {}),
        },
        "model": model,
        "output": [ANSWER] if kind == "cot" else ["identity"],
        "metrics": ["exact_match"],
    }


@pytest.mark.parametrize("kind", ["direct", "cot"])
@pytest.mark.parametrize("name", TASKS)
def test_prompts_are_the_published_ones_byte_for_byte(name: str, kind: str) -> None:
    record = DATA / f"{name}.replay.{kind}.jsonl"
    loaded = load_task(bbh(name, kind, {"use": "replay", "path": str(record)}))
    pipeline = build(loaded)
    prompts = [pipeline.check(x).text for x in loaded.test(need_target=True)]
    with record.open("rb") as file:
        published = [orjson.loads(line)["prompt"] for line in file]
    assert len(prompts) == 250
    assert prompts == published


@pytest.fixture
def mock(request: pytest.FixtureRequest) -> Iterator[str]:
    """The shared stand-in for a model API, answering from navigate's record of one kind."""
    record = DATA / f"navigate.replay.{request.param}.jsonl"
    command = [sys.executable, str(SHARED / "tools" / "mock_openai.py"), "--port", "0", "--strict"]
    port = _free_port()
    command[command.index("0")] = str(port)
    process = subprocess.Popen([*command, "--replay", str(record)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("mock", "kind"), [("direct", "direct"), ("cot", "cot")], indirect=["mock"])
def test_navigate_scores_as_published_through_a_model_api(mock: str, kind: str, tmp_path: Path) -> None:
    task = bbh("navigate", kind, {"use": "vllm", "base_url": mock, "name": "code-davinci-002", "max_tokens": 1024})
    result = icl.run(task, out=tmp_path / "run")
    assert 100 * result.metrics["exact_match"].value == pytest.approx(PUBLISHED["navigate"][kind], abs=0.01)
    assert result.summary["failed"] == 0
    assert result.summary["usage"]["paid"] == 250


@pytest.mark.parametrize("kind", ["direct", "cot"])
@pytest.mark.parametrize("name", TASKS)
def test_every_task_scores_as_published_from_its_record(name: str, kind: str, tmp_path: Path) -> None:
    record: dict[str, object] = {"use": "replay", "path": str(DATA / f"{name}.replay.{kind}.jsonl")}
    result = icl.run(bbh(name, kind, record), out=tmp_path / "run")
    assert 100 * result.metrics["exact_match"].value == pytest.approx(PUBLISHED[name][kind], abs=0.01)


Step = dict[str, object]


def scored(output: list[Step], name: str, kind: str) -> float:
    """The accuracy of a recorded table cell, its answers read by these output steps."""
    chain = Chain(tuple(resolve("aligner", str(step["use"])).model_validate(step) for step in output))
    with (DATA / f"{name}.replay.{kind}.jsonl").open("rb") as file:
        rows = [orjson.loads(line) for line in file]
    readings = [chain.advance(Reading(text=row["completion"]), 0, {}, len(chain.steps))[0] for row in rows]
    right = [r.status == "ok" and r.value == chain.canon(row["target"]) for r, row in zip(readings, rows, strict=True)]
    return float(100 * sum(right) / len(right))


@pytest.mark.parametrize("name", TASKS)
def test_after_scores_every_chain_of_thought_as_published(name: str) -> None:
    assert scored([{"use": "after"}], name, "cot") == pytest.approx(PUBLISHED[name]["cot"], abs=0.01)


READ: dict[str, Step] = {
    "date_understanding": {"use": "choice", "choices": list("ABCDEF")},
    "disambiguation_qa": {"use": "choice", "choices": list("ABC")},
    "logical_deduction_three_objects": {"use": "choice"},
    "multistep_arithmetic_two": {"use": "number"},
    "navigate": {"use": "choice", "choices": {"A": "Yes", "B": "No"}},
    "object_counting": {"use": "number"},
    "word_sorting": {"use": "list", "separator": " "},
}
"""Task -> the reader of its kind of answer."""


@pytest.mark.parametrize("kind", ["direct", "cot"])
@pytest.mark.parametrize("name", READ)
def test_a_reader_of_the_answers_kind_scores_as_published(name: str, kind: str) -> None:
    first: list[Step] = [{"use": "after"}] if kind == "cot" else []
    assert scored([*first, READ[name]], name, kind) == pytest.approx(PUBLISHED[name][kind], abs=0.01)
