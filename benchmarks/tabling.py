"""What `demonstrations.py` and `alignment.py` share: runs of the tasks in `tasks/`, and tables in a page."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icl_engine as icl
from icl_engine.config.load import load_task

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared" / "data"
SEEDS = (0, 1, 2)
END = "<!-- /table -->"

Settings = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """One line of a table.

    Args:
        title: what it is called there.
        settings: what it changes of the task.
        seeds: of its draws; more than one where the choice is drawn.
    """

    title: str
    settings: Settings
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Args:
        summary: what its `summary.json` holds.
        path: where it is.
    """

    summary: Mapping[str, Any]
    path: Path

    @property
    def metric(self) -> str:
        """The first metric of the task."""
        return str(next(iter(self.summary["metrics"])))

    @property
    def value(self) -> float:
        """The first metric, per cent."""
        return 100 * float(self.summary["metrics"][self.metric]["value"])

    @property
    def interval(self) -> str:
        """The first metric with its interval, per cent."""
        low, high = (100 * bound for bound in self.summary["metrics"][self.metric]["ci95"])
        return f"{self.value:.0f} [{low:.0f}, {high:.0f}]"


class Runs:
    """Runs of the tasks in one work folder; what was answered once is not asked again.

    Args:
        folder: where.
        model: keys of the model that change no answer.
    """

    def __init__(self, folder: Path, model: Settings | None = None) -> None:
        self.folder = folder
        self._model = {f"model.{key}": value for key, value in (model or {}).items()}
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["ICL_CACHE_DIR"] = str(folder / "cache")

    def run(self, task: str, title: str, settings: Settings, limit: int) -> Outcome | str:
        """One run; where it is not possible, why."""
        what = f"{task}, {title.replace('`', '')}"
        out = self.folder / f"{task}-{_slug(title, settings)}-{limit}"
        try:
            result = icl.run(task_file(task), settings=settings | self._model, limit=limit, out=out)
        except icl.IclError as error:
            print(f"{what}: {error}", file=sys.stderr, flush=True)
            return str(error).splitlines()[0]
        outcome = Outcome(result.summary, result.path)
        paid, seconds = result.summary["usage"]["paid"], result.summary["seconds"]
        print(f"{what}: {outcome.interval}, paid {paid}, {seconds:.1f} s", file=sys.stderr, flush=True)
        return outcome


def task_file(task: str) -> Path:
    """Where a task is."""
    return HERE / "tasks" / f"{task}.yaml"


def first_step(task: str) -> Settings:
    """A task's first step of output, as it is written."""
    return dict(load_task(task_file(task)).document.tree["output"][0])


def verbalizer(task: str) -> Settings:
    """The first step where it is a verbalizer; whether its scores are corrected is a table's to say."""
    return {**first_step(task), "calibration": "none"}


def _slug(title: str, settings: Settings) -> str:
    """A run's folder: words to know it by, and what tells it apart."""
    words = "-".join(re.findall(r"[a-z0-9_]+", title.lower()))
    return f"{words[:80]}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]}"


def head(titles: Sequence[str]) -> Iterator[str]:
    """A table's first two lines."""
    yield line(titles)
    yield "|" + "---|" * len(titles)


def line(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def begin(name: str) -> str:
    """The mark before a table."""
    return f"<!-- table: {name} -->"


def put(page: Path, name: str, written: str) -> None:
    """Write a table between its marks."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(begin(name))
    page.write_text(f"{before}{mark}\n\n{written}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
