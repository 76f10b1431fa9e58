"""`icl plan`: what a run would ask, and what it would cost. Nothing is asked for it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from icl_engine.console.options import ModelOption, SetOption, TaskArgument, loaded
from icl_engine.console.run import notes

if TYPE_CHECKING:
    from icl_engine.engine.plan import Choice, Plan


def plan(
    task: TaskArgument,
    model: ModelOption = None,
    sets: SetOption = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N rows.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Plan as if nothing had been asked before.")] = False,
    tokenize: Annotated[
        bool | None,
        typer.Option(
            "--tokenize/--estimate",
            help="Count tokens with the model's own tokenizer, or estimate them. By default an embedded model's is "
            "loaded, and a server is not asked.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run would ask of the model, and what it would cost, without asking anything."""
    import orjson

    from icl_engine.engine.plan import plan

    found = loaded(task, model, sets)
    planned = plan(found, limit=limit, cache=not no_cache, tokenize=tokenize)
    planned = replace(planned, warnings=(*notes(found), *planned.warnings))
    if as_json:
        sys.stdout.write(orjson.dumps(planned.record(), option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    print(f"{planned.task} · {planned.model}\n")
    table = lines(planned)
    width = max(map(len, table))
    for name, text in table.items():
        print(f"{name:<{width}}  {text}")
    for warning in planned.warnings:
        print(f"warning: {warning}")
    for note in planned.notes:
        print(f"note: {note}")


def lines(p: Plan) -> dict[str, str]:
    """The table: heading -> what stands there."""
    roles = ", ".join(f"{between(*n)} {role}" for role, n in p.roles.items() if role != "capability")
    probes = p.roles.get("capability")
    beside = f", and {between(*probes)} about the endpoint" if probes else ""
    low, high = p.prompt_tokens_range
    tokens = f"{p.prompt_tokens}" if low == high else f"about {p.prompt_tokens} ({low} to {high})"
    more = f", {p.prompt_tokens_max} at most" if p.requests < p.requests_max else ""
    share = (
        "nothing to send" if p.cacheable_share is None else f"can serve {100 * p.cacheable_share:.1f}% of what is sent"
    )
    cost = "unknown" if p.cost_usd is None else _dollars(p.cost_usd)
    ways = {f"prefix: {way}": _choice(choice) for way, choice in p.choices.items()}
    return {
        "examples": str(p.examples),
        "requests": f"{between(p.requests, p.requests_max)} ({roles}){beside}",
        "an example": between(*p.requests_per_example),
        "to be paid": f"{between(*p.paid)}, {p.cached} are in the cache",
        "prompt tokens": f"{tokens}{more}; {p.counted_by}: {p.counted_how}",
        "prefix cache": share,
        **ways,
        "answer tokens": between(*p.completion_tokens),
        "cost": cost + (f" (list price of {p.price['as_of']})" if p.price and p.price["as_of"] else ""),
        "answers read": f"by {p.method}" + (" (assumed: the endpoint was not asked yet)" if p.assumed else ""),
    }


def _choice(c: Choice) -> str:
    cost = "" if c.cost_usd is None else f", {_dollars(c.cost_usd)}"
    return f"first {c.rows} rows: {c.prompt_tokens} tokens, a cache can serve {100 * c.cacheable_share:.1f}%{cost}"


def _dollars(cost: tuple[float, float]) -> str:
    return " to ".join(f"${usd:.4f}" for usd in dict.fromkeys(cost))


def between(low: float, high: float) -> str:
    """Two ends of a range.

    >>> between(3, 5), between(2.0, 2.0)
    ('3 to 5', '2')
    """
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
