"""Delivery against a database in memory that follows the contract, and fails where it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.dead_letters import DeadLetterFile, read
from adaptive.delivery import Delivery, Identity, Outcome
from adaptive.errors import SinkError, TakenOverError
from adaptive.metrics import Metrics
from adaptive.patience import Retry
from adaptive.protocols import Rejection, Sink, Verdict
from adaptive.rows import Batch, Chunk, Position, Reject

Where = Literal["open", "begin", "write", "before commit", "after commit"]
FAULTS: list[tuple[Where, Verdict]] = [
    ("open", "retry"),
    ("begin", "retry"),
    ("begin", "in_doubt"),
    ("write", "retry"),
    ("write", "in_doubt"),
    ("before commit", "retry"),
    ("before commit", "in_doubt"),
    ("after commit", "in_doubt"),
]


class FaultError(Exception):
    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict} happened")
        self.verdict = verdict


@dataclass
class Database:
    """What is committed, and the faults to come: one is used up at its place, in order."""

    faults: list[tuple[Where, Verdict]] = field(default_factory=list)
    bad: frozenset[int] = frozenset()
    there: frozenset[int] = frozenset()  # rows that mode ignore leaves out
    owner: str = "me"
    rows: list[int] = field(default_factory=list)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    letters: Path | None = None

    def fault(self, where: Where) -> None:
        if self.faults and self.faults[0][0] == where:
            raise FaultError(self.faults.pop(0)[1])


class MemorySink:
    """A transactional sink; asserts that calls come in the order of the contract."""

    doomed = False
    duplicates = 0

    def __init__(self, database: Database) -> None:
        self.database = database
        self.connected = False
        self.receipt: dict[str, Any] | None = None
        self.pending: list[int] = []

    def open(self) -> None:
        assert not self.connected
        self.database.fault("open")
        self.connected = True

    def close(self) -> None:
        self.connected, self.receipt = False, None

    def begin(self, receipt: Mapping[str, Any]) -> bool:
        assert self.connected
        assert self.receipt is None
        self.database.fault("begin")
        if receipt["owner"] != self.database.owner:
            raise FaultError("taken_over")
        if receipt["batch"] in self.database.receipts:
            return False
        self.receipt, self.pending = {**receipt, "rejected": []}, []
        return True

    def write(self, rows: Sequence[Mapping[str, Any]]) -> list[Rejection]:
        assert self.receipt
        self.database.fault("write")
        numbers = [row["n"] for row in rows]
        if self.database.bad.intersection(numbers):
            raise FaultError("reject")
        self.duplicates = len(self.database.there.intersection(numbers))
        self.pending += [number for number in numbers if number not in self.database.there]
        return []

    def write_arrow(self, rows: pa.Table) -> list[Rejection]:
        return self.write(rows.to_pylist())

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        assert self.receipt
        self.database.fault("before commit")
        if rejected:
            assert self.database.letters
            on_disk = {letter.position for letter in read(str(self.database.letters))[1]}
            assert {Position(*position) for position in rejected} <= on_disk  # letters go before the commit
        receipt = {**self.receipt, "rejected": [list(position) for position in rejected]}
        if rows is not None:
            receipt["rows"] = rows
        self.database.receipts.pop(str(receipt["replaces"]), None)
        self.database.receipts[receipt["batch"]] = receipt
        self.database.rows += self.pending
        self.receipt = None
        self.database.fault("after commit")

    def rollback(self) -> None:
        self.receipt = None

    def hint(self, error: BaseException) -> None:
        """Know nothing."""

    def classify(self, error: BaseException) -> Verdict:
        return error.verdict if isinstance(error, FaultError) else "fatal"


@dataclass
class Bench:
    """A delivery, its database and its dead letters."""

    database: Database
    path: Path
    receipts: Literal["kept", "replaced"] = "kept"
    attempts: int = 20
    metrics: Metrics = field(default_factory=lambda: Metrics(0.0))
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database.letters = self.path
        self.sink = MemorySink(self.database)
        self.delivery = Delivery(
            cast("Sink", self.sink),
            Identity("load", "me", ["a.csv", "b.csv"], "memory", self.receipts),
            DeadLetterFile(str(self.path), {"load": "load"}),
            self.metrics,
            Retry(self.attempts, wait=self.waits.append),
        )

    def letters(self) -> list[Position]:
        return [letter.position for letter in read(str(self.path))[1]] if self.path.exists() else []


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


def batch_of(first: int, records: int, unread: frozenset[int] = frozenset(), *, arrow: bool = False) -> Batch:
    """Return a batch whose rows hold their ordinals; no parser could read those of `unread`."""
    ordinals = range(first, first + records)
    rows: Any = [{"n": n} for n in ordinals if n not in unread]
    if arrow:
        rows = pa.RecordBatch.from_pylist(rows, schema=pa.schema([("n", pa.int64())]))
    rejects = [Reject(n, "unread", "no record") for n in ordinals if n in unread]
    return Batch([Chunk(first, records, rows, rejects)])


@given(
    faults=st.lists(st.sampled_from(FAULTS), max_size=6),
    bad=st.frozensets(st.integers(0, 29), max_size=4),
    unread=st.frozensets(st.integers(0, 29), max_size=4),
    there=st.frozensets(st.integers(0, 29), max_size=4),
    receipts=st.sampled_from(["kept", "replaced"]),
    arrow=st.booleans(),
)
def test_every_record_is_settled_exactly_once_whatever_fails(
    faults: list[tuple[Where, Verdict]],
    bad: frozenset[int],
    unread: frozenset[int],
    there: frozenset[int],
    receipts: Literal["kept", "replaced"],
    arrow: bool,
) -> None:
    with TemporaryDirectory() as name:
        bench = Bench(Database(list(faults), bad, there), Path(name) / "letters", receipts)
        batches = [batch_of(first, 10, unread, arrow=arrow) for first in (0, 10, 20)]
        outcomes = [bench.delivery.deliver(batch) for batch in batches]
        check(bench, batches, outcomes, bad | unread, there - bad - unread)


def check(
    bench: Bench, batches: list[Batch], outcomes: list[Outcome], lost: frozenset[int], there: frozenset[int]
) -> None:
    assert bench.database.rows == [n for n in range(30) if n not in lost | there]
    assert {position.ordinal for position in bench.letters()} == lost
    earlier = 0
    for batch, outcome in zip(batches, outcomes, strict=True):
        records = range(batch.segments[0].first, batch.segments[0].last + 1)
        assert {position.ordinal for position in outcome.rejected} == lost.intersection(records)
        assert outcome.duplicates == len(there.intersection(records))
        assert outcome.written + len(outcome.rejected) + outcome.duplicates == len(records)
        receipt = bench.database.receipts.get(batch.id)
        if receipt:
            assert receipt["segments"] == [[0, records[0], records[-1]]]
            assert receipt["rows"] == outcome.written + earlier
            assert sorted(receipt["rejected"]) == [[0, n] for n in records if n in lost]
        earlier += outcome.written if bench.receipts == "replaced" else 0
    kept = batches if bench.receipts == "kept" else batches[-1:]
    assert list(bench.database.receipts) == [batch.id for batch in kept]
    assert bench.metrics.total("retry") == len(bench.waits)


@pytest.mark.parametrize(("where", "verdict"), FAULTS)
def test_a_fault_that_may_pass_is_tried_again(where: Where, verdict: Verdict, folder: Path) -> None:
    bench = Bench(Database([(where, verdict)]), folder / "x")
    outcome = bench.delivery.deliver(batch_of(0, 3))
    assert bench.database.rows == [0, 1, 2]
    assert (outcome.written, list(outcome.rejected)) == (3, [])
    assert bench.metrics.total("retry") == len(bench.waits) == 1


def test_a_commit_in_doubt_that_took_effect_is_reported_as_it_was(folder: Path) -> None:
    bench = Bench(
        Database([("after commit", "in_doubt")], bad=frozenset({1}), there=frozenset({2})), folder / "x"
    )
    outcome = bench.delivery.deliver(batch_of(0, 4))
    assert (outcome.written, outcome.rejected, outcome.duplicates) == (2, [Position(0, 1)], 1)


def test_attempts_end_with_the_databases_own_words(folder: Path) -> None:
    bench = Bench(Database([("write", "retry")] * 9), folder / "x", attempts=2)
    with pytest.raises(SinkError, match="retry happened"):
        bench.delivery.deliver(batch_of(0, 3))
    assert len(bench.waits) == 2
    assert bench.database.rows == []


def test_doubt_that_does_not_end_says_that_the_connection_is_lost(folder: Path) -> None:
    bench = Bench(Database([("before commit", "in_doubt")] * 9), folder / "x", attempts=2)
    with pytest.raises(SinkError, match="the connection is lost and does not come back"):
        bench.delivery.deliver(batch_of(0, 3))


@pytest.mark.parametrize("where", ["begin", "write", "before commit"])
def test_a_fatal_error_is_not_tried_again(where: Where, folder: Path) -> None:
    bench = Bench(Database([(where, "fatal")]), folder / "x")
    with pytest.raises(SinkError, match="fatal happened"):
        bench.delivery.deliver(batch_of(0, 3))
    assert not bench.waits
    assert not bench.database.receipts


def test_another_owner_stops_it_at_once(folder: Path) -> None:
    bench = Bench(Database(owner="another"), folder / "x")
    with pytest.raises(TakenOverError):
        bench.delivery.deliver(batch_of(0, 3))
    assert not bench.waits
    assert not bench.database.rows


def test_a_takeover_between_doubt_and_the_next_attempt_writes_nothing_twice(folder: Path) -> None:
    bench = Bench(Database([("after commit", "in_doubt")]), folder / "x")
    wait = bench.waits.append

    def taken_over(seconds: float) -> None:
        wait(seconds)
        bench.database.owner = "another"

    bench.delivery._retry = Retry(20, wait=taken_over)
    with pytest.raises(TakenOverError):
        bench.delivery.deliver(batch_of(0, 3))
    assert bench.database.rows == [0, 1, 2]


def test_a_batch_without_good_rows_leaves_a_receipt_and_letters(folder: Path) -> None:
    bench = Bench(Database(), folder / "x")
    batch = batch_of(5, 2, frozenset({5, 6}))
    outcome = bench.delivery.deliver(batch)
    assert (outcome.written, len(outcome.rejected)) == (0, 2)
    assert bench.database.receipts[batch.id]["rejected"] == [[0, 5], [0, 6]]
    assert bench.letters() == [Position(0, 5), Position(0, 6)]


def test_a_letter_names_its_file_and_holds_its_row(folder: Path) -> None:
    bench = Bench(Database(bad=frozenset({4})), folder / "x")
    rows = [{"n": 3}, {"n": 4}]
    bench.delivery.deliver(Batch([Chunk(0, 2, rows, split=1)]))
    line = json.loads((folder / "x").read_text().splitlines()[1])
    assert line["row"] == {"n": 4}
    assert line["position"] == {"file": "b.csv", "split": 1, "record": 2}
    assert (line["code"], line["sink"]) == ("FaultError", "memory")


def test_letters_that_cannot_be_written_keep_the_batch_from_being_committed(folder: Path) -> None:
    bench = Bench(Database(bad=frozenset({1})), folder / "no" / "x")
    with pytest.raises(Exception, match="cannot write dead letters"):
        bench.delivery.deliver(batch_of(0, 3))
    assert not bench.database.rows
    assert bench.sink.receipt is None


def test_close_disconnects_and_the_next_batch_opens_again(folder: Path) -> None:
    bench = Bench(Database(), folder / "x")
    bench.delivery.deliver(batch_of(0, 1))
    bench.delivery.close()
    bench.delivery.close()
    assert not bench.sink.connected
    bench.delivery.deliver(batch_of(1, 1))
    assert bench.database.rows == [0, 1]


def test_what_has_failed_is_tried_for_a_time_after_the_first_failure_however_long_that_took(
    folder: Path,
) -> None:
    now = [500.0]  # the first attempt has taken that long

    def wait(_: float) -> None:
        now[0] += 50

    def deliver(faults: int, name: str) -> Outcome:
        bench = Bench(Database([("before commit", "retry")] * faults), folder / name)
        bench.delivery._retry = Retry(seconds=120, wait=wait, clock=lambda: now[0])
        return bench.delivery.deliver(batch_of(0, 3))

    assert deliver(3, "x").written == 3
    with pytest.raises(SinkError):
        deliver(4, "y")


def test_nothing_is_tried_again_once_the_load_has_stopped(folder: Path) -> None:
    bench = Bench(Database([("before commit", "retry")] * 3), folder / "x")
    bench.delivery._retry = Retry(wait=bench.waits.append, stopped=lambda: True)
    with pytest.raises(SinkError):
        bench.delivery.deliver(batch_of(0, 3))
    assert bench.waits == []


def test_a_batch_that_is_too_much_at_once_is_written_in_pieces_under_one_receipt(folder: Path) -> None:
    bench = Bench(Database(), folder / "x")
    sizes: list[int] = []
    write = bench.sink.write

    def limited(rows: Sequence[Mapping[str, Any]]) -> list[Rejection]:
        sizes.append(len(rows))
        if len(rows) > 30:
            raise FaultError("overload")
        return write(rows)

    bench.sink.write = limited  # type: ignore[method-assign]
    assert bench.delivery.deliver(batch_of(0, 100)).written == 100
    assert sizes == [100, 50, 25, 25, 25, 25]
    assert len(bench.database.receipts) == 1
