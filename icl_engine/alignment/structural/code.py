"""`code`: what stands in a fence."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, NamedTuple

from icl_engine.alignment.text import said, text_of, took, unread
from icl_engine.errors import bounded
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import Reading

_FENCE = re.compile(
    r"""(?<!`)(?P<run>`{3,}+)(?P<inside>[^`\n]++)(?P=run)(?!`)       # ```x = 1``` on one line
        |(?P<fence>(?<!`)`{3,}+|(?:^[ \t>]{0,12})~{3,}+)(?P<words>[^`\n]*+)$""",
    re.MULTILINE | re.VERBOSE,
)
_INLINE = re.compile(r"\s*(`{1,2}+)([^`\n]+)\1\s*")


class Block(NamedTuple):
    """A fenced block: its language as the fence names it, and its lines."""

    language: str
    text: str


class Code(Aligner):
    r"""The content of a fenced code block, indentation kept; later steps (`json`, …) read what is left.

    Fences are CommonMark's: three or more \` or ~, closed by a fence of the same sign that is at least as long and has
    no words behind it, so that a longer fence may hold shorter ones. One that is never closed reaches to the end.

    Args:
        language: only blocks whose fence names this language (its first word, in any case).
        take: of several blocks the ``first`` or the ``last``.
        bare: read a text without any fence as code, as a model that was asked for nothing else writes it.

    >>> Code().apply(Reading(text="Here you are:\n```python\nif x:\n    y()\n```\nDone.")).value
    'if x:\n    y()'
    >>> Code().apply(Reading(text="I cannot help with that.")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["code"] = "code"
    language: str | None = None
    take: Literal["first", "last"] = "last"
    bare: bool = False

    def write(self, target: Any) -> str:
        """The target in a fence that is longer than any it holds."""
        text = self._tidy(text_of(target))
        longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
        fence = "`" * (longest + 1)
        return f"{fence}{self.language or ''}\n{text}\n{fence}"

    def canon(self, value: Any) -> str:
        """The code without empty lines around it and without white space at its end.

        Raises:
            ValueError: nothing is left.
        """
        text = self._tidy(text_of(value))
        if not text:
            raise ValueError(f"target {bounded(text_of(value), 60)!r} is empty")
        return text

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Take a block; without one of the language asked for, or with an empty one, status ``unparsed``."""
        text = said(reading)
        blocks = _blocks(text)
        if not blocks and (whole := _INLINE.fullmatch(text)):
            blocks = [Block("", whole[2])]
        if not blocks and self.bare:
            blocks = [Block("", text)]
        asked = self.language and self.language.casefold()
        found = [b for b in blocks if not asked or b.language.casefold() in (asked, "")]
        # A block that names the language comes before those that name none.
        found = [b for b in found if b.language] if asked and any(b.language for b in found) else found
        if not found:
            others = ", ".join(dict.fromkeys(b.language or "no language" for b in blocks))
            return unread(
                reading, self.use, f"no {self.language} block, only {bounded(others, 60)}" if others else "no block"
            )
        taken = self._tidy(found[0 if self.take == "first" else -1].text)
        return took(reading, self.use, taken, text=taken) if taken else unread(reading, self.use, "an empty block")

    @staticmethod
    def _tidy(text: str) -> str:
        """The text without the white space at its end, and without the empty lines before its first."""
        text = text.replace("\r\n", "\n").rstrip()
        lines = text.split("\n")
        begun = next((i for i, line in enumerate(lines) if line.strip()), 0)
        return "\n".join(lines[begun:])


def _blocks(text: str) -> list[Block]:
    """The outermost fenced blocks of a text, in order."""
    text = text.replace("\r\n", "\n")
    found: list[Block] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if match["run"]:
            found += [Block("", match["inside"])] if opened is None else []
        elif opened is None:
            opened = match
        elif match["fence"].strip(" \t>").startswith(opened["fence"].strip(" \t>")) and not match["words"].strip():
            found.append(_block(opened, match.start()))
            opened = None
    if opened is not None:
        found.append(_block(opened, len(text)))
    return found


_INDENT = re.compile(r"[ \t>]*")


def _block(opened: re.Match[str], end: int) -> Block:
    """What stands behind an opening fence, without the indentation the fence has itself."""
    text, words = opened.string, opened["words"].strip().lstrip("{.").split()
    margin = _INDENT.match(text, text.rfind("\n", 0, opened.start("fence") + 1) + 1)
    indent = margin[0] if margin and margin.end() >= opened.end("fence") - len(opened["fence"].strip(" \t>")) else ""
    lines = text[opened.end() + 1 : end].split("\n")
    return Block(words[0].rstrip("}") if words else "", "\n".join(line.removeprefix(indent) for line in lines))
