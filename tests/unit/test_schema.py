"""The JSON Schema of a task file: takes what the engine takes, refuses what it can of the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from conformance.specs import CASES, names
from jsonschema import Draft202012Validator

from icl_engine.config.describe import Description, components, described
from icl_engine.config.document import Document, expanded, spelt_out, value
from icl_engine.config.schema import task_schema
from icl_engine.config.task import Section, parse
from icl_engine.errors import TaskError
from icl_engine.paths import shipped
from icl_engine.protocols import Metric
from icl_engine.registry import Kind

Finished = tuple[int, str, str]

TASK = """
name: small
data: {train: train.jsonl, test: test.jsonl, target: label}
input: {template: {inline: "{{ text }} {{ answer }}"}, demonstrations: {use: random, k: 2}}
model: {use: fake}
output:
  - {use: verbalizer, labels: {positive: positive, negative: negative}}
metrics: [accuracy]
run: {seed: 0}
"""


@cache
def schema_of_tasks() -> dict[str, Any]:
    return task_schema()


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema_of_tasks())


def as_editors_see(tree: Any) -> Any:
    """A YAML tree as JSON: keys are texts."""
    return json.loads(json.dumps(tree))


def fits(tree: Any) -> bool:
    return bool(validator().is_valid(as_editors_see(tree)))


def engine_takes(tree: Any) -> bool:
    document = Document(spelt_out(tree))
    try:
        parse(document, expanded(document))
    except TaskError:
        return False
    return True


def task(**keys: str) -> Any:
    """The small task with some top-level keys written otherwise, in YAML."""
    return {**value(TASK), **{k: value(text) for k, text in keys.items()}}


def mappings(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a schema."""
    if isinstance(node, Mapping):
        yield node
    for part in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from mappings(part)


# -- the schema itself


def test_it_is_a_schema_of_its_draft() -> None:
    whole = schema_of_tasks()
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(whole)


def test_all_references_lead_somewhere_and_no_part_is_left_over() -> None:
    whole = schema_of_tasks()
    used = {s["$ref"].removeprefix("#/$defs/") for s in mappings(whole) if isinstance(s.get("$ref"), str)}
    assert used == set(whole["$defs"])


@pytest.mark.parametrize(("kind", "name"), names())
def test_every_component_has_a_part_with_its_keys_and_no_others(kind: Kind, name: str) -> None:
    part = schema_of_tasks()["$defs"][f"{kind}.{name}"]
    assert part["properties"]["use"]["const"] == name
    assert "use" in part["required"]
    assert part["additionalProperties"] is False
    assert part["description"]


def test_sections_take_no_other_keys() -> None:
    whole = schema_of_tasks()
    for section in (whole, *(part for name, part in whole["$defs"].items() if name in ("Data", "Input", "Run"))):
        assert section["additionalProperties"] is False


def test_keys_have_their_meaning_and_default() -> None:
    context = schema_of_tasks()["$defs"]["model.embedded"]["properties"]["context"]
    assert context["description"] == "the longest prompt and answer together, tokens. (at least 64)"
    assert context["default"] == 4096


def test_keys_of_mappings_inside_sections_have_their_meaning() -> None:
    assert schema_of_tasks()["$defs"]["Inline"]["properties"]["inline"]["description"]


def test_a_key_that_is_left_out_is_not_offered_as_null() -> None:
    assert not [s for s in mappings(schema_of_tasks()) if "default" in s and s["default"] in (None, {})]


def test_names_are_offered_whatever_keys_are_still_missing() -> None:
    for kind, slot in (("aligner", "Aligner"), ("metric", "Metric"), ("retriever", "Retriever"), ("model", "Model")):
        offered = {s["const"] for s in schema_of_tasks()["$defs"][slot]["properties"]["use"]["anyOf"] if "const" in s}
        assert offered == {name for k, name in names() if k == kind}


class Branch(Section):
    """A branch.

    Args:
        leaf: its leaf.
        branches: what grows on it.
    """

    leaf: int = 0
    branches: tuple[Branch, ...] = ()


class Growing(Metric):
    """A metric with mappings in mappings.

    Args:
        branch: a branch.
        shares: figures by name.
    """

    use: Literal["growing"] = "growing"
    branch: Branch = Branch()
    shares: Mapping[str, float] = {}


def test_mappings_inside_a_component_have_parts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another(kind: Kind) -> Mapping[str, Description]:
        return {**components(kind), **({"growing": described(Growing)} if kind == "metric" else {})}

    monkeypatch.setattr("icl_engine.config.schema.components", with_another)
    check = Draft202012Validator(task_schema())

    def fits(component: str) -> bool:
        return bool(check.is_valid(as_editors_see(task(metrics=f"[{component}]"))))

    assert fits("growing")
    assert fits("{use: growing, branch: {leaf: 1, branches: [{leaf: 2, branches: [{leaf: '${LEAF}'}]}]}}")
    assert not fits("{use: growing, branch: {leaf: 1, branches: [{leaf: 2, branches: [{leave: 3}]}]}}")
    assert fits("{use: growing, shares: {a: 0.5, b: '${SHARE}'}}")
    assert not fits("{use: growing, shares: {a: half}}")


