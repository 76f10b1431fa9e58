"""A trie over the words of labels: which log-probabilities are known, what bounds the rest, and where to ask next.

A node is the tokens spelt so far; asking the model there gives the log-probabilities of what may follow. A word's
log p is never above that of its beginning, so what is known of a beginning bounds every word that goes through it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from icl_engine.types import Place, Token

Node = tuple[Token, ...]

LOOSE = 0.01
"""Share of a node's mass that unseen tokens may hold before what is renormalised over the seen counts as a bound."""


class AmbiguousError(Exception):
    """Words of two labels begin with the same token, and nothing can be asked behind it."""

    def __init__(self, labels: Sequence[str], token: Token) -> None:
        super().__init__(token)
        self.labels, self.token = labels, token


@dataclass(frozen=True, slots=True)
class Word:
    """A label's word as it would follow the prompt.

    Args:
        label: whose word it is.
        text: the word, with the white space before it.
        path: its tokens, where the tokenizer is known.
    """

    label: str
    text: str
    path: Node | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a word.

    Args:
        upper: its log p (nats) is not above this; it is this where `exact`.
        exact: whether it is known.
        ask: the node to ask next; None where nothing can be asked there.
        depth: tokens spelt so far.
    """

    upper: float
    exact: bool
    ask: Node | None = None
    depth: int = 0


@dataclass
class Trie:
    """The words, and the places that were read.

    Args:
        words: of all labels.
        scores: ``sequence``: log p of a word's tokens; ``trie``: renormalised at each node over the node's words.
        extend: whether the model can be asked behind the first token.
    """

    words: list[Word]
    scores: Literal["sequence", "trie"] = "sequence"
    extend: bool = True
    places: dict[Node, Place] = field(default_factory=dict)
    _asked: set[Node] = field(default_factory=set)

    # -- what was read

    def read(self, node: Node, places: Iterable[Place], named: Collection[int] = ()) -> None:
        """Take in the places read from a node on.

        A path ends where it leaves the words, or where what may follow was not among the tokens that were named.
        """
        for i, place in enumerate(places):
            if i and (not self._leads_on(node) or (named and not set(self.after(node)) <= set(named))):
                return
            self._asked.add(node)
            self._merge(node, place.seen, place.floor)
            node = (*node, place.said)

    def follow(self, word: Word, tokens: Sequence[tuple[Token, float]]) -> None:
        """Take in the log-probabilities of a whole word's tokens."""
        path = word.path if word.path is not None and len(word.path) == len(tokens) else tuple(t for t, _ in tokens)
        self.words[self.words.index(word)] = Word(word.label, word.text, path)
        for i, (_, logprob) in enumerate(tokens):
            self._merge(path[:i], {path[i]: logprob}, 0.0)

    def _merge(self, node: Node, seen: Mapping[Token, float], floor: float) -> None:
        known = self.places.get(node)
        if known is not None:
            seen, floor = {**known.seen, **seen}, min(floor, known.floor)
        left = math.log(max(1.0 - sum(map(math.exp, seen.values())), 0.0) + 1e-6)
        self.places[node] = Place("", seen, min(floor, left))

    def _leads_on(self, node: Node) -> bool:
        if all(isinstance(token, str) for token in node):
            spelt = "".join(map(str, node))
            return any(w.path is None and w.text.startswith(spelt) and w.text != spelt for w in self.words)
        return any(w.path is not None and w.path[: len(node)] == node and len(w.path) > len(node) for w in self.words)

    # -- what it says

    def standings(self) -> dict[Word, Standing]:
        """What is known of each word; words that add nothing that could be told apart are left out."""
        found: dict[Word, Standing] = {}
        walk = self._sequence if self.scores == "sequence" else self._trie
        stack: list[tuple[Node, list[Word], float, bool]] = [((), self.words, 0.0, True)]
        while stack:
            node, members, score, exact = stack.pop()
            stack += walk(found, node, members, score, exact)
        return {word: found[word] for word in self.words if word in found}

    def _sequence(
        self, found: dict[Word, Standing], node: Node, members: list[Word], score: float, exact: bool
    ) -> list[tuple[Node, list[Word], float, bool]]:
        place = self.places.get(node)
        if place is None and not self._reaches(node):
            self._stop(found, node, members, score, settled=len(members) == 1 and _complete(members[0], node))
            return []
        going = self._ended(found, node, members, score, exact)
        if place is None:
            self._open(found, node, going, score)
            return []
        groups, unseen = self._groups(node, going, place)
        for word in unseen:
            ask = None if node in self._asked else node
            found[word] = Standing(score + place.floor, False, ask, len(node))
        return [((*node, t), words, score + place.seen[t], exact) for t, words in groups.items()]

    def _trie(
        self, found: dict[Word, Standing], node: Node, members: list[Word], score: float, exact: bool
    ) -> list[tuple[Node, list[Word], float, bool]]:
        if len(members) == 1:
            found[members[0]] = Standing(score, exact, None, len(node))
            return []
        going = [word for word in members if not _complete(word, node)]
        place = self.places.get(node)
        if place is None:
            token = _only(node, going) if len(going) == len(members) else None
            if token is not None:
                return [((*node, token), going, score, exact)]
            if self._reaches(node):
                self._open(found, node, members, score)
            else:
                self._stop(found, node, members, score, settled=True)
            return []
        groups, unseen = self._groups(node, going, place)
        mass = sum(math.exp(place.seen[t]) for t in groups)
        hidden = len(unseen) * math.exp(place.floor)
        ends = len(going) < len(members)
        whole = 1.0 if ends else mass or 1.0
        sure = exact and hidden <= LOOSE * whole
        self._ended(found, node, members, score + math.log(max(1.0 - mass, 0.0) + 1e-12), sure)
        for word in unseen:
            share = math.exp(place.floor) / (1.0 if ends else mass + math.exp(place.floor))
            found[word] = Standing(score + math.log(share), False, None if node in self._asked else node, len(node))
        rest = math.log(whole)
        return [((*node, t), words, score + place.seen[t] - rest, sure) for t, words in groups.items()]

    def _ended(
        self, found: dict[Word, Standing], node: Node, members: list[Word], score: float, exact: bool
    ) -> list[Word]:
        """Settle the words that end here; those that go on."""
        going = []
        for word in members:
            if _complete(word, node):
                found[word] = Standing(score, exact, None, len(node))
            else:
                going.append(word)
        return going

    def _reaches(self, node: Node) -> bool:
        return self.extend or not node

    def _open(self, found: dict[Word, Standing], node: Node, words: list[Word], score: float) -> None:
        """Words that go through a node that was not asked."""
        for word in words:
            found[word] = Standing(score, False, node, len(node))

    def _stop(self, found: dict[Word, Standing], node: Node, words: list[Word], score: float, *, settled: bool) -> None:
        """Words that share a beginning behind which nothing can be asked: one stands for all of a label."""
        labels = list(dict.fromkeys(word.label for word in words))
        if len(labels) > 1:
            raise AmbiguousError(labels, node[0])
        ended = [word for word in words if _complete(word, node)]
        found[(ended or words)[0]] = Standing(score, settled or bool(ended), None, len(node))

    def _groups(self, node: Node, going: list[Word], place: Place) -> tuple[dict[Token, list[Word]], list[Word]]:
        """The words by their next token, and those whose next token was not seen."""
        groups: dict[Token, list[Word]] = {}
        unseen = []
        spelt = sum(len(str(t)) for t in node)
        for word in going:
            token = word.path[len(node)] if word.path is not None else _longest(word.text[spelt:], place)
            if token is None or token not in place.seen:
                unseen.append(word)
            else:
                groups.setdefault(token, []).append(word)
        return groups, unseen

    # -- where to ask

    def following(self, nodes: Sequence[Node]) -> tuple[list[int], int]:
        """Ids of the tokens that follow some nodes in words, the nearest first; and how many places they span."""
        rests = [w.path[len(n) :] for n in nodes for w in self.words if w.path is not None and w.path[: len(n)] == n]
        depth = max(map(len, rests), default=0)
        return list(dict.fromkeys(int(rest[i]) for i in range(depth) for rest in rests if len(rest) > i)), depth

    def after(self, node: Node) -> list[int]:
        """Ids of the tokens that come right after a node in some word."""
        at = len(node)
        paths = (w.path for w in self.words if w.path is not None)
        return list(dict.fromkeys(int(path[at]) for path in paths if len(path) > at and path[:at] == node))

    def nodes(self) -> list[Node]:
        """Every node that a whole distribution needs, where all paths are known: for `trie` those that branch."""
        below: dict[Node, set[Token | None]] = {}
        for word in self.words:
            path = word.path or ()
            for i in range(len(path)):
                below.setdefault(path[:i], set()).add(path[i])
            below.setdefault(path, set()).add(None)
        wanted = (n for n, next_ in below.items() if next_ != {None})
        return [n for n in wanted if self.scores == "sequence" or len(below[n]) > 1]


def _complete(word: Word, node: Node) -> bool:
    if word.path is not None:
        return len(word.path) == len(node)
    return "".join(map(str, node)) == word.text


def _longest(rest: str, place: Place) -> Token | None:
    """The longest seen token that begins a text; white space alone begins every word, and says nothing."""
    fitting = (t for t in place.seen if isinstance(t, str) and t.strip() and rest.startswith(t))
    return max(fitting, key=len, default=None)


def _only(node: Node, words: list[Word]) -> Token | None:
    """The token that every word goes on with, where it is known."""
    following = {None if word.path is None else word.path[len(node)] for word in words}
    return following.pop() if len(following) == 1 else None
