"""`field`, how retrievers take encoders, and what `sentence_transformers` says where it cannot be used."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from icl_engine.errors import EndpointError, MissingExtraError, TaskError
from icl_engine.manipulation.encode import AnyEncoder
from icl_engine.manipulation.encode.field import Field
from icl_engine.models import sentence_transformers
from icl_engine.models.embeddings import Embeddings
from icl_engine.models.sentence_transformers import SentenceTransformers, located
from icl_engine.protocols import Encoder, View
from icl_engine.types import Example

VIEW = View(lambda x: str(x.inputs.get("t", x.id)))
ANY: TypeAdapter[Encoder] = TypeAdapter(AnyEncoder)

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)


def examples(values: list[Any]) -> list[Example]:
    return [Example(f"r{i}", {"v": value, "t": f"text {i}"}) for i, value in enumerate(values)]


def encoded(values: list[Any]) -> np.ndarray:
    xs, field = examples(values), Field(name="v")
    return field.encode(field.fit(xs, VIEW), xs, VIEW)


# -- field


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_field_scales_any_numbers_to_unit_length(values: list[list[float]]) -> None:
    rows = encoded(values)
    assert rows.dtype == np.float32
    for row, value in zip(rows, values, strict=True):
        largest = max(map(abs, value))
        if largest > 1e-300:
            scaled = np.array([float(v) / largest for v in value])
            assert np.allclose(row, scaled / np.linalg.norm(scaled), atol=1e-6)
            assert abs(np.linalg.norm(row) - 1) < 1e-6
        elif not largest:
            assert not row.any()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1, 2], [1, 2, 3]], "row r1: field 'v' has 3 numbers, those of the train split have 2"),
        ([[1, 2], [1, None]], "row r1: field 'v' is no list of numbers"),
        ([[1, 2], ["1", "2"]], "row r1: field 'v' is no list of numbers"),
        ([[1, 2], "[1, 2]"], "row r1: field 'v' is no list of numbers"),
        ([[1, 2], 3], "row r1: field 'v' is no list of numbers"),
        ([[1, 2], [True, False]], "row r1: field 'v' is no list of numbers"),
        ([[1, 2], [[1], [2]]], "row r1: field 'v' is no list of numbers"),
        ([[1, 2], [[1], [2, 3]]], "row r1: field 'v' is no list of numbers"),
        ([[]], "row r0: field 'v' is no list of numbers"),
        ([[1, 2], [1, float("nan")]], "row r1: field 'v' has a number that is infinite or none"),
        ([[1, float("-inf")]], "row r0: field 'v' has a number that is infinite or none"),
    ],
)
def test_field_names_the_row_whose_vector_is_none(values: list[Any], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        encoded(values)
    assert str(caught.value) == f"input.demonstrations.encoder.name: {said}"


def test_field_says_which_fields_a_row_has() -> None:
    field = Field(name="vektor")
    with pytest.raises(TaskError, match=r"row 0: field 'vektor' is not there; did you mean 'vector'\?"):
        field.fit([Example(0, {"vector": [1.0]})], VIEW)


def test_a_query_without_a_vector_is_named() -> None:
    field, pool = Field(name="v"), examples([[1, 2]])
    state = field.fit(pool, VIEW)
    with pytest.raises(TaskError, match="row q: field 'v' is not there"):
        field.encode(state, [Example("q", {"t": "?"})], VIEW)


def test_no_examples_have_no_rows() -> None:
    assert Field(name="v").encode(2, [], VIEW).shape == (0, 2)


# -- how a retriever takes an encoder


def test_an_encoder_is_a_name_or_a_mapping() -> None:
    assert ANY.validate_python({"use": "field", "name": "v"}) == Field(name="v")
    assert ANY.validate_python("org/model") == SentenceTransformers(name="org/model")
    remote = ANY.validate_python({"use": "embeddings", "name": "m", "api_key": "secret"})
    assert isinstance(remote, Embeddings)
    assert "secret" not in repr(remote)


@pytest.mark.parametrize("found", [{"use": "field"}, {"use": "embeddings"}, {"use": "no such"}, 3])
def test_what_is_no_encoder_is_refused(found: Any) -> None:
    with pytest.raises(ValidationError):
        ANY.validate_python(found)


def test_encoders_load_no_library_before_they_are_used() -> None:
    code = """
