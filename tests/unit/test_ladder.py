"""The label-score ladder against a toy model whose every probability is known: what is asked, and what is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import exp, inf, log, nan
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy import Toy, drive

from icl_engine.alignment.structural.verbalizer import Verbalizer
from icl_engine.errors import NoLogprobsError, RequestError, TaskError
from icl_engine.models.ladder import label_scores, rung
from icl_engine.models.search import TOP
from icl_engine.types import (
    Capabilities,
    Continuation,
    Generate,
    LabelScores,
    Message,
    Need,
    NextToken,
    Prompt,
    Request,
    Response,
    Sampling,
    Spelling,
)

NAMED = Capabilities(top_logprobs=20, named=128, spelling=True)
TOP_K = Capabilities(top_logprobs=20)
WIDE = Capabilities(top_logprobs=1000, continuation=True)
FORCED = Capabilities(top_logprobs=1000, spelling=True, continuation=True, forced=True)
ECHO = Capabilities(continuation=True)
NARROW = Capabilities(top_logprobs=3)
NARROW_ECHO = Capabilities(top_logprobs=3, continuation=True)
IDS = Capabilities(top_logprobs=1000, spelling=True)

ASK = Prompt("Q\nA:", None, " ")
TURN = Prompt(None, (Message("user", "Q"),), "")
"""A chat: it cannot be asked behind the first token of an answer, unless the endpoint says so."""

Want = Literal["argmax", "distribution"]
Scores = Literal["sequence", "trie"]
VOCABULARY = (" yes", " no", " way", " un", "likely", "certain", " may", "be", "yes", "no", "may")


def need(
    *labels: str, words: Mapping[str, tuple[str, ...]] | None = None, want: Want = "distribution", **rest: Any
) -> Need:
    return Need("scores", words or {label: (label,) for label in labels}, want, **rest)


def toy(can: Capabilities, **after: Mapping[str, float]) -> Toy:
    """`root` gives the first token's probabilities; other keys those after a token, ``after_un`` after " un"."""
    given_ = {"" if k == "root" else f" {k.removeprefix('after_')}": v for k, v in after.items()}
    return Toy(VOCABULARY, can, given_)


def ask(model: Toy, need: Need, prompt: Prompt = ASK, **rest: Any) -> LabelScores:
    return drive(label_scores(prompt, need, model.can, **rest), model)


def readouts(model: Toy) -> list[list[Any]]:
    """What the model was asked, the tokenizer left out."""
    batches = [[r.readout for r in batch if not isinstance(r.readout, Spelling)] for batch in model.asked]
    return [batch for batch in batches if batch]


def requests(model: Toy) -> int:
    return sum(map(len, readouts(model)))


def p(scores: LabelScores) -> dict[str, float]:
    return {label: exp(q) for label, q in scores.logprobs.items()}


ROOT = {" yes": 0.6, " no": 0.3, " un": 0.05}
UN = {"likely": 0.5, "certain": 0.2}


# -- one request where labels are one token


@pytest.mark.parametrize("can", [NAMED, TOP_K, WIDE, FORCED, IDS])
@pytest.mark.parametrize("want", ["argmax", "distribution"])
def test_labels_of_one_likely_token_are_settled_by_one_request(can: Capabilities, want: Want) -> None:
    model = toy(can, root=ROOT)
    scores = ask(model, need("yes", "no", want=want))
    assert p(scores) == pytest.approx({"yes": 0.6, "no": 0.3})
    assert (scores.method, scores.bounded, scores.whole) == ("named" if can.named else "top_k", (), True)
    assert requests(model) == 1


def test_named_tokens_are_exact_however_unlikely() -> None:
    model = toy(NAMED, root={" yes": 0.999999, " no": 1e-9})
    assert p(ask(model, need("yes", "no")))["no"] == pytest.approx(1e-9, rel=1e-3)
    (readout,) = readouts(model)[0]
    assert readout == NextToken(0, tuple(model.cut(" yes") + model.cut(" no")), ())


