"""Settings of a load: their names, defaults and bounds; one name each in Python, flags and files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from adaptive import queue
from adaptive.errors import AdaptiveError, RefusedError, UsageError
from adaptive.isolation import first_line
from adaptive.protocols import AGAIN, BatchSink, Mode, Sink
from adaptive.sinks import sink_class
from adaptive.urls import without_password

MODES: tuple[Mode, ...] = ("append", "ignore", "upsert", "replace")
QUICK_SECONDS = 1.0  # after a login that failed later than this a person has waited long enough
OnFull = Literal["block", "reject", "slow"]
ON_FULL: tuple[OnFull, ...] = get_args(OnFull)
LEDGER, NO_LEDGER = "_adaptive", "off"
MAX_WRITERS = 4  # the controller's bound; PostgreSQL gained nothing from a third COPY on two cores


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows go: a database URL, a table, and how they are to be written.

    `ledger` names the ledger (see `Sink`), "off" does without one. Rows with the same values in the
    columns of `idempotency_key` are written once; their keys are kept beside the ledger, or in the file
    `idempotency_store`.
    """

    url: str = field(repr=False)  # it may hold a password
    table: str
    mode: Mode = "append"
    key: tuple[str, ...] = ()
    create: bool = False
    ledger: str = LEDGER
    idempotency_key: tuple[str, ...] = ()
    idempotency_store: str | None = None

    def sink(self) -> Sink:
        """Return a new sink for it, not open.

        Raises as `new_sink`.
        """
        return new_sink(self.url, self.ledger, table=self.table, mode=self.mode, key=self.key)

    def writer(self) -> BatchSink:
        """Return a new sink for a writer, not open: it has the idempotency keys, too."""
        return self.keyed(self.sink())

    def keyed(self, sink: Sink) -> BatchSink:
        """Return the sink, with the idempotency store around it if there is one."""
        if self.idempotency_store is None:
            return sink
        from adaptive.idempotency_store import IdempotencyStore, StoredKeys  # sqlite3 is for few

        place = without_password(self.url).rpartition("@")[2].rpartition("://")[2]
        return StoredKeys(sink, IdempotencyStore(self.idempotency_store), f"{place} {self.table}")

    @property
    def by_position(self) -> bool:
        """Return whether idempotency keys leave rows out for a sink that counts them."""
        return bool(self.idempotency_key) and "transactional" not in self.sink().capabilities

    @property
    def has_ledger(self) -> bool:
        """Return whether what is committed is written down with it."""
        return self.ledger != NO_LEDGER

    @property
    def kind(self) -> str:
        """Return the scheme of the URL."""
        return self.url.partition(":")[0]

    @property
    def place(self) -> str:
        """Return which database it is, without users, passwords and options."""
        scheme, mark, rest = without_password(self.url).partition("?")[0].partition("://")
        rest = rest.rpartition("@")[2]
        return f"{scheme}{mark}{os.path.abspath(rest[1:]) if scheme == 'sqlite' else rest}"  # noqa: PTH100

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown mode."""
        if self.mode not in MODES:
            raise UsageError(f"mode {self.mode!r} is not one of {', '.join(MODES)}")
        if self.idempotency_store is not None:
            check_output(self.idempotency_store)
            if not self.idempotency_key:
                raise UsageError("--idempotency-store keeps the keys that --idempotency-key names; say both")
        if self.idempotency_key and self.mode == "replace":
            raise UsageError("--mode replace starts without rows, and so without --idempotency-key")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a load runs.

    `batch` is "adaptive", "tiers" or a number of records; `writers` and `workers` (parsers) are
    numbers of threads, None leaves them to the controller and to the machine; `queue_size` is in
    records; `linger` in milliseconds (None: files wait for a full batch, standard input 1 s,
    `Pipeline` not at all); `max_retries` are further attempts at a batch (None: as many as fit into two
    minutes after the first failure); `max_rejected` is a number or a percentage ("5%"); `dead_letters` a
    path, by default `./<load>.rejected.jsonl`; `load_id` names the load instead of its content; `again`
    loads what was loaded before once more; `dry_run` reads and checks everything and writes nothing;
    `at_least_once` lets a load without a ledger commit batch by batch. `on_full` says what a live
    producer meets when the queue is full: "block" (it waits), "reject" (QueueFull) or "slow" (it is
    paced from half a queue on). Files always wait.
    """

    batch: str | int = "adaptive"
    writers: int | None = None
    workers: int | None = None
    queue_size: int = queue.MAX_RECORDS
    linger: float | None = None
    max_retries: int | None = None
    dead_letters: str | None = None
    max_rejected: str | int | None = None
    load_id: str | None = None
    again: bool = False
    dry_run: bool = False
    at_least_once: bool = False
    on_full: OnFull = "block"

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of bounds."""
        if self.batch not in ("adaptive", "tiers") and not _positive(self.batch):
            raise UsageError(f"batch {self.batch!r} is not adaptive, tiers or a number above 0")
        if self.on_full not in ON_FULL:
            raise UsageError(f"on_full {self.on_full!r} is not one of {', '.join(ON_FULL)}")
        for name in ("writers", "workers", "queue_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name.replace('_', '-')} has to be at least 1, not {value}")
        if (self.linger or 0) < 0 or (self.max_retries or 0) < 0:
            raise UsageError("linger and max-retries cannot be negative")
        self._check_names()

    def _check_names(self) -> None:
        if self.load_id is not None and (not self.load_id.isprintable() or "/" in self.load_id):
            raise UsageError("a load id goes into file names: it has no / and nothing unprintable")
        if self.dead_letters is not None:
            check_output(self.dead_letters)
            if Path(self.dead_letters).exists() and not Path(self.dead_letters).is_file():
                raise UsageError(f"{self.dead_letters}: dead letters need a file, which can be replayed")

    @property
    def parsers(self) -> int:
        """Return the number of parser threads: as asked for, or one a core up to four."""
        return self.workers or min(4, os.cpu_count() or 1)


def one_transaction(target: Target, settings: Settings) -> bool:
    """Return whether a load has to be one transaction, since nothing else says what is committed.

    Raises UsageError if the settings do not go together.
    """
    if target.has_ledger and settings.at_least_once:
        raise UsageError("--at-least-once is for --ledger off; with a ledger every row goes in exactly once")
    one = not (target.has_ledger or settings.at_least_once)
    if one and (settings.writers or 1) > 1:
        raise UsageError("without a ledger a load is one transaction of one writer, unless --at-least-once")
    return one


def keeps_keys(target: Target) -> bool:
    """Return whether the target keeps idempotency keys, in the transaction of their rows.

    Raises UsageError if it cannot and there is no store, UsageError as `new_sink`.
    """
    if not target.idempotency_key or target.idempotency_store is not None:
        return False
    store = "--idempotency-store FILE keeps them outside of it, where a crash may repeat rows"
    names = ",".join(target.idempotency_key)
    if "keys" not in target.sink().capabilities:
        index = f"make a unique index on {names} and load with --mode ignore --key {names}"
        raise UsageError(f"{target.kind} keeps no idempotency keys: {index}; or {store}")
    if not target.has_ledger:
        raise UsageError(f"idempotency keys are kept beside the ledger; with --ledger off {store}")
    return True


def columns_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return column names that were said as one or as several."""
    return (names,) if isinstance(names, str) else tuple(names)


