"""Answers as labels: texts that are counted, and told in tables."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

LONGEST = 120
"""Characters of a label in a table."""

OTHERS = "(others)"
"""What labels beyond those that a table keeps are counted under."""


def label_of(value: Any) -> str:
    """A value as a label: strings as they are, all else as JSON, as distributions name their labels.

    >>> [label_of(v) for v in ("a", 1, True, ["b"])]
    ['a', '1', 'true', '["b"]']
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def short_label(value: Any) -> str:
    """The same in at most `LONGEST` characters; two that differ stay two.

    >>> short_label("a"), len(short_label("a" * 999)), short_label("a" * 999) == short_label("a" * 998)
    ('a', 120, False)
    """
    label = label_of(value)
    if len(label) <= LONGEST:
        return label
    digest = blake2b(label.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{label[: LONGEST - 11]}… {digest:>9}"
