"""The contracts between the rooms. What a user names in a task file is a `Component`; the rest is behaviour.

Whoever needs the model *yields requests*: a `Steps[T]` generator knows nothing of networks, and one driver
(`icl_engine.driver`) sends, caches, retries and counts for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

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
    Sampling,
)

T = TypeVar("T")

Steps = Generator[Sequence[Request], Sequence[Response], T]
"""A computation that yields batches of requests, is sent their responses, and returns a T."""

Identity = Callable[[Example], str]
"""What makes two examples duplicates: equal strings."""


class Component(BaseModel):
    """A part of a pipeline as the user wrote it: its fields are its YAML keys, nothing else is accepted.

    What it learns (`fit`) is returned as plain data and passed back in; nothing is mutated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), serialize_by_alias=True)

    use: str


class Retriever(Component):
    """I's first half: which demonstrations to show for an example."""

    per_query: ClassVar[bool] = False
    """Whether it chooses demonstrations for each query, so that prompts share only the instruction."""

    def fit(self, pool: Sequence[Example], identity: Identity, seed: int) -> Any:
        """State for `select`, as plain data, from the solved examples of the pool."""
        raise NotImplementedError

    def select(self, state: Any, x: Example, identity: Identity) -> tuple[Demonstration, ...]:
        """The demonstrations for x, in the order they are shown; never x itself nor its duplicate."""
        raise NotImplementedError

    def dump(self, state: Any) -> Any:
        """The state as JSON, for a saved program."""
        raise NotImplementedError

    def restore(self, saved: Any, identity: Identity) -> Any:
        """The state that `dump` saved."""
        raise NotImplementedError


class InputManipulator(Protocol):
    """I: an example becomes a prompt. It may ask the model on the way (a generator)."""

    @property
    def rationale(self) -> bool:
        """Whether its demonstrations show more than the answer, so that the model's own answer will too."""
        ...

    def prompt(self, x: Example, chat: bool) -> Steps[Prompt]:
        """Select demonstrations for x and render."""
        ...

    def select(self, x: Example) -> tuple[Demonstration, ...]:
        """The demonstrations for x, in the order they are shown."""
        ...

    def render(self, x: Example, demonstrations: tuple[Demonstration, ...], chat: bool) -> Prompt:
        """Render x after the given demonstrations."""
        ...

    def dump(self) -> Any:
        """What its retriever learned, as JSON, for a saved program; None for none."""
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
class Probing(Protocol):
    """A distribution step that asks the model about content-free inputs, once per demonstration set."""

    def probes(self, x: Example) -> tuple[Example, ...]:
        """The content-free examples to ask in x's place."""
        ...

    def fit_probes(self, distributions: Sequence[Mapping[str, float]]) -> Any:
        """State for `apply`, from the probes' label distributions."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A distribution step that learns from the unlabelled distributions of many examples.

    `start` gives an accumulator's first value, `gather` folds one distribution in, `finish` makes the state;
    so a run of any length needs the memory of one row.
    """

    def start(self) -> Any: ...
    def gather(self, gathered: Any, distribution: Mapping[str, float]) -> Any: ...
    def finish(self, gathered: Any) -> Any: ...


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

    @property
    def title(self) -> str:
        """The name under which it is reported."""
        return self.name or self.use

    def check(self) -> None:
        """Raise `MissingExtraError` where a package it needs is not installed; called before anything is asked."""

    def counts(self, prediction: Any, target: Any) -> tuple[float | None, Mapping[str, float]]:
        """A row's own score (None where only sets of rows have one), and what it adds to the sums.

        A prediction of None is an unreadable answer, which never counts in the run's favour.
        """
        raise NotImplementedError

    def value(self, sums: Sums, whole: Sums | None = None) -> Any:
        """The metric of sums; with arrays in them, an array.

        Args:
            sums: over rows, or over each of several resamples of rows.
            whole: over all rows, where `sums` is of resamples.
        """
        raise NotImplementedError
