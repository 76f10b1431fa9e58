"""The text of a first task: what was guessed of a table, as YAML for people to read and change."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import Any

import orjson

from icl_engine.alignment.text import text_of
from icl_engine.config.calibration import even
from icl_engine.manipulation.template import Template
from icl_engine.starter.guess import REASON, Guess
from icl_engine.starter.split import LIMIT, Row, most_demonstrations
from icl_engine.starter.wording import BARE, LABELS_SHOWN, coded, comment, instruction, scalar, template, words

K = 8
ROOM = 6000
"""Characters that all demonstrations together have room for, about."""

CONTEXT = 4096
MOST_CONTEXT = 32768
BYTES_A_TOKEN = 3
"""At least, in texts of any language."""


@dataclass(frozen=True)
class Side:
    """A split: its path as the task names it, its rows, and whether the file is to be written."""

    path: str
    rows: Sequence[Row]
    new: bool = True


@dataclass(frozen=True)
class Starter:
    """A first task.

    Args:
        name: of the task.
        source: the name of the file it was guessed from.
        guess: what was guessed.
        train: the pool for demonstrations.
        test: the rows to predict.
        model: the model's spec.
        seed: of the split and of the run's draws.
    """

    name: str
    source: str
    guess: Guess
    train: Side
    test: Side
    model: Mapping[str, Any]
    seed: int = 0

    def demonstrations(self) -> tuple[int, bool]:
        """How many demonstrations, and whether as many of each label."""
        wanted = max(K, len(self.guess.labels)) if len(self.guess.labels) <= LABELS_SHOWN else K
        size = max(1, round(fmean(map(len, self._shown()))))
        wanted = max(1, min(wanted, ROOM // size))
        most = most_demonstrations(self.train.rows, self.guess)
        balanced = self.guess.kind == "labels" and most.balanced > 0
        return min(wanted, most.balanced if balanced else most.different), balanced

    def _shown(self) -> list[str]:
        """Train rows as demonstrations show them, a thousand at the most."""
        rows = self.train.rows
        rows = rows if len(rows) <= 1000 else random.Random(self.seed).sample(rows, 1000)
        made, spoken = Template(template(self.guess)), words(self.guess.labels)
        shown = []
        for row in rows:
            answer = text_of(row[self.guess.target])
            shown.append(made.example(_inputs(row, self.guess)).filled(spoken.get(answer, answer)) + "\n\n")
        return shown

    def text(self) -> str:
        """The task file."""
        parts = [self._head(), self._data(), self._input(), self._model(), self._output(), self._run()]
        return "\n".join(line for part in parts for line in part) + "\n"

    def _head(self) -> list[str]:
        return [
            f"# Guessed by `icl init` from {comment(self.source)}: it runs as it is; change what you mean differently.",
            f"name: {scalar(self.name)}",
        ]

    def _data(self) -> list[str]:
        guess = self.guess
        lines = [
            "data:",
            f"  train: {scalar(self.train.path)}  # {_counted(self.train.rows)}: the pool for demonstrations",
            f"  test: {scalar(self.test.path)}  # {_counted(self.test.rows)}: what is predicted and scored",
            f"  target: {scalar(guess.target)}  # the answer's field ({comment(guess.why)})",
        ]
        if coded(guess):
            some = ", ".join(f"{label}: name" for label in islice(guess.labels, 3))
            some = "0: negative, 1: positive" if list(guess.labels) == ["0", "1"] else some
            lines.append(
                f"  # If the numbers have names: labels: {{{some}}}, and the names in their place under output"
            )
        lines += [f"  # Not shown to the model: {comment(name)} ({why})" for name, why in guess.left_out.items()]
        return lines

    def _input(self) -> list[str]:
        k, balanced = self.demonstrations()
        shape = f"{{use: random, k: {k}, balanced: true}}" if balanced else f"{{use: random, k: {k}}}"
        lines = [
            "input:",
            "  template:",
            "    inline: |  # one row: {{ field }} stands for its text, {{ answer }} for its answer",
            *(f"      {line}" for line in template(self.guess).split("\n")),
            "  # What you would tell a person; the model knows the task from this and the demonstrations.",
            f"  instruction: {scalar(instruction(self.guess, words(self.guess.labels)))}",
            f"  demonstrations: {shape}  # solved train rows at the head of the prompt",
        ]
        return [*lines, *self._rationale()]

    def _rationale(self) -> list[str]:
        """How to have the model reason first, where the table holds rationales."""
        reasons = [name for name, why in self.guess.left_out.items() if why == REASON and BARE.fullmatch(name)]
        if self.guess.kind == "labels" or not reasons:
            return []
        return [
            '  # To have the model reason first: under model stop: ["\\n\\n"] and max_tokens: 300, and here',
            f'  # answer: "{{{{ {reasons[0]} }}}} So the answer is {{{{ answer_text }}}}."',
        ]

    def _model(self) -> list[str]:
        spec = dict(self.model)
        why = {}
        if self.guess.kind != "labels":
            answers = [text_of(row[self.guess.target]) for side in (self.train, self.test) for row in side.rows]
            longest = max(len(answer.encode()) for answer in answers)
            spec["max_tokens"] = min(512, max(16, round(1.25 * longest / BYTES_A_TOKEN)))
            why["max_tokens"] = f"the longest answer seen has {max(map(len, answers)):,} characters"
            lines = self.guess.kind == "text" and any("\n" in answer.rstrip() for answer in answers)
            spec["stop"] = ["\n\n" if lines else "\n"]
            why["stop"] = "an answer ends at a blank line" if lines else "an answer is one line"
        context = self._context(spec.get("max_tokens", 16))
        if spec["use"] == "embedded" and context > CONTEXT:
            spec["context"] = context
            why["context"] = "tokens: the longest rows need more than the usual 4096"
        if spec.keys() == {"use", "name"} and spec["use"] == "embedded":
            return [f"model: {scalar(spec['name'])}  # icl models lists others; or a .gguf file, or a server"]
        return ["model:", *(_key(name, value, why.get(name)) for name, value in spec.items())]

    def _context(self, max_tokens: int) -> int:
        """Tokens for the longest prompt there may be and its answer: a power of two, within bounds."""
        k, _ = self.demonstrations()
        sizes = sorted((len(text.encode()) for text in self._shown()), reverse=True)
        query = max(sum(len(str(row[name]).encode()) for name in self.guess.inputs) for row in self.test.rows)
        needed = (sum(sizes[:k]) + query) // BYTES_A_TOKEN + max_tokens + 256
        return min(MOST_CONTEXT, 1 << (needed - 1).bit_length())

    def _output(self) -> list[str]:
        if self.guess.kind != "labels":
            step, metrics = READERS[self.guess.kind]
            if self.guess.kind == "json" and self._spans():
                metrics = (
                    "[accuracy, span_f1]  # span_f1 counts each span, accuracy only answers that are right as a whole"
                )
            return ["output:", f"  - {step}", f"metrics: {metrics}"]
        lines = [
            "output:",
            "  - use: verbalizer",
            "    labels:  # label: the word for it that the model reads and says",
        ]
        lines += [f"      {scalar(label)}: {scalar(word)}" for label, word in words(self.guess.labels).items()]
        if even(self.guess.labels.values()):
            lines += ["  - use: batch_calibration  # takes out the model's leaning to some labels; needs no answers"]
        else:
            lines += ["  # no batch_calibration: it takes labels for equally frequent, and here they are not"]
        return [*lines, "metrics: [accuracy, macro_f1]"]

    def _spans(self) -> bool:
        """Whether the answers are lists of typed spans."""
        values = [row[self.guess.target] for row in self.train.rows]
        lists = [orjson.loads(value) if isinstance(value, str) else value for value in values]
        items = [item for several in lists for item in (several if isinstance(several, list) else [several])]
        return bool(items) and all(isinstance(item, dict) and {"type", "text"} <= item.keys() for item in items)

    def _run(self) -> list[str]:
        rows = len(self.test.rows)
        if rows <= LIMIT:
            return [f"run: {{seed: {self.seed}}}"]
        return [f"run: {{seed: {self.seed}, limit: {LIMIT}}}  # limit: only the first {LIMIT} of {rows:,} test rows"]


READERS = {
    "number": ("use: number  # the last number in what the model says", "[accuracy]"),
    "json": ("use: json  # the first JSON list or object in what the model says", "[accuracy]"),
    "text": ("use: identity  # what the model says, as it is", "[token_f1]"),
}


def _inputs(row: Row, guess: Guess) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != guess.target}


def _counted(rows: Sequence[Row]) -> str:
    return f"{len(rows):,} row{'s' if len(rows) != 1 else ''}"


def _key(name: str, value: Any, why: str | None) -> str:
    shown = scalar(value) if isinstance(value, str) else json.dumps(value)
    return f"  {name}: {shown}" + (f"  # {why}" if why else "")
