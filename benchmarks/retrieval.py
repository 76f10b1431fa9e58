"""How long each retriever takes to index a pool and to choose for queries, and its memory, next to OpenICL's own.

    python benchmarks/retrieval.py [--pool 100000] [--queries 10000] [--repeats 3] [--data ../shared/data]
        [--openicl VENV] [--limit 150] [--only knn bm25 …]

Texts are put together, by seed, from rows of the data sets in `--data` (sst2, agnews, trec and banking77; without it,
from the project's own tasks), with their labels. Vectors are given, the same to all: clusters of unit vectors in 384
dimensions. So the time of an encoder is in no figure. Each measurement is a process of its own that may use every
core; start-up, imports and reading the rows are left out for all. Figures are medians over the repeats.

Ours go through what the run engine calls: `fit`, and `select_many` in windows of 256 queries. *MB* is the peak memory
of the process, and *held* what it held before: imports, rows and vectors.

OpenICL's are run by `retrieval_openicl.py`, which says what is put in the place of its encoder and tokenizer. Its pool
and queries are doubled, up to the full size, until it would take longer than `--limit` seconds; ours are then measured
at the largest size that it finished, in turns with it. *faster* is its seconds over ours. *same* is the share of its
choices that ours made too: it should be near 1 for knn; bm25 has another tokenizer and weighting there, dpp scales
relevance as we do but may choose a row twice, and its votek follows another rule than the paper, so there only the
time can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measuring import HERE, run

from icl_engine.registry import names

CLIENT = HERE / "retrieval_client.py"
PEER = HERE / "retrieval_openicl.py"
SHARED = HERE.parent.parent / "shared" / "data"

SHOTS = 8
CANDIDATES = 100
SETTINGS: dict[str, dict[str, Any]] = {"per_label": {"k": 1}}
"""The keys of ours where they are not ``k: 8`` alone."""
LEFT_OUT = {"fixed": "it shows what the user wrote", "mdl": "it asks a model"}

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "knn": ("TopkRetriever", {}),
    "bm25": ("BM25Retriever", {}),
    "dpp": ("DPPRetriever", {"candidate_num": CANDIDATES}),
    "votek": ("VotekRetriever", {}),
}
OTHER_RULE = ("votek",)
"""Those whose choices are another rule's."""
SMALLEST = 1500
"""Rows in the pool with which OpenICL begins, or a few more."""
GROWTH = 4.0
"""How many times as long twice the pool and twice the queries take."""


class TooLongError(Exception):
    """A process took longer than it may."""


