"""Metrics against values computed by hand or by the field's own packages, and their intervals."""

from __future__ import annotations

import re
import string
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import isclose, sqrt
from random import Random
from time import perf_counter
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

from icl_engine.errors import MissingExtraError
from icl_engine.metrics.accuracy import Accuracy, ExactMatch
from icl_engine.metrics.f1 import MacroF1, SpanF1, TokenF1
from icl_engine.metrics.intervals import Z95, chunks, percentiles, resampled, wilson
from icl_engine.metrics.row import RowMetric
from icl_engine.metrics.tally import UNITS, Tally, named
from icl_engine.metrics.text import Bleu, Chrf, Rouge, lcs_length
from icl_engine.protocols import Metric
from icl_engine.types import Score

Pairs = Iterable[tuple[Any, Any]]
DETERMINISTIC = settings(deadline=None, derandomize=True)

CONFUSION: Pairs = [
    *[("a", "a")] * 3,
    ("b", "a"),
    *[("b", "b")] * 2,
    ("c", "b"),
    ("c", "c"),
    (None, "c"),
]
"""(prediction, target): a has F1 6/7, b 4/6, c 2/4."""


class Degree(RowMetric):
    """A row's score is what was predicted: any distribution of scores can be given to a tally."""

    use: Literal["degree"] = "degree"
    graded: ClassVar[bool] = True

    def row(self, prediction: Any, target: Any) -> float:
        return float(prediction)


def tallied(metric: Metric, pairs: Pairs, seed: int = 0, clusters: Sequence[object] | None = None) -> Tally:
    tally = Tally(metric, seed)
    for i, (prediction, target) in enumerate(pairs):
        tally.add(prediction, target, None if clusters is None else clusters[i])
    return tally


def scored(metric: Metric, pairs: Pairs, seed: int = 0, clusters: Sequence[object] | None = None) -> Score:
    return tallied(metric, pairs, seed, clusters).score()


def degrees(values: Iterable[float], seed: int = 0, clusters: Sequence[object] | None = None) -> Score:
    return scored(Degree(), ((value, None) for value in values), seed, clusters)


def width(score: Score) -> float:
    return score.ci95[1] - score.ci95[0]


# -- Wilson's interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (8, 10, 0.4902, 0.9433),
        (10, 10, 0.7225, 1.0),
        (174, 200, 0.8163, 0.9097),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_gives_the_known_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 57, 200, 999, 10_000, 1_000_000])
def test_wilson_equals_statsmodels(n: int) -> None:
    for successes in sorted({0, 1, n // 100, n // 10, n // 3, n // 2, n - n // 5, n - 1, n}):
        expected = proportion_confint(successes, n, alpha=0.05, method="wilson")
        assert wilson(successes, n) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_ends_are_where_the_score_test_just_rejects(counts: tuple[int, int]) -> None:
    successes, n = counts
    for end in wilson(successes, n):
        assert isclose(abs(successes / n - end), Z95 * sqrt(max(0.0, end * (1 - end)) / n), abs_tol=1e-7)


@pytest.mark.parametrize("n", [1, 7, 9, 10, 200, 12345])
def test_wilson_reaches_the_edge_where_all_are_right_or_wrong(n: int) -> None:
    assert (wilson(0, n)[0], wilson(n, n)[1]) == (0.0, 1.0)


# -- accuracy and exact match


def test_accuracy_is_the_share_of_equal_answers() -> None:
    score = scored(Accuracy(), CONFUSION)
    assert (score.value, score.n) == (6 / 9, 9)
    assert score.ci95 == wilson(6, 9)


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [("a", "a", 1.0), ("a", "b", 0.0), (None, "a", 0.0), (None, None, 0.0), (["a"], ["a"], 1.0), ("a", "A", 0.0)],
)
def test_accuracy_judges_one_answer(prediction: Any, target: Any, right: float) -> None:
    assert Tally(Accuracy()).add(prediction, target) == right


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [
        ("Paris", "Paris", 1.0),
        (" Paris\n", "Paris", 1.0),
        ("Paris", "\tParis ", 1.0),
        ("paris", "Paris", 0.0),
        ("Paris.", "Paris", 0.0),
        ("The Paris", "Paris", 0.0),
        ("New  York", "New York", 0.0),
        (1, "1", 1.0),
        ('{"a": [true]}', {"a": [True]}, 1.0),
        ("", "", 1.0),
        (None, "None", 0.0),
        (None, "", 0.0),
    ],
)
def test_exact_match_strips_and_nothing_else(prediction: Any, target: Any, right: float) -> None:
    assert Tally(ExactMatch()).add(prediction, target) == right


