"""The watermark of a live producer: the ordinal below which every record is settled."""

from __future__ import annotations

import threading


class Watermark:
    """Joins segments that are settled in any order; lets threads wait for a height."""

    def __init__(self) -> None:
        self._height = 0
        self._beyond: dict[int, int] = {}  # first → last of segments above a gap
        self._error: BaseException | None = None
        self._moved = threading.Condition()

    def settle(self, first: int, last: int) -> None:
        """Note that the records `first` … `last` are settled."""
        with self._moved:
            self._beyond[first] = last
            while (end := self._beyond.pop(self._height, None)) is not None:
                self._height = end + 1
            self._moved.notify_all()

    def fail(self, error: BaseException) -> None:
        """Make everybody who waits raise `error`."""
        with self._moved:
            self._error = self._error or error
            self._moved.notify_all()

    def wait(self, height: int) -> None:
        """Wait until all records below `height` are settled; raises the error given to `fail`."""
        with self._moved:
            self._moved.wait_for(lambda: self._height >= height or self._error)
            if self._height < height and self._error:
                raise self._error
