"""Answers by number, and processes that keep them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from icl_engine.driver.cache import ANSWERS, Cache, Spent
from icl_engine.types import Response, Usage

KEEPER = """
    import asyncio, sys
    from hashlib import sha256
    from pathlib import Path
    from icl_engine.driver.cache import Cache, Spent
    from icl_engine.types import Response, Usage

    def key(i): return sha256(str(i).encode()).hexdigest()
    def answer(i): return Response(f"answer {i} " * (1 + i % 7), finish="stop", usage=Usage(i, 0, 1))
"""
"""How a process of its own begins."""


def key(i: int) -> str:
    return sha256(str(i).encode()).hexdigest()


def answer(i: int) -> Response:
    return Response(f"answer {i} " * (1 + i % 7), finish="stop", usage=Usage(i, 0, 1))


async def keep(cache: Cache, numbers: Iterable[int]) -> None:
    await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in numbers))


def kept(cache: Cache, numbers: Iterable[int]) -> list[int]:
    """Those whose answers are found; what is found is always right."""
    found = {i: cache.get(key(i)) for i in numbers}
    assert all(response in (None, answer(i)) for i, response in found.items())
    return [i for i, response in found.items() if response is not None]


def filled(folder: Path, n: int) -> Path:
    """A cache's file with so many answers."""
    with closing(Cache(folder)) as cache:
        cache.remember("http://host|chat", {"top_logprobs": 5})
        cache.charge("run", Spent(n, Usage(n)))
        asyncio.run(keep(cache, range(n)))
    return folder / ANSWERS


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    source = textwrap.dedent(KEEPER) + textwrap.dedent(code)
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