def test_more_labels_than_can_be_named_at_once_take_several_requests_of_one_place() -> None:
    labels = [f"w{i}" for i in range(7)]
    model = Toy([f" {w}" for w in labels], replace(NAMED, named=3))
    scores = ask(model, need(*labels))
    assert [len(r.named) for r in readouts(model)[0]] == [3, 3, 1]
    assert scores.logprobs == pytest.approx({w: model.logprobs("")[f" {w}"] for w in labels})
    assert scores.bounded == ()


def test_many_words_widen_the_first_request() -> None:
    labels = [f"w{i}" for i in range(TOP)]
    model = Toy([f" {w}" for w in labels], WIDE)
    ask(model, need(*labels))
    assert readouts(model)[0] == [NextToken(2 * TOP)]


def test_the_tokenizer_is_asked_about_the_end_of_the_prompt_alone() -> None:
    model = toy(NAMED, root=ROOT)
    ask(model, need("yes", "no"), Prompt("A film to remember.\nSentiment:", None, " "))
    assert model.asked[0] == [Request("Sentiment:", Spelling((" yes", " no")), role="spelling")]


def test_a_tokenizer_that_fails_leaves_texts() -> None:
    model = toy(replace(NAMED, spelling=False), root=ROOT)
    steps = label_scores(ASK, need("yes", "no"), replace(model.can, spelling=True))
    scores = drive(steps, model)
    assert p(scores) == pytest.approx({"yes": 0.6, "no": 0.3})
    assert scores.method == "top_k"


def test_a_role_is_passed_on_to_every_request() -> None:
    model = toy(NARROW_ECHO, root={" the": 0.5, " so": 0.2, " well": 0.1})
    ask(model, need("yes", "no"), role="probe")
    assert {r.role for batch in model.asked for r in batch} == {"probe"}


# -- the trie

LONG = need("unlikely", "uncertain", "yes")


@pytest.mark.parametrize("can", [NAMED, TOP_K, WIDE, FORCED, IDS])
def test_labels_of_several_tokens_are_the_product_of_their_tokens(can: Capabilities) -> None:
    model = toy(can, root={" yes": 0.4, " un": 0.5}, after_un=UN)
    scores = ask(model, LONG)
    assert p(scores) == pytest.approx({"unlikely": 0.25, "uncertain": 0.1, "yes": 0.4})
    assert (scores.bounded, scores.whole) == ((), True)


@pytest.mark.parametrize("can", [NAMED, IDS, FORCED])
def test_a_path_settles_the_argmax_in_one_request(can: Capabilities) -> None:
    model = toy(can, root={" yes": 0.1, " un": 0.8}, after_un=UN)
    scores = ask(model, replace(LONG, want="argmax"))
    assert max(p(scores), key=p(scores).__getitem__) == "unlikely"
    assert p(scores)["unlikely"] == pytest.approx(0.4)
    assert (requests(model), scores.bounded, scores.method) == (1, (), "trie")


def test_the_argmax_ends_as_soon_as_no_bound_reaches_it() -> None:
    model = toy(TOP_K, root={" yes": 0.6, " un": 0.3}, after_un=UN)
    scores = ask(model, replace(LONG, want="argmax"))
    assert (requests(model), scores.bounded, scores.method) == (1, (), "top_k")
    assert not scores.whole  # the labels behind " un" are known by their beginning only: no distribution


def test_a_bound_above_the_best_label_is_looked_into() -> None:
    model = toy(TOP_K, root={" yes": 0.2, " un": 0.3}, after_un={"likely": 0.4, "certain": 0.5})
    scores = ask(model, replace(LONG, want="argmax"))
    assert (requests(model), scores.bounded) == (2, ())
    assert p(scores)["yes"] == pytest.approx(0.2)
    assert max(p(scores), key=p(scores).__getitem__) == "yes"


def test_a_prefix_of_another_label_is_told_apart_by_trie() -> None:
    model = toy(NAMED, root={" yes": 0.3, " no": 0.5}, after_no={" way": 0.2})
    labels = need("no", "no way", "yes")
    assert p(ask(model, labels)) == pytest.approx({"no": 0.5, "no way": 0.1, "yes": 0.3})
    # The root: no 0.5/0.8, yes 0.3/0.8; after no: way 0.2, the end 0.8.
    expected = {"no": 0.625 * 0.8, "no way": 0.625 * 0.2, "yes": 0.375}
    assert p(ask(model, replace(labels, scores="trie"))) == pytest.approx(expected)


