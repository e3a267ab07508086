"""What filters, updates, projections, orders and groups mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from bson import Decimal128, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

Document = dict[str, Any]
EXACT: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
LAZY: CodecOptions[RawBSONDocument] = EXACT.with_options(document_class=RawBSONDocument)


def lazy(raw: bytes) -> RawBSONDocument:
    """Return a document that is decoded when a field is asked for."""
    return RawBSONDocument(raw, LAZY)


class RefusedError(Exception):
    """An error with MongoDB's code."""

    def __init__(self, code: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.answer: Document = {"code": code, "errmsg": text, **more}


def index_key(value: Any) -> Hashable:
    """Return a value as indexes see it: a number by its value, all else by its bytes."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return value if value == value else "NaN"
    return encode({"": value}, codec_options=EXACT)[4:-1]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, other: index_key(value) == index_key(other),
    "$ne": lambda value, other: index_key(value) != index_key(other),
    "$in": lambda value, others: index_key(value) in set(map(index_key, others)),
    "$gt": lambda value, other: _number(value) and bool(value > other),
    "$regex": lambda value, pattern: isinstance(value, str) and bool(re.search(pattern, value)),
}


def matches(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a filter finds a document. Names are those of the top level."""
    return all(_holds(document, name, condition) for name, condition in wanted.items())


def _holds(document: Mapping[str, Any], name: str, condition: Any) -> bool:
    if name in ("$and", "$or"):
        return (all if name == "$and" else any)(matches(document, part) for part in condition)
    if not is_operator(condition):
        return TESTS["$eq"](document.get(name), condition)
    if unknown := condition.keys() - TESTS.keys():
        raise RefusedError(2, f"unknown operator: {min(unknown)}")
    return all(TESTS[word](document.get(name), operand) for word, operand in condition.items())


def is_operator(condition: Any) -> bool:
    """Return whether a condition is more than a value to be equal to."""
    return isinstance(condition, dict) and any(word.startswith("$") for word in condition)


def changed(document: Document, update: Document, *, fresh: bool) -> Document:
    """Return a document after an update; `fresh` says that it is to be inserted."""
    if not any(name.startswith("$") for name in update):
        return {"_id": document["_id"], **update}
    if unknown := update.keys() - {"$set", "$setOnInsert", "$unset"}:
        raise RefusedError(9, f"Unknown modifier: {min(unknown)}")
    document = {**document, **update.get("$set", {}), **(update.get("$setOnInsert", {}) if fresh else {})}
    return {name: value for name, value in document.items() if name not in update.get("$unset", {})}


def equalities(wanted: Mapping[str, Any]) -> Document:
    """Return the fields that a document gets which an update with this filter inserts."""
    pairs = {name: value.get("$eq") if is_operator(value) else value for name, value in wanted.items()}
    return {name: value for name, value in pairs.items() if value is not None}


# Bytes of a value by its type; of the longer ones, those beside the length that stands first.
SIZES = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16,
         0x7F: 0, 0xFF: 0}  # fmt: skip
LONGER = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0D: 4, 0x0E: 4, 0x0F: 0}


def elements(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the elements of a document; to decode an order takes twice as long."""
    at, end = 4, len(raw) - 1
    while at < end:
        name = raw.index(b"\0", at + 1)
        size = SIZES.get(raw[at])
        if size is None:
            size = LONGER[raw[at]] + int.from_bytes(raw[name + 1 : name + 5], "little")
        yield raw[at + 1 : name].decode(), raw[at : name + 1 + size]
        at = name + 1 + size


def part(raw: bytes, names: Collection[str]) -> bytes:
    """Return the document with only these fields."""
    found = []
    for name, element in elements(raw):
        if name in names:
            found.append(element)
            if len(found) == len(names):
                break
    body = b"".join(found)
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


def projected(raw: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return the fields of a document that a projection names, or those that it does not take away."""
    chosen = {name for name, shown in fields.items() if shown}
    if chosen:
        return part(raw, chosen | {"_id"} if fields.get("_id", True) else chosen)
    return part(raw, {name for name, _ in elements(raw)} - set(fields))


def in_order(found: Iterable[bytes], order: Mapping[str, int]) -> list[bytes]:
    """Return documents sorted by fields, NULL first; values of different types are not compared."""
    listed = list(map(lazy, found))
    for name, direction in reversed(order.items()):
        listed.sort(key=lambda one: (one.get(name) is not None, one.get(name)), reverse=direction < 0)
    return [document.raw for document in listed]


def grouped(found: Iterable[bytes], plan: Mapping[str, Any]) -> Iterator[Document]:
    """Yield the groups of a `$group` stage, whose only accumulator here is `$sum`."""
    sums = {name: each["$sum"] for name, each in plan.items() if name != "_id"}
    blind = not any(map(_is_path, (plan["_id"], *sums.values())))  # as for counting: nothing is decoded
    groups: dict[Hashable, Document] = {}
    for document in ({} for _ in found) if blind else map(lazy, found):
        identity = _operand(document, plan["_id"])
        group = groups.setdefault(index_key(identity), {"_id": identity, **dict.fromkeys(sums, 0)})
        for name, operand in sums.items():
            value = _operand(document, operand)
            group[name] += value if _number(value) else 0
    yield from groups.values()


def _operand(document: Mapping[str, Any], operand: Any) -> Any:
    return document.get(operand[1:]) if _is_path(operand) else operand


def _is_path(operand: Any) -> bool:
    return isinstance(operand, str) and operand.startswith("$")
