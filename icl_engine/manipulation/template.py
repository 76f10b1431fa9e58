"""Templates: how an example, its answer and the instruction become text. The contract is in `Template`.

Here and nowhere else: Jinja, the answer mark, white space at the mark. Which demonstrations are shown, and how
parts are joined, is `few_shot.py`; what passes through a template without being looked into is `marks.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from icl_engine.errors import TemplateError, bounded, did_you_mean
from icl_engine.images import AnyImage
from icl_engine.manipulation.marks import SIMPLE, AnswerMark, ImageMark, ImageMarks, printed

RESERVED = frozenset({"answer", "target", "instruction", "x"})

# Private to the process, so that no data can contain them. Mixed case and non-ASCII: a filter that changes text breaks
# the mark, which is then noticed as missing.
_SALT = secrets.token_hex(8)
_MARK = f"\ue000Answer{_SALT}\ue001"
_NEWLINE = f"\ue000Line{_SALT}\ue001"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One example, cut at the answer mark.

    Args:
        before: the text up to the answer, with no white space at its end.
        lead: the white space between `before` and the answer; it belongs to the answer.
        after: what follows the answer (empty unless the template is a cloze or ends in spaces).
        images: those whose marks stand in `before` and `after`, in order.
    """

    before: str
    lead: str
    after: str
    images: tuple[AnyImage, ...] = field(default=(), repr=False)

    @property
    def cloze(self) -> bool:
        """Whether something is said after the answer."""
        return bool(self.after.strip())

    def filled(self, answer: str) -> str:
        """The example with its answer."""
        return f"{self.before}{self.lead}{answer}{self.after}"


def _finalize(value: Any) -> Any:
    """What Jinja prints for a value."""
    if isinstance(value, AnswerMark):
        return _MARK
    if isinstance(value, ImageMark):
        return printed(value)
    if isinstance(value, bytes):
        raise TemplateError("bytes are printed that are not a PNG, JPEG, GIF or WebP image")
    if callable(value) and not isinstance(value, Undefined):
        raise TemplateError("a function is printed, not its result; call it, or use x['name'] for a field of that name")
    return str(value)


def _finalize_apart(value: Any) -> Any:
    """The same, with the line breaks of data kept apart from the template's own."""
    return str(_finalize(value)).replace("\n", _NEWLINE)


def _finalize_answer(value: Any) -> Any:
    """What `input.answer` prints for a value."""
    if isinstance(value, ImageMark | bytes):
        raise TemplateError("an answer is text, and this prints an image or bytes")
    return value


def _environment(finalize: Callable[[Any], Any] | None) -> ImmutableSandboxedEnvironment:
    # Prompts are text, not HTML: nothing is escaped.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, finalize=finalize, keep_trailing_newline=True, autoescape=False
    )
    # The same row always makes the same prompt.
    del environment.globals["lipsum"], environment.filters["random"]
    return environment


_PLAIN = _environment(_finalize)
_APART = _environment(_finalize_apart)
_EXPRESSIONS = _environment(_finalize_answer)

# A field may have the name of a function of Jinja's: where free names are looked for, there are no functions.
_BARE = _environment(None)
_BARE.globals.clear()


