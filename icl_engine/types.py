"""The values that travel through a pipeline: frozen, small, and free of behaviour.

    Example ─I→ Prompt ─f→ Response ─O→ Reading → Prediction

They are dataclasses rather than pydantic models because a run makes millions of them; what a user
writes (and may misspell) is a `Component`, see `protocols.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["main", "probe", "sample"]
Status = Literal["ok", "unparsed"]


@dataclass(frozen=True, slots=True)
class Example:
    """One task example x: template variables, and the target y where it is known.

    Args:
        id: the row's field ``id``, else its number in the file, from 0.
        inputs: the template variables.
        target: the answer as stored (after ``data.labels``); None where there is none.
    """

    id: int | str
    inputs: Mapping[str, Any]
    target: Any = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A solved example shown in the prompt, and why it was chosen.

    Args:
        example: the solved example.
        why: the retriever's reason in a few words.
        score: the retriever's score, where it has one.
    """

    example: Example
    why: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What I made of an example: exactly one of `text` and `messages`.

    Args:
        text: the whole prompt for a completion model; it never ends in white space.
        messages: the turns for a chat model.
        lead: the white space between the prompt and its answer, which belongs to the answer.
        after: what stands after the answer (a cloze), empty otherwise.
        demonstrations: what the prompt shows.
    """

    text: str | None
    messages: tuple[Message, ...] | None
    lead: str = ""
    after: str = ""
    demonstrations: tuple[Demonstration, ...] = ()

    @property
    def shown(self) -> str | tuple[Message, ...]:
        """What is sent: the text, or the turns."""
        return self.text if self.text is not None else self.messages or ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is generated. `temperature` 0 is greedy; sample i is sent with ``seed + i``."""

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Generate:
    """Readout: text. At most one of `grammar` (GBNF) and `schema` (JSON Schema) constrains it."""

    sampling: Sampling = Sampling()
    grammar: str | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NextToken:
    """Readout: the log-probabilities (nats) of the `top` likeliest next tokens."""

    top: int


@dataclass(frozen=True, slots=True)
class Continuation:
    """Readout: the log-probability (nats) of each token of `text`, were it to follow the prompt."""

    text: str


Readout = Generate | NextToken | Continuation


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the frozen model f: a prompt and what is to be read from it.

    `role` says whose question it is; it is not part of the cache's key.
    """

    prompt: str | tuple[Message, ...]
    readout: Readout
    sample: int = 0
    role: Role = "main"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them when the answer was first given."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Response:
    """What f said.

    Args:
        text: the generated text; for `NextToken` the first token, for `Continuation` its text.
        tokens: (token, log p) pairs. `NextToken`: the likeliest first; `Continuation`: in order; `Generate`: empty.
        finish: why generation ended, in the provider's word.
        usage: tokens paid for.
    """

    text: str
    tokens: tuple[tuple[str, float], ...] = ()
    finish: str | None = None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, its answer, and the content key under which the answer is kept."""

    request: Request
    response: Response
    key: str


@dataclass(frozen=True, slots=True)
class Need:
    """What O asks of f.

    Args:
        kind: text, or the scores of labels.
        words: label -> the words that stand for it; only for scores.
        want: ``argmax`` needs only the best label to be exact, ``distribution`` every one.
        scores: ``sequence``: log p of a word's whole token sequence. ``trie``: log p under decoding
            that may only spell the words.
    """

    kind: Literal["text", "scores"] = "text"
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    want: Literal["argmax", "distribution"] = "argmax"
    scores: Literal["sequence", "trie"] = "sequence"


@dataclass(frozen=True, slots=True)
class LabelScores:
    """log p(label | prompt), nats, and whether each is exact.

    Args:
        logprobs: label -> log p, summed over the label's words; not normalised over the labels.
        method: the rung of the ladder that gave them.
        bounded: labels whose figure is only an upper bound, where that matters to what was asked.
        text: the likeliest next token, where it was asked for.
    """

    logprobs: Mapping[str, float]
    method: str
    bounded: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question O or I put to the model, whatever number of requests it took, and what came back."""

    role: Role
    prompt: Prompt
    text: str
    scores: LabelScores | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What O has made of the answer so far.

    Args:
        text: what is left to read of the model's text; None for a pure score readout.
        value: the answer, None while (or where) it could not be read.
        distribution: label -> p, sums to 1; None where there is none.
        status: ``ok``, or ``unparsed`` where the answer could not be read.
        trace: one line a step: what it saw, what it took.
    """

    text: str | None = None
    value: Any = None
    distribution: Mapping[str, float] | None = None
    status: Status = "ok"
    trace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """ŷ = O ∘ f ∘ I(x), with what it rests on.

    Args:
        example: the example x.
        reading: what O made of the answer.
        asked: every question put to the model, the main one first.
        exchanges: every request these took, with its answer.
    """

    example: Example
    reading: Reading
    asked: tuple[Asked, ...] = field(repr=False)
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False)

    @property
    def value(self) -> Any:
        """The answer in canonical form; None where the model's answer could not be read."""
        return self.reading.value if self.reading.status == "ok" else None

    @property
    def distribution(self) -> Mapping[str, float] | None:
        """Label -> p, sums to 1; None where the answer was read from text."""
        return self.reading.distribution

    @property
    def status(self) -> Status:
        """``ok``, or ``unparsed``."""
        return self.reading.status

    @property
    def text(self) -> str:
        """What the model said."""
        return self.asked[0].text

    @property
    def prompt(self) -> Prompt:
        """What the model was shown."""
        return self.asked[0].prompt

    @property
    def scoring(self) -> LabelScores | None:
        """The label scores as read; None where text was read."""
        return self.asked[0].scores

    @property
    def demonstrations(self) -> tuple[Demonstration, ...]:
        """The demonstrations the prompt showed."""
        return self.prompt.demonstrations

    @property
    def usage(self) -> Usage:
        """Tokens of the example's own requests; probes, which examples share, are not counted."""
        return sum((e.response.usage for e in self.exchanges if e.request.role != "probe"), Usage())


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value over a run, its 95% interval, and the number of examples it rests on."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint can give.

    Args:
        text: completions of a plain prompt.
        chat: turns.
        top_logprobs: the widest top-k of the next token, 0 for none.
        continuation: exact log-probabilities of a given continuation.
        grammar: generation under a GBNF grammar or JSON Schema.
        concurrency: the most requests worth having in flight, None for no limit.
    """

    text: bool = True
    chat: bool = False
    top_logprobs: int = 0
    continuation: bool = False
    grammar: bool = False
    concurrency: int | None = None
