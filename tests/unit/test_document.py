"""A task as written: YAML 1.2, variables of the environment, ``--set``, short forms, relative paths."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from icl_engine.config.document import Document, expanded, override, read, spelt_out, value
from icl_engine.config.load import load_task
from icl_engine.errors import TaskError

WriteTask = Callable[..., Path]
SECRET = "s3cret-value"
LABELS = {"positive": "positive", "negative": "negative"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y", "2024-01-31", "2001-12-14t21:59:43.10Z"])
def test_words_that_only_yaml_1_1_converts_are_strings(tmp_path: Path, word: str) -> None:
    assert read(written(tmp_path, f"a: {word}\n{word}: b")).tree == {"a": word, word: "b"}
    assert value(word) == word


@pytest.mark.parametrize(
    ("text", "meant"), [("true", True), ("010", 10), ("0o10", 8), ("1e3", 1000.0), ("null", None), ("~", None)]
)
def test_words_that_yaml_1_2_converts(tmp_path: Path, text: str, meant: Any) -> None:
    assert read(written(tmp_path, f"a: {text}")).tree == {"a": meant}


def test_reading_a_task_leaves_yaml_as_it_is_for_others(tmp_path: Path) -> None:
    read(written(tmp_path, "a: 2024-01-31"))
    assert YAML(typ="safe", pure=True).load("2024-01-31") == datetime.date(2024, 1, 31)


def test_labels_yes_and_no_are_labels(write_task: WriteTask) -> None:
    path = write_task(data={"test": "test.jsonl"}, metrics=[], output=None)
    path.write_text(path.read_text() + "output:\n  - {use: verbalizer, labels: {yes: yes, no: [no, never]}}\n")
    step = load_task(path).task.output[0]
    assert step.model_dump()["labels"] == {"yes": ("yes",), "no": ("no", "never")}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("name: a\ndata: {}\nname: b\n", 3, "name", id="a key given twice"),
        pytest.param("name: a\nrun:\n  seed: 1\n  limit: 2\n  seed: 3\n", 5, "seed", id="a key given twice further in"),
        pytest.param("name: [a\nrun: {}\n", 2, "", id="a bracket left open"),
        pytest.param("name: a\n\tdata: b\n", 2, "", id="a tab"),
        pytest.param("name: !python/object:os.system a\n", 1, "", id="a tag"),
        pytest.param("- a\n- b\n", 1, "mapping", id="a list"),
        pytest.param("", 1, "mapping", id="empty"),
        pytest.param("a: 1\n---\nb: 2\n", 2, "", id="two documents"),
        pytest.param("a: &a [*a]\n", None, "", id="an alias of itself"),
    ],
)
def test_what_is_no_task_is_told_with_its_line(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TaskError) as found:
        load_task(path)
    assert found.value.file == str(path)
    assert line is None or found.value.line == line
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(TaskError, match="UTF-8"):
        read(path)


def test_a_task_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert read(path).tree == {"name": "a"}


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(TaskError, match=r"No such file|folder"):
        load_task(Path(name))


def test_a_shipped_tasks_name_is_suggested() -> None:
    with pytest.raises(TaskError, match="did you mean 'sentiment'"):
        load_task("sentimant")


# -- variables of the environment


def test_a_variable_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8000")
    document = Document({"model": {"base_url": "http://h:${PORT}/v1"}, "run": {"seed": "${PORT}"}})
    assert expanded(document) == {"model": {"base_url": "http://h:8000/v1"}, "run": {"seed": 8000}}
    assert document.tree["run"] == {"seed": "${PORT}"}


@pytest.mark.parametrize("text", ["8000", "true", "null", "[a]", "yes", "2024-01-31", ": a", ""])
def test_a_key_is_always_a_string(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KEY", text)
    assert expanded(Document({"model": {"api_key": "${KEY}"}})) == {"model": {"api_key": text}}


@pytest.mark.parametrize("text", ["null", "[a]", "yes", "2024-01-31", ": a", "", "${OTHER}"])
def test_a_variable_is_text_where_it_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("VALUE", text)
    assert expanded(Document({"a": "${VALUE}"})) == {"a": text}


def test_an_unset_variable_is_told_with_its_place(write_task: WriteTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    path = write_task(model=None)
    path.write_text(path.read_text() + "model:\n  use: vllm\n  name: m\n  base_url: http://${NOT_SET}/v1\n")
    with pytest.raises(TaskError, match="NOT_SET") as found:
        load_task(path)
    lines = path.read_text().splitlines()
    assert (found.value.file, found.value.line, found.value.key) == (str(path), len(lines), "model.base_url")


@pytest.mark.parametrize("key", [SECRET, f"Bearer {SECRET}", f"{SECRET}${{HOME}}", ""])
def test_a_key_written_out_is_refused_and_not_repeated(write_task: WriteTask, key: str) -> None:
    path = write_task(model={"use": "vllm", "base_url": "http://h/v1", "name": "m", "api_key": key})
    with pytest.raises(TaskError, match="environment") as found:
        load_task(path)
    assert found.value.key == "model.api_key"
    assert found.value.line is not None
    assert SECRET not in str(found.value)


def test_a_key_written_out_as_a_number_is_refused_and_not_repeated(write_task: WriteTask) -> None:
    path = write_task(model={"use": "vllm", "base_url": "http://h/v1", "name": "m", "api_key": 1234567890})
    with pytest.raises(TaskError) as found:
        load_task(path)
    assert found.value.key == "model.api_key"
    assert "1234567890" not in str(found.value)


def test_a_key_set_on_the_command_line_is_refused_too(write_task: WriteTask) -> None:
    path = write_task(model={"use": "vllm", "base_url": "http://h/v1", "name": "m"})
    with pytest.raises(TaskError, match="environment") as found:
        load_task(path, settings={"model.api_key": SECRET})
    assert SECRET not in str(found.value)


@pytest.mark.parametrize(
    ("at", "tree"),
    [
        ("inline template", {"template": {"inline": "${NOT_SET}: {{ text }} {{ answer }}"}}),
        ("instruction", {"template": {"inline": "{{ text }} {{ answer }}"}, "instruction": "Pay ${NOT_SET}."}),
        ("separator", {"template": {"inline": "{{ text }} {{ answer }}"}, "separator": "${NOT_SET}"}),
        ("answer", {"template": {"inline": "{{ text }} {{ answer }}"}, "answer": "${NOT_SET} {{ answer_text }}"}),
    ],
)
def test_the_users_own_texts_are_left_alone(write_task: WriteTask, at: str, tree: Any) -> None:
    loaded = load_task(write_task(input=tree))
    assert loaded.resolved["input"] == {**loaded.resolved["input"], **tree}
    assert "${NOT_SET}" in json.dumps(loaded.task.input.model_dump(mode="json")), at


def test_rows_given_in_python_are_data_not_a_task() -> None:
    rows = [{"text": "it costs ${NOT_SET}", "label": "a", "api_key": "a field of the data"}]
    loaded = load_task(
        {
            "data": {"test": rows, "target": "label"},
            "input": {"template": {"inline": "{{ text }} {{ answer }}"}},
            "model": {"use": "fake"},
        }
    )
    assert [x.inputs["text"] for x in loaded.test(need_target=True)] == ["it costs ${NOT_SET}"]


VARIABLES = [
    pytest.param({"model.name": "${VALUE}"}, SECRET, id="model.name"),
    pytest.param({"model.stop": "${VALUE}"}, SECRET, id="model.stop, a short form"),
    pytest.param({"model.stop": ["\n", "${VALUE}"]}, SECRET, id="model.stop, a list"),
    pytest.param({"output[0].labels.positive": "${VALUE}"}, SECRET, id="a verbalizer's only word"),
    pytest.param({"output[0].labels.positive": ["good", "${VALUE}"]}, SECRET, id="a verbalizer's second word"),
    pytest.param({"data.train": "${VALUE}/train.jsonl"}, "a_folder_of_data", id="data.train"),
    pytest.param({"data.test": "${VALUE}/test.jsonl"}, "a_folder_of_data", id="data.test"),
]


@pytest.mark.parametrize(("settings", "expansion"), VARIABLES)
def test_what_is_written_keeps_variables_unexpanded(
    write_task: WriteTask,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: dict[str, Any],
    expansion: str,
) -> None:
    import icl_engine as icl

    monkeypatch.setenv("VALUE", expansion)
    path = write_task()
    if expansion == "a_folder_of_data":
        (tmp_path / expansion).mkdir()
        for name in ("train.jsonl", "test.jsonl"):
            shutil.copy(tmp_path / name, tmp_path / expansion / name)
    icl.run(path, settings=settings, out="out")
    with icl.load(path, settings=settings) as pipeline:
        program = pipeline.save("small.icl.json")
    for file in (Path("out/manifest.json"), program):
        text = file.read_text()
        assert "${VALUE}" in text, file
        assert expansion not in text, file


def test_a_servers_address_from_the_environment_is_not_written(
    write_task: WriteTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Any
) -> None:
    import icl_engine as icl

    monkeypatch.setenv("VALUE", server.url)
    path = write_task(model={"use": "vllm", "base_url": "${VALUE}", "name": "m"})
    icl.run(path, out="out")
    with icl.load(path) as pipeline:
        pipeline.save("small.icl.json")
    written = [tmp_path / "small.icl.json", *(tmp_path / "out").iterdir()]
    assert [p.name for p in written if server.url in p.read_text()] == []


def test_another_value_of_a_variable_is_another_run(write_task: WriteTask, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_task(model={"use": "fake", "name": "${VALUE}"})
    monkeypatch.setenv("VALUE", "one")
    first = load_task(path).fingerprint
    monkeypatch.setenv("VALUE", "two")
    assert load_task(path).fingerprint != first


def test_another_key_is_the_same_run(write_task: WriteTask, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_task(model={"use": "vllm", "base_url": "http://h/v1", "name": "m", "api_key": "${KEY}"})
    monkeypatch.setenv("KEY", "one")
    first = load_task(path).fingerprint
    monkeypatch.setenv("KEY", "two")
    assert load_task(path).fingerprint == first


@pytest.mark.parametrize("settings", [{"run.concurrency": 3}, {"run.limit": 2}, {"run.max_failures": 5}])
def test_concurrency_limit_and_caps_are_not_part_of_the_fingerprint(
    write_task: WriteTask, settings: dict[str, Any]
) -> None:
    path = write_task()
    assert load_task(path, settings=settings).fingerprint == load_task(path).fingerprint


@pytest.mark.parametrize(
    "settings", [{"run.seed": 3}, {"input.instruction": "Hi."}, {"metrics": []}, {"model.temperature": 1}]
)
def test_what_decides_the_result_is_part_of_the_fingerprint(write_task: WriteTask, settings: dict[str, Any]) -> None:
    path = write_task()
    assert load_task(path, settings=settings).fingerprint != load_task(path).fingerprint


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl", "prompt.j2"])
def test_the_files_contents_are_part_of_the_fingerprint(write_task: WriteTask, tmp_path: Path, name: str) -> None:
    (tmp_path / "prompt.j2").write_text("{{ text }}: {{ answer }}")
    path = write_task(input={"template": "./prompt.j2"})
    first = load_task(path).fingerprint
    changed = tmp_path / name
    changed.write_text(changed.read_text().replace("bright", "b").replace("fine", "f").replace(":", ": "))
    assert load_task(path).fingerprint != first


# -- --set


@pytest.mark.parametrize(
    ("path", "new", "meant"),
    [
        ("run.seed", 3, {"run": {"seed": 3}}),
        ("model", "fake.gguf", {"model": {"use": "embedded", "name": "fake.gguf"}}),
        ("model.temperature", 0.5, {"model": {"use": "embedded", "name": "m", "temperature": 0.5}}),
        ("output[0].strip", False, {"output": [{"use": "identity", "strip": False}]}),
        ("output.0.strip", False, {"output": [{"use": "identity", "strip": False}]}),
        ("output[1]", "identity", {"output": [{"use": "identity"}, {"use": "identity"}]}),
        ("output[1].use", "identity", {"output": [{"use": "identity"}, {"use": "identity"}]}),
        ("metrics[0]", "macro_f1", {"metrics": [{"use": "macro_f1"}]}),
        ("metrics", ["accuracy"], {"metrics": [{"use": "accuracy"}]}),
        ("input.demonstrations", "random", {"input": {"demonstrations": {"use": "random"}}}),
        ("input.demonstrations.k", 4, {"input": {"demonstrations": {"use": "fixed", "k": 4}}}),
        ("data.labels.0", "b", {"data": {"labels": {0: "b"}}}),
        ("data.labels[0]", "b", {"data": {"labels": {0: "b"}}}),
    ],
)
def test_set(path: str, new: Any, meant: dict[str, Any]) -> None:
    tree = {
        "model": "m",
        "output": ["identity"],
        "metrics": ["accuracy"],
        "input": {"demonstrations": "fixed"},
        "data": {"labels": {0: "a"}},
    }
    document = Document(spelt_out(tree))
    before = json.dumps(document.tree)
    changed = override(document, {path: new})
    assert changed.tree == {**spelt_out(tree), **meant}
    assert json.dumps(document.tree) == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("run.sed=1", ["run.sed", "seed"]),
        ("dta.train=a.jsonl", ["dta", "data"]),
        ("output[5].read=text", ["output[5].read", "1 item"]),
        ("output.first.read=text", ["output.first.read", "1 item"]),
        ("name.x=1", ["name.x"]),
        ("run.seed=abc", ["run.seed", "whole number"]),
        ("run.seed=[1", ["run.seed"]),
        ("output[0].raed=text", ["output[0].raed", "read"]),
        ("output[0].read=txt", ["output[0].read", "text"]),
        ("run.seed", ["a.b=value"]),
        ("=1", ["a.b=value"]),
        ("..=1", ["a.b=value"]),
    ],
)
def test_a_wrong_setting_names_itself(
    write_task: WriteTask, icl: Callable[..., tuple[int, str, str]], setting: str, words: list[str]
) -> None:
    status, _, err = icl("run", write_task(), "--set", setting, "--out", "out")
    assert status == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "--set" in err
    assert [word for word in words if word not in err] == [], err
    assert not Path("out").exists()


def test_settings_win_over_the_file_and_over_the_model_option(
    write_task: WriteTask, icl: Callable[..., tuple[int, str, str]]
) -> None:
    loaded = load_task(write_task(), model={"use": "fake", "name": "a"}, settings={"model.name": "b"})
    assert loaded.task.model.title == "b"


def test_another_model_keeps_how_text_is_generated(write_task: WriteTask) -> None:
    path = write_task(model={"use": "fake", "name": "a", "max_tokens": 7, "stop": "\n", "answers": ["x"]})
    model = load_task(path, model={"use": "fake", "name": "b"}).task.model
    assert (model.title, model.max_tokens, model.stop) == ("b", 7, ("\n",))
    assert model.model_dump()["answers"] != ("x",)


# -- short forms and paths


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ({"model": "gemma-3-270m"}, {"model": {"use": "embedded", "name": "gemma-3-270m"}}),
        ({"output": ["identity"]}, {"output": [{"use": "identity"}]}),
        ({"metrics": ["accuracy"]}, {"metrics": [{"use": "accuracy"}]}),
        ({"input": {"demonstrations": "random"}}, {"input": {"demonstrations": {"use": "random"}}}),
    ],
)
def test_short_forms_mean_the_same(short: dict[str, Any], full: dict[str, Any]) -> None:
    assert spelt_out(short) == full
    assert spelt_out(full) == full


def test_short_forms_have_the_same_fingerprint(write_task: WriteTask) -> None:
    short = load_task(write_task(metrics=["accuracy"])).fingerprint
    assert load_task(write_task(metrics=[{"use": "accuracy"}])).fingerprint == short


def test_paths_are_relative_to_the_task_file(
    write_task: WriteTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import icl_engine as icl

    (tmp_path / "prompt.j2").write_text("Review: {{ text }}\nSentiment: {{ answer }}")
    (tmp_path / "record.jsonl").write_text(json.dumps({"prompt": "none", "completion": "none"}) + "\n")
    task = write_task(
        input={"template": "./prompt.j2", "demonstrations": {"use": "fixed", "path": "train.jsonl", "k": 2}},
        model={"use": "replay", "path": "record.jsonl"},
    )
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    loaded = load_task(Path("../..") / task.name)
    assert len(list(loaded.test(need_target=True))) == 6
    assert loaded.resolved["data"]["train"] == "train.jsonl"
    assert loaded.resolved["model"]["path"] == "record.jsonl"
    assert loaded.template.name.endswith("prompt.j2")
    with icl.load(Path("../..") / task.name) as pipeline:
        assert pipeline.model.title == "replay"


@pytest.mark.parametrize("folder", ["templates", "../templates"])
def test_a_named_template_is_looked_for_beside_the_task(write_task: WriteTask, tmp_path: Path, folder: str) -> None:
    (tmp_path / "tasks").mkdir()
    there = tmp_path / "tasks" / folder
    there.mkdir()
    (there / "mine.j2").write_text("{{ text }} -> {{ answer }}")
    task = write_task(
        input={"template": "mine"}, data={"test": "../test.jsonl", "target": "label"}, name="tasks/task.yaml"
    )
    assert load_task(task).template.source == "{{ text }} -> {{ answer }}"


def test_a_task_without_a_name_is_called_after_its_file(write_task: WriteTask) -> None:
    path = write_task(name="my-task.yaml")
    path.write_text(path.read_text().replace("name: ", "# "))
    assert load_task(path).task.name == "my-task"
