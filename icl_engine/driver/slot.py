"""A place among the requests in flight, for several that travel as one."""

from __future__ import annotations

import asyncio

from icl_engine.driver.limiter import Limiter


class Slot:
    """A place among the requests in flight that several have together, since they travel as one.

    All who wait for it go on in the same turn of the event loop, so that they meet again at the endpoint.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter, self._holders, self._congested, self._limited = limiter, 0, False, False
        self._taken: asyncio.Task[int] | None = None

    async def take(self) -> int:
        """Wait for the place; its number."""
        self._holders += 1
        try:
            if self._taken is None:
                self._taken = asyncio.ensure_future(self._limiter.acquire())
            return await asyncio.shield(self._taken)
        except BaseException:
            self.leave()
            raise

    def leave(self, seconds: float | None = None, *, congested: bool = False, limited: bool = False) -> None:
        """Have no more use for it; the last gives it back."""
        self._holders -= 1
        self._congested, self._limited = self._congested or congested, self._limited or limited
        taken = self._taken
        if self._holders or taken is None:
            return
        self._taken = None
        if taken.done() and not taken.cancelled() and taken.exception() is None:
            told = {"congested": self._congested, "limited": self._limited}
            self._limiter.release(seconds, **told, place=taken.result())
        else:
            taken.cancel()
