"""I as a whole: joining, text and chat forms, the identity that makes duplicates, and what is kept between calls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.images import PNG

from icl_engine.driver.cache import content_key
from icl_engine.engine.records import prompt_sha256
from icl_engine.errors import TemplateError
from icl_engine.images import ImageFile
from icl_engine.manipulation.few_shot import FewShot
from icl_engine.manipulation.retrieve.fixed import Fixed
from icl_engine.manipulation.retrieve.random import Random
from icl_engine.manipulation.template import AnswerExpression, Template
from icl_engine.protocols import Steps
from icl_engine.types import Demonstration, Example, Generate, Image, Message, Prompt, Reading, Request, Role

QA = Template("Q: {{ q }}\nA: {{ answer }}")
QUERY = Example("query", {"q": "three"})


def solved(q: str, target: Any, **more: Any) -> Demonstration:
    return Demonstration(Example(f"id {q}", {"q": q, **more}, target))


ONE, TWO = solved("one", 1), solved("two", 2)


def few_shot(template: Template = QA, **options: Any) -> FewShot:
    return FewShot(template, str, **options)


def whole(prompt: Prompt, answer: str) -> str:
    assert prompt.text is not None
    return f"{prompt.text}{prompt.lead}{answer}{prompt.after}"


# -- text


@pytest.mark.parametrize(
    ("instruction", "demonstrations", "expected"),
    [
        ("", (), "Q: three\nA:"),
        ("Count.", (), "Count.\n\nQ: three\nA:"),
        ("", (ONE,), "Q: one\nA: 1\n\nQ: three\nA:"),
        ("Count.", (ONE, TWO), "Count.\n\nQ: one\nA: 1\n\nQ: two\nA: 2\n\nQ: three\nA:"),
    ],
)
def test_instruction_demonstrations_and_query_are_joined_by_a_blank_line(
    instruction: str, demonstrations: tuple[Demonstration, ...], expected: str
) -> None:
    prompt = few_shot(instruction=instruction).render(QUERY, demonstrations, chat=False)
    assert prompt == Prompt(expected, None, " ", "", demonstrations)


@pytest.mark.parametrize("separator", ["", "\n", "\n###\n"])
def test_parts_are_joined_by_the_separator(separator: str) -> None:
    prompt = few_shot(instruction="Count.", separator=separator).render(QUERY, (ONE, TWO), chat=False)
    assert prompt.text == separator.join(["Count.", "Q: one\nA: 1", "Q: two\nA: 2", "Q: three\nA:"])


def test_an_instruction_block_that_renders_to_nothing_adds_no_separator() -> None:
    template = Template(
        "{% block instruction %}{{ instruction }}{% endblock %}{% block example %}{{ answer }}!{% endblock %}"
    )
    assert few_shot(template).render(Example(0, {}), (ONE,), chat=False).text == "1!"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Q: {{ q }}\nA: {{ answer }}", "three"),
        ("{{ q }} {{ answer }}, she said.", "three"),
        ("{{ answer }}", "three"),
        ("{{ q }}\n{{ answer }}", ""),
        ("{{ q }}{{ answer }}", " \n"),
    ],
)
@pytest.mark.parametrize("demonstrations", [(), (ONE, TWO)])
@pytest.mark.parametrize("instruction", ["", "Count."])
def test_a_prompt_with_its_answer_reads_as_one_more_demonstration(
    source: str, text: str, demonstrations: tuple[Demonstration, ...], instruction: str
) -> None:
    template = Template(source)
    x = Example("query", {"q": text})
    prompt = few_shot(template, instruction=instruction).render(x, demonstrations, chat=False)
    examples = [*(d.example for d in demonstrations), Example("query", {"q": text}, 3)]
    filled = [template.example(e.inputs).filled(str(e.target)) for e in examples]
    assert whole(prompt, "3") == "\n\n".join(part for part in (instruction, *filled) if part)


@pytest.mark.parametrize("source", ["Q: {{ q }} {{ answer }}", "{{ q }} {{ answer }}"])
@given(instruction=st.text(), q=st.text())
def test_a_prompt_never_ends_in_white_space(source: str, instruction: str, q: str) -> None:
    prompt = few_shot(Template(source), instruction=instruction).render(Example(0, {"q": q}), (), chat=False)
    assert prompt.text == (prompt.text or "").rstrip()


def test_a_cloze_keeps_what_stands_after_the_answer() -> None:
    prompt = few_shot(Template("{{ q }}? {{ answer }}, yes.")).render(QUERY, (ONE,), chat=False)
    assert prompt == Prompt("one? 1, yes.\n\nthree?", None, " ", ", yes.", (ONE,))


# -- chat


def test_turns_are_a_system_message_and_a_user_and_assistant_turn_a_demonstration() -> None:
    prompt = few_shot(instruction="Count.").render(QUERY, (ONE, TWO), chat=True)
    assert prompt.text is None
    assert prompt.messages == (
        Message("system", "Count."),
        Message("user", "Q: one\nA:"),
        Message("assistant", "1"),
        Message("user", "Q: two\nA:"),
        Message("assistant", "2", shared=True),
        Message("user", "Q: three\nA:"),
    )


def test_a_single_turn_holds_demonstrations_and_query() -> None:
    prompt = few_shot(instruction="Count.", turns="single").render(QUERY, (ONE, TWO), chat=True)
    assert prompt.messages == (
        Message("system", "Count.", shared=True),
        Message("user", "Q: one\nA: 1\n\nQ: two\nA: 2\n\nQ: three\nA:"),
    )


@pytest.mark.parametrize("turns", ["turns", "single"])
def test_chat_without_instruction_and_demonstrations_is_one_user_turn(turns: str) -> None:
    assert few_shot(turns=turns).render(QUERY, (), chat=True).messages == (Message("user", "Q: three\nA:"),)


@pytest.mark.parametrize("turns", ["turns", "single"])
def test_a_cloze_is_an_error_for_chat(turns: str) -> None:
    with pytest.raises(TemplateError, match="cloze"):
        few_shot(Template("{{ q }}? {{ answer }}, yes.", "t.j2"), turns=turns).render(QUERY, (), chat=True)


# -- what many queries have in common


class Nearest(Fixed):
    per_query = True


def marked(manipulator: FewShot, demonstrations: tuple[Demonstration, ...]) -> list[int]:
    messages = manipulator.render(QUERY, demonstrations, chat=True).messages
    return [i for i, m in enumerate(messages or ()) if m.shared]


@pytest.mark.parametrize(
    ("options", "demonstrations", "expected"),
    [
        ({"instruction": "Count."}, (ONE, TWO), [4]),
        ({}, (ONE, TWO), [3]),
        ({"instruction": "Count."}, (), [0]),
        ({}, (), []),
        ({"instruction": "Count.", "turns": "single"}, (ONE, TWO), [0]),
        ({"turns": "single"}, (ONE, TWO), []),
        ({"instruction": "Count.", "retriever": Random(k=2)}, (ONE, TWO), [4]),
        ({"instruction": "Count.", "retriever": Nearest(items=())}, (ONE, TWO), [0]),
        ({"retriever": Nearest(items=())}, (ONE, TWO), []),
        ({"instruction": "Count.", "retriever": Nearest(items=()), "turns": "single"}, (ONE, TWO), [0]),
    ],
)
def test_the_last_turn_that_many_queries_have_in_common_is_marked(
    options: dict[str, Any], demonstrations: tuple[Demonstration, ...], expected: list[int]
) -> None:
    assert marked(few_shot(**options), demonstrations) == expected


@pytest.mark.parametrize("retriever", [Random(k=1), Fixed(items=())])
def test_demonstrations_of_a_run_are_not_of_a_query(retriever: Random | Fixed) -> None:
    assert not retriever.per_query


def test_the_mark_is_not_part_of_what_is_said() -> None:
    told = few_shot(instruction="Count.").render(QUERY, (ONE,), chat=True)
    plain = replace(told, messages=tuple(replace(m, shared=False) for m in told.messages or ()))
    assert told != plain
    assert prompt_sha256(told) == prompt_sha256(plain)
    assert content_key("m", Request(told.shown, Generate())) == content_key("m", Request(plain.shown, Generate()))


# -- images

SEEN = Template("{{ image }}\nQ: {{ q }}\nA: {{ answer }}")
RED, BLUE, GREEN = (Image(name, data=name.encode(), media_type="image/png") for name in ("red", "blue", "green"))


def pictured(q: str, image: Any, target: Any = None) -> Demonstration:
    return Demonstration(Example(f"id {q}", {"q": q, "image": image}, target))


LOOK = pictured("three", GREEN).example
BLIND = pictured("blind", None, 0)


def test_an_image_is_a_part_of_its_turn() -> None:
    prompt = few_shot(SEEN, instruction="Look.").render(LOOK, (pictured("one", RED, 1), BLIND), chat=True)
    assert prompt.messages == (
        Message("system", "Look."),
        Message("user", (RED, "\nQ: one\nA:")),
        Message("assistant", "1"),
        Message("user", "None\nQ: blind\nA:"),
        Message("assistant", "0", shared=True),
        Message("user", (GREEN, "\nQ: three\nA:")),
    )


def test_a_single_turn_holds_the_images_of_demonstrations_and_query_in_order() -> None:
    shown = (pictured("one", RED, 1), BLIND, pictured("two", BLUE, 2))
    prompt = few_shot(SEEN, instruction="Look.", turns="single").render(LOOK, shown, chat=True)
    assert prompt.messages == (
        Message("system", "Look.", shared=True),
        Message(
            "user",
            (
                *(RED, "\nQ: one\nA: 1\n\nNone\nQ: blind\nA: 0\n\n"),
                *(BLUE, "\nQ: two\nA: 2\n\n"),
                *(GREEN, "\nQ: three\nA:"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("{{ image }}{{ answer }}", (GREEN,)),
        ("{{ image }}\n{{ answer }}", (GREEN,)),
        ("\n {{ image }} \n{{ image }}\n{{ q }}{{ answer }}", (GREEN, GREEN, "\nthree")),
        ("{{ q }} {{ image }}: {{ answer }}", ("three ", GREEN, ":")),
        ("{{ q }}{{ image if false }} {{ answer }}", "three"),
    ],
)
@pytest.mark.parametrize("turns", ["turns", "single"])
def test_no_part_is_blank_and_text_alone_is_text(source: str, parts: Any, turns: str) -> None:
    assert few_shot(Template(source), turns=turns).render(LOOK, (), chat=True).messages == (Message("user", parts),)


@pytest.mark.parametrize(("x", "shown"), [(LOOK, ()), (BLIND.example, (pictured("one", RED, 1),))])
@pytest.mark.parametrize("source", ["{{ image }} {{ answer }}", "{{ answer }}: {{ image }}"])
def test_an_image_needs_a_chat_model(source: str, x: Example, shown: tuple[Demonstration, ...]) -> None:
    with pytest.raises(TemplateError) as caught:
        few_shot(Template(source, "t.j2")).render(x, shown, chat=False)
    assert str(caught.value) == "t.j2: an image is printed: images need a chat model (api: chat)"


def test_an_image_after_the_answer_is_a_cloze() -> None:
    with pytest.raises(TemplateError, match="cloze"):
        few_shot(Template("{{ q }} {{ answer }} {{ image }}")).render(LOOK, (), chat=True)


def test_the_image_of_a_file_is_read_when_its_turn_is_made(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    file = ImageFile("a.png", tmp_path / "a.png")
    messages = few_shot(SEEN).render(pictured("three", file).example, (pictured("one", file, 1),), chat=True).messages
    assert messages is not None
    assert [m.parts[0] for m in messages] == [(read := Image("a.png", data=PNG, media_type="image/png")), "1", read]


@pytest.mark.parametrize("turns", ["turns", "single"])
def test_the_images_of_demonstrations_are_read_once(
    turns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    reads: list[str] = []

    def load(self: ImageFile) -> Image:
        reads.append(self.name)
        return RED

    monkeypatch.setattr(ImageFile, "load", load)
    shown = tuple(pictured(q, ImageFile(f"{q}.png", tmp_path / "a.png"), 1) for q in ("one", "two"))
    manipulator = few_shot(SEEN, turns=turns)
    for _ in range(3):
        manipulator.render(LOOK, shown, chat=True)
    assert reads == ["one.png", "two.png"]


def test_a_demonstrations_answer_is_no_image() -> None:
    answer = AnswerExpression("{{ image }} {{ answer_text }}")
    with pytest.raises(TemplateError) as caught:
        few_shot(SEEN, answer=answer).render(LOOK, (pictured("one", RED, 1),), chat=True)
    assert str(caught.value) == "input.answer: an answer is text, and this prints an image or bytes"


def test_examples_with_different_images_are_no_duplicates(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    who, file = few_shot(SEEN).identity, ImageFile("other name", tmp_path / "a.png")
    same = Image("a name", data=PNG, media_type="image/png")
    assert who(pictured("one", same).example) == who(pictured(" One", file).example)
    images = [RED, BLUE, None, Image("http://h/a", "http://h/a"), Image("http://h/A", "http://h/A"), [RED, BLUE]]
    assert len({who(pictured("one", image).example) for image in images}) == len(images)


# -- the answer of a demonstration


def test_a_rationale_stands_at_the_answer_mark() -> None:
    answer = AnswerExpression("{{ rationale }} So the answer is {{ answer_text }}.")
    manipulator = FewShot(QA, lambda target: f"<{target}>", answer=answer)
    d = solved("one", 1, rationale="One is one.")
    assert manipulator.rationale
    assert manipulator.render(QUERY, (d,), chat=False).text == (
        "Q: one\nA: One is one. So the answer is <1>.\n\nQ: three\nA:"
    )
    messages = manipulator.render(QUERY, (d,), chat=True).messages
    assert messages is not None
    assert messages[1] == Message("assistant", "One is one. So the answer is <1>.", shared=True)


def test_a_demonstration_without_its_rationale_is_an_error() -> None:
    with pytest.raises(TemplateError, match="rationale"):
        few_shot(answer=AnswerExpression("{{ rationale }} {{ answer_text }}")).render(QUERY, (ONE,), chat=False)


def test_the_answer_of_a_demonstration_is_never_evaluated() -> None:
    d = solved("{{ 7*7 }}", "{% raw %}")
    assert few_shot().render(QUERY, (d,), chat=False).text == "Q: {{ 7*7 }}\nA: {% raw %}\n\nQ: three\nA:"


# -- duplicates


@pytest.mark.parametrize(
    "other", ["a  Film\n", " A FILM", "a\tfilm", "a film.", "A film !", "a film...", "ａ　ｆｉｌｍ", "a ﬁlm"]
)
def test_case_width_white_space_and_what_ends_a_sentence_do_not_tell_examples_apart(other: str) -> None:
    who = few_shot().identity
    assert who(Example(0, {"q": "a film"})) == who(Example(1, {"q": other}, "target"))


@pytest.mark.parametrize(
    "pair", [("3 + 2", "3 - 2"), ("[ ( [", "[ ( ("), ("?", "!!"), ("a film", "afilm"), ("1.5", "15")]
)
def test_other_signs_tell_examples_apart(pair: tuple[str, str]) -> None:
    who = few_shot().identity
    assert len({who(Example(0, {"q": q})) for q in pair}) == 2


def test_examples_that_show_differently_are_no_duplicates() -> None:
    who = few_shot(Template("{{ q }} {{ r }} {{ answer }}")).identity
    assert len({who(Example(0, {"q": q, "r": r})) for q, r in (("a", "b c"), ("a b", "c"), ("a b c", ""))}) == 3


def test_a_field_the_template_does_not_show_does_not_tell_examples_apart() -> None:
    who = few_shot().identity
    assert who(Example(0, {"q": "a", "id": 1})) == who(Example(1, {"id": 2, "q": "a"}))


def test_a_field_reached_through_x_alone_tells_examples_apart() -> None:
    who = few_shot(Template("{{ x.answer }} {{ answer }}")).identity
    assert who(Example(0, {"answer": "a"})) != who(Example(0, {"answer": "b"}))
    assert who(Example(0, {"answer": "a", "id": 1})) == who(Example(1, {"answer": "a", "id": 2}))


def test_the_order_of_fields_does_not_tell_examples_apart() -> None:
    who = few_shot(Template("{{ x['the q'] }} {{ x.r }} {{ answer }}")).identity
    assert who(Example(0, {"the q": "a", "r": "b"})) == who(Example(0, {"r": "b", "the q": "a"}))


def test_a_field_named_as_a_function_of_jinja_tells_examples_apart() -> None:
    who = few_shot(Template("{{ range }} {{ answer }}")).identity
    assert who(Example(0, {"range": "1-5"})) != who(Example(0, {"range": "6-9"}))


POOL = [Example(i, {"q": q, "id": i}, i % 2) for i, q in enumerate(["one", "two", "three", "four"])]


@pytest.mark.parametrize("retriever", [Random(k=3), Random(k=2, balanced=True), Fixed(items=({"q": "unused"},))])
@pytest.mark.parametrize("query", ["one", " TWO", "Three\n", "four"])
def test_a_demonstration_is_never_the_query_nor_its_duplicate(retriever: Random | Fixed, query: str) -> None:
    state = retriever.fit(POOL, few_shot().view, 0)
    manipulator = few_shot(retriever=retriever, state=state)
    shown = manipulator.select(Example("query", {"q": query, "id": "query"}))
    assert shown
    assert all(d.example.inputs["q"] != query.strip().lower() for d in shown)


def test_without_a_retriever_nothing_is_shown() -> None:
    assert few_shot().select(QUERY) == ()


def unasked(prompt: Prompt, role: Role, said: str) -> Steps[Reading]:
    yield ()
    raise AssertionError("nothing is to be asked")


def test_prompt_selects_and_renders_without_asking_the_model() -> None:
    retriever = Fixed(items=({"q": "unused"},))
    manipulator = few_shot(retriever=retriever, state=retriever.fit([ONE.example], few_shot().view, 0))
    with pytest.raises(StopIteration) as done:
        next(manipulator.prompt(QUERY, chat=False, ask=unasked))
    assert done.value.value.text == "Q: one\nA: 1\n\nQ: three\nA:"


# -- what is kept between calls


def test_what_is_kept_for_one_demonstration_set_is_not_shown_for_another() -> None:
    sets: Sequence[tuple[Demonstration, ...]] = [(), (ONE,), (TWO,), (ONE, TWO), (TWO, ONE)]
    forms = [(chat, turns) for chat in (False, True) for turns in ("turns", "single")]
    kept = {turns: few_shot(instruction="Count.", turns=turns) for _, turns in forms}
    order = [(s, form) for s in sets for form in forms] * 3
    random.Random(0).shuffle(order)
    for demonstrations, (chat, turns) in order:
        fresh = few_shot(instruction="Count.", turns=turns).render(QUERY, demonstrations, chat)
        assert kept[turns].render(QUERY, demonstrations, chat) == fresh


def test_two_manipulators_keep_nothing_in_common() -> None:
    shown = (ONE,)
    assert few_shot().render(QUERY, shown, chat=False) != few_shot(separator="\n").render(QUERY, shown, chat=False)
