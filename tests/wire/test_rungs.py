"""The ladder over the wire: how many requests each kind of server costs, and what one that changes its mind does."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server import Reply, StandIn

import icl_engine as icl

WriteTask = Callable[..., Path]
LONG = ("card arrival", "card linking", "top up", "refund")
PIECES = {f" {w}": tuple(f" {t}" for t in w.split()) for w in LONG}
ROWS = [{"text": f"question {i}", "label": LONG[i % 4]} for i in range(8)]


def spec(server: StandIn, **keys: Any) -> dict[str, Any]:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


def verbalizer(*labels: str, **keys: Any) -> list[dict[str, Any]]:
    return [{"use": "verbalizer", "labels": {label: label for label in labels}, **keys}]


@pytest.fixture
def scoring(server: StandIn) -> StandIn:
    """A server as vLLM's: a tokenizer, named tokens, echo, choices."""
    server.tokenizer = server.named = server.prefill = True
    server.routes = (*server.routes, "/tokenize")
    server.echo, server.structured = "honoured", ("choice",)
    return server


@pytest.fixture
def icl_command(request: pytest.FixtureRequest) -> Any:
    """The fixture ``icl``, which here would hide the package."""
    return request.getfixturevalue("icl")


def summary(task: Path, **options: Any) -> dict[str, Any]:
    return dict(icl.run(task, **options).summary)


def test_labels_of_one_token_are_one_request_a_row(scoring: StandIn, write_task: WriteTask) -> None:
    found = summary(write_task(model=spec(scoring)))
    assert found["scoring"] == {"method": "named", "exact": 6, "bounded": 0}
    assert (found["usage"]["requests"], found["usage"]["paid"], len(scoring.received)) == (6, 6, 6)
    assert all(len(body["logprob_token_ids"]) == 2 for body in scoring.received)
    assert len(scoring.tokenized) < 12  # the words' tokens are asked for once, not for each row


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_labels_of_several_tokens_are_read_along_a_path(scoring: StandIn, write_task: WriteTask, api: str) -> None:
    scoring.words = LONG
    scoring.pieces = PIECES | {w: tuple(w.split(" ")[:1]) + tuple(f" {t}" for t in w.split()[1:]) for w in LONG}
    task = write_task(model=spec(scoring, api=api), test=ROWS, output=verbalizer(*LONG))
    best = icl.run(task, out="best")
    asked = len(scoring.received)
    whole = icl.run(task, out="whole", settings={"output[0].want": "distribution"})
    assert best.summary["scoring"] == {"method": "trie", "exact": 8, "bounded": 0}
    assert whole.summary["scoring"] == {"method": "trie", "exact": 8, "bounded": 0}
    assert asked <= 1.5 * len(ROWS)
    assert [p["prediction"] for p in best.predictions] == [p["prediction"] for p in whole.predictions]
    assert all(abs(sum(p["distribution"].values()) - 1) < 1e-9 for p in whole.predictions)


def test_a_rerun_of_a_trie_pays_nothing(scoring: StandIn, write_task: WriteTask) -> None:
    scoring.words, scoring.pieces = LONG, PIECES
    task = write_task(model=spec(scoring), test=ROWS, output=verbalizer(*LONG, want="distribution"))
    first = icl.run(task, out="run")
    before = {name: (first.path / name).read_bytes() for name in ("answers.jsonl", "predictions.jsonl")}
    scoring.forget()
    again = icl.run(task, out="run")
    assert again.summary["usage"]["paid"] == 0
    assert (scoring.received, scoring.probes, scoring.tokenized) == ([], [], [])
    assert {name: (again.path / name).read_bytes() for name in before} == before


def test_a_server_that_ignores_named_tokens_is_noticed_before_the_first_row(
    scoring: StandIn, write_task: WriteTask
) -> None:
    scoring.named = False
    found = summary(write_task(model=spec(scoring)))
    assert found["scoring"] == {"method": "top_k", "exact": 6, "bounded": 0}
    assert any("logprob_token_ids" in body for body in scoring.probes)
    assert all("logprob_token_ids" not in body for body in scoring.received)


def test_a_server_that_ceases_to_score_named_tokens_is_noticed(
    scoring: StandIn, write_task: WriteTask, caplog: pytest.LogCaptureFixture
) -> None:
    task = write_task(model=spec(scoring))
    icl.run(task, out="one", limit=1)
    scoring.named = False
    with caplog.at_level(logging.WARNING, "icl_engine"):
        found = summary(task, out="all")
    assert found["scoring"] == {"method": "top_k", "exact": 6, "bounded": 0} or found["scoring"]["exact"] == 6
    assert found["failed"] == 0
    assert sum("logprob_token_ids" in r.message for r in caplog.records) == 1