# -- macro F1


def plain_macro_f1(pairs: Sequence[tuple[Any, Any]]) -> float:
    """As in a textbook: precision and recall of each label."""
    labels = {t for _, t in pairs} | {p for p, _ in pairs if p is not None}
    f1 = []
    for label in labels:
        right = sum(p == t == label for p, t in pairs)
        precision = right / max(1, sum(p == label for p, _ in pairs))
        recall = right / max(1, sum(t == label for _, t in pairs))
        f1.append(2 * precision * recall / (precision + recall) if right else 0.0)
    return sum(f1) / len(f1)


def test_macro_f1_is_the_mean_of_each_labels_f1() -> None:
    score = scored(MacroF1(), CONFUSION)
    assert score.value == pytest.approx((6 / 7 + 4 / 6 + 2 / 4) / 3)
    assert score.n == 9


@DETERMINISTIC
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.sampled_from("abc")), min_size=1))
def test_macro_f1_equals_a_plain_computation(pairs: list[tuple[Any, Any]]) -> None:
    metric, sums = MacroF1(), Counter[str]()
    for pair in pairs:
        sums.update(metric.counts(*pair)[1])
    assert float(metric.value(sums)) == pytest.approx(plain_macro_f1(pairs))


def test_an_unreadable_answer_is_no_label_of_macro_f1() -> None:
    assert scored(MacroF1(), [("a", "a"), (None, "a"), ("b", "b")]).value == pytest.approx((2 / 3 + 1) / 2)


def test_a_label_only_ever_predicted_counts_in_macro_f1() -> None:
    assert scored(MacroF1(), [("a", "a"), ("b", "a")]).value == pytest.approx((2 / 3 + 0) / 2)


def test_numbers_and_texts_are_one_label_of_macro_f1() -> None:
    assert scored(MacroF1(), [("1", 1), (0, "0")]).value == 1.0


@pytest.mark.parametrize("label", ["named a", "right a", "named ", "right named a", " ", "None", "a\nb"])
def test_any_text_may_be_a_label_of_macro_f1(label: str) -> None:
    assert scored(MacroF1(), [(label, label), ("b", "a"), ("a", "a"), (label, "a")]).value == pytest.approx(
        plain_macro_f1([(label, label), ("b", "a"), ("a", "a"), (label, "a")])
    )


def test_an_answer_alone_has_no_macro_f1() -> None:
    assert Tally(MacroF1()).add("a", "a") is None


def test_the_interval_of_macro_f1_is_that_of_resampled_rows() -> None:
    draw = Random(3)
    pairs = [(draw.choice("aaabc"), draw.choice("abc")) for _ in range(300)]
    rng, value = np.random.default_rng(0), plain_macro_f1(pairs)
    resamples = [plain_macro_f1([pairs[i] for i in rng.integers(0, 300, 300)]) for _ in range(500)]
    se = float(np.std(resamples))
    assert scored(MacroF1(), pairs).value == pytest.approx(value)
    assert scored(MacroF1(), pairs).ci95 == pytest.approx(np.percentile(resamples, [2.5, 97.5]), abs=0.4 * se)


def test_a_label_that_a_resample_lacks_keeps_its_f1_of_the_whole() -> None:
    whole = {"named a": 4.0, "right a": 2.0, "named b": 8.0, "right b": 1.0}
    without_b = {"named a": np.array([4.0]), "right a": np.array([1.0]), "named b": np.zeros(1), "right b": np.zeros(1)}
    assert MacroF1().value(without_b, whole) == pytest.approx([(0.5 + 0.25) / 2])
    assert MacroF1().value(without_b) == pytest.approx([0.5])


