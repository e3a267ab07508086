"""Measures `adaptive` on the databases that are there: `python performance_test.py --help`."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import comparison, databases
from benchmarks.comparison import Plan
from benchmarks.comparison_report import Report, environment

QUICK = Plan(rows=20_000, seconds=1.0, repeat=1)  # four databases end within two minutes
WIDTH = 110  # of a table that goes into a file

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Measure adaptive on the databases that are there."""


def _option(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, **more)


@app.command()
def compare(
    to: Annotated[list[str] | None, _option("--to", "Database URL; may be repeated.", metavar="URL")] = None,
    rows: Annotated[int, _option("--rows", "Orders in a run, at most.", min=1)] = 200_000,
    seconds: Annotated[float, _option("--seconds", "How long a run's producer puts orders.", min=0)] = 4.0,
    repeat: Annotated[int, _option("--repeat", "Repetitions; in each the strategies take turns.", min=1)] = 3,
    *,
    quick: Annotated[bool, _option("--quick", "Once, with few rows: under two minutes in all.")] = False,
    json_file: Annotated[Path | None, _option("--json", "Write the result to this file, too.")] = None,
    markdown: Annotated[Path | None, _option("--markdown", "Write the result to this file, too.")] = None,
) -> None:
    """Compare single, small (100), medium (500), large (1,000), tiers and adaptive batches.

    Without --to: SQLite, and those servers of ADAPTIVE_TEST_POSTGRESQL_URL, ADAPTIVE_TEST_MONGODB_URL,
    ADAPTIVE_TEST_MSSQL_URL or docker-compose.yml that answer.

    Uses a table adaptive_comparison, which is dropped before and after each run.
    """
    plan = Plan(rows, seconds, repeat)
    if quick:
        plan = Plan(min(rows, QUICK.rows), min(seconds, QUICK.seconds), QUICK.repeat)
    with tempfile.TemporaryDirectory(prefix="adaptive-compare-") as folder:
        found, missing = comparison.find(to or databases.known_urls(Path(folder)))
        compared, failed = comparison.compare(found, plan, partial(typer.echo, err=True))
    report = Report(environment(["python", *sys.argv]), plan, compared, missing | failed)
    report.show(Console(width=None if sys.stdout.isatty() else WIDTH))
    if json_file:
        json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if markdown:
        markdown.write_text(report.as_markdown())
    raise typer.Exit(1 if failed or (to and missing) else 0)


if __name__ == "__main__":
    app()
