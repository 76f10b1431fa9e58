"""The contracts between the rooms. What a user names in a task file is a `Component`; the rest is behaviour.

Whoever needs the model *yields requests*: a `Steps[T]` generator knows nothing of networks, and one driver
(`icl_engine.driver`) sends, caches, retries and counts for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from icl_engine.types import (
    Capabilities,
    Demonstration,
    Example,
    LabelScores,
    Need,
    Prompt,
    Reading,
    Request,
    Response,
    Role,
    Sampling,
)

T = TypeVar("T")

Steps = Generator[Sequence[Request], Sequence[Response], T]
"""A computation that yields batches of requests, is sent their responses, and returns a T."""

Identity = Callable[[Example], str]
"""What makes two examples duplicates: equal strings."""

Ask = Callable[[Prompt, Role, str], Steps[Reading]]
"""Puts a prompt to the model: what O reads, with a distribution over labels where there is one, before any calibration.
The text (mostly empty) was said before the answer, and is read with it. For those parts of I that choose by what the
model says."""


@dataclass(frozen=True)
class View:
    """How a retriever looks at examples.

    Args:
        identity: what makes two examples duplicates.
        text: what of an example is compared with others: what the template shows of it; by default its identity.
        vectors: the folder in which vectors of texts are kept; None keeps none.
    """

    identity: Identity
    text: Callable[[Example], str] | None = None
    vectors: Path | None = None

    def __call__(self, x: Example) -> str:
        """The identity of x."""
        return self.identity(x)

    def texts(self, xs: Sequence[Example]) -> list[str]:
        """What of each is compared."""
        return [(self.text or self.identity)(x) for x in xs]


class Component(BaseModel):
    """A part of a pipeline as the user wrote it: its fields are its YAML keys, nothing else is accepted.

    What it learns (`fit`) is returned as plain data and passed back in; nothing is mutated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), serialize_by_alias=True)

    use: str


class Encoder(Component):
    """Examples as vectors of unit length: their inner product is how alike two examples are (1: the same)."""

    remote: ClassVar[bool] = False
    """Whether encoding asks a network: `icl plan` then does not."""

    def fit(self, pool: Sequence[Example], view: View) -> Any:
        """State for `encode`, from the pool (a vocabulary, say); None where there is nothing to learn."""
        return None

    def known(self, xs: Sequence[Example], view: View) -> int:
        """Of how many examples the vector is kept, so that no network is asked for it."""
        return len(xs)

    def encode(self, state: Any, xs: Sequence[Example], view: View) -> Any:
        """One row of unit length (or of zeros) for each example: a float32 array, or a SciPy CSR matrix.

        Raises:
            MissingExtraError, EndpointError: the encoder cannot be used.
        """
        raise NotImplementedError


