"""Rows a second of the whole `icl run`, next to bare loops and two evaluation harnesses, in one run.

    python benchmarks/throughput.py [--rows 20000] [--words 300 60] [--repeats 3] [--concurrency 64]
        [--lm-eval VENV] [--inspect VENV] [--mock SCRIPT] [--only icl bare …]

The server answers at once, so what is measured is the client. All send the same prompts to the same server, as many at
once; each run is a process of its own on one core, and the server has another. Who goes first alternates with the
repeats; figures are medians.

- icl run: the command with all it does: start-up, a look at every row, rendering (four fixed demonstrations), an empty
  cache that is written, the journal, reading (a verbalizer), metrics. Nothing is switched off.
- icl run again: the same command, once more: every answer comes from the cache, nothing may be sent.
- icl run, batch: 16: up to 16 prompts in one HTTP request (`model.batch`).
- bare aiohttp, on asyncio's event loop and on uvloop's: JSON out, text in, nothing kept.
- openai SDK: a loop over `AsyncOpenAI` as it comes.
- lm-eval: `local-completions`, `generate_until`, without the index of its own tasks, which its command reads first.
- inspect_ai: `generate` and `match`, by its provider for OpenAI-compatible completions, its log as it comes.

The slow ones get fewer rows (`--sdk-rows`, `--inspect-rows`). Columns: *whole s* is the process from its start to its
end (median, least and most); *work s* leaves out start-up and imports, and for lm-eval all but the requests; nothing is
left out for us. *rows/s* is by work, against us: ours is by the whole process. *MB* is the peak memory of the process.
*requests* are the prompts that the server counted, *once* says whether it got each one exactly once, and *busy* which
share of the work's time it was busy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from measuring import HERE, ICL, LOOPBACK, Cores, Ran, Server, digest, run, serving, write_task

CLIENT = HERE / "throughput_client.py"
NAMES = {
    "icl": "icl run",
    "again": "icl run again",
    "icl-batch": "icl run, batch: 16",
    "bare": "bare aiohttp",
    "bare-uvloop": "bare aiohttp, uvloop",
    "openai": "openai SDK",
    "lm-eval": "lm-eval",
    "inspect": "inspect_ai",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Measured:
    """What one run took, and what the server saw of it."""

    rows: int
    whole: float
    work: float
    peak: int
    requests: int
    once: bool
    busy: float
    version: str


class Bench:
    """One size of prompts, ready for all clients."""

    def __init__(self, given: argparse.Namespace, size: int, server: Server, cores: Cores, folder: Path) -> None:
        self._given, self._server, self._cores, self._folder = given, server, cores, folder
        self._task = write_task(folder / "task", server.url, given.rows, size, given.concurrency)
        self._prompts = folder / "prompts.jsonl"
        self._ask("render", sys.executable, given.rows)
        self._checksums, words = [], 0
        with self._prompts.open(encoding="utf-8") as file:
            for line in file:
                prompt = json.loads(line)["prompt"]
                self._checksums.append(zlib.crc32(prompt.encode()))
                words += len(prompt.split())
        self.words = round(words / given.rows)

    def measure(self, client: str, turn: int) -> dict[str, Measured]:
        """One run of a client; of ours, also the one after it."""
        if client == "icl":
            return self._icl(self._folder / f"icl-{turn}")
        if client == "icl-batch":
            return {client: self._icl(self._folder / f"icl-{turn}", "--set", "model.batch=16")["icl"]}
        python, rows = {
            "openai": (sys.executable, self._given.sdk_rows),
            "lm-eval": (str(self._given.lm_eval), self._given.rows),
            "inspect": (str(self._given.inspect), self._given.inspect_rows),
        }.get(client, (sys.executable, self._given.rows))
        rows = min(rows, self._given.rows)
        busy = self._begin()
        ran, said = self._ask(client, python, rows)
        if said["answers"] != rows:
            sys.exit(f"{NAMES[client]} has {said['answers']} answers for {rows} rows")
        return {client: self._measured(ran, rows, said["seconds"], busy, said["version"])}

    def _ask(self, client: str, python: str, rows: int) -> tuple[Ran, Mapping[str, Any]]:
        """Run a client of `throughput_client.py`; what it took and what it said."""
        given = {"task": self._task, "prompts": self._prompts, "url": self._server.url, "rows": rows}
        text = json.dumps({**given, "concurrency": self._given.concurrency}, default=str)
        homes = {"HF_HOME": str(self._folder / "hf"), "XDG_DATA_HOME": str(self._folder / "data")}
        ran = run([python, CLIENT, client, text], self._cores.client, OFFLINE | homes, self._folder)
        return ran, json.loads(ran.said.strip().splitlines()[-1])

    def _icl(self, folder: Path, *options: str) -> dict[str, Measured]:
        command: list[str | Path] = [sys.executable, ICL, "run", self._task, "--out", folder / "run", *options]
        found, files = {}, []
        for name, paid in (("icl", self._given.rows), ("again", 0)):
            busy = self._begin()
            environment = {"ICL_CACHE_DIR": str(folder / "cache")}
            ran = run(command, self._cores.client, environment, self._folder)
            summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
            asked = summary["usage"]["paid"]
            if (summary["examples"], summary["unparsed"], asked) != (self._given.rows, 0, paid):
                sys.exit(f"icl run did not do its work: {summary}")
            found[name] = self._measured(ran, self._given.rows, ran.seconds, busy, "", sent=paid)
            files.append([digest(folder / "run" / f"{file}.jsonl") for file in ("predictions", "answers")])
        if files[0] != files[1]:
            sys.exit("running again gave other files")
        shutil.rmtree(folder)
        return found

    def _begin(self) -> float:
        self._server.ask("POST", "/reset")
        return self._server.busy()

    def _measured(
        self, ran: Ran, rows: int, work: float, busy: float, version: str, sent: int | None = None
    ) -> Measured:
        sent = rows if sent is None else sent
        stats = self._server.ask("GET", "/stats")
        received = stats["prompts_received"]
        sums = sum(islice(self._checksums, sent))
        once = received == stats["unique_prompts"] == sent and stats.get("digest", sums) == sums
        share = (self._server.busy() - busy) / work
        return Measured(rows, ran.seconds, work, ran.peak, received, once, share, version)


HEAD = ("rows", "whole s", "(least–most)", "work s", "rows/s", "to bare", "MB", "requests", "once", "busy", "version")


def rate(runs: Sequence[Measured]) -> float:
    """Rows a second, by work."""
    return float(runs[0].rows / median(run.work for run in runs))


def report(found: Mapping[str, Sequence[Measured]]) -> None:
    """Print the medians, and ours in multiples of the others'."""
    bare = rate(found["bare"]) if "bare" in found else None
    print(f"  {'':20}" + "".join(f"{title:>14}" for title in HEAD))
    for client, runs in found.items():
        whole = [run.whole for run in runs]
        cells = [
            f"{runs[0].rows:,}",
            f"{median(whole):.2f}",
            f"({min(whole):.2f}–{max(whole):.2f})",
            f"{median(run.work for run in runs):.2f}",
            f"{rate(runs):,.0f}",
            f"{rate(runs) / bare:.3f}" if bare else "",
            f"{max(run.peak for run in runs) / 1e6:.0f}",
            f"{max(run.requests for run in runs):,}",
            "yes" if all(run.once for run in runs) else "NO",
            f"{median(run.busy for run in runs):.0%}",
            runs[0].version,
        ]
        print(f"  {NAMES[client]:20}" + "".join(f"{cell:>14}" for cell in cells))
    if "icl" in found:
        _ratios(found)
    sys.stdout.flush()


