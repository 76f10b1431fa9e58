"""The template contract: blocks, the cut at the answer mark, what is refused, what is never evaluated."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from icl_engine.errors import TemplateError
from icl_engine.manipulation.marks import content
from icl_engine.manipulation.template import AnswerExpression, Rendered, Template
from icl_engine.types import Image

BLOCKS = "{{% block instruction %}}{}{{% endblock %}}{{% block example %}}{}{{% endblock %}}"
MACRO = "{% macro show(v) %}<{{ v }}>{% endmacro %}"
LINES = "one\ntwo"


def cut(source: str, **inputs: Any) -> Rendered:
    return Template(source, "t.j2").example(inputs)


def refusal(source: str, **inputs: Any) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        cut(source, **inputs)
    return caught.value


# -- blocks


def test_a_text_without_blocks_is_the_example() -> None:
    assert cut("Text: {{ text }}\nLabel: {{ answer }}\n", text="fine") == Rendered("Text: fine\nLabel:", " ", "")


def test_outer_line_breaks_of_a_block_are_dropped() -> None:
    source = BLOCKS.format("\n\nDo: {{ instruction }}\n\n", "\n\n  {{ text }}\n\nA: {{ answer }}\n\n")
    assert cut(source, text="fine") == Rendered("  fine\n\nA:", " ", "")
    assert Template(source).instruction("this") == "Do: this"


def test_line_breaks_of_data_at_the_edge_of_a_block_are_kept() -> None:
    assert cut("{% block example %}\n{{ text }}{{ answer }}\n{% endblock %}", text="\n\nfine") == Rendered(
        "\n\nfine", "", ""
    )
    assert cut("{% block example %}\n{{ answer }}, {{ text }}\n{% endblock %}", text="fine\n\n").after == ", fine\n\n"


def test_outer_line_breaks_of_an_instruction_are_dropped_with_and_without_a_block() -> None:
    assert Template(BLOCKS.format("\n{{ instruction }}\n", "{{ answer }}")).instruction("\na\n\nb\n") == "a\n\nb"
    assert Template("{{ answer }}").instruction("\na\n\nb\n") == "a\n\nb"


def test_windows_line_breaks_of_a_template_are_line_breaks() -> None:
    assert cut("{% block example %}\r\n{{ text }}\r\n{{ answer }}\r\n{% endblock %}", text="a\r\nb") == Rendered(
        "a\r\nb", "\n", ""
    )


def test_an_unknown_block_is_refused_with_the_nearest_name() -> None:
    error = refusal("\n{% block exmple %}{{ answer }}{% endblock %}")
    assert "unknown block 'exmple'; did you mean 'example'?" in error.what
    assert (error.file, error.line) == ("t.j2", 2)


def test_an_instruction_block_alone_is_refused() -> None:
    assert "no example block" in refusal("{% block instruction %}{{ instruction }}{% endblock %}").what


def test_a_block_given_twice_is_refused() -> None:
    assert "example" in refusal("{% block example %}A {{ answer }}{% endblock %}" * 2).what


@pytest.mark.parametrize(
    "outside", ["Hello", "{{ 3 }}", "{% if true %}Hello{% endif %}", "{% for i in [1] %}-{% endfor %}"]
)
def test_text_outside_the_blocks_is_refused(outside: str) -> None:
    error = refusal(outside + "{% block example %}{{ answer }}{% endblock %}")
    assert "outside the blocks" in error.what
    assert (error.file, error.line) == ("t.j2", 1)


def test_macros_and_settings_outside_the_blocks_serve_both_blocks() -> None:
    source = (
        MACRO
        + "{% set mark = '#' %}"
        + BLOCKS.format("{{ mark }}{{ show(instruction) }}", "{{ mark }}{{ show(answer) }}")
    )
    assert Template(source).instruction("do") == "#<do>"
    assert cut(source) == Rendered("#<", "", ">")


# -- the answer mark


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ text }}: {{ answer }}", Rendered("hi:", " ", "")),
        ("{{ text }}:{{ answer }}", Rendered("hi:", "", "")),
        ("{{ text }}:\n\t \u2003{{ answer }}", Rendered("hi:", "\n\t \u2003", "")),
        ("{{ text }}: {{ answer }}.", Rendered("hi:", " ", ".")),
        ("{{ answer }}", Rendered("", "", "")),
        ("\n \n{{ answer }}", Rendered("", " \n", "")),
    ],
)
def test_white_space_before_the_mark_belongs_to_the_answer(source: str, expected: Rendered) -> None:
    assert cut(source, text="hi") == expected


def test_white_space_at_the_end_of_data_before_the_mark_belongs_to_the_answer() -> None:
    assert cut("{{ text }}{{ answer }}", text="hi \n") == Rendered("hi", " \n", "")


@pytest.mark.parametrize(("after", "cloze"), [(", {{ text }}", True), (".", True), ("  ", False), ("\n", False)])
def test_text_after_the_mark_makes_a_cloze(after: str, cloze: bool) -> None:
    assert cut("{{ answer }}" + after, text="hi").cloze is cloze


@pytest.mark.parametrize(
    "source",
    [
        "{% for w in ['a', 'b'] %}{{ w }}{% if loop.last %}{{ answer }}{% endif %}{% endfor %}",
        "{% macro show(v) %}b{{ v }}{% endmacro %}a{{ show(answer) }}",
        "{% set shown = answer %}ab{{ shown }}",
        "{% set shown %}b{{ answer }}{% endset %}a{{ shown }}",
        "{% with shown = answer %}ab{{ shown }}{% endwith %}",
        "ab{{ answer if true else '' }}",
    ],
)
def test_loops_macros_and_assignments_may_carry_the_mark(source: str) -> None:
    assert cut(source) == Rendered("ab", "", "")


@pytest.mark.parametrize(
    "expression",
    [
        "answer|upper",
        "answer|default('?')",
        "answer|length",
        "[answer]|join",
        "text|replace('h', answer)",
        "answer is defined",
        "answer is none",
        "answer == 'x'",
        "'x' == answer",
        "answer in ['x']",
        "'x' in answer",
        "answer ~ '.'",
        "'.' ~ answer",
        "answer + '.'",
        "'.' + answer",
        "'%s' % answer",
        "answer * 2",
        "answer ** 2",
        "-answer",
        "not answer",
        "answer and 'x'",
        "'x' if answer else 'y'",
        "answer.text",
        "answer[0]",
        "answer()",
        "[answer]",
    ],
)
def test_looking_into_the_answer_is_refused(expression: str) -> None:
    assert refusal("{{ " + expression + " }} {{ answer }}", text="hi").file == "t.j2"


@pytest.mark.parametrize(
    "source",
    [
        "{% set a = answer %}{{ a|upper }}",
        "{% set a = answer %}{{ a|length }}{{ a }}",
        "{% with a = answer %}{% if a %}{{ a }}{% endif %}{% endwith %}",
        "{% set a %}{{ answer }}{% endset %}{{ a|upper }}",
        "{% filter upper %}{{ answer }}{% endfilter %}",
        "{% macro show(v) %}{{ v|lower }}{% endmacro %}{{ show(answer) }}",
    ],
)
def test_looking_into_the_answer_under_another_name_is_refused(source: str) -> None:
    assert refusal(source).file == "t.j2"


def test_a_block_assignment_does_not_show_the_length_of_the_mark() -> None:
    refusal("{% set a %}{{ answer }}{% endset %}{{ a|length }}{{ answer }}")


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("{{ answer }} {{ answer }}", 2),
        ("{% for i in [1, 2, 3] %}{{ answer }}{% endfor %}", 3),
        ("{% if false %}{{ answer }}{% endif %}", 0),
        ("{% set a = answer %}", 0),
    ],
)
def test_a_mark_not_printed_exactly_once_is_refused(source: str, count: int) -> None:
    assert f"printed {count} times" in refusal(source).what


def test_a_template_without_a_mark_is_refused_before_any_row_is_seen() -> None:
    with pytest.raises(TemplateError, match="no answer mark"):
        Template("{{ text }}")


# -- names


def test_an_undefined_variable_names_the_nearest_field() -> None:
    assert "'txt' is undefined; did you mean 'text'?" in refusal("{{ txt }} {{ answer }}", text="hi", other=1).what


def test_an_undefined_variable_is_told_with_its_file_and_line() -> None:
    error = refusal("one\ntwo\n{{ txt }}\n{{ answer }}", text="hi")
    assert (error.file, error.line) == ("t.j2", 3)


@pytest.mark.parametrize("field", ["answer", "target", "instruction"])
def test_a_field_with_a_reserved_name_is_reached_through_x(field: str) -> None:
    source = "{{ x." + field + " }}: {{ answer }}"
    assert Template(source).example({field: "mine"}) == Rendered("mine:", " ", "")


def test_a_field_named_answer_does_not_take_the_place_of_the_mark() -> None:
    assert cut("A: {{ answer }}", answer="leaked") == Rendered("A:", " ", "")


def test_printing_target_is_refused() -> None:
    assert "'target' is reserved" in refusal("{{ target }} {{ answer }}", target="leaked").what


def test_printing_the_instruction_in_the_example_is_refused() -> None:
    assert "'instruction'" in refusal("{{ instruction }} {{ answer }}", instruction="mine").what


@pytest.mark.parametrize("field", ["range", "dict", "cycler", "joiner", "namespace", "lipsum"])
def test_a_field_named_as_a_function_of_jinja_is_a_variable_like_others(field: str) -> None:
    template = Template("{{ " + field + " }} {{ answer }}")
    assert template.example({field: "mine"}).before == "mine"
    assert field in template.variables


def test_variables_are_the_fields_the_example_shows() -> None:
    template = Template(
        MACRO
        + BLOCKS.format("{{ instruction }}", "{% for w in words %}{{ show(w) }}{% endfor %}{{ text }} {{ answer }}")
    )
    assert (template.variables, template.whole_row) == (frozenset({"words", "text"}), False)


# -- the instruction


@pytest.mark.parametrize(
    "instruction", ["{{ 7*7 }}", "{% raw %}", "{# note #}", "{{ ''.__class__ }}", "{% endblock %}"]
)
@pytest.mark.parametrize("block", ["{{ instruction }}", None])
def test_an_instruction_is_never_evaluated(instruction: str, block: str | None) -> None:
    template = Template("{{ answer }}" if block is None else BLOCKS.format(block, "{{ answer }}"))
    assert template.instruction(instruction) == instruction


def test_an_instruction_without_a_block_is_the_text_itself() -> None:
    assert Template("{{ answer }}").instruction("Do this.") == "Do this."


@pytest.mark.parametrize(
    "block", ["Do that.", "", "{% if instruction %}Do that.{% endif %}", "{{ instruction|length }}"]
)
def test_an_instruction_that_its_block_does_not_print_is_refused(block: str) -> None:
    with pytest.raises(TemplateError, match="does not print"):
        Template(BLOCKS.format(block, "{{ answer }}"), "t.j2").instruction("Do this.")


def test_an_instruction_block_needs_no_instruction() -> None:
    assert Template(BLOCKS.format("\nDo that.\n", "{{ answer }}")).instruction("") == "Do that."


def test_an_instruction_block_sees_no_field_of_a_row() -> None:
    with pytest.raises(TemplateError, match="'text' is undefined"):
        Template(BLOCKS.format("{{ instruction }} {{ text }}", "{{ text }} {{ answer }}")).instruction("Do this.")


# -- data is data


@pytest.mark.parametrize(
    "text",
    [
        "{{ 7*7 }}",
        "{% raw %}",
        "{% endblock %}",
        "{# note #}",
        "{{ answer }}",
        "\ue000Answer\ue001",
        "${HOME}",
        "<&>\"'",
    ],
)
def test_data_is_never_evaluated(text: str) -> None:
    assert cut("{{ text }}: {{ answer }}", text=text) == Rendered(f"{text}:", " ", "")


def test_a_filter_sees_the_line_breaks_of_data() -> None:
    assert cut("{{ text|replace('\\n', ' ')|upper }} {{ answer }}", text=LINES).before == "ONE TWO"
    assert cut("{{ text|length }} {{ answer }}", text=LINES).before == str(len(LINES))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% filter upper %}{{ text }}{% endfilter %} {{ answer }}", "ONE\nTWO"),
        ("{% set t %}{{ text }}{% endset %}{{ t|upper }} {{ answer }}", "ONE\nTWO"),
        ("{% set t %}{{ text }}{% endset %}{{ t|length }} {{ answer }}", "7"),
        ("{% macro m() %}{{ text }}{% endmacro %}{{ m()|upper }} {{ answer }}", "ONE\nTWO"),
        ("{% macro m() %}{{ text }}{% endmacro %}{{ m()|replace('\\n', ' ') }} {{ answer }}", "one two"),
    ],
)
def test_a_filter_on_rendered_text_sees_the_line_breaks_of_data(source: str, expected: str) -> None:
    assert cut(source, text=LINES).before == expected


# -- images

CAT, DOG = (Image(name, data=name.encode(), media_type="image/png") for name in ("cat", "dog"))


def said(source: str, **inputs: Any) -> Any:
    """What a turn says: texts and images."""
    query = cut(source, **inputs)
    return content(query.before, query.images)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ image }} {{ answer }}", (CAT,)),
        ("a{{ image }}b{{ more[1] }}c{{ answer }}", ("a", CAT, "b", DOG, "c")),
        ("{% for i in more %}{{ loop.index }}{{ i }}{% endfor %}{{ answer }}", ("1", CAT, "2", DOG)),
        ("{{ more | last }}{{ more | first }}{{ image }}{{ answer }}", (DOG, CAT, CAT)),
        ("{{ x.image }}{{ x['inside'].dog }}{{ answer }}", (CAT, DOG)),
        (MACRO + "{{ show(image) }}{{ answer }}", ("<", CAT, ">")),
        ("{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}{{ image }}{% endcall %}{{ answer }}", "[]"),
        ("{% set two %}{{ image }}{{ image }}{% endset %}{{ two }}{{ two }}{{ answer }}", (CAT,) * 4),
        ("{{ image | default('none') }}{{ missing | default(image) }}{{ answer }}", (CAT, CAT)),
        ("{{ image if image else 'none' }}{{ 'a' if image is defined }}{{ answer }}", (CAT, "a")),
        ("{{ image if image is not none }}{{ 'b' if missing is defined }}{{ answer }}", (CAT,)),
        ("{% filter upper %}see {{ image }} there{% endfilter %}{{ answer }}", ("SEE ", CAT, " THERE")),
        ("{% if false %}{{ image }}{% endif %}text{{ answer }}", "text"),
        ("text{{ answer }}", "text"),
    ],
)
def test_an_image_is_printed_like_any_value(source: str, expected: Any) -> None:
    expected = ("[", CAT, "]") if expected == "[]" else expected
    assert said(source, image=CAT, more=[CAT, DOG], inside={"dog": DOG}) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "image|upper",
        "image|length",
        "image|string",
        "image|tojson",
        "image|list",
        "[image]|join",
        "[image]|string",
        "text|replace('h', image)",
        "image ~ '.'",
        "'.' ~ image",
        "image + '.'",
        "'%s' % image",
        "'%s' | format(image)",
        "image == 'x'",
        "image in ['x']",
        "'x' in image",
        "image is eq('x')",
        "image is iterable",
        "image[0]",
        "image.data",
        "image._text",
        "image.printed()",
        "image|attr('name')",
        "image()",
    ],
)
def test_an_image_cannot_be_looked_into(expression: str) -> None:
    error = refusal(f"{{{{ {expression} }}}}{{{{ answer }}}}", image=CAT, text="hi")
    assert (error.file, error.line) == ("t.j2", 1)
    assert "cat" not in error.what


@pytest.mark.parametrize(
    "source",
    [
        "{% filter truncate(2, true, '', 0) %}{{ image }}{% endfilter %}",
        "{% filter tojson %}{{ image }}{% endfilter %}",
        "{% filter urlencode %}{{ image }}{% endfilter %}",
        "{% set shown %}{{ image }}{% endset %}{{ shown[2:] }}",
        "{% set shown %}{{ image }}{% endset %}{{ shown }}{{ shown[:1] }}",
        "{% set shown %}{{ image }}{% endset %}{{ shown | reverse }}",
        "{% set shown %}{{ image }}{% endset %}{{ shown | list }}",
    ],
)
def test_an_image_that_was_printed_must_come_out_whole(source: str) -> None:
    error = refusal(source + "{{ answer }}", image=CAT)
    assert error.what == "an image was printed and then changed or cut off; print it outside any filter"


@given(text=st.text())
@example(text="\U000f8000\U00100000")
def test_data_beside_an_image_stays_as_it_is(text: str) -> None:
    assert said("{{ image }}<{{ text }}>{{ answer }}", image=CAT, text=text) == (CAT, f"<{text}>")


def test_the_mark_of_an_image_is_private_to_the_process() -> None:
    script = "from icl_engine.manipulation import marks; print(ascii(marks._MARK))"
    marks = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(marks) == 2


def test_bytes_that_are_no_image_are_not_printed() -> None:
    assert refusal("{{ blob }}{{ answer }}", blob=b"1234").what.startswith("bytes are printed")


def test_a_row_without_images_is_rendered_as_it_is() -> None:
    assert cut("{{ text }} {{ answer }}", text="hi").images == ()


# -- the sandbox


@pytest.mark.parametrize(
    "expression", ["''.__class__", "text.__class__.__mro__", "text|attr('__class__')", "range(10 ** 9)|list"]
)
def test_the_sandbox_refuses_to_leave(expression: str) -> None:
    assert refusal("{{ " + expression + " }} {{ answer }}", text="hi").file == "t.j2"


def test_a_template_cannot_change_data() -> None:
    words = ["a"]
    refusal("{{ words.append('b') }} {{ answer }}", words=words)
    assert words == ["a"]


@pytest.mark.parametrize(
    "tag", ["{% extends 'a' %}", "{% include 'a' %}", "{% import 'a' as b %}", "{% from 'a' import b %}"]
)
def test_a_template_stands_alone(tag: str) -> None:
    error = refusal("\n" + tag + "{{ answer }}")
    assert "stands alone" in error.what
    assert (error.file, error.line) == ("t.j2", 2)


@pytest.mark.parametrize("expression", ["lipsum()", "['a', 'b']|random", "text.upper"])
def test_nothing_that_differs_from_one_rendering_to_the_next_can_be_printed(expression: str) -> None:
    refusal("{{ " + expression + " }} {{ answer }}", text="hi")


# -- errors


@pytest.mark.parametrize(
    "source", ["a\n\n{{ oops\n", "a\n\n{% if x %}{% fi %}", "a\n\n{{ text|nofilter }}", "a\n\n{{ text is notest }}"]
)
def test_a_syntax_error_is_told_with_its_file_and_line(source: str) -> None:
    error = refusal(source + "{{ answer }}")
    assert (error.file, error.line) in {("t.j2", 3), ("t.j2", 4)}
    assert str(error).startswith(f"t.j2:{error.line}: ")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ text + 1 }}",
        "{{ text() }}",
        "{{ text|map('nofilter')|list }}",
        "{{ text|map|list }}",
        "{{ text|truncate(1, true, '...', 0) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_row_that_cannot_be_rendered_is_a_template_error(source: str) -> None:
    assert refusal(source + "{{ answer }}", text="hi").file == "t.j2"


# -- the answer expression


def test_an_answer_expression_sees_fields_and_the_written_target() -> None:
    show = AnswerExpression("{{ rationale }} So the answer is {{ answer_text }}.")
    assert show({"rationale": "{{ 7*7 }}"}, "{% raw %}") == "{{ 7*7 }} So the answer is {% raw %}."


@pytest.mark.parametrize("source", ["{{ rationle }}", "{{ ''.__class__ }}", "{{ 1 / 0 }}", "{{ a", "{% include 'a' %}"])
def test_a_faulty_answer_expression_is_told_with_its_key(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        AnswerExpression(source)({"rationale": "why"}, "4")
    assert caught.value.key == "input.answer"


# -- laws

SOURCES = [
    "Text: {{ text }}\nLabel: {{ answer }}",
    "{% block example %}\n- {{ text }}\n\n{{ answer }}\n{% endblock %}",
    "{{ text }}{{ answer }}{{ more }}",
    "{% for t in [text, more] %}- {{ t }}\n{% endfor %}= {{ answer }}, {{ text }}",
]
WRITTEN = [
    "Text: {text}\nLabel: {answer}",
    "- {text}\n\n{answer}",
    "{text}{answer}{more}",
    "- {text}\n- {more}\n= {answer}, {text}",
]


@pytest.mark.parametrize(("source", "written"), list(zip(SOURCES, WRITTEN, strict=True)))
@given(text=st.text(), more=st.text(), answers=st.tuples(st.text(), st.text()))
@example(text="\n {{ answer }}\n", more="\r\n{% endblock %}\x1f", answers=("{{ answer }}", "\n"))
def test_a_demonstration_is_the_query_with_its_answer(
    source: str, written: str, text: str, more: str, answers: tuple[str, str]
) -> None:
    query = cut(source, text=text, more=more)
    for answer in answers:
        shown = query.filled(answer)
        assert shown == query.before + query.lead + answer + query.after
        assert shown == written.format(text=text, more=more, answer=answer)


@pytest.mark.parametrize("source", SOURCES)
@given(text=st.text(), more=st.text())
@example(text=" \u2003\x1c\n", more=" ")
def test_what_is_before_the_answer_never_ends_in_white_space(source: str, text: str, more: str) -> None:
    query = cut(source, text=text, more=more)
    assert query.before == query.before.rstrip()
    assert not query.lead.strip()


@given(text=st.text())
def test_an_instruction_stands_in_its_block_byte_for_byte_but_for_outer_line_breaks(text: str) -> None:
    shown = Template(BLOCKS.format("\n> {{ instruction }} <\n", "{{ answer }}")).instruction(text)
    inner = text.strip("\n")
    assert shown == f"> {inner} <"
