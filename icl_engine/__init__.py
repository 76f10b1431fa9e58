"""icl-engine: the most out of a frozen language model, ŷ = O ∘ f ∘ I(x).

I (`manipulation/`) makes the prompt, f (`models/`) answers, O (`alignment/`) reads the answer; `pipeline.py` composes
them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_engine.engine.audit import Audit, audit
    from icl_engine.engine.rescore import Rescored, rescore
    from icl_engine.engine.run import RunResult, run
    from icl_engine.errors import (
        BudgetError,
        DataError,
        EndpointError,
        FailuresError,
        IclError,
        InterruptedRunError,
        MissingExtraError,
        NoLogprobsError,
        RequestError,
        StorageError,
        TaskError,
        TemplateError,
    )
    from icl_engine.pipeline import Pipeline
    from icl_engine.sdk import arun, load
    from icl_engine.types import Demonstration, Example, Prediction, Score

_WHERE = {
    "Audit": "engine.audit",
    "BudgetError": "errors",
    "DataError": "errors",
    "Demonstration": "types",
    "EndpointError": "errors",
    "Example": "types",
    "FailuresError": "errors",
    "IclError": "errors",
    "InterruptedRunError": "errors",
    "MissingExtraError": "errors",
    "NoLogprobsError": "errors",
    "Pipeline": "pipeline",
    "Prediction": "types",
    "RequestError": "errors",
    "Rescored": "engine.rescore",
    "RunResult": "engine.run",
    "Score": "types",
    "StorageError": "errors",
    "TaskError": "errors",
    "TemplateError": "errors",
    "arun": "sdk",
    "audit": "engine.audit",
    "load": "sdk",
    "rescore": "engine.rescore",
    "run": "engine.run",
}
"""Public name -> module, imported at first use: `import icl_engine` costs next to nothing."""

__all__ = [
    "Audit",
    "BudgetError",
    "DataError",
    "Demonstration",
    "EndpointError",
    "Example",
    "FailuresError",
    "IclError",
    "InterruptedRunError",
    "MissingExtraError",
    "NoLogprobsError",
    "Pipeline",
    "Prediction",
    "RequestError",
    "Rescored",
    "RunResult",
    "Score",
    "StorageError",
    "TaskError",
    "TemplateError",
    "arun",
    "audit",
    "load",
    "rescore",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
