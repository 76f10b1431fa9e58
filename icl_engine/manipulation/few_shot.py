"""I = render ∘ select: which demonstrations are shown for a query, in which order, and how many of them fit.

choose (retriever) → fit (budget) → arrange (order) → render → think (chain of thought)
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from icl_engine.errors import RequestError, TaskError
from icl_engine.images import identified, saved
from icl_engine.manipulation import learning
from icl_engine.manipulation.budget import Budget
from icl_engine.manipulation.cot import THEN, Auto, Bootstrap, led, two_calls
from icl_engine.manipulation.order import arranged, order_of
from icl_engine.manipulation.render import ROWS, Renderer, Shown
from icl_engine.manipulation.retrieve.drawn import Drawn
from icl_engine.manipulation.template import Rendered
from icl_engine.protocols import Ask, Asking, ChainOfThought, EntropyOrder, Retriever, Steps, View
from icl_engine.types import Demonstration, Example, Prompt, Role, Sampling

FORESEEN = 2048
"""Examples for which demonstrations are held that were chosen ahead."""

THEN_TOKENS = 32
"""Tokens kept free for what asks for the answer behind a chain of thought."""


@dataclass(frozen=True)
class FewShot(Renderer):
    """The input manipulation I(x).

    Args:
        retriever: which demonstrations to show; None for zero-shot.
        state: what the retriever learned from the pool.
        cot: a chain of thought before the answer.
        thinking: how a chain of thought is generated that is asked for on its own.
        canon: what O compares answers as.
        pool: train rows, for what is learned from the model.
        seed: of every draw.
        vectors: the folder in which vectors are kept.
        reference: what a saved program keeps in place of a pool that is a file: its hash, and the rows left out of it.
        budget: how long a prompt may be.
        assumed_vectors: random demonstrations stand for those that would be chosen, since no vectors are there.
        overlap: what to tell of rows that are in the test split too.
        rationales: identity -> the chain of thought by which the model solved that row.
        ranks: an order of ranks that was learned from the model.
        left_out: how many demonstrations were left out, of how many prompts (rows); and how many rows are too long
            without any (too_long).
    """

    retriever: Retriever | None = None
    state: Any = None
    cot: ChainOfThought | None = None
    thinking: Sampling = field(default_factory=Sampling)
    canon: Callable[[Any], Any] = lambda value: value
    pool: Sequence[Example] = ()
    seed: int = 0
    vectors: Path | None = None
    reference: Mapping[str, Any] | None = None
    budget: Budget | None = None
    overlap: tuple[str, ...] = ()
    assumed_vectors: bool = False
    rationales: Mapping[str, str] | None = None
    ranks: tuple[int, ...] | None = None
    left_out: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)
    _ahead: dict[int, tuple[Example, Shown]] = field(default_factory=dict, init=False, repr=False, compare=False)

    # -- what it is

    @property
    def rationale(self) -> bool:
        """Whether the model's answer will hold more than the answer: its demonstrations do, or it thinks aloud."""
        one_call = self.cot is not None and (self.cot.solves or self.cot.then is None)
        return self.answer is not None or one_call

    @property
    def shares(self) -> bool:
        """Whether many queries are shown the same demonstrations."""
        return self.retriever is None or self.retriever.shares

    @property
    def asks(self) -> bool:
        """Whether it picks demonstrations by the model's label distributions."""
        return self._asking is not None

    @property
    def weighs(self) -> bool:
        """Whether it takes label distributions to choose demonstrations, or their order."""
        return self.asks or (isinstance(self._order, EntropyOrder) and self._order.measure == "local")

    @cached_property
    def _asking(self) -> Asking | None:
        return self.retriever if isinstance(self.retriever, Asking) else None

    @property
    def room(self) -> int:
        """Tokens that a prompt may grow by before the answer is asked for: a chain of thought."""
        two = self.cot is not None and not self.cot.solves and self.cot.then is not None
        return self.thinking.max_tokens + THEN_TOKENS if two else 0

    @cached_property
    def _order(self) -> Any:
        return "as_retrieved" if self.retriever is None else order_of(self.retriever)

    @cached_property
    def view(self) -> View:
        """How the retriever looks at examples."""
        return View(self.identity, self.text, self.vectors)

    def identity(self, x: Example) -> str:
        """What makes two examples duplicates: what the template shows of them, but for case, width, white space and
        what ends a sentence.

        An image counts by its bytes (or its URL).
        """
        texts = [value if type(value) is str else str(identified(value)) for value in self._values(x)]
        return "\x1f".join([_folded(text) for text in texts])

    def text(self, x: Example) -> str:
        """What of an example is compared with others: what the template shows of it, a line for each field."""
        return "\n".join(value if type(value) is str else str(identified(value)) for value in self._values(x))

    def _values(self, x: Example) -> list[Any]:
        names = sorted(x.inputs.keys() - {"id"}) if self.template.whole_row else self.template.ordered
        return [x.inputs.get(name) for name in names]

    # -- select

    @property
    def foresees(self) -> bool:
        """Whether `foresee` spares time: each query has demonstrations of its own."""
        return self.retriever is not None and self.retriever.per_query and self.fitted

    def foresee(self, xs: Sequence[Example]) -> None:
        """Choose demonstrations for several examples at once, ahead of their `prompt`."""
        if self.foresees:
            chosen = self._choosing(self.state, xs, self.view)
            # Held for a while: each of several samples needs them.
            for x in list(self._ahead)[: max(0, len(self._ahead) + len(xs) - FORESEEN)]:
                del self._ahead[x]
            self._ahead.update({id(x): (x, found) for x, found in zip(xs, chosen, strict=True)})

    @property
    def _choosing(self) -> Any:
        """What chooses for many; of a retriever that picks by what the model says, what it picks from."""
        assert self.retriever is not None
        return self.retriever.select_many if self._asking is None else self._asking.propose_many

    def _chosen(self, x: Example) -> Shown:
        if self.retriever is None or not self.fitted:
            return ()
        foreseen = self._ahead.get(id(x))
        found: Shown = self._choosing(self.state, [x], self.view)[0] if foreseen is None else foreseen[1]
        return found

    def select(self, x: Example) -> Shown:
        """The demonstrations for x, the best first, as far as they are known without asking the model."""
        if self.retriever is None or not self.fitted:
            return ()
        return self.retriever.select(self.state, x, self.view)

    def best_that_fit(self, x: Example, chat: bool) -> Shown:
        """Of these, those that are shown."""
        found = self.select(x)
        return found[: len(self.fitting(x, found, chat).demonstrations)]

    def _arranged(self, found: Shown) -> Shown:
        if self._order == "as_retrieved":
            return found
        ranks = self.ranks if self.ranks is not None else range(len(found))

        def arrange(shown: Shown) -> Shown:
            return arranged(shown, self._order, self._draws, ranks)

        shown: Shown = self._once("arranged", found, arrange) if self.shares else arrange(found)
        return shown

    @property
    def _draws(self) -> int:
        own = None if self.retriever is None else self.retriever.seed
        return self.seed if own is None else own

    def _key(self, x: Example, found: Shown) -> str:
        """What a draw of sets for x rests on; where queries share what is drawn from, they share the sets."""
        of = [self.identity(d.example) for d in found] if self.shares else [self.identity(x)]
        return "\x1f".join((str(self._draws), *of))

    @property
    def fitted(self) -> bool:
        """Whether the retriever can be fitted: no row has to be solved by the model first."""
        return self.rationales is not None or self.cot is None or not self.cot.solves

    # -- render

    def prompt(self, x: Example, chat: bool, ask: Ask, sample: int = 0) -> Steps[Prompt]:
        """Select demonstrations for x and render; ask the model on the way, where demonstrations or thoughts need it.

        Raises:
            RequestError: x is too long even without a demonstration.
        """
        found = self._chosen(x)
        if self._asking is not None:
            key = self._key(x, found)
            found = yield from self._asking.pick(found, key, lambda shown: self.fitting(x, shown, chat), ask)
        prompt = self.fitting(x, found, chat)
        if self.budget is not None and self.budget.over(prompt):
            self.left_out.update(too_long=1)
            yield ()  # an error before a row's first question would be the whole run's
            raise RequestError(self.budget.told(prompt))
        if prompt.dropped and not sample:
            self.left_out.update(rows=1, demonstrations=len(prompt.dropped))
        return (yield from self._thinking(prompt, "rationale", sample))

    def preview(self, x: Example, chat: bool) -> Prompt:
        """The prompt for x as far as it is known without asking the model."""
        prompt = self.fitting(x, self.select(x), chat)
        return prompt if self.cot is None else led(prompt, self.cot.cue)

    def alone(self, x: Example, chat: bool) -> Steps[Prompt]:
        """The prompt for x without demonstrations, behind the model's own chain of thought."""
        return (yield from self._thinking(self.render(x, (), chat), "fit", 0))

    def fitting(self, x: Example, found: Shown, chat: bool) -> Prompt:
        """The prompt with as many of the demonstrations (the best first) as fit."""
        prompt = self.render(x, self._arranged(found), chat)
        if self.budget is None or not found or self.budget.fits(prompt):
            return prompt
        low, high = 0, len(found) - 1
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.budget.fits(self.render(x, self._arranged(found[:middle]), chat))
            low, high = (middle, high) if fits else (low, middle - 1)
        return replace(self.render(x, self._arranged(found[:low]), chat), dropped=found[low:])

    def _thinking(self, prompt: Prompt, role: Role, sample: int) -> Steps[Prompt]:
        """The prompt behind a chain of thought; for one call, behind the cue."""
        if self.cot is None:
            return prompt
        prompt, then = led(prompt, self.cot.cue), self.cot.then
        if role == "fit":
            then = then or THEN
        elif self.cot.solves or then is None:
            return prompt
        return (yield from two_calls(prompt, then, self.thinking, role, sample))

    def _shown(self, demonstration: Demonstration) -> str:
        if self.cot is None or self.rationales is None:
            return super()._shown(demonstration)
        thought = self.rationales.get(self.identity(demonstration.example), "").strip()
        answer = self.write(demonstration.example.target)
        if self.answer is not None:
            return f"{self.cot.cue} {self.answer({**demonstration.example.inputs, 'rationale': thought}, answer)}"
        return f"{self.cot.cue} {thought} {self.cot.then} {answer}."

    def _turn(self, example: Rendered, answer: str) -> tuple[str, str]:
        """Of a demonstration by the model itself, the cue ends the user's turn, as it does the query's."""
        if self.cot is None or self.rationales is None:
            return super()._turn(example, answer)
        return f"{example.before}{example.lead}{self.cot.cue}", answer.removeprefix(self.cot.cue).lstrip()

    # -- learn

    @property
    def learned(self) -> bool:
        """Whether it is ready; else `learn` has to be called first, perhaps several times."""
        return self.fitted and (self.ranks is not None or not isinstance(self._order, EntropyOrder))

    def learn(self, ask: Ask, chat: bool) -> Steps[FewShot]:
        """The manipulator that has learned the next thing it needs to know from the model.

        Raises:
            TaskError: the model's answers are of no use for it.
        """
        if isinstance(self._order, EntropyOrder) and self.fitted:
            ranks = yield from learning.best_ranks(self, self._order, ask, chat)
            return replace(self, ranks=ranks)
        if isinstance(self.cot, Auto):
            solved = yield from learning.one_a_cluster(self, self.cot, ask, chat)
        else:
            assert isinstance(self.cot, Bootstrap)
            solved = yield from learning.rightly_solved(self, self.cot, ask, chat)
        return self._showing(solved)

    def assumed(self) -> FewShot:
        """One that stands for it in a plan, as long as the model was not asked: its prompts are as long, or longer."""
        manipulator = self
        if not self.fitted:
            words = " ".join(["word"] * self.thinking.max_tokens)
            count = self.cot.k if isinstance(self.cot, Auto) else len(self.pool)
            manipulator = self._showing([learning.Solved(x, words, "") for x in self.pool[:count]])
        return replace(manipulator, ranks=tuple(range(ROWS)))

    def _showing(self, solved: Sequence[learning.Solved]) -> FewShot:
        """With solved rows as the pool; those of Auto-CoT are shown as they are."""
        rows = [s.example for s in solved]
        assert self.retriever is not None
        try:
            state: Any = self.retriever.fit(rows, self.view, self.seed)
            if isinstance(self.cot, Auto):
                state = Drawn(tuple(Demonstration(s.example, s.why) for s in solved), state.keys)
        except TaskError as error:
            what = f"{error.what.replace('the train split has', 'the model solved')}: raise input.cot.rows"
            raise TaskError(what, key="input.cot") from error
        return replace(
            self, state=state, rationales={self.identity(s.example): s.thought for s in solved}, reference=None
        )

    # -- keep

    def within(self, budget: Budget) -> FewShot:
        """The same with prompts that fit a budget."""
        return replace(self, budget=budget)

    def writing(self, write: Callable[[Any], str]) -> FewShot:
        """The same with answers of demonstrations written another way."""
        return replace(self, write=write)

    def shows(self, x: Example) -> bool:
        """Whether x is among the demonstrations that all queries share."""
        return self.identity(x) in self._everywhere

    @cached_property
    def _everywhere(self) -> frozenset[str]:
        if self.retriever is None or self.retriever.per_query or not self.fitted:
            return frozenset()
        return frozenset(self.identity(d.example) for d in self.select(Example("", {})))

    def dump(self) -> Any:
        """What the retriever learned, as JSON; of a pool that is a file, its hash. None without a retriever."""
        if self.retriever is None or not self.fitted:
            return None
        return self.reference or saved(self.retriever.dump(self.state))

    def dump_learned(self) -> Any:
        """What was learned from the model, as JSON; None for nothing."""
        if self.rationales is None and self.ranks is None:
            return None
        return {"rationales": self.rationales, "ranks": None if self.ranks is None else list(self.ranks)}


ENDS = " .!?。"
"""What may stand at a sentence's end. Other signs may be all that two rows differ in: 3 + 2 is not 3 - 2."""


def _folded(text: str) -> str:
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    folded = " ".join(folded.split())
    return folded.rstrip(ENDS) or folded
