"""What `throughput.py` and `million.py` share: rows, a task, a server on its own core, and processes that are measured.

Only the standard library: a child's peak memory counts from what its parent held when it was started.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ICL = HERE.parent / "cli.py"
LOOPBACK = HERE / "loopback.py"

LABELS = ("positive", "negative")
SHOTS = 4
FRAME = {"query": 2, "demonstration": 3}
"""Words that the template adds to a text."""

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which a process's peak memory is told."""


# -- rows and task


def rows(count: int, words: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Rows whose prompts have about so many words, each with a number of its own so that no two prompts are equal."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("aeioulnrstdmkp", k=draw.randint(2, 9))) for _ in range(2000)]
    size = _words_a_text(words)
    for i in range(count):
        text = " ".join(draw.choices(known, k=size - 1))
        yield {"text": f"{text} {i}", "label": draw.choice(LABELS)}


def _words_a_text(words: int) -> int:
    return max(2, (words - FRAME["query"] - SHOTS * FRAME["demonstration"]) // (SHOTS + 1))


def write_rows(path: Path, found: Iterator[dict[str, str]]) -> None:
    """A JSONL file, as a stream."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in found)


def write_task(folder: Path, url: str, count: int, words: int, concurrency: int) -> Path:
    """A task in a folder of its own: the rows, and four fixed demonstrations; the answer is read as text."""
    folder.mkdir(parents=True)
    write_rows(folder / "rows.jsonl", rows(count, words))
    write_rows(folder / "demonstrations.jsonl", rows(SHOTS, words, seed=1))
    task = {
        "name": "throughput",
        "data": {"test": "rows.jsonl", "target": "label"},
        "input": {
            "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
            "demonstrations": {"use": "fixed", "path": "demonstrations.jsonl"},
        },
        "model": {"use": "vllm", "base_url": url, "name": "mock", "max_tokens": 8, "stop": ["\n"]},
        "output": [{"use": "verbalizer", "labels": {label: label for label in LABELS}, "read": "text"}],
        "metrics": ["accuracy"],
        "run": {"seed": 0, "concurrency": concurrency},
    }
    path = folder / "task.yaml"
    path.write_text(json.dumps(task, indent=1), encoding="utf-8")
    return path


# -- cores


@dataclass(frozen=True)
class Cores:
    """Which core the clients have, and which one the server; none where the system cannot say or has but one."""

    client: int | None
    server: int | None

    @classmethod
    def found(cls) -> Cores:
        """The first and the last of those this process may use."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1]) if len(usable) > 1 else cls(None, None)

    def __str__(self) -> str:
        if self.client is None:
            return "client and server share whatever cores there are (they cannot be told apart here)"
        return f"clients on core {self.client}, one at a time, the server on core {self.server}"


@contextmanager
def on(core: int | None) -> Iterator[None]:
    """What is started in this block has one core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# -- processes


@dataclass(frozen=True)
class Ran:
    """What a process took and said."""

    seconds: float
    peak: int
    said: str


Watch = Callable[[int, float], None]
"""Told the process's id and the seconds since its start, again and again."""


def run(
    command: Sequence[str | Path],
    core: int | None,
    environment: Mapping[str, str],
    folder: Path,
    watch: Watch | None = None,
) -> Ran:
    """Run a command to its end.

    Args:
        command: what is run.
        core: the only one it may use.
        environment: added to this process's own.
        folder: where it is run.
        watch: called five times a second.

    Raises:
        SystemExit: it failed.
    """
    whole = {**os.environ, "NO_PROXY": "127.0.0.1", **environment}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        with on(core):
            process = subprocess.Popen(command, stdout=out, stderr=err, env=whole, cwd=folder)  # noqa: S603 - our own
        try:
            pid, status, usage = os.wait4(process.pid, 0 if watch is None else os.WNOHANG)
            while watch is not None and not pid:
                watch(process.pid, time.perf_counter() - began)
                time.sleep(0.2)
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            words = err.read().decode(errors="replace").strip()[-2000:]
            sys.exit(f"{' '.join(map(str, command))[:200]} ended with status {process.returncode}: {words}")
        out.seek(0)
        return Ran(seconds, usage.ru_maxrss * UNIT, out.read().decode(errors="replace"))


# -- the server


class Server:
    """A server that runs, and what it was asked."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self._port, self._process = port, process

    def ask(self, method: str, path: str) -> Any:
        """The JSON at a path."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def busy(self) -> float:
        """Seconds of processor time it has used; zero where the system does not say."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            SystemExit: it ends instead.
        """
        while self._process.poll() is None:
            try:
                self.ask("GET", "/stats")
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        sys.exit(f"the server ended with status {self._process.returncode}: {self._process.args!r}")


@contextmanager
def serving(script: Path, core: int | None) -> Iterator[Server]:
    """A mock server (a Python script that takes ``--port``) on its own core."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, str(script.resolve()), "--port", str(port)]
    with on(core):
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet)  # noqa: S603 - the user's own script
    try:
        server = Server(port, process)
        server.wait()
        yield server
    finally:
        process.terminate()
        process.wait()


# -- files


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
