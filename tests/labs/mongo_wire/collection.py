"""A collection: documents by `_id`, kept as the bytes that came, and its unique indexes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from bson import Binary, ObjectId, decode, encode

from labs.mongo_wire.documents import (
    EXACT,
    Document,
    RefusedError,
    index_key,
    is_operator,
    lazy,
    matches,
    part,
)

LARGEST = 16_777_216  # bytes of a document


class Collection:
    """Documents, each checked by the validator and the unique indexes when it is put in."""

    def __init__(self, options: Document) -> None:
        self.options = options
        self.uuid = Binary.from_uuid(uuid4())
        self.documents: dict[Hashable, bytes] = {}
        self.indexes: list[Document] = [{"v": 2, "key": {"_id": 1}, "name": "_id_"}]
        self._taken: dict[str, dict[Hashable, Hashable]] = {}  # unique index → its key → that of `_id`

    def insert(self, raw: bytes) -> None:
        """Put a new document in."""
        if len(raw) > LARGEST:
            raise RefusedError(
                2, f"object to insert too large. size in bytes: {len(raw)}, max size: {LARGEST}"
            )
        identity, raw = _identified(raw)
        if identity in self.documents:
            raise _duplicate(self.indexes[0], raw)
        self.put(identity, raw)

    def put(self, identity: Hashable, raw: bytes) -> None:
        """Put a document in, or in the place of the one with its `_id`."""
        validator = self.options.get("validator")
        if validator and not matches(decode(raw, EXACT), validator):
            details = {"operatorName": "$or"}
            raise RefusedError(121, "Document failed validation", errInfo={"details": details})
        keys = [(index, self._taken[index["name"]], _key(index, raw)) for index in self._unique()]
        for index, taken, key in keys:
            if taken.get(key, identity) != identity:
                raise _duplicate(index, raw)
        self.remove(identity)
        for _, taken, key in keys:
            taken[key] = identity
        self.documents[identity] = raw

    def remove(self, identity: Hashable) -> None:
        """Take a document out, if it is there."""
        if raw := self.documents.pop(identity, None):
            for index in self._unique():
                del self._taken[index["name"]][_key(index, raw)]

    def add_index(self, index: Document) -> None:
        """Make an index, unless it is there; raises RefusedError for another one of its name."""
        if known := next((known for known in self.indexes if known["name"] == index["name"]), None):
            if known != {"v": 2, **index}:
                raise RefusedError(86, f"An existing index has the same name as the requested index: {known}")
            return
        taken: dict[Hashable, Hashable] = {}
        for identity, raw in self.documents.items() if index.get("unique") else ():
            if taken.setdefault(_key(index, raw), identity) != identity:
                raise _duplicate(index, raw)
        if index.get("unique"):
            self._taken[index["name"]] = taken
        self.indexes.append({"v": 2, **index})

    def _unique(self) -> list[Document]:
        """Return the unique indexes but that of `_id`."""
        return [index for index in self.indexes if index.get("unique")]

    def found(self, wanted: Mapping[str, Any]) -> Iterator[tuple[Hashable, bytes]]:
        """Yield the documents that a filter finds, by an index if it names the fields of one."""
        known = self._looked_up(wanted)
        for identity in list(self.documents) if known is None else known:
            raw = self.documents.get(identity)  # None if it has been deleted meanwhile
            if raw and (known is not None or not wanted or matches(lazy(raw), wanted)):
                yield identity, raw

    def _looked_up(self, wanted: Mapping[str, Any]) -> list[Hashable] | None:
        """Return the documents that a filter finds, None if no index says so."""
        if set(wanted) == {"_id"} and (values := _values(wanted["_id"])) is not None:
            return [key for key in map(index_key, values) if key in self.documents]
        for index in self._unique():
            if set(index["key"]) == set(wanted):
                each = [_values(wanted[name]) for name in index["key"]]
                if all(values is not None and len(values) == 1 for values in each):
                    key = tuple(index_key(values[0]) for values in each if values)
                    taken = self._taken[index["name"]]
                    return [taken[key]] if key in taken else []
        return None


def _identified(raw: bytes) -> tuple[Hashable, bytes]:
    """Return the key of a document's `_id`, and the document with it as its first field."""
    if raw.startswith(b"\x07_id\0", 4):  # nearly all: an ObjectId that stands there already
        return b"\x07\0" + raw[9:21], raw
    document = decode(raw, EXACT)
    if next(iter(document), None) != "_id":
        document = {"_id": document.get("_id", ObjectId()), **document}
        raw = encode(document, codec_options=EXACT)
    return index_key(document["_id"]), raw


def _fields(index: Document, raw: bytes) -> Document:
    """Return a document's values for the fields of an index."""
    document = decode(part(raw, index["key"]), EXACT)
    return {name: document.get(name) for name in index["key"]}


def _key(index: Document, raw: bytes) -> Hashable:
    return tuple(map(index_key, _fields(index, raw).values()))


def _duplicate(index: Document, raw: bytes) -> RefusedError:
    values = _fields(index, raw)
    text = f"E11000 duplicate key error index: {index['name']} dup key: {values}"
    return RefusedError(11000, text, keyPattern=index["key"], keyValue=values)


def _values(condition: Any) -> list[Any] | None:
    """Return the values that a field has to have one of, None if the condition says more or less."""
    if not is_operator(condition):
        return [condition]
    if set(condition) == {"$in"}:
        return list(condition["$in"])
    return [condition["$eq"]] if set(condition) == {"$eq"} else None
