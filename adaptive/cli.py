"""The command line: arguments become options, options become a run. Nothing else happens here."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptive.errors import AdaptiveError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help drawn by rich takes twice as long
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Load files into a database: as fast as it takes them, nothing lost, nothing twice.",
)


def _settings(ctx: typer.Context, value: str | None) -> str | None:
    """Let settings files give the defaults of the options that are read after this one.

    One file serves every command: it may hold what another one takes.
    """
    from adaptive.settings_files import read_settings

    commands = getattr(ctx.find_root().command, "commands", {"": ctx.command}).values()
    ctx.default_map = read_settings(value, {str(param.name) for each in commands for param in each.params})
    return value


def _option(flag: str, text: str, *more: str) -> Any:
    name = flag.removeprefix("--").replace("-", "_").upper()
    return typer.Option(flag, *more, help=text, envvar=f"ADAPTIVE_{name}", show_envvar=False)


Url = Annotated[str, _option("--to", "Database URL: sqlite:///file.db, postgresql://user@host/database.")]
Config = Annotated[
    str | None,
    typer.Option(
        "--config", help="Settings file; by default adaptive.toml.", is_eager=True, callback=_settings
    ),
]
DeadLetters = Annotated[
    str | None, _option("--dead-letters", "File for rejected records; <load>.rejected.jsonl.")
]
MaxRejected = Annotated[str | None, _option("--max-rejected", "Stop after N, or N%, rejected records.")]
MetricsJson = Annotated[Path | None, _option("--metrics-json", "File for the metrics.")]
Ledger = Annotated[
    str, _option("--ledger", "Ledger tables <name>_loads, _splits, _ledger; off: all in one transaction.")
]
LogLevel = Annotated[str, _option("--log-level", "debug, info, warning or error, on standard error.")]
Quiet = Annotated[bool, _option("--quiet", "No progress and no summary.", "-q")]


@app.command()
def load(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Files, globs, or - for standard input.")
    ],
    to: Url,
    table: Annotated[
        str | None, _option("--table", "Table or schema.table; by default the file's stem.")
    ] = None,
    mode: Annotated[str, _option("--mode", "append, ignore, upsert or replace.")] = "append",
    key: Annotated[str, _option("--key", "Key columns; by default the primary key.")] = "",
    idempotency_key: Annotated[
        str, _option("--idempotency-key", "Columns whose values are loaded once, whatever file they come in.")
    ] = "",
    idempotency_store: Annotated[
        str | None,
        _option("--idempotency-store", "Keys in this file, not in the database: a crash may repeat rows."),
    ] = None,
    create: Annotated[bool, _option("--create", "Make the table if it is missing.")] = False,
    format: Annotated[  # noqa: A002 - the name of the setting
        str | None, _option("--format", "csv, jsonl, parquet or xml; by default by suffix.")
    ] = None,
    delimiter: Annotated[str, _option("--delimiter", "CSV: between fields.")] = ",",
    quote: Annotated[str, _option("--quote", "CSV: around fields.")] = '"',
    encoding: Annotated[str, _option("--encoding", "CSV: of the text.")] = "utf-8",
    null: Annotated[str | None, _option("--null", "CSV: a text that stands for NULL.")] = None,
    columns: Annotated[str, _option("--columns", "CSV without a header: the columns' names.")] = "",
    types: Annotated[str, _option("--types", "Types for --create: price=decimal(18,4),zip=text.")] = "",
    timezone: Annotated[str, _option("--timezone", "Of timestamps that name none.")] = "UTC",
    mapping: Annotated[str | None, _option("--mapping", "XML: file that maps elements to columns.")] = None,
    max_record: Annotated[int, _option("--max-record", "MB of a record; a longer one stops the load.")] = 64,
    max_ratio: Annotated[
        int, _option("--max-ratio", "Compressed files: times the size that their content may have.")
    ] = 200,
    batch: Annotated[str, _option("--batch", "adaptive, tiers or a number of rows.")] = "adaptive",
    writers: Annotated[int | None, _option("--writers", "Writer threads; by default as many as pay.")] = None,
    workers: Annotated[
        int | None, _option("--workers", "Parser threads; by default one a core, at most 4.")
    ] = None,
    queue_size: Annotated[int, _option("--queue-size", "Records between parsers and writers.")] = 200_000,
    linger: Annotated[float | None, _option("--linger", "Milliseconds that a partial batch waits.")] = None,
    dead_letters: DeadLetters = None,
    max_rejected: MaxRejected = None,
    load_id: Annotated[str | None, _option("--load-id", "Name of the load, instead of its content.")] = None,
    again: Annotated[bool, _option("--again", "Load once more what is already loaded.")] = False,
    ledger: Ledger = "_adaptive",
    at_least_once: Annotated[
        bool, _option("--at-least-once", "Without a ledger: commit every batch; a retry may repeat rows.")
    ] = False,
    dry_run: Annotated[bool, _option("--dry-run", "Read and check everything, write nothing.")] = False,
    max_retries: Annotated[
        int | None, _option("--max-retries", "Further attempts at a batch; by default two minutes of them.")
    ] = None,
    metrics_json: MetricsJson = None,
    config: Config = None,  # noqa: ARG001 - its callback has read it
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
) -> None:
    """Load files into a table. The same command again resumes the load, or finds it done."""
    from adaptive import commands
    from adaptive.types import parse_types

    commands.show_log(log_level)
    options: dict[str, Any] = {
        "format": format, "delimiter": delimiter, "quote": quote, "encoding": encoding, "null": null,
        "columns": _names(columns), "types": parse_types(types), "timezone": timezone, "mapping": mapping,
        "max_record": max_record, "max_ratio": max_ratio,
        "batch": batch, "writers": writers, "workers": workers, "queue_size": queue_size, "linger": linger,
        "dead_letters": dead_letters, "max_rejected": max_rejected, "load_id": load_id, "again": again,
        "dry_run": dry_run, "max_retries": max_retries, "at_least_once": at_least_once,
    }  # fmt: skip
    output = commands.Output(quiet=quiet, metrics_json=metrics_json)
    target = {
        "table": table, "mode": mode, "key": _names(key), "create": create, "ledger": ledger,
        "idempotency_key": _names(idempotency_key), "idempotency_store": idempotency_store,
    }  # fmt: skip
    raise typer.Exit(commands.load(sources, to, target, options, output))


@app.command()
def replay(
    dead_letters: Annotated[str, typer.Argument(metavar="DEAD_LETTERS", help="File with rejected records.")],
    to: Url,
    table: Annotated[str, _option("--table", "Table or schema.table.")],
    ledger: Ledger = "_adaptive",
    max_rejected: MaxRejected = None,
    metrics_json: MetricsJson = None,
    config: Config = None,  # noqa: ARG001 - its callback has read it
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
) -> None:
    """Load the records of a dead letter file, mended by hand or not; each one goes in once."""
    from adaptive import commands

    commands.show_log(log_level)
    output = commands.Output(quiet=quiet, metrics_json=metrics_json)
    raise typer.Exit(commands.replay(dead_letters, to, table, ledger, max_rejected, output))


@app.command()
def status(
    url: Annotated[str, typer.Argument(metavar="URL", envvar="ADAPTIVE_TO", help="Database URL.")],
    ledger: Ledger = "_adaptive",
) -> None:
    """Show the loads that a database's ledgers know."""
    from adaptive import commands

    raise typer.Exit(commands.status(url, ledger))


