"""The work of `icl init DATA`: read, guess, split, write, try out, move into place, and say what was done."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from icl_engine.config.document import VARIABLE
from icl_engine.data.formats import READERS, rows
from icl_engine.errors import DataError, TaskError, bounded, did_you_mean
from icl_engine.models.embedded import ENGINE
from icl_engine.models.gguf import PACKAGED
from icl_engine.starter.column import Column, columns
from icl_engine.starter.guess import Guess, guess, likely_target
from icl_engine.starter.split import LIMIT, Row, Table, key_of, one_sided, renamed, safe_name, split, usable
from icl_engine.starter.staging import next_steps, place, refuse_overwriting, staged, try_out
from icl_engine.starter.text import Side, Starter
from icl_engine.starter.wording import coded

MOST_ROWS = 200_000
DEFAULT_MODEL = "gemma-3-270m"
GET_ENGINE = "pip install 'icl-engine[local]'"
NAME = re.compile(r"\w[\w .+-]*")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".parquet")


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; `ask` (fields, guess) asks which field is the answer, None asks nothing."""

    data: Path
    target: str | None = None
    name: str | None = None
    test: Path | None = None
    model: str | None = None
    base_url: str | None = None
    out: Path = Path()
    seed: int = 0
    force: bool = False
    ask: Callable[[list[str], str], str] | None = None


@dataclass(frozen=True)
class Source:
    """A file of the user's and its rows; `whole` unless these are not all of them, or not under the file's names."""

    path: Path
    rows: Sequence[Row]
    whole: bool = True


def start(wanted: Wanted) -> Iterator[str]:
    """Write a task guessed from a table; yields what was guessed and written, for the user, once all is done.

    Raises:
        TaskError: nothing was written.
    """
    name = task_name(wanted.name, wanted.data)
    ends = (".yaml",) if wanted.test else (".yaml", ".train.jsonl", ".test.jsonl")
    mine = [path for path in (wanted.data, wanted.test) if path is not None]
    refuse_overwriting([wanted.out / f"{name}{end}" for end in ends], mine, force=wanted.force)
    spec, install = _model(wanted)
    sources = [_source(path) for path in mine]
    found, sources = _guessed(wanted, sources)
    sides, say = _cut(wanted, name, found, sources[0]) if len(sources) == 1 else _own(wanted, name, found, sources)
    starter = Starter(name, wanted.data.name, found, *sides, spec, wanted.seed)
    new = {side.path: _jsonl(side.rows) for side in sides if side.new}
    refuse_overwriting([wanted.out / file for file in new], mine, force=wanted.force)
    with staged(wanted.out) as stage:
        for file, content in {f"{name}.yaml": starter.text().encode(), **new}.items():
            (stage / file).write_bytes(content)
        # The staged task stands one folder below its place.
        keys = zip(("data.train", "data.test"), sides, strict=True)
        here = {key: str(Path("..") / side.path) for key, side in keys if not side.new}
        try:
            try_out(stage / f"{name}.yaml", here, fake=install is not None)
        except TaskError as error:
            raise _at_home(error, stage, wanted) from error
        written = place(stage, wanted.out)
    yield from (f"{source.path}: {_counted(len(source.rows))}" for source in sources)
    yield from (*_told(found), *say)
    yield from next_steps(written, wanted.out / f"{name}.yaml")
    if install is not None:
        yield f"the model {spec['name']} is not installed here; before icl run: {install}"


def task_name(given: str | None, data: Path) -> str:
    """The task's name: as given, else the data file's without its endings.

    >>> task_name(None, Path("data/movie reviews.csv")), task_name(None, Path("*.jsonl.gz"))
    ('movie reviews', 'task')
    """
    if given is not None:
        if not NAME.fullmatch(given):
            raise TaskError(f"takes a plain name (letters, digits, - . _), not {bounded(given, 60)!r}", key="--name")
        return given
    stem = data.name
    while (end := Path(stem).suffix).lower() in (*READERS, *PACKED):
        stem = stem.removesuffix(end)
    plain = re.sub(r"[^\w .+-]+", "-", stem).strip("-. +")
    return plain if NAME.fullmatch(plain) else "task"


