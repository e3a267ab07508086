"""What the commands do and print: progress on standard error, the summary on standard output."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import typer

from adaptive import loader
from adaptive.config import check_output, new_sink, open_sink
from adaptive.coordinator import INTERRUPTED, Coordinator
from adaptive.errors import AdaptiveError, InterruptedLoadError, UsageError
from adaptive.isolation import first_line
from adaptive.loader import Observer
from adaptive.result import LoadResult
from adaptive.summary import loads_table, summary
from adaptive.urls import redact, without_password

log = logging.getLogger("adaptive")

STOPPING = b"adaptive: stopping; what was read is still written (a second signal stops at once)\n"


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's output goes."""

    quiet: bool = False
    metrics_json: Path | None = None


class _Log(logging.Handler):
    """Writes to standard error as it is at the time: while progress is drawn, that is above it."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # nobody reads it
            typer.echo(self.format(record), err=True)


def show_log(level: str) -> None:
    """Send the library's log, and psycopg's, to standard error from `level` on.

    Raises UsageError for an unknown level.
    """
    levels = {
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warning": logging.WARNING,
        "error": logging.ERROR,
    }
    if level.lower() not in levels:
        raise UsageError(f"log level {level!r} is not one of {', '.join(levels)}")
    stream = _Log()
    stream.setFormatter(logging.Formatter("adaptive: %(levelname)s: %(message)s"))
    chosen, driver = levels[level.lower()], logging.getLogger("psycopg")
    for shown in (log, driver):
        shown.handlers[:] = [stream]
        shown.setLevel(chosen)
    if chosen == logging.WARNING:
        driver.setLevel(logging.ERROR)  # it warns of lost connections, as we do


def load(
    sources: Sequence[str], to: str, target: Mapping[str, Any], options: Mapping[str, Any], output: Output
) -> int:
    """Load files and return the exit code."""
    return _run(
        lambda observe: loader.plan(list(sources), to, observe=observe, **target, **options),
        to,
        output,
        budget=options["max_rejected"] is not None,
    )


def replay(path: str, to: str, table: str, ledger: str, max_rejected: str | None, output: Output) -> int:
    """Load a dead letter file and return the exit code."""
    from adaptive.replay import replay_plan

    return _run(
        lambda observe: [replay_plan(path, to, table, ledger, max_rejected, observe)],
        to,
        output,
        budget=max_rejected is not None,
    )


def status(url: str, ledger: str) -> int:
    """Print the loads that the database knows and return the exit code."""
    with _explained(url), closing(new_sink(url, ledger)) as sink:
        open_sink(sink, url)
        _say(loads_table(sink.loads()))
    return 0


def doctor(urls: Sequence[str], table: str | None, ledger: str) -> int:
    """Print what is found about each database, and the table; return 0 if all can be used, else 1."""
    code = 0
    for url in urls:
        try:
            with _explained(url), closing(new_sink(url, ledger, table=table)) as sink:
                open_sink(sink, url)
                findings = sink.doctor()
        except AdaptiveError as error:
            code, findings = 1, [str(error)]
        _say("\n  ".join([without_password(url), *findings]))
    return code


def demo(rows: int, folder: Path) -> int:
    """Generate orders, load them, and return the exit code."""
    from adaptive import orders

    file = folder / "orders.xml"
    with _explained():
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _say(f"generating {rows:,} market orders: {file}")
            orders.write(file, rows)
    options = {"types": {field.name: field.type for field in orders.schema()}, "max_rejected": None}
    url = f"sqlite:///{folder / 'orders.db'}"
    _say(f"adaptive load {file} --to {url} --table orders --create")
    return load([str(file)], url, {"table": "orders", "create": True}, options, Output())


def _run(plan: Callable[[Observer], Sequence[Coordinator]], to: str, output: Output, *, budget: bool) -> int:
    with _explained(to):
        if output.metrics_json:
            check_output(str(output.metrics_json))
        with _display(output.quiet) as observe:
            coordinators = plan(observe)
            result, error = _result(coordinators)
        if result and not output.quiet:
            _say(summary(result, f"{without_password(to)}, table {coordinators[0].table}"))
        if result and output.metrics_json:
            _write_metrics(result, output.metrics_json)
        if error:
            raise error
    return 3 if result and result.rejected_count and not budget else 0


def _result(coordinators: Sequence[Coordinator]) -> tuple[LoadResult | None, AdaptiveError | None]:
    try:
        with interruptions(coordinators):
            return loader.run(coordinators), None
    except AdaptiveError as error:
        return error.result, error


@contextmanager
def _explained(url: str = "") -> Iterator[None]:
    """Raise whatever happens as an AdaptiveError that holds no password; the log says where it arose."""
    try:
        yield
    except Exception as error:
        log.debug("%s", redact("".join(traceback.format_exception(error)), url))
        kind = type(error) if isinstance(error, AdaptiveError) else AdaptiveError
        raise kind(redact(_text(error), url)) from None


def _text(error: Exception) -> str:
    if isinstance(error, AdaptiveError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return f"{type(error).__name__}: {first_line(error)} (--log-level debug says where)"


def _say(text: str) -> None:
    """Print on standard output, if it is still read: the exit code says what became of the load."""
    try:
        typer.echo(text)
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        # Python would fail once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


@contextmanager
def _display(quiet: bool) -> Iterator[Observer]:
    if quiet or not (sys.stderr and sys.stderr.isatty()):
        yield loader.unobserved
        return
    from adaptive.progress import Display  # rich costs 0.1 s

    with Display() as display:
        yield display


@contextmanager
def interruptions(coordinators: Sequence[Coordinator]) -> Iterator[None]:
    """In the block, let the first SIGINT or SIGTERM stop the reading, and a second one stop at once.

    Where nothing is being read yet, or any more, the first one stops at once, too. Then any error is that
    of the interruption: a library may have caught what was raised and raised something else instead
    (psycopg does while it is imported).
    """
    seen, at_once = 0, False

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 - the interface of signal
        nonlocal seen, at_once
        seen += 1
        for coordinator in coordinators:
            coordinator.interrupt()
        if seen > 1 or not any(coordinator.busy for coordinator in coordinators):
            at_once = True
            raise InterruptedLoadError(INTERRUPTED)
        with suppress(OSError):  # not through sys.stderr, which may be in the middle of a write
            os.write(2, STOPPING)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        if not at_once or isinstance(error, InterruptedLoadError):
            raise
        interrupted = InterruptedLoadError(INTERRUPTED)
        interrupted.result = getattr(error, "result", None)
        raise interrupted from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_metrics(result: LoadResult, path: Path) -> None:
    parts = [part.metrics.to_dict() for part in (result.parts or [result]) if part.metrics]
    try:
        path.write_bytes(orjson.dumps(parts[0] if len(parts) == 1 else parts, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise AdaptiveError(f"the metrics cannot be written: {path}: {error.strerror}") from error
