"""Rows with the same idempotency key are written once, into a table that would take them twice."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from labs import Lab, MongoLab, mongo_lab

import adaptive as package
from adaptive.config import Settings
from adaptive.errors import RefusedError, TooManyRejectsError, UsageError
from adaptive.idempotency_store import IdempotencyStore
from adaptive.rows import Row
from adaptive.testing.processes import at_random, repeat
from e2e.conftest import Command

KEY = ("--idempotency-key", "event_id")
STORE = (*KEY, "--ledger", "off", "--idempotency-store", "keys.db")


@pytest.fixture
def events(lab: Lab) -> Lab:
    """A database whose table `events` has no unique constraint."""
    lab.execute("CREATE TABLE events (event_id BIGINT, amount INTEGER CHECK (amount > 0))")
    return lab


@pytest.fixture
def collection(mongo_server: str) -> Iterator[MongoLab]:
    with mongo_lab(mongo_server) as lab:
        yield lab


def lines(numbers: Iterable[object], amount: object = 1) -> str:
    return "event_id,amount\n" + "".join(f"{number},{amount}\n" for number in numbers)


def ids(lab: Lab) -> list[int]:
    return sorted(row["event_id"] for row in lab.rows("events"))


def load(adaptive: Command, lab: Lab, file: str, *options: str) -> str:
    """Load a file and return the summary."""
    done = adaptive("load", file, "--to", lab.url, "--table", "events", *options)
    assert done.code == 0, done.err
    return done.out


def left_out(summary: str) -> int:
    """Return how many rows a summary says were left out."""
    found = re.search(r"there already +([\d,]+) rows", summary)
    return int(found[1].replace(",", "")) if found else 0


@pytest.fixture
def overlapping(adaptive: Command) -> Command:
    """Two files: 3,000 events of which the second half is in the other one, too, and 10 within each twice."""
    (adaptive.folder / "one.csv").write_text(lines([*range(3_000), *range(10)]))
    (adaptive.folder / "two.csv").write_text(lines([*range(1_500, 4_500), *range(2_000, 2_010)], amount=2))
    return adaptive


@pytest.mark.parametrize("options", [KEY, STORE], ids=["target", "store"])
def test_files_that_overlap_are_loaded_once(
    options: tuple[str, ...], overlapping: Command, events: Lab
) -> None:
    assert left_out(load(overlapping, events, "one.csv", *options)) == 10
    assert left_out(load(overlapping, events, "two.csv", *options)) == 1_510
    assert ids(events) == list(range(4_500))
    assert {row["amount"] for row in events.rows("events") if row["event_id"] < 3_000} == {1}
    assert left_out(load(overlapping, events, "one.csv", *options, "--again")) == 3_010
    assert len(ids(events)) == 4_500


def test_loads_without_the_option_write_no_keys(overlapping: Command, events: Lab) -> None:
    load(overlapping, events, "one.csv")
    assert len(ids(events)) == 3_010
    load(overlapping, events, "two.csv", *KEY)  # knows what was loaded with keys only
    assert len(ids(events)) == 6_010
    assert len(events.rows("_adaptive_keys")) == 3_000


def test_a_row_without_a_key_is_always_written(adaptive: Command, events: Lab) -> None:
    for name in ("one.csv", "two.csv"):
        (adaptive.folder / name).write_text(lines(["", 1, "", 1], amount=len(name) + (name == "two.csv")))
        load(adaptive, events, name, *KEY)
    assert sorted(str(row["event_id"]) for row in events.rows("events")) == ["1", *["None"] * 4]


def test_several_columns_make_a_key(adaptive: Command, events: Lab) -> None:
    (adaptive.folder / "x.csv").write_text("event_id,amount\n1,1\n1,2\n2,1\n1,2\n")
    load(adaptive, events, "x.csv", "--idempotency-key", "event_id,amount")
    assert sorted((row["event_id"], row["amount"]) for row in events.rows("events")) == [
        (1, 1),
        (1, 2),
        (2, 1),
    ]


def test_a_bad_row_gives_its_key_to_the_next_or_to_its_mended_self(adaptive: Command, events: Lab) -> None:
    (adaptive.folder / "x.csv").write_text("event_id,amount\n1,-1\n1,5\n2,-1\n3,1\n3,-1\n")
    done = adaptive("load", "x.csv", "--to", events.url, "--table", "events", *KEY, "--dead-letters", "bad")
    assert done.code == 3, done.err
    assert sorted((row["event_id"], row["amount"]) for row in events.rows("events")) == [(1, 5), (3, 1)]
    letters = adaptive.folder / "bad"
    letters.write_text(letters.read_text().replace('"amount": -1', '"amount": 7'))
    replay = ("replay", "bad", "--to", events.url, "--table", "events")
    for _ in range(2):
        assert adaptive(*replay).code == 0
    assert sorted((row["event_id"], row["amount"]) for row in events.rows("events")) == [
        (1, 5),
        (2, 7),
        (3, 1),
    ]


@pytest.mark.parametrize("options", [KEY, (*KEY, "--idempotency-store", "keys.db")], ids=["target", "store"])
def test_a_load_that_is_killed_again_and_again_writes_each_key_once(
    options: tuple[str, ...], adaptive: Command, events: Lab
) -> None:
    numbers = [number % 30_000 for number in range(40_000)]
    (adaptive.folder / "x.csv").write_text(lines(numbers))
    command = [sys.executable, "-m", "adaptive", "load", "x.csv", "--to", events.url, "--table", "events"]
    limits = ("--batch", "500", "--max-retries", "50")
    report = repeat(
        [*command, *options, *limits], at_random(4, 1.5), kills=5,
        cwd=adaptive.folder, env=adaptive.environment,
    )  # fmt: skip
    assert report.exit_code == 0, report
    found = ids(events)
    assert sorted(set(found)) == list(range(30_000))
    # A store loses at most the keys of the batches under way, of one writer, at each kill.
    assert len(found) - 30_000 <= (500 * report.kills if "keys.db" in options else 0)


def test_a_store_keeps_nothing_of_a_load_that_is_undone(overlapping: Command, events: Lab) -> None:
    file = overlapping.folder / "one.csv"
    file.write_text(file.read_text() + "1,-1\n9,9\n1,x\n")
    done = overlapping(
        "load", "one.csv", "--to", events.url, "--table", "events", *STORE, "--max-rejected", "0"
    )
    assert done.code == 1
    assert ids(events) == []
    assert len(IdempotencyStore(str(overlapping.folder / "keys.db"))) == 0
    load(overlapping, events, "two.csv", *STORE)
    assert ids(events) == list(range(1_500, 4_500))


def test_a_load_that_fails_lets_go_of_the_store_at_once(events: Lab, tmp_path: Path) -> None:
    options: dict[str, Any] = {"ledger": "off", "idempotency_key": "event_id"}
    options |= {"idempotency_store": str(tmp_path / "keys.db"), "dead_letters": str(tmp_path / "bad")}
    rows = [{"event_id": number, "amount": 1} for number in range(10)]
    with pytest.raises(TooManyRejectsError):
        package.load([*rows, {"event_id": 0, "amount": -1}, {"event_id": 99, "amount": -1}], events.url,
                     table="events", max_rejected=0, **options)  # fmt: skip
    store = sqlite3.connect(tmp_path / "keys.db", timeout=0)
    with closing(store):
        store.execute("BEGIN IMMEDIATE")
    assert package.load(rows, events.url, table="events", **options).written == 10


def test_keys_that_are_pruned_are_loaded_again(overlapping: Command, events: Lab) -> None:
    load(overlapping, events, "one.csv", *STORE)
    store = IdempotencyStore(str(overlapping.folder / "keys.db"))
    assert store.prune(older_than=timedelta(0)) == 3_000
    load(overlapping, events, "two.csv", *STORE)
    assert len(ids(events)) == 6_000


@pytest.mark.parametrize("options", [KEY, (*KEY, "--idempotency-store", "keys.db")], ids=["target", "store"])
def test_two_processes_at_once_write_each_key_once(
    options: tuple[str, ...], overlapping: Command, events: Lab
) -> None:
    command = ("--to", events.url, "--table", "events", *options, "--batch", "100")
    both = [overlapping.start("load", file, *command) for file in ("one.csv", "two.csv")]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (out, err)
    assert ids(events) == list(range(4_500))


def put_all(pipeline: package.Pipeline, first: int, step: int = 1) -> None:
    for number in range(first, 3_000, step):
        pipeline.put({"event_id": number // 2, "amount": 1})


@pytest.mark.parametrize("store", [None, "keys.db"], ids=["target", "store"])
def test_pipelines_at_once_write_each_key_once(store: str | None, events: Lab, tmp_path: Path) -> None:
    path = store and str(tmp_path / store)

    def run(first: int) -> package.Pipeline:
        settings = Settings(dead_letters=str(tmp_path / f"{first}.jsonl"), batch=50)
        with (
            package.Pipeline(
                events.url,
                table="events",
                idempotency_key="event_id",
                idempotency_store=path,
                settings=settings,
            ) as pipeline,
            ThreadPoolExecutor(2) as threads,
        ):
            list(threads.map(lambda start: put_all(pipeline, start, 2), (first, first + 1)))
        return pipeline

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(run, (0, 500)))
    assert ids(events) == list(range(1_500))
    found = [pipeline.metrics() for pipeline in done]
    assert sum(each.success_count for each in found) == 1_500
    assert all(each.success_count + each.duplicate_count == each.enqueue_count for each in found)


def test_a_restarted_pipeline_knows_its_keys(events: Lab) -> None:
    for _ in range(2):
        with package.Pipeline(events.url, table="events", idempotency_key="event_id") as pipeline:
            put_all(pipeline, 0)
    assert ids(events) == list(range(1_500))
    assert pipeline.metrics().duplicate_count == 3_000


def test_a_lost_connection_repeats_no_key(events: Lab) -> None:
    if events.name == "sqlite":
        pytest.skip("sqlite: there is no connection to lose")
    with package.Pipeline(events.url, table="events", idempotency_key="event_id") as pipeline:
        for number in range(3_000):
            pipeline.put({"event_id": number // 2, "amount": 1})
            if number % 700 == 0:
                events.break_links()
    assert ids(events) == list(range(1_500))


def test_a_user_without_the_right_to_keep_keys_is_told(events: Lab) -> None:
    if events.name == "sqlite":
        pytest.skip("sqlite: has no rights")
    name = events.url.rpartition("/")[2]
    events.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    events.execute(f"GRANT INSERT, SELECT ON events TO {name}")
    package.load([{"event_id": 1, "amount": 1}], events.url, table="events")  # makes the ledger
    events.execute(f"GRANT ALL ON _adaptive_loads, _adaptive_splits, _adaptive_ledger TO {name}")
    place = events.url.rpartition("@")[2]
    url = f"postgresql://{name}:secret@{place}"
    rows: list[Row] = [{"event_id": 1, "amount": 1}]
    try:
        events.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with pytest.raises(RefusedError, match=r'GRANT CREATE ON SCHEMA "?public'):
            package.load(rows, url, table="events", idempotency_key="event_id")
        package.load(rows, events.url, table="events", idempotency_key="event_id")
        with pytest.raises(RefusedError, match=r"GRANT INSERT ON .*_keys"):
            package.load(rows, url, table="events", idempotency_key="event_id")
        events.execute(f"GRANT ALL ON _adaptive_keys TO {name}")
        assert package.load(rows, url, table="events", idempotency_key="event_id").duplicates == 1
        assert package.load(rows, url, table="events").written == 1
    finally:
        events.execute(f"DROP OWNED BY {name}")
        events.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--idempotency-key", "nothing"], "no column nothing among event_id, amount"),
        ([*KEY, "--ledger", "off"], "--idempotency-store"),
        ([*KEY, "--mode", "replace"], "--mode replace"),
        (["--idempotency-store", "keys.db"], "--idempotency-key"),
        ([*KEY, "--idempotency-store", "nowhere/keys.db"], "no folder"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], said: str, overlapping: Command, events: Lab
) -> None:
    done = overlapping("load", "one.csv", "--to", events.url, "--table", "events", *options)
    assert done.code == 2
    assert said in done.err
    assert events.rows("events") == []


def test_a_pipeline_with_an_unknown_key_column_is_refused(events: Lab) -> None:
    with pytest.raises(RefusedError, match="no column order_id among event_id, amount"):
        package.Pipeline(events.url, table="events", idempotency_key=("event_id", "order_id"))


def test_mongodb_is_given_a_way_that_it_has(collection: MongoLab, overlapping: Command) -> None:
    with pytest.raises(UsageError, match="--mode ignore --key event_id"):
        package.load([{"event_id": 1}], collection.url, table="events", idempotency_key="event_id")
    store = (*KEY, "--idempotency-store", "keys.db", "--batch", "700")
    assert left_out(load(overlapping, collection, "one.csv", *store)) == 10
    assert left_out(load(overlapping, collection, "two.csv", *store)) == 1_510
    assert ids(collection) == list(range(4_500))