def _model(wanted: Wanted) -> tuple[dict[str, Any], str | None]:
    """The model's spec, and the command that installs what is missing for it."""
    name = wanted.model or DEFAULT_MODEL
    if wanted.base_url is not None:
        if wanted.model is None:
            raise TaskError("--base-url needs the model's name on the server", key="--model")
        return {"use": "vllm", "base_url": wanted.base_url, "name": name}, None
    engine = None if find_spec(ENGINE) else GET_ENGINE
    if name in PACKAGED:
        return {"use": "embedded", "name": name}, engine if PACKAGED[name].present else PACKAGED[name].install
    path = Path(name).expanduser()
    if not path.is_file():
        near = did_you_mean(name, PACKAGED)
        raise TaskError(
            f"no model file {bounded(name, 100)!r}{near}; for a server's model add --base-url", key="--model"
        )
    spelt = str(path) if path.is_absolute() else os.path.relpath(path, wanted.out)
    # With a slash it is a path to whoever reads the task.
    return {"use": "embedded", "name": spelt if "/" in spelt or spelt.endswith(".gguf") else f"./{spelt}"}, engine


def _at_home(error: TaskError, stage: Path, wanted: Wanted) -> TaskError:
    """A mistake in a staged file, told of what the user gave."""
    if error.key == "model.base_url":
        return TaskError(error.what, key="--base-url")
    if error.file is None or not Path(error.file).is_relative_to(stage):
        return error
    return TaskError(f"what was guessed does not run: {error.key or 'a row'}: {error.what}", file=wanted.data)


def _source(path: Path) -> Source:
    found: list[Row] = [row for _, row in islice(rows(path), MOST_ROWS + 1)]
    if not found:
        raise DataError("has no rows", file=path)
    return Source(path, found[:MOST_ROWS], len(found) <= MOST_ROWS)


def _guessed(wanted: Wanted, sources: Sequence[Source]) -> tuple[Guess, list[Source]]:
    """What is guessed of the tables together, and the tables with a name for the answer that a task can hold."""
    table = columns([row for source in sources for row in source.rows])
    stored, why = _target(wanted, table)
    target = safe_name(stored, (column.name for column in table))
    if target != stored:
        why = f"{why}; the file calls it {bounded(stored, 60)}"
        table = [replace(column, name=target) if column.name == stored else column for column in table]
        sources = [Source(source.path, renamed(source.rows, stored, target), whole=False) for source in sources]
    lacking = _lacking(sources)
    if target in lacking:
        raise DataError(f"there is no field {bounded(target, 60)!r}", file=lacking[target])
    found = guess([column for column in table if column.name not in lacking], target, why, wanted.data)
    absent = {name: f"not in {bounded(path.name, 60)}" for name, path in lacking.items()}
    return replace(found, left_out={**found.left_out, **absent}), list(sources)


def _target(wanted: Wanted, table: Sequence[Column]) -> tuple[str, str]:
    """The answer's field, and how it was found."""
    if wanted.target is not None:
        return wanted.target, "as you said"
    if len(table) < 2:
        return table[0].name if table else "", "the only field"
    likely, why = likely_target(table)
    if wanted.ask is None:
        return likely.name, why
    said = wanted.ask([column.name for column in table], likely.name)
    return said, why if said == likely.name else "as you said"


def _lacking(sources: Sequence[Source]) -> dict[str, Path]:
    """The fields that not every file has, and a file that lacks them."""
    names = [{name for row in source.rows for name in row} for source in sources]
    pairs = zip(sources, names, strict=True)
    return {name: source.path for source, own in pairs for name in sorted(set().union(*names) - own)}


def _cut(wanted: Wanted, name: str, found: Guess, source: Source) -> tuple[tuple[Side, Side], list[str]]:
    """The splits of one table, both to be written, and what is to be said of them."""
    table = usable(source.rows, found, distinct=True)
    try:
        train, test = split(table, found, wanted.seed)
    except DataError as error:
        raise DataError(error.what, file=source.path) from None
    say = _dropped(source, table)
    say.append(f"split by seed {wanted.seed}: {len(train):,} train, {len(test):,} test rows; no input is in both")
    if found.labels and len(test) > LIMIT and one_sided(test, found.target):
        test = random.Random(wanted.seed).sample(test, len(test))
        say.append("the file is sorted by its answers, so the test rows are shuffled: their first stand for all")
    return (Side(f"{name}.train.jsonl", train, True), Side(f"{name}.test.jsonl", test, True)), say


