"""`icl models`: what is available, and what each needs. Nothing is loaded, unpacked, downloaded or connected for it."""

from __future__ import annotations

import sys
import textwrap
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_engine.console.options import ModelOption, SetOption, loaded
from icl_engine.errors import TaskError

if TYPE_CHECKING:
    from icl_engine.config.describe import Description
    from icl_engine.models.gguf import Packaged

WIDTH = 100
GET_ENGINE = "pip install 'icl-engine[local]'"
COLUMNS = {
    "name": "name",
    "size": "parameters",
    "kind": "kind",
    "context": "context",
    "download": "download_mb",
    "on disk": "disk_mb",
    "memory": "memory_mb",
    "state": "state",
}
"""What the table shows of a model: heading -> its name in ``--json``."""
SCORES = {
    "exact": "yes, exact for any label",
    "none": "no, answers are read from text",
    "depends": "it depends on the model; icl models --probe TASK finds out",
}


def models(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="With --probe: whose model is asked.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask the task's model what it can do: a few tokens.")] = False,
    model: ModelOption = None,
    sets: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known, as JSON.")] = False,
) -> None:
    """List the embedded models and the providers, and what is missing for each; or probe the model of a task."""
    if probe or task is not None:
        _probe(task, probe, model, sets, as_json=as_json)
        return
    from icl_engine.config.describe import components
    from icl_engine.models.embedded import ENGINE
    from icl_engine.models.gguf import PACKAGED

    engine = [] if find_spec(ENGINE) else [GET_ENGINE]
    embedded = [_embedded(name, packaged, engine) for name, packaged in PACKAGED.items()]
    providers = [
        _provider(name, found, engine if name == "embedded" else []) for name, found in components("model").items()
    ]
    if as_json:
        import orjson

        found = {"embedded": embedded, "providers": providers}
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    _print_embedded(embedded)
    _print_providers(providers)


def _probe(task: str | None, probe: bool, model: str | None, sets: list[str] | None, *, as_json: bool) -> None:
    from icl_engine.console.probe import show

    if task is None:
        raise TaskError("takes a task, whose model is asked: icl models --probe TASK", key="--probe")
    if not probe:
        raise TaskError(f"lists all models; to ask the model of a task, write: icl models --probe {task}", key="models")
    show(loaded(task, model, sets), as_json=as_json)


def _embedded(name: str, packaged: Packaged, engine: list[str]) -> dict[str, Any]:
    """What is known of a packaged model; `engine` holds the command that installs the engine, if it is missing."""
    # The extra that brings the engine also brings the model that needs no command of its own.
    install = list(dict.fromkeys([*engine, *([] if packaged.present else [packaged.install])]))
    return {
        "name": name,
        "parameters": packaged.parameters,
        "kind": "instruct" if packaged.chat else "base",
        "chat": packaged.chat,
        "context": packaged.context,
        "download_mb": packaged.megabytes,
        "disk_mb": packaged.disk,
        "memory_mb": packaged.memory,
        "licence": packaged.licence,
        "package": packaged.package,
        "state": "missing" if install else "ready",
        "install": install,
    }


def _provider(name: str, found: Description, install: list[str]) -> dict[str, Any]:
    """What a provider's class says of it."""
    return {
        "use": name,
        "summary": found.summary,
        "needs": [key.name for key in found.keys if key.required],
        "api_key": any(key.name == "api_key" for key in found.keys),
        "label_scores": _label_scores(found),
        "state": "missing" if install else "ready",
        "install": install,
    }


def _label_scores(found: Description) -> str:
    """``exact``, ``top k``, ``none``, or ``depends`` where an endpoint says it only once it is connected."""
    from typing import get_type_hints

    from icl_engine.types import Capabilities

    try:
        can = get_type_hints(found.cls.connect)["return"].capabilities  # type: ignore[attr-defined]
    except (AttributeError, KeyError, NameError, TypeError):
        can = None
    if not isinstance(can, Capabilities):
        return "depends"
    return "exact" if can.continuation else f"top {can.top_logprobs}" if can.top_logprobs else "none"


def _print_embedded(rows: list[dict[str, Any]]) -> None:
    from icl_engine.models.embedded import Embedded

    print("embedded models (model: NAME, or the path of any .gguf file)")
    table = [list(COLUMNS), *([_cell(row, key) for key in COLUMNS.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        texts = ("name", "kind", "state")
        aligned = [
            cell.ljust(width) if heading in texts else cell.rjust(width)
            for heading, cell, width in zip(COLUMNS, cells, widths, strict=True)
        ]
        print(("  " + "  ".join(aligned)).rstrip())
    for row in rows:
        chat = "takes text, and turns by api: chat" if row["chat"] else "takes text, no turns"
        print(f"  {row['name']}: {chat}; licence: {row['licence']}")
        for command in row["install"]:
            print(f"    to install: {command}")
    used = Embedded.model_fields["context"].default
    print(f"  context: the most tokens it was made for; model.context (default {used}) says how many are used,")
    print("  and memory was measured at that default")


def _cell(row: dict[str, Any], key: str) -> str:
    return f"{row[key]} MB" if key.endswith("_mb") else str(row[key])


def _print_providers(rows: list[dict[str, Any]]) -> None:
    print("\nproviders (model: {use: NAME, …})")
    indent = max(len(row["use"]) for row in rows) + 4
    for row in rows:
        needs = ", ".join(row["needs"]) or "nothing more"
        scores = SCORES.get(row["label_scores"]) or f"yes, of the {row['label_scores']} next tokens"
        lines = [
            *textwrap.wrap(row["summary"].replace("`", ""), WIDTH - indent),
            f"needs {needs}{'; api_key where the server asks for one' if row['api_key'] else ''}",
            f"label scores: {scores}",
            *(f"to install: {command}" for command in row["install"]),
        ]
        for line, name in zip(lines, [row["use"], *[""] * len(lines)], strict=False):
            print(f"  {name.ljust(indent - 2)}{line}")
