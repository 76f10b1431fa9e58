"""What `alignment.py` compares: tasks, output steps, and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabling import Outcome, Runs, Settings, first_step

from icl_engine.engine.compare import Pair, compare_runs

FIT = 128
"""Train rows that a step learns from which learns."""
METRICS = ["accuracy", "log_loss", "ece"]


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
    # A row takes a question for each label: these have several tokens.
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
