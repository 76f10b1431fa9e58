"""One of OpenICL's retrievers, for `retrieval.py`: ``python retrieval_openicl.py JSON``, by a Python that has openicl.

What is measured is its own code: the constructor that indexes and the `retrieve` that chooses. Around it, as little as
possible is put in other things' places:

- Vectors are given, as they are to ours: its tokenizer, its sentence encoder and the loader that feeds them do nothing,
  and `forward` (their loop) hands out the vectors in the rows' order.
- Words are those of `str.split` for BM25: its own tokenizer needs data from a network. It would take longer.
- `fast_map_dpp` gives an array: the list it returns cannot be indexed as `dpp_search` indexes it (a fault of 0.1.8 for
  more than one demonstration).

The last line printed is JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measuring import UNIT

Given = dict[str, Any]


class Words:
    """In the tokenizer's place."""

    pad_token = eos_token = pad_token_id = eos_token_id = padding_side = None

    @classmethod
    def from_pretrained(cls, *_: str) -> Words:
        """None is loaded."""
        return cls()


class Sentences:
    """In the sentence encoder's place.

    Args:
        size: of the vectors.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def to(self, device: str) -> Sentences:
        """It has no weights."""
        return self

    def eval(self) -> None:
        """It has no modes."""

    def get_sentence_embedding_dimension(self) -> int:
        """The size of the vectors."""
        return self._size


def give(vectors: dict[int, Any], size: int) -> None:
    """Hand its dense retrievers the vectors.

    Args:
        vectors: number of texts -> their vectors: that tells the pool from the queries.
        size: of a vector.
    """
    from openicl.icl_retriever import icl_dpp_retriever as dpp
    from openicl.icl_retriever import icl_topk_retriever as topk

    def forward(_: Any, texts: Any, **__: Any) -> list[dict[str, Any]]:
        return [{"embed": v, "metadata": {"id": i}} for i, v in enumerate(vectors[len(texts)])]

    topk.AutoTokenizer = Words
    topk.SentenceTransformer = lambda _: Sentences(size)
    topk.DatasetEncoder = lambda texts, **_: texts
    topk.DataCollatorWithPaddingAndCuda = SimpleNamespace
    topk.DataLoader = lambda texts, **_: texts
    topk.TopkRetriever.forward = forward
    greedy, dpp.fast_map_dpp = dpp.fast_map_dpp, lambda *given: array(greedy(*given))


def array(found: Any) -> Any:
    """As an array."""
    import numpy as np

    return np.array(found)


def measure(given: Given) -> Given:
    """Index and query one of its retrievers."""
    import numpy as np
    import openicl
    from datasets import Dataset, DatasetDict
    from openicl.icl_retriever import icl_bm25_retriever as bm25

    folder = Path(given["folder"])
    rows = {"train": ("pool", given["pool"]), "test": ("queries", given["queries"])}
    data = DatasetDict({split: Dataset.from_list(_rows(folder, *what)) for split, what in rows.items()})
    reader = openicl.DatasetReader(data, input_columns=["text"], output_column="label")
    bm25.word_tokenize = str.split
    vectors = {count: np.load(folder / f"{name}.npy", mmap_mode="r")[:count] + 0 for name, count in rows.values()}
    give(vectors, next(iter(vectors.values())).shape[1])

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    began = time.perf_counter()
    retriever = getattr(openicl, given["name"])(reader, ice_num=given["k"], **given["settings"])
    indexed = time.perf_counter()
    chosen = retriever.retrieve()
    done = time.perf_counter()
    Path(given["chosen"]).write_text(json.dumps(chosen), encoding="utf-8")
    taken = {"index": indexed - began, "query": done - indexed, "held": held}
    return {**taken, "version": version("openicl")}


def _rows(folder: Path, name: str, count: int) -> list[dict[str, str]]:
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [{key: row[key] for key in ("text", "label")} for row in map(json.loads, islice(file, count))]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print("\n" + json.dumps(measure(json.loads(sys.argv[1]))))
