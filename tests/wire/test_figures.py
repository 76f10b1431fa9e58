"""Log-probabilities as servers write them: what is read of each form, and what is never taken for a figure."""

from __future__ import annotations

import math
from typing import Any

import pytest

from icl_engine.errors import NoLogprobsError, RequestError
from icl_engine.models.figures import echoed_ids, echoed_text, places
from icl_engine.types import NextToken, Place


def row(token: str, p: float | None, top: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    tops = [{"token": t, "logprob": q, "bytes": list(t.encode())} for t, q in (top or {}).items()]
    return {"token": token, "logprob": p, "top_logprobs": tops, **more}


def lists(*rows: tuple[str, float | None, dict[str, float] | None]) -> dict[str, Any]:
    tokens = [token for token, _, _ in rows]
    return {
        "tokens": tokens,
        "token_logprobs": [p for _, p, _ in rows],
        "top_logprobs": [top for _, _, top in rows],
        "text_offset": [len("".join(tokens[:i])) for i in range(len(tokens))],
    }


def left(*logprobs: float) -> float:
    return math.log(1 - sum(map(math.exp, logprobs)) + 1e-6)


@pytest.mark.parametrize(
    ("logprobs", "readout", "expected"),
    [
        pytest.param(
            lists((" b", -0.5, {" a": -2.5, " b": -0.5})),
            NextToken(2),
            [Place(" b", {" b": -0.5, " a": -2.5}, -2.5)],
            id="completions: the likeliest first",
        ),
        pytest.param(
            {"content": [row("b", -0.5, {"a": -2.5, "b": -0.5})]},
            NextToken(2),
            [Place("b", {"b": -0.5, "a": -2.5}, -2.5)],
            id="chat",
        ),
        pytest.param(
            {
                "content": [
                    {
                        "id": 7,
                        "token": " b",
                        "logprob": -0.5,
                        "top_logprobs": [
                            {"id": 7, "token": " b", "bytes": [32, 98], "logprob": -0.5},
                            {"id": 9, "token": " a", "bytes": [32, 97], "logprob": -2.5},
                        ],
                    }
                ]
            },
            NextToken(2, (), ()),
            [Place(7, {7: -0.5, 9: -2.5}, -2.5)],
            id="llama.cpp: a row for each token, with its id",
        ),
        pytest.param(
            lists(("token_id:5", -0.5, {"token_id:5": -0.5, "token_id:8": -2.5})),
            NextToken(2, (), ()),
            [Place(5, {5: -0.5, 8: -2.5}, -2.5)],
            id="vLLM: ids",
        ),
        pytest.param(
            lists(("token_id:5", -0.5, {"token_id:5": -0.5, "token_id:8": -7.5, "token_id:9": -1.5})),
            NextToken(0, (8, 9), ()),
            [Place(5, {5: -0.5, 9: -1.5, 8: -7.5}, left(-0.5, -1.5, -7.5))],
            id="named tokens: others are bounded by what is left",
        ),
        pytest.param(
            {"content": [row("token_id:5", -0.5, {"token_id:8": -7.5})]},
            NextToken(0, (8,), ()),
            [Place(5, {5: -0.5, 8: -7.5}, left(-0.5, -7.5))],
            id="named tokens by chat, the one said beside them",
        ),
        pytest.param(
            lists((" b", -0.5, {" a": -2.5, " b": -0.5}), ("ad", -0.1, {"ad": -0.1, "x": -4.0}), ("!", -0.2, {})),
            NextToken(2, places=2),
            [Place(" b", {" b": -0.5, " a": -2.5}, -2.5), Place("ad", {"ad": -0.1, "x": -4.0}, -4.0)],
            id="several places, no more than were asked for",
        ),
        pytest.param(
            lists((" b", -0.5, {" b": -0.5, " a": -2.5, " c": -3.0})),
            NextToken(2),
            [Place(" b", {" b": -0.5, " a": -2.5}, -2.5)],
            id="one more than k",
        ),
        pytest.param(
            lists((" z", -6.0, {" b": -0.5, " a": -2.5})),
            NextToken(2),
            [Place(" z", {" b": -0.5, " a": -2.5}, -2.5)],
            id="what was said is not among the likeliest: it bounds nothing",
        ),
        pytest.param(
            lists((" b", -0.5, {" b": -0.5})), NextToken(1), [Place(" b", {" b": -0.5}, left(-0.5))], id="top 1"
        ),
    ],
)
def test_the_figures_of_an_answer(logprobs: Any, readout: NextToken, expected: list[Place]) -> None:
    found = list(places(logprobs, readout))
    assert [(p.said, list(p.seen.items())) for p in found] == [(p.said, list(p.seen.items())) for p in expected]
    assert [p.floor for p in found] == pytest.approx([p.floor for p in expected])


@pytest.mark.parametrize(
    ("logprobs", "readout", "says", "retryable"),
    [
        pytest.param(None, NextToken(5), "left out", False, id="null"),
        pytest.param({}, NextToken(5), "left out", False, id="empty"),
        pytest.param({"content": None}, NextToken(5), "left out", False, id="null content"),
        pytest.param(lists(), NextToken(5), "left out", False, id="no place"),
        pytest.param(lists((" a", None, None)), NextToken(1), "left out|gave 0", False, id="null figures"),
        pytest.param(lists((" a", -0.5, None)), NextToken(5), "gave 1 of 5", False, id="only the token said"),
        pytest.param(lists((" a", -0.5, {" a": -0.5, "!": -9999.0})), NextToken(5), "gave 1 of 5", True, id="partial"),
        pytest.param(lists(("!", -9999.0, {"!": -9999.0})), NextToken(5), "gave 0 of 5", True, id="nothing real"),
        pytest.param(lists((" a", 0.0, {" a": 0.0, " b": 0.0})), NextToken(2), "zeros", False, id="zeros"),
        pytest.param(lists((" a", -0.1, {" a": -0.1, " b": -0.1})), NextToken(2), "sum to", False, id="too likely"),
        pytest.param(
            lists((" a", -0.1, {" a": -0.1, " b": -3.0})), NextToken(2, (), ()), "token ids", False, id="no ids"
        ),
        pytest.param(
            lists(("token_id:5", -0.5, {"token_id:5": -0.5, "token_id:6": -1.5})),
            NextToken(0, (6, 7, 8), ()),
            r"ignores logprob_token_ids: .* 2 of 3",
            False,
            id="named tokens ignored",
        ),
        pytest.param(
            lists(("token_id:5", -0.5, {"token_id:5": -0.5, "token_id:6": -9999.0})),
            NextToken(0, (6,), ()),
            "ignores logprob_token_ids",
            False,
            id="a named token not computed",
        ),
    ],
)
def test_what_is_no_figure(logprobs: Any, readout: NextToken, says: str, retryable: bool) -> None:
    with pytest.raises(NoLogprobsError, match=says) as found:
        places(logprobs, readout)
    assert found.value.retryable is retryable


# -- echo

ECHO = lists(("A", None, None), (" b", -1.0, None), (" c", -2.0, None), (" d", -3.0, None), ("!", -0.5, None))


def test_an_echo_of_ids_is_read_by_their_number() -> None:
    assert echoed_ids(ECHO, 2, [7, 8]) == ((7, -2.0), (8, -3.0))
    assert echoed_ids(ECHO, 2, [7, 8, 9]) == ((7, -2.0), (8, -3.0), (9, -0.5))


def test_an_echo_of_text_is_read_by_its_tokens() -> None:
    assert echoed_text(ECHO, "A b", " c d") == ((" c", -2.0), (" d", -3.0))


def test_what_stands_before_every_prompt_is_no_part_of_the_text() -> None:
    begun = lists(("<s>", None, None), ("A", -4.0, None), (" b", -1.0, None), (" c", -2.0, None))
    assert echoed_text(begun, "A b", " c") == ((" c", -2.0),)


def test_a_certain_token_is_no_silent_zero() -> None:
    assert echoed_ids(lists(("A", None, None), ("b", -1.0, None), ("c", 0.0, None)), 2, [3]) == ((3, 0.0),)


@pytest.mark.parametrize(
    ("logprobs", "says"),
    [
        pytest.param(None, "echo", id="left out"),
        pytest.param(lists(("!", -0.5, None)), "echo", id="only the generated token"),
        pytest.param(lists(*[("A", -0.5, None)] * 7), "echo", id="too many"),
        pytest.param(lists(*[(t, 0.0, None) for t in ("A", " b", " c", " d")]), "zeros", id="zeros"),
        pytest.param(lists(*[(t, None, None) for t in ("A", " b", " c", " d")]), "leaves them out", id="nulls"),
        pytest.param(
            lists(("A", None, None), (" b", -1.0, None), (" c", -2.0, None), (" d", None, None)), "None", id="one null"
        ),
        pytest.param(
            lists(("A", None, None), (" b", -1.0, None), (" c", -9999.0, None), (" d", -1.0, None)),
            "-9999",
            id="not computed",
        ),
        pytest.param(
            lists(("A", None, None), (" b", -1.0, None), (" c", 2.0, None), (" d", -1.0, None)), "2.0", id="above 0"
        ),
    ],
)
def test_an_echo_that_is_none(logprobs: Any, says: str) -> None:
    with pytest.raises(NoLogprobsError, match=says):
        echoed_ids(logprobs, 2, [7, 8])
    with pytest.raises(NoLogprobsError, match=says):
        echoed_text(logprobs, "A b", " c d")


@pytest.mark.parametrize(("prompt", "text"), [("A b c", " d!"), ("A ", "b c d!"), ("A b", " c")])
def test_a_token_across_an_end_of_the_text_is_told(prompt: str, text: str) -> None:
    across = lists(("A", None, None), (" b", -1.0, None), (" c d!", -2.0, None))
    with pytest.raises(RequestError, match="reaches across an end of"):
        echoed_text(across, prompt, text)