def test_the_interval_of_macro_f1_is_not_widened_by_resamples_without_a_rare_label() -> None:
    """One in three resamples lacks it: a mean over fewer labels would double the value."""
    score = scored(MacroF1(), [*[("a", "a")] * 99, ("a", "rare")])
    assert 0.45 < score.ci95[0] < score.value <= score.ci95[1] <= 0.5


# -- words: token F1 as SQuAD publishes it


def squad_f1(prediction: str, target: str) -> float:
    """`normalize_answer`, `get_tokens` and `compute_f1` of SQuAD's evaluate-v2.0.py."""

    def tokens(text: str) -> list[str]:
        bare = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", bare).split()).split()

    gold, said = tokens(target), tokens(prediction)
    same = sum((Counter(gold) & Counter(said)).values())
    if not gold or not said:
        return float(gold == said)
    if same == 0:
        return 0.0
    precision, recall = same / len(said), same / len(gold)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("prediction", "target", "f1"),
    [
        ("Denver Broncos", "Denver Broncos", 1.0),
        ("the Denver Broncos.", "Denver Broncos", 1.0),
        ("DENVER  broncos\n", "Denver Broncos", 1.0),
        ("Broncos Denver", "Denver Broncos", 1.0),
        ("The U.S.A.", "an usa", 1.0),
        ("Levi's Stadium", "Levis stadium", 1.0),
        ("well-known", "wellknown", 1.0),
        ("a theatre", "theatre", 1.0),
        ("a", "the", 1.0),
        ("", "...", 1.0),
        ("the", "Denver", 0.0),
        ("Denver", "", 0.0),
        ("Denver", "Broncos", 0.0),
        ("Denver Broncos", "Denver", 2 / 3),
        ("gold gold gold", "gold gold", 4 / 5),
        ("in Santa Clara, California", "Santa Clara", 2 / 3),
        (1966, "1966", 1.0),
        (None, "the", 0.0),
        (None, "", 0.0),
    ],
)
def test_token_f1_normalises_as_squad_does(prediction: Any, target: str, f1: float) -> None:
    assert Tally(TokenF1()).add(prediction, target) == pytest.approx(f1)
    if isinstance(prediction, str):
        assert squad_f1(prediction, target) == pytest.approx(f1)


TEXTS = st.lists(
    st.sampled_from(["a", "An", "THE", "cat", "Cat!", "-", "’s", "é", "the\u00a0cat", "theatre", "a-b", "\t", "_a_"])
).map(" ".join)


@DETERMINISTIC
@given(TEXTS | st.text(max_size=12), TEXTS | st.text(max_size=12))
def test_token_f1_equals_squads_own_script(prediction: str, target: str) -> None:
    assert TokenF1().row(prediction, target) == pytest.approx(squad_f1(prediction, target))


# -- spans

ANN, BO = {"type": "person", "text": "Ann"}, {"type": "person", "text": "Bo"}
OSLO = {"type": "city", "text": "Oslo"}


