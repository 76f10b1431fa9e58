"""A task with images in its demonstrations and rows: what a server receives, and what stays out of files and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.images import GIF, PNG, png, uri
from support.messages_server import MessagesApi
from support.server import Reply, StandIn

import icl_engine as icl

WriteTask = Callable[..., Path]
Icl = Callable[..., tuple[int, str, str]]

ROWS = [
    {"image": "img/0.png", "question": "How many cats?", "label": "one"},
    {"image": "https://host.invalid/a.png?size=2", "question": "How many dogs?", "label": "two"},
    {"image": uri(GIF), "question": "What colour?", "label": "red"},
    {"image": "img/4.png", "question": "And here?", "label": "blue"},
]
SHOWN = {"template": {"inline": "{{ image }}\n{{ question }}\n{{ answer }}"}, "instruction": "Look."}
SHOWN |= {"demonstrations": {"use": "fixed", "items": ROWS[:2]}}
PICTURES = [png(0), GIF, png(4)]


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


OPENING = [
    {"role": "system", "content": "Look."},
    {"role": "user", "content": [picture(uri(png(0))), text("\nHow many cats?")]},
    {"role": "assistant", "content": "one"},
    {"role": "user", "content": [picture("https://host.invalid/a.png?size=2"), text("\nHow many dogs?")]},
    {"role": "assistant", "content": "two"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pictures that rows name."""
    (tmp_path / "img").mkdir()
    for red in (0, 4):
        (tmp_path / "img" / f"{red}.png").write_bytes(png(red))
    return tmp_path


