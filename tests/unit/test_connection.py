"""The fast wire against a raw server: what it sends, and what it means where no whole answer comes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from icl_engine.errors import EndpointError, RequestError
from icl_engine.models.connection import Answer, Connection

SECRET = "sk-secret-0123"
Writer = asyncio.StreamWriter
Act = Callable[["Raw", Writer], Awaitable[None]]


@dataclass
class Raw:
    """A server that does as it is told with every request.

    Args:
        act: what to do once a request has been read.
        requests: their first lines.
        headers: theirs.
        bodies: theirs.
        connections: how many were made.
    """

    act: Act
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")[:-2]
                named = (line.split(": ", 1) for line in lines)
                headers = {name.lower(): value for name, value in named}
                self.requests.append(first)
                self.headers.append(headers)
                self.bodies.append(await reader.readexactly(int(headers.get("content-length", 0))))
                await self.act(self, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def written(content: bytes, *, status: str = "200 OK", length: int | None = None, headers: str = "") -> Act:
    """Answer; the length may be a lie."""

    async def act(raw: Raw, writer: Writer) -> None:
        size = len(content) if length is None else length
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + content)
        await writer.drain()
        if length is not None:
            writer.close()

    return act


async def hang(raw: Raw, writer: Writer) -> None:
    await asyncio.sleep(30)


async def trickle(raw: Raw, writer: Writer) -> None:
    """A byte now and then: never silent, never done."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def reset(raw: Raw, writer: Writer) -> None:
    writer.transport.abort()


async def end(raw: Raw, writer: Writer) -> None:
    writer.close()


async def babble(raw: Raw, writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    writer.close()


def asked(
    raw: Raw,
    ask: Callable[[Connection, str], Awaitable[Any]],
    *,
    key: str | None = SECRET,
    timeout: float = 10.0,
    host: str = "127.0.0.1",
) -> Any:
    """What comes of asking the server."""

    async def scenario() -> Any:
        server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
        url = f"http://{host}:{server.sockets[0].getsockname()[1]}/v1"
        connection = Connection(url, key, timeout)
        try:
            return await ask(connection, url)
        finally:
            await connection.close()
            server.close()

    return asyncio.run(scenario())


async def post(connection: Connection, url: str) -> Answer:
    return await connection.post(f"{url}/completions", b'{"prompt": "2 + 2 ="}')


def failed(act: Act, **how: Any) -> RequestError:
    """The error of one POST; it never shows the key."""
    with pytest.raises(RequestError) as told:
        asked(Raw(act), post, **how)
    error = told.value
    shown = [str(e) + repr(e) for e in (error, error.__cause__, error.__context__) if e is not None]
    assert SECRET not in "".join(shown)
    assert "\n" not in str(error)
    return error


def test_a_post_and_its_answer() -> None:
    raw = Raw(written(b'{"a": 1}', headers="X-RateLimit-Remaining-Tokens: 7\r\n"))
    answer = asked(raw, post)
    assert (answer.status, answer.content) == (200, b'{"a": 1}')
    assert answer.headers["x-ratelimit-remaining-tokens"] == "7"
    assert raw.requests == ["POST /v1/completions HTTP/1.1"]
    assert raw.bodies == [b'{"prompt": "2 + 2 ="}']
    assert raw.headers[0]["content-type"] == "application/json"
    assert raw.headers[0]["authorization"] == f"Bearer {SECRET}"


def test_no_key_is_no_header() -> None:
    raw = Raw(written(b"{}"))
    asked(raw, post, key=None)
    assert "authorization" not in raw.headers[0]


def test_connections_are_kept_open_between_requests() -> None:
    raw = Raw(written(b"{}"))

    async def many(connection: Connection, url: str) -> None:
        for _ in range(5):
            await asyncio.gather(*(post(connection, url) for _ in range(3)))

    asked(raw, many)
    assert len(raw.requests) == 15
    assert raw.connections == 3


def test_as_many_connections_as_are_asked_for_at_once() -> None:
    gathered = asyncio.Event()

    async def together(raw: Raw, writer: Writer) -> None:
        if len(raw.requests) == 150:
            gathered.set()
        await asyncio.wait_for(gathered.wait(), 20)
        await written(b"{}")(raw, writer)

    async def many(connection: Connection, url: str) -> None:
        await asyncio.gather(*(post(connection, url) for _ in range(150)))

    raw = Raw(together)
    asked(raw, many, timeout=30)
    assert raw.connections == 150


@pytest.mark.parametrize("act", [written(b'{"a": 1', length=900), written(b"", length=3)], ids=["some", "none"])
def test_a_body_that_ends_too_soon(act: Act) -> None:
    error = failed(act)
    assert "the connection was cut" in str(error)
    assert (error.retryable, error.billed, error.congested) == (True, True, False)


@pytest.mark.parametrize(
    "act",
    [
        reset,
        end,
        babble,
    ],
    ids=["reset", "closed", "another protocol"],
)
def test_no_answer_before_the_connection_ends(act: Act) -> None:
    error = failed(act)
    assert "the connection was cut" in str(error)
    assert (error.retryable, error.billed, error.congested) == (True, True, False)


@pytest.mark.parametrize("act", [hang, trickle], ids=["silent", "never done"])
def test_no_answer_in_time(act: Act) -> None:
    error = failed(act, timeout=0.3)
    assert str(error) == "no answer within 0.3 s (model.timeout)"
    assert (error.retryable, error.billed, error.congested) == (True, True, True)


async def posted(url: str) -> None:
    """Ask a server by a connection of its own."""
    connection = Connection(url, SECRET, 5.0)
    try:
        await post(connection, url)
    finally:
        await connection.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RequestError, match=r"no connection to 127\.0\.0\.1:") as told:
        asyncio.run(posted(f"http://127.0.0.1:{port}/v1"))
    error = told.value
    assert SECRET not in str(error)
    assert (error.retryable, error.billed, error.congested) == (True, False, False)


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(RequestError, match=r"no connection to nobody\.invalid") as told:
        asyncio.run(posted("http://nobody.invalid/v1"))
    assert (told.value.retryable, told.value.billed) == (True, False)


