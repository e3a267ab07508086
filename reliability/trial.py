"""What every attack needs: orders to load, commands that load them, and the count afterwards."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adaptive import orders
from adaptive.testing import FaultProxy
from adaptive.testing.faults import Planned
from adaptive.testing.processes import Attempt, Look, Moment, Run, run
from reliability.databases import Database, Totals

ROOT = Path(__file__).parents[1]
# "adaptive" is what nobody changes; the others put 10 to 200 commits into a load of 200,000 rows.
BATCHES = ("adaptive", "1000", "5000", "20000")
CHANGE, SHORTEST = 1.05, 0.3  # of the time in which kills fall, and the share it keeps at the least
PORTS = {"postgresql": 5432, "postgres": 5432, "mongodb": 27017, "mssql": 1433}  # of URLs that name none
ATTEMPTS = 400  # of one load; kills cannot be that unlucky, so a load that needs more does not progress


@dataclass(frozen=True)
class Load:
    """A load of the orders into a table of its own, and the command for it."""

    table: str
    url: str
    command: list[str]


@dataclass
class Trial:
    """One attack on one database: its random numbers, what it counted, and what went wrong.

    `times` is how often it strikes, in the time that the median of `clean_loads` took. An entry in
    `trouble` means that the proof failed.
    """

    database: Database
    folder: Path
    rows: int
    seed: int
    times: int
    clean_loads: int = 3
    figures: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - an attack has to be repeatable
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.file = self.folder / "orders.csv"
        orders.write(self.file, self.rows, self.seed)
        some = list(orders.orders(self.rows, self.seed))
        self.expected = Totals(
            len(some), len(some), sum(one["order_id"] for one in some), sum(one["quantity"] for one in some)
        )
        self._numbers = count(1)

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of `subprocess.Popen` for a load: no settings but ours, our own temp folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTIVE_")}
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        return {"cwd": self.folder, "env": {**kept, **own}}

    def new_load(self, *options: str, url: str | None = None, file: Path | None = None) -> Load:
        """Return a load into a new table without a key, where a row that comes twice is there twice."""
        table, url = f"orders_{next(self._numbers)}", url or self.database.url
        return Load(table, url, self.command(table, *options, "--create", url=url, file=file))

    def command(
        self, table: str, *options: str, url: str | None = None, file: Path | None = None
    ) -> list[str]:
        """Return the command that loads a file of orders into a table."""
        target = ["--to", url or self.database.url, "--table", table, "--types", self.database.types]
        return [sys.executable, "-m", "adaptive", "load", str(file or self.file), *target, *options]

    def batch(self) -> list[str]:
        """Draw a batch size, as an option."""
        return ["--batch", self.random.choice(BATCHES)]

    def run(self, command: Sequence[str]) -> Attempt:
        """Run a command undisturbed."""
        return run(command, **self.options)

    def moments(self) -> Moment:
        """Return moments to kill loads: half of them over all of a load's time, half while rows are written.

        Both times are those of loads that nothing disturbs; the first includes the interpreter's start.
        They shrink a little with every run that ends before its moment, and grow again with every kill:
        a machine that others use is not always as fast as it was then.
        """
        total, feeding = self.clean_seconds()
        pace, due, last = 1.0, 0.0, 0.0

        def reached(look: Look) -> bool:
            nonlocal pace, due, last
            if look.seconds == 0:
                pace = max(SHORTEST, pace / CHANGE) if last < due else min(1.0, pace * CHANGE)
                due = pace * self.random.uniform(self.random.choice((0.0, total - feeding)), total)
            last = look.seconds
            return last >= due

        return reached

    def clean_seconds(self) -> tuple[float, float]:
        """Return how long a load takes that nothing disturbs: all of the process, and rows being written."""
        found = [self._clean_seconds() for _ in range(self.clean_loads)]
        total, feeding = (statistics.median(times) for times in zip(*found, strict=True))
        self.figures["milliseconds of a load"] = round(1000 * total)
        self.figures["milliseconds of these, rows being written"] = round(1000 * feeding)
        return total, feeding

    def _clean_seconds(self) -> tuple[float, float]:
        metrics = self.folder / "metrics.json"
        load = self.new_load(*self.batch(), "--metrics-json", str(metrics))
        with Run(load.command, **self.options) as running:
            code, seconds, output = running.wait(), running.look.seconds, running.output
        if code:
            raise RuntimeError(f"a load fails that nothing disturbs: {output}")
        self.settle(load, "undisturbed")
        return seconds, json.loads(metrics.read_text())["duration_seconds"]

    def complete(self, load: Load) -> Attempt:
        """Repeat a load's command until it ends well or is refused; count how it ended before."""
        attempt = self.run(load.command)
        for _ in range(ATTEMPTS):
            if attempt.exit_code != 1:
                break
            self.figures["ended with exit code 1, repeated"] += 1
            attempt = self.run(load.command)
        return attempt

    def settle(self, load: Load, what: str) -> None:
        """Count a table whose load is complete, note what is lost or duplicated, and drop it."""
        found = self.database.totals(load.table)
        lost, duplicated = self.expected.keys - found.keys, found.rows - found.keys
        self.figures["loads"] += 1
        self.figures["rows counted"] += found.rows
        self.figures["lost"] += lost
        self.figures["duplicated"] += duplicated
        if found != self.expected:
            self.note(f"{what}: {lost} lost, {duplicated} duplicated: {found}, not {self.expected}")
        self.database.drop(load.table)

    def expect(self, attempt: Attempt, *codes: int, what: str) -> None:
        """Note an attempt that ended in another way than it may."""
        if attempt.exit_code not in codes:
            self.note(f"{what}: exit code {attempt.exit_code}: {attempt.output.strip()[-600:]}")

    def note(self, what: str) -> None:
        """Note that the proof failed."""
        self.trouble.append(what)
        print(f"TROUBLE {self.database.name}: {what}", file=sys.stderr, flush=True)

    def proxy(self, *plan: Planned) -> FaultProxy:
        """Return a proxy before the database's server."""
        parts = urlsplit(self.database.url)
        return FaultProxy(parts.hostname or "127.0.0.1", parts.port or PORTS[parts.scheme], *plan)

    def progress(self, text: str) -> None:
        """Say how far it is, on standard error."""
        print(f"{self.database.name}: {text}", file=sys.stderr, flush=True)
