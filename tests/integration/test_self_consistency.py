"""`vote` end to end: how many samples are asked, with which seeds, what is written of them, and what a plan says."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.server import Body, Reply, StandIn, prompt_of

import icl_engine

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]

SEED = 100
CUE, THEN = "Let's think step by step.", "Therefore, the answer is"
SAID = {
    "agree": ("3 * 6 = 18. So the answer is 18.", "The answer is $18.00.", "So the answer is 18.", "no", "no"),
    "all but one": ("The answer is 7.", "The answer is 8.", "The answer is 8.", "So the answer is 8.", "no"),
    "each its own": tuple(f"The answer is {i}." for i in range(5)),
    "late": ("I do not know", "I cannot say", "The answer is 5.", "Who knows", "The answer is 6."),
    "none": ("I do not know",) * 5,
}
"""Question -> what its samples say."""
VOTES: Mapping[str, tuple[int, Any, Any, int]] = {
    "agree": (3, 18, {"18": 1.0}, 0),
    "all but one": (4, 8, {"7": 0.25, "8": 0.75}, 1),
    "each its own": (5, 0, dict.fromkeys("01234", 0.2), 0),
    "late": (4, 5, {"5": 1.0}, 2),
    "none": (5, None, None, 0),
}
"""Question -> how many samples are asked, the answer, its distribution, the first sample that gave it."""
ROWS = [{"q": q, "y": y} for q, (_, y, _, _) in VOTES.items() if q != "none"] + [{"q": "none", "y": 1}]
ASKED = sum(n for n, *_ in VOTES.values())
OUTPUT: list[Json] = [{"use": "after"}, {"use": "number"}, {"use": "vote", "samples": 5}]


@dataclass
class Solver(StandIn):
    """Says what is written down for a question's sample, which its seed (or its place among `n`) tells."""

    said: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: SAID)
    thoughts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def _choice(self, shown: str, body: Body, sample: int) -> Body:
        number = body["seed"] - SEED if "seed" in body else sample
        thinks = shown.removesuffix("<turn>").endswith(CUE)
        text = (self.thoughts if thinks else self.said)[question(shown)][number]
        answer = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        return {"logprobs": None, "finish_reason": "stop", "tokens": 3, **answer}

    @property
    def seeds(self) -> dict[str, list[int]]:
        """Question -> the seeds with which it was put."""
        found: dict[str, list[int]] = defaultdict(list)
        for body in self.received:
            found[question(prompt_of(body))].append(body["seed"])
        return {q: sorted(seeds) for q, seeds in found.items()}


def question(shown: str) -> str:
    return shown.split("Q: ")[-1].split("\n")[0]


@pytest.fixture
def server() -> Iterator[Solver]:
    with Solver() as running:
        yield running


def task_of(write_task: WriteTask, server: StandIn, output: list[Json] = OUTPUT, **keys: Any) -> Path:
    """The questions, put to the server with one demonstration."""
    generation = {"temperature": 0.7, "seed": SEED, "max_tokens": 40}
    shown = {"use": "fixed", "items": [{"q": "What is 1 + 1?", "y": 2}]}
    defaults = {
        "input": {"template": {"inline": "Q: {{ q }}\nA: {{ answer }}"}, "demonstrations": shown},
        "model": {"use": "vllm", "base_url": server.url, "name": "m", **generation},
        "data": {"test": "test.jsonl", "target": "y"},
        "output": output,
        "test": ROWS,
        "train": [],
    }
    return write_task(**{**defaults, **keys})


def lines(path: str) -> list[Json]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


# -- a run


