"""`adaptive.load`: files or records into a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any, TypedDict, Unpack

import pyarrow as pa

from adaptive.config import LEDGER, Settings, Target, columns_of
from adaptive.coordinator import Coordinator
from adaptive.dialect import Dialect
from adaptive.errors import AdaptiveError, UsageError
from adaptive.flow import Flow
from adaptive.identity import Input
from adaptive.ledger import digest
from adaptive.protocols import Mode, Source
from adaptive.readings import times
from adaptive.result import LoadResult
from adaptive.rows import Row
from adaptive.sources import format_of, open_source
from adaptive.sources.files import expand
from adaptive.sources.rows import RowsSource
from adaptive.types import parse_type

Observer = Callable[[Flow, Source], None]


def unobserved(flow: Flow, source: Source) -> None:
    """Show nothing of a load."""


class Options(TypedDict, total=False):
    """What may be said of a load beside source, target and mode: see `Dialect` and `Settings`."""

    format: str | None
    delimiter: str
    quote: str
    encoding: str
    null: str | None
    columns: Sequence[str]
    types: Mapping[str, str | pa.DataType]
    timezone: str
    mapping: str | None
    max_record: int
    max_ratio: int
    batch: str | int
    writers: int | None
    workers: int | None
    queue_size: int
    linger: float
    max_retries: int | None
    dead_letters: str | None
    max_rejected: str | int | None
    load_id: str | None
    again: bool
    dry_run: bool
    at_least_once: bool


def load(
    source: str | os.PathLike[str] | Sequence[str] | Iterable[Row],
    to: str,
    *,
    table: str | None = None,
    mode: Mode = "append",
    key: str | Sequence[str] = (),
    create: bool = False,
    ledger: str = LEDGER,
    idempotency_key: str | Sequence[str] = (),
    idempotency_store: str | None = None,
    **options: Unpack[Options],
) -> LoadResult:
    """Load files (paths, globs, "-") or an iterable of mappings into a table, exactly once.

    The table defaults to the file's stem; `key` to the table's primary key. Each file is a load of
    its own, known by its content: repeated, it resumes or finds itself done. With `mode="replace"`
    all files are one load that takes the place of the table's rows. `ledger` names the ledger's tables;
    "off" does without: then a load is one transaction, or with `at_least_once` repeats after a failure
    what it cannot know to be written.

    Rows with the same values in the columns of `idempotency_key` are written once, whatever load or run
    they come with; a row with NULL there always is. The keys are kept with the rows, so for a table that
    has no unique constraint on them. `idempotency_store` keeps them in a file instead, at least once: a
    crash between the commits of rows and keys writes those rows again.

    Raises UsageError or RefusedError before anything was touched; SourceError, SinkError,
    TakenOverError or TooManyRejectsError, with the `result` so far, when something stopped it.
    """
    return run(
        plan(
            source, to, table=table, mode=mode, key=key, create=create, ledger=ledger,
            idempotency_key=idempotency_key, idempotency_store=idempotency_store, **options,
        )
    )  # fmt: skip


def plan(
    source: str | os.PathLike[str] | Sequence[str] | Iterable[Row],
    to: str,
    *,
    table: str | None = None,
    mode: Mode = "append",
    key: str | Sequence[str] = (),
    create: bool = False,
    ledger: str = LEDGER,
    idempotency_key: str | Sequence[str] = (),
    idempotency_store: str | None = None,
    observe: Observer = unobserved,
    **options: Unpack[Options],
) -> list[Coordinator]:
    """Return the loads of a call of `load`, one after the other to be run.

    Raises UsageError.
    """
    if unknown := options.keys() - {*Settings.__slots__, *Dialect.__slots__}:
        raise UsageError(f"there is no option {', '.join(sorted(unknown))}")
    dialect = _dialect(options)
    said: dict[str, Any] = {name: value for name, value in options.items() if name in Settings.__slots__}
    settings = Settings(**said)
    inputs, stem = _inputs(source, dialect)
    if table is None and stem is None:
        raise UsageError("say the table's name with --table")
    target = Target(
        to, table or stem or "", mode, columns_of(key), create, ledger,
        columns_of(idempotency_key), idempotency_store and os.path.abspath(idempotency_store),  # noqa: PTH100
    )  # fmt: skip
    if settings.load_id and not target.has_ledger:
        raise UsageError("--load-id names a load in the ledger; there is none with --ledger off")
    groups = [inputs] if mode == "replace" else [[one] for one in inputs]
    if len(groups) > 1 and (settings.load_id or settings.dead_letters):
        option = "--load-id" if settings.load_id else "--dead-letters"
        raise UsageError(f"{option} is for one load; with several files each one is a load of its own")
    return [Coordinator(group, target, settings, types=dialect.types, observe=observe) for group in groups]


def run(coordinators: Iterable[Coordinator]) -> LoadResult:
    """Run loads one after the other and return the sum; an error carries it as `result`."""
    results: list[LoadResult] = []
    for coordinator in coordinators:
        try:
            results.append(coordinator.run())
        except AdaptiveError as error:
            if results or error.result:
                error.result = LoadResult.of([*results, *([error.result] if error.result else [])])
            raise
    return LoadResult.of(results)


def _dialect(options: Options) -> Dialect:
    said: dict[str, Any] = {name: value for name, value in options.items() if name in Dialect.__slots__}
    types = {
        name: parse_type(word) if isinstance(word, str) else word
        for name, word in said.pop("types", {}).items()
    }
    times.zoned(pa.timestamp("us", "UTC"), said.get("timezone", "UTC"))  # an unknown zone is refused at once
    return Dialect(**{**said, "columns": tuple(said.get("columns", ())), "types": types})


def _inputs(source: Any, dialect: Dialect) -> tuple[list[Input], str | None]:
    """Return the inputs and the name that a table gets from them."""
    if isinstance(source, str | os.PathLike):
        source = [os.fspath(source)]
    if not isinstance(source, Sequence) or not all(isinstance(item, str) for item in source) or not source:
        return [Input(RowsSource(source), None, {"format": "rows"})], None
    paths = expand(source)
    inputs = [
        Input(open_source(path, dialect), _content(path), _form(path, dialect), dialect.timezone)
        for path in paths
    ]
    return inputs, _stem(paths[0])


def _content(path: str) -> str | None:
    try:
        return None if path == "-" else digest(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _form(path: str, dialect: Dialect) -> dict[str, Any]:
    """Return what makes the same bytes other records. Types, time zone and bounds do not."""
    form = asdict(dialect) | {"format": format_of(path, dialect)}
    form["mapping"] = dialect.mapping and _content(dialect.mapping)
    for name in ("types", "timezone", "max_record", "max_ratio"):
        del form[name]
    return form


def _stem(path: str) -> str | None:
    return PurePath(path).name.partition(".")[0] or None if path != "-" else None
