"""Answers that no model should give: the corpus that every reader has to survive, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from conformance.specs import CASES

from icl_engine.registry import resolve

PHRASINGS = Path(__file__).parents[1] / "phrasings"
ROW = {
    "text": "Ann and Bob met in New York, N.Y., on May 5, 2021. " * 8,
    "t": "Ann (31) left Paris.",
    "options": "(A) x (B) y",
}
"""What was asked about, for readers that look at it."""

READERS = (
    "after",
    "boolean",
    "boxed",
    "choice",
    "code",
    "date",
    "identity",
    "json",
    "list",
    "number",
    "regex",
    "spans",
)
CHAINS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "after, number": [{"use": "after"}, {"use": "number"}],
    "after, choice": [{"use": "after", "marker": "Answer:"}, {"use": "choice"}],
    "after, boolean": [{"use": "after", "until": "end"}, {"use": "boolean"}],
    "after, date": [{"use": "after", "take": "first"}, {"use": "date"}],
    "after, list": [{"use": "after", "marker": ":", "take": "first", "until": "end"}, {"use": "list"}],
    "after, spans": [{"use": "after", "marker": ":", "take": "first", "until": "end"}, {"use": "spans"}],
    "after, verbalizer": [{"use": "after"}, {"use": "verbalizer", "labels": {"a": ["good", "great"], "b": "bad"}}],
    "boxed, number": [{"use": "boxed"}, {"use": "number"}],
    "code, json": [{"use": "code"}, {"use": "json", "schema": {"type": "object", "required": ["a"]}}],
    "regex, json": [{"use": "regex", "pattern": r"(?s)\{.*\}"}, {"use": "json"}],
}
"""Steps that are often put together, by name."""

UNITS = (
    "(", ")", "[", "]", "{", "}", "[[", "{{", "{\"a\":", "[\"", "{'", "[1,", "(1,", "{\"a\": [", "}{", "][",
    "answer is ", "the answer is ", "Answer: ", "answer", "the answer is (", "A:", "(A) ", "A. ", "option ", "not ",
    "1,", "1.", "1/", "-1", "1e9", "1 ", "$", "%", "9", ",111", "1:", "\xbd", "1\xa0", "Jan 1, ", "1/2/", "2021-",
    "th ", "\\boxed{", "\\frac{", "\\text{", "\\", "^{", "$$", "\\(", "{,}", "\\boxed{}", "\\dfrac{1}", "```", "~~~",
    "```json\n", "````\n", "`", "**", "__", "# ", "> ", "| ", "- ", "* ", "1. ", "<b>", "</think>", "<think>", " ",
    "\n", "\t", "\r\n", "\x00", "\x0b", "\x1b[2J", "\x85", "\u2028", "\xa0", "\u3000", "\u200b", "\u200d", "\ufeff",
    "\u202e", "\u2066", "\u05d0", "\u0663", "\ud800", "\udfff", "\U0001f600", "e\u0301", "\ufdfa", "\xdf", "\u0130",
    "\U000e0041", "\uff11", "\"", "'", "\u201c", "\u2019", "'s ", "\",", "\\u0000", "\\\"", "//", "/*", "#", ";",
    ": ", "a: b; ", "a (b) ", "a, ", "->", " - ", "=", "yes no ", "true", "good bad ", "isn't ", "either or ", "no ",
    "none", "null", "NaN", "Infinity", "a", "\xe9", "Ann ", "and ",
)  # fmt: skip
"""What patterns look out for, to be said again and again."""


@cache
def said() -> tuple[str, ...]:
    """Answers as models phrase them."""
    lines = [line for path in sorted(PHRASINGS.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    return tuple(orjson.loads(line)["text"] for line in lines)


def readers(*, more: bool = False) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The output steps that meet the corpus: every reader, with more: also with other keys, and chains."""
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    for name in (*READERS, "verbalizer"):
        assert resolve("aligner", name)
        cases = CASES["aligner"][name]
        found[name] = [{"use": name, **cases[0].keys}]
        if more and cases[-1].keys != cases[0].keys:
            found[f"{name}, other keys"] = [{"use": name, **cases[-1].keys}]
    return found | dict(CHAINS)


