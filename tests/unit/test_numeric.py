"""The metric `numeric`: tolerances, expressions, and a worker that is ended when it takes too long."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.structural.after import After
from icl_engine.alignment.structural.boxed import Boxed
from icl_engine.alignment.structural.regex import Regex
from icl_engine.errors import MissingExtraError
from icl_engine.metrics import symbolic
from icl_engine.metrics.numeric import Numeric
from icl_engine.protocols import Aligner
from icl_engine.types import Reading

INSTALLED = importlib.util.find_spec("math_verify") is not None
MATH = pytest.mark.skipif(not INSTALLED, reason="math-verify is not installed")


@pytest.mark.parametrize(
    ("keys", "prediction", "target", "right"),
    [
        ({}, 12, 12.0, True),
        ({}, 0.1 + 0.2, 0.3, True),
        ({}, 12.0001, 12, False),
        ({}, 1e-12, 0, False),
        ({"relative": 0}, 0.1 + 0.2, 0.3, False),
        ({"relative": 0}, 0.3, 0.3, True),
        ({"absolute": 0.5}, 12.5, 12, True),
        ({"absolute": 0.5}, 12.51, 12, False),
        ({"relative": 0.01}, 3.14, 3.1416, True),
        ({"relative": 0.01}, -3.14, 3.1416, False),
        ({}, "1,000.0", 1000, True),
        ({}, "−5", -5, True),
        ({}, "Paris ", "Paris", True),
        ({}, "Paris", "Rome", False),
        ({}, "12 apples", 12, False),
        ({}, True, 1, True),
        ({}, [1], [1], True),
        ({}, None, 12, False),
        ({}, float("nan"), 12, False),
        ({}, 10**400, 12, False),
        ({}, "1e9999", "1e9999", True),
    ],
)
def test_near_enough(keys: dict[str, Any], prediction: Any, target: Any, right: bool) -> None:
    assert Numeric.model_validate(keys).counts(prediction, target)[0] == float(right)


@pytest.mark.parametrize("keys", [{"absolute": -1}, {"relative": -0.1}, {"absolute": float("inf")}, {"equal": "sympy"}])
def test_a_tolerance_that_means_nothing_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys))):
        Numeric.model_validate(keys)


def test_math_without_its_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icl_engine.metrics.numeric.find_spec", lambda name: None)
    Numeric().check()
    with pytest.raises(MissingExtraError, match=r"math-verify; run: pip install 'icl-engine\[math\]'"):
        Numeric(equal="math").check()


EQUAL = [
    (r"\frac{\sqrt{3}}{2}", "sqrt(3)/2"),
    (r"\sqrt{2+\sqrt{3}}", "sqrt(2+sqrt(3))"),
    (r"\frac{\sqrt3}{2}", "√3/2"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("2**10", "1024"),
    ("x = 5", "5"),
    ("2*pi", r"$2\pi$"),
    (r"12\text{ km}", "12"),
    ("1/2", "0.5"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    (r"\text{Saturday}", "saturday"),
    (r"\left(1, 2\right)", "(1,2)"),
]
UNEQUAL = [
    ("3", "4"),
    (r"\sqrt{2}", "1.41"),
    ("(1, 2)", "(2, 1)"),
    ("listen", "silent"),
    ("on", "no"),
    ("[1, 2)", "[1, 2]"),
    ("", ""),
    ("12", "no idea"),
]


@MATH
@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_expressions_are_right(one: str, other: str) -> None:
    assert Numeric(equal="math").row(one, other) == Numeric(equal="math").row(other, one) == 1.0


@MATH
@pytest.mark.parametrize(("one", "other"), UNEQUAL)
def test_other_expressions_are_wrong(one: str, other: str) -> None:
    assert Numeric(equal="math").row(one, other) == Numeric(equal="math").row(other, one) == 0.0


HOSTILE = [
    "9**9**9**9",
    "9^{9^{9^{9}}}",
    "(x+1)^{99999}",
    "99999!",
    "__import__('os').system('touch /tmp/x')",
    "().__class__.__bases__",
    "(" * 300,
    r"\frac{1}{" * 40,
    "x" * 10_000,
    "1" * 390,
    "\x00\ud800$\n$",
    "$" * 300,
]


@MATH
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_expressions_never_reach_the_worker(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def record(one: str, other: str) -> bool:
        asked.append(one)
        return True

    monkeypatch.setattr(symbolic._WORKER, "equal", record)
    assert Numeric(equal="math").row(text, "7") == Numeric(equal="math").row("7", text) == 0.0
    assert asked == []


def in_a_thread(work: Callable[[], float]) -> float:
    """What the work gives, done outside the main thread."""
    given: list[float] = []
    thread = threading.Thread(target=lambda: given.append(work()))
    thread.start()
    thread.join()
    return given[0]


@MATH
def test_it_works_outside_the_main_thread() -> None:
    assert in_a_thread(lambda: Numeric(equal="math").row("3/7 + 1/7", r"\frac{4}{7}")) == 1.0


@MATH
def test_what_takes_too_long_is_wrong_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Numeric(equal="math").row("y + 1 + z", "1 + z + y") == 1.0
    monkeypatch.setattr(symbolic, "SECONDS", 0.5)
    start = monotonic()
    slow = "x^{999}-1+y^{998}+(x+1)^{999}"
    assert in_a_thread(lambda: Numeric(equal="math").row(slow, "2")) == 0.0
    assert monotonic() - start < 10
    monkeypatch.undo()
    assert Numeric(equal="math").row("y + 2 + z", "2 + z + y") == 1.0


@MATH
def test_a_worker_that_died_is_started_again() -> None:
    assert Numeric(equal="math").row("a + 1", "1 + a") == 1.0
    symbolic._WORKER.close()
    assert Numeric(equal="math").row("a + 2", "2 + a") == 1.0
    process = symbolic._WORKER._process
    assert process is not None
    process.kill()
    process.wait()
    assert Numeric(equal="math").row("a + 3", "3 + a") == 1.0


@MATH
@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((Boxed(),), r"So $\boxed{\frac{\sqrt{3}}{2}}$."),
        ((After(),), r"So the answer is sqrt(3)/2."),
        ((After(), Boxed()), r"The answer is $\boxed{\sqrt{3}/2}$"),
        ((Regex(pattern=r"\$(.+)\$"),), r"It is $\frac{\sqrt 3}{2}$"),
    ],
)
def test_expressions_end_to_end(steps: tuple[Aligner, ...], said: str) -> None:
    chain = Chain(steps)
    reading, _ = chain.advance(Reading(text=said), 0, {}, len(steps))
    target = chain.canon(r"\frac{\sqrt{3}}{2}")
    assert Numeric(equal="math").counts(reading.value, target)[0] == 1.0