def test_samples_are_asked_until_the_lead_cannot_be_overtaken(
    server: Solver, write_task: WriteTask, icl: CommandLine
) -> None:
    assert icl("run", task_of(write_task, server), "--out", "out")[0] == 0
    assert server.seeds == {q: [SEED + i for i in range(n)] for q, (n, *_) in VOTES.items()}
    assert len(server.received) == ASKED < 5 * len(ROWS)

    for row in lines("out/predictions.jsonl"):
        asked, answer, distribution, first = VOTES[row["inputs"]["q"]]
        assert (row["prediction"], row["distribution"]) == (answer, distribution)
        assert row["status"] == ("unparsed" if answer is None else "ok")
        assert row["correct"] == (answer is not None)
        assert row["text"] == SAID[row["inputs"]["q"]][first]
        assert row["usage"]["completion_tokens"] == 3 * asked, "every sample counts"
    assert [row["trace"][-1] for row in lines("out/predictions.jsonl")] == [
        "vote: 3 of 3 read samples, of 5 at most",
        "vote: 3 of 4 read samples, of 5 at most",
        "vote: 1 of 5 read samples, of 5 at most",
        "vote: 1 of 1 read samples, of 5 at most",
        "vote: none of 5 samples could be read",
    ]

    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["scoring"]["method"] == "text"
    assert (summary["unparsed"], summary["failed"]) == (1, 0)
    assert (summary["usage"]["requests"], summary["usage"]["completion_tokens"]) == (ASKED, 3 * ASKED)


