"""The calibration that the engine takes where a task says nothing about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icl_engine.alignment.statistical.batch_calibration import BatchCalibration

FEWEST = 50
"""Rows below which p̄ says more about which rows they are than about the model."""


class AssumedCalibration(BatchCalibration):
    """Batch calibration over a run's own rows, where there are enough of them; else nothing.

    It is taken for demonstrations that all queries share, whose label prior is the same in every prompt, and for labels
    that are about as frequent (docs/concepts/calibration.md has the measurements). Where some row has no distribution,
    all stay as they are.

    >>> step = AssumedCalibration()
    >>> step.finish(step.gather(step.start(), {"a": 0.9, "b": 0.1}))
    {'prior': {}, 'rows': 0, 'why': '1 row is too few: 50 are needed'}
    """

    def start(self) -> dict[str, Any]:
        """An empty sum."""
        return {**super().start(), "without": 0}

    def gather(self, gathered: dict[str, Any], distribution: Mapping[str, float] | None) -> dict[str, Any]:
        """The sum with one more row."""
        if distribution is None:
            return {**gathered, "without": gathered["without"] + 1}
        return {**super().gather(gathered, distribution), "without": gathered["without"]}

    def finish(self, gathered: dict[str, Any], fitted: Any = None) -> dict[str, Any]:
        """The state of batch calibration; without a prior, and with the reason, where it is not taken."""
        rows, without = gathered["rows"], gathered["without"]
        why = ""
        if without:
            why = f"{without} of {rows + without} rows have no label distribution"
        elif rows < FEWEST:
            why = f"{rows} {'row is' if rows == 1 else 'rows are'} too few: {FEWEST} are needed"
        if why:
            return {"prior": {}, "rows": 0, "why": why}
        return super().finish(gathered)
