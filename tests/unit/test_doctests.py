"""The examples in docstrings and in the README run."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import icl_engine
from icl_engine.config.load import load_task

README = Path(__file__).resolve().parents[2] / "README.md"
MODULES = [m.name for m in pkgutil.walk_packages(icl_engine.__path__, "icl_engine.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name: str) -> None:
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_readme_examples_hold() -> None:
    results = doctest.testfile(str(README), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_readme_shows_the_shipped_task() -> None:
    block = README.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    shipped = README.parent / "tasks" / "sentiment.yaml"
    document = Path("shown.yaml")
    document.write_text(block, encoding="utf-8")
    for split in ("train", "test"):
        target = Path("data/sentiment") / f"{split}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((shipped.parent / target).read_bytes())
    assert load_task(document).resolved == load_task(shipped).resolved
