"""The answer cache: what was paid for is found again, whatever happens to the process."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from support.answers import answer, keep, kept, key, python

from icl_engine.driver import cache as cache_module
from icl_engine.driver.cache import Cache, Spent
from icl_engine.types import Place, Response, Usage

ONE = Spent(1, Usage(7, 3, 2))


FULL = Response(
    "yes",
    tokens=(("y", -0.1), (7, -1e-17)),
    places=(Place("y", {"y": -0.1, "n": -2.5}, -9.0), Place(3, {3: 0.0}, -1.0)),
    spelt=((1, 2), ()),
    finish="length",
    usage=Usage(11, 4, 2),
    pause=3.0,
)


def test_an_answer_is_found_again_as_it_was(tmp_path: Path) -> None:
    with closing(Cache(tmp_path)) as cache:
        assert cache.get(key(0)) is None
        asyncio.run(cache.keep(key(0), FULL))
        assert cache.get(key(0)) == Response(
            *(getattr(FULL, f) for f in ("text", "tokens", "places", "spelt", "finish", "usage"))
        )
    with closing(Cache(tmp_path)) as cache:
        found = cache.get(key(0))
    assert found is not None
    assert found.usage == FULL.usage
    assert found.pause == 0.0, "what a provider asked for then means nothing now"


def test_the_first_answer_stays(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        await asyncio.gather(cache.keep(key(0), answer(0)), cache.keep(key(0), answer(1)))
        await cache.keep(key(0), answer(2))

    with closing(Cache(tmp_path)) as cache:
        asyncio.run(scenario(cache))
        assert cache.get(key(0)) == answer(0)


def test_what_arrives_in_one_turn_is_one_transaction(tmp_path: Path) -> None:
    seen: list[str] = []

    async def paid(cache: Cache, i: int) -> None:
        cache.charge("run", ONE)
        await cache.keep(key(i), answer(i))

    async def scenario(cache: Cache) -> None:
        await asyncio.gather(*(paid(cache, i) for i in range(20)))

    with closing(Cache(tmp_path)) as cache:
        cache._store.db.set_trace_callback(seen.append)
        asyncio.run(scenario(cache))
        assert seen.count("COMMIT") == 1
        assert kept(cache, range(20)) == list(range(20))
        assert cache.spent("run") == Spent(20, Usage(140, 60, 40))


def test_whoever_is_cancelled_takes_nobody_along(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        tasks = [asyncio.ensure_future(cache.keep(key(i), answer(i))) for i in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[0].cancelled()
        assert tasks[1].exception() is None

    with closing(Cache(tmp_path)) as cache:
        asyncio.run(scenario(cache))
        assert kept(cache, range(3)) == [0, 1, 2]


def test_a_loop_that_ended_too_early_hangs_no_other(tmp_path: Path) -> None:
    async def begun(cache: Cache) -> None:
        cache.charge("run", ONE)  # the loop ends before its next turn

    with closing(Cache(tmp_path)) as cache:
        asyncio.run(begun(cache))
        asyncio.run(asyncio.wait_for(keep(cache, [1]), 5))
        assert cache.spent("run") == ONE
    with closing(Cache(tmp_path)) as cache:
        assert cache.spent("run") == ONE


def test_capabilities_are_remembered_and_forgotten(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.remember("b", {"n": 2})
        assert cache.recall("b") == {"n": 2}

    with closing(Cache(tmp_path)) as cache:
        assert cache.recall("a") is None
        cache.remember("a", {"n": 1})
        asyncio.run(scenario(cache))
    with closing(Cache(tmp_path)) as cache:
        assert (cache.recall("a"), cache.recall("b")) == ({"n": 1}, {"n": 2})
        cache.forget("a")
        assert cache.recall("a") is None


def test_the_ledger_adds_up_over_processes(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(Cache(tmp_path)) as cache:
            cache.charge("run", ONE)
            cache.charge("run", ONE)
            cache.charge("other", Spent(1))
    with closing(Cache(tmp_path)) as cache:
        assert cache.spent("run") == Spent(4, Usage(28, 12, 8))
        assert cache.spent("other") == Spent(2)
        assert cache.spent("unknown") == Spent()


# -- crashes and other processes


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    code = """
        async def paid(cache, i):
            cache.charge("run", Spent(1, Usage(i, 0, 1)))
            await cache.keep(key(i), answer(i))

        async def main(cache):
            for first in range(0, 10**6, 8):
                await asyncio.gather(*(paid(cache, i) for i in range(first, first + 8)))
                print(first + 8, flush=True)

        asyncio.run(main(Cache(Path(sys.argv[1]))))
    """
    rng = random.Random(5)
    for at in range(3):
        folder = tmp_path / str(at)
        process = python(code, folder)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 150))]
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines()
        acknowledged = int(lines[-1])
        with closing(Cache(folder)) as cache:
            found = kept(cache, range(acknowledged + 8))
            assert found[:acknowledged] == list(range(acknowledged))
            assert cache.spent("run") == Spent(len(found), Usage(sum(found), 0, len(found))), "in the same transaction"


def test_processes_share_a_file(tmp_path: Path) -> None:
    code = """
        async def main(cache, mine):
            for first in range(0, 500, 10):
                await asyncio.gather(*(cache.keep(key((mine, i)), answer(i)) for i in range(first, first + 10)))
                cache.charge("run", Spent(10))
            cache.close()
            print(cache.fault, cache.unsaved)

        asyncio.run(main(Cache(Path(sys.argv[1])), int(sys.argv[2])))
    """
    processes = [python(code, tmp_path, n) for n in range(4)]
    assert [p.communicate(timeout=60)[0].split() for p in processes] == [["None", "0"]] * 4
    with closing(Cache(tmp_path)) as cache:
        for n in range(4):
            found = [cache.get(sha256(str((n, i)).encode()).hexdigest()) for i in range(500)]
            assert found == [answer(i) for i in range(500)]
        assert cache.spent("run").requests == 2000


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another who holds the lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_the_loop_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> int:
        with locked(cache.path) as other:
            asyncio.get_running_loop().call_later(0.3, other.execute, "COMMIT")
            keeping = asyncio.ensure_future(keep(cache, range(3)))
            turns = 0
            while not keeping.done():
                await asyncio.sleep(0.001)
                turns += 1
        return turns

    with closing(Cache(tmp_path)) as cache:
        assert asyncio.run(scenario(cache)) > 20
        assert cache.fault is None
        assert kept(cache, range(3)) == [0, 1, 2]


def test_a_lock_that_is_never_let_go_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE", 0.1)
    with closing(Cache(tmp_path)) as cache, locked(cache.path):
        asyncio.run(keep(cache, range(3)))
        assert cache.unsaved == 3
        assert kept(cache, range(3)) == [0, 1, 2], "in memory"
        assert cache.fault is not None
        assert "another process has locked it" in cache.fault
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(3)) == [0, 1, 2], "written when it was closed"
