"""Rungs 1 to 4: label scores from log-probabilities, of the next tokens and of given continuations.

A trie over the labels' words is asked at its root, then where the labels are not settled: best first for the argmax,
everywhere for the whole distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from icl_engine.errors import NoLogprobsError, RequestError, TaskError
from icl_engine.models.question import Question
from icl_engine.models.trie import Node, Standing, Trie, Word
from icl_engine.protocols import Steps
from icl_engine.types import Continuation, LabelScores, NextToken, Request, Spelling

TOP = 50
"""Next tokens asked for where the endpoint sets no narrower limit: wide enough for most labels, as fast as 1."""

PLACES = 16
"""The most tokens that are said to read a label's path in one request."""

FEW, MANY = 4, 16
"""Nodes that an argmax asks together while no label is settled, and once one is: measured on 77 intents, more of them
save no round trip and read nodes that turn out not to matter (2.4 requests and 16 nodes a row; one by one 13.6)."""

ROUNDS = 64
"""Rounds after which an argmax is given as bounded: a stop for sets of labels that no model can tell apart."""

NEGLIGIBLE = 0.01
"""Share that labels known only by a bound may have in what is given as a distribution although it was not wanted."""


def by_names(q: Question) -> Steps[LabelScores]:
    """Ask at the root, then where the labels are not settled: best first for the argmax, everywhere for all."""
    words = yield from _spelt(q)
    spelt = all(word.path for word in words)
    chat = q.prompt.text is None
    trie = Trie(words, q.need.scores, extend=not chat or q.can.prefill or spelt)
    said = yield from _visit(q, trie, [()])
    asked, continued = 1, 0
    for _ in range(ROUNDS if q.need.want == "argmax" else len(words) + PLACES):
        nodes, unseen = _next(q, trie)
        if not nodes and not unseen:
            break
        asked, continued = asked + len(nodes), continued + len(unseen)
        if unseen:
            yield from _continue(q, trie, unseen)
        if nodes:
            yield from _visit(q, trie, nodes)
    first = "named" if q.can.named and spelt else "top_k"
    deep = any(word.path is None or len(word.path) > 1 for word in words) and (asked > 1 or spelt)
    method = "trie" if deep else first
    return _scores(q, trie, f"{method}+continuation" if continued else method, said)


def by_top(q: Question) -> Steps[LabelScores]:
    """The same by the likeliest tokens: for endpoints that score no named ones, or have ceased to."""
    return by_names(replace(q, can=replace(q.can, named=0)))


def _spelt(q: Question) -> Steps[list[Word]]:
    """The words with their tokens, where the endpoint shows its tokenizer: asked once for each end of a prompt."""
    words = q.words
    if not q.can.spelling or q.prompt.images:  # a tokenizer sees no images
        return words
    # Tokens do not reach across white space, so only the prompt's last word decides how the next one is cut.
    last = [] if q.prompt.text is None else q.prompt.text.rsplit(None, 1)
    end = () if q.prompt.text is None else last[-1][-32:] if last else ""
    try:
        (answer,) = yield [Request(end, Spelling(tuple(word.text for word in words)), role="spelling")]
    except RequestError:
        return words
    if len(answer.spelt) != len(words) or not all(answer.spelt):
        return words
    found = [Word(w.label, w.text, path) for w, path in zip(words, answer.spelt, strict=True)]
    owner: dict[Node, Word] = {}
    for word in found:
        twin = owner.setdefault(word.path or (), word)
        if twin.label != word.label:
            raise TaskError(
                f"labels {twin.label!r} and {word.label!r} are spelt by the same tokens; choose words that differ",
                key="output",
            )
    return found


def _visit(q: Question, trie: Trie, nodes: Sequence[Node]) -> Steps[str]:
    """Read the next tokens at some nodes; what was said at the first."""
    asked = _by_text(q, trie, nodes) if trie.words[0].path is None else _by_id(q, trie, nodes)
    answers = yield [q.ask(readout) for _, readout in asked]
    for (node, readout), answer in zip(asked, answers, strict=True):
        if not answer.places:
            raise NoLogprobsError("the model left out the log-probabilities it was asked for")
        trie.read(node, answer.places, readout.named)
    return answers[0].text


