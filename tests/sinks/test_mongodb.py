from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from bson import Decimal128, ObjectId, decode, encode
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from labs.mongo_wire import Fault, WireServer
from labs.mongo_wire.commands import HELLO
from labs.mongodb import MongoLab, mongo_lab
from pymongo import errors

from adaptive.protocols import Sink
from adaptive.sinks import mongodb as module
from adaptive.sinks.mongodb import OPTIONS, MongodbSink, OwnershipLostError

LOAD = {
    "load": "l1",
    "fingerprint": "f",
    "source": "orders.csv",
    "mapping": "{}",
    "owner": "me",
    "splits": [0, 1],
}
SCHEMA = pa.schema([pa.field("k", pa.int64()), pa.field("name", pa.string())])
RECEIPTS = "_adaptive_ledger"
STANDARD: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, uuid_representation=4)
CONTRACT: type[Sink] = MongodbSink  # mypy holds the class to it


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture
def db(mongo_server: str) -> Iterator[MongoLab]:
    """A new database."""
    with mongo_lab(mongo_server) as found:
        yield found


@pytest.fixture
def url(wire: WireServer) -> str:
    return wire.url.replace("/?", "/market?")


def receipt(batch: str = "b1", segments: Any = ((0, 0, 1),), **changes: Any) -> dict[str, Any]:
    rows = sum(last - first + 1 for _, first, last in segments)
    return {"load": "l1", "batch": batch, "owner": "me", "segments": segments, "rejected": [], "rows": rows,
            "replaces": None} | changes  # fmt: skip


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [{"k": number, "name": f"n{number}"} for number in range(first, last + 1)]


def prepared(db: MongoLab, load: Any = LOAD, schema: pa.Schema | None = SCHEMA, **options: Any) -> Any:
    sink = db.sink("t", **options)
    sink.open()
    try:
        sink.prepare(load, schema)
    except BaseException:
        sink.close()  # nobody else would
        raise
    return sink


def names(db: MongoLab, table: str = "t") -> dict[Any, Any]:
    return {row["k"]: row["name"] for row in db.rows(table)}


def batch(sink: Any, given: Any, *, commit: bool = True, **changes: Any) -> Any:
    """Write rows as a batch; return what was refused, or None if it was committed before."""
    if not sink.begin(receipt(**changes)):
        return None
    refused = sink.write_arrow(given) if isinstance(given, pa.Table) else sink.write(given)
    if commit:
        sink.commit()
    return refused


# --- construction and connection ---


@pytest.mark.parametrize(
    "bad", ["mongodb://h", "mongodb://h/", "mongodb://h/?w=1", "sqlite:///x", "mongodb://h/a/b"]
)
def test_a_url_without_a_database_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="mongodb://host/database"):
        MongodbSink(bad)


@pytest.mark.parametrize("query", ["w=0", "retryWrites=true&W=0"])
def test_unacknowledged_writes_are_refused(query: str) -> None:
    with pytest.raises(ValueError, match="w=0"):
        MongodbSink(f"mongodb://h/market?{query}")


@pytest.mark.parametrize(
    "options",
    [{"table": ""}, {"table": "system.users"}, {"table": "a$b"}, {"table": "_adaptive_loads"},
     {"mode": "drop"}, {"mode": "replace", "ledger": None}],
)  # fmt: skip
def test_impossible_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"target collection|mode"):
        MongodbSink("mongodb://h/market", **options)


@pytest.mark.parametrize(
    ("url", "database"),
    [("mongodb://h/market", "market"), ("mongodb+srv://u:p%40@h.example/a%2Db?tls=true", "a-b"),
     ("mongodb://u:p@h1:1,h2:2/market?replicaSet=r", "market")],
)  # fmt: skip
def test_the_database_is_the_urls_path(url: str, database: str) -> None:
    assert MongodbSink(url).database == database


@pytest.mark.parametrize(("table", "name"), [('"a ""b"".c"', 'a "b".c'), ("a.b", "a.b")])
def test_a_collections_name_may_be_quoted(table: str, name: str) -> None:
    assert MongodbSink("mongodb://h/d", table=table).table == name


def test_a_server_that_is_not_there_fails_fast_without_the_password() -> None:
    with pytest.raises(errors.ServerSelectionTimeoutError) as caught:
        MongodbSink("mongodb://joe:secret@127.0.0.1:1/d?serverSelectionTimeoutMS=50").open()
    assert "secret" not in str(caught.value)
    assert MongodbSink("mongodb://h/d").classify(caught.value) == "retry"


def test_wrong_credentials_are_fatal_and_not_shown(wire: WireServer, url: str) -> None:
    wire.faults = [Fault("saslStart", {"ok": 0, "code": 18, "errmsg": "Authentication failed."}, times=9)]
    sink = MongodbSink(url.replace("//", "//joe:secret@"))
    with pytest.raises(errors.OperationFailure) as caught:
        sink.open()
    assert sink.classify(caught.value) == "fatal"
    assert "authSource" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "secret" not in str(sink.doctor())
    sink.close()


def test_writes_and_ledger_are_journaled_by_a_majority_whatever_the_url_says(
    wire: WireServer, url: str
) -> None:
    with MongodbSink(url + "&w=1&journal=false&readPreference=secondary", table="t") as sink:
        sink.prepare(LOAD)
        sink.begin(receipt())
        sink.write(rows(0, 1))
        sink.commit()
    written = [command for command in wire.commands if next(iter(command)) in ("insert", "update")]
    assert {tuple(sorted(command["writeConcern"].items())) for command in written} == {
        (("j", True), ("w", "majority"), ("wtimeout", 60_000))
    }
    reads = [command for command in wire.commands if "find" in command]
    assert all(
        command.get("$readPreference", {"mode": "primary"})["mode"].startswith("primary") for command in reads
    )


# --- positions ---


