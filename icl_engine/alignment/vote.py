"""`vote`: self-consistency, the answer that most samples give."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from icl_engine.protocols import Aligner, Kind
from icl_engine.thoughts import steps
from icl_engine.types import Reading


class Vote(Aligner):
    r"""ŷ = argmax_a Σ_m 1[a_m = a] over the samples m that could be read: self-consistency (Wang et al. 2022).

    The steps before it read each sample. Answers are compared in canonical form; of several with the most votes the one
    said first wins. The distribution is that of the votes. Samples differ by chance: `model.temperature` is above 0.

    Args:
        samples: how many answers are drawn, at most.
        stop_early: draw no more than it takes until the lead cannot be overtaken: the answer is the same, the
            distribution that of the votes drawn so far. False draws all at once.
        longest: only this many of the samples that could be read vote, those with the most steps (complexity-based
            voting, Fu et al. 2023): lines, or sentences where there is one line. All samples are drawn then.

    >>> step = Vote(samples=3)
    >>> said = [Reading("18", 18), Reading("no idea", status="unparsed"), Reading("$18.00", 18)]
    >>> step.more([]), step.more(said[:1]), step.more(said[:2])
    (2, 1, 0)
    >>> step.decide(said[:2], ["So 18.", "no idea"])[1].distribution
    {'18': 1.0}
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["vote"] = "vote"
    samples: int = Field(default=5, ge=1)
    stop_early: bool = True
    longest: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.longest is not None and self.longest > self.samples:
            raise ValueError(f"longest: {self.longest} of {self.samples} samples; draw more samples, or let fewer vote")
        return self

    def more(self, readings: Sequence[Reading]) -> int:
        """How many samples to draw after those that were read: 0 once the lead cannot be overtaken.

        The fewest that could decide: if all of them went to the leader.
        """
        rest = self.samples - len(readings)
        if not self.stop_early or self.longest is not None:
            return rest
        counts = Counter(vote for vote in map(_vote, readings) if vote is not None)
        ranked = counts.most_common()  # equal counts in the order they were first said
        lead, order = (ranked[0][1], list(counts)) if ranked else (0, [])
        # Of the rest, `more` go to the leader and all others to a rival: does the leader still win, by count or order?
        # An answer that nobody gave yet is a rival too, and comes after all that were said.
        rivals = [(n, order.index(answer) < order.index(ranked[0][0])) for answer, n in ranked[1:]]
        rivals.append((0, False))
        return max(0, *(-(-(rest + n + earlier - lead) // 2) for n, earlier in rivals))

    def decide(self, readings: Sequence[Reading], texts: Sequence[str]) -> tuple[int, Reading]:
        """The first sample with the winning answer, and its reading after the vote; status ``unparsed`` without votes.

        Args:
            readings: what was read of each sample, in canonical form.
            texts: each sample's chain of thought: what it said, or before its answer was asked for.
        """
        votes = [_vote(reading) for reading in readings]
        voters = [i for i, vote in enumerate(votes) if vote is not None]
        if not voters:
            note = f"vote: none of {len(readings)} samples could be read"
            return 0, replace(readings[0], value=None, status="unparsed", trace=(*readings[0].trace, note))
        who = f"{len(voters)} read samples"
        if self.longest is not None:
            # Sorting is stable: of samples with as many steps, the one drawn first.
            voters = sorted(sorted(voters, key=lambda i: -steps(texts[i]))[: self.longest])
            who = f"the {len(voters)} longest samples"
        counts = Counter(vote for i in voters if (vote := votes[i]) is not None)
        answer, most = counts.most_common(1)[0]
        first = next(i for i in voters if votes[i] == answer)
        trace = (*readings[first].trace, f"vote: {most} of {who}, of {self.samples} at most")
        distribution = {vote: n / len(voters) for vote, n in counts.items()}
        return first, replace(readings[first], distribution=distribution, trace=trace)

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """The vote of one sample alone."""
        return self.decide([reading], [reading.text or ""])[1]


def _vote(reading: Reading) -> str | None:
    """What a sample votes for, as text: equal texts, equal answers. None for one that could not be read."""
    if reading.status != "ok":
        return None
    value = reading.value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
