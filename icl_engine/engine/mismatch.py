"""Where a task asks something else than the run whose answers it is given, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from icl_engine import fitting
from icl_engine.alignment.chain import Chain
from icl_engine.alignment.text import quoted
from icl_engine.config.load import Loaded
from icl_engine.engine.stored import Stored
from icl_engine.errors import TaskError, bounded
from icl_engine.pipeline import Pipeline
from icl_engine.registry import resolve
from icl_engine.types import Need, Request, Role

SHOWN = 3
"""Differing keys that are named."""

WHOLE = "run the task with icl run"


def fits(loaded: Loaded, pipeline: Pipeline, stored: Stored, manifest: Mapping[str, Any]) -> None:
    """See that a task reads what is stored: text, or scores of the same labels.

    Raises:
        TaskError: it does not.
    """
    first = next(loaded.test(need_target=False), None)
    if first is None:
        return  # it is told when all rows are looked at
    need, folder, at = pipeline.need(pipeline.check(first)), stored.path.parent, pipeline.chain.scorer[0]
    if need.kind == "text":
        if not stored.texts and stored.scored:
            what = f"reads text, and {folder} holds label scores; let a verbalizer read scores, or {WHOLE}"
            raise TaskError(what, key=f"output[{at}]")
        return
    key = f"output[{at}]"
    differing = _other_words(need, chain_of(manifest))
    if differing:
        raise TaskError(f"{differing}, so the scores in {folder} are not of this; {WHOLE}", key=key)
    if need.want == "distribution" and stored.partial:
        own = pipeline.chain.weighing
        key = f"output[{own[0]}]" if own else key
        what = f"needs every label's score, and {stored.partial} answers in {folder} have only the best label's exact"
        raise TaskError(f"{what}; run the task with want: distribution in the verbalizer", key=key)


def chain_of(manifest: Mapping[str, Any]) -> Chain:
    """A run's output steps, as its manifest has them."""
    return Chain(tuple(resolve("aligner", s["use"]).model_validate(s) for s in manifest["task"]["output"]))


def _other_words(need: Need, before: Chain) -> str:
    """What of the labels' scores differs; nothing where they are the same."""
    scorer = before.scorer[1]
    if scorer is None:
        return "the run read no labels"
    old = scorer.need()
    if {label: set(words) for label, words in old.words.items()} != {y: set(ws) for y, ws in need.words.items()}:
        for label in (*need.words, *old.words):
            mine, theirs = need.words.get(label), old.words.get(label)
            if mine is None or theirs is None:
                return f"the label {quoted(label)} is {'new' if theirs is None else 'missing'}"
            if set(mine) != set(theirs):
                return f"the label {quoted(label)} has other words ({bounded(', '.join(theirs), 60)} in the run)"
    for name in ("scores", "normalization"):
        if getattr(need, name) != getattr(old, name):
            return f"{name} was {getattr(old, name)} in the run"
    return ""


def unasked(
    loaded: Loaded, pipeline: Pipeline, stored: Stored, manifest: Mapping[str, Any], request: Request
) -> TaskError:
    """What to tell of a request that the run was not asked."""
    chain, folder = pipeline.chain, stored.path.parent
    role = request.role
    if role == "spelling":
        role = _asking(pipeline)
    at: int | None = None
    what = ""
    if role == "fit" and pipeline.manipulator.learned and fitting.wanted(pipeline):
        at, what = fitting.wanted(pipeline)[0], "learns from train rows"
    elif role == "fit":
        return TaskError(
            f"the model answers before the first row, and {folder} does not hold that; {WHOLE}", key="input"
        )
    elif role == "probe":
        at = next(iter(chain.probing), chain.scorer[0])
        what = "asks about inputs without content"
    elif role == "repair":
        at, what = next(iter(chain.repairs)), "asks again where an answer cannot be read"
    elif role == "candidate":
        what = "they are chosen by the model's answers to several sets"
        return TaskError(f"{what}, and {folder} does not hold all of these; {WHOLE}", key="input.demonstrations")
    elif request.sample and chain.vote is not None:
        at, what = chain.vote[0], f"counts up to {chain.vote[1].samples} samples"
    if at is not None:
        what = f"{chain.steps[at].use} {what}, and {folder} does not hold all of these answers; {WHOLE}"
        return TaskError(what, key=f"output[{at}]")
    return TaskError(_other_prompt(loaded, pipeline, stored, manifest), key="input")


def _asking(pipeline: Pipeline) -> Role:
    """Whose question the tokenizer is asked for: what is learned first, then what rows ask beside their own."""
    if not pipeline.manipulator.learned or fitting.wanted(pipeline):
        return "fit"
    if pipeline.manipulator.asks:
        return "candidate"
    pmi = getattr(pipeline.chain.scorer[1], "normalization", "") == "pmi"
    return "probe" if pmi or pipeline.chain.probing else "main"


def _other_prompt(loaded: Loaded, pipeline: Pipeline, stored: Stored, manifest: Mapping[str, Any]) -> str:
    row = _row(loaded, pipeline, stored)
    asked = f"asks another prompt than {stored.path.parent} did{'' if row is None else f' for row {row}'}"
    found = list(islice(differences(loaded, manifest), SHOWN + 1))
    if found:
        more = ", and more" if len(found) > SHOWN else ""
        return f"{asked} ({'; '.join(found[:SHOWN])}{more}); make them the same, or {WHOLE}"
    if stored.count is None and (pipeline.max_prompt_tokens is not None or _dropped(stored)):
        return (
            f"{asked}: demonstrations were left out by the model's own count of tokens, and it is not at hand; {WHOLE}"
        )
    return f"{asked} (its data are others, or the answers are not whole); {WHOLE}"


def _row(loaded: Loaded, pipeline: Pipeline, stored: Stored) -> int | None:
    """The first row whose prompt was not asked; None where that follows from an answer."""
    for number, x in enumerate(loaded.test(need_target=False)):
        shown = pipeline.check(x).shown
        if not stored.has(shown):
            return number
    return None


def _dropped(stored: Stored) -> bool:
    """Whether the run left demonstrations out of prompts that would have been too long."""
    import orjson

    try:
        dropped = orjson.loads((stored.path.parent / "summary.json").read_bytes())["dropped"]["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(dropped)


def differences(loaded: Loaded, manifest: Mapping[str, Any]) -> Iterator[str]:
    """The keys under which a task differs from that of a run in what decides a prompt; both values."""
    mine, theirs = loaded.resolved, manifest["task"]
    if manifest.get("template") != loaded.template.source:
        yield "input.template has another text"
    without = {"template"} if manifest.get("template") == loaded.template.source else set()
    for part in ("input", "data"):
        ours = {k: v for k, v in mine.get(part, {}).items() if k not in without}
        yield from _differing(ours, {k: v for k, v in theirs.get(part, {}).items() if k not in without}, part)


def _differing(mine: Any, theirs: Any, at: str) -> Iterator[str]:
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys((*mine, *theirs)):
            yield from _differing(mine.get(key), theirs.get(key), f"{at}.{key}")
    elif mine != theirs:
        yield f"{at} differs: {quoted(theirs)} there, {quoted(mine)} here"
