"""What a run would ask, row by row: the run itself, with answers from the cache and else from nobody (`dry.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from icl_engine import fitting
from icl_engine.asking import Started
from icl_engine.driver.cache import Cache, content_key
from icl_engine.engine.dry import LONGEST, Dry, most
from icl_engine.engine.stream import WINDOW, flat, order
from icl_engine.engine.sums import Sums, Taken
from icl_engine.errors import RequestError, TaskError
from icl_engine.models.ladder import rung
from icl_engine.pipeline import Pipeline
from icl_engine.protocols import InputManipulator
from icl_engine.tokens import TokenCounter, Tokens
from icl_engine.types import (
    Continuation,
    Example,
    Generate,
    Need,
    NextToken,
    Prediction,
    Prompt,
    Request,
    Response,
    Role,
)

DRAWN: tuple[Role, ...] = ("sample", "rationale")
"""Whose questions are asked anew for each sample."""

Spell = Callable[[Request], Response | None]
"""Asks the model's tokenizer; None where it is not asked."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, its content key, whether its answer is in the cache, and how many more there may be of it.

    Whether it is sent at all may depend on an answer that is not there yet: then it is not `sure`.
    """

    request: Request
    key: str
    kept: bool
    further: int = 0
    sure: bool = True


class Planner:
    """Counts what rows would ask of the model, in the order in which a run sends them.

    Args:
        pipeline: the task's; its endpoint is never asked.
        count: counts a prompt's tokens.
        unlearned: whether I was to ask something whose answer is not there yet.
        cache: where answers are looked up; None plans as if nothing had been asked before.
        spell: asks the tokenizer.
    """

    def __init__(
        self, pipeline: Pipeline, count: TokenCounter, cache: Cache | None = None, spell: Spell = lambda _: None
    ) -> None:
        self.pipeline, self.count = pipeline, count
        self.sums = Sums(count, pipeline.capabilities.context)
        self._cache, self._spell = cache, spell
        self._identity = pipeline.driver.endpoint.identity
        self._window: list[tuple[int, Example]] = []
        self._prompt: Prompt | None = None
        self._dry = Dry(())
        self._bounds: dict[tuple[str, int], int | None] = {}
        self.unlearned = False

    def add(self, x: Example) -> None:
        """Count a row."""
        self._window.append((self.sums.rows, x))
        self.sums.rows += 1
        if len(self._window) == WINDOW:
            self.flush()

    def learn(self, x: Example) -> None:
        """Count what I asks before the first row; where that was not answered yet, something stands for what it learns.

        Args:
            x: the first row: words follow every prompt as they follow its own.

        Raises:
            TaskError: the answers that are there are of no use.
        """
        if not self.pipeline.manipulator.learned:
            self._begin(x)
        while not self.pipeline.manipulator.learned:
            sent: list[Sent] = []
            found = None if self.pipeline.manipulator.assumed_vectors else self._lesson(sent)
            self.unlearned = self.unlearned or found is None
            self.pipeline.manipulator = self.pipeline.manipulator.assumed() if found is None else found
            grown = False
            for s in sent:
                if self.sums.new(s.key):
                    self.sums.add(0, "fit", s.request.prompt, self._taken("fit", [s], grown=grown))
                grown = grown or (not s.kept and isinstance(s.request.readout, Generate))

    def _lesson(self, sent: list[Sent]) -> InputManipulator | None:
        """What is learned next; None where some answer to it is made up."""
        try:
            started = Started(self.pipeline.learning())
            batch = started.first
            while batch is not None:
                batch = self._told(started, batch, sent)
            return started.result() if all(s.kept for s in sent) else None
        except (RequestError, TaskError):
            if all(s.kept for s in sent):
                raise
            return None

    def fit(self, x: Example) -> None:
        """Count what O asks before the first row.

        Args:
            x: the first row.

        Raises:
            TaskError: there are no train rows to learn from.
        """
        fitting.ground(self.pipeline)
        places = fitting.wanted(self.pipeline)
        if not places:
            return
        if self._prompt is None:
            self._begin(x)
        chain = self.pipeline.chain
        again = fitting.passes(chain) - 1
        for row in fitting.rows(self.pipeline, max(chain.fitting[at].learns for at in places), places[0], solved=True):
            for role, sent in self._questions(self._started(row, "fit")):
                if new := [s for s in sent if self.sums.new(s.key)]:
                    taken = self._taken(role, new)
                    self.sums.add(0, role, new[0].request.prompt, replace(taken, further=taken.further + again))

    def flush(self) -> None:
        """Count the rows that wait for their window to be full."""
        rows, self._window = self._window, []
        self.pipeline.manipulator.foresee([x for _, x in rows])
        started = [(index, self._started(x)) for index, x in rows]
        for index, steps in sorted(started, key=lambda row: order(row[1])):
            probes, grown = self.sums.requests["probe"], False
            for role, sent in self._questions(steps):
                grown = grown or any(s.request.role == "rationale" and not s.kept for s in sent)
                if new := [s for s in sent if self.sums.new(s.key)]:
                    after = grown and role != "rationale"
                    self.sums.add(index, role, new[0].request.prompt, self._taken(role, new, grown=after))
            self.sums.probing += self.sums.requests["probe"] > probes

    def usual(self, x: Example) -> dict[Role, Taken]:
        """What a row's questions take, each by whose it is: all rows' take the same, as long as nothing is known."""
        return {role: self._taken(role, sent) for role, sent in self._questions(self._started(x))}

    @property
    def need(self) -> Need:
        """What O asks of the model."""
        return Need() if self._prompt is None else self.pipeline.need(self._prompt)

    @property
    def method(self) -> str:
        """How labels would be scored: the rung the ladder begins at; ``text`` where none are."""
        if self.need.kind == "text":
            return "text"
        return rung(self.need, self.pipeline.capabilities, cloze=self._cloze)

    @property
    def paths(self) -> dict[str, tuple[int | str, ...]]:
        """The tokens that spell each word, where they are known."""
        return self._dry.paths

    @property
    def _cloze(self) -> bool:
        return self._prompt is not None and bool(self._prompt.after.strip())

    def _begin(self, x: Example) -> None:
        """Words follow every prompt as they follow the first."""
        prompt = self._prompt = self.pipeline.check(x)
        lead = prompt.lead if prompt.text is not None else ""
        tail = prompt.after if self._cloze else ""
        self._dry.words = tuple(f"{lead}{w}{tail}" for words in self.need.words.values() for w in words)

    def _started(self, x: Example, role: Role = "main") -> Started[Prediction]:
        """The row's first questions to the model; what is asked of the tokenizer before, answered."""
        if self._prompt is None:
            self._begin(x)
        started = Started(self.pipeline.steps(x, self.pipeline.states, role))
        while started.first and all(request.role == "spelling" for request in started.first):
            started.first = self._told(started, started.first, [])
        return started

    def _questions(self, started: Started[Prediction]) -> Iterator[tuple[Role, list[Sent]]]:
        """A row's questions, one for each prompt, and the requests they take."""
        sent: list[Sent] = []
        batch = started.first
        while batch is not None and not self._open(batch, sent):
            if all(r.role == "repair" for r in batch) and not all(s.kept for s in sent):
                # What is made up here cannot be read; whether the model's own answer can, nobody knows.
                sent += [Sent(r, content_key(self._identity, r), kept=False, further=1, sure=False) for r in batch]
                break
            try:
                batch = self._told(started, batch, sent)
            except RequestError:
                break  # what is made up here cannot be read as an answer: the row goes no further
        sent = self._with_further(sent)
        for (role, _), group in groupby(sent, key=lambda s: (s.request.role, flat(s.request.prompt))):
            yield role, list(group)

    def _open(self, batch: Sequence[Request], sent: Sequence[Sent]) -> bool:
        """Whether a batch draws samples that a vote may or may not need: answers that are made up do not say."""
        if self.pipeline.chain.vote is None or all(s.kept for s in sent):
            return False
        return _drawn(batch) > _drawn([s.request for s in sent]) > 0

    def _with_further(self, sent: list[Sent]) -> list[Sent]:
        """What was sent, the first sample of each question with how many more there may be."""
        vote = self.pipeline.chain.vote
        if vote is None or all(s.kept for s in sent):
            return sent
        further = vote[1].samples - _drawn([s.request for s in sent])
        return [s if s.request.sample or s.request.role not in DRAWN else replace(s, further=further) for s in sent]

    def _told(self, started: Started[Any], batch: Sequence[Request], sent: list[Sent]) -> Sequence[Request] | None:
        """Answer a batch, from the cache where it is there; the next one."""
        answers = []
        for request in batch:
            key = content_key(self._identity, request)
            kept = None if self._cache is None else self._cache.get(key)
            if request.role == "spelling":
                spelt = kept or self._spell(request)
                if spelt is None:
                    return started.throw(RequestError("the tokenizer is not asked"))
                self._dry.learn(request, spelt)
                answers.append(spelt)
            else:
                answers.append(kept or self._dry.answer(request))
                sent.append(Sent(request, key, kept is not None))
        return started.send(answers)

    def _taken(self, role: Role, sent: Sequence[Sent], *, grown: bool = False) -> Taken:
        """What a question takes that has these requests; `grown`: behind a chain of thought that is made up."""
        further = sum(s.further for s in sent) + (0 if all(s.kept for s in sent) else self._further(role, len(sent)))
        longest = max((self._said(s.request) for s in sent if s.further), default=LONGEST)
        sent = [s for s in sent if s.sure]
        beside = sum((self._beside(s.request) for s in sent), Tokens())
        if grown:
            room = self.pipeline.manipulator.thinking.max_tokens
            beside += Tokens(0, room / 2, room) * len(sent)
        return Taken(
            requests=len(sent),
            cached=sum(s.kept for s in sent),
            beside=beside,
            said=sum(self._said(s.request) for s in sent if not s.kept),
            places=sum(s.request.readout.places for s in sent if isinstance(s.request.readout, NextToken)),
            further=further,
            longest=longest,
        )

    def _beside(self, request: Request) -> Tokens:
        """The tokens sent beside the prompt."""
        match request.readout:
            case Continuation(text) if not self.pipeline.capabilities.forced:
                return self.count.text(text)
            case NextToken(_, _, spelt) if isinstance(spelt, tuple):
                return Tokens(len(spelt), len(spelt), len(spelt))
        return Tokens()

    def _said(self, request: Request) -> int:
        """The most tokens of the answer."""
        match request.readout:
            case Generate(sampling):
                return sampling.max_tokens
            case NextToken(_, _, _, places):
                return places
            case Continuation(text) if self.pipeline.capabilities.forced:
                return self._longest(text)
        return 1

    def _further(self, role: str, asked: int) -> int:
        """How many requests more than `asked` a question may take."""
        at = (role, len(self._dry.paths))
        if at not in self._bounds:
            need = replace(self.need, want="distribution") if role == "probe" else self.need
            chat = self.pipeline.model.api == "chat"
            can = self.pipeline.capabilities
            self._bounds[at] = most(need, can, self._dry, self._longest, chat=chat, cloze=self._cloze)
        bound = self._bounds[at]
        return 0 if bound is None else max(0, bound - asked)

    def _longest(self, word: str) -> int:
        """The most tokens a text may have."""
        return max(1, math.ceil(self.count.text(word).high))


def _drawn(requests: Sequence[Request]) -> int:
    """How many samples there are at the least, where these are asked for."""
    return max((request.sample + 1 for request in requests if request.role in DRAWN), default=0)
