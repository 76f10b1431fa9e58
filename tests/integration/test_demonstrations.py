"""Demonstrations end to end: leakage, what fits, what is asked to choose them, what is shown and kept of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server import StandIn, prompt_of

import icl_engine

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]

NOUNS = ["film", "plot", "cast", "score", "script", "scene", "joke", "ending"]
WORDS = ["bright", "dull", "lively", "flat", "warm", "stale", "crisp", "limp"]
TRAIN: list[Json] = [
    {"id": f"{noun}-{word}", "text": f"the {noun} is {word}", "label": ("positive", "negative")[i % 2]}
    for noun in NOUNS
    for i, word in enumerate(WORDS)
]
TEST: list[Json] = [
    {"text": f"what a {word} {noun}", "label": "positive"} for noun, word in zip(NOUNS, WORDS, strict=True)
]
VERBALIZER = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
TEMPLATE = {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"}


def task_of(write_task: WriteTask, demonstrations: Json, **keys: Any) -> Path:
    shown = {"template": TEMPLATE, "demonstrations": demonstrations, **keys.pop("input", {})}
    return write_task(**{"train": TRAIN, "test": TEST, "input": shown, **keys})


def at(server: StandIn, **keys: Any) -> Json:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


def lines(path: str) -> list[Json]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


# -- leakage


TOLD = "2 of 64 train rows are also in the test split; they are never shown as demonstrations"


@pytest.mark.parametrize("use", ["random", "tfidf", "bm25", "votek", "per_label"])
def test_a_train_row_that_is_in_the_test_split_is_never_shown(
    use: str, write_task: WriteTask, icl: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    leaks = [{"text": f"  The FILM is {w} ", "label": "positive"} for w in WORDS[:2]]  # full width is folded too
    leaks[1]["text"] = "ｔｈｅ film　is dull"
    keys = {"neighbours": 5} if use == "votek" else {}
    task = task_of(write_task, {"use": use, "k": 4, **keys}, test=[*TEST, *leaks])
    assert icl("run", task, "--out", "out")[0] == 0
    assert TOLD in caplog.messages
    shown = {shown for row in lines("out/predictions.jsonl") for shown in row["demonstrations"]}
    assert shown
    assert not shown & {"film-bright", "film-dull"}
    assert json.loads(Path("out/manifest.json").read_text())["overlap"] == [TOLD]
    planned = json.loads(icl("plan", task, "--json")[1])
    assert TOLD in planned["warnings"]


def test_a_train_split_that_is_the_test_split_leaves_nothing_to_show(write_task: WriteTask, icl: CommandLine) -> None:
    status, _, err = icl("run", task_of(write_task, {"use": "random", "k": 2}, test=TRAIN))
    assert status == 2
    assert "k is 2, but the train split has 0 different rows; 64 of 64 train rows are also in the test split" in err


def test_own_demonstrations_of_the_test_split_are_told_and_left_out_where_they_are_the_query(
    write_task: WriteTask, icl: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(write_task, {"use": "fixed", "items": [TEST[0], TRAIN[3]]})
    assert icl("run", task, "--out", "out")[0] == 0
    told = "1 of 2 demonstrations is also in the test split; it is left out where it is the query"
    assert told in caplog.messages
    assert [len(row["demonstrations"]) for row in lines("out/predictions.jsonl")] == [1] + [2] * 7


def test_nothing_is_told_where_nothing_leaks(
    write_task: WriteTask, icl: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    assert icl("run", task_of(write_task, {"use": "tfidf", "k": 2}), "--out", "out")[0] == 0
    assert caplog.messages == []
    assert json.loads(Path("out/manifest.json").read_text())["overlap"] == []


# -- the pool's order, one query and many


@pytest.mark.parametrize("use", ["tfidf", "bm25", "mmr", "dpp", "per_label", "cluster", "votek", "mdl"])
def test_permuting_the_train_file_changes_no_prompt(use: str, write_task: WriteTask) -> None:
    found = []
    for seed in (0, 1):
        train = random.Random(seed).sample(TRAIN, len(TRAIN))
        keys = {"neighbours": 5} if use == "votek" else {}
        task = task_of(write_task, {"use": use, "k": 2, **keys}, train=train)
        rows = icl_engine.run(task, out=f"out{seed}", cache=False).predictions
        found.append([(row["demonstrations"], row["prompt_sha256"]) for row in rows])
    assert found[0] == found[1]


@pytest.mark.parametrize("keys", [{}, {"prefix": "shared", "groups": 3}])
def test_one_query_is_shown_what_it_is_shown_among_many(keys: Json, write_task: WriteTask) -> None:
    task = task_of(write_task, {"use": "tfidf", "k": 3, **keys})
    run = icl_engine.run(task, out="out").predictions
    with icl_engine.load(task) as pipeline:
        inputs = [{"text": row["text"]} for row in TEST]
        many = [[d.example.id for d in p.demonstrations] for p in pipeline.batch(inputs)]
        alone = [[d.example.id for d in pipeline.predict(x).demonstrations] for x in inputs]
    assert [row["demonstrations"] for row in run] == many == alone


def test_shared_sets_are_as_many_as_groups(write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, {"use": "tfidf", "k": 3, "prefix": "shared", "groups": 3})
    assert icl("run", task, "--out", "out")[0] == 0
    assert len({tuple(row["demonstrations"]) for row in lines("out/predictions.jsonl")}) <= 3
    planned = json.loads(icl("plan", task, "--json")[1])
    assert planned["choices"].keys() == {"query", "shared"}
    query, shared = (planned["choices"][way] for way in ("query", "shared"))
    assert shared["cacheable_share"] > query["cacheable_share"]
    assert query["rows"] == shared["rows"] == 8
    _, out, _ = icl("plan", task)
    assert "prefix: shared" in out


# -- what is asked to choose


def test_mdl_asks_with_every_set_and_shows_the_one_it_is_surest_of(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    task = task_of(write_task, {"use": "mdl", "k": 2, "candidates": 6, "sets": 4}, model=at(server))
    planned = json.loads(icl("plan", task, "--json")[1])
    assert planned["roles"]["candidate"][0] == 4 * 8
    assert icl("run", task, "--out", "out")[0] == 0
    asked = Counter(prompt_of(body) for body in server.received)
    assert {prompt for prompt, n in asked.items() if n > 1} == set()  # the chosen set is not asked again
    assert len([p for p in asked if p.count("Sentiment:") == 3]) == 4 * 8
    _, _, err = icl("show", task)
    assert "of 4, H = " in err
    with icl_engine.load(task) as pipeline:
        assert pipeline.predict({"text": TEST[0]["text"]}).demonstrations
        assert len(server.received) == asked.total()


def test_mdl_without_a_cache_asks_no_question_twice(server: StandIn, write_task: WriteTask) -> None:
    task = task_of(write_task, {"use": "mdl", "k": 2, "candidates": 6, "sets": 4}, model=at(server))
    icl_engine.run(task, out="out", cache=False)
    asked = Counter(prompt_of(body) for body in server.received if prompt_of(body).count("Sentiment:") == 3)
    assert set(asked.values()) == {1}


@pytest.mark.parametrize(
    "demonstrations",
    [{"use": "mdl", "k": 2}, {"use": "random", "k": 2, "order": {"use": "entropy", "measure": "local"}}],
)
@pytest.mark.parametrize("output", [["identity"], [VERBALIZER, {"use": "vote"}]])
def test_what_weighs_distributions_needs_label_scores(
    demonstrations: Json, output: list[Any], server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    task = task_of(write_task, demonstrations, output=output, model=at(server, temperature=0.7))
    status, _, err = icl("run", task)
    assert (status, err.count("\n")) == (2, 1)
    assert "label distributions" in err
    assert ("leave vote out" in err) == (len(output) > 1)
    assert not server.received


def test_a_programs_order_is_learned_anew_for_another_model(server: StandIn, write_task: WriteTask) -> None:
    order = {"use": "entropy", "orders": 6, "rows": 5}
    task = task_of(write_task, {"use": "random", "k": 3, "order": order}, model=at(server))
    with icl_engine.load(task) as pipeline:
        program = pipeline.save("p.icl.json")
        shown = {d.example.id for d in pipeline.predict({"text": "a film"}).demonstrations}
    asked = len(server.received)
    with icl_engine.load(program) as pipeline:
        pipeline.predict({"text": "a film"})
        assert len(server.received) == asked
    with icl_engine.load(program, model={**at(server), "name": "another"}) as pipeline:
        assert {d.example.id for d in pipeline.predict({"text": "a film"}).demonstrations} == shown
    assert len(server.received) > asked + 6 * 5


@pytest.mark.parametrize("measure", ["global", "local"])
@pytest.mark.parametrize("use", ["random", "tfidf"])
def test_an_order_by_entropy_is_found_once(
    measure: str, use: str, server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    order = {"use": "entropy", "measure": measure, "orders": 6, "rows": 5}
    task = task_of(write_task, {"use": use, "k": 3, "order": order}, model=at(server))
    planned = json.loads(icl("plan", task, "--json")[1])
    assert planned["roles"]["fit"][0] == 6 * 5
    assert icl("run", task, "--out", "out")[0] == 0
    manifest = json.loads(Path("out/manifest.json").read_text())
    ranks = manifest["learned"]["ranks"]
    assert sorted(ranks) == [0, 1, 2]
    paid = len(server.received)
    assert icl("run", task, "--out", "again")[0] == 0
    assert len(server.received) == paid
    assert Path("out/manifest.json").read_bytes() == Path("again/manifest.json").read_bytes()
    plain = icl_engine.run(task_of(write_task, {"use": use, "k": 3, "order": "as_retrieved"}), out="plain")
    for row, best in zip(lines("out/predictions.jsonl"), plain.predictions, strict=True):
        assert row["demonstrations"] == [best["demonstrations"][rank] for rank in ranks]


# -- what fits


def test_what_is_left_out_is_told_wherever_it_counts(server: StandIn, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, {"use": "tfidf", "k": 6}, input={"max_prompt_tokens": 60}, model=at(server))
    assert icl("run", task, "--out", "out")[0] == 0
    rows = lines("out/predictions.jsonl")
    dropped = sum(len(row.get("dropped", ())) for row in rows)
    assert dropped
    assert all(len(row["demonstrations"]) + len(row.get("dropped", ())) == 6 for row in rows)
    assert json.loads(Path("out/summary.json").read_text())["dropped"] == {"demonstrations": dropped, "rows": 8}
    assert all(usage <= 60 for usage in (row["usage"]["prompt_tokens"] for row in rows))
    notes = json.loads(icl("plan", task, "--json")[1])["notes"]
    assert any(note.startswith(f"{dropped} demonstrations are left out of 8 prompts") for note in notes)
    _, out, err = icl("show", task)
    assert out.count("Sentiment:") == 1 + len(rows[0]["demonstrations"])
    assert err.count("left out, the prompt would be too long: row ") == len(rows[0]["dropped"])


def test_a_row_that_is_too_long_alone_fails_and_the_others_do_not(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    test = [*TEST, {"text": "a long story " * 60, "label": "positive"}]
    task = task_of(write_task, {"use": "tfidf", "k": 2}, input={"max_prompt_tokens": 60}, model=at(server), test=test)
    assert icl("run", task, "--out", "out")[0] == 3
    rows = lines("out/predictions.jsonl")
    assert [row["status"] for row in rows] == ["ok"] * 8 + ["failed"]
    assert "without any demonstration, input.max_prompt_tokens is 60" in rows[-1]["error"]
    assert len({prompt_of(body) for body in server.received if "long story" in prompt_of(body)}) == 0
    warnings = json.loads(icl("plan", task, "--json")[1])["warnings"]
    assert "1 row is longer than input.max_prompt_tokens without any demonstration, and will fail" in warnings
    status, _, err = icl("show", task, "--index", "8")
    assert (status, err.count("\n")) == (2, 1)
    assert "input.max_prompt_tokens: the prompt has up to" in err


def test_without_a_cache_nothing_is_kept(write_task: WriteTask, icl: CommandLine) -> None:
    encoder = {"use": "sentence_transformers", "name": "all-MiniLM-L6-v2"}
    task = task_of(write_task, {"use": "knn", "k": 2, "encoder": encoder})
    assert icl("run", task, "--out", "out", "--no-cache")[0] == 0
    assert not list(Path("cache").glob("*.sqlite3"))


# -- provenance, programs, components of others


def test_show_tells_where_each_demonstration_came_from(write_task: WriteTask, icl: CommandLine) -> None:
    _, out, err = icl("show", task_of(write_task, {"use": "tfidf", "k": 2}), "--index", "3")
    notes = [line for line in err.splitlines() if line.startswith("demonstration")]
    assert notes[-1].startswith("demonstration 2: row 'score-flat', target 'negative', rank 1 by tfidf, score 0.")
    assert out.index("the score is flat") < out.index("what a flat score")


def test_a_program_keeps_its_pools_hash_and_what_is_left_out(write_task: WriteTask) -> None:
    leak = {"text": "the film is bright", "label": "positive"}
    task = task_of(write_task, {"use": "tfidf", "k": 2}, test=[*TEST, leak])
    query = {"text": "a film that is bright"}
    with icl_engine.load(task) as pipeline:
        first = pipeline.predict(query)
        program = pipeline.save("p.icl.json")
    assert "the film is dull" not in program.read_text()
    Path("test.jsonl").write_text(json.dumps(TEST[0]) + "\n")  # what is left out is the program's, whatever is tested
    with icl_engine.load(program) as pipeline:
        assert pipeline.predict(query).prompt.text == first.prompt.text
    Path("train.jsonl").write_text("\n".join(json.dumps(row) for row in TRAIN[:9]) + "\n")
    with pytest.raises(icl_engine.TaskError, match="is not the train split that the program was saved with"):
        icl_engine.load(program)


OTHERS = '''
from icl_engine.protocols import Retriever
from icl_engine.types import Demonstration
from typing import Literal

class Shortest(Retriever):
    """The shortest rows."""
    use: Literal["shortest"] = "shortest"
    per_query = True
    k: int = 2
    def fit(self, pool, view, seed):
        return sorted(pool, key=lambda x: (len(view.texts([x])[0]), view(x)))
    def select(self, state, x, view):
        found = [y for y in state if view(y) != view(x)][: self.k]
        return tuple(Demonstration(y, "short") for y in found)
    def dump(self, state):
        return [[y.id, dict(y.inputs), y.target] for y in state]
    def restore(self, saved, view):
        from icl_engine.types import Example
        return [Example(*y) for y in saved]
'''


def test_a_retriever_of_another_package(tmp_path: Path, write_task: WriteTask) -> None:
    task = task_of(write_task, {"use": "shortest", "k": 3, "order": "label_interleaved"})
    package = tmp_path / "site"
    (package / "others-1.dist-info").mkdir(parents=True)
    (package / "others.py").write_text(OTHERS)
    (package / "others-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    points = "[icl_engine.retriever]\nshortest = others:Shortest\n"
    (package / "others-1.dist-info" / "entry_points.txt").write_text(points)
    code = (
        f"import sys; sys.path.insert(0, {str(package)!r}); import icl_engine; icl_engine.run({str(task)!r}, out='out')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    rows = lines("out/predictions.jsonl")
    assert {len(row["demonstrations"]) for row in rows} == {3}
    assert all(d.startswith(("film", "plot", "cast", "joke")) for row in rows for d in row["demonstrations"])
