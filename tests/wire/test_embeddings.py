"""`embeddings`: what is sent to an OpenAI-compatible embeddings API, and what its answers mean."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support.embedding_server import EmbeddingServer, answer, letters, vectors
from support.server import Reply, html

from icl_engine.errors import EndpointError
from icl_engine.models import embeddings
from icl_engine.models.embeddings import Embeddings
from icl_engine.protocols import View
from icl_engine.types import Example

KEY = "sk-very-secret"
TEXTS = [f"text number {i} is {chr(97 + i)}" for i in range(10)]

Encode = Callable[..., np.ndarray]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly no wait between tries."""
    monkeypatch.setattr(embeddings, "_backoff", lambda state: 0.001)


def view(folder: Path | None = None) -> View:
    return View(lambda x: str(x.inputs["t"]), vectors=folder)


def examples(texts: Sequence[str]) -> list[Example]:
    return [Example(i, {"t": text}) for i, text in enumerate(texts)]


def made(server: EmbeddingServer, **keys: Any) -> Embeddings:
    return Embeddings(**{"name": "m", "base_url": server.url, "api_key": KEY, **keys})


def encoded(encoder: Embeddings, texts: Sequence[str] = TEXTS, folder: Path | None = None) -> np.ndarray:
    return encoder.encode(encoder.fit(examples(texts), view(folder)), examples(texts), view(folder))


def expected(texts: Sequence[str] = TEXTS) -> np.ndarray:
    rows = np.array([letters(text) for text in texts])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def refused(encoder: Embeddings, texts: Sequence[str] = TEXTS) -> str:
    with pytest.raises(EndpointError) as caught:
        encoded(encoder, texts)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 800
    assert KEY not in said
    return said


def test_what_is_sent(server: EmbeddingServer) -> None:
    rows = encoded(made(server, batch=4))
    assert np.array_equal(rows, expected())
    assert [len(body["input"]) for body in server.received] == [4, 4, 2]
    assert server.received[0] == {"model": "m", "input": TEXTS[:4], "encoding_format": "float"}
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_dimensions_are_asked_for(server: EmbeddingServer) -> None:
    assert encoded(made(server, dimensions=8)).shape == (10, 8)
    assert server.received[0]["dimensions"] == 8


def test_vectors_are_put_in_the_order_of_their_index(server: EmbeddingServer) -> None:
    server.backwards = True
    assert np.array_equal(encoded(made(server)), expected())


def test_an_answer_without_indices_is_in_order(server: EmbeddingServer) -> None:
    server.script.append(answer([{"embedding": letters(text)} for text in TEXTS]))
    assert np.array_equal(encoded(made(server)), expected())


def test_an_empty_text_is_sent_as_a_space(server: EmbeddingServer) -> None:
    assert np.array_equal(encoded(made(server), ["", "a"]), expected([" ", "a"]))


def test_half_a_character_can_be_sent(server: EmbeddingServer) -> None:
    encoded(made(server), ["\ud800"])
    assert server.texts == ["?"]


# -- keys


