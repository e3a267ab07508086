"""A MongoDB of one process, in memory, for what the stand-in on this machine cannot do.

It speaks the wire protocol (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/) and answers
the commands of a load as the manual says: unique indexes with their key pattern, validators, upserts,
renaming, exact types. Faults are ordered beforehand. It proves what the sink does with such answers; that a
server gives them, only a real one proves.
"""

from __future__ import annotations

import re
import socketserver
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self
from uuid import uuid4

from bson import Binary, ObjectId, decode, decode_all, encode
from bson.codec_options import CodecOptions, DatetimeConversion

EXACT: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
Answer = dict[str, Any]
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HELLO: Answer = {
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "setName": "rs0",
    "hosts": ["127.0.0.1:1"],
    "ok": 1,
}


class RefusedError(Exception):
    """An error with MongoDB's code."""

    def __init__(self, code: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.answer: Answer = {"code": code, "errmsg": text, **more}


@dataclass
class Collection:
    options: Answer = field(default_factory=dict)
    indexes: list[Answer] = field(default_factory=lambda: [{"v": 2, "key": {"_id": 1}, "name": "_id_"}])
    documents: dict[bytes, Answer] = field(default_factory=dict)

    uuid: Binary = field(default_factory=lambda: Binary.from_uuid(uuid4()))
    taken: dict[str, dict[tuple[bytes, ...], bytes]] = field(default_factory=dict)  # index → key → document

    def put(self, document: Answer, *, instead_of: bytes | None = None) -> None:
        document = {"_id": document.get("_id", ObjectId()), **document}
        if not matches(document, self.options.get("validator", {})):
            raise RefusedError(
                121, "Document failed validation", errInfo={"details": {"operatorName": "$or"}}
            )
        identity = instead_of or key_of(document["_id"])
        keys = self._keys(document)
        for index in self.indexes:
            if self.taken.get(index["name"], {}).get(keys.get(index["name"], ()), identity) != identity or (
                index["name"] == "_id_" and not instead_of and identity in self.documents
            ):
                text = f"E11000 duplicate key error index: {index['name']}"
                raise RefusedError(11000, text, keyPattern=index["key"])
        self.remove(identity)
        self.documents[identity] = document
        for name, key in keys.items():
            self.taken.setdefault(name, {})[key] = identity

    def remove(self, identity: bytes) -> None:
        if document := self.documents.pop(identity, None):
            for name, key in self._keys(document).items():
                self.taken[name].pop(key)

    def _keys(self, document: Answer) -> dict[str, tuple[bytes, ...]]:
        """Return the document's key in each unique index but that of `_id`."""
        unique = [index for index in self.indexes if index.get("unique")]
        return {i["name"]: tuple(key_of(document.get(name)) for name in i["key"]) for i in unique}

    def found(self, wanted: Mapping[str, Any]) -> list[tuple[bytes, Answer]]:
        """Return the documents that a filter matches, by index if it names one field of an index."""
        if len(wanted) == 1 and (keys := self._looked_up(*next(iter(wanted.items())))) is not None:
            return [(key, self.documents[key]) for key in keys if key in self.documents]
        return [(key, document) for key, document in self.documents.items() if matches(document, wanted)]

    def _looked_up(self, name: str, condition: Any) -> list[bytes] | None:
        values = condition.get("$in", [condition.get("$eq")]) if isinstance(condition, dict) else [condition]
        if name == "_id":
            return [key_of(value) for value in values]
        held = next(
            (
                self.taken.get(i["name"], {})
                for i in self.indexes
                if i.get("unique") and list(i["key"]) == [name]
            ),
            None,
        )
        return None if held is None else [held[key] for value in values if (key := (key_of(value),)) in held]


def key_of(value: Any) -> bytes:
    """Return a value as indexes see it: numbers by value."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return encode({"": float(value) if number else value}, codec_options=EXACT)


def matches(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(_holds(document, name, condition) for name, condition in wanted.items())


def _holds(document: Mapping[str, Any], name: str, condition: Any) -> bool:
    if name in ("$and", "$or"):
        return (all if name == "$and" else any)(matches(document, part) for part in condition)
    value = document.get(name)
    if not (isinstance(condition, dict) and any(word.startswith("$") for word in condition)):
        return key_of(value) == key_of(condition)
    tests = {
        "$eq": lambda other: key_of(value) == key_of(other),
        "$in": lambda others: key_of(value) in set(map(key_of, others)),
        "$ne": lambda other: key_of(value) != key_of(other),
        "$gt": lambda other: isinstance(value, (int, float)) and value > other,
        "$regex": lambda pattern: isinstance(value, str) and bool(re.search(pattern, value)),
    }
    return all(tests[word](operand) for word, operand in condition.items())


def changed(document: Answer, update: Answer, *, fresh: bool) -> Answer:
    """Return a document after an update."""
    if not any(name.startswith("$") for name in update):
        return {"_id": document["_id"], **update}
    document = {**document, **update.get("$set", {}), **(update.get("$setOnInsert", {}) if fresh else {})}
    return {name: value for name, value in document.items() if name not in update.get("$unset", {})}


def equalities(wanted: Mapping[str, Any]) -> Answer:
    return {name: value["$eq"] if isinstance(value, dict) else value for name, value in wanted.items()}


class Database:
    """The commands, one method each."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}

    def run(self, command: Answer) -> Answer:
        name = next(iter(command))
        if name in ("hello", "isMaster", "ismaster"):
            return dict(HELLO)
        known = getattr(self, f"do_{name}", None)
        return known(command["$db"], command) if known else {}

    def do_buildInfo(self, *_: Any) -> Answer:  # noqa: N802 - MongoDB's name
        return {"version": "8.0.0"}

    def _batch(self, operations: Iterable[Any], apply: Any) -> tuple[list[Any], list[Answer]]:
        done, errors = [], []
        for index, operation in enumerate(operations):
            try:
                done.append(apply(index, operation))
            except RefusedError as error:
                errors.append({"index": index, **error.answer})
        return done, errors

    def _at(self, database: str, name: str) -> Collection:
        return self.collections.setdefault(f"{database}.{name}", Collection())

    def do_insert(self, database: str, command: Answer) -> Answer:
        target = self._at(database, command["insert"])

        def apply(_: int, document: Answer) -> None:
            if len(encode(document, codec_options=EXACT)) > HELLO["maxBsonObjectSize"]:
                raise RefusedError(2, "object to insert too large")
            target.put(document)

        done, errors = self._batch(command["documents"], apply)
        return {"n": len(done), **({"writeErrors": errors} if errors else {})}

    def do_update(self, database: str, command: Answer) -> Answer:
        target = self._at(database, command["update"])

        def apply(index: int, one: Answer) -> Answer | None:
            if found := target.found(one["q"]):
                key, document = found[0]
                target.put(changed(document, one["u"], fresh=False), instead_of=key)
                return None
            if not one.get("upsert"):
                return {}
            made = {"_id": ObjectId(), **equalities(one["q"])}
            made = changed(made, one["u"], fresh=True)
            target.put(made)
            return {"index": index, "_id": made["_id"]}

        done, errors = self._batch(command["updates"], apply)
        counts = {"n": len([one for one in done if one != {}]), "nModified": 0}
        upserted = {"upserted": made} if (made := [one for one in done if one]) else {}
        return {**counts, **upserted, **({"writeErrors": errors} if errors else {})}

    def do_delete(self, database: str, command: Answer) -> Answer:
        target, deleted = self._at(database, command["delete"]), 0
        for one in command["deletes"]:
            for key, _ in target.found(one["q"])[: one["limit"] or None]:
                target.remove(key)
                deleted += 1
        return {"n": deleted}

    def do_find(self, database: str, command: Answer) -> Answer:
        target = self.collections.get(f"{database}.{command['find']}", Collection())
        found = [document for _, document in target.found(command.get("filter", {}))]
        return cursor(found[: command.get("limit") or None], command["find"])

    def do_create(self, database: str, command: Answer) -> Answer:
        if f"{database}.{command['create']}" in self.collections:
            raise RefusedError(48, "already exists")
        options = {name: command[name] for name in ("validator", "capped", "size") if name in command}
        self._at(database, command["create"]).options = options
        return {}

    def do_createIndexes(self, database: str, command: Answer) -> Answer:  # noqa: N802
        target = self._at(database, command["createIndexes"])
        known = {index["name"] for index in target.indexes}
        target.indexes += [{"v": 2, **index} for index in command["indexes"] if index["name"] not in known]
        return {}

    def do_listIndexes(self, database: str, command: Answer) -> Answer:  # noqa: N802
        name = f"{database}.{command['listIndexes']}"
        if name not in self.collections:
            raise RefusedError(26, f"ns does not exist: {name}")
        return cursor(self.collections[name].indexes, name)

    def do_listCollections(self, database: str, command: Answer) -> Answer:  # noqa: N802
        owned = {name.partition(".")[2]: held for name, held in self.collections.items()
                 if name.partition(".")[0] == database}  # fmt: skip
        entries = [
            {"name": n, "type": "collection", "options": c.options, "info": {"uuid": c.uuid}}
            for n, c in owned.items()
        ]
        return cursor([e for e in entries if matches(e, command.get("filter", {}))], "$cmd.listCollections")

    def do_renameCollection(self, _: str, command: Answer) -> Answer:  # noqa: N802
        if command["renameCollection"] not in self.collections:
            raise RefusedError(26, "Source collection does not exist")
        self.collections[command["to"]] = self.collections.pop(command["renameCollection"])
        return {}

    def do_drop(self, database: str, command: Answer) -> Answer:
        self.collections.pop(f"{database}.{command['drop']}", None)
        return {}


def cursor(documents: list[Any], name: str) -> Answer:
    return {"cursor": {"id": 0, "ns": f"x.{name}", "firstBatch": documents}}


@dataclass
class Fault:
    """What happens instead of, or after, the next commands of a name."""

    command: str
    answer: Answer | None = None  # None hangs up
    after: bool = False  # once the command has been applied
    times: int = 1


class Connection(socketserver.BaseRequestHandler):
    server: WireServer
    numbers: Iterator[int] = count(1)

    def handle(self) -> None:
        with suppress(ConnectionError):
            self._serve()

    def _serve(self) -> None:
        while header := self._read(16):
            length, request, _, opcode = struct.unpack("<iiii", header)
            body, legacy = self._read(length - 16), opcode == OP_QUERY
            command = read_query(body) if legacy else read_msg(body)
            answer = self.server.answer(command)
            if answer is None:
                return
            begin = struct.pack("<iqii", 8, 0, 0, 1) if legacy else bytes(5)
            body = begin + encode(answer, codec_options=EXACT)
            kind = OP_REPLY if legacy else OP_MSG
            self.request.sendall(
                struct.pack("<iiii", 16 + len(body), next(self.numbers), request, kind) + body
            )

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (part := self.request.recv(size - len(found))):
            found += part
        return found


def read_query(body: bytes) -> Answer:
    return decode(body[body.index(b"\0", 4) + 9 :], EXACT) | {"$db": "admin"}


def read_msg(body: bytes) -> Answer:
    command: Answer = {}
    at = 4
    while at < len(body):
        kind, size = body[at], struct.unpack_from("<i", body, at + 1)[0]
        section = body[at + 1 : at + 1 + size]
        if kind == 0:
            command |= decode(section, EXACT)
        else:
            end = section.index(b"\0", 4)
            command[section[4:end].decode()] = decode_all(section[end + 1 :], EXACT)
        at += 1 + size
    return command


class WireServer(socketserver.ThreadingTCPServer):
    """The server, on a free port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.database, self.faults, self.commands = Database(), list[Fault](), list[Answer]()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.server_address[1]}/?directConnection=true"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def answer(self, command: Answer) -> Answer | None:
        """Return the answer to a command, None to hang up."""
        name = next(iter(command))
        with self._lock:
            self.commands.append(command)
            fault = next((fault for fault in self.faults if fault.command == name and fault.times), None)
            if fault:
                fault.times -= 1
                if not fault.after:
                    return fault.answer
            try:
                answer = {"ok": 1, **self.database.run(command)}
            except RefusedError as error:
                return {"ok": 0, **error.answer}
            if fault:
                return None if fault.answer is None else {**answer, **fault.answer}
            return answer
