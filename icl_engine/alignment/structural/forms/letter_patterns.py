"""The patterns by which an answer names a letter, for the letters at hand; `lettered` says which one counts.

Every gap is bounded: a text costs time linear in its length.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_HEAD = (
    r"\b(?:answer|choice|option|selection|pick|letter|solution"
    r"|respuesta|réponse|risposta|resposta|antwort|antwoord|ответ)\b"
)
_ABOUT = r"(?:[ \t]{1,3}(?:to|for|of|here|in)\b[^\n.:]{0,80}?)?(?:[ \t](?:correcta|correcte|corretta|correta))?"
_LINK = (
    r"(?:\s{0,3}(?:[:=]|->|[→⇒–—-]|\b(?:is|was|es|est|è|é|ist)\b"
    r"|\b(?:should|would|must|will|has to|could|might|may)[ \t]be\b|\n))"
)
_SURELY = r"(?:\s{0,3}(?:therefore|thus|then|most|indeed|[a-z]{3,14}ly)\b,?)"
_NAMED = r"\s{0,3}(?:\b(?:option|choice|answer|letter)\s{1,3})?"
_SAYS = rf"(?:{_HEAD}{_ABOUT}{_LINK}{{1,3}},?{_SURELY}{{0,2}}|答案(?:应该)?[是为為]?[:：]?|정답[은:]?){_NAMED}"
_FINAL = rf"\bfinal[ \t]{{1,3}}(?:answer|choice|option)\b{_LINK}{{0,3}}{_NAMED}"
_CHOSEN = (
    r"(?:\b(?:go(?:ing)? with|went with|choose|chose|choosing|pick|select|selecting|settle (?:on|for)|opt for|vote for"
    r"|leans? towards?|leaning towards?|would say|id say|i say|guess|believe|think|so|thus|therefore|hence"
    r"|(?:it|that|this)(?:s| is| must be| has to be| would be| should be)|must be|should be|leaves(?: us with)?"
    rf"|not [^.\n]{{1,20}}? but(?: rather)?)\b|[-=]>|[→⇒∴]),?{_SURELY}{{0,2}}(?: its| it is)?{_NAMED}"
)
_VERDICT = (
    r"[ \t]{1,3}(?:is|would be|must be|has to be|seems|seems to be|appears to be|looks|fits)[ \t]{1,3}"
    r"(?:[a-z]{1,12}ly[ \t]{1,3})?(?:the[ \t]{1,3})?(?:(?:most|best|only|one|single|my)[ \t]{1,3}){0,2}"
    r"(?:correct|right|true|best|answer|accurate|appropriate|likely|plausible|choice|option|valid)\b(?! but\b)"
)
_AGREED = (
    "probably|definitely|likely|clearly|obviously|surely|certainly|maybe|perhaps|possibly|easily|yes|no|ok|okay|sure"
)
AFTERTHOUGHT = re.compile(r"\b(?:wait|actually|on second thought|scratch that|let me correct|correction)\b")
REJECTS = re.compile(r"wrong|incorrect|false|\bnot\b|eliminat|reject|exclu|unlikely|\bq\b|question")
_FUNCTION = (
    "because|since|as|which|is|was|and|or|for|due|from|in|with|but|so|if|it|by|to|on|at|not|rather|when|while|where"
)


class Patterns(NamedTuple):
    """Where letters are named, the surest first; the letter is each pattern's last group."""

    begins: re.Pattern[str]
    final: re.Pattern[str]
    says: re.Pattern[str]
    line: re.Pattern[str]
    verdict: re.Pattern[str]
    chosen: re.Pattern[str]
    option: re.Pattern[str]
    bracket: re.Pattern[str]
    alone: re.Pattern[str]
    another: re.Pattern[str]
    before: re.Pattern[str]
    listed: re.Pattern[str]