# -- what it takes


@pytest.mark.parametrize("path", sorted(shipped("tasks").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_task_fits(path: Path) -> None:
    errors = [e.message for e in validator().iter_errors(as_editors_see(value(path.read_text(encoding="utf-8"))))]
    assert not errors


@pytest.mark.parametrize(
    ("kind", "name", "keys"),
    [
        pytest.param(kind, name, case.keys, id=f"{kind}-{name}-{i}")
        for kind, table in CASES.items()
        for name, several in table.items()
        for i, case in enumerate(several)
    ],
)
def test_every_component_fits_as_users_write_it(kind: Kind, name: str, keys: Mapping[str, Any]) -> None:
    component = as_editors_see({"use": name, **keys})
    tree = task()
    if kind == "retriever":
        tree["input"]["demonstrations"] = component
    elif kind == "encoder":
        tree["input"]["demonstrations"] = {"use": "knn", "k": 4, "encoder": component}
    elif kind == "cot":
        tree["input"]["cot"] = component
    else:
        tree["model" if kind == "model" else "output" if kind == "aligner" else "metrics"] = (
            component if kind == "model" else [component]
        )
    assert not [e.message for e in validator().iter_errors(tree)]


GOOD: Mapping[str, dict[str, str]] = {
    "as it is": {},
    "a model's name": {"model": "gemma-3-270m"},
    "a model's path": {"model": "models/own.gguf"},
    "a model from the environment": {"model": "${MODEL}"},
    "names alone": {"output": "[identity]", "metrics": "[accuracy, macro_f1]"},
    "nothing to judge by": {"metrics": "[]"},
    "no steps": {"output": "[]"},
    "no demonstrations": {"input": "{template: classification, demonstrations: null}"},
    "rows in place": {"data": "{train: [{text: a, label: x}], test: [], target: label}"},
    "no rows": {"data": "{train: null}"},
    "numbers as labels": {"data": "{labels: {0: negative, 1: positive, 2: 3}}"},
    "numbers as words": {"output": "[{use: verbalizer, labels: {0: 1, yes: [two, 3], true: no}}]"},
    "one word or many": {"output": "[{use: verbalizer, labels: {a: b, c: [d, e]}}]"},
    "one stop or many": {"model": '{use: fake, stop: "\\n"}'},
    "variables for figures": {
        "run": '{seed: "${SEED}", cache: "${CACHE}", limit: "${SEED}"}',
        "model": '{use: fake, max_tokens: "${SEED}", temperature: "${SEED}"}',
    },
    "a variable for one of several words": {"model": '{use: fake, api: "${API}"}'},
    "a variable in a text": {"data": '{train: "${API}/train.jsonl"}', "name": '"${API}"'},
    "a key from the environment": {"model": '{use: vllm, base_url: "http://x/v1", name: m, api_key: "${API}"}'},
    "a component from the environment": {"output": '[{use: "${STEP}"}, "${STEP}"]', "metrics": '["${METRIC}"]'},
    "a whole number as a decimal": {"run": "{seed: 1.0}"},
    "an optional key left open": {"run": "{limit: null}"},
}


@pytest.mark.parametrize("keys", GOOD.values(), ids=GOOD)
def test_what_the_engine_takes_fits(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"SEED": "3", "CACHE": "true", "API": "chat", "STEP": "identity", "METRIC": "accuracy", "MODEL": "m.gguf"}
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    tree = task(**keys)
    assert engine_takes(tree)
    assert not [e.message for e in validator().iter_errors(as_editors_see(tree))]


BAD: Mapping[str, dict[str, str]] = {
    "a misspelt key": {"metric": "[accuracy]"},
    "a misspelt key of data": {"data": "{trian: x.jsonl}"},
    "a misspelt key of input": {"input": "{template: a, instructions: b}"},
    "a misspelt key of an inline template": {"input": "{template: {inlined: a}}"},
    "a misspelt key of a retriever": {"input": "{template: a, demonstrations: {use: random, k: 2, ballanced: true}}"},
    "a misspelt key of a model": {"model": "{use: fake, max_token: 3}"},
    "a misspelt key of a step": {"output": "[{use: regex, pattern: a, groups: 1}]"},
    "a misspelt key of a metric": {"metrics": "[{use: accuracy, names: a}]"},
    "a misspelt key of run": {"run": "{sed: 1}"},
    "an unknown retriever": {"input": "{template: a, demonstrations: {use: randon, k: 2}}"},
    "an unknown model": {"model": "{use: vlm}"},
    "an unknown step": {"output": "[{use: verbaliser, labels: {a: b, c: d}}]"},
    "an unknown metric": {"metrics": "[{use: acuracy}]"},
    "an unknown name alone": {"metrics": "[acuracy]"},
    "a component without its name": {"model": "{answers: [a]}"},
    "a name alone that needs keys": {"output": "[regex]"},
    "a missing key": {"output": "[{use: regex}]"},
    "a missing key of a model": {"model": "{use: vllm, name: m}"},
    "no template": {"input": "{instruction: a}"},
    "text for a number": {"run": "{seed: zero}"},
    "text for true": {"run": "{cache: sometimes}"},
    "a number for text": {"input": "{template: a, instruction: 3}"},
    "a number for a template": {"input": "{template: 3}"},
    "a number for rows": {"data": "{train: 3}"},
    "texts for rows": {"data": "{train: [a, b]}"},
    "a fraction for a whole number": {"run": "{concurrency: 1.5}"},
    "below the least": {"run": "{concurrency: 0}"},
    "one of no such words": {"input": "{template: a, chat: turn}"},
    "a number for a stop": {"model": "{use: fake, stop: 3}"},
    "a mapping for a list": {"metrics": "{use: accuracy}"},
    "a name for a list": {"output": "identity"},
    "a list for a mapping": {"data": "[a]"},
    "one label": {"output": "[{use: verbalizer, labels: {a: b}}]"},
    "a key written out": {"model": '{use: vllm, base_url: "http://x/v1", name: m, api_key: sk-1}'},
    "a slash in the name": {"name": "a/b"},
}


@pytest.mark.parametrize("keys", BAD.values(), ids=BAD)
def test_mistakes_do_not_fit_and_the_engine_refuses_them_too(keys: dict[str, str]) -> None:
    tree = task(**keys)
    assert not fits(tree)
    assert not engine_takes(tree)


@pytest.mark.parametrize("missing", ["input", "model"])
def test_what_must_be_written_must_be_written(missing: str) -> None:
    tree = {k: v for k, v in task().items() if k != missing}
    assert not fits(tree)
    assert not engine_takes(tree)


# -- the command


def test_the_command_prints_it(icl: Callable[..., Finished]) -> None:
    code, out, err = icl("schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(schema_of_tasks()))
    assert out.endswith("}\n")


def test_the_command_writes_it_and_says_how_editors_find_it(icl: Callable[..., Finished], tmp_path: Path) -> None:
    code, out, err = icl("schema", "--out", "task.schema.json")
    assert (code, out) == (0, "")
    written = tmp_path / "task.schema.json"
    assert f"# yaml-language-server: $schema={written}" in err
    assert written.read_bytes() == icl("schema")[1].encode()


def test_a_file_that_cannot_be_written_is_told_in_one_line(icl: Callable[..., Finished]) -> None:
    code, out, err = icl("schema", "--out", "no/such/folder/schema.json")
    assert (code, out) == (2, "")
    assert err == "error: no/such/folder/schema.json: --out: cannot be written: No such file or directory\n"


def test_its_bytes_are_the_same_in_every_process(start: Callable[..., subprocess.Popen[str]]) -> None:
    first, second = (start("schema", PYTHONHASHSEED=seed).communicate()[0] for seed in ("1", "2"))
    assert first == second
    assert json.loads(first)


def test_the_console_does_not_import_pydantic_for_it() -> None:
    imports = "import sys, icl_engine.console.schema, icl_engine.console.models; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True).stdout == "False\n"


def test_components_of_other_packages_are_in_it_and_broken_ones_are_not(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "other-1.0.dist-info").mkdir(parents=True)
    (site / "other-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (site / "other-1.0.dist-info" / "entry_points.txt").write_text(
        "[icl_engine.metric]\nlength = other:Length\nbroken = other_broken:Nothing\n"
    )
    (site / "other.py").write_text(
        "from icl_engine.protocols import Metric\n\n"
        "class Length(Metric):\n"
        '    """How long answers are.\n\n    Args:\n        unit: of what.\n    """\n\n'
        "    use: str = 'length'\n"
        "    unit: str = 'word'\n"
    )
    (site / "other_broken.py").write_text("raise RuntimeError('boom')\n")
    process = start("schema", PYTHONPATH=str(site))
    out, err = process.communicate()
    assert process.returncode == 0
    assert "metric 'broken' (other_broken:Nothing) is left out: RuntimeError: boom" in err
    assert "Traceback" not in err
    whole = json.loads(out)
    assert whole["$defs"]["metric.length"]["properties"]["unit"] == {
        "description": "of what.",
        "type": "string",
        "default": "word",
    }
    assert "metric.broken" not in whole["$defs"]
    check = Draft202012Validator(whole)
    assert check.is_valid(as_editors_see(task(metrics="[length, {use: length, unit: line}]")))
    assert not check.is_valid(as_editors_see(task(metrics="[{use: length, units: line}]")))
