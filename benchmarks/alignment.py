"""What each output alignment is worth on a small model: the tables of the documentation.

    python benchmarks/alignment.py [--data ../shared/data] [--rows 200] [--work DIR] [--threads 1]
        [--tables labels spans summaries default] [--tasks sst2 agnews trec rte cb banking77]
        [--out docs/concepts/calibration.md]

The tasks are those in `benchmarks/tasks`. All runs of a task have the same rows, demonstrations and prompts, so what
differs is what becomes of the answers. Runs and answers are kept in `--work`: running again asks nothing twice; a run
that is not possible is listed with its error. The tables are printed, and with `--out` stand in that page between
``<!-- table: alignment -->`` (or ``<!-- table: default -->``) and ``<!-- /table -->``.

Intervals are 95%: of a figure those of `summary.json`, of a difference those of `icl compare`, which is paired by row.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill

from aligning import FIT, TASKS, Bench, against, alignments, drawn, readings
from tabling import SEEDS, SHARED, Outcome, Runs, Settings, begin, head, line, put, verbalizer

from icl_engine.engine.compare import Pair
from icl_engine.errors import IclError

CHOSEN = 100
"""Test rows for the table of the default."""
READ = 100
"""Test rows of what is read as text."""
NEIGHBOURS = 4
"""Demonstrations that `tfidf` finds."""
MINUS = "−"

READ_CAPTION = {
    "mit_movies": (
        "The answers to MIT Movies and SAMSum are no labels: there is no distribution, and nothing above applies. What "
        "applies are the ways to read; all lines of a table read the same answers. MIT Movies: the first {rows} test "
        "rows, 5 demonstrations drawn at random. `unaligned: drop` leaves out what the query does not say; `reask` "
        "asks again only what could not be read."
    ),
    "samsum": (
        "SAMSum: the first {rows} test rows, ROUGE-L; it has no train split, so two of its last rows are the "
        "demonstrations. No stop is set, and the base model runs on after its summary."
    ),
}

# -- tables


def label_tables(bench: Bench, tasks: Sequence[str]) -> Iterator[str]:
    """Accuracy of each alignment on each task; its difference to none; log-loss and calibration error."""
    found = {task: _aligned(bench, task) for task in tasks}
    titles = [f"{TASKS[task].title} ({bench.rows(task)})" for task in tasks]
    lines = list(alignments({}))
    yield label_caption(tasks)
    yield _table("accuracy %", titles, lines, {task: _intervals(ran) for task, ran in found.items()})
    yield _wrapped(
        "The difference to `none` in points, paired by row. `*`: p < 0.05 by McNemar's test, after Holm's correction "
        "for the number of alignments on that task."
    )
    yield _table("difference", titles, lines[1:], {task: _differences(ran) for task, ran in found.items()})
    yield _wrapped(
        "Log-loss in nats, and in brackets the expected calibration error: whether the probabilities can be believed. "
        "`knn_prompting` gives no probability at all to a label that none of the three nearest rows has, which "
        "costs 36 nats where it is the right one."
    )
    yield _table("log-loss (ECE)", titles, lines, {task: _beliefs(ran) for task, ran in found.items()})


def label_caption(tasks: Sequence[str]) -> str:
    """What the tables of labels rest on."""
    shots = ", ".join(f"{TASKS[task].k} on {TASKS[task].title}" for task in tasks)
    said = [
        f"Accuracy in per cent with Gemma 3 270M, 95% intervals; in brackets how many test rows. Demonstrations are "
        f"drawn at random, balanced, the same in all runs of a task: {shots}. What learns, learns from the "
        f"same {FIT} train rows; the source labels of `label_mapping` are the verbalizer's."
    ]
    if "cb" in tasks:
        said.append("CB has only 56 test rows, of which 5 are neutral.")
    if "banking77" in tasks:
        said.append(
            "On Banking77 the distribution takes a question for each of the 77 labels and each row, train rows and "
            "probes too, so only what needs few of them was run, over rows from all parts of the test split."
        )
    return _wrapped(" ".join(said))


def _aligned(bench: Bench, task: str) -> dict[str, Outcome | str]:
    """Each alignment of a task that is to be tried."""
    only = TASKS[task].steps
    return {
        title: bench.labels(task, title, output, drawn(task))
        for title, output in alignments(verbalizer(task)).items()
        if not only or title == "none" or title.strip("`") in only
    }


def _table(corner: str, titles: Sequence[str], lines: Sequence[str], cells: Mapping[str, Mapping[str, str]]) -> str:
    body = (line([title, *(column.get(title, "–") for column in cells.values())]) for title in lines)
    return "\n".join([*head([corner, *titles]), *body])


def _intervals(ran: Mapping[str, Outcome | str]) -> dict[str, str]:
    return {title: one if isinstance(one, str) else figure(one) for title, one in ran.items()}


def _differences(ran: Mapping[str, Outcome | str]) -> dict[str, str]:
    """Of each run to the first."""
    (_, baseline), *others = ran.items()
    done = {title: one for title, one in others if isinstance(one, Outcome)}
    if not isinstance(baseline, Outcome) or not done:
        return {}
    return {
        title: points(pair, pair.shown)
        for title, pair in zip(done, against(baseline, list(done.values())), strict=True)
    }


def _beliefs(ran: Mapping[str, Outcome | str]) -> dict[str, str]:
    found = {}
    for title, one in ran.items():
        if isinstance(one, Outcome):
            loss, ece = (one.summary["metrics"][metric]["value"] for metric in ("log_loss", "ece"))
            found[title] = f"{loss:.2f} ({ece:.2f})"
    return found


def figure(outcome: Outcome) -> str:
    """A run's first metric with its interval, per cent."""
    low, high = outcome.summary["metrics"][outcome.metric]["ci95"]
    return f"{outcome.value:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def points(pair: Pair, marked: bool = False) -> str:
    """A difference with its interval, in points."""
    low, high = pair.result.ci95
    return f"{_signed(pair.result.difference)} [{_signed(low)}, {_signed(high)}]{'*' if marked else ''}"