def _own(wanted: Wanted, name: str, found: Guess, sources: Sequence[Source]) -> tuple[tuple[Side, Side], list[str]]:
    """The user's own splits: the files as they are, or mended copies where they would stop the run."""
    sides, say = [], []
    for end, source in zip(("train", "test"), sources, strict=True):
        table = usable(source.rows, found, distinct=False)
        if not table.rows:
            raise DataError(f"no row has an answer in {bounded(found.target, 60)!r}", file=source.path)
        spelt = _relative(source.path, wanted.out)
        keep = spelt is not None and source.whole and not table.mended
        sides.append(Side(spelt if keep and spelt else f"{name}.{end}.jsonl", table.rows, not keep))
        say += _dropped(source, table)
    train, test = sides
    known = {key_of(row, found) for row in train.rows}
    shared = sum(key_of(row, found) in known for row in test.rows)
    if shared:
        say.append(f"{_counted(shared)} of {sources[1].path.name} have an input that is in {sources[0].path.name} too")
    if found.labels and len(test.rows) > LIMIT and one_sided(test.rows, found.target):
        say.append(f"{sources[1].path.name} is sorted by its answers; set run.limit to null, or shuffle it")
    return (train, test), say


def _relative(path: Path, out: Path) -> str | None:
    """A file as a task in `out` names it; None where a task would read the path as something else."""
    spelt = str(path) if path.is_absolute() else os.path.relpath(path, out)
    return None if VARIABLE.search(spelt) or "://" in spelt or spelt.startswith("~") else spelt


def _jsonl(found: Sequence[Row]) -> bytes:
    try:
        return b"".join(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE) for row in found)
    except TypeError as error:
        raise DataError(f"a row cannot be written as JSON: {bounded(str(error))}") from error


def _counted(number: int) -> str:
    return f"{number:,} row{'s' if number != 1 else ''}"


def _dropped(source: Source, table: Table) -> list[str]:
    """Which rows of a file are not used."""
    say = []
    if len(source.rows) == MOST_ROWS and not source.whole:
        say.append(f"{source.path.name} is longer; only its first {MOST_ROWS:,} rows are used")
    if table.unanswered:
        say.append(f"left out of {source.path.name}: {_counted(table.unanswered)} without an answer")
    if table.doubles:
        say.append(
            f"left out of {source.path.name}: {table.doubles:,} exact duplicate{'s' if table.doubles > 1 else ''}"
        )
    return say


def _told(found: Guess) -> list[str]:
    """The guess, in plain lines."""
    kind = {"number": "numbers", "json": "JSON", "text": "free text"}.get(found.kind, f"{len(found.labels)} labels")
    if found.labels:
        first = [f"{bounded(label, 40)} {count:,}" for label, count in islice(found.labels.items(), 8)]
        kind += f" ({', '.join(first)}{', …' if len(found.labels) > 8 else ''})"
    say = [
        f"answer: {bounded(found.target, 60)}, {found.why}: {kind}",
        f"shown to the model: {', '.join(bounded(name, 60) for name in found.inputs)}",
    ]
    if found.left_out:
        say.append("not shown: " + ", ".join(f"{bounded(name, 60)} ({why})" for name, why in found.left_out.items()))
    if coded(found):
        say.append("the labels are numbers: if they have names, give them (data.labels, see the comment in the task)")
    alike = _alike(found)
    if alike:
        say.append(f"the labels {alike[0]!r} and {alike[1]!r} differ in case or space only; data.labels can join them")
    return say


def _alike(found: Guess) -> tuple[str, str] | None:
    """Two labels that are probably one."""
    seen: dict[str, str] = {}
    for label in found.labels:
        other = seen.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            return bounded(other, 40), bounded(label, 40)
    return None
