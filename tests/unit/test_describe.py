"""What sections and components say of themselves: docstrings, types in words, and that nothing is left unsaid."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Literal, get_args

import pytest
from conformance.specs import names
from pydantic import BaseModel, ConfigDict, Field, field_validator

from icl_engine import registry
from icl_engine.config import describe
from icl_engine.config.describe import Description, components, described
from icl_engine.config.docstrings import docstring
from icl_engine.config.forms import limits, words
from icl_engine.config.task import BASES, Task
from icl_engine.protocols import Aligner, Metric, Model
from icl_engine.registry import Kind, resolve

# -- nothing is left unsaid


def undescribed(description: Description, at: str) -> Iterator[str]:
    """The keys (and summaries) that no docstring describes: ``aligner regex: take``."""
    for path, found in (("", description), *description.inside()):
        if not found.summary:
            yield f"{at}: {path}".rstrip(": ")
        yield from (f"{at}: {path}{'.' if path else ''}{key.name}" for key in found.keys if not key.text)


@pytest.mark.parametrize(("kind", "name"), names())
def test_every_key_of_a_component_is_described(kind: Kind, name: str) -> None:
    missing = list(undescribed(described(resolve(kind, name)), f"{kind} {name}"))
    assert not missing, f"say it in the docstring, under Args: {', '.join(missing)}"


def test_every_key_of_a_task_is_described() -> None:
    missing = list(undescribed(described(Task), "task"))
    assert not missing, f"say it in the docstring, under Args: {', '.join(missing)}"


@pytest.mark.parametrize(("kind", "name"), names())
def test_what_a_component_says_is_one_line_without_doubled_backticks(kind: Kind, name: str) -> None:
    found = described(resolve(kind, name))
    for text in (found.summary, *(key.text for key in found.keys)):
        assert "\n" not in text
        assert "``" not in text.replace("```", "")


@pytest.mark.parametrize(("kind", "name"), names())
def test_every_key_is_said_in_words(kind: Kind, name: str) -> None:
    for key in described(resolve(kind, name)).keys:
        assert key.takes
        assert "$" not in key.type
        assert "array" not in key.type


def test_what_is_undescribed_is_named_with_its_place() -> None:
    class Inner(BaseModel):
        depth: int = 0

    class Outer(BaseModel):
        """Outer."""

        inner: Inner = Inner()

    assert list(undescribed(described(Outer), "outer")) == ["outer: inner", "outer: inner", "outer: inner.depth"]


def test_every_kind_has_its_base_class() -> None:
    assert set(BASES) == set(get_args(Kind))


# -- docstrings


def test_a_docstring_is_taken_apart() -> None:
    found = docstring(
        """The `sum`
        of two lines.

        More of ``it``, on
        two lines.

        Args:
            a: one
                line more.
            b (int): ``two``: with a colon.

            c, d: both.

        Raises:
            TaskError: never.

        Said after, and

            kept   as
            it is.

        >>> 1 + 1
        2

        >>> print("a")
        a
        """
    )
    assert found.summary == "The `sum` of two lines."
    assert found.details == ("More of `it`, on two lines.", "Said after, and", "    kept   as\n    it is.")
    assert found.args == {"a": "one line more.", "b": "`two`: with a colon.", "c": "both.", "d": "both."}
    assert found.raises == {"TaskError": "never."}
    assert found.example == '>>> 1 + 1\n2\n>>> print("a")\na'


def test_an_example_may_follow_its_text_at_once_or_stand_under_a_heading() -> None:
    assert docstring("Sum.\n>>> 1\n1").example == ">>> 1\n1"
    assert docstring("Sum.\n\nExample:\n    >>> 1\n    1\n").example == ">>> 1\n1"


def test_lists_keep_their_lines_and_fences_their_backticks() -> None:
    assert docstring("One of\n- a\n- b").summary == "One of\n- a\n- b"
    assert docstring("Prose and ``` fences.").summary == "Prose and ``` fences."


@pytest.mark.parametrize("text", [None, "", "  \n "])
def test_no_docstring_says_nothing(text: str | None) -> None:
    found = docstring(text)
    assert (found.summary, found.details, found.args, found.example) == ("", (), {}, "")


# -- keys


class Base(Aligner):
    """Base.

    Args:
        left: of the base.
        right: of the base.
    """

    left: int = 1
    right: int = 2


class Derived(Base):
    """Derived.

    Args:
        right: of the derived class.
        schema: by its alias.
    """

    model_config = ConfigDict(populate_by_name=True)

    use: Literal["derived"] = "derived"
    written_: Mapping[str, Any] | None = Field(default=None, alias="schema")


def test_keys_are_inherited_with_their_texts_and_use_is_not_listed() -> None:
    assert {key.name: key.text for key in described(Derived).keys} == {
        "left": "of the base.",
        "right": "of the derived class.",
        "schema": "by its alias.",
    }


def test_a_real_provider_has_the_texts_of_its_base() -> None:
    keys = {key.name: key for key in described(resolve("model", "fake")).keys}
    assert keys["max_tokens"].text == "the most tokens an answer may have."
    assert (keys["max_tokens"].takes, keys["max_tokens"].default) == ("whole number, at least 1", 256)
    assert not keys["max_tokens"].required


def test_sections_inside_sections_are_found_by_their_keys() -> None:
    paths = [path for path, _ in described(Task).inside()]
    assert {"data", "input", "input.template", "run"} <= set(paths)


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    """A part.

    Args:
        size: its size.
    """

    size: int


class Every(BaseModel):
    """All sorts of keys."""

    needed: str
    ratio: float = Field(default=0.5, gt=0, le=1)
    flag: bool = False
    maybe: int | None = Field(default=None, ge=1)
    kind: Literal["a", "b"] = "a"
    only: Literal["a"] = "a"
    either: Literal["a", "b"] | None = None
    texts: tuple[str, ...] = Field(default=("x",), min_length=1)
    counts: list[int] = Field(default_factory=lambda: [1])
    shares: Mapping[str, float] = {}
    rows: tuple[Mapping[str, Any], ...] = ()
    anything: Any = None
    part: Part = Part(size=1)
    parts: tuple[Part, ...] = ()
    step: Aligner | None = None
    metrics: tuple[Metric, ...] = ()
    model: Model | None = None
    colour: Colour = Colour.RED
    code: Annotated[str, Field(pattern="^a")] = "a"


@pytest.mark.parametrize(
    ("name", "takes", "default"),
    [
        ("needed", "text", None),
        ("ratio", "number, above 0, at most 1", 0.5),
        ("flag", "true or false", False),
        ("maybe", "whole number, at least 1, or null", None),
        ("kind", "one of a, b", "a"),
        ("only", "a", "a"),
        ("either", "one of a, b, or null", None),
        ("texts", "list of texts, at least 1 item", ["x"]),
        ("counts", "list of whole numbers", [1]),
        ("shares", "mapping of text to number", {}),
        ("rows", "list of mappings", []),
        ("anything", "any value", None),
        ("part", "mapping", {}),
        ("parts", "list of mappings", []),
        ("step", "name, or a mapping with `use`, or null", None),
        ("metrics", "list of names or mappings with `use`", []),
        ("model", "name or path, or a mapping with `use`, or null", None),
        ("code", "text, matching `^a`", "a"),
    ],
)
def test_types_limits_and_defaults_are_said_for_someone_who_writes_yaml(name: str, takes: str, default: Any) -> None:
    key = next(key for key in described(Every).keys if key.name == name)
    assert (key.takes, key.default, key.required) == (takes, default, name == "needed")


def test_classes_with_keys_of_their_own_are_found_in_every_type() -> None:
    assert described(Every).inner == (("part", Part), ("parts", Part))


class Tree(BaseModel):
    """A tree.

    Args:
        branches: its branches.
    """

    branches: tuple[Tree, ...] = ()


def test_a_class_that_holds_itself_is_described_once() -> None:
    found = described(Tree)
    assert [(key.name, key.takes) for key in found.keys] == [("branches", "list of mappings")]
    assert list(found.inside()) == []
    assert not list(undescribed(found, "tree"))


def test_a_default_that_json_cannot_say_is_none() -> None:
    class Odd(BaseModel):
        """Odd."""

        odd: Any = object()

    assert described(Odd).keys[0].default is None


def test_words_of_other_schemas() -> None:
    assert words({"oneOf": [{"type": "string"}, {"type": "integer"}]}) == "text or whole number"
    assert words({"type": ["string", "number"]}) == "text"
    assert words({"enum": ["", None]}) == 'one of "", null'
    assert limits({"minLength": 1}) == ("not empty",)


# -- what validators take beside the type


class Forms(BaseModel):
    """Keys whose validators take more than their types say."""

    one_or_many: tuple[str, ...] = Field(default=(), min_length=1)
    texts: Mapping[str, tuple[str, ...]] = {}
    declared: int = 0
    refusing: None = None
    parts: tuple[Part, ...] = ()
    needs_info: int = 0

    @field_validator("one_or_many", mode="before")
    @classmethod
    def _many(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("texts", mode="before")
    @classmethod
    def _texts(cls, given: Any) -> Any:
        return {k: tuple(map(str, v)) if isinstance(v, list) else (str(v),) for k, v in given.items()}

    @field_validator("declared", mode="before", json_schema_input_type=Literal["none"] | int)
    @classmethod
    def _none(cls, given: Any) -> Any:
        return 0 if given == "none" else given

    @field_validator("refusing", mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        raise ValueError

    @field_validator("parts", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return [{"size": len(given)}] if isinstance(given, str) else given

    @field_validator("needs_info", mode="before")
    @classmethod
    def _informed(cls, given: Any, info: Any) -> Any:
        return given


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        (
            "one_or_many",
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
        ),
        (
            "texts",
            {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        {"type": ["string", "number", "boolean"]},
                        {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
                    ]
                },
            },
        ),
        ("declared", {"anyOf": [{"const": "none", "type": "string"}, {"type": "integer"}]}),
        ("refusing", {"type": "null"}),
        ("parts", {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/Part"}}]}),
        ("needs_info", {"type": "integer"}),
    ],
)
def test_the_forms_that_a_validator_takes_are_found_out(name: str, schema: Mapping[str, Any]) -> None:
    assert next(key.schema for key in described(Forms).keys if key.name == name) == schema


# -- third parties


class Foreign(Metric):
    """Somebody's metric."""

    use: Literal["foreign"] = "foreign"


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Entry points of other packages: one that works, three that do not."""
    found = {
        "foreign": f"{__name__}:Foreign",
        "no_module": "no_such_module_anywhere:X",
        "no_class": f"{__name__}:NoSuchClass",
        "wrong_class": f"{__name__}:Every",
    }

    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint(n, v, group) for n, v in found.items()] if group == "icl_engine.metric" else []

    def forget() -> None:
        registry.names.cache_clear()
        registry.resolve.cache_clear()
        components.cache_clear()

    monkeypatch.setattr(registry, "entry_points", entry_points)
    forget()
    yield
    forget()


@pytest.mark.usefixtures("foreign")
def test_components_of_others_are_listed_and_broken_ones_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="icl_engine"):
        found = components("metric")
    assert found["foreign"].summary == "Somebody's metric."
    assert list(found) == sorted(found)
    assert not {"no_module", "no_class", "wrong_class"} & set(found)
    said = "\n".join(caplog.messages)
    assert "metric 'no_module' (no_such_module_anywhere:X) is left out: ModuleNotFoundError" in said
    assert "'no_class'" in said
    assert "is not a sub-class of icl_engine.protocols.Metric" in said


def test_a_broken_component_of_our_own_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: Kind, name: str) -> type[Any]:
        raise ImportError("broken")

    monkeypatch.setattr(describe, "resolve", broken)
    components.cache_clear()
    with pytest.raises(ImportError, match="broken"):
        components("retriever")