def answers(count: int, seed: int = 0, *, longest: int = 3_000_000) -> Iterator[str]:
    """So many hostile answers: 93% of them short, 6% of some thousand characters, 1% of up to `longest`."""
    draw = random.Random(seed)
    makers = (_spliced, _damaged, _repeated, _nested, _noise, _digits)
    for i in range(count):
        size = longest if i % 1_000 == 7 else 60_000 if i % 100 == 7 else 6_000 if i % 16 == 3 else 300
        maker = makers[1 + i % 5] if size > 300 and draw.random() < 0.5 else draw.choice(makers)
        text = maker(draw, min(longest, size))
        while 0 < len(text) < size // 2 and size > 6_000:
            text = (text + draw.choice(said())) * 2 if len(text) < 1_000 else text * (size // len(text))
        yield text[:longest]


def _spliced(draw: random.Random, size: int) -> str:
    """Parts of real answers, cut anywhere."""
    parts: list[str] = []
    while sum(map(len, parts)) < size and draw.random() > 0.2:
        text = draw.choice(said())
        parts += [text[: draw.randrange(len(text) + 1)], draw.choice((*UNITS, " ", "\n"))]
    return "".join(parts)


def _damaged(draw: random.Random, size: int) -> str:
    """A real answer with marks put into it, or signs taken out."""
    text = list(draw.choice(said()))
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(text) + 1)
        text[at : at + draw.randrange(3)] = draw.choice(UNITS) * draw.choice((1, 1, 1, 2, 40))
    return "".join(text)


def _repeated(draw: random.Random, size: int) -> str:
    """Something said again and again, and at last something else."""
    unit = "".join(draw.choices(UNITS, k=draw.choice((1, 1, 1, 2, 3))))
    head, tail = (draw.choice((*said(), "", "", "x", "!")) for _ in range(2))
    return head + unit * (draw.randrange(1, size) // len(unit) + 1) + tail


def _nested(draw: random.Random, size: int) -> str:
    """Brackets or fences inside one another, closed, half closed, or not."""
    depth = draw.randrange(1, max(2, size // 8))
    opening, closing = draw.choice(
        (
            ("[", "]"),
            ('{"a":', "}"),
            ("{'a': [", "]}"),
            ("(", ")"),
            ("\\boxed{", "}"),
            ("\\frac{1}{", "}"),
            ("[[1, 2], ", "]"),
        )
    )
    if draw.random() < 0.2:
        fences = [draw.choice("`~") * draw.randint(3, 9) for _ in range(min(depth, 2_000))]
        return "".join(f"{fence}json\n{draw.choice(said())}\n" for fence in fences)[: 2 * size]
    closed = draw.choice((depth, depth, depth // 2, 0))
    return (
        draw.choice(("", "So: ")) + opening * depth + draw.choice(("1", '"x"', "x", "", said()[0])) + closing * closed
    )


def _noise(draw: random.Random, size: int) -> str:
    """Any characters, with half characters and controls among them."""
    planes = ((0, 0x80), (0, 0x20), (0x80, 0x3000), (0x2000, 0x2070), (0xD800, 0xE000), (0, 0x110000))
    low, high = draw.choice(planes)
    return "".join(chr(draw.randrange(low, high)) for _ in range(draw.randrange(min(size, 3_000) + 1)))


def _digits(draw: random.Random, size: int) -> str:
    """A number of very many digits, with what numbers have around them."""
    digits = "".join(draw.choices("0123456789", k=10)) * (draw.randrange(1, max(2, min(size, 20_000))) // 10 + 1)
    form = draw.choice(
        ("{}", "{}.{}", "1e{}", "-${}", "{}/{}", "{}%", "[{}]", '{{"a": {}}}', "\\boxed{{{}}}", "{}-{}-{}", "{} km")
    )
    return draw.choice(("", "The answer is ")) + form.format(digits, digits, digits)
