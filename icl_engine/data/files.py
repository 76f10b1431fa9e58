"""Which files a source names: one, those that match a pattern, or those of a data set on the hub."""

from __future__ import annotations

import glob
from pathlib import Path

from icl_engine.data import hub
from icl_engine.data.formats import NO_FILE, READERS, common_ending, ending
from icl_engine.errors import DataError, bounded


def files(source: str | Path) -> tuple[Path, ...]:
    """The files that a source names, patterns and addresses resolved, in their order.

    Args:
        source: a path, a pattern (``data/train-*.jsonl``; what exists under just this name is none), or an
            address (``hf://org/set?split=test``).

    Raises:
        DataError: there is none; what there is instead is named.
        MissingExtraError: an address needs the extra ``hf``.
    """
    text = str(source)
    if text.startswith(hub.SCHEME):
        return hub.files(text)
    if "://" in text:
        raise DataError("rows are read from files and from hf:// addresses; download this first", file=source)
    try:
        return _local(Path(source))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=bounded(text)) from error


def _local(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        raise DataError(f"is a folder; {_in_folder(path)}", file=path)
    if path.is_file():
        return (path,)
    folder, pattern = _split(path)
    if not glob.has_magic(pattern):
        raise DataError(NO_FILE, file=path)
    found = sorted({p for p in glob.glob(pattern, root_dir=folder, recursive=True) if (folder / p).is_file()})
    if not found:
        raise DataError(f"no file matches this pattern; {_near(folder, pattern)}", file=path)
    return tuple(folder / name for name in found)


def _split(path: Path) -> tuple[Path, str]:
    """The folder that a pattern starts from, and the rest: what exists is taken by its name, whatever it holds."""
    folder = Path(path.anchor)
    parts = path.parts[1 if path.anchor else 0 :]
    while len(parts) > 1 and (folder / parts[0]).is_dir():
        folder, parts = folder / parts[0], parts[1:]
    return folder, str(Path(*parts))


def _in_folder(folder: Path) -> str:
    """What to write in a folder's place."""
    for pattern in ("*", "**/*"):
        found = common_ending(p.name for p in folder.glob(pattern) if p.is_file())
        if found is not None:
            return f"name its files: {folder / pattern}{found}"
    return f"and there is no data file in it ({', '.join(READERS)})"


def _near(folder: Path, pattern: str) -> str:
    """What there is where a pattern looked."""
    first, *rest = Path(pattern).parts
    if rest and not glob.has_magic(first):
        return f"there is no folder {folder / first}"
    inside = folder.rglob("*") if "**" in pattern else folder.iterdir()
    names = sorted(str(p.relative_to(folder)) for p in inside if ending(p.name) and p.is_file())
    if not names:
        return f"the folder {folder} holds no data file"
    return f"the folder {folder} holds {bounded(', '.join(names[:3]))}{', …' if len(names) > 3 else ''}"