def test_a_batch_is_written_once_however_it_is_cut_the_second_time(db: MongoLab) -> None:
    with prepared(db) as sink:
        assert batch(sink, rows(0, 9), segments=[(0, 0, 9)], commit=False) == []
        assert batch(sink, pa.Table.from_pylist(rows(0, 2)), batch="c1", segments=[(0, 0, 2)]) == []
        assert batch(sink, rows(3, 9), batch="c2", segments=[(0, 3, 9)]) == []
    assert sorted(row["k"] for row in db.rows("t")) == list(range(10))


def test_rejected_positions_have_no_row(db: MongoLab) -> None:
    with prepared(db) as sink:
        batch(
            sink, rows(0, 1), segments=[(0, 0, 3), (1, 0, 0)], rejected=[[0, 1], [0, 2], [1, 0]], commit=False
        )
        assert batch(sink, rows(1, 1), batch="c", segments=[(0, 3, 3)]) == []
    assert names(db) == {0: "n0", 1: "n1"}


def test_more_rows_than_positions_are_an_error(db: MongoLab) -> None:
    with prepared(db) as sink:
        sink.begin(receipt())
        with pytest.raises(ValueError, match="positions"):
            sink.write(rows(0, 2))


def test_another_document_with_the_same_position_is_a_reject(db: MongoLab) -> None:
    with prepared(db) as sink:
        batch(sink, rows(0, 1), commit=False)
        [(index, code, _)] = batch(sink, [{"k": 0, "name": "other"}, *rows(1, 1)])
        assert (index, code) == (0, "11000")
    assert names(db) == {0: "n0", 1: "n1"}


def test_an_id_of_the_source_is_kept(db: MongoLab) -> None:
    given = [{"name": "a", "_id": 5}, {"name": "b", "_id": "5"}, {"name": "c", "_id": 5}]
    with prepared(db) as sink:
        assert [(index, code) for index, code, _ in batch(sink, given, segments=[(0, 0, 2)])] == [
            (2, "11000")
        ]
        arrow = pa.table({"name": ["a", "x", "d"], "_id": pa.array([5, 5, 6], pa.int64())})
        assert [index for index, _, _ in batch(sink, arrow, batch="b2", segments=[(0, 3, 5)])] == [1]
    assert {document["_id"]: document["name"] for document in db.db["t"].find()} == {5: "a", "5": "b", 6: "d"}


@pytest.mark.parametrize("mode", ["append", "ignore", "replace"])
def test_an_id_that_is_null_is_none(db: MongoLab, mode: str) -> None:
    """So such a row has the `_id` of its position, and is known when its batch is written again."""
    given = [{"_id": 1, "k": 0}, {"_id": None, "k": 1}, {"k": 2}]
    columns = [pa.array([5, None], pa.int64()), pa.nulls(2), pa.array([6, None]).dictionary_encode(),
               pa.DictionaryArray.from_arrays([0, 1], [7, None])]  # fmt: skip
    with prepared(db, mode=mode) as sink:
        for last_attempt in (False, True):
            assert batch(sink, given, segments=[(0, 0, 2)], commit=last_attempt) == []
        for number, own in enumerate(columns):
            table = pa.table({"k": [10 * number + 10, 10 * number + 11], "_id": own})
            at = {"batch": f"arrow {number}", "segments": [(0, 2 * number + 3, 2 * number + 4)]}
            for last_attempt in (False, True):
                assert batch(sink, table, commit=last_attempt, **at) == []
        sink.finish(LOAD)
    found = {document["k"]: document["_id"] for document in db.db["t"].find()}
    own_ids = {k: found.pop(k) for k in (0, 10, 30, 40)}
    assert own_ids == {0: 1, 10: 5, 30: 6, 40: 7}
    assert sorted(found) == [1, 2, 11, 20, 21, 31, 41]
    assert {type(id_) for id_ in found.values()} == {ObjectId}


def test_pieces_have_their_own_heads_where_an_id_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_ROWS", 2)
    table = pa.table({"k": [0, 1, 2, 3, 4], "_id": pa.array([None, 1, 2, None, None], pa.int64())})
    fresh = [ObjectId() for _ in range(5)]
    heads = [b"\x07_id\0" + id_.binary for id_ in fresh]
    found = [decode(raw, OPTIONS) for raw in module._Encoder(lambda: None).documents(table, heads)]
    assert [list(document) for document in found] == [["_id", "k"]] * 5
    assert [document["_id"] for document in found] == [fresh[0], 1, 2, fresh[3], fresh[4]]


def test_a_taken_key_of_another_index_is_a_reject_unless_the_document_is_ours(db: MongoLab) -> None:
    with prepared(db, key=("k",)) as sink:
        batch(sink, rows(0, 1), commit=False)
        assert batch(sink, rows(0, 1)) == []
        assert [index for index, _, _ in batch(sink, rows(1, 2), batch="b2", segments=[(0, 2, 3)])] == [0]
    assert names(db) == {0: "n0", 1: "n1", 2: "n2"}


def test_nan_and_widths_of_integers_do_not_make_documents_differ(db: MongoLab) -> None:
    with prepared(db) as sink:
        given = [{"a": float("nan"), "b": 1, "c": [{"d": None}]}]
        batch(sink, given, segments=[(0, 0, 0)], commit=False)
        table = pa.table({"a": [float("nan")], "b": pa.array([1], pa.int64()), "c": [[{"d": None}]]})
        assert batch(sink, table, segments=[(0, 0, 0)]) == []


# --- modes ---


def test_ignore_counts_the_same_duplicates_when_a_batch_is_repeated(db: MongoLab) -> None:
    with prepared(db, mode="ignore", key=("k",)) as sink:
        batch(sink, rows(0, 1))
        for last_attempt in (False, True):
            again = [*rows(1, 3), {"k": 3, "name": "second"}]
            assert batch(sink, again, batch="b2", segments=[(0, 2, 5)], commit=last_attempt) == []
            assert sink.duplicates == 2
    assert names(db) == {0: "n0", 1: "n1", 2: "n2", 3: "n3"}


