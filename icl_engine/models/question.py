"""What the rungs of the ladder are asked: the labels of a need, after one prompt, by what an endpoint can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from icl_engine.models.trie import Word
from icl_engine.types import Capabilities, Continuation, Generate, Need, NextToken, Prompt, Request, Role, Sampling


@dataclass(frozen=True)
class Question:
    """What is asked, and of what."""

    prompt: Prompt
    need: Need
    can: Capabilities
    role: Role
    sampling: Sampling
    prior: Mapping[str, float] = field(default_factory=dict)

    @property
    def cloze(self) -> bool:
        return bool(self.prompt.after.strip())

    @property
    def words(self) -> list[Word]:
        """Each label's words as they would follow the prompt; in a cloze, to the end of its sentence."""
        lead = self.prompt.lead if self.prompt.text is not None else ""
        tail = self.prompt.after if self.cloze else ""
        return [Word(label, f"{lead}{w}{tail}") for label, ws in self.need.words.items() for w in ws]

    def ask(self, readout: NextToken | Continuation | Generate, sample: int = 0) -> Request:
        return Request(self.prompt.shown, readout, sample=sample, role=self.role)
