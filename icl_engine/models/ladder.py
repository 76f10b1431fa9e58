"""The label-score ladder: one log p(label | prompt) for every endpoint, by the cheapest rung that is exact enough.

1. exact log-probabilities of named tokens, or a wide top-k; 2. the top-k of the next token; both one request for labels
of one token. 3. For longer labels a trie over their words (`trie.py`), asked best first until no bound reaches the
best label. 4. Log-probabilities of a given continuation, where nothing cheaper is exact, and for a cloze.
5. Generation constrained to the words, where only the best label is wanted. 6. Samples, counted as votes.

A figure the endpoint left out is never taken for zero: the ladder goes on to the next rung.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache

from icl_engine.errors import NoLogprobsError, RequestError, TaskError
from icl_engine.models.question import Question
from icl_engine.models.saying import by_constraint, by_votes
from icl_engine.models.search import by_continuation, by_names, by_top
from icl_engine.models.trie import AmbiguousError
from icl_engine.protocols import Steps
from icl_engine.types import Capabilities, LabelScores, Need, Prompt, Role, Sampling

log = logging.getLogger("icl_engine")

Rung = Callable[[Question], Steps[LabelScores]]


def label_scores(
    prompt: Prompt,
    need: Need,
    can: Capabilities,
    *,
    role: Role = "main",
    sampling: Sampling | None = None,
    prior: Mapping[str, float] | None = None,
) -> Steps[LabelScores]:
    """Ask for the log-probabilities of the need's labels after the prompt.

    log p(y) = log Σ_{w ∈ v(y)} p(w | prompt), nats. For a cloze, w runs to the end of its sentence.

    Args:
        prompt: what the model is shown.
        need: the labels and their words.
        can: what the endpoint can give.
        role: whose question it is.
        sampling: how answers are drawn where nothing but text can be had.
        prior: log p of the labels after a content-free input, which is taken off (PMI, Holtzman et al. 2021).

    Raises:
        RequestError: no rung gave an answer.
        TaskError: two labels cannot be told from each other by anything the endpoint gives.
    """
    question = Question(prompt, need, can, role, sampling or Sampling(), prior or {})
    reason: RequestError | TaskError | None = None
    for rung in _rungs(need, can, cloze=question.cloze):
        try:
            return (yield from rung(question))
        except NoLogprobsError as error:
            _note(f"{error}; label scores go on to the next way to read them")
            reason = reason or error
        except AmbiguousError as error:
            reason = _ambiguous(error)
    raise reason or TaskError("the model gives nothing that labels could be read from by scores; set read: text")


@cache
def _note(what: str) -> None:
    """Say once what an endpoint that was probed no longer gives."""
    log.warning("%s", what)


def rung(need: Need, can: Capabilities, *, cloze: bool = False) -> str:
    """The rung that label scores begin at: ``named``, ``top_k``, ``continuation``, ``constrained`` or ``votes``.

    >>> rung(Need("scores", {"a": ("x",), "b": ("y",)}), Capabilities(top_logprobs=20))
    'top_k'
    """
    rungs = _rungs(need, can, cloze=cloze)
    return _NAMES[rungs[0]] if rungs else "text"


def _rungs(need: Need, can: Capabilities, *, cloze: bool) -> list[Rung]:
    rungs: list[Rung] = []
    if can.named and can.spelling and not cloze:
        rungs.append(by_names)
    if can.top_logprobs and not cloze:
        rungs.append(by_top)
    if can.continuation:
        rungs.append(by_continuation)
    shaped = can.choice or can.schema
    if shaped and need.want == "argmax" and not cloze:
        rungs.append(by_constraint)
    if (shaped or can.samples) and need.read is not None and not cloze:
        rungs.append(by_votes)
    return rungs


def _ambiguous(error: AmbiguousError) -> TaskError:
    first, second = error.labels[:2]
    return TaskError(
        f"labels {first!r} and {second!r} begin with the same token {error.token!r}, and the model can be asked only "
        "for the token after the prompt; choose words that differ, or set read: text",
        key="output",
    )


_NAMES: Mapping[Rung, str] = {
    by_names: "named",
    by_top: "top_k",
    by_continuation: "continuation",
    by_constraint: "constrained",
    by_votes: "votes",
}
