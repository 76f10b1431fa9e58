"""`vote`: self-consistency, the answer that most samples give."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import exp, fsum
from statistics import fmean
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from icl_engine.alignment.text import capped
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.thoughts import steps
from icl_engine.types import Reading


class Vote(Aligner):
    r"""ŷ = argmax_a Σ_m w_m 1[a_m = a] over the samples m that could be read: self-consistency (Wang et al. 2022).

    The steps before it read each sample. Answers are compared in canonical form; of several with the most votes the one
    said first wins. The distribution is Σ_m w_m 1[a_m = a] / Σ_m w_m. Samples differ by chance: `model.temperature` is
    above 0.

    Args:
        samples: how many answers are drawn, at most.
        stop_early: draw no more than it takes until the lead cannot be overtaken: the answer is the same, the
            distribution that of the votes drawn so far. False draws all at once.
        longest: only this many of the samples that could be read vote, those with the most steps (complexity-based
            voting, Fu et al. 2023): lines, or sentences where there is one line. All samples are drawn then.
        weights: w_m. ``equal``: 1, the majority; ``steps``: the number of steps of the sample's chain of thought (at
            least 1); ``stated``: exp(c_m / temperature), c_m the confidence from 0 to 1 that the sample itself states
            (CISC, Taubenfeld et al. 2025; ask for it in the template). A sample that states none weighs as the mean of
            those that do. Unless they are equal, all samples are drawn.
        confidence: for ``stated``: the RE2 pattern whose first group is that number; its last match in a sample counts.
        certain: the number that means certain; larger ones count as this, and a number before a % is out of 100.
        temperature: for ``stated``: the smaller, the more a confident sample weighs.

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
    weights: Literal["equal", "steps", "stated"] = "equal"
    confidence: str = r"(?i)confidence\D{0,30}?(\d{1,3}(?:\.\d{1,9})?)"
    certain: float = Field(default=100, gt=0, allow_inf_nan=False)
    temperature: float = Field(default=1, ge=0.01, allow_inf_nan=False)

    @field_validator("confidence")
    @classmethod
    def _grouped(cls, pattern: str) -> str:
        import re2  # not with `import icl_engine`

        from icl_engine.alignment.structural.forms.patterns import compiled

        try:
            groups = compiled(pattern).groups
        except re2.error as error:
            why = error.args[0] if error.args else ""
            shown = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
            raise ValueError(f"not an RE2 pattern: {bounded(shown, 80)}") from error
        if not groups:
            raise ValueError(r"has no group; put brackets around the number: confidence: (\d+)")
        return pattern

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.longest is not None and self.longest > self.samples:
            raise ValueError(f"longest: {self.longest} of {self.samples} samples; draw more samples, or let fewer vote")
        return self

    def more(self, readings: Sequence[Reading]) -> int:
        """How many samples to draw after those that were read: 0 once the lead cannot be overtaken.

        The fewest that could decide: if all of them went to the leader. All that are left where weights are not known
        before a sample is drawn.
        """
        rest = self.samples - len(readings)
        if not self.stop_early or self.longest is not None or self.weights != "equal":
            return rest
        counts = Counter(vote for vote in map(_vote, readings) if vote is not None)
        ranked = counts.most_common()  # equal counts in the order they were first said
        lead, order = (ranked[0][1], list(counts)) if ranked else (0, [])
        # Of the rest, `more` go to the leader and all others to a rival: does the leader still win, by count or order?
        # An answer that nobody gave yet is a rival too, and comes after all that were said.
        rivals = [(n, order.index(answer) < order.index(ranked[0][0])) for answer, n in ranked[1:]]
        rivals.append((0, False))
        return max(0, *(-(-(rest + n + earlier - lead) // 2) for n, earlier in rivals))

    def heard(self, thought: str, text: str) -> str:
        """What of a sample is weighed: its chain of thought; where a stated confidence counts, all that it said.

        Args:
            thought: said before the answer was asked for; empty where nothing was.
            text: the answer.
        """
        return f"{thought}\n{text}" if thought and self.weights == "stated" else thought or text

    def decide(self, readings: Sequence[Reading], texts: Sequence[str]) -> tuple[int, Reading]:
        """The first sample with the winning answer, and its reading after the vote; status ``unparsed`` without votes.

        Args:
            readings: what was read of each sample, in canonical form.
            texts: what is to be weighed of each sample (`heard`).
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
        weights = self._weights([texts[i] for i in voters])
        given: dict[str, list[float]] = {}
        for i, weight in zip(voters, weights, strict=True):
            given.setdefault(str(votes[i]), []).append(weight)
        sums = {answer: fsum(each) for answer, each in given.items()}  # exact, whatever the order
        answer = max(sums, key=sums.__getitem__)
        first = next(i for i in voters if votes[i] == answer)
        total = fsum(weights)
        share = "" if self.weights == "equal" else f" with {sums[answer] / total:.1%} of the weight ({self.weights})"
        note = f"vote: {len(given[answer])} of {who}{share}, of {self.samples} at most"
        distribution = {vote: weight / total for vote, weight in sums.items()}
        return first, replace(readings[first], distribution=distribution, trace=(*readings[first].trace, note))

    def _weights(self, texts: Sequence[str]) -> list[float]:
        """w_m of samples, from their chains of thought."""
        if self.weights == "steps":
            return [float(max(1, steps(text))) for text in texts]
        if self.weights == "equal":
            return [1.0] * len(texts)
        stated = [self._stated(text) for text in texts]
        known = [exp(c / self.temperature) for c in stated if c is not None]
        mean = fmean(known) if known else 1.0
        return [mean if c is None else exp(c / self.temperature) for c in stated]

    def _stated(self, text: str) -> float | None:
        """The confidence from 0 to 1 that a sample states last; None for none."""
        from icl_engine.alignment.structural.forms.patterns import compiled

        text = capped(text).encode(errors="replace").decode()  # RE2 takes no lone surrogates
        found = None
        for found in compiled(self.confidence).finditer(text):  # noqa: B007 - the last one
            pass
        if found is None or found[1] is None:
            return None
        try:
            number = float(found[1])
        except ValueError:
            return None
        share = number / (100 if text[found.end(1) :][:2].lstrip().startswith("%") else self.certain)
        return min(1.0, max(0.0, share)) if share == share else None

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """The vote of one sample alone."""
        return self.decide([reading], [reading.text or ""])[1]


def _vote(reading: Reading) -> str | None:
    """What a sample votes for, as text: equal texts, equal answers. None for one that could not be read."""
    if reading.status != "ok":
        return None
    value = reading.value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