class Template:
    r"""A Jinja text with an ``instruction`` block, which may be missing, and an ``example`` block.

    A text without any block is all example. The example is rendered with an opaque mark for ``{{ answer }}`` and cut
    there, so that a demonstration and a query share every byte. Outer line breaks of a block are dropped, those of
    data never. Rendering is sandboxed and strict; data is never evaluated as a template.

    Args:
        source: the Jinja text.
        name: the file to name in errors.
        line: where a template written in a task file begins; by default errors name the template's own lines.

    Raises:
        TemplateError: a syntax error, no answer mark, a filter or test on ``answer``, printed text outside the blocks.

    >>> t = Template("{% block example %}Review: {{ text }}\nSentiment: {{ answer }}{% endblock %}")
    >>> t.example({"text": "fine"})
    Rendered(before='Review: fine\nSentiment:', lead=' ', after='')
    """

    def __init__(self, source: str, name: str = "<inline>", line: int | None = None) -> None:
        self.source, self.name, self._line = source, name, line
        tree = self._parse(source)
        blocks = self._blocks(tree)
        shared = [n for n in tree.body if isinstance(n, _SHARED)] if blocks else []
        example = blocks["example"].body if blocks else tree.body
        self._check_mark(example)
        # A filter over printed text would see the marks that keep data's line breaks apart: then they stay as they are.
        looked_into = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
        self._environment = _PLAIN if next(tree.find_all(looked_into), None) else _APART
        self._example = self._compile(shared, example)
        self._instruction = self._compile(shared, blocks["instruction"].body) if "instruction" in blocks else None
        body = nodes.Template([*shared, *example], lineno=1)
        body.set_environment(_BARE)
        free = meta.find_undeclared_variables(body)
        if "instruction" in free:
            raise self.error("'instruction' is printed in the instruction block, not in the example")
        fields = _fields_of_x(body)
        self.variables = frozenset(free - RESERVED) | (fields or frozenset())
        self.ordered = sorted(self.variables)
        self.whole_row = "x" in free and fields is None
        # Text and bare variables: what such a template prints, and whether it can, is plain from the row.
        printed = [n for node in example for n in (node.nodes if isinstance(node, nodes.Output) else [node])]
        self._bare = all(isinstance(n, nodes.TemplateData | nodes.Name) for n in printed) and "x" not in free

    def surely(self, inputs: Mapping[str, Any]) -> bool:
        """Whether it is plain, without rendering, that it can be rendered with these inputs."""
        return self._bare and all(type(inputs.get(name)) in SIMPLE and name in inputs for name in self.variables)

    def missing(self, inputs: Mapping[str, Any]) -> frozenset[str]:
        """Variables the example may print that a row does not have (it may not need them: only rendering tells)."""
        return self.variables - inputs.keys() - set(_PLAIN.globals)

    def error(self, what: str, line: int | None = None) -> TemplateError:
        """A mistake in this template."""
        return TemplateError(what, file=self.name, line=self._line or line)

    def _parse(self, source: str) -> nodes.Template:
        try:
            return _PLAIN.parse(source)
        except TemplateSyntaxError as error:
            raise self.error(bounded(error.message or "syntax error"), error.lineno) from error

    def _blocks(self, tree: nodes.Template) -> dict[str, nodes.Block]:
        for node in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
            raise self.error("a template stands alone: no extends, include or import", node.lineno)
        blocks: dict[str, nodes.Block] = {}
        for block in tree.find_all(nodes.Block):
            if block.name not in ("instruction", "example"):
                near = did_you_mean(block.name, ["instruction", "example"])
                raise self.error(f"unknown block {block.name!r}{near}", block.lineno)
            if block.name in blocks:
                raise self.error(f"a second block {block.name!r}", block.lineno)
            blocks[block.name] = block
        if not blocks:
            return blocks
        if "example" not in blocks:
            raise self.error("there is no example block; write {% block example %}…{{ answer }}{% endblock %}")
        for part in tree.body:
            if not isinstance(part, (nodes.Block, *_SHARED)) and not _blank(part):
                raise self.error("what stands outside the blocks is never printed; move it into one", part.lineno)
        return blocks

    def _check_mark(self, body: list[nodes.Node]) -> None:
        holder = nodes.Template(body, lineno=1)
        marked = {"answer"}
        for block in holder.find_all(nodes.AssignBlock):
            if isinstance(block.target, nodes.Name) and any(n.name in marked for n in block.find_all(nodes.Name)):
                marked.add(block.target.name)
        for node in holder.find_all((nodes.Filter, nodes.Test, nodes.Compare, nodes.Getattr, nodes.Getitem)):
            inner = node.expr if isinstance(node, nodes.Compare) else node.node  # type: ignore[attr-defined]
            if isinstance(inner, nodes.Name) and inner.name in marked:
                raise self.error("'answer' may only be printed: no filter, test or operator on it", node.lineno)
        for filtered in holder.find_all(nodes.FilterBlock):
            if any(n.name in marked for n in filtered.find_all(nodes.Name)):
                raise self.error("'answer' may only be printed, not filtered", filtered.lineno)
        named = {n.name for n in holder.find_all(nodes.Name) if n.ctx == "load"}
        if "target" in named:
            raise self.error("'target' is reserved; print {{ answer }} (or {{ x.target }} for a field of that name)")
        if "answer" not in named:
            raise self.error("the example block has no answer mark; print {{ answer }} where the answer stands")

    def _compile(self, shared: Sequence[nodes.Node], body: Sequence[nodes.Node]) -> JinjaTemplate:
        tree = nodes.Template([*shared, *body], lineno=1)
        tree.set_environment(self._environment)
        try:
            compiled = self._environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise self.error(bounded(error.message or "syntax error"), error.lineno) from error
        compiled.globals = dict(compiled.globals)  # a chain of maps is slow to copy, once for every row
        return compiled

    def _render(self, template: JinjaTemplate, variables: Mapping[str, Any]) -> str:
        try:
            return template.render(variables).strip("\n").replace(_NEWLINE, "\n")
        except TemplateError as error:
            raise self.error(error.what, _line_of(error)) from error
        except UndefinedError as error:
            known = [k for k in variables.get("x", {}) if k not in RESERVED]
            missing = str(error.message).split("'")[1] if "'" in str(error.message) else ""
            near = did_you_mean(missing, known, "the row has")
            raise self.error(f"{bounded(str(error))}{near}", _line_of(error)) from error
        except SecurityError as error:
            raise self.error(f"not allowed in a template: {bounded(str(error))}", _line_of(error)) from error
        except Exception as error:  # whatever a template's own code raises is the template's mistake
            raise self.error(f"cannot be rendered: {_named(error)}", _line_of(error)) from error

    def example(self, inputs: Mapping[str, Any]) -> Rendered:
        """Render one example's inputs, cut at the answer mark.

        Raises:
            TemplateError: an undefined variable, or a mark that is not printed exactly once.
        """
        marks = ImageMarks()
        marked = marks.over(inputs)
        named = {k: v for k, v in marked.items() if k not in RESERVED}
        text = self._render(self._example, {**named, "x": marked, "answer": AnswerMark()})
        try:
            text, images = marks.ordered(text)
        except TemplateError as error:
            raise self.error(error.what) from error
        before, mark, after = text.partition(_MARK)
        if not mark or _MARK in after:
            count = text.count(_MARK)
            raise self.error(f"the answer mark must be printed exactly once; here it is printed {count} times")
        stem = before.rstrip()
        return Rendered(stem, before[len(stem) :], after, images)

    def instruction(self, instruction: str) -> str:
        """The prompt's first part for a plain-text instruction (which is never a template).

        Raises:
            TemplateError: an instruction is given and the instruction block does not print it.
        """
        if self._instruction is None:
            return instruction.strip("\n")
        text = self._render(self._instruction, {"instruction": instruction.strip("\n")})
        if instruction and _SALT not in self._render(self._instruction, {"instruction": _SALT}).casefold():
            raise self.error("input.instruction is given, but the instruction block does not print {{ instruction }}")
        return text


