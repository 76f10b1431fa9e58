"""What tokens cost: a table of list prices (`prices.json`, data), and the user's own, which come first."""

from __future__ import annotations

import ipaddress
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from icl_engine.config.document import dotted
from icl_engine.errors import TaskError, bounded
from icl_engine.protocols import Model
from icl_engine.types import Usage

SHIPPED = Path(__file__).parent / "prices.json"

LOCAL = ("embedded", "fake", "replay")
"""Providers that run on this machine."""

ADDRESSES = {
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
}
"""Provider -> where it is asked if the task does not say: an environment variable of its SDK, else its own address."""

Patterns = Annotated[tuple[str, ...], BeforeValidator(lambda p: (p,) if isinstance(p, str) else p)]
Usd = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Price(BaseModel):
    """USD per million tokens, and whose price it is: patterns as of file names (``*``), any of which may fit.

    Args:
        model: the model's name.
        provider: the task's ``model.use``.
        host: of the address that is asked.
        input: of prompt tokens.
        output: of answer tokens.
        cached_input: of prompt tokens read from the provider's prompt cache; by default those of any others.
        cache_write: of prompt tokens put there; by default those of any others.
        as_of: when the price was looked up.
        source: where.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Patterns
    provider: Patterns = ("*",)
    host: Patterns = ("*",)
    input: Usd
    output: Usd
    cached_input: Usd | None = None
    cache_write: Usd | None = None
    as_of: str = ""
    source: str = ""

    def fits(self, provider: str, host: str, name: str) -> bool:
        """Whether it is the price of a model there."""
        pairs = ((self.provider, provider), (self.host, host), (self.model, name))
        return all(any(fnmatchcase(given, pattern) for pattern in patterns) for patterns, given in pairs)

    def of(self, used: Usage) -> float:
        """USD of what a provider counted. What it wrote to its cache is not told apart, and charged as any input.

        >>> price = Price(model="m", input=2.0, output=8.0, cached_input=0.5)
        >>> price.of(Usage(prompt_tokens=1_000_000, cached_prompt_tokens=400_000, completion_tokens=10_000))
        1.48
        """
        cached = min(used.cached_prompt_tokens, used.prompt_tokens)
        dollars = (used.prompt_tokens - cached) * self.input + cached * self.read + used.completion_tokens * self.output
        return round(dollars / 1e6, 9)

    def most(self, used: Usage) -> float:
        """USD at most of what a provider counted: as if all that it did not read from its cache was put there.

        >>> Price(model="m", input=2.0, output=8.0, cache_write=2.5).most(Usage(prompt_tokens=1_000_000))
        2.5
        """
        cached = min(used.cached_prompt_tokens, used.prompt_tokens)
        prompts = (used.prompt_tokens - cached) * max(self.input, self.written) + cached * self.read
        return (prompts + used.completion_tokens * self.output) / 1e6

    @property
    def read(self) -> float:
        """Of prompt tokens read from the prompt cache."""
        return self.input if self.cached_input is None else self.cached_input

    @property
    def written(self) -> float:
        """Of prompt tokens put into the prompt cache."""
        return self.input if self.cache_write is None else self.cache_write


class Table(BaseModel):
    """A price file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = ""
    prices: tuple[Price, ...]


FREE = Price(model=("*",), input=0.0, output=0.0)


def price_of(model: Model) -> Price | None:
    """The first price that fits: the user's, nothing for what runs on this machine, the shipped; None if unknown.

    Raises:
        TaskError: the user's price file cannot be read.
    """
    address = _address(model)
    who = (model.use, urlsplit(address).hostname or "", model.title)
    own = own_prices()
    if own is not None and (found := _first(own, *who)) is not None:
        return found
    if model.use in LOCAL or _loopback(who[1]):
        return FREE
    return _first(SHIPPED, *who)


def own_prices() -> Path | None:
    """The user's price file: the one that ``ICL_PRICES`` names, else ``prices.json`` in the config folder, if any."""
    named = os.environ.get("ICL_PRICES")
    if named:
        return Path(named).expanduser()
    usual = usual_file()
    return usual if usual.is_file() else None


def usual_file() -> Path:
    """Where a user's price file is looked for."""
    return Path(platformdirs.user_config_dir("icl-engine", appauthor=False)) / "prices.json"


def _address(model: Model) -> str:
    variable, usual = ADDRESSES.get(model.use, ("", ""))
    return str(getattr(model, "base_url", None) or os.environ.get(variable) or usual)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first(file: Path, provider: str, host: str, name: str) -> Price | None:
    try:
        table = Table.model_validate_json(file.read_bytes())
    except OSError as error:
        raise TaskError(f"the price file cannot be read: {error.strerror}", file=file) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = dotted(first["loc"]) or None
        raise TaskError(f"is not a price file: {bounded(first['msg'])}", file=file, key=where) from None
    return next((price for price in table.prices if price.fits(provider, host, name)), None)