@app.command()
def doctor(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Database URLs.")],
    table: Annotated[str | None, _option("--table", "Table whose rights are to be checked.")] = None,
    ledger: Ledger = "_adaptive",
) -> None:
    """Check drivers, connections and rights, and say what to install or grant."""
    from adaptive import commands

    raise typer.Exit(commands.doctor(urls, table, ledger))


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=1, help="Market orders to generate.")] = 100_000,
    folder: Annotated[Path, typer.Option(help="Where the file and the database go.")] = Path("demo"),
) -> None:
    """Generate market orders as XML and load them into a SQLite database."""
    from adaptive import commands

    raise typer.Exit(commands.demo(rows, folder))


def main() -> None:
    """Run the command; an error ends it with its exit code and one line on standard error."""
    try:
        app(prog_name="adaptive")
    except AdaptiveError as error:
        from adaptive.urls import shown

        with suppress(OSError):  # nobody reads it: the exit code says what became of the load
            typer.echo("adaptive: " + shown(str(error), keep="\n"), err=True)
        sys.exit(error.exit_code)


def command() -> None:
    """Run `main` as a process of its own, and end it at once.

    Everything is durable or reported by then; taking the interpreter and Arrow's memory down in good
    order would take another 0.1 s.
    """
    try:
        main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or its reader is gone
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