def test_ignore_by_id_leaves_out_what_differs(db: MongoLab) -> None:
    with prepared(db, mode="ignore") as sink:
        batch(sink, [{"_id": 1, "name": "a"}], segments=[(0, 0, 0)])
        again = [{"_id": 1, "name": "b"}, {"_id": 2, "name": "c"}, {"_id": 2, "name": "c"}]
        assert batch(sink, again, batch="b2", segments=[(0, 1, 3)]) == []
        assert sink.duplicates == 2
    assert sorted(row["name"] for row in db.rows("t")) == ["a", "c"]


def test_ignore_rejects_what_another_index_refuses(db: MongoLab) -> None:
    with prepared(db, mode="ignore", key=("k",)) as sink:
        db.db["t"].create_index("name", unique=True)
        batch(sink, rows(0, 1))
        assert [i for i, _, _ in batch(sink, [{"k": 7, "name": "n0"}], batch="b2", segments=[(0, 2, 2)])] == [
            0
        ]
        assert sink.duplicates == 0


def test_upsert_merges_rows_of_a_key_and_can_be_repeated(db: MongoLab) -> None:
    with prepared(db, mode="upsert", key=("k",)) as sink:
        given = [{"k": 1, "name": "a", "x": 1}, {"k": 2, "name": "b"}, {"k": 1, "name": "c"}]
        batch(sink, given, segments=[(0, 0, 2)], commit=False)
        assert batch(sink, given, segments=[(0, 0, 2)]) == []
        assert batch(sink, pa.table({"k": [2], "name": ["d"]}), batch="b2", segments=[(0, 3, 3)]) == []
    found = sorted(db.rows("t"), key=lambda row: row["k"])
    assert found == [{"k": 1, "name": "c", "x": 1}, {"k": 2, "name": "d"}]


def test_upsert_by_id_is_the_default(db: MongoLab) -> None:
    with prepared(db, mode="upsert") as sink:
        batch(sink, [{"_id": 1, "name": "a"}, {"_id": 1, "name": "b"}, {"_id": 2}], segments=[(0, 0, 2)])
    assert list(db.db["t"].find()) == [{"_id": 1, "name": "b"}, {"_id": 2}]


def test_an_upsert_by_another_key_takes_an_id_that_is_null_for_none(db: MongoLab) -> None:
    with prepared(db, mode="upsert", key=("k",)) as sink:
        given = [{"k": 1, "_id": 5}, {"k": 1, "_id": None, "name": "a"}, {"k": 2, "_id": None}]
        assert batch(sink, given, segments=[(0, 0, 2)]) == []
        table = pa.table({"k": [2, 3], "_id": pa.array([None, None], pa.int64())})
        assert batch(sink, table, batch="b2", segments=[(0, 3, 4)]) == []
    found = {document["k"]: document for document in db.db["t"].find()}
    assert found[1] == {"_id": 5, "k": 1, "name": "a"}
    assert [type(found[k]["_id"]) for k in (2, 3)] == [ObjectId] * 2


def test_an_upsert_by_an_id_that_is_null_is_a_reject(db: MongoLab) -> None:
    given = [{"_id": 1, "k": 1}, {"_id": None, "k": 2}]
    with prepared(db, mode="upsert") as sink:
        for number, some in enumerate((given, pa.Table.from_pylist(given))):
            [(index, _, reason)] = batch(
                sink, some, batch=f"b{number}", segments=[(0, 2 * number, 2 * number + 1)]
            )
            assert (index, "column _id" in reason) == (1, True)
    assert list(db.db["t"].find()) == [{"_id": 1, "k": 1}]


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "x"},
        {"k": None},
        {"k": [1]},
        {"k": 1, "a.b": 1},
        {"k": 1, "$a": 1},
        {"k": 1, "": 1},
        {5: 1, "k": 1},
        {"k": {1}},
        {"k": object()},
        {"k": {"a": object()}},
        {"k": 1, "v": 2**63},
    ],
)
def test_what_cannot_be_upserted_is_rejected_alone(db: MongoLab, bad: dict[str, Any]) -> None:
    with prepared(db, mode="upsert", key=("k",)) as sink:
        refused = batch(sink, [*rows(1, 1), bad, *rows(2, 2)], segments=[(0, 0, 2)])
        assert [(index, code) for index, code, _ in refused] == [(1, "value")]
    assert names(db) == {1: "n1", 2: "n2"}


def test_a_document_as_a_key_is_no_operator(db: MongoLab) -> None:
    with prepared(db, mode="upsert", key=("k",)) as sink:
        batch(sink, [{"k": 1, "name": "a"}], segments=[(0, 0, 0)])
        batch(sink, [{"k": {"x": {"$gt": 0}}, "name": "b"}], batch="b2", segments=[(0, 1, 1)])
    assert sorted(row["name"] for row in db.rows("t")) == ["a", "b"]


def test_of_merged_rows_only_the_refused_one_is_lost(db: MongoLab) -> None:
    db.make_items()
    with db.sink("items", mode="upsert", key=("item_id",)) as sink:
        sink.begin()
        given = [{"item_id": 1, "amount": 5}, {"item_id": 1, "amount": -1}, {"item_id": 2, "amount": 1}]
        assert [(index, code) for index, code, _ in sink.write(given)] == [(1, "121")]
    assert {row["item_id"]: row["amount"] for row in db.rows("items")} == {1: 5, 2: 1}


def test_a_mode_with_a_key_needs_a_unique_index_and_says_how_to_make_it(db: MongoLab) -> None:
    db.db["t"].insert_one({"k": 1})
    with db.sink("t", mode="upsert", key=("k",)) as sink:
        with pytest.raises(LookupError, match=r'createIndex\(\{"k": 1\}, \{unique: true\}\)'):
            sink.prepare(LOAD)
        assert "createIndex" in str(sink.doctor())
        db.db["t"].create_index("k", unique=True)
        assert sink.prepare(LOAD) == []
        assert len(sink.doctor()) <= 2


# --- replace ---


