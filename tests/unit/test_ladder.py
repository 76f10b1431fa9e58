"""The label-score ladder, driven by hand-made responses: which rung answers what, and what is only a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf, log
from typing import Any, Literal

import pytest

from icl_engine.alignment.structural.verbalizer import Verbalizer
from icl_engine.errors import RequestError, TaskError
from icl_engine.models.ladder import TOP, label_scores
from icl_engine.types import (
    Capabilities,
    Continuation,
    LabelScores,
    Message,
    Need,
    NextToken,
    Prompt,
    Request,
    Response,
)

BOTH = Capabilities(top_logprobs=1000, continuation=True)
TOP_K = Capabilities(top_logprobs=20)
FORCED = Capabilities(continuation=True)
ASK = Prompt("Q\nA:", None, " ")

Spelt = Sequence[tuple[str, float]]


def p(**words: float) -> list[tuple[str, float]]:
    """Tokens as they follow a space, with log p."""
    return [(f" {word}", log(q)) for word, q in words.items()]


def need(
    *labels: str,
    words: Mapping[str, tuple[str, ...]] | None = None,
    want: Literal["argmax", "distribution"] = "distribution",
    scores: Literal["sequence", "trie"] = "sequence",
) -> Need:
    return Need("scores", words or {label: (label,) for label in labels}, want, scores)


def asked(
    need: Need, can: Capabilities, top: Spelt = (), forced: Mapping[str, Spelt] | None = None, prompt: Prompt = ASK
) -> tuple[LabelScores, list[list[Request]]]:
    """Drive the ladder: the next token's `top`, and the tokens of each continuation."""
    steps = label_scores(prompt, need, can)
    batches: list[list[Request]] = []
    answers: list[Response] | None = None
    while True:
        try:
            batch = next(steps) if answers is None else steps.send(answers)
        except StopIteration as done:
            return done.value, batches
        batches.append(list(batch))
        answers = [answer(request, top, forced or {}) for request in batch]


def answer(request: Request, top: Spelt, forced: Mapping[str, Spelt]) -> Response:
    match request.readout:
        case NextToken():
            return Response(top[0][0] if top else "", tuple(top))
        case Continuation(text):
            return Response(text, tuple(forced[text]))
    raise AssertionError(f"the ladder asked for {request.readout}")


def readouts(batches: list[list[Request]]) -> list[list[Any]]:
    return [[request.readout for request in batch] for batch in batches]


def probabilities(scores: LabelScores) -> dict[str, float]:
    return {label: exp(q) for label, q in scores.logprobs.items()}


# -- the rungs


@pytest.mark.parametrize("can", [BOTH, TOP_K])
def test_labels_of_one_likely_token_are_settled_by_one_request(can: Capabilities) -> None:
    scores, batches = asked(need("yes", "no"), can, p(yes=0.6, no=0.3, maybe=0.1))
    assert probabilities(scores) == pytest.approx({"yes": 0.6, "no": 0.3})
    assert (scores.method, scores.bounded, scores.text) == ("top_k", (), " yes")
    assert batches == [[Request("Q\nA:", NextToken(min(TOP, can.top_logprobs)))]]


def test_labels_the_next_token_does_not_settle_are_continued_exactly() -> None:
    forced = {" nope": [(" no", log(0.3)), ("pe", log(0.5))]}
    scores, batches = asked(need("yes", "nope"), BOTH, p(yes=0.6, no=0.3), forced)
    assert probabilities(scores) == pytest.approx({"yes": 0.6, "nope": 0.15})
    assert (scores.method, scores.bounded) == ("top_k+continuation", ())
    assert readouts(batches) == [[NextToken(TOP)], [Continuation(" nope")]]


def test_all_missing_labels_are_asked_for_in_one_batch() -> None:
    forced = {" a": p(a=0.2), " b": p(b=0.1)}
    scores, batches = asked(need("a", "b"), BOTH, p(other=0.6), forced)
    assert readouts(batches)[1] == [Continuation(" a"), Continuation(" b")]
    assert (scores.method, scores.bounded) == ("continuation", ())


def test_without_next_tokens_every_label_is_continued() -> None:
    scores, batches = asked(need("a", "b"), FORCED, (), {" a": p(a=0.2), " b": p(b=0.1)})
    assert probabilities(scores) == pytest.approx({"a": 0.2, "b": 0.1})
    assert readouts(batches) == [[Continuation(" a"), Continuation(" b")]]
    assert (scores.method, scores.bounded, scores.text) == ("continuation", (), "")


def test_many_words_widen_the_first_request() -> None:
    labels = [f"w{i}" for i in range(TOP)]
    _, batches = asked(need(*labels), BOTH, [(f" {w}", log(0.01)) for w in labels])
    assert readouts(batches) == [[NextToken(2 * TOP)]]


