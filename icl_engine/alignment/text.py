"""How any value is written and compared as text: the `write` and `canon` of readers that know no labels."""

from __future__ import annotations

import json
from typing import Any


def text_of(value: Any) -> str:
    """A value as text: strings as they are, all else as JSON, so that 1 equals "1" and true equals "true".

    >>> [text_of(v) for v in ("a ", 1, True, None, [1, "b"])]
    ['a ', '1', 'true', 'null', '[1, "b"]']
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def canon_text(value: Any) -> str:
    r"""What free-text answers are compared as: their text without outer white space.

    >>> canon_text(" 12 \n") == canon_text(12)
    True
    """
    return text_of(value).strip()
