"""Whole runs against an OpenAI-compatible server: its faults, its refusals, and what is kept of its key."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.server import HTML, Reply, StandIn, html, scores

SECRET = "sk-very-secret-0123456789"


def model(server: StandIn, **keys: Any) -> dict[str, Any]:
    return {"use": "vllm", "base_url": server.url, "name": "m", **keys}


def test_a_web_page_on_the_port_is_noticed_before_anything_is_posted(
    server: StandIn, write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    server.html = True
    process = start("run", write_task(model=model(server)), "--out", "out")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert server.url in err
    assert "html" in err
    assert HTML.decode() not in err
    assert server.received == []
    assert not (tmp_path / "out").exists()


def test_nothing_listening_ends_the_run_in_one_line(
    write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        process = start("run", write_task(model={"use": "vllm", "base_url": url, "name": "m"}), "--out", "out")
        _, err = process.communicate(timeout=20)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert url in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_label_scores_are_the_servers_own(server: StandIn, write_task: Callable[..., Path], api: str) -> None:
    import icl_engine as icl

    with icl.load(write_task(model=model(server, api=api))) as pipeline:
        found = pipeline.predict({"text": "a fine film"})
    lead = " " if api == "completions" else ""
    shown = "Review: a fine film\nSentiment:"
    expected = scores(shown if api == "completions" else f"user: {shown}", (f"{lead}positive", f"{lead}negative"))
    assert found.scoring is not None
    assert found.scoring.logprobs == {label: expected[f"{lead}{label}"] for label in ("positive", "negative")}
    assert found.distribution is not None
    assert math.isclose(found.distribution["positive"], math.exp(expected[f"{lead}positive"]) / 0.98)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(429, retry_after="0.1"),
        Reply(429, retry_after="0"),
        Reply(503),
        Reply(reset=True),
        Reply(body=b'{"choices": ['),
        Reply(body=b""),
        html(),
        html(502),
    ],
    ids=["429 retry-after", "429", "503", "reset", "cut off", "empty", "html", "502 html"],
)
def test_a_passing_fault_is_retried_and_each_prompt_answered_once(
    server: StandIn, write_task: Callable[..., Path], reply: Reply
) -> None:
    import icl_engine as icl

    server.script.extend([reply] * 3)
    result = icl.run(write_task(model=model(server)), out="out")
    assert result.failed == 0
    assert result.summary["usage"]["paid"] == 6
    assert set(server.served.values()) == {1}
    assert len(server.served) == 6
    assert len(server.received) == 9


def test_a_server_without_log_probabilities_is_read_by_text_never_by_zeros(
    server: StandIn, write_task: Callable[..., Path], icl: Callable[..., tuple[int, str, str]]
) -> None:
    server.logprobs = False
    status, _, _ = icl("run", write_task(model=model(server)), "--out", "out")
    lines = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert status == 0
    assert {line["status"] for line in lines} == {"ok"}
    assert {line["distribution"] for line in lines} == {None}
    assert all(line["text"].strip() == line["prediction"] for line in lines)


def test_log_probabilities_left_out_on_the_way_are_a_failure_never_a_zero(
    server: StandIn, write_task: Callable[..., Path], icl: Callable[..., tuple[int, str, str]]
) -> None:
    bare = {"choices": [{"index": 0, "text": " positive", "logprobs": None, "finish_reason": "length"}]}
    server.refuse = lambda _: Reply(body=json.dumps(bare).encode())
    status, _, _ = icl("run", write_task(model=model(server)), "--out", "out")
    lines = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    assert status == 3
    assert {line["status"] for line in lines} == {"failed"}
    assert {line["prediction"] for line in lines} == {None}
    assert {line["distribution"] for line in lines} == {None}
    assert all("log-prob" in line["error"] for line in lines)
    assert json.loads(Path("out/summary.json").read_text())["failed"] == len(lines)


@pytest.mark.parametrize("status", [401, 404])
def test_an_endpoint_error_ends_the_run_in_one_line(
    server: StandIn, write_task: Callable[..., Path], start: Callable[..., Any], status: int
) -> None:
    server.refuse = lambda _: Reply(status, message=f"bearer {SECRET} has no access to model m")
    task = write_task(model=model(server, api_key="${SERVER_KEY}"))
    process = start("run", task, "--out", "out", SERVER_KEY=SECRET)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert "has no access to model m" in err
    assert SECRET not in out + err


def test_the_key_is_in_no_file_and_no_output(
    server: StandIn, write_task: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    server.refuse = lambda prompt: Reply(400, message=f"no: {SECRET}") if "film 0" in prompt else None
    task = write_task(model=model(server, api_key="${SERVER_KEY}"))
    process = start("run", task, "--out", "out", SERVER_KEY=SECRET)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert server.headers[-1]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in out + err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"manifest.json", "answers.jsonl", "predictions.jsonl", "summary.json"} <= {path.name for path in written}
    assert any("cache" in path.parts for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert "${SERVER_KEY}" in Path("out/manifest.json").read_text()
