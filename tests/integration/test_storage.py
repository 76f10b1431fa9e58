"""Disks that fill up, folders that cannot be written, flipped bytes, clocks that jump: no answer is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chaos import Chaos, Faults

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Start = Callable[..., "subprocess.Popen[str]"]

MIB = 1 << 20
ROWS = [{"text": f"film number {i:03}: {'very ' * 400}long", "label": "positive"} for i in range(600)]
"""Rows of 2 KB: a run directory of some 3 MB."""

WORDY = " so" * 1000
"""An answer of 3 KB."""


@pytest.fixture
def server() -> Iterator[Chaos]:
    with Chaos() as running:
        yield running


@pytest.fixture
def task(server: Chaos, write_task: WriteTask) -> Path:
    model = {"use": "vllm", "base_url": server.url, "name": "m", "stop": "\n"}
    return write_task(model=model, test=ROWS, output=[], metrics=[])


class Disk:
    """A small disk of its own.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def become(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Mount a disk of so many bytes; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(size: int) -> Disk:
        path = tmp_path / "disk"
        path.mkdir()
        if shutil.which("mount") is None:
            pytest.skip("there is no mount command")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
        mounted.append(path)
        return Disk(path)

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


def told(err: str) -> str:
    """What is said, but for progress; on one line."""
    (line,) = (line for line in err.splitlines() if not line.startswith("{"))
    return line


def whole(folder: Path) -> int:
    """Nothing is half written; how many predictions there are."""
    for path in folder.glob("*.json"):
        json.loads(path.read_bytes())
    for path in folder.glob("*.jsonl"):
        raw = path.read_bytes()
        assert raw.endswith(b"\n")
        assert [json.loads(line)["id"] for line in raw.splitlines()] == list(range(raw.count(b"\n")))
    return (folder / "predictions.jsonl").read_bytes().count(b"\n")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "summary.json"}


def finished(folder: Path, server: Chaos) -> None:
    """It holds every row, and no prompt was paid for twice."""
    assert whole(folder) == len(ROWS)
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers.jsonl",
        "manifest.json",
        "predictions.jsonl",
        "summary.json",
    ]
    assert not server.audit.twice
    assert len(server.audit.answered) == len(ROWS)


# -- no room


def test_no_room_for_the_run_directory(
    server: Chaos, task: Path, icl: CommandLine, disk: Callable[[int], Disk]
) -> None:
    small = disk(MIB)
    out = small.path / "out"
    status, _, err = icl("run", task, "--out", out)
    assert status == 2
    line = told(err)
    assert line.startswith(f"error: {out}")
    assert "cannot be written (No space left on device)" in line
    assert "run the same again" in line
    assert 0 < whole(out) < len(ROWS)
    assert len(server.audit.answered) < len(ROWS), "nothing more is asked"
    assert icl("run", task, "--out", out)[0] == 2, "as long as there is no room"
    assert not server.audit.twice

    small.become("size=64m")
    assert icl("run", task, "--out", out)[0] == 0
    finished(out, server)


def test_no_room_for_as_much_as_a_manifest(
    server: Chaos, task: Path, icl: CommandLine, disk: Callable[[int], Disk]
) -> None:
    small = disk(MIB)
    (small.path / "filler").write_bytes(b"x" * (MIB - 4096))
    out = small.path / "out"
    status, _, err = icl("run", task, "--out", out)
    assert status == 2
    assert "cannot be written (No space left on device)" in told(err)
    (small.path / "filler").unlink()
    small.become("size=64m")
    assert icl("run", task, "--out", out)[0] == 0
    finished(out, server)


