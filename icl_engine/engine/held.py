"""What is done out of order, until those before it are: a few in memory, the others on disk."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Generic, TypeVar

from icl_engine.engine.journal import unwritable

R = TypeVar("R")

NEAR = 2048
"""Results held in memory."""

TEMPORARY = "the folder for temporary files (TMPDIR)"


@contextmanager
def spool() -> Iterator[IO[bytes]]:
    """A file without a name: its space is given back however the process ends.

    Raises:
        StorageError: it cannot be made.
    """
    with unwritable(TEMPORARY):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - what it says at its end is not asked
    try:
        yield file
    finally:
        with suppress(OSError):  # what is still to be written when there is no room
            file.close()


class Held(Generic[R]):
    """Results by their number, taken out in order.

    One slow answer must not hold back all others, nor have memory fill up with them: beyond the first few they wait
    in a file that has no name.

    >>> held: Held[str] = Held()
    >>> held.put(1, "b"); held.put(0, "a")
    >>> [*held.due()], len(held)
    (['a', 'b'], 0)
    """

    def __init__(self) -> None:
        self.next = 0
        """The number that is due."""
        self._near: dict[int, R] = {}
        self._far: dict[int, tuple[int, int]] = {}
        self._space = ExitStack()
        self._file: IO[bytes] | None = None
        self._end = 0

    def put(self, number: int, result: R) -> None:
        """Keep a result."""
        if number == self.next or len(self._near) < NEAR:
            self._near[number] = result
            return
        if self._file is None:
            self._file, self._end = self._space.enter_context(spool()), 0
        packed = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        with unwritable(TEMPORARY):
            self._file.seek(self._end)
            self._file.write(packed)
            self._file.flush()
        self._far[number] = (self._end, len(packed))
        self._end += len(packed)

    def due(self) -> Iterator[R]:
        """The results whose turn it is."""
        while True:
            if self.next in self._near:
                result = self._near.pop(self.next)
            elif self.next in self._far:
                result = self._read(*self._far.pop(self.next))
            else:
                return
            self.next += 1
            yield result

    def _read(self, at: int, size: int) -> R:
        assert self._file is not None
        self._file.seek(at)
        result: R = pickle.loads(self._file.read(size))  # noqa: S301 - written above, in a file nobody else can open
        if not self._far:
            self.close()
        return result

    def close(self) -> None:
        """Give the file's space back."""
        self._space.close()
        self._file = None

    def __len__(self) -> int:
        return len(self._near) + len(self._far)
