"""How many tokens a prompt has, without a network: by tiktoken where it has the model's file at hand, else estimated.

An estimate rests on pieces rather than on characters, and says its range. The rates were measured with the tokenizers
of GPT-4 (100k tokens), Gemma 3 (262k) and SmolLM2 (49k) over English tasks, code, JSON, and a dozen other languages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from icl_engine.protocols import Model
from icl_engine.types import Message

TURN, REPLY = 4, 3
"""Tokens of a turn's own marks, and of the mark where the answer begins (OpenAI's format; others differ little)."""

LEAST = 200
"""Characters below which what prompts share is not counted once for all."""

LONG = 6
"""Letters of a word that are one token in English."""

CLASSES = {
    "word": (re.compile(r"[A-Za-z]+"), (1.0, 1.1, 1.35)),
    "letters beyond the first six": (re.compile(rf"(?<=[A-Za-z]{{{LONG}}})[A-Za-z]"), (0.02, 0.1, 0.4)),
    "digit": (re.compile(r"[0-9]"), (0.34, 0.85, 1.3)),
    "sign": (re.compile(r"[!-/:-@\[-`{-~]"), (0.55, 0.8, 1.0)),
    "line break": (re.compile(r"\n+"), (0.0, 0.5, 1.0)),
    "accented letter": (re.compile(r"[\u0080-\u024f]"), (0.0, 1.5, 6.0)),
    "any other character": (re.compile(r"[^\x00-\u024f\s]"), (0.2, 0.9, 3.0)),
}
"""What a text is made of, each with its tokens: the least, usually, the most."""

Method = Literal["tokenizer", "tiktoken", "estimate"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of tokens: at least, about, at most; all the same where it is exact."""

    low: float = 0.0
    about: float = 0.0
    high: float = 0.0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.low + other.low, self.about + other.about, self.high + other.high)

    def __mul__(self, times: float) -> Tokens:
        return Tokens(self.low * times, self.about * times, self.high * times)


def estimate(text: str) -> Tokens:
    """About how many tokens a text has.

    >>> t = estimate("Review: a gripping, funny film. Sentiment:")
    >>> t.low <= 10 <= t.high, round(t.about)
    (True, 10)
    """
    counted = [(len(pattern.findall(text)), rates) for pattern, rates in CLASSES.values()]
    low, about, high = (sum(n * rates[i] for n, rates in counted) for i in range(3))
    return Tokens(low, about, high)


class TokenCounter:
    """Counts the tokens of prompts; what prompts share is counted once.

    Args:
        count: counts a text.
        method: how; ``estimate`` gives a range.
        how: the same in words.
        better: how to count more exactly.
    """

    def __init__(self, count: Callable[[str], Tokens], method: Method, how: str, better: str = "") -> None:
        self.method, self.how, self.better = method, how, better
        self._count = count
        self._last = self._head = ""
        self._counted = Tokens()

    def __call__(self, prompt: str | Sequence[Message]) -> Tokens:
        """The tokens of a text, or of turns with their marks. Images are not counted."""
        if isinstance(prompt, str):
            return self._prompt(prompt)
        text = "\n".join(part for message in prompt for part in message.parts if isinstance(part, str))
        marks = TURN * len(prompt) + REPLY
        return self._prompt(text) + Tokens(marks, marks, marks)

    def text(self, text: str) -> Tokens:
        """The tokens of a text that is no prompt."""
        return self._count(text)

    def _prompt(self, text: str) -> Tokens:
        if not (self._head and text.startswith(self._head)):
            self._renew(text)
        self._last = text
        return self._counted + self._count(text[len(self._head) :])

    def _renew(self, text: str) -> None:
        """Cut off what the text shares with the one before, at a line break, where that changes no count."""
        at = len(text[: text.rfind("\n", 0, shared(self._last, text)) + 1].rstrip("\n"))
        self._head, self._counted = "", Tokens()
        if at >= LEAST:
            head, whole = self._count(text[:at]), self._count(text)
            if round((head + self._count(text[at:])).about, 6) == round(whole.about, 6):
                self._head, self._counted = text[:at], head


def shared(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning.

    >>> shared("abcd", "abd")
    2
    """
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def counter(model: Model) -> TokenCounter:
    """How the tokens of a model's prompts are counted, nothing asked and nothing downloaded."""
    found = _tiktoken(model.title)
    if isinstance(found, str):
        return TokenCounter(estimate, "estimate", "by the kinds of characters", found)

    def count(text: str) -> Tokens:
        n = len(found.encode(text, disallowed_special=()))
        return Tokens(n, n, n)

    return TokenCounter(count, "tiktoken", f"tiktoken's {found.name}")


def _tiktoken(name: str) -> Any:
    """The model's encoding, if its file is on this machine; else how to get it, if there is one."""
    try:
        tiktoken, loader = import_module("tiktoken"), import_module("tiktoken.load")
        encoding = import_module("tiktoken.model").encoding_name_for_model(name)
    except (ImportError, KeyError):
        return ""
    try:
        with _offline(loader):
            return tiktoken.get_encoding(encoding)
    except Exception:  # no file, half a file, no room for one: whatever tiktoken makes of it
        fetch = f"python -c \"import tiktoken; tiktoken.get_encoding('{encoding}')\""
        return f"tiktoken counts these tokens exactly, once it has its file: {fetch}"


@contextmanager
def _offline(loader: Any) -> Iterator[None]:
    """tiktoken downloads a file that it has not kept, for as long as that takes: a plan asks nobody."""
    read = loader.read_file

    def refuse(path: str) -> bytes:
        if "://" in path:
            raise OSError("a plan downloads nothing")
        return bytes(read(path))

    loader.read_file = refuse
    try:
        yield
    finally:
        loader.read_file = read
