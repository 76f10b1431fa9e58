"""`vote`: which answer wins, how many samples that takes, what fits in a chain with it, and samples asked at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import exp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.identity import Identity
from icl_engine.alignment.statistical.batch_calibration import BatchCalibration
from icl_engine.alignment.statistical.contextual_calibration import ContextualCalibration
from icl_engine.alignment.structural.after import After
from icl_engine.alignment.structural.json_value import Json
from icl_engine.alignment.structural.listing import Items
from icl_engine.alignment.structural.number import Number
from icl_engine.alignment.structural.regex import Regex
from icl_engine.alignment.structural.verbalizer import Verbalizer
from icl_engine.alignment.vote import Vote
from icl_engine.asking import side_by_side
from icl_engine.errors import RequestError, TaskError
from icl_engine.protocols import Aligner, Steps
from icl_engine.thoughts import steps
from icl_engine.types import Capabilities, Generate, Reading, Request, Response

Answers = Sequence[str | None]
"""What each sample says; None for one that cannot be read."""

LABELS = {"yes": ["yes"], "no": ["no"]}


def readings(answers: Answers) -> list[Reading]:
    return [Reading(a, a, status="unparsed" if a is None else "ok") for a in answers]


def majority(answers: Answers) -> str | None:
    """The answer given most often, of several the one given first: by the definition."""
    given = [a for a in answers if a is not None]
    return max(dict.fromkeys(given), key=given.count) if given else None


def drawn(vote: Vote, answers: Answers) -> int:
    """How many samples the vote draws where these would be said."""
    asked = 0
    while more := vote.more(readings(answers[:asked])):
        asked += more
    return asked


def decided(answers: Answers, rest: int) -> bool:
    """Whether the winner is the same whatever the other samples say."""
    known = {a for a in answers if a is not None}
    return len({majority([*answers, *others]) for others in product([*known, None, "new", "newer"], repeat=rest)}) == 1


def elected(vote: Vote, answers: Answers) -> Reading:
    return vote.decide(readings(answers), [a or "" for a in answers])[1]


# -- the winner

SAID = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12)


@given(answers=SAID)
def test_the_vote_that_stops_early_is_the_majority_of_all_samples(answers: Answers) -> None:
    early, whole = (Vote(samples=len(answers), stop_early=early) for early in (True, False))
    asked = drawn(early, answers)
    assert asked <= drawn(whole, answers) == len(answers)
    winner = majority(answers)
    for reading in (elected(early, answers[:asked]), elected(whole, answers)):
        assert (reading.status, reading.value) == ("unparsed" if winner is None else "ok", winner)


@given(answers=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=6))
def test_it_stops_as_soon_as_nothing_could_change_the_winner_and_no_sooner(answers: Answers) -> None:
    soonest = next(m for m in range(1, len(answers) + 1) if decided(answers[:m], len(answers) - m))
    assert drawn(Vote(samples=len(answers)), answers) == soonest


@given(answers=SAID, stop_early=st.booleans())
def test_the_distribution_is_that_of_the_votes_that_could_be_read(answers: Answers, stop_early: bool) -> None:
    vote = Vote(samples=len(answers), stop_early=stop_early)
    seen = answers[: drawn(vote, answers)]
    first, reading = vote.decide(readings(seen), [a or "" for a in seen])
    read = [a for a in seen if a is not None]
    if not read:
        assert (first, reading.distribution) == (0, None)
        return
    assert reading.distribution == {a: read.count(a) / len(read) for a in read}
    assert sum(reading.distribution.values()) == pytest.approx(1)
    assert first == seen.index(reading.value)


@pytest.mark.parametrize(
    ("n", "said", "more"),
    [
        (5, "", 3),
        (4, "", 2),  # two of four: the other two could only draw level, and were said later
        (1, "", 1),
        (40, "", 20),
        (5, "aaa", 0),
        (5, "aab", 1),
        (5, "abb", 1),
        (5, "abc", 1),  # if it is a: with the last one b could only draw level
        (5, "abcb", 1),
        (5, "aba-", 0),  # b could only draw level
        (5, "abb-", 1),  # a could draw level, and was said first
        (5, "---", 1),  # whoever is next is overtaken by nobody
        (5, "----", 1),
        (5, "-----", 0),
        (8, "abab", 2),
        (9, "abab", 3),
    ],
)
def test_each_round_draws_the_fewest_that_could_decide(n: int, said: str, more: int) -> None:
    assert Vote(samples=n).more(readings([None if a == "-" else a for a in said])) == more


def test_of_several_with_the_most_votes_the_one_said_first_wins() -> None:
    assert elected(Vote(samples=5, stop_early=False), ["c", "b", "a", "b", "a"]).value == "b"
    assert elected(Vote(samples=3), ["c", "b", "a"]).value == "c"


def test_what_is_kept_is_of_the_first_sample_that_gave_the_answer() -> None:
    said = [
        Reading("I do not know", status="unparsed", trace=("number: none",)),
        Reading("7", 7, trace=("number: 7 of 1",)),
        Reading("18", 18, trace=("number: 18 of 3",)),
        Reading("$18.00", 18, trace=("number: 18 of 1",)),
    ]
    first, reading = Vote(samples=4).decide(said, [""] * 4)
    assert first == 2
    assert reading == Reading(
        "18", 18, {"7": 1 / 3, "18": 2 / 3}, trace=("number: 18 of 3", "vote: 2 of 3 read samples, of 4 at most")
    )


def test_samples_that_cannot_be_read_have_no_vote() -> None:
    said = [Reading("?", status="unparsed", trace=("number: none",)), Reading("!", status="unparsed")]
    first, reading = Vote(samples=2).decide(said, ["?", "!"])
    trace = ("number: none", "vote: none of 2 samples could be read")
    assert (first, reading) == (0, Reading("?", status="unparsed", trace=trace))


@pytest.mark.parametrize(
    ("values", "distribution"),
    [
        ([18, 18, 18.5], {"18": 2 / 3, "18.5": 1 / 3}),
        ([["a", "b"], ["b", "a"], ["a", "b"]], {'["a", "b"]': 2 / 3, '["b", "a"]': 1 / 3}),
        ([{"x": 1, "y": 2}, {"y": 2, "x": 1}, {}], {'{"x": 1, "y": 2}': 2 / 3, "{}": 1 / 3}),
        (["é", True, "é"], {"é": 2 / 3, "true": 1 / 3}),
    ],
)
def test_any_value_can_be_voted_for(values: list[Any], distribution: dict[str, float]) -> None:
    _, reading = Vote(samples=3).decide([Reading("", value) for value in values], [""] * 3)
    assert (reading.value, reading.distribution) == (values[0], distribution)


def test_one_sample_alone_elects_itself() -> None:
    reading = Vote().apply(Reading("18", 18, trace=("before",)))
    assert (reading.value, reading.distribution) == (18, {"18": 1.0})
    assert reading.trace == ("before", "vote: 1 of 1 read samples, of 5 at most")


# -- the longest

LONG, SHORT = "1 + 1 = 2\n2 + 2 = 4\n\nSo 4", "So 9"


def test_only_the_samples_with_the_most_steps_vote() -> None:
    vote = Vote(samples=5, longest=2)
    texts = [SHORT, SHORT, LONG, SHORT, LONG]
    said = [Reading(value=9 if text == SHORT else 4) for text in texts]
    first, reading = vote.decide(said, texts)
    assert (first, reading.value, reading.distribution) == (2, 4, {"4": 1.0})
    assert reading.trace == ("vote: 2 of the 2 longest samples, of 5 at most",)
    assert Vote(samples=5, longest=5).decide(said, texts)[1].value == 9


def test_of_samples_with_as_many_steps_the_ones_drawn_first_vote() -> None:
    _, reading = Vote(samples=3, longest=1).decide(readings("abb"), ["x\ny", "x\ny", "x\ny"])
    assert reading.value == "a"
    _, reading = Vote(samples=3, longest=2).decide(readings("abb"), ["x", "x\ny", "x"])
    assert (reading.value, reading.distribution) == ("a", {"a": 0.5, "b": 0.5}), "a was said first"


def test_a_long_sample_that_cannot_be_read_takes_no_place() -> None:
    _, reading = Vote(samples=3, longest=1).decide(readings([None, "a", "b"]), ["x\n" * 50, "x", "x\ny"])
    assert reading.value == "b"


@given(answers=SAID)
def test_to_know_the_longest_all_are_drawn(answers: Answers) -> None:
    assert Vote(samples=len(answers), longest=1).more([]) == len(answers)
    assert drawn(Vote(samples=len(answers), longest=1), answers) == len(answers)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n\n", 0),
        ("4", 1),
        (LONG, 3),
        ("a.\r\nb. c.", 2),
        ("3.5 + 1 = 4.5. So it is 4.5!  Right? Yes", 4),
        ("." * 300_000 + "x", 1),
    ],
)
def test_steps_are_lines_or_the_sentences_of_one_line(text: str, count: int) -> None:
    assert steps(text) == count


@pytest.mark.parametrize("keys", [{"longest": 6}, {"longest": 0}, {"samples": 0}, {"samples": 2, "longest": 3}])
def test_no_more_vote_than_are_drawn(keys: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Vote(**keys)


# -- weighted


def weighed(vote: Vote, texts: Sequence[str], values: Sequence[Any]) -> dict[str, float]:
    """The distribution that a vote gives, all of its samples read."""
    distribution = vote.decide([Reading(t, v) for t, v in zip(texts, values, strict=True)], texts)[1].distribution
    assert distribution is not None
    return dict(distribution)


def test_a_sure_sample_outweighs_two_that_are_not() -> None:
    texts = ["4. Confidence: 50%", "4. Confidence: 60%", "9. Confidence: 95%"]
    first, reading = Vote(samples=3, weights="stated", temperature=0.2).decide(
        [Reading(t, int(t[0])) for t in texts], texts
    )
    sums = {"4": exp(0.5 / 0.2) + exp(0.6 / 0.2), "9": exp(0.95 / 0.2)}
    assert (first, reading.value) == (2, 9)
    assert reading.distribution == pytest.approx({a: w / sum(sums.values()) for a, w in sums.items()})
    share = sums["9"] / sum(sums.values())
    assert reading.trace == (f"vote: 1 of 3 read samples with {share:.1%} of the weight (stated), of 3 at most",)
    assert Vote(samples=3, weights="stated").decide([Reading(t, int(t[0])) for t in texts], texts)[1].value == 4
    assert Vote(samples=3).decide([Reading(t, int(t[0])) for t in texts], texts)[1].value == 4


@pytest.mark.parametrize(
    ("keys", "text", "confidence"),
    [
        ({}, "Confidence: 80", 0.8),
        ({}, "**Confidence:** 80%", 0.8),
        ({}, "my confidence is about 62.5 %.", 0.625),
        ({}, "Confidence: 20. No: confidence 90", 0.9),
        ({}, "Confidence: 999", 1.0),
        ({}, "Confidence: high", None),
        ({}, "", None),
        ({"certain": 1}, "Confidence: 0.9", 0.9),
        ({"certain": 1}, "Confidence: 90%", 0.9),
        ({"certain": 10}, "Confidence (1-10): 8", 0.1),  # the first number there is
        ({"certain": 10, "confidence": r"Sure: (\d+)/10"}, "Sure: 8/10", 0.8),
        ({"confidence": r"p=(\S+)"}, "p=nan", None),
        ({"confidence": r"p=(\S+)"}, "p=inf", 1.0),
        ({"confidence": r"p=(\S+)"}, "p=-3", 0.0),
        ({"confidence": r"p=(x)?"}, "p=1", None),
        ({}, "confidence " * 100_000 + "70", 0.7),
        ({}, "Confidence: " + "9" * 10_000, 1.0),
    ],
)
def test_the_confidence_that_a_sample_states_last(keys: dict[str, Any], text: str, confidence: float | None) -> None:
    said = weighed(Vote(samples=2, weights="stated", **keys), [text, "p=0 Confidence: 0% Sure: 0/10"], ["a", "b"])
    ratio = 1.0 if confidence is None else exp(confidence)
    assert said["a"] / said["b"] == pytest.approx(ratio)


def test_a_sample_that_states_no_confidence_weighs_as_the_mean_of_those_that_do() -> None:
    texts = ["Confidence: 0%", "Confidence: 100%", "well"]
    mean = (1 + exp(1)) / 2
    total = 1 + exp(1) + mean
    said = weighed(Vote(samples=3, weights="stated"), texts, ["a", "b", "c"])
    assert said == pytest.approx({"a": 1 / total, "b": exp(1) / total, "c": mean / total})
    assert weighed(Vote(samples=2, weights="stated"), ["", "x"], ["a", "b"]) == {"a": 0.5, "b": 0.5}


def test_samples_weigh_as_many_votes_as_they_have_steps() -> None:
    texts = [SHORT, SHORT, LONG, ""]
    said = weighed(Vote(samples=4, weights="steps"), texts, [9, 9, 4, 9])
    assert said == {"9": 0.5, "4": 0.5}
    assert weighed(Vote(samples=4, weights="steps", longest=1), texts, [9, 9, 4, 9]) == {"4": 1.0}


@given(data=st.data(), answers=SAID.filter(any))
@pytest.mark.parametrize("weights", ["equal", "steps", "stated"])
def test_the_weighted_distribution_sums_to_one_and_its_largest_wins(
    weights: Any, data: st.DataObject, answers: Answers
) -> None:
    says = st.sampled_from(["", "x", "x\ny", "Confidence: 30", "x\nconfidence: 100%"])
    texts = data.draw(st.lists(says, min_size=len(answers), max_size=len(answers)))
    vote = Vote(samples=len(answers), weights=weights)
    first, reading = vote.decide(readings(answers), texts)
    assert reading.distribution is not None
    assert sum(reading.distribution.values()) == pytest.approx(1)
    assert reading.distribution[reading.value] == max(reading.distribution.values())
    assert answers[first] == reading.value
    if len(set(texts)) == 1:
        assert reading.value == majority(answers), "equal weights are the majority"


@pytest.mark.parametrize("weights", ["steps", "stated"])
def test_to_weigh_samples_all_are_drawn(weights: Any) -> None:
    assert drawn(Vote(samples=7, weights=weights), "aaaaaaa") == 7


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"confidence": "("}, "not an RE2 pattern"),
        ({"confidence": r"\d+"}, "has no group"),
        ({"certain": 0}, "greater than 0"),
        ({"temperature": 0}, "greater than or equal to 0.01"),
        ({"weights": "likelihood"}, "'equal', 'steps' or 'stated'"),
    ],
)
def test_a_mistake_in_the_weights_is_told(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Vote(**keys)


# -- in a chain


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        ([Vote()], "output[0]", "no step before vote reads an answer"),
        ([Vote(), Number()], "output[0]", "no step before vote reads an answer"),
        ([Number(), Vote(), Vote()], "output[2]", "a second vote"),
        ([After(), Vote(), Number()], "output[2]", "stands after vote, which decides"),
        ([Verbalizer(labels=LABELS, read="scores"), Vote()], "output[0].read", "set read: text, or leave vote out"),
        ([Verbalizer(labels=LABELS), BatchCalibration(), Vote()], "output[1]", "counts answers read from text"),
        ([Verbalizer(labels=LABELS), Vote(), BatchCalibration()], "output[2]", "counts answers read from text"),
        ([Verbalizer(labels=LABELS), ContextualCalibration(), Vote()], "output[1]", "leave one of them out"),
    ],
)
def test_what_does_not_fit_with_a_vote_is_told(chain: list[Aligner], key: str, words: str) -> None:
    with pytest.raises(TaskError) as told:
        Chain(tuple(chain))
    assert told.value.key == key
    assert words in told.value.what


@pytest.mark.parametrize("reader", [Identity(), Number(), Json(), Items(), Verbalizer(labels=LABELS)])
def test_under_a_vote_text_is_needed_whatever_the_model_gives(reader: Aligner) -> None:
    rich = Capabilities(top_logprobs=20, continuation=True)
    chain = Chain((reader, Vote()))
    assert chain.need(rich, rationale=False, cloze=False).kind == "text"
    with pytest.raises(TaskError, match="leave vote out") as told:
        chain.need(rich, rationale=False, cloze=True)
    assert told.value.key == "output[0]"


@pytest.mark.parametrize(
    ("chain", "text", "value"),
    [
        ([After(), Number()], "3 * 6 = 18. So the answer is $18.00.", 18),
        ([Identity()], " Paris\n", "Paris"),
        ([Regex(pattern=r"\d+", take="all"), Items()], "- red\n- green", None),
        ([Verbalizer(labels=LABELS)], "Yes, it is.", "yes"),
        ([Json()], 'It is {"a": 1.0}.', {"a": 1.0}),
    ],
)
def test_the_steps_before_a_vote_read_each_sample(chain: list[Aligner], text: str, value: Any) -> None:
    whole = Chain((*chain, Vote()))
    reading = whole.canonical(whole.advance(Reading(text=text), 0, {}, len(chain))[0])
    assert (reading.status, reading.value) == ("unparsed" if value is None else "ok", value)
    assert not any("vote" in line for line in reading.trace)


def test_targets_are_written_and_compared_as_the_reader_before_the_vote_does() -> None:
    chain = Chain((After(), Number(), Vote()))
    assert (chain.write("$18.00"), chain.canon("$18.00")) == ("$18.00", 18)


# -- side by side


def asking(name: str, rounds: int, seen: list[str]) -> Steps[str]:
    """Asks `rounds` batches, the r-th of r + 1 requests; the answers, joined."""
    said = ""
    for r in range(rounds):
        answers = yield [Request(f"{name}{r}{i}", Generate()) for i in range(r + 1)]
        said += "".join(answer.text for answer in answers)
        seen.append(name)
    return said


def driven(steps_: Steps[Any]) -> tuple[Any, list[list[Any]]]:
    """The result, and the prompts of each round; each is answered with itself."""
    rounds: list[list[Any]] = []
    try:
        batch = next(steps_)
        while True:
            rounds.append([request.prompt for request in batch])
            batch = steps_.send([Response(str(request.prompt)) for request in batch])
    except StopIteration as end:
        return end.value, rounds


def test_generators_side_by_side_ask_as_one() -> None:
    result, rounds = driven(side_by_side([asking("a", 1, []), asking("b", 2, []), asking("c", 0, [])]))
    assert result == ["a00", "b00b10b11", ""]
    assert rounds == [["a00", "b00"], ["b10", "b11"]]


@given(rounds=st.lists(st.integers(0, 4), max_size=5))
def test_each_of_several_gets_what_it_would_get_alone(rounds: list[int]) -> None:
    alone = [driven(asking(f"{i}:", r, [])) for i, r in enumerate(rounds)]
    result, asked = driven(side_by_side([asking(f"{i}:", r, []) for i, r in enumerate(rounds)]))
    assert result == [found for found, _ in alone]
    assert len(asked) == max(rounds, default=0), "as many rounds as the longest takes"
    for r, prompts in enumerate(asked):
        assert prompts == [p for _, batches in alone if r < len(batches) for p in batches[r]]


def bold(name: str) -> Steps[str]:
    """Asks something else where there is no answer."""
    try:
        (answer,) = yield [Request(name, Generate())]
    except RequestError:
        (answer,) = yield [Request(f"{name} again", Generate())]
    return answer.text


def test_a_request_without_an_answer_is_told_to_all_that_wait() -> None:
    steps_ = side_by_side([bold("a"), bold("b")])
    assert [r.prompt for r in next(steps_)] == ["a", "b"]
    assert [r.prompt for r in steps_.throw(RequestError("no"))] == ["a again", "b again"]
    with pytest.raises(StopIteration) as end:
        steps_.send([Response("1"), Response("2")])
    assert end.value.value == ["1", "2"]


def test_if_one_knows_no_other_way_none_goes_on() -> None:
    seen: list[str] = []
    steps_ = side_by_side([bold("a"), asking("b", 1, seen)])
    next(steps_)
    with pytest.raises(RequestError, match="no answer"):
        steps_.throw(RequestError("no answer"))
    assert seen == []
