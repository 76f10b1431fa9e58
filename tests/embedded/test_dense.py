"""The real model of sentence embeddings: all-MiniLM-L6-v2 in this process, with no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from icl_engine.manipulation.retrieve.knn import Knn
from icl_engine.models.sentence_transformers import SentenceTransformers
from icl_engine.protocols import View
from icl_engine.types import Example

PAIRS = [
    ("The film was a delight from start to finish.", "I enjoyed every minute of this movie."),
    ("The central bank raised interest rates again.", "Borrowing costs went up after the bank's decision."),
    ("A dog chased the ball across the park.", "The puppy ran over the grass after its toy."),
    ("How do I reset my password?", "I cannot log in and need new credentials."),
]
TEXTS = [text for pair in PAIRS for text in pair]

CODE = """
import socket, sys
from pathlib import Path
import numpy as np
from icl_engine.models.sentence_transformers import SentenceTransformers
from icl_engine.protocols import View
from icl_engine.types import Example

def refuse(*arguments): raise AssertionError(f"network: {arguments}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
view = View(lambda x: x.inputs["t"], vectors=Path(sys.argv[1]))
rows = SentenceTransformers().encode(None, [Example(i, {"t": t}) for i, t in enumerate(sys.argv[3:])], view)
np.save(sys.argv[2], rows)
print(sorted({"torch", "sentence_transformers", "transformers"} & set(sys.modules)))
"""


def examples(texts: list[str]) -> list[Example]:
    return [Example(i, {"t": text}, "y") for i, text in enumerate(texts)]


def view(folder: Path | None = None) -> View:
    return View(lambda x: str(x.inputs["t"]), vectors=folder)


def encoded(texts: list[str], folder: Path | None = None) -> np.ndarray:
    return SentenceTransformers().encode(None, examples(texts), view(folder))


def alone(folder: Path, out: Path, texts: list[str]) -> tuple[np.ndarray, str]:
    """Rows from a process of its own that may use no network, and the libraries that it loaded."""
    command = [sys.executable, "-W", "error", "-c", CODE, str(folder), str(out), *texts]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.stderr == "", "neither warnings nor progress bars"
    return np.load(out), done.stdout.strip()


def test_similar_sentences_are_nearer_than_others() -> None:
    rows = encoded(TEXTS)
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -1)
    assert likeness.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_knn_shows_the_most_similar_sentence() -> None:
    knn = Knn(k=1)
    state = knn.fit(examples([first for first, _ in PAIRS]), view(), seed=0)
    shown = knn.select_many(state, [Example("q", {"t": second}) for _, second in PAIRS], view())
    assert [demonstration.example.id for (demonstration,) in shown] == [0, 1, 2, 3]


def test_a_prompt_stands_before_each_text() -> None:
    prompted = SentenceTransformers(prompt="query: ").encode(None, examples(TEXTS), view())
    assert np.allclose(prompted, encoded([f"query: {text}" for text in TEXTS]), atol=1e-6)
    assert not np.allclose(prompted, encoded(TEXTS), atol=0.01)


def test_no_network_is_touched_and_kept_vectors_are_the_same_to_the_bit_and_load_no_torch(tmp_path: Path) -> None:
    first, loaded = alone(tmp_path / "kept", tmp_path / "first.npy", TEXTS)
    assert loaded == "['sentence_transformers', 'torch', 'transformers']"
    again, loaded = alone(tmp_path / "kept", tmp_path / "again.npy", TEXTS[::-1])
    assert loaded == "[]"
    assert first.tobytes() == again[::-1].tobytes()
    assert np.array_equal(encoded(TEXTS, tmp_path / "kept"), first)


def test_it_says_nothing_while_it_works(capfd: pytest.CaptureFixture[str]) -> None:
    encoded([f"{text} {i}" for i in range(20) for text in TEXTS])
    assert capfd.readouterr() == ("", "")