def test_replace_copies_options_and_indexes_and_swaps_at_the_end(db: MongoLab) -> None:
    db.db.command("create", "t", validator={"name": {"$ne": "bad"}})
    db.db["t"].create_index("k", unique=True, name="by_k")
    db.db["t"].insert_one({"k": 99, "name": "old"})
    options = next(entry["options"] for entry in db.db.list_collections() if entry["name"] == "t")
    with prepared(db, mode="replace") as sink:
        batch(sink, rows(0, 1))
        assert [index for index, _, _ in batch(sink, rows(1, 2), batch="b2", segments=[(0, 2, 3)])] == [0]
        assert names(db) == {99: "old"}
        sink.finish(LOAD)
    assert names(db) == {0: "n0", 1: "n1", 2: "n2"}
    assert {index["name"]: index.get("unique") for index in db.db["t"].list_indexes()} == {
        "_id_": None,
        "by_k": True,
    }
    assert next(entry["options"] for entry in db.db.list_collections() if entry["name"] == "t") == options
    assert not [name for name in db.db.list_collection_names() if name.startswith("_adaptive_new_")]


@pytest.mark.parametrize("after", [False, True], ids=["before the swap", "after the swap"])
def test_replace_can_be_finished_by_the_next_run_wherever_it_was_killed(
    wire: WireServer, after: bool
) -> None:
    with mongo_lab(wire.url) as db:
        db.db["t"].insert_one({"k": 99, "name": "old"})
        with prepared(db, mode="replace") as sink:
            batch(sink, rows(0, 1))
            wire.faults = [Fault("renameCollection", after=after, times=2)]  # pymongo may try again
            with pytest.raises(errors.AutoReconnect) as caught:
                sink.finish(LOAD)
            assert sink.classify(caught.value) == "in_doubt"
        wire.faults = []
        if after:  # a write of the run before arrives late, and makes the collection again
            late = next(n for n in (c.get("renameCollection") for c in wire.commands) if n).partition(".")[2]
            db.db[late].insert_one({"k": 7, "name": "late"})
        taken = LOAD | {"owner": "other"}
        with prepared(db, taken, mode="replace") as sink:
            assert sink.receipts("l1") == [([[0, 0, 1]], 2, [])]
            with pytest.raises(OwnershipLostError, match="swapped"):
                sink.begin(receipt("late", owner="other"))
            sink.finish(taken)
            sink.finish(taken)
            assert [(load["state"], load["rows"]) for load in sink.loads()] == [("done", 2)]
        assert names(db) == {0: "n0", 1: "n1"}


def test_a_replacement_that_was_dropped_is_loaded_again(db: MongoLab) -> None:
    with prepared(db, mode="replace") as sink:
        batch(sink, rows(0, 1))
        for name in db.db.list_collection_names():
            if name.startswith("_adaptive_new_"):
                db.drop(name)
        sink.prepare(LOAD)
        assert sink.receipts("l1") == []


def test_replacements_of_loads_that_ended_are_dropped(db: MongoLab) -> None:
    db.db["_adaptive_new_0123"].insert_one({})
    with prepared(db, mode="replace"), prepared(db, LOAD | {"load": "l2"}, mode="replace"):
        assert len([name for name in db.db.list_collection_names() if name.startswith("_adaptive_new_")]) == 2


def test_replace_needs_to_tell_collections_apart(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MongodbSink, "_uuid", lambda *_: "same")
    with (
        mongo_lab(wire.url) as db,
        db.sink("t", mode="replace") as sink,
        pytest.raises(LookupError, match="UUID"),
    ):
        sink.prepare(LOAD)


def test_replace_whose_rows_were_dropped_is_not_called_done(db: MongoLab) -> None:
    db.db["t"].insert_one({"k": 99, "name": "old"})
    with prepared(db, mode="replace") as sink:
        batch(sink, rows(0, 1))
        [name] = [n for n in db.db.list_collection_names() if n.startswith("_adaptive_new_")]
        db.drop(name)
        with pytest.raises(LookupError, match="gone"):
            sink.finish(LOAD)
        assert [load["state"] for load in sink.loads()] == ["running"]
    assert names(db) == {99: "old"}


def test_replace_without_a_receipt_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="receipt"):
        MongodbSink(url, table="t", mode="replace").begin()


# --- the ledger ---


def test_a_collection_that_was_dropped_starts_afresh(db: MongoLab) -> None:
    with prepared(db) as sink:
        batch(sink, rows(0, 1))
        db.drop("t")
        sink.prepare(LOAD)
        assert sink.receipts("l1") == []
        assert batch(sink, rows(0, 1)) == []
    assert names(db) == {0: "n0", 1: "n1"}


def test_the_ledger_has_its_name_or_is_not_there(db: MongoLab) -> None:
    with prepared(db, ledger="mine") as sink:
        batch(sink, rows(0, 0), segments=[(0, 0, 0)])
    assert set(db.db.list_collection_names()) == {"t", "mine_loads", "mine_splits", "mine_ledger"}
    with prepared(db, ledger=None) as sink:
        assert batch(sink, rows(1, 1), segments=[(0, 1, 1)]) == []
        assert (sink.loads(), sink.receipts("l1"), sink.finish(LOAD)) == ([], [], None)
    assert names(db) == {0: "n0", 1: "n1"}


def test_a_run_that_was_taken_over_enters_no_receipt(db: MongoLab) -> None:
    with prepared(db) as old, db.sink("t") as new:
        old.begin(receipt())
        old.write(rows(0, 1))
        new.prepare(LOAD | {"owner": "other"})
        with pytest.raises(OwnershipLostError) as caught:
            old.commit()
        assert old.classify(caught.value) == "taken_over"
        old.rollback()
        assert new.receipts("l1") == []
        assert batch(new, rows(0, 1), owner="other") == []
    assert names(db) == {0: "n0", 1: "n1"}


def test_a_receipt_whose_answer_was_lost_counts_once(wire: WireServer) -> None:
    with mongo_lab(wire.url) as db, prepared(db) as sink:
        sink.begin(receipt())
        sink.write(rows(0, 1))
        wire.faults = [Fault("insert", after=True, times=2)]
        with pytest.raises(errors.AutoReconnect):
            sink.commit()
        wire.faults = []
        assert batch(sink, rows(0, 1)) is None
        assert sink.receipts("l1") == [([[0, 0, 1]], 2, [])]


