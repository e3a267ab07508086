"""The peers: other ways from a file to PostgreSQL, each a few lines with the libraries it is named after.

    python -m benchmarks.peers PEER FILE URL

runs in .bench/venv, without `adaptive`, and prints the seconds from the first read to the commit,
imports excluded. The table is there already and empty.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each peer imports what it uses, before the clock starts
    import pyarrow as pa

TYPES = {
    "order_id": "BIGINT",
    "symbol": "VARCHAR",
    "side": "VARCHAR",
    "quantity": "INTEGER",
    "price": "DECIMAL(18,4)",
    "order_type": "VARCHAR",
    "trader_id": "INTEGER",
    "venue": "VARCHAR",
    "placed_at": "TIMESTAMPTZ",
    "note": "VARCHAR",
}
COPY = f"COPY orders ({', '.join(TYPES)}) FROM STDIN"
BLOCK_BYTES = 4 << 20


def _schema() -> pa.Schema:
    import pyarrow as pa

    arrow: dict[str, pa.DataType] = {"BIGINT": pa.int64(), "VARCHAR": pa.string(), "INTEGER": pa.int32()}
    arrow |= {"DECIMAL(18,4)": pa.decimal128(18, 4), "TIMESTAMPTZ": pa.timestamp("us", tz="UTC")}
    return pa.schema([(name, arrow[word]) for name, word in TYPES.items()])


def _arrow(path: str) -> pa.RecordBatchReader:
    """Return a reader of typed record batches for a file, the way pyarrow is meant to be used."""
    import pyarrow as pa

    batches = {".csv": _arrow_csv, ".jsonl": _arrow_jsonl, ".parquet": _arrow_parquet}[Path(path).suffix]
    return pa.RecordBatchReader.from_batches(_schema(), batches(path))


def _arrow_csv(path: str) -> Iterable[pa.RecordBatch]:
    import pyarrow.csv as pc

    yield from pc.open_csv(
        path,
        read_options=pc.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pc.ParseOptions(newlines_in_values=True),
        convert_options=pc.ConvertOptions(column_types=_schema(), null_values=[""], strings_can_be_null=True),
    )


def _arrow_jsonl(path: str) -> Iterable[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.json as pj

    wanted = _schema()
    at = wanted.get_field_index("placed_at")
    read = wanted.set(at, wanted.field(at).with_type(pa.string()))  # pyarrow.json knows no time zones
    options = pj.ReadOptions(block_size=BLOCK_BYTES)
    for batch in pj.open_json(path, options, pj.ParseOptions(explicit_schema=read)):
        yield batch.set_column(at, wanted.field(at), batch.column(at).cast(wanted.field(at).type))


def _arrow_parquet(path: str) -> Iterable[pa.RecordBatch]:
    import pyarrow.parquet as pq

    yield from pq.ParquetFile(path).iter_batches(65_536)


def pgpq(path: str, url: str) -> None:
    """Copy pyarrow's batches in binary, encoded by pgpq, through psycopg."""
    import psycopg
    from pgpq import ArrowToPostgresBinaryEncoder

    reader = _arrow(path)
    encoder = ArrowToPostgresBinaryEncoder(reader.schema)
    binary = f"{COPY} (FORMAT binary)"
    with psycopg.connect(url) as connection, connection.cursor() as cursor, cursor.copy(binary) as copy:
        copy.write(encoder.write_header())
        for batch in reader:
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def adbc(path: str, url: str) -> None:
    """Ingest pyarrow's batches through ADBC's PostgreSQL driver."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("orders", _arrow(path), mode="append")
        connection.commit()


def duckdb(path: str, url: str) -> None:
    """Let DuckDB read the file and insert through its postgres extension."""
    import duckdb
    import duckdb_extension_postgres_scanner as extension

    library = next(Path(extension.__file__).parent.glob("extensions/*/*.duckdb_extension"))
    columns = "{" + ", ".join(f"{name!r}: {word!r}" for name, word in TYPES.items()) + "}"
    reads = {
        ".csv": f"read_csv('{path}', header=true, columns={columns})",
        ".jsonl": f"read_json('{path}', format='newline_delimited', columns={columns})",
        ".parquet": f"read_parquet('{path}')",
    }
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{library}'")
        connection.execute(f"ATTACH '{url}' AS target (TYPE postgres)")
        connection.execute(f"INSERT INTO target.orders SELECT * FROM {reads[Path(path).suffix]}")


def lxml(path: str, url: str) -> None:
    """Walk XML with lxml's iterparse and copy the texts with psycopg."""
    import psycopg
    from lxml import etree

    with psycopg.connect(url) as connection, connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for _, element in etree.iterparse(path, tag="order"):
            values = {child.tag: child.text for child in element}
            copy.write_row([values.get(name) for name in TYPES])
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]


def row_by_row(path: str, url: str) -> None:
    """Insert each CSV row in a transaction of its own and go on after the ones that fail."""
    import csv

    import psycopg

    insert = f"INSERT INTO orders VALUES ({', '.join(['%s'] * len(TYPES))})"
    with psycopg.connect(url, autocommit=True) as connection, Path(path).open(newline="") as lines:
        for row in list(csv.reader(lines))[1:]:
            try:
                connection.execute(insert, [value or None for value in row])
            except psycopg.errors.Error:
                continue


IMPORTS = {
    "pgpq": ("pgpq", "psycopg", "pyarrow.csv", "pyarrow.json", "pyarrow.parquet"),
    "adbc": ("adbc_driver_postgresql.dbapi", "pyarrow.csv", "pyarrow.json", "pyarrow.parquet"),
    "duckdb": ("duckdb", "duckdb_extension_postgres_scanner"),
    "lxml": ("lxml.etree", "psycopg"),
    "row_by_row": ("psycopg",),
}


def main(peer: str, path: str, url: str) -> None:
    """Load a file with a peer and print the seconds it took."""
    for module in IMPORTS[peer]:
        importlib.import_module(module)
    start = time.perf_counter()
    globals()[peer](path, url)
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
