"""What goes wrong, by kind and for every provider: what is asked again, and what never; what it says to the driver."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import openai
import pytest
from support.messages_server import Answer, MessagesApi
from support.messages_server import said as message
from support.server import Reply, StandIn

from icl_engine.errors import EndpointError, IclError, RequestError
from icl_engine.models.anthropic import Anthropic
from icl_engine.models.openai import OpenAI
from icl_engine.models.server import UNSENT, lost
from icl_engine.models.vllm import Vllm
from icl_engine.protocols import Endpoint
from icl_engine.types import Generate, Message, Request, Response

T = TypeVar("T")

SECRET = "sk-very-secret-0123456789"
QUESTION = Request((Message("user", "Review: fine"),), Generate())
PROVIDERS = {"vllm": Vllm, "openai": OpenAI, "anthropic": Anthropic}


@dataclass(frozen=True)
class Fault:
    """A reply that is no good answer, in every server's form."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    latency: float = 0.0
    reset: bool = False
    cut: int = 0

    @property
    def reply(self) -> Reply:
        headers, kind = self.headers, self.content_type
        return Reply(self.status, self.body, content_type=kind, reset=self.reset, cut=self.cut, headers=headers)

    @property
    def answer(self) -> Answer:
        return Answer(self.status, self.body, self.headers, self.content_type, self.latency, self.reset, self.cut)


def refusal(status: int, words: str = "busy", kind: str = "some_error", **headers: str) -> Fault:
    """A refusal whose words repeat the key."""
    error = {"type": kind, "message": f"{words} (key {SECRET})", "code": kind}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status, json.dumps({"type": "error", "error": error}).encode(), sent)


@dataclass
class Api:
    """A provider's server, and what it was asked."""

    provider: str
    server: StandIn | MessagesApi

    @property
    def asked(self) -> int:
        return len(self.server.received)

    def endpoint(self, **keys: Any) -> Endpoint:
        spec: Any = PROVIDERS[self.provider]
        made: Endpoint = spec(**{"base_url": self.server.url, "name": "m", "api": "chat", "api_key": SECRET, **keys})
        return made.connect()  # type: ignore[attr-defined, no-any-return]

    def will(self, *faults: Fault) -> None:
        """What the next requests get."""
        if isinstance(self.server, StandIn):
            self.server.script.extend(fault.reply for fault in faults)
            late = sum(fault.latency for fault in faults)
            if late:
                self.server.script.clear()
                self.server.latency = lambda _: late
        else:
            self.server.script.extend(fault.answer for fault in faults)

    def good(self, **headers: str) -> Fault:
        """A good answer."""
        chat = {"index": 0, "message": {"role": "assistant", "content": "positive"}, "finish_reason": "stop"}
        body = message("positive") if self.provider == "anthropic" else {"choices": [chat]}
        return Fault(200, json.dumps(body).encode(), {n.replace("_", "-"): v for n, v in headers.items()})

    def run(self, work: Callable[[Endpoint], Awaitable[T]], **keys: Any) -> T:
        async def once() -> T:
            opened = self.endpoint(**keys)
            try:
                return await work(opened)
            finally:
                await opened.close()

        return asyncio.run(once())

    def ask(self, **keys: Any) -> Response:
        return self.run(lambda opened: opened.send(QUESTION), **keys)

    def fails(self, **keys: Any) -> IclError:
        """What asking once ends in: one clear line, without the key."""
        with pytest.raises((EndpointError, RequestError)) as found:
            self.ask(**keys)
        shown = str(found.value)
        assert SECRET not in shown
        assert "\n" not in shown
        assert len(shown) < 500
        assert isinstance(found.value, IclError)
        return found.value


@pytest.fixture(params=list(PROVIDERS))
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        server: Any = stack.enter_context(MessagesApi() if request.param == "anthropic" else StandIn())
        yield Api(request.param, server)


BUSY, BROKEN, PAID = (True, False), (False, False), (False, True)
"""Whether there is too much to do, and whether it may have been paid for."""