def test_a_load_that_runs_is_counted_once_however_its_receipts_overlap(db: MongoLab) -> None:
    entries = [
        {"_id": f"r{number}", "load": "l1", "batch": f"b{number}", "segments": segments, "rows": 2,
         "rejected": [[0, 1]]}
        for number, segments in enumerate(([[0, 0, 2]], [[0, 1, 3]]))
    ]  # fmt: skip
    with prepared(db) as sink:
        db.db[RECEIPTS].insert_many(entries)
        assert [(load["state"], load["rows"], load["rejected"]) for load in sink.loads()] == [
            ("running", 3, 1)
        ]


def test_loads_that_run_are_counted_in_one_query_and_done_ones_in_none(wire: WireServer, url: str) -> None:
    asked = []
    with MongodbSink(url, table="t") as sink:
        for name in ("l1", "l2"):
            sink.prepare(LOAD | {"load": name}, SCHEMA)
        for name in ("l1", "l2"):
            wire.commands.clear()
            sink.loads()
            asked.append([c["filter"]["load"]["$in"] for c in wire.commands if c.get("find") == RECEIPTS])
            sink.finish(LOAD | {"load": name})
        wire.commands.clear()
        assert [load["state"] for load in sink.loads()] == ["done", "done"]
    assert asked == [[["l1", "l2"]], [["l2"]]]
    assert RECEIPTS not in {command.get("find") for command in wire.commands}


def test_overlapping_receipts_of_a_stalled_run_are_counted_once(db: MongoLab) -> None:
    with prepared(db) as sink:
        batch(sink, rows(0, 1))
        batch(sink, rows(0, 2), batch="b2", segments=[(0, 0, 2)])
        sink.finish(LOAD)
        assert sink.receipts("l1") == [([[0, 0, 2]], 3, [])]


def test_very_many_rejects_are_kept_in_several_receipts(
    db: MongoLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPACT_REJECTS", 2)
    with prepared(db) as sink:
        sink.begin(receipt(segments=[(0, 0, 4)]))
        sink.commit([[0, n] for n in range(5)], 0)
        sink.finish(LOAD)
        sink.finish(LOAD)
        found = sink.receipts("l1")
    assert sorted(position for _, _, rejected in found for position in rejected) == [[0, n] for n in range(5)]
    assert [segments for segments, _, _ in found if segments] == [[[0, 0, 4]]]


# --- types ---

PARIS = timezone(timedelta(hours=1))
TYPES: list[tuple[pa.DataType, list[Any], list[Any]]] = [
    (pa.bool_(), [True, False], [True, False]),
    (pa.int8(), [-128, 127], [-128, 127]),
    (pa.int32(), [2**31 - 1, -(2**31)], [2**31 - 1, -(2**31)]),
    (pa.uint32(), [2**32 - 1], [2**32 - 1]),
    (pa.int64(), [2**63 - 1, -(2**63), 0], [2**63 - 1, -(2**63), 0]),
    (pa.float64(), [0.1, float("inf"), -1e300, 5e-324], [0.1, float("inf"), -1e300, 5e-324]),
    (pa.float32(), [0.5], [0.5]),
    (pa.decimal128(18, 4), [Decimal("12345678901234.5678"), Decimal("-0.0001"), Decimal("0.0000")],
     [Decimal128("12345678901234.5678"), Decimal128("-0.0001"), Decimal128("0.0000")]),
    (pa.decimal128(33, 0), [Decimal(10**33 - 1), Decimal(1 - 10**33)],
     [Decimal128(Decimal(10**33 - 1)), Decimal128(Decimal(1 - 10**33))]),
    (pa.decimal128(38, 38), [Decimal("0." + "0" * 4 + "9" * 34)], [Decimal128("0." + "0" * 4 + "9" * 34)]),
    (pa.decimal256(50, 2), [Decimal("1.25")], [Decimal128("1.25")]),
    (pa.string(), ["", "Zürich 株式 🚀", "nul \0 inside"], ["", "Zürich 株式 🚀", "nul \0 inside"]),
    (pa.large_string(), ["a"], ["a"]),
    (pa.string_view(), ["a", "longer than twelve bytes"], ["a", "longer than twelve bytes"]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b"], ["a", "b"]),
    (pa.binary(), [b"", b"\0\xff"], [b"", b"\0\xff"]),
    (pa.binary(2), [b"\0\xff"], [b"\0\xff"]),
    (pa.uuid(), [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)], [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]),
    (pa.date32(), [date(1, 1, 1), date(9999, 12, 31)],
     [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]),
    (pa.timestamp("us"), [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)],
     [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)]),
    (pa.timestamp("us", "Europe/Paris"),
     [datetime(2024, 1, 2, 0, 30, tzinfo=PARIS), datetime(1969, 12, 31, 23, 59, 59, 999001, UTC)],
     [datetime(2024, 1, 1, 23, 30, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999000, UTC)]),
    (pa.timestamp("s"), [datetime(2024, 1, 2)], [datetime(2024, 1, 2, tzinfo=UTC)]),
    (pa.time64("us"), [time(9, 30, 0, 5)], ["09:30:00.000005"]),
    (pa.list_(pa.string()), [["a", None, "ü"], []], [["a", None, "ü"], []]),
    (pa.struct({"a": pa.int64(), "d": pa.decimal128(5, 2), "s": pa.struct({"t": pa.list_(pa.date32())})}),
     [{"a": None, "d": Decimal("1.50"), "s": {"t": [date(2024, 1, 2)]}}, {"a": 1, "d": None, "s": None}],
     [{"a": None, "d": Decimal128("1.50"), "s": {"t": [datetime(2024, 1, 2, tzinfo=UTC)]}},
      {"a": 1, "d": None, "s": None}]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "expected"), TYPES, ids=[str(kind) for kind, _, _ in TYPES])
