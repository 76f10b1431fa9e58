"""The values that travel through a pipeline: frozen, small, and free of behaviour.

    Example ─I→ Prompt ─f→ Response ─O→ Reading → Prediction

They are dataclasses rather than pydantic models because a run makes millions of them; what a user
writes (and may misspell) is a `Component`, see `protocols.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["main", "probe", "sample", "rationale", "candidate", "fit", "repair", "spelling", "capability"]
"""Whose question it is: an example's own, a content-free input's, one of several samples', for the chain of thought
before an answer, about one of several sets of demonstrations, for what I or O learns before the first row, for an
answer in the place of one that could not be read, the tokenizer's (``spelling``, which costs nothing), or that for what
an endpoint can do."""

Token = int | str
"""A token: its id where the endpoint shows its tokenizer, else its text."""
Status = Literal["ok", "unparsed", "abstained"]


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
class Image:
    """An image in a turn: an address the provider fetches, or bytes.

    Args:
        name: what records and messages call it: the path or URL as written, or ``image/png, 512 bytes``.
        url: where the provider finds it; None for bytes.
        data: its bytes; None for a URL. Never printed, logged or written to a record.
        media_type: ``image/png``, ``image/jpeg``, ``image/gif`` or ``image/webp``; empty for a URL.
    """

    name: str
    url: str | None = None
    data: bytes | None = field(default=None, repr=False)
    media_type: str = ""

    @property
    def identity(self) -> str:
        """What the cache's key knows it by: its URL, or the hash of its bytes."""
        return self.url if self.data is None and self.url else f"sha256:{hashlib.sha256(self.data or b'').hexdigest()}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat.

    Args:
        role: who speaks.
        content: its text, or its texts and images in order.
        shared: the chat up to and with this turn is the same for many queries, which a prompt cache can use.
            It is not part of what is said, nor of the cache's key.
    """

    role: Literal["system", "user", "assistant"]
    content: str | tuple[str | Image, ...]
    shared: bool = False

    @property
    def parts(self) -> tuple[str | Image, ...]:
        """Its texts and images."""
        return (self.content,) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """Its text, an image shown by its name in angle brackets."""
        return "".join(part if isinstance(part, str) else f"<{part.name}>" for part in self.parts)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What I made of an example: exactly one of `text` and `messages`.

    Args:
        text: the whole prompt for a completion model; it never ends in white space.
        messages: the turns for a chat model.
        lead: the white space between the prompt and its answer, which belongs to the answer.
        after: what stands after the answer (a cloze), empty otherwise.
        demonstrations: what the prompt shows.
        dropped: demonstrations that were chosen too, and left out to keep it short enough.
        thought: the chain of thought it holds, if the model was asked for one.
        first: the prompt that asked for that.
    """

    text: str | None
    messages: tuple[Message, ...] | None
    lead: str = ""
    after: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    dropped: tuple[Demonstration, ...] = ()
    thought: str = ""
    first: Prompt | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """The images in its turns."""
        return tuple(part for m in self.messages or () for part in m.parts if isinstance(part, Image))

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
    """Readout: text. At most one of `grammar` (GBNF), `schema` (JSON Schema) and `choices` constrains it."""

    sampling: Sampling = Sampling()
    grammar: str | None = None
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NextToken:
    """Readout: log-probabilities (nats) of the next token, at one place or at several along the likeliest path.

    Args:
        top: how many of the likeliest tokens at each place.
        named: ids of tokens whose log-probabilities are wanted too, however unlikely they are.
        spelt: what has been said after the prompt: token ids (then tokens are read as ids, also where nothing has
            been said yet), or text where no tokenizer is known (then tokens are read as text).
        places: how many tokens are said and read. Beyond one, where tokens are named, the path says only these.
    """

    top: int
    named: tuple[int, ...] = ()
    spelt: tuple[int, ...] | str = ""
    places: int = 1


