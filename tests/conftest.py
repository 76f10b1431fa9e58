"""Every test has its own working folder and answer cache, and may ask for a stand-in server and a small task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import HealthCheck, settings
from support.server import StandIn

Row = Mapping[str, Any]
Finished = tuple[int, str, str]

TRAIN: Sequence[Row] = [
    {"text": f"{word} number {i}", "label": ("positive", "negative")[i % 2]}
    for i, word in enumerate(["bright", "dull", "lively", "flat", "warm", "stale", "crisp", "limp"])
]
TEST: Sequence[Row] = [
    {"text": f"film {i} is {word}", "label": ("positive", "negative")[i % 2]}
    for i, word in enumerate(["fine", "poor", "great", "weak", "superb", "thin"])
]
TASK: Mapping[str, Any] = {
    "name": "small",
    "data": {"train": "train.jsonl", "test": "test.jsonl", "target": "label"},
    "input": {"template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"}},
    "model": {"use": "fake"},
    "output": [{"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}],
    "metrics": ["accuracy"],
}


# Test processes share the cores (`make check` starts several), so that how long a thing takes says little about it.
settings.register_profile("shared cores", deadline=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared cores")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Each process may run a model: a thread a core for each of them would be more threads than cores.
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_THREAD_LIMIT", str(max(1, share)))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in what a script starts in the background: the processes that tests interrupt would inherit it and go on.
    signal.signal(signal.SIGINT, signal.default_int_handler)


get_command = cache(typer.main.get_command)
"""The command line as typer makes it, made once: making it anew takes longer than many a command."""


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


def jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., Path]:
    """Write a task and its data; keywords stand in for the task's top-level keys, None leaves one out."""

    def write(
        *, name: str = "task.yaml", train: Sequence[Row] = TRAIN, test: Sequence[Row] = TEST, **keys: Any
    ) -> Path:
        jsonl(tmp_path / "train.jsonl", train)
        jsonl(tmp_path / "test.jsonl", test)
        tree = {k: v for k, v in {**TASK, **keys}.items() if v is not None}
        path = tmp_path / name
        path.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in tree.items()), encoding="utf-8")
        return path

    return write


@pytest.fixture
def icl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """The command line in this process: exit status, standard output, standard error."""

    def call(*arguments: object) -> Finished:
        from icl_engine.console.main import main

        monkeypatch.setattr(sys, "argv", ["icl", *map(str, arguments)])
        monkeypatch.setattr(typer.main, "get_command", get_command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        return code if isinstance(code, int) else int(code is not None), out, err

    return call


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command line in a process of its own; keywords go into its environment."""
    started = []

    def call(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "icl_engine.console.main", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
