"""A comparison of batch sizes as tables on a terminal, as Markdown and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from adaptive.urls import without_password
from benchmarks.comparison import Comparison, Plan, Result
from benchmarks.environment import environment as machine

PACKAGES = ("adaptive-loader", "pyarrow", "psycopg", "pymongo", "pyodbc")
HEADS = ("strategy", "rows/s (min to max)", "to single", "p95 batch, ms", "batches", "rows a batch", "rows")


def environment(command: Sequence[str]) -> dict[str, str]:
    """Return date, machine, versions and the command without its passwords."""
    words = (without_password(word) if "://" in word else word for word in command)
    return {**machine(PACKAGES), "command": shlex.join(words)}


@dataclass(frozen=True)
class Report:
    """What was measured, where and how; `missing` says of a database why it was not."""

    environment: Mapping[str, str]
    plan: Plan
    comparisons: Sequence[Comparison]
    missing: Mapping[str, str]

    def show(self, console: Console) -> None:
        """Print a table for each database."""
        for one in self.comparisons:
            table = Table(title=one.database.place, caption=_order(one))
            for number, head in enumerate(HEADS):
                table.add_column(head, justify="right" if number else "left")
            for cells in _lines(one):
                table.add_row(*cells)
            console.print(table)
        console.print(self._note, markup=False, highlight=False)
        for line in self._missing:
            console.print(line, markup=False, highlight=False)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "environment": dict(self.environment),
            "plan": asdict(self.plan),
            "databases": [
                {
                    "name": one.database.name,
                    "version": one.database.version,
                    "order_held": not one.broken,
                    "order_broken": one.broken,
                    "strategies": {result.strategy: _numbers(result, one.single) for result in one.results},
                }
                for one in self.comparisons
            ],
            "missing": dict(self.missing),
        }

    def as_markdown(self) -> str:
        """Return the report that people read."""
        lines = ["# Batch sizes compared", "", self._note, ""]
        lines += [f"- {name}: {text}" for name, text in self.environment.items()]
        for one in self.comparisons:
            lines += ["", f"## {one.database.place}", "", f"| {' | '.join(HEADS)} |"]
            lines += ["|---" + "|--:" * (len(HEADS) - 1) + "|"]
            lines += [f"| {' | '.join(cells)} |" for cells in _lines(one)]
            lines += ["", _order(one)]
        lines += ["", *self._missing] if self.missing else []
        return "\n".join(lines) + "\n"

    @property
    def _note(self) -> str:
        """Return what has to be known to read the numbers."""
        plan = self.plan
        times = "once" if plan.repeat == 1 else f"{plan.repeat} times, medians"
        return (
            f"Market orders through a live pipeline with a full queue, {times}. A run is {plan.rows:,} rows,"
            f" or what its producer puts in {plan.seconds:g} s: slow strategies write fewer rows, and rates"
            " are compared. When the producer has stopped, tiers go down with the queue, the last rows one by"
            " one. Rows and sums were checked in the database after each run."
        )

    @property
    def _missing(self) -> list[str]:
        return [f"- not compared: {name}: {reason}" for name, reason in self.missing.items()]


def _lines(comparison: Comparison) -> list[list[str]]:
    return [_cells(result, comparison.single) for result in comparison.results]


def _cells(result: Result, single: float) -> list[str]:
    least, most = result.spread
    spread = f" ({least:,.0f} to {most:,.0f})" if len(result.runs) > 1 else ""
    return [
        result.strategy,
        f"{result.rate:,.0f}{spread}",
        f"{result.rate / single:.1f}",
        f"{result.median(lambda run: run.p95_batch_ms):.1f}",
        f"{result.median(lambda run: run.batches):,.0f}",
        f"{result.median(lambda run: run.rows / run.batches):,.0f}",
        f"{result.median(lambda run: run.rows):,.0f}",
    ]


def _numbers(result: Result, single: float) -> dict[str, Any]:
    return {
        "rows_per_second": result.rate,
        "spread": result.spread,
        "ratio_to_single": result.rate / single,
        "p95_batch_ms": result.median(lambda run: run.p95_batch_ms),
        "batches": result.median(lambda run: run.batches),
        "rows": result.median(lambda run: run.rows),
        "runs": [asdict(run) for run in result.runs],
    }


def _order(comparison: Comparison) -> str:
    if comparison.broken:
        return f"single ≪ small < medium < large did not hold: {'; '.join(comparison.broken)}"
    return "single ≪ small < medium < large held"