_SHARED = (nodes.Macro, nodes.Assign, nodes.AssignBlock)
"""What may stand outside the blocks: it prints nothing and both blocks see it."""


def _blank(part: nodes.Node) -> bool:
    return isinstance(part, nodes.Output) and all(
        isinstance(n, nodes.TemplateData) and not n.data.strip() for n in part.nodes
    )


def _fields_of_x(body: nodes.Template) -> frozenset[str] | None:
    """The fields that are named as ``x.field`` or ``x['field']``; None where x is used in another way."""
    fields, uses = set(), sum(n.name == "x" for n in body.find_all(nodes.Name))
    for node in body.find_all((nodes.Getattr, nodes.Getitem)):
        if isinstance(node.node, nodes.Name) and node.node.name == "x":  # type: ignore[attr-defined]
            if isinstance(node, nodes.Getattr):
                fields.add(node.attr)
            elif isinstance(node.arg, nodes.Const):  # type: ignore[attr-defined]
                fields.add(str(node.arg.value))  # type: ignore[attr-defined]
            else:
                return None
            uses -= 1
    return None if uses else frozenset(fields)


def _line_of(error: BaseException) -> int | None:
    """The template's line that an error was raised from."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _named(error: Exception) -> str:
    return bounded(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


class AnswerExpression:
    """`input.answer`: what stands at the answer mark of a demonstration, as a Jinja text.

    Its variables are the demonstration's fields and ``answer_text``, the target as O writes it.

    >>> show = AnswerExpression("{{ rationale }} So the answer is {{ answer_text }}.")
    >>> show({"rationale": "2 + 2 = 4."}, "4")
    '2 + 2 = 4. So the answer is 4.'
    """

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self._template = _EXPRESSIONS.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateError(bounded(error.message or "syntax error"), key="input.answer") from error

    def __call__(self, inputs: Mapping[str, Any], answer_text: str) -> str:
        marked = ImageMarks().over(inputs)
        try:
            return self._template.render({**marked, "x": marked, "answer_text": answer_text})
        except TemplateError as error:
            raise TemplateError(error.what, key="input.answer") from error
        except UndefinedError as error:
            raise TemplateError(
                f"{bounded(str(error))} (a demonstration has: {', '.join(sorted(map(str, inputs)))}, answer_text)",
                key="input.answer",
            ) from error
        except Exception as error:  # whatever a template's own code raises is the template's mistake
            raise TemplateError(f"cannot be rendered: {_named(error)}", key="input.answer") from error
