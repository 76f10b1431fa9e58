"""`reask`: one more turn for an answer that could not be read."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Message, Prompt, Reading

QUOTED = 2000
"""Characters of the unreadable answer that are shown again, its end."""


class Reask(Aligner):
    r"""An answer that no step before could read is shown to the model again, once, with the wish for a readable one.

    The steps before it then read the new answer; if they cannot, it stays ``unparsed``. It is asked only after all
    local repair failed, it is counted in every cap, and an answer that was read costs nothing.

    Args:
        say: what the model is told.

    >>> Reask(say="Only the number:").prompt(Prompt("Q: 3 + 4?\nA:", None), "many").text
    'Q: 3 + 4?\nA: many\n\nOnly the number:'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["reask"] = "reask"
    say: str = Field(
        default="This answer could not be read. Answer once more, only in the form that was asked for:", min_length=1
    )

    def prompt(self, prompt: Prompt, text: str) -> Prompt:
        """The prompt for the second turn.

        Args:
            prompt: the first one.
            text: what was said to it.
        """
        said = text.strip()[-QUOTED:]
        if prompt.text is not None:
            return replace(prompt, text=f"{prompt.text}{prompt.lead or ' '}{said}\n\n{self.say.rstrip()}", lead=" ")
        # Not every provider takes an empty turn.
        turns = (Message("assistant", said or "-"), Message("user", self.say))
        return replace(prompt, messages=(*(prompt.messages or ()), *turns), lead="")

    def apply(self, reading: Reading, state: object = None) -> Reading:
        """Leave what was read."""
        return reading
