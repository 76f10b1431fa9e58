"""Every page of the documentation does what it says; ``ICL_UPDATE_DOCS=1`` writes the true outputs into the pages.

The conventions that pages keep to are in `pages.py`.
"""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from docs.pages import (
    DOCS,
    ROOT,
    SERVER,
    UPDATE,
    PageError,
    Visit,
    broken_links,
    environment,
    normal,
    pages,
    prose,
    read_page,
    strange_commands,
)
from support.server import StandIn

from icl_engine.models import gguf

EVERY_PAGE = pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
EVERY_PAGE_OF_DOCS = pytest.mark.parametrize("path", pages()[1:], ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the embedded model, put together once for all pages."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICL_CACHE_DIR", str(folder))
        gguf.locate("gemma-3-270m")
    return folder


@pytest.fixture
def cache(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's own answers, the models of all."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("models", "digests"):
        (folder / name).symlink_to(models / name)
    monkeypatch.setenv("ICL_CACHE_DIR", str(folder))
    return folder


@EVERY_PAGE
def test_a_page_does_what_it_says(path: Path, cache: Path, tmp_path: Path, server: StandIn) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    visit = Visit(read_page(path), folder, environment(cache), server.url)
    visit.do_all()
    if UPDATE:
        path.write_text(visit.updated(), encoding="utf-8")
    else:
        assert not visit.differences(), "\n".join(visit.differences())


@EVERY_PAGE
def test_what_a_page_leaves_to_the_reader_is_on_the_short_list(path: Path) -> None:
    assert strange_commands(read_page(path)) == []


@EVERY_PAGE
def test_the_extras_a_page_names_exist(path: Path) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"(?:icl-engine|'\.)\[([\w,]+)\]", path.read_text(encoding="utf-8"))
    assert {extra for extras in named for extra in extras.split(",")} <= known.keys()


@EVERY_PAGE
def test_the_links_of_a_page_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@EVERY_PAGE_OF_DOCS
def test_the_lines_of_a_page_are_not_too_long(path: Path) -> None:
    long = [line for line in prose(path).splitlines() if len(line) > 120]
    assert [line for line in long if not line.startswith("|")] == []  # a table's row cannot be broken


def test_the_index_leads_to_every_page() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index.read_text(encoding="utf-8"))}
    assert [str(path) for path in DOCS.rglob("*.md") if path != index and path not in linked] == []


def test_the_reviews_of_the_tutorial_are_balanced_and_nowhere_else() -> None:
    with (DOCS / "data" / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["verdict"] for row in rows) == {"recommend": 36, "avoid": 36}
    reviews = {row["review"].casefold() for row in rows}
    assert len(reviews) == len(rows)
    assert all(6 <= len(review.split()) <= 25 for review in reviews)
    files = (ROOT / "tasks" / "data").rglob("*.jsonl")
    shipped = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert not reviews & {str(value).casefold() for line in shipped for value in json.loads(line).values()}


# The laws of the conventions themselves


def visited(text: str, folder: Path, server: str = SERVER) -> Visit:
    """A visit to a page with this text, in a folder of its own."""
    page, here = folder / "page.md", folder / "here"
    page.write_text(text, encoding="utf-8")
    here.mkdir()
    visit = Visit(read_page(page), here, environment(folder / "cache"), server)
    visit.do_all()
    return visit


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("```sh\nfalse\n```\n", "page.md:1: false\nends with status 1"),
        ("```sh\nfalse | true\n```\n", "status 1"),
        ("<!-- exit: 2 -->\n```sh\ntrue\n```\n", "status 0"),
        ("```python\n>>> 1 + 1\n3\n```\n", "Expected:\n    3\nGot:\n    2"),
        ("```python\nprint()\n```\n", "put <!-- file: name --> before it"),
        ("<!-- copy: data/none.csv -->\n", "there is no file docs/data/none.csv"),
        ("```sh\ntrue\n```\nThis prints:\n```text\n1\n```\n", "page.md:5: a text block stands straight after"),
        ("<!-- exlt: 2 -->\n```sh\ntrue\n```\n", "there is no comment 'exlt'"),
        ("<!-- exit: 2 -->\nSo:\n\n```sh\ntrue\n```\n", "stands before a block"),
        ("- so:\n  ```sh\n  true\n  ```\n", "page.md:2: a fence stands at the beginning"),
        ("```sh\ntrue\n", "never closed"),
    ],
)
def test_a_page_that_does_not_do_what_it_says_is_refused(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=re.escape(what)):
        visited(text, tmp_path)


def test_a_page_that_shows_something_else_is_found_and_updated(tmp_path: Path) -> None:
    text = "# A\n```sh\necho one\necho two >&2\n```\n\n```text\nthree\n```\nB\n"
    visit = visited(text, tmp_path)
    assert len(visit.differences()) == 1
    assert visit.updated() == text.replace("three", "one\ntwo")


def test_a_page_shows_what_a_terminal_does(tmp_path: Path) -> None:
    command = r"""printf '{"done": 1, "total": 2, "failed": 0}\nat %s/x   \n' $PWD"""
    visit = visited(f"```sh\n{command}\n```\n```text\n```\n", tmp_path)
    assert list(visit.printed.values()) == ["at x"]


def test_commands_files_and_examples_share_a_folder_and_names(tmp_path: Path) -> None:
    file = "<!-- file: sub/a.txt -->\n```\nat http://127.0.0.1:8000/v1\n```\n"
    shell = "<!-- exit: 1 -->\n```sh\n# nothing to find\ngrep \\\n  none sub/a.txt\n```\n"
    first = "```python\n>>> import pathlib\n>>> text = pathlib.Path('sub/a.txt').read_text()\n\n```\n"
    second = "```python\n>>> text\n'at http://stand-in...'\n\n```\n"
    visited(file + shell + first + second, tmp_path, "http://stand-in/v1")


def test_what_a_benchmark_writes_is_left_as_it_is(tmp_path: Path) -> None:
    told = "```console\npython benchmarks/a.py --out docs/a.md\npython a.py\n```\n"
    visit = visited(f"{told}<!-- table: a -->\n\n| 1 |\n\n<!-- /table -->\n", tmp_path)
    assert strange_commands(visit.page) == ["python a.py"]
    assert visit.printed == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 rows, 3.5 s", "44 rows, 222.13 s"),
        ("runs/x/0123456789abcdef", "runs/x/fedcba9876543210"),
        ("/tmp/a/task.yaml:3: k", "/home/me/task.yaml:4: k"),
        ("error: /tmp/a/tasks/b.yaml:1", "error: tasks/b.yaml:1"),
        (" ──── \n a   b", "a b"),
        ("p = 4.9e-05, -1.2 to 3", "p = 0.03, 1.2 to 3"),
    ],
)
def test_what_differs_between_machines_is_not_compared(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), [("accuracy 0.5", "macro_f1 0.5"), ("A is better", "no difference shown")])
def test_what_is_said_is_compared(one: str, other: str) -> None:
    assert normal(one) != normal(other)
