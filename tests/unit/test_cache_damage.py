"""A cache's file with flipped bytes: never a wrong answer, and what can be read is saved."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.answers import answer, filled, keep, kept, key, python

from icl_engine.driver import pruning
from icl_engine.driver.cache import ANSWERS, Cache, Spent
from icl_engine.types import Usage

PAGE = 4096


def flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def one(data: bytearray, rng: random.Random) -> None:
    flip(data, rng.randrange(len(data)), rng)


def twenty(data: bytearray, rng: random.Random) -> None:
    for _ in range(20):
        one(data, rng)


def head(data: bytearray, rng: random.Random) -> None:
    flip(data, rng.randrange(100), rng)


def page(data: bytearray, rng: random.Random) -> None:
    """What a page says of itself."""
    first = PAGE * rng.randrange(len(data) // PAGE)
    for at in range(3):
        flip(data, first + at, rng)


def branch(data: bytearray, rng: random.Random) -> None:
    """A page that says where others are."""
    first = rng.choice([at for at in range(PAGE, len(data), PAGE) if data[at] in (2, 5)] or [0])
    for _ in range(3):
        flip(data, first + rng.randrange(200), rng)


def noise(data: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(data) - PAGE)
    data[first : first + PAGE] = rng.randbytes(PAGE)


def zeros(data: bytearray, rng: random.Random) -> None:
    first = PAGE * rng.randrange(len(data) // PAGE)
    data[first : first + PAGE] = bytes(PAGE)


def short(data: bytearray, rng: random.Random) -> None:
    """Cut by less than a tenth."""
    del data[len(data) - rng.randrange(len(data) // 10) :]


N = 1000


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return filled(tmp_path_factory.mktemp("sound"), N).read_bytes()


@pytest.mark.parametrize("damage", [one, twenty, head, page, branch, noise, zeros, short])
def test_flipped_bytes_cost_answers_but_are_never_one(
    sound_file: bytes, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    share = []
    for seed in range(3):
        data = bytearray(sound_file)
        damage(data, random.Random(seed))
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / ANSWERS).write_bytes(data)
        with closing(Cache(folder)) as cache:
            share.append(len(kept(cache, range(N))) / N)
            assert cache.spent("run") in (Spent(), Spent(N, Usage(N)))
            assert cache.recall("http://host|chat") in (None, {"top_logprobs": 5})
            asyncio.run(keep(cache, range(N - 100, N + 50)))
            assert cache.fault is None
        with closing(Cache(folder)) as cache:
            assert len(kept(cache, range(N - 100, N + 50))) == 150, "what is new is kept"
    assert sum(share) / len(share) > 0.7, "most is saved"


def test_a_damaged_file_is_moved_aside_and_one_line_says_so(
    sound_file: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(sound_file)
    data[:16] = bytes(16)
    (tmp_path / ANSWERS).write_bytes(data)
    with closing(Cache(tmp_path)) as cache:
        assert len(kept(cache, range(N))) == N, "the first page holds no answers"
        assert cache.stats().damaged == (tmp_path / "answers.damaged-1.sqlite3",)
    assert [r.getMessage() for r in caplog.records] == [
        f"the cache {tmp_path / ANSWERS} was damaged (file is not a database): {N} answers were saved from it; "
        f"it is now {tmp_path / 'answers.damaged-1.sqlite3'}"
    ]


def test_a_salvage_that_was_cut_short_is_done_again(sound_file: bytes, tmp_path: Path) -> None:
    (tmp_path / "answers.damaged-3.unread.sqlite3").write_bytes(sound_file)
    with closing(Cache(tmp_path)) as cache:
        assert len(kept(cache, range(N))) == N
        assert [path.name for path in cache.stats().damaged] == ["answers.damaged-3.sqlite3"]
    (tmp_path / ANSWERS).write_bytes(b"")
    (tmp_path / ANSWERS).write_bytes(b"no database at all, whatever its name may be " * 9)
    with closing(Cache(tmp_path)) as cache:
        assert cache.stats().answers == 0
        assert [path.name[16:] for path in cache.stats().damaged] == ["3.sqlite3", "4.sqlite3"]


def test_processes_that_find_it_damaged_at_once_do_not_fight(sound_file: bytes, tmp_path: Path) -> None:
    data = bytearray(sound_file)
    data[40 * PAGE :: 7 * PAGE] = b"\xff" * len(data[40 * PAGE :: 7 * PAGE])
    (tmp_path / ANSWERS).write_bytes(data)
    code = """
        async def main(cache, first):
            for i in range(1000):
                if cache.get(key(i)) is None:
                    await cache.keep(key(i), answer(i))
            for i in range(first, first + 50):
                await cache.keep(key(i), answer(i))
            cache.close()
            print(cache.fault)

        asyncio.run(main(Cache(Path(sys.argv[1])), int(sys.argv[2])))
    """
    processes = [python(code, tmp_path, first) for first in (1000, 2000, 3000)]
    assert [p.communicate(timeout=60)[0] for p in processes] == ["None\n"] * 3
    with closing(Cache(tmp_path)) as cache:
        for numbers in (range(1000), range(1000, 1050), range(2000, 2050), range(3000, 3050)):
            assert kept(cache, numbers) == list(numbers)
        assert len(cache.stats().damaged) == 1


def test_bytes_that_flip_under_an_open_cache(tmp_path: Path) -> None:
    path = filled(tmp_path, N)
    code = """
        data = bytearray(Path(sys.argv[1]).read_bytes())
        data[8 * 4096:] = b"\\x5a" * (len(data) - 8 * 4096)
        Path(sys.argv[1]).write_bytes(data)
    """
    with closing(Cache(tmp_path)) as cache:
        assert cache.get(key(0)) == answer(0)
        assert python(code, path).communicate()[0] == ""
        kept(cache, range(N))
        asyncio.run(keep(cache, range(N + 50)))
        assert cache.fault is None
        assert kept(cache, range(N + 50)) == list(range(N + 50))
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(N + 50)) == list(range(N + 50))


def test_flipped_bytes_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / f"{ANSWERS}-wal"
    for seed in range(2):
        process = python(
            """
            async def main(cache):
                await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in range(500)))
                print(flush=True)
                sys.stdin.read()

            asyncio.run(main(Cache(Path(sys.argv[1]))))
            """,
            tmp_path,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.communicate()
        data = bytearray(log.read_bytes())
        twenty(data, random.Random(seed))
        log.write_bytes(data)
        with closing(Cache(tmp_path)) as cache:
            kept(cache, range(500))
            asyncio.run(keep(cache, range(510)))
            assert kept(cache, range(510)) == list(range(510))
        pruning.clear(tmp_path)


def test_a_body_under_the_wrong_key_is_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = filled(tmp_path, 3)
    with closing(sqlite3.connect(path)) as db, db:
        swapped = {0: 1, 1: 0}
        bodies = {i: db.execute("SELECT body, checksum FROM answers WHERE id = ?", (i + 1,)).fetchone() for i in (0, 1)}
        for i, other in swapped.items():
            db.execute("UPDATE answers SET body = ?, checksum = ? WHERE id = ?", (*bodies[other], i + 1))
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(3)) == [2]
        assert cache.damaged == 2
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        asyncio.run(keep(cache, range(3)))
        assert kept(cache, range(3)) == [0, 1, 2]
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(3)) == [0, 1, 2]


def test_a_file_that_is_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    with closing(Cache(tmp_path / "cache")) as cache:
        asyncio.run(keep(cache, range(3)))
        shutil.rmtree(tmp_path / "cache")
        asyncio.run(keep(cache, range(3, 6)))
        assert cache.fault is None
    with closing(Cache(tmp_path / "cache")) as cache:
        assert kept(cache, range(6)) == [3, 4, 5]
