"""Label scoring on a real vLLM server: ours next to lm-evaluation-harness, the same prompts and rows, in one run.

    VLLM_SERVER_DEV_MODE=1 vllm serve … --port 8000
    python benchmarks/label_scoring.py --data DIR --url http://127.0.0.1:8000 --lm-eval VENV/bin/python \
        --tokenizer MODEL_FOLDER [--sets sst2 trec banking77] [--repeat 3] [--seed 0] [--concurrency 16]

DIR holds `<set>/train.jsonl` and `<set>/test.jsonl` with `text` and `label`. The rows are a seeded draw from test.
Our pipeline renders the eight-shot prompts; lm-evaluation-harness gets the very same texts as a multiple-choice task
without shots, so that nothing but the client differs. Both may have as many requests in flight.

- requests: HTTP requests for completions and to the tokenizer, and prompts the engine worked on; prompt tokens, and
  those its prefix cache served. All by the server's own counters (`/metrics`), before and after.
- seconds: of scoring (ours: all of `icl.run`, endpoint check, probing and reports included; theirs: `loglikelihood`
  alone) and of the whole process, which adds start-up. Each run is a process of its own, without any answer cache.
- The prefix cache is emptied (`/reset_prefix_cache`, which vLLM has in dev mode) before every run; who goes first
  alternates with the repeats. Figures are medians over the repeats.
- same: rows on which both give the same label. The server computes in bfloat16, so that near ties may differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from icl_engine.config.load import build, load_task

CLIENT = Path(__file__).with_name("label_scoring_client.py")
TASK = "same_prompts"
SHOTS = 8
COUNTERS = {
    "prompts": "vllm:request_success_total",
    "tokens": "vllm:prompt_tokens_total",
    "cached": "vllm:prompt_tokens_cached_total",
}
PATHS = {"scoring": "/v1/completions", "tokenizer": "/tokenize"}


@dataclass(frozen=True)
class DataSet:
    """Rows to score, and the words around them."""

    rows: int
    template: str


SETS = {
    "sst2": DataSet(200, "Review: {{ text }}\nSentiment: {{ answer }}"),
    "trec": DataSet(100, "Question: {{ text }}\nType: {{ answer }}"),
    "banking77": DataSet(20, "Customer: {{ text }}\nIntent: {{ answer }}"),
}


@dataclass(frozen=True)
class Work:
    """One data set, ready for both clients."""

    task: dict[str, Any]
    folder: Path
    labels: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What one run took and said."""

    counts: Mapping[str, int]
    seconds: float
    whole: float
    said: tuple[str, ...]
    scoring: Mapping[str, Any]