@pytest.mark.parametrize(
    ("prediction", "target", "right", "predicted", "meant"),
    [
        # a list of objects
        ([ANN, OSLO], [ANN, OSLO], 2, 2, 2),
        ([OSLO, ANN], [ANN, OSLO], 2, 2, 2),
        ([ANN, BO], [ANN, OSLO], 1, 2, 2),
        ([{"type": "city", "text": "Ann"}], [ANN], 0, 1, 1),
        ([{"type": " person", "text": "Ann\n"}], [ANN], 1, 1, 1),
        ([{"type": "person", "text": "ann"}], [ANN], 0, 1, 1),
        ([ANN, ANN], [ANN], 1, 2, 1),
        ([ANN, ANN], [ANN, ANN], 2, 2, 2),
        ([{**ANN, "start": 3}], [ANN], 1, 1, 1),
        # an object of lists
        ({"person": ["Ann", "Bo"]}, {"person": ["Bo", "Ann"]}, 2, 2, 2),
        ({"person": ["Ann"], "city": ["Oslo"]}, [ANN, OSLO], 2, 2, 2),
        ([ANN, OSLO], {"person": ["Ann"], "city": ["Oslo"]}, 2, 2, 2),
        ({"person": "Ann"}, [ANN], 1, 1, 1),
        ({" person\n": [" Ann"]}, [ANN], 1, 1, 1),
        ({"person": [], "city": None}, [ANN], 0, 0, 1),
        ({"person": ["Ann"], "city": []}, {"person": ["Ann"]}, 1, 1, 1),
        # one object
        (ANN, [ANN], 1, 1, 1),
        # plain texts
        (["Ann", "Oslo"], ["Oslo", "Bo"], 1, 2, 2),
        ("Ann", ["Ann"], 1, 1, 1),
        (("Ann", " Bo "), ["Bo"], 1, 2, 1),
        ([{"text": "Ann"}], ["Ann"], 1, 1, 1),
        ([ANN], ["Ann"], 0, 1, 1),
        # nothing to find
        ([], [], 0, 0, 0),
        ({}, [], 0, 0, 0),
        ([ANN], [], 0, 1, 0),
        ([], [ANN, BO], 0, 0, 2),
        (None, [ANN, BO], 0, 0, 2),
        (None, [], 0, 1, 0),
        (None, None, 0, 1, 0),
        # hostile shapes: what is no span counts as a span of its own, and none of them is right by chance
        (3, [ANN], 0, 1, 1),
        (True, [ANN], 0, 1, 1),
        ([3, 0.5], ["3"], 1, 2, 1),
        ([None], [ANN], 0, 1, 1),
        ([[ANN]], [ANN], 0, 1, 1),
        ({"person": {"person": ["Ann"]}}, [ANN], 0, 1, 1),
        ({"person": [["Ann"]]}, [ANN], 0, 1, 1),
        ({"entities": [ANN]}, [ANN], 0, 1, 1),
        ({"type": "person", "text": ["Ann"]}, [ANN], 0, 1, 1),
        ({"type": ["person"], "text": "Ann"}, [ANN], 0, 1, 1),
        ({"type": None, "text": None}, [ANN], 0, 1, 1),
    ],
)
def test_span_f1_takes_every_shape(prediction: Any, target: Any, right: int, predicted: int, meant: int) -> None:
    own, counts = SpanF1().counts(prediction, target)
    assert counts == {"right": right, "predicted": predicted, "target": meant}
    named_spans = predicted + meant
    assert own == (0.0 if prediction is None else 2 * right / named_spans if named_spans else 1.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "person", "", "1"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@DETERMINISTIC
@given(JSON, JSON)
def test_span_f1_judges_whatever_a_model_may_say(prediction: Any, target: Any) -> None:
    own, counts = SpanF1().counts(prediction, target)
    assert 0 <= own <= 1
    assert 0 <= counts["right"] <= min(counts["predicted"], counts["target"])
    if target is not None:
        assert SpanF1().counts(target, target)[0] == 1.0


def test_span_f1_is_of_the_sums_and_not_the_mean_of_rows() -> None:
    pairs: Pairs = [([ANN, BO, OSLO], [ANN, BO, OSLO]), ([ANN], [BO]), (None, [ANN])]
    assert scored(SpanF1(), pairs).value == pytest.approx(2 * 3 / (4 + 5))


def test_nothing_found_where_nothing_is_to_be_found_is_perfect() -> None:
    assert scored(SpanF1(), [([], []), ({}, None)]).value == 1.0
    assert scored(SpanF1(), [([], []), ([ANN], [])]).value == 0.0


# -- text against a reference, by the field's own packages

WORDS = [
    *("the", "a", "on", "in", "cat", "cats", "sat", "sitting", "mat", "dog", "dogs", "ran", "running", "fast"),
    *(",", ".", "12", "1,000", "it's", "Oslo", "é", "猫", "坐"),
]


def sentences(count: int = 200, seed: int = 5) -> tuple[list[str], list[str]]:
    """Answers and references: a reference whose words are kept, dropped or changed."""
    draw = Random(seed)
    said, meant = [], []
    for _ in range(count):
        reference = draw.choices(WORDS, k=draw.randint(1, 25))
        answer = [draw.choice(WORDS) if draw.random() < 0.25 else w for w in reference if draw.random() < 0.9]
        said.append(" ".join(answer))
        meant.append(" ".join(reference))
    return said, meant


CORPUS_METRICS = {
    "bleu": (Bleu(), sacrebleu.BLEU()),
    "bleu, lower case": (Bleu(lowercase=True), sacrebleu.BLEU(lowercase=True)),
    "bleu, characters": (Bleu(tokenize="char"), sacrebleu.BLEU(tokenize="char")),
    "bleu, intl": (Bleu(tokenize="intl", lowercase=True), sacrebleu.BLEU(tokenize="intl", lowercase=True)),
    "bleu, as it stands": (Bleu(tokenize="none"), sacrebleu.BLEU(tokenize="none")),
    "bleu, Chinese": (Bleu(tokenize="zh"), sacrebleu.BLEU(tokenize="zh")),
    "chrf": (Chrf(), sacrebleu.CHRF()),
    "chrf+": (Chrf(word_order=1), sacrebleu.CHRF(word_order=1)),
    "chrf++": (Chrf(word_order=2), sacrebleu.CHRF(word_order=2)),
    "chrf, lower case": (Chrf(lowercase=True), sacrebleu.CHRF(lowercase=True)),
}
CORPUS = pytest.mark.parametrize(("ours", "theirs"), CORPUS_METRICS.values(), ids=CORPUS_METRICS.keys())


@CORPUS
def test_bleu_and_chrf_equal_sacrebleus_corpus_score(ours: Metric, theirs: Any) -> None:
    said, meant = sentences()
    score = scored(ours, zip(said, meant, strict=True))
    assert score.value == pytest.approx(theirs.corpus_score(said, [meant]).score, abs=1e-9)
    assert 20 < score.ci95[0] < score.value <= score.ci95[1] < 95


@CORPUS
def test_a_resample_of_bleu_and_chrf_is_sacrebleus_score_of_the_resampled_corpus(ours: Metric, theirs: Any) -> None:
    said, meant = sentences(40)
    tally = tallied(ours, zip(said, meant, strict=True))
    matrix = tally.matrix(tally.names)
    drawn = np.random.default_rng(1).integers(0, 40, size=(5, 40))
    weights = np.array([np.bincount(rows, minlength=40) for rows in drawn])
    for rows, value in zip(drawn, ours.value(named(tally.names, weights @ matrix)), strict=True):
        corpus = [said[i] for i in rows], [[meant[i] for i in rows]]
        assert value == pytest.approx(theirs.corpus_score(*corpus).score, abs=1e-9)


@CORPUS
def test_an_unreadable_answer_is_an_empty_text(ours: Metric, theirs: Any) -> None:
    said, meant = sentences(30)
    score = scored(ours, zip([None, *said[1:]], meant, strict=True))
    assert score.value == pytest.approx(theirs.corpus_score(["", *said[1:]], [meant]).score, abs=1e-9)


def test_a_sentence_alone_has_no_bleu() -> None:
    assert Tally(Bleu()).add("a b c d e", "a b c d e") is None
    assert Tally(Chrf()).add("a b c d e", "a b c d e") is None


def test_a_perfect_bleu_is_not_above_the_best() -> None:
    assert scored(Bleu(), [("a b c d e", "a b c d e")]).value <= Bleu.best


@pytest.mark.parametrize("stem", [False, True])
@pytest.mark.parametrize("variant", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_equals_the_mean_of_rouge_score(
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"], stem: bool
) -> None:
    said, meant = sentences()
    pairs = [(a.replace(" . ", " .\n"), b.replace(" . ", " .\n")) for a, b in zip(said, meant, strict=True)]
    theirs = RougeScorer([variant], use_stemmer=stem)
    expected = [theirs.score(b, a)[variant].fmeasure for a, b in pairs]
    metric = Rouge(variant=variant, stem=stem)
    assert [Tally(metric).add(*pair) for pair in pairs] == expected
    assert scored(metric, pairs).value == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("variant", "stem", "said", "meant", "f1"),
    [
        ("rouge1", False, "the cat sat", "the cat ran home", 4 / 7),
        ("rouge2", False, "the cat sat", "the cat ran home", 2 / 5),
        ("rougeL", False, "home the cat", "the cat ran home", 4 / 7),
        ("rougeLsum", False, "the cat\nran home", "ran home\nthe cat", 1.0),
        ("rougeL", False, "the cat\nran home", "ran home\nthe cat", 1 / 2),
        ("rouge1", True, "cats running", "cat runs", 1.0),
        ("rouge1", False, "cats running", "cat runs", 0.0),
    ],
)
def test_rouge_gives_the_values_computed_by_hand(
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"], stem: bool, said: str, meant: str, f1: float
) -> None:
    assert Tally(Rouge(variant=variant, stem=stem)).add(said, meant) == pytest.approx(f1)


@DETERMINISTIC
@given(st.text("abc .", max_size=30), st.text("abc .", max_size=30))
def test_rouge_l_equals_rouge_scores_of_any_text(said: str, meant: str) -> None:
    assert Rouge().row(said, meant) == RougeScorer(["rougeL"]).score(meant, said)["rougeL"].fmeasure


@DETERMINISTIC
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_the_longest_common_subsequence_is_that_of_the_table(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert lcs_length(a, b) == lcs_length(b, a) == table[-1][-1]


def test_a_run_on_answer_takes_rouge_l_no_time() -> None:
    began = perf_counter()
    Rouge().row("the cat sat on the mat " * 2_500, "a cat sat on a mat " * 25)
    assert perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("metric", "package"), [(Rouge(), "rouge-score"), (Bleu(), "sacrebleu"), (Chrf(), "sacrebleu")]
)
def test_a_missing_package_is_told_in_one_line_with_the_extra(
    metric: Metric, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric.check()
    monkeypatch.setattr("icl_engine.metrics.text.find_spec", lambda module: None)
    with pytest.raises(MissingExtraError) as caught:
        metric.check()
    assert str(caught.value) == (
        f"the metric {metric.use} needs the package {package}; run: pip install 'icl-engine[metrics]'"
    )


# -- the bootstrap interval


def test_the_bootstrap_interval_is_seeded() -> None:
    assert scored(MacroF1(), CONFUSION, seed=1) == scored(MacroF1(), CONFUSION, seed=1)
    assert scored(MacroF1(), CONFUSION, seed=1).ci95 != scored(MacroF1(), CONFUSION, seed=2).ci95


def test_the_bootstrap_interval_holds_the_value_and_narrows() -> None:
    few, many = scored(MacroF1(), CONFUSION), scored(MacroF1(), list(CONFUSION) * 50)
    for score in (few, many):
        assert score.ci95[0] < score.value <= score.ci95[1]
    assert few.value == pytest.approx(many.value)
    assert width(many) < width(few) / 3


def test_the_bootstrap_interval_holds_the_value_where_labels_are_rare() -> None:
    score = scored(MacroF1(), [*[("a", "a")] * 90, *(("a", f"rare {i}") for i in range(10))])
    assert score.ci95[0] <= score.value <= score.ci95[1]


SHAPES: dict[str, Callable[[Any, int], Any]] = {
    "even": lambda rng, n: rng.random(n),
    "mostly right": lambda rng, n: rng.beta(5, 1, n),
    "all or nothing": lambda rng, n: rng.choice([0.0, 0.5, 1.0], n, p=[0.3, 0.1, 0.6]),
}


@pytest.mark.parametrize("n", [20, 100, 400])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_interval_of_a_mean_agrees_with_scipys_bootstrap(shape: Callable[[Any, int], Any], n: int) -> None:
    values = shape(np.random.default_rng(n), n)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1))
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    # 2,000 resamples: an end is off by 6% of the standard error.
    assert degrees(values).ci95 == pytest.approx(expected, abs=0.25 * theirs.standard_error)


