"""The targets that the measured cases have to meet, and the parts that the benchmark consists of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchmarks.cases import ARROW_PEERS, MONGODB_CASES, MSSQL_CASES, POSTGRESQL_CASES, Case

Metric = Literal["wall", "phase", "speed", "memory", "cpu", "cpu speed"]


@dataclass(frozen=True)
class Target:
    """Bounds on ours / theirs, paired within a repetition; theirs is the fastest peer by median.

    `wall` runs from start to exit, `phase` from first read to commit, both in seconds per row where
    there are rows; `cpu` is the client's CPU seconds per row of the phase; `speed` and `cpu speed` are
    phase and cpu turned over; `memory` is the client's peak in MB. Without `theirs` the bounds are on
    ours itself.
    """

    text: str
    metric: Metric
    ours: str
    theirs: tuple[str, ...] = ()
    at_most: float = math.inf
    at_least: float = 0.0


def _level(name: str, case: str) -> Target:
    peers = tuple(f"{case}/{each}" for each in ARROW_PEERS)
    text = f"{name} → PostgreSQL, load phase: time / fastest of pgpq, ADBC, DuckDB"
    return Target(text, "phase", f"{case}/adaptive", peers, at_most=1.0)


def _one(text: str, metric: Metric, ours: str, theirs: str, **bounds: float) -> Target:
    case = ours.partition("/")[0]
    return Target(text, metric, ours, (f"{case}/{theirs}",), **bounds)


POSTGRESQL_TARGETS = (
    _one("CSV → PostgreSQL, whole process: time / psql", "wall", "csv/adaptive", "psql", at_most=0.90),
    _one("the same, five times the rows", "wall", "csv-times-5/adaptive", "psql", at_most=0.75),
    _level("CSV", "csv"),
    _level("JSON Lines", "jsonl"),
    _level("Parquet", "parquet"),
    _one("XML → PostgreSQL: speed / lxml and COPY", "speed", "xml/adaptive", "lxml", at_least=5),
    _one("Python dicts → PostgreSQL: time / bare COPY", "phase", "dicts/adaptive", "psycopg", at_most=1.15),
    _one("CSV → SQLite, whole process: time / .import", "wall", "sqlite/adaptive", "import", at_most=1),
    _one("upsert of new rows: time / append", "phase", "upsert/upsert", "append", at_most=2),
    _one("1 bad row in 100,000: rate / clean", "speed", "bad-values/few", "none", at_least=0.9),
    _one("1 % bad values: rate / clean", "speed", "bad-values/percent", "none", at_least=0.5),
    _one(
        "1 % unique violations: rate / row by row",
        "speed",
        "repeated-keys/percent",
        "row_by_row",
        at_least=20,
    ),
    Target("peak memory of the client, MB", "memory", "csv-times-5/adaptive", at_most=350),
    Target(
        "peak memory, five times the rows / once",
        "memory",
        "csv-times-5/adaptive",
        ("csv/adaptive",),
        at_most=1.15,
        at_least=0.85,
    ),
    Target("adaptive --help, seconds", "wall", "start/help", at_most=0.3),
)


def _both(text: str, ours: str, theirs: str, at_least: float) -> tuple[Target, Target]:
    """Return a target on the rate, and the same on rows per CPU second of the client."""
    return (
        _one(f"{text}, rate", "speed", ours, theirs, at_least=at_least),
        _one(f"{text}, rows per CPU second of the client", "cpu speed", ours, theirs, at_least=at_least),
    )


MSSQL_TARGETS = (
    *_both("Python rows → SQL Server / row by row", "mssql/sink", "row_by_row", 8),
    _one(
        "Python rows → SQL Server: client CPU / bare executemany",
        "cpu",
        "mssql/sink",
        "executemany",
        at_most=1.2,
    ),
    _one(
        "Python rows → SQL Server by bulk copy: client CPU / bare bulkcopy",
        "cpu",
        "mssql-bulk/sink_bulk",
        "bulkcopy",
        at_most=1.15,
    ),
    *_both("1 % bad values / clean", "mssql/percent_bad", "sink", 0.5),
    *_both("1 % unique violations / row by row", "mssql-repeated-keys/sink", "row_by_row", 4),
)
MONGODB_TARGETS = (
    _one(
        "Python documents → MongoDB: client CPU / bare insert_many",
        "cpu",
        "mongodb/sink",
        "insert_many",
        at_most=1.15,
    ),
)


@dataclass(frozen=True)
class Part:
    """What is measured with one server; it can be measured alone, and has a section of the report."""

    name: str
    title: str
    cases: tuple[Case, ...]
    targets: tuple[Target, ...]


PARTS = (
    Part("postgresql", "PostgreSQL and SQLite", POSTGRESQL_CASES, POSTGRESQL_TARGETS),
    Part("mssql", "SQL Server", MSSQL_CASES, MSSQL_TARGETS),
    Part("mongodb", "MongoDB", MONGODB_CASES, MONGODB_TARGETS),
)
