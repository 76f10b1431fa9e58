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