@dataclass(frozen=True, slots=True)
class Continuation:
    """Readout: the log-probability (nats) of each token of `text`, were it to follow the prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class Spelling:
    """Readout: the ids of the tokens that spell each text after the prompt. It asks the tokenizer, not the model.

    Of a text prompt only its end matters; an empty chat stands for the beginning of any answer's turn.
    """

    texts: tuple[str, ...]


Readout = Generate | NextToken | Continuation | Spelling


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
class Place:
    """One place of an answer: the token said there, and the log-probabilities (nats) of what may stand there.

    Args:
        said: the token that was said.
        seen: token -> log p, the likeliest first; only figures the endpoint really gave.
        floor: no token that was not seen is likelier than this.
    """

    said: Token
    seen: Mapping[Token, float]
    floor: float


@dataclass(frozen=True, slots=True)
class Response:
    """What f said.

    Args:
        text: the generated text; for `NextToken` what was said, for `Continuation` its text.
        tokens: for `Continuation`: (token, log p) pairs in order.
        places: for `NextToken`: each place that was read, in order.
        spelt: for `Spelling`: the token ids of each text.
        finish: why generation ended, in the provider's word.
        usage: tokens paid for.
        pause: seconds for which the provider asks that nothing more be sent; never kept in the cache.
    """

    text: str
    tokens: tuple[tuple[Token, float], ...] = ()
    places: tuple[Place, ...] = ()
    spelt: tuple[tuple[int, ...], ...] = ()
    finish: str | None = None
    usage: Usage = Usage()
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, its answer, and the content key under which the answer is kept."""

    request: Request
    response: Response
    key: str


def total(exchanges: Sequence[Exchange]) -> Usage:
    """The tokens of all answers."""
    if len(exchanges) == 1:
        return exchanges[0].response.usage
    return sum((e.response.usage for e in exchanges), Usage())


def usage_of(exchanges: Sequence[Exchange]) -> Usage:
    """The tokens of an example's own requests; probes, which examples share, are not counted."""
    return total([e for e in exchanges if e.request.role != "probe"])


