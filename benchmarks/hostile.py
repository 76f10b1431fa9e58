"""Hostile answers through every structural reader and common chains: exceptions, times, memory.

    python benchmarks/hostile.py [--answers 100000] [--seed 0] [--more] [--only NAME …]

The corpus is that of tests/support/hostile.py: parts of real answers cut anywhere and damaged, brackets and fences
inside one another, what patterns look out for said again and again, any characters (half ones too), numbers of
thousands of digits; 93% short, 1% of 30,000 to 3,000,000 characters, of which the chain reads the first and the last
25,000. Each row of the table is a process of its own, which is ended after `--limit` seconds; `--more` adds rows for
readers with other keys.

*raised* are answers for which a step raised; *unwritten* those whose value and trace could not be written as JSON.
Times are of the process, reading alone (*s* in all), after some answers that load what a reader needs; *long* are the
answers that the chain had to cap. *MB more* is by how much the process's peak memory grew while it read: the corpus
itself, an answer at a time, takes a part of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which a process's peak memory is told."""
_COUNTS = ("answers", "raised", "unwritten", "read")
HEAD = ("steps", *_COUNTS, "slowest ms", "under 50 ms", "long under 50 ms", "MB more", "s")


def measured(steps: Sequence[Mapping[str, Any]], count: int, seed: int) -> dict[str, Any]:
    """What happened when some steps read the corpus."""
    import orjson
    from support.hostile import ROW, answers

    from icl_engine.alignment.chain import Chain
    from icl_engine.alignment.text import LONGEST
    from icl_engine.registry import resolve
    from icl_engine.types import Need

    chain, need = Chain(tuple(resolve("aligner", step["use"]).model_validate(step) for step in steps)), Need("text")
    found: dict[str, Any] = {"answers": 0, "raised": 0, "unwritten": 0, "read": 0, "first": None}
    short, long = list[float](), list[float]()
    for text in answers(100, seed + 1, longest=1_000):
        chain.advance(*chain.begin(need, text, None, ROW), {}, len(chain.steps))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in answers(count, seed):
        found["answers"] += 1
        start = process_time()
        try:
            reading, _ = chain.advance(*chain.begin(need, text, None, ROW), {}, len(chain.steps))
        except Exception as error:  # what is counted
            found["raised"] += 1
            found["first"] = found["first"] or f"{type(error).__name__}: {error} of {text[:200]!r}"[:500]
            continue
        (long if len(text) > LONGEST else short).append(process_time() - start)
        found["read"] += reading.status == "ok"
        try:
            orjson.dumps([reading.value, reading.trace])
        except TypeError as error:
            found["unwritten"] += 1
            found["first"] = found["first"] or f"{error} of {text[:200]!r}"[:500]
    found["slowest ms"] = round(1000 * max(short + long, default=0))
    found["under 50 ms"] = _share(short + long)
    found["s"] = round(sum(short + long), 1)
    found["long under 50 ms"] = _share(long)
    found["MB more"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * UNIT / 2**20)
    return found


def _share(times: Sequence[float]) -> str:
    return f"{sum(t < 0.05 for t in times) / len(times):.3%}" if times else "-"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    from support.hostile import readers

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=600, help="seconds that one row may take")
    parser.add_argument("--only", nargs="+", choices=list(readers(more=True)), metavar="NAME")
    parser.add_argument("--more", action="store_true", help="readers with other keys, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(readers(more=True)[given.child], given.answers, given.seed)))
        return
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    own = [sys.executable, __file__, "--answers", str(given.answers), "--seed", str(given.seed), "--child"]
    failed = False
    for name in given.only or readers(more=given.more):
        try:
            done = subprocess.run([*own, name], capture_output=True, text=True, timeout=given.limit, check=True)  # noqa: S603
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            failed = True
            print(f"| {name} | {type(error).__name__}: {error} |", flush=True)
            continue
        row = json.loads(done.stdout)
        failed |= bool(row["raised"] or row["unwritten"])
        print(f"| {name} | {' | '.join(str(row[key]) for key in HEAD[1:])} |", flush=True)
        if row["first"]:
            print(f"\n{row['first']!r}\n", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