class Server:
    """A vLLM server's counters and prefix cache."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._client = httpx.Client(base_url=self.url, timeout=60)

    def check(self) -> str:
        """The name of its model.

        Raises:
            SystemExit: it is not there, or not in dev mode.
        """
        try:
            name = self._client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
            prompt = {"model": name, "prompt": "warm up " * 200, "max_tokens": 1}
            self._client.post("/v1/completions", json=prompt).raise_for_status()
        except (httpx.HTTPError, ValueError, LookupError) as error:
            sys.exit(f"no vLLM server at --url {self.url} ({type(error).__name__})")
        if self._client.post("/reset_prefix_cache").status_code != 200:
            sys.exit(f"{self.url} cannot empty its prefix cache: start vLLM with VLLM_SERVER_DEV_MODE=1")
        return str(name)

    def counts(self) -> dict[str, int]:
        """The counters as they stand."""
        found = dict.fromkeys([*PATHS, *COUNTERS], 0)
        for row in self._client.get("/metrics").text.splitlines():
            name, _, value = row.rpartition(" ")
            for key, counter in COUNTERS.items():
                if name.startswith(f"{counter}{{"):
                    found[key] += int(float(value))
            for key, path in PATHS.items():
                if name.startswith("http_requests_total{") and f'handler="{path}"' in name:
                    found[key] += int(float(value))
        return found

    @contextmanager
    def counted(self, into: dict[str, int]) -> Iterator[None]:
        """Empty the prefix cache, and count what the block makes the server do."""
        self._client.post("/reset_prefix_cache").raise_for_status()
        before = self.counts()
        yield
        into |= {key: value - before[key] for key, value in self.counts().items()}


def prepare(name: str, folder: Path, model: Mapping[str, Any], given: argparse.Namespace) -> Work:
    """Draw the rows, render the prompts with our pipeline, and write them for lm-evaluation-harness."""
    spec, data = SETS[name], given.data.resolve()
    train, test = (_rows(data / name / f"{split}.jsonl") for split in ("train", "test"))
    labels = tuple(sorted({row["label"] for row in train}))
    rows = random.Random(given.seed).sample(test, spec.rows)
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {
        "name": name,
        "data": {"train": str(data / name / "train.jsonl"), "test": str(folder / "rows.jsonl"), "target": "label"},
        "input": {
            "template": {"inline": spec.template},
            "demonstrations": {"use": "random", "k": SHOTS},
        },
        "model": dict(model),
        "output": [{"use": "verbalizer", "labels": {label: label for label in labels}, "read": "scores"}],
        "metrics": ["accuracy"],
        "run": {"seed": given.seed, "concurrency": given.concurrency},
    }
    loaded = load_task(task)
    pipeline = build(loaded)
    prompts = [pipeline.check(x) for x in loaded.test(need_target=False)]
    assert all(prompt.lead == " " for prompt in prompts)
    docs = [{"prompt": p.text, "gold": labels.index(row["label"])} for p, row in zip(prompts, rows, strict=True)]
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    theirs = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "docs.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": list(labels),
        "doc_to_target": "{{gold}}",
        "target_delimiter": " ",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc"}],
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(theirs), encoding="utf-8")
    return Work(task, folder, labels, tuple(row["label"] for row in rows))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines() if row]


def measured(server: Server, client: str, python: str, what: Mapping[str, Any], folder: Path) -> Measured:
    """One client's run, in a process of its own."""
    counts: dict[str, int] = {}
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [python, str(CLIENT), client, json.dumps(what)]
    with server.counted(counts):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)  # noqa: S603 - the user's Python
        whole = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{client} failed: {done.stderr.strip()[-2000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(counts, said["seconds"], whole, tuple(said["said"]), said["scoring"])


def ours(server: Server, work: Work, _: argparse.Namespace) -> Measured:
    """`icl.run` on the task."""
    what = {"task": work.task, "out": tempfile.mkdtemp(dir=work.folder)}
    return measured(server, "icl-engine", sys.executable, what, work.folder)


def theirs(server: Server, work: Work, given: argparse.Namespace) -> Measured:
    """lm-evaluation-harness's `local-completions` on the same prompts."""
    model = {
        "base_url": f"{server.url}/v1/completions",
        "model": work.task["model"]["name"],
        "tokenizer": given.tokenizer,
        "tokenizer_backend": "huggingface",
        "num_concurrent": given.concurrency,
        "timeout": 3600,
    }
    what = {"model": model, "folder": str(work.folder), "task": TASK, "labels": work.labels}
    return measured(server, "lm-eval", given.lm_eval, what, work.folder)


CLIENTS = {"icl-engine": ours, "lm-eval": theirs}
HEAD = ("requests", "tokenizer", "prompts", "tokens", "cached", "seconds", "whole s", "accuracy")


def report(name: str, work: Work, found: Mapping[str, list[Measured]]) -> None:
    """Print each client's medians, and theirs in multiples of ours."""
    rows = len(work.targets)
    print(f"\n{name}: {rows} rows, {len(work.labels)} labels, {SHOTS} shots")
    print(f"  {'client':12}" + "".join(f"{title:>11}" for title in HEAD))
    figures: dict[str, list[float]] = {}
    for client, runs in found.items():
        counts = [float(median(run.counts[key] for run in runs)) for key in (*PATHS, *COUNTERS)]
        right = 100 * same(runs[0].said, work.targets) / rows
        figures[client] = [*counts, median(r.seconds for r in runs), median(r.whole for r in runs), right]
        cells = [f"{v:,.0f}" for v in counts] + [f"{v:.1f}" for v in figures[client][len(counts) :]]
        print(f"  {client:12}" + "".join(f"{cell:>11}" for cell in cells) + f"  {dict(runs[0].scoring)}", flush=True)
    if len(found) == len(CLIENTS):
        ours, theirs = (figures[client][:-1] for client in CLIENTS)
        ratios = [f"{b / a:.1f}x" if a and b else "" for a, b in zip(ours, theirs, strict=True)]
        agree = same(*(runs[0].said for runs in found.values()))
        print(f"  {'ratio':12}" + "".join(f"{cell:>11}" for cell in ratios))
        print(
            f"  requests a row: {ours[0] / rows:.2f} to {theirs[0] / rows:.2f}; same label: {agree} of {rows}",
            flush=True,
        )


def same(a: Sequence[str], b: Sequence[str]) -> int:
    """On how many rows two say the same."""
    return sum(x == y for x, y in zip(a, b, strict=True))


def options() -> argparse.Namespace:
    """The command line.

    Raises:
        SystemExit: something is missing.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--lm-eval", required=True, help="a Python that has lm-eval[api] and transformers")
    parser.add_argument("--tokenizer", required=True, help="the folder of the model's tokenizer, for lm-eval")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", choices=CLIENTS, help="measure one client")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the rows and the demonstrations")
    parser.add_argument("--concurrency", type=int, default=16)
    given = parser.parse_args()
    files = [given.data / name / f"{split}.jsonl" for name in given.sets for split in ("train", "test")]
    missing = [str(path) for path in (*files, Path(given.tokenizer)) if not path.exists()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    try:
        subprocess.run([given.lm_eval, "-c", "import lm_eval, transformers"], check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        sys.exit(f"missing: lm-eval[api] and transformers in --lm-eval {given.lm_eval}")
    return given


def main() -> None:
    """Measure and print."""
    given = options()
    server = Server(given.url)
    model = {"use": "vllm", "base_url": f"{server.url}/v1", "name": server.check()}
    clients = {name: run for name, run in CLIENTS.items() if given.only in (None, name)}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.sets:
            work = prepare(name, Path(folder) / name, model, given)
            found: dict[str, list[Measured]] = {client: [] for client in clients}
            for turn in range(given.repeat):
                for client in list(clients)[:: -1 if turn % 2 else 1]:
                    found[client].append(clients[client](server, work, given))
            report(name, work, found)


if __name__ == "__main__":
    main()
