"""I = render ∘ select: the instruction, the demonstrations and the query become one prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from icl_engine.manipulation.template import AnswerExpression, Rendered, Template
from icl_engine.protocols import Retriever, Steps
from icl_engine.types import Demonstration, Example, Message, Prompt


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
        return None if self.retriever is None else self.retriever.dump(self.state)

    def identity(self, x: Example) -> str:
        """What makes two examples duplicates: what the template shows of them, but for case and white space."""
        names = x.inputs.keys() - {"id"} if self.template.whole_row else self.template.variables
        return "\x1f".join(" ".join(str(x.inputs.get(name)).casefold().split()) for name in sorted(names))

    def render(self, x: Example, demonstrations: tuple[Demonstration, ...], chat: bool) -> Prompt:
        """x after the given demonstrations; with `chat` as turns.

        Raises:
            TemplateError: an undefined variable, a mark not printed exactly once, a cloze for a chat model.
        """
        query = self.template.example(x.inputs)
        if not chat:
            before = self._once("text", demonstrations, self._text)
            text, lead = self._joined(before, query)
            return Prompt(text, None, lead, query.after, demonstrations)
        if query.cloze:
            raise self.template.error(
                "text after the answer mark (a cloze) needs a completion model (api: completions)"
            )
        turns = self._once("chat", demonstrations, self._messages)
        if self.turns == "single":
            shown = self._once("single", demonstrations, lambda d: self.separator.join(self._filled(d)))
            content, _ = self._joined(shown, query)
            turns = turns[: 1 if self.template.instruction(self.instruction) else 0]
        else:
            content = query.before
        return Prompt(None, (*turns, Message("user", content)), query.lead, "", demonstrations)

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

    def _filled(self, demonstrations: tuple[Demonstration, ...]) -> list[str]:
        return [self.template.example(d.example.inputs).filled(self._shown(d)) for d in demonstrations]

    def _text(self, demonstrations: tuple[Demonstration, ...]) -> str:
        parts = [self.template.instruction(self.instruction), *self._filled(demonstrations)]
        return self.separator.join(part for part in parts if part)

    def _messages(self, demonstrations: tuple[Demonstration, ...]) -> tuple[Message, ...]:
        instruction = self.template.instruction(self.instruction)
        turns = [Message("system", instruction)] if instruction else []
        for d in demonstrations:
            turns.append(Message("user", self.template.example(d.example.inputs).before))
            turns.append(Message("assistant", self._shown(d)))
        return tuple(turns)
