"""What the task file says of any model, whatever its provider."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from icl_engine.protocols import Model


class Provider(Model):
    """Keys every model takes.

    Args:
        max_tokens: the most tokens an answer may have.
        temperature: 0 is greedy.
        stop: texts that end an answer; a base model runs on without one.
        seed: for sampling; sample i is sent with seed + i.
        api: ``completions`` sends one text, ``chat`` sends turns.
        identity: names the model in the cache's key, in place of its address or file.
    """

    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    api: Literal["completions", "chat"] = "completions"
    identity: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: object) -> object:
        return (stop,) if isinstance(stop, str) else stop