class EntropyOrder(BaseModel):
    """The order of demonstrations under which the model's answers to a probe set have the highest entropy.

    GlobalE and LocalE of Lu et al. (2022), *Fantastically Ordered Prompts*. Found once a run, as an order of ranks.

    Args:
        use: ``entropy``.
        measure: ``global``: the entropy of the labels predicted for the probe set. ``local``: the mean entropy of the
            label distributions, which needs scores.
        orders: how many orders are tried (all, where there are fewer), drawn by seed.
        rows: how many train rows are asked under each order; their answers are not looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: Literal["entropy"] = "entropy"
    measure: Literal["global", "local"] = "global"
    orders: int = Field(default=24, ge=2)
    rows: int = Field(default=16, ge=1)


OrderName = Literal["as_retrieved", "similarity", "random", "label_interleaved", "entropy"]


class Retriever(Component):
    """I's first half: which demonstrations to show for an example.

    `fit` and `select` are all that a retriever must have; one that chooses for each query may have a faster
    `select_many`. `select` returns the best first; how they are then ordered in the prompt is `order`.

    Args:
        order: how the demonstrations are ordered in the prompt: as the retriever gave them (the best first),
            the most similar last, by seed, so that labels alternate, or by entropy (a name, or ``{use: entropy, …}``).
            By default the most similar last, for retrievers that choose for each query, else as retrieved.
        seed: of every draw; by default `run.seed`.
    """

    per_query: ClassVar[bool] = False
    """Whether it chooses demonstrations for each query, so that prompts share only the instruction."""

    scored: ClassVar[bool] = False
    """Whether each of its demonstrations has a score, the higher the better."""

    order: OrderName | EntropyOrder | None = None
    seed: int | None = None

    @property
    def shares(self) -> bool:
        """Whether many queries are shown the same demonstrations, so that a prefix cache can serve them."""
        return not self.per_query

    def fit(self, pool: Sequence[Example], view: View, seed: int) -> Any:
        """State for `select`, as plain data, from the solved examples of the pool."""
        raise NotImplementedError

    def select(self, state: Any, x: Example, view: View) -> tuple[Demonstration, ...]:
        """The demonstrations for x, the best first; never x itself nor its duplicate."""
        raise NotImplementedError

    def select_many(self, state: Any, xs: Sequence[Example], view: View) -> list[tuple[Demonstration, ...]]:
        """`select` for each of several examples."""
        return [self.select(state, x, view) for x in xs]

    def dump(self, state: Any) -> Any:
        """The state as JSON, for a saved program."""
        raise NotImplementedError

    def restore(self, saved: Any, view: View) -> Any:
        """The state that `dump` saved."""
        raise NotImplementedError


@runtime_checkable
class Asking(Protocol):
    """A retriever that picks among sets of demonstrations by what the model says to them."""

    def propose_many(self, state: Any, xs: Sequence[Example], view: View) -> list[tuple[Demonstration, ...]]:
        """For each x, the demonstrations to pick from, the best first; what `select` gives are the first of them."""
        ...

    def pick(
        self,
        proposed: tuple[Demonstration, ...],
        key: str,
        fitting: Callable[[tuple[Demonstration, ...]], Prompt],
        ask: Ask,
    ) -> Steps[tuple[Demonstration, ...]]:
        """The set for a query, the best first.

        Args:
            proposed: what to pick from.
            key: seeds draws for this query.
            fitting: the prompt that shows a set.
            ask: puts a prompt to the model.
        """
        ...


class ChainOfThought(Component):
    """How a chain of thought comes before the answer.

    Args:
        cue: what begins it.
        then: what stands between it and the answer.
        max_tokens: of a chain of thought that is asked for on its own; by default `model.max_tokens`.
    """

    solves: ClassVar[bool] = False
    """Whether the model solves train rows before the first query, to be shown as demonstrations."""

    cue: str
    then: str | None
    max_tokens: int | None = Field(default=None, ge=1)


class InputManipulator(Protocol):
    """I: an example becomes a prompt. It may ask the model on the way (a generator)."""

    @property
    def rationale(self) -> bool:
        """Whether the model's answer will hold more than the answer that is asked for."""
        ...

    @property
    def asks(self) -> bool:
        """Whether it chooses demonstrations by the model's label distributions."""
        ...

    @property
    def weighs(self) -> bool:
        """Whether it takes label distributions to choose demonstrations, or their order."""
        ...

    @property
    def thinking(self) -> Sampling:
        """How a chain of thought is generated that is asked for on its own."""
        ...

    @property
    def room(self) -> int:
        """Tokens that a prompt may grow by before the answer is asked for."""
        ...

    @property
    def learned(self) -> bool:
        """Whether it is ready; else `learn` has to be called first."""
        ...

    def learn(self, ask: Ask, chat: bool) -> Steps[InputManipulator]:
        """The manipulator that has learned the next thing it needs to know from the model."""
        ...

    def assumed(self) -> InputManipulator:
        """One that stands for it in a plan, as long as the model was not asked: its prompts are as long, or longer."""
        ...

    def within(self, budget: Any) -> InputManipulator:
        """The same with prompts that fit a budget."""
        ...

    def writing(self, write: Callable[[Any], str]) -> InputManipulator:
        """The same with answers of demonstrations written another way."""
        ...

    def shows(self, x: Example) -> bool:
        """Whether x is among the demonstrations that all queries share."""
        ...

    @property
    def assumed_vectors(self) -> bool:
        """Whether random demonstrations stand for those that would be chosen, since no vectors are there."""
        ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many ``demonstrations`` were left out of prompts that would be too long, of how many ``rows``."""
        ...

    @property
    def foresees(self) -> bool:
        """Whether `foresee` spares time."""
        ...

    @property
    def overlap(self) -> tuple[str, ...]:
        """What to tell of rows that are in the test split too."""
        ...

    def foresee(self, xs: Sequence[Example]) -> None:
        """Choose demonstrations for several examples at once, ahead of their `prompt`. May be called in a thread."""
        ...

    def prompt(self, x: Example, chat: bool, ask: Ask, sample: int = 0) -> Steps[Prompt]:
        """Select demonstrations for x and render."""
        ...

    def preview(self, x: Example, chat: bool) -> Prompt:
        """The prompt for x as far as it is known without asking the model."""
        ...

    def render(self, x: Example, demonstrations: tuple[Demonstration, ...], chat: bool) -> Prompt:
        """Render x after the given demonstrations, in this order."""
        ...

    def dump(self) -> Any:
        """What its retriever learned, as JSON, for a saved program; None for none."""
        ...

    def dump_learned(self) -> Any:
        """What `learn` learned, as JSON; None for nothing."""
        ...


@runtime_checkable
class Recorded(Protocol):
    """An endpoint whose label scores are on record: it is asked for them as a whole."""

    def scores(self, prompt: Prompt, need: Need) -> LabelScores | None:
        """The scores of the need's labels after a prompt; None where they are not on record."""
        ...


