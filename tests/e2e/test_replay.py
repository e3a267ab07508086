"""Dead letters that were mended go where their load went, once, with the types that their load had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson import Decimal128
from labs import MongoLab, mongo_lab

from e2e.conftest import Command

TYPES = "k=int64,price=decimal(18,4),day=date,at=timestamptz,tag=uuid,raw=binary,more=json,note=text"
RECORD = {
    "k": "1", "price": "2.20", "day": "2024-05-06", "at": "2024-05-06T07:08:09Z", "tag": UUID(int=7).hex,
    "raw": "\\x00ff", "more": {"deep": [1, 2.5]}, "note": "5",
}  # fmt: skip
DOCUMENT = {
    "k": 1, "price": Decimal128("2.2000"), "day": datetime(2024, 5, 6, tzinfo=UTC),
    "at": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "tag": UUID(int=7), "raw": b"\x00\xff",
    "more": {"deep": [1, Decimal128("2.5")]}, "note": "5",
}  # fmt: skip


@pytest.fixture
def collection(mongo_server: str) -> Iterator[MongoLab]:
    with mongo_lab(mongo_server) as lab:
        yield lab


def mended(adaptive: Command, changes: dict[str, Any]) -> str:
    """Change columns in all letters, as a person would; return the file's name."""
    [file] = adaptive.folder.glob("*.rejected.jsonl")
    head, *letters = map(json.loads, file.read_text().splitlines())
    for letter in letters:
        letter["row"] |= changes
    file.write_text("".join(json.dumps(line) + "\n" for line in (head, *letters)))
    return file.name


def test_a_collection_gets_the_types_of_the_load(collection: MongoLab, adaptive: Command) -> None:
    bad = {**RECORD, "k": "none", "price": "much", "at": "late"}
    (adaptive.folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (RECORD, bad)))
    to = ("--to", collection.url, "--table", "t")
    assert adaptive("load", "t.jsonl", *to, "--types", TYPES).code == 3
    name = mended(adaptive, {"k": 2, "price": "2.20", "at": RECORD["at"]})
    for _ in range(2):
        assert adaptive("replay", name, *to).code == 0
    assert sorted(collection.rows("t"), key=lambda row: row["k"]) == [DOCUMENT, {**DOCUMENT, "k": 2}]


def test_types_that_text_cannot_give_back_are_refused(collection: MongoLab, adaptive: Command) -> None:
    table = pa.table({"price": [Decimal("1.10")], "sizes": pa.array([[1, 2]], pa.list_(pa.int8()))})
    pq.write_table(table, adaptive.folder / "t.parquet")
    collection.db.create_collection("t", validator={"price": {"$gt": 2}})
    to = ("--to", collection.url, "--table", "t")
    assert adaptive("load", "t.parquet", *to).code == 3
    replay = adaptive("replay", mended(adaptive, {"price": "2.20"}), *to)
    assert replay.code == 2
    assert "column sizes: list<element: int8> is not read from dead letters" in replay.err
    assert "load them, mended, as JSON Lines" in replay.err
    assert collection.rows("t") == []


def test_letters_that_name_no_types_are_refused(collection: MongoLab, adaptive: Command) -> None:
    (adaptive.folder / "t.csv").write_text("k\nx\n")
    to = ("--to", collection.url, "--table", "t")
    assert adaptive("load", "t.csv", *to, "--types", "k=int64").code == 3
    file = Path(adaptive.folder / mended(adaptive, {"k": "1"}))
    file.write_text(file.read_text().replace('"types"', '"kinds"'))
    replay = adaptive("replay", file.name, *to)
    assert (replay.code, "do not say which types the load had" in replay.err) == (2, True)