@pytest.mark.parametrize("units", [1, 3, 4096])
def test_every_resample_draws_as_many_units_as_there_are(units: int) -> None:
    totals = resampled((units, 1), lambda weights: weights.sum(axis=1), seed=0, repeats=50)
    assert totals.tolist() == [units] * 50


@pytest.mark.parametrize("unit", [0, 3, 6])
def test_units_are_drawn_evenly_and_with_replacement(unit: int) -> None:
    drawn = resampled((7, 1), lambda weights: weights[:, unit], seed=0, repeats=20_000)
    assert drawn.mean() == pytest.approx(1.0, abs=0.03)
    assert drawn.var() == pytest.approx(7 * (1 / 7) * (6 / 7), rel=0.05)


@given(st.integers(1, 10**7), st.integers(1, 3000))
def test_chunks_add_up_and_stay_small(units: int, repeats: int) -> None:
    sizes = list(chunks((units, 2), repeats)) if units * repeats < 10**9 else []
    assert sum(sizes) in (repeats, 0)
    assert all(size == 1 or size * units <= 4_000_000 for size in sizes)


def test_percentiles_are_the_middle_95_percent() -> None:
    assert percentiles(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


# -- rows that were drawn together


def test_repeated_rows_in_clusters_tell_no_more_than_one_of_each() -> None:
    values = np.random.default_rng(2).random(80)
    repeated, of = np.repeat(values, 5), np.repeat(np.arange(80), 5).tolist()
    once, clustered, naive = degrees(values), degrees(repeated, clusters=of), degrees(repeated)
    assert (clustered.value, naive.value) == pytest.approx((once.value, once.value))
    assert (clustered.n, naive.n) == (400, 400)
    assert width(clustered) == pytest.approx(width(once), rel=1e-9)
    assert width(clustered) == pytest.approx(width(naive) * sqrt(5), rel=0.15)


@pytest.mark.parametrize("size", [2, 8])
def test_the_interval_of_equal_clusters_agrees_with_scipys_bootstrap_of_their_means(size: int) -> None:
    rng = np.random.default_rng(size)
    values = np.clip(rng.random((60, 1)) + rng.normal(0, 0.2, (60, size)), 0, 1)
    of = np.repeat([f"text {i}" for i in range(60)], size).tolist()
    theirs = bootstrap(
        (values.mean(axis=1),), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    )
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert degrees(values.ravel(), clusters=of).ci95 == pytest.approx(expected, abs=0.25 * theirs.standard_error)


def test_the_rows_of_a_cluster_need_not_stand_together() -> None:
    values = np.random.default_rng(4).random(120)
    together = degrees(values, clusters=[i // 6 for i in range(120)])
    apart = [i for start in range(6) for i in range(start, 120, 6)]
    found = degrees(values[apart], clusters=[i // 6 for i in apart])
    assert (found.value, *found.ci95) == pytest.approx((together.value, *together.ci95))


def test_right_and_wrong_in_clusters_have_the_clusters_interval_and_not_wilsons() -> None:
    verdicts = [(("a" if i % 3 else "b"), "a") for i in range(40) for _ in range(5)]
    clusters = [i for i in range(40) for _ in range(5)]
    plain, clustered = scored(Accuracy(), verdicts), scored(Accuracy(), verdicts, clusters=clusters)
    assert plain.ci95 == wilson(130, 200)
    assert width(clustered) == pytest.approx(width(plain) * sqrt(5), rel=0.15)


def test_clusters_of_one_row_each_are_rows() -> None:
    verdicts = [("a" if i % 3 else "b", "a") for i in range(30)]
    assert scored(Accuracy(), verdicts, clusters=list(range(30))) == scored(Accuracy(), verdicts)
    assert scored(Accuracy(), verdicts, clusters=[0, *range(29)]).ci95 != wilson(20, 30)


@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_units_that_are_all_alike_have_wilsons_interval_of_units(n: int, right: int) -> None:
    """Resampling would give an interval without width, of one row even."""
    assert degrees([right] * n).ci95 == pytest.approx(wilson(right * n, n))
    clustered = scored(Accuracy(), [(right, 1)] * 2 * n, clusters=[i // 2 for i in range(2 * n)])
    assert clustered.ci95 == pytest.approx(wilson(right * n, n))
    alike, _ = wilson(n, n)
    assert degrees([1 / 3] * n).ci95 == pytest.approx((alike / 3, 1 - alike * 2 / 3))


def test_a_tally_knows_whether_its_rows_were_right_or_wrong() -> None:
    assert tallied(Accuracy(), CONFUSION).verdicts
    assert not tallied(MacroF1(), CONFUSION).verdicts
    assert not tallied(Degree(), [(1.0, None), (0.0, None)]).verdicts


# -- more rows than units


def normal(values: Any) -> float:
    """The width of the normal approximation's interval."""
    return float(2 * Z95 * np.std(values, ddof=1) / sqrt(len(values)))


@pytest.mark.parametrize("n", [UNITS + 1, 6000, 20_000])
def test_more_rows_than_units_keep_the_value_and_the_interval(n: int) -> None:
    values = np.random.default_rng(n).beta(3, 1, n)
    tally = tallied(Degree(), ((value, None) for value in values))
    score = tally.score()
    assert score.n == n
    assert score.value == pytest.approx(values.mean(), rel=1e-12)
    assert width(score) == pytest.approx(normal(values), rel=0.1)
    assert len(tally.matrix(tally.names)) == UNITS


@pytest.mark.parametrize(("count", "size"), [(UNITS, 2), (5000, 3), (12_000, 2)])
def test_more_clusters_than_units_keep_the_value_and_the_interval(count: int, size: int) -> None:
    rng = np.random.default_rng(count)
    values = np.clip(rng.random((count, 1)) + rng.normal(0, 0.1, (count, size)), 0, 1)
    clusters = np.repeat(np.arange(count), size).tolist()
    tally = tallied(Degree(), ((value, None) for value in values.ravel()), clusters=clusters)
    score = tally.score()
    assert score.n == count * size
    assert score.value == pytest.approx(values.mean(), rel=1e-12)
    assert width(score) == pytest.approx(normal(values.mean(axis=1)), rel=0.1)
    assert len(tally.matrix(tally.names)) == UNITS


def test_a_cluster_beyond_the_units_stays_in_one_unit() -> None:
    tally = tallied(Degree(), [(0.0, None)] * UNITS, clusters=list(range(UNITS)))
    for _ in range(5):
        tally.add(1.0, None, "one more")
    assert sorted(tally.matrix(["score"])[:, 0])[-2:] == [0.0, 5.0]


def test_more_rows_than_units_keep_the_labels_of_macro_f1() -> None:
    draw = Random(1)
    pairs = [(draw.choice("aaab"), draw.choice("ab")) for _ in range(9000)]
    score = scored(MacroF1(), pairs)
    assert score.value == pytest.approx(plain_macro_f1(pairs))
    assert width(score) == pytest.approx(width(scored(MacroF1(), pairs[:3000])) / sqrt(3), rel=0.15)


@pytest.mark.parametrize("clustered", [False, True])
def test_memory_does_not_grow_with_the_run(clustered: bool) -> None:
    tally = tallied(Degree(), [(0.5, None)] * UNITS, clusters=list(range(UNITS)) if clustered else None)
    tracemalloc.start()
    for i in range(10_000):
        tally.add(0.5, None, f"cluster {i}" if clustered else None)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 200_000
    assert len(tally.matrix(tally.names)) == UNITS


@pytest.mark.parametrize("period", [2, 3, 4])
def test_the_interval_of_many_rows_does_not_depend_on_their_order(period: int) -> None:
    rng = np.random.default_rng(0)
    values = np.where(np.arange(40_000) % period == 0, 0.9, 0.3) + rng.uniform(-0.1, 0.1, 40_000)
    assert width(degrees(values)) == pytest.approx(normal(values), rel=0.15)


def test_very_many_labels_are_counted_in_bounded_time_and_memory() -> None:
    pairs = [(f"answer {i}", f"answer {i if i % 2 else i + 1}") for i in range(3_000)]
    tally = tallied(MacroF1(), pairs)
    assert tally.matrix(tally.names).size <= 2_000_000
    score = tally.score()
    assert score.value == pytest.approx(plain_macro_f1(pairs))
    assert score.ci95[0] < score.value <= score.ci95[1]
