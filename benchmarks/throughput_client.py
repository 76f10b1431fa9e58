"""One client's run of `throughput.py`, in a process of its own: ``python throughput_client.py CLIENT JSON``.

The last line printed is JSON: the seconds of the work alone (without start-up and imports), the number of answers, and
the client's version. Only the client's own packages are needed: the peers have Pythons of their own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

Given = dict[str, Any]
Ask = Callable[[str], Awaitable[str]]

ASKED: Given = {"model": "mock", "max_tokens": 8, "temperature": 0}
STOP = ["\n"]


def render(given: Given) -> Given:
    """Not measured: the prompts of a task, by our pipeline, as rows of ``prompt`` and ``target``."""
    from icl_engine.config.load import build, load_task

    began = time.perf_counter()
    loaded = load_task(given["task"])
    pipeline = build(loaded)
    count = 0
    with Path(given["prompts"]).open("w", encoding="utf-8") as file:
        for x in loaded.test(need_target=True):
            file.write(json.dumps({"prompt": pipeline.check(x).text, "target": x.target}) + "\n")
            count += 1
    return {"seconds": time.perf_counter() - began, "answers": count, "version": version("icl-engine")}


def prompts(given: Given) -> list[str]:
    """The prompts of the first rows."""
    with Path(given["prompts"]).open(encoding="utf-8") as file:
        return [json.loads(line)["prompt"] for line in islice(file, given["rows"])]


async def driven(given: Given, ask: Ask) -> Given:
    """All prompts through `ask`, so many at once, with what that took."""
    found = prompts(given)
    texts = [""] * len(found)
    waiting = iter(enumerate(found))

    async def worker(waiting: Iterator[tuple[int, str]]) -> None:
        for i, prompt in waiting:
            texts[i] = await ask(prompt)

    began = time.perf_counter()
    await asyncio.gather(*(worker(waiting) for _ in range(given["concurrency"])))
    return {"seconds": time.perf_counter() - began, "answers": sum(map(bool, texts))}


async def aiohttp_loop(given: Given) -> Given:
    """A bare aiohttp loop: JSON out, text in, nothing kept."""
    import aiohttp
    import orjson

    url, headers = f"{given['url']}/completions", {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(prompt: str) -> str:
            body = orjson.dumps({**ASKED, "prompt": prompt, "stop": STOP})
            async with session.post(url, data=body, headers=headers) as answer:
                return str(orjson.loads(await answer.read())["choices"][0]["text"])

        return {**await driven(given, ask), "version": aiohttp.__version__}


def bare(given: Given) -> Given:
    """The bare loop on asyncio's own event loop."""
    return asyncio.run(aiohttp_loop(given))


def bare_uvloop(given: Given) -> Given:
    """The bare loop on uvloop."""
    import uvloop

    return {**uvloop.run(aiohttp_loop(given)), "version": version("uvloop")}


def openai_sdk(given: Given) -> Given:
    """`AsyncOpenAI` as it comes."""
    import openai

    async def loop() -> Given:
        async with openai.AsyncOpenAI(base_url=given["url"], api_key="none") as client:

            async def ask(prompt: str) -> str:
                answer = await client.completions.create(prompt=prompt, stop=STOP, **ASKED)
                return str(answer.choices[0].text)

            return await driven(given, ask)

    return {**asyncio.run(loop()), "version": openai.__version__}


def lm_eval(given: Given) -> Given:
    """lm-evaluation-harness's `local-completions`, of which `generate_until` is timed."""
    from lm_eval import simple_evaluate
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    class Timed(LocalCompletionsAPI):  # type: ignore[misc]
        seconds = 0.0

        def generate_until(self, *args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return super().generate_until(*args, **options)
            finally:
                self.seconds += time.perf_counter() - began

    model = Timed(
        base_url=f"{given['url']}/completions",
        model="mock",
        num_concurrent=given["concurrency"],
        tokenizer_backend=None,
        tokenized_requests=False,
    )
    task = {
        "task": "same_prompts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": given["prompts"]}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "generation_kwargs": {"until": STOP, "max_gen_toks": ASKED["max_tokens"]},
        "metric_list": [{"metric": "exact_match"}],
    }
    Path("same_prompts.yaml").write_text(json.dumps(task), encoding="utf-8")
    manager = TaskManager(include_path=".", include_defaults=False)
    result = simple_evaluate(model, tasks=["same_prompts"], task_manager=manager)
    answers = len(result["samples"]["same_prompts"])
    return {"seconds": model.seconds, "answers": answers, "version": version("lm_eval")}


def inspect(given: Given) -> Given:
    """inspect_ai's `generate` and `match` over its provider for OpenAI-compatible completions, its log as it comes."""
    import inspect_ai
    from inspect_ai.dataset import FieldSpec, json_dataset
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    began = time.perf_counter()
    fields = FieldSpec(input="prompt", target="target")
    task = inspect_ai.Task(
        json_dataset(given["prompts"], fields, limit=given["rows"]), solver=generate(), scorer=match()
    )
    (log,) = inspect_ai.eval(
        task,
        model="openai-api-completions/mock/mock",
        model_base_url=given["url"],
        model_args={"api_key": "none"},
        max_connections=given["concurrency"],
        display="none",
        max_tokens=ASKED["max_tokens"],
        temperature=ASKED["temperature"],
        stop_seqs=STOP,
    )
    if log.status != "success":
        sys.exit(f"inspect_ai: {log.status}, {log.error}")
    answers = log.results.completed_samples
    return {"seconds": time.perf_counter() - began, "answers": answers, "version": version("inspect_ai")}


CLIENTS = {
    "render": render,
    "bare": bare,
    "bare-uvloop": bare_uvloop,
    "openai": openai_sdk,
    "lm-eval": lm_eval,
    "inspect": inspect,
}

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](json.loads(sys.argv[2]))))
