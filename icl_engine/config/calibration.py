"""What O is where a task names no calibration: chosen by measurement (docs/concepts/calibration.md), always told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from icl_engine.alignment.chain import Chain
from icl_engine.alignment.statistical.assumed import AssumedCalibration
from icl_engine.alignment.structural.verbalizer import Verbalizer

if TYPE_CHECKING:
    from icl_engine.config.load import Loaded

MOST = 20
"""Labels up to which it was measured."""

NONE = "calibration: none in the verbalizer"


def calibrated(loaded: Loaded) -> Chain:
    """The task's output steps, and batch calibration behind them where the task leaves that to the engine.

    That is: a verbalizer reads label scores of a model that runs here, for no other steps than those that read; all
    queries share their demonstrations, or have none. A served model's endpoint may be of any size, and for large ones
    nothing was measured: there the answer stays as it was scored.
    """
    chain = Chain(loaded.task.output)
    if not _left_open(loaded, chain) or _against(loaded, chain):
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
    if shown is not None and shown.per_query:
        return "with demonstrations chosen for each query it was measured to hurt"
    if loaded.task.model.use != "embedded":
        return "for served models nothing was measured; {use: batch_calibration} behind the verbalizer does it"
    if isinstance(first, Verbalizer) and len(first.labels) > MOST:
        return f"for more than {MOST} labels nothing was measured; {{use: batch_calibration}} does it"
    return ""
