"""Rows that get no answer: records with their reason, and how many of them a run bears."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chaos import Chaos, Faults

import icl_engine as icl
from icl_engine.errors import FailuresError

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Record = dict[str, Any]

ROWS = [{"text": f"film number {i:03}", "label": ("positive", "negative")[i % 2]} for i in range(300)]
LABELS = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
CONCURRENCY = 8


@pytest.fixture
def server() -> Iterator[Chaos]:
    with Chaos() as running:
        yield running


@pytest.fixture
def task(server: Chaos, write_task: WriteTask) -> Path:
    model = {"use": "vllm", "base_url": server.url, "name": "m"}
    return write_task(model=model, test=ROWS, output=[LABELS], run={"concurrency": CONCURRENCY})


def bad(*numbers: int, status: int = 400) -> Callable[[str], int | None]:
    """Refuse these rows."""
    return lambda prompt: status if any(f"number {n:03}" in prompt for n in numbers) else None


def lines(name: str) -> list[Record]:
    return [json.loads(line) for line in Path("out", name).read_text().splitlines()]


def told(err: str) -> str:
    """What is said, but for progress; on one line."""
    (line,) = (line for line in err.splitlines() if not line.startswith("{"))
    return line


def summary() -> Record:
    found: Record = json.loads(Path("out/summary.json").read_text())
    return found


def test_failed_rows_are_records_and_a_rerun_pays_for_them_alone(server: Chaos, task: Path, icl: CommandLine) -> None:
    failing = [0, 7, 100, 299]
    server.refuse = bad(*failing)
    status, out, err = icl("run", task, "--out", "out")
    assert (status, told(err)) == (3, "4 examples failed; run again to retry")
    assert "accuracy" in out
    found = lines("predictions.jsonl")
    assert [p["id"] for p in found] == list(range(300))
    assert [p["id"] for p in found if p["status"] == "failed"] == failing
    for p in (found[n] for n in failing):
        assert p["error"] == "HTTP 400: refused for good"
        assert (p["prediction"], p["text"], p["distribution"], p["correct"]) == (None, None, None, False)
    assert [a["id"] for a in lines("answers.jsonl")] == [n for n in range(300) if n not in failing]
    assert (summary()["failed"], summary()["usage"]["paid"]) == (4, 296)
    asked = [n for prompt, n in server.audit.received.items() if "number" in prompt]
    assert asked == [1] * 300, "what is refused is not sent again"

    server.refuse = lambda _: None
    server.forget()
    status, _, err = icl("run", task, "--out", "out")
    assert status == 0
    assert (summary()["failed"], summary()["usage"]["paid"], summary()["usage"]["cached"]) == (0, 4, 296)
    assert sum(server.audit.received.values()) == 4
    assert {p["status"] for p in lines("predictions.jsonl")} == {"ok"}
    assert [a["id"] for a in lines("answers.jsonl")] == list(range(300))


def test_a_passing_fault_that_does_not_pass_fails_in_time(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.refuse = bad(5, status=503)
    status, _, err = icl("run", task, "--out", "out", "--limit", 20, "--set", "run.retry_seconds=0.5")
    assert (status, told(err)) == (3, "1 example failed; run again to retry")
    (failed,) = (p for p in lines("predictions.jsonl") if p["status"] == "failed")
    assert (failed["id"], failed["error"]) == (5, "HTTP 503: refused for good")
    tries = next(n for prompt, n in server.audit.received.items() if "number 005" in prompt)
    assert tries > 1


def test_a_retry_may_be_forbidden(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.refuse = bad(5, status=500)
    assert icl("run", task, "--out", "out", "--limit", 20, "--set", "run.retry_seconds=0")[0] == 3
    assert next(n for prompt, n in server.audit.received.items() if "number 005" in prompt) == 1


@pytest.mark.parametrize(("allowed", "most"), [(3, 3), (0, 0), (0.01, 3), (0.5, 150)])
def test_more_failures_than_allowed_stop_the_run_early(
    allowed: float, most: int, server: Chaos, task: Path, icl: CommandLine
) -> None:
    server.faults = Faults(latency=0.002)
    server.refuse = lambda prompt: 400 if "number" in prompt and int(prompt.split("number ")[1][:3]) >= 50 else None
    status, _, err = icl("run", task, "--out", "out", "--set", f"run.max_failures={allowed}")
    assert status == 3
    line = told(err)
    assert line.startswith("stopped: ")
    failed = int(line.split()[1])
    assert most < failed <= most + CONCURRENCY
    assert line == (
        f"stopped: {failed} of 300 rows got no answer, run.max_failures allows {most} "
        "(HTTP 400: refused for good); run the same again to go on from here"
    )
    assert not Path("out/summary.json").exists()
    assert len(lines("predictions.jsonl")) == 50 + failed
    paid = sum("number" in prompt for prompt in server.audit.answered)

    server.refuse = lambda _: None
    server.forget()
    assert icl("run", task, "--out", "out", "--set", f"run.max_failures={allowed}")[0] == 0
    assert (summary()["usage"]["cached"], summary()["usage"]["paid"]) == (paid, 300 - paid)
    assert not server.audit.twice


def test_those_in_flight_are_kept_when_a_run_stops_early(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.faults = Faults(latency=0.3)
    server.refuse = bad(0)
    assert icl("run", task, "--out", "out", "--set", "run.max_failures=0")[0] == 3
    answered = {prompt for prompt in server.audit.answered if "number" in prompt}
    assert len(answered) == CONCURRENCY - 1
    server.refuse, server.faults = (lambda _: None), Faults()
    assert icl("run", task, "--out", "out")[0] == 0
    assert not server.audit.twice


def test_as_many_failures_as_allowed_are_no_failure(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.refuse = bad(10, 20, 30)
    for allowed in (3, 0.01):
        status, _, err = icl("run", task, "--out", "out", "--set", f"run.max_failures={allowed}")
        assert (status, [line for line in err.splitlines() if not line.startswith("{")]) == (0, [])
        assert summary()["failed"] == 3
    assert icl("run", task, "--out", "out", "--set", "run.max_failures=2")[0] == 3


def test_without_a_limit_the_run_goes_on_to_the_end(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.refuse = lambda prompt: 400 if "number" in prompt else None
    status, _, err = icl("run", task, "--out", "out")
    assert (status, told(err)) == (3, "300 examples failed; run again to retry")
    assert summary()["failed"] == len(lines("predictions.jsonl")) == 300


def test_failed_rows_teach_a_batch_step_nothing(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.refuse = bad(3, 4)
    calibrated = json.dumps([LABELS, {"use": "batch_calibration"}])
    task.write_text(re.sub(r"(?m)^output: .*$", f"output: {calibrated}", task.read_text()))
    assert icl("run", task, "--out", "out")[0] == 3
    fits = json.loads(Path("out/manifest.json").read_text())["fits"]
    assert fits["output[1]"]["state"]["rows"] == 298


def test_the_sdk_raises_where_a_run_stops_early(server: Chaos, task: Path) -> None:
    server.refuse = bad(1)
    with pytest.raises(FailuresError, match=r"^stopped: 1 of 300 rows got no answer, run\.max_failures allows 0 "):
        icl.run(task, out="out", settings={"run.max_failures": 0})


def test_a_run_directory_whose_first_rows_failed_belongs_to_its_task(
    server: Chaos, task: Path, icl: CommandLine
) -> None:
    server.refuse = lambda prompt: 400 if "number" in prompt else None
    assert icl("run", task, "--out", "out", "--set", "run.max_failures=4")[0] == 3
    assert lines("predictions.jsonl")
    status, _, err = icl("run", task, "--out", "out", "--set", "input.instruction=Judge.")
    assert status == 2
    assert "holds another run" in told(err)


def test_a_model_that_refuses_the_key_ends_it_for_all(server: Chaos, task: Path, icl: CommandLine) -> None:
    server.refuse = lambda prompt: 401 if "number" in prompt else None
    status, _, err = icl("run", task, "--out", "out")
    assert status == 2
    assert "refuses the key" in told(err)
    asked = sum(n for prompt, n in server.audit.received.items() if "number" in prompt)
    assert asked <= CONCURRENCY
