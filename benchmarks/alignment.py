"""What each output alignment is worth on a small model: the tables of the documentation.

    python benchmarks/alignment.py [--data ../shared/data] [--rows 200] [--work DIR] [--threads 1]
        [--tables labels spans summaries default] [--tasks sst2 agnews trec rte cb banking77]
        [--out docs/concepts/alignment.md]

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
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill

from tabling import SEEDS, SHARED, Outcome, Runs, Settings, begin, first_step, head, line, put, verbalizer

from icl_engine.engine.compare import Pair, compare_runs
from icl_engine.errors import IclError

FIT = 128
"""Train rows that a step learns from which learns."""
METRICS = ["accuracy", "log_loss", "ece"]
CHOSEN = 100
"""Test rows for the table of the default."""
NEIGHBOURS = 4
"""Demonstrations that `tfidf` finds."""
MINUS = "−"


@dataclass(frozen=True)
class Labels:
    """A task whose answer is a label.

    Args:
        title: the data set's name.
        rows: how many of its test rows.
        k: how many demonstrations are drawn.
        steps: the alignments that are tried; all where none is named.
    """

    title: str
    rows: int
    k: int
    steps: tuple[str, ...] = ()


TASKS = {
    "sst2": Labels("SST-2", 200, 8),
    "agnews": Labels("AG News", 200, 8),
    "trec": Labels("TREC", 200, 8),
    "rte": Labels("RTE", 200, 4),
    "cb": Labels("CB", 56, 4),
    # Each row takes 46 questions and more: 77 labels of several tokens.
    "banking77": Labels("Banking77", 50, 16, ("contextual_calibration", "batch_calibration")),
}
BY_LABEL = "banking77"
"""Its test rows stand label by label: rows are taken from the whole file."""

Alternatives = Mapping[str, list[Settings]]
"""A line's title -> the output steps."""


# -- what is compared


def alignments(first: Settings) -> Alternatives:
    """A verbalizer's scores as they are, and through each step that corrects them."""
    steps: list[Settings] = [
        {"use": "contextual_calibration"},
        {"use": "domain_calibration"},
        {"use": "batch_calibration"},
        {"use": "batch_calibration", "strength": "fitted", "rows": FIT},
        *({"use": "label_mapping", "kind": kind, "rows": FIT} for kind in ("frequency", "bayesian", "bayesian_plus")),
        {"use": "knn_prompting", "rows": FIT},
        {"use": "temperature", "rows": FIT},
        {"use": "linear", "rows": FIT},
        {"use": "linear", "form": "diagonal", "rows": FIT},
    ]
    found = {"none": [first]}
    found |= {_title(step): [first, step] for step in steps}
    found["`verbalizer`, `normalization: pmi`"] = [{**first, "normalization": "pmi"}]
    return found


def readings(task: str) -> Alternatives:
    """The ways to read what is no label."""
    if task == "samsum":
        line_of_it: Settings = {"use": "regex", "pattern": r"^\s*([^\n]+)", "take": "first"}
        return {"`identity`": [{"use": "identity"}], "`regex`: its first line": [line_of_it]}
    spans = {"use": "spans", "types": first_step(task)["types"]}
    return {
        "`spans`": [spans],
        "`spans`, `nearest: null`": [{**spans, "nearest": None}],
        "`spans`, `unaligned: drop`": [{**spans, "unaligned": "drop"}],
        "`spans`, then `reask`": [spans, {"use": "reask"}],
    }


def _title(step: Settings) -> str:
    keys = [f"`{key}: {value}`" for key, value in step.items() if key not in ("use", "rows")]
    return ", ".join([f"`{step['use']}`", *keys])


# -- runs


@dataclass
class Bench:
    """The runs of one call.

    Args:
        runs: where they are.
        data: the data's folder.
        most: rows, at most.
    """

    runs: Runs
    data: Path
    most: int

    def rows(self, task: str) -> int:
        """How many rows of a task of labels."""
        return min(self.most, TASKS[task].rows)

    def labels(
        self, task: str, title: str, output: list[Settings], shown: Settings | None, seed: int = 0, most: int = 10**6
    ) -> Outcome | str:
        """A run of a task of labels.

        Its labels are called as the verbalizer says them: behind `label_mapping` demonstrations show the task's labels,
        and are then the same as everywhere.
        """
        words = {label: said if isinstance(said, str) else said[0] for label, said in output[0]["labels"].items()}
        scored = {"want": "distribution", **output[0], "labels": {word: word for word in words.values()}}
        settings: Settings = {
            "data.labels": words,
            "input.demonstrations": shown,
            "output": [scored, *output[1:]],
            "metrics": METRICS if scored["want"] == "distribution" else METRICS[:1],
            "run.seed": seed,
        }
        if task == BY_LABEL:
            settings["data.test"] = str(self._spread(task))
        return self.runs.run(task, title, settings, min(most, self.rows(task)))

    def _spread(self, task: str) -> Path:
        """As many test rows as are wanted, at equal distances."""
        lines = (self.data / task / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        count = self.rows(task)
        path = self.runs.folder / f"{task}-{count}.jsonl"
        path.write_text("".join(lines[len(lines) // count // 2 :: len(lines) // count][:count]), encoding="utf-8")
        return path


def drawn(task: str) -> Settings:
    """Demonstrations drawn once a run."""
    return {"use": "random", "k": TASKS[task].k, "balanced": True}


def against(baseline: Outcome, others: Sequence[Outcome]) -> list[Pair]:
    """Each run's first metric, paired with the baseline's."""
    found = compare_runs([baseline.path, *(other.path for other in others)])
    return [pair for pair in found.pairs if pair.metric == baseline.metric]


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
            "On Banking77 the distribution over 77 labels takes 46 questions and more for each row, train rows and "
            "probes too, so only what needs few of them was run."
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
    body = (line([title, *(column.get(title, "") for column in cells.values())]) for title in lines)
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
        "Accuracy in per cent without and with batch calibration, over the first 100 rows at most, with the paired "
        "difference in points and its 95% interval. *Nothing said*: what the engine does where the task says nothing."
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
        "spans": lambda: reading_table(bench, "mit_movies", "MIT Movies", 100),
        "summaries": lambda: reading_table(bench, "samsum", "SAMSum", 100),
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
