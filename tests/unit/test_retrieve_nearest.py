"""The exact nearest neighbours, against sorting: equals, blocks, groups, sparse and dense, and one's own row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from icl_engine.manipulation.retrieve import nearest as module
from icl_engine.manipulation.retrieve.nearest import best, nearest

# Small whole numbers: products are exact, and there are many equals.
VECTORS = st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=1, max_size=60)


def sorted_out(queries: Any, pool: Any, k: int, own: Any) -> list[list[tuple[int, float]]]:
    """The definition."""
    return [
        sorted(((j, float(q @ p)) for j, p in enumerate(pool) if j != mine), key=lambda f: (-f[1], f[0]))[:k]
        for q, mine in zip(queries, own, strict=True)
    ]


@given(VECTORS, VECTORS, st.integers(1, 9), st.booleans(), st.integers(0, 999))
def test_it_is_sorting_by_the_product_and_then_by_place(
    queries: list[Any], pool: list[Any], k: int, sparse: bool, seed: int
) -> None:
    q, p = np.array(queries, dtype=np.float32), np.array(pool, dtype=np.float32)
    own = np.random.default_rng(seed).integers(-1, len(p), len(q))
    form = csr_matrix if sparse else np.asarray
    found = [list(zip(at.tolist(), s.tolist(), strict=True)) for at, s in nearest(form(q), form(p), k, own)]
    assert found == sorted_out(q, p, k, own)


@pytest.mark.parametrize("sparse", [False, True])
def test_blocks_of_queries_are_all_found_the_same(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    q, p = draw.standard_normal((25, 8)).astype(np.float32), draw.standard_normal((300, 8)).astype(np.float32)
    form = csr_matrix if sparse else np.asarray
    whole = [(at.tolist(), s.tolist()) for at, s in nearest(form(q), form(p), 5)]
    for size in (300, 2100):
        monkeypatch.setattr(module, "BLOCK", size)
        assert [(at.tolist(), s.tolist()) for at, s in nearest(form(q), form(p), 5)] == whole
    alone = [found for i in range(25) for found in nearest(form(q[i : i + 1]), form(p), 5)]
    assert [(at.tolist(), s.tolist()) for at, s in alone] == whole


def test_one_that_has_only_itself_finds_nothing() -> None:
    vector = np.ones((1, 2), dtype=np.float32)
    assert [at.tolist() for at, _ in nearest(vector, vector, 3, np.array([0]))] == [[]]


def test_the_best_of_scores_without_differences_are_the_first() -> None:
    ((places, scores),) = best(np.zeros((1, 5000), dtype=np.float32), 3, np.array([1]))
    assert (places.tolist(), scores.tolist()) == ([0, 2, 3], [0, 0, 0])
