"""`input.cot`: a chain of thought before the answer. Exemplars that have rationales need none of it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from icl_engine.errors import TemplateError
from icl_engine.manipulation.encode import AnyEncoder
from icl_engine.protocols import ChainOfThought, Steps
from icl_engine.types import Generate, Message, Prompt, Request, Role, Sampling

CUE, THEN = "Let's think step by step.", "Therefore, the answer is"


class ZeroShot(ChainOfThought):
    r"""The cue stands where the answer would, and the model goes on from there (Kojima et al. 2022).

    With `then` it is asked a second time, behind its own chain of thought, and only that answer is read (or scored).
    Without, one call says both, and a step of `output` finds the answer in it.

    Args:
        cue: what begins the chain of thought.
        then: what asks for the answer behind it, in a second call; null for one call.
        max_tokens: of the chain of thought in the first of two calls; by default `model.max_tokens`, which is that of
            the answer.

    >>> led(Prompt("Q: How many is 2 + 2?\nA:", None, " "), ZeroShot().cue).text
    "Q: How many is 2 + 2?\nA: Let's think step by step."
    """

    use: Literal["zero_shot"] = "zero_shot"
    cue: str = CUE
    then: str | None = None


class Bootstrap(ChainOfThought):
    """Demonstrations show chains of thought by which the model itself came to the right answer (Zelikman et al. 2022).

    `rows` train rows, drawn by seed, are asked zero-shot in two calls; those answered as their target says, with their
    chains, are the pool that `input.demonstrations` chooses from. Queries get the cue and one call.

    Args:
        cue: what begins a chain of thought.
        then: what stands between it and the answer.
        max_tokens: of a chain of thought that is asked for a demonstration; by default `model.max_tokens`.
        rows: how many train rows are asked.
    """

    use: Literal["bootstrap"] = "bootstrap"
    solves: ClassVar[bool] = True
    cue: str = CUE
    then: str = THEN
    rows: int = Field(default=32, ge=1)


class Auto(ChainOfThought):
    """Auto-CoT (Zhang et al. 2022): one demonstration from each of `k` clusters of train rows, solved by the model.

    In each cluster the rows nearest its centre are asked zero-shot in two calls, one after the other, until one is
    simple: at most `words` words in the row, and a chain of at most `steps` steps. Targets are not looked at: the
    model's own answer is shown, right or wrong. `input.demonstrations` stays empty; queries get the cue and one call.

    Args:
        cue: what begins a chain of thought.
        then: what stands between it and the answer.
        max_tokens: of a chain of thought that is asked for a demonstration; by default `model.max_tokens`.
        k: how many demonstrations.
        encoder: what makes vectors of texts: ``tfidf``, the name or path of a sentence-transformers model, or a
            mapping with ``use``.
        words: the most words of a row that is shown.
        steps: the most steps (lines; of a single line, sentences) of a chain that is shown.
        tries: how many rows of a cluster are asked before it goes without.
        seed: of the clusters; by default `run.seed`.
    """

    use: Literal["auto"] = "auto"
    solves: ClassVar[bool] = True
    cue: str = CUE
    then: str = THEN
    k: int = Field(default=8, ge=1)
    encoder: AnyEncoder = Field(default="tfidf", validate_default=True)
    words: int = Field(default=60, ge=1)
    steps: int = Field(default=5, ge=1)
    tries: int = Field(default=4, ge=1)
    seed: int | None = None


def led(prompt: Prompt, cue: str) -> Prompt:
    """The prompt with the cue where its answer would begin.

    Raises:
        TemplateError: text follows the answer.
    """
    if prompt.after.strip():
        raise TemplateError(
            "text after the answer mark (a cloze) leaves no room for a chain of thought", key="input.cot"
        )
    if prompt.text is not None:
        return replace(prompt, text=f"{prompt.text}{prompt.lead}{cue}".rstrip(), lead=" ")
    *before, last = prompt.messages or ()
    said = f"{prompt.lead}{cue}".rstrip()
    content = last.content + said if isinstance(last.content, str) else (*last.content, said)
    return replace(prompt, messages=(*before, replace(last, content=content)), lead=" ")


def concluded(prompt: Prompt, thought: str, then: str) -> Prompt:
    """The prompt that asks for the answer behind a chain of thought."""
    if prompt.text is not None:
        text = f"{prompt.text}{_apart(thought)}"
        return replace(prompt, text=f"{text} {then}".rstrip(), lead=" ", thought=thought, first=prompt)
    turns = (*(prompt.messages or ()), Message("assistant", thought.strip() or "…"), Message("user", then))
    return replace(prompt, messages=turns, lead=" ", thought=thought, first=prompt)


def _apart(thought: str) -> str:
    """A chain of thought as it follows the cue: as said, but for white space at its end."""
    return thought.rstrip()


def two_calls(prompt: Prompt, then: str, sampling: Sampling, role: Role, sample: int = 0) -> Steps[Prompt]:
    """Ask for the chain of thought that a prompt leads to; the prompt that asks for the answer behind it."""
    (said,) = yield [Request(prompt.shown, Generate(sampling), sample, role)]
    return concluded(prompt, said.text, then)