def test_every_type_is_stored_alike_from_arrow_and_from_python(
    db: MongoLab, kind: pa.DataType, given: list[Any], expected: list[Any]
) -> None:
    given, expected = [None, *given], [None, *expected]
    last = len(given) - 1
    table = pa.table(
        {"v": pa.array(given, kind.value_type if pa.types.is_dictionary(kind) else kind).cast(kind)}
    )
    with prepared(db, schema=pa.schema([pa.field("v", kind)])) as sink:
        assert batch(sink, table, segments=[(0, 0, last)], commit=False) == []
        assert batch(sink, [{"v": value} for value in given], segments=[(0, 0, last)]) == []
    found = db.db.get_collection("t", codec_options=STANDARD).find()
    assert [document["v"] for document in found] == expected


def test_json_text_becomes_documents(db: MongoLab) -> None:
    texts = [
        None,
        '{"a": [1, {"b": 1.10}], "big": 9007199254740993}',
        "[]",
        "NaN",
        '{"n": 9223372036854775808}',
    ]
    table = pa.table({"v": pa.array(texts, pa.string()).cast(pa.json_())})
    with prepared(db) as sink:
        assert [index for index, _, _ in batch(sink, table, segments=[(0, 0, 4)])] == [3, 4]
    found = [document["v"] for document in db.db["t"].find()]
    assert found == [None, {"a": [1, {"b": Decimal128("1.10")}], "big": 9007199254740993}, []]


BAD: list[tuple[pa.DataType, Any, str]] = [
    (pa.decimal128(38, 0), Decimal(10**34 + 1), "column v"),
    (pa.timestamp("us"), 253402300800000000, "year"),
    (pa.date32(), 2932897, "year"),
    (pa.uint64(), 2**63, "64 bits"),
    (pa.struct({"d": pa.date32()}), {"d": 2932897}, "column d: the year"),
]


@pytest.mark.parametrize(("kind", "value", "text"), BAD, ids=[str(kind) for kind, _, _ in BAD])
def test_arrow_values_that_bson_cannot_hold_are_rejected_by_row(
    db: MongoLab, kind: pa.DataType, value: Any, text: str
) -> None:
    if pa.types.is_struct(kind):
        numbers = pa.array([1, value["d"], 2], pa.int32()).cast(pa.date32())
        column = pa.StructArray.from_arrays([numbers], ["d"])
    else:
        column = pa.array([None, value, None], kind)
    with prepared(db) as sink:
        [(index, code, reason)] = batch(sink, pa.table({"k": [0, 1, 2], "v": column}), segments=[(0, 0, 2)])
        assert (index, code) == (1, "value")
        assert text in reason
    assert sorted(row["k"] for row in db.rows("t")) == [0, 2]


@pytest.mark.parametrize(
    "bad",
    [{"v": 2**63}, {"v": Decimal("1" * 35)}, {"v\0": 1}, {"v": {"a\0b": 1}}, {"v": object()},
     {"v": "\ud800"}, {5: 1}],
    ids=["64 bits", "35 digits", "nul", "nul inside", "object", "surrogate", "key"],
)  # fmt: skip
def test_python_values_that_bson_cannot_hold_are_rejected_by_row(db: MongoLab, bad: dict[Any, Any]) -> None:
    with prepared(db) as sink:
        [(index, code, reason)] = batch(sink, [*rows(0, 0), bad, *rows(2, 2)], segments=[(0, 0, 2)])
        assert (index, code) == (1, "value")
        assert "column" in reason or "bytes" in reason
        assert len(reason) < 300
    assert names(db) == {0: "n0", 2: "n2"}


def test_a_large_document_is_rejected_alone(db: MongoLab) -> None:
    table = pa.table({"k": [0, 1, 2], "v": ["a", "x" * 16_777_216, "b"]})
    with prepared(db) as sink:
        [(index, _, reason)] = batch(sink, table, segments=[(0, 0, 2)])
        assert index == 1
        assert "16,777,216" in reason
        assert [
            index for index, _, _ in batch(sink, table.to_pylist(), batch="b2", segments=[(0, 0, 2)])
        ] == [1]
    assert sorted(row["k"] for row in db.rows("t")) == [0, 2]


@pytest.mark.parametrize("mode", ["append", "ignore", "upsert", "replace"])
def test_a_write_of_nothing_but_bad_rows_is_rejects(db: MongoLab, mode: str) -> None:
    large = {"k": 1, "v": "x" * 17_000_000}
    with prepared(db, mode=mode, key=("k",) if mode in ("ignore", "upsert") else ()) as sink:
        times = pa.table({"k": [1, 2], "v": pa.array([1, 2], pa.duration("s"))})
        for number, some in enumerate(
            ([large], pa.Table.from_pylist([large]), times, [{"k": 3, "v": object()}])
        ):
            refused = batch(sink, some, batch=f"b{number}", segments=[(0, 2 * number, 2 * number + 1)])
            assert [index for index, _, _ in refused] == list(range(len(some)))
            assert all(re.search(r"size|bytes|column v", reason) for _, _, reason in refused)
        sink.finish(LOAD)
    assert db.rows("t") == []


def test_lost_microseconds_are_said_once(db: MongoLab, caplog: pytest.LogCaptureFixture) -> None:
    moment = datetime(2024, 1, 2, 9, 30, 0, 1)
    with prepared(db) as sink, caplog.at_level(logging.WARNING, "adaptive"):
        batch(sink, [{"v": moment}] * 2)
        batch(sink, pa.table({"v": [moment, moment]}), batch="b2", segments=[(0, 2, 3)])
    assert len([record for record in caplog.records if "microseconds" in record.message]) == 1


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**14), max_value=10**14))
def test_decimals_are_encoded_as_the_driver_does(value: Decimal) -> None:
    encoder = module._Encoder(lambda: None)
    [document] = encoder.documents(pa.table({"v": pa.array([value], pa.decimal128(20, 4))}), [b""])
    assert document == encode(
        {"v": Decimal128(value.quantize(Decimal("0.0001")).copy_abs().copy_sign(value or 1))}
    )


