"""O as a whole: output steps in order, what they need of the model, and how targets are written and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from icl_engine.alignment.identity import Identity
from icl_engine.alignment.vote import Vote
from icl_engine.errors import TaskError
from icl_engine.protocols import Aligner, Batched, Probing, Reader, Scorer
from icl_engine.types import Capabilities, LabelScores, Need, Reading


@dataclass(frozen=True)
class Chain:
    """The output alignment O: extract → read → distribution steps, or a vote over samples.

    Args:
        steps: the steps in order; an empty chain is `identity`.
    """

    steps: tuple[Aligner, ...] = (Identity(),)

    def __post_init__(self) -> None:
        if not self.steps:
            object.__setattr__(self, "steps", (Identity(),))
        self._check_vote()
        if not any(isinstance(step, Reader) for step in self.steps):
            raise TaskError("no step reads an answer; put a verbalizer (or identity, regex) first", key="output")
        started, labelled = False, False
        for i, step in enumerate(self.steps):
            correction = isinstance(step, Probing | Batched)
            if started and not correction:
                raise TaskError("stands after a calibration; steps that read come first", key=f"output[{i}]")
            if labelled and not correction and not isinstance(step, Vote):
                raise TaskError(
                    f"stands after {self.steps[i - 1].use}, which has read the label; put it before, or leave it out",
                    key=f"output[{i}]",
                )
            started, labelled = started or correction, labelled or isinstance(step, Scorer)
        learners = [i for i, step in enumerate(self.steps) if isinstance(step, Batched)]
        if len(learners) > 1:
            raise TaskError("a second batch step: a run passes over its scores once", key=f"output[{learners[1]}]")
        if learners and any(isinstance(step, Probing) for step in self.steps[learners[0] :]):
            raise TaskError("stands before the steps that ask the model; put it last", key=f"output[{learners[0]}]")

    def _check_vote(self) -> None:
        """A vote is the last step, behind those that read text: scores are the same in every sample."""
        if self.vote is None:
            return
        at, vote = self.vote
        before, where = self.steps[:at], f"output[{at}]"
        if not any(isinstance(step, Reader) for step in before):
            raise TaskError("no step before vote reads an answer; put number, a verbalizer, … first", key=where)
        for i, step in enumerate(self.steps):
            if isinstance(step, Probing | Batched):
                what = f"corrects label scores, and {vote.use} counts answers read from text; leave one of them out"
                raise TaskError(what, key=f"output[{i}]")
        for i, step in enumerate(before):
            if isinstance(step, Scorer) and getattr(step, "read", "auto") == "scores":
                what = f"{vote.use} counts answers read from text, and scores are the same in every sample"
                raise TaskError(f"{what}; set read: text, or leave {vote.use} out", key=f"output[{i}].read")
        if self.steps[at + 1 :]:
            second = isinstance(self.steps[at + 1], Vote)
            what = "a second vote; one decides" if second else f"stands after {vote.use}, which decides; put it before"
            raise TaskError(what, key=f"output[{at + 1}]")

    @cached_property
    def vote(self) -> tuple[int, Vote] | None:
        """The step that counts samples, and its place; None where one answer is read."""
        return next(((i, step) for i, step in enumerate(self.steps) if isinstance(step, Vote)), None)

    @cached_property
    def reader(self) -> Reader:
        """The last step that turns text or scores into a value: how targets are written and compared is its to say."""
        return next(step for step in reversed(self.steps) if isinstance(step, Reader))

    # Looked up once: to ask a step for its protocol takes longer than to take it.

    @cached_property
    def corrections(self) -> tuple[int, ...]:
        """The places of the steps that need a distribution."""
        return tuple(i for i, step in enumerate(self.steps) if isinstance(step, Probing | Batched))

    @cached_property
    def probing(self) -> Mapping[int, Probing]:
        """The steps that ask the model about content-free inputs, by their place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Probing)}

    @cached_property
    def learners(self) -> Mapping[int, Batched]:
        """The steps that learn from many rows, by their place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Batched)}

    @cached_property
    def scorer(self) -> tuple[int, Scorer | None]:
        """The step that can read label scores, and its place."""
        return next(((i, s) for i, s in enumerate(self.steps) if isinstance(s, Scorer)), (0, None))

    def write(self, target: Any) -> str:
        """What a demonstration shows for a target."""
        return self.reader.write(target)

    def canon(self, value: Any) -> Any:
        """What predictions and targets are compared as. Raises ValueError for a target no step can express."""
        return self.reader.canon(value)

    def need(self, can: Capabilities, *, rationale: bool, cloze: bool) -> Need:
        """What to ask of the model: label scores or text.

        `read: auto` is scores where the model gives them and the answer has no rationale, else text; under a
        calibration it never falls back to text, under a vote it is never scores.

        Raises:
            TaskError: the steps, the template and the model do not fit together.
        """
        at, scorer = self.scorer
        mode = getattr(scorer, "read", "auto") if scorer and self.vote is None else "text"
        reason = self._no_scores(at, scorer, can, rationale=rationale, cloze=cloze)
        if mode == "scores" or self.corrections or cloze:
            where = f"output[{self.corrections[0]}]" if self.corrections else f"output[{at}]"
            if mode == "text":
                what = "set read: auto or scores" if scorer else "use a verbalizer"
                what = what if self.vote is None else "leave vote out"
                why = (
                    "a cloze is scored inside its sentence" if cloze and not self.corrections else "needs label scores"
                )
                raise TaskError(f"{why}, but the answer is read as text; {what}", key=where)
            if reason:
                raise TaskError(f"needs label scores: {reason}", key=where)
        if scorer is None or mode == "text" or reason:
            shape = getattr(self.steps[0], "shaped", None)
            return Need("text", schema=shape if can.schema and not rationale else None)
        need = scorer.need()
        return replace(need, want="distribution") if self.corrections else need

    def _no_scores(
        self, at: int, scorer: Scorer | None, can: Capabilities, *, rationale: bool, cloze: bool
    ) -> str | None:
        if scorer is None:
            return "no step reads them; use a verbalizer"
        if at > 0:
            return f"output[0] ({self.steps[0].use}) extracts text before the verbalizer"
        if rationale:
            return "a rationale (by input.answer or input.cot) comes before the answer"
        if cloze and not can.continuation:
            return "a cloze is scored inside its sentence, and the model gives no log-probabilities of given text"
        if can.top_logprobs or can.continuation:
            return None
        # By generation: worth its price only where scores are asked for in so many words.
        generated = can.choice or can.schema or can.samples
        normalization = getattr(scorer, "normalization", "sum")
        if generated and normalization != "sum":
            return f"normalization: {normalization} takes log-probabilities, and the model gives none"
        if generated and (self.corrections or getattr(scorer, "read", "auto") == "scores"):
            return None
        return "the model gives no log-probabilities"

    def begin(self, need: Need, text: str, scores: LabelScores | None) -> tuple[Reading, int]:
        """The first reading and the place of the next step."""
        at, scorer = self.scorer
        if need.kind == "text" or scores is None or scorer is None:
            return Reading(text=text), 0
        return scorer.from_scores(scores), at + 1

    def sample(self, text: str) -> Reading:
        """What the steps before the vote read in one sample, in canonical form."""
        at = len(self.steps) if self.vote is None else self.vote[0]
        reading, _ = self.advance(Reading(text=text), 0, {}, at)
        if reading.status == "ok":
            with suppress(ValueError):  # what no target can be equal to is a vote of its own
                return replace(reading, value=self.canon(reading.value))
        return reading

    def reach(self, states: Mapping[int, Any]) -> int:
        """How many steps can be taken: all, or those before a batch step that has learned nothing yet."""
        return next((i for i in self.learners if i not in states), len(self.steps))

    def advance(self, reading: Reading, at: int, states: Mapping[int, Any], end: int) -> tuple[Reading, int]:
        """Take the steps from `at` to before `end`. An unparsed reading goes through unchanged."""
        for i in range(at, end):
            if reading.status == "ok":
                reading = self.steps[i].apply(reading, states.get(i))
        return reading, max(at, end)


def kinds(steps: Sequence[Aligner]) -> list[str]:
    """The survey's alignment kinds of the steps, each once, in order."""
    return list(dict.fromkeys(step.kind for step in steps))
