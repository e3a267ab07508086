"""Settings of a load: their names, defaults and bounds; one name each in Python, flags and files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from adaptive import queue
from adaptive.errors import UsageError
from adaptive.protocols import Mode, Sink
from adaptive.sinks import sink_class

MODES: tuple[Mode, ...] = ("append", "ignore", "upsert", "replace")
MAX_WRITERS = 4  # the controller's bound; PostgreSQL gained nothing from a third COPY on two cores


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows go: a database URL, a table, and how they are to be written."""

    url: str
    table: str
    mode: Mode = "append"
    key: tuple[str, ...] = ()
    create: bool = False

    def sink(self) -> Sink:
        """Return a new sink for it, not open.

        Raises UsageError for an unknown scheme, ImportError for a driver that is not installed.
        """
        return sink_class(self.url)(self.url, table=self.table, mode=self.mode, key=self.key)

    @property
    def kind(self) -> str:
        """Return the scheme of the URL."""
        return self.url.partition(":")[0]

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown mode."""
        if self.mode not in MODES:
            raise UsageError(f"mode {self.mode!r} is not one of {', '.join(MODES)}")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a load runs.

    `batch` is "adaptive", "tiers" or a number of records; `writers` and `workers` (parsers) are
    numbers of threads, None leaves them to the controller and to the machine; `queue_size` is in
    records; `linger` in milliseconds (None: files wait for a full batch, standard input 1 s,
    `Pipeline` not at all); `max_rejected` is a number or a percentage ("5%"); `dead_letters` a path,
    by default `./<load>.rejected.jsonl`; `load_id` names the load instead of its content; `again`
    loads what was loaded before once more.
    """

    batch: str | int = "adaptive"
    writers: int | None = None
    workers: int | None = None
    queue_size: int = queue.MAX_RECORDS
    linger: float | None = None
    max_retries: int = 10
    dead_letters: str | None = None
    max_rejected: str | int | None = None
    load_id: str | None = None
    again: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of bounds."""
        if self.batch not in ("adaptive", "tiers") and not _positive(self.batch):
            raise UsageError(f"batch {self.batch!r} is not adaptive, tiers or a number above 0")
        for name in ("writers", "workers", "queue_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name.replace('_', '-')} has to be at least 1, not {value}")
        if (self.linger or 0) < 0 or self.max_retries < 0:
            raise UsageError("linger and max-retries cannot be negative")

    @property
    def parsers(self) -> int:
        """Return the number of parser threads: as asked for, or one a core up to four."""
        return self.workers or min(4, os.cpu_count() or 1)


def _positive(value: str | int) -> bool:
    return str(value).isdecimal() and int(value) > 0
