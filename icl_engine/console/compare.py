"""`icl compare`: are runs more different than chance makes them?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from icl_engine.engine.compare import Compared, Pair


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR DIR…", help="Run directories; the first is the baseline.")],
    every_pair: Annotated[bool, typer.Option("--every-pair", help="Compare each with each.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the resampling.")] = 0,
) -> None:
    """Compare finished runs over the same rows: differences with intervals and p-values, in plain words."""
    import orjson

    from icl_engine.engine.compare import compare_runs

    found = compare_runs(runs, every_pair=every_pair, seed=seed)
    if as_json:
        sys.stdout.write(orjson.dumps(record(found), option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    names = letters(len(found.runs))
    for i, (name, run) in enumerate(zip(names, found.runs, strict=True)):
        count = found.failed[i]
        failed = f"; {count} row{'s' * (count != 1)} without an answer: counted as wrong" if count else ""
        print(f"{name} = {run.path}{failed}")
        for metric, score in found.scores[i].items():
            low, high = score.ci95
            print(f"    {metric} {score.value:.4f} (95% CI {low:.4f} to {high:.4f})")
    for pair in found.pairs:
        print(sentence(pair, names, found))


def letters(count: int) -> list[str]:
    """Short names for runs: A to Z, then R27, R28 and so on."""
    return [chr(ord("A") + i) if i < 26 else f"R{i + 1}" for i in range(count)]


def sentence(pair: Pair, names: list[str], found: Compared) -> str:
    """A comparison in plain words."""
    r, a, b = pair.result, names[pair.a], names[pair.b]
    points, places, unit = _scale(pair)
    low, high = (points * end for end in r.ci95)
    size = abs(points * r.difference)
    if r.difference < 0:
        low, high = -high, -low
    low, high = round(low, places) + 0.0, round(high, places) + 0.0  # no -0.0
    above, below = (b, a) if r.difference >= 0 else (a, b)
    if pair.shown:
        better, worse = (below, above) if pair.lower else (above, below)
        verdict = f"{better} is better than {worse} by {size:.{places}f}{unit}"
    elif size:
        verdict = f"no difference shown: {above} is {size:.{places}f}{unit} above {below}"
    else:
        verdict = f"no difference shown: {a} and {b} are equal"
    family = sum(p.metric == pair.metric for p in found.pairs)
    adjusted = f" ({pair.p_holm:.3g} after Holm over {family} comparisons)" if family > 1 else ""
    rows = f"n = {found.n}" + (f" in {found.clusters} clusters" if found.clusters else "")
    interval = f"95% CI {low:.{places}f} to {high:.{places}f}"
    lower = " (lower is better)" if pair.lower else ""
    return f"{pair.metric}{lower}: {verdict}, {interval}, p = {r.p:.3g}{adjusted}, {rows}"


def _scale(pair: Pair) -> tuple[float, int, str]:
    """What a difference is multiplied by, its decimals and unit: points where the scale ends at 1 or 100."""
    widest = max(abs(pair.best), abs(pair.worst))
    return (100 / widest, 1, " points") if widest in (1.0, 100.0) else (1.0, 4, "")


def record(found: Compared) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "runs": [
            {
                "path": str(run.path),
                "failed": failed,
                "metrics": {m: {"value": s.value, "ci95": s.ci95, "n": s.n} for m, s in scores.items()},
            }
            for run, failed, scores in zip(found.runs, found.failed, found.scores, strict=True)
        ],
        "n": found.n,
        "clusters": found.clusters,
        "comparisons": [
            {
                "metric": pair.metric,
                "a": str(found.runs[pair.a].path),
                "b": str(found.runs[pair.b].path),
                "difference": pair.result.difference,
                "ci95": pair.result.ci95,
                "lower_is_better": pair.lower,
                "p": pair.result.p,
                "p_holm": pair.p_holm,
                "test": pair.result.test,
                "only_a": pair.result.only_a,
                "only_b": pair.result.only_b,
                "shown": pair.shown,
            }
            for pair in found.pairs
        ],
    }
