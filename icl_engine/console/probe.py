"""`icl models --probe TASK`: what the task's model can really do, found by asking it."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_engine.config.load import Loaded
    from icl_engine.types import Capabilities

MEANING = {
    "text": "completes a plain prompt",
    "chat": "takes turns",
    "top_logprobs": "log-probabilities of the likeliest next tokens",
    "named": "log-probabilities of named tokens, exact however unlikely",
    "spelling": "shows its tokenizer",
    "prefill": "goes on with an answer that was begun",
    "continuation": "log-probabilities of a given text",
    "grammar": "keeps to a grammar",
    "schema": "keeps to a JSON Schema",
    "choice": "says one of several given texts",
    "samples": "several answers in one request",
    "seed": "repeats a drawn answer for its seed",
    "images": "looks at images",
    "context": "tokens of prompt and answer together",
}
"""The capabilities that are shown, in words."""


def show(found: Loaded, *, as_json: bool) -> None:
    """Probe every uncertain capability of the task's model anew, keep what was found, and print it."""
    from icl_engine.config.load import build

    pipeline = build(found)
    with pipeline, found.document.placing():
        pipeline.submit(pipeline.discover()).result()
        can, uncertain = pipeline.capabilities, pipeline.uncertain
    if as_json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(_record(can, uncertain), option=orjson.OPT_INDENT_2))
        sys.stdout.buffer.write(b"\n")
        return
    model = found.task.model
    print(f"{model.use} {model.title} · api: {model.api}")
    for name, value in _record(can, uncertain)["capabilities"].items():
        if name in MEANING:
            how = "" if name not in uncertain else "  (tried)" if name in can.probed else "  (not clear)"
            print(f"  {name:<13} {_shown(value):<6} {MEANING[name]}{how}")
    print(f"label scores: {_scores(can)}")


def _record(can: Capabilities, uncertain: frozenset[str]) -> dict[str, Any]:
    values = {f.name: getattr(can, f.name) for f in fields(can) if f.name != "probed"}
    return {"capabilities": values, "probed": sorted(can.probed), "uncertain": sorted(uncertain)}


def _shown(value: int | bool | None) -> str:
    return "yes" if value is True else "no" if value is False else "-" if value is None else str(value)


def _scores(can: Capabilities) -> str:
    """The rung that two one-token labels would be read by."""
    from icl_engine.models.ladder import rung
    from icl_engine.types import Need

    need = Need("scores", {"a": ("a",), "b": ("b",)}, read=lambda _: None)
    return {
        "named": "exact, by named tokens: one request for labels of one token",
        "top_k": f"by the {can.top_logprobs} likeliest next tokens: one request for labels of one token",
        "continuation": "by continuation: one request a label",
        "constrained": "none; the best label by constrained generation, a distribution by counting samples",
        "votes": "none; a distribution by counting samples",
        "text": "none; answers are read from text",
    }[rung(need, can)]
