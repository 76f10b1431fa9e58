"""A cache's size and age, and an earlier version's file."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.answers import answer, filled, keep, kept, key, python

from icl_engine.driver import pruning
from icl_engine.driver.cache import ANSWERS, Cache


def old_file(folder: Path, n: int) -> Path:
    """As the first version made it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ANSWERS
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, body BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID")
        db.execute("CREATE TABLE capabilities (endpoint TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID")
        db.execute("BEGIN")
        for i in range(n):
            r = answer(i)
            body = orjson.dumps([r.text, r.tokens, r.finish, [i, 0, 1], [], []][: 4 if i % 2 else 6])
            db.execute("INSERT INTO answers VALUES (?, ?, ?)", (bytes.fromhex(key(i)), body, 1.7e9 + i))
        db.execute("COMMIT")
        db.execute("INSERT INTO capabilities VALUES ('http://host|chat', ?)", (b'{"top_logprobs":5}',))
    return path


def test_an_earlier_version_s_file_goes_on_working(tmp_path: Path) -> None:
    old_file(tmp_path, 500)
    for _ in range(2):
        with closing(Cache(tmp_path)) as cache:
            assert kept(cache, range(500)) == list(range(500))
            assert cache.recall("http://host|chat") == {"top_logprobs": 5}
    with closing(Cache(tmp_path)) as cache:
        asyncio.run(keep(cache, range(500, 510)))
        before = cache.stats()
        assert before.answers == 510
        assert before.oldest is not None
        assert before.oldest.timestamp() == 1.7e9
        pruned = cache.prune(older_than=timedelta(days=30))
        assert pruned.answers == 500
        assert 0 < pruned.bytes < before.bytes
        assert kept(cache, range(510)) == list(range(500, 510))
        assert cache.stats().bytes < before.bytes / 3, "the space was given back"


# -- size and age


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 400), share=st.floats(0, 1.2))
def test_pruning_by_size_drops_the_oldest_and_no_more_than_it_must(tmp_path: Path, n: int, share: float) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with closing(Cache(folder)) as cache:
        asyncio.run(keep(cache, range(n)))
        cache.prune()  # writes the log into the file
        before = cache.stats()
        most = int(before.bytes * share)
        pruned = cache.prune(max_bytes=most)
        after = cache.stats()
        assert kept(cache, range(n)) == list(range(pruned.answers, n)), "the newest are still there"
        assert after.answers == n - pruned.answers
        assert pruned.bytes == before.bytes - after.bytes
        assert after.bytes <= most or after.answers == 0
        if pruned.answers:
            assert before.bytes > most
            assert after.bytes > most - 3 * 4096 or after.answers == 0, "hardly more than was asked for"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=st.lists(st.one_of(st.integers(0, 100), st.integers(-1000, 20000)), max_size=30), days=st.integers(0, 101))
def test_pruning_by_age_never_drops_what_may_be_new(tmp_path: Path, ages: list[int], days: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    path = filled(folder, len(ages))
    now = int(time.time())
    with closing(sqlite3.connect(path)) as db, db:
        for i, age in enumerate(ages):
            db.execute("UPDATE answers SET at = ? WHERE short = ?", (now - 86400 * age - 43200, shorts(i)))
    with closing(Cache(folder)) as cache:
        order = list(range(len(ages)))
        stats = cache.stats()
        assert stats.oldest is None or stats.oldest.timestamp() <= time.time()
        cache.prune(older_than=timedelta(days=days))
        left = kept(cache, range(len(ages)))
    dropped = [i for i in order if i not in left]
    assert all(ages[i] >= 0 for i in dropped), "what has a stamp in the future is taken for new"
    if dropped:
        before = [ages[i] for i in order[: dropped[-1] + 1] if ages[i] >= 0]
        assert before[-1] >= days, "the last is old enough"
        assert before[-1] == min(before), "and no stamp before it says that its clock ran backwards"
        assert len(dropped) == len(before), "so all that came before it are"
    if ages == sorted(ages, reverse=True):
        assert left == [i for i in order if ages[i] < days], "with a clock that only goes forward, exactly those"


def shorts(i: int) -> int:
    return int.from_bytes(bytes.fromhex(key(i))[:8], "big", signed=True)


def test_pruning_while_another_process_keeps_answers(tmp_path: Path) -> None:
    filled(tmp_path, 2500)
    code = """
        async def main(cache):
            for first in range(2500, 5000, 10):
                await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in range(first, first + 10)))
                print(first, flush=True)
            cache.close()
            print(cache.fault)

        asyncio.run(main(Cache(Path(sys.argv[1]))))
    """
    process = python(code, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    with closing(Cache(tmp_path)) as cache:
        assert cache.prune(max_bytes=100_000).answers > 1000
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "None"
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(4500, 5000)) == list(range(4500, 5000))
        cache.prune(max_bytes=100_000)
        assert cache.stats().bytes <= 100_000


def test_clearing_while_a_cache_is_open(tmp_path: Path) -> None:
    with closing(Cache(tmp_path)) as cache:
        asyncio.run(keep(cache, range(10)))
        dropped = pruning.clear(tmp_path)
        assert dropped.answers == 10
        assert dropped.bytes > 0
        asyncio.run(keep(cache, range(10, 20)))
        assert cache.fault is None
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(20)) == list(range(10, 20))
    assert pruning.clear(tmp_path).answers == 10
    assert pruning.clear(tmp_path).answers == 0
