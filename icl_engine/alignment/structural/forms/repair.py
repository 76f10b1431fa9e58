"""JSON that a model misspelt, repaired without adding to it or leaving anything out.

The package json-repair mends brackets and commas. It also guesses: it fills in missing values, glues texts, leaves
out what it does not understand, and reads prose in brackets as a list. So it is given only what looks like JSON, with
its texts already quoted as JSON quotes them, and its result is taken only if it holds exactly the keys, the values
and the brackets that stood there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from icl_engine.alignment.structural.forms.json_tokens import QUOTES, SPLITS, UnclearError, spelt, unquoted

LONGEST = 10_000
"""Characters of a piece that is repaired."""
_ATOMS = 1_000
"""Keys and values of a piece that is repaired: json-repair takes about 10 microseconds for each."""
_DEEPEST = 64

_BEGINS = re.compile(
    r"""\{\s*+(?: \} | (?:["'\u201c\u201e\u2018`](?!``)[^\n:]*+ | [A-Za-z_$][\w$-]*+\s*+) : | (?://|/\*|\#) )
       |\[\s*+(?: [\]\[{"'\u201c\u201e] | -?\d | (?:true|false|null|None|True|False|NaN)\b | (?://|/\*) )""",
    re.VERBOSE,
)


@dataclass
class _Piece:
    """What looks like a JSON object or list inside a text, as far as it was read.

    Args:
        end: where its last token ends.
        written: its tokens as JSON spells them.
        atoms: its keys and values in order: whether it is a key, and what it says.
        stack: the brackets that are still to be closed.
        opened: the brackets that were opened.
        last: what the last token was: a mark, ``string`` or ``word``.
        names: whether a key is a word without quotes.
        words: the most words without quotes that a value has.
    """

    end: int
    written: list[str] = field(default_factory=list)
    atoms: list[tuple[bool, Any]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    opened: str = ""
    last: str = ""
    names: bool = False
    words: int = 0

    def mark(self, sign: str) -> None:
        """A bracket, comma or colon."""
        if sign in "}]" and sign not in self.stack:
            return  # it closes nothing
        if sign in "{[":
            self.opened += sign
            self.stack.append("}" if sign == "{" else "]")
        elif sign in "}]":
            if self.written[-1] == ",":
                self.written.pop()
            while (closing := self.stack.pop()) != sign:
                self.written.append(closing)  # one that was forgotten
        elif sign == ":":
            if self.last not in ("string", "word") or self.stack[-1] != "}":
                raise UnclearError
            self.atoms[-1] = (True, self.atoms[-1][1])
        if len(self.stack) > _DEEPEST:
            raise UnclearError
        self.written.append(sign)
        self.last = sign

    def atom(self, kind: str, said: str, *, key: bool) -> None:
        """A key or value. Only a comma before a key, or between texts of a list, may be missing."""
        beside = self.last in ("string", "word") and not key
        if beside and not (self.stack[-1] == "]" and self.last == kind == "string"):
            raise UnclearError
        value = unquoted(said) if kind == "string" else spelt(said, key=key)
        if kind == "word" and isinstance(value, str):
            self.names |= key
            self.words = max(self.words, 0 if key else len(value.split()))
        self.atoms.append((False, value))
        if len(self.atoms) > _ATOMS:
            raise UnclearError
        self.written.append(json.dumps(value))
        self.last = kind

    def clear(self, *, schema: bool) -> bool:
        """Whether words without quotes are values, and not prose: those behind quoted keys are.

        With a schema, which says what the keys are, a single word behind a key without quotes is one, too.
        """
        keyed = any(key for key, _ in self.atoms)
        return not self.words or (keyed and (not self.names or (schema and self.words == 1)))

    def lacks_only_brackets(self, text: str) -> bool:
        """Whether the text ends behind a whole value: a number or word at its very end may be cut off."""
        ended = self.last in ("string", "}", "]") or (self.last == "word" and self.end < len(text))
        rest = text[self.end : self.end + LONGEST].lstrip()
        return ended and not (self.atoms and self.atoms[-1][0]) and (not rest or rest.startswith("```"))


def _piece(text: str, at: int, split: re.Pattern[str]) -> _Piece:
    """The piece that begins at a bracket, to where it is closed, or to where nothing more can be read."""
    piece, limit = _Piece(at), min(len(text), at + LONGEST)
    while token := split.match(text, at, limit):
        at, kind = token.end(), str(token.lastgroup)
        if kind == "gap":
            continue
        if kind == "mark":
            piece.mark(token[0])
        else:
            piece.atom(kind, token[0], key=text[at : at + 64].lstrip()[:1] == ":")
        piece.end = at
        if not piece.stack:
            break
    return piece


def begins(text: str, at: int) -> bool:
    """Whether a JSON object or list seems to begin at a bracket: prose in brackets does not.

    >>> [begins(text, 0) for text in ("{'a': 1}", "{a: 1}", "[1,", "[sic]", "{it}")]
    [True, True, True, False, False]
    """
    return _BEGINS.match(text, at, at + LONGEST) is not None


def repaired(text: str, at: int, *, schema: bool) -> Iterator[tuple[Any, int]]:
    r"""The value of misspelt JSON that begins at a bracket, with where it ends; nothing where it stays unclear.

    Args:
        text: what it stands in.
        at: the place of its first bracket.
        schema: whether a schema will judge the value. Then the text may also end before its closing brackets, and
            words without quotes may stand behind keys without quotes.

    >>> next(repaired("{'a': True, b: [1, 2,],} // so", 0, schema=False))
    ({'a': True, 'b': [1, 2]}, 24)
    >>> list(repaired('{"a": , "b": 1}', 0, schema=False)), list(repaired('{"a": "b', 0, schema=True))
    ([], [])
    """
    if not begins(text, at):
        return
    quoted = any(quote in text[at : at + LONGEST] for quote in QUOTES)
    for split in SPLITS if quoted else SPLITS[:1]:
        try:
            piece = _piece(text, at, split)
        except UnclearError:
            continue
        whole = not piece.stack or (schema and piece.lacks_only_brackets(text))
        if whole and piece.clear(schema=schema) and (found := _mended(piece)) is not None:
            yield found, piece.end
            return


def _mended(piece: _Piece) -> Any:
    """The piece with its commas and brackets mended; None where more than these would be changed."""
    from json_repair import loads

    try:  # where the text is JSON now, it is read as such
        value = loads(" ".join(piece.written))
    except (ValueError, RecursionError):
        return None
    opened, atoms = "", []
    for part in _parts(value):
        if isinstance(part, dict | list):
            opened += "{" if isinstance(part, dict) else "["
        else:
            atoms.append(part)
    same = opened == piece.opened and [(k, repr(v)) for k, v in atoms] == [(k, repr(v)) for k, v in piece.atoms]
    return value if same else None


def _parts(value: Any) -> Iterator[Any]:
    """Every object and list of a value, and (whether it is a key, what it says) of everything else, in order."""
    if not isinstance(value, dict | list):
        yield False, value
        return
    yield value
    for key in value:
        if isinstance(value, dict):
            yield True, key
        yield from _parts(value[key] if isinstance(value, dict) else key)
