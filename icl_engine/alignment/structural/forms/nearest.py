"""Which label a short answer means that is none to the letter: inflected, misspelt, or with other small words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

MARGIN = 0.05
"""By how much a misspelt answer is more similar to its label than to any other."""

SMALL = frozenset(["a", "an", "the", "of", "my", "your", "by", "for", "to", "in", "on", "is", "and", "or", "it", "its"])
"""Words that may be missing, or too many."""

ALIKE = 0.7
"""Least similarity of a whole phrase to a label that it may be a misspelling of."""

SHORTEST = 5
"""Letters of the shortest word that may be misspelt: of fewer, another letter makes another word."""

_ADJECTIVES = ("ive", "al", "ful", "ous", "ic", "ent", "ant", "able", "ible")
_VERBAL = {"ment": ("", "s", "ed", "ing"), "ion": ("", "s", "e", "es", "ed", "ing", "ory")}
"""What a verb ends in whose noun ends in -ment or -ion."""


@lru_cache(maxsize=4096)
def forms(word: str) -> frozenset[str]:
    """A word's inflections: number, the adverb and noun of an adjective, the verb of a noun in -ment or -ion.

    >>> sorted(forms("entailment"))
    ['entail', 'entailed', 'entailing', 'entailments', 'entails']
    >>> sorted(forms("negative")), sorted(forms("like"))
    (['negatively', 'negatives', 'negativity'], [])
    """
    made = set()
    if len(word) < SHORTEST or not word.isalpha():
        return frozenset()
    if word.endswith("s"):
        made.add(f"{word}es" if word[-2] == "s" else word if word[-2] in "uia" else word[:-1])
    elif word.endswith("y") and word[-2] not in "aeiou":
        made.add(f"{word[:-1]}ies")
    else:
        made.add(f"{word}es" if word.endswith(("x", "z", "ch", "sh")) else f"{word}s")
    if word.endswith(_ADJECTIVES) and not word.endswith("ment"):
        made.add(f"{word}ally" if word.endswith("ic") else f"{word[:-1]}y" if word.endswith("le") else f"{word}ly")
    if word.endswith(("ive", "al")):
        made.add(f"{word.removesuffix('e')}ity")
    for noun, ends in _VERBAL.items():
        verb = word.removesuffix(noun)
        if verb != word and len(verb) > SHORTEST:
            made |= {verb + end for end in ends}
    return frozenset(made - {word})


def similar(one: str, other: str, least: float) -> bool:
    """Whether two words are the same but for inflection or a slip of the pen.

    A slip leaves the first letter, and is no prefix: "unlikely" is not "likely", nor "atypical" "typical".

    >>> [similar("negatve", w, 0.85) for w in ("negative", "negated")], similar("correct", "incorrect", 0.5)
    ([True, False], False)
    """
    if one == other:
        return True
    if min(len(one), len(other)) < SHORTEST or one[0] != other[0] or not (one.isalpha() and other.isalpha()):
        return False
    if one in forms(other) or other in forms(one):
        return True
    if least >= 1 or one.endswith(other) or other.endswith(one):
        return False
    from rapidfuzz.distance import OSA

    return OSA.normalized_similarity(one, other) >= least


@dataclass(frozen=True)
class Neighbours:
    """Which label an answer of a few words means.

    Every word has its like in the label's words, in order, but for small words (a, of, by, …). Where one is misspelt,
    the whole is more similar to this label than to any other by `MARGIN` (one less the optimal string alignment
    distance over the longer length: adjacent letters swapped count once).

    Args:
        labels: a label's words in lower case -> the label; None where they stand for several.
        least: the similarity of a misspelt word; None to take only inflections.

    >>> labels = {("card", "arrival"): "a", ("card", "linking"): "b"}
    >>> Neighbours(labels, 0.85).nearest(["card", "arival"]), Neighbours(labels, None).nearest(["card", "arival"])
    ('a', None)
    """

    labels: Mapping[tuple[str, ...], str | None]
    least: float | None

    @cached_property
    def _spelt(self) -> list[str]:
        return [" ".join(words) for words in self.labels]

    @cached_property
    def _owners(self) -> list[str | None]:
        return list(self.labels.values())

    @cached_property
    def _kept(self) -> list[tuple[str, ...]]:
        return [_without_small(words) for words in self.labels]

    @cached_property
    def most(self) -> int:
        """Words of the longest answer that can be one."""
        return max(map(len, self.labels), default=0) + 3

    def nearest(self, words: Sequence[str]) -> str | None:
        """The label that the words mean; None for none, or where two are about as near."""
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if not 0 < len(words) <= self.most:
            return None
        said = _without_small(words)
        fitting = {label for kept, label in zip(self._kept, self._owners, strict=True) if _alike(said, kept, 1.0)}
        if fitting:
            return fitting.pop() if len(fitting) == 1 else None
        if self.least is None:
            return None
        close = process.extract(
            " ".join(words),
            self._spelt,
            scorer=OSA.normalized_similarity,
            score_cutoff=max(0.0, self.least - 2 * MARGIN),
            limit=None,
        )
        found = [(score, self._owners[i]) for _, score, i in close if _alike(said, self._kept[i], self.least)]
        if not found:
            return None
        best, label = found[0]
        return label if all(best - score >= MARGIN for _, score, i in close if self._owners[i] != label) else None

    def outdone(self, said: str, label: str | None) -> bool:
        """Whether a phrase is more similar to another label's words than to this one's, and similar enough.

        >>> known = {("exchange", "rate"): "a", ("wrong", "exchange", "rate"): "b"}
        >>> Neighbours(known, 0.85).outdone("wrng exchange rate", "a"), Neighbours(known, 0.85).outdone("a rate", "a")
        (True, False)
        """
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if said in self._spelt or len(said) > 200:
            return False
        found = process.extract(said, self._spelt, scorer=OSA.normalized_similarity, score_cutoff=ALIKE, limit=1)
        return bool(found) and self._owners[found[0][2]] != label


def _without_small(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in SMALL) or tuple(words)


def _alike(said: Sequence[str], known: Sequence[str], least: float) -> bool:
    return len(known) == len(said) and all(similar(a, b, least) for a, b in zip(said, known, strict=True))
