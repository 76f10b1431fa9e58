"""How long a prompt may be: demonstrations are left out, the least useful first; no text is ever cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from icl_engine.tokens import TokenCounter
from icl_engine.types import Message, Prompt

MARKS = 8
"""Bytes more than its text that a turn may take, in tokens."""


@dataclass(frozen=True)
class Budget:
    """The most tokens a prompt may have.

    Args:
        cap: `input.max_prompt_tokens`; None for none.
        window: the context window less the answer, where it is known; asked anew, since an endpoint may tell it late.
        count: counts a prompt's tokens without a network; of an estimate the upper end counts.
        exact: the model's own tokenizer, where it is on this machine; asked only where `count` leaves it open.
    """

    cap: int | None
    window: Callable[[], int | None]
    count: TokenCounter
    exact: Callable[[str], int] | None = None

    @property
    def most(self) -> int | None:
        """The most tokens; None for no limit."""
        found = [limit for limit in (self.cap, self.window()) if limit is not None]
        return min(found) if found else None

    def fits(self, prompt: Prompt) -> bool:
        """Whether the prompt is surely short enough."""
        most = self.most
        if most is None or _bytes(prompt.shown) <= most:
            return True  # no token is less than a byte
        counted = self.count(prompt.shown)
        if counted.high <= most:
            return True
        if self.exact is None or counted.low > most or prompt.text is None:
            return False
        return self.exact(prompt.text) <= most

    def over(self, prompt: Prompt) -> bool:
        """Whether it is longer than the user allows, with all demonstrations left out. (What is longer than the window
        is for the endpoint to refuse: its count may differ.)
        """
        if self.cap is None or prompt.demonstrations:
            return False
        return not Budget(self.cap, lambda: None, self.count, self.exact).fits(prompt)

    def told(self, prompt: Prompt) -> str:
        """Why such a prompt is not sent."""
        counted = round(self.count(prompt.shown).high)
        return f"the prompt has up to {counted} tokens without any demonstration, input.max_prompt_tokens is {self.cap}"


def _bytes(shown: str | tuple[Message, ...]) -> int:
    if isinstance(shown, str):
        return len(shown.encode()) + MARKS
    return sum(len(m.text.encode()) + MARKS for m in shown) + MARKS
