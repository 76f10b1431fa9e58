r"""How answers are phrased: which part of a text is the answer's, and what in it is denied, asked or only supposed.

Every pattern has bounded gaps, so that hostile text costs time linear in its length.
"""

from __future__ import annotations

import re

FIRST, LAST = 1_000, 4_000
"""Characters at the beginning and at the end of an answer that are looked at for what names an option or a label."""

WIDE = {i: i - 0xFEE0 for i in range(0xFF01, 0xFF5F)} | str.maketrans("【】［］〔〕「」『』。、\u3000", "()[]()()()., ")
"""Full-width letters, digits and brackets as plain ones."""

_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning|scratchpad)>", re.IGNORECASE)
_NEXT = re.compile(
    r"\n[ \t]{0,8}(?:#{1,4} ?)?(?:\*\*)?(?:Q|Question|Input|Instruction|Human|User|Problem)\b ?\d{0,4}(?:\*\*)? ?[:.]"
    r"|<\|[a-z_]{1,20}\|>|</s>|<eos>|<end_of_turn>",
    re.IGNORECASE,
)
"""Where a model that did not stop goes on to a question of its own, or has stopped."""

_TAG = re.compile(r"</?[a-z][A-Za-z_]{0,20} ?/?>")
_TEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf|mathit|operatorname|bf|rm)\s?\{([^{}]{0,300})\}")
_MATH = re.compile(r"\\[()\[\]]")
_BOXED = re.compile(r"\\f?boxed\s?\{([^{}]{0,300})\}")

_BREAK = re.compile(
    r"[.,;:!?\n()]|\b(?:but|(?<!not )so|thus|therefore|hence|rather(?! than)|instead(?! of)|and thus)\b"
)
_DENIES = re.compile(
    r"\b(?:not(?! (?:only|just)\b)|cannot|isnt|arent|wasnt|werent|dont|doesnt|didnt|cant|wont"
    r"|wouldnt|shouldnt|couldnt|never|neither|nor|without|hardly|unlikely|rather than|instead of|except|excluding"
    r"|(?:rul|eliminat|exclud|reject|discard)(?:e|es|ed|ing|s)?(?: out)?)\b"
)
_SUPPOSES = re.compile(r"\b(?:if|unless|whether|suppose|assuming|while|although|though|despite)\b")
_DENIED = re.compile(
    r"[ \t]{0,2}(?:(?:is|are|was|were|be|seems|looks|would be|must be|can be|has to be|could be|answer is)[ \t]{1,3}"
    r"(?:[a-z]{1,12}ly[ \t]{1,3}|the[ \t]{1,3})?(?:not\b(?! (?:only|just)\b)|never|wrong|incorrect|false|out\b"
    r"|eliminated|ruled out|excluded|invalid|impossible|unlikely|neither)|isnt\b|arent\b|wasnt\b|cannot\b|cant\b"
    r"|(?:does|do|did|can|could|would|should)(?: not\b|nt\b))"
)


def ends(text: str) -> str:
    """The beginning and the end of a long text, where answers stand.

    >>> len(ends("x" * 50_000)), ends("short")
    (5001, 'short')
    """
    return text if len(text) <= FIRST + LAST else f"{text[:FIRST]}\n{text[-LAST:]}"


def turn(text: str) -> str:
    r"""What the model said to the question at hand: behind its thoughts, before the next question it makes up.

    >>> turn("<think>A?</think> B\nQ: And now?\nA: C")
    ' B'
    """
    rest = _THOUGHT.split(text)[-1]
    text = rest if rest.strip() else text
    start = len(text) - len(text.lstrip())
    cut = _NEXT.search(text, start + 1)
    return text[: cut.start()] if cut else text


def plain(text: str) -> str:
    r"""The text without HTML tags, and without what LaTeX wraps a word in.

    >>> plain(r"<b>\( \text{(B)} \)</b>")
    ' (B) '
    """
    return _MATH.sub("", _TEX.sub(r"\1", _TAG.sub("", text) if "<" in text else text)) if _marked(text) else text


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…}; None without one.

    >>> boxed(r"So \boxed{A}, no, \boxed{B}")
    'B'
    """
    found = _BOXED.findall(text) if "boxed" in text else ()
    return found[-1] if found else None


def denied(text: str, start: int, end: int) -> bool:
    """Whether what stands at a place is denied, or only supposed: "not A", "A is wrong", "if A". Case is folded.

    Args:
        text: without apostrophes, in lower case.
        start: where the place begins.
        end: where it ends.

    >>> [denied(t, t.index("b"), t.index("b") + 1) for t in ("not b", "it is not a, so b", "b cannot be", "if b")]
    [True, False, True, True]
    """
    before = clause(text, start)
    return bool(_DENIES.search(before) or _SUPPOSES.search(before) or _DENIED.match(text, end))


def clause(text: str, start: int) -> str:
    """What stands before a place in its clause, at most 60 characters.

    >>> clause("not a, so it is b", 16)
    ' it is '
    """
    return _BREAK.split(text[max(0, start - 60) : start])[-1]


def asked(text: str, end: int) -> bool:
    """Whether a question mark stands right behind a place.

    >>> asked("b)? No.", 1)
    True
    """
    return text[end : end + 3].lstrip(" )]").startswith("?")


def _marked(text: str) -> bool:
    return "<" in text or "\\" in text