def test_trie_asks_only_where_labels_part() -> None:
    model = toy(NAMED, root={" un": 0.2, " may": 0.1})
    scores = ask(model, need("unlikely", "maybe", scores="trie"))
    assert p(scores) == pytest.approx({"unlikely": 2 / 3, "maybe": 1 / 3})
    assert requests(model) == 1


def test_the_mean_does_not_punish_long_labels() -> None:
    model = toy(NAMED, root={" yes": 0.3, " un": 0.2}, after_un={"likely": 0.9})
    scores = ask(model, need("yes", "unlikely", normalization="mean"))
    assert scores.logprobs == pytest.approx({"yes": log(0.3), "unlikely": (log(0.2) + log(0.9)) / 2})


def test_a_prior_is_taken_off() -> None:
    model = toy(NAMED, root=ROOT)
    scores = ask(model, need("yes", "no"), prior={"yes": log(0.9), "no": log(0.1)})
    assert p(scores) == pytest.approx({"yes": 0.6, "no": 0.3})
    assert Verbalizer(labels={"yes": "yes", "no": "no"}).from_scores(scores).distribution == pytest.approx(
        {"yes": (0.6 / 0.9) / (0.6 / 0.9 + 3.0), "no": 3.0 / (0.6 / 0.9 + 3.0)}
    )


def test_the_argmax_under_a_prior_is_that_of_what_is_left() -> None:
    model = toy(NAMED, root={" yes": 0.6, " un": 0.3}, after_un=UN)
    prior = {"yes": log(0.9), "unlikely": log(0.1), "uncertain": log(0.5)}
    scores = ask(model, replace(LONG, want="argmax"), prior=prior)
    left = {label: scores.logprobs[label] - prior[label] for label in prior}
    assert (max(left, key=left.__getitem__), scores.bounded) == ("unlikely", ())


@pytest.mark.parametrize("can", [NAMED, TOP_K, WIDE])
def test_a_label_has_the_sum_of_its_words(can: Capabilities) -> None:
    model = toy(can, root={" yes": 0.4, " un": 0.5}, after_un=UN)
    scores = ask(model, need(words={"a": ("yes", "unlikely"), "b": ("uncertain",)}))
    assert p(scores) == pytest.approx({"a": 0.65, "b": 0.1})


def test_a_word_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'good' stands for 'pos' twice"):
        Verbalizer(labels={"pos": ("good", "good"), "neg": ("bad",)})


def test_labels_spelt_by_the_same_tokens_are_refused() -> None:
    class Unknowing(Toy):
        def cut(self, text: str) -> tuple[int, ...]:
            return (3,)

    with pytest.raises(TaskError, match="labels 'yes' and 'no' are spelt by the same tokens"):
        ask(Unknowing(VOCABULARY, NAMED), need("yes", "no"))


# -- chats that can be asked for the first token only


def test_the_beginning_of_a_label_is_a_bound_of_its_whole_sequence() -> None:
    model = toy(TOP_K, root={"no": 0.3, "may": 0.6})
    scores = ask(model, need("maybe", "no"), TURN)
    assert p(scores) == pytest.approx({"maybe": 0.6, "no": 0.3})
    assert scores.bounded == ("maybe",)
    assert requests(model) == 1


def test_the_beginning_of_a_label_settles_a_trie() -> None:
    model = toy(TOP_K, root={"no": 0.3, "may": 0.6})
    scores = ask(model, need("maybe", "no", scores="trie"), TURN)
    assert p(scores) == pytest.approx({"maybe": 2 / 3, "no": 1 / 3})
    assert scores.bounded == ()


@pytest.mark.parametrize("labels", [("no", "no way"), ("no way", "no")])
def test_labels_with_one_first_token_cannot_be_told_apart(labels: tuple[str, ...]) -> None:
    with pytest.raises(TaskError, match="begin with the same token 'no'"):
        ask(toy(TOP_K, root={"no": 0.5}), need(*labels), TURN)


