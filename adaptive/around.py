"""What stands between a writer and its sink, and passes on what it does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from adaptive.protocols import BatchSink, Rejection, Verdict
from adaptive.rows import Row


class AroundSink:
    """A `BatchSink` that hands every call to another one."""

    max_writers: int | None = 1

    def __init__(self, sink: BatchSink) -> None:
        self._sink = sink
        self.max_rows, self.max_bytes = sink.max_rows, sink.max_bytes

    @property
    def doomed(self) -> bool:
        """Return whether the transaction can only be rolled back."""
        return self._sink.doomed

    @property
    def duplicates(self) -> int:
        """Return how many rows of the last write mode ignore left out."""
        return self._sink.duplicates

    def open(self) -> None:
        """Connect."""
        self._sink.open()

    def close(self) -> None:
        """Disconnect."""
        self._sink.close()

    def begin(self, receipt: Mapping[str, object] | None = None) -> bool:
        """Open a transaction; see `BatchSink.begin`."""
        return self._sink.begin(receipt)

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Claim idempotency keys; see `BatchSink.claim`."""
        return self._sink.claim(keys)

    def release(self, keys: Sequence[str]) -> None:
        """Give keys back; see `BatchSink.release`."""
        self._sink.release(keys)

    def write(self, rows: Sequence[Row]) -> list[Rejection]:
        """Write mappings; see `BatchSink.write`."""
        return self._sink.write(rows)

    def write_arrow(self, rows: pa.Table) -> list[Rejection]:
        """Write a table; see `BatchSink.write`."""
        return self._sink.write_arrow(rows)

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable; see `BatchSink.commit`."""
        self._sink.commit(rejected, rows)

    def rollback(self) -> None:
        """Drop the transaction."""
        self._sink.rollback()

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that caused an error."""
        return self._sink.hint(error)

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means."""
        return self._sink.classify(error)
