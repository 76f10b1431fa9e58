"""`icl cache`: where answers are kept, how many, and how to have fewer."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_engine.errors import TaskError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from icl_engine.driver.pruning import Pruned, Stats

SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
"""Unit of size -> bytes."""

AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""Unit of age -> seconds."""


def cache(
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Drop the oldest answers until it is no larger: 500MB."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Drop answers that are older: 30d.")
    ] = None,
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Drop all: answers, vectors, what is known of endpoints, what runs have paid."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where answers are kept and how much room they take; drop old ones.

    Units of size: B, KB, MB, GB, TB; of age: s, m, h, d, w. What was dropped is asked and paid for again by the runs
    that need it.
    """
    from icl_engine.paths import cache_dir

    most = None if max_size is None else int(quantity(max_size, SIZES, "--max-size", "500MB"))
    age = None if older_than is None else timedelta(seconds=_seconds(older_than))
    if clear and not (most is None and age is None):
        raise TaskError("drops all answers; leave --max-size and --older-than out", key="--clear")
    folder = cache_dir()
    found, dropped = _prune(folder, most, age, clear=clear)
    if as_json:
        _print_json(folder, found, dropped)
    else:
        _print(folder, found, dropped)


def quantity(text: str, units: Mapping[str, int], option: str, example: str) -> float:
    """A number and its unit, in the unit that is one.

    >>> quantity("1.5 kb", SIZES, "--max-size", "500MB")
    1500.0
    """
    written = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([^\W\d_]+)\s*", text)
    if written is None:
        raise TaskError(f"takes a number and a unit ({', '.join(units)}), as {example}, not {text!r}", key=option)
    number, unit = written.groups()
    known = {name.casefold(): size for name, size in units.items()}
    if unit.casefold() not in known:
        raise TaskError(f"knows no unit {unit!r}{did_you_mean(unit, units)}", key=option)
    return float(number) * known[unit.casefold()]


def _seconds(text: str) -> float:
    seconds = quantity(text, AGES, "--older-than", "30d")
    if seconds > timedelta.max.total_seconds():
        raise TaskError(f"{text} is longer than any answer has been kept", key="--older-than")
    return seconds


def _prune(folder: Path, most: int | None, age: timedelta | None, *, clear: bool) -> tuple[Stats, Pruned | None]:
    """Drop what is to be dropped; returns what the cache holds then, and what was dropped. Nothing is made."""
    from icl_engine.driver import pruning, salvage
    from icl_engine.driver.cache import ANSWERS, Cache

    path = folder / ANSWERS
    asked = clear or most is not None or age is not None
    if clear and folder.is_dir():
        freed = sum(map(salvage.size, _vectors(folder)))
        for file in _vectors(folder):
            salvage.remove(file)
        gone = pruning.clear(folder)
        return pruning.Stats(), pruning.Pruned(gone.answers, gone.bytes + freed)
    if not path.is_file():
        return pruning.Stats(damaged=pruning.damaged(path)), pruning.Pruned(0, 0) if asked else None
    with closing(Cache(folder, reserve=False)) as cache:
        dropped = cache.prune(most, age) if asked else None
        return cache.stats(), dropped


def _vectors(folder: Path) -> list[Path]:
    """The files of encoders' vectors, a damaged one that was moved aside as well."""
    from icl_engine.models.vectors import FILE

    return [path for path in (folder / FILE, folder / f"{FILE}.damaged") if path.exists()]


def _print(folder: Path, found: Stats, dropped: Pruned | None) -> None:
    from icl_engine.driver import salvage
    from icl_engine.driver.cache import ANSWERS

    if dropped is not None:
        print(f"dropped {_answers(dropped.answers)}, freed {size(dropped.bytes)}")
    rows = {"cache": str(folder / ANSWERS)}
    if found.oldest is not None and found.newest is not None:
        rows |= {"answers": f"{found.answers:,}", "size": size(found.bytes)}
        rows |= {"oldest": _when(found.oldest), "newest": _when(found.newest)}
    else:
        rows["answers"] = "none, it is empty"
    if files := _vectors(folder):
        rows["vectors"] = size(sum(map(salvage.size, files)))
    for path in found.damaged:
        rows.setdefault("damaged", "")
        rows["damaged"] += f"{', ' if rows['damaged'] else ''}{path.name} ({size(path.stat().st_size)})"
    for heading, text in rows.items():
        print(f"{heading.ljust(max(map(len, rows)))}  {text}")


def _print_json(folder: Path, found: Stats, dropped: Pruned | None) -> None:
    import orjson

    from icl_engine.driver import salvage
    from icl_engine.driver.cache import ANSWERS

    said: dict[str, Any] = {
        "path": str(folder / ANSWERS),
        "answers": found.answers,
        "bytes": found.bytes,
        "oldest": found.oldest,
        "newest": found.newest,
        "damaged": [str(path) for path in found.damaged],
        "vectors_bytes": sum(map(salvage.size, _vectors(folder))),
    }
    if dropped is not None:
        said["dropped"] = {"answers": dropped.answers, "bytes": dropped.bytes}
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_OMIT_MICROSECONDS
    sys.stdout.buffer.write(orjson.dumps(said, option=options))
    sys.stdout.buffer.flush()


def size(n: int) -> str:
    """Bytes for people.

    >>> size(999), size(1500), size(12_345_678)
    ('999 B', '1.5 KB', '12.3 MB')
    """
    unit, each = next((u, s) for u, s in reversed(SIZES.items()) if n >= s or s == 1)
    return f"{n} B" if each == 1 else f"{n / each:.1f} {unit}"


def _answers(n: int) -> str:
    return f"{n:,} answer{'s' * (n != 1)}"


def _when(stamp: datetime) -> str:
    """A time for people, in their own zone, and how long ago it was."""
    seconds = max(0.0, (datetime.now(stamp.tzinfo) - stamp).total_seconds())
    unit, each = next((u, s) for u, s in reversed(AGES.items()) if seconds >= s or s == 1)
    return f"{stamp.astimezone():%Y-%m-%d %H:%M} ({seconds // each:.0f}{unit} ago)"