def _ratios(found: Mapping[str, Sequence[Measured]]) -> None:
    ours = rate(found["icl"])
    for client, runs in found.items():
        if client not in ("icl", "again"):
            print(f"  icl run / {NAMES[client]}: {ours / rate(runs):.2f} times its rows/s")
    if "lm-eval" in found:
        whole = {client: median(run.whole for run in found[client]) for client in ("icl", "lm-eval")}
        times = whole["lm-eval"] / whole["icl"]
        print(
            f"  end to end: icl run {whole['icl']:.1f} s, lm-eval {whole['lm-eval']:.1f} s: {times:.2f} times as long"
        )


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--words", type=int, nargs="+", default=[300, 60], help="of a prompt; each is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--sdk-rows", type=int, default=2000, help="for the openai SDK")
    parser.add_argument("--inspect-rows", type=int, default=1000, help="for inspect_ai")
    parser.add_argument("--lm-eval", type=_python, metavar="VENV", help="has lm-eval[api], torch and transformers")
    parser.add_argument("--inspect", type=_python, metavar="VENV", help="has inspect-ai and openai")
    parser.add_argument("--mock", type=Path, default=LOOPBACK, metavar="SCRIPT", help="another server; takes --port")
    parser.add_argument("--only", nargs="+", choices=[name for name in NAMES if name != "again"], default=list(NAMES))
    return parser.parse_args()


def _python(venv: str) -> Path:
    """The Python of a virtual environment."""
    path = Path(venv).absolute()
    path = path / "bin" / "python" if path.is_dir() else path
    if not path.exists():
        raise argparse.ArgumentTypeError(f"no Python at {path}")
    return path


def clients(given: argparse.Namespace) -> list[str]:
    """Those that are here; says which are not."""
    missing = {
        "bare-uvloop": "" if find_spec("uvloop") else "uvloop is not installed",
        "lm-eval": "" if given.lm_eval else "give --lm-eval VENV",
        "inspect": "" if given.inspect else "give --inspect VENV",
    }
    for name in given.only:
        if missing.get(name):
            print(f"{NAMES[name]} is left out: {missing[name]}")
    return [name for name in given.only if name != "again" and not missing.get(name)]


def main() -> None:
    """Measure and print."""
    given = options()
    names, cores = clients(given), Cores.found()
    print(f"{cores}; {given.concurrency} at once; the server is {given.mock}; {given.repeats} repeats")
    with tempfile.TemporaryDirectory() as folder, serving(given.mock, cores.server) as server:
        for size in given.words:
            bench = Bench(given, size, server, cores, Path(folder) / str(size))
            print(f"\nprompts of {bench.words} words", flush=True)
            found: dict[str, list[Measured]] = {}
            for turn in range(given.repeats):
                for client in names[:: -1 if turn % 2 else 1]:
                    for name, measured in bench.measure(client, turn).items():
                        found.setdefault(name, []).append(measured)
            report({name: found[name] for name in NAMES if name in found})


if __name__ == "__main__":
    main()
