"""Which load this is, and which of its records are committed already."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from adaptive.rows import Chunk, Position, Segment

BLOCKS, BLOCK = 64, 64 << 10  # 4 MB of any file are read: some milliseconds, whatever its size


def digest(path: str) -> str:
    """Return what identifies a file's content: its size and a digest of 64 evenly spaced blocks.

    The first and the last block are among them. A change of the same length between the blocks of
    a file above 4 MB is not noticed. Raises OSError.
    """
    state = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        state.update(str(size).encode())
        last = max(0, size - BLOCK)
        for offset in sorted({last * block // (BLOCKS - 1) for block in range(BLOCKS)}):
            file.seek(offset)
            state.update(file.read(BLOCK))
    return state.hexdigest()


def fingerprint(contents: Iterable[str], form: Mapping[str, Any]) -> str:
    """Return the identity of a load: the contents' digests with format, mapping, table, mode, key.

    Host, user, path and time do not count. 32 hexadecimal digits.
    """
    text = orjson.dumps([list(contents), form], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class Intervals:
    """A set of ordinals of one split, kept as runs that do not touch."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._runs: list[tuple[int, int]] = []
        for first, last in sorted(runs):
            if self._runs and first <= self._runs[-1][1] + 1:
                self._runs[-1] = (self._runs[-1][0], max(last, self._runs[-1][1]))
            else:
                self._runs.append((first, last))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the runs (first, last) in order."""
        return iter(self._runs)

    def __len__(self) -> int:
        """Return how many ordinals there are."""
        return sum(last - first + 1 for first, last in self._runs)

    def __contains__(self, ordinal: int) -> bool:
        """Return whether an ordinal is in the set."""
        index = bisect_right(self._runs, (ordinal, float("inf"))) - 1
        return index >= 0 and ordinal <= self._runs[index][1]

    def missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the runs of `first` … `last` that are not in the set."""
        index = max(0, bisect_right(self._runs, (first, float("inf"))) - 1)
        for low, high in self._runs[index:]:
            if low > last:
                break
            if first < low:
                yield first, low - 1
            first = max(first, high + 1)
        if first <= last:
            yield first, last


class Committed:
    """What the receipts of a load say: the records that need not be written again.

    With `retry_rejects`, rejected records are not settled: a replay tries them again.
    """

    def __init__(
        self, receipts: Iterable[tuple[list[list[int]], int, list[list[int]]]], *, retry_rejects: bool = False
    ) -> None:
        runs: dict[int, list[tuple[int, int]]] = {}
        self.rows = 0
        self.rejected: set[Position] = set()
        for segments, rows, rejected in receipts:
            self.rows += rows
            self.rejected.update(Position(*position) for position in rejected)
            for split, first, last in segments:
                left_out = Intervals((o, o) for s, o in rejected if retry_rejects and s == split)
                runs.setdefault(split, []).extend(left_out.missing(first, last))
        self._splits = {split: Intervals(found) for split, found in runs.items()}

    def __len__(self) -> int:
        """Return how many records are settled, written or rejected."""
        return sum(map(len, self._splits.values()))

    def __contains__(self, segment: Segment) -> bool:
        """Return whether every record of a segment is settled."""
        return not any(self._missing(segment))

    def missing(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the parts of a chunk that are not settled."""
        if chunk.split not in self._splits:
            yield chunk
            return
        for first, last in self._missing(chunk.segment):
            whole = (first, last) == (chunk.first, chunk.first + chunk.count - 1)
            yield chunk if whole else chunk.between(first, last)

    def _missing(self, segment: Segment) -> Iterator[tuple[int, int]]:
        return self._splits.get(segment.split, Intervals()).missing(segment.first, segment.last)
