"""Rows by their idempotency keys, against sinks in memory that follow the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from adaptive.dead_letters import DeadLetterFile
from adaptive.delivery import Delivery, Identity, Outcome
from adaptive.metrics import Metrics
from adaptive.patience import Retry
from adaptive.protocols import BatchSink, Rejection
from adaptive.rows import Batch, Chunk, Reject, Row


class KeySink:
    """Writes rows unless they are bad; knows keys. Each row has to come at its position of the receipt."""

    doomed, duplicates = False, 0

    def __init__(self, keys: set[str]) -> None:
        self.keys, self.rows = keys, list[Row]()
        self.positions: list[int] = []

    def open(self) -> None:
        pass

    def begin(self, receipt: Mapping[str, Any]) -> bool:
        without = {tuple(position) for position in receipt["rejected"]}
        [[split, first, last]] = receipt["segments"]
        self.positions = [n for n in range(first, last + 1) if (split, n) not in without]
        return True

    def claim(self, keys: Sequence[str]) -> set[str]:
        fresh = set(keys) - self.keys
        assert len(keys) == len(set(keys))
        self.keys |= fresh
        return fresh

    def release(self, keys: Sequence[str]) -> None:
        assert self.keys.issuperset(keys)
        self.keys -= set(keys)

    def write(self, rows: Sequence[Row]) -> list[Rejection]:
        taken, self.positions = self.positions[: len(rows)], self.positions[len(rows) :]
        assert [row["n"] for row in rows] == taken
        self.rows += [row for row in rows if not row["bad"]]
        return [(index, "bad", "it is") for index, row in enumerate(rows) if row["bad"]]

    def write_arrow(self, rows: pa.Table) -> list[Rejection]:
        return self.write(rows.to_pylist())

    def commit(self, rejected: Sequence[Any] = (), rows: int | None = None) -> None:
        assert rows is None or len(self.rows) == rows
        assert rows is not None or not rejected

    def rollback(self) -> None:
        pass


def deliver(sink: KeySink, batch: Batch) -> Outcome:
    with TemporaryDirectory() as folder:
        delivery = Delivery(
            cast("BatchSink", sink),
            Identity("load", "me", ["x"], "memory", idempotency_key=["key"], by_position=True),
            DeadLetterFile(str(Path(folder) / "letters"), {"load": "load"}),
            Metrics(0.0),
            Retry(0),
        )
        return delivery.deliver(batch)


records = st.lists(
    st.fixed_dictionaries(
        {"key": st.none() | st.sampled_from("abcd"), "bad": st.booleans(), "read": st.booleans()}
    ),
    max_size=12,
)


@given(records, st.sets(st.sampled_from(["key=a", "key=b"])), st.booleans())
def test_each_key_is_written_once_and_nothing_is_lost(
    found: list[dict[str, Any]], known: set[str], arrow: bool
) -> None:
    rows = [{"n": n, "key": r["key"], "bad": r["bad"]} for n, r in enumerate(found) if r["read"]]
    rejects = [Reject(n, "unread", "no record") for n, r in enumerate(found) if not r["read"]]
    schema = pa.schema({"n": pa.int64(), "key": pa.string(), "bad": pa.bool_()})
    held: Any = pa.RecordBatch.from_pylist(rows, schema=schema) if arrow else rows
    sink = KeySink(set(known))
    outcome = deliver(sink, Batch([Chunk(0, len(found), held, rejects)]))

    fresh = [row for row in rows if f"key={row['key']}" not in known]
    good = [row for row in fresh if not row["bad"]]
    first = {row["key"]: row for row in reversed(good) if row["key"] is not None}
    expected = [row for row in good if row["key"] is None or first[row["key"]] is row]
    assert sorted(sink.rows, key=lambda row: row["n"]) == expected
    assert sink.keys == known | {f"key={key}" for key in first}
    # A bad row is rejected unless its key was processed, before or by a row in front of it.
    refused = {
        row["n"] for row in fresh
        if row["bad"] and (row["key"] not in first or row["n"] < first[row["key"]]["n"])
    }  # fmt: skip
    assert {position.ordinal for position in outcome.rejected} == refused | {r.ordinal for r in rejects}
    assert outcome.written == len(expected)
    assert outcome.duplicates == len(rows) - len(expected) - len(refused)
