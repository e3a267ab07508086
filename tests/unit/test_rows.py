from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.rows import Batch, Chunk, Position, Reject, Rows, Segment

Pairs = list[tuple[int, Any]]


def chunk_of(verdicts: Sequence[bool], *, first: int = 0, split: int = 0, arrow: bool = False) -> Chunk:
    """Return a chunk whose record n is good, and holds its ordinal, or is rejected, by its verdict."""
    good = [{"n": first + n} for n, fine in enumerate(verdicts) if fine]
    rows: Rows = pa.RecordBatch.from_pylist(good, schema=pa.schema([("n", pa.int64())])) if arrow else good
    rejects = [Reject(first + n, "bad", "because") for n, fine in enumerate(verdicts) if not fine]
    return Chunk(first, len(verdicts), rows, rejects, nbytes=10 * len(verdicts), split=split)


def values(rows: Any) -> list[Any]:
    return [row["n"] for row in (rows if isinstance(rows, list) else rows.to_pylist())]


def pairs(chunk: Chunk) -> Pairs:
    return [(chunk.ordinal(index), value) for index, value in enumerate(values(chunk.rows))]


chunks = st.builds(
    chunk_of,
    st.lists(st.booleans(), min_size=1, max_size=30),
    first=st.integers(0, 100),
    split=st.integers(0, 3),
    arrow=st.booleans(),
)


@given(chunks)
def test_an_ordinal_counts_the_rejected_records_too(chunk: Chunk) -> None:
    assert all(ordinal == value for ordinal, value in pairs(chunk))


@given(chunks, st.lists(st.integers(1, 29)))
def test_parts_join_to_the_whole(chunk: Chunk, cuts: list[int]) -> None:
    edges = sorted({0, chunk.count, *(cut for cut in cuts if cut < chunk.count)})
    parts = [chunk.between(chunk.first + a, chunk.first + b - 1) for a, b in pairwise(edges)]
    assert [pair for part in parts for pair in pairs(part)] == pairs(chunk)
    assert [reject for part in parts for reject in part.rejects] == list(chunk.rejects)
    assert Batch(parts).segments == [chunk.segment]
    assert sum(part.nbytes for part in parts) == chunk.nbytes
    assert all(len(part) + len(part.rejects) == part.count for part in parts)


@given(chunks, st.data())
def test_a_cut_gives_as_many_records_as_asked_for_and_the_rest(chunk: Chunk, data: st.DataObject) -> None:
    if chunk.count == 1:
        return
    records = data.draw(st.integers(1, chunk.count - 1))
    head, rest = chunk.cut(records)
    assert (head.count, rest.count) == (records, chunk.count - records)
    assert pairs(head) + pairs(rest) == pairs(chunk)
    assert [*head.rejects, *rest.rejects] == list(chunk.rejects)


@given(st.lists(st.booleans(), min_size=1), st.integers(0, 3), st.integers(0, 1_000))
def test_a_moved_chunk_counts_from_its_place(verdicts: list[bool], split: int, first: int) -> None:
    moved = chunk_of(verdicts).moved(split, first)
    assert moved.segment == Segment(split, first, first + len(verdicts) - 1)
    assert [ordinal - first for ordinal, _ in pairs(moved)] == [n for n, fine in enumerate(verdicts) if fine]
    assert [r.ordinal - first for r in moved.rejects] == [n for n, fine in enumerate(verdicts) if not fine]


def test_a_placed_chunk_stays_where_it_is() -> None:
    placed = Chunk(7, 1, [{"n": 7}], split=2, placed=True)
    assert placed.moved(0, 100) is placed


@given(st.lists(chunks, max_size=6))
def test_a_batch_knows_the_position_of_every_row(parts: list[Chunk]) -> None:
    batch = Batch(parts)
    expected = [Position(part.split, ordinal) for part in parts for ordinal, _ in pairs(part)]
    assert [batch.position(index) for index in range(len(batch))] == expected
    assert values(batch.rows()) == [position.ordinal for position in expected]
    assert list(batch.rejects) == [(part.split, reject) for part in parts for reject in part.rejects]
    with pytest.raises(IndexError):
        batch.position(len(batch))


@given(st.lists(chunks, max_size=6))
def test_segments_cover_the_records_and_neighbours_are_joined(parts: list[Chunk]) -> None:
    segments = Batch(parts).segments
    covered = [(s.split, ordinal) for s in segments for ordinal in range(s.first, s.last + 1)]
    assert covered == [(p.split, p.first + n) for p in parts for n in range(p.count)]
    assert not any(a.split == b.split and a.last + 1 == b.first for a, b in pairwise(segments))


def test_a_batch_of_arrow_chunks_is_a_table_and_of_mappings_a_list() -> None:
    arrow, plain = chunk_of([True, False], arrow=True), chunk_of([True])
    only_rejects = chunk_of([False])
    assert isinstance(Batch([arrow, only_rejects, arrow]).rows(), pa.Table)
    assert isinstance(Batch([plain, only_rejects]).rows(), list)
    assert Batch([only_rejects]).rows() == []


def test_batches_have_ids_of_their_own() -> None:
    assert Batch([]).id != Batch([]).id
