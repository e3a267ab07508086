"""Runs a contender of a case into a fresh table, measures it and checks what it left in the table."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg

from adaptive.orders import CHECKSUM_SQL, Checksums
from benchmarks.cases import Case
from benchmarks.contenders import Contender, Place
from benchmarks.measure import Finished, run

COLUMNS = (
    "order_id bigint, symbol text, side text, quantity integer, price numeric(18,4), order_type text,"
    " trader_id integer, venue text, placed_at timestamptz, note text"
)
SQLITE_COLUMNS = (  # as `adaptive load --create` makes them: NUMERIC would cut decimals beyond 15 digits
    "order_id INTEGER, symbol TEXT, side TEXT, quantity INTEGER, price TEXT, order_type TEXT,"
    " trader_id INTEGER, venue TEXT, placed_at TEXT, note TEXT"
)
LOADED = (0, 3)  # 3: finished, and said that it rejected rows
ROOT = Path(__file__).parents[1]


class ContenderError(Exception):
    """A contender is not installed, failed, or left a wrong table."""


@dataclass(frozen=True)
class Run:
    """One measured run: seconds of the whole process and of the load, peak memory in MB, rows read."""

    wall: float
    phase: float
    memory: float
    rows: int


@dataclass(frozen=True)
class Runner:
    """The environment of all runs: cache folder, PostgreSQL, base number of rows."""

    cache: Path
    postgres: str
    base: int

    def measure(self, case: Case, contender: Contender) -> Run:
        """Run once. Raises ContenderError if that is not possible, or if the table is wrong."""
        with tempfile.TemporaryDirectory(dir=self.cache) as scratch:
            at = self._place(case, contender, Path(scratch))
            self._fresh_table(case, at.url)
            finished = self._run(contender, at)
            if contender.input:
                expected = contender.input.checksums(self.cache, self.base)
                _compare(_checksums(case, at.url), expected, contender)
            return Run(finished.seconds, _phase(finished, at), finished.rss / 1e6, at.rows)

    def _place(self, case: Case, contender: Contender, scratch: Path) -> Place:
        url = f"sqlite:///{scratch}/orders.db" if case.table == "sqlite" else self.postgres
        python = self.cache / "venv/bin/python"
        if contender.input is None:
            return Place(Path(os.devnull), url, 0, scratch, python)
        file = contender.input.path(self.cache, self.base)
        return Place(file, url, contender.input.rows(self.base), scratch, python)

    def _fresh_table(self, case: Case, url: str) -> None:
        if case.table == "sqlite":
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
                database.execute(f"CREATE TABLE orders ({SQLITE_COLUMNS})")
            os.sync()
        elif case.table:
            key = ", PRIMARY KEY (order_id)" if case.table == "pk" else ""
            with psycopg.connect(url, autocommit=True) as server:
                server.execute("DROP SCHEMA public CASCADE")  # the ledger of the run before, too
                server.execute("CREATE SCHEMA public")
                server.execute(f"CREATE TABLE orders ({COLUMNS}{key})".encode())
                server.execute("CHECKPOINT")

    def _run(self, contender: Contender, at: Place) -> Finished:
        env = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        try:
            finished = run(contender.command(at), terminal=contender.terminal, cwd=at.scratch, env=env)
        except FileNotFoundError as error:
            raise ContenderError(f"not installed: {error.filename}") from error
        if finished.code not in LOADED:
            last = (finished.output.strip().splitlines() or ["no output"])[-1]
            raise ContenderError(f"exit code {finished.code}: {last.strip()[:200]}")
        return finished


def _phase(finished: Finished, at: Place) -> float:
    """Return the seconds of the load: what the contender said, else those of the whole process."""
    if at.metrics.exists():
        return float(json.loads(at.metrics.read_text())["duration_seconds"])
    said = [line for line in finished.output.splitlines() if line.startswith('{"seconds"')]
    return float(json.loads(said[-1])["seconds"]) if said else finished.seconds


def _checksums(case: Case, url: str) -> Checksums:
    if case.table == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            row = database.execute(CHECKSUM_SQL["sqlite"].format(table="orders")).fetchone()
    else:
        with psycopg.connect(url) as server:
            row = server.execute(CHECKSUM_SQL["postgresql"].format(table="orders").encode()).fetchone()
    return Checksums(*(int(value or 0) for value in row or ()))


def _compare(found: Checksums, expected: Checksums, contender: Contender) -> None:
    known = {"notes"} if contender.loses_nulls else set()
    wrong = [
        f"{name} {got} instead of {wanted}"
        for name, got, wanted in zip(Checksums._fields, found, expected, strict=True)
        if got != wanted and name not in known
    ]
    if wrong:
        raise ContenderError(f"wrong table: {', '.join(wrong)}")