def test_a_redirect_is_not_followed() -> None:
    raw = Raw(written(b"moved", status="307 Temporary Redirect", headers="Location: /v2/completions\r\n"))
    answer = asked(raw, post)
    assert (answer.status, answer.content) == (307, b"moved")
    assert raw.requests == ["POST /v1/completions HTTP/1.1"]


def test_no_cookie_is_kept() -> None:
    raw = Raw(written(b"{}", headers="Set-Cookie: session=7; Path=/\r\n"))

    async def twice(connection: Connection, url: str) -> None:
        await post(connection, url)
        await post(connection, url)

    asked(raw, twice, host="localhost")
    assert [headers.get("cookie") for headers in raw.headers] == [None, None]


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the environment's proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(name: str, value: str = "") -> None:
        monkeypatch.setenv(name, value)

    return put


Put = Callable[..., None]


def through(put: Put, variable: str, *, bypass: str | None = None, credentials: str = "") -> Raw:
    """A server that is asked for another's address, where that address is behind a proxy."""
    raw = Raw(written(b"{}"))

    async def ask(connection: Connection, url: str) -> None:
        put(variable, url.removesuffix("/v1").replace("//", f"//{credentials}"))
        if bypass is not None:
            put("no_proxy", bypass)
        other = Connection("http://model.invalid:8000/v1", SECRET, 5.0)
        try:
            await post(other, "http://model.invalid:8000/v1")
        finally:
            await other.close()

    asked(raw, ask)
    return raw


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_the_environments_proxy_is_used(variable: str, proxy: Put) -> None:
    raw = through(proxy, variable)
    assert raw.requests == ["POST http://model.invalid:8000/v1/completions HTTP/1.1"]
    assert raw.headers[0]["host"] == "model.invalid:8000"


def test_a_proxy_gets_its_own_credentials(proxy: Put) -> None:
    raw = through(proxy, "http_proxy", credentials="user:pass@")
    assert raw.headers[0]["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert raw.headers[0]["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("bypass", ["model.invalid", ".invalid", "*"])
def test_what_the_environment_says_needs_no_proxy_gets_none(bypass: str, proxy: Put) -> None:
    with pytest.raises(RequestError, match=r"no connection to model\.invalid:8000"):
        through(proxy, "http_proxy", bypass=bypass)


def test_another_schemes_proxy_is_not_used(proxy: Put) -> None:
    with pytest.raises(RequestError, match=r"no connection to model\.invalid:8000"):
        through(proxy, "https_proxy")


def test_a_proxy_that_is_not_there_is_told_as_such(proxy: Put) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    proxy("http_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")

    with pytest.raises(RequestError, match="no connection") as told:
        asyncio.run(posted("http://model.invalid/v1"))
    assert SECRET not in str(told.value)
    assert not told.value.billed


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:9", "socks5h://u:p@127.0.0.1:9"])
def test_a_proxy_of_another_kind_is_told(address: str, proxy: Put) -> None:
    proxy("all_proxy", address)

    with pytest.raises(EndpointError, match=r"proxy for model\.invalid is of kind socks5h?, not http") as told:
        asyncio.run(posted("http://model.invalid/v1"))
    assert "u:p" not in str(told.value)


def test_close_may_come_first_and_twice() -> None:
    async def scenario() -> None:
        connection = Connection("http://127.0.0.1:9/v1", None, 5.0)
        await connection.close()
        await connection.close()

    asyncio.run(scenario())
