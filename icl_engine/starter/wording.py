"""How a guess is put into words: titles, label words, the instruction, the template, and texts as YAML."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable, Mapping

from jinja2.defaults import DEFAULT_NAMESPACE

from icl_engine.errors import bounded
from icl_engine.manipulation.template import RESERVED
from icl_engine.starter.column import words_of
from icl_engine.starter.guess import Guess
from icl_engine.starter.split import without_variables

LABELS_SHOWN = 16
"""Up to so many labels each gets a demonstration, and the instruction lists them."""

_NOT_BARE = RESERVED | set(DEFAULT_NAMESPACE) | set(keyword.kwlist)
_NOT_BARE |= {"true", "false", "none", "self", "super", "loop", "caller", "varargs", "kwargs", "context", "environment"}
BARE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[^\W\d_][\w./-]*(?: [\w-]+)*")
_NOT_PLAIN = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
"""Words that a YAML reader may take for something else than text (the last six: older ones)."""


def scalar(text: str) -> str:
    r"""A text as YAML: bare where every reader takes it for text, else in double quotes.

    >>> print(scalar("not entailment"), scalar("yes"), scalar("a: b"), scalar("1.5"), scalar("\n"))
    not entailment "yes" "a: b" "1.5" "\n"
    """
    if _PLAIN.fullmatch(text) and text.isprintable() and text.casefold() not in _NOT_PLAIN and len(text) < 80:
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in json.dumps(text, ensure_ascii=False))


def _escaped(c: str) -> str:
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def comment(text: str) -> str:
    """A text as it may stand in a comment: one line, nothing a YAML reader refuses."""
    return bounded(text, 100)


def title(name: str) -> str:
    """A field's name for people, and for a prompt; nothing in it is read by Jinja.

    >>> title("review_text"), title("goldLabel"), title("{{ x }}")
    ('Review text', 'Gold label', 'X')
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    shown = "".join(c if c.isprintable() and c not in "{}_" else " " for c in apart)
    if " " not in shown.strip():
        shown = shown.replace("-", " ")
    text = bounded(" ".join(shown.split()), 60).strip(" :")
    text = " ".join(w if w.isupper() else w.lower() for w in text.split(" ")) if apart != name else text
    return text[:1].upper() + text[1:] if text else "Input"


def answer_title(guess: Guess) -> str:
    """The answer's name in a prompt: names that say nothing (y, target, gold) become Label or Answer."""
    said = [w for w in words_of(guess.target) if w not in ("gold", "true", "correct")]
    if not said or said[-1] in ("y", "target", "targets", "class", "classes"):
        return "Label" if guess.kind == "labels" else "Answer"
    return title(guess.target) if len(said) == len(words_of(guess.target)) else title(" ".join(said))


def printed(name: str, *, as_list: bool = False) -> str:
    r"""A field as a template prints it.

    >>> print(printed("text"), printed("review text"), printed("answer"), printed("tags", as_list=True))
    {{ text }} {{ x['review text'] }} {{ x['answer'] }} {{ tags | join(', ') }}
    """
    if BARE.fullmatch(name) and name not in _NOT_BARE:
        expression = name
    else:
        spelt = "".join(c if c.isprintable() else _escaped(c) for c in name.replace("\\", "\\\\").replace("'", "\\'"))
        expression = f"x['{spelt}']"
    joined = " | join(', ')" if as_list else ""
    return f"{{{{ {expression}{joined} }}}}"


def template(guess: Guess) -> str:
    """One line a field, the answer last."""
    lines = [f"{title(name)}: {printed(name, as_list=name in guess.lists)}" for name in guess.inputs]
    return "\n".join([*lines, f"{answer_title(guess)}: {{{{ answer }}}}"])


def words(labels: Iterable[str]) -> dict[str, str]:
    """Label -> the word that stands for it: readable, and another for each label.

    >>> words(["not_entailment", "card-arrival", " yes", "0"])
    {'not_entailment': 'not entailment', 'card-arrival': 'card arrival', ' yes': 'yes', '0': '0'}
    """
    found: dict[str, str] = {}
    for label in labels:
        own = " ".join(without_variables(label).split())
        joined = re.fullmatch(r"[^\W_]+(?:[_-][^\W_]+)+", own) and not any(c.isdigit() for c in own)
        choices = [re.sub("[_-]", " ", own)] if joined else []
        choices += [own, *(f"{own} ({n})" for n in range(2, len(found) + 3))]
        found[label] = next(word for word in choices if word not in found.values())
    return found


def instruction(guess: Guess, spoken: Mapping[str, str]) -> str:
    """A plain sentence that says what is asked for.

    >>> g = Guess("sentiment", "", "labels", {"a": 1, "b": 1}, ("text",), frozenset(), {})
    >>> instruction(g, {"a": "positive", "b": "negative"})
    'Choose the sentiment: positive or negative.'
    """
    name = answer_title(guess)
    name = name if name.split(" ")[0].isupper() else name[:1].lower() + name[1:]
    listed = list(spoken.values())
    if guess.kind == "labels" and len(listed) <= LABELS_SHOWN and sum(map(len, listed)) <= 400:
        return f"Choose the {name}: {', '.join(listed[:-1])} or {listed[-1]}."
    asked = {
        "labels": f"Choose the {name}.",
        "number": f"Give the {name} as a number.",
        "json": f"Give the {name} as JSON.",
        "text": f"Give the {name}." if name.endswith("answer") else f"Write the {name}.",
    }
    return asked[guess.kind]


def coded(guess: Guess) -> bool:
    """Whether the labels are numbers, which say nothing to a model."""
    return bool(guess.labels) and all(re.fullmatch(r"-?\d+(?:\.\d+)?", label) for label in guess.labels)
