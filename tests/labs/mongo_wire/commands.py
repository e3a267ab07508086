"""The commands, one method each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import count, islice
from typing import Any

from bson import ObjectId, decode, encode

from labs.mongo_wire.collection import LARGEST, Collection
from labs.mongo_wire.documents import (
    EXACT,
    Document,
    RefusedError,
    changed,
    equalities,
    grouped,
    in_order,
    lazy,
    matches,
    projected,
)

MOST_OPERATIONS = 100_000  # in one command
WORDS = 1_048_576  # characters of errors in an answer, after which they have none
HELLO: Document = {
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": LARGEST,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": MOST_OPERATIONS,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "setName": "rs0",
    "hosts": ["127.0.0.1:1"],
}
FIRST_PAGE = 101  # documents, as MongoDB has it
PAGE_BYTES = LARGEST
# Atomic as a whole. The other writes are so for each document; reads, and `hello` above all, wait for nobody.
WHOLE = ("create", "createIndexes", "renameCollection", "drop", "dropDatabase")


class CrashError(ConnectionError):
    """The server has crashed in the midst of a command."""


class Commands:
    """All databases of a server, and what can be done with them."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}  # by database.name
        self.clients: dict[Any, str] = {}  # connection → name of the application
        self.crashes = 0
        self._cursors: dict[int, tuple[str, list[bytes]]] = {}
        self._numbers = count(1)
        self._lock = threading.RLock()

    def run(self, command: Document) -> Document:
        """Carry a command out and return its answer; raises RefusedError."""
        name = next(iter(command))
        known: Callable[[str, Document], Document] | None = getattr(self, f"do_{name}", None)
        if known is None:
            raise RefusedError(59, f"no such command: '{name}'")
        with self._lock if name in WHOLE else nullcontext():
            return known(command["$db"], command)

    # --- about the server ---

    def do_hello(self, *_: Any) -> Document:
        return dict(HELLO)

    do_isMaster = do_ismaster = do_hello  # noqa: N815 - MongoDB's names

    def do_buildInfo(self, *_: Any) -> Document:  # noqa: N802
        return {"version": "8.0.0-stand-in", "process": "mongo_wire"}

    def do_connectionStatus(self, *_: Any) -> Document:  # noqa: N802
        return {"authInfo": {"authenticatedUsers": [], "authenticatedUserPrivileges": []}}

    def do_ping(self, *_: Any) -> Document:
        return {}

    do_endSessions = do_ping  # noqa: N815

    # --- writes ---

    def do_insert(self, database: str, command: Document) -> Document:
        name = command["insert"]
        done, errors = self._each(
            command, command["documents"], lambda _, raw: self._at(database, name).insert(_encoded(raw))
        )
        return {"n": len(done), **errors}

    def do_update(self, database: str, command: Document) -> Document:
        def apply(index: int, one: Any) -> Document:
            return self._update(self._at(database, command["update"]), index, one)

        done, errors = self._each(command, command["updates"], apply)
        upserted = [one for one in done if "_id" in one]
        counts = {"n": sum(1 for one in done if one), "nModified": sum(one.get("changed", 0) for one in done)}
        return {**counts, **({"upserted": upserted} if upserted else {}), **errors}

    def _update(self, target: Collection, index: int, one: Any) -> Document:
        """Update the first document that is found, or insert one; return what happened."""
        one = _decoded(one)
        for identity, found in islice(target.found(one["q"]), 1):
            raw = _encoded(changed(decode(found, EXACT), one["u"], fresh=False))
            target.put(identity, raw)
            return {"changed": int(raw != found)}
        if not one.get("upsert"):
            return {}
        made = changed({"_id": ObjectId(), **equalities(one["q"])}, one["u"], fresh=True)
        target.insert(_encoded(made))
        return {"index": index, "_id": made["_id"]}

    def do_delete(self, database: str, command: Document) -> Document:
        def apply(_: int, one: Any) -> int:
            one, target = _decoded(one), self._at(database, command["delete"])
            identities = [identity for identity, _ in islice(target.found(one["q"]), one["limit"] or None)]
            for identity in identities:
                target.remove(identity)
            return len(identities)

        done, errors = self._each(command, command["deletes"], apply)
        return {"n": sum(done), **errors}

    def _each(
        self, command: Document, operations: Sequence[Any], apply: Callable[[int, Any], Any]
    ) -> tuple[list[Any], Document]:
        """Carry operations out one by one; return what they gave, and the errors of the others."""
        if not 0 < len(operations) <= MOST_OPERATIONS:
            raise RefusedError(16, f"Write batch sizes must be between 1 and {MOST_OPERATIONS}")
        done, errors, crashes, words = [], list[Document](), self.crashes, WORDS
        for index, operation in enumerate(operations):
            try:
                with self._lock:
                    if self.crashes != crashes:
                        raise CrashError
                    done.append(apply(index, operation))
            except RefusedError as error:
                errors.append({"index": index, **error.answer, **({} if words > 0 else {"errmsg": ""})})
                words -= len(error.answer["errmsg"])
                if command.get("ordered", True):
                    break
        return done, {"writeErrors": errors} if errors else {}

    # --- reads ---

    def do_find(self, database: str, command: Document) -> Document:
        found: Iterable[bytes] = self._found(database, command["find"], command.get("filter", {}))
        if order := command.get("sort"):
            found = in_order(found, order)
        found = list(islice(found, command.get("limit") or None))
        if fields := command.get("projection"):
            found = [projected(raw, fields) for raw in found]
        return self._page(f"{database}.{command['find']}", found, command.get("batchSize", FIRST_PAGE))

    def _found(self, database: str, name: str, wanted: Document) -> Iterable[bytes]:
        target = self.collections.get(f"{database}.{name}", Collection({}))
        return (raw for _, raw in target.found(wanted))

    def do_count(self, database: str, command: Document) -> Document:
        return {"n": sum(1 for _ in self._found(database, command["count"], command.get("query", {})))}

    def do_aggregate(self, database: str, command: Document) -> Document:
        found = self._found(database, str(command["aggregate"]), {})
        for stage in command["pipeline"]:
            [(word, plan)] = stage.items()
            if word == "$match":
                found = [raw for raw in found if not plan or matches(lazy(raw), plan)]
            elif word == "$currentOp":
                found = [_encoded({"appName": name}) for name in list(self.clients.values())]
            elif word == "$group":
                found = list(map(_encoded, grouped(found, plan)))
            else:
                raise RefusedError(40324, f"Unrecognized pipeline stage name: '{word}'")
        return self._page(f"{database}.{command['aggregate']}", list(found), None)

    def _page(self, name: str, found: list[bytes], size: int | None, part: str = "firstBatch") -> Document:
        """Return a cursor's next documents, and keep the others for `getMore`."""
        room, fit = PAGE_BYTES, 0
        for raw in found[:size]:
            room -= len(raw)
            if fit and room < 0:
                break
            fit += 1
        cursor, rest = 0, found[fit:]
        if rest:
            self._cursors[cursor := next(self._numbers)] = name, rest
        return {"cursor": {"id": cursor, "ns": name, part: list(map(lazy, found[:fit]))}}

    def do_getMore(self, _: str, command: Document) -> Document:  # noqa: N802
        if command["getMore"] not in self._cursors:
            raise RefusedError(43, f"cursor id {command['getMore']} not found")
        return self._page(*self._cursors.pop(command["getMore"]), command.get("batchSize"), "nextBatch")

    def do_killCursors(self, _: str, command: Document) -> Document:  # noqa: N802
        for cursor in command["cursors"]:
            self._cursors.pop(cursor, None)
        return {}

    # --- collections and indexes ---

    def _at(self, database: str, name: str) -> Collection:
        """Return a collection, made if it is missing."""
        name = f"{database}.{name}"
        if name not in self.collections:
            self.collections[name] = Collection({})
        return self.collections[name]

    def do_create(self, database: str, command: Document) -> Document:
        name = f"{database}.{command['create']}"
        if name in self.collections:
            raise RefusedError(48, f"Collection {name} already exists.")
        options = {word: command[word] for word in ("validator", "capped", "size") if word in command}
        self.collections[name] = Collection(options)
        return {}

    def do_createIndexes(self, database: str, command: Document) -> Document:  # noqa: N802
        for index in command["indexes"]:
            self._at(database, command["createIndexes"]).add_index(index)
        return {}

    def do_listIndexes(self, database: str, command: Document) -> Document:  # noqa: N802
        name = f"{database}.{command['listIndexes']}"
        if name not in self.collections:
            raise RefusedError(26, f"ns does not exist: {name}")
        return self._page(name, list(map(_encoded, self.collections[name].indexes)), None)

    def do_listCollections(self, database: str, command: Document) -> Document:  # noqa: N802
        entries = [
            {
                "name": name.partition(".")[2],
                "type": "collection",
                "options": held.options,
                "info": {"uuid": held.uuid},
            }
            for name, held in list(self.collections.items())
            if name.startswith(f"{database}.")
        ]
        found = [_encoded(entry) for entry in entries if matches(entry, command.get("filter", {}))]
        return self._page(f"{database}.$cmd.listCollections", found, None)

    def do_renameCollection(self, _: str, command: Document) -> Document:  # noqa: N802
        source, target = command["renameCollection"], command["to"]
        if source not in self.collections:
            raise RefusedError(26, f"Source collection {source} does not exist")
        if target in self.collections and not command.get("dropTarget"):
            raise RefusedError(48, "target namespace exists")
        self.collections[target] = self.collections.pop(source)
        return {}

    def do_drop(self, database: str, command: Document) -> Document:
        self.collections.pop(f"{database}.{command['drop']}", None)
        return {}

    def do_dropDatabase(self, database: str, _: Document) -> Document:  # noqa: N802
        for name in [name for name in self.collections if name.startswith(f"{database}.")]:
            del self.collections[name]
        return {}


def _encoded(document: bytes | Mapping[str, Any]) -> bytes:
    """Return a document as bytes, which it is already if it came in a sequence of its own."""
    return document if isinstance(document, bytes) else encode(document, codec_options=EXACT)


def _decoded(operation: bytes | Document) -> Document:
    return decode(operation, EXACT) if isinstance(operation, bytes) else operation