def _by_text(q: Question, trie: Trie, nodes: Sequence[Node]) -> list[tuple[Node, NextToken]]:
    """Nodes asked for the likeliest tokens, as texts.

    How many tokens a word takes is unknown: behind the first one, some more are read where one label is wanted.
    """
    longest = max(len(word.text) for word in trie.words)
    asked = []
    for node in nodes:
        spelt = "".join(map(str, node))
        along = node and q.need.want == "argmax"
        places = min(PLACES, 1 + (longest - len(spelt)) // 4) if along else 1
        asked.append((node, NextToken(_top(q, trie), (), spelt, places)))
    return asked


def _by_id(q: Question, trie: Trie, nodes: Sequence[Node]) -> list[tuple[Node, NextToken]]:
    """Nodes asked for what may follow, by name or by the likeliest tokens; along a path where one label is wanted.

    Nodes that can share the tokens they name do, so that they can travel together.
    """
    argmax, width = q.need.want == "argmax", q.can.named
    if not width:
        places = [min(PLACES, trie.following([node])[1]) if argmax else 1 for node in nodes]
        return [(n, NextToken(_top(q, trie), (), _ids(n), p)) for n, p in zip(nodes, places, strict=True)]
    asked: list[tuple[Node, NextToken]] = []
    for group in _sharing(trie, nodes, width):
        here = list(dict.fromkeys(i for node in group for i in trie.after(node)))
        following, depth = trie.following(group)
        if len(here) > width:  # one node with more followers than can be named at once
            parts = (tuple(here[i : i + width]) for i in range(0, len(here), width))
            asked += [(group[0], NextToken(0, part, _ids(group[0]))) for part in parts]
        elif argmax and depth > 1:
            named = tuple(following[:width])
            asked += [(node, NextToken(0, named, _ids(node), min(PLACES, depth))) for node in group]
        else:
            asked += [(node, NextToken(0, tuple(here), _ids(node))) for node in group]
    return asked


def _sharing(trie: Trie, nodes: Sequence[Node], width: int) -> Iterator[list[Node]]:
    """Groups of nodes whose next tokens can be named together."""
    group: list[Node] = []
    here: set[int] = set()
    for node in nodes:
        after = set(trie.after(node))
        if group and len(here | after) > width:
            yield group
            group, here = [], set()
        group.append(node)
        here |= after
    if group:
        yield group


def _ids(node: Node) -> tuple[int, ...]:
    return tuple(int(token) for token in node)


def _top(q: Question, trie: Trie) -> int:
    return min(q.can.top_logprobs, max(TOP, 2 * len(trie.words)))


def _next(q: Question, trie: Trie) -> tuple[list[Node], list[Word]]:
    """The nodes to ask next, and the words to continue because no node gives their next token."""
    standings = trie.standings()
    if q.need.want == "distribution":
        loose = [(word, s) for word, s in standings.items() if not s.exact]
        if q.can.forced:
            return [], [word for word, _ in loose]
        if loose and all(word.path for word in trie.words):
            first = trie.places[()].seen
            nodes = [n for n in trie.nodes() if n and n[0] in first and n not in trie.places]
            if nodes:
                return nodes, []
        nodes = list(dict.fromkeys(s.ask for _, s in loose if s.ask is not None))
        return nodes, [word for word, s in loose if s.ask is None] if q.can.continuation and not nodes else []
    return _best_first(q, standings)


def _best_first(q: Question, standings: Mapping[Word, Standing]) -> tuple[list[Node], list[Word]]:
    """Where the labels with the highest bounds are not settled; nothing once no bound reaches the best label.

    One node at a time, or as many as travel together: all whose bounds reach the best label have to be asked anyway,
    and while no label is settled the likeliest few.
    """
    uppers, lowers = _by_label(q, standings)
    leader = max(lowers, key=lowers.__getitem__, default=None)
    best = -math.inf if leader is None else lowers[leader]
    reaching = {y for y in uppers if uppers[y] > best}
    if reaching <= {leader}:
        return [], []
    loose = [(word, s) for word, s in standings.items() if word.label in reaching and not s.exact]
    loose.sort(key=lambda pair: (-uppers[pair[0].label], -pair[1].upper))
    together = min(q.can.together, FEW if leader is None else MANY)
    nodes: list[Node] = []
    for word, standing in loose:
        if not nodes and (q.can.forced or (q.can.continuation and standing.ask is None)):
            return [], [word]
        if standing.ask is not None and standing.ask not in nodes:
            nodes.append(standing.ask)
        if len(nodes) == together:
            break
    return nodes, []


def _by_label(q: Question, standings: Mapping[Word, Standing]) -> tuple[dict[str, float], dict[str, float]]:
    """(upper, lower) bounds of each label's score; a label without a settled word has no lower one."""
    uppers: dict[str, list[float]] = {}
    lowers: dict[str, list[float]] = {}
    for word, standing in standings.items():
        value = _normalized(q, word, standing)
        uppers.setdefault(word.label, []).append(value)
        if standing.exact:
            lowers.setdefault(word.label, []).append(value)
    off = q.prior
    return (
        {y: _log_sum(v) - off.get(y, 0.0) for y, v in uppers.items()},
        {y: _log_sum(v) - off.get(y, 0.0) for y, v in lowers.items()},
    )


def _normalized(q: Question, word: Word, standing: Standing) -> float:
    """A word's score: the sum of its tokens' log p, or their mean."""
    if q.need.normalization != "mean":
        return standing.upper
    # Of an unspelt rest it is only known that each of its tokens takes a character.
    length = len(word.path) if word.path is not None else standing.depth if standing.exact else len(word.text)
    return standing.upper / max(1, length)


def _scores(q: Question, trie: Trie, method: str, said: str) -> LabelScores:
    standings = trie.standings()
    uppers, lowers = _by_label(q, standings)
    loose = tuple(dict.fromkeys(w.label for w, s in standings.items() if not s.exact))
    leader = max(lowers, key=lowers.__getitem__, default=None)
    best = -math.inf if leader is None else lowers[leader]
    # No bound reaches the best label: the argmax is exact.
    settled = not loose or (q.need.want == "argmax" and all(uppers[y] <= best for y in uppers if y != leader))
    # A label that begins with the best one's word may be bounded by just its figure: it is below all the same.
    below = math.nextafter(best, -math.inf)
    logprobs = {y: min(uppers[y], below) if settled and y != leader and y in loose else uppers[y] for y in q.need.words}
    mass = math.exp(_log_sum([logprobs[y] for y in loose]) - _log_sum(list(logprobs.values()))) if loose else 0.0
    whole = q.need.want == "distribution" or mass <= NEGLIGIBLE
    raw = {y: q.prior.get(y, 0.0) + logprob for y, logprob in logprobs.items()}
    return LabelScores(raw, method, () if settled else loose, q.prior, whole, said)


def _log_sum(values: Sequence[float]) -> float:
    peak = max(values)
    return peak if peak == -math.inf else peak + math.log(sum(math.exp(v - peak) for v in values))


# -- given continuations


def by_continuation(q: Question) -> Steps[LabelScores]:
    """Every word's tokens, each in one request."""
    trie = Trie(q.words, q.need.scores)
    yield from _continue(q, trie, list(trie.words))
    return _scores(q, trie, "continuation", "")


def _continue(q: Question, trie: Trie, words: Sequence[Word]) -> Steps[None]:
    answers = yield [q.ask(Continuation(word.text)) for word in words]
    for word, answer in zip(words, answers, strict=True):
        figures = [p for _, p in answer.tokens]
        if not figures or any(not math.isfinite(p) or p > 1e-3 for p in figures):
            raise NoLogprobsError(f"the model left out log-probabilities of {word.text!r}")
        if len(figures) > 1 and not any(figures):
            raise NoLogprobsError("the model fills log-probabilities with zeros")
        if word.path is not None and len(word.path) != len(figures):
            raise NoLogprobsError(f"the model spells {word.text!r} otherwise than its tokenizer")
        trie.follow(word, answer.tokens)
