"""`mmr`, `dpp` and `per_label`, against their definitions written out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.vectors import VIEW, Given, cosines, drawn, ids, rows

from icl_engine.errors import TaskError
from icl_engine.manipulation.retrieve import candidates as candidates_
from icl_engine.manipulation.retrieve import nearest
from icl_engine.manipulation.retrieve.dpp import Dpp
from icl_engine.manipulation.retrieve.knn import Knn
from icl_engine.manipulation.retrieve.mmr import Mmr
from icl_engine.manipulation.retrieve.per_label import PerLabel
from icl_engine.registry import resolve
from icl_engine.types import Example

SEEDS = st.integers(0, 10_000)


def query(vector: Any) -> Example:
    return Example("query", {"t": "?", "v": tuple(map(float, vector))})


def candidates(pool: list[Example], x: Example, m: int) -> list[int]:
    relevance = cosines([x], pool)[0]
    return sorted((i for i in range(len(pool)) if VIEW(pool[i]) != VIEW(x)), key=lambda i: (-relevance[i], i))[:m]


def mmr_by_definition(pool: list[Example], x: Example, k: int, m: int, weight: float) -> list[tuple[int, float]]:
    relevance, alike = (1 + cosines([x], pool)[0]) / 2, (1 + cosines(pool, pool)) / 2
    left = candidates(pool, x, m)
    chosen: list[tuple[int, float]] = []
    while left and len(chosen) < k:
        values = [
            weight * relevance[i] - (1 - weight) * max((alike[i, j] for j, _ in chosen), default=0.0) for i in left
        ]
        at = int(np.argmax(values))
        chosen.append((left.pop(at), values[at]))
    return chosen


def dpp_by_determinants(pool: list[Example], x: Example, k: int, m: int, scale: float) -> list[int]:
    order = candidates(pool, x, m)
    relevance = (1 + cosines([x], pool)[0][order]) / 2
    r = np.exp((relevance - relevance.max(initial=0.0)) / (2 * scale))
    rows_ = [pool[i] for i in order]
    kernel = r[:, None] * (1 + cosines(rows_, rows_)) / 2 * r[None, :]
    chosen: list[int] = []
    while len(chosen) < min(k, len(order)):
        now = np.linalg.det(kernel[np.ix_(chosen, chosen)])
        gains = [
            -1.0 if i in chosen else np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])]) / now / kernel[i, i]
            for i in range(len(order))
        ]
        weighed = [g * kernel[i, i] if g > 1e-6 else -1.0 for i, g in enumerate(gains)]
        if max(weighed) < 0:
            chosen += [i for i in range(len(order)) if i not in chosen][: k - len(chosen)]
            break
        chosen.append(int(np.argmax(weighed)))
    return [order[i] for i in sorted(chosen)]


@settings(deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 6), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_mmr_is_its_definition(seed: int, n: int, k: int, m: int, weight: float) -> None:
    pool = rows(drawn(n, 5, seed))
    k = min(k, n)
    mmr = Mmr(k=k, encoder=Given(use="given"), candidates=m, relevance=weight)
    xs = [query(v) for v in drawn(3, 5, seed + 1)] + pool[:2]
    for x, shown in zip(xs, mmr.select_many(mmr.fit(pool, VIEW, 0), xs, VIEW), strict=True):
        expected = mmr_by_definition(pool, x, k, max(m, k), weight)
        if weight > 0:  # at 0 all are equal at first, but for rounding
            assert ids(shown) == [i for i, _ in expected]
        assert [d.score for d in shown] == pytest.approx([s for _, s in expected], abs=1e-5)


def test_mmr_that_looks_at_relevance_only_is_knn() -> None:
    pool, xs = rows(drawn(200, 8, 0)), [query(v) for v in drawn(20, 8, 1)]
    knn, mmr = Knn(k=6, encoder=Given(use="given")), Mmr(k=6, encoder=Given(use="given"), relevance=1)
    by_knn, by_mmr = (r.select_many(r.fit(pool, VIEW, 0), xs, VIEW) for r in (knn, mmr))
    assert [ids(shown) for shown in by_mmr] == [ids(shown) for shown in by_knn]


@settings(deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 5), st.integers(1, 12), st.sampled_from([0.05, 0.1, 1.0]))
def test_dpp_is_the_greedy_determinant(seed: int, n: int, k: int, m: int, scale: float) -> None:
    pool = rows(drawn(n, 6, seed))
    k = min(k, n)
    dpp = Dpp(k=k, encoder=Given(use="given"), candidates=m, scale=scale)
    xs = [query(v) for v in drawn(3, 6, seed + 1)] + pool[:2]
    for x, shown in zip(xs, dpp.select_many(dpp.fit(pool, VIEW, 0), xs, VIEW), strict=True):
        assert ids(shown) == dpp_by_determinants(pool, x, k, max(m, k), scale)
        assert [d.score for d in shown] == pytest.approx(cosines([x], [d.example for d in shown])[0], abs=1e-6)


def test_dpp_follows_with_the_most_similar_where_nothing_adds_to_the_determinant() -> None:
    # Three directions, each several times: after one of each, all others are copies.
    vectors = [(1, 0, 0), (1, 0, 0), (1, 0, 0), (0.9, 0.1, 0), (0.9, 0.1, 0), (0.8, 0, 0.3)]
    pool, dpp = rows(vectors), Dpp(k=5, encoder=Given(use="given"))
    shown = dpp.select(dpp.fit(pool, VIEW, 0), query((1, 0, 0)), VIEW)
    assert ids(shown) == [0, 1, 2, 3, 5]
    assert {d.example.id: d.why.split(",")[0] for d in shown} == {
        0: "dpp 1", 5: "dpp 2", 3: "dpp 3", 1: "dpp 4", 2: "dpp 5"
    }  # fmt: skip


@settings(deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 4))
def test_per_label_gives_each_label_its_nearest(seed: int, k: int, labels: int) -> None:
    pool = rows(drawn(24, 4, seed), ["b", 1, "a", None][:labels])
    per_label = PerLabel(k=k, encoder=Given(use="given"))
    xs = [query(v) for v in drawn(3, 4, seed + 1)] + pool[:3]
    for x, shown in zip(xs, per_label.select_many(per_label.fit(pool, VIEW, 0), xs, VIEW), strict=True):
        near = candidates(pool, x, len(pool))
        of = {y: [i for i in near if pool[i].target == y][:k] for y in {x.target for x in pool}}
        assert ids(shown) == sorted((i for several in of.values() for i in several), key=near.index)
        assert set(Counter(d.example.target for d in shown).values()) == {k}


def test_a_label_with_too_few_rows_is_named() -> None:
    pool = [*rows(drawn(8, 4, 0), "a"), Example(8, {"t": "8", "v": (1.0, 0, 0, 0)}, "rare")]
    with pytest.raises(TaskError, match="k is 2, but the train split has 1 different rows labelled 'rare'"):
        PerLabel(k=2, encoder=Given(use="given")).fit(pool, VIEW, 0)


def test_a_shared_set_keeps_k_of_each_label() -> None:
    pool = rows(drawn(40, 4, 0), "abc")
    per_label = PerLabel.model_validate(
        {"use": "per_label", "k": 2, "encoder": Given(use="given"), "prefix": "shared", "groups": 3}
    )
    state = per_label.fit(pool, VIEW, 0)
    for x, shown in zip(pool, per_label.select_many(state, pool, VIEW), strict=True):
        assert Counter(d.example.target for d in shown) == {"a": 2, "b": 2, "c": 2}
        assert x.id not in ids(shown)
    assert len({tuple(ids(s)) for s in per_label.select_many(state, [query(v) for v in drawn(99, 4, 1)], VIEW)}) <= 3


@pytest.mark.parametrize("use", ["knn", "mmr", "dpp", "per_label"])
def test_a_query_alone_and_among_others_gets_the_same(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, xs = rows(drawn(400, 16, 0)), [query(v) for v in drawn(40, 16, 1)]
    retriever = resolve("retriever", use).model_validate({"use": use, "k": 4, "encoder": Given(use="given")})
    state = retriever.fit(pool, VIEW, 0)
    together = retriever.select_many(state, [*xs, *pool], VIEW)
    assert together == [retriever.select(state, x, VIEW) for x in [*xs, *pool]]
    monkeypatch.setattr(nearest, "BLOCK", 5000)
    monkeypatch.setattr(candidates_, "BLOCK", 100_000)
    assert retriever.select_many(state, [*xs, *pool], VIEW) == together
