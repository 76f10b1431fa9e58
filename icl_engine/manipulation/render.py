"""Rendering: the instruction, the demonstrations and the query become one prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from icl_engine.images import loaded
from icl_engine.manipulation.marks import content
from icl_engine.manipulation.template import AnswerExpression, Rendered, Template
from icl_engine.types import Demonstration, Example, Image, Message, Prompt

KEPT = 64
"""Sets of demonstrations whose text is kept: prompts that begin alike are rendered once."""

ROWS = 20_000
"""Demonstrations whose text is kept."""

Shown = tuple[Demonstration, ...]


@dataclass(frozen=True)
class Renderer:
    """Instruction, demonstrations, query, joined by a separator; empty parts add none.

    Args:
        template: how an example is written.
        write: O's way to write a target, so that a demonstration shows what O can read.
        instruction: plain text, never a template.
        separator: stands between parts.
        turns: for chat models, a user and an assistant turn for each demonstration, or all in a ``single`` user turn.
        answer: what stands at the answer mark of a demonstration; by default ``write(target)``.
    """

    template: Template
    write: Callable[[Any], str]
    instruction: str = ""
    separator: str = "\n\n"
    turns: Literal["turns", "single"] = "turns"
    answer: AnswerExpression | None = None
    _memo: dict[Any, tuple[Shown, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _rows: dict[int, tuple[Example, Rendered, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shares(self) -> bool:
        """Whether many queries are shown the same demonstrations."""
        return True

    def render(self, x: Example, demonstrations: Shown, chat: bool) -> Prompt:
        """x after the given demonstrations; with `chat` as turns.

        Raises:
            TemplateError: an undefined variable, a mark not printed exactly once, a cloze for a chat model, an image
                for a completion model.
            DataError: an image that cannot be read.
        """
        query = self.template.example(x.inputs)
        if not chat:
            self._without_images(query)
            before = self._once("text", demonstrations, self._text)
            text, lead = self._joined(before, query)
            return Prompt(text, None, lead, query.after, demonstrations)
        if query.cloze:
            raise self.template.error(
                "text after the answer mark (a cloze) needs a completion model (api: completions)"
            )
        turns = self._once("turns", demonstrations, self._opening)
        text, images = query.before, query.images
        if self.turns == "single":
            shown, earlier = self._once("single", demonstrations, self._single)
            text, images = self._joined(shown, query)[0], (*earlier, *images)
        return Prompt(None, (*turns, Message("user", content(text, images))), query.lead, "", demonstrations)

    def _joined(self, before: str, query: Rendered) -> tuple[str, str]:
        """The prompt's text, and the white space before the answer (for an empty query, the separator too)."""
        text = f"{before}{self.separator if before else ''}{query.before}"
        stem = text.rstrip()
        return stem, text[len(stem) :] + query.lead

    def _once(self, form: str, demonstrations: Shown, make: Callable[[Shown], Any]) -> Any:
        """`make(demonstrations)`, kept while few other sets are shown (the usual case: one set a run)."""
        key = (form, *map(id, demonstrations))
        kept = self._memo.get(key)
        if kept is None:
            if len(self._memo) >= KEPT:
                self._memo.clear()
            self._memo[key] = kept = (demonstrations, make(demonstrations))  # held, so that no other gets their ids
        return kept[1]

    def _shown(self, demonstration: Demonstration) -> str:
        """What stands at a demonstration's answer mark."""
        example = demonstration.example
        text = self.write(example.target)
        return text if self.answer is None else self.answer(example.inputs, text)

    def _turn(self, example: Rendered, answer: str) -> tuple[str, str]:
        """What the user says of a demonstration, and the assistant."""
        return example.before, answer

    def _solved(self, demonstrations: Shown) -> list[tuple[Rendered, str]]:
        """Each demonstration, rendered, and its answer."""
        return [self._one(d) for d in demonstrations]

    def _one(self, demonstration: Demonstration) -> tuple[Rendered, str]:
        """A row that was shown before is not rendered again: retrievers choose some of them over and over."""
        example = demonstration.example
        kept = self._rows.get(id(example))
        if kept is None:
            if len(self._rows) >= ROWS:
                self._rows.clear()
            kept = (example, self.template.example(example.inputs), self._shown(demonstration))
            self._rows[id(example)] = kept
        return kept[1], kept[2]

    def _text(self, demonstrations: Shown) -> str:
        """Instruction and demonstrations as one text."""
        solved = self._solved(demonstrations)
        self._without_images(*(example for example, _ in solved))
        parts = [self.template.instruction(self.instruction), *(e.filled(answer) for e, answer in solved)]
        return self.separator.join(part for part in parts if part)

    def _without_images(self, *rendered: Rendered) -> None:
        if any(example.images for example in rendered):
            raise self.template.error("an image is printed: images need a chat model (api: chat)")

    def _single(self, demonstrations: Shown) -> tuple[str, tuple[Image, ...]]:
        """The demonstrations as one text, and the images whose marks stand in it, read once for all queries."""
        solved = self._solved(demonstrations)
        images = tuple(loaded(image) for example, _ in solved for image in example.images)
        return self.separator.join(example.filled(answer) for example, answer in solved), images

    def _opening(self, demonstrations: Shown) -> tuple[Message, ...]:
        """The turns before the query's; the last of them that many queries have in common is marked."""
        instruction = self.template.instruction(self.instruction)
        turns = [Message("system", instruction)] if instruction else []
        for example, answer in self._solved(demonstrations if self.turns == "turns" else ()):
            asked, said = self._turn(example, answer)
            turns += Message("user", content(asked, example.images)), Message("assistant", said)
        if turns and (instruction or self.shares):
            at = -1 if self.shares else 0
            turns[at] = replace(turns[at], shared=True)
        return tuple(turns)
