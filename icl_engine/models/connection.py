"""The fast wire: bytes to an HTTP server and back, and what it means where nothing comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from icl_engine.errors import EndpointError, RequestError, bounded

if TYPE_CHECKING:
    import aiohttp

CONNECT = 10.0
"""Seconds to wait for a connection."""


class Answer(NamedTuple):
    """An HTTP answer: its headers are found in any case."""

    status: int
    content: bytes
    headers: Mapping[str, str]


class Connection:
    """Connections to one server, kept open between requests; made at the first one, in the running event loop.

    aiohttp drives some ten times as many requests a second through one core as httpx does (`benchmarks/throughput.py`).
    Redirects are not followed, since they would carry the key elsewhere.

    Args:
        url: the server's; it decides whether a proxy of the environment is used.
        key: sent as a bearer token.
        timeout: seconds to wait for one answer.
    """

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        self._url, self._key, self._timeout = url, key, timeout
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> Answer:
        """GET a URL; see `post`."""
        return await self._ask("GET", url, None)

    async def post(self, url: str, content: bytes) -> Answer:
        """POST JSON.

        Raises:
            RequestError: no whole answer came.
        """
        return await self._ask("POST", url, content)

    async def _ask(self, method: str, url: str, content: bytes | None) -> Answer:
        session = self._session or self._open()
        try:
            async with session.request(method, url, data=content, allow_redirects=False) as answer:
                return Answer(answer.status, await answer.read(), answer.headers)
        except Exception as error:
            fault = self._fault(error)
        raise fault  # out of reach of the error it comes from, which may hold the request's headers, and so the key

    def _fault(self, error: Exception) -> Exception:
        """What it means that no whole answer came; what is no fault of the network is the error itself."""
        import aiohttp

        name = type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return RequestError(f"no connection to {self._host}: {name}", retryable=True)
        if isinstance(error, TimeoutError):
            what = f"no answer within {self._timeout:g} s (model.timeout)"
            return RequestError(what, retryable=True, congested=True, billed=True)
        if isinstance(error, aiohttp.ClientError | OSError):
            return RequestError(f"the connection was cut: {name}", retryable=True, billed=True)
        return error

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc.rpartition("@")[2]

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(CONNECT, self._timeout)),
            proxy=self._proxy(),
        )
        return self._session

    def _proxy(self) -> str | None:
        """The environment's proxy for this server, looked up once rather than for every request."""
        parts = urlsplit(self._url)
        if proxy_bypass(parts.hostname or ""):
            return None
        found: Mapping[str, str] = getproxies()
        proxy = found.get(parts.scheme) or found.get("all")
        if proxy and not proxy.startswith(("http://", "https://")):
            kind = proxy.partition("://")[0]
            raise EndpointError(f"the environment's proxy for {self._host} is of kind {bounded(kind, 20)}, not http")
        return proxy

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