def test_a_role_is_passed_on_to_every_request() -> None:
    steps = label_scores(ASK, need("a", "b"), BOTH, role="probe")
    (first,) = next(steps)
    (second,) = steps.send([Response(" a", tuple(p(a=0.5)))])
    assert (first.role, second.role) == ("probe", "probe")


# -- bounds


def test_without_continuation_an_unseen_label_is_bounded_by_the_last_seen_token() -> None:
    scores, batches = asked(need("yes", "no"), TOP_K, p(yes=0.6, well=0.2, so=0.05))
    assert probabilities(scores) == pytest.approx({"yes": 0.6, "no": 0.05})
    assert (scores.method, scores.bounded, len(batches)) == ("top_k", ("no",), 1)


@pytest.mark.parametrize(
    ("want", "top", "bounded"),
    [
        ("argmax", p(yes=0.6, so=0.05), ()),
        ("argmax", p(so=0.6, well=0.3), ("yes", "no")),
        ("argmax", p(so=0.6, yes=0.3), ()),
        ("distribution", p(yes=0.6, so=0.05), ("no",)),
        ("distribution", p(yes=0.6, no=0.05), ()),
    ],
)
def test_a_bound_is_marked_only_where_it_matters(
    want: Literal["argmax", "distribution"], top: Spelt, bounded: tuple[str, ...]
) -> None:
    assert asked(need("yes", "no", want=want), TOP_K, top)[0].bounded == bounded


def test_a_sum_of_bounds_that_beats_the_seen_label_is_marked() -> None:
    words = {"yes": ("yes",), "no": ("n1", "n2", "n3")}
    scores, _ = asked(need(words=words, want="argmax"), TOP_K, p(yes=0.2, so=0.1))
    assert scores.bounded == ("no",)


def test_the_beginning_of_a_label_stands_for_it_where_nothing_else_can_be_had() -> None:
    scores, _ = asked(need("positive", "negative"), TOP_K, p(pos=0.6, neg=0.3))
    assert probabilities(scores) == pytest.approx({"positive": 0.6, "negative": 0.3})


def test_the_beginning_of_a_label_is_a_bound_of_its_whole_sequence() -> None:
    scores, _ = asked(need("positive", "no"), TOP_K, p(pos=0.6, no=0.3))
    assert scores.bounded == ("positive",)


@pytest.mark.parametrize(
    ("labels", "top"),
    [
        (("unlikely", "uncertain"), p(un=0.5, so=0.1)),
        (("no", "no way"), p(no=0.5, so=0.1)),
        (("no way", "no"), p(no=0.5, so=0.1)),
    ],
)
def test_labels_with_one_first_token_cannot_be_told_apart_without_continuation(
    labels: tuple[str, ...], top: Spelt
) -> None:
    with pytest.raises(TaskError, match="begin with the same token"):
        asked(need(*labels), TOP_K, top)


def test_labels_with_one_first_token_are_told_apart_by_continuation() -> None:
    forced = {
        " unlikely": [(" un", log(0.5)), ("likely", log(0.4))],
        " uncertain": [(" un", log(0.5)), ("certain", log(0.2))],
    }
    scores, _ = asked(need("unlikely", "uncertain"), BOTH, p(un=0.5), forced)
    assert probabilities(scores) == pytest.approx({"unlikely": 0.2, "uncertain": 0.1})


# -- figures left out


@pytest.mark.parametrize("can", [BOTH, TOP_K])
def test_next_tokens_left_out_are_an_error(can: Capabilities) -> None:
    with pytest.raises(RequestError, match="left out"):
        asked(need("yes", "no"), can)


@pytest.mark.parametrize("spelt", [[], [(" yes", -inf)], [(" y", log(0.5)), ("es", float("nan"))]])
def test_figures_of_a_continuation_left_out_are_an_error(spelt: Spelt) -> None:
    with pytest.raises(RequestError, match="left out"):
        asked(need("yes", "no"), FORCED, (), {" yes": spelt, " no": p(no=0.1)})


# -- several words a label


def test_a_label_has_the_sum_of_its_words() -> None:
    words = {"pos": ("good", "great"), "neg": ("bad",)}
    scores, _ = asked(need(words=words), BOTH, p(good=0.4, great=0.2, bad=0.3))
    assert probabilities(scores) == pytest.approx({"pos": 0.6, "neg": 0.3})


def test_a_label_may_have_words_from_both_rungs() -> None:
    words = {"pos": ("good", "top notch"), "neg": ("bad",)}
    forced = {" top notch": [(" top", log(0.2)), (" notch", log(0.5))]}
    scores, batches = asked(need(words=words), BOTH, p(good=0.4, bad=0.3), forced)
    assert probabilities(scores) == pytest.approx({"pos": 0.5, "neg": 0.3})
    assert readouts(batches)[1] == [Continuation(" top notch")]