@given(st.lists(st.none() | st.text() | st.binary(), min_size=1), st.integers(1, 3))
def test_pieces_make_the_documents_of_the_whole(values: list[Any], step: int) -> None:
    texts = [value if isinstance(value, str) else None for value in values]
    table = pa.table({"t": pa.array(texts, pa.string()), "n": list(range(len(values)))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE_ROWS", step)
        found = module._Encoder(lambda: None).documents(table, [b""] * len(table))
    assert [decode(raw, OPTIONS) for raw in found] == table.to_pylist()


def test_prepare_returns_the_schemas_columns(db: MongoLab) -> None:
    schema = pa.schema([pa.field("k", pa.int64()), pa.field("big", pa.uint64())])
    with db.sink("t", key=("k",)) as sink:
        assert sink.prepare(LOAD, schema) == [
            ("k", pa.int64(), True, False, True, None),
            ("big", pa.decimal128(20, 0), True, False, False, None),
        ]
        assert sink.prepare(LOAD) == sink.columns() == []


# --- what went wrong ---


@pytest.mark.parametrize(
    ("code", "name", "verdict"),
    [
        (6, "HostUnreachable", "in_doubt"),
        (11, "UserNotFound", "fatal"),
        (13, "Unauthorized", "fatal"),
        (18, "AuthenticationFailed", "fatal"),
        (24, "LockTimeout", "retry"),
        (26, "NamespaceNotFound", "fatal"),
        (50, "MaxTimeMSExpired", "in_doubt"),
        (64, "WriteConcernTimeout", "in_doubt"),
        (72, "InvalidOptions", "fatal"),
        (91, "ShutdownInProgress", "in_doubt"),
        (100, "UnsatisfiableWriteConcern", "in_doubt"),
        (112, "WriteConflict", "retry"),
        (121, "DocumentValidationFailure", "reject"),
        (146, "ExceededMemoryLimit", "overload"),
        (189, "PrimarySteppedDown", "in_doubt"),
        (262, "ExceededTimeLimit", "in_doubt"),
        (462, "IngressRequestRateLimitExceeded", "overload"),
        (10107, "NotWritablePrimary", "in_doubt"),
        (10334, "BSONObjectTooLarge", "reject"),
        (11000, "DuplicateKey", "reject"),
        (11600, "InterruptedAtShutdown", "in_doubt"),
        (14031, "OutOfDiskSpace", "fatal"),
        (16500, "RequestRateTooLarge", "overload"),
    ],
)
def test_errors_are_classified_by_code(code: int, name: str, verdict: str) -> None:
    sink = MongodbSink("mongodb://h/d")
    assert sink.classify(errors.OperationFailure(name, code)) == verdict
    failure = {"index": 0, "code": code, "errmsg": name}
    assert (
        sink.classify(errors.BulkWriteError({"writeErrors": [failure], "writeConcernErrors": []})) == verdict
    )


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.AutoReconnect("lost"), "in_doubt"),
        (errors.NetworkTimeout("lost"), "in_doubt"),
        (errors.NotPrimaryError("stepped down"), "in_doubt"),
        (errors.AutoReconnect("lost", {"errorLabels": ["NoWritesPerformed"]}), "retry"),
        (errors.ServerSelectionTimeoutError("none"), "retry"),
        (errors.WaitQueueTimeoutError("busy"), "retry"),
        (errors.WriteConcernError("waiting", 64), "in_doubt"),
        (errors.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}), "in_doubt"),
        (errors.OperationFailure("busy", 1, {"errorLabels": ["SystemOverloadedError"]}), "overload"),
        (errors.ConfigurationError("bad"), "fatal"),
        (OwnershipLostError(), "taken_over"),
        (KeyError(), "fatal"),
    ],
)
def test_errors_are_classified_by_class_and_label(error: Exception, verdict: str) -> None:
    assert MongodbSink("mongodb://h/d").classify(error) == verdict


def write_fails(wire: WireServer, fault: Fault, given: list[dict[str, Any]]) -> tuple[str, str]:
    with mongo_lab(wire.url) as db, prepared(db) as sink:
        wire.faults = [fault]
        sink.begin(receipt())
        with pytest.raises(errors.PyMongoError) as caught:
            sink.write(given)
        verdict, text = sink.classify(caught.value), str(caught.value)
        sink.rollback()
        wire.faults = []
        assert batch(sink, given) == []
        assert names(db) == {row["k"]: row["name"] for row in given}
    return verdict, text


@pytest.mark.parametrize("after", [False, True])
def test_rows_whose_answer_was_lost_are_written_once(wire: WireServer, after: bool) -> None:
    assert write_fails(wire, Fault("insert", after=after, times=2), rows(0, 1))[0] == "in_doubt"


def test_rows_that_wait_for_a_majority_are_in_doubt(wire: WireServer) -> None:
    waiting = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
    assert write_fails(wire, Fault("insert", waiting, after=True), rows(0, 1))[0] == "in_doubt"


def test_an_error_that_is_not_the_datas_names_no_values(wire: WireServer) -> None:
    full = {
        "ok": 1,
        "n": 0,
        "writeErrors": [{"index": i, "code": 14031, "errmsg": "disk full"} for i in (0, 1)],
    }
    verdict, text = write_fails(wire, Fault("insert", full), [{"k": 1, "name": "private"}, *rows(2, 2)])
    assert verdict == "fatal"
    assert "disk full" in text
    assert "private" not in text


def test_a_command_that_is_refused_as_a_whole_is_narrowed_to_its_document(wire: WireServer) -> None:
    refused = {"ok": 0, "code": 10334, "errmsg": "too large"}
    with mongo_lab(wire.url) as db, prepared(db) as sink:
        wire.faults = [Fault("insert", refused, times=2)]  # of both rows, then of the first
        assert [(index, code) for index, code, _ in batch(sink, rows(0, 1), commit=False)] == [(0, "10334")]
        assert names(db) == {1: "n1"}


def test_a_refused_row_has_a_reason_when_the_server_has_run_out_of_words(wire: WireServer) -> None:
    many = 25_000  # errors of 55 characters or more, of which an older server's answer holds a megabyte
    with mongo_lab(wire.url) as db, prepared(db, key=("k",)) as sink:
        refused = batch(sink, pa.table({"k": [7] * many}), segments=[(0, 0, many - 1)])
    assert [index for index, _, _ in refused] == list(range(1, many))
    assert "E11000" in refused[0][2]
    assert refused[-1][2] == 'refused with code 11000, as others before: {"k": 7}'


