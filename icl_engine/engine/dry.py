"""Answers in the model's place, for a run that is only planned: as from one that is as sure as can be of one label.

So the run asks the least that it may have to; `most` says how much more a label's spelling may take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from icl_engine.errors import RequestError
from icl_engine.models.ladder import rung
from icl_engine.models.places import place
from icl_engine.models.probing import hoped, probe
from icl_engine.models.search import PLACES, ROUNDS
from icl_engine.models.trie import Node, Trie, Word
from icl_engine.pipeline import Pipeline
from icl_engine.types import (
    Capabilities,
    Continuation,
    Need,
    NextToken,
    Place,
    Request,
    Response,
    Spelling,
    Token,
    Usage,
)

SURE = -0.1
"""log p of the label that is said."""

LONGEST = PLACES
"""The most tokens that a further request for a label's spelling says."""

SEARCHED = ("named", "top_k")
"""Rungs whose number of requests depends on the answers."""


class Dry:
    """A model that is sure of the first label.

    Args:
        words: the labels' words as they would follow the prompt.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.paths: dict[str, Node] = {}

    def learn(self, request: Request, spelt: Response) -> None:
        """Take in how the tokenizer spells the words."""
        if isinstance(request.readout, Spelling):
            self.paths |= zip(request.readout.texts, spelt.spelt, strict=False)

    def answer(self, request: Request) -> Response:
        """What it says."""
        match request.readout:
            case NextToken(_, _, spelt, places):
                return Response("", places=self._places(spelt, places))
            case Continuation(text):
                tokens: Sequence[Token] = self.paths.get(text) or (text,)
                return Response(text, tuple((token, SURE) for token in tokens))
        return Response(self.words[0] if self.words else "")

    def _places(self, spelt: Sequence[Token], places: int) -> tuple[Place, ...]:
        """What may be said behind `spelt`, its first member surely; then along the path of that."""
        node: Node = tuple(spelt) if not isinstance(spelt, str) else ()
        paths: list[Node] = [self.paths.get(word) or (word,) for word in self.words]
        read: list[Place] = []
        while len(read) < places:
            here = list(dict.fromkeys(p[len(node)] for p in paths if len(p) > len(node) and p[: len(node)] == node))
            if not here:
                break
            others = SURE - 3.0 - len(here)
            read.append(place(here[0], [(t, SURE if t == here[0] else others) for t in here], ranked=True))
            node = (*node, here[0])
        return tuple(read) or (place("", [("", SURE)], ranked=True),)


def most(
    need: Need, can: Capabilities, dry: Dry, longest: Callable[[str], int], *, chat: bool, cloze: bool
) -> int | None:
    """The most requests that one question for label scores may take; None where that does not depend on the answers.

    Args:
        need: the labels.
        can: what the endpoint can give.
        dry: knows the words, and their tokens where the tokenizer was asked.
        longest: the most tokens that a word may have, where it was not.
        chat: whether turns are sent.
        cloze: whether text stands behind the answer.
    """
    if need.kind == "text" or rung(need, can, cloze=cloze) not in SEARCHED:
        return None
    words = [Word(str(i), text, dry.paths.get(text)) for i, text in enumerate(dry.words)]
    known = all(word.path for word in words)
    width = can.named or len(words)
    asked = -(-len(words) // width)
    if can.forced or (chat and not can.prefill and not known):
        pass  # nothing is asked behind the first token
    elif known:
        trie = Trie(words, need.scores)
        asked = sum(-(-len(trie.after(node)) // width) for node in {(), *trie.nodes()})
    else:
        asked += sum(longest(word.text) - 1 for word in words)
    if need.want == "argmax":
        asked = min(asked, -(-len(words) // width) + ROUNDS)
    return asked + (len(words) if can.continuation else 0)


def probes(pipeline: Pipeline) -> int:
    """The most requests it may take to find out what the endpoint can give of what the task needs."""
    endpoint, api = pipeline.driver.endpoint, pipeline.model.api
    wanted = set[str]().union(*pipeline.wanted()) & endpoint.uncertain - endpoint.capabilities.probed
    can = hoped(endpoint.capabilities, endpoint.uncertain)
    return sum(max(_asked(can, api, name, answers) for answers in (True, False)) for name in wanted)


def _asked(can: Capabilities, api: str, name: str, answers: bool) -> int:
    """How many requests a probe takes, if all are answered or none is."""
    said = Response("a", (("a", SURE),), (place("a", [("a", SURE)], ranked=True),), ((1,), (1,)), None, Usage(1, 0, 1))
    steps, asked = probe(api, can, {name}), 0
    try:
        batch = next(steps)
        while True:
            asked += len(batch)
            batch = steps.send([said] * len(batch)) if answers else steps.throw(RequestError("not asked"))
    except StopIteration:
        return asked