def test_a_word_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'good' stands for 'pos' twice"):
        Verbalizer(labels={"pos": ("good", "good"), "neg": ("bad",)})


@pytest.mark.parametrize("scoring", ["sequence", "trie"])
def test_words_of_a_label_with_one_first_token_do_not_count_it_twice(scoring: Literal["sequence", "trie"]) -> None:
    words = {"pos": ("good", "goodness"), "neg": ("bad",)}
    scores, _ = asked(need(words=words, scores=scoring), TOP_K, p(good=0.6, bad=0.4))
    assert probabilities(scores) == pytest.approx({"pos": 0.6, "neg": 0.4})


# -- sequence and trie

PREFIX = need("no", "no way", "yes")
NO_WAY = {" no way": [(" no", log(0.5)), (" way", log(0.2))]}


def test_sequence_is_the_probability_of_all_tokens_of_a_label() -> None:
    scores, _ = asked(PREFIX, BOTH, p(no=0.5, yes=0.3), NO_WAY)
    assert probabilities(scores) == pytest.approx({"no": 0.5, "no way": 0.1, "yes": 0.3})


def test_trie_renormalises_at_each_node_and_a_prefix_ends_with_what_is_left() -> None:
    scores, _ = asked(need("no", "no way", "yes", scores="trie"), BOTH, p(no=0.5, yes=0.3), NO_WAY)
    # The root: no 0.5/0.8, yes 0.3/0.8; after no: way 0.2, the end 0.8.
    assert probabilities(scores) == pytest.approx({"no": 0.625 * 0.8, "no way": 0.625 * 0.2, "yes": 0.375})


def test_trie_gives_the_rest_of_a_forced_word_for_free() -> None:
    forced = {
        " unlikely": [(" un", log(0.5)), ("likely", log(0.01))],
        " uncertain": [(" un", log(0.5)), ("certain", log(0.03))],
        " probable": [(" prob", log(0.125)), ("able", log(0.001))],
    }
    scores, _ = asked(need("unlikely", "uncertain", "probable", scores="trie"), BOTH, p(so=0.3), forced)
    # The root: un 0.5/0.625, prob 0.125/0.625; after un: 1 to 3; after prob there is one way on.
    assert probabilities(scores) == pytest.approx({"unlikely": 0.2, "uncertain": 0.6, "probable": 0.2})


def test_trie_and_sequence_agree_up_to_a_constant_where_labels_are_one_token() -> None:
    top = p(no=0.5, yes=0.3)
    sequence, _ = asked(need("no", "yes"), BOTH, top)
    trie, _ = asked(need("no", "yes", scores="trie"), BOTH, top)
    shifts = [sequence.logprobs[label] - trie.logprobs[label] for label in ("no", "yes")]
    assert shifts == pytest.approx([log(0.8), log(0.8)])


# -- cloze, lead and chat


def test_a_cloze_is_scored_to_the_end_of_its_sentence() -> None:
    prompt = Prompt("It rains?", None, " ", ", we get wet.")
    forced = {
        f" {w}, we get wet.": [(f" {w}", log(q)), (", we get wet.", log(0.5))] for w, q in (("Yes", 0.4), ("No", 0.1))
    }
    scores, batches = asked(need("Yes", "No"), BOTH, (), forced, prompt)
    assert probabilities(scores) == pytest.approx({"Yes": 0.2, "No": 0.05})
    assert batches == [[Request("It rains?", Continuation(text)) for text in forced]]
    assert (scores.method, scores.bounded) == ("continuation", ())


def test_white_space_after_the_mark_makes_no_cloze() -> None:
    scores, batches = asked(need("yes", "no"), BOTH, p(yes=0.6, no=0.3), prompt=Prompt("Q\nA:", None, " ", "  "))
    assert (scores.method, len(batches)) == ("top_k", 1)


@pytest.mark.parametrize("lead", ["", " ", "\n"])
def test_the_white_space_before_the_mark_is_scored_with_the_word(lead: str) -> None:
    forced = {f"{lead}{w}": [(f"{lead}{w}", log(0.2))] for w in ("yes", "no")}
    _, batches = asked(need("yes", "no"), FORCED, (), forced, Prompt("Q\nA:", None, lead))
    assert readouts(batches) == [[Continuation(f"{lead}yes"), Continuation(f"{lead}no")]]


def test_an_answer_in_chat_has_no_white_space_before_it() -> None:
    turns = (Message("user", "Q\nA:"),)
    top = [("yes", log(0.6)), (" no", log(0.2))]
    scores, batches = asked(need("yes", "no"), BOTH, top, {"no": [("no", log(0.1))]}, Prompt(None, turns, " "))
    assert batches == [[Request(turns, NextToken(TOP))], [Request(turns, Continuation("no"))]]
    assert probabilities(scores) == pytest.approx({"yes": 0.6, "no": 0.1})
