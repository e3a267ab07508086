"""A load without a ledger: its batches become one transaction, so that it is there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from adaptive.errors import SinkError
from adaptive.isolation import first_line
from adaptive.protocols import Rejection, Sink, Verdict
from adaptive.rows import Row


class SingleTransaction:
    """What a writer sees of an open sink whose transaction spans all batches; `end` commits them."""

    max_writers: int | None = 1

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._begun = False
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
        """Do nothing: the sink is open."""

    def close(self) -> None:
        """Do nothing: `end` is still to come."""

    def begin(self, receipt: Mapping[str, object] | None = None) -> bool:
        """Open the transaction, the first time."""
        if not self._begun:
            self._begun = self._sink.begin(receipt)
        return True

    def write(self, rows: Sequence[Row]) -> list[Rejection]:
        """Write mappings; see `BatchSink.write`."""
        return self._sink.write(rows)

    def write_arrow(self, rows: pa.Table) -> list[Rejection]:
        """Write a table; see `BatchSink.write`."""
        return self._sink.write_arrow(rows)

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Do nothing: `end` commits all batches."""

    def rollback(self) -> None:
        """Drop the whole load."""
        self._sink.rollback()

    def end(self) -> None:
        """Commit everything. Raises SinkError, which says what is known."""
        try:
            if self._begun:
                self._sink.commit()
        except Exception as error:
            doubt = self._sink.classify(error) == "in_doubt"
            known = (
                "look whether the rows are there before you load them again"
                if doubt
                else "nothing is written"
            )
            raise SinkError(f"{first_line(error)}; {known}") from error

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that caused an error."""
        return self._sink.hint(error)

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means: nothing can be tried again, since the batches before are gone, too."""
        return "reject" if self._sink.classify(error) == "reject" else "fatal"
