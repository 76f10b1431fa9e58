"""Example specs of every registered component: the conformance suites try each of them against its kind's laws.

A component that is added to `icl_engine.registry` needs an entry here, and is then covered.
"""

from __future__ import annotations

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
        offline: for a model, whether its endpoint answers without weights and network.
    """

    keys: Mapping[str, Any]
    targets: tuple[Any, ...] = ()
    offline: bool = False


CASES: Mapping[Kind, Mapping[str, tuple[Case, ...]]] = {
    "retriever": {
        "fixed": (Case({"items": [{"t": "t0", "y": "a"}]}), Case({"path": "shots.jsonl", "k": 3})),
        "random": (Case({"k": 4}), Case({"k": 4, "balanced": True, "seed": 7})),
    },
    "model": {
        "embedded": (Case({}), Case({"name": "smollm2-135m", "context": 512, "threads": 1, "stop": "\n"})),
        "fake": (Case({}, offline=True), Case({"answers": ["Yes", "No", "Maybe"], "api": "chat"}, offline=True)),
        "replay": (Case({"path": RECORD}, offline=True), Case({"path": RECORD, "identity": "table 1"}, offline=True)),
        "vllm": (Case({"base_url": "http://127.0.0.1:9/v1", "name": "some-model", "temperature": 0.5, "seed": 1}),),
    },
    "aligner": {
        "batch_calibration": (Case({}), Case({"inputs": 4})),
        "contextual_calibration": (Case({}), Case({"inputs": ["N/A"]})),
        "identity": (
            Case({}, targets=("Paris", "", " a\n", "two\nlines", 12, 0.5, True, None, ["a", 1], {"k": "é"})),
            Case({"strip": False}, targets=("Paris", " a\n", 12, False)),
        ),
        "regex": (
            Case({"pattern": r"(?s).+"}, targets=("Paris", " a \n", "two\nlines", 12, True, ["a", 1])),
            Case({"pattern": r"-?\d+", "take": "last"}, targets=("12", -3, 0)),
            Case({"pattern": r"(?i)\b(?P<it>yes|no)\b", "group": "it"}, targets=("yes", "No")),
            Case({"pattern": r"\w+", "take": "all"}, targets=(["a", "b"], ["one"], ("x", "y", "x"))),
            Case({"pattern": r"\w+", "take": "all"}, targets=("a", 12)),
        ),
        "verbalizer": (
            Case({"labels": {"pos": ["good", "great"], "neg": "bad"}}, targets=("pos", "neg")),
            Case({"labels": {0: "no", 2: "no way", True: "NO"}, "scores": "trie"}, targets=(0, "0", 2, "2", True)),
            Case({"labels": {"a": "(A)", "b": "B.", "c": '"'}, "read": "text"}, targets=("a", "b", "c")),
        ),
    },
    "metric": {
        "accuracy": (Case({}),),
        "exact_match": (Case({}),),
        "macro_f1": (Case({}),),
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