@dataclass(frozen=True, slots=True)
class Need:
    """What O asks of f.

    Args:
        kind: text, or the scores of labels.
        words: label -> the words that stand for it; only for scores.
        want: ``argmax`` needs only the best label to be exact, ``distribution`` every one.
        scores: ``sequence``: log p of a word's whole token sequence. ``trie``: log p under decoding
            that may only spell the words.
        normalization: ``sum`` of a word's log p by token, their ``mean``, or ``pmi``: the sum less that after a
            content-free input (Holtzman et al. 2021).
        samples: how many answers are drawn where the endpoint gives no log-probabilities and a distribution is wanted.
        read: the label that a text says, None for none; for endpoints that give no log-probabilities.
        schema: the JSON Schema that a text answer is to keep, where the endpoint can constrain it.
    """

    kind: Literal["text", "scores"] = "text"
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    want: Literal["argmax", "distribution"] = "argmax"
    scores: Literal["sequence", "trie"] = "sequence"
    normalization: Literal["sum", "mean", "pmi"] = "sum"
    samples: int = 10
    read: Callable[[str], str | None] | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """log p(label | prompt), nats, and whether each is exact.

    Args:
        logprobs: label -> log p, summed over the label's words; not normalised over the labels.
        method: the rung of the ladder that gave them.
        bounded: labels whose figure is only an upper bound, where that matters to what was asked.
        prior: label -> what its log p is after a content-free input (PMI), to be taken off; empty for none.
        whole: whether they make a distribution: every figure is known well enough, or all were wanted.
        text: what was said, where it was asked for.
        exchanges: what they took, where they are on record and nobody was asked.
    """

    logprobs: Mapping[str, float]
    method: str
    bounded: tuple[str, ...] = ()
    prior: Mapping[str, float] = field(default_factory=dict)
    whole: bool = True
    text: str = ""
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question O or I put to the model, whatever number of requests it took, and what came back.

    Args:
        role: whose question it is.
        prompt: what was shown.
        text: what was said.
        scores: label scores, where these were asked for.
        before: what had to be asked before it could be read: the labels' prior, for PMI.
        sample: which of several samples it is.
    """

    role: Role
    prompt: Prompt
    text: str
    scores: LabelScores | None
    before: tuple[Asked, ...] = ()
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What O has made of the answer so far.

    Args:
        text: what is left to read of the model's text; None for a pure score readout.
        value: the answer, None while (or where) it could not be read.
        distribution: label -> p, sums to 1; None where there is none.
        status: ``ok``, or ``unparsed`` where the answer could not be read.
        trace: one line a step: what it saw, what it took.
        inputs: the query's template variables, for steps that look at what was asked about.
    """

    text: str | None = None
    value: Any = None
    distribution: Mapping[str, float] | None = None
    status: Status = "ok"
    trace: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Prediction:
    """ŷ = O ∘ f ∘ I(x), with what it rests on.

    Args:
        example: the example x.
        reading: what O made of the answer.
        asked: every question put to the model, the main one first.
        exchanges: every request these took, with its answer.
        taken: which of `asked` the answer was read from: 0, but for a vote, which takes the first that gave it.
    """

    example: Example
    reading: Reading
    asked: tuple[Asked, ...] = field(repr=False)
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False)
    taken: int = field(default=0, repr=False)

    @property
    def value(self) -> Any:
        """The answer in canonical form; None where the model's answer could not be read."""
        return self.reading.value if self.reading.status == "ok" else None

    @property
    def distribution(self) -> Mapping[str, float] | None:
        """Label -> p, sums to 1; None where the answer was read from text, or only the best label is known."""
        return self.reading.distribution

    @property
    def status(self) -> Status:
        """``ok``, or ``unparsed``."""
        return self.reading.status

    @property
    def text(self) -> str:
        """What the model said."""
        return self.asked[self.taken].text

    @property
    def prompt(self) -> Prompt:
        """What the model was shown."""
        return self.asked[self.taken].prompt

    @property
    def scoring(self) -> LabelScores | None:
        """The label scores as read; None where text was read."""
        return self.asked[self.taken].scores

    @property
    def demonstrations(self) -> tuple[Demonstration, ...]:
        """The demonstrations the prompt showed."""
        return self.prompt.demonstrations

    @property
    def usage(self) -> Usage:
        """Tokens of the example's own requests; probes, which examples share, are not counted."""
        return usage_of(self.exchanges)


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value over a run, its 95% interval, and the number of examples it rests on."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint can give: as its provider declares it, then as probing found it.

    Args:
        text: completions of a plain prompt.
        chat: turns.
        top_logprobs: the widest top-k of the next token, 0 for none.
        named: how many named tokens it scores in one request, however unlikely they are; 0 for none.
        spelling: it shows its tokenizer.
        prefill: an answer can be begun for it: a chat's last turn may be the assistant's (a text prompt always can).
        continuation: exact log-probabilities of a given continuation.
        forced: these come by forcing generation along it, which a prefix cache serves, rather than by echo.
        grammar: generation under a GBNF grammar.
        schema: generation under a JSON Schema.
        choice: generation of one of several given texts.
        samples: several answers to one prompt in one request (`n`).
        together: how many prompts of one question travel in one request.
        seed: a seed repeats an answer drawn at a temperature above 0.
        images: images in turns.
        concurrency: the most requests worth having in flight, None for no limit.
        context: the longest prompt and answer together, tokens, where it is known.
        probed: what was tried rather than declared.
    """

    text: bool = True
    chat: bool = False
    top_logprobs: int = 0
    named: int = 0
    spelling: bool = False
    prefill: bool = False
    continuation: bool = False
    forced: bool = False
    grammar: bool = False
    schema: bool = False
    choice: bool = False
    samples: bool = False
    together: int = 1
    seed: bool = False
    images: bool = False
    concurrency: int | None = None
    context: int | None = None
    probed: frozenset[str] = frozenset()