def test_a_document_that_is_nested_too_deeply_is_refused_alone(wire: WireServer) -> None:
    deep = {"writeErrors": [{"index": 1, "code": 15, "errmsg": "exceeds 180 levels of nesting"}], "ok": 1}
    with mongo_lab(wire.url) as db, prepared(db) as sink:
        wire.faults = [Fault("insert", deep, after=True)]
        assert batch(sink, rows(0, 1)) == [(1, "15", "exceeds 180 levels of nesting")]


def test_an_upsert_that_meets_its_own_earlier_attempt_is_repeated(wire: WireServer) -> None:
    late = {"ok": 1, "n": 1, "writeErrors": [{"index": 1, "code": 11000, "errmsg": "E11000 _id_"}]}
    with mongo_lab(wire.url) as db, prepared(db, key="k", mode="upsert") as sink:
        wire.faults = [Fault("update", late, after=True)]  # both rows are there by now
        assert batch(sink, rows(0, 1)) == []
        assert names(db) == {0: "n0", 1: "n1"}


def test_an_index_that_is_not_unique_is_in_the_way_of_an_upsert_only(db: MongoLab) -> None:
    db.db["t"].create_index("k")
    with prepared(db, key="k") as sink:
        assert batch(sink, rows(0, 1)) == []
    db.db["t"].delete_many({})
    with pytest.raises(LookupError, match=r"createIndex\({\"k\": 1}, {unique: true}\)"):
        prepared(db, {**LOAD, "load": "l2"}, key="k", mode="upsert")


def test_a_secondary_is_not_written_to(wire: WireServer) -> None:
    secondary = {"ok": 1, "isWritablePrimary": False, "secondary": True, "maxBsonObjectSize": 16_777_216}
    with mongo_lab(wire.url) as db, db.sink("t") as sink:
        sink.close()
        wire.faults = [Fault("hello", {**HELLO, **secondary}, times=1_000)]
        with pytest.raises(errors.NotPrimaryError) as caught:
            sink.open()
        assert sink.classify(caught.value) == "in_doubt"


ENCRYPTED = {"name": "t", "type": "collection", "options": {"encryptedFields": {}}, "info": {}}


@pytest.mark.parametrize(
    ("command", "answer", "why"),
    [
        ("collStats", {"ok": 1, "sharded": True}, "is sharded"),
        (
            "listCollections",
            {"ok": 1, "cursor": {"id": 0, "ns": "a.b", "firstBatch": [ENCRYPTED]}},
            "encrypted",
        ),
    ],
)
def test_what_a_new_collection_cannot_take_the_place_of_is_not_replaced(
    command: str, answer: dict[str, Any], why: str, wire: WireServer
) -> None:
    with mongo_lab(wire.url) as db:
        db.db["t"].insert_one({"k": 1})
        with db.sink("t", mode="replace") as sink:
            sink._routed = command == "collStats"
            wire.faults = [Fault(command, answer, times=9)]
            with pytest.raises(LookupError, match=why):
                sink.prepare(LOAD)
        wire.faults = []
        assert db.rows("t") == [{"k": 1}]


def test_a_receipt_that_no_majority_has_yet_is_in_doubt(wire: WireServer) -> None:
    nothing = {"ok": 1, "cursor": {"id": 0, "ns": "a.b", "firstBatch": []}}
    with mongo_lab(wire.url) as db, prepared(db) as sink:
        assert batch(sink, rows(0, 1)) == []
        sink.begin(receipt("b2", segments=((0, 2, 3),)))
        taken = {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000"}]}
        wire.faults = [Fault("insert", taken), Fault("find", nothing, times=9)]
        with pytest.raises(errors.PyMongoError) as caught:
            sink._enter({"_id": "x"})
        assert sink.classify(caught.value) == "in_doubt"


def test_a_missing_right_is_named(wire: WireServer) -> None:
    denied = {"ok": 0, "code": 13, "errmsg": "not authorized on market to execute command { create }"}
    with mongo_lab(wire.url) as db, db.sink("t") as sink:
        wire.faults = [Fault("create", denied)]
        with pytest.raises(PermissionError, match=r"not authorized.*readWrite"):
            sink.prepare(LOAD)


def test_doctor_says_which_right_is_missing(wire: WireServer) -> None:
    status = {"authenticatedUsers": [{"user": "joe"}], "authenticatedUserPrivileges": [
        {"resource": {"db": "", "collection": ""}, "actions": ["find"]}]}  # fmt: skip
    with mongo_lab(wire.url) as db, db.sink("t") as sink:
        wire.faults = [Fault("connectionStatus", {"ok": 1, "authInfo": status})]
        [first, right, table] = sink.doctor()
    assert "replica set rs0" in first
    assert "insert" in right
    assert 'db.grantRolesToUser("joe", [{"role": "readWrite"' in right
    assert "no collection 't'" in table


def test_close_twice_and_rollback_without_begin_are_fine(url: str) -> None:
    sink = MongodbSink(url, table="t")
    sink.rollback()
    sink.open()
    sink.open()
    sink.close()
    sink.close()


# --- alone ---

ALONE = """
import sys
sys.path.insert(0, ".")
for name in ("adaptive", "pyarrow", "pymongoarrow"):
    sys.modules[name] = None
from mongodb import MongodbSink
with MongodbSink(sys.argv[1], table="orders") as sink:
    sink.begin(); sink.write([{"order_id": 1, "price": "9.99"}]); sink.commit()
"""


def test_the_file_alone_loads_rows(tmp_path: Path, wire: WireServer, url: str) -> None:
    shutil.copy(str(module.__file__), tmp_path)
    subprocess.run([sys.executable, "-I", "-c", ALONE, url], cwd=tmp_path, check=True)
    [raw] = wire.database.collections["market.orders"].documents.values()
    document = decode(raw)
    assert isinstance(document.pop("_id"), ObjectId)
    assert document == {"order_id": 1, "price": "9.99"}