AGAIN: dict[str, tuple[Fault, tuple[bool, bool], float | None]] = {
    "402, too much is in flight": (refusal(402, retry_after="0.1"), BUSY, 0.1),
    "408": (refusal(408), BUSY, None),
    "409": (refusal(409), BROKEN, None),
    "425": (refusal(425), BROKEN, None),
    "429": (refusal(429), BUSY, None),
    "429, Retry-After": (refusal(429, retry_after="0.1"), BUSY, 0.1),
    "429, Retry-After in ms": (refusal(429, retry_after="60", retry_after_ms="100"), BUSY, 0.1),
    "429, words": (refusal(429, "Quota of tokens per min (TPM) reached. Please try again in 100ms."), BUSY, 0.1),
    "429, RetryInfo": (Fault(429, b'[{"error": {"details": [{"retryDelay": "0.1s"}]}}]'), BUSY, 0.1),
    "429, reset": (
        refusal(429, x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="100ms"),
        BUSY,
        0.1,
    ),
    "500": (refusal(500), BROKEN, None),
    "502": (refusal(502), BROKEN, None),
    "502 in HTML": (Fault(502, b"<html>\nBad Gateway</html>", content_type="text/html"), BROKEN, None),
    "503": (refusal(503), BUSY, None),
    "503, Retry-After": (refusal(503, retry_after="0.1"), BUSY, 0.1),
    "504": (refusal(504), BUSY, None),
    "524": (refusal(524), BUSY, None),
    "529": (refusal(529), BUSY, None),
    "reset": (Fault(reset=True), PAID, None),
    "a body cut off": (Fault(200, b'{"choices": [], "content": []}', cut=9), PAID, None),
    "truncated JSON": (Fault(200, b'{"choices": [{"message": {"con'), PAID, None),
    "HTML": (Fault(200, f"<html>\n{SECRET}</html>".encode(), content_type="text/html"), PAID, None),
    "HTML that calls itself JSON": (Fault(200, b"<html>\nbusy</html>"), PAID, None),
    "empty": (Fault(200, b""), PAID, None),
    "no choices": (Fault(200, b'{"choices": []}'), PAID, None),
    "a null for an error": (Fault(200, b'{"error": null}'), PAID, None),
    "null": (Fault(200, b"null"), PAID, None),
    "bytes": (Fault(200, b"\xff\xfe"), PAID, None),
}
"""What may go better next time: what it says, and the wait it asks for."""

ONCE: dict[str, tuple[Fault, type[IclError], str]] = {
    "400": (refusal(400, "too long"), RequestError, "too long"),
    "413": (refusal(413, "too long"), RequestError, "too long"),
    "422": (refusal(422, "too long"), RequestError, "too long"),
    "401": (refusal(401), EndpointError, "refuses the key (model.api_key)"),
    "403": (refusal(403), EndpointError, "refuses the key (model.api_key)"),
    "404": (refusal(404, "model: m not there", "not_found_error"), EndpointError, "has no model 'm' (model.name)"),
    "402": (refusal(402, "Insufficient credits"), EndpointError, "the account may not spend more"),
    "quota": (refusal(429, "You exceeded it", "insufficient_quota"), EndpointError, "the account may not spend more"),
    "hard limit": (
        refusal(400, "Billing hard limit has been reached", "billing_hard_limit_reached"),
        EndpointError,
        "the account may not spend more: HTTP 400: Billing hard limit",
    ),
    "credit": (
        refusal(400, "Your credit balance is too low to access the API."),
        EndpointError,
        "the account may not spend more: HTTP 400: Your credit balance",
    ),
    "a quota of a day": (
        refusal(429, "Limit reached on requests per day (RPD). Please try again in 8.64s.", retry_after="9"),
        EndpointError,
        "a quota is spent, run again once there is more: HTTP 429: Limit reached on requests per day",
    ),
    "Gemini's quota of a day": (
        Fault(429, b'[{"error": {"message": "You exceeded it", "details": [{"quotaId": "RequestsPerDay-FreeTier"}]}}]'),
        EndpointError,
        "a quota is spent, run again once there is more",
    ),
    "a wait of hours": (
        refusal(429, retry_after="7200"),
        EndpointError,
        "it asks to wait 2.0 hours, run again then: HTTP 429: busy",
    ),
    "a 503 of hours": (refusal(503, retry_after="7200"), EndpointError, "it asks to wait 2.0 hours"),
}
"""What never goes better soon: of what kind that is, and what is said."""


@pytest.mark.parametrize(("fault", "means", "wait"), AGAIN.values(), ids=AGAIN)
def test_what_may_pass_says_so(api: Api, fault: Fault, means: tuple[bool, bool], wait: float | None) -> None:
    api.will(fault)
    found = api.fails()
    assert isinstance(found, RequestError)
    assert found.retryable
    assert (found.congested, found.billed) == means
    assert found.retry_after == wait
    assert api.asked == 1, "the SDK does not ask again"


