"""A place among the requests in flight, for several that travel as one."""

from __future__ import annotations

import asyncio

from icl_engine.driver.limiter import Limiter


class Slot:
    """A place among the requests in flight that several have together, since they travel as one.

    All who wait for it go on in the same turn of the event loop, so that they meet again at the endpoint.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter, self._holders, self._congested = limiter, 0, False
        self._taken: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Wait for the place."""
        self._holders += 1
        try:
            if self._taken is None:
                self._taken = asyncio.ensure_future(self._limiter.acquire())
            await asyncio.shield(self._taken)
        except BaseException:
            self.leave()
            raise

    def leave(self, seconds: float | None = None, *, congested: bool = False) -> None:
        """Have no more use for it; the last gives it back."""
        self._holders -= 1
        self._congested = self._congested or congested
        taken = self._taken
        if self._holders or taken is None:
            return
        self._taken = None
        if taken.done() and not taken.cancelled():
            self._limiter.release(seconds, congested=self._congested)
        else:
            taken.cancel()
