from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive import limits
from adaptive.batching import Adaptive, Batcher, Fixed, Tiers
from adaptive.queue import Depth, Queue
from adaptive.rows import Chunk

FOREVER = threading.TIMEOUT_MAX


def depth(records: int, *, closed: bool = False) -> Depth:
    return Depth(records, 0, closed)


def filled(records: int, *, nbytes: int = 0, **bounds: int) -> Queue:
    queue = Queue(**bounds)
    queue.put(Chunk(0, records, [{"n": n} for n in range(records)], nbytes=nbytes))
    return queue


@pytest.mark.parametrize(
    ("records", "name", "size"),
    [
        (0, "single", 1), (1, "single", 1), (99, "single", 1),
        (100, "small", 100), (101, "small", 100), (999, "small", 100),
        (1_000, "medium", 500), (1_001, "medium", 500), (9_999, "medium", 500), (10_000, "medium", 500),
        (10_001, "large", 1_000), (1_000_000, "large", 1_000),
    ],
)  # fmt: skip
def test_tiers_follow_the_requirement_literally(records: int, name: str, size: int) -> None:
    assert Tiers().name(records) == name
    assert Tiers().size(depth(records)) == size


def test_thresholds_and_sizes_of_the_tiers_can_be_set() -> None:
    tiers = Tiers(small_from=2, medium_from=4, large_above=6, small=10, medium=20, large=30)
    assert [tiers.size(depth(records)) for records in (1, 2, 3, 4, 6, 7)] == [1, 10, 10, 20, 20, 30]


@given(st.integers(1, 10**7))
def test_a_tier_never_asks_for_more_than_waits(records: int) -> None:
    assert 1 <= Tiers().size(depth(records)) <= records


@given(st.integers(0, 10**7), st.booleans(), st.integers(1, 10**6))
def test_fixed_is_fixed(records: int, closed: bool, size: int) -> None:
    assert Fixed(size).size(depth(records, closed=closed)) == size


@given(st.integers(1, 10**6), st.booleans(), st.integers(1, 10**5))
def test_adaptive_is_its_limit(records: int, closed: bool, rows: int) -> None:
    assert Adaptive(limits.Fixed(rows)).size(depth(records, closed=closed)) == rows


@pytest.mark.parametrize("records", [1, 99, 100, 5_000, 20_000])
def test_adaptive_takes_the_rest_of_a_file_as_one_batch(records: int) -> None:
    queue = filled(records)
    queue.close()
    batcher = Batcher(queue, Adaptive(limits.Fixed(20_000)), linger=FOREVER)
    batch = batcher.next()
    assert batch is not None
    assert len(batch) == records
    assert batcher.next() is None


@pytest.mark.parametrize("records", [1, 99, 100, 5_000, 20_000])
def test_adaptive_takes_what_waits_of_a_stream(records: int) -> None:
    batcher = Batcher(filled(records), Adaptive(limits.Fixed(20_000)), linger=0.0)
    batch = batcher.next()
    assert batch is not None
    assert len(batch) == records


def test_a_batcher_cuts_batches_by_the_policy_and_the_rest_at_the_end() -> None:
    queue = filled(25)
    queue.close()
    batcher = Batcher(queue, Fixed(10), linger=FOREVER)
    sizes = [len(batch) for batch in iter(batcher.next, None)]
    assert sizes == [10, 10, 5]


def test_a_batch_stays_within_the_sinks_records() -> None:
    batcher = Batcher(filled(25), Fixed(10), linger=FOREVER, max_records=4)
    assert len(batcher.next() or ()) == 4


def test_a_batch_stays_within_the_sinks_bytes() -> None:
    batcher = Batcher(filled(25, nbytes=2_500), Fixed(20), linger=FOREVER, max_bytes=350)
    assert len(batcher.next() or ()) == 3


def test_a_batch_stays_within_a_quarter_of_the_queues_bytes() -> None:
    batcher = Batcher(filled(25, nbytes=2_500, max_bytes=2_000), Fixed(20), linger=FOREVER, max_bytes=9_999)
    assert len(batcher.next() or ()) == 5


def test_a_size_beyond_the_queue_is_cut_to_it() -> None:
    batcher = Batcher(filled(5, max_records=5), Fixed(100), linger=FOREVER)
    assert len(batcher.next() or ()) == 5


def test_in_a_hurry_what_is_there_is_a_batch() -> None:
    batcher = Batcher(filled(3), Fixed(100), linger=FOREVER)
    batcher.hurry = 1
    assert len(batcher.next() or ()) == 3


def test_the_depth_of_a_cut_is_that_before_it() -> None:
    seen: list[Depth] = []
    batcher = Batcher(filled(25, nbytes=50), Fixed(10), linger=FOREVER, on_cut=seen.append)
    batcher.next()
    assert seen == [Depth(25, 50, closed=False)]


def test_no_cut_is_noted_at_the_end() -> None:
    queue = Queue()
    queue.close()
    seen: list[Depth] = []
    assert Batcher(queue, Fixed(10), linger=FOREVER, on_cut=seen.append).next() is None
    assert not seen