@dataclass(frozen=True)
class Size:
    """Rows in the pool, and queries."""

    pool: int
    queries: int

    def __str__(self) -> str:
        return f"{self.pool:,} x {self.queries:,}"

    def part(self, one: int) -> Size:
        """One of so many parts of it."""
        return Size(max(1, self.pool // one), max(1, self.queries // one))


@dataclass(frozen=True)
class Measured:
    """What one process took, and what it chose."""

    index: float
    query: float
    peak: int
    held: int
    chosen: list[list[int]]

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.index + self.query


class Bench:
    """The rows and their vectors, ready for all."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self._folder, self._openicl = folder, given.openicl
        wanted = {"folder": str(folder), "data": given.data and str(given.data), "seed": 0}
        ran = run([sys.executable, CLIENT, "make", json.dumps({**wanted, **vars(given.size)})], None, {}, HERE)
        self.made: dict[str, Any] = json.loads(ran.said.splitlines()[-1])

    def ours(self, name: str, size: Size) -> Measured:
        """One of our retrievers."""
        settings = {"k": SHOTS, **SETTINGS.get(name, {})}
        return self._measured([sys.executable, CLIENT, "measure"], name, size, settings)

    def peer(self, name: str, size: Size, limit: float) -> Measured:
        """OpenICL's retriever of that kind.

        Raises:
            TooLongError: it took longer than the limit.
        """
        its, settings = PEERS[name]
        return self._measured([self._openicl, PEER], its, size, settings, limit)

    def _measured(
        self, command: Sequence[str | Path], name: str, size: Size, settings: Mapping[str, Any], limit: float = 0.0
    ) -> Measured:
        def watch(_: int, seconds: float) -> None:
            # Start-up and imports are left out of the figures, so they get some more.
            if seconds > limit + 60:
                raise TooLongError

        chosen = self._folder / "chosen.json"
        given = {"folder": str(self._folder), "name": name, "k": SHOTS, "settings": settings, "chosen": str(chosen)}
        text = json.dumps({**given, **vars(size)})
        ran = run([*command, text], None, {}, HERE, watch if limit else None)
        said = json.loads(ran.said.splitlines()[-1])
        found = json.loads(chosen.read_text(encoding="utf-8"))
        return Measured(said["index"], said["query"], ran.peak, said["held"], found)


# -- ours


def all_of_ours(bench: Bench, given: argparse.Namespace) -> None:
    """Each of our retrievers at the full size."""
    print(f"\nours, {given.size}")
    head = ("index s", "query s", "s/1,000", "whole s", "least-most", "MB", "held MB")
    print(f"  {'':12}" + "".join(f"{title:>14}" for title in head), flush=True)
    for name in given.only:
        if name in LEFT_OUT:
            continue
        try:
            runs = [bench.ours(name, given.size) for _ in range(given.repeats)]
        except SystemExit as failed:
            print(f"  {name:12}  failed: {last_line(failed)}", flush=True)
            continue
        query, whole = median(one.query for one in runs), [one.seconds for one in runs]
        cells = (
            f"{median(one.index for one in runs):.2f}",
            f"{query:.2f}",
            f"{query / given.size.queries * 1000:.3f}",
            f"{median(whole):.2f}",
            f"({min(whole):.1f}-{max(whole):.1f})",
            f"{max(one.peak for one in runs) / 1e6:,.0f}",
            f"{median(one.held for one in runs) / 1e6:,.0f}",
        )
        print(f"  {name:12}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def last_line(failed: SystemExit) -> str:
    """Why a process failed."""
    return str(failed.code).strip().splitlines()[-1]


# -- side by side


def side_by_side(bench: Bench, given: argparse.Namespace) -> None:
    """OpenICL's retrievers at the largest size that each finishes, and ours at the same."""
    print(f"\nnext to OpenICL, each at the largest size that it finishes in {given.limit:.0f} s")
    rows = []
    for name in given.only:
        if name in PEERS:
            found = grown(bench, name, given)
            if found is not None:
                size, first = found
                rows.append((name, size, *in_turns(bench, name, size, first, given)))
    head = ("size", "its index s", "query s", "MB", "our index s", "query s", "MB", "faster", "same")
    print(f"  {'':8}" + "".join(f"{title:>{16 if title == 'size' else 13}}" for title in head))
    for name, size, theirs, ours in rows:
        cells = [f"{size!s:>16}"]
        for runs in (theirs, ours):
            cells += [f"{median(one.index for one in runs):>13.2f}", f"{median(one.query for one in runs):>13.2f}"]
            cells += [f"{max(one.peak for one in runs) / 1e6:>13,.0f}"]
        ratio = median(one.seconds for one in theirs) / median(one.seconds for one in ours)
        alike = "" if name in OTHER_RULE else f"{same(theirs[0].chosen, ours[0].chosen):.3f}"
        cells += [f"{ratio:>13.1f}", f"{alike:>13}"]
        print(f"  {name:8}" + "".join(cells), flush=True)


def grown(bench: Bench, name: str, given: argparse.Namespace) -> tuple[Size, Measured] | None:
    """The largest size that OpenICL's retriever finishes in time, and what it took there."""
    finished, part = None, 1 << max(0, (given.pool // SMALLEST).bit_length() - 1)
    while part:
        size = given.size.part(part)
        try:
            one = bench.peer(name, size, given.limit)
        except TooLongError:
            break
        except SystemExit as failed:
            print(f"  {PEERS[name][0]} failed at {size}: {last_line(failed)}", flush=True)
            break
        print(f"  {PEERS[name][0]} {size}: {one.seconds:.1f} s", flush=True)
        if one.seconds > given.limit:
            break
        finished, part = (size, one), part // 2
        if one.seconds * GROWTH > given.limit:
            break
    return finished


def in_turns(
    bench: Bench, name: str, size: Size, first: Measured, given: argparse.Namespace
) -> tuple[list[Measured], list[Measured]]:
    """Both at one size, theirs first: that has just been measured."""
    theirs, ours = [first], []
    for turn in range(given.repeats):
        ours.append(bench.ours(name, size))
        if turn + 1 < given.openicl_repeats:
            theirs.append(bench.peer(name, size, 3 * given.limit))
    return theirs, ours


def same(theirs: Iterable[Sequence[int]], ours: Iterable[Sequence[int]]) -> float:
    """The share of their choices that are ours too."""
    pairs = [(set(a), set(b)) for a, b in zip(theirs, ours, strict=True)]
    return sum(len(a & b) for a, b in pairs) / sum(len(a) for a, _ in pairs)


# -- command line


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=SHARED if SHARED.exists() else None, metavar="DIR")
    parser.add_argument("--openicl", type=Path, metavar="VENV", help="has openicl and what it imports (README.md)")
    parser.add_argument("--openicl-repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for each of OpenICL's")
    parser.add_argument("--only", nargs="+", choices=sorted(names("retriever")), default=sorted(names("retriever")))
    parser.add_argument("--only-openicl", action="store_true", help="leave out the table of ours at the full size")
    given = parser.parse_args()
    given.size = Size(given.pool, given.queries)
    if given.pool < SMALLEST or given.queries >= given.pool:
        parser.error(f"--pool is at least {SMALLEST}, and more than --queries")
    if given.data is not None:
        given.data = given.data.resolve()
    if given.openicl is not None:
        given.openicl = given.openicl.absolute() / "bin" / "python"
        if not given.openicl.exists():
            parser.error(f"no Python at {given.openicl}")
    return given


def main() -> None:
    """Measure and print."""
    given = options()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given, Path(folder))
        made = bench.made
        print(
            f"{given.size} (pool x queries), texts of {made['words']:.0f} words from {made['source']}, "
            f"{made['labels']} labels; k = {SHOTS}; {given.repeats} repeats"
        )
        for name in sorted(LEFT_OUT.keys() & set(given.only)):
            print(f"{name} is left out: {LEFT_OUT[name]}")
        if not given.only_openicl:
            all_of_ours(bench, given)
        if given.openicl:
            side_by_side(bench, given)


if __name__ == "__main__":
    main()
