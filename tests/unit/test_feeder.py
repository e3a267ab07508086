from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.errors import InterruptedLoadError, SourceError, UsageError
from adaptive.feeder import ahead, chunks
from adaptive.metrics import Metrics
from adaptive.protocols import Source
from adaptive.rows import Chunk, Reject, Segment

PATIENCE = 30


@dataclass
class Pieces:
    """A source whose raw pieces are numbers of records; the first record of each is rejected."""

    sizes: list[int]
    broken: Exception | None = None
    placed: bool = False
    parsed: list[int] = field(default_factory=list)
    name: str = "pieces"

    def read(self) -> Iterator[tuple[int, int]]:
        yield from enumerate(self.sizes)
        if self.broken:
            raise self.broken

    def parse(self, raw: tuple[int, int], _: Sequence[Any]) -> Chunk:
        number, size = raw
        self.parsed.append(number)
        rejects = [Reject(0, "bad", "because")] if size else []
        rows = [{"piece": number, "n": n} for n in range(1, size)]
        return Chunk(0, size, rows, rejects, placed=self.placed, split=9 if self.placed else 0)


def fed(source: Any, workers: int = 2, split: int = 3) -> Iterator[Chunk]:
    return chunks(cast("Source", source), split, [], workers, Metrics(0.0))


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_chunks_come_in_source_order_each_at_its_place(sizes: list[int], workers: int) -> None:
    found = list(fed(Pieces(sizes), workers))
    expected, at = [], 0
    for size in sizes:
        if size:
            expected.append(Segment(3, at, at + size - 1))
        at += size
    assert [chunk.segment for chunk in found] == expected
    assert [chunk.rejects[0].ordinal for chunk in found] == [segment.first for segment in expected]
    assert [chunk.rows[0]["piece"] for chunk in found if len(chunk)] == [
        number for number, size in enumerate(sizes) if size > 1
    ]


BREAKS = [
    (SourceError("the file ends in the middle of a record"), "^the file ends in the middle of a record$"),
    (OSError(5, "Input/output error"), "pieces: not readable after record {}: OSError: .*Input/output error"),
    (MemoryError(), "pieces: not readable after record {}: MemoryError$"),
    (pa.ArrowInvalid("a bad page"), "pieces: not readable after record {}: ArrowInvalid: a bad page"),
    (KeyError("colour"), "pieces: not readable after record {}: KeyError: 'colour'"),
]


@given(st.lists(st.integers(1, 5), max_size=8), st.integers(1, 4), st.sampled_from(BREAKS))
def test_what_came_before_a_break_is_yielded_first_whatever_broke(
    sizes: list[int], workers: int, broken: tuple[Exception, str]
) -> None:
    error, text = broken
    found: list[Chunk] = []
    with pytest.raises(SourceError, match=text.format(sum(sizes))) as raised:
        found.extend(fed(Pieces(sizes, broken=error), workers))
    assert sum(chunk.count for chunk in found) == sum(sizes)
    assert error in (raised.value, raised.value.__cause__)


def test_a_refusal_in_the_middle_stays_one_and_comes_after_what_was_before_it() -> None:
    found: list[Chunk] = []
    with pytest.raises(UsageError, match="a definition"):
        found.extend(fed(Pieces([1, 2], broken=UsageError("a definition"))))
    assert sum(chunk.count for chunk in found) == 3


def test_an_interruption_waits_for_nothing() -> None:
    found: list[Chunk] = []
    with pytest.raises(InterruptedLoadError):
        found.extend(fed(Pieces([1, 2], broken=InterruptedLoadError("stop"))))
    assert found == []


def test_chunks_that_are_placed_stay_there() -> None:
    assert [chunk.segment for chunk in fed(Pieces([1, 2], placed=True))] == [
        Segment(9, 0, 0),
        Segment(9, 0, 1),
    ]


def test_parsers_run_at_the_same_time() -> None:
    together = threading.Barrier(3)

    class Meeting(Pieces):
        def parse(self, raw: tuple[int, int], fields: Sequence[Any]) -> Chunk:
            together.wait(PATIENCE)  # breaks unless three parse at once
            return super().parse(raw, fields)

    assert len(list(fed(Meeting([1, 1, 1]), workers=3))) == 3


def test_an_error_of_a_parser_ends_the_source_in_its_place() -> None:
    class Broken(Pieces):
        def parse(self, raw: tuple[int, int], fields: Sequence[Any]) -> Chunk:
            if raw[0] == 1:
                raise ZeroDivisionError
            return super().parse(raw, fields)

    feed = fed(Broken([2, 2, 2]))
    assert next(feed).count == 2
    with pytest.raises(SourceError, match=r"after record 2: ZeroDivisionError$"):
        next(feed)


def test_reading_stays_a_bounded_way_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in count():
            read.append(number)
            yield number

    found = ahead(items(), 3)
    assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
    assert len(read) == 4 + 3


def test_a_reader_that_stops_early_leaves_no_thread_behind() -> None:
    feed = fed(Pieces([1] * 100))
    next(feed)
    feed.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parser")]
