"""O as a whole: output steps in order, what they need of the model, and how targets are written and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from icl_engine.alignment.identity import Identity
from icl_engine.alignment.reask import Reask
from icl_engine.alignment.text import LONGEST, capped
from icl_engine.alignment.vote import Vote
from icl_engine.errors import TaskError
from icl_engine.protocols import Aligner, Batched, Fitting, Grounded, Probing, Reader, Relabelling, Scorer
from icl_engine.types import Capabilities, LabelScores, Need, Reading

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Chain:
    """The output alignment O: extract → read → (reask) → correct, or vote over samples → decide.

    Args:
        steps: the steps in order; an empty chain is `identity`.
        assumed: whether the last step is the engine's own, which the task does not name: where there is no label
            distribution, it leaves the answer as it is.
    """

    steps: tuple[Aligner, ...] = (Identity(),)
    assumed: bool = False

    def __post_init__(self) -> None:
        if not self.steps:
            object.__setattr__(self, "steps", (Identity(),))
        self._check_vote()
        if not any(isinstance(step, Reader) and not _corrects(step) for step in self.steps):
            raise TaskError("no step reads an answer; put a verbalizer (or identity, regex) first", key="output")
        self._check_order()
        self._check_learners()

    def _check_order(self) -> None:
        """Steps that read, then those that correct, then one that decides."""
        read = corrected = labelled = decided = False
        for i, step in enumerate(self.steps):
            where, before = f"output[{i}]", self.steps[i - 1].use
            if decided:
                raise TaskError(f"stands after {before}, which decides; put it before", key=where)
            if isinstance(step, Reask) and not read:
                raise TaskError("no step before it reads an answer; put it behind them", key=where)
            if isinstance(step, Reask) and any(isinstance(s, Reask) for s in self.steps[:i]):
                raise TaskError("asks a second time; one more turn is all there is", key=where)
            behind = _corrects(step) or step.decides
            if corrected and not behind:
                raise TaskError("stands after a calibration; steps that read come first", key=where)
            if labelled and not behind and not isinstance(step, Vote | Reask):
                raise TaskError(
                    f"stands after {before}, which has read the label; put it before, or leave it out", key=where
                )
            read = read or isinstance(step, Reader)
            labelled = labelled or isinstance(step, Scorer)
            corrected, decided = corrected or _corrects(step), step.decides

    def _check_learners(self) -> None:
        """One step that learns from the run's rows, behind those that ask the model; labels change once."""
        learners = [i for i, step in enumerate(self.steps) if isinstance(step, Batched)]
        if len(learners) > 1:
            raise TaskError("a second batch step: a run passes over its scores once", key=f"output[{learners[1]}]")
        for i in sorted({*learners, *self.fitting}):
            if any(isinstance(step, Probing) for step in self.steps[i:]):
                raise TaskError("stands before the steps that ask the model; put it last", key=f"output[{i}]")
        mapping = [i for i, step in enumerate(self.steps) if _maps(step)]
        for i in self.fitting:
            if mapping and i < mapping[0]:
                what = f"learns from the task's labels, and stands before {self.steps[mapping[0]].use}; put it behind"
                raise TaskError(what, key=f"output[{i}]")

    def _check_vote(self) -> None:
        """A vote stands behind steps that read text, before one that decides: scores are the same in every sample."""
        if self.vote is None:
            return
        at, vote = self.vote
        before, where = self.steps[:at], f"output[{at}]"
        if not any(isinstance(step, Reader) for step in before):
            raise TaskError("no step before vote reads an answer; put number, a verbalizer, … first", key=where)
        for i, step in enumerate(self.steps):
            if _corrects(step):
                what = f"corrects label scores, and {vote.use} counts answers read from text; leave one of them out"
                raise TaskError(what, key=f"output[{i}]")
            if i in self.fitting:
                raise TaskError(
                    f"learns from train rows, and a {vote.use} would draw samples of each", key=f"output[{i}]"
                )
        for i, step in enumerate(before):
            if isinstance(step, Scorer) and getattr(step, "read", "auto") == "scores":
                what = f"{vote.use} counts answers read from text, and scores are the same in every sample"
                raise TaskError(f"{what}; set read: text, or leave {vote.use} out", key=f"output[{i}].read")
        for i, step in enumerate(self.steps[at + 1 :], at + 1):
            if not step.decides:
                second = isinstance(step, Vote)
                what = (
                    "a second vote; one decides" if second else f"stands after {vote.use}, which decides; put it before"
                )
                raise TaskError(what, key=f"output[{i}]")

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
    def weighing(self) -> tuple[int, ...]:
        """The places of the steps, as the task names them, that take a label distribution."""
        steps = self.steps[:-1] if self.assumed else self.steps
        return tuple(i for i, step in enumerate(steps) if _corrects(step) or step.decides)

    @property
    def own(self) -> int | None:
        """The place of the step that the task does not name."""
        return len(self.steps) - 1 if self.assumed else None

    @cached_property
    def reads(self) -> int:
        """How many steps there are before those that correct or decide."""
        found = (i for i, step in enumerate(self.steps) if _corrects(step) or step.decides or isinstance(step, Vote))
        return next(found, len(self.steps))

    @cached_property
    def demanding(self) -> int | None:
        """The place of the first step that must have label scores; None where text does.

        A vote makes a distribution of its own, and a label mapping takes an answer for one.
        """
        if not self.weighing or self.vote is not None or _maps(self.steps[self.weighing[0]]):
            return None
        return self.weighing[0]

    @cached_property
    def probing(self) -> Mapping[int, Probing]:
        """The steps that ask the model about content-free inputs, by their place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Probing)}

    @cached_property
    def grounded(self) -> Mapping[int, Grounded]:
        """The steps that take something from the train split's inputs, by their place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Grounded)}

    @cached_property
    def learners(self) -> Mapping[int, Batched]:
        """The steps that learn from many rows, by their place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Batched)}

    @cached_property
    def fitting(self) -> Mapping[int, Fitting]:
        """The steps that learn from train rows with targets, by their place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Fitting) and step.learns}

    @cached_property
    def repairs(self) -> Mapping[int, Reask]:
        """The step that asks again, by its place."""
        return {i: step for i, step in enumerate(self.steps) if isinstance(step, Reask)}

    @cached_property
    def closed(self) -> bool:
        """Whether an answer is one of a few labels."""
        return any(isinstance(step, Scorer) or _maps(step) or step.closed for step in self.steps)

    def thresholds(self, states: Mapping[int, Any]) -> list[float]:
        """The p below which a row is left unanswered, as written or as learned."""
        deciding = [(i, step) for i, step in enumerate(self.steps) if step.decides]
        found = [getattr(step, "below", None) or (states.get(i) or {}).get("below") for i, step in deciding]
        return [p for p in found if p is not None]

    @cached_property
    def mapping(self) -> tuple[int, Relabelling] | None:
        """The step that maps the labels that are scored to the task's, and its place; None where they are the same."""
        return next(((i, step) for i, step in enumerate(self.steps) if isinstance(step, Relabelling)), None)

    @cached_property
    def scorer(self) -> tuple[int, Scorer | None]:
        """The step that can read label scores, and its place."""
        return next(((i, s) for i, s in enumerate(self.steps) if isinstance(s, Scorer)), (0, None))

    def write(self, target: Any) -> str:
        """What a demonstration shows for a target.

        Where labels are mapped, those that the verbalizer knows too are shown in its words, which are what is scored.
        """
        scored = self.steps[self.scorer[0]]
        if self.mapping is not None and isinstance(scored, Reader) and isinstance(scored, Scorer):
            with suppress(ValueError):
                return scored.write(target)
        return self.reader.write(target)

    def canon(self, value: Any) -> Any:
        """What predictions and targets are compared as. Raises ValueError for a target no step can express."""
        return self.reader.canon(value)

    def target(self, value: Any, inputs: Mapping[str, Any]) -> Any:
        """A row's target, as its prediction is compared with it: in canonical form, and placed in the row's text."""
        found = self.reader.canon(value)
        return found if self._place is None else self._place(found, inputs)

    @cached_property
    def _place(self) -> Callable[[Any, Mapping[str, Any]], Any] | None:
        """How what was found is placed in the row's text, where the reader does so."""
        return getattr(self.reader, "place", None)

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
        if mode == "scores" or self.demanding is not None or cloze:
            where = f"output[{at if self.demanding is None else self.demanding}]"
            if mode == "text":
                what = "set read: auto or scores" if scorer else "use a verbalizer"
                what = what if self.vote is None else "leave vote out"
                scored = cloze and self.demanding is None
                why = "a cloze is scored inside its sentence" if scored else "needs label scores"
                raise TaskError(f"{why}, but the answer is read as text; {what}", key=where)
            if reason:
                raise TaskError(f"needs label scores: {reason}", key=where)
        if scorer is None or mode == "text" or reason:
            shape = getattr(self.steps[0], "shaped", None)
            return Need("text", schema=shape if can.schema and not rationale else None)
        need = scorer.need()
        return replace(need, want="distribution") if self.weighing or self.assumed else need

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
        if generated and (self.demanding is not None or getattr(scorer, "read", "auto") == "scores"):
            return None
        return "the model gives no log-probabilities"

    def begin(
        self, need: Need, text: str, scores: LabelScores | None, inputs: Mapping[str, Any] = NOTHING
    ) -> tuple[Reading, int]:
        """The first reading and the place of the next step.

        Args:
            need: what was asked for.
            text: what was said.
            scores: the label scores, where these were asked for.
            inputs: the query's template variables.
        """
        at, scorer = self.scorer
        if need.kind == "text" or scores is None or scorer is None:
            return _heard(text, inputs), 0
        return scorer.from_scores(scores), at + 1

    def canonical(self, reading: Reading) -> Reading:
        """What was read of one of several samples, in canonical form, so that equal answers are equal votes."""
        if reading.status == "ok":
            with suppress(ValueError):  # what no target can be equal to is a vote of its own
                return replace(reading, value=self.canon(reading.value))
        return reading

    def reach(self, states: Mapping[int, Any]) -> int:
        """How many steps can be taken: all, or those before one that has yet to learn."""
        return next((i for i in self._learning if i not in states), len(self.steps))

    @cached_property
    def _learning(self) -> tuple[int, ...]:
        return tuple(sorted({*self.learners, *self.fitting}))

    def advance(self, reading: Reading, at: int, states: Mapping[int, Any], end: int) -> tuple[Reading, int]:
        """Take the steps from `at` to before `end`. An unparsed reading goes through unchanged."""
        for i in range(at, end):
            if reading.status == "ok":
                reading = self.steps[i].apply(reading, states.get(i))
        return reading, max(at, end)


def _corrects(step: Aligner) -> bool:
    """Whether a step takes and gives a label distribution."""
    return step.corrects or isinstance(step, Probing | Batched)


def _maps(step: Aligner) -> bool:
    """Whether a step gives other labels than it takes."""
    return isinstance(step, Relabelling)


def _heard(text: str, inputs: Mapping[str, Any]) -> Reading:
    """An answer before any step: what is too long to be read is capped, and the trace says so."""
    kept = capped(text)
    note = () if len(text) <= LONGEST else (f"{len(text):,} characters, of which the first and the last are read",)
    return Reading(text=kept, trace=note, inputs=inputs)


def kinds(steps: Sequence[Aligner]) -> list[str]:
    """The survey's alignment kinds of the steps, each once, in order."""
    found = ((step.kind, "statistical" if getattr(step, "normalization", "") == "pmi" else step.kind) for step in steps)
    return list(dict.fromkeys(kind for both in found for kind in both))
