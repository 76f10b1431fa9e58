"""What a stand-in server's model says: a tokenizer and log-probabilities that follow from the prompt's bytes."""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BOS, TURN, FIRST = 1, 2, 1000
"""Ids: what stands before a prompt, what stands before an answer's turn, the first of ordinary tokens."""
END, OTHER = "\n", "?"
RARE = math.log(0.02 / 1000)
"""Log p of a token that is no word's."""


def scores(prompt: str, words: tuple[str, ...]) -> dict[str, float]:
    """Log p of each word, the likeliest first: a function of the prompt's bytes; 0.02 is left to other tokens."""
    digest = hashlib.sha256(prompt.encode()).digest()
    weights = {word: 1 + digest[i % 32] for i, word in enumerate(words)}
    total = sum(weights.values())
    found = {word: math.log(0.98 * w / total) for word, w in weights.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def turns_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Turns as one text; images are not seen."""
    parts = [[{"text": c}] if isinstance(c := m["content"], str) else c for m in messages]
    texts = ["".join(part.get("text", "") for part in some) for some in parts]
    return "\n".join(f"{m['role']}: {text}" for m, text in zip(messages, texts, strict=True))


@dataclass
class Tongue:
    """A tokenizer that cuts at white space, and a model over its tokens.

    Args:
        words: what the model may say; in a completion each has a space before it.
        pieces: a word, with its space -> the tokens it is cut into, where it is not one.
    """

    words: tuple[str, ...]
    pieces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=lambda: {"<s>": BOS, "<turn>": TURN})
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cut(self, text: str) -> list[str]:
        """The tokens of a text."""
        found = re.findall(r"<s>|<turn>| ?(?:(?!<turn>)\S)+|\s", text)
        return [piece for token in found for piece in self.pieces.get(token, (token,))]

    def id_of(self, token: str) -> int:
        """A token's id; new tokens get the next one."""
        with self._lock:
            return self.ids.setdefault(token, FIRST + len(self.ids))

    def encode(self, text: str) -> list[int]:
        return [self.id_of(token) for token in self.cut(text)]

    def decode(self, ids: Sequence[int]) -> list[str]:
        known = {i: token for token, i in self.ids.items()}
        return [known[i] for i in ids]

    def following(self, shown: str) -> dict[str, float]:
        """Log p of the next tokens, the likeliest first. After ``<turn>`` the words have no space before them."""
        lead = "" if "<turn>" in shown else " "
        texts = tuple(f"{lead}{word}" for word in self.words)
        parts = {text: tuple(self.cut(text)) for text in texts}
        plain = shown.removeprefix("<s>").replace("<turn>", "")
        spelt: tuple[str, ...] = ()
        for path in parts.values():
            for n in range(len(path), 0, -1):
                if plain.endswith("".join(path[:n])) and n > len(spelt):
                    spelt = path[:n]
        if spelt in parts.values():
            return {END: math.log(0.9), OTHER: math.log(0.1)}
        whole = scores(plain.removesuffix("".join(spelt)), texts)
        fits = {text: p for text, p in whole.items() if parts[text][: len(spelt)] == spelt}
        mass = sum(map(math.exp, fits.values())) if spelt else 1.0
        found = {OTHER: 1e-6} if spelt else {}
        for text, p in fits.items():
            token = parts[text][len(spelt)]
            found[token] = found.get(token, 0.0) + math.exp(p) / mass
        return {t: math.log(p) for t, p in sorted(found.items(), key=lambda pair: -pair[1])}

    def logprob(self, shown: str, token: str) -> float:
        return self.following(shown).get(token, RARE)