@pytest.mark.parametrize("echo", ["ignored", "refused", "zeros", "missing"])
def test_a_cloze_is_refused_where_the_prompts_figures_are_left_out(
    scoring: StandIn, write_task: WriteTask, echo: str, icl_command: Any
) -> None:
    scoring.echo = echo
    task = write_task(model=spec(scoring), input={"template": {"inline": "{{ text }}? {{ answer }}, that is so."}})
    code, _, err = icl_command("run", task)
    assert code == 2
    assert "a cloze is scored inside its sentence" in err
    assert scoring.received == []


def test_a_cloze_is_scored_by_echo(scoring: StandIn, write_task: WriteTask) -> None:
    inline = {"inline": "{{ text }}? {{ answer }}, that is so."}
    found = summary(write_task(model=spec(scoring), input={"template": inline}))
    assert found["scoring"] == {"method": "continuation", "exact": 6, "bounded": 0}
    assert len(scoring.received) == 12


def test_without_a_tokenizer_the_words_are_found_in_the_top(server: StandIn, write_task: WriteTask) -> None:
    server.words, server.pieces = LONG, PIECES
    task = write_task(model=spec(server), test=ROWS, output=verbalizer(*LONG, want="distribution"))
    found = summary(task)
    assert found["scoring"] == {"method": "trie", "exact": 8, "bounded": 0}
    # The root, and where "card" goes on in two ways; one word alone is settled by its last token too.
    assert len(server.received) <= 4 * len(ROWS)


def test_scores_are_read_by_constrained_generation_where_there_are_no_figures(
    scoring: StandIn, write_task: WriteTask
) -> None:
    scoring.logprobs, scoring.named, scoring.echo = False, False, "ignored"
    task = write_task(model=spec(scoring), output=verbalizer("positive", "negative", read="scores"))
    found = icl.run(task)
    assert found.summary["scoring"] == {"method": "constrained", "exact": 0, "bounded": 6}
    assert {p["prediction"] for p in found.predictions} == {"positive"}
    assert all(p["distribution"] is None for p in found.predictions)
    assert {json.dumps(body["structured_outputs"]) for body in scoring.received} == {
        json.dumps({"choice": ["positive", "negative"]})
    }


def test_a_distribution_is_counted_where_there_are_no_figures(scoring: StandIn, write_task: WriteTask) -> None:
    scoring.logprobs, scoring.named, scoring.echo, scoring.samples = False, False, "ignored", True
    output = [*verbalizer("positive", "negative", samples=4), {"use": "batch_calibration"}]
    found = icl.run(write_task(model=spec(scoring), output=output))
    assert found.summary["scoring"] == {"method": "votes", "exact": 0, "bounded": 6}
    assert found.summary["usage"]["requests"] == 24
    assert {body["n"] for body in scoring.received} == {4}
    assert len(scoring.received) == 6


def test_text_is_read_where_scores_were_not_insisted_on(scoring: StandIn, write_task: WriteTask) -> None:
    scoring.logprobs, scoring.named, scoring.echo = False, False, "ignored"
    found = summary(write_task(model=spec(scoring)))
    assert found["scoring"] == {"method": "text", "exact": 0, "bounded": 0}


def test_a_prior_is_asked_once_for_a_demonstration_set(scoring: StandIn, write_task: WriteTask) -> None:
    task = write_task(
        model=spec(scoring),
        input={
            "template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"},
            "demonstrations": {"use": "random", "k": 2},
        },
        output=verbalizer("positive", "negative", normalization="pmi"),
    )
    found = icl.run(task)
    prompts = [body["prompt"] for body in scoring.received]
    assert len(prompts) == len(set(prompts)) == 7
    (prior,) = [prompt for prompt in prompts if prompt.endswith("Review: \nSentiment:")]
    assert prior.startswith("Review: ")
    assert found.summary["scoring"]["exact"] == 6


def test_the_mean_and_the_sum_may_differ(scoring: StandIn, write_task: WriteTask) -> None:
    scoring.words, scoring.pieces = LONG, PIECES
    given = {"model": spec(scoring), "test": ROWS}
    by_sum = icl.run(write_task(**given, output=verbalizer(*LONG, want="distribution")), out="sum")
    by_mean = icl.run(
        write_task(**given, output=verbalizer(*LONG, want="distribution", normalization="mean")), out="mean"
    )
    assert by_mean.summary["usage"]["paid"] == 0  # the same figures, read another way
    first, second = (r.predictions[0]["distribution"] for r in (by_sum, by_mean))
    assert first["refund"] / first["card arrival"] != pytest.approx(second["refund"] / second["card arrival"])


def test_labels_that_cannot_be_told_apart_are_one_line(
    server: StandIn, write_task: WriteTask, icl_command: Any
) -> None:
    server.words, server.pieces = (
        LONG,
        {w: tuple(w.split(" ")[:1]) + tuple(f" {t}" for t in w.split()[1:]) for w in LONG},
    )
    task = write_task(model=spec(server, api="chat"), test=ROWS, output=verbalizer(*LONG, read="scores"))
    code, _, err = icl_command("run", task)
    assert code == 2
    assert "labels 'card arrival' and 'card linking' begin with the same token 'card'" in err


