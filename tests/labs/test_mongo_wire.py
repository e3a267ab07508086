from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from labs.mongo_wire import WireServer, collection, commands, serving

MANY = 5_000  # documents: several pages of a cursor


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture
def client(wire: WireServer) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](wire.url, tz_aware=True) as client:
        yield client


@pytest.fixture
def orders(client: MongoClient[dict[str, Any]]) -> Collection[dict[str, Any]]:
    return client["market"]["orders"]


def test_it_serves_from_a_process_of_its_own() -> None:
    with serving() as url, MongoClient[dict[str, Any]](url) as client:
        assert client.admin.command("buildInfo")["process"] == "mongo_wire"


def test_documents_come_back_as_they_were_their_id_first(orders: Collection[dict[str, Any]]) -> None:
    given = {"price": Decimal128("1.10"), "long": Int64(1), "at": datetime(2026, 1, 2, tzinfo=UTC),
             "some": [1, {"x": None}], "_id": 7}  # fmt: skip
    orders.insert_one(dict(given))
    found = orders.find_one({"_id": 7.0})  # as for MongoDB, 7 is 7.0
    assert found == given
    assert next(iter(found)) == "_id"
    assert isinstance(found["long"], Int64)


def test_a_cursor_pages_through_many_documents(
    orders: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PAGE_BYTES", 10_000)
    orders.insert_many([{"n": n, "more": "x" * 50} for n in range(MANY)])
    found = list(orders.find({}, {"_id": 0, "n": 1}))
    assert found == [{"n": n} for n in range(MANY)]
    assert orders.count_documents({"n": {"$gt": 9}}) == MANY - 10
    assert [one["n"] for one in orders.find().sort("n", -1).limit(2)] == [MANY - 1, MANY - 2]


def test_unordered_errors_name_operation_and_key(orders: Collection[dict[str, Any]]) -> None:
    orders.create_index("n", unique=True)
    with pytest.raises(BulkWriteError) as caught:
        orders.insert_many([{"n": 1}, {"n": 1.0}, {"n": 2}, {"n": None}, {}], ordered=False)
    errors = caught.value.details["writeErrors"]
    assert [(one["index"], one["code"], one["keyPattern"]) for one in errors] == [
        (1, 11000, {"n": 1}),
        (4, 11000, {"n": 1}),
    ]
    with pytest.raises(BulkWriteError):
        orders.insert_many([{"n": 2}, {"n": 3}])  # ordered: it ends with the first error
    assert orders.count_documents({"n": 3}) == 0


def test_a_unique_index_covers_what_is_there_and_follows_changes(orders: Collection[dict[str, Any]]) -> None:
    orders.insert_many([{"n": 1}, {"n": 2}])
    orders.create_index("n", unique=True)
    orders.update_one({"n": {"$eq": 1}}, {"$set": {"n": 5}})
    orders.insert_one({"n": 1})
    orders.delete_one({"n": 2})
    orders.insert_one({"n": 2})
    orders.insert_one({"m": 1, "n": 3})
    with pytest.raises(DuplicateKeyError):
        orders.update_one({"n": 1}, {"$set": {"n": 5}})
    orders.insert_one({"m": 1, "n": 4})
    with pytest.raises(DuplicateKeyError):
        orders.create_index("m", unique=True)


def test_an_upsert_updates_or_inserts(orders: Collection[dict[str, Any]]) -> None:
    fresh = ObjectId()
    for value in (1, 2):
        orders.update_one(
            {"n": {"$eq": 1}}, {"$set": {"v": value}, "$setOnInsert": {"_id": fresh}}, upsert=True
        )
    assert list(orders.find()) == [{"_id": fresh, "n": 1, "v": 2}]


def test_renaming_takes_the_targets_place_only_if_asked(orders: Collection[dict[str, Any]]) -> None:
    orders.insert_one({"n": 1})
    orders.database["old"].insert_one({"n": 0})
    with pytest.raises(OperationFailure) as caught:
        orders.rename("old")
    assert caught.value.code == 48
    orders.rename("old", dropTarget=True)
    assert [one["n"] for one in orders.database["old"].find()] == [1]
    assert orders.database.list_collection_names() == ["old"]


@pytest.mark.parametrize(
    ("command", "code"),
    [({"nothing": 1}, 59), ({"find": "orders", "filter": {"n": {"$near": 1}}}, 2),
     ({"aggregate": "orders", "pipeline": [{"$facet": {}}], "cursor": {}}, 40324)],
)  # fmt: skip
def test_what_it_does_not_know_is_refused(
    orders: Collection[dict[str, Any]], command: dict[str, Any], code: int
) -> None:
    orders.insert_one({"n": 1})
    with pytest.raises(OperationFailure) as caught:
        orders.database.command(command)
    assert caught.value.code == code


def test_a_crash_leaves_half_of_a_batch_and_everything_that_was_acknowledged(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, going_on, insert = threading.Event(), threading.Event(), collection.Collection.insert

    def insert_slowly(held: collection.Collection, raw: bytes) -> None:
        if len(held.documents) == MANY // 2:
            reached.set()
            going_on.wait()
        insert(held, raw)

    failed: list[PyMongoError] = []

    def write() -> None:
        with MongoClient[dict[str, Any]](wire.url, retryWrites=False) as writer:
            writer["market"]["acknowledged"].insert_one({"n": 1})
            try:
                writer["market"]["orders"].insert_many([{"n": n} for n in range(MANY)])
            except AutoReconnect as error:
                failed.append(error)

    monkeypatch.setattr(collection.Collection, "insert", insert_slowly)
    writing = threading.Thread(target=write)
    writing.start()
    reached.wait()
    wire.crash()
    going_on.set()
    writing.join()
    assert failed
    with MongoClient[dict[str, Any]](wire.url) as client:  # which waits until the server is back
        assert MANY // 2 <= client["market"]["orders"].count_documents({}) < MANY
        assert client["market"]["acknowledged"].count_documents({}) == 1
