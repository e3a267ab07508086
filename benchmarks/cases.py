"""What is measured, and the targets it has to meet."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Literal

from benchmarks.contenders import (
    ADAPTIVE,
    Contender,
    adaptive,
    command,
    from_dicts,
    peer,
    psql,
    sqlite_import,
)
from benchmarks.inputs import Input

Metric = Literal["wall", "phase", "speed", "memory"]

ARROW_PEERS = ("pgpq", "adbc", "duckdb")
CSV, CSV_TIMES_5, XML = Input(), Input(scale=5), Input("xml")
ONE_BAD, PERCENT_BAD, PERCENT_REPEATED = (
    Input(bad_share=0.00001),
    Input(bad_share=0.01),
    Input(duplicate_share=0.01),
)
SLOW = Input(scale=0.02, duplicate_share=0.01)  # row by row, all of them would take ten minutes


@dataclass(frozen=True)
class Case:
    """Contenders that run in turn, each into a fresh table (None: they load nothing)."""

    name: str
    table: Literal["heap", "pk", "sqlite"] | None
    contenders: tuple[Contender, ...]


def _against_arrow_peers(name: str, *more: Contender) -> Case:
    source = Input(name)
    peers = (peer(each, source) for each in ARROW_PEERS)
    return Case(name, "heap", (adaptive("adaptive", source), *more, *peers))


CASES = (
    _against_arrow_peers("csv", psql(CSV)),
    Case("csv-times-5", "heap", (adaptive("adaptive", CSV_TIMES_5), psql(CSV_TIMES_5))),
    _against_arrow_peers("jsonl"),
    _against_arrow_peers("parquet"),
    Case("xml", "heap", (adaptive("adaptive", XML), peer("lxml", XML))),
    Case("dicts", "heap", (from_dicts("adaptive"), from_dicts("psycopg"))),
    Case("sqlite", "sqlite", (adaptive("adaptive", CSV), sqlite_import(CSV))),
    Case("upsert", "pk", (adaptive("append", CSV), adaptive("upsert", CSV, "--mode", "upsert"))),
    Case(
        "bad-values",
        "heap",
        (adaptive("none", CSV), adaptive("few", ONE_BAD), adaptive("percent", PERCENT_BAD)),
    ),
    Case("repeated-keys", "pk", (adaptive("percent", PERCENT_REPEATED), peer("row_by_row", SLOW))),
    Case(
        "start", None, (command("help", ADAPTIVE, "--help"), command("python", sys.executable, "-c", "pass"))
    ),
)


@dataclass(frozen=True)
class Target:
    """Bounds on ours / theirs, paired within a repetition; theirs is the fastest peer by median.

    `wall` runs from start to exit, `phase` from first read to commit, both in seconds per row where
    there are rows; `speed` is phase turned over; `memory` is the client's peak in MB. Without
    `theirs` the bounds are on ours itself.
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


TARGETS = (
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
