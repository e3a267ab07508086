"""The table or the ledger is dropped, emptied or locked while a load runs, or between two of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psycopg
import pytest
from labs import Lab, postgres_lab

import adaptive as package
from adaptive import coordinator, loader
from adaptive.errors import RefusedError, SinkError, SourceError, TakenOverError
from adaptive.rows import Row

ROWS, HALF = 2_000, 1_000


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters go into the current folder."""
    monkeypatch.chdir(tmp_path)


def items(first: int, last: int) -> Iterator[Row]:
    for number in range(first, last):
        yield {"item_id": number, "name": f"item {number}", "amount": 1}


def half() -> Iterator[Row]:
    yield from items(0, HALF)
    raise SourceError("the input broke off")


def load(lab: Lab, rows: Iterator[Row], *, again: bool = False) -> package.LoadResult:
    return package.load(rows, lab.url, table="items", load_id="items", again=again)


def disturb(lab: Lab, statement: str) -> None:
    """Put rows, have them written, act, put more and have them written."""
    lab.make_items()
    with package.Pipeline(lab.url, table="items") as pipeline:
        for row in items(0, HALF):
            pipeline.put(row)
        pipeline.flush()
        assert len(lab.rows("items")) == HALF
        lab.execute(statement)
        for row in items(HALF, ROWS):
            pipeline.put(row)
        pipeline.flush()


@pytest.mark.parametrize("table", ["items", "_adaptive_ledger", "_adaptive_splits"])
def test_a_load_whose_tables_are_dropped_stops(lab: Lab, table: str) -> None:
    with pytest.raises(SinkError, match=table):
        disturb(lab, f"DROP TABLE {table}")


def test_a_load_that_nobody_owns_any_more_stops(lab: Lab) -> None:
    with pytest.raises(TakenOverError):
        disturb(lab, "DELETE FROM _adaptive_splits")


@pytest.fixture
def stopped(lab: Lab) -> Lab:
    """A load that was stopped halfway, with the rows of that half."""
    lab.make_items()
    with pytest.raises(SourceError):
        load(lab, half())
    assert len(lab.rows("items")) == HALF
    return lab


def test_an_emptied_table_is_refused_and_filled_from_the_start_if_asked_to(stopped: Lab) -> None:
    stopped.execute("DELETE FROM items")
    with pytest.raises(RefusedError, match="--again loads them again"):
        load(stopped, items(0, ROWS))
    assert stopped.rows("items") == []
    with pytest.raises(SourceError):
        load(stopped, half(), again=True)
    assert load(stopped, items(0, ROWS), again=True).resumed == HALF
    assert len(stopped.rows("items")) == ROWS


def test_a_forgotten_ledger_lets_no_key_in_twice(stopped: Lab) -> None:
    for name in ("ledger", "splits", "loads"):
        stopped.drop(f"_adaptive_{name}")
    done = load(stopped, items(0, ROWS))
    assert (done.written, done.rejected_count) == (ROWS - HALF, HALF)
    assert len(stopped.rows("items")) == ROWS


def test_an_interruption_ends_a_load_whose_last_rows_the_database_does_not_take(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "GRACE", 0.0)
    read = Event()
    with postgres_lab(postgres_server) as lab, psycopg.connect(lab.url) as link:
        lab.make_items()

        def rows() -> Iterator[Row]:
            yield from items(0, ROWS)
            link.execute("LOCK TABLE items")
            read.set()

        [load] = loader.plan(rows(), lab.url, table="items")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(load.run)
            read.wait()
            load.interrupt()
            with pytest.raises(SinkError, match="in time"):
                running.result()
