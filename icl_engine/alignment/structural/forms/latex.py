r"""What readers know of LaTeX: the content of ``\boxed{…}``, and formulas of numbers as plain text."""

from __future__ import annotations

import re
import unicodedata

_BOX = re.compile(r"\\f?box(?:ed)?\s{0,4}\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def boxes(text: str) -> list[str]:
    r"""The contents of the outermost ``\boxed{…}`` of a text, in order; one that is not closed is none.

    >>> boxes(r"Not $\boxed{3}$ but $\boxed{\frac{1}{2}}$, \boxed{")
    ['3', '\\frac{1}{2}']
    """
    starts = {match.end() for match in _BOX.finditer(text)}
    if not starts:
        return []
    found, depth, begun = [], 0, -1
    for brace in _BRACE.finditer(text):
        if begun < 0:  # a backslash may be escaped itself, so what opens a box is known by its brace alone
            if brace.end() in starts:
                begun, depth = brace.end(), 1
        elif brace[0] in "{}":
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                found.append(text[begun : brace.start()])
                begun = -1
    return found


_NUMERIC = r"[-+\u2212]?[\d.,]{1,400}"
_FRACTION = re.compile(
    rf"\\[dtc]?frac\s{{0,4}}(?:\{{\s{{0,4}}({_NUMERIC})\s{{0,4}}\}}|(\d))\s{{0,4}}(?:\{{\s{{0,4}}({_NUMERIC})\s{{0,4}}\}}|(\d))"
)
_SPACE = re.compile(r"\\(?:(?:qquad|quad|left|right|displaystyle|thinspace)(?![A-Za-z])|[,;:! ()\[\]])")
_WORDS = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|textit|boldsymbol|bold|operatorname|mbox|textrm|emph)\s{0,4}\{([^{}]{0,400})\}"
)
_DEGREE = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])")
_SIGNS = {"{,}": ",", "{.}": ".", "\\$": "$", "\\%": "%", "\\times": "×", "\\cdot": "·", "\\div": "÷", "\\approx": "≈"}
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))


def plain(text: str) -> str:
    r"""The numbers of a text without their LaTeX: spaces, signs, units and fractions as one would type them.

    >>> plain(r"1{,}000\text{ km}, 1\,000, -\dfrac{3}{4}, 1\frac12, 3.2 \times 10^{5}, 30^\circ")
    '1,000 km, 1\u2009000, -3/4, 1 1/2, 3.2 × 10^{5}, 30°'
    """
    if "\\" not in text and "{" not in text:
        return text
    text = _DEGREE.sub("°", text)
    text = _SIGN.sub(lambda match: _SIGNS[match[0]], text)
    text = _WORDS.sub(r"\1", text)
    text = _FRACTION.sub(_over, text)
    return _SPACE.sub(lambda match: "" if match[0] == "\\!" else "\u2009" if match[0] == "\\," else " ", text)


def _over(match: re.Match[str]) -> str:
    """A fraction as 3/4, with a space before it where a whole number stands there."""
    above, below = match[1] or match[2], match[3] or match[4]
    mixed = match.start() > 0 and match.string[match.start() - 1].isdigit()
    return f"{' ' if mixed else ''}{above}/{below}"


_MARKS = {"\u2044": "/", "\u066b": ".", "\u066c": ",", "\u066a": "%", "\ufe69": "$"}


def ascii_digits(text: str) -> str:
    """Digits of every script, full-width marks and vulgar fractions as ASCII; all else stays, superscripts too.

    >>> ascii_digits("１２．５, ١٢٫٥, 1½, 10²")
    '12.5, 12.5, 1 1/2, 10²'
    """
    if text.isascii():
        return text
    table: dict[int, str] = {}
    for mark in set(text):
        if mark.isascii():
            continue
        if mark.isdecimal():
            table[ord(mark)] = str(unicodedata.decimal(mark))
        elif "\uff01" <= mark <= "\uff5e":
            table[ord(mark)] = chr(ord(mark) - 0xFEE0)
        elif mark in _MARKS:
            table[ord(mark)] = _MARKS[mark]
        elif unicodedata.decomposition(mark).startswith("<fraction>"):
            spelt = unicodedata.normalize("NFKC", mark).replace("\u2044", "/")
            if not spelt.endswith("/"):
                table[ord(mark)] = f" {spelt}"
    return text.translate(table) if table else text
