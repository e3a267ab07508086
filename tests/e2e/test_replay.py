"""Dead letters that were mended go where their load went, once, with the types that their load had."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
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
        letter["row"] = letter.get("row", {}) | changes
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


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": "2", "nota": "lost"}, "no column nota; it had id, note"),
        ({"ID": "2", "note": "lost"}, "no column ID"),
        ({}, 'neither "row" nor "raw"'),
        (None, 'neither "row" nor "raw"'),
    ],
)
def test_a_member_that_the_load_had_no_column_for_is_not_lost(row: Any, why: str, adaptive: Command) -> None:
    (adaptive.folder / "t.csv").write_text("id,note\n1,a\n\n\n2\n")
    to = ("--to", "sqlite:///x.db", "--table", "t")
    assert adaptive("load", "t.csv", *to, "--create").code == 3
    [file] = adaptive.folder.glob("*.rejected.jsonl")
    head, letter = map(json.loads, file.read_text().splitlines())
    del letter["raw"]

    def replay(row: Any) -> int:
        file.write_text("".join(json.dumps(line) + "\n" for line in (head, letter | {"row": row})))
        return adaptive("replay", file.name, *to).code

    assert replay(row) == 3
    [again] = set(adaptive.folder.glob("*.rejected.jsonl")) - {file}
    refused = json.loads(again.read_text().splitlines()[1])
    assert why in refused["reason"]
    assert refused["position"]["line"] == letter["position"]["line"] == 5
    assert replay({"id": "2", "note": "b"}) == 0
    with closing(sqlite3.connect(adaptive.folder / "x.db")) as link:
        assert link.execute("SELECT id, note FROM t ORDER BY id").fetchall() == [(1, "a"), (2, "b")]


def test_the_same_load_into_two_databases_has_two_files_of_letters(adaptive: Command) -> None:
    (adaptive.folder / "t.csv").write_text("id,note\n1\n")
    for name in ("x.db", "y.db", "x.db"):
        load = ("load", "t.csv", "--to", f"sqlite:///{name}", "--table", "t", "--create")
        assert adaptive(*load).code in (0, 3)
    files = sorted(adaptive.folder.glob("*.rejected.jsonl"))
    assert [len(file.read_text().splitlines()) for file in files] == [2, 2]
    named = adaptive(*load[:3], "sqlite:///z.db", *load[4:], "--dead-letters", files[0].name)
    assert (named.code, "holds what another load rejected" in named.err) == (2, True)


def test_a_header_whose_columns_do_not_fit_together_is_refused(adaptive: Command) -> None:
    (adaptive.folder / "t.csv").write_text("id,note\n1\n")
    to = ("--to", "sqlite:///x.db", "--table", "t")
    assert adaptive("load", "t.csv", *to, "--create").code == 3
    name = mended(adaptive, {})
    file = adaptive.folder / name
    head, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(head) | {"types": ["int64"]}), *rest, ""]))
    replay = adaptive("replay", name, *to)
    assert (replay.code, "columns, names and types of different numbers" in replay.err) == (2, True)


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("ms"),
        pa.timestamp("us", "Europe/Berlin"),
        pa.null(),
        pa.int8(),
        pa.time32("s"),
        pa.binary(2),
        pa.dictionary(pa.int8(), pa.string()),
    ],
    ids=str,
)
def test_a_type_without_a_word_is_read_as_one_that_stores_the_same(
    kind: pa.DataType, collection: MongoLab, adaptive: Command
) -> None:
    text = pa.types.is_dictionary(kind)
    value = None if kind == pa.null() else b"ab" if kind == pa.binary(2) else "a" if text else 61
    column = pa.array([value] * 2, kind)
    pq.write_table(pa.table({"k": [1, 1], "value": column}), adaptive.folder / "t.parquet")
    collection.db["t"].create_index("k", unique=True)
    to = ("--to", collection.url, "--table", "t")
    assert adaptive("load", "t.parquet", *to).code == 3
    assert adaptive("replay", mended(adaptive, {"k": 2}), *to).code == 0
    first, second = sorted(collection.rows("t"), key=lambda row: row["k"])
    assert second == {**first, "k": 2}


def test_a_refused_row_with_nanoseconds_is_a_letter(collection: MongoLab, adaptive: Command) -> None:
    moments = pa.array([1_700_000_000_123_456_789] * 2, pa.timestamp("ns"))
    pq.write_table(pa.table({"k": [1, 1], "at": moments}), adaptive.folder / "t.parquet")
    collection.db["t"].create_index("k", unique=True)
    assert adaptive("load", "t.parquet", "--to", collection.url, "--table", "t").code == 3
    assert adaptive.letters()[0]["row"] == {"k": 1, "at": "2023-11-14 22:13:20.123456789"}


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
