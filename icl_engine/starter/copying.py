"""The work of `icl init --from TASK`: a shipped task with its data and template, to be changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icl_engine.config.document import read
from icl_engine.errors import TaskError, did_you_mean
from icl_engine.paths import shipped
from icl_engine.starter.staging import next_steps, place, refuse_overwriting, staged, try_out
from icl_engine.starter.wording import scalar


def copy_shipped(task: str, name: str, out: Path, *, force: bool) -> Iterator[str]:
    """Copy a shipped task, the folders of the files it names, and its template.

    Args:
        task: its name.
        name: the copy's name.
        out: the folder to copy to.
        force: overwrite what is there.

    Raises:
        TaskError: no such task, or a file is in the way; nothing was written.
    """
    known = {path.stem: path for path in shipped("tasks").glob("*.yaml")}
    if task not in known:
        raise TaskError(f"no shipped task {task!r}{did_you_mean(task, known)}", key="--from")
    source = known[task]
    refuse_overwriting([out / f"{name}.yaml"], [source], force=force)
    files = dict(_needed(source))
    # What is there already, byte for byte, is in nobody's way.
    differ = [out / to for to, file in files.items() if not _same(out / to, file)]
    refuse_overwriting(differ, list(files.values()), force=force)
    with staged(out) as stage:
        text = source.read_text(encoding="utf-8")
        text = re.sub(r"(?m)^name:.*$", lambda _: f"name: {scalar(name)}", text, count=1)
        (stage / f"{name}.yaml").write_text(text, encoding="utf-8")
        for to, file in files.items():
            (stage / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, stage / to)
        try_out(stage / f"{name}.yaml", {}, fake=True)
        written = place(stage, out)
    yield f"copied the shipped task {task}"
    yield from next_steps(written, out / f"{name}.yaml")


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def _needed(source: Path) -> Iterator[tuple[Path, Path]]:
    """Place in the copy -> file, of all that a task stands on: whole folders, for their licences too."""
    tree = read(source).tree
    folders = {(source.parent / text).parent for text in _texts(tree) if "/" in text}
    for folder in sorted(folders):
        inside = folder.is_dir() and folder != source.parent and folder.is_relative_to(source.parent)
        for file in sorted(folder.rglob("*")) if inside else ():
            if file.is_file():
                yield file.relative_to(source.parent), file
    template = tree.get("input", {}).get("template")
    if isinstance(template, str) and "/" not in template:
        file = shipped("templates") / f"{template}.j2"
        yield Path("templates") / file.name, file


def _texts(tree: Any) -> Iterator[str]:
    """Every text in a task."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(part)
