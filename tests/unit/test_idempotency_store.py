from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive.config import Target
from adaptive.idempotency_store import IdempotencyStore, IdempotencyStoreError, StoredKeys
from adaptive.sinks.sqlite import SqliteSink


@pytest.fixture
def store(tmp_path: Path) -> IdempotencyStore:
    return IdempotencyStore(str(tmp_path / "keys #1.db"))


@pytest.fixture
def sink(store: IdempotencyStore, tmp_path: Path) -> Iterator[StoredKeys]:
    with closing(new_sink(store, tmp_path)) as found:
        yield found


def new_sink(store: IdempotencyStore, folder: Path, target: str = "orders") -> StoredKeys:
    """Return a sink with a store, whose target is a database in the same folder."""
    path = folder / "target.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS orders (n)")
    return StoredKeys(SqliteSink(f"sqlite:///{path}", table="orders", ledger=None), store, target)


def claimed(sink: StoredKeys, *keys: str) -> set[str]:
    sink.begin()
    fresh = sink.claim(keys)
    sink.commit()
    return fresh


def test_a_key_is_claimed_once_also_after_a_restart(
    store: IdempotencyStore, sink: StoredKeys, tmp_path: Path
) -> None:
    assert claimed(sink, "b", "a") == {"a", "b"}
    sink.close()
    assert claimed(sink, "a", "c") == {"c"}
    with closing(new_sink(IdempotencyStore(store.path), tmp_path)) as later:
        assert claimed(later, "a", "b", "c", "d") == {"d"}
    with closing(new_sink(store, tmp_path, "another table")) as other:
        assert claimed(other, "a") == {"a"}
    assert len(store) == 5


def test_keys_of_a_batch_that_is_not_committed_are_free_again(
    sink: StoredKeys, store: IdempotencyStore
) -> None:
    sink.begin()
    sink.claim(["a", "b"])
    sink.rollback()
    sink.begin()
    assert sink.claim(["a", "b"]) == {"a", "b"}
    sink.release(["b"])
    sink.commit()
    sink.begin()
    sink.claim(["c"])
    sink.close()
    assert len(store) == 1


def test_only_the_owner_may_read_the_file(sink: StoredKeys, store: IdempotencyStore) -> None:
    claimed(sink, "a")
    for file in Path(store.path).parent.glob("keys*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_among_many_threads_each_key_is_claimed_once(store: IdempotencyStore, tmp_path: Path) -> None:
    def work(first: int) -> list[str]:
        with closing(new_sink(store, tmp_path)) as sink:
            return [key for n in range(20) for key in claimed(sink, str(n), str(n + first))]

    with ThreadPoolExecutor(8) as threads:
        won = [key for keys in threads.map(work, range(8)) for key in keys]
    assert sorted(won) == sorted(set(won)) == sorted(str(n) for n in range(27))


def test_pruning_by_age_and_by_number(sink: StoredKeys, store: IdempotencyStore) -> None:
    for number in range(10):
        claimed(sink, str(number))
    assert store.prune(older_than=timedelta(hours=1)) == 0
    assert store.prune(keep=4) == 6
    assert claimed(sink, "5", "6", "9") == {"5"}
    assert store.prune(older_than=timedelta(0)) == 5
    assert len(store) == store.prune() == 0


class DoubtfulSink(SqliteSink):
    """A sink whose commits take effect, and whose answers are lost."""

    def commit(self, *known: Any) -> None:
        super().commit(*known)
        raise ConnectionError("no answer")

    def begin(self, receipt: Any = None) -> bool:
        return receipt is not None and receipt["batch"] != "committed" and super().begin()


def test_a_commit_in_doubt_that_took_effect_keeps_its_keys(store: IdempotencyStore, tmp_path: Path) -> None:
    with closing(
        StoredKeys(DoubtfulSink(f"sqlite:///{tmp_path / 'target.db'}", table="t"), store, "t")
    ) as sink:
        sink.begin({"batch": "one"})
        sink.claim(["a", "b"])
        sink.release(["b"])
        with pytest.raises(ConnectionError):
            sink.commit()
        sink.rollback()
        assert len(store) == 0
        assert not sink.begin({"batch": "committed"})
        sink.rollback()
    assert len(store) == 1


def test_a_file_that_is_no_store_is_an_error_that_names_it(store: IdempotencyStore, sink: StoredKeys) -> None:
    Path(store.path).write_bytes(b"no database" * 100)
    with pytest.raises(IdempotencyStoreError, match=r"keys #1\.db: file is not a database") as caught:
        sink.begin()
    assert sink.classify(caught.value) == "fatal"


def test_one_store_serves_two_databases_whatever_their_tables_names(tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.db")
    for number, place in enumerate(("one", "other")):
        (tmp_path / place).mkdir()
        url = f"sqlite:///{tmp_path / place}/x.db"
        target = Target(url, "orders", idempotency_key=("n",), idempotency_store=keys, ledger="off")
        with closing(target.writer()) as sink:
            assert sink.begin()
            assert sink.claim(["n=1"]) == {"n=1"}
            sink.commit()
        assert len(IdempotencyStore(keys)) == number + 1
