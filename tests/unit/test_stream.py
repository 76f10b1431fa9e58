"""Rows as a stream: data order whatever order they arrive in, a straggler that holds nothing back, bounded memory."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.driver.adaptive import START
from icl_engine.driver.driver import Driver
from icl_engine.engine import held as holding
from icl_engine.engine import keyset
from icl_engine.engine import stream as streaming
from icl_engine.engine.held import Held
from icl_engine.engine.keyset import KeySet
from icl_engine.engine.stream import WINDOW, Stream
from icl_engine.errors import EndpointError, RequestError, StorageError
from icl_engine.protocols import Steps
from icl_engine.types import Capabilities, Exchange, Generate, Request, Response

# -- what is done out of order


@given(order=st.integers(0, 40).flatmap(lambda n: st.permutations(range(n))), near=st.integers(0, 8))
@settings(max_examples=200, deadline=None)
def test_results_come_out_in_order_whatever_order_they_come_in(order: list[int], near: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "NEAR", near)
        held: Held[str] = Held()
        taken: list[str] = []
        for count, number in enumerate(order, 1):
            held.put(number, f"result {number}")
            taken += held.due()
            there = set(order[:count])
            ready = next(i for i in range(len(order) + 1) if i not in there)
            assert taken == [f"result {i}" for i in range(ready)]
            assert (held.next, len(held)) == (ready, count - ready)
        assert held._file is None, "nothing waits, so no space is taken"
        held.close()


def test_beyond_the_first_few_results_wait_on_disk() -> None:
    held: Held[bytes] = Held()
    count = holding.NEAR + 500
    for number in range(count - 1, 0, -1):
        held.put(number, number.to_bytes(4, "big") * 64)
    assert len(held) == count - 1
    assert len(held._near) == holding.NEAR
    assert held._file is not None
    assert list(held.due()) == []
    held.put(0, b"first")
    assert list(held.due()) == [b"first", *(n.to_bytes(4, "big") * 64 for n in range(1, count))]
    assert len(held) == 0


def test_what_is_held_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(holding, "NEAR", 1)
    held: Held[str] = Held()
    for number in (3, 2, 1):
        held.put(number, "x")
    assert list(tmp_path.iterdir()) == [], "a killed process leaves nothing there"
    held.close()


@pytest.mark.parametrize("size", [10, 100_000], ids=["in a buffer", "at once"])
def test_a_full_disk_under_what_is_held_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("r+b"))  # noqa: SIM115
    monkeypatch.setattr(holding, "NEAR", 0)
    held: Held[str] = Held()
    with pytest.raises(StorageError, match="No space left on device") as told:
        held.put(1, "x" * size)
    assert "\n" not in str(told.value)
    held.close()


def test_no_folder_for_what_is_held_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryFile", none)
    monkeypatch.setattr(holding, "NEAR", 0)
    held: Held[str] = Held()
    with pytest.raises(StorageError, match="No usable temporary directory"):
        held.put(1, "x")
    held.close()


# -- keys that were seen


@given(keys=st.lists(st.integers(0, 60)), recent=st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_a_set_of_keys_answers_as_a_set_does(keys: list[int], recent: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyset, "RECENT", recent)
        seen, packed = set(), KeySet()
        for number in keys:
            # High bits and low bits: the first 64 of a key, as a signed number would get them wrong.
            key = f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}" + "0" * 48
            assert packed.add(key) is (key not in seen)
            seen.add(key)
            assert len(packed) == len(seen)


# -- the stream


class Scripted:
    """Answers each prompt with itself, when its gate opens; those in `fails` get an error."""

    identity = "scripted"
    uncertain: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.capabilities = Capabilities()
        self.gates: dict[str, asyncio.Event] = {}
        self.fails: dict[str, Exception] = {}
        self.sent: list[str] = []
        self.answered: list[str] = []
        self.now = self.peak = 0

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def send(self, request: Request) -> Response:
        prompt = str(request.prompt)
        self.sent.append(prompt)
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await (self.gates[prompt].wait() if prompt in self.gates else asyncio.sleep(0))
        finally:
            self.now -= 1
        if prompt in self.fails:
            raise self.fails[prompt]
        self.answered.append(prompt)
        return Response(prompt)


def name(row: int) -> str:
    return f"row {row:06}"


def steps(row: int) -> Steps[str]:
    (answer,) = yield [Request(name(row), Generate())]
    return answer.text


class Kept:
    """What a stream made and emitted."""

    def __init__(
        self,
        endpoint: Scripted,
        concurrency: int = 4,
        steps: Callable[[int], Steps[str]] = steps,
        stopping: Callable[[], bool] = lambda: False,
        refuse: int | None = None,
        patience: float = 0.0,
    ) -> None:
        self.made: list[int] = []
        self.emitted: list[tuple[int, str]] = []
        self.reports: list[int] = []
        self.rendered: list[int] = []
        self.refuse = refuse
        driver = self.driver = Driver(endpoint, concurrency=concurrency, patience=patience)
        self.stream: Stream[int, str, tuple[int, str]] = Stream(
            driver, self._steps(steps), self._make, self._emit, stopping, self.reports.append
        )

    def _steps(self, steps: Callable[[int], Steps[str]]) -> Callable[[int], Steps[str]]:
        def begin(row: int) -> Steps[str]:
            self.rendered.append(row)
            return steps(row)

        return begin

    def _make(self, number: int, row: int, result: str | RequestError, _: tuple[Exchange, ...]) -> tuple[int, str]:
        self.made.append(number)
        return number, result if isinstance(result, str) else f"failed: {result}"

    def _emit(self, kept: tuple[int, str]) -> None:
        if kept[0] == self.refuse:
            raise StorageError("the disk is full")
        self.emitted.append(kept)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


def test_rows_come_out_in_data_order_and_failed_ones_have_their_place() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        endpoint.fails[name(5)] = RequestError("refused")
        kept = Kept(endpoint)
        assert await kept.stream.run(iter(range(600))) == 600
        assert kept.emitted == [(i, "failed: refused" if i == 5 else name(i)) for i in range(600)]
        assert kept.reports == list(range(1, 601))
        assert endpoint.peak == 4

    asyncio.run(scenario())


def test_no_rows_are_no_mistake() -> None:
    async def scenario() -> None:
        assert await Kept(Scripted()).stream.run(iter(())) == 0

    asyncio.run(scenario())


def test_a_straggler_holds_nothing_back() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        gate = endpoint.gates[name(0)] = asyncio.Event()
        kept = Kept(endpoint)
        rows = 3 * holding.NEAR
        running = asyncio.ensure_future(kept.stream.run(iter(range(rows))))
        await until(lambda: len(endpoint.answered) == rows - 1)
        assert kept.emitted == []
        assert kept.reports[-1] == rows - 1, "those that are done are told of"
        gate.set()
        assert await running == rows
        assert kept.emitted == [(i, name(i)) for i in range(rows)]

    asyncio.run(scenario())


def test_what_is_done_ahead_of_a_straggler_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "AHEAD", 700)

    async def scenario() -> None:
        endpoint = Scripted()
        gate = endpoint.gates[name(0)] = asyncio.Event()
        kept = Kept(endpoint)
        running = asyncio.ensure_future(kept.stream.run(iter(range(5000))))
        await until(lambda: len(endpoint.answered) >= 700)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(endpoint.answered) <= 700 + WINDOW
        assert len(kept.rendered) <= 700 + 2 * WINDOW
        gate.set()
        assert await running == 5000
        assert [i for i, _ in kept.emitted] == list(range(5000))

    asyncio.run(scenario())


def test_rows_are_read_no_further_ahead_than_a_window() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        for row in range(5000):
            endpoint.gates[name(row)] = asyncio.Event()
        kept = Kept(endpoint, concurrency=8)
        running = asyncio.ensure_future(kept.stream.run(iter(range(5000))))
        await until(lambda: endpoint.now == 8)
        assert len(kept.rendered) == WINDOW
        for row in range(WINDOW - 8):
            endpoint.gates[name(row)].set()
        await until(lambda: len(endpoint.answered) == WINDOW - 8)
        assert len(kept.rendered) <= 2 * WINDOW
        for gate in endpoint.gates.values():
            gate.set()
        assert await running == 5000

    asyncio.run(scenario())


def test_within_a_window_equal_beginnings_travel_together() -> None:
    def steps(row: int) -> Steps[str]:
        (answer,) = yield [Request(f"{'ab'[row % 2]} {row:04}", Generate())]
        return answer.text

    async def scenario() -> None:
        endpoint = Scripted()
        kept = Kept(endpoint, concurrency=1, steps=steps)
        await kept.stream.run(iter(range(WINDOW)))
        assert endpoint.sent == sorted(endpoint.sent)
        assert [i for i, _ in kept.emitted] == list(range(WINDOW))

    asyncio.run(scenario())


def test_what_cannot_be_written_ends_the_stream_once_those_in_flight_are_home() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        gates = {row: endpoint.gates.setdefault(name(row), asyncio.Event()) for row in (11, 12)}
        kept = Kept(endpoint, refuse=10)
        running = asyncio.ensure_future(kept.stream.run(iter(range(1000))))
        await until(lambda: endpoint.now == 2 and 10 in kept.made)
        for _ in range(50):
            await asyncio.sleep(0)
        sent = len(endpoint.sent)
        assert sent < 20
        assert not running.done()
        gates[12].set()
        gates[11].set()
        with pytest.raises(StorageError, match="disk is full"):
            await running
        assert [i for i, _ in kept.emitted] == list(range(10)), "nothing after it is written"
        assert {11, 12} <= set(kept.made)
        assert len(endpoint.answered) == len(endpoint.sent) == sent

    asyncio.run(scenario())


def test_a_model_that_cannot_be_used_ends_the_stream_once_those_in_flight_are_home() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        endpoint.fails[name(6)] = EndpointError("the key is refused")
        gate = endpoint.gates[name(7)] = asyncio.Event()
        kept = Kept(endpoint)
        running = asyncio.ensure_future(kept.stream.run(iter(range(1000))))
        await until(lambda: name(6) in endpoint.sent and name(7) in endpoint.sent)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()
        gate.set()
        with pytest.raises(EndpointError, match="key is refused"):
            await running
        assert 7 in kept.made
        assert len(endpoint.sent) < 20

    asyncio.run(scenario())


def test_a_row_that_cannot_be_read_ends_the_stream() -> None:
    def rows() -> Iterator[int]:
        yield from range(300)
        raise OSError(errno.EIO, "the data is gone")

    async def scenario() -> None:
        kept = Kept(Scripted())
        with pytest.raises(OSError, match="the data is gone"):
            await kept.stream.run(rows())
        assert [i for i, _ in kept.emitted] == list(range(len(kept.emitted)))

    asyncio.run(scenario())


def test_a_stream_that_is_stopped_begins_nothing_and_loses_nothing() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        stop = False
        gates = [endpoint.gates.setdefault(name(row), asyncio.Event()) for row in range(40, 44)]
        kept = Kept(endpoint, stopping=lambda: stop)
        running = asyncio.ensure_future(kept.stream.run(iter(range(1000))))
        await until(lambda: len(endpoint.sent) == 44 and endpoint.now == 4)  # those behind the gates
        stop = True
        for gate in gates:
            gate.set()
        assert await running == 44
        assert kept.emitted == [(i, name(i)) for i in range(44)]
        assert len(endpoint.sent) == 44

    asyncio.run(scenario())


def test_a_stream_that_is_stopped_sends_nothing_that_waits() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        endpoint.gates = {name(row): asyncio.Event() for row in range(1000)}
        kept = Kept(endpoint, concurrency=100)
        running = asyncio.ensure_future(kept.stream.run(iter(range(1000))))
        await until(lambda: endpoint.now == START)
        kept.driver.stop()
        for gate in endpoint.gates.values():
            gate.set()
        assert await running == START
        assert len(endpoint.sent) == START

    asyncio.run(scenario())


def test_a_stream_that_is_stopped_far_ahead_of_a_straggler_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left to wait for the straggler's turn: it is never sent."""
    monkeypatch.setattr(streaming, "AHEAD", 50)

    async def scenario() -> None:
        endpoint = Scripted()
        endpoint.fails[name(0)] = RequestError("busy", retryable=True)
        kept = Kept(endpoint, patience=60)
        running = asyncio.ensure_future(kept.stream.run(iter(range(5000))))
        await until(lambda: len(endpoint.answered) == WINDOW - 1)
        await asyncio.sleep(0.01)
        kept.driver.stop()
        async with asyncio.timeout(10):
            assert await running == 0

    asyncio.run(scenario())


def test_a_stream_that_is_cancelled_leaves_no_task() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        endpoint.gates = {name(row): asyncio.Event() for row in range(100)}
        kept = Kept(endpoint)
        running = asyncio.ensure_future(kept.stream.run(iter(range(100))))
        await until(lambda: endpoint.now == 4)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert endpoint.now == 0

    asyncio.run(scenario())


def test_equal_rows_are_each_emitted() -> None:
    async def scenario() -> None:
        endpoint = Scripted()
        kept = Kept(endpoint, steps=lambda _: steps(7))
        assert await kept.stream.run(iter(range(50))) == 50
        assert [i for i, _ in kept.emitted] == list(range(50))
        assert Counter(text for _, text in kept.emitted) == {name(7): 50}

    asyncio.run(scenario())
