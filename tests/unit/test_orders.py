from __future__ import annotations

import csv
import gzip
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adaptive.errors import UsageError
from adaptive.orders import BAD_VALUES, CHECKSUM_SQL, COLUMNS, checksums, loadable, orders, schema, write

COUNT = 2_345  # not a multiple of the block


@settings(max_examples=20)
@given(count=st.integers(0, 3_000), seed=st.integers(0, 2**32))
def test_a_shorter_set_is_the_beginning_of_a_longer_one(count: int, seed: int) -> None:
    assert list(orders(count, seed)) == list(islice(orders(count + 1_001, seed), count))


def test_another_seed_gives_other_orders() -> None:
    assert list(orders(10, seed=1)) != list(orders(10, seed=2))


def test_every_value_lies_in_its_range() -> None:
    some = list(orders(5_000))
    assert pa.Table.from_pylist(some, schema=schema()).to_pylist() == some
    assert [order["order_id"] for order in some] == list(range(10_000_000_000, 10_000_005_000))
    assert len({order["symbol"] for order in some}) == 500
    assert all(1 <= order["quantity"] <= 10_000 and 1 <= order["trader_id"] <= 20_000 for order in some)
    assert all(0 < order["price"] < 100_000 and order["price"].as_tuple().exponent == -4 for order in some)
    assert all(a["placed_at"] < b["placed_at"] for a, b in pairwise(some))


def test_notes_hold_what_breaks_careless_loaders() -> None:
    notes = [order["note"] for order in orders(5_000)]
    assert 0.25 < notes.count(None) / len(notes) < 0.35
    texts = [note for note in notes if note is not None]
    assert all(10 <= len(text) <= 60 for text in texts)
    assert len(set(texts)) > 0.95 * len(texts)
    for awkward in ('"', ",", "\n", "'", "\\", "\t", "<tag>", "&", "株式", "🚀", ";", "%"):
        assert any(awkward in text for text in texts), awkward


def read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line, parse_float=Decimal)


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    yield from pq.read_table(path).to_pylist()


def read_xml(path: Path) -> Iterator[dict[str, Any]]:
    for element in etree.parse(path).getroot():
        yield {child.tag: child.text for child in element}


READERS = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet, "xml": read_xml}
FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "order_id": int,
    "quantity": int,
    "price": Decimal,
    "trader_id": int,
    "placed_at": datetime.fromisoformat,
}


def typed(read: dict[str, Any]) -> dict[str, Any]:
    """Return an order from what a plain reader gave; empty text and absence stand for NULL."""
    values = {column: read.get(column) or None for column in COLUMNS}
    return {
        column: FROM_TEXT[column](value) if isinstance(value, str) and column in FROM_TEXT else value
        for column, value in values.items()
    }


@pytest.mark.parametrize("name", READERS)
def test_a_written_file_holds_the_orders(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"orders.{name}"
    write(path, COUNT)
    assert [typed(read) for read in READERS[name](path)] == list(orders(COUNT))


def test_json_prices_are_numbers_with_all_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    write(path, 10)
    lines = path.read_text(encoding="utf-8").splitlines()
    for order, line in zip(orders(10), lines, strict=True):
        assert f'"price":{order["price"]},' in line


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xml", "csv.gz", "xml.zst"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    write(one, COUNT, seed=3)
    write(two, COUNT, seed=3)
    assert one.read_bytes() == two.read_bytes()


def test_compressed_files_hold_the_same_text(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv", COUNT)
    write(tmp_path / "orders.csv.gz", COUNT)
    write(tmp_path / "orders.csv.zst", COUNT)
    plain = (tmp_path / "orders.csv").read_bytes()
    assert gzip.decompress((tmp_path / "orders.csv.gz").read_bytes()) == plain
    with pa.input_stream(tmp_path / "orders.csv.zst") as compressed:
        assert compressed.read() == plain


def test_the_format_may_be_said_instead_of_the_suffix(tmp_path: Path) -> None:
    write(tmp_path / "orders.feed", 10, format="jsonl")
    assert [typed(read) for read in read_jsonl(tmp_path / "orders.feed")] == list(orders(10))


@pytest.mark.parametrize(
    ("name", "share"), [("orders.parquet.gz", 0.0), ("orders.parquet", 0.1), ("orders.doc", 0.0)]
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, share: float) -> None:
    with pytest.raises(UsageError, match=name):
        write(tmp_path / name, 10, bad_share=share)
    assert not list(tmp_path.iterdir())


@settings(max_examples=20)
@given(
    count=st.integers(0, 2_000),
    bad=st.sampled_from([0.001, 0.01, 0.2, 0.5]),
    duplicates=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_faults_are_as_many_as_asked_for_and_nothing_else_changes(
    count: int, bad: float, duplicates: float
) -> None:
    clean = list(orders(count))
    some = list(orders(count, bad_share=bad, duplicate_share=duplicates))
    repeated = [i for i in range(1, count) if some[i] == some[i - 1]]
    assert abs(len(repeated) - count * duplicates) <= 1
    assert all(some[i]["order_id"] == clean[i]["order_id"] for i in range(count) if i not in repeated)
    assert list(orders(count, bad_share=bad, duplicate_share=duplicates)) == some
    good = list(loadable(some))
    assert all(order == clean[order["order_id"] - clean[0]["order_id"]] for order in good)
    assert len({order["order_id"] for order in good}) == len(good)


def test_bad_values_take_turns() -> None:
    some = orders(600, bad_share=0.01)
    found = Counter(pair for order in some for pair in BAD_VALUES if order[pair[0]] == pair[1])
    assert found == dict.fromkeys(BAD_VALUES, 2)


def test_checksums_are_those_of_the_database() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"CREATE TABLE orders ({', '.join(COLUMNS)})")
        rows = [
            tuple(str(value) if isinstance(value, Decimal | datetime) else value for value in order.values())
            for order in orders(COUNT)
        ]
        connection.executemany(f"INSERT INTO orders VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        found = connection.execute(CHECKSUM_SQL["sqlite"].format(table="orders")).fetchone()
    connection.close()
    assert found == checksums(orders(COUNT))


def test_checksums_notice_a_lost_null_and_a_lost_microsecond() -> None:
    order = next(order for order in orders(10) if order["note"] is None)
    whole = checksums([order])
    assert checksums([{**order, "note": ""}]).notes != whole.notes
    micros = order["placed_at"].microsecond
    late = order["placed_at"].replace(microsecond=(micros + 1) % 1_000_000)
    assert checksums([{**order, "placed_at": late}]).micros != whole.micros
