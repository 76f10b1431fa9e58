"""`votek`, `cluster` and `complexity`: sets picked once by the whole pool, against their definitions; stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from support.vectors import VIEW, Given, cosines, drawn, ids, rows

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve.cluster import Cluster
from icl_engine.manipulation.retrieve.complexity import Complexity
from icl_engine.manipulation.retrieve.kmeans import clusters
from icl_engine.manipulation.retrieve.votek import VoteK, neighbourhoods, voted
from icl_engine.types import Example

STRANGER = Example("query", {"t": "?"})
SEEDS = st.integers(0, 10_000)


def votes_by_definition(neighbours: Sequence[Sequence[int]], k: int, rho: int) -> list[tuple[int, Fraction]]:
    """Exact: s(u) = Σ over v in U with u in N(v) of ρ^-|{l in L : l in N(v)}|; equals by place."""
    every = range(len(neighbours))
    chosen: list[tuple[int, Fraction]] = []
    for _ in range(k):
        taken = {u for u, _ in chosen}
        left = [u for u in every if u not in taken]
        scores = {
            u: sum(
                (Fraction(1, rho ** len(taken & set(neighbours[v]))) for v in left if u in neighbours[v]), Fraction(0)
            )
            for u in left
        }
        best = max(left, key=lambda u: (scores[u], -u))
        chosen.append((best, scores[best]))
    return chosen


@st.composite
def graphs(draw: Any) -> list[list[int]]:
    m = draw(st.integers(1, 14))
    n = draw(st.integers(0, min(5, m - 1)))
    return [draw(st.permutations([u for u in range(m) if u != v]))[:n] for v in range(m)]


@settings(deadline=None)
@given(graphs(), st.sampled_from([2, 10]))
def test_vote_k_is_its_definition(neighbours: list[list[int]], rho: int) -> None:
    m = len(neighbours)
    found = list(voted(np.array(neighbours, dtype=np.int32).reshape(m, -1), rho))
    expected = votes_by_definition(neighbours, m, rho)
    assert [u for u, _ in found] == [u for u, _ in expected]
    assert [s for _, s in found] == pytest.approx([float(s) for _, s in expected])


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.integers(1, 50), st.booleans())
def test_neighbourhoods_are_the_nearest_others(seed: int, m: int, n: int, sparse: bool) -> None:
    pool = rows(drawn(m, 5, seed))
    alike = cosines(pool, pool)
    vectors = Given(use="given").encode(None, pool, VIEW)
    expected = [sorted((u for u in range(m) if u != v), key=lambda u: -alike[v, u])[:n] for v in range(m)]
    assert neighbourhoods(csr_matrix(vectors) if sparse else vectors, n).tolist() == expected


def test_vote_k_shows_the_first_and_keeps_the_next_in_reserve() -> None:
    pool = rows(drawn(60, 5, 0))
    votek = VoteK(k=4, encoder=Given(use="given"), neighbours=7)
    alike = cosines(pool, pool)
    neighbours = [sorted((u for u in range(60) if u != v), key=lambda u: -alike[v, u])[:7] for v in range(60)]
    order = [u for u, _ in votes_by_definition(neighbours, 5, 10)]
    state = votek.fit(pool, VIEW, 0)
    assert ids(votek.select(state, STRANGER, VIEW)) == order[:4]
    for u in order[:4]:
        assert ids(votek.select(state, pool[u], VIEW)) == [v for v in order if v != u]


def test_vote_k_goes_on_after_everything_has_been_voted_for() -> None:
    assert [u for u, _ in islice(voted(np.array([[1], [0], [1]]), 10), 9)] == [1, 0, 2]


# -- clusters


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_clusters_hold_every_row_once_nearest_to_the_middle_first(seed: int, m: int, k: int, sparse: bool) -> None:
    vectors = Given(use="given").encode(None, rows(drawn(m, 3, seed)), VIEW)
    found = clusters(csr_matrix(vectors) if sparse else vectors, min(k, m), seed)
    assert sorted(i for several in found for i in several) == list(range(m))
    assert [len(several) for several in found] == sorted(map(len, found), reverse=True)
    for several in found:
        middle = vectors[several].astype(np.float64).mean(axis=0)
        far = np.linalg.norm(vectors[several] - middle, axis=1)
        assert (np.diff(far) > -1e-3).all()


def test_clusters_are_found_again() -> None:
    vectors = drawn(500, 8, 0)
    assert clusters(vectors, 5, 3) == clusters(vectors, 5, 3)
    assert len({str(clusters(vectors, 5, seed)) for seed in range(5)}) > 1


def test_fewer_different_vectors_than_clusters_give_fewer_clusters() -> None:
    assert clusters(np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]]), 3, 0) == [[0, 2, 3], [1]]


def test_cluster_shows_one_of_each_kind_and_the_second_stands_in() -> None:
    kinds = np.eye(3)[[0] * 9 + [1] * 6 + [2] * 3] * 10
    pool = rows(kinds + drawn(18, 3, 0) / 10)
    cluster = Cluster(k=3, encoder=Given(use="given"))
    state = cluster.fit(pool, VIEW, 0)
    shown = ids(cluster.select(state, STRANGER, VIEW))
    groups = [range(9), range(9, 15), range(15, 18)]
    assert [int(i) in group for i, group in zip(shown, groups, strict=True)] == [True] * 3
    for at, i in enumerate(shown):
        stood_in = ids(cluster.select(state, pool[int(i)], VIEW))
        assert [j for n, j in enumerate(stood_in) if n != at] == [j for n, j in enumerate(shown) if n != at]
        assert stood_in[at] != i
        assert int(stood_in[at]) in groups[at]


def test_a_cluster_of_one_gets_its_stand_in_from_another() -> None:
    pool = rows([(1, 0), (1, 0.01), (1, 0.02), (0, 1)])
    cluster = Cluster(k=2, encoder=Given(use="given"))
    state = cluster.fit(pool, VIEW, 0)
    assert ids(cluster.select(state, STRANGER, VIEW)) == [1, 3]
    assert len(set(ids(cluster.select(state, pool[3], VIEW)))) == 2
    assert ids(cluster.select(state, pool[3], VIEW))[0] == 1


def test_cluster_fills_up_where_vectors_are_the_same() -> None:
    pool = rows([(1, 0), (0, 1), (1, 0), (1, 0)])
    cluster = Cluster(k=3, encoder=Given(use="given"))
    state = cluster.fit(pool, VIEW, 0)
    assert ids(cluster.select(state, STRANGER, VIEW)) == [0, 1, 2]
    assert ids(cluster.select(state, pool[0], VIEW)) == [1, 2, 3]


# -- complexity


def reasoned(texts: Sequence[str | None], column: str = "rationale") -> list[Example]:
    return [Example(i, {"t": f"{i:04}", column: text}, "") for i, text in enumerate(texts)]


def test_the_most_steps_come_first_then_the_longer_text() -> None:
    texts = ["One. Two. Three.", "a\nb\nc\nd", "One. Two!", "line one\n\nline two, longer\nlast", "x\ny"]
    complexity = Complexity(k=5)
    shown = complexity.select(complexity.fit(reasoned(texts), VIEW, 0), STRANGER, VIEW)
    assert [(d.example.id, d.why) for d in shown] == [
        (1, "4 steps"), (3, "3 steps"), (0, "3 steps"), (2, "2 steps"), (4, "2 steps")
    ]  # fmt: skip


def test_the_next_stands_in_at_the_end() -> None:
    pool = reasoned(["a\nb\nc", "a\nb", "a", ""])
    complexity = Complexity(k=2)
    state = complexity.fit(pool, VIEW, 0)
    shown = complexity.select(state, pool[0], VIEW)
    assert ids(shown) == [1, 2]
    assert shown[1].why == "stands in: 3 steps is the query"


def test_the_column_is_the_users() -> None:
    complexity = Complexity(k=1, field="solution")
    state = complexity.fit(reasoned(["a", "a\nb"], "solution"), VIEW, 0)
    assert ids(complexity.select(state, STRANGER, VIEW)) == [1]


@pytest.mark.parametrize("pool", [reasoned(["a", None]), [*reasoned(["a"]), Example(1, {"t": "1"}, "")]])
def test_a_row_without_a_rationale_is_named(pool: list[Example]) -> None:
    with pytest.raises(TaskError, match="row 1 of the train split has no 'rationale'") as caught:
        Complexity(k=1).fit(pool, VIEW, 0)
    assert caught.value.key == "input.demonstrations.field"
