"""What a run may spend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from icl_engine.errors import BudgetError
from icl_engine.types import Usage


@dataclass
class Budget:
    """A cap on what this process pays; answers from the cache cost nothing.

    Args:
        cap: USD.
        cost: USD of an answer's usage.
        spent: USD so far.

    >>> budget = Budget(0.01, lambda used: used.prompt_tokens * 1e-6)
    >>> budget.charge(Usage(prompt_tokens=20_000))
    >>> budget.check()
    Traceback (most recent call last):
    icl_engine.errors.BudgetError: stopped at run.max_cost_usd: $0.02 of $0.01 spent; run again to spend as much again
    """

    cap: float
    cost: Callable[[Usage], float]
    spent: float = 0.0

    def check(self) -> None:
        """Raise `BudgetError` once the cap is reached; called before each request that would be paid for."""
        if self.spent >= self.cap:
            spent = f"${self.spent:.6g} of ${self.cap:g}"
            raise BudgetError(f"stopped at run.max_cost_usd: {spent} spent; run again to spend as much again")

    def charge(self, used: Usage) -> None:
        """Add what an answer cost."""
        self.spent += self.cost(used)
