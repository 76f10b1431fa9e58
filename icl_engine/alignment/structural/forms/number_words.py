"""Numbers in English words."""

from __future__ import annotations

import re

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_UNITS += [f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUE = {word: n for n, word in enumerate(_UNITS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_BEFORE = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s)?(?:(?:the\s)?(?:final\s)?answer(?:\sis|\s?[:=])|it\sis|there\sare)\s?:?\s?",
    re.IGNORECASE,
)
_LONGEST = 80


def in_words(text: str) -> int | None:
    """The number that is all a short answer says, with at most one word behind it ("twelve apples").

    "One" and "zero" need to stand alone: "one thing is sure" counts nothing.

    >>> [in_words(t) for t in ("Twelve.", "**Twenty-one** days", "One hundred and five", "no one", "two or three")]
    [12, 21, 105, None, None]
    """
    if len(text) > _LONGEST:
        return None
    bare = re.sub(r"[*_`\"$]", "", text).strip("'.!() \t\r\n").lower()
    begins = _BEFORE.match(bare)
    words = re.findall(r"[a-z]+|[^a-z\s-]", bare[begins.end() if begins else 0 :])
    known = [word in _VALUE or word in _SCALE or word in ("hundred", "and") for word in words]
    spelt = known.index(False) if False in known else len(words)
    rest = words[spelt:]
    if len(rest) > 1 or not all(map(str.isalpha, rest)) or (rest and words[:spelt] in (["one"], ["zero"])):
        return None
    return _sum(words[:spelt])


def _sum(words: list[str]) -> int | None:
    """Three hundred and five thousand: 305,000; None for words in an order that spells no number."""
    total, part, before = 0, 0, ""
    largest = max(_SCALE.values()) * 1000
    for word in words:
        if word == "and":
            if before not in ("hundred", *_SCALE):
                return None
        elif word == "hundred":
            if not 0 < part < 10:
                return None
            part *= 100
        elif word in _SCALE:
            if not part or _SCALE[word] >= largest:
                return None
            total, part, largest = total + part * _SCALE[word], 0, _SCALE[word]
        else:
            value = _VALUE[word]
            room = 100 if part and part % 100 == 0 else 10 if part % 100 >= 20 and part % 10 == 0 else 0
            if part and not 0 < value < room:
                return None
            part += value
        before = word
    return None if before in ("", "and") else total + part
