"""What is installed: the wheel carries templates and tasks, and finds them from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("icl_engine-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_is_typed_and_carries_what_ships(installed: Path) -> None:
    assert (installed / "icl_engine" / "py.typed").is_file()
    for kind, pattern in (("templates", "*.j2"), ("tasks", "*.yaml"), ("tasks", "data/*/*.jsonl")):
        in_tree = sorted(p.relative_to(ROOT / kind) for p in (ROOT / kind).glob(pattern))
        shipped = installed / "icl_engine" / "_shipped" / kind
        assert in_tree
        assert sorted(p.relative_to(shipped) for p in shipped.glob(pattern)) == in_tree
    assert (installed / "icl_engine" / "engine" / "prices.json").is_file()
    assert not (installed / "tests").exists()


def test_a_shipped_task_runs_by_name_from_an_installed_package(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "icl_engine.console.main", "run", "sentiment", "--set", "model={use: fake}"]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert list(tmp_path.glob("runs/sentiment/*/summary.json"))
