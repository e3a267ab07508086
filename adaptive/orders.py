"""Market orders from a seed: the data of the demonstration, the tests and the benchmark.

Order `i` of a seed is the same whatever the count, so a shorter set is the beginning of a longer
one. Notes hold what breaks careless loaders: quotes, commas, newlines, markup, backslashes, other
scripts, NULL.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from itertools import accumulate, islice
from itertools import count as count_from
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from adaptive.dialect import Dialect
from adaptive.errors import UsageError
from adaptive.sources import COMPRESSIONS, format_of

Order: TypeAlias = dict[str, Any]

FIRST_ID = 10_000_000_000  # beyond 32 bits, so that a key cut to int4 is noticed
OPENING = datetime(2024, 1, 2, 9, 30, tzinfo=UTC)  # 1704187800 seconds after 1970
VENUES = ("ARCA", "BATS", "EDGX", "EURONEXT", "HKEX", "IEX", "LSE", "NASDAQ", "NYSE", "SIX", "TSE", "XETRA")
ORDER_TYPES = ("LIMIT",) * 3 + ("MARKET",) * 2 + ("STOP", "STOP_LIMIT")
WORDS = (
    "client", "asked", "for", "a", "better", "fill", 'said "now"', "urgent", "part 1, part 2", "re-routed",
    "Zürich", "naïve", "株式", "über", "€uro", "déjà vu", "it's", "O'Neil", "50% filled", "hedge", "desk #4",
    "🚀", "a\\b", "<tag>", "R&D", "роллинг", "limit raised", "call back", "x;y", "tab\there",
)  # fmt: skip
BAD_VALUES = (("quantity", "many"), ("price", "12,5O"), ("placed_at", "yesterday"))
BLOCK = 1_000  # orders drawn together: one draw per column and block takes half the time of one per value
_TYPES: dict[str, pa.DataType] = {
    "order_id": pa.int64(),
    "symbol": pa.string(),
    "side": pa.string(),
    "quantity": pa.int32(),
    "price": pa.decimal128(18, 4),
    "order_type": pa.string(),
    "trader_id": pa.int32(),
    "venue": pa.string(),
    "placed_at": pa.timestamp("us", tz="UTC"),
    "note": pa.string(),
}
COLUMNS = tuple(_TYPES)


def schema() -> pa.Schema:
    """Return the Arrow types of an order."""
    return pa.schema(_TYPES)


def orders(
    count: int, seed: int = 7, *, bad_share: float = 0.0, duplicate_share: float = 0.0
) -> Iterator[Order]:
    """Yield `count` orders: int, str, Decimal, datetime with zone, and None for 30 % of the notes.

    Evenly spread, `bad_share` of them hold a text that their column cannot take, and
    `duplicate_share` repeat the order before them, key included. Both lie between 0 and 0.5.
    """
    drawn = islice(_draw(random.Random(seed)), count)  # noqa: S311
    return _with_faults(drawn, bad_share, duplicate_share) if bad_share or duplicate_share else drawn


def loadable(some: Iterable[Order]) -> Iterator[Order]:
    """Yield what a table with the key `order_id` can hold of them: no bad value, no repeated order."""
    last = None
    for order in some:
        if order["order_id"] != last and not any(order[column] == bad for column, bad in BAD_VALUES):
            last = order["order_id"]
            yield order


def write(
    path: str | Path,
    count: int,
    seed: int = 7,
    format: str | None = None,  # noqa: A002
    *,
    bad_share: float = 0.0,
    duplicate_share: float = 0.0,
) -> None:
    """Write orders as csv, jsonl, parquet or xml, by format or suffix, also `.gz` and `.zst`.

    The same arguments give the same bytes. Raises UsageError for an unknown suffix, and for what
    Parquet cannot hold: bad values, or a further compression around it.
    """
    path = Path(path)
    name = format_of(str(path), Dialect(format=format))
    some = orders(count, seed, bad_share=bad_share, duplicate_share=duplicate_share)
    if name == "parquet":
        if bad_share or path.suffix in COMPRESSIONS:
            raise UsageError(f"{path}: a Parquet file holds no bad values and compresses its own columns")
        _write_parquet(path, some)
    else:
        _write_text(path, _TEXTS[name], some)


class Checksums(NamedTuple):
    """What a loaded table must reproduce. `price` is in units of 0.0001, `micros` since OPENING.

    That keeps the sums of 10,000,000 orders within 64 bits: SQLite refuses more.
    """

    rows: int
    order_id: int
    quantity: int
    price: int
    trader_id: int
    micros: int
    notes: int
    text_bytes: int


CHECKSUM_SQL = {
    "postgresql": "SELECT count(*), sum(order_id), sum(quantity), sum(price * 10000)::numeric(38),"
    " sum(trader_id), sum((extract(epoch FROM placed_at) - 1704187800) * 1000000)::numeric(38), count(note),"
    " sum(octet_length(concat(symbol, side, order_type, venue, note))) FROM {table}",
    # characters 21-26 of an ISO timestamp are its microseconds; without them, "00:00" there casts to 0
    "sqlite": "SELECT count(*), sum(order_id), sum(quantity), sum(CAST(round(price * 10000) AS INTEGER)),"
    " sum(trader_id), sum((strftime('%s', substr(placed_at, 1, 19)) - 1704187800) * 1000000"
    " + CAST(substr(placed_at, 21, 6) AS INTEGER)), count(note),"
    " sum(length(CAST(symbol || side || order_type || venue || coalesce(note, '') AS BLOB)))"
    " FROM {table}",
}


def checksums(some: Iterable[Order]) -> Checksums:
    """Return the checksums of orders without bad values."""
    totals = [0] * len(Checksums._fields)
    for order in some:
        note = order["note"]
        text = order["symbol"] + order["side"] + order["order_type"] + order["venue"] + (note or "")
        numbers = (
            1,
            order["order_id"],
            order["quantity"],
            int(order["price"].scaleb(4)),
            order["trader_id"],
            (order["placed_at"] - OPENING) // timedelta(microseconds=1),
            note is not None,
            len(text.encode()),
        )
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
    return Checksums(*totals)


def _draw(rng: random.Random) -> Iterator[Order]:
    symbols = _symbols(rng)
    notes = _notes(rng)
    micros = 0
    for first in count_from(FIRST_ID, BLOCK):
        gaps = rng.choices(range(1, 60_001), k=BLOCK)
        *times, micros = accumulate(gaps, initial=micros)
        columns = (
            range(first, first + BLOCK),
            rng.choices(symbols, k=BLOCK),
            rng.choices(("BUY", "SELL"), k=BLOCK),
            rng.choices(range(1, 10_001), k=BLOCK),
            [Decimal(units).scaleb(-4) for units in rng.choices(range(1, 10**9), k=BLOCK)],
            rng.choices(ORDER_TYPES, k=BLOCK),
            rng.choices(range(1, 20_001), k=BLOCK),
            rng.choices(VENUES, k=BLOCK),
            [OPENING + timedelta(microseconds=time) for time in times],
            notes(),
        )
        for row in zip(*columns, strict=True):
            yield dict(zip(COLUMNS, row, strict=True))


def _symbols(rng: random.Random) -> list[str]:
    found: set[str] = set()
    while len(found) < 500:
        found.add("".join(rng.choices(ascii_uppercase, k=rng.randint(2, 5))))
    return sorted(found)


def _notes(rng: random.Random) -> Callable[[], list[str | None]]:
    """Return a function that draws a block of notes: pieces, cut at word starts, of one long text.

    50,000 words make nearly every note different, so that no dictionary encoding flatters a file.
    """
    words = [word + ("\n" if rng.random() < 0.02 else " ") for word in rng.choices(WORDS, k=50_000)]
    text = "".join(words)
    starts = list(accumulate(map(len, words[:-60]), initial=0))

    def draw() -> list[str | None]:
        lengths = rng.choices(range(10, 61), k=BLOCK)
        places = zip(rng.choices(starts, k=BLOCK), lengths, rng.choices(range(10), k=BLOCK), strict=True)
        return [
            text[at : at + length].rstrip().ljust(10, ".") if tenth >= 3 else None
            for at, length, tenth in places
        ]

    return draw


def _with_faults(clean: Iterator[Order], bad_share: float, duplicate_share: float) -> Iterator[Order]:
    previous = None
    for index, drawn in enumerate(clean):
        order = drawn
        if previous and _due(index, duplicate_share):
            order = previous
        elif _due(index, bad_share):
            column, bad = BAD_VALUES[int(index * bad_share) % len(BAD_VALUES)]
            order = {**drawn, column: bad}
        previous = order
        yield order


def _due(index: int, share: float) -> bool:
    return int((index + 1) * share) > int(index * share)


def _csv(some: list[Order]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(_texts, some))
    return out.getvalue()


def _texts(order: Order) -> list[Any]:
    return [value.isoformat() if isinstance(value, datetime) else value for value in order.values()]


def _jsonl(some: list[Order]) -> str:
    # a Fragment keeps the decimal's digits: a number in JSON, never a float
    lines = (orjson.dumps(order, default=lambda price: orjson.Fragment(str(price))) for order in some)
    return b"\n".join(lines).decode() + "\n"


def _xml(some: list[Order]) -> str:
    lines = []
    for order in some:
        fields = zip(order, _texts(order), strict=True)
        body = "".join(f"<{c}>{escape(str(v), quote=False)}</{c}>" for c, v in fields if v is not None)
        lines.append(f"<order>{body}</order>\n")
    return "".join(lines)


class _Text(NamedTuple):
    """A text format: what stands before, around and after the orders."""

    head: str
    body: Callable[[list[Order]], str]
    tail: str = ""


_TEXTS = {
    "csv": _Text(",".join(COLUMNS) + "\n", _csv),
    "jsonl": _Text("", _jsonl),
    "xml": _Text('<?xml version="1.0" encoding="UTF-8"?>\n<orders>\n', _xml, "</orders>\n"),
}


def _write_text(path: Path, text: _Text, some: Iterator[Order]) -> None:
    with pa.output_stream(path, compression="detect") as out:
        out.write(text.head.encode())
        for block in _blocks(some, BLOCK):
            out.write(text.body(block).encode())
        out.write(text.tail.encode())


def _write_parquet(path: Path, some: Iterator[Order]) -> None:
    with pq.ParquetWriter(path, schema()) as out:
        for block in _blocks(some, 100 * BLOCK):  # a row group; bounds the memory
            out.write_batch(pa.RecordBatch.from_pylist(block, schema()))


def _blocks(some: Iterator[Order], size: int) -> Iterator[list[Order]]:
    return iter(lambda: list(islice(some, size)), [])