@pytest.mark.parametrize(("fault", "kind", "says"), ONCE.values(), ids=ONCE)
def test_what_does_not_pass_says_why(api: Api, fault: Fault, kind: type[IclError], says: str) -> None:
    api.will(fault)
    found = api.fails()
    assert type(found) is kind
    assert says in str(found)
    if isinstance(found, RequestError):
        assert (found.retryable, found.retry_after, found.congested, found.billed) == (False, None, False, False)
    else:
        assert api.server.url in str(found)
    assert api.asked == 1


def test_an_answer_that_takes_too_long_is_told_and_may_be_paid_for(api: Api) -> None:
    api.will(Fault(200, api.good().body, latency=1.0))
    found = api.fails(timeout=0.2)
    assert isinstance(found, RequestError)
    assert (found.retryable, found.congested, found.billed) == (True, True, True)


def test_where_nobody_listens_nothing_is_paid_for(api: Api) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = api.fails(base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert isinstance(found, RequestError)
    assert (found.retryable, found.congested, found.billed) == (True, False, False)


def test_a_prompt_that_is_no_unicode_is_not_sent(api: Api) -> None:
    request = Request((Message("user", "a \ud800 b"),), Generate())
    with pytest.raises(RequestError, match="the prompt cannot be sent") as found:
        api.run(lambda opened: opened.send(request))
    assert (found.value.retryable, found.value.billed, api.asked) == (False, False, 0)


# -- pauses


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m2.5s"}, 62.5),
        ({"X_RateLimit_Remaining_Tokens": "0", "X_RateLimit_Reset_Tokens": "120ms"}, 0.12),
        ({"X_RateLimit_Remaining_Tokens": "1", "X_RateLimit_Reset_Tokens": "120ms"}, 0.0),
        ({"RateLimit_Remaining": "0", "RateLimit_Reset": "30"}, 30.0),
    ],
)
def test_a_good_answer_may_ask_for_a_pause(api: Api, headers: dict[str, str], expected: float) -> None:
    api.will(api.good(**headers))
    found = api.ask()
    assert (found.text, found.pause) == ("positive", expected)


def test_a_pause_may_end_at_a_date(api: Api) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=20)).isoformat()
    name = "anthropic_ratelimit_input_tokens"
    api.will(api.good(**{f"{name}_remaining": "0", f"{name}_reset": until}))
    assert api.ask().pause == pytest.approx(20, abs=2)


# -- an SDK's own names for what goes wrong


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for found in kind.__subclasses__():
        yield found
        yield from below(found)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_every_failure_of_the_clients_is_decided(name: str) -> None:
    library = pytest.importorskip(name)  # which of them depends on the version of the SDK
    kinds = {kind.__name__: kind for kind in below(library.TransportError)}
    assert kinds.keys() >= UNSENT
    for name, kind in kinds.items():
        error = openai.APIConnectionError(request=library.Request("POST", "http://h"))
        error.__cause__ = kind(SECRET)
        found = lost(error, "http://h/v1")
        assert str(found) == f"no answer from http://h/v1 ({name})"
        assert found.retryable
        assert found.congested == ("Timeout" in name)
        assert found.billed == (name not in UNSENT)


# -- through the driver


def question() -> Generator[Sequence[Request], Sequence[Response], str]:
    (answer,) = yield [QUESTION]
    return answer.text


def drive(api: Api) -> tuple[str, int]:
    """The answer, and how often the driver asked again."""
    from icl_engine.driver.driver import Driver

    async def once() -> tuple[str, int]:
        driver = Driver(api.endpoint())
        try:
            text, _ = await driver.drive(question())
            return text, driver.counts.retries
        finally:
            await driver.close()

    return asyncio.run(once())


@pytest.mark.parametrize("fault", [fault for fault, *_ in AGAIN.values()], ids=AGAIN)
def test_what_may_pass_is_asked_again_and_answered(api: Api, fault: Fault) -> None:
    api.will(fault)
    assert drive(api) == ("positive", 1)
    assert api.asked == 2
    counted = [headers.get("x-stainless-retry-count", "0") for headers in api.server.headers]
    assert set(counted) == {"0"}, "the SDK does not ask again"


@pytest.mark.parametrize(("fault", "kind"), [(fault, kind) for fault, kind, _ in ONCE.values()], ids=ONCE)
def test_what_does_not_pass_is_asked_once(api: Api, fault: Fault, kind: type[IclError]) -> None:
    api.will(fault)
    with pytest.raises(kind) as found:
        drive(api)
    assert SECRET not in str(found.value)
    assert api.asked == 1