@pytest.fixture(params=["vllm", "openai"])
def served(request: pytest.FixtureRequest, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ICL_TEST_KEY", "sk-very-secret-0123456789")
    return {"use": request.param, "base_url": server.url, "name": "m", "api": "chat", "api_key": "${ICL_TEST_KEY}"}


def asked(server: StandIn) -> list[Any]:
    return [body["messages"] for body in server.received]


def last_text(messages: Any) -> str:
    return str(messages[-1]["content"][-1]["text"])


def base64_in(place: bytes) -> Sequence[bytes]:
    """The pictures whose bytes, as base64 or as Python would print them, stand in what was written."""
    return [
        p for p in PICTURES if uri(p).partition(",")[2].encode() in place or p in place or repr(p).encode() in place
    ]


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_images_travel_as_parts_of_their_turns(
    served: dict[str, Any], server: StandIn, folder: Path, write_task: WriteTask, icl: Icl
) -> None:
    path = write_task(test=ROWS[2:], input=SHOWN, model=served, output=None)
    code, out, err = icl("run", path, "--out", "out")
    assert code == 0, err
    queries = [(uri(GIF, "image/gif"), "\nWhat colour?"), (uri(png(4)), "\nAnd here?")]
    expected = [[*OPENING, {"role": "user", "content": [picture(url), text(said)]}] for url, said in queries]
    assert sorted(asked(server), key=last_text) == sorted(expected, key=last_text)
    # A data: URI in the rows' own file is the user's; nothing that is written repeats it.
    everything = written(folder / "out") + written(folder / "cache") + out.encode() + err.encode()
    assert base64_in(everything) == []
    assert b"sk-very-secret" not in everything
    served_by_cache = len(server.received)
    assert icl("run", path, "--out", "again")[0] == 0
    assert len(server.received) == served_by_cache
    for name in ("answers.jsonl", "predictions.jsonl"):
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_a_single_turn_holds_all_images(served: dict[str, Any], server: StandIn, folder: Path) -> None:
    given = {"input": {**SHOWN, "chat": "single"}, "model": served, "data": {"target": "label"}}
    with icl.load(given) as pipeline:
        pipeline.predict({"image": PNG, "question": "Now?"})
    parts = [picture(uri(png(0))), text("\nHow many cats?\none\n\n"), picture(str(ROWS[1]["image"]))]
    parts += [text("\nHow many dogs?\ntwo\n\n"), picture(uri(PNG)), text("\nNow?")]
    (messages,) = asked(server)
    assert messages == [OPENING[0], {"role": "user", "content": parts}]


def test_another_picture_under_the_same_name_is_asked_anew(
    served: dict[str, Any], server: StandIn, folder: Path, write_task: WriteTask
) -> None:
    path = write_task(test=ROWS[3:], input=SHOWN, model=served, output=None)
    first = icl.run(path).predictions[0]["prompt_sha256"]
    (folder / "img" / "4.png").write_bytes(PNG)
    assert icl.run(path).predictions[0]["prompt_sha256"] != first
    assert [messages[-1]["content"][0] for messages in asked(server)] == [picture(uri(png(4))), picture(uri(PNG))]


def test_a_label_is_scored_after_images(
    served: dict[str, Any], server: StandIn, folder: Path, write_task: WriteTask
) -> None:
    labels = {"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}
    shown = {**SHOWN, "demonstrations": {"use": "fixed", "items": [{**ROWS[0], "label": "positive"}]}}
    path = write_task(test=[{**ROWS[3], "label": "negative"}], input=shown, model=served, output=[labels])
    (prediction,) = icl.run(path).predictions
    assert set(prediction["distribution"]) == {"positive", "negative"}
    assert [picture(uri(png(0))), picture(uri(png(4)))] == [
        message["content"][0] for message in asked(server)[-1] if message["role"] == "user"
    ]


def test_anthropic_receives_sources_and_a_breakpoint_after_the_last_demonstration(
    folder: Path, write_task: WriteTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_TEST_KEY", "sk-very-secret-0123456789")
    with MessagesApi() as api:
        served = {"use": "anthropic", "base_url": api.url, "name": "m", "api_key": "${ICL_TEST_KEY}"}
        icl.run(write_task(test=ROWS[3:], input=SHOWN, model=served, output=None), out="out")
        (body,) = (b for b in api.received if "Name a colour." not in str(b["messages"]))

    def encoded(data: bytes) -> dict[str, Any]:
        source = {"type": "base64", "media_type": "image/png", "data": uri(data).partition(",")[2]}
        return {"type": "image", "source": source}

    address = {"type": "image", "source": {"type": "url", "url": ROWS[1]["image"]}}
    assert body["system"] == "Look."
    assert body["messages"] == [
        {"role": "user", "content": [encoded(png(0)), text("\nHow many cats?")]},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": [address, text("\nHow many dogs?")]},
        {"role": "assistant", "content": [{**text("two"), "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [encoded(png(4)), text("\nAnd here?")]},
    ]
    assert base64_in(written(folder / "out") + written(folder / "cache")) == []


def test_a_model_that_does_not_look_is_told_of_and_asked(
    served: dict[str, Any], server: StandIn, folder: Path, write_task: WriteTask, caplog: pytest.LogCaptureFixture
) -> None:
    """The stand-in counts no tokens for an image: whether it looks at one cannot be seen from there."""
    if served["use"] != "vllm":
        pytest.skip("one server's word is enough")
    with caplog.at_level(logging.WARNING, "icl_engine"):
        found = icl.run(write_task(test=ROWS[3:], input=SHOWN, model=served, output=None))
    assert found.failed == 0
    assert [r.message for r in caplog.records] == ["m does not seem to look at images: one costs it no tokens"]


@pytest.mark.parametrize("status", [400, 413])
def test_a_refused_image_is_no_part_of_the_message(
    status: int, served: dict[str, Any], server: StandIn, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider may repeat what it was sent; what we print of it is bounded and on one line."""
    caplog.set_level(logging.DEBUG, "icl_engine")
    server.refuse = lambda prompt: Reply(status, message=f"cannot read {prompt}" * 40)
    task = {"input": SHOWN, "model": served, "data": {"target": "label"}}
    with icl.load(task) as pipeline, pytest.raises(icl.IclError) as caught:
        pipeline.predict({"image": PNG, "question": "Now?"})
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 600
    assert base64_in((said + caplog.text).encode()) == []


def test_a_completion_model_takes_no_image(server: StandIn, folder: Path, write_task: WriteTask, icl: Icl) -> None:
    path = write_task(
        test=ROWS[2:], input=SHOWN, model={"use": "vllm", "base_url": server.url, "name": "m"}, output=None
    )
    code, _, err = icl("run", path)
    assert (code, err) == (2, f"error: {path}:3: an image is printed: images need a chat model (api: chat)\n")
    assert server.received == []
