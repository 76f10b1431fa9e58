"""Vectors are kept by content: none is computed twice, and no fault of their file ends a run."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from support.embedding_server import letters

from icl_engine.errors import EndpointError
from icl_engine.models import vectors
from icl_engine.models.text_encoder import TextEncoder
from icl_engine.models.vectors import FILE
from icl_engine.protocols import View
from icl_engine.types import Example

TEXTS = [f"text {chr(97 + i % 26)} {i}" for i in range(300)]
ROOT = os.geteuid() == 0


class Letters(TextEncoder):
    """An encoder that counts letters, and what it is asked for."""

    use: str = "letters"
    name: str = "m"
    size: int = 26
    asked: list[str] = Field(default_factory=list)
    breaks_after: int | None = None

    @property
    def identity(self) -> str:
        return self.name

    def embed(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        for start in range(0, len(texts), 10):
            if self.breaks_after is not None and start >= self.breaks_after:
                raise KeyboardInterrupt
            lot = texts[start : start + 10]
            self.asked.extend(lot)
            yield np.array([letters(text, self.size) for text in lot])


def examples(texts: Sequence[str]) -> list[Example]:
    return [Example(i, {"t": text}) for i, text in enumerate(texts)]


def view(folder: Path | None) -> View:
    return View(lambda x: str(x.inputs["t"]), vectors=folder)


def encoded(texts: Sequence[str], folder: Path | None, **keys: Any) -> tuple[np.ndarray, list[str]]:
    """The rows of texts, and the texts that were embedded for them."""
    encoder = Letters(**keys)
    rows = encoder.encode(None, examples(texts), view(folder))
    return rows, list(encoder.asked)


def known(texts: Sequence[str], folder: Path | None, **keys: Any) -> int:
    return Letters(**keys).known(examples(texts), view(folder))


def expected(texts: Sequence[str]) -> np.ndarray:
    rows = np.array([letters(text) for text in texts])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_told", set())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    encoded(TEXTS, tmp_path / "kept")
    return tmp_path / "kept"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@given(st.lists(st.lists(st.text(max_size=3), max_size=8), min_size=1, max_size=4))
def test_each_different_text_is_embedded_once_and_rows_stand_in_the_order_of_the_texts(calls: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked: Counter[str] = Counter()
        for texts in calls:
            rows, embedded = encoded(texts, Path(folder))
            asked.update(embedded)
            assert rows.dtype == np.float32
            assert np.array_equal(rows, expected(texts)) if texts else rows.shape == (0, 1)
            assert known(texts, Path(folder)) == len(texts)
        assert asked == Counter({text for texts in calls for text in texts})


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    rows, asked = encoded(["a", "b", "a"], None)
    assert (asked, known(["a"], None)) == (["a", "b"], 0)
    assert np.array_equal(rows, expected(["a", "b", "a"]))
    assert not list(tmp_path.iterdir())


def test_to_ask_what_is_known_makes_no_file(tmp_path: Path) -> None:
    assert known(["a"], tmp_path / "none") == 0
    assert not list(tmp_path.iterdir())


def test_how_many_examples_are_known_counts_their_duplicates(folder: Path) -> None:
    assert known([TEXTS[0], TEXTS[0], "new", TEXTS[1]], folder) == 3


def test_encoders_do_not_share_vectors(folder: Path) -> None:
    assert known(TEXTS, folder, name="other") == 0
    assert encoded(TEXTS[:5], folder, name="other", size=30)[0].shape == (5, 30)
    assert np.array_equal(encoded(TEXTS, folder)[0], expected(TEXTS))


def test_what_was_embedded_before_a_run_was_interrupted_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encoded(TEXTS, tmp_path, breaks_after=200)
    assert encoded(TEXTS, tmp_path)[1] == TEXTS[200:]


def test_half_a_character_is_embedded_as_a_question_mark(tmp_path: Path) -> None:
    assert encoded(["\ud800 é", "? é"], tmp_path)[1] == ["? é"]


def test_a_model_whose_vectors_have_another_length_is_found_out(folder: Path) -> None:
    with pytest.raises(EndpointError, match=r"have 26 and 30 numbers: another model answers under it; remove vectors"):
        encoded([*TEXTS[:2], "new"], folder, size=30)


def test_figures_that_are_no_numbers_are_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Letters, "embed", lambda self, texts: iter([np.full((len(texts), 3), np.nan)]))
    with pytest.raises(EndpointError, match="no numbers"):
        encoded(["a"], tmp_path)
    assert known(["a"], tmp_path) == 0


def test_the_file_holds_no_text(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    assert not any(text.encode() in content for text in TEXTS)


# -- faults of the file


def test_a_vector_whose_bytes_flipped_is_computed_anew(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute("UPDATE vectors SET vector = zeroblob(104) WHERE id = 7")
        db.execute("UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE id = 1) WHERE id = 9")
    rows, asked = encoded(TEXTS, folder)
    assert np.array_equal(rows, expected(TEXTS))
    assert asked == [TEXTS[6], TEXTS[8]]
    assert known(TEXTS, folder) == len(TEXTS)


@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_file_gives_no_wrong_vector_and_ends_no_run(
    folder: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    draw, path = random.Random(seed), folder / FILE
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 20, 1000])):
        content[draw.randrange(100 if seed % 5 == 0 else len(content))] = draw.randrange(256)
    path.write_bytes(content[: draw.randrange(len(content)) if seed % 3 == 0 else None])
    assert np.array_equal(encoded(TEXTS, folder)[0], expected(TEXTS))
    assert len(told(caplog)) <= 1
    encoded(TEXTS, folder)
    assert np.array_equal(encoded(TEXTS, folder)[0], expected(TEXTS))


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(4080), bytes(8192)])
def test_a_file_of_another_kind_is_moved_away_and_begun_anew(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / FILE).write_bytes(content)
    assert np.array_equal(encoded(TEXTS, folder)[0], expected(TEXTS))
    assert encoded(TEXTS, folder)[1] == [], "kept in a new file"
    assert (folder / f"{FILE}.damaged").read_bytes() == content
    (said,) = told(caplog)
    assert "was damaged (" in said
    assert said.endswith("and is begun anew")


def test_a_file_with_another_table_is_moved_away(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("CREATE TABLE vectors (a, b)")
    encoded(TEXTS, tmp_path)
    assert known(TEXTS, tmp_path) == len(TEXTS)


def test_a_folder_that_cannot_be_made_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        rows, asked = encoded(TEXTS, tmp_path / "file")
        assert np.array_equal(rows, expected(TEXTS))
        assert asked == TEXTS
    (said,) = told(caplog)
    assert "cannot be used (" in said
    assert said.endswith("vectors are computed without it")


@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_a_read_only_file_ends_no_run(folder: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    user = 65534 if ROOT else os.geteuid()
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        place = shutil.copytree(folder, Path(home) / "kept")
        for path in (place, place / FILE):
            os.chown(path, user, -1)
        (place / FILE).chmod(0o444)
        place.chmod(mode)
        if ROOT:
            os.seteuid(user)
        try:
            rows, asked = encoded([*TEXTS, "new"], place)
        finally:
            if ROOT:
                os.seteuid(0)
            place.chmod(0o755)
    assert np.array_equal(rows, expected([*TEXTS, "new"]))
    assert asked[-1] == "new"
    assert len(told(caplog)) == 1


def test_a_file_that_may_grow_no_further_ends_no_run(tmp_path: Path) -> None:
    code = """
        import resource
        first = encoded(TEXTS[:50], folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / FILE).stat().st_size, resource.RLIM_INFINITY))
        many = [f"{i}" for i in range(3000)]
        assert np.array_equal(encoded(many, folder)[0], expected(many))
        assert np.array_equal(encoded(TEXTS[:50], folder)[0], first[0])
    """
    process = python(code, tmp_path)
    assert process.communicate(timeout=60)[1].count("cannot be used") == 1
    assert process.returncode == 0
    assert np.array_equal(encoded(TEXTS, tmp_path)[0], expected(TEXTS))


def test_processes_may_write_at_once(tmp_path: Path) -> None:
    code = """
        many = [f"{i}" for i in range(3000)]
        assert np.array_equal(encoded(many, folder)[0], expected(many))
    """
    processes = [python(code, tmp_path) for _ in range(3)]
    for process in processes:
        assert "cannot" not in process.communicate(timeout=60)[1]
        assert process.returncode == 0
    many = [f"{i}" for i in range(3000)]
    assert encoded(many, tmp_path)[1] == []


BEGIN = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]!r}
from tests.unit.test_vectors import *
folder = Path(sys.argv[1])
"""
"""How a process of its own begins: it knows what stands here."""


def python(code: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(code), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