@pytest.mark.parametrize("can", [replace(TOP_K, prefill=True), NAMED])
def test_labels_with_one_first_token_are_told_apart_by_what_follows(can: Capabilities) -> None:
    model = Toy(VOCABULARY, can, {"": {"no": 0.5}, "no": {" way": 0.2}})
    assert p(ask(model, need("no", "no way"), TURN)) == pytest.approx({"no": 0.5, "no way": 0.1})


def test_words_of_a_label_with_one_first_token_do_not_count_it_twice() -> None:
    words = {"a": ("may", "maybe"), "b": ("no",)}
    model = toy(TOP_K, root={"may": 0.6, "no": 0.4})
    for scoring in ("sequence", "trie"):
        assert p(ask(model, need(words=words, scores=scoring), TURN)) == pytest.approx({"a": 0.6, "b": 0.4}, abs=1e-5)


def test_an_answer_in_chat_has_no_white_space_before_it() -> None:
    model = toy(replace(WIDE, prefill=True), root={"yes": 0.6, " no": 0.2, "no": 0.1})
    assert p(ask(model, need("yes", "no"), replace(TURN, lead=" "))) == pytest.approx({"yes": 0.6, "no": 0.1})


# -- bounds


def test_an_unseen_label_is_bounded_by_the_last_seen_token() -> None:
    model = toy(NARROW, root={" yes": 0.6, " so": 0.2, " well": 0.05})
    scores = ask(model, need("yes", "no"))
    assert p(scores) == pytest.approx({"yes": 0.6, "no": 0.05})
    assert (scores.bounded, scores.whole, requests(model)) == (("no",), True, 1)


@pytest.mark.parametrize(
    ("root", "bounded"),
    [
        ({" yes": 0.6, " so": 0.2, " well": 0.05}, ()),
        ({" so": 0.6, " the": 0.2, " well": 0.1}, ("yes", "no")),
        ({" so": 0.6, " yes": 0.2, " well": 0.1}, ()),
    ],
)
def test_a_bound_is_marked_only_where_it_reaches_the_best(root: Mapping[str, float], bounded: tuple[str, ...]) -> None:
    assert ask(toy(NARROW, root=root), need("yes", "no", want="argmax")).bounded == bounded


def test_a_sum_of_bounds_that_beats_the_seen_label_is_marked() -> None:
    words = {"a": ("yes",), "b": ("no", "may", "un")}
    model = toy(NARROW, root={" so": 0.5, " yes": 0.2, " well": 0.1})
    assert ask(model, need(words=words, want="argmax")).bounded == ("b",)


def test_what_the_top_does_not_show_is_continued_where_that_is_possible() -> None:
    model = toy(NARROW_ECHO, root={" so": 0.5, " yes": 0.2, " well": 0.1, " no": 0.001})
    scores = ask(model, need("yes", "no"))
    assert p(scores) == pytest.approx({"yes": 0.2, "no": 0.001})
    assert (scores.method, scores.bounded) == ("top_k+continuation", ())
    assert readouts(model) == [[NextToken(3)], [Continuation(" no")]]


def test_the_argmax_continues_only_what_may_win() -> None:
    model = toy(NARROW_ECHO, root={" yes": 0.5, " so": 0.2, " well": 0.1, " no": 0.001})
    ask(model, need("yes", "no", want="argmax"))
    assert readouts(model) == [[NextToken(3)]]


# -- continuations


def test_without_next_tokens_every_label_is_continued() -> None:
    model = toy(ECHO, root=ROOT, after_un=UN)
    scores = ask(model, need("yes", "unlikely"))
    assert p(scores) == pytest.approx({"yes": 0.6, "unlikely": 0.025})
    assert readouts(model) == [[Continuation(" yes"), Continuation(" unlikely")]]
    assert (scores.method, scores.bounded, scores.text) == ("continuation", (), "")


def test_a_cloze_is_scored_to_the_end_of_its_sentence() -> None:
    model = Toy((" yes", " no", ", we get wet."), NARROW_ECHO, {"": {" yes": 0.4, " no": 0.1}})
    prompt = Prompt("It rains?", None, " ", ", we get wet.")
    scores = ask(model, need("yes", "no"), prompt)
    rest = {w: exp(sum(model.word(f" {w}, we get wet."))) for w in ("yes", "no")}
    assert p(scores) == pytest.approx(rest)
    assert model.asked == [[Request("It rains?", Continuation(f" {w}, we get wet.")) for w in ("yes", "no")]]
    assert (scores.method, scores.bounded) == ("continuation", ())