class Endpoint(Protocol):
    """An opened model: the only thing that talks to a network or holds weights."""

    @property
    def identity(self) -> str:
        """What answers depend on beside the request: part of the cache's key."""
        ...

    capabilities: Capabilities
    """What it can give: as declared, until the driver has probed what is uncertain."""

    @property
    def uncertain(self) -> frozenset[str]:
        """Capabilities that differ from server to server, and are found by probing."""
        ...

    async def check(self) -> None:
        """Raise `EndpointError` if the endpoint cannot be used; costs nothing, called before the first request."""
        ...

    async def send(self, request: Request) -> Response:
        """Answer one request, or raise `RequestError` (this one) or `EndpointError` (all)."""
        ...

    async def close(self) -> None:
        """Let go of connections and memory."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """An endpoint that sends several requests as one HTTP request where they arrive together."""

    def kind(self, request: Request) -> Hashable | None:
        """What requests have in common that travel together; None for one that travels alone."""
        ...


class Model(Component):
    """f as the user named it; `connect` gives the endpoint that answers."""

    drawn: ClassVar[bool] = True
    """Whether samples of an answer are drawn, so that they are all alike at temperature 0; else they are on record."""

    max_tokens: int
    temperature: float
    stop: tuple[str, ...]
    seed: int | None
    api: Literal["completions", "chat"]

    @property
    def title(self) -> str:
        """The name shown in summaries."""
        raise NotImplementedError

    def sampling(self) -> Sampling:
        """How text is generated when O asks for text."""
        return Sampling(self.max_tokens, self.temperature, self.stop, self.seed)

    def connect(self) -> Endpoint:
        """Open the endpoint. Cheap and offline: weights and connections come with the first `check`."""
        raise NotImplementedError


Kind = Literal["identity", "structural", "statistical", "linear"]


class Aligner(Component):
    """One step of O: a `Reading` becomes a `Reading`."""

    kind: ClassVar[Kind]

    corrects: ClassVar[bool] = False
    """Whether it changes a label distribution (or the answer, by one), and so stands behind the steps that read."""

    closed: ClassVar[bool] = False
    """Whether its answer is one of a few labels."""

    decides: ClassVar[bool] = False
    """Whether it takes the answer, or none, by the distribution, and so stands last."""

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take one step. An answer that cannot be read becomes status ``unparsed``, never an exception."""
        raise NotImplementedError


@runtime_checkable
class Reader(Protocol):
    """A step that turns text or scores into a value, and knows how the value is written.

    Law: ``read(write(y)) == canon(y)`` for every target y it accepts.
    """

    def write(self, target: Any) -> str:
        """What a demonstration shows for the target."""
        ...

    def canon(self, value: Any) -> Any:
        """What predictions and targets are compared as. Raises ValueError for a target it cannot express."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A step that can read label scores instead of text."""

    def need(self) -> Need:
        """The labels, their words, and how they are scored."""
        ...

    def from_scores(self, scores: LabelScores) -> Reading:
        """The reading that the scores give."""
        ...


@runtime_checkable
class Grounded(Protocol):
    """A step that takes something from the train split's inputs, without asking the model."""

    def ground(self, pool: Sequence[Example], seed: int) -> Any:
        """State, as plain data, from the train rows (their targets are not looked at).

        Raises:
            TaskError: they do not do.
        """
        ...


