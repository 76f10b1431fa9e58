"""Answers by shape: what is left of a text once its words and numbers are only that."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from icl_engine.alignment.text import quoted
from icl_engine.errors import bounded

MOST = 10_000
"""Shapes that are told apart; further ones are counted together."""

OTHERS = "(others)"

REASONS = 16
"""Reasons that are told apart for a shape."""

ENDS = 300
"""Characters at either end of a text that its shape is made of."""

SHOWN = (9, 5)
"""Parts of a shape that are shown, from its beginning and from its end."""

OF_LONG = (2, 4)
"""The same of a long answer: what its prose is made of tells little."""

LONG = (200, 2000)
"""Characters from which an answer is long, and very long."""

PIECE = re.compile(
    r"(?P<number>\d[\d.,]*)|(?P<word>[^\W\d_]+)|(?P<line>\n\s*)|(?P<space>\s+)|(?P<mark>(.)\6*)", re.DOTALL
)
"""A number, a word, the end of a line, white space, or a sign and its repetitions."""

PROSE = frozenset(",;'’-–—_")
"""Signs between words that no reader looks at."""

REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am) (?:sorry|unable|not able|afraid)\b"
    r"|i (?:cannot|can['’]?t|can not|won['’]?t|do not|don['’]?t)\b"
    r"|(?:sorry|unfortunately|apologies|as an ai)\b)",
    re.IGNORECASE,
)
"""Beginnings of answers that refuse, or say that they do not know."""


def shape(text: str, *, cut: bool = False) -> str:
    r"""The shape of an answer: `9` for numbers, `A` for a capital letter alone, `word`, `words`, `text` for runs of
    words by their number, signs as they stand, `⏎` for the end of a line.

    Args:
        text: what was said.
        cut: whether it was cut off at max_tokens.

    >>> shape("The total is $1,200."), shape("**B**"), shape("(a) red\n(b) green"), shape("")
    ('words $9.', '**A**', '(word) word⏎(word) word', 'empty')
    >>> shape("I cannot help with that.")
    'words. · a refusal'
    """
    stripped = text.strip()
    if not stripped:
        return "empty" + (" · cut off at max_tokens" if cut else "")
    parts = _parts(stripped)
    head, tail = SHOWN if len(stripped) < LONG[0] else OF_LONG
    if len(parts) > head + tail:
        parts = [*parts[:head], "…", *parts[-tail:]]
    notes = []
    if REFUSAL.match(stripped[:ENDS]):
        notes.append("a refusal")
    size = sum(len(stripped) >= limit for limit in LONG)
    notes += [("long", "very long")[size - 1]] if size else []
    notes += ["cut off at max_tokens"] if cut else []
    return " · ".join(("".join(parts).strip() or "white space", *notes))


def _parts(text: str) -> list[str]:
    """The pieces of a text's two ends, runs of words as one."""
    if len(text) <= 2 * ENDS:
        return _pieces(text)
    return [*_pieces(text[:ENDS]), "…", *_pieces(text[-ENDS:])]


def _pieces(text: str) -> list[str]:
    found: list[str] = []
    run: list[str] = []
    gap = ""

    def close() -> None:
        nonlocal gap
        if run:
            found.append(_words(run))
            run.clear()
        if gap:
            found.append(gap)
            gap = ""

    for match in PIECE.finditer(text):
        piece, kind = match[0], match.lastgroup
        if kind == "word":
            if gap and not run:
                close()
            gap = ""
            run.append(piece)
        elif kind == "space" or (run and piece in PROSE):
            gap = " " if kind == "space" or gap == " " else gap
        else:
            close()
            tail = "." if kind == "number" and piece[-1] in ".," and match.end() == len(text) else ""
            found.append("⏎" if kind == "line" else f"9{tail}" if kind == "number" else _mark(piece))
    close()
    return [part for i, part in enumerate(found) if part != " " or 0 < i < len(found) - 1]


def _mark(piece: str) -> str:
    """A sign, its repetitions up to three; what is no sign on a page by its category."""
    shown = piece[0] if piece[0].isprintable() else f"<{unicodedata.category(piece[0])}>"
    return shown * min(3, len(piece))


def _words(run: list[str]) -> str:
    if len(run) == 1 and len(run[0]) == 1 and run[0].isupper() and run[0].isascii():
        return "A"
    name = "word" if len(run) == 1 else "words" if len(run) <= 5 else "text"
    script = unicodedata.name(run[0][0], "UNKNOWN").split()[0].lower()
    return name if script == "latin" else f"{name}[{script}]"


@dataclass
class Shape:
    """Answers of one shape.

    Args:
        name: the shape.
        count: how many.
        reasons: what the last step that looked said, and how often.
        examples: (id of the row, its text in few characters) of the first.
    """

    name: str
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int | str, str]] = field(default_factory=list)


@dataclass
class Shapes:
    """Counts answers by shape, in bounded memory.

    Args:
        examples: how many are kept of each shape.
    """

    examples: int = 2
    _found: dict[str, Shape] = field(default_factory=dict)

    def add(self, row: int | str, text: str, reason: str, *, cut: bool = False) -> None:
        """Count an answer."""
        name = shape(text, cut=cut)
        if name not in self._found and len(self._found) >= MOST:
            name = OTHERS
        found = self._found.setdefault(name, Shape(name))
        found.count += 1
        if reason in found.reasons or len(found.reasons) < REASONS:
            found.reasons[reason] += 1
        if len(found.examples) < self.examples:
            found.examples.append((row, quoted(text)))

    def ranked(self) -> list[Shape]:
        """The shapes, the commonest first."""
        return sorted(self._found.values(), key=lambda s: -s.count)


def reason(trace: list[str]) -> str:
    """Why an answer could not be read: the last line of its trace, without the text that it quotes.

    >>> reason(["after: 'Answer:', of 'Answer: many'", "number: no number, in 'many'"])
    'number: no number'
    """
    last = trace[-1] if trace else ""
    return bounded(re.split(r", in ['\"]", last, maxsplit=1)[0], 120)
