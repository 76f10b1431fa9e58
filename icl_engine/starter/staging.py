"""New files, all or none: written and tried out in a hidden folder beside their place, then moved."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from icl_engine.config.load import build, load_task
from icl_engine.engine.survey import survey
from icl_engine.errors import TaskError

MOST_TRIED = 20_000
"""Rows that are looked at: what is wrong with a guess shows in far fewer."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder for files that will be moved to `out`; it goes away, and `out` too where it was made for nothing.

    Raises:
        TaskError: something cannot be written.
    """
    made = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Inside `out`, so that moving is renaming: a file appears whole.
        with tempfile.TemporaryDirectory(dir=out, prefix=".icl-init-") as folder:
            yield Path(folder)
    except OSError as error:
        raise TaskError(f"cannot be written: {error.strerror or error}", file=error.filename or out) from error
    finally:
        for path in made:
            with suppress(OSError):  # something stands in it: it stays
                path.rmdir()


def refuse_overwriting(files: Sequence[Path], sources: Sequence[Path], *, force: bool) -> None:
    """See that writing destroys nothing the user did not mean.

    Raises:
        TaskError: a file exists and `force` is not given, or it is one of the sources.
    """
    origins = {source.resolve() for source in sources}
    for file in files:
        if file.resolve() in origins:
            raise TaskError("would be overwritten by what is made of it; give another --name or --out", file=file)
        if file.is_dir():
            raise TaskError("is a folder; give another --name or --out", file=file)
        if file.exists() and not force:
            raise TaskError("exists; --force overwrites it, --name or --out writes elsewhere", file=file)


def try_out(task: Path, settings: Mapping[str, str], *, fake: bool) -> None:
    """Load a staged task and look at its rows, as `icl run` does before it asks the model anything.

    Args:
        task: the task file.
        settings: where its data stands for now.
        fake: leave the task's own model out of it.
    """
    loaded = load_task(task, settings=settings, model={"use": "fake"} if fake else None)
    survey(loaded, build(loaded), MOST_TRIED)


def next_steps(written: Sequence[Path], task: Path) -> Iterator[str]:
    """What was written, and what to do with it."""
    yield f"wrote {', '.join(map(str, written))}"
    yield "next:"
    yield f"  icl show {shlex.quote(str(task))}"
    yield f"  icl run {shlex.quote(str(task))}"


def place(stage: Path, out: Path) -> list[Path]:
    """Move every staged file to its place under `out`; where one cannot be moved, all is put back as it was.

    Returns:
        The files, the task first.
    """
    found = [path for path in stage.rglob("*") if path.is_file()]
    # The task last: where it stands, all it needs stands too.
    staged_files = sorted(found, key=lambda path: (path.suffix == ".yaml", str(path)))
    undo: list[tuple[Path, Path | None]] = []
    with tempfile.TemporaryDirectory(dir=out, prefix=".icl-init-old-") as old:
        try:
            for number, source in enumerate(staged_files):
                final = out / source.relative_to(stage)
                final.parent.mkdir(parents=True, exist_ok=True)
                kept = Path(old) / str(number) if final.exists() else None
                if kept is not None:
                    os.replace(final, kept)
                undo.append((final, kept))
                os.replace(source, final)
        except BaseException:
            for final, kept in reversed(undo):
                _put_back(final, kept, out)
            raise
    return [out / path.relative_to(stage) for path in (staged_files[-1:] + staged_files[:-1])]


def _put_back(final: Path, kept: Path | None, out: Path) -> None:
    if kept is not None:
        os.replace(kept, final)
        return
    final.unlink(missing_ok=True)
    for folder in final.parents:
        if folder == out:
            return
        with suppress(OSError):
            folder.rmdir()
