"""`plan`: what a run would ask of the model and what that would cost, without asking it anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from icl_engine.config.calibration import note
from icl_engine.config.load import Loaded, altered, build
from icl_engine.driver.cache import ANSWERS
from icl_engine.engine import dry
from icl_engine.engine.planning import Planner, Spell
from icl_engine.engine.prices import Price, price_of, usual_file
from icl_engine.engine.survey import survey
from icl_engine.errors import EndpointError, MissingExtraError, RequestError
from icl_engine.pipeline import Pipeline
from icl_engine.tokens import TokenCounter, Tokens, counter
from icl_engine.types import Request, Response, Spelling

Range = tuple[int, int]
"""At least, at most."""


OWN = ("main", "sample", "rationale", "candidate", "repair")
"""Whose questions are a row's own."""

CHOICES = "input.demonstrations.prefix"
COMPARED = 512
"""Rows over which ways to share demonstrations are compared."""


@dataclass(frozen=True)
class Choice:
    """What a way to share demonstrations costs, over the first rows.

    Args:
        rows: how many.
        prompt_tokens: of their prompts.
        cacheable_share: of these, what the prompt sent before begins with too.
        cost_usd: at least and at most; None where the price is unknown.
    """

    rows: int
    prompt_tokens: int
    cacheable_share: float
    cost_usd: tuple[float, float] | None


@dataclass(frozen=True)
class Plan:
    """What a run would ask. Where a number depends on answers that are not there yet, it is a range.

    Args:
        task: its name.
        model: its name.
        examples: rows.
        requests: to the model, equal ones counted once: those sure to be needed.
        requests_max: with those that may be needed beside them.
        roles: whose question -> how many requests; ``capability``: to find out what the endpoint can give.
        requests_per_example: without probes.
        cached: of the sure ones, those already answered: they cost nothing.
        paid: the others; what is asked about the endpoint itself stands in `roles` alone.
        prompt_tokens: of the sure ones, as near as is known.
        prompt_tokens_range: of the sure ones, at least and at most.
        prompt_tokens_max: of all, at most.
        counted_by: ``tokenizer``: the model's own; ``tiktoken``; ``estimate``.
        counted_how: the same in words.
        cacheable_share: of the prompts to be sent, what the prompt sent before begins with too; None for no prompts.
        completion_tokens: of what is to be paid for: a token each, to all that they may say.
        scored_places: tokens that are read for label scores.
        cost_usd: at least: all that can come from a prompt cache does, answers of one token; at most: nothing does, and
            every answer is as long as it may be. None where the price is unknown.
        price: the price it rests on.
        choices: for demonstrations that are chosen for each query, what the first rows cost with each way to share
            them (`prefix`); empty otherwise.
        method: how labels are read: the rung of the ladder, or ``text``.
        assumed: whether that rests on what the endpoint is hoped to give: it was not asked yet.
        warnings: what will likely go wrong.
        notes: what else to know.
    """

    task: str
    model: str
    examples: int
    requests: int
    requests_max: int
    roles: dict[str, Range]
    requests_per_example: tuple[float, float]
    cached: int
    paid: Range
    prompt_tokens: int
    prompt_tokens_range: Range
    prompt_tokens_max: int
    counted_by: str
    counted_how: str
    cacheable_share: float | None
    completion_tokens: Range
    scored_places: int
    cost_usd: tuple[float, float] | None
    price: dict[str, Any] | None
    choices: dict[str, Choice]
    method: str
    assumed: bool
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def expected(self) -> dict[str, Any]:
        """What a summary shows beside the real figures."""
        return {
            "requests": [self.requests, self.requests_max],
            "prompt_tokens": self.prompt_tokens,
            "prompt_tokens_range": list(self.prompt_tokens_range),
            "prompt_tokens_max": self.prompt_tokens_max,
            "counted_by": self.counted_by,
            "cacheable_share": self.cacheable_share,
            "completion_tokens": list(self.completion_tokens),
            "cost_usd": None if self.cost_usd is None else list(self.cost_usd),
        }

    def record(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)


