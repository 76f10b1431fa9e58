"""The shared beginning of prompts: never other tokens than those of the whole prompt."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.models.prefix import GUARD, LEAST, SharedPrefix

Tokenize = Callable[[str, bool], list[int]]
SHOTS = "Review: dull\nSentiment: negative\n\n" * 8


def numbered(pieces: list[str], first: bool) -> list[int]:
    return ([-1] if first else []) + [hash(piece) for piece in pieces]


def by_word(text: str, first: bool) -> list[int]:
    """Line breaks stick to the word that follows, as in GPT-2's tokeniser."""
    return numbered(re.findall(r"\s*\S+|\s+$", text), first)


def by_pair(text: str, first: bool) -> list[int]:
    """Two characters a token from the left: no cut at an odd place is safe."""
    return numbered([text[i : i + 2] for i in range(0, len(text), 2)], first)


def by_line_pair(text: str, first: bool) -> list[int]:
    """A line break is swallowed by the word before it: a cut before line breaks is never safe."""
    return numbered(re.findall(r"\S+\n*| +|\n+", text), first)


@pytest.mark.parametrize("tokenize", [by_word, by_pair, by_line_pair])
@given(queries=st.lists(st.text(alphabet="ab \n.", max_size=60), min_size=2, max_size=6))
def test_the_parts_tokens_are_the_wholes(tokenize: Tokenize, queries: list[str]) -> None:
    cut = SharedPrefix(tokenize)
    for query in queries:
        prompt = f"{SHOTS}Review: a strong {query}\nSentiment:"
        head, rest = cut.tokens(prompt)
        whole = [*head, *tokenize(rest, False)] if head else tokenize(rest, True)
        assert whole == tokenize(prompt, True)


def test_a_shared_beginning_is_cut_once() -> None:
    asked: list[str] = []

    def tokenize(text: str, first: bool) -> list[int]:
        asked.append(text)
        return by_word(text, first)

    cut = SharedPrefix(tokenize)
    rests = [cut.tokens(f"{SHOTS}Review: the film of year {i}\nSentiment:") for i in range(5)]
    assert [bool(head) for head, _ in rests] == [False, True, True, True, True]
    assert rests[-1][1] == "\n\nReview: the film of year 4\nSentiment:"
    assert len(asked) == 3


def test_a_cut_that_changes_tokens_is_not_used_and_not_tried_again() -> None:
    asked: list[str] = []

    def tokenize(text: str, first: bool) -> list[int]:
        asked.append(text)
        return by_line_pair(text, first)

    cut = SharedPrefix(tokenize)
    for i in range(5):
        prompt = f"{SHOTS}Review: the film of year {i}\nSentiment:"
        assert cut.tokens(prompt) == ((), prompt)
    assert len(asked) == 3


def test_prompts_that_share_little_are_sent_as_they_are() -> None:
    cut = SharedPrefix(by_word)
    for text in ("a" * LEAST, "b" * LEAST, "short\n" + "c" * GUARD, "short\n" + "c" * GUARD):
        assert cut.tokens(text) == ((), text)
