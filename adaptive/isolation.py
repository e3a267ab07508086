"""Finds the bad rows of a batch in few writes and writes all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from adaptive.protocols import BatchSink, Rejection

# Rows tried at once behind a bad row, at the least: with 64, all bad costs four times as much.
FIRST_WINDOW = 16
GROWTH = 6  # of the window: with 2, one bad row in 100,000 costs up to 28 further writes, with 6 at most 24


class Isolation:
    """Writes rows piece by piece and yields those that are refused.

    `rows` can be sliced (a list or an Arrow table); `write` writes a slice, all or nothing, or
    returns what it refused. The sink's hint leads straight to a bad row: the rows before it are
    written, it is skipped. Without a hint, halving finds it in log2(n) writes: once a piece has
    failed and its first half went in, the bad row is known to be in the second. The rows behind a
    bad one are tried in a window that follows the distance between bad rows and grows while all
    is well, so that many bad rows do not make the work quadratic. No piece has more than `most` rows.
    """

    def __init__(
        self,
        rows: Any,
        write: Callable[[Any], list[Rejection]],
        sink: BatchSink,
        *,
        most: int | None = None,
    ) -> None:
        self._rows, self._write, self._sink = rows, write, sink
        self._at = 0  # everything before is written or refused
        self._window = self._most = most or len(rows)
        self._last_bad = 0
        self._bad_before: int | None = None  # a bad row stands in at … bad_before - 1
        self._error: BaseException | None = None  # set if it is bad_before - 1 itself

    def __iter__(self) -> Iterator[Rejection]:
        """Yield the refused rows: index, code, reason.

        Raises an error of `write` that is not the data's fault, or that dooms the transaction.
        """
        while self._at < len(self._rows):
            if self._error and self._bad_before == self._at + 1:
                yield self._at, *describe(self._error)
                self._skip()
            else:
                yield from self._try(self._size())

    def _size(self) -> int:
        size = self._window
        if self._bad_before is not None:
            suspects = self._bad_before - self._at
            size = suspects - 1 if self._error else suspects // 2
        return min(max(1, size), self._most, len(self._rows) - self._at)

    def _try(self, size: int) -> Iterator[Rejection]:
        try:
            refused = self._write(self._rows[self._at : self._at + size])
        except Exception as error:
            if self._sink.classify(error) != "reject" or self._sink.doomed:
                raise
            self._narrow(error, size)
            return
        for index, code, reason in refused:
            yield self._at + index, code, reason
        self._at += size
        self._window = max(self._window, GROWTH * size)
        if self._bad_before is not None and self._at >= self._bad_before:
            self._bad_before, self._error = None, None

    def _narrow(self, error: BaseException, size: int) -> None:
        hint = self._sink.hint(error)
        known = 0 if size == 1 else hint
        if known is not None and known < size:
            self._bad_before, self._error = self._at + known + 1, error
        else:
            self._bad_before, self._error = self._at + size, None

    def _skip(self) -> None:
        self._window = max(FIRST_WINDOW, 2 * (self._at - self._last_bad))
        self._last_bad = self._at
        self._at += 1
        self._bad_before, self._error = None, None


def describe(error: BaseException) -> tuple[str, str]:
    """Return an error's code (SQLSTATE or the driver's name for it) and its text."""
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return str(code or type(error).__name__), first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
