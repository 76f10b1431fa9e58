"""The beginning that prompts share, cut into tokens once.

Cutting a prompt of eight demonstrations into tokens takes llama.cpp about 10 ms, as long as evaluating three of them,
and a run asks hundreds of prompts that differ only at their end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

LEAST = 200
"""Characters below which a shared beginning is not worth it."""

GUARD = 16
"""Characters after the cut that must be shared too: what a tokeniser merges does not reach further."""


@dataclass(frozen=True, slots=True)
class _Head:
    text: str
    guard: str
    tokens: tuple[int, ...]


class SharedPrefix:
    r"""Cuts what a prompt shares with the one before it, at a line break.

    A cut is used only once the whole prompt's tokens were seen to be those of its two parts, and only while the
    characters around it stay the same.

    Args:
        tokenize: (text, whether it begins a prompt) -> its tokens.

    >>> cut = SharedPrefix(lambda text, first: [ord(c) for c in text])
    >>> shots = "Review: dull\nSentiment: negative\n\n" * 8
    >>> len(cut.tokens(shots + "Review: a strong and moving film")[0])
    0
    >>> cut.tokens(shots + "Review: a strong and clever film")[1]
    '\n\nReview: a strong and clever film'
    """

    def __init__(self, tokenize: Callable[[str, bool], list[int]]) -> None:
        self._tokenize = tokenize
        self._last = ""
        self._head: _Head | None = None

    def tokens(self, prompt: str) -> tuple[tuple[int, ...], str]:
        """(tokens of the shared beginning, the text that is left); no tokens where there is nothing to gain."""
        head = self._head
        if head is None or not prompt.startswith(head.text + head.guard):
            head = self._head = self._shared(prompt)
        self._last = prompt
        if head is None or not head.tokens:
            return (), prompt
        return head.tokens, prompt[len(head.text) :]

    def _shared(self, prompt: str) -> _Head | None:
        common = os.path.commonprefix([self._last, prompt])  # noqa: RUF071 - by character is what is meant
        # Before the line breaks rather than after them: tokenisers that split words keep breaks with what follows.
        at = len(common[: common.rfind("\n", 0, max(0, len(common) - GUARD)) + 1].rstrip("\n"))
        if at < LEAST:
            return None
        text, rest = prompt[:at], prompt[at:]
        tokens = self._tokenize(text, True)
        agrees = tokens + self._tokenize(rest, False) == self._tokenize(prompt, True)
        return _Head(text, rest[:GUARD], tuple(tokens) if agrees else ())
