"""Runs a contender of a case into a fresh table, measures it and checks what it left in the table."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from adaptive.orders import Checksums
from benchmarks.cases import Case
from benchmarks.contenders import Contender, Place
from benchmarks.measure import Finished, run
from benchmarks.tables import TABLES

LOADED = (0, 3)  # 3: finished, and said that it rejected rows
ROOT = Path(__file__).parents[1]


class ContenderError(Exception):
    """A contender is not installed, failed, or left a wrong table."""


@dataclass(frozen=True)
class Run:
    """One measured run: seconds of the whole process and of the load, peak memory in MB, rows read.

    `cpu` is the client's CPU seconds of the load, where the contender says them.
    """

    wall: float
    phase: float
    memory: float
    rows: int
    cpu: float | None = None


@dataclass(frozen=True)
class Runner:
    """The environment of all runs: cache folder, URL of the part's server, base number of rows."""

    cache: Path
    server: str
    base: int

    def measure(self, case: Case, contender: Contender) -> Run:
        """Run once. Raises ContenderError if that is not possible, or if the table is wrong."""
        with tempfile.TemporaryDirectory(dir=self.cache) as scratch:
            at = self._place(case, contender, Path(scratch))
            table = TABLES[case.database](at.url) if case.database else None
            if table:
                table.make(key=case.key)
            finished = self._run(contender, at)
            if table and contender.input:
                expected = contender.input.checksums(self.cache, self.base)
                _compare(table.checksums(), expected, contender)
            said = _said(finished, at)
            return Run(
                finished.seconds,
                said.get("seconds", finished.seconds),
                finished.rss / 1e6,
                at.rows,
                said.get("cpu"),
            )

    def _place(self, case: Case, contender: Contender, scratch: Path) -> Place:
        url = f"sqlite:///{scratch}/orders.db" if case.database == "sqlite" else self.server
        python = self.cache / "venv/bin/python"
        if contender.input is None:
            return Place(Path(os.devnull), url, 0, scratch, python)
        file = contender.input.path(self.cache, self.base)
        return Place(file, url, contender.input.rows(self.base), scratch, python)

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


def _said(finished: Finished, at: Place) -> dict[str, float]:
    """Return what the contender says of its load: seconds, perhaps CPU seconds; {} if nothing."""
    if at.metrics.exists():
        return {"seconds": float(json.loads(at.metrics.read_text())["duration_seconds"])}
    lines = [line for line in finished.output.splitlines() if line.startswith('{"seconds"')]
    said: dict[str, float] = json.loads(lines[-1]) if lines else {}
    return said


def _compare(found: Checksums, expected: Checksums, contender: Contender) -> None:
    known = {"notes"} if contender.loses_nulls else set()
    wrong = [
        f"{name} {got} instead of {wanted}"
        for name, got, wanted in zip(Checksums._fields, found, expected, strict=True)
        if got != wanted and name not in known
    ]
    if wrong:
        raise ContenderError(f"wrong table: {', '.join(wrong)}")
