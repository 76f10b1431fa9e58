"""What O is where a task names no calibration: chosen by measurement (docs/concepts/calibration.md), always told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.statistical.assumed import AssumedCalibration
from icl_engine.alignment.structural.verbalizer import Verbalizer

if TYPE_CHECKING:
    from icl_engine.config.load import Loaded

MOST = 20
"""Labels up to which a distribution takes few requests: of 77, it takes one for each label and row."""

EVEN = 0.5
"""How rare a label may be among the train rows, in its even share: p̄ is taken for the prompt's leaning, and where the
labels are uneven by themselves it takes true mass away."""

NONE = "calibration: none in the verbalizer"


def calibrated(loaded: Loaded) -> Chain:
    """The task's output steps, and batch calibration behind them where the task leaves that to the engine.

    That is: a verbalizer reads label scores of a model that runs here, for no other steps than those that read; all
    queries share their demonstrations; no label is rare in the train split. A served model's endpoint may be of any
    size, and for large ones nothing was measured: there the answer stays as it was scored.
    """
    chain = Chain(loaded.task.output)
    kept = len(chain.steps) in loaded.saved_states  # a program of a run that did it
    if not _left_open(loaded, chain) or (not kept and _against(loaded, chain)):
        return chain
    return Chain((*chain.steps, AssumedCalibration()), assumed=True)


def note(loaded: Loaded, chain: Chain, states: Mapping[int, Any], *, scored: bool = True) -> str | None:
    """What was done about calibration where the task says nothing; None where it says what it wants.

    Args:
        loaded: the task.
        chain: its output steps.
        states: what they learned; without the engine's own, what it will do.
        scored: whether label scores are read.
    """
    if not scored or not _left_open(loaded, chain):
        return None
    if chain.own is None:
        return f"label scores are not calibrated: {_against(loaded, chain)}"
    state = states.get(chain.own)
    if state is None:
        return f"batch_calibration over the run's own rows, which the task does not name; {NONE} leaves it out"
    if state["prior"]:
        rows = state["rows"]
        return f"batch_calibration over these {rows} rows, which the task does not name; {NONE} leaves it out"
    return f"label scores are not calibrated: {state['why']}"


def _left_open(loaded: Loaded, chain: Chain) -> bool:
    """Whether label scores are read, and the task says nothing of what becomes of them."""
    first, task = chain.steps[0], loaded.task
    if not isinstance(first, Verbalizer) or len(task.output) > 1 or first.calibration == "none":
        return False
    thinks = task.input.answer is not None or task.input.cot is not None
    return first.read != "text" and first.want == "auto" and first.normalization != "pmi" and not thinks


def _against(loaded: Loaded, chain: Chain) -> str:
    """Why the engine does not calibrate of its own accord; empty where it does."""
    first, shown = chain.steps[0], loaded.task.input.demonstrations
    if loaded.task.model.use != "embedded":
        return "for served models nothing was measured; {use: batch_calibration} behind the verbalizer does it"
    if shown is None:
        return "without demonstrations it was measured to help no task, and to hurt one"
    if shown.per_query:
        return "with demonstrations chosen for each query it was measured to help no task, and to hurt one"
    if isinstance(first, Verbalizer) and len(first.labels) > MOST:
        return f"with more than {MOST} labels it takes many requests a row; {{use: batch_calibration}} does it"
    return _uneven(loaded, chain)


def even(counts: Collection[int]) -> bool:
    """Whether no label is rare.

    >>> even([50, 30, 20]), even([119, 115, 16])
    (True, False)
    """
    return min(counts) * len(counts) >= EVEN * sum(counts)


def _uneven(loaded: Loaded, chain: Chain) -> str:
    """Whether a label is rare in the train split, or that is not known."""
    if loaded.program is not None or loaded.task.data.target is None or not loaded.pool:
        return "how often the labels are is not known without a train split"
    counts = Counter(str(x.target) for x in loaded.pool if x.target is not None)
    first = chain.steps[0]
    labels = len(first.labels) if isinstance(first, Verbalizer) else len(counts)
    if len(counts) < labels or not even(counts.values()):
        return "the labels of the train split are uneven, and then it was measured to hurt"
    return ""