def test_no_room_for_the_cache(
    server: Chaos, task: Path, icl: CommandLine, disk: Callable[[int], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = disk(6 * MIB)
    monkeypatch.setenv("ICL_CACHE_DIR", str(small.path / "cache"))
    server.words = (WORDY, WORDY + " well")
    status, _, err = icl("run", task, "--out", "out")
    assert status == 2
    line = told(err)
    assert line.startswith(f"error: the cache {small.path / 'cache'}")
    assert "run it again to go on" in line
    assert 0 < len(server.audit.answered) < len(ROWS)
    assert whole(Path("out")) == len(server.audit.answered), "what was in flight came home"

    small.become("size=64m")
    assert icl("run", task, "--out", "out")[0] == 0
    finished(Path("out"), server)


def test_no_room_for_the_cache_from_the_start(
    server: Chaos, task: Path, icl: CommandLine, disk: Callable[[int], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = disk(MIB)
    monkeypatch.setenv("ICL_CACHE_DIR", str(small.path / "cache"))
    status, _, err = icl("run", task, "--out", "out")
    assert status == 2
    assert told(err).startswith(f"error: the cache {small.path / 'cache'}")
    assert "No space left on device" in told(err)
    assert not server.audit.arrivals
    assert not Path("out").exists()


def test_a_limit_on_the_size_of_files(server: Chaos, task: Path, start: Start, tmp_path: Path) -> None:
    """As by `ulimit -f`: it needs no disk of its own, and hits the run directory first."""
    hook = tmp_path / "hook"
    hook.mkdir()
    limit = 5 * MIB
    (hook / "sitecustomize.py").write_text(
        f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    rows = [{"text": f"film number {i:03}: {'very ' * 2000}long"} for i in range(len(ROWS))]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = start("run", task, "--out", "out", "--set", "data.target=null", PYTHONPATH=str(hook))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "cannot be written (File too large)" in told(err)
    assert 0 < whole(Path("out")) < len(ROWS)

    process = start("run", task, "--out", "out", "--set", "data.target=null")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    finished(Path("out"), server)


# -- no permission


@pytest.mark.parametrize("where", ["cache", "out"])
def test_a_folder_that_cannot_be_written(
    where: str,
    server: Chaos,
    task: Path,
    icl: CommandLine,
    disk: Callable[[int], Disk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = disk(64 * MIB)
    if where == "cache":
        monkeypatch.setenv("ICL_CACHE_DIR", str(small.path / "cache"))
    out = small.path / "out" if where == "out" else Path("out")
    assert icl("run", task, "--out", out, "--limit", "5")[0] == 0
    before = len(server.audit.arrivals)
    small.become("ro")
    status, _, err = icl("run", task, "--out", out)
    assert status == 2
    assert str(small.path) in told(err)
    assert "Read-only file system" in err or "readonly" in err
    assert len(server.audit.arrivals) == before, "nothing is paid that could not be kept"
    small.become("rw")
    assert icl("run", task, "--out", out)[0] == 0
    finished(out, server)


def test_a_cache_that_is_removed_half_way(
    server: Chaos, task: Path, start: Start, icl: CommandLine, tmp_path: Path
) -> None:
    server.faults = Faults(latency=0.02)
    process = start("run", task, "--out", "out")
    while server.audit.billed < 100 and process.poll() is None:
        time.sleep(0.002)
    shutil.rmtree(tmp_path / "cache")
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 2), err
    assert "Traceback" not in err
    assert icl("run", task, "--out", "out")[0] == 0
    assert whole(Path("out")) == len(ROWS)


# -- flipped bytes


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_in_the_cache(
    seed: int, server: Chaos, task: Path, icl: CommandLine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert icl("run", task, "--out", "out")[0] == 0
    before = files(Path("out"))
    server.forget()
    path = tmp_path / "cache" / "answers.sqlite3"
    raw = bytearray(path.read_bytes())
    draw = random.Random(seed)
    low = 0 if seed % 2 else 4096  # with and without the first page, which holds the schema
    for _ in range(draw.choice((1, 20, 300))):
        raw[draw.randrange(low, len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)

    status, _, err = icl("run", task, "--out", "out")
    assert status == 0, err
    assert files(Path("out")) == before
    assert not server.audit.twice
    assert len(server.audit.answered) < len(ROWS) or seed % 2
    assert icl("run", task, "--out", "out")[0] == 0
    assert files(Path("out")) == before
    assert not server.audit.twice, "what was asked again is kept"


# -- clocks


def test_a_clock_that_jumps(server: Chaos, task: Path, start: Start, tmp_path: Path, icl: CommandLine) -> None:
    """By ten years to and fro, at every look: what is measured, is measured by a clock that only goes on."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        textwrap.dedent("""
        import itertools, time
        real, years = time.time, itertools.cycle((0.0, 3e8, -3e8))
        time.time = lambda: real() + next(years)
        time.time_ns = lambda: int(time.time() * 1e9)
        """)
    )
    server.faults = Faults(errors=0.05, resets=0.02, sent_away=(50,), seed=2)
    for paid in (len(ROWS), 0):
        process = start("run", task, "--out", "out", PYTHONPATH=str(hook))
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert all(line.startswith("{") for line in err.splitlines())
        assert all(json.loads(line)["rate"] > 0 for line in err.splitlines())
        summary = json.loads(Path("out/summary.json").read_text())
        assert summary["usage"]["paid"] == paid
        assert 0 <= summary["seconds"] < 60
    finished(Path("out"), server)
    before = files(Path("out"))
    assert icl("run", task, "--out", "out")[0] == 0
    assert files(Path("out")) == before


# -- two at once


def test_a_second_process_in_the_same_folder_is_refused(
    server: Chaos, task: Path, start: Start, icl: CommandLine
) -> None:
    server.faults = Faults(latency=0.2)
    first = start("run", task, "--out", "out")
    while server.audit.billed < 20 and first.poll() is None:
        time.sleep(0.005)
    asked = set(server.audit.received)
    status, out, err = icl("run", task, "--out", "out")
    assert (status, out) == (2, "")
    assert told(err) == "error: out: another process is at work here; wait for it, or give another --out"
    assert first.poll() is None
    assert icl("run", task, "--out", "elsewhere", "--limit", "3")[0] == 0

    first.kill()
    first.communicate()
    assert server.gone()
    server.faults = Faults()
    server.forget()
    assert icl("run", task, "--out", "out")[0] == 0, "a killed one holds nothing"
    assert whole(Path("out")) == len(ROWS)
    assert len(asked & set(server.audit.received)) <= 16
    assert ".lock" not in os.listdir("out")


def test_a_mistake_leaves_no_folder(server: Chaos, task: Path, icl: CommandLine) -> None:
    status, _, err = icl("run", task, "--out", "out/of/many", "--set", "model.base_url=http://127.0.0.1:9/v1")
    assert status == 2
    assert "nothing answers" in told(err)
    assert not Path("out/of/many").exists()
    Path("taken").write_text("a file")
    status, _, err = icl("run", task, "--out", "taken")
    assert (status, told(err)) == (2, "error: taken: is not a folder; give --out a folder")


def test_files_that_are_folders_are_a_clear_line(task: Path, icl: CommandLine) -> None:
    for name in ("predictions.jsonl", "answers.jsonl", "manifest.json", "summary.json"):
        folder = Path(f"out-{name}")
        (folder / name).mkdir(parents=True)
        status, _, err = icl("run", task, "--out", folder, "--limit", "3")
        assert status == 2, err
        assert name in told(err) or "holds another run" in told(err)
