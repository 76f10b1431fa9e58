"""What `numerals` looks for: numbers, what looks like one and is none, and what makes one doubtful."""

from __future__ import annotations

import re

MONTH = (
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)(?![^\W_])\.?"
)
CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Scripts that put no space between a word and a number."""
OTHER = rf"""
    \d{{4}}\s?年\s?\d{{1,2}}\s?月(?:\s?\d{{1,2}}\s?日)? | (?<!\d)\d{{1,2}}\s?月\s?\d{{1,2}}\s?日 |
    {MONTH},?\s(?:\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?|\d{{4}})(?!\d)
    | (?<![\w.,])(?:
        \d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?{MONTH}(?:,?\s\d{{4}}(?!\d))?
        | \d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?!\d)
            (?:[T\ ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,9}})?)?(?:Z|[-+]\d{{2}}:?\d{{2}})?)?
        | \d{{1,2}}(?P<mark>[-/.])\d{{1,2}}(?P=mark)(?:\d{{4}}|(?<!-)\d{{2}})(?![\d/.-]\d|\d)
        | (?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?(?![\d:])
        | \+\d{{1,3}}[-. ]\(?\d{{2,4}}\)?(?:[-. ]\d{{2,4}}){{1,4}}(?!\d) | \(?\d{{3}}\)?[-. ]\d{{3}}[-. ]\d{{4}}(?!\d)
        | (?!\d{{1,3}}(?:\.\d{{3}})++(?!\d))\d++(?:\.\d++){{2,}}
        | \d++(?![eExX]\d++(?!\w))[A-Za-z]++\d\w*+
      )
"""
"""A date, a time, a telephone number, a version, a word that begins with digits: no number, and passed over."""

MONEY = "$€£¥₹₽₩₪₫₺₴₦฿₱"
POWER = r"""
    (?:\s?\^\s?(?:\{{\s?(?P<{0}1>[-\u2212]?\d{{1,4}})\s?\}}|(?P<{0}2>[-\u2212]?\d{{1,4}}))
        |(?P<{0}3>⁻?[⁰¹²³⁴-⁹]{{1,4}})|\*\*(?P<{0}4>-?\d{{1,4}}))