def test_without_base_url_it_is_openai_s_and_the_environment_says_where_and_with_what_key(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Embeddings(name="m")
    assert refused(encoder) == ("no key for embeddings: set OPENAI_API_KEY, or write api_key: ${NAME}, or base_url")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert np.array_equal(encoded(encoder), expected())
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert server.url not in encoder.identity


def test_openai_s_key_is_not_sent_to_another_server(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    encoded(made(server, api_key=None))
    assert not any(KEY in value for headers in server.headers for value in headers.values())


def test_the_key_is_written_nowhere(server: EmbeddingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="icl_engine")
    encoder = made(server)
    encoded(encoder, folder=tmp_path)
    assert KEY not in repr(encoder) + encoder.identity + caplog.text
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_key_that_is_none_is_not_quoted(server: EmbeddingServer) -> None:
    assert "white space" in refused(made(server, api_key=f"{KEY}\n"))


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not a URL like"):
        Embeddings(name="m", base_url="localhost:8000")
    with pytest.raises(ValidationError, match="has a password in it"):
        Embeddings(name="m", base_url="http://u:p@h/v1")


# -- what is kept


def test_what_is_kept_is_not_asked_again(server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = made(server, batch=4)
    first = encoded(encoder, TEXTS[:6], tmp_path)
    assert encoder.known(examples(TEXTS), view(tmp_path)) == 6
    assert np.array_equal(encoded(made(server, api_key="another"), folder=tmp_path)[:6], first)
    assert server.texts == TEXTS, "each once, whoever pays"
    assert encoder.known(examples(TEXTS), view(tmp_path)) == 10


def test_another_server_model_or_size_has_vectors_of_its_own(server: EmbeddingServer, tmp_path: Path) -> None:
    encoded(made(server), folder=tmp_path)
    for keys in ({"name": "n"}, {"dimensions": 8}, {"base_url": "http://127.0.0.1:9/v1"}):
        assert made(server, **keys).known(examples(TEXTS), view(tmp_path)) == 0


def test_batches_that_were_paid_for_are_kept_when_a_later_one_fails(server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = made(server, batch=4)
    server.script.extend([answer(vectors([letters(text) for text in TEXTS[:4]])), Reply(401, message="revoked")])
    with pytest.raises(EndpointError, match="revoked"):
        encoded(encoder, folder=tmp_path)
    assert encoder.known(examples(TEXTS), view(tmp_path)) == 4
    encoded(encoder, folder=tmp_path)
    assert server.texts == TEXTS[4:]


def test_it_says_that_it_asks_a_network() -> None:
    assert Embeddings.remote


# -- refusals


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("reply", [Reply(429), Reply(500), Reply(503), Reply(408), Reply(reset=True)])
def test_what_may_pass_is_asked_again(server: EmbeddingServer, reply: Reply) -> None:
    server.script.extend([reply, reply])
    assert np.array_equal(encoded(made(server)), expected())
    assert len(server.received) == 3


def test_the_server_says_how_long_to_wait(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_backoff", lambda state: 0.0)
    server.script.append(Reply(429, retry_after="0.3"))
    began = time.monotonic()
    encoded(made(server))
    assert time.monotonic() - began >= 0.3


def test_it_waits_for_two_minutes_at_most(server: EmbeddingServer) -> None:
    server.script.append(Reply(503, message="much to do", retry_after="130"))
    began = time.monotonic()
    assert refused(made(server)) == f"{server.url}/embeddings: HTTP 503: much to do"
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("quick")
def test_a_server_that_never_recovers_is_given_up(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "PATIENCE", 0.3)
    server.script.extend([Reply(500, message="broken")] * 1000)
    assert refused(made(server)).endswith("HTTP 500: broken")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(401, message=f"bad key {KEY}"), "refuses the key (encoder.api_key): HTTP 401: bad key ***"),
        (Reply(403, message="not yours"), "refuses the key (encoder.api_key): HTTP 403: not yours"),
        (Reply(404, message="no model m"), "or has no such model; are encoder.base_url (…/v1) and encoder.name ('m')"),
        (Reply(429, message="You exceeded your quota: insufficient_quota"), "the account may not spend more"),
        (Reply(402, message="pay first"), "the account may not spend more"),
        (Reply(501, message="not here"), "HTTP 501: not here"),
        (Reply(418, message="x" * 10_000), "HTTP 418: xxx"),
        (html(), "is encoder.base_url right (…/v1)? '<html>"),
        (answer({}), "answers 10 texts with 0 vectors"),
        (answer(vectors([[1.0, 2.0]] * 9)), "answers 10 texts with 9 vectors"),
        (answer(vectors([[1.0, 2.0]] * 11)), "answers 10 texts with 11 vectors"),
        (answer([{"index": 0, "embedding": [1.0]}] * 10), "answers 10 texts with 10 vectors (index 0, 0, 0, 0, 0 …)"),
        (answer(vectors([[1.0, 2.0]] * 9 + [[1.0]])), "no list of vectors of one length"),
        (answer([{"index": i, "embedding": "AACAPw=="} for i in range(10)]), "no list of vectors of one length"),
        (answer([{"index": i, "embedding": 1.0} for i in range(10)]), "gives vectors of no numbers"),
        (answer([{"index": "a", "embedding": [1.0]}] * 10), "answers 10 texts with 10 vectors"),
        (answer(vectors([[]] * 10)), "gives vectors of no numbers"),
        (answer(None), "no list of vectors of one length"),
        (answer(vectors([[1.0, None]] * 10)), "no numbers"),  # type: ignore[list-item]
        (answer(vectors([[1.0, 1e300]] * 10)), "no numbers"),
        (Reply(body=b'[{"error": "?"}]'), "no list of vectors of one length"),
    ],
)
def test_what_will_not_pass_is_told_at_once(server: EmbeddingServer, reply: Reply, said: str) -> None:
    server.script.append(reply)
    assert said in refused(made(server))
    assert len(server.received) == 1


@pytest.mark.usefixtures("quick")
def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "PATIENCE", 0.2)
    encoder = Embeddings(name="m", base_url="http://127.0.0.1:9/v1")
    assert refused(encoder) == ("http://127.0.0.1:9/v1/embeddings: no answer from http://127.0.0.1:9/v1 (ConnectError)")


@pytest.mark.usefixtures("quick")
def test_a_server_that_does_not_answer_in_time(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "PATIENCE", 0.2)

    def late(path: str, body: Any) -> Reply:
        time.sleep(1)
        return Reply()

    monkeypatch.setattr(server, "reply", late)
    assert "Timeout" in refused(made(server, timeout=0.2))


def test_a_server_that_takes_fewer_texts_is_asked_for_fewer(server: EmbeddingServer) -> None:
    server.most = 3
    assert np.array_equal(encoded(made(server)), expected())
    assert [len(body["input"]) for body in server.received] == [10, 5, 2, 2, 2, 2, 2]
    assert server.texts == TEXTS


def test_a_text_that_is_too_long_is_named(server: EmbeddingServer) -> None:
    server.longest = 40
    texts = [*TEXTS, "a long text " * 10]
    assert refused(made(server), texts) == (
        f"{server.url} refuses to embed {texts[-1][:60]!r}: HTTP 400: maximum context length exceeded"
    )


def test_an_answer_s_size_is_no_matter(server: EmbeddingServer) -> None:
    rows = [[float(i + j) for j in range(1536)] for i in range(256)]
    server.script.append(answer(vectors(rows)))
    assert encoded(made(server), [f"{i}" for i in range(256)]).shape == (256, 1536)
    assert len(json.dumps(rows)) > 1_000_000
