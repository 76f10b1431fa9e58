"""What a chain of thought is made of."""

from __future__ import annotations

import re

SENTENCE = re.compile(r"(?<=[.!?])\s+")
"""What stands between two sentences."""


def steps(text: str) -> int:
    r"""How many steps a chain of thought has: its lines that are not blank; of a single line, its sentences.

    >>> steps("She had 5. She ate 2."), steps("5 - 2 = 3\n\n3 + 1 = 4\n4 + 1 = 5"), steps(" ")
    (2, 3, 0)
    """
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) if len(lines) != 1 else len(SENTENCE.split(lines[0].strip()))
