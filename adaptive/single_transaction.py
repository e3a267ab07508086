"""A load without a ledger: its batches become one transaction, so that it is there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adaptive.around import AroundSink
from adaptive.errors import AdaptiveError, SinkError
from adaptive.isolation import first_line
from adaptive.protocols import BatchSink, Verdict


class SingleTransaction(AroundSink):
    """What a writer sees of an open sink whose transaction spans all batches; `end` commits them."""

    def __init__(self, sink: BatchSink) -> None:
        super().__init__(sink)
        self._begun = False
        self.in_doubt = False  # the commit was sent, and nobody knows what came of it

    def open(self) -> None:
        """Do nothing: the sink is open."""

    def close(self) -> None:
        """Do nothing: `end` is still to come."""

    def begin(self, receipt: Mapping[str, object] | None = None) -> bool:
        """Open the transaction, the first time."""
        if not self._begun:
            self._begun = self._sink.begin(receipt)
        return True

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Do nothing: `end` commits all batches."""

    def end(self) -> None:
        """Commit everything. Raises SinkError, or an AdaptiveError such as an interruption."""
        if not self._begun:
            return
        try:
            self._sink.commit()
        except Exception as error:
            self.in_doubt = isinstance(error, AdaptiveError) or self._sink.classify(error) == "in_doubt"
            raise error if isinstance(error, AdaptiveError) else SinkError(first_line(error)) from error

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means: nothing can be tried again, since the batches before are gone, too."""
        return "reject" if self._sink.classify(error) == "reject" else "fatal"