def plan(loaded: Loaded, *, limit: int | None = None, cache: bool = True, tokenize: bool | None = None) -> Plan:
    """Plan a run.

    Args:
        loaded: the task.
        limit: only the first rows.
        cache: look answers up in the cache.
        tokenize: count with the model's own tokenizer: load an embedded model, ask a server for its tokens. By default
            only what needs no network.

    Raises:
        TaskError: the same mistakes that a run would find.
    """
    pipeline = build(loaded, offline=True, cache=cache)
    if not cache or pipeline.cache_folder is None or not (pipeline.cache_folder / ANSWERS).is_file():
        pipeline.cache_folder = None  # nothing is made for a plan
    limit = limit if limit is not None else loaded.task.run.limit
    with pipeline, loaded.document.placing():
        price = affordable(loaded)
        pipeline.driver.recall(pipeline.model.api)
        better = "--tokenize counts with the model's own tokenizer" if _has_tokenizer(pipeline) else ""
        tokenize = pipeline.capabilities.spelling and not pipeline.uncertain if tokenize is None else tokenize
        count, spell = _tokenizer(pipeline) if tokenize else (_counter(pipeline, better), _nothing)
        planner = Planner(pipeline, count, pipeline.driver.cache, spell)
        _learn(loaded, planner)
        survey(loaded, pipeline, limit, planner)
        found = summed(loaded, planner, price)
    return replace(found, choices=_choices(loaded, found, price, blind=pipeline.manipulator.assumed_vectors))


def _choices(loaded: Loaded, found: Plan, price: Price | None, *, blind: bool) -> dict[str, Choice]:
    """Each way to share demonstrations, planned as if nothing had been asked before."""
    prefix = getattr(loaded.task.input.demonstrations, "prefix", None)
    if prefix is None or blind:
        return {}
    rows = min(found.examples, COMPARED)
    return {way: _choice(altered(loaded, {CHOICES: way}), rows, price) for way in ("query", "shared")}


def _choice(loaded: Loaded, rows: int, price: Price | None) -> Choice:
    pipeline = build(loaded, offline=True)
    pipeline.cache_folder = None
    with pipeline, loaded.document.placing():
        planner = Planner(pipeline, _counter(pipeline, ""))
        _learn(loaded, planner)
        survey(loaded, pipeline, rows, planner)
        sums = planner.sums
        share = round(sums.again.about / sums.paid.about, 4) if sums.paid.about else 0.0
        cost = None if price is None else sums.cost(price, dry.probes(pipeline))
        return Choice(rows, round(sums.prompt.about), share, cost)


def _learn(loaded: Loaded, planner: Planner) -> None:
    first = next(loaded.test(need_target=False), None)
    if first is not None:
        planner.learn(first)
        planner.fit(first)


def affordable(loaded: Loaded) -> Price | None:
    """The price of the task's model.

    Raises:
        TaskError: it is unknown, and the run has a cap.
    """
    price = price_of(loaded.task.model)
    if price is None and loaded.task.run.max_cost_usd is not None:
        what = (
            f"cannot be kept: the price of {loaded.task.model.title} is unknown; {_give_price()}, or leave the cap out"
        )
        raise loaded.document.error(what, ("run", "max_cost_usd"))
    return price


def _give_price() -> str:
    return f"give it in {usual_file()} (see docs/concepts/plan.md)"


def _has_tokenizer(pipeline: Pipeline) -> bool:
    """Whether the endpoint shows its tokenizer, or may do so."""
    endpoint = pipeline.driver.endpoint
    return endpoint.capabilities.spelling or "spelling" in endpoint.uncertain - endpoint.capabilities.probed


def _tokenizer(pipeline: Pipeline) -> tuple[TokenCounter, Spell]:
    """The model's own tokenizer, where the endpoint has one that answers."""
    endpoint = pipeline.driver.endpoint

    def spell(request: Request) -> Response | None:
        try:
            return pipeline.submit(endpoint.send(request)).result()
        except RequestError:
            return None

    def count(text: str) -> Tokens:
        asked = Request("", Spelling((text,)), role="spelling")
        n = len(pipeline.submit(endpoint.send(asked)).result().spelt[0]) if text else 0
        return Tokens(n, n, n)

    if _has_tokenizer(pipeline):
        try:
            pipeline.submit(endpoint.check()).result()
            count("a")
        except (EndpointError, MissingExtraError, RequestError, LookupError):
            pass
        else:
            return TokenCounter(count, "tokenizer", "the model's own"), spell
    return _counter(pipeline, "the model shows no tokenizer"), _nothing


def _counter(pipeline: Pipeline, better: str) -> TokenCounter:
    """Without the model; `better` is what to know where that only estimates."""
    found = counter(pipeline.model)
    found.better = found.better or (better if found.method == "estimate" else "")
    return found


def _nothing(request: Request) -> None:
    """The tokenizer is not asked."""


