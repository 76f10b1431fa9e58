"""A cache on a disk that is full, or that cannot be written."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.answers import filled, keep, kept, python

from icl_engine.driver.cache import ANSWERS, Cache
from icl_engine.driver.reserve import RESERVE, Reserve
from icl_engine.errors import TaskError

PAGE = 4096
ROOT = os.geteuid() == 0


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
            assert cache.fault == (
                f"the cache {cache.path} cannot be written (database or disk is full); "
                "free some space, then run it again to go on"
            )
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
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, resource.RLIM_INFINITY))
        n = 0

        async def main():
            global n
            while cache.fault is None:
                await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in range(n, n + 100)))
                n += 100
            await asyncio.gather(*(cache.keep(key(i), answer(i)) for i in range(n, n + 4000)))

        asyncio.run(main())
        assert cache.unsaved > 0
        assert all(cache.get(key(i)) == answer(i) for i in range(n + 4000))
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
        assert kept(cache, range(int(n) + 4000)) == list(range(int(n) + 4000))


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
    reserve = Reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []
    blocks = os.fstat(reserve._close.peek()[2][0]).st_blocks  # type: ignore[index]
    assert blocks * 512 >= RESERVE
    reserve.close()
    reserve.close()
