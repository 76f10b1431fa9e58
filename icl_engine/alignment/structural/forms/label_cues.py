"""What stands around a label that an answer says: the phrases that name it, and those that deny or doubt it."""

from __future__ import annotations

import re
from typing import NamedTuple

from icl_engine.alignment.structural.forms.phrasing import clause, denied

_ANSWER = r"\b(?:answer|label|class|classification|category|prediction|verdict|conclusion|output|response|result)\b"
_TOPIC = (
    r"\b(?:sentiment|emotion|intent|intention|topic|type|relation|relationship|stance|polarity|tone|rating|judge?ment"
    r"|attitude|opinion|mood|status|genre|domain|subject|entity|question|review|text|sentence|tweet|article|message"
    r"|hypothesis|premise)\b"
)
_LINKS = (
    r"[^\n.;:!?]{0,80}?(?:\s?[:=]|\s?-+>|\s?[→⇒]|\b(?:is|are|was|be|as|to|seems|falls (?:under|into))\b|\n)"
    r"(?:\s{0,3}(?:[:=]|[a-z]{1,12}ly\b|most\b|more\b|very\b|best described as\b|that of\b|of\b|an?\b|the\b|one of\b"
    r"|option\b|category\b|class\b|label\b|to be\b|about\b)){0,4}[\s(\[]{0,3}$"
)
FINAL_CUE = re.compile(rf"\bfinal {_ANSWER}(?:{_LINKS}|[\s(\[]{{0,3}}$)")
ANSWER_CUE = re.compile(_ANSWER + _LINKS)
TOPIC_CUE = re.compile(_TOPIC + _LINKS)
SUMS_UP = re.compile(r"\s*(?:so|thus|therefore|hence|overall|in conclusion|in summary|to sum up|in short)\b")
PREAMBLE = re.compile(
    r"(?:[^\n.;!?]{0,80}?(?:[:=]|-+>|[→⇒]|\b(?:is|are|was|be|as|its|intent)\b))?[\s\"(\[]{0,3}"
    r"(?:(?:definitely|clearly|probably|likely|most|very|about|an?|the)\s){0,3}"
)
PHRASE_ENDS = re.compile(r"[.,:;!?()\n]")
_HEDGES = re.compile(
    r"\b(?:might|could|may|maybe|perhaps|possibly|either|hard to|no longer|lacks?|lacking|absence of)\b"
)
_NONE = re.compile(
    r"(?:^|[^a-z])(?:no|non|un|anti|zero|nothing|false|opposite of|far from|anything but|less|least|barely"
    r"|scarcely|rarely|seldom)[\s-]{1,2}(?:an?\s)?$"
)
_NO_ANSWER = re.compile(r"\s(?:idea|clue|doubt|problem|question|answer|opinion|comment|way|label|information|one)\b")
ASKED = re.compile(r"[^.!?\n]{0,200}\?")
BETWEEN = frozenset(
    [",", "/", "|", "&", "+", "-", "–", "(", "or", "and", "nor", "but", "also", "to", "vs", "versus", "a", "an", "the"]
) | frozenset(["maybe", "perhaps", "possibly", "either", "both", "partly", "partially", "somewhat"])
ENUMERATES = frozenset([",", "/", "|", "or", "nor", "and", "a", "an", "the"])


class Mention(NamedTuple):
    """Where a label stands in a text; `label` is None for a word that, in other case, stands for several."""

    label: str | None
    start: int
    end: int


def doubted(body: str, mention: Mention) -> bool:
    """Whether a mention is denied, hedged, asked about, or the no of "there is no reason"."""
    said, before = body[mention.start : mention.end], clause(body, mention.start)
    if said == "no" and (
        _NO_ANSWER.match(body, mention.end) or (before.strip() and body[mention.end :][:2].strip().isalpha())
    ):
        return True
    return bool(
        denied(body, mention.start, mention.end)
        or _HEDGES.search(before)
        or _NONE.search(body[max(0, mention.start - 24) : mention.start])
        or ASKED.match(body, mention.end)
    )


def joins(between: str, words: frozenset[str]) -> bool:
    """Whether what stands between two labels only joins them."""
    return len(between) <= 40 and "\n" not in between and set(re.findall(r"\w+|[^\w\s]", between)) <= words


def of_another_row(body: str, at: int) -> bool:
    """Whether a place is in the second line of "Review: …", "Sentiment: …": a row that the model made up."""
    before = body[:at].split("\n")[-2:]
    if len(before) < 2:
        return False
    named = re.match(r"\s*([a-z]{2,20}):\s?\S", before[0])
    reasons = ("reason", "explanation", "analysis", "rationale", "thought", "evidence", "justification", "note", "step")
    return bool(named and not named[1].startswith(reasons) and re.match(r"\s*[a-z ]{2,20}:\s?$", before[1]))
