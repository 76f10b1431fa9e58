"""Example specs of every registered component: the conformance suites try each of them against its kind's laws.

A component that is added to `icl_engine.registry` needs an entry here, and is then covered.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from icl_engine.protocols import Component
from icl_engine.registry import TABLES, Kind, resolve

RECORD = str(Path(__file__).with_name("replay.jsonl"))
"""Three recorded answers to two prompts."""


@dataclass(frozen=True)
class Case:
    """A component as a user may write it.

    Args:
        keys: its keys beside `use`.
        targets: for a reader, targets that it must read back from what it writes.
        says: for a reader, how a model says what is written; braces stand for what is written.
        offline: for a model, whether its endpoint answers without weights and network.
    """

    keys: Mapping[str, Any]
    targets: tuple[Any, ...] = ()
    says: str = "{}"
    offline: bool = False


CASES: Mapping[Kind, Mapping[str, tuple[Case, ...]]] = {
    "retriever": {
        "bm25": (
            Case({"k": 4}),
            Case({"k": 3, "method": "bm25+", "k1": 1.2, "b": 0.0, "delta": 1.0}),
            Case({"k": 2, "prefix": "shared", "groups": 2}),
        ),
        "cluster": (Case({"k": 4}), Case({"k": 3, "encoder": {"use": "tfidf", "ngrams": 2}, "seed": 7})),
        "complexity": (Case({"k": 3}), Case({"k": 4, "field": "t", "order": "random"})),
        "dpp": (
            Case({"k": 4}),
            Case({"k": 3, "candidates": 5, "scale": 0.5, "order": "as_retrieved"}),
            Case({"k": 2, "encoder": "tfidf", "prefix": "shared", "groups": 3}),
        ),
        "fixed": (Case({"items": [{"t": "t0", "y": "a"}]}), Case({"path": "shots.jsonl", "k": 3})),
        "hybrid": (
            Case({"k": 4, "of": ["bm25", "tfidf"]}),
            Case({"k": 3, "of": [{"use": "knn", "encoder": "tfidf"}, {"use": "bm25", "b": 0.5}], "depth": 5}),
            Case({"k": 2, "of": ["tfidf", "bm25"], "rank_constant": 1, "prefix": "shared", "groups": 2}),
        ),
        "knn": (
            Case({"k": 4, "encoder": "tfidf"}),
            Case({"k": 2, "encoder": "tfidf", "prefix": "shared", "groups": 3}),
        ),
        "mmr": (
            Case({"k": 4}),
            Case({"k": 3, "candidates": 5, "relevance": 0.2, "order": "as_retrieved"}),
            Case({"k": 2, "encoder": "tfidf", "prefix": "shared", "groups": 3}),
        ),
        "per_label": (Case({"k": 2}), Case({"k": 1, "encoder": "tfidf", "prefix": "shared", "groups": 3})),
        "mdl": (Case({"k": 4}), Case({"k": 2, "candidates": 6, "sets": 3, "prefix": "shared", "groups": 2})),
        "random": (Case({"k": 4}), Case({"k": 4, "balanced": True, "seed": 7})),
        "tfidf": (Case({"k": 4}), Case({"k": 2, "ngrams": 2, "order": "random", "prefix": "shared", "groups": 2})),
        "votek": (Case({"k": 4}), Case({"k": 2, "neighbours": 3, "rho": 2})),
    },
    "encoder": {
        "embeddings": (
            Case({"name": "some-model", "base_url": "http://127.0.0.1:9/v1"}),
            Case({"name": "m", "base_url": "http://127.0.0.1:9/v1", "dimensions": 8, "batch": 2}),
        ),
        "field": (Case({"name": "v"}),),
        "sentence_transformers": (Case({}), Case({"prompt": "query: ", "batch": 2, "device": "cpu"})),
        "tfidf": (Case({}), Case({"ngrams": 2})),
    },
    "cot": {
        "auto": (Case({}), Case({"k": 4, "encoder": "tfidf", "steps": 3, "max_tokens": 64, "seed": 1})),
        "bootstrap": (Case({}), Case({"rows": 8, "cue": "Think.", "then": "So:"})),
        "zero_shot": (Case({}), Case({"then": "Therefore, the answer is", "max_tokens": 200})),
    },
    "model": {
        "anthropic": (
            Case({"name": "some-model"}),
            Case({"name": "m", "base_url": "http://h/v1", "prompt_cache": False}),
        ),
        "embedded": (Case({}), Case({"name": "smollm2-135m", "context": 512, "threads": 1, "stop": "\n"})),
        "fake": (Case({}, offline=True), Case({"answers": ["Yes", "No", "Maybe"], "api": "chat"}, offline=True)),
        "openai": (
            Case({"name": "some-model"}),
            Case({"name": "m", "base_url": "http://h/v1", "organization": "o", "reasoning_effort": "low"}),
        ),
        "replay": (Case({"path": RECORD}, offline=True), Case({"path": RECORD, "identity": "table 1"}, offline=True)),
        "vllm": (Case({"base_url": "http://127.0.0.1:9/v1", "name": "some-model", "temperature": 0.5, "seed": 1}),),
    },
    "aligner": {
        "abstain": (Case({"below": 0.5}), Case({"accuracy": 0.9, "rows": 8})),
        "after": (
            Case(
                {},
                targets=("12", "Paris", "1,000.5", "No.", " a ", -3, 0.5, True, None, ["a", 1], {"k": "é"}),
                says="4 + 8 = 12. So the answer is {}",
            ),
            Case(
                {"marker": "A:", "take": "first"},
                targets=("12", "New York", "U.S", "x.y", 12, False),
                says="3 * 4 = 12\nA: {}.\n\nQ: What is 2 + 2?\nA: 4",
            ),
            Case(
                {"marker": "####", "until": "end"},
                targets=("12", "two\nlines", "one\n\nthree.", 1.5, ["a", 1]),
                says="48 / 2 = 24\n####\n{}\n",
            ),
        ),
        "batch_calibration": (Case({}), Case({"inputs": 4, "strength": 0.5}), Case({"strength": "fitted", "rows": 16})),
        "boolean": (
            Case({}, targets=(True, False, 1, 0, "yes", "No", "TRUE", "false.", "wrong"), says="So the answer is {}."),
            Case({}, targets=(True, False), says="{}, because it is so.\n\nQ: And now?\nA: yes"),
            Case({"true": "plausible", "false": ["not plausible", 0]}, targets=(True, "not plausible", "0", False)),
        ),
        "boxed": (
            Case(
                {},
                targets=("12", r"\frac{\sqrt{3}}{2}", r"\boxed{x}", " a ", -3, 0.5, True, r"\{1, 2\}"),
                says="So {}.",
            ),
            Case({"take": "first"}, targets=("12", "(1, 2)"), says=r"{} or \boxed{3}"),
        ),
        "choice": (
            Case({}, targets=("A", "Z", "(B)", "b", "[C]", "D.", "(e)", "**F**", "'g'", " H\n")),
            Case({"choices": ["A", "B", "C"]}, targets=("A", "b", "C"), says="It rains. So the answer is ({})."),
            Case(
                {"choices": {"a": "Rome", "b": "New York", "c": "$5.00", "d": "two of the others"}},
                targets=("A", "(B)", "rome", "New York.", "$5.00", "Two of the others"),
                says="The answer is {}",
            ),
            Case({"choices": {1: "yes", 2: "no", 10: True}}, targets=(1, "2", 10, "Yes", "no", True)),
            Case({"choices": {1: "yes", 2: "no", 10: True}}, targets=(1, "2", 10), says="{}) because it is so."),
            Case({"options": "cities"}, targets=("A", "(b)", "Z"), says="I'd go with **{}**."),
        ),
        "contextual_calibration": (Case({}), Case({"inputs": ["N/A"]})),
        "domain_calibration": (Case({}), Case({"texts": 2})),
        "code": (
            Case(
                {},
                targets=("x = 1", "if x:\n    y()\n", "  a\n b", "```\nx\n```", "~~~", 12, ["a", 1]),
                says="Here:\n{}\nOK?",
            ),
            Case({"language": "json", "take": "first"}, targets=('{"a": 1}', "[]"), says="{}\n```json\n1\n```"),
            Case({"bare": True}, targets=("x = 1", "two\nlines"), says="{}"),
        ),
        "date": (
            Case(
                {},
                targets=("2021-03-05", "March 5, 2021", "5th of March 2021", "25.03.2021"),
                says="2020-01-01? No, {}.",
            ),
            Case(
                {"order": "month_first", "take": "first"},
                targets=("03/04/2021", "3-4-99"),
                says="{}, and then 05/06/2021",
            ),
            Case({"order": "day_first"}, targets=("03/04/2021", datetime.date(2024, 2, 29)), says="On {}"),
        ),
        "identity": (
            Case({}, targets=("Paris", "", " a\n", "two\nlines", 12, 0.5, True, None, ["a", 1], {"k": "é"})),
            Case({"strip": False}, targets=("Paris", " a\n", 12, False)),
        ),
        "json": (
            Case({}, targets=({"a": [1, {"b": None}]}, {}, [], "Paris", "12", 12, -0.5, 2**64 - 1, -(2**63), True)),
            Case({}, targets=('{"a": 1}', " [1, 2]\n", "[sic]", "{", '"', "null", {1: "é\u2028"}, (1, "😀"), "a\x00b")),
            Case(
                {"schema": {"type": ["object", "array"], "minItems": 1, "required": ["name"]}},
                targets=({"name": "```"}, {"name": "}", "age": 3}, '{"name": []}', [0], [[{}]]),
                says="Here you are:\n```json\n{}\n```\nIs that (all of) it?",
            ),
        ),
        "knn_prompting": (Case({}), Case({"k": 1, "rows": 8})),
        "label_mapping": (
            Case({"kind": "frequency"}, targets=("a", 1, True, " a ", ["a"])),
            Case({"kind": "iterative", "rounds": 2}, targets=("a",)),
            Case({"smoothing": 0.5}, targets=("a",)),
            Case({"kind": "bayesian_plus", "top": 2, "rows": 8}, targets=("a",)),
        ),
        "linear": (Case({"form": "full", "c": 1.0}), Case({"form": "diagonal", "c": 0.1, "rows": 8})),
        "list": (
            Case({}, targets=(["red", "green"], ["one"], [], ("x", "y", "x"), [1, -2.5, True, None], [" a ", "", "b"])),
            Case({}, targets=("red, green,blue", "a\nb\n", "red", "none", "", 12, ["none", "none"], ["(a)", "1.5"])),
            Case({}, targets=(["red", "green"], ["- red", "2. green"], "red, green"), says="- {}\n"),
            Case({"separator": ";", "empty": "keine"}, targets=(["a, b", "c"], [], ["none"], "a, b; c"), says=" {} ;"),
            Case({"separator": "\n"}, targets=(["red, green", "blue"], ["red"], []), says="1. {}\n\n"),
            Case({"separator": " "}, targets=(["syndrome", "therefrom"], "b a\nc", [])),
        ),
        "number": (
            Case(
                {},
                targets=(12, -3, 0, 7.0, 0.5, -0.25, 1e-7, 1.5e300, 2**53 + 1, 2**63 - 1, 2**63, -(10**30)),
                says="She has 3 * 9 + 2 = {}.",
            ),
            Case(
                {},
                targets=("1,234,567.89", "$29.00", "-$5", "−5", "+7", "3/4", "50%", "12 apples", "1e3", ".5", "007"),
                says="It was 10 at first. Now it is {}.",
            ),
            Case({"take": "first"}, targets=(12, -0.5, "1,000", "3/4", "€2.50", "1E+05"), says="{} of 100, or 1 in 2"),
            Case(
                {"decimal": ",", "percent": "fraction"},
                targets=(12, -0.5, 1e-7, "1.234,5", "50%", "3,14", r"\frac{3}{4}", "1½"),
                says="Die Antwort ist **{}**.",
            ),
        ),
        "reask": (Case({}), Case({"say": "Once more:"})),
        "regex": (
            Case({"pattern": r"(?s).+"}, targets=("Paris", " a \n", "two\nlines", 12, True, ["a", 1])),
            Case({"pattern": r"-?\d+", "take": "last"}, targets=("12", -3, 0)),
            Case({"pattern": r"(?i)\b(?P<it>yes|no)\b", "group": "it"}, targets=("yes", "No")),
            Case({"pattern": r"\w+", "take": "all"}, targets=(["a", "b"], ["one"], ("x", "y", "x"))),
            Case({"pattern": r"\w+", "take": "all"}, targets=("a", 12)),
            Case(
                {"pattern": r"(?P<city>[A-Z]\w+)(?: in (?P<year>\d{4}))?(?P<rest>, .*)?", "group": ["city", "year"]},
                targets=("Rome in 2020", {"city": "Rome", "year": None}),
            ),
        ),
        "temperature": (Case({}), Case({"t": 2.0}), Case({"rows": 8})),
        "spans": (
            Case(
                {},
                targets=(
                    [{"type": "person", "text": "Ann"}, {"type": "place", "text": "New York"}],
                    {"person": ["Ann", "Bo"], "place": "Rome, Italy"},
                    [],
                    [{"type": "title", "text": 'the "end"; part 2'}, {"type": "title", "text": "U.S."}],
                ),
            ),
            Case(
                {"types": ["person", "place"], "format": "lines", "unaligned": "drop", "field": "t"},
                targets=([{"type": "Person", "text": "Ann"}, {"type": "place", "text": "Rome"}], "person: Ann", []),
                says="Here you are:\n{}\n",
            ),
            Case(
                {"types": ["person", "place"], "format": "json", "nearest": None},
                targets=([{"type": "person", "text": "Ann\nLee"}, {"type": "place", "text": "(x): y"}], []),
                says="```json\n{}\n```",
            ),
        ),
        "verbalizer": (
            Case({"labels": {"pos": ["good", "great"], "neg": "bad"}}, targets=("pos", "neg")),
            Case({"labels": {0: "no", 2: "no way", True: "NO"}, "scores": "trie"}, targets=(0, "0", 2, "2", True)),
            Case({"labels": {"a": "(A)", "b": "B.", "c": '"'}, "read": "text"}, targets=("a", "b", "c")),
            Case(
                {"labels": {"ent": ["entailment", "true"], "not": ["not_entailment", "false"]}, "nearest": None},
                targets=("ent", "not"),
                says="So the answer is **{}**.",
            ),
        ),
        "vote": (
            Case({}),
            Case({"samples": 8, "longest": 3}),
            Case({"samples": 4, "stop_early": False}),
            Case({"weights": "steps"}),
            Case({"weights": "stated", "confidence": r"(?i)sure: (\S+)", "certain": 1, "temperature": 0.5}),
        ),
    },
    "metric": {
        "accuracy": (Case({}), Case({"name": "right"})),
        "balanced_accuracy": (Case({}),),
        "bleu": (Case({}), Case({"tokenize": "char", "lowercase": True})),
        "brier": (Case({}),),
        "chrf": (Case({}), Case({"word_order": 2, "lowercase": True})),
        "ece": (Case({}), Case({"bins": 1, "name": "gap"})),
        "exact_match": (Case({}),),
        "log_loss": (Case({}),),
        "macro_f1": (Case({}),),
        "mcc": (Case({}),),
        "micro_f1": (Case({}),),
        "numeric": (Case({}), Case({"absolute": 0.5, "relative": 0.0}), Case({"equal": "math"})),
        "rouge": (
            Case({}),
            Case({"variant": "rouge1", "stem": True}),
            Case({"variant": "rouge2"}),
            Case({"variant": "rougeLsum", "name": "summary"}),
        ),
        "span_f1": (Case({}),),
        "token_f1": (Case({}),),
    },
}


def cases(kind: Kind, *, offline: bool = False) -> list[Any]:
    """(registered name, case) pairs of a kind, for `pytest.mark.parametrize`."""
    return [
        pytest.param(name, case, id=f"{name}-{i}")
        for name, several in CASES[kind].items()
        for i, case in enumerate(several)
        if case.offline or not offline
    ]


def names() -> list[tuple[Kind, str]]:
    """Every (kind, registered name) of this package."""
    return [(kind, name) for kind, table in TABLES.items() for name in table]


def made(kind: Kind, name: str, case: Case) -> Any:
    """The component that a case describes."""
    component = resolve(kind, name).model_validate({"use": name, **case.keys})
    assert isinstance(component, Component)
    return component