"""
NUMBER = rf"""
    (?<![^\W_{CJK}])(?<![^\W\d_][-\u2010\u2011])(?<!\d\.)(?<![^\W_]_)(?<!_\{{)(?<!\^)(?<!\^[-+\u2212{{])(?<!\^\{{[-+\u2212])
    (?<!\b[a-zA-Z]\()(?<![\w.)\]]\[)(?<![^\W\d_]/)        # not in a word, a subscript, an exponent, f(3), x/2
    (?:[A-Z]{{0,3}}[{MONEY}]\s?)?(?:(?<![-\d)\]%°])(?<!\d\$)(?P<sign>[-+\u2212]))?
    (?P<money>[A-Z]{{0,3}}[{MONEY}]\s?)?         # -5, −5, $5, -$5; in "10 - 3" there is no sign
    (?P<digits>
        (?:[1-9]\d{{0,2}}(?:(?:,\d{{3}})++
            |(?:['\u2019_]\d{{3}})++|(?:[\u2009\u202f\u00a0\u2007]\d{{3}})++|(?:\ \d{{3}}){{0,4}}\ 000)(?!\d)
        | [1-9]\d?(?:,\d{{2}}(?=,))++,\d{{3}}(?!\d) | \d++)(?:\.\d++)?
        | (?<![.\w])\.\d++)
    (?:\ (?P<above>\d{{1,4}})(?=/\d)|(?P<exponent>[eE][-+\u2212]?\d++(?!\w)))?
    (?:\s?/\s?(?P<below>\d++(?:,\d{{3}})*+(?:\.\d++)?))?
    {POWER.format("power")}?
    (?:\s?[x×·*]\s?10{POWER.format("ten")})?
    (?:(?P<half>[ -]and[ -]a[ -]half\b)
        | [ \u00a0-]?(?P<scale>(?i:hundred|thousand|million|billion|trillion)\b|(?<=\d)(?:k|mn|bn)\b)
        | (?P<letter>[KMBT](?![^\W_])))?
    (?P<percent>\s?(?:%|(?i:percent|per\ cent|pct)\b))?
"""
EXPRESSION = r"""
    (?:\\sqrt|√|\bsqrt)(?:\[\d{1,2}\])?\s?(?:\{[^{}]{0,80}\}|\([^()]{0,80}\)|\d++|[a-z])?
    | \\[dtc]?frac\s?(?:\{[^{}]{0,80}(?:\{[^{}]{0,80}\}[^{}]{0,80}){0,3}\}){0,2}
    | (?<![\w.])\d++(?:/\d++){2,} | (?<![\w.])\d++[xX](?!10\s?\^|10[⁻⁰¹²³⁴-⁹])\d++(?!\w)
    | (?<![\w.])\d++(?::\d++)+(?:\.\d++)?
"""
TOKEN = re.compile(
    rf"""(?=[-+\u2212{MONEY}.\d\\√(A-Zs])
    (?:(?P<other>{OTHER})|(?P<expression>{EXPRESSION})|(?P<number>{NUMBER}))""",
    re.VERBOSE,
)

UNSURE = re.compile(
    r"""(?:[xyzwnijabqrue](?![^\W_])|\s?(?:π|√|\\pi(?![a-z])|\\sqrt)      # 5x, 2π: an expression's part
        |\s?\^|,\d|\.\d|/\d                              # 2^n; 3,14; 12 345
        |\s?(?:±|\\pm)\s?\d)""",
    re.VERBOSE,
)
JOINED = re.compile(
    r""",
        |[)$\u00a0\ ]{0,3}(?:[-+±\u2212\u2013×·*/÷^]|\bx\b)[\u00a0\ ]?[($]{0,3}  # 5 + 7, 3 x 4: terms, no answer
        |[)$%°€£]{0,3}(?:[-\u2013~]|\s?[\u2013~]\s|\sto\s)[($€£]{0,3}  # 10-15, 10 to 15: a range
        |\s(?:plus|minus|times|divided\ by|multiplied\ by)\s
        |\s?(?:[^\W\d_]{1,12}|%|€)?,?\sor\s[($€£]{0,3}                     # 12 or 13: equal right""",
    re.VERBOSE,
)
COMPOUND = re.compile(
    r"""\s?(?:h|hrs?|hours?|min(?:ute)?s?|feet|foot|ft|lbs?|pounds?|dollars?|years?|weeks?|days?|°|')[,\s]{0,2}(?:and\s)?
        \d++(?:\.\d++)?\s?(?:h|hrs?|hours?|m|min(?:ute)?s?|s|sec(?:ond)?s?|inch(?:es)?|in|oz|ounces?|cents?|months?|days?|'|")(?!\w)""",
    re.VERBOSE,
)
NOT = re.compile(
    r"(?:\bnot|n['\u2019]t|\brather\ than|\binstead\ of)\s(?:be\s|equal\s|to\s|really\s)?[*$_(]{0,3}$", re.VERBOSE
)
MINUS = re.compile(r"\b(?:minus|negative)\s$", re.IGNORECASE)
CUE = re.compile(
    r"(?:\banswer(?:\sis|\s?[:=])|####)[\s:*_`\"'(\[{~≈=]*+(?:(?:about|approximately|exactly|simply|a\stotal\sof)\s)?+",
    re.IGNORECASE,
)
"""What a number directly behind it is said to be: the answer."""
EQUATION = re.compile(r"[^.\n=]{0,200}=")
AREA = re.compile(
    r"\b(?:[kcmd]?m|ft|in|yd|mi|s|feet|inches|met(?:er|re)s|units?)\s?(?:\^\s?\{?-?[23]\}?|[²³])"
    r"|\b[A-Za-z]{1,10}\s?/\s?[A-Za-z]{1,10}\b"
)
FORMULA = re.compile(r"[!\\^+*×·√π∞<>≤≥±|;]|[-\u2212/]\s?[\w(]|\b(?:or|and|to)\b|\)\s?\(")
"""What stands beside a number only in a formula or where there are several."""
SEVERAL = re.compile(r"[,;]\s|\b(?:and|or)\b")
BULLET = re.compile(r"^[ \t>*#_-]{0,8}(\d{1,3})[.)][*_]{0,2}[ \t]++(?=\S)", re.MULTILINE)
LABEL = re.compile(
    r"^[ \t>*#_-]{0,8}(?:step|question|problem|part|case|example|exercise|section|chapter|equation|item|method|note)"
    r"[ \t]{1,2}#?(\d{1,3})[*_]{0,2}[.:)](?!\d)",
    re.MULTILINE | re.IGNORECASE,
)
SCALE = {
    "hundred": 2,
    "thousand": 3,
    "k": 3,
    "million": 6,
    "mn": 6,
    "m": 6,
    "billion": 9,
    "bn": 9,
    "b": 9,
    "trillion": 12,
    "t": 12,
}
SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻\u2212", "0123456789--")
