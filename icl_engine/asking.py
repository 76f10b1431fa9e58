"""Request generators under way: one, several side by side, one that repeats itself."""

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


def side_by_side(several: Sequence[Steps[T]]) -> Steps[list[T]]:
    """The results of several generators, in their order; what they ask in a round is asked as one batch.

    Each may take as many rounds as it needs. A request without an answer is told to all that wait: whoever knows
    another way goes on, and if one does not, none does.
    """
    started = [Started(steps) for steps in several]
    waiting = [(s, s.first) for s in started if s.first is not None]
    while waiting:
        try:
            answers = yield [request for _, batch in waiting for request in batch]
        except RequestError as error:
            following = [(s, s.throw(error)) for s, _ in waiting]
        else:
            left = iter(answers)
            following = [(s, s.send([next(left) for _ in batch])) for s, batch in waiting]
        waiting = [(s, batch) for s, batch in following if batch is not None]
    return [s.result() for s in started]


def asked_once(steps: Steps[T]) -> Steps[T]:
    """A generator that is told again what it was told before, where it repeats a request (whosever question it is)."""
    known: dict[str, Response] = {}
    started = Started(steps)
    batch = started.first
    while batch is not None:
        new = {_content(request): request for request in batch if _content(request) not in known}
        if new:
            try:
                answers = yield list(new.values())
            except RequestError as error:
                batch = started.throw(error)
                continue
            known |= zip(new, answers, strict=True)
        batch = started.send([known[_content(request)] for request in batch])
    return started.result()


def _content(request: Request) -> str:
    return repr((request.prompt, request.readout, request.sample))
