"""What is measured."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from benchmarks.contenders import (
    ADAPTIVE,
    Contender,
    adaptive,
    command,
    from_dicts,
    from_rows,
    peer,
    psql,
    sqlite_import,
)
from benchmarks.inputs import Input
from benchmarks.tables import Kind

ARROW_PEERS = ("pgpq", "adbc", "duckdb")
CSV, CSV_TIMES_5, XML = Input(), Input(scale=5), Input("xml")
ONE_BAD, PERCENT_BAD, PERCENT_REPEATED = (
    Input(bad_share=0.00001),
    Input(bad_share=0.01),
    Input(duplicate_share=0.01),
)
SLOW = Input(scale=0.02, duplicate_share=0.01)  # row by row, all of them would take ten minutes
# Two batches, and what takes about as long row by row: stand-ins are slow, and CPU seconds steady.
ROWS, FEW_ROWS = Input("rows", 0.02), Input("rows", 0.0004)
MANY_ROWS = Input("rows", 0.1)  # two batches of bulk copy
DOCUMENTS = replace(ROWS, milliseconds=True)


@dataclass(frozen=True)
class Case:
    """Contenders that run in turn, each into a fresh table (`database` None: they load nothing)."""

    name: str
    database: Kind | None
    contenders: tuple[Contender, ...]
    key: bool = False  # whether the table has a primary key


def _against_arrow_peers(name: str, *more: Contender) -> Case:
    source = Input(name)
    peers = (peer(each, source) for each in ARROW_PEERS)
    return Case(name, "postgresql", (adaptive("adaptive", source), *more, *peers))


POSTGRESQL_CASES = (
    _against_arrow_peers("csv", psql(CSV)),
    Case("csv-times-5", "postgresql", (adaptive("adaptive", CSV_TIMES_5), psql(CSV_TIMES_5))),
    _against_arrow_peers("jsonl"),
    _against_arrow_peers("parquet"),
    Case("xml", "postgresql", (adaptive("adaptive", XML), peer("lxml", XML))),
    Case("dicts", "postgresql", (from_dicts("adaptive"), from_dicts("psycopg"))),
    Case("sqlite", "sqlite", (adaptive("adaptive", CSV), sqlite_import(CSV))),
    Case(
        "upsert",
        "postgresql",
        (adaptive("append", CSV), adaptive("upsert", CSV, "--mode", "upsert")),
        key=True,
    ),
    Case(
        "bad-values",
        "postgresql",
        (adaptive("none", CSV), adaptive("few", ONE_BAD), adaptive("percent", PERCENT_BAD)),
    ),
    Case(
        "repeated-keys",
        "postgresql",
        (adaptive("percent", PERCENT_REPEATED), peer("row_by_row", SLOW)),
        key=True,
    ),
    Case(
        "start", None, (command("help", ADAPTIVE, "--help"), command("python", sys.executable, "-c", "pass"))
    ),
)

MSSQL_CASES = (
    Case(
        "mssql",
        "mssql",
        (
            from_rows("sink", ROWS),
            from_rows("executemany", ROWS),
            from_rows("sink_arrow", ROWS),
            from_rows("sink", replace(ROWS, bad_share=0.01), "percent_bad"),
            from_rows("row_by_row", FEW_ROWS),
        ),
    ),
    Case(
        "mssql-bulk",
        "mssql",
        (
            from_rows("sink_bulk", MANY_ROWS),
            from_rows("bulkcopy", MANY_ROWS),
            from_rows("sink_arrow_bulk", MANY_ROWS),
        ),
    ),
    Case(
        "mssql-repeated-keys",
        "mssql",
        (
            from_rows("sink", replace(ROWS, duplicate_share=0.01)),
            from_rows("row_by_row", replace(FEW_ROWS, duplicate_share=0.01)),
        ),
        key=True,
    ),
)
MONGODB_CASES = (
    Case(
        "mongodb",
        "mongodb",
        (
            from_rows("sink", DOCUMENTS),
            from_rows("insert_many", DOCUMENTS),
            from_rows("sink_arrow", DOCUMENTS),
        ),
    ),
)