def new_sink(url: str, ledger: str = LEDGER, **said: Any) -> Sink:
    """Return a new sink for a database URL, not open.

    Raises UsageError for an unknown scheme, a driver that is missing or does not start, and what
    the sink itself refuses: a URL or a table name that it cannot read.
    """
    try:
        return sink_class(url)(url, ledger=None if ledger == NO_LEDGER else ledger, **said)
    except ValueError as error:
        raise UsageError(first_line(error)) from error
    except ImportError as error:  # psycopg without libpq
        scheme = url.partition("://")[0]
        raise UsageError(f"the driver of {scheme}:// does not start: {first_line(error)}") from error


def open_sink(sink: Sink, url: str) -> None:
    """Connect a sink, again at once if the connection was lost on the way. Raises RefusedError."""
    try:
        _open(sink)
    except AdaptiveError:
        raise
    except Exception as error:
        raise RefusedError(f"cannot connect to {without_password(url)}: {first_line(error)}") from error


def _open(sink: Sink) -> None:
    started = time.monotonic()
    try:
        sink.open()
    except OSError:
        raise
    except Exception as error:
        # A server that is not there answers slowly or the same way twice.
        if sink.classify(error) not in AGAIN or time.monotonic() - started > QUICK_SECONDS:
            raise
        sink.close()
        sink.open()


def check_output(path: str) -> None:
    """Raise UsageError if a file could not be written, so that this is known before a long load."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no folder {folder}; make it first")
    if Path(path).is_dir() or not os.access(path if Path(path).exists() else folder, os.W_OK):
        raise UsageError(f"{path}: this file cannot be written")


def _positive(value: str | int) -> bool:
    return str(value).isdecimal() and int(value) > 0
