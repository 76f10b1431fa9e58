"""Stored answers as an endpoint: found by what was shown, refused where nothing is stored."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.engine.records import answer_records, line
from icl_engine.engine.stored import Stored
from icl_engine.errors import DataError, RequestError, TaskError
from icl_engine.models.fake import Fake
from icl_engine.types import (
    Asked,
    Example,
    Exchange,
    Generate,
    Image,
    LabelScores,
    Message,
    Need,
    NextToken,
    Prediction,
    Prompt,
    Reading,
    Request,
    Response,
    Usage,
)

Shown = str | tuple[Message, ...]
WORDS = {"a": ("x",), "b": ("y",)}


def prompt(shown: Shown) -> Prompt:
    return Prompt(shown, None) if isinstance(shown, str) else Prompt(None, shown)


def written(shown: Shown, text: str, scores: LabelScores | None = None, keys: int = 1) -> bytes:
    """The line that a run writes of an answer."""
    asked = Asked("main", prompt(shown), text, scores)
    readout = Generate() if scores is None else NextToken(top=5)
    took = [Exchange(Request(shown, readout), Response(text, usage=Usage(7, 1, 2)), f"{i:064x}") for i in range(keys)]
    told = answer_records(Prediction(Example(1, {}), Reading(), (asked,)), took)
    return b"".join(map(line, told))


@contextmanager
def stored(folder: Path, *told: bytes, failed: int = 0) -> Iterator[Stored]:
    (folder / "answers.jsonl").write_bytes(b"".join(told))
    found = Stored(folder, Fake(), "fake", failed=failed)
    try:
        yield found
    finally:
        found.shut()


def said(found: Stored, shown: Shown, sample: int = 0, **readout: Any) -> str:
    return asyncio.run(found.send(Request(shown, Generate(**readout), sample=sample))).text


CHATS = st.lists(
    st.builds(Message, st.sampled_from(("system", "user", "assistant")), st.text(max_size=20)), min_size=1, max_size=3
).map(tuple)


@given(st.lists(st.one_of(st.text(max_size=30), CHATS), min_size=1, max_size=8, unique=True))
@settings(max_examples=50)
def test_each_prompt_finds_its_own_answer(tmp_path_factory: pytest.TempPathFactory, shown: list[Shown]) -> None:
    told = [written(each, f"answer {i}") for i, each in enumerate(shown)]
    with stored(tmp_path_factory.mktemp("run"), *told) as found:
        assert [said(found, each) for each in shown] == [f"answer {i}" for i in range(len(shown))]
        assert found.texts == len(shown)
        assert found.scored == 0


def test_an_image_is_known_by_its_bytes(tmp_path: Path) -> None:
    def turn(data: bytes, name: str) -> tuple[Message, ...]:
        return (Message("user", ("what? ", Image(name, data=data, media_type="image/png"))),)

    with stored(tmp_path, written(turn(b"1", "a.png"), "one"), written(turn(b"2", "a.png"), "two")) as found:
        assert said(found, turn(b"2", "moved/b.png")) == "two"
        with pytest.raises(TaskError):
            said(found, turn(b"3", "a.png"))


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    scores = LabelScores({"a": -0.1, "b": -math.inf}, "named", ("b",), whole=False, text="x")
    with stored(tmp_path, written("p", "x", scores, keys=2)) as found:
        again = found.scores(prompt("p"), Need("scores", WORDS))
        assert again == scores
        assert again is not None
        assert [(e.key, e.response.usage) for e in again.exchanges] == [(f"{i:064x}", Usage(7, 1, 2)) for i in range(2)]
        assert found.scores(prompt("p"), Need("scores", WORDS, want="distribution")) is None
        assert found.scores(prompt("p"), Need("scores", {"a": ("x",)})) is None
        assert found.scores(prompt("q"), Need("scores", WORDS)) is None
        assert found.partial == 1
        assert found.capabilities.top_logprobs


def test_text_is_no_scores_and_scores_are_no_text(tmp_path: Path) -> None:
    with stored(
        tmp_path, written("p", "said"), written("q", "x", LabelScores({"a": 0.0, "b": -9.0}, "top_k"))
    ) as found:
        assert found.scores(prompt("p"), Need("scores", WORDS)) is None
        with pytest.raises(TaskError):
            said(found, "q")


@pytest.mark.parametrize("readout", [{"choices": ("a", "b")}, {"grammar": "root ::= x"}])
def test_constrained_text_was_not_stored(tmp_path: Path, readout: dict[str, Any]) -> None:
    with stored(tmp_path, written("p", "said")) as found, pytest.raises(TaskError):
        said(found, "p", **readout)


def test_rows_without_an_answer_may_be_missing_but_no_more(tmp_path: Path) -> None:
    with stored(tmp_path, written("p", "said"), failed=1) as found:
        for _ in range(3):  # the samples of one row
            with pytest.raises(RequestError, match="no answer is stored"):
                said(found, "q", sample=1)
        with pytest.raises(TaskError, match="the run was not asked this"):
            said(found, "r")


def test_what_is_probed_of_an_endpoint_is_not(tmp_path: Path) -> None:
    with stored(tmp_path, written("p", "said")) as found:
        assert found.uncertain == frozenset()
        assert not found.capabilities.top_logprobs
        assert not found.capabilities.continuation


DAMAGED = {"cut": b"{", "list": b"[]\n", "empty": b"{}\n", "few": b'{"prompt": "p", "text": "x"}\n', "bytes": b"\xff\n"}


@pytest.mark.parametrize("line_", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_told_by_its_line(tmp_path: Path, line_: bytes) -> None:
    with pytest.raises(DataError, match=r"answers\.jsonl:2: "), stored(tmp_path, written("p", "said"), line_):
        pass


def test_no_answers_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a run has its answers there"):
        Stored(tmp_path, Fake(), "fake")


def test_many_answers_take_little_memory(tmp_path: Path) -> None:
    count = 20_000
    record = json.loads(written("p", "said"))
    with (tmp_path / "answers.jsonl").open("w") as file:
        for i in range(count):
            file.write(json.dumps({**record, "id": i, "prompt": f"{i} {'long ' * 20}"}) + "\n")
    found = Stored(tmp_path, Fake(), "fake")
    with closing(found._file):
        assert found.rows == count
        assert found._keys.nbytes + found._places.nbytes == 16 * count
        assert all(said(found, f"{i} {'long ' * 20}") == "said" for i in range(0, count, 997))