def test_white_space_after_the_mark_makes_no_cloze() -> None:
    model = toy(WIDE, root=ROOT)
    assert ask(model, need("yes", "no"), Prompt("Q\nA:", None, " ", "  ")).method == "top_k"


# -- figures left out


class Faulty(Toy):
    """Answers continuations with the given figures."""

    figures: tuple[float, ...] = ()

    def answer(self, request: Request) -> Response:
        if isinstance(request.readout, Continuation):
            return Response(request.readout.text, tuple(("t", q) for q in self.figures))
        return super().answer(request)


@pytest.mark.parametrize("figures", [(), (-inf,), (-0.5, nan), (0.0, 0.0), (3.0,)])
def test_figures_of_a_continuation_that_are_none_are_an_error(figures: tuple[float, ...]) -> None:
    model = Faulty(VOCABULARY, ECHO)
    model.figures = figures
    with pytest.raises(NoLogprobsError, match=r"left out|zeros"):
        ask(model, need("yes", "no"))


class Silent(Toy):
    """Leaves the next token's log-probabilities out."""

    def _next(self, top: int, named: tuple[int, ...], spelt: tuple[int, ...] | str, places: int) -> Response:
        return Response("yes")


def test_next_tokens_left_out_are_an_error() -> None:
    with pytest.raises(RequestError, match="left out"):
        ask(Silent(VOCABULARY, TOP_K), need("yes", "no"))


def test_next_tokens_left_out_fall_to_continuations() -> None:
    model = Silent(VOCABULARY, WIDE, {"": ROOT})
    scores = ask(model, need("yes", "no"))
    assert p(scores) == pytest.approx({"yes": 0.6, "no": 0.3})
    assert scores.method == "continuation"


# -- text alone


class Saying(Toy):
    """Says the given texts in turn."""

    texts: tuple[str, ...] = ("yes",)

    def _generate(self, request: Request) -> Response:
        return Response(self.texts[request.sample % len(self.texts)])


def saying(can: Capabilities, *texts: str) -> Saying:
    model = Saying(VOCABULARY, can)
    model.texts = texts
    return model


READ = Verbalizer(labels={"yes": "yes", "no": "no"}).said


def test_the_best_label_may_be_had_by_constrained_generation() -> None:
    model = saying(Capabilities(choice=True), " no")
    scores = ask(model, need("yes", "no", want="argmax", read=READ))
    assert (scores.logprobs, scores.method) == ({"yes": -inf, "no": 0.0}, "constrained")
    assert (scores.bounded, scores.whole) == (("yes", "no"), False)
    assert readouts(model) == [[Generate(choices=("yes", "no"))]]


def test_a_schema_constrains_where_choices_cannot() -> None:
    model = saying(Capabilities(schema=True), '{"label": "no"}')
    scores = ask(model, need("yes", "no", want="argmax", read=READ), TURN)
    assert scores.logprobs["no"] == 0.0
    (readout,) = readouts(model)[0]
    assert readout.schema["properties"]["label"] == {"type": "string", "enum": ["yes", "no"]}


def test_votes_have_a_dirichlet_prior() -> None:
    model = saying(Capabilities(samples=True), "yes", "yes.", "No", "who knows")
    scores = ask(model, need("yes", "no", samples=4, read=READ))
    # Two of the three readable answers, with half a vote for each label.
    assert p(scores) == pytest.approx({"yes": 2.5 / 4, "no": 1.5 / 4})
    assert (scores.method, scores.bounded, scores.whole) == ("votes", ("yes", "no"), True)
    assert [r.sample for r in model.asked[0]] == [0, 1, 2, 3]
    assert {r.readout for r in model.asked[0]} == {Generate(Sampling(temperature=1.0))}


def test_votes_that_no_label_got_are_no_distribution() -> None:
    scores = ask(saying(Capabilities(samples=True), "hm"), need("yes", "no", samples=2, read=READ))
    assert set(scores.logprobs.values()) == {-inf}


