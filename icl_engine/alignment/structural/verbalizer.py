"""`verbalizer`: labels and the words that stand for them, read from scores or from text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from icl_engine.alignment.text import text_of
from icl_engine.errors import did_you_mean
from icl_engine.protocols import Aligner, Kind
from icl_engine.types import LabelScores, Need, Reading


class Verbalizer(Aligner):
    """Label -> words (Schick & Schütze 2021). By scores, p(y | x) ∝ Σ_{w ∈ v(y)} p(w | prompt), over the labels.

    Args:
        labels: label -> its word or words; a demonstration shows the first. Keys and words are strings.
        read: ``scores`` of the words, the ``text``, or ``auto``: scores where the model gives them and the answer
            has no rationale.
        scores: ``sequence``: log p of a word's whole token sequence; ``trie``: under decoding constrained to the words.
        normalization: ``sum`` of a word's log p by token, their ``mean``, or ``pmi``: the sum less that after an empty
            input (Holtzman et al. 2021), which is asked once for each demonstration set.
        want: ``distribution`` has every label's score exact, ``argmax`` only the best one's, which takes far fewer
            requests where labels have several tokens; ``auto``: what the steps after this one need.
        samples: how many answers are drawn and counted where the model gives no log-probabilities.

    By text, the answer is the label whose word is the text, else the one the text begins with (whole words, the longest
    wins), else the only label whose words stand in its first line. Anything else is ``unparsed``.

    >>> v = Verbalizer(labels={"pos": ["good", "great"], "neg": "bad"})
    >>> v.apply(Reading(text=" Great, really.")).value
    'pos'
    >>> v.apply(Reading(text="good or bad?")).value
    'pos'
    >>> v.apply(Reading(text="neither good nor bad")).status
    'unparsed'
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["verbalizer"] = "verbalizer"
    labels: Mapping[str, tuple[str, ...]] = Field(min_length=2)
    read: Literal["auto", "scores", "text"] = "auto"
    scores: Literal["sequence", "trie"] = "sequence"
    normalization: Literal["sum", "mean", "pmi"] = "sum"
    want: Literal["auto", "argmax", "distribution"] = "auto"
    samples: int = Field(default=10, ge=1)

    @field_validator("labels", mode="before")
    @classmethod
    def _strings(cls, labels: Any) -> Any:
        """Keys and words are strings, a single word is short for a list of one."""
        if not isinstance(labels, Mapping):
            return labels
        return {
            text_of(label): tuple(map(text_of, words)) if isinstance(words, list | tuple) else (text_of(words),)
            for label, words in labels.items()
        }

    @model_validator(mode="after")
    def _of_sequences(self) -> Self:
        if self.scores == "trie" and self.normalization != "sum":
            raise ValueError(f"normalization: {self.normalization} is of whole sequences; set scores: sequence")
        return self

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        owner: dict[str, str] = {}
        for label, words in labels.items():
            if not words:
                raise ValueError(f"label {label!r} has no word")
            for word in words:
                if not word.strip() or word != word.strip():
                    raise ValueError(f"label {label!r}: a word is not empty and has no outer white space: {word!r}")
                if word in owner:
                    both = f"both {owner[word]!r} and {label!r}" if owner[word] != label else f"{label!r} twice"
                    raise ValueError(f"the word {word!r} stands for {both}")
                owner[word] = label
        return labels

    def write(self, target: Any) -> str:
        """The label's first word."""
        return self.labels[self.canon(target)][0]

    def canon(self, value: Any) -> str:
        """The label as a string."""
        label = text_of(value)
        if label not in self.labels:
            raise ValueError(f"label {label!r} is not in the verbalizer{did_you_mean(label, self.labels)}")
        return label

    def need(self) -> Need:
        """The label words' scores."""
        return Need(
            "scores",
            words=self.labels,
            want="argmax" if self.want == "auto" else self.want,
            scores=self.scores,
            normalization=self.normalization,
            samples=self.samples,
            read=self.said,
        )

    def from_scores(self, scores: LabelScores) -> Reading:
        """The first likeliest label, and p over the labels (a softmax of their log p) where all are known well enough.

        Where only the best label was asked for, the others may be known by bounds: then there is no distribution.
        """
        figures = {label: scores.logprobs[label] - scores.prior.get(label, 0.0) for label in self.labels}
        peak = max(figures.values())
        if peak == -math.inf:
            return Reading(status="unparsed", trace=("verbalizer: no label was given any probability",))
        weights = {label: math.exp(figures[label] - peak) for label in self.labels}
        total = sum(weights.values())
        distribution = {label: w / total for label, w in weights.items()}
        value = max(distribution, key=distribution.__getitem__)
        return Reading(value=value, distribution=distribution if scores.whole else None)

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Read the label from what is left of the text."""
        label = self.said(reading.text or "")
        if label is None:
            return replace(reading, value=None, status="unparsed", trace=(*reading.trace, "verbalizer: no label"))
        trace = (*reading.trace, f"verbalizer: {label!r}")
        return Reading(reading.text, label, reading.distribution, reading.status, trace)

    def said(self, text: str) -> str | None:
        """The label that a text says; None for none."""
        text = text.strip()
        return self._whole(text) or self._beginning(text) or self._only(text)

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        """(label, a word as whole words) pairs, the longest word first."""
        pairs = [(label, word) for label, words in self.labels.items() for word in words]
        pairs.sort(key=lambda pair: -len(pair[1]))
        return [(label, re.compile(rf"(?<!\w){re.escape(w)}(?!\w)", re.IGNORECASE)) for label, w in pairs]

    @cached_property
    def _words(self) -> tuple[dict[str, str], dict[str, str | None]]:
        """Word -> its label; word in any case -> its label, None where several have it."""
        exact: dict[str, str] = {}
        folded: dict[str, str | None] = {}
        for label, words in self.labels.items():
            for word in words:
                exact.setdefault(word, label)
                known = folded.setdefault(word.casefold(), label)
                folded[word.casefold()] = label if known == label else None
        return exact, folded

    def _whole(self, text: str) -> str | None:
        exact, folded = self._words
        return exact.get(text) or folded.get(text.strip("\"'`*.!,;: ").casefold())

    def _beginning(self, text: str) -> str | None:
        start = text.lstrip("\"'`*( ")
        return next((label for label, pattern in self._patterns if pattern.match(start)), None)

    def _only(self, text: str) -> str | None:
        line = text.split("\n", 1)[0][:2000]
        found = {label for label, pattern in self._patterns if pattern.search(line)}
        return found.pop() if len(found) == 1 else None
