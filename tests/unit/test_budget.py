"""How long a prompt may be: what is left out, and that nothing is ever cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.errors import RequestError
from icl_engine.manipulation.budget import Budget
from icl_engine.manipulation.few_shot import FewShot
from icl_engine.manipulation.retrieve.tfidf import TfIdf
from icl_engine.manipulation.template import Template
from icl_engine.protocols import Steps
from icl_engine.tokens import TokenCounter, Tokens
from icl_engine.types import Example, Prompt, Reading, Role

WORDS = ["film", "plot", "star", "good", "bad", "long", "short", "dull"]
rows = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), min_size=4, max_size=12)


def words(text: str) -> Tokens:
    """A tokenizer that counts words."""
    n = float(len(text.split()))
    return Tokens(n, n, n)


def budget(cap: int | None, window: int | None = None, exact: Callable[[str], int] | None = None) -> Budget:
    return Budget(cap, lambda: window, TokenCounter(words, "tokenizer", "words"), exact)


def few_shot(texts: list[str], cap: int | None, *, k: int = 4, window: int | None = None) -> FewShot:
    pool = [Example(i, {"t": t}, "xy"[i % 2]) for i, t in enumerate(dict.fromkeys(texts))]
    retriever = TfIdf(k=min(k, len(pool)))
    bare = FewShot(Template("Text: {{ t }}\nLabel: {{ answer }}"), str, instruction="Judge.", retriever=retriever)
    return replace(bare, state=retriever.fit(pool, bare.view, 0)).within(budget(cap, window))


def unasked(prompt: Prompt, role: Role, said: str) -> Steps[Reading]:
    yield ()
    raise AssertionError("nothing is to be asked")


def count(prompt: Prompt) -> int:
    return int(words(prompt.text or "\n".join(m.text for m in prompt.messages or ())).high)


@given(rows, st.sampled_from(WORDS), st.integers(8, 80), st.booleans())
def test_prompts_fit_and_the_least_similar_are_left_out(texts: list[str], query: str, cap: int, chat: bool) -> None:
    x = Example("q", {"t": query})
    manipulator = few_shot(texts, cap)
    prompt = manipulator.fitting(x, manipulator.select(x), chat)
    everything = manipulator.select(x)
    kept = [d.example.id for d in prompt.demonstrations]
    assert sorted(map(str, (*kept, *(d.example.id for d in prompt.dropped)))) == sorted(
        str(d.example.id) for d in everything
    )
    assert set(kept) == {d.example.id for d in everything[: len(kept)]}  # the best of them
    assert prompt.dropped == everything[len(kept) :]
    assert manipulator.budget is not None
    whole = manipulator.render(x, manipulator._arranged(everything[: len(kept)]), chat)
    assert (prompt.text, prompt.messages) == (whole.text, whole.messages)  # whole demonstrations, the query uncut
    assert manipulator.budget.fits(prompt) or not kept
    if prompt.dropped:
        more = manipulator.render(x, everything[: len(kept) + 1], chat)
        assert not manipulator.budget.fits(more)


def test_without_a_cap_all_are_shown() -> None:
    manipulator = few_shot(WORDS, None)
    prompt = manipulator.fitting(Example("q", {"t": "film"}), manipulator.select(Example("q", {"t": "film"})), False)
    assert (len(prompt.demonstrations), prompt.dropped) == (4, ())


def test_the_window_counts_like_a_cap() -> None:
    x = Example("q", {"t": "a rather long text about a film"})
    few, cap = few_shot(WORDS, None, window=16), few_shot(WORDS, 16)
    prompts = [m.fitting(x, m.select(x), False) for m in (few, cap)]
    assert prompts[0] == prompts[1]
    assert prompts[0].dropped


def test_a_row_too_long_for_the_cap_alone_is_not_sent() -> None:
    x = Example("q", {"t": " ".join(WORDS * 3)})
    steps = few_shot(WORDS, 12).prompt(x, False, unasked)
    assert next(steps) == ()
    with pytest.raises(RequestError, match=r"up to 27 tokens without any demonstration, input.max_prompt_tokens is 12"):
        steps.send(())


def test_a_row_too_long_for_the_window_is_for_the_endpoint_to_refuse() -> None:
    x = Example("q", {"t": " ".join(WORDS * 3)})
    with pytest.raises(StopIteration) as done:
        next(few_shot(WORDS, None, window=12).prompt(x, False, unasked))
    assert done.value.value.demonstrations == ()
    assert len(done.value.value.dropped) == 4


def test_an_estimate_counts_with_its_upper_end_and_the_models_tokenizer_decides() -> None:
    def estimate(text: str) -> Tokens:
        return Tokens(words(text).low, words(text).about, 2 * words(text).high)

    asked: list[str] = []

    def exact(text: str) -> int:
        asked.append(text)
        return len(text.split())

    rough = TokenCounter(estimate, "estimate", "words")
    prompt = Prompt("one two three four", None)
    assert not Budget(5, lambda: None, rough).fits(prompt)
    assert Budget(5, lambda: None, rough, exact).fits(prompt)
    assert asked == ["one two three four"]
    assert Budget(30, lambda: None, rough, exact).fits(prompt)  # fewer bytes than tokens allowed
    assert not Budget(3, lambda: None, rough, exact).fits(prompt)  # even its lower end is too much
    assert len(asked) == 1


def test_what_was_left_out_is_counted() -> None:
    manipulator = few_shot(WORDS, 16)
    for text in ("film", "a rather long text about a film and its plot"):
        with pytest.raises(StopIteration):
            next(manipulator.prompt(Example("q", {"t": text}), False, unasked))
    assert manipulator.left_out["rows"] == 2
    assert 2 < manipulator.left_out["demonstrations"] <= 8