def _signed(share: float) -> str:
    rounded = round(100 * share, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def reading_table(bench: Bench, task: str, said: str, limit: int) -> Iterator[str]:
    """The metric of each way to read, its difference to the first, and how many answers were unreadable."""
    yield _wrapped(READ_CAPTION[task].format(rows=min(bench.most, limit)))
    ran = {}
    for title, output in readings(task).items():
        ran[title] = bench.runs.run(task, title, {"output": output}, min(bench.most, limit))
    baseline = next(iter(ran.values()))
    metric = "" if isinstance(baseline, str) else baseline.metric
    rows = list(head([said, f"{metric} %", "difference to the first", "unreadable"]))
    for title, one in ran.items():
        if isinstance(one, str):
            rows.append(line([title, f"not run: {one}", "", ""]))
        else:
            gap = "" if one is baseline or isinstance(baseline, str) else _gap(baseline, one)
            rows.append(line([title, figure(one), gap, str(one.summary["unparsed"])]))
    yield "\n".join(rows)


def _gap(baseline: Outcome, other: Outcome) -> str:
    try:
        return points(against(baseline, [other])[0])
    except IclError as error:
        print(error, file=sys.stderr)
        return "not paired"


def default_table(bench: Bench, tasks: Sequence[str]) -> Iterator[str]:
    """None against batch calibration, by how demonstrations are chosen, and what the engine does of itself."""
    rows = list(head(["task", "demonstrations", "none", "`batch_calibration`", "difference", "nothing said"]))
    near: Settings = {"use": "tfidf", "k": NEIGHBOURS}
    for task in tasks:
        for title, shown, seeds in (
            ("none (zero-shot)", None, (0,)),
            (f"`random`, {TASKS[task].k}, three draws", drawn(task), SEEDS),
            (f"`tfidf`, {NEIGHBOURS}", near, (0,)),
        ):
            rows.append(_chosen(bench, task, title, shown, seeds))
    yield _wrapped(
        f"Accuracy in per cent without and with batch calibration, over the first {CHOSEN} rows at most, with the "
        "paired difference in points and its 95% interval. *Nothing said*: what the engine does where the task says "
        "nothing."
    )
    yield "\n".join(rows)


def _chosen(bench: Bench, task: str, title: str, shown: Settings | None, seeds: Sequence[int]) -> str:
    """One line: none, batch calibration, and the engine's own choice."""
    plain = verbalizer(task)
    left_open = {**plain, "calibration": "auto", "want": "auto"}
    columns: list[list[Outcome]] = []
    outputs = {"none": [plain], "calibrated": [plain, {"use": "batch_calibration"}], "nothing said": [left_open]}
    for name, output in outputs.items():
        ran = [bench.labels(task, f"{title}, {name}, {seed}", output, shown, seed, CHOSEN) for seed in seeds]
        if failed := [one for one in ran if isinstance(one, str)]:
            return line([TASKS[task].title, title, f"not run: {failed[0]}", "", "", ""])
        columns.append([one for one in ran if isinstance(one, Outcome)])
    gaps = [points(against(none, [calibrated])[0]) for none, calibrated in zip(columns[0], columns[1], strict=True)]
    figures = [_mean(column) for column in columns]
    return line([TASKS[task].title, title, figures[0], figures[1], "; ".join(gaps), figures[2]])


def _mean(outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) == 1:
        return f"{outcomes[0].value:.1f}"
    values = [one.value for one in outcomes]
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def _wrapped(text: str) -> str:
    return fill(text, width=120, break_on_hyphens=False)


# -- command line


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--rows", type=int, default=200, help="of each task, at most")
    parser.add_argument("--work", type=Path, default=Path("runs") / "alignment", help="keeps runs and answers")
    parser.add_argument("--threads", type=int, help="of the model; by default one a core")
    names = ["labels", "spans", "summaries", "default"]
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="of labels")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="the page that gets the tables")
    given = parser.parse_args()
    for name in _pages(given.tables) if given.out is not None else ():
        if begin(name) not in given.out.read_text(encoding="utf-8"):
            parser.error(f"{given.out} has no {begin(name)}")
    return given


def _pages(tables: Sequence[str]) -> list[str]:
    """The marks under which the tables stand in the page."""
    return list(dict.fromkeys("default" if name == "default" else "alignment" for name in tables))


def main() -> None:
    """Run all, print the tables, and write them into the page."""
    given = options()
    os.environ["ICL_DATA"] = str(given.data.resolve())
    model = {"threads": given.threads} if given.threads else {}
    bench = Bench(Runs(given.work.resolve(), model), given.data.resolve(), given.rows)
    tables = {
        "labels": lambda: label_tables(bench, given.tasks),
        "spans": lambda: reading_table(bench, "mit_movies", "MIT Movies", READ),
        "summaries": lambda: reading_table(bench, "samsum", "SAMSum", READ),
        "default": lambda: default_table(bench, [task for task in given.tasks if not TASKS[task].steps]),
    }
    written: dict[str, list[str]] = {page: [] for page in _pages(given.tables)}
    for name in given.tables:
        for part in tables[name]():
            print(f"{part}\n", flush=True)
            written[_pages([name])[0]].append(part)
    if given.out is not None:
        for page, parts in written.items():
            put(given.out, page, "\n\n".join(parts))


if __name__ == "__main__":
    main()