def test_every_sample_has_a_line_of_its_own(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    assert icl("run", task_of(write_task, server), "--out", "out")[0] == 0
    answers = lines("out/answers.jsonl")
    expected = [(row["q"], i) for row in ROWS for i in range(VOTES[row["q"]][0])]
    assert [(ROWS[a["id"]]["q"], a["sample"]) for a in answers] == expected
    assert [a["text"] for a in answers] == [SAID[q][i] for q, i in expected]
    assert {a["role"] for a in answers} == {"sample"}
    assert len({a["key"] for a in answers}) == len(answers) == ASKED
    assert all(a["usage"]["completion_tokens"] == 3 for a in answers)
    assert len({a["prompt"] for a in answers}) == len(ROWS), "samples of a question share its prompt"


def test_a_second_run_pays_nothing_and_writes_the_same(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server)
    for out in ("one", "two"):
        assert icl("run", task, "--out", out)[0] == 0
    assert len(server.received) == ASKED
    for name in ("predictions.jsonl", "answers.jsonl"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    usage = json.loads(Path("two/summary.json").read_text())["usage"]
    assert (usage["requests"], usage["paid"], usage["cached"]) == (ASKED, 0, ASKED)


def test_an_interrupted_run_goes_on_with_the_samples_that_are_missing(
    server: Solver, write_task: WriteTask, icl: CommandLine
) -> None:
    task = task_of(write_task, server, run={"max_requests": 9, "concurrency": 2})
    assert icl("run", task, "--out", "out")[0] == 4
    before = len(server.received)
    assert 0 < before <= 9
    assert icl("run", task, "--out", "out", "--set", "run.max_requests=100")[0] == 0
    assert len(server.received) == ASKED
    assert server.seeds == {q: [SEED + i for i in range(n)] for q, (n, *_) in VOTES.items()}
    assert [row["prediction"] for row in lines("out/predictions.jsonl")] == [VOTES[row["q"]][1] for row in ROWS]


def test_all_samples_are_asked_where_that_is_wished(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    output = [*OUTPUT[:2], {"use": "vote", "samples": 5, "stop_early": False}]
    assert icl("run", task_of(write_task, server, output), "--out", "out")[0] == 0
    assert server.seeds == {q: [SEED + i for i in range(5)] for q in SAID}
    found = {row["inputs"]["q"]: row for row in lines("out/predictions.jsonl")}
    assert {q: row["prediction"] for q, row in found.items()} == {q: answer for q, (_, answer, _, _) in VOTES.items()}
    assert found["all but one"]["distribution"] == {"7": 0.25, "8": 0.75}
    assert found["late"]["distribution"] == {"5": 0.5, "6": 0.5}


def test_only_the_longest_chains_vote_where_that_is_wished(
    server: Solver, write_task: WriteTask, icl: CommandLine
) -> None:
    chain = "2 * 2 = 4\n4 + 5 = 9\nThe answer is 9."
    server.said = {"sum": ("The answer is 1.", "The answer is 1.", chain, "The answer is 1.", chain)}
    output = [*OUTPUT[:2], {"use": "vote", "samples": 5, "longest": 2}]
    task = task_of(write_task, server, output, test=[{"q": "sum", "y": 9}])
    assert icl("run", task, "--out", "out")[0] == 0
    assert server.seeds == {"sum": [SEED + i for i in range(5)]}
    (row,) = lines("out/predictions.jsonl")
    assert (row["prediction"], row["text"], row["correct"]) == (9, chain, True)
    assert row["trace"][-1] == "vote: 2 of the 2 longest samples, of 5 at most"


def test_a_row_with_a_sample_that_gets_no_answer_fails(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    server.refuse = lambda prompt: Reply(400, message="too rude") if "all but one" in prompt else None
    assert icl("run", task_of(write_task, server), "--out", "out")[0] == 3
    rows = {row["inputs"]["q"]: row for row in lines("out/predictions.jsonl")}
    assert [q for q, row in rows.items() if row["status"] == "failed"] == ["all but one"]
    assert rows["agree"]["prediction"] == 18


@pytest.mark.parametrize("unseeded", [True, False])
def test_samples_of_a_round_travel_together_where_no_seed_tells_them_apart(
    unseeded: bool, server: Solver, write_task: WriteTask, icl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    server.samples = True
    model = {"use": "openai", "base_url": server.url, "name": "m", "temperature": 0.7, "max_tokens": 40}
    model |= {} if unseeded else {"seed": SEED}
    server.said = {"agree": SAID["agree"]}
    task = task_of(write_task, server, model=model, test=ROWS[:1])
    status, _, err = icl("run", task, "--out", "out")
    assert status == 0, err
    assert [body.get("n", 1) for body in server.received] == ([3] if unseeded else [1, 1, 1])
    assert lines("out/predictions.jsonl")[0]["prediction"] == 18


def test_labels_are_read_from_the_text_of_each_sample(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    server.said = {"film": ("Good.", "bad", "Good, I think", "?", "?")}
    verbalizer = {"use": "verbalizer", "labels": {"pos": "good", "neg": "bad"}}
    task = task_of(
        write_task,
        server,
        [verbalizer, {"use": "vote", "samples": 3}],
        input={"template": {"inline": "Q: {{ q }}\nA: {{ answer }}"}},
        test=[{"q": "film", "y": "pos"}],
    )
    assert icl("run", task, "--out", "out")[0] == 0
    (row,) = lines("out/predictions.jsonl")
    assert (row["prediction"], row["distribution"]) == ("pos", {"pos": 2 / 3, "neg": 1 / 3})
    assert not any(body.get("logprobs") for body in server.received)
    assert server.probes == []


TWO_CALLS = {
    "template": {"inline": "Q: {{ q }}\nA: {{ answer }}"},
    "cot": {"use": "zero_shot", "cue": CUE, "then": THEN, "max_tokens": 30},
}
THOUGHTS = {"sum": ("4 + 5 = 9.", "4 + 5 = 8.", "4 + 5 = 9.", "2 * 2 = 4. 4 + 5 = 9.", "I guess.")}
ANSWERS = {"sum": ("8", "8", "9", "9", "8")}


def test_each_sample_has_a_chain_of_thought_of_its_own(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    server.thoughts, server.said = THOUGHTS, ANSWERS
    task = task_of(write_task, server, OUTPUT[1:], input=TWO_CALLS, test=[{"q": "sum", "y": 8}])
    before = json.loads(icl("plan", task, "--json")[1])
    assert before["roles"] == {"rationale": [3, 5], "sample": [3, 5]}
    assert before["completion_tokens"][1] == 5 * 30 + 5 * 40

    assert icl("run", task, "--out", "out")[0] == 0
    assert server.seeds == {"sum": sorted(2 * [SEED + i for i in range(5)])}
    (row,) = lines("out/predictions.jsonl")
    assert (row["prediction"], row["text"], row["rationale"]) == (8, "8", "4 + 5 = 9.")
    assert row["trace"][-1] == "vote: 3 of 5 read samples, of 5 at most"
    assert row["usage"]["completion_tokens"] == 3 * 10

    answers = lines("out/answers.jsonl")
    assert [(a["role"], a["sample"]) for a in answers] == [(r, i) for r in ("sample", "rationale") for i in range(5)]
    assert [a["text"] for a in answers] == [*ANSWERS["sum"], *THOUGHTS["sum"]]
    assert all(thought in a["prompt"] for a, thought in zip(answers[:5], THOUGHTS["sum"], strict=True))
    assert len({a["key"] for a in answers}) == 10, "the first and the third thought alike, and are two samples"
    assert all(a["usage"]["completion_tokens"] == 3 for a in answers)

    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["plan"]["requests"] == [before["requests"], before["requests_max"]] == [6, 10]
    after = json.loads(icl("plan", task, "--json")[1])
    assert (after["requests"], after["requests_max"], after["paid"]) == (10, 10, [0, 0])


def test_the_longest_chains_are_those_of_the_first_call(
    server: Solver, write_task: WriteTask, icl: CommandLine
) -> None:
    server.thoughts, server.said = THOUGHTS, ANSWERS
    output: list[Json] = [{"use": "number"}, {"use": "vote", "samples": 5, "longest": 1}]
    task = task_of(write_task, server, output, input=TWO_CALLS, test=[{"q": "sum", "y": 9}])
    assert icl("run", task, "--out", "out")[0] == 0
    (row,) = lines("out/predictions.jsonl")
    assert (row["prediction"], row["rationale"]) == (9, THOUGHTS["sum"][3])


# -- before a run


def test_samples_at_temperature_0_are_a_mistake(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server)
    for command in ("run", "plan"):
        status, out, err = icl(command, task, "--set", "model.temperature=0")
        assert (status, out) == (2, "")
        assert "model.temperature: vote counts 5 samples, and at temperature 0 all are alike" in err
        assert "set model.temperature: 0.7" in err
    assert server.paths == [], "nothing was asked"
    assert icl("plan", task, "--set", "model.temperature=0", "--set", "output.2.samples=1")[0] == 0


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_run_does_what_the_plan_said(api: str, server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server)
    arguments = (task, "--set", f"model.api={api}")
    status, out, err = icl("plan", *arguments, "--json")
    assert (status, err) == (0, "")
    before = json.loads(out)
    assert server.paths == []
    assert (before["requests"], before["requests_max"]) == (15, 25)
    assert before["roles"] == {"sample": [15, 25]}
    assert before["requests_per_example"] == [3.0, 5.0]
    assert (before["method"], before["paid"], before["completion_tokens"]) == ("text", [15, 25], [15, 25 * 40])

    assert icl("run", *arguments, "--out", "out")[0] == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert before["requests"] <= summary["usage"]["requests"] <= before["requests_max"]
    assert summary["plan"]["requests"] == [15, 25]
    assert summary["plan"]["prompt_tokens"] == before["prompt_tokens"]
    assert summary["plan"]["cacheable_share"] == before["cacheable_share"]
    assert summary["plan"]["completion_tokens"] == before["completion_tokens"]

    after = json.loads(icl("plan", *arguments, "--json")[1])
    assert after["requests"] == after["requests_max"] == after["cached"] == summary["usage"]["requests"] == ASKED
    assert after["paid"] == [0, 0]


def test_a_plan_counts_on_from_what_is_in_the_cache(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    server.refuse = lambda _: Reply(400) if len(server.received) > 3 else None
    task = task_of(write_task, server, test=[{"q": "all but one", "y": 8}])
    assert icl("run", task, "--out", "out")[0] == 3
    assert server.seeds["all but one"][:3] == [SEED, SEED + 1, SEED + 2]
    found = json.loads(icl("plan", task, "--json")[1])
    assert (found["requests"], found["requests_max"], found["cached"]) == (4, 5, 3)
    assert found["paid"] == [1, 2]


def test_rows_that_ask_the_same_are_counted_once(server: Solver, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server, test=[ROWS[0]] * 3)
    found = json.loads(icl("plan", task, "--json")[1])
    assert (found["requests"], found["requests_max"]) == (3, 5)
    assert icl("run", task, "--out", "out")[0] == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["usage"]["requests"] == len(server.received) == 3
    assert summary["plan"]["requests"] == [3, 5]


# -- elsewhere


def test_a_prediction_is_the_same_in_the_sdk(server: Solver, write_task: WriteTask) -> None:
    with icl_engine.load(task_of(write_task, server)) as pipeline:
        prediction = pipeline.predict({"q": "late"})
        assert (prediction.value, prediction.text, prediction.status) == (5, "The answer is 5.", "ok")
        assert prediction.distribution == {"5": 1.0}
        assert prediction.usage.completion_tokens == 12
        assert [asked.sample for asked in prediction.asked] == [0, 1, 2, 3]
        found = pipeline.batch([{"q": q} for q in VOTES])
    assert [p.value for p in found] == [answer for _, answer, _, _ in VOTES.values()]


def test_a_saved_program_votes_too(server: Solver, write_task: WriteTask) -> None:
    with icl_engine.load(task_of(write_task, server)) as pipeline:
        saved = pipeline.save("voting.icl.json")
    with icl_engine.load(saved) as pipeline:
        assert pipeline.predict({"q": "all but one"}).value == 8
    assert len(server.received) == 4


def test_samples_on_record_are_taken_in_turn(write_task: WriteTask, icl: CommandLine, tmp_path: Path) -> None:
    record = [{"prompt": f"Q: {q}\nA:", "completion": text} for q, texts in SAID.items() for text in texts]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in record))
    task = write_task(
        data={"test": "test.jsonl", "target": "y"},
        input={"template": {"inline": "Q: {{ q }}\nA: {{ answer }}"}},
        model={"use": "replay", "path": "record.jsonl"},
        output=OUTPUT,
        test=ROWS,
    )
    assert icl("run", task, "--out", "out")[0] == 0
    assert [row["prediction"] for row in lines("out/predictions.jsonl")] == [VOTES[row["q"]][1] for row in ROWS]
    assert len(lines("out/answers.jsonl")) == ASKED


def test_the_fake_model_says_something_else_for_each_sample_at_any_temperature(write_task: WriteTask) -> None:
    model = {"use": "fake", "answers": [str(i) for i in range(10)]}
    output: list[Json] = [{"use": "number"}, {"use": "vote", "samples": 9, "stop_early": False}]
    with icl_engine.load(write_task(model=model, output=output, metrics=[])) as pipeline:
        prediction = pipeline.predict({"text": "fine"})
    assert len({asked.text for asked in prediction.asked}) > 1
    assert prediction.distribution is not None
    assert prediction.distribution[str(prediction.value)] == max(prediction.distribution.values())


def test_how_many_samples_vote_is_part_of_the_fingerprint(write_task: WriteTask, server: Solver) -> None:
    task = task_of(write_task, server)
    settings: list[Json] = [{}, {"output.2.samples": 7}, {"output.2.stop_early": False}, {"output.2.longest": 3}]
    found = {icl_engine.run(task, settings=s, limit=1, out=f"out{i}").path for i, s in enumerate(settings)}
    prints = {json.loads((path / "manifest.json").read_text())["fingerprint"] for path in found}
    assert len(prints) == len(settings)