import sys
from icl_engine.manipulation.encode.field import Field
from icl_engine.models.embeddings import Embeddings
from icl_engine.models.sentence_transformers import SentenceTransformers
Field(name="v"), Embeddings(name="m", base_url="http://h/v1").identity, SentenceTransformers(name="org/m").identity
heavy = {"numpy", "torch", "openai", "httpx", "sentence_transformers", "transformers", "huggingface_hub"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# -- sentence_transformers that cannot be used


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError) as caught:
        SentenceTransformers(name="org/other").encode(None, examples([1]), VIEW)
    assert str(caught.value) == (
        "encoder org/other needs the package sentence-transformers (and torch: without a GPU, install torch's CPU "
        "build first); run: pip install 'icl-engine[dense]'"
    )


def test_the_default_model_is_that_of_the_package_under_both_its_names() -> None:
    folder = located("all-MiniLM-L6-v2")
    assert folder == located("sentence-transformers/all-MiniLM-L6-v2")
    assert folder is not None
    assert (folder / "model.safetensors").is_file()
    assert (
        SentenceTransformers().identity == SentenceTransformers(name="sentence-transformers/all-MiniLM-L6-v2").identity
    )


def test_without_the_package_the_default_model_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_transformers, "find_spec", lambda name: None)
    assert located("all-MiniLM-L6-v2") is None
    assert SentenceTransformers().identity == "sentence_transformers|sentence-transformers/all-MiniLM-L6-v2|None"


@pytest.mark.parametrize("name", ["./none", "/none/such", "~/none/such"])
def test_a_path_that_is_not_there_is_no_name_on_the_hub(name: str) -> None:
    with pytest.raises(TaskError, match=f"there is no folder '{name}' with a model"):
        SentenceTransformers(name=name).encode(None, examples([1]), VIEW)


def test_the_prompt_and_a_folder_s_files_are_of_the_identity(tmp_path: Path) -> None:
    def identity(name: str, **keys: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for file, content in keys.items():
            (folder / file.replace("_", ".")).write_text(content)
        return SentenceTransformers(name=str(folder)).identity

    same = {"config_json": "{}", "model_safetensors": "weights"}
    first = identity("a", **same)
    assert identity("b", **same, README_md="words") == first
    assert identity("c", **{**same, "model_safetensors": "others"}) != first
    assert identity("d", **{**same, "config_json": "{ }"}) != first
    prompts = {SentenceTransformers(name="m", prompt=prompt).identity for prompt in (None, "", "query: ", "None")}
    assert len(prompts) == 4


class _Hub(BaseHTTPRequestHandler):
    """A hub that has no model to give."""

    def do_GET(self) -> None:
        repository = self.path.removeprefix("/api/models/org/")
        if repository == "gone":
            return
        status, code = {"unknown": (404, "RepoNotFound"), "gated": (403, "GatedRepo")}.get(repository, (503, ""))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_name_that_the_hub_cannot_give_is_told_in_one_line_and_soon(tmp_path: Path, hub: str) -> None:
    code = """
import logging, sys, time
logging.basicConfig(level=logging.WARNING)
import sentence_transformers
from icl_engine.models.sentence_transformers import SentenceTransformers
from icl_engine.protocols import View
from icl_engine.types import Example
for name in sys.argv[1:]:
    began = time.monotonic()
    try:
        SentenceTransformers(name=name).encode(None, [Example(0, {})], View(lambda x: "a"))
    except Exception as error:
        print(type(error).__name__, error)
    assert time.monotonic() - began < 10
"""
    environment = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_secret"}
    (tmp_path / "empty").mkdir()
    names = ["org/gone", "org/busy", "org/unknown", "org/gated", "a b", str(tmp_path / "empty")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *names],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    gone, busy, unknown, gated, bad, empty = done.stdout.splitlines()
    assert gone == (
        "EndpointError the model org/gone is not in the local cache, and the hub cannot be reached "
        "(RemoteProtocolError); fetch it once while online, name a folder that has it, or take encoder: tfidf"
    )
    assert "org/busy is not in the local cache, and the hub answers with status 503; fetch it" in busy
    assert unknown == (
        "EndpointError the hub has no model org/unknown; if it is private, log in (hf auth login) or set HF_TOKEN"
    )
    assert gated.startswith("EndpointError org/gated is gated: ask for access on its page, then log in")
    assert bad.startswith("EndpointError sentence-transformers cannot load 'a b': ")
    assert empty.startswith(f"EndpointError sentence-transformers cannot load '{tmp_path}/empty': ")


def test_a_model_that_cannot_embed_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def encode(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("out of memory\nbuy more")

    monkeypatch.setattr(sentence_transformers, "_model", lambda name, device: Full())
    with pytest.raises(EndpointError, match=r"m cannot embed \(out of memory buy more\); a smaller encoder.batch"):
        SentenceTransformers(name="m").encode(None, examples([1]), VIEW)
