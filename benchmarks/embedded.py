"""The whole of `icl run` on the embedded model next to a bare llama.cpp loop over the same prompts, in one run.

    python benchmarks/embedded.py [TASK] [--limit 60] [--repeats 3]

The bare loop loads the model with the same settings and asks for the same log-probabilities, in data order.
Prints seconds (median over repeats, loading included) and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import icl_engine as icl
from icl_engine.config.load import build, load_task
from icl_engine.models import gguf
from icl_engine.models.embedded import Embedded, EmbeddedEndpoint
from icl_engine.models.search import TOP


def prompts_of(task: str, limit: int) -> list[str]:
    """The prompts that the task's first rows make."""
    loaded = load_task(task)
    pipeline = build(loaded)
    rows = loaded.test(need_target=False)
    return [pipeline.check(next(rows)).text or "" for _ in range(limit)]


def bare(prompts: Sequence[str], spec: Embedded) -> None:
    """Load the model and ask for each prompt's next token, one after another."""
    import xllamacpp

    server = xllamacpp.Server(EmbeddedEndpoint(spec).parameters(xllamacpp, gguf.locate(spec.name)))
    for prompt in prompts:
        server.handle_completions({"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": TOP})


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure both, alternating, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", default="sentiment")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    model = load_task(given.task).task.model
    if not isinstance(model, Embedded):
        parser.error("the task's model is not embedded")
    prompts = prompts_of(given.task, given.limit)
    gguf.locate(model.name)
    times: dict[str, list[float]] = {"bare llama.cpp loop": [], "icl run": []}
    for _ in range(given.repeats):
        times["bare llama.cpp loop"].append(seconds(lambda: bare(prompts, model)))
        with tempfile.TemporaryDirectory() as out:
            times["icl run"].append(seconds(lambda: icl.run(given.task, limit=given.limit, out=out, cache=False)))
    base = statistics.median(times["bare llama.cpp loop"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name:20} {median:7.2f} s   {len(prompts) / median:6.1f} rows/s   {median / base:5.2f}x")


if __name__ == "__main__":
    main()
