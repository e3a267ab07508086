from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.queue import Depth, Queue
from adaptive.rows import Chunk

PATIENCE = 30  # seconds after which a test that hangs fails; never reached when all is well
FOREVER = threading.TIMEOUT_MAX
MAX_BYTES = 1 << 20


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def chunk(first: int, records: int, nbytes: int = 0, accepted: float = 0.0) -> Chunk:
    return Chunk(first, records, [{"n": first + n} for n in range(records)], nbytes=nbytes, accepted=accepted)


def numbers(chunks: list[Chunk] | None) -> list[int]:
    return [row["n"] for part in chunks or () for row in part.rows]


def always(records: int) -> Callable[[Depth], int]:
    return lambda _: records


@contextmanager
def waiting(queue: Queue, call: Callable[[], object]) -> Iterator[Future[object]]:
    """Run a call that has to wait in a thread; the body runs once it waits."""
    parked = threading.Event()
    for condition in (queue._not_empty, queue._not_full):

        def noted(timeout: float | None = None, park: Callable[..., bool] = condition.wait) -> bool:
            parked.set()
            return park(timeout)

        condition.wait = noted
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            assert parked.wait(PATIENCE)
            with queue._lock:  # it is free only when the thread really waits
                pass
            assert not future.done()
            yield future
            future.exception(PATIENCE)
        finally:
            if not future.done():
                queue.fail(TimeoutError())


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 20), st.integers(0, 40))
def test_records_come_out_in_order_each_once(sizes: list[int], wanted: int, nbytes: int) -> None:
    queue = Queue()
    first = 0
    for size in sizes:
        queue.put(chunk(first, size, nbytes * size))
        first += size
    queue.close()
    taken = []
    while (batch := queue.take(always(wanted), 0, MAX_BYTES)) is not None:
        assert 1 <= sum(part.count for part in batch) <= wanted
        taken += numbers(batch)
        assert queue.depth.records == sum(sizes) - len(taken)
    assert taken == list(range(sum(sizes)))
    assert queue.depth == Depth(0, 0, closed=True)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), min_size=1),
    st.integers(1, 20),
    st.integers(1, 200),
)
def test_a_batch_stays_within_bytes_unless_one_record_is_larger(
    sizes: list[tuple[int, int]], wanted: int, most: int
) -> None:
    queue = Queue()
    for size, nbytes in sizes:
        queue.put(chunk(0, size, nbytes))
    queue.close()
    while (batch := queue.take(always(wanted), 0, most)) is not None:
        records = sum(part.count for part in batch)
        assert sum(part.nbytes for part in batch) <= most or records == 1
        depth = queue.depth
        assert depth.nbytes == sum(part.nbytes for part in queue._chunks)
    assert queue.depth.nbytes == 0


def test_the_end_is_none_again_and_again() -> None:
    queue = Queue()
    queue.close()
    assert [queue.take(always(1), 0, MAX_BYTES) for _ in range(2)] == [None, None]


def test_after_close_or_fail_nothing_goes_in() -> None:
    queue = Queue()
    queue.close()
    with pytest.raises(RuntimeError):
        queue.put(chunk(0, 1))
    first, second = ValueError("first"), ValueError("second")
    queue.fail(first)
    queue.fail(second)
    assert queue.error is first
    for call in (
        lambda: queue.put(chunk(0, 1)),
        lambda: queue.offer(chunk(0, 1)),
        lambda: queue.take(always(1), 0, MAX_BYTES),
    ):
        with pytest.raises(ValueError, match="first"):
            call()


@pytest.mark.parametrize("bounds", [{"max_records": 10}, {"max_bytes": 100}])
def test_put_waits_while_the_queue_is_full_and_take_wakes_it(bounds: dict[str, int]) -> None:
    queue = Queue(**bounds)
    queue.put(chunk(0, 10, 100))
    with waiting(queue, lambda: queue.put(chunk(10, 1, 10))) as put:
        assert numbers(queue.take(always(10), 0, MAX_BYTES)) == list(range(10))
        put.result(PATIENCE)
    assert queue.depth == Depth(1, 10, closed=False)


def test_a_chunk_larger_than_the_queue_goes_into_an_empty_one() -> None:
    queue = Queue(max_records=5)
    queue.put(chunk(0, 50))
    assert numbers(queue.take(always(100), FOREVER, MAX_BYTES)) == list(range(50))


def test_offer_does_not_wait() -> None:
    queue = Queue(max_records=1)
    for n in range(3):
        queue.offer(chunk(n, 1))
    assert queue.depth.records == 3


@pytest.mark.parametrize("stop", [Queue.close, lambda queue: queue.fail(ValueError())])
def test_close_and_fail_wake_a_producer(stop: Callable[[Queue], None]) -> None:
    queue = Queue(max_records=1)
    queue.put(chunk(0, 1))
    with waiting(queue, lambda: queue.put(chunk(1, 1))) as put:
        stop(queue)
        assert isinstance(put.exception(PATIENCE), ValueError | RuntimeError)


def test_fail_wakes_a_writer() -> None:
    queue = Queue()
    with waiting(queue, lambda: queue.take(always(1), FOREVER, MAX_BYTES)) as take:
        queue.fail(ValueError())
        assert isinstance(take.exception(PATIENCE), ValueError)


