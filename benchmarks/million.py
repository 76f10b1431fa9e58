"""A long run: rows a second from its first tenth to its last, memory, disk, and the same run again from the cache.

    python benchmarks/million.py [--rows 1000000] [--words 60] [--concurrency 64] [--temp DIR] [--mock SCRIPT]

The rows are written as a stream to a temporary folder, which is removed in the end; with all that the run writes it
takes about 2 kB a row. `icl run` is a process on one core; a server that answers at once has another. Rows are those in
`predictions.jsonl`, counted five times a second; a tenth's rate is interpolated between two counts. What comes before
the first row (start-up, a look at every row) and after the last (metrics) is told by itself.

Memory: what the process holds at the end of each tenth, and its peak by the system's own count.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from measuring import ICL, LOOPBACK, Cores, Ran, Server, digest, run, serving, size, write_task

PARTS = 10


@dataclass(frozen=True)
class Sample:
    """How far the run was."""

    seconds: float
    rows: int
    memory: int


class Sampler:
    """Counts a growing file's lines, and looks at the memory of the process that writes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._read, self._rows = path, 0, 0
        self.samples: list[Sample] = []

    def __call__(self, pid: int, seconds: float) -> None:
        """Take a sample; after the end (`pid` 0), only of the file."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                while block := file.read(1 << 20):
                    self._read += len(block)
                    self._rows += block.count(b"\n")
        last = self.samples[-1].memory if self.samples else 0
        self.samples.append(Sample(seconds, self._rows, resident(pid) or last))


def resident(pid: int) -> int:
    """Bytes that a process holds in memory; 0 where the system does not say, or it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def parts(samples: Sequence[Sample], rows: int) -> list[Sample]:
    """When the first row was there, and each tenth of the rows."""
    return [_at(samples, max(1, rows * part // PARTS)) for part in range(PARTS + 1)]


def _at(samples: Sequence[Sample], rows: int) -> Sample:
    """The moment so many rows were there: between two samples, as if rows came evenly."""
    i = next(i for i, sample in enumerate(samples) if sample.rows >= rows)
    a, b = samples[max(0, i - 1)], samples[i]
    share = (rows - a.rows) / (b.rows - a.rows) if b.rows > a.rows else 1.0
    return Sample(a.seconds + share * (b.seconds - a.seconds), rows, b.memory)


class Long:
    """A long run on one server."""

    def __init__(self, given: argparse.Namespace, server: Server, cores: Cores, folder: Path) -> None:
        self._server, self._cores, self._folder = server, cores, folder
        self._task = write_task(folder / "task", server.url, given.rows, given.words, given.concurrency)
        self._out, self._cache = folder / "run", folder / "cache"
        self.rows = int(given.rows)

    def run(self, sampler: Sampler | None = None) -> tuple[Ran, dict[str, Any], int]:
        """Run the task; what that took, its summary, and the prompts that the server got."""
        self._server.ask("POST", "/reset")
        command: list[str | Path] = [sys.executable, ICL, "run", self._task, "--out", self._out]
        ran = run(command, self._cores.client, {"ICL_CACHE_DIR": str(self._cache)}, self._folder, sampler)
        if sampler is not None:
            sampler(0, ran.seconds)
        summary = json.loads((self._out / "summary.json").read_text(encoding="utf-8"))
        if (summary["examples"], summary["failed"], summary["unparsed"]) != (self.rows, 0, 0):
            sys.exit(f"icl run did not do its work: {summary}")
        return ran, summary, self._server.ask("GET", "/stats")["prompts_received"]

    def first(self) -> list[str]:
        """Run it for the first time, print how that went; the sums of the files it wrote."""
        sampler = Sampler(self._out / "predictions.jsonl")
        ran, summary, received = self.run(sampler)
        moments = parts(sampler.samples, self.rows)
        rates = [
            (b.rows - a.rows) / (b.seconds - a.seconds) if b.seconds > a.seconds else float("nan")
            for a, b in pairwise(moments)
        ]
        print(f"before the first row: {moments[0].seconds:.1f} s")
        print(f"{'rows':>12}{'rows/s':>10}{'MB':>8}")
        for moment, rate in zip(moments[1:], rates, strict=True):
            print(f"{moment.rows:>12,}{rate:>10,.0f}{moment.memory / 1e6:>8.0f}")
        print(f"after the last row: {ran.seconds - moments[-1].seconds:.1f} s")
        print(f"last tenth / first tenth: {rates[-1] / rates[0]:.2f}; slowest / fastest: {min(rates) / max(rates):.2f}")
        self._tell("run", ran, summary, received)
        print(f"on disk: run directory {size(self._out) / 1e6:,.1f} MB, cache {size(self._cache) / 1e6:,.1f} MB")
        return self._sums()

    def again(self) -> list[str]:
        """Run it once more."""
        self._tell("again", *self.run())
        return self._sums()

    def _tell(self, name: str, ran: Ran, summary: dict[str, Any], received: int) -> None:
        rate = self.rows / ran.seconds
        print(
            f"{name}: {ran.seconds:.1f} s, {rate:,.0f} rows/s, peak memory {ran.peak / 1e6:.0f} MB, "
            f"paid {summary['usage']['paid']:,}, prompts at the server {received:,}",
            flush=True,
        )

    def _sums(self) -> list[str]:
        return [digest(self._out / f"{name}.jsonl") for name in ("predictions", "answers")]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=60, help="of a prompt")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--temp", type=Path, help="where the temporary folder is made")
    parser.add_argument("--mock", type=Path, default=LOOPBACK, metavar="SCRIPT", help="another server; takes --port")
    given = parser.parse_args()
    if given.rows < PARTS:
        parser.error(f"--rows is at least {PARTS}")
    return given


def main() -> None:
    """Measure and print."""
    given, cores = options(), Cores.found()
    print(f"{given.rows:,} rows, {given.words} words a prompt, {given.concurrency} at once; {cores}", flush=True)
    with tempfile.TemporaryDirectory(dir=given.temp) as name, serving(given.mock, cores.server) as server:
        free = shutil.disk_usage(name).free
        began = time.perf_counter()
        long = Long(given, server, cores, Path(name))
        print(f"rows written in {time.perf_counter() - began:.1f} s; {free / 1e9:.0f} GB free", flush=True)
        print(f"the same files: {'yes' if long.first() == long.again() else 'NO'}")


if __name__ == "__main__":
    main()