@runtime_checkable
class Probing(Protocol):
    """A distribution step that asks the model about content-free inputs, once per demonstration set."""

    def probes(self, x: Example, state: Any = None) -> tuple[Example, ...]:
        """The content-free examples to ask in x's place.

        Args:
            x: the query.
            state: what `ground` took from the train split, where the step has such a method.
        """
        ...

    def fit_probes(self, distributions: Sequence[Mapping[str, float]]) -> Any:
        """State for `apply`, from the probes' label distributions."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A distribution step that learns from the unlabelled distributions of many examples.

    `start` gives an accumulator's first value, `gather` folds one distribution in (None: a row that has none), `finish`
    makes the state; so a run of any length needs the memory of one row.
    """

    def start(self) -> Any: ...
    def gather(self, gathered: Any, distribution: Mapping[str, float] | None) -> Any: ...
    def finish(self, gathered: Any, fitted: Any = None) -> Any:
        """The state.

        Args:
            gathered: over all rows.
            fitted: what `fit` learned from labels, where the step has such a method.
        """
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A train row as the model answers it, before the step that learns from it.

    Args:
        value: the answer as read; None where it could not be.
        distribution: label -> p, sums to 1; None where there is none.
        target: what the answer should have been, in canonical form.
    """

    value: Any
    distribution: Mapping[str, float] | None
    target: Any


@runtime_checkable
class Fitting(Protocol):
    """A step that learns from the model's answers to train rows with targets. Never from the test split.

    The rows are a seeded sample, without those that every prompt shows as demonstrations and those that the test split
    has too; each step sees them as the steps before it left them.
    """

    @property
    def learns(self) -> int:
        """How many train rows it learns from, at most; 0 if as it was written it learns from none."""
        ...

    def fit(self, answered: Sequence[Answered], state: Any = None) -> Any:
        """State for `apply` as plain data: a mapping with ``rows``, and ``told``: what the user should know of the fit.

        Args:
            answered: the rows.
            state: what a batch step gathered over the same rows (`finish`), for a step that is one too.

        Raises:
            TaskError: nothing can be learned from them.
        """
        ...


@runtime_checkable
class Relabelling(Protocol):
    """A step that maps the labels that are scored (source labels) to the task's own."""

    @property
    def passes(self) -> int:
        """How often train rows are asked at most: more than once where demonstrations show what was mapped."""
        ...

    def mapped(self, state: Any) -> Mapping[str, str]:
        """Label of the task -> the source label that stands for it."""
        ...


Sums = Mapping[str, Any]
"""Name -> what a metric counts, summed over rows: numbers, or arrays with one sum for each resample."""


class Metric(Component):
    """How a run is judged: every row adds counts, and the metric is a function of their sums.

    So a run of any length is judged in one pass, and resampling rows (for intervals, comparisons) is a weighted sum.

    Args:
        name: under which the metric is reported; by default its `use`.
    """

    name: str | None = None

    graded: ClassVar[bool] = False
    """Whether an example's score is a degree rather than right or wrong."""

    best: ClassVar[float] = 1.0
    """The value of a perfect run."""

    worst: ClassVar[float] = 0.0
    """The other end of its scale; above `best` where lower is better."""

    biased: ClassVar[bool] = False
    """Whether fewer rows give a worse value on average. Resamples then are worse than the run by as much as the run is
    worse than it would be with many rows, and the interval is mirrored at the value."""

    needs_distribution: ClassVar[bool] = False
    """Whether it judges the row's distribution over labels; a row that has none counts against the run."""

    @property
    def title(self) -> str:
        """The name under which it is reported."""
        return self.name or self.use

    @property
    def lower(self) -> bool:
        """Whether lower is better."""
        return self.best < self.worst

    def check(self) -> None:
        """Raise `MissingExtraError` where a package it needs is not installed; called before anything is asked."""

    def counts(
        self, prediction: Any, target: Any, distribution: Mapping[str, float] | None = None
    ) -> tuple[float | None, Mapping[str, float]]:
        """A row's own score (None where only sets of rows have one), and what it adds to the sums.

        A prediction of None is an unreadable answer, which never counts in the run's favour.

        Args:
            prediction: in canonical form; None where the answer could not be read, or was withheld.
            target: in canonical form.
            distribution: label -> p, where there is one.
        """
        raise NotImplementedError

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The metric of sums; with arrays in them, an array.

        Args:
            sums: over rows, or over each of several resamples of rows.
            whole: over all rows, where `sums` is of resamples.
        """
        raise NotImplementedError
