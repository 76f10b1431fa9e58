"""Encoders: examples as vectors, for retrievers that compare them. Those that need a network or weights are models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationInfo
from pydantic_core import PydanticCustomError

from icl_engine.errors import TaskError
from icl_engine.paths import based
from icl_engine.protocols import Encoder
from icl_engine.registry import names, resolve


def _named(found: Any, info: ValidationInfo) -> Any:
    """An encoder by its registered name, by a sentence-transformers model's name or path, or as a mapping."""
    if isinstance(found, Encoder):
        return found
    if isinstance(found, str) and found.strip():
        found = {"use": found} if found in names("encoder") else {"use": "sentence_transformers", "name": found}
    if not isinstance(found, Mapping) or "use" not in found:
        options = ", ".join(sorted(names("encoder")))
        what = f"takes a model's name or path, or a mapping with 'use' (one of: {options})"
        raise PydanticCustomError("shape", "{what}", {"what": what})
    try:
        cls = resolve("encoder", str(found["use"]))
    except TaskError as error:
        raise PydanticCustomError("use", "{what}", {"what": error.what}) from error
    given = {str(k): v for k, v in found.items()}
    name = given.get("name")
    # A model's name may look like a path ("org/model"): it is one where it begins like one, or where there is one.
    base = (info.context or {}).get("base")
    if found["use"] == "sentence_transformers" and isinstance(name, str) and _names_a_folder(name, base):
        given["name"] = based(name, base)
    return cls.model_validate(given, context=info.context)


def _names_a_folder(name: str, base: Path | None) -> bool:
    return name.startswith((".", "/", "~")) or Path(based(name, base)).is_dir()


AnyEncoder = Annotated[SerializeAsAny[Encoder], BeforeValidator(_named)]
"""An encoder as a retriever takes it."""
