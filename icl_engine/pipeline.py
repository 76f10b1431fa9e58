"""The composition: ŷ = O ∘ f ∘ I(x). `steps` is the whole method; the rest opens, drives and closes it."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import orjson

from icl_engine import fitting
from icl_engine.alignment.chain import Chain, kinds
from icl_engine.alignment.reask import Reask
from icl_engine.alignment.statistical.contextual_calibration import content_free
from icl_engine.alignment.vote import Vote
from icl_engine.asking import asked_once, side_by_side
from icl_engine.driver.cache import Cache
from icl_engine.driver.driver import Driver
from icl_engine.driver.loop import BackgroundLoop
from icl_engine.errors import EndpointError, IclError, RequestError, TaskError, TemplateError
from icl_engine.manipulation.budget import Budget
from icl_engine.models.ladder import label_scores
from icl_engine.models.probing import hoped, probe
from icl_engine.protocols import Endpoint, InputManipulator, Model, Probing, Recorded, Steps
from icl_engine.taxonomy import Cell, cell
from icl_engine.tokens import counter
from icl_engine.types import (
    Asked,
    Capabilities,
    Example,
    Exchange,
    Generate,
    LabelScores,
    Need,
    Prediction,
    Prompt,
    Reading,
    Request,
    Role,
)

log = logging.getLogger("icl_engine")

T = TypeVar("T")
LABEL = 32
"""Tokens kept free for a label."""

AHEAD = 256
"""Rows of a batch for which demonstrations are chosen at once."""

Inputs = Mapping[str, Any]


@dataclass(eq=False)
class Pipeline:
    """ŷ = O ∘ f ∘ I(x), for one task and one frozen model.

    Args:
        manipulator: I, with its retriever fitted.
        model: f, as the user named it.
        chain: O.
        states: what O's batch steps learned, by their place (a saved program has them).
        whole: have every label scored, since the distribution is judged.
        train: rows of the train split that the test split does not have, for steps that have yet to learn.
        endpoint: answers in the model's place.
        seed: of every draw.
        concurrency: the most requests in flight.
        patience: seconds for which a request that fails is tried again.
        requests_per_minute: the most requests sent in any minute.
        tokens_per_minute: about the most tokens sent and asked for in any minute.
        cache_folder: where answers are kept; None keeps none.
        source: the resolved task, for `save`; it holds no secret.
        max_prompt_tokens: the most tokens of a prompt.
        prepare: how a row given to `predict` becomes template variables (renamed fields).

    Use it in a ``with`` block, or let it close itself at exit.
    """

    manipulator: InputManipulator
    model: Model
    chain: Chain
    states: dict[int, Any] = field(default_factory=dict)
    whole: bool = False
    train: Sequence[Example] = ()
    endpoint: Endpoint | None = None
    seed: int = 0
    concurrency: int = 16
    patience: float = 120.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    cache_folder: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int | None = None
    prepare: Callable[[Inputs], Inputs] = dict

    def __post_init__(self) -> None:
        self._endpoint = self.endpoint or self.model.connect()
        self.fits: dict[int, Any] = {}
        # Looked up once: to ask an object for a protocol takes longer than most steps.
        self._recorded = self._endpoint if isinstance(self._endpoint, Recorded) else None
        self._chat = self.model.api == "chat"
        self._sampling = self.model.sampling()
        exact = getattr(self._endpoint, "count", None)
        budget = Budget(self.max_prompt_tokens, self._window, counter(self.model), exact)
        self.manipulator = self.manipulator.within(budget)
        if write := fitting.writer(self.chain, self.states):
            self.manipulator = self.manipulator.writing(write)
        self._needs: dict[bool, Need] = {}
        self._loop: BackgroundLoop | None = None
        self._opening = threading.Lock()
        self._drivers: list[Driver] = []
        self._fitting: asyncio.Lock | None = None
        self._probing: asyncio.Lock | None = None
        self._learning: asyncio.Lock | None = None
        self._lessons: list[Exchange] = []
        self._lines: list[Prediction] = []
        self._ready = not self._endpoint.uncertain
        self._pictured = False
        vote = None if self.chain.vote is None else self.chain.vote[1]
        if vote is not None and vote.samples > 1 and self.model.drawn and not self._sampling.temperature:
            what = f"{vote.use} counts {vote.samples} samples, and at temperature 0 all are alike"
            raise TaskError(f"{what}; set model.temperature: 0.7", key="model.temperature")

    # -- the method: generators that know nothing of networks

    def steps(self, x: Example, states: Mapping[int, Any], role: Role = "main") -> Steps[Prediction]:
        """I, then f, then O as far as `states` allows: a step that has yet to learn stops it."""
        steps = self._steps(x, states, role)
        return asked_once(steps) if self.manipulator.asks else steps

    def _steps(self, x: Example, states: Mapping[int, Any], role: Role) -> Steps[Prediction]:
        if self.chain.vote is not None:
            return (yield from self._elected(x, *self.chain.vote))
        prompt = yield from self.prompting(x)
        asked = yield from self._ask(x, prompt, role)
        heard = yield from self._read(x, asked, states, self.chain.reach(states))
        return Prediction(x, heard.reading, (*heard.answers, *_before(heard.answers), *heard.probes), taken=heard.taken)

    def _elected(self, x: Example, at: int, vote: Vote) -> Steps[Prediction]:
        """I, f and the steps before the vote for each sample, no more of them than a decision takes; then the vote."""
        samples: list[Heard] = []
        readings: list[Reading] = []
        while more := vote.more(readings):
            samples += yield from side_by_side([self._sample(x, len(samples) + i, at) for i in range(more)])
            readings = [self.chain.canonical(s.reading) for s in samples]
        texts = [vote.heard(s.answers[0].prompt.thought, s.answers[s.taken].text) for s in samples]
        taken, reading = vote.decide(readings, texts)
        reading, _ = self.chain.advance(reading, at + 1, {}, len(self.chain.steps))
        answers = [a for s in samples for a in s.answers]
        first = sum(len(s.answers) for s in samples[:taken]) + samples[taken].taken
        return Prediction(x, reading, (*answers, *_before(answers)), taken=first)

    def _sample(self, x: Example, number: int, end: int) -> Steps[Heard]:
        """I, then f, then the steps before the vote, for one of several samples."""
        prompt = yield from self.prompting(x, number)
        asked = yield from self._ask(x, prompt, "sample", number)
        return (yield from self._read(x, asked, {}, end))

    def _read(self, x: Example, asked: Asked, states: Mapping[int, Any], end: int) -> Steps[Heard]:
        """O's steps before `end`; those that ask on the way do so."""
        need = self.need(asked.prompt)
        reading, at = self.chain.begin(need, asked.text, asked.scores, x.inputs)
        answers, probes, known = [asked], list[Asked](), dict(states)
        while at < end:
            repair, probing = self.chain.repairs.get(at), self.chain.probing.get(at)
            if repair is not None and need.kind == "text" and reading.status == "unparsed":
                again = yield from self._again(repair, asked)
                answers.append(again)
                reading, at = self._reread(reading, again.text, at)
            elif probing is not None and reading.distribution is not None:
                probed = yield from self._probe(probing, x, asked.prompt, known.get(at))
                probes += probed
                known[at] = probing.fit_probes(self._distributions(probed, at, known))
            reading, at = self.chain.advance(reading, at, known, end=at + 1)
        return Heard(reading, answers, probes)

    def _again(self, repair: Reask, asked: Asked) -> Steps[Asked]:
        """f once more, for an answer that could not be read."""
        prompt = repair.prompt(asked.prompt, asked.text)
        request = Request(prompt.shown, Generate(self._sampling), sample=asked.sample, role="repair")
        (answer,) = yield [request]
        return Asked("repair", prompt, answer.text, None, sample=asked.sample)

    def _reread(self, first: Reading, text: str, at: int) -> tuple[Reading, int]:
        """What the steps before `at` read in the second answer, behind the trace of the first."""
        reading, start = self.chain.begin(Need(), text, None, first.inputs)
        reading, at = self.chain.advance(reading, start, {}, at)
        return replace(reading, trace=(*first.trace, "reask: once more", *reading.trace)), at

    def prompting(self, x: Example, sample: int = 0) -> Steps[Prompt]:
        """I alone."""
        return self.manipulator.prompt(x, self._chat, self._inquire, sample)

    def learning(self) -> Steps[InputManipulator]:
        """What I has to learn from the model next."""
        return self.manipulator.learn(self._inquire, self._chat)

    def _inquire(self, prompt: Prompt, role: Role, said: str) -> Steps[Reading]:
        """What O reads before any calibration, for those parts of I that choose by it."""
        need = self.need(prompt)
        if need.kind == "scores":
            need = replace(need, want="distribution")
        asked = yield from self._ask(Example("", {}), prompt, role, need=need)
        reading, at = self.chain.begin(need, f"{said}{' ' if said else ''}{asked.text.lstrip()}", asked.scores)
        return self.chain.advance(reading, at, {}, end=self.chain.reads)[0]

    def _ask(self, x: Example, prompt: Prompt, role: Role, sample: int = 0, need: Need | None = None) -> Steps[Asked]:
        """f: text or label scores, as O needs."""
        need, sampling = self.need(prompt) if need is None else need, self._sampling
        if need.kind == "scores":
            before = yield from self._prior(x, prompt, need)
            prior = before[0].scores.logprobs if before and before[0].scores else None
            scores = yield from self._scores(prompt, need, role, prior)
            return Asked(role, prompt, scores.text, scores, before)
        plain = Request(prompt.shown, Generate(sampling), sample=sample, role=role)
        if need.schema is None:
            (answer,) = yield [plain]
            return Asked(role, prompt, answer.text, None, sample=sample)
        try:
            (answer,) = yield [replace(plain, readout=Generate(sampling, schema=need.schema))]
        except RequestError as error:
            if error.retryable:
                raise
            # Providers know only parts of JSON Schema: what they refuse is asked for without, and checked by O alone.
            (answer,) = yield [plain]
        return Asked(role, prompt, answer.text, None, sample=sample)

    def _scores(
        self, prompt: Prompt, need: Need, role: Role, prior: Mapping[str, float] | None = None
    ) -> Steps[LabelScores]:
        """Label scores: those on record, else by the ladder."""
        if self._recorded is not None and (known := self._recorded.scores(prompt, need)) is not None:
            return replace(known, prior=prior or {})
        can, sampling = self.capabilities, self._sampling
        return (yield from label_scores(prompt, need, can, role=role, sampling=sampling, prior=prior))

    def _prior(self, x: Example, prompt: Prompt, need: Need) -> Steps[tuple[Asked, ...]]:
        """For PMI: the labels' log p after the query's demonstrations and an empty input, asked once for each set."""
        if need.normalization != "pmi":
            return ()
        shown = self.manipulator.render(content_free(x), prompt.demonstrations, self._chat)
        scores = yield from self._scores(shown, replace(need, want="distribution", normalization="sum"), "probe")
        return (Asked("probe", shown, scores.text, scores),)

    def _probe(self, step: Probing, x: Example, prompt: Prompt, state: Any) -> Steps[list[Asked]]:
        """The answers to content-free inputs, shown with the query's demonstrations.

        Each query asks; the driver remembers probes, so each demonstration set is paid for once.
        """
        asked = []
        for empty in step.probes(x, state):
            shown = self.manipulator.render(empty, prompt.demonstrations, self._chat)
            answer = yield from self._ask(x, shown, "probe")
            asked.append(answer)
        return asked

    def _distributions(
        self, asked: Sequence[Asked], before: int, states: Mapping[int, Any]
    ) -> list[Mapping[str, float]]:
        """The label distributions of answers as they stand before a step."""
        found = []
        for a in asked:
            reading, at = self.chain.begin(self.need(a.prompt), a.text, a.scores)
            reading, _ = self.chain.advance(reading, at, states, end=before)
            if reading.distribution is not None:
                found.append(reading.distribution)
        if not found:
            raise RequestError("no label was given any probability for the content-free inputs")
        return found

    def _window(self) -> int | None:
        """The tokens a prompt may have beside its answer; None where that is not known."""
        context = self._endpoint.capabilities.context
        if context is None:
            return None
        needs = self._needs or {False: self._need(False)}
        said = self._sampling.max_tokens if any(n.kind == "text" for n in needs.values()) else LABEL
        return context - said - self.manipulator.room

    # -- what fits with what

    @property
    def capabilities(self) -> Capabilities:
        """What the endpoint can give; until it was probed (`ready`), what it may turn out to give."""
        can = self._endpoint.capabilities
        return can if self._ready else hoped(can, self._endpoint.uncertain)

    async def ready(self) -> None:
        """Find out what the endpoint can give of what this task needs: a few tokens, once per endpoint and model.

        Raises:
            EndpointError: it cannot be used. TaskError: it cannot give what O needs.
        """
        if self._probing is None:
            self._probing = asyncio.Lock()
        async with self._probing:
            if self._ready:
                return
            for stage in self.wanted():
                await self.driver.probe(self.model.api, stage, probe)
            self._ready = True
            if self._pictured and not self.capabilities.images:
                log.warning("%s does not seem to look at images: one costs it no tokens", self.model.title)
            clozes = list(self._needs)
            self._needs.clear()
            for cloze in clozes:
                self._needs[cloze] = self._need(cloze)

    @property
    def uncertain(self) -> frozenset[str]:
        """Capabilities that differ among servers of this kind."""
        return self._endpoint.uncertain

    async def discover(self) -> None:
        """Try every uncertain capability anew, whatever an earlier probe found.

        Raises:
            EndpointError: the endpoint cannot be used.
        """
        self.driver.forget(self.model.api)
        await self.driver.probe(self.model.api, self._endpoint.uncertain, probe)
        self._ready = True

    def wanted(self) -> Iterator[set[str]]:
        """What to find out, the cheapest way to an answer first: what makes it unnecessary ends the list."""
        needs = dict(self._needs) or {False: self._need(False)}
        if any(need.schema is not None for need in needs.values()):
            yield {"schema"}
        if self._pictured:
            yield {"images"}
        if all(need.kind == "text" for need in needs.values()):
            return
        can = self._endpoint
        if False in needs:
            yield {"top_logprobs", "spelling", "named"}
            if self._chat and can.capabilities.top_logprobs and not can.capabilities.spelling:
                yield {"prefill"}
        if True in needs or not can.capabilities.named:
            yield {"continuation"}
        if not (can.capabilities.top_logprobs or can.capabilities.continuation):
            yield {"choice", "schema", "samples"}

    def need(self, prompt: Prompt) -> Need:
        """What O asks of f: decided from the chain, the model and the template.

        Raises:
            TaskError: they do not fit together.
        """
        cloze = bool(prompt.after.strip())
        if cloze not in self._needs:
            self._needs[cloze] = self._need(cloze)
        return self._needs[cloze]

    def _need(self, cloze: bool) -> Need:
        need = self.chain.need(self.capabilities, rationale=self.manipulator.rationale, cloze=cloze)
        if self.manipulator.weighs and need.kind != "scores":
            way = "use a verbalizer that reads scores" if self.chain.vote is None else "leave vote out"
            what = f"chooses by the model's label distributions, and the answer is read as text; {way}"
            raise TaskError(what, key="input.demonstrations")
        # As the sets were asked: the chosen one's answer is there.
        return replace(need, want="distribution") if self.manipulator.asks or self.whole else need

    @property
    def distributes(self) -> bool:
        """Whether O gives a distribution over answers."""
        scored = any(need.kind == "scores" for need in self._needs.values())
        return scored or self.chain.vote is not None or self.chain.mapping is not None

    def check(self, x: Example) -> Prompt:
        """Render x and see that template, model and O fit together; asks nothing of the model.

        Raises:
            TaskError: they do not.
        """
        prompt = self.manipulator.preview(x, self._chat)
        self.need(prompt)
        self._pictured = self._pictured or bool(prompt.images)
        if prompt.images and not self.capabilities.images and "images" not in self.uncertain:
            raise TaskError(f"{self.model.use} takes no images, and the template shows one", key="model")
        return prompt

    @property
    def taxonomy(self) -> Cell:
        """The pipeline's cell in the survey's taxonomy."""
        return cell(kinds(self.chain.steps))

    # -- use

    def predict(self, inputs: Inputs) -> Prediction:
        """The prediction for one example's template variables.

        Raises:
            RequestError, EndpointError: there is no answer. An unreadable answer has status ``unparsed`` instead.
        """
        return self._call(self._predict(inputs))

    async def apredict(self, inputs: Inputs) -> Prediction:
        """`predict` for async code."""
        return await self._open().join(self._predict(inputs))

    def batch(self, rows: Iterable[Inputs], errors: Literal["raise", "return"] = "raise") -> list[Any]:
        """Predictions in the order of the rows; with ``errors="return"`` an error stands in its row's place."""
        return self._call(self._batch(list(rows), errors))

    async def abatch(self, rows: Iterable[Inputs], errors: Literal["raise", "return"] = "raise") -> list[Any]:
        """`batch` for async code."""
        return await self._open().join(self._batch(list(rows), errors))

    async def _batch(self, rows: list[Inputs], errors: Literal["raise", "return"]) -> list[Any]:
        await self.fitted()
        xs = [self._example(inputs) for inputs in rows]
        good = [x for x in xs if isinstance(x, Example)]
        for start in range(0, len(good), AHEAD):
            await asyncio.to_thread(self.manipulator.foresee, good[start : start + AHEAD])
        results = await asyncio.gather(*map(self._answer, xs), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and (errors == "raise" or not isinstance(result, IclError)):
                raise result
        return results

    async def _predict(self, inputs: Inputs) -> Prediction:
        return await self._answer(self._example(inputs))

    def _example(self, inputs: Inputs) -> Example | IclError:
        """The example of a row, or what is wrong with it."""
        try:
            return Example("input", self.prepare(inputs))
        except IclError as error:
            return error

    async def _answer(self, x: Example | IclError) -> Prediction:
        if isinstance(x, IclError):
            raise x
        states = await self.fitted()
        try:
            prediction, exchanges = await self.driver.drive(self.steps(x, states))
        except TemplateError as error:
            raise TemplateError(f"the template cannot be rendered with this input: {error.what}") from error
        return replace(prediction, exchanges=exchanges)

    async def learn(self) -> Sequence[Exchange]:
        """Have I learn what it needs to know from the model, once; what was asked for it.

        Raises:
            EndpointError: the model gave no answer. TaskError: its answers are of no use.
        """
        await self.ready()
        if self._learning is None:
            self._learning = asyncio.Lock()
        async with self._learning:
            while not self.manipulator.learned:
                try:
                    self.manipulator, exchanges = await self.driver.drive(self.learning())
                except RequestError as error:
                    raise EndpointError(f"no answer to what is asked before the first row: {error}") from error
                self._lessons += exchanges
        return self._lessons

    async def fit(self) -> Sequence[Prediction]:
        """Have O learn what it needs to know before the first row, once; the train rows that were asked for it.

        Raises:
            TaskError: there are no train rows, or nothing can be learned from them. EndpointError: no answer.
        """
        await self.learn()
        if self._fitting is None:
            self._fitting = asyncio.Lock()
        async with self._fitting:
            if self.chain.reach(self.states) < len(self.chain.steps) or self.chain.grounded.keys() - self.states:
                self._lines += await fitting.fit(self)
        return self._lines

    async def fitted(self) -> Mapping[int, Any]:
        """The states of all of O's steps; a batch step without one learns from train rows.

        Raises:
            TaskError: there is no train split to learn from.
        """
        await self.fit()
        assert self._fitting is not None
        async with self._fitting:
            for at, step in self.chain.learners.items():
                if at not in self.states:
                    self.states[at] = await fitting.batch(self, at, step)
        return self.states

    def save(self, path: str | Path) -> Path:
        """Write a frozen program: the resolved task, templates inlined, what was fitted, the demonstrations; no secret.

        `icl.load` reads it back, and the command line takes it wherever it takes a task.
        """
        self._call(self.fitted())
        program = {
            "program": 1,
            "task": self.source,
            "demonstrations": self.manipulator.dump(),
            "learned": self.manipulator.dump_learned(),
            "states": {str(at): state for at, state in self.states.items() if at != self.chain.own or state["prior"]},
        }
        path = Path(path)
        path.write_bytes(orjson.dumps(program, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return path

    # -- open and close

    @property
    def driver(self) -> Driver:
        """The driver; made in the background loop at first use."""
        if not self._drivers:
            cache = None if self.cache_folder is None else Cache(self.cache_folder)
            rates = self.requests_per_minute, self.tokens_per_minute
            self._drivers.append(Driver(self._endpoint, cache, self.concurrency, self.patience, *rates))
        return self._drivers[0]

    def _open(self) -> BackgroundLoop:
        with self._opening:
            if self._loop is None:
                self._loop = BackgroundLoop()
                weakref.finalize(self, _shut, self._loop, self._drivers)
            return self._loop

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return self._open().call(work)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the pipeline's own loop."""
        return self._open().submit(work)

    def close(self) -> None:
        """Close connections, free the weights; safe to call twice."""
        if self._loop is not None:
            _shut(self._loop, self._drivers)
        self._loop = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer as far as it was read.

    Args:
        reading: what O made of it.
        answers: the question it was asked by, and the one that repaired it.
        probes: content-free inputs that were asked about.
    """

    reading: Reading
    answers: list[Asked]
    probes: list[Asked]

    @property
    def taken(self) -> int:
        """Which of the answers was read."""
        return len(self.answers) - 1 if self.reading.status != "unparsed" else 0


def _before(answers: Sequence[Asked]) -> Iterator[Asked]:
    """What had to be asked before answers: the chains of thought their prompts hold, the labels' prior."""
    for asked in answers:
        if asked.prompt.first is not None and asked.role != "repair":
            yield Asked("rationale", asked.prompt.first, asked.prompt.thought, None, sample=asked.sample)
        yield from asked.before


def _shut(loop: BackgroundLoop, drivers: list[Driver]) -> None:
    """Close what an open pipeline holds; it may be collected, or the interpreter be at its end."""
    while drivers:
        loop.call(drivers.pop().close())
    loop.close()
