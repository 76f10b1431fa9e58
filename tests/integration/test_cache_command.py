"""`icl cache`: what is there, said plainly; what is dropped, dropped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl_engine.driver.cache import ANSWERS, Cache, Spent
from icl_engine.models.vectors import FILE, Vectors
from icl_engine.types import Response

Icl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where this test's cache is."""
    assert os.environ["ICL_CACHE_DIR"] == str(tmp_path / "cache")
    return tmp_path / "cache"


def fill(folder: Path, n: int) -> None:
    async def keep(cache: Cache) -> None:
        await asyncio.gather(*(cache.keep(key(i), Response("x" * 200)) for i in range(n)))

    with closing(Cache(folder)) as cache:
        cache.charge("run", Spent(n))
        asyncio.run(keep(cache))


def key(i: int) -> str:
    return sha256(str(i).encode()).hexdigest()


def left(folder: Path, n: int) -> list[int]:
    with closing(Cache(folder)) as cache:
        return [i for i in range(n) if cache.get(key(i)) is not None]


def told(icl: Icl, *arguments: str) -> Any:
    code, out, err = icl("cache", "--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize("options", [[], ["--max-size", "1MB"], ["--older-than", "30d"], ["--clear"]])
def test_a_cache_that_does_not_exist_is_empty(icl: Icl, folder: Path, options: list[str]) -> None:
    code, out, err = icl("cache", *options)
    assert (code, err) == (0, "")
    dropped = ["dropped 0 answers, freed 0 B"] if options else []
    assert out.splitlines() == [*dropped, f"cache    {folder / ANSWERS}", "answers  none, it is empty"]
    assert told(icl)["answers"] == 0
    assert not folder.exists(), "nothing was made"


def test_it_says_what_is_there(icl: Icl, folder: Path) -> None:
    fill(folder, 1234)
    code, out, err = icl("cache")
    assert (code, err) == (0, "")
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    size = (folder / ANSWERS).stat().st_size
    assert lines.pop("cache") == str(folder / ANSWERS)
    assert lines.pop("answers") == "1,234"
    assert lines.pop("size") == f"{size / 1000:.1f} KB"
    for heading in ("oldest", "newest"):
        assert re.fullmatch(rf"{time.localtime().tm_year}-\d\d-\d\d \d\d:\d\d \(\d+s ago\)", lines.pop(heading))
    assert not lines
    found = told(icl)
    assert found["path"] == str(folder / ANSWERS)
    assert (found["answers"], found["bytes"], found["damaged"]) == (1234, size, [])
    assert found["oldest"] <= found["newest"]
    assert "dropped" not in found


def test_the_oldest_go_first(icl: Icl, folder: Path) -> None:
    fill(folder, 1000)
    before = told(icl)["bytes"]
    found = told(icl, "--max-size", "100 kb")
    assert found["bytes"] <= 100_000
    assert found["dropped"] == {"answers": 1000 - found["answers"], "bytes": before - found["bytes"]}
    assert left(folder, 1000) == list(range(1000 - found["answers"], 1000))
    again = icl("cache", "--max-size", "0.1MB")[1]
    assert again.startswith("dropped 0 answers, freed 0 B\n")


def test_what_is_older_goes(icl: Icl, folder: Path) -> None:
    fill(folder, 10)
    assert told(icl, "--older-than", "1h")["dropped"]["answers"] == 0
    assert icl("cache", "--older-than", "0s")[1].startswith("dropped 10 answers, freed ")
    assert left(folder, 10) == []


def test_all_goes(icl: Icl, folder: Path) -> None:
    fill(folder, 10)
    (folder / "answers.damaged-1.sqlite3").write_bytes(b"x" * 5000)
    out = icl("cache")[1]
    assert out.splitlines()[-1] == "damaged  answers.damaged-1.sqlite3 (5.0 KB)"
    size = (folder / ANSWERS).stat().st_size + 5000
    assert told(icl, "--clear")["dropped"] == {"answers": 10, "bytes": size}
    assert left(folder, 10) == []
    with closing(Cache(folder)) as cache:
        assert cache.spent("run") == Spent()


def test_vectors_are_told_and_go_with_all(icl: Icl, folder: Path) -> None:
    fill(folder, 10)
    with closing(Vectors(folder, "encoder")) as vectors:
        vectors.keep(["a text"], np.ones((1, 8), dtype=np.float32))
    size = (folder / FILE).stat().st_size
    assert told(icl)["vectors_bytes"] == size
    assert icl("cache")[1].splitlines()[-1] == f"vectors  {size / 1000:.1f} KB"
    told(icl, "--max-size", "1B")
    assert (folder / FILE).exists(), "what is dropped by size or age are answers"
    assert told(icl, "--clear")["dropped"]["bytes"] >= size
    assert not (folder / FILE).exists()


def test_a_damaged_cache_is_mended_and_told(icl: Icl, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder, 10)
    (folder / ANSWERS).write_bytes(b"not a database" * 100)
    code, out, _ = icl("cache")
    assert code == 0
    assert "none, it is empty" in out
    assert "damaged  answers.damaged-1.sqlite3 (1.4 KB)" in out
    assert len(caplog.records) == 1
    assert "0 answers were saved from it" in caplog.text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--max-size", "5M"], "--max-size: knows no unit 'M'; did you mean 'MB'?"),
        (["--max-size", "5 bytes"], "--max-size: knows no unit 'bytes' (valid: B, GB, KB, MB, TB)"),
        (["--older-than", "2y"], "--older-than: knows no unit 'y' (valid: d, h, m, s, w)"),
        (["--max-size", "500"], "--max-size: takes a number and a unit (B, KB, MB, GB, TB), as 500MB, not '500'"),
        (["--max-size", "-5MB"], "--max-size: takes a number and a unit (B, KB, MB, GB, TB), as 500MB, not '-5MB'"),
        (["--older-than", ""], "--older-than: takes a number and a unit (s, m, h, d, w), as 30d, not ''"),
        (["--older-than", "9" * 20 + "w"], f"--older-than: {'9' * 20}w is longer than any answer has been kept"),
        (["--clear", "--max-size", "0B"], "--clear: drops all answers; leave --max-size and --older-than out"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_drops_nothing(
    icl: Icl, folder: Path, options: list[str], error: str
) -> None:
    fill(folder, 10)
    assert icl("cache", *options) == (2, "", f"error: {error}\n")
    assert left(folder, 10) == list(range(10))


def test_a_folder_that_cannot_be_used_is_told_in_one_line(
    icl: Icl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "odd"
    (folder / ANSWERS).parent.mkdir()
    fill(folder, 1)
    (folder / "answers.lock").unlink()
    (folder / "answers.lock").mkdir()
    monkeypatch.setenv("ICL_CACHE_DIR", str(folder))
    code, out, err = icl("cache")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: the cache {folder / ANSWERS} cannot be used (")
    assert err.count("\n") == 1


def test_help_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys\n"
        "from icl_engine.console.main import app\n"
        "try: app(['cache', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'openai', 'anthropic', 'aiohttp', 'httpx', 'sqlite3', 'filelock'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--older-than AGE" in out
    assert out.splitlines()[-1] == "[]"
