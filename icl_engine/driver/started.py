"""A request generator under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from icl_engine.errors import RequestError
from icl_engine.protocols import Steps
from icl_engine.types import Request, Response

T = TypeVar("T")


class Started(Generic[T]):
    """A request generator at its first requests, so that queries can be ordered before they are sent."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._result: list[T] = []
        self.first = self._advance(lambda: next(steps))

    def send(self, responses: Sequence[Response]) -> Sequence[Request] | None:
        """The next requests; None at the end."""
        return self._advance(lambda: self._steps.send(responses))

    def throw(self, error: RequestError) -> Sequence[Request] | None:
        """Tell the generator that its requests got no answer: its next requests, or the error again."""
        return self._advance(lambda: self._steps.throw(error))

    def _advance(self, step: Callable[[], Sequence[Request]]) -> Sequence[Request] | None:
        try:
            return step()
        except StopIteration as end:
            self._result.append(end.value)
            return None

    def result(self) -> T:
        """What the generator returned."""
        return self._result[0]
