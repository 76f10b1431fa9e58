"""What each way to choose, to order and to reason is worth on a small model: the tables of the documentation.

    python benchmarks/demonstrations.py [--data ../shared/data] [--rows 100] [--problems 50] [--work DIR]
        [--tables retrievers orders reasoning] [--tasks sst2 agnews trec] [--out docs/concepts/demonstrations.md]

The tasks are those in `benchmarks/tasks`; every run is theirs with the settings that this file names, over their first
test rows. Runs and answers are kept in `--work`, so that running again asks nothing twice; a run that is not possible
is listed with its error. The tables are printed, and with `--out` stand in that page between ``<!-- table:
demonstrations -->`` and ``<!-- /table -->``.

Intervals are those of `summary.json` (95%). Where a choice is drawn by seed, the mean and the standard deviation over
three seeds are told instead.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

from tabling import SEEDS, SHARED, Outcome, Runs, Settings, Way, begin, head, line, put, verbalizer

TITLES = {"sst2": "SST-2", "agnews": "AG News", "trec": "TREC"}
SHOTS = {"sst2": 4, "agnews": 4, "trec": 4}
ENCODER = "all-MiniLM-L6-v2"
TABLE = "demonstrations"

# -- what is compared


def retrievers(k: int, labels: int) -> list[Way]:
    """Each retriever with so many demonstrations, for so many labels."""

    def way(title: str, use: str, *, seeds: tuple[int, ...] = (0,), **keys: Any) -> Way:
        return Way(title, {"input.demonstrations": {"use": use, **({"k": k} | keys)}}, seeds)

    return [
        Way("none (zero-shot)", {"input.demonstrations": None}),
        way("`random`", "random", seeds=SEEDS),
        way("`random`, `balanced: true`", "random", balanced=True, seeds=SEEDS),
        way("`bm25`", "bm25"),
        way("`tfidf`", "tfidf"),
        way("`tfidf`, `prefix: shared`", "tfidf", prefix="shared"),
        way("`knn`", "knn", encoder=ENCODER),
        way("`knn`, `encoder: tfidf`", "knn", encoder="tfidf"),
        way("`mmr`", "mmr", encoder=ENCODER),
        way("`dpp`", "dpp", encoder=ENCODER),
        way("`per_label`", "per_label", k=max(1, k // labels), encoder=ENCODER),
        way("`hybrid`", "hybrid", of=["bm25", {"use": "knn", "encoder": ENCODER}]),
        way("`votek`", "votek", encoder=ENCODER),
        way("`cluster`", "cluster", encoder=ENCODER),
        way("`mdl`, `sets: 3`", "mdl", encoder=ENCODER, sets=3),
    ]


def orders(k: int) -> list[Way]:
    """Each order of what `knn` finds."""
    named = ["as_retrieved", "similarity", "random", "label_interleaved"]
    by_entropy = [{"use": "entropy", "measure": measure} for measure in ("global", "local")]
    found: list[tuple[str, Any]] = [(f"`{name}`", name) for name in named]
    found += [(f"`entropy`, `measure: {order['measure']}`", order) for order in by_entropy]
    knn = {"use": "knn", "k": k, "encoder": ENCODER}
    return [
        Way(title, {"input.demonstrations": {**knn, "order": order}}, SEEDS if order == "random" else (0,))
        for title, order in found
    ]


def reasoning() -> list[Way]:
    """With and without a chain of thought."""
    number = {"use": "number", "take": "first"}
    alone: Settings = {"input.demonstrations": None, "input.answer": None, "output": [number]}
    cot = {
        "use": "zero_shot",
        "cue": "Let's think step by step.",
        "then": "Therefore, the answer is",
        "max_tokens": 96,
    }
    voted = [{"use": "after", "marker": "The answer is"}, number, {"use": "vote", "samples": 5}]
    return [
        Way("zero-shot", {**alone, "model.max_tokens": 16}),
        Way("zero-shot, chain of thought in two calls", {**alone, "model.max_tokens": 16, "input.cot": cot}),
        Way("4-shot, chain of thought", {}),
        Way("the same, self-consistency over 5 samples", {"output": voted, "model.temperature": 0.7}),
    ]


# -- tables


def retriever_table(runs: Runs, tasks: Sequence[str], limit: int) -> Iterator[str]:
    """Accuracy of each retriever on each task, with plain label scores and calibrated."""
    heads = [f"{TITLES[task]}, {kind}" for task in tasks for kind in ("plain", "calibrated")]
    yield from head(["demonstrations", *heads])
    ways = {task: retrievers(SHOTS[task], len(verbalizer(task)["labels"])) for task in tasks}
    for lines in zip(*ways.values(), strict=True):
        cells = [
            _cell(runs, task, way, output, limit)
            for task, way in zip(tasks, lines, strict=True)
            for output in ([verbalizer(task)], [verbalizer(task), {"use": "batch_calibration"}])
        ]
        yield line([lines[0].title, *cells])


def order_table(runs: Runs, limit: int) -> Iterator[str]:
    """Accuracy of each order on SST-2."""
    yield from head(["order", "SST-2, plain", "SST-2, calibrated"])
    plain = verbalizer("sst2")
    for way in orders(SHOTS["sst2"]):
        outputs = ([plain], [plain, {"use": "batch_calibration"}])
        yield line([way.title, *(_cell(runs, "sst2", way, output, limit) for output in outputs)])


def reasoning_table(runs: Runs, limit: int) -> Iterator[str]:
    """Accuracy and cost of each way to reason."""
    yield from head(["GSM8K", "accuracy %", "unreadable", "requests", "prompt tokens", "answer tokens"])
    for way in reasoning():
        found = runs.run("gsm8k", way.title, way.settings, limit)
        if isinstance(found, str):
            yield line([way.title, f"not run: {found}", *[""] * 4])
            continue
        usage = found.summary["usage"]
        counts = (usage["requests"], usage["prompt_tokens"], usage["completion_tokens"])
        cells = [found.interval, str(found.summary["unparsed"]), *(f"{count:,}" for count in counts)]
        yield line([way.title, *cells])


def _cell(runs: Runs, task: str, way: Way, output: list[Settings], limit: int) -> str:
    """Accuracy of one way, over its seeds."""
    found = []
    for seed in way.seeds:
        title = f"{way.title}, seed {seed}, {output[-1]['use']}"
        found.append(runs.run(task, title, {**way.settings, "output": output, "run.seed": seed}, limit))
    for one in found:
        if isinstance(one, str):
            return f"not run: {one}"
    outcomes = [one for one in found if isinstance(one, Outcome)]
    if len(outcomes) == 1:
        return outcomes[0].interval
    values = [one.value for one in outcomes]
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def caption(tasks: Sequence[str], limit: int, problems: int) -> str:
    """What the tables rest on."""
    shots = ", ".join(f"{SHOTS[task]} on {TITLES[task]}" for task in tasks)
    return fill(
        f"Accuracy in per cent with Gemma 3 270M on the first {limit} test rows (GSM8K: {problems}), with 95% "
        f"intervals, or mean ± standard deviation over {len(SEEDS)} seeds. Demonstrations: {shots}; vectors by "
        f"{ENCODER} where no encoder is named. *Plain*: label scores as the model gives them; *calibrated*: by "
        "batch calibration.",
        width=120,
        break_on_hyphens=False,
    )


# -- command line


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--problems", type=int, default=50, help="rows of GSM8K")
    parser.add_argument("--work", type=Path, default=Path("runs") / "demonstrations", help="keeps runs and answers")
    names = ["retrievers", "orders", "reasoning"]
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--tasks", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--out", type=Path, metavar="PAGE", help="the page that gets the tables")
    given = parser.parse_args()
    if given.out is not None and begin(TABLE) not in given.out.read_text(encoding="utf-8"):
        parser.error(f"{given.out} has no {begin(TABLE)}")
    return given


def main() -> None:
    """Run all, print the tables, and write them into the page."""
    given = options()
    os.environ["ICL_DATA"] = str(given.data.resolve())
    runs = Runs(given.work.resolve())
    parts = [caption(given.tasks, given.rows, given.problems)]
    tables = {
        "retrievers": lambda: retriever_table(runs, given.tasks, given.rows),
        "orders": lambda: order_table(runs, given.rows),
        "reasoning": lambda: reasoning_table(runs, given.problems),
    }
    for name in given.tables:
        parts.append("\n".join(tables[name]()))
        print(f"{parts[-1]}\n", flush=True)
    if given.out is not None:
        put(given.out, TABLE, "\n\n".join(parts))


if __name__ == "__main__":
    main()
