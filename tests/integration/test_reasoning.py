"""`input.cot` end to end: the prompts that are sent, how many, what is written of them, and what a plan says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.server import Body, StandIn, prompt_of

import icl_engine

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]

CUE, THEN = "Let's think step by step.", "Therefore, the answer is"
TEMPLATE = {"inline": "Q: {{ q }}\nA: {{ answer }}"}
TRAIN: list[Json] = [{"q": f"What is {i} and {i + 1}?", "y": 2 * i + 1} for i in range(6)]
TEST: list[Json] = [{"q": f"What is {i} and {i + 10}?", "y": 2 * i + 10} for i in range(3)]


def question(shown: str) -> str:
    return shown.split("Q: ")[-1].split("\n")[0]


def total(shown: str) -> int:
    return sum(int(word.strip("?")) for word in question(shown).split() if word.strip("?").isdigit())


def thought(shown: str) -> str:
    return f" I add the two numbers of {question(shown)!r}.\n"


@dataclass
class Thinker(StandIn):
    """Thinks where it is told to, and answers rightly but for questions that are listed."""

    wrong: tuple[str, ...] = ()
    thinks: Callable[[str], str] = thought
    asked_for: Counter[str] = field(default_factory=Counter)

    def _choice(self, shown: str, body: Body, sample: int) -> Body:
        last = shown.removesuffix("<turn>").rstrip()
        answer = total(shown) + (question(shown) in self.wrong)
        text = f" {answer}"
        if last.endswith(CUE):
            text = self.thinks(shown)
            if "max_tokens" in body and body["max_tokens"] != 7:  # one call: the answer is said too
                text = f"{text.rstrip()} {THEN} {answer}."
        said = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        return {"logprobs": None, "finish_reason": "stop", "tokens": 3, **said}


@pytest.fixture
def server() -> Iterator[Thinker]:
    with Thinker() as running:
        yield running


def task_of(write_task: WriteTask, server: StandIn, cot: Json | None, **keys: Any) -> Path:
    """Sums, put to the server. A chain of thought that is asked for on its own may have 7 tokens."""
    shown = {"template": TEMPLATE, **({"cot": cot} if cot else {}), **keys.pop("input", {})}
    defaults = {
        "input": shown,
        "model": {"use": "vllm", "base_url": server.url, "name": "m", "max_tokens": 40},
        "data": {"train": "train.jsonl", "test": "test.jsonl", "target": "y"},
        "output": ["number"],
        "test": TEST,
        "train": TRAIN,
    }
    return write_task(**{**defaults, **keys})


def lines(path: str) -> list[Json]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def prompts(server: StandIn) -> list[str]:
    return [prompt_of(body) for body in server.received]


# -- zero-shot


def test_two_calls_think_and_then_answer(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server, {"use": "zero_shot", "then": THEN, "max_tokens": 7})
    planned = json.loads(icl("plan", task, "--json")[1])
    assert planned["roles"] == {"main": [3, 3], "rationale": [3, 3]}
    assert icl("run", task, "--out", "out")[0] == 0
    first = f"Q: {TEST[0]['q']}\nA: {CUE}"
    assert sorted(prompts(server)) == sorted(
        text
        for row in TEST
        for text in (f"Q: {row['q']}\nA: {CUE}", f"Q: {row['q']}\nA: {CUE}{thought(row['q']).rstrip()} {THEN}")
    )
    limits = {prompt_of(body): body["max_tokens"] for body in server.received}
    assert (limits[first], limits[f"{first}{thought(TEST[0]['q']).rstrip()} {THEN}"]) == (7, 40)
    for row, source in zip(lines("out/predictions.jsonl"), TEST, strict=True):
        assert (row["prediction"], row["correct"]) == (source["y"], True)
        assert row["rationale"] == thought(source["q"])
        assert row["text"].strip() == str(source["y"])
    assert Counter(a["role"] for a in lines("out/answers.jsonl")) == {"main": 3, "rationale": 3}
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["usage"]["requests"] == summary["usage"]["paid"] == 6
    low, high = summary["plan"]["requests"]
    assert low <= 6 <= high
    assert icl("run", task, "--out", "again")[0] == 0
    assert len(server.received) == 6
    assert Path("out/predictions.jsonl").read_bytes() == Path("again/predictions.jsonl").read_bytes()
    known = json.loads(icl("plan", task, "--json")[1])
    assert (known["cached"], known["paid"]) == (6, [0, 0])


def test_one_call_says_both(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server, {"use": "zero_shot"})
    assert icl("run", task, "--out", "out")[0] == 0
    assert sorted(prompts(server)) == sorted(f"Q: {row['q']}\nA: {CUE}" for row in TEST)
    rows = lines("out/predictions.jsonl")
    assert [row["correct"] for row in rows] == [True] * 3
    assert "rationale" not in rows[0]


def test_a_chat_model_answers_in_turns(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    model = {"use": "vllm", "base_url": server.url, "name": "m", "max_tokens": 40, "api": "chat"}
    task = task_of(write_task, server, {"use": "zero_shot", "then": THEN, "max_tokens": 7}, model=model)
    assert icl("run", task, "--out", "out", "--limit", "1")[0] == 0
    first, second = (body["messages"] for body in server.received)
    assert first == [{"role": "user", "content": f"Q: {TEST[0]['q']}\nA: {CUE}"}]
    assert second == [
        *first,
        {"role": "assistant", "content": thought(TEST[0]["q"]).strip()},
        {"role": "user", "content": THEN},
    ]


def test_show_tells_the_last_prompt_that_is_known(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    task = task_of(write_task, server, {"use": "zero_shot", "then": THEN, "max_tokens": 7})
    _, out, err = icl("show", task)
    assert out == f"Q: {TEST[0]['q']}\nA: {CUE}\n"
    assert "the model was not asked yet for what comes before the answer" in err
    assert not server.received
    icl("run", task, "--limit", "1")
    _, out, err = icl("show", task)
    assert out == f"Q: {TEST[0]['q']}\nA: {CUE}{thought(TEST[0]['q']).rstrip()} {THEN}\n"
    assert "not asked yet" not in err


# -- bootstrapped


BOOTSTRAP: Json = {"use": "bootstrap", "rows": 6, "max_tokens": 7}


def test_what_the_model_solved_rightly_is_shown(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    server.wrong = tuple(row["q"] for row in TRAIN[1:5])
    shots = {"demonstrations": {"use": "random", "k": 2}}
    task = task_of(write_task, server, BOOTSTRAP, input=shots)
    status, _, err = icl("show", task)
    assert status == 2
    assert "answers of the model that are not in the cache" in err
    planned = json.loads(icl("plan", task, "--json")[1])
    assert planned["roles"] == {"fit": [12, 12], "main": [3, 3]}
    assert any("not answered yet" in note for note in planned["notes"])
    assert not server.received

    assert icl("run", task, "--out", "out")[0] == 0
    assert len(server.received) == 12 + 3
    rows = lines("out/predictions.jsonl")
    assert {tuple(sorted(row["demonstrations"])) for row in rows} == {(0, 5)}
    assert all(row["correct"] for row in rows)
    asked = [prompt for prompt in prompts(server) if prompt.count("Q: ") > 1]
    assert len(asked) == 3
    for row in (TRAIN[0], TRAIN[5]):
        shown = f"Q: {row['q']}\nA: {CUE} {thought(row['q']).strip()} {THEN} {row['y']}.\n\n"
        assert all(shown in prompt for prompt in asked)
    assert all(prompt.endswith(f"\nA: {CUE}") for prompt in asked)
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["usage"]["requests"] == 15
    assert Counter(a["role"] for a in lines("out/answers.jsonl")) == {"fit": 12, "main": 3}
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert len(manifest["learned"]["rationales"]) == 2

    _, out, err = icl("show", task)
    assert out.rstrip("\n") in asked
    assert "row 0, target 1" in err
    known = json.loads(icl("plan", task, "--json")[1])
    assert (known["cached"], known["paid"], known["prompt_tokens"] > 0) == (15, [0, 0], True)


def test_a_chat_model_is_shown_its_own_chains_as_it_is_asked_for_one(server: Thinker, write_task: WriteTask) -> None:
    model = {"use": "vllm", "base_url": server.url, "name": "m", "max_tokens": 40, "api": "chat"}
    shots = {"demonstrations": {"use": "random", "k": 1}}
    task = task_of(write_task, server, BOOTSTRAP, input=shots, model=model, train=TRAIN[:1])
    with icl_engine.load(task) as pipeline:
        messages = pipeline.predict({"q": "What is 4 and 4?"}).prompt.messages
    assert messages is not None
    row = TRAIN[0]
    assert [(m.role, m.text) for m in messages] == [
        ("user", f"Q: {row['q']}\nA: {CUE}"),
        ("assistant", f"{thought(row['q']).strip()} {THEN} {row['y']}."),
        ("user", f"Q: What is 4 and 4?\nA: {CUE}"),
    ]


def test_rationales_are_kept_in_a_saved_program(server: Thinker, write_task: WriteTask) -> None:
    task = task_of(write_task, server, BOOTSTRAP, input={"demonstrations": {"use": "tfidf", "k": 2}})
    with icl_engine.load(task) as pipeline:
        first = pipeline.predict({"q": "What is 4 and 4?"})
        program = pipeline.save("sums.icl.json")
    asked = len(server.received)
    Path("train.jsonl").unlink()
    with icl_engine.load(program) as pipeline:
        again = pipeline.predict({"q": "What is 4 and 4?"})
    assert (again.value, again.prompt.text) == (first.value, first.prompt.text) == (8, first.prompt.text)
    assert len(server.received) == asked


def test_too_few_solved_rows_are_told(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    server.wrong = tuple(row["q"] for row in TRAIN[1:])
    task = task_of(write_task, server, BOOTSTRAP, input={"demonstrations": {"use": "random", "k": 2}})
    status, _, err = icl("run", task)
    assert status == 2
    assert "k is 2, but the model solved 1 different rows: raise input.cot.rows" in err


def test_nothing_solved_is_told(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    server.wrong = tuple(row["q"] for row in TRAIN)
    task = task_of(write_task, server, BOOTSTRAP, input={"demonstrations": {"use": "random", "k": 2}})
    status, _, err = icl("run", task)
    assert status == 2
    assert "the model solved none of 6 train rows" in err


# -- Auto-CoT


def test_one_solved_row_of_each_cluster_is_shown_right_or_wrong(
    server: Thinker, write_task: WriteTask, icl: CommandLine
) -> None:
    server.wrong = tuple(row["q"] for row in TRAIN)
    kinds = ["apples pears plums", "metres miles yards", "cats dogs mice"]
    train: list[Json] = [{"q": f"{kinds[i % 3]} {kinds[i % 3]} {i} and 1?", "y": 0} for i in range(9)]
    task = task_of(write_task, server, {"use": "auto", "k": 3, "max_tokens": 7}, train=train)
    server.wrong = tuple(row["q"] for row in train)
    assert icl("run", task, "--out", "out")[0] == 0
    assert len(server.received) == 3 * 2 + 3
    rows = lines("out/predictions.jsonl")
    (shown,) = {tuple(row["demonstrations"]) for row in rows}
    assert sorted(i % 3 for i in shown) == [0, 1, 2]
    asked = [prompt for prompt in prompts(server) if prompt.count("Q: ") > 1]
    for i in shown:
        text = train[i]["q"]
        assert all(f"Q: {text}\nA: {CUE} {thought(text).strip()} {THEN} {i + 2}.\n\n" in prompt for prompt in asked)
    _, _, err = icl("show", task)
    assert "nearest to its cluster's centre, try 1" in err


def test_long_chains_are_passed_over(server: Thinker, write_task: WriteTask, icl: CommandLine) -> None:
    def thinks(shown: str) -> str:
        return " One.\nTwo.\nThree.\n" if question(shown) == TRAIN[0]["q"] else thought(shown)

    server.thinks = thinks
    cot = {"use": "auto", "k": 1, "steps": 2, "tries": 6, "max_tokens": 7}
    task = task_of(write_task, server, cot, train=TRAIN[:1])
    status, _, err = icl("run", task)
    assert status == 2
    assert "no chain of thought of the model is simple enough" in err
    task = task_of(write_task, server, cot, train=TRAIN[:2])
    assert icl("run", task, "--out", "out")[0] == 0
    assert {tuple(row["demonstrations"]) for row in lines("out/predictions.jsonl")} == {(1,)}


# -- what does not fit


LABELS = {"use": "verbalizer", "labels": {"1": "1", "2": "2"}}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"cot": BOOTSTRAP}, "name a retriever"),
        (
            {"cot": {"use": "auto", "k": 1}, "input": {"demonstrations": {"use": "random", "k": 1}}},
            "leave input.demonstr",
        ),
        ({"cot": {"use": "auto", "k": 7}}, "k is 7, but the train split has 6 different rows"),
        ({"cot": {"use": "zero_shto"}}, "did you mean 'zero_shot'"),
        ({"cot": {"use": "zero_shot", "cues": "x"}}, "did you mean 'cue'"),
        (
            {"cot": {"use": "zero_shot", "then": THEN}, "output": [LABELS, {"use": "contextual_calibration"}]},
            "no content",
        ),
        (
            {
                "cot": None,
                "input": {"template": {"inline": "{{ answer }} is the sum: {{ q }}"}, "cot": {"use": "zero_shot"}},
            },
            "cloze",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_asked(
    keys: Json, told: str, server: Thinker, write_task: WriteTask, icl: CommandLine
) -> None:
    status, _, err = icl("run", task_of(write_task, server, **keys))
    assert status == 2
    assert told in err
    assert err.count("\n") == 1
    assert not server.received