def test_nothing_to_read_from_is_told() -> None:
    with pytest.raises(TaskError, match="set read: text"):
        ask(toy(Capabilities()), need("yes", "no"))


@pytest.mark.parametrize(
    ("can", "name"),
    [
        (NAMED, "named"),
        (WIDE, "top_k"),
        (ECHO, "continuation"),
        (Capabilities(choice=True), "constrained"),
        (Capabilities(samples=True), "votes"),
        (Capabilities(), "text"),
    ],
)
def test_the_first_rung_is_known_beforehand(can: Capabilities, name: str) -> None:
    assert rung(need("yes", "no", want="argmax", read=READ), can) == name


# -- laws

PIECES = (" a", " b", " c", "a", "b", "c", "ab")
labels_ = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("".join), min_size=2, max_size=6, unique=True
)
wides = st.sampled_from([NAMED, replace(NAMED, named=2), IDS, FORCED, WIDE, replace(TOP_K, top_logprobs=1000)])


def expected(model: Toy, label: str) -> float:
    return sum(model.word(f" {label}"))


@settings(max_examples=150, deadline=None)
@given(labels_, wides, st.floats(0.5, 12.0))
def test_a_distribution_is_what_step_by_step_scoring_gives(
    labels: list[str], can: Capabilities, sharpness: float
) -> None:
    model = Toy(PIECES, can, sharpness=sharpness)
    scores = ask(model, need(*labels))
    if can.spelling:
        assert scores.logprobs == pytest.approx({y: expected(model, y) for y in labels}, abs=1e-6)
    assert (scores.bounded, scores.whole) == ((), True)


@settings(max_examples=150, deadline=None)
@given(labels_, st.sampled_from([NAMED, replace(NAMED, named=2), IDS, FORCED]), st.floats(0.5, 12.0))
def test_the_argmax_is_exact_and_never_asks_for_more_than_the_whole(
    labels: list[str], can: Capabilities, sharpness: float
) -> None:
    model, whole = Toy(PIECES, can, sharpness=sharpness), Toy(PIECES, can, sharpness=sharpness)
    scores = ask(model, need(*labels, want="argmax"))
    truth = {y: expected(model, y) for y in labels}
    best = max(scores.logprobs, key=scores.logprobs.__getitem__)
    assert truth[best] == pytest.approx(max(truth.values()), abs=1e-6)
    assert scores.bounded == ()
    assert all(scores.logprobs[y] >= truth[y] - 1e-5 for y in labels)
    ask(whole, need(*labels))
    assert requests(model) <= max(requests(whole), 1) + len(labels)


@settings(max_examples=100, deadline=None)
@given(labels_, st.sampled_from([NAMED, IDS]))
def test_a_trie_is_a_distribution_over_the_labels(labels: list[str], can: Capabilities) -> None:
    model = Toy(PIECES, can)
    scores = ask(model, need(*labels, scores="trie"))
    assert sum(p(scores).values()) == pytest.approx(1.0, abs=1e-4)
    again = ask(Toy(PIECES, can), need(*labels, scores="trie", want="argmax"))
    assert max(again.logprobs, key=again.logprobs.__getitem__) == max(scores.logprobs, key=scores.logprobs.__getitem__)


@settings(max_examples=100, deadline=None)
@given(labels_, st.integers(1, 6), st.booleans())
def test_a_bound_is_never_below_the_figure(labels: list[str], top: int, chat: bool) -> None:
    model = Toy(PIECES, replace(TOP_K, top_logprobs=top))
    try:
        scores = ask(model, need(*labels), TURN if chat else ASK)
    except TaskError:
        assert chat
        return
    lead = "" if chat else " "
    by_text = {y: sum(model.word(f"{lead}{y}")) for y in labels}
    loose = [y for y in labels if y in scores.bounded]
    assert all(scores.logprobs[y] >= by_text[y] - 1e-6 for y in loose)


def test_every_node_is_asked_once() -> None:
    model = Toy(PIECES, NAMED)
    ask(model, need("abc", "abb", "bca", "bcc", "c"))
    counts = Counter(r.readout for batch in model.asked for r in batch)
    assert set(counts.values()) == {1}
