"""Write documents into a MongoDB collection, exactly once and without transactions.

Needs pymongo; Arrow tables need pyarrow. This file imports nothing from its package: copy it alone and it
works.

A row is recognised by its `_id`: its own, if it brings one that is not NULL, or else an ObjectId made of
its load and position. Rows are written first, unordered, then their receipt, both with `w: majority` and
journaled. A batch that is written again meets its own documents (error 11000); they are fetched and
compared, and equal ones are written already. So nothing has to be undone, and nothing is written twice.

Stored forms: int32 or long; double; decimal Decimal128, digit for digit; timestamp a date in milliseconds
(rounded down, and said once in the log "adaptive"); date midnight UTC; uuid binary subtype 4; time ISO
text; list array; struct and JSON document; NULL a field that is null.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import parse_qs, unquote

from bson import Decimal128, Int64, ObjectId, decode, encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion, TypeRegistry
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:  # then there are only rows
    pa = None

Rejection: TypeAlias = tuple[int, str, str]
Receipt: TypeAlias = tuple[list[list[int]], int, list[list[int]]]  # segments, rows, rejected positions
Indexed: TypeAlias = tuple[int, Any]  # a document and, before it, the index of its row
Write: TypeAlias = Callable[[Any], list[Rejection]]
Verdict: TypeAlias = Literal["retry", "overload", "in_doubt", "reject", "fatal", "taken_over"]

MODES = ("append", "ignore", "upsert", "replace")
# Unless the URL says otherwise. Milliseconds: a majority that is lost ends a write in doubt after 60 s; a
# server that has fallen silent does so later than that, so that the clearer error comes first.
DEFAULTS = {"serverSelectionTimeoutMS": 5_000, "wtimeoutMS": 60_000, "socketTimeoutMS": 120_000,
            "appName": "adaptive"}  # fmt: skip
UPSERT_ROWS = 1_000  # between two looks at the owner; pymongo sends about as many at once
COMPACT_REJECTS = 100_000  # positions in one receipt: 4 MB of the 16 MB that a document may have
PIECE_ROWS, PIECE_BYTES = 16_384, 64_000_000  # encoded at once: 1,000 rows cost 4 times as much each
YEARS = (-62_135_596_800_000, 253_402_300_799_999)  # years 1 to 9999 in ms; drivers read no others

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml; what is not here is fatal.
DUPLICATE = {11000, 11001, 12582}
UNAUTHORIZED, NOT_FOUND, EXISTS, NOT_DURABLE = 13, 26, 48, 64
AUTHENTICATION = {18, 8000}  # the second one is that of MongoDB's hosted service
OTHER_INDEX = {85, 86}  # one of that name, or on these fields, has other options
CODES: tuple[tuple[Verdict, set[int]], ...] = (
    # DocumentValidationFailure, BSONObjectTooLarge (and after an update), KeyTooLong, PathNotViable,
    # Dollar-prefixed, invalid _id, DBRef, empty and dotted names, ImmutableField, InvalidBSON,
    # CannotIndexParallelArrays, Overflow (nested deeper than 180 levels), a value that a geo, a text or a
    # hashed index cannot take
    ("reject", {*DUPLICATE, 121, 10334, 17419, 17420, 17280, 28, 52, 53, 55, 56, 57, 66, 22, 171, 15, 16755,
                16766, 16804, 13027, 17261, 17262}),
    # LockTimeout, LockBusy, WriteConflict, ConflictingOperationInProgress, StaleConfig, StaleEpoch,
    # ReadConcernMajorityNotAvailableYet, StaleDbVersion, MigrationConflict
    ("retry", {24, 46, 112, 117, 134, 13388, 150, 249, 272}),
    # ExceededMemoryLimit, TemporarilyUnavailable, IngressRequestRateLimitExceeded, "request rate is large" of
    # compatible servers
    ("overload", {146, 365, 462, 16500}),
    # HostUnreachable, HostNotFound, NetworkTimeout, SocketException, MaxTimeMSExpired, ExceededTimeLimit,
    # NetworkInterfaceExceededTimeLimit, WriteConcernTimeout, UnsatisfiableWriteConcern, ShutdownInProgress,
    # PrimarySteppedDown, FailedToSatisfyReadPreference, NotWritablePrimary and its relatives, Interrupted…,
    # ClientDisconnect, CursorNotFound, QueryPlanKilled, CursorKilled: some rows may have been written before
    ("in_doubt", {6, 7, 89, 9001, 50, 262, 202, NOT_DURABLE, 100, 91, 189, 133, 10107, 13435, 13436, 279,
                  11600, 11601, 11602, 43, 175, 237}),
)  # fmt: skip
VERDICTS: dict[int, Verdict] = {code: verdict for verdict, codes in CODES for code in codes}
RIGHTS = {"find", "insert", "update", "remove", "createCollection", "createIndex", "listCollections",
          "listIndexes"}  # fmt: skip
RIGHTS_OF_REPLACE = {"dropCollection", "renameCollectionSameDB"}
BAD_VALUE = 2  # of a document: it is too large; of a command: it is wrong
# What encoding raises for a value that BSON cannot hold.
UNFIT = (BSONError, DocumentTooLarge, ValueError, TypeError, ArithmeticError, RecursionError)

log = logging.getLogger("adaptive")


class OwnershipLostError(Exception):
    """The splits of this batch belong to another run, or the load is finished."""


def _stored(value: object) -> object:
    """Return the stored form of a value that pymongo cannot encode by itself."""
    if isinstance(value, Decimal):
        return Decimal128(value)  # raises for more than 34 digits
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, int):
        raise OverflowError("an integer beyond 64 bits")
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,  # others' years beyond 9999 can be compared
    uuid_representation=UuidRepresentation.STANDARD,
    type_registry=TypeRegistry(fallback_encoder=_stored),
)
RAW: CodecOptions[RawBSONDocument] = OPTIONS.with_options(document_class=RawBSONDocument)


class MongodbSink:
    """Write one collection of a MongoDB database; `adaptive.protocols.Sink` has the contract.

        with MongodbSink("mongodb://localhost/market", table="orders") as sink:
            sink.begin(); sink.write([{"order_id": 1, "price": Decimal("9.99")}]); sink.commit()

    `commit` enters the receipt; rows are visible, and durable, when `write` returns. `rollback` undoes
    nothing: the same batch written again finds its own rows.

    There are no locks. What a run that was taken over can still do when a stalled process wakes up: `begin`,
    each 1,000 upserts and `commit` look at the owner first, so it can finish at most one write. In modes
    append, ignore and replace that write has the `_id`s that the new run gives the same rows, so it does no
    harm, and a receipt entered twice for the same rows is counted once. In mode upsert it may set up to
    1,000 rows back to this load's older values of the same keys, if the new run has been past them; so may
    a write whose connection was cut, if the server carries it out after its repetition and what followed.
    Load again, or use a fresh load, if a process was suspended and two runs overlapped.

    With an `_id` column of the source, two equal rows in different writes count as the same row written
    twice by a doubt.
    """

    capabilities: frozenset[Any] = frozenset({*MODES, "arrow", "schemaless"})
    # pymongo cuts what it sends by the server's own limits (`hello`): 100,000 operations, 48 MB. MongoDB 8's
    # bulk write over several collections is not used: no such server was there to measure it on.
    max_rows: int | None = None
    max_bytes: int | None = None
    max_writers: int | None = None
    doomed = False

    def __init__(
        self,
        url: str,
        *,
        table: str | None = None,
        mode: str = "append",
        key: str | Sequence[str] = (),
        ledger: str | None = "_adaptive",
    ) -> None:
        """Check the arguments and touch nothing; raises ValueError.

        `url` is mongodb:// or mongodb+srv:// with a database; all options are pymongo's. Writes are
        `w: majority` and journaled whatever it says; `w=0` is refused. `key` names fields with a unique
        index, default `_id`. `table` may be in double quotes; a dot is part of the name.
        """
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}")
        if mode == "replace" and ledger is None:
            raise ValueError("mode replace needs a ledger: the swap at the end has to happen once")
        if table and re.fullmatch(r'"(?:[^"]|"")+"', table):
            table = table[1:-1].replace('""', '"')
        if table is not None and (
            re.search(r"^$|^system\.|[$\0]", table) or (ledger and table.startswith(f"{ledger}_"))
        ):
            raise ValueError(f"{table!r} cannot be a target collection")
        self.database = _database(url)
        self.table, self.mode, self.ledger = table, mode, ledger
        self.key = ((key,) if isinstance(key, str) else tuple(key)) or ("_id",)
        self.duplicates = 0
        self._url = url
        self._client: MongoClient[dict[str, Any]] | None = None
        self._receipt: Mapping[str, Any] | None = None
        self._ids: Iterator[ObjectId] = iter(ObjectId, None)
        self._limit = 0  # bytes of a document, as the server says
        self._routed = False  # by a mongos, in a sharded cluster
        self._told = False  # that microseconds are lost

    # --- connection ---

    def open(self) -> None:
        """Connect, and wait for an answer: at most 5 s, or serverSelectionTimeoutMS of the URL.

        Raises pymongo's error if the server cannot be reached or does not know the user.
        """
        if self._client is None:
            given = self._url.lower()
            options = {name: value for name, value in DEFAULTS.items() if name.lower() not in given}
            client: MongoClient[dict[str, Any]] = MongoClient(self._url, **options)  # type: ignore[arg-type]
            try:
                self._greet(client)
            except BaseException as error:
                client.close()
                if isinstance(error, OperationFailure) and error.code in AUTHENTICATION:
                    hint = "is the user defined in another database? Then add authSource=admin, or its name"
                    raise OperationFailure(f"authentication failed; {hint}", error.code) from error
                raise
            self._client = client

    def _greet(self, client: MongoClient[dict[str, Any]]) -> None:
        """Ask the server what it is; with directConnection it may be one that takes no writes."""
        hello = client.admin.command("hello")
        self._routed = hello.get("msg") == "isdbgrid"
        if not (self._routed or hello.get("isWritablePrimary", True)):
            raise NotPrimaryError("this server is not the primary", hello)
        self._limit = hello["maxBsonObjectSize"]

    def close(self) -> None:
        """Disconnect."""
        self.rollback()
        with suppress(PyMongoError):
            if self._client:
                self._client.close()
        self._client = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _db(self) -> Database[dict[str, Any]]:
        """Return the database, for reads from the primary and writes that a majority has on disk."""
        if self._client is None:
            self.open()
        assert self._client  # noqa: S101 - for mypy
        wtimeout = self._client.write_concern.document.get("wtimeout")
        return self._client.get_database(
            self.database, OPTIONS, ReadPreference.PRIMARY, WriteConcern("majority", wtimeout, j=True)
        )

    def _entries(self, name: str) -> Collection[dict[str, Any]]:
        """Return a collection of the ledger: "loads", "splits" or "ledger"."""
        return self._db.get_collection(f"{self.ledger}_{name}", read_concern=ReadConcern("majority"))

    @property
    def _name(self) -> str:
        if self.table is None:
            raise ValueError("this needs a table: MongodbSink(url, table=…)")
        return self.table

    @property
    def _target(self) -> Collection[dict[str, Any]]:
        """Return the collection that rows go to."""
        if self.mode == "replace" and self._receipt:
            return self._db[self._replacement(self._receipt["load"])]
        return self._db[self._name]

    def _replacement(self, load: str) -> str:
        return f"{self.ledger}_new_{sha256(load.encode()).hexdigest()[:16]}"

    def _collections(self) -> set[str]:
        return set(self._db.list_collection_names(authorizedCollections=True))

    # --- the coordinator's part ---

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ledger, collection and index of the key, take the splits over; return the schema's columns.

        Without a schema, [] (any field is welcome). Raises LookupError if the collection is a view or a time
        series, or has no unique index on the key (the text says how to make it), or PermissionError.
        """
        with _permitted(self.database):
            made = self._make_collection()
            self._check_key(vacant=made or self.empty())
            if self.ledger is not None:
                for name in ("splits", "ledger"):
                    self._entries(name).create_index("load")
                if self._load(load["load"]).get("state") != "done":
                    self._start(load)
        return self._described(schema) if schema is not None else []

    def columns(self) -> Sequence[tuple[Any, ...]]:
        """Return []: a collection takes any field and need not exist."""
        return []

    def _described(self, schema: pa.Schema) -> Sequence[tuple[Any, ...]]:
        unsigned = {pa.uint64(): pa.decimal128(20, 0)}  # a long holds 63 bits
        return [
            (f.name, unsigned.get(f.type, f.type), f.nullable, False, f.name in self.key, None)
            for f in schema
        ]

    def _make_collection(self) -> bool:
        """Make the target if it is missing; return whether it was."""
        if self._name in self._collections():
            kind = self._details(self._name)["type"]
            if kind != "collection":
                raise LookupError(f"{self._name!r} is a {kind}, whose rows have no unique _id")
            return False
        for earlier in self.loads():  # into an earlier collection of that name: what they wrote is gone
            for name, field in (("splits", "load"), ("ledger", "load"), ("loads", "_id")):
                self._entries(name).delete_many({field: earlier["load"]})
        self._create(self._name, {})
        return True

    def _details(self, name: str) -> Mapping[str, Any]:
        """Return type, options and info of a collection; {} if there is none."""
        found = self._db.list_collections(filter={"name": name})
        return next((entry for entry in found if entry["name"] == name), {})

    def _uuid(self, name: str) -> str | None:
        """Return what tells a collection from another one of its name, None if there is none."""
        found = self._details(name)
        return encode({"": found["info"].get("uuid")}, codec_options=OPTIONS).hex() if found else None

    def _create(self, name: str, options: Mapping[str, Any]) -> None:
        try:
            self._db.command({"create": name, **options, "writeConcern": self._db.write_concern.document})
        except OperationFailure as error:
            if error.code != EXISTS:  # another run was faster
                raise

    def _check_key(self, *, vacant: bool) -> None:
        """Make the unique index of the key where that cannot fail; else insist on one where it is needed."""
        if self.key == ("_id",) or any(
            _unique(index, self.key) for index in self._db[self._name].list_indexes()
        ):
            return
        if vacant and self._made_index():
            return
        if self.mode in ("ignore", "upsert"):
            fields = json.dumps(dict.fromkeys(self.key, 1))
            raise LookupError(
                f"mode {self.mode}: {self._name!r} has no unique index on {', '.join(self.key)}; make it by "
                f"db.getCollection({json.dumps(self._name)}).createIndex({fields}, {{unique: true}})"
            )

    def _made_index(self) -> bool:
        """Make the unique index of the key; False if one that is not unique is in its place."""
        try:
            self._db[self._name].create_index([(name, 1) for name in self.key], unique=True)
        except OperationFailure as error:
            if error.code not in OTHER_INDEX:
                raise
            return False
        return True

    def _start(self, load: Mapping[str, Any]) -> None:
        entry = {
            **{name: load[name] for name in ("fingerprint", "source", "mapping")},
            "target": self._name, "mode": self.mode, "state": "running", "rows": 0, "rejected": 0,
            "started_at": datetime.now(UTC), "finished_at": None,
        }  # fmt: skip
        self._entries("loads").update_one({"_id": load["load"]}, {"$setOnInsert": entry}, upsert=True)
        for split in load["splits"]:
            owned = {"load": load["load"], "split": split, "owner": load["owner"]}
            self._entries("splits").update_one(
                {"_id": _pair(load["load"], split)}, {"$set": owned}, upsert=True
            )
        if self._load(load["load"])["state"] == "done":  # in the meantime, by the run before
            self._entries("splits").delete_many({"load": load["load"]})
        elif self.mode == "replace":
            self._start_replacement(load["load"])

    def _start_replacement(self, load: str) -> None:
        """Make a collection beside the target, with its options and indexes, unless it is there."""
        found = self._collections()  # before the loads: what another run makes now is in its load's name
        running = self._entries("loads").find({"state": "running", "mode": "replace"})
        wanted = {self._replacement(entry["_id"]) for entry in running}
        for stray in {name for name in found if name.startswith(f"{self.ledger}_new_")} - wanted:
            self._db[stray].drop()
        if self._load(load).get("swapping"):
            return  # all rows are written, and perhaps swapped in; `finish` is to be repeated
        new, options = self._replacement(load), self._details(self._name).get("options", {})
        self._refuse_unlike(options)
        if new not in found:
            self._entries("ledger").delete_many({"load": load})  # receipts of rows that are gone
            self._create(new, options)
        if self._uuid(new) == self._uuid(self._name):
            raise LookupError(
                "mode replace: this server gives collections no UUIDs, by which a swap is known"
            )
        indexes = [dict(index) for index in self._db[self._name].list_indexes() if index["name"] != "_id_"]
        if indexes:
            durable = self._db.write_concern.document
            self._db.command("createIndexes", new, indexes=indexes, writeConcern=durable)

    def _refuse_unlike(self, options: Mapping[str, Any]) -> None:
        """Raise LookupError for a target that a collection beside it could not take the place of."""
        if "encryptedFields" in options:
            raise LookupError(
                f"mode replace: {self._name!r} has encrypted fields, so nothing can be renamed to it"
            )
        if self._routed and self._db.command("collStats", self._name).get("sharded"):
            raise LookupError(
                f"mode replace: {self._name!r} is sharded, and what took its place would not be"
            )

    def _load(self, load: str) -> dict[str, Any]:
        return self._entries("loads").find_one({"_id": load}) or {}

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of the collection, oldest first; of all collections if none is set.

        Those that run are counted from their receipts.
        """
        if self.ledger is None:
            return []
        wanted = {} if self.table is None else {"target": self.table}
        names = ("fingerprint", "source", "mapping", "target", "mode", "state", "rows", "rejected",
                 "started_at", "finished_at")  # fmt: skip
        found = self._entries("loads").find(wanted).sort("started_at")
        loads = [{"load": entry["_id"], **{name: entry[name] for name in names}} for entry in found]
        running = {load["load"]: load for load in loads if load["state"] != "done"}
        for name, receipts in self._receipts(running).items() if running else ():
            _, rows, rejected = _total(receipts)
            running[name] |= {"rows": rows, "rejected": len(rejected)}
        return loads

    def empty(self) -> bool:
        """Return whether the collection has no documents, or is missing."""
        return self._db[self._name].find_one({}, {"_id": 1}) is None

    def receipts(self, load: str) -> list[Receipt]:
        """Return what is committed: segments, rows written, rejected positions."""
        return [] if self.ledger is None else self._receipts([load]).get(load, [])

    def _receipts(self, loads: Iterable[str]) -> dict[str, list[Receipt]]:
        """Return the receipts of loads, by load, in one query."""
        found: dict[str, list[Receipt]] = {}
        for entry in self._entries("ledger").find({"load": {"$in": list(loads)}}):
            receipt = entry["segments"], entry["rows"], entry["rejected"]
            found.setdefault(entry["load"], []).append(receipt)
        return found

    def finish(self, load: Mapping[str, Any]) -> None:
        """Swap `replace` in, mark the load done, then make few receipts of many.

        Each step may be repeated. Before the swap the load's entry gets the new collection's UUID, which a
        renamed collection keeps: so after a crash it is known whether the swap has happened, even if a late
        write has made another collection of the old name.
        """
        if self.ledger is None:
            return
        with _permitted(self.database):
            if (entry := self._load(load["load"])).get("state") != "done":
                self._check_owner(load["load"], load["owner"], load["splits"])
                if self.mode == "replace":
                    self._swap(load["load"], entry.get("swapping"))
                self._mark_done(load["load"])
            self._compact(load["load"])

    def _swap(self, load: str, begun: str | None) -> None:
        new = self._replacement(load)
        if begun is not None and self._uuid(self._name) == begun:
            return  # swapped in already
        found = self._uuid(new)
        if found is None or begun not in (None, found):
            raise LookupError(f"the rows of load {load} are gone: somebody dropped {new!r}; load them again")
        self._entries("loads").update_one({"_id": load}, {"$set": {"swapping": found}})
        try:
            self._db[new].rename(self._name, dropTarget=True)
        except OperationFailure as error:
            if error.code != NOT_FOUND or self._uuid(self._name) != found:  # nor was another run faster
                raise

    def _mark_done(self, load: str) -> None:
        _, rows, rejected = _total(self.receipts(load))
        done = {"state": "done", "rows": rows, "rejected": len(rejected), "finished_at": datetime.now(UTC)}
        entry = {**self._load(load), **done}
        entry.pop("swapping", None)
        self._entries("loads").replace_one({"_id": load}, entry)

    def _compact(self, load: str) -> None:
        """Replace the receipts of a done load, and its splits, so that no late writer can begin."""
        self._entries("splits").delete_many({"load": load})
        if not self._entries("ledger").find_one({"load": load, "compact": None}):
            return
        segments, _, rejected = _total(self.receipts(load))
        rows = self._load(load)["rows"]
        for part, first in enumerate(range(0, max(1, len(rejected)), COMPACT_REJECTS)):
            entry = _entry(load, f"all {part}", segments, rows, rejected[first : first + COMPACT_REJECTS])
            entry["compact"] = True
            self._entries("ledger").replace_one({"_id": entry["_id"]}, entry, upsert=True)
            segments, rows = [], 0  # only once
        self._entries("ledger").delete_many({"load": load, "compact": None})

    # --- a batch ---

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Start a batch; False if its receipt is there already. Nothing is written yet."""
        if receipt is None and self.mode == "replace":
            raise ValueError("mode replace needs prepare, a receipt in begin, and finish")
        self._receipt, self._ids = receipt, _positions(receipt) if receipt else iter(ObjectId, None)
        if receipt is None or self.ledger is None:
            return True
        if self._entries("ledger").find_one({"_id": _pair(receipt["load"], receipt["batch"])}, {"_id": 1}):
            self._forget_replaced()
            self.rollback()
            return False
        self._check_batch()
        if self.mode == "replace" and self._load(receipt["load"]).get("swapping"):
            raise OwnershipLostError(f"load {receipt['load']}: its rows are being swapped in")
        return True

    def _check_batch(self) -> None:
        if self._receipt and self.ledger is not None:
            splits = {segment[0] for segment in self._receipt["segments"]}
            self._check_owner(self._receipt["load"], self._receipt["owner"], splits)

    def _check_owner(self, load: str, owner: str, splits: Iterable[int]) -> None:
        found = {entry["split"]: entry["owner"] for entry in self._entries("splits").find({"load": load})}
        if lost := sorted(split for split in splits if found.get(split) != owner):
            raise OwnershipLostError(
                f"load {load}: split {lost[0]} was taken over by another run, or is done"
            )

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Enter the receipt, once the splits are still this run's."""
        if self._receipt and self.ledger is not None:
            self._check_batch()
            load, batch, segments, written = (self._receipt[n] for n in ("load", "batch", "segments", "rows"))
            self._enter(_entry(load, batch, segments, written if rows is None else rows, rejected))
            self._forget_replaced()
        self.rollback()

    def _enter(self, entry: dict[str, Any]) -> None:
        """Insert a receipt, unless it is there by an earlier attempt whose answer was lost."""
        try:
            self._entries("ledger").insert_one(entry)
        except DuplicateKeyError as error:
            if not self._entries("ledger").find_one({"_id": entry["_id"]}, {"_id": 1}):
                raise WTimeoutError("no majority has the receipt yet", NOT_DURABLE) from error

    def _forget_replaced(self) -> None:
        if self._receipt and self._receipt["replaces"] is not None:
            replaced = _pair(self._receipt["load"], self._receipt["replaces"])
            self._entries("ledger").delete_one({"_id": replaced})

    def rollback(self) -> None:
        """End the batch. What was written stays, to be found when the batch is written again."""
        self._receipt, self._ids = None, iter(ObjectId, None)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> list[Rejection]:
        """Write mappings and return the refused ones; never raises for bad data."""
        self.duplicates = 0
        if not rows:
            return []
        self._look_for_microseconds(rows)
        ids = self._take(len(rows))
        if self.mode == "upsert":
            return self._upsert(list(enumerate(zip(rows, ids, strict=True))))
        return self._insert(
            [(index, row if row.get("_id") is not None else {**row, "_id": id_})
             for index, (row, id_) in enumerate(zip(rows, ids, strict=True))]
        )  # fmt: skip

    def write_arrow(self, rows: pa.Table) -> list[Rejection]:
        """Write an Arrow table. As `write`."""
        self.duplicates = 0
        if not len(rows):
            return []
        ids = self._take(len(rows))
        encoder = _Encoder(self._say_microseconds)
        documents = list(enumerate(encoder.documents(rows, self._heads(rows, ids))))
        encoder.refused |= {
            i: _too_large(len(raw), self._limit) for i, raw in documents if len(raw) > self._limit
        }
        refused = [(index, "value", reason) for index, reason in encoder.refused.items()]
        documents = (
            [entry for entry in documents if entry[0] not in encoder.refused] if refused else documents
        )
        if self.mode == "upsert":
            refused += self._upsert([(i, (decode(raw, OPTIONS), ids[i])) for i, raw in documents])
        else:
            refused += self._insert([(index, RawBSONDocument(raw, RAW)) for index, raw in documents])
        return sorted(refused)

    def _heads(self, rows: pa.Table, ids: Sequence[ObjectId]) -> list[bytes]:
        """Return the elements for rows that bring no `_id`; an upsert gives new documents theirs itself."""
        own = rows["_id"] if "_id" in rows.column_names else pa.nulls(len(rows))
        complete = not (own.null_count or pa.types.is_dictionary(own.type))  # whose words may be NULL
        if complete or self.mode == "upsert":
            return [b""] * len(ids)
        return [b"\x07_id\0" + id_.binary for id_ in ids]

    def _take(self, count: int) -> list[ObjectId]:
        """Return the `_id`s of the next rows."""
        taken = list(islice(self._ids, count))
        if len(taken) < count:
            raise ValueError("more rows than the receipt has positions")
        return taken

    def _look_for_microseconds(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._told:
            return
        # Only where the first row has a timestamp: looking at every value costs a tenth of an insert.
        names = [name for name, value in rows[0].items() if isinstance(value, datetime)]
        if any(getattr(row.get(name), "microsecond", 0) % 1000 for row in rows for name in names):
            self._say_microseconds()

    def _say_microseconds(self) -> None:
        if not self._told:
            log.warning("MongoDB keeps milliseconds: the microseconds of timestamps are cut off")
        self._told = True

    # --- inserting ---

    def _insert(self, documents: Sequence[Indexed]) -> list[Rejection]:
        """Insert documents, each with its row's index; return the refused."""
        if not documents:
            return []
        try:
            self._target.insert_many([document for _, document in documents], ordered=False)
        except BulkWriteError as error:
            return self._settle(error, documents)
        except UNFIT as error:
            return self._without_unfit(documents, self._insert, error)
        except OperationFailure as error:
            return self._halved(documents, self._insert, error)
        return []

    def _without_unfit(self, entries: Sequence[Indexed], write: Write, error: Exception) -> list[Rejection]:
        """Refuse the entries that BSON cannot hold, and write the others."""
        reasons = [(entry, _unfit(entry[1], self._limit)) for entry in entries]
        refused = [(index, "value", reason) for (index, _), reason in reasons if reason]
        if not refused:
            raise RuntimeError(f"pymongo refuses rows that can be encoded: {error}") from error
        good = [entry for entry, reason in reasons if not reason]
        return sorted(refused + (write(good) if good else []))

    def _halved(self, entries: Sequence[Any], write: Write, error: OperationFailure) -> list[Rejection]:
        """Find the document for which the server refused the command as a whole."""
        if self.classify(error) != "reject":
            raise error
        if len(entries) == 1:
            return [(entries[0][0], str(error.code), str(error))]
        middle = len(entries) // 2
        return write(entries[:middle]) + write(entries[middle:])

    def _settle(self, error: BulkWriteError, documents: Sequence[Indexed]) -> list[Rejection]:
        """Judge what was not inserted: written by an earlier attempt, left out, or refused.

        The conflicting documents that are fetched here are durable: the server answers an insert with
        `w: majority` only after a majority has what the insert met, even if it changed nothing.
        """
        failures = _failures(error, self.classify)
        refused = [
            (documents[number][0], str(failure["code"]), _reason(failure))
            for number, failure in failures.items()
            if failure["code"] not in DUPLICATE
        ]
        first: dict[Any, int] = {}  # a source may repeat its own _id within a write
        for number, (index, document) in enumerate(documents):
            if number not in failures or failures[number]["code"] in DUPLICATE:
                first.setdefault(_comparable(document["_id"]), index)
        taken = [(documents[n], failure) for n, failure in failures.items() if failure["code"] in DUPLICATE]
        for start in range(0, len(taken), UPSERT_ROWS):
            part = taken[start : start + UPSERT_ROWS]
            ids = [document["_id"] for (_, document), _ in part]
            found = self._target.with_options(codec_options=RAW).find({"_id": {"$in": ids}})
            stored = {_comparable(document["_id"]): document for document in found}
            for (index, document), failure in part:
                key = _comparable(document["_id"])
                if key in stored and first[key] == index and _stored_already(document, stored[key]):
                    continue
                if self.mode == "ignore" and self._left_out(document, failure, own=key in stored):
                    self.duplicates += 1
                else:
                    refused.append((index, str(failure["code"]), _reason(failure)))
        return sorted(refused)

    def _left_out(self, document: Mapping[str, Any], failure: Mapping[str, Any], *, own: bool) -> bool:
        """Return whether it was the key that is there already, and not another unique index."""
        if own:
            return self.key == ("_id",)
        if pattern := failure.get("keyPattern"):
            return set(pattern) == set(self.key)
        wanted = {name: {"$eq": document.get(name)} for name in self.key}  # some servers do not say
        return self._target.find_one(wanted, {"_id": 1}) is not None

    # --- upserting ---

    def _upsert(self, entries: Sequence[tuple[int, Any]]) -> list[Rejection]:
        """Update or insert rows by key: entries of index and (row, _id for a new document)."""
        groups: dict[Any, list[tuple[int, Any]]] = {}
        refused: list[Rejection] = []
        for index, (row, id_) in entries:
            if "_id" in row and row["_id"] is None:  # a new document would get it
                row = {name: value for name, value in row.items() if name != "_id"}
            try:
                groups.setdefault(_upsert_key(row, self.key), []).append((index, (row, id_)))
            except UNFIT as error:
                refused.append((index, "value", _words(error)))
        ordered = list(groups.values())
        for start in range(0, len(ordered), UPSERT_ROWS):
            self._check_batch()
            refused += self._update(ordered[start : start + UPSERT_ROWS])
        return sorted(refused)

    def _update(self, groups: Sequence[list[tuple[int, Any]]], *, again: bool = False) -> list[Rejection]:
        """Write groups of rows with the same key, merged, in one call.

        What finds a key taken is tried once more: an earlier attempt, still under way on the server, may
        have inserted the very document meanwhile, which then is found by its key.
        """
        try:
            self._target.bulk_write([self._operation(group) for group in groups], ordered=False)
        except BulkWriteError as error:
            failures = _failures(error, self.classify)
            taken = [n for n, failure in failures.items() if failure["code"] in DUPLICATE and not again]
            refused = [
                one for n in failures if n not in taken for one in self._refuse(groups[n], failures[n])
            ]
            return refused + (self._update([groups[n] for n in taken], again=True) if taken else [])
        except UNFIT as error:
            rows = [(index, row) for group in groups for index, (row, _) in group]
            ids = {index: id_ for group in groups for index, (_, id_) in group}
            return self._without_unfit(
                rows, lambda good: self._upsert([(index, (row, ids[index])) for index, row in good]), error
            )
        return []

    def _refuse(self, group: list[tuple[int, Any]], failure: Mapping[str, Any]) -> list[Rejection]:
        """Refuse a row; of several that were merged, only those that fail by themselves."""
        if len(group) == 1:
            return [(group[0][0], str(failure["code"]), _reason(failure))]
        return [refused for entry in group for refused in self._update([[entry]], again=True)]

    def _operation(self, group: list[tuple[int, Any]]) -> UpdateOne:
        """Return the update of a key; a later row wins, field by field."""
        row, fresh = group[-1][1]
        if len(group) > 1:
            row = {name: value for _, (one, _) in group for name, value in one.items()}
        # $eq: a document as a value must not be taken for operators.
        wanted = {name: {"$eq": row[name]} for name in self.key}
        if "_id" in row:
            fresh, row = row["_id"], {name: value for name, value in row.items() if name != "_id"}
        changes = {"$set": row} if row else {}
        if self.key != ("_id",) or not row:
            changes["$setOnInsert"] = {"_id": fresh}
        return UpdateOne(wanted, changes, upsert=True)

    # --- what went wrong ---

    def hint(self, error: BaseException) -> int | None:  # noqa: ARG002 - part of the contract
        """Return None: a write returns the rows it refused."""
        return None

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means, by its label, its class, or the server's code.

        Whatever reached the server and has no answer is in doubt.
        """
        if isinstance(error, OwnershipLostError):
            return "taken_over"
        if not isinstance(error, PyMongoError):
            return "fatal"
        if error.has_error_label("NoWritesPerformed"):
            return "retry"
        # Nothing was sent: of a write that is tried again, pymongo raises the first attempt's error.
        if isinstance(error, (ServerSelectionTimeoutError, WaitQueueTimeoutError)):
            return "retry"
        if error.has_error_label("SystemOverloadedError"):
            return "overload"
        if isinstance(error, BulkWriteError):
            return _worst(error)
        if isinstance(error, (AutoReconnect, WriteConcernError)):
            return "in_doubt"
        code = error.code if isinstance(error, OperationFailure) else None
        return VERDICTS.get(code or 0, "fatal")

    def doctor(self) -> list[str]:
        """Return the server's version and kind, then what would keep a load from working; change nothing."""
        try:
            hello = self._db.client.admin.command("hello")
            version = self._db.client.admin.command("buildInfo")["version"]
            kind = hello.get("setName") and f"replica set {hello['setName']}"
            kind = kind or ("sharded cluster" if hello.get("msg") == "isdbgrid" else "standalone server")
            found = [f"MongoDB {version}, {kind}; writes are w: majority, journaled"]
            if kind == "standalone server":
                found.append(
                    "a standalone server keeps one copy of the data: a replica set survives a lost disk"
                )
            return found + self._missing_rights() + (self._advice() if self.table else [])
        except PyMongoError as error:
            return [f"MongoDB at {self.database}: {error}"]

    def _missing_rights(self) -> list[str]:
        """Return the statement that would give the user what a load needs."""
        status = self._db.client.admin.command("connectionStatus", showPrivileges=True).get("authInfo", {})
        granted: set[str] = set()
        for privilege in status.get("authenticatedUserPrivileges", ()):
            resource = privilege["resource"]
            if resource.get("anyResource") or resource.get("db") in ("", self.database):
                granted.update(privilege["actions"])
        users = status.get("authenticatedUsers")
        wanted = RIGHTS | (RIGHTS_OF_REPLACE if self.mode == "replace" else set())
        if not users or not (missing := sorted(wanted - granted)):
            return []
        role = json.dumps([{"role": "readWrite", "db": self.database}])
        user = json.dumps(users[0]["user"])
        return [f"no right to {', '.join(missing)}: db.grantRolesToUser({user}, {role})"]

    def _advice(self) -> list[str]:
        """Return what is wrong with the target and its indexes."""
        if self._name not in self._collections():
            return [f"no collection {self._name!r} yet: a load makes it"]
        try:
            if self.mode in ("ignore", "upsert"):
                self._check_key(vacant=False)
        except LookupError as error:
            return [str(error)]
        return []


def _database(url: str) -> str:
    """Return the database of a URL; raises ValueError, without the URL's password."""
    found = re.fullmatch(r"mongodb(?:\+srv)?://(?:[^@/?]*@)?[^@/?]+/([^/?]+)(?:\?(.*))?", url)
    if not found:
        raise ValueError("the URL is not mongodb://host/database or mongodb+srv://host/database")
    options = {name.lower(): values for name, values in parse_qs(found[2] or "").items()}
    if "0" in options.get("w", ()):
        raise ValueError("w=0 waits for no answer, so nobody would know what is written; leave it out")
    return unquote(found[1])


@contextmanager
def _permitted(database: str) -> Iterator[None]:
    """Raise PermissionError for a right that is missing."""
    try:
        yield
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        raise PermissionError(f"{error}; a load needs the role readWrite on {database}") from error


def _unique(index: Mapping[str, Any], key: Sequence[str]) -> bool:
    """Return whether an index lets each value of a key occur once."""
    whole = index.get("unique") and "partialFilterExpression" not in index
    return bool(whole) and set(index["key"]) == set(key)


# --- the ledger ---


def _pair(load: str, part: object) -> str:
    """Return the `_id` for a load and a batch or split: JSON, so that no two pairs look alike."""
    return json.dumps([load, part])


def _entry(
    load: str, batch: str, segments: Any, rows: int, rejected: Sequence[Sequence[int]]
) -> dict[str, Any]:
    return {
        "_id": _pair(load, batch), "load": load, "batch": batch, "segments": [list(s) for s in segments],
        "rows": rows, "rejected": [list(p) for p in rejected], "committed_at": datetime.now(UTC),
    }  # fmt: skip


def _joined(segments: Iterable[list[int]]) -> list[list[int]]:
    """Return segments in order, neighbours and overlaps joined."""
    joined: list[list[int]] = []
    for split, first, last in sorted(segments):
        if joined and joined[-1][0] == split and joined[-1][2] + 1 >= first:
            joined[-1][2] = max(joined[-1][2], last)
        else:
            joined.append([split, first, last])
    return joined


def _total(receipts: Sequence[Receipt]) -> Receipt:
    """Return several receipts as one. A stalled run may have entered one for rows of another one."""
    segments = _joined(segment for found, _, _ in receipts for segment in found)
    rejected = {tuple(position) for _, _, found in receipts for position in found}
    most = sum(last - first + 1 for _, first, last in segments) - len(rejected)
    return segments, min(most, sum(rows for _, rows, _ in receipts)), sorted(map(list, rejected))


def _positions(receipt: Mapping[str, Any]) -> Iterator[ObjectId]:
    """Yield the `_id`s of a batch's rows: 7 bytes of hash(load, split), 5 bytes of ordinal.

    Two splits among 10,000 share their 56 bits with a chance of 1 in 1,400,000,000. Even then no row is
    lost: the document that is there differs, so the row is a reject.
    """
    rejected = {tuple(position) for position in receipt.get("rejected", ())}
    for split, first, last in receipt["segments"]:
        head = sha256(_pair(receipt["load"], split).encode()).digest()[:7]
        for ordinal in range(first, last + 1):
            if not rejected or (split, ordinal) not in rejected:
                yield ObjectId(head + ordinal.to_bytes(5, "big"))


# --- refusals ---


def _failures(
    error: BulkWriteError, classify: Callable[[BaseException], Verdict]
) -> dict[int, Mapping[str, Any]]:
    """Return the failed operations by number; raises the error if one of them is not the data's fault."""
    failures = error.details["writeErrors"]
    if classify(error) == "reject":
        return {failure["index"]: failure for failure in failures}
    # Without the documents, which make pymongo's text megabytes long, and one of a kind.
    brief = {f["code"]: {name: f[name] for name in ("index", "code", "errmsg")} for f in failures}
    raise BulkWriteError({**error.details, "writeErrors": list(brief.values())}) from None


def _worst(error: BulkWriteError) -> Verdict:
    details = error.details or {}
    if details.get("writeConcernErrors"):
        return "in_doubt"
    of_documents: dict[int, Verdict] = VERDICTS | {BAD_VALUE: "reject"}
    verdicts = [of_documents.get(failure["code"], "fatal") for failure in details.get("writeErrors", ())]
    others: list[Verdict] = [verdict for verdict in verdicts if verdict != "reject"]
    if "fatal" in others or not verdicts:
        return "fatal"
    return others[0] if others else "reject"


def _reason(failure: Mapping[str, Any]) -> str:
    """Return the server's words about a refused document, with what a validator says.

    An answer has room for a megabyte of words (of one document's, or of all, by the server's version), after
    which there are none; of a taken key there is still its value.
    """
    words, details = failure["errmsg"], failure.get("errInfo", {}).get("details")
    if not words:
        words, details = f"refused with code {failure['code']}, as others before", failure.get("keyValue")
    return str(words) + (f": {json.dumps(details, default=str)[:500]}" if details else "")


def _unfit(row: Mapping[str, Any], limit: int) -> str | None:
    """Return why BSON cannot hold a row, None if it can."""
    try:
        size = len(row.raw if isinstance(row, RawBSONDocument) else encode(row, codec_options=OPTIONS))
    except UNFIT as error:
        return next((reason for item in row.items() if (reason := _unfit_value(*item))), str(error))
    return _too_large(size, limit) if size > limit else None


def _too_large(size: int, limit: int) -> str:
    return f"a document of {size:,} bytes; the server takes {limit:,}"


def _unfit_value(name: Any, value: object) -> str | None:
    try:
        encode({name: value}, codec_options=OPTIONS)
    except UNFIT as error:
        return f"column {name}: {_words(error)}"
    return None


def _words(error: Exception) -> str:
    """Return an error's text; before a bar pymongo repeats the document."""
    return str(error).rpartition(" | ")[2] or type(error).__name__


def _upsert_key(row: Mapping[str, Any], key: Sequence[str]) -> tuple[Any, ...]:
    """Return what rows of the same document have in common; raises one of UNFIT if there can be none."""
    _check_names(tuple(row))
    for name in key:
        if row.get(name) is None or isinstance(row[name], (list, tuple, set)):
            raise ValueError(f"column {name}: the key has to be one value, not NULL or a list")
    return tuple(_comparable(row[name]) for name in key)


@lru_cache
def _check_names(names: tuple[Any, ...]) -> None:
    """Refuse names that mean something else in an update: `a.b` is a path there, `$a` an operator."""
    for name in names:
        if not isinstance(name, str) or not name or "." in name or name.startswith("$"):
            raise ValueError(f"column {name!r}: mode upsert takes no empty name, no dot, no leading $")


def _comparable(value: Any) -> Any:
    """Return a hashable value that is equal to another's where MongoDB calls the two equal."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, date):
        return decode(encode({"": value}, codec_options=OPTIONS), OPTIONS)[""]
    if isinstance(value, (Mapping, list, tuple, bytearray)):
        return encode({"": value}, codec_options=OPTIONS)
    return value


def _stored_already(document: Mapping[str, Any], stored: RawBSONDocument) -> bool:
    """Return whether a document is the stored one; only where their bytes differ are they decoded."""
    raw = document.raw if isinstance(document, RawBSONDocument) else encode(document, codec_options=OPTIONS)
    return raw == stored.raw or _same(decode(raw, OPTIONS), decode(stored.raw, OPTIONS))


def _same(ours: Any, stored: Any) -> bool:
    """Return whether two decoded values are the same; an integer may come in either width."""
    if isinstance(ours, dict) and isinstance(stored, dict):
        return ours.keys() == stored.keys() and all(_same(ours[name], stored[name]) for name in ours)
    if isinstance(ours, list) and isinstance(stored, list):
        return len(ours) == len(stored) and all(map(_same, ours, stored))
    kinds = [int if type(value) is Int64 else type(value) for value in (ours, stored)]
    return kinds[0] is kinds[1] and bool(ours == stored or (ours != ours and stored != stored))


# --- Arrow tables ---


class _Encoder:
    """Encode Arrow tables as BSON, column by column, with Arrow's own kernels.

    A market order of 10 columns takes 1.9 µs; as Python values 10 µs to make, 14 µs for Decimal128 and 11 µs
    for pymongo to encode, which is what PyMongoArrow's `write` does.
    """

    def __init__(self, on_microseconds: Callable[[], None]) -> None:
        self.refused: dict[int, str] = {}  # reasons by row
        self._on_microseconds = on_microseconds
        self._first = 0  # row of the piece at work

    def documents(self, rows: pa.Table, heads: Sequence[bytes]) -> list[bytes]:
        """Return a document for each row, broken for a refused one.

        `heads` are elements to begin with, each in the place of an `_id` that is missing or NULL.
        """
        found: list[bytes] = []
        names = sorted(rows.column_names, key="_id".__ne__)  # stable: only _id moves, to the front
        step = max(1, min(PIECE_ROWS, PIECE_BYTES * len(rows) // max(1, rows.nbytes)))
        for self._first in range(0, len(rows), step):
            piece = rows.slice(self._first, step).combine_chunks()
            begin = pa.array(heads[self._first : self._first + step], pa.binary())
            elements = [self._element(name, piece[name].chunk(0)) for name in names]
            if "_id" in names:
                own = _plain(piece["_id"].chunk(0)).is_valid()
                begin = pc.if_else(own, elements.pop(0), begin)
            found += self._document([begin, *elements]).to_pylist()
        return found

    def _document(self, elements: Sequence[Any]) -> Any:
        """Return documents: size, elements, NUL."""
        body = pc.binary_join_element_wise(*elements, b"\0", b"")
        return _joined_bytes(_sizes(body, 4), body)

    def _element(self, name: str, column: Any) -> Any:
        """Return elements: type, name, NUL, value; a NULL has a type of its own and no value."""
        column, label = _plain(column), name.encode() + b"\0"
        if re.match("timestamp|date", str(column.type)):
            column = self._milliseconds(name, column)
        if re.match("struct", str(column.type)):
            children = zip(column.type.names, column.flatten(), strict=True)
            kind, values = b"\x03", self._document([self._element(*child) for child in children])
        elif "\0" in name or not (form := _form(column.type)):
            return self._by_python(name, column)
        else:
            kind, values = form[0], form[1](column)
        element = _joined_bytes(kind + label, values)
        return pc.if_else(column.is_valid(), element, b"\x0a" + label) if column.null_count else element

    def _milliseconds(self, name: str, column: Any) -> Any:
        """Return timestamps in ms, rounded down, as reading them would; refuse those nobody can read."""
        if pa.types.is_date(column.type):
            moments = column.cast(pa.timestamp("ms"))
        else:
            exact = column.cast(pa.int64()).cast(pa.timestamp(column.type.unit))  # in UTC, without its zone
            moments = pc.floor_temporal(exact, unit="millisecond")
            if not moments.equals(exact):
                self._on_microseconds()
            moments = moments.cast(pa.timestamp("ms"))
        number = moments.cast(pa.int64())
        for row in pc.indices_nonzero(
            pc.or_(pc.less(number, YEARS[0]), pc.greater(number, YEARS[1]))
        ).to_pylist():
            self._refuse(row, name, "the year is not within 1 and 9999")
        return moments

    def _by_python(self, name: str, column: Any) -> Any:
        """Return elements by way of Python values, for lists, JSON and the rarer types."""
        elements = []
        for number, scalar in enumerate(column):
            try:
                elements.append(encode({name: _read(scalar)}, codec_options=OPTIONS)[4:-1])
            except UNFIT as error:
                self._refuse(number, name, _words(error))
                elements.append(b"")
        return pa.array(elements, pa.binary())

    def _refuse(self, number: int, name: str, reason: str) -> None:
        self.refused.setdefault(self._first + number, f"column {name}: {reason}")


def _read(scalar: Any) -> Any:
    """Return a scalar's Python value, JSON as what it says."""
    value = scalar.as_py()
    if value is None or _extension(scalar.type) != "arrow.json":
        return value
    return json.loads(value, parse_float=Decimal, parse_constant=_no_number)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _extension(type_: Any) -> str:
    return str(getattr(type_, "extension_name", ""))


def _plain(column: Any) -> Any:
    """Return a column without its dictionary."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _joined_bytes(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, b"")


def _fixed(column: Any, width: int) -> Any:
    """Return the little-endian bytes of a column's values; those of NULLs are zero."""
    column = column.fill_null(0) if column.null_count else column
    buffers = [None, column.buffers()[1]]
    return pa.Array.from_buffers(pa.binary(width), len(column), buffers, offset=column.offset).cast(
        pa.binary()
    )


def _sizes(column: Any, more: int) -> Any:
    """Return the length of each value in bytes, plus `more`, as an int32."""
    return _fixed(pc.add(pc.binary_length(column), more).cast(pa.int32()), 4)


def _string(column: Any) -> Any:
    text = column.cast(pa.string()).cast(pa.binary())
    return _joined_bytes(_sizes(text, 1), text, b"\0")


def _binary(column: Any) -> Any:
    binary = column.cast(pa.binary())
    return _joined_bytes(_sizes(binary, 0), b"\0", binary)


def _decimal(column: Any) -> Any:
    """Return Decimal128: the 14 low bytes of the coefficient, then exponent and sign.

    Up to 33 digits fit in those bytes (10^33 < 2^112). The form is "binary integer decimal" of IEEE 754-2008,
    see bson-decimal128 in https://github.com/mongodb/specifications.
    """
    column = column.fill_null(0) if column.null_count else column
    exponent = (6176 - column.type.scale) << 1
    plus, minus = (pa.scalar(end.to_bytes(2, "little"), pa.binary()) for end in (exponent, exponent | 0x8000))
    ends = pc.if_else(pc.less(column, pa.scalar(0, column.type)), minus, plus)
    return _joined_bytes(pc.binary_slice(_fixed(pc.abs(column), 16), 0, 14), ends)


# By the name of the Arrow type: BSON's type byte, and the values. What is not here goes by way of Python.
ARROW_FORMS: tuple[tuple[str, tuple[bytes, Callable[[Any], Any]]], ...] = (
    (r"bool", (b"\x08", lambda column: pc.if_else(column, b"\x01", b"\x00"))),
    (r"u?int8|u?int16|int32", (b"\x10", lambda column: _fixed(column.cast(pa.int32()), 4))),
    (r"uint32|int64", (b"\x12", lambda column: _fixed(column.cast(pa.int64()), 8))),
    (r"halffloat|float|double", (b"\x01", lambda column: _fixed(column.cast(pa.float64()), 8))),
    (r"timestamp\[ms\]", (b"\x09", lambda column: _fixed(column.cast(pa.int64()), 8))),
    (r"decimal128\((\d|[12]\d|3[0-3]), .*", (b"\x13", _decimal)),
    (r"(large_)?string(_view)?", (b"\x02", _string)),
    (r"(large_)?binary(_view)?|fixed_size_binary.*", (b"\x05", _binary)),
    (r"arrow\.uuid", (b"\x05", lambda c: _joined_bytes(b"\x10\0\0\0\x04", c.storage.cast(pa.binary())))),
)


def _form(type_: Any) -> tuple[bytes, Callable[[Any], Any]] | None:
    word = _extension(type_) or str(type_)
    return next((form for pattern, form in ARROW_FORMS if re.fullmatch(pattern, word)), None)
