"""Writes of a batch only the rows whose idempotency key was not processed before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from adaptive.idempotency_keys import keys_of
from adaptive.protocols import BatchSink, Rejection


class Once:
    """The rows of a batch, to be written once for each key; those without a key always.

    Keys are claimed in the transaction that writes the rows. Of several rows with one key the first is
    tried; if it is refused, the next one is, and the last one gives the key back: a row counts as a
    duplicate only if another one with its key is written.
    """

    def __init__(self, rows: Any, columns: Sequence[str], sink: BatchSink) -> None:
        self._rows, self._sink = rows, sink
        self._keys = keys_of(rows, columns)
        self._repeats: dict[str, list[int]] = {}  # rows whose key an earlier row has, in order
        self.duplicates = len(self._keys)  # less those that are tried

    def write(self, write: Callable[[Any, Sequence[int]], Iterable[Rejection]]) -> Iterator[Rejection]:
        """Write the rows with `write`, which gets them and their indexes; yield the refused by index."""
        spent: list[str] = []
        turn = self._first_turn()
        while turn:
            self.duplicates -= len(turn)
            found = write(self._chosen(turn), turn)
            refused = [(turn[at], code, reason) for at, code, reason in found]
            yield from refused
            turn = self._next_turn((index for index, _, _ in refused), spent)
        if spent:
            self._sink.release(spent)

    def _first_turn(self) -> list[int]:
        first: dict[str, int] = {}
        for index, key in enumerate(self._keys):
            if key is not None and first.setdefault(key, index) != index:
                self._repeats.setdefault(key, []).append(index)
        fresh = self._sink.claim(list(first)) if first else ()
        return [
            index for index, key in enumerate(self._keys)
            if key is None or (first[key] == index and key in fresh)
        ]  # fmt: skip

    def _next_turn(self, refused: Iterable[int], spent: list[str]) -> list[int]:
        """Return the rows to be tried in place of refused ones; add keys without one to `spent`."""
        turn: list[int] = []
        for index in refused:
            if (key := self._keys[index]) is None:
                continue
            if repeats := self._repeats.get(key):
                turn.append(repeats.pop(0))
            else:
                spent.append(key)
        return sorted(turn)

    def _chosen(self, indexes: Sequence[int]) -> Any:
        if len(indexes) == len(self._keys):
            return self._rows
        if not isinstance(self._rows, pa.Table):
            return [self._rows[index] for index in indexes]
        mask = [False] * len(self._keys)
        for index in indexes:
            mask[index] = True
        return self._rows.filter(pa.array(mask))
