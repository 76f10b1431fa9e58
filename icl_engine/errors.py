"""Every error this package raises on purpose.

    IclError
    ├── TaskError              a mistake in a task, template, data file or command (exit 2)
    │   ├── DataError          a data file or one of its rows
    │   ├── TemplateError      a template, or a row it cannot be rendered with
    │   └── MissingExtraError  an optional dependency is not installed
    ├── EndpointError          the model as a whole cannot be used: unreachable, wrong key, corrupt file (exit 2)
    ├── RequestError           one request got no answer; `retryable` says whether asking again may help
    │   └── NoLogprobsError    it was answered, but without the log-probabilities it asked for
    ├── StorageError           the cache or the run directory cannot be written (exit 2)
    ├── BudgetError            the run has spent what it may; with a higher cap it goes on from there (exit 4)
    ├── FailuresError          too many rows got no answer; running it again goes on from there (exit 3)
    └── InterruptedRunError    the user stopped the run; running it again goes on from there (exit 130)

A mistake is told in one line: what, where (file, line, key), and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class IclError(Exception):
    """Base of all errors raised on purpose by icl_engine."""


class TaskError(IclError):
    """A mistake the user can mend.

    Args:
        what: the mistake, and what to do about it.
        file: the file it stands in.
        line: its line, counted from 1.
        key: the task key, as ``output[0].labels``.

    >>> str(TaskError("unknown key 'lables'; did you mean 'labels'?", file="t.yaml", line=7, key="output[0]"))
    "t.yaml:7: output[0]: unknown key 'lables'; did you mean 'labels'?"
    """

    def __init__(
        self, what: str, *, file: str | Path | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.file = None if file is None else str(file)
        self.line = line
        self.key = key

    def __str__(self) -> str:
        place = self.file or ""
        if place and self.line is not None:
            place += f":{self.line}"
        return ": ".join(part for part in (place, self.key, self.what) if part)


class DataError(TaskError):
    """A data file that cannot be read, or a row that does not fit the task."""


class TemplateError(TaskError):
    """A template that breaks the contract, or a row that it cannot be rendered with."""


class MissingExtraError(TaskError):
    """A component needs a package that is not installed."""

    def __init__(self, component: str, package: str, extra: str) -> None:
        super().__init__(f"{component} needs the package {package}; run: pip install 'icl-engine[{extra}]'")


class EndpointError(IclError):
    """The model as a whole cannot be used; no further request would be answered."""


class RequestError(IclError):
    """One request got no answer.

    Args:
        what: the provider's own words, bounded.
        retryable: asking the same again may help (rate limit, 5xx, reset, unreadable body).
        retry_after: seconds the provider asked to wait, if it did.
        congested: the endpoint may have too much to do (a server's fault that says so, no answer in time).
        limited: it said that there are too many requests: fewer should be in flight.
        billed: it may have been paid for, although no answer came (a timeout, a cut or unreadable body).
    """

    def __init__(
        self,
        what: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        congested: bool = False,
        limited: bool = False,
        billed: bool = False,
    ) -> None:
        super().__init__(what)
        self.retryable = retryable
        self.retry_after = retry_after
        self.congested = congested
        self.limited = limited
        self.billed = billed


class NoLogprobsError(RequestError):
    """An answer without the log-probabilities that were asked for, or with figures that cannot be any.

    It was paid for all the same.
    """

    def __init__(self, what: str, *, retryable: bool = False) -> None:
        super().__init__(what, retryable=retryable, billed=True)


class BudgetError(IclError):
    """A run has spent what it may; what was answered is kept."""


class StorageError(IclError):
    """The cache or the run directory cannot be written; what was answered is kept."""


class FailuresError(IclError):
    """More rows than `run.max_failures` allows got no answer; the run was stopped early, what was answered is kept."""


class InterruptedRunError(IclError):
    """The user interrupted a run; what was answered is kept."""


def did_you_mean(name: str, valid: Iterable[str], what: str = "valid") -> str:
    """``; did you mean 'x'?`` where a valid name is near, else the list of valid names, headed by `what`.

    >>> did_you_mean("ballanced", ["k", "balanced"])
    "; did you mean 'balanced'?"
    >>> did_you_mean("q", ["k", "balanced"])
    ' (valid: balanced, k)'
    """
    names = sorted(valid)
    folded = {n.casefold(): n for n in reversed(names)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {folded[near[0]]!r}?"
    return f" ({what}: {', '.join(names)})" if names else ""


_PICTURE = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/=]{16,}")
"""A PNG, JPEG, GIF or WebP image in base64, which a provider may repeat in its answer."""


def bounded(text: str, limit: int = 300) -> str:
    r"""Foreign text made safe for one line of an error: control characters shown, images left out, length bounded.

    >>> bounded("a\nb" + "c" * 9, limit=6)
    'a b…'
    """
    line = " ".join(_PICTURE.sub("…", text[: 4 * limit]).split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return line if len(line) <= limit and len(text) <= limit else line[: max(0, limit - 3)] + "…"
