"""`verbalizer`: labels and the words that stand for them, read from scores or from text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from icl_engine.alignment.structural.forms.labelled import Labelled
from icl_engine.alignment.text import capped, quoted, said, text_of, took, unread
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
        calibration: ``auto``: where no step corrects the label distribution and it was measured to pay, a run takes out
            the label prior that its own rows show (`batch_calibration`), and says so; ``none``: never.
        nearest: by text, the least similarity (from 0 to 1) of a misspelt word that is taken for a label's: "negatve"
            is 0.875 like "negative"; null takes none.

    By text, the answer is the label whose word is the text, in any case or marks; else the one behind the last "final
    answer"; else the one the text begins with (whole words, the longest wins); else that behind the last "the answer
    is", or the only one behind "the sentiment is" and its like; else the only one of its first line, or of a last line
    that sums up ("Overall, …"). What is denied ("not positive", "isn't spam"), doubted ("might be positive") or asked
    about does not count. A short answer without any label is read by its inflection ("entailed") or its nearest label
    (optimal string alignment; words of five letters and more, the same first letter, 0.05 nearer than to any other
    label). Anything else is ``unparsed``: two labels with equal right too.

    >>> v = Verbalizer(labels={"pos": ["good", "great"], "neg": "bad"})
    >>> v.apply(Reading(text=" Great, really.")).value
    'pos'
    >>> [v.apply(Reading(text=text)).status for text in ("good or bad?", "neither good nor bad", "not good")]
    ['unparsed', 'unparsed', 'unparsed']
    """

    kind: ClassVar[Kind] = "structural"

    use: Literal["verbalizer"] = "verbalizer"
    labels: Mapping[str, tuple[str, ...]] = Field(min_length=2)
    read: Literal["auto", "scores", "text"] = "auto"
    scores: Literal["sequence", "trie"] = "sequence"
    normalization: Literal["sum", "mean", "pmi"] = "sum"
    want: Literal["auto", "argmax", "distribution"] = "auto"
    samples: int = Field(default=10, ge=1)
    calibration: Literal["auto", "none"] = "auto"
    nearest: float | None = Field(default=0.85, gt=0, le=1)

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
        figure = f"p = {distribution[value]:.3g}" if scores.whole else "the likeliest"
        trace = (f"{self.use}: {quoted(value)}, {figure} by {scores.method}",)
        return Reading(value=value, distribution=distribution if scores.whole else None, trace=trace)

    def apply(self, reading: Reading, state: Any = None) -> Reading:
        """Read the label from what is left of the text."""
        label, why = self._labelled.read(said(reading))
        return unread(reading, self.use, why) if label is None else took(reading, self.use, label)

    def said(self, text: str) -> str | None:
        """The label that a text says; None for none."""
        return self._labelled.read(capped(text))[0]

    @cached_property
    def _labelled(self) -> Labelled:
        return Labelled(self.labels, self.nearest)
