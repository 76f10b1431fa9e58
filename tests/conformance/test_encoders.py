"""The laws of encoders: rows of unit length or zero, the same text the same row whatever is asked beside it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.specs import Case, cases, made
from support.embedding_server import EmbeddingServer, letters

from icl_engine.protocols import Encoder, View
from icl_engine.registry import names
from icl_engine.types import Example

EVERY = pytest.mark.parametrize(("name", "case"), cases("encoder"))
TEXTS = [
    "a good film",
    "a bad film",
    "",
    "rain again",
    "日本語",
    "\ud800",
    "A GOOD FILM!",
    "word " * 50,
    "a good film",
]


def example(i: int, text: str) -> Example:
    return Example(i, {"t": text, "v": letters(text)})


POOL = [example(i, text) for i, text in enumerate(TEXTS)]
QUERIES = [example(100 + i, text) for i, text in enumerate([*TEXTS[::-1], "a film never seen", "\n"])]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


def opened(name: str, case: Case, server: EmbeddingServer) -> Encoder:
    """The encoder; one that asks a network asks the server."""
    if name in names("encoder") and "base_url" in case.keys:
        case = Case({**case.keys, "base_url": server.url})
    encoder = made("encoder", name, case)
    assert isinstance(encoder, Encoder)
    return encoder


def view(folder: Path | None = None) -> View:
    return View(lambda x: str(x.inputs["t"]), vectors=folder)


def rows(encoder: Encoder, xs: list[Example], state: Any = ..., folder: Path | None = None) -> np.ndarray:
    state = encoder.fit(POOL, view(folder)) if state is ... else state
    found = encoder.encode(state, xs, view(folder))
    assert found.dtype == np.float32
    return np.asarray(found if isinstance(found, np.ndarray) else found.toarray())


@EVERY
def test_every_row_is_of_unit_length_or_zero(name: str, case: Case, server: EmbeddingServer) -> None:
    found = rows(opened(name, case, server), QUERIES)
    assert len(found) == len(QUERIES)
    lengths = np.linalg.norm(found, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))


@EVERY
def test_a_text_has_the_same_row_whatever_is_asked_beside_it(name: str, case: Case, server: EmbeddingServer) -> None:
    encoder = opened(name, case, server)
    state = encoder.fit(POOL, view())
    together = rows(encoder, QUERIES, state)
    for i, x in enumerate(QUERIES):
        assert np.allclose(rows(encoder, [x], state)[0], together[i], atol=1e-6)
    assert np.allclose(rows(encoder, QUERIES[::-1], state), together[::-1], atol=1e-6)


@EVERY
def test_the_same_pool_gives_the_same_rows(name: str, case: Case, server: EmbeddingServer) -> None:
    encoder = opened(name, case, server)
    first = rows(encoder, QUERIES)
    assert np.array_equal(rows(encoder, QUERIES), first)
    assert np.array_equal(rows(opened(name, case, server), QUERIES), first)


@EVERY
def test_a_folder_for_vectors_changes_no_row(name: str, case: Case, server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = opened(name, case, server)
    first = rows(encoder, QUERIES, folder=tmp_path)
    assert np.allclose(first, rows(encoder, QUERIES), atol=1e-6)
    assert np.array_equal(rows(encoder, QUERIES, folder=tmp_path), first)


@EVERY
def test_fit_and_encode_change_nothing_they_are_given(name: str, case: Case, server: EmbeddingServer) -> None:
    encoder = opened(name, case, server)
    pool, queries, spec = copy.deepcopy(POOL), copy.deepcopy(QUERIES), encoder.model_dump()
    rows(encoder, QUERIES)
    assert (pool, queries, encoder.model_dump()) == (POOL, QUERIES, spec)


@EVERY
def test_of_no_examples_there_are_no_rows(name: str, case: Case, server: EmbeddingServer) -> None:
    assert rows(opened(name, case, server), []).shape[0] == 0


@EVERY
def test_which_encoders_ask_a_network(name: str, case: Case, server: EmbeddingServer) -> None:
    encoder = opened(name, case, server)
    rows(encoder, QUERIES)
    assert bool(server.received) == type(encoder).remote
