"""Records that a program produces go in while it runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from labs import Lab, PostgresLab, postgres_lab

from adaptive import Pipeline, QueueFull, RefusedError, Settings, SinkError, UsageError
from adaptive.protocols import Mode
from adaptive.rows import Row


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def items(lab: Lab) -> Lab:
    lab.make_items()
    return lab


@pytest.fixture
def blocked(postgres_server: str) -> Iterator[PostgresLab]:
    with postgres_lab(postgres_server) as lab:
        lab.make_items()
        yield lab


def item(number: int, amount: int = 1) -> Row:
    return {"item_id": number, "name": f"item {number}", "amount": amount}


def ids(lab: Lab) -> list[int]:
    return sorted(row["item_id"] for row in lab.rows("items"))


@contextmanager
def locked(lab: PostgresLab) -> Iterator[None]:
    """Keep every writer out of the table."""
    with psycopg.connect(lab.url) as link:
        link.execute("LOCK TABLE items")
        yield


def adds_up(pipeline: Pipeline) -> bool:
    found = pipeline.metrics()
    settled = found.success_count + found.fail_count + found.duplicate_count + found.rejection_count
    return settled == found.enqueue_count


def test_what_several_threads_put_is_written_once(items: Lab) -> None:
    with Pipeline(items.url, table="items") as pipeline:

        def produce(first: int) -> None:
            for number in range(first, 4_000, 4):
                pipeline.put(item(number))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(produce, range(4)))
    assert ids(items) == list(range(4_000))
    assert adds_up(pipeline)


def test_flush_means_durable(items: Lab) -> None:
    with Pipeline(items.url, table="items") as pipeline:
        for first in range(0, 300, 100):
            for number in range(first, first + 100):
                pipeline.put(item(number))
            pipeline.flush()
            assert ids(items) == list(range(first + 100))


def test_the_last_record_of_a_key_wins(items: Lab) -> None:
    with Pipeline(items.url, table="items", mode="upsert") as pipeline:
        for number in range(5_000):
            pipeline.put({"item_id": number % 10, "name": str(number), "amount": 1})
    assert sorted(row["name"] for row in items.rows("items")) == [str(n) for n in range(4_990, 5_000)]


def test_bad_records_become_dead_letters_and_flush_returns(items: Lab) -> None:
    records = [item(1), item(2, amount=-1), item(3), {**item(4), "colour": "red"}, item(1), item(5)]
    with Pipeline(items.url, table="items") as pipeline:
        for record in records:
            pipeline.put(record)
        pipeline.flush()
        assert ids(items) == [1, 3, 5]
        assert adds_up(pipeline)
    [file] = Path().glob("*.rejected.jsonl")
    letters = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert sorted(letter["position"]["record"] for letter in letters) == [2, 4, 5]


def test_the_ledger_does_not_grow(items: Lab) -> None:
    with Pipeline(items.url, table="items", settings=Settings(writers=2)) as pipeline:
        for number in range(50):
            pipeline.put(item(number))
            pipeline.flush()
        assert len(items.rows("_adaptive_ledger")) <= 2
    assert len(ids(items)) == 50
    assert [row["rows"] for row in items.rows("_adaptive_loads")] == [50]


def test_a_table_that_is_not_there_is_refused_at_once(lab: Lab) -> None:
    with pytest.raises(RefusedError, match="nowhere"):
        Pipeline(lab.url, table="nowhere")


def test_what_stops_the_writers_is_raised_by_the_next_call(items: Lab) -> None:
    pipeline = Pipeline(items.url, table="items")
    items.drop("items")
    pipeline.put(item(1))
    with pytest.raises(SinkError):
        pipeline.flush()
    with pytest.raises(SinkError):
        pipeline.put(item(2))
    with pytest.raises(SinkError):
        pipeline.close()
    pipeline.close()


def test_an_error_in_the_block_still_writes_what_was_put(items: Lab) -> None:
    with pytest.raises(KeyError), Pipeline(items.url, table="items") as pipeline:  # noqa: PT012
        pipeline.put(item(1))
        raise KeyError("the program's own fault")
    assert ids(items) == [1]


def test_a_full_queue_hands_records_back_if_asked_to(blocked: PostgresLab) -> None:
    taken = []
    settings = Settings(on_full="reject", queue_size=20, writers=1)
    with Pipeline(blocked.url, table="items", settings=settings) as pipeline:
        with locked(blocked), pytest.raises(QueueFull):  # noqa: PT012
            for number in range(1_000):
                pipeline.put(item(number))
                taken.append(number)
        pipeline.flush()
        assert ids(blocked) == taken
        pipeline.put(item(1_000))  # there is room again
    assert ids(blocked) == [*taken, 1_000]
    assert pipeline.metrics().rejection_count == 1
    assert adds_up(pipeline)


def test_a_full_queue_makes_the_producer_wait(blocked: PostgresLab) -> None:
    settings = Settings(queue_size=20, writers=1)
    with Pipeline(blocked.url, table="items", settings=settings) as pipeline:
        count = 0

        def produce() -> None:
            nonlocal count
            for number in range(1_000):
                pipeline.put(item(number))
                count += 1

        producer = threading.Thread(target=produce)
        with locked(blocked):
            producer.start()
            producer.join(0.3)
            assert producer.is_alive()
            assert count < 100
        producer.join()
    assert ids(blocked) == list(range(1_000))


def test_a_paced_producer_loses_nothing(items: Lab) -> None:
    settings = Settings(on_full="slow", queue_size=200, writers=1, batch=50)
    with Pipeline(items.url, table="items", settings=settings) as pipeline:
        for number in range(5_000):
            pipeline.put(item(number))
    assert ids(items) == list(range(5_000))


def test_an_unknown_way_with_a_full_queue_is_refused() -> None:
    with pytest.raises(UsageError, match="on_full"):
        Settings(on_full="drop")  # type: ignore[arg-type]


def test_a_lost_connection_loses_and_repeats_nothing(blocked: PostgresLab) -> None:
    with Pipeline(blocked.url, table="items") as pipeline:
        for number in range(3_000):
            pipeline.put(item(number))
            if number % 700 == 0:
                blocked.break_links()
        deadline = time.monotonic() + 60
        pipeline.flush()
        assert time.monotonic() < deadline
    assert ids(blocked) == list(range(3_000))


def test_a_closed_pipeline_takes_nothing(items: Lab) -> None:
    with Pipeline(items.url, table="items") as pipeline:
        pipeline.put(item(1))
    with pytest.raises(UsageError, match="closed"):
        pipeline.put(item(2))
    assert ids(items) == [1]


def test_what_is_put_while_another_thread_closes_is_written_or_refused(items: Lab) -> None:
    pipeline = Pipeline(items.url, table="items")
    taken: list[int] = []
    flows = threading.Event()

    def produce() -> None:
        for number in range(100_000):
            try:
                pipeline.put(item(number))
            except UsageError:
                return
            taken.append(number)
            if number == 700:
                flows.set()

    producer = threading.Thread(target=produce)
    producer.start()
    flows.wait()
    pipeline.close()
    producer.join()
    assert ids(items) == taken
    assert adds_up(pipeline)


def test_what_is_no_record_is_refused_at_once(items: Lab) -> None:
    with Pipeline(items.url, table="items") as pipeline:
        pipeline.put(item(1))
        with pytest.raises(TypeError, match="mapping"):
            pipeline.put(["no", "mapping"])  # type: ignore[arg-type]
        pipeline.put(item(2))
    assert ids(items) == [1, 2]


def test_a_connection_that_is_refused_at_the_end_is_tried_again(items: Lab) -> None:
    with Pipeline(items.url, table="items", settings=Settings(batch=10)) as pipeline:
        for number in range(50):
            pipeline.put(item(number))
        pipeline.flush()
        items.break_links()
    with items.sink("items") as sink:
        assert [row["state"] for row in sink.loads()] == ["done"]


def test_a_record_is_taken_as_it_is_when_it_is_put(lab: Lab) -> None:
    lab.make_items()
    record: dict[str, Any] = {"name": "x", "amount": 1}
    with Pipeline(lab.url, table="items") as pipeline:
        for number in range(100):
            record["item_id"] = number
            pipeline.put(record)
    assert sorted(row["item_id"] for row in lab.rows("items")) == list(range(100))


@pytest.mark.parametrize("mode", ["ignore", "upsert"])
def test_a_record_without_the_key_costs_itself(mode: Mode, lab: Lab) -> None:
    lab.execute("CREATE TABLE t (id VARCHAR(9) NOT NULL PRIMARY KEY, name TEXT)")
    with Pipeline(lab.url, table="t", mode=mode, key="id") as pipeline:
        for record in ({"name": "x"}, {"id": "1", "name": "y"}):
            pipeline.put(record)
            pipeline.flush()
    assert lab.rows("t") == [{"id": "1", "name": "y"}]