def test_close_gives_a_waiting_writer_the_rest() -> None:
    queue = Queue()
    queue.put(chunk(0, 3))
    with waiting(queue, lambda: queue.take(always(10), FOREVER, MAX_BYTES)) as take:
        queue.close()
        assert numbers(take.result(PATIENCE)) == [0, 1, 2]


def test_take_waits_until_enough_records_are_there() -> None:
    queue = Queue()
    queue.put(chunk(0, 3))
    with waiting(queue, lambda: queue.take(always(5), FOREVER, MAX_BYTES)) as take:
        queue.put(chunk(3, 1))
        with queue._lock:
            assert not take.done()
        queue.put(chunk(4, 3))
        assert numbers(take.result(PATIENCE)) == [0, 1, 2, 3, 4]
    assert queue.depth.records == 2


def test_take_ends_when_enough_bytes_are_there() -> None:
    queue = Queue()
    queue.put(chunk(0, 4, 400))
    assert numbers(queue.take(always(10), FOREVER, 300)) == [0, 1, 2]


def test_take_ends_when_the_queue_is_full() -> None:
    queue = Queue(max_records=4)
    queue.put(chunk(0, 4))
    assert numbers(queue.take(always(10), FOREVER, MAX_BYTES)) == [0, 1, 2, 3]


def test_a_partial_batch_waits_for_linger_since_its_first_record() -> None:
    clock = Clock(100.0)
    queue = Queue(clock=clock)
    queue.put(chunk(0, 1, accepted=100.0))
    linger = 1_000.0
    with waiting(queue, lambda: queue.take(always(10), linger, MAX_BYTES)) as take:
        clock.now = 100.0 + linger - 1
        queue.put(chunk(1, 1, accepted=clock.now))
        with queue._lock:
            assert not take.done()
        clock.now = 100.0 + linger
        queue.wake()
        assert numbers(take.result(PATIENCE)) == [0, 1]


def test_size_is_asked_again_whenever_the_depth_changes() -> None:
    seen: list[Depth] = []
    queue = Queue()

    def size(depth: Depth) -> int:
        seen.append(depth)
        return 2

    queue.put(chunk(0, 1, 7))
    with waiting(queue, lambda: queue.take(size, FOREVER, MAX_BYTES)) as take:
        queue.put(chunk(1, 1, 7))
        take.result(PATIENCE)
    assert seen == [Depth(1, 7, closed=False), Depth(2, 14, closed=False)]


def test_a_size_below_one_takes_one() -> None:
    queue = Queue()
    queue.put(chunk(0, 2))
    assert numbers(queue.take(always(0), FOREVER, MAX_BYTES)) == [0]


def test_pull_feeds_a_writer_that_finds_too_little() -> None:
    collected = [chunk(0, 3)]
    queue = Queue(pull=lambda: queue.offer(collected.pop()) if collected else None)
    assert numbers(queue.take(always(3), FOREVER, MAX_BYTES)) == [0, 1, 2]
    assert not queue.hungry


def test_a_writer_is_hungry_before_it_pulls() -> None:
    """Else a record that comes between its pull and its wait would be seen by neither side."""
    seen: list[bool] = []

    def pull() -> None:
        seen.append(bool(queue.hungry))
        queue.offer(chunk(0, 1))

    queue = Queue(pull=pull)
    queue.take(always(1), FOREVER, MAX_BYTES)
    assert seen == [True]


def test_a_second_writer_stays_hungry_when_the_first_is_fed() -> None:
    queue = Queue()

    def take() -> list[Chunk] | None:
        return queue.take(always(1), FOREVER, MAX_BYTES)

    with waiting(queue, take) as first, waiting(queue, take) as second:
        queue.put(chunk(0, 1))
        wait([first, second], PATIENCE, FIRST_COMPLETED)
        assert queue.hungry == 1
        queue.close()


@pytest.mark.parametrize(("producers", "consumers"), [(1, 1), (4, 1), (1, 4), (4, 4)])
@pytest.mark.parametrize("fill", [True, False])
def test_between_many_threads_nothing_is_lost_or_doubled(producers: int, consumers: int, fill: bool) -> None:
    """A wake-up that got lost would leave a thread waiting for ever: nothing here has a time-out."""
    queue = Queue(max_records=50)
    each = 400

    def produce(number: int) -> None:
        at = number * each
        for size in (1, 2, 3, 4) * (each // 10):
            queue.put(chunk(at, size))
            at += size

    def consume() -> list[int]:
        found: list[int] = []
        size = always(17) if fill else (lambda depth: min(17, depth.records))
        while (batch := queue.take(size, FOREVER, MAX_BYTES)) is not None:
            found += numbers(batch)
        return found

    with ThreadPoolExecutor(producers + consumers) as pool:
        takes = [pool.submit(consume) for _ in range(consumers)]
        puts = [pool.submit(produce, number) for number in range(producers)]
        try:
            for put in puts:
                put.result(PATIENCE)
            queue.close()
            found = [number for take in takes for number in take.result(PATIENCE)]
        finally:
            queue.fail(TimeoutError())
    assert sorted(found) == list(range(producers * each))
