"""What `retrieval.py` starts in processes of their own: ``python retrieval_client.py make|measure JSON``.

`make` writes the pool, the queries and their vectors, `measure` times one of our retrievers on the first rows of them.
The last line printed is JSON.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from measuring import UNIT

from icl_engine.manipulation.retrieve.knn import Knn
from icl_engine.protocols import Encoder, Retriever, View
from icl_engine.registry import resolve
from icl_engine.types import Example

if TYPE_CHECKING:
    import numpy as np

Given = dict[str, Any]
Rows = dict[str, list[list[str]]]

SHARED = ("sst2", "agnews", "trec", "banking77")
OWN = ("sentiment", "topic", "intent")
DIMENSIONS = 384
CENTRES = 20
"""Clusters of vectors for each label."""
WINDOW = 256
"""Queries that the run engine hands over at once."""
WARM = 512
"""Rows on which everything is tried before it is timed: imports and threads come with the first use."""


# -- data


def make(given: Given) -> Given:
    """Write pool and queries, all different, and one vector for each."""
    import numpy as np

    folder, draw = Path(given["folder"]), random.Random(given["seed"])
    known = _read(Path(given["data"]) if given["data"] else None)
    texts = _recombined(known, draw)
    counts, labels, words = {"pool": given["pool"], "queries": given["queries"]}, [], 0
    for name, count in counts.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for text, label, steps in islice(texts, count):
                row = {"text": text, "label": label, "rationale": "\n".join(steps)}
                file.write(json.dumps(row) + "\n")
                labels.append(label)
                words += len(text.split())
    vectors = _clustered(labels, given["seed"])
    np.save(folder / "pool.npy", vectors[: given["pool"]])
    np.save(folder / "queries.npy", vectors[given["pool"] :])
    return {"labels": len(known), "words": words / len(labels), "source": given["data"] or "tasks/data"}


def _read(data: Path | None) -> Rows:
    """Label -> the words of each of its rows: of the shared data sets, or of the project's own tasks."""
    root, sets = (data, SHARED) if data else (Path(__file__).resolve().parent.parent / "tasks" / "data", OWN)
    known: Rows = defaultdict(list)
    for name in sets:
        with (root / name / "train.jsonl").open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                known[f"{name}: {row['label']}"].append(row["text"].split())
    return known


def _recombined(known: Rows, draw: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    """Texts without end, all different: the beginning of a row and the end of another with the same label.

    Each comes with some steps of reasoning, which stand for its rationale.
    """
    labels = list(known)
    sizes = [len(known[label]) for label in labels]
    seen = set()
    while True:
        label = draw.choices(labels, sizes)[0]
        one, other = draw.choices(known[label], k=2)
        text = " ".join(one[: draw.randint(1, len(one))] + other[draw.randrange(len(other)) :])
        if text not in seen:
            seen.add(text)
            yield text, label, [" ".join(draw.choices(other, k=8)) for _ in range(draw.randint(1, 8))]


def _clustered(labels: Sequence[str], seed: int) -> np.ndarray:
    """Unit vectors about centres, `CENTRES` for each label: two of one centre have a cosine of one half or so."""
    import numpy as np

    draw = np.random.default_rng(seed)
    number = {label: i for i, label in enumerate(sorted(set(labels)))}
    centres = draw.standard_normal((len(number) * CENTRES, DIMENSIONS), dtype=np.float32)
    mine = np.array([number[label] for label in labels]) * CENTRES + draw.integers(CENTRES, size=len(labels))
    vectors = centres[mine] + draw.standard_normal((len(labels), DIMENSIONS), dtype=np.float32)
    found: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


# -- ours


class Looked(Encoder):
    """Vectors that are given: looked up by the text, as they would be in a cache."""

    use: Literal["looked"] = "looked"

    rows: ClassVar[dict[str, int]] = {}
    vectors: ClassVar[Any] = None

    @classmethod
    def give(cls, texts: Sequence[str], vectors: Any) -> None:
        """What it knows from now on."""
        cls.vectors = vectors
        cls.rows.update((text, i) for i, text in enumerate(texts))

    def encode(self, state: Any, xs: Sequence[Example], view: View) -> Any:
        """A row for each."""
        return self.vectors[[self.rows[text] for text in view.texts(xs)]]


def measure(given: Given) -> Given:
    """Index and query one of our retrievers, as the run engine does: `fit`, and `select_many` in windows."""
    import numpy as np

    folder = Path(given["folder"])
    pool = _examples(folder / "pool.jsonl", given["pool"])
    queries = _examples(folder / "queries.jsonl", given["queries"])
    view = View(lambda x: str(x.inputs["text"]))
    vectors = [np.load(folder / f"{name}.npy", mmap_mode="r")[: given[name]] for name in ("pool", "queries")]
    Looked.give(view.texts([*pool, *queries]), np.concatenate(vectors))
    retriever = _retriever(given["name"], given["settings"])
    _select(retriever, retriever.fit(pool[:WARM], view, seed=0), queries[:WINDOW], view)

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    began = time.perf_counter()
    state = retriever.fit(pool, view, seed=0)
    indexed = time.perf_counter()
    chosen = _select(retriever, state, queries, view)
    done = time.perf_counter()
    if any(len(found) < given["k"] for found in chosen):
        sys.exit(f"{given['name']} did not choose {given['k']} for each query")
    Path(given["chosen"]).write_text(json.dumps(chosen), encoding="utf-8")
    return {"index": indexed - began, "query": done - indexed, "held": held}


def _examples(path: Path, count: int) -> list[Example]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, count)]
    return [
        Example(i, {"text": row["text"], "rationale": row["rationale"]}, row["label"]) for i, row in enumerate(rows)
    ]


def _retriever(name: str, settings: Given) -> Retriever:
    """The retriever, with the given vectors where it takes an encoder."""
    cls: type[Retriever] = resolve("retriever", name)
    settings = {"use": name, **settings}
    if "encoder" in cls.model_fields:
        settings["encoder"] = Looked(use="looked")
    if name == "hybrid":
        settings["of"] = ["bm25", Knn(use="knn", k=1, encoder=Looked(use="looked"))]
    return cls.model_validate(settings)


def _select(retriever: Retriever, state: Any, queries: Sequence[Example], view: View) -> list[list[int | str]]:
    """The rows chosen for each query."""
    return [
        [shown.example.id for shown in found]
        for start in range(0, len(queries), WINDOW)
        for found in retriever.select_many(state, queries[start : start + WINDOW], view)
    ]


if __name__ == "__main__":
    print(json.dumps({"make": make, "measure": measure}[sys.argv[1]](json.loads(sys.argv[2]))))
