"""Where this package keeps things and finds what it ships."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_HERE = Path(__file__).parent


def cache_dir() -> Path:
    """The cache folder: ``ICL_CACHE_DIR``, else the user's cache folder."""
    return Path(os.environ.get("ICL_CACHE_DIR") or platformdirs.user_cache_dir("icl-engine", appauthor=False))


def shipped(kind: str) -> Path:
    """The folder of shipped ``templates`` or ``tasks``: inside an installed package, beside it in a checkout.

    >>> (shipped("templates") / "classification.j2").is_file()
    True
    """
    inside = _HERE / "_shipped" / kind
    return inside if inside.is_dir() else _HERE.parent / kind


def based(path: str, base: str | Path | None) -> str:
    """A path relative to a folder (the task file's); an address stays as it is.

    >>> based("a.jsonl", "/data"), based("hf://org/set", "/data")
    ('/data/a.jsonl', 'hf://org/set')
    """
    if "://" in path:
        return path
    full = Path(path).expanduser()
    return str(full if full.is_absolute() or base is None else Path(base) / full)
