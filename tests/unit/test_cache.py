"""The answer cache: what was paid for is found again, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icl_engine.driver import cache as cache_module
from icl_engine.driver import pruning
from icl_engine.driver.cache import ANSWERS, Cache, Spent
from icl_engine.driver.reserve import RESERVE, Reserve
from icl_engine.errors import TaskError
from icl_engine.types import Place, Response, Usage

PAGE = 4096
ROOT = os.geteuid() == 0
ONE = Spent(1, Usage(7, 3, 2))

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


# -- what is kept is found


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
        async def main(cache):
            for first in range(0, 10**6, 8):
                group = range(first, first + 8)
                for i in group:
                    cache.charge("run", Spent(1, Usage(i, 0, 1)))
                await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in group))
                print(first + 8, flush=True)

        asyncio.run(main(Cache(Path(sys.argv[1]))))
    """
    rng = random.Random(5)
    for at in range(3):
        folder = tmp_path / str(at)
        process = python(code, folder)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 300))]
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


# -- flipped bytes


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
    for seed in range(4):
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
    for seed in range(3):
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


# -- a disk that cannot be written


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A small disk."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not ROOT or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave nothing free."""
    filler = disk / f"filler-{time.monotonic_ns()}"
    with filler.open("wb", buffering=0) as file:
        for block in (1 << 20, PAGE):
            try:
                while True:
                    file.write(bytes(block))
            except OSError:
                continue
    return filler


def test_what_is_in_flight_when_the_disk_is_full_is_kept(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 24 << 20) as disk:
        with closing(Cache(disk / "cache")) as cache:
            asyncio.run(keep(cache, range(100)))
            fillers = [fill(disk)]
            asyncio.run(keep(cache, range(100, 300)))
            assert cache.fault is not None
            assert "full" in cache.fault
            assert cache.unsaved == 0
            assert kept(cache, range(300)) == list(range(300))
            fillers.append(fill(disk))  # now the reserve is gone too
            asyncio.run(keep(cache, range(300, 2000)))
            assert cache.unsaved == 1700
            assert kept(cache, range(2000)) == list(range(2000)), "in memory"
            with pytest.raises(TaskError, match=r"cannot be used \(.*\); free some space, or set ICL_CACHE_DIR"):
                Cache(disk / "another")
            with pytest.raises(TaskError, match=r"cannot be used \(.*\); free some space, or set ICL_CACHE_DIR"):
                Cache(disk / "cache")
            for filler in fillers:
                filler.unlink()
        with closing(Cache(disk / "cache")) as cache:
            assert kept(cache, range(2000)) == list(range(2000)), "written when it was closed"


def test_a_file_that_may_grow_no_further(tmp_path: Path) -> None:
    code = """
        import resource
        cache = Cache(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        n = 0

        async def main():
            global n
            while cache.fault is None:
                await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in range(n, n + 100)))
                n += 100
            await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in range(n, n + 10000)))

        asyncio.run(main())
        assert cache.unsaved > 0
        assert all(cache.get(key(i)) == answer(i) for i in range(n + 10000))
        print(n, cache.unsaved, cache.fault, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        cache.close()
    """
    process = python(code, tmp_path)
    n, unsaved, fault = process.communicate(timeout=60)[0].split(" ", 2)
    assert process.returncode == 0
    assert int(unsaved) > 0
    assert "cannot be written" in fault
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(int(n) + 10000)) == list(range(int(n) + 10000))


def test_a_read_only_disk_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 24 << 20) as disk:
        filled(disk / "cache", 3)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(TaskError, match=r"cannot be used \(Read-only file system\); set ICL_CACHE_DIR"):
            Cache(disk / "cache")


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder of a user who is not root, and what they may do."""
    folder = Path(tempfile.mkdtemp())
    user = 65534 if ROOT else os.geteuid()
    try:
        os.chown(folder, user, -1)
        if ROOT:
            os.seteuid(user)
        yield folder
    finally:
        if ROOT:
            os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.parametrize("folder_too", [False, True])
def test_a_read_only_file_is_found_before_anything_is_asked(folder_too: bool) -> None:
    with nobody() as folder:
        filled(folder, 3).chmod(0o444)
        folder.chmod(0o555 if folder_too else 0o755)
        with pytest.raises(TaskError) as error:
            Cache(folder)
        folder.chmod(0o755)
    told = str(error.value)
    assert str(folder / ANSWERS) in told
    assert "set ICL_CACHE_DIR to another folder, or run with --no-cache" in told
    assert "\n" not in told
    assert "Permission denied" in told or "readonly" in told


def test_the_reserve_takes_real_space_and_leaves_nothing(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    reserve = Reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []
    blocks = os.fstat(reserve._close.peek()[2][0]).st_blocks  # type: ignore[index]
    assert blocks * 512 >= RESERVE
    assert free
    reserve.close()
    reserve.close()


# -- an earlier version's file


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
            assert after.bytes > most - 3 * PAGE or after.answers == 0, "hardly more than was asked for"


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
    assert dropped == order[: len(dropped)], "in the order in which they came"
    if dropped:
        last = ages[dropped[-1]]
        assert last >= days, "the last is old enough"
        assert all(age < 0 or age >= last for age in ages[: len(dropped)]), "and its stamp says what the others' do"
    if ages == sorted(ages, reverse=True):
        assert left == [i for i in order if ages[i] < days], "with a clock that only goes forward, exactly those"


def shorts(i: int) -> int:
    return int.from_bytes(bytes.fromhex(key(i))[:8], "big", signed=True)


def test_pruning_while_another_process_keeps_answers(tmp_path: Path) -> None:
    filled(tmp_path, 5000)
    code = """
        async def main(cache):
            for first in range(5000, 10000, 10):
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
        assert cache.prune(max_bytes=200_000).answers > 1000
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "None"
    with closing(Cache(tmp_path)) as cache:
        assert kept(cache, range(9000, 10000)) == list(range(9000, 10000))
        cache.prune(max_bytes=200_000)
        assert cache.stats().bytes <= 200_000


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


def test_memory_does_not_grow_with_what_is_kept(tmp_path: Path) -> None:
    async def scenario(cache: Cache, first: int) -> None:
        for i in range(first, first + 10000, 100):
            await keep(cache, range(i, i + 100))

    with closing(Cache(tmp_path)) as cache:
        asyncio.run(scenario(cache, 0))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        asyncio.run(scenario(cache, 10000))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