@lru_cache(maxsize=64)
def patterns(letters: tuple[str, ...]) -> Patterns:
    """The patterns for some letters; made once for each set of them.

    >>> letter_of(patterns(("A", "B")).says.search("So the answer is (b)."))
    'B'
    """
    one = "|".join(sorted(map(re.escape, letters), key=len, reverse=True))
    held = rf"[(\[{{<][ \t]?({one})[ \t]?[)\]}}>]"
    # The A of "the best option is a good one", the I of "I think" and the 2 of "2 apples" name no option.
    free = (
        r"(?![\w'])(?!(?<=[Ii])[ \t]+(?!(?:because|since|as)\b)\w)"
        rf"(?!(?<=[Aa0-9])[ \t]+(?!(?:{_FUNCTION})\b)\w)(?![.,:/]\d|\.\w\b|%|\+|-\w)"
    )
    letter = rf"(?:{held}|({one}){free})"
    begins = (
        rf"(?i:\([ \t]?({one})[ \t]?\)|[\[{{<]({one})[\]}}>]|({one})\))(?![ \t]+(?:is|are|and|or|seems|would|could|can|"
        rf"cannot|might|may|does|looks)\b)|({one})(?=\.(?!\d|\w\b| \w\.)|:|[,!](?!\d)(?<!I,)|\n"
        r"|\s{1,3}[-–—]|\s(?:because|since|rather than|instead of)\b|(?<![AI0-9])\s(?:\(|=\s))"
    )
    gap = r"(?:[.:)\]][ \t]?[^\n.()]{1,40}|[ \t]\([^\n()]{1,40}\))?"
    return Patterns(
        begins=re.compile(begins),
        final=re.compile(_FINAL + letter, re.IGNORECASE),
        says=re.compile(_SAYS + letter, re.IGNORECASE),
        line=re.compile(rf"^([^\n:]{{2,40}}):[ \t]{{0,3}}(?:{held}|({one}))[ \t.)]{{0,4}}$", re.MULTILINE),
        verdict=re.compile(rf"(?:{held}|(?<!\b(?:in|of|to|by) )(?<![\w'])({one})){gap}(?i:{_VERDICT})"),
        chosen=re.compile(rf"(?i:{_CHOSEN})(?:(?i:{held})|(?-i:({one})){free}|(?i:({one}))(?=[.!]?\s*$))"),
        option=re.compile(
            r"(?i:\b(?:answer|choice|option)s?[ \t]{1,3})"
            rf"(?:(?i:{held})|({one})(?![\w'])(?!(?<=I)[ \t]+\w)|(?i:({one})){free})"
        ),
        alone=re.compile(rf"(?:^|[.!?:;]\s{{1,3}})(?i:(?:{_AGREED})\b,?\s{{1,3}}){{0,2}}({one})[.!]?$"),
        bracket=re.compile(rf"(?<!\w)\(({one})\)", re.IGNORECASE),
        another=re.compile(
            rf"[)\]]?\s{{0,3}}\(?(?:(?:,|/|&|\+|[-–—]|\bor\b|\band\b|\bto\b|\bthrough\b|\bvs\b\.?)\s{{0,3}}){{1,3}}"
            rf"(?:(?<=or )(?:[a-z]{{1,10}} ){{1,3}})?(?:(?i:{held})|({one})(?![\w'])(?!(?<=[AI])[ \t]+\w))"
            rf"|[ \t]?\n{{1,3}}({one})[.)]?(?=\s*$|\n)",
        ),
        before=re.compile(
            rf"(?:{held}|(?<![\w'])({one}))\s{{0,3}}(?:\bor\b|\band\b|&|/)\s{{0,3}}(?:(?:option|maybe|perhaps)\s)?$"
        ),
        listed=re.compile(
            rf"^[ \t]{{0,8}}(?:\(({one})\)|({one})[).:])|(?<=[\w.,;])[ \t](?:\(({one})\)|({one})\))", re.MULTILINE
        ),
    )


def start_of(match: re.Match[str]) -> int:
    """Where the letter of a match begins, with its bracket."""
    at = match.start(match.lastindex or 0)
    return at - 1 if match.string[at - 1 : at] in ("(", "[", "{", "<") else at


def letter_of(match: re.Match[str]) -> str:
    """The letter that one of the patterns found, as a capital.

    >>> letter_of(re.search("(b)", "b"))
    'B'
    """
    return str(match[match.lastindex or 0]).upper()


CUE = re.compile(rf"(?:{_SAYS}|{_FINAL}|{_CHOSEN})\s?(?:(?:the|an?)\s)?")
"""Behind it an option's text is the answer."""

VERDICT = re.compile(_VERDICT)
"""Behind an option's text: "Paris is the answer"."""

BESIDE = re.compile(
    r"\s{0,3}\(?(?:(?:,|/|&|\bor\b|\band\b)\s{0,3}){1,3}(?:(?:maybe|perhaps|possibly|either|the|an?|even)\s){0,2}"
)
"""Between two options with equal right."""
