"""What holds for every component, whatever its kind: it is its spec, frozen, strict and documented."""

from __future__ import annotations

import json

import pytest
from conformance.specs import CASES, Case, made, names
from pydantic import ValidationError

from icl_engine.protocols import Aligner, ChainOfThought, Component, Encoder, Metric, Model, Retriever
from icl_engine.registry import Kind, resolve

BASES: dict[Kind, type[Component]] = {
    "retriever": Retriever,
    "encoder": Encoder,
    "cot": ChainOfThought,
    "model": Model,
    "aligner": Aligner,
    "metric": Metric,
}
EVERY = [
    pytest.param(kind, name, case, id=f"{kind}-{name}-{i}")
    for kind, table in CASES.items()
    for name, several in table.items()
    for i, case in enumerate(several)
]


@pytest.mark.parametrize(("kind", "name"), names())
def test_every_registered_component_has_example_specs(kind: Kind, name: str) -> None:
    assert CASES[kind].get(name), f"{kind} {name!r} is registered: give it example specs in tests/conformance/specs.py"


def test_every_example_spec_is_of_a_registered_component() -> None:
    assert {(kind, name) for kind, table in CASES.items() for name in table} <= set(names())


@pytest.mark.parametrize(("kind", "name"), names())
def test_a_component_is_of_its_kind_and_its_use_is_its_registered_name(kind: Kind, name: str) -> None:
    cls = resolve(kind, name)
    assert issubclass(cls, BASES[kind])
    assert cls.model_fields["use"].default == name


@pytest.mark.parametrize(("kind", "name"), names())
def test_a_component_has_a_docstring_of_its_own(kind: Kind, name: str) -> None:
    assert (vars(resolve(kind, name)).get("__doc__") or "").strip()


@pytest.mark.parametrize(("kind", "name", "case"), EVERY)
def test_a_component_is_frozen(kind: Kind, name: str, case: Case) -> None:
    component = made(kind, name, case)
    for field in type(component).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(component, field, None)


@pytest.mark.parametrize(("kind", "name", "case"), EVERY)
def test_a_component_forbids_unknown_keys(kind: Kind, name: str, case: Case) -> None:
    with pytest.raises(ValidationError) as caught:
        resolve(kind, name).model_validate({"use": name, **case.keys, "no_such_key": 1})
    assert [(e["type"], e["loc"]) for e in caught.value.errors()] == [("extra_forbidden", ("no_such_key",))]


@pytest.mark.parametrize(("kind", "name", "case"), EVERY)
def test_a_component_refuses_another_ones_name(kind: Kind, name: str, case: Case) -> None:
    with pytest.raises(ValidationError):
        resolve(kind, name).model_validate({**case.keys, "use": "no_such_name"})


@pytest.mark.parametrize(("kind", "name", "case"), EVERY)
def test_a_component_is_its_spec(kind: Kind, name: str, case: Case) -> None:
    component = made(kind, name, case)
    cls = type(component)
    assert cls.model_validate(component.model_dump()) == component
    assert cls.model_validate(json.loads(component.model_dump_json())) == component
    assert set(component.model_dump()) == {field.alias or name for name, field in cls.model_fields.items()}
