from __future__ import annotations

import json
import math
import subprocess
import sys
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.metrics import GROWTH, Histogram, Metrics

durations = st.lists(st.tuples(st.floats(1e-3, 1e7), st.integers(1, 1_000)), min_size=1, max_size=30)


@given(durations, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_exact_to_a_bucket(events: list[tuple[float, int]], share: float) -> None:
    histogram = Histogram()
    for milliseconds, weight in events:
        histogram.add(milliseconds, weight)
    events.sort()
    reached = list(accumulate(weight for _, weight in events))
    exact, _ = events[bisect_left(reached, share * reached[-1])]
    assert exact * 0.999 <= histogram.percentile(share) <= exact * GROWTH * 1.001


@given(durations)
def test_the_mean_is_weighted(events: list[tuple[float, int]]) -> None:
    histogram = Histogram()
    for milliseconds, weight in events:
        histogram.add(milliseconds, weight)
    exact = math.fsum(m * w for m, w in events) / sum(w for _, w in events)
    assert histogram.mean == pytest.approx(exact)


def test_without_events_there_is_no_duration() -> None:
    assert (Histogram().mean, Histogram().percentile(0.99)) == (0.0, 0.0)
    empty = Metrics(5.0).snapshot(5.0)
    assert (empty.throughput_tps, empty.avg_queue_depth, empty.batch_sizes) == (0.0, 0.0, {})


@pytest.mark.parametrize("milliseconds", [0.0, -1.0])
def test_a_clock_that_stood_still_does_no_harm(milliseconds: float) -> None:
    histogram = Histogram()
    histogram.add(milliseconds)
    assert histogram.percentile(0.5) <= 0.0011


def test_counts_and_rates_are_those_of_the_records() -> None:
    metrics = Metrics(100.0)
    for name, records in (("enqueue", 12), ("success", 9), ("fail", 2), ("duplicate", 1), ("resumed", 5)):
        metrics.count(name, records)
    metrics.count("retry")
    metrics.error("23505")
    metrics.committed(size=12, seconds=0.5, accepted=[(101.0, 12)], now=103.0)
    found = metrics.snapshot(103.0)
    assert found.success_count + found.fail_count + found.duplicate_count == found.enqueue_count == 12
    assert (found.retry_count, found.resumed_count, found.rejection_count) == (1, 5, 0)
    assert found.throughput_tps == 9 / 3
    assert found.mean_latency_ms == 2_000
    assert found.mean_database_latency_ms == 500
    assert found.batch_sizes == {12: 1}
    assert found.error_classification == {"23505": 1}


@given(st.lists(st.integers(0, 1_000), max_size=5_000))
def test_depths_keep_their_peak_and_mean_in_less_than_1000_samples(depths: list[int]) -> None:
    metrics = Metrics(0.0)
    for at, records in enumerate(depths):
        metrics.depth(float(at), records)
    found = metrics.snapshot(1.0)
    assert found.peak_queue_depth == max(depths, default=0)
    assert found.avg_queue_depth == pytest.approx(sum(depths) / len(depths) if depths else 0.0)


def test_samples_of_the_depth_stay_few_and_spread_over_the_whole_time() -> None:
    metrics = Metrics(0.0)
    for at in range(50_000):
        metrics.depth(float(at), at)
    times = [at for at, _ in metrics.snapshot(1.0).queue_depth_over_time]
    assert 400 < len(times) < 1_000
    assert times[0] < 500
    assert times[-1] > 49_000
    assert times == sorted(times)


def test_shares_of_a_workers_time_add_up_to_one() -> None:
    metrics = Metrics(0.0)
    for state, seconds in (("busy", 3.0), ("idle", 0.5), ("idle", 0.5)):
        metrics.spent("writer", state, seconds)
    metrics.spent("parser", "busy", 0.0)
    assert metrics.snapshot(1.0).worker_shares == {
        "writer": {"busy": 0.75, "idle": 0.25},
        "parser": {"busy": 0.0},
    }


def test_a_snapshot_does_not_change_afterwards_and_is_json() -> None:
    metrics = Metrics(10.0)
    metrics.committed(size=3, seconds=0.1, accepted=[(10.0, 3)], now=10.5)
    metrics.decided(11.0, 7, 25_000, 2, "why")
    found = metrics.snapshot(12.0)
    before = json.dumps(found.to_dict())
    metrics.count("success", 5)
    metrics.error("x")
    metrics.depth(13.0, 1)
    metrics.decided(13.0, 7, 1_000, 1, "why not")
    metrics.committed(size=4, seconds=0.1, accepted=[(10.0, 4)], now=13.0)
    assert json.dumps(found.to_dict()) == before
    assert found.to_dict()["batch_sizes"] == {"3": 1}
    assert found.to_dict()["decisions"] == [
        {"at_seconds": 1.0, "depth": 7, "batch_rows": 25_000, "writers": 2, "reason": "why"}
    ]


PARENT = (
    "import subprocess, sys; big = bytearray(1 << 29); subprocess.run([sys.executable, '-c', sys.argv[1]])"
)
CHILD = "from adaptive.metrics import Metrics; print(Metrics(0.0).snapshot(1.0).peak_memory_mb)"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak")
def test_the_peak_of_memory_is_not_that_of_the_parent() -> None:
    shown = subprocess.run([sys.executable, "-c", PARENT, CHILD], capture_output=True, text=True, check=True)
    assert 0 < float(shown.stdout) < 300
