"""I = render ∘ select: the instruction, the demonstrations and the query become one prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from icl_engine.images import identified, loaded, saved
from icl_engine.manipulation.marks import content
from icl_engine.manipulation.template import AnswerExpression, Rendered, Template
from icl_engine.protocols import Retriever, Steps
from icl_engine.types import Demonstration, Example, Image, Message, Prompt


@dataclass(frozen=True)
class FewShot:
    """The input manipulation I(x): instruction, demonstrations, query, joined by a separator; empty parts add none.

    Args:
        template: how an example is written.
        write: O's way to write a target, so that a demonstration shows what O can read.
        retriever: which demonstrations to show; None for zero-shot.
        state: what the retriever learned from the pool.
        instruction: plain text, never a template.
        separator: stands between parts.
        turns: for chat models, a user and an assistant turn for each demonstration, or all in a ``single`` user turn.
        answer: what stands at the answer mark of a demonstration; by default ``write(target)``.
    """

    template: Template
    write: Callable[[Any], str]
    retriever: Retriever | None = None
    state: Any = None
    instruction: str = ""
    separator: str = "\n\n"
    turns: Literal["turns", "single"] = "turns"
    answer: AnswerExpression | None = None
    _memo: dict[str, tuple[tuple[Demonstration, ...], Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def rationale(self) -> bool:
        """Whether a demonstration shows more than the answer, so that the model's own answer will too."""
        return self.answer is not None

    def prompt(self, x: Example, chat: bool) -> Steps[Prompt]:
        """Select demonstrations for x and render: a generator, since a manipulation may ask the model on the way."""
        yield from ()
        return self.render(x, self.select(x), chat)

    def select(self, x: Example) -> tuple[Demonstration, ...]:
        """The demonstrations for x, in the order they are shown."""
        if self.retriever is None:
            return ()
        return self.retriever.select(self.state, x, self.identity)

    def dump(self) -> Any:
        """What the retriever learned, as JSON; None without one."""
        return None if self.retriever is None else saved(self.retriever.dump(self.state))

    def identity(self, x: Example) -> str:
        """What makes two examples duplicates: what the template shows of them, but for case and white space.

        An image counts by its bytes (or its URL).
        """
        names = sorted(x.inputs.keys() - {"id"}) if self.template.whole_row else self.template.ordered
        shown = [x.inputs.get(name) for name in names]
        texts = [value if type(value) is str else str(identified(value)) for value in shown]
        return "\x1f".join([" ".join(text.casefold().split()) for text in texts])

    def render(self, x: Example, demonstrations: tuple[Demonstration, ...], chat: bool) -> Prompt:
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

    def _once(self, form: str, demonstrations: tuple[Demonstration, ...], make: Callable[..., Any]) -> Any:
        """`make(demonstrations)`, kept for as long as the same set is shown (the usual case: one set a run)."""
        kept = self._memo.get(form)
        if kept is None or kept[0] is not demonstrations:
            self._memo[form] = kept = (demonstrations, make(demonstrations))
        return kept[1]

    def _shown(self, demonstration: Demonstration) -> str:
        example = demonstration.example
        text = self.write(example.target)
        return text if self.answer is None else self.answer(example.inputs, text)

    def _solved(self, demonstrations: tuple[Demonstration, ...]) -> list[tuple[Rendered, str]]:
        """Each demonstration, rendered, and its answer."""
        return [(self.template.example(d.example.inputs), self._shown(d)) for d in demonstrations]

    def _text(self, demonstrations: tuple[Demonstration, ...]) -> str:
        """Instruction and demonstrations as one text."""
        solved = self._solved(demonstrations)
        self._without_images(*(example for example, _ in solved))
        parts = [self.template.instruction(self.instruction), *(e.filled(answer) for e, answer in solved)]
        return self.separator.join(part for part in parts if part)

    def _without_images(self, *rendered: Rendered) -> None:
        if any(example.images for example in rendered):
            raise self.template.error("an image is printed: images need a chat model (api: chat)")

    def _single(self, demonstrations: tuple[Demonstration, ...]) -> tuple[str, tuple[Image, ...]]:
        """The demonstrations as one text, and the images whose marks stand in it, read once for all queries."""
        solved = self._solved(demonstrations)
        images = tuple(loaded(image) for example, _ in solved for image in example.images)
        return self.separator.join(example.filled(answer) for example, answer in solved), images

    def _opening(self, demonstrations: tuple[Demonstration, ...]) -> tuple[Message, ...]:
        """The turns before the query's; the last of them that many queries have in common is marked."""
        instruction = self.template.instruction(self.instruction)
        turns = [Message("system", instruction)] if instruction else []
        for example, answer in self._solved(demonstrations if self.turns == "turns" else ()):
            turns.append(Message("user", content(example.before, example.images)))
            turns.append(Message("assistant", answer))
        per_query = self.retriever is not None and self.retriever.per_query
        if turns and (instruction or not per_query):
            at = 0 if per_query else -1
            turns[at] = replace(turns[at], shared=True)
        return tuple(turns)