def summed(loaded: Loaded, planner: Planner, price: Price | None) -> Plan:
    """The plan that a planner's sums make."""
    sums, count = planner.sums, planner.count
    probes = dry.probes(planner.pipeline)
    sure, further = sums.requests.total(), sums.further.total()
    own, more = (sum(counted[role] for role in OWN) for counted in (sums.requests, sums.further))
    each = (own / sums.rows, (own + more) / sums.rows)
    roles = {role: (n, n + sums.further[role]) for role, n in sorted(sums.requests.items())}
    share = sums.again.about / sums.paid.about if sums.paid.about else None
    cost = None if price is None else sums.cost(price, probes)
    return Plan(
        task=loaded.task.name,
        model=loaded.task.model.title,
        examples=sums.rows,
        requests=sure,
        requests_max=sure + further,
        roles={**roles, **({"capability": (0, probes)} if probes else {})},
        requests_per_example=(round(each[0], 3), round(each[1], 3)),
        cached=sums.cached,
        paid=(sums.to_pay, sums.to_pay + further),
        prompt_tokens=round(sums.prompt.about),
        prompt_tokens_range=(round(sums.prompt.low), round(sums.prompt.high)),
        prompt_tokens_max=round(sums.prompt.high + sums.more.high),
        counted_by=count.method,
        counted_how=count.how,
        cacheable_share=None if share is None else round(share, 4),
        completion_tokens=(sums.to_pay, sums.said),
        scored_places=sums.places,
        cost_usd=cost,
        price=None if price is None else price.model_dump(mode="json", exclude={"model", "provider", "host"}),
        choices={},
        method=planner.method,
        assumed=bool(probes),
        warnings=tuple(_warnings(loaded, planner, cost)),
        notes=tuple(_notes(loaded, planner, price)),
    )


def _warnings(loaded: Loaded, planner: Planner, cost: tuple[float, float] | None) -> Iterator[str]:
    sums, chain = planner.sums, planner.pipeline.chain
    yield from planner.pipeline.manipulator.overlap
    if sums.over:
        window = planner.pipeline.capabilities.context
        about = "" if planner.count.method == "tokenizer" else " (by an estimate)"
        rows = "1 prompt is" if sums.over == 1 else f"{sums.over} prompts are"
        yield f"{rows} longer than the context window of {window} tokens{about}, the first at row {sums.first_over}"
    if too_long := planner.pipeline.manipulator.left_out.get("too_long"):
        rows = "1 row is" if too_long == 1 else f"{too_long} rows are"
        yield f"{rows} longer than input.max_prompt_tokens without any demonstration, and will fail"
    yield from _beginnings(planner)
    calibrating = [chain.steps[at].use for at in chain.probing]
    if calibrating and sums.rows > 1 and 2 * sums.probing > sums.rows:
        yield (
            f"{calibrating[0]} asks its content-free inputs anew for each row's own demonstrations: "
            f"{sums.requests['probe']} of the {sums.requests.total()} requests"
        )
    cap = loaded.task.run.max_cost_usd
    if cap is not None and cost is not None and cost[1] > cap:
        yield f"the run {'will' if cost[0] > cap else 'may'} stop at run.max_cost_usd ({cap:g})"


def _beginnings(planner: Planner) -> Iterator[str]:
    """Words that begin another label's word: log p of whole sequences is never lower for the shorter one."""
    need, paths = planner.need, planner.paths
    if need.kind != "scores" or need.scores != "sequence" or need.normalization != "sum":
        return
    words = [(label, word) for label, words in need.words.items() for word in words]
    spelt = {word.strip(): path for word, path in paths.items()}
    for label, short in words:
        for other, long in words:
            if label == other or not long.startswith(short) or long == short:
                continue
            a, b = spelt.get(short), spelt.get(long)
            if b[: len(a)] == a if a and b else not long[len(short)].isalnum():
                yield (
                    f"{short!r} ({label}) begins {long!r} ({other}): by scores: sequence the shorter one always wins; "
                    "set scores: trie"
                )


def _notes(loaded: Loaded, planner: Planner, price: Price | None) -> Iterator[str]:
    sums, count = planner.sums, planner.count
    if count.better:
        yield count.better
    if price is None:
        yield f"the price of {loaded.task.model.title} is unknown; {_give_price()}"
    if planner.pipeline.manipulator.assumed_vectors:
        yield "the encoder was not asked yet, so the demonstrations are not known: tokens are those of random ones"
    if planner.unlearned:
        yield "what is asked before the first row was not answered yet: that, and prompts that rest on it, are bounds"
    chain, scored = planner.pipeline.chain, planner.method != "text"
    if told := note(loaded, chain, loaded.saved_states, scored=scored):
        yield told
    left_out = planner.pipeline.manipulator.left_out
    if left_out.get("rows"):
        dropped, rows = left_out["demonstrations"], left_out["rows"]
        yield f"{dropped} demonstrations are left out of {rows} prompts, which would be too long with them"
    if sums.images:
        yield f"{sums.images} requests show images, whose tokens are not counted"
