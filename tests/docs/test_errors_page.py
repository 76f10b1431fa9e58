"""docs/errors.md tells what is printed, to the letter; it is made from the table in `mistakes.py`.

``ICL_UPDATE_DOCS=1`` writes it.
"""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docs.mistakes import MISTAKES, NO_SERVER, PRICES, Change, Mistake, errors_page, files
from docs.pages import DOCS, UPDATE

from icl_engine.engine.prices import usual_file

Icl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nowhere() -> str:
    """An address where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def lay_out(changes: Sequence[Change], saved_as: Mapping[str, str], server: str = NO_SERVER) -> None:
    """Write the task and its data into the test's folder."""
    for name, content in files(changes, saved_as):
        Path(name).write_bytes(content.replace(NO_SERVER.encode(), server.encode()))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_a_mistake_is_told_as_the_page_says(
    mistake: Mistake, icl: Icl, nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(mistake.wrong, mistake.saved_as, nowhere)
    for module in mistake.missing:
        monkeypatch.setitem(sys.modules, module, None)
    for variable in mistake.unset:
        monkeypatch.delenv(variable, raising=False)
    for command in mistake.before:
        status, _, err = icl(*shlex.split(command)[1:])
        assert status == 0, err
    status, out, err = icl(*shlex.split(mistake.command)[1:])
    told = err.replace(f"{tmp_path}/", "").replace(str(usual_file()), PRICES)
    told = told.replace(urlsplit(nowhere).netloc, urlsplit(NO_SERVER).netloc)
    assert re.sub(r"\b[0-9a-f]{16}\b", "ID", told) == f"error: {mistake.says}\n"
    assert (status, out) == (2, "")


@pytest.mark.parametrize("mistake", [m for m in MISTAKES if not m.elsewhere], ids=lambda mistake: mistake.title)
def test_a_mistake_that_is_mended_as_the_page_says_is_gone(mistake: Mistake, icl: Icl) -> None:
    lay_out(mistake.right, mistake.saved_as)
    for command in (*mistake.before, mistake.mended_command or "icl run task.yaml"):
        status, _, err = icl(*shlex.split(command)[1:])
        assert status == 0, err


def test_the_task_without_a_mistake_runs(icl: Icl) -> None:
    lay_out((), {})
    status, _, err = icl("run", "task.yaml")
    assert status == 0, err


def test_the_page_is_what_the_table_gives() -> None:
    page = DOCS / "errors.md"
    if UPDATE:
        page.write_text(errors_page(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == errors_page()