def test_a_schema_that_the_server_refuses_is_asked_for_without(server: StandIn, write_task: WriteTask) -> None:
    server.schema = True
    schema = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"]}
    task = write_task(model=spec(server), output=[{"use": "json", "schema": schema}], metrics=[])
    assert summary(task, out="kept")["failed"] == 0
    assert all(body["response_format"]["json_schema"]["schema"] == schema for body in server.received)
    server.forget()
    server.unsupported = {"response_format": "this keyword is not supported"}
    found = summary(task, out="again", cache=False)
    assert (found["failed"], found["examples"]) == (0, 6)


def test_what_was_probed_is_told(scoring: StandIn, write_task: WriteTask, icl_command: Any) -> None:
    task = write_task(model=spec(scoring))
    code, out, _ = icl_command("models", "--probe", task)
    assert code == 0
    lines = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:] if line.startswith("  ")}
    assert (lines["named"], lines["spelling"], lines["choice"], lines["grammar"]) == ("128", "yes", "yes", "no")
    assert "exact, by named tokens" in out
    asked = len(scoring.probes)
    code, out, _ = icl_command("models", "--probe", task, "--json")
    assert json.loads(out)["capabilities"]["named"] == 128
    assert len(scoring.probes) == 2 * asked  # asked for, it is asked anew
    scoring.forget()
    icl.run(task)
    assert scoring.probes == []  # and kept for every run


def test_a_probe_of_what_is_not_there_is_one_line(server: StandIn, write_task: WriteTask, icl_command: Any) -> None:
    server.refuse = lambda _: Reply(401, message="no such key")
    url = server.url
    server.__exit__(None, None, None)
    code, _, err = icl_command("models", "--probe", write_task(model={"use": "vllm", "base_url": url, "name": "m"}))
    assert code == 2
    assert err.count("\n") == 1
    assert "nothing answers" in err
    code, _, err = icl_command("models", "--probe")
    assert (code, "takes a task" in err) == (2, True)
    server.__enter__()


@pytest.mark.parametrize(
    ("output", "metrics"),
    [
        (verbalizer("positive", "negative"), ["accuracy"]),
        ([*verbalizer("positive", "negative"), {"use": "batch_calibration"}], ["accuracy"]),
        ([{"use": "identity"}], []),
    ],
    ids=["scores", "calibrated", "text"],
)
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_server_without_the_route_is_told_in_one_line(
    server: StandIn, write_task: WriteTask, icl_command: Any, api: str, output: Any, metrics: Any
) -> None:
    there = "chat/completions" if api == "completions" else "completions"
    server.routes = (f"/v1/{there}",)
    code, _, err = icl_command("run", write_task(model=spec(server, api=api), output=output, metrics=metrics))
    assert (code, err.count("\n")) == (2, 1), err
    assert f"use api: {'chat' if api == 'completions' else 'completions'}" in err


def test_the_prior_stands_beside_the_figures_it_is_taken_off(scoring: StandIn, write_task: WriteTask) -> None:
    output = verbalizer("positive", "negative", normalization="pmi")
    found = icl.run(write_task(model=spec(scoring), output=output))
    answers = [json.loads(line) for line in (found.path / "answers.jsonl").read_text().splitlines()]
    assert [a["role"] for a in answers] == ["main", "probe", *["main"] * 5]
    prior = answers[1]["logprobs"]
    for answer, row in zip([answers[0], *answers[2:]], found.predictions, strict=True):
        taken = {label: answer["logprobs"][label] - prior[label] for label in prior}
        assert max(taken, key=taken.__getitem__) == row["prediction"]
        ratio = row["distribution"]["positive"] / row["distribution"]["negative"]
        assert ratio == pytest.approx(math.exp(taken["positive"] - taken["negative"]))


@pytest.mark.parametrize("normalization", ["pmi", "mean"])
def test_a_normalization_takes_log_probabilities(
    scoring: StandIn, write_task: WriteTask, icl_command: Any, normalization: str
) -> None:
    scoring.logprobs, scoring.named, scoring.echo = False, False, "ignored"
    output = verbalizer("positive", "negative", read="scores", normalization=normalization)
    code, _, err = icl_command("run", write_task(model=spec(scoring), output=output))
    assert (code, scoring.received) == (2, [])
    assert f"normalization: {normalization} takes log-probabilities, and the model gives none" in err


def test_nodes_of_one_question_travel_together(scoring: StandIn, write_task: WriteTask) -> None:
    scoring.words, scoring.pieces = LONG, PIECES
    task = write_task(
        model=spec(scoring), test=ROWS, output=verbalizer(*LONG, want="distribution"), run={"concurrency": 1}
    )
    found = icl.run(task)
    nodes = [body for body in scoring.received if isinstance(body["prompt"], list)]
    assert len(nodes) == len(ROWS)  # behind the root, one HTTP request for all nodes of a row
    assert all(isinstance(prompt, list) for body in nodes for prompt in body["prompt"])
    assert found.summary["usage"]["requests"] == len(ROWS) * (1 + len(nodes[0]["prompt"]))
