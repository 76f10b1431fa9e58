"""`audit`: what a run could not read, by shape, and where another way to read its answers says something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.text import LONGEST, text_of
from icl_engine.config.load import TaskLike
from icl_engine.engine.corrected import Corrected, Stages
from icl_engine.engine.mismatch import chain_of
from icl_engine.engine.records import Record
from icl_engine.engine.rescore import manifest_of, rescored_task
from icl_engine.engine.second import Second, apart, readers, value
from icl_engine.engine.shapes import Shape, Shapes, reason
from icl_engine.engine.stored import OWN
from icl_engine.errors import DataError, TaskError, bounded

TARGETS = 200
"""Distinct targets that another way to read has to be able to express."""

READ = {"id", "inputs", "text", "prediction", "target", "status", "trace"}
"""What is read of a line of `predictions.jsonl`."""

ERRORS = 1000
"""Errors that are told apart."""


@dataclass
class Audit:
    """What an audit has found.

    Args:
        path: the run directory.
        task: its task's name.
        model: its model's.
        output: its output steps.
        rows: how many it has.
        status: status -> rows.
        capped: rows whose answer was so long that only its ends were read.
        shapes: of unread answers, the commonest first.
        others: other ways to read the same text: those that are right most often first.
        corrected: for label scores, what each step that corrects them changed.
        withheld: rows that were not answered, a few: id, and why.
        errors: why rows got no answer, and how many.
    """

    path: Path
    task: str
    model: str
    output: list[str]
    rows: int = 0
    status: Counter[str] = field(default_factory=Counter)
    capped: int = 0
    shapes: list[Shape] = field(default_factory=list)
    others: list[Second] = field(default_factory=list)
    corrected: list[Corrected] = field(default_factory=list)
    withheld: list[dict[str, Any]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def record(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "path": str(self.path),
            "task": self.task,
            "model": self.model,
            "output": self.output,
            "rows": self.rows,
            "status": dict(sorted(self.status.items())),
            "capped": self.capped,
            "unparsed": [
                {
                    "shape": s.name,
                    "count": s.count,
                    "reasons": dict(s.reasons.most_common()),
                    "examples": [{"id": row, "text": text} for row, text in s.examples],
                }
                for s in self.shapes
            ],
            "others": [_second_record(other) for other in self.others],
            "corrected": [vars(step) for step in self.corrected],
            "withheld": self.withheld,
            "errors": dict(self.errors.most_common()),
        }


def _second_record(s: Second) -> dict[str, Any]:
    counts = {k: getattr(s, k) for k in ("both", "differ", "only_own", "only_other", "judged")}
    rates = {"accuracy_own": s.right_own, "accuracy_other": s.right_other}
    judged = {k: n / s.judged if s.judged else None for k, n in rates.items()}
    return {"reader": s.name, "alike": s.alike, **counts, **judged, "examples": s.examples}


def audit(directory: str | Path, *, against: Sequence[TaskLike] = (), examples: int = 3) -> Audit:
    """List what a run could not read by shape, and where other ways to read its answers disagree with its own.

    Where targets are known, every registered reader that can express all of them is tried on the same text.

    Args:
        directory: a run directory.
        against: tasks whose output steps read the same text.
        examples: how many are kept of each kind.

    Raises:
        TaskError: it is no run directory, or a task's steps cannot read its answers.

    >>> from tempfile import TemporaryDirectory
    >>> from icl_engine.engine.run import run
    >>> with TemporaryDirectory() as folder:
    ...     never = {"output": [{"use": "regex", "pattern": "neutral"}]}
    ...     first = run("sentiment", model={"use": "fake"}, settings=never, limit=8, out=f"{folder}/a")
    ...     found = audit(first.path)
    >>> [(shape.name, shape.count) for shape in found.shapes]
    [('word', 8)]
    """
    path = Path(directory)
    manifest = manifest_of(path)
    task = manifest["task"]
    own = chain_of(manifest)
    found = Audit(path, str(task["name"]), _model(manifest), [step.use for step in own.steps])
    scored, targets, labels = _first_pass(path)
    found.others = [] if scored else _others(manifest, path, own, against, examples)
    found.others += (
        [] if scored else [Second(name, own, chain, examples) for name, chain in readers(targets, own, labels=labels)]
    )
    if scored and against:
        what = "reads text, and the run holds label scores; align them anew with icl rescore"
        raise TaskError(what, key="--against")
    stages = Stages(manifest, own, examples) if scored else None
    shapes = Shapes()
    most = int(task["model"].get("max_tokens") or 0)
    for row, answers in _joined(path):
        _count(found, row, examples)
        if row["status"] == "failed":
            continue
        cut = any(0 < most <= answer["usage"]["completion_tokens"] for answer in answers)
        if row["status"] == "unparsed":
            shapes.add(row["id"], row["text"] or "", reason(row["trace"]), cut=cut)
        if stages is not None:
            stages.add(row, answers)
        elif row["text"] is not None:
            mine = value(own, row["text"], row["inputs"])
            for other in found.others:
                other.add(row, mine)
    found.shapes = shapes.ranked()
    kept = [other for other in found.others if other.sensible]
    found.others = sorted(apart(kept), key=lambda s: (-s.right_other, -s.both, s.disagreements))
    found.corrected = stages.found if stages is not None else []
    return found


def _model(manifest: Mapping[str, Any]) -> str:
    model = manifest["task"]["model"]
    return str(model.get("name") or model["use"])


def _count(found: Audit, row: Record, examples: int) -> None:
    found.rows += 1
    found.status[row["status"]] += 1
    found.capped += len(row["text"] or "") > LONGEST
    if row["status"] == "abstained" and len(found.withheld) < examples:
        found.withheld.append({"id": row["id"], "why": bounded((row["trace"] or [""])[-1], 200)})
    if row["status"] == "failed":
        error = bounded(str(row.get("error", "")), 200)
        found.errors[error if error in found.errors or len(found.errors) < ERRORS else "(others)"] += 1


def _first_pass(path: Path) -> tuple[bool, list[Any], bool]:
    """Whether the answers are label scores; distinct targets (of rows without, predictions); whether they are labels:
    few for many rows.
    """
    kinds: Counter[bool] = Counter()
    targets: dict[str, Any] = {}
    read: dict[str, Any] = {}
    rows = 0
    for row, answers in _joined(path):
        rows += row["target"] is not None
        kinds.update(answer["logprobs"] is not None for answer in answers)
        for found, known in ((targets, row["target"]), (read, row["prediction"])):
            if known is not None and len(found) < TARGETS:
                found.setdefault(text_of(known), known)
    return kinds[True] > kinds[False], list((targets or read).values()), 2 * len(targets) <= rows


def _others(
    manifest: Mapping[str, Any], path: Path, own: Chain, against: Sequence[TaskLike], examples: int
) -> list[Second]:
    """The ways to read that were asked for by name."""
    found = []
    for task in against:
        chain = Chain(rescored_task(path, manifest, task).task.output)
        title = " → ".join(step.use for step in chain.steps[: chain.reads])
        name = f"{title} of {task}" if isinstance(task, str | Path) else title
        found.append(Second(name, own, chain, examples, asked=True))
    return found


def _joined(path: Path) -> Iterator[tuple[Record, list[Record]]]:
    """Each prediction with the answers to its own questions, both in data order."""
    answers = _Ahead(_rows(path / "answers.jsonl", {"id", "role", "text", "usage"}))
    for row in _rows(path / "predictions.jsonl", READ):
        yield row, ([] if row["status"] == "failed" else answers.of(row["id"]))


class _Ahead:
    """Answers, one row's after the other's."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._own = (record for record in records if record["role"] in (*OWN, "repair"))
        self._next = next(self._own, None)

    def of(self, row: int | str) -> list[Record]:
        found = []
        while self._next is not None and self._next["id"] == row:
            found.append(self._next)
            self._next = next(self._own, None)
            if found and self._next is not None and self._next["role"] == "main":
                break  # the next row may have the same id
        return found


def _rows(path: Path, parts: set[str]) -> Iterator[Record]:
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                row = orjson.loads(line)
                if not isinstance(row, dict) or not row.keys() >= parts:
                    raise DataError("is not a line of a run; run it again", file=path, line=number)
                yield row
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}; run it again", file=path) from error
    except orjson.JSONDecodeError as error:
        raise DataError("is cut off or damaged; run it again", file=path, line=number) from error
