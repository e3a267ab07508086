from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.ledger import BLOCK, BLOCKS, Committed, Intervals, digest, fingerprint
from adaptive.rows import Chunk, Position, Segment

runs = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda run: (run[0], run[0] + run[1]))
Receipt = tuple[list[list[int]], int, list[list[int]]]


def ordinals(found: list[tuple[int, int]]) -> set[int]:
    return {ordinal for first, last in found for ordinal in range(first, last + 1)}


@given(st.lists(runs))
def test_intervals_are_the_set_of_their_ordinals(found: list[tuple[int, int]]) -> None:
    intervals, expected = Intervals(found), ordinals(found)
    assert ordinals(list(intervals)) == expected
    assert len(intervals) == len(expected)
    assert {ordinal for ordinal in range(80) if ordinal in intervals} == expected
    assert all(a[1] + 1 < b[0] for a, b in pairwise(intervals))


@given(st.lists(runs), runs)
def test_missing_is_the_difference_in_order(found: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    missing = list(Intervals(found).missing(*wanted))
    assert ordinals(missing) == ordinals([wanted]) - ordinals(found)
    assert missing == sorted(missing)
    assert sum(last - first + 1 for first, last in missing) == len(ordinals(missing))


@st.composite
def receipts(draw: st.DrawFn) -> list[Receipt]:
    """Receipts of disjoint segments, as batches commit them, with some of their records rejected."""
    found: list[Receipt] = []
    for split in range(draw(st.integers(1, 2))):
        edges = sorted(draw(st.sets(st.integers(0, 60), max_size=8)))
        for first, end in pairwise(edges):
            if draw(st.booleans()):
                rejected = draw(st.sets(st.integers(first, end - 1), max_size=3))
                rows = end - first - len(rejected)
                found.append(([[split, first, end - 1]], rows, [[split, n] for n in sorted(rejected)]))
    return draw(st.permutations(found))


@given(receipts(), st.booleans(), runs, st.integers(0, 2))
def test_what_is_committed_is_not_missing(
    found: list[Receipt], retry: bool, wanted: tuple[int, int], split: int
) -> None:
    committed = Committed(found, retry_rejects=retry)
    rejected = {Position(*position) for _, _, positions in found for position in positions}
    settled = {Position(s, n) for segments, _, _ in found for s, a, b in segments for n in range(a, b + 1)}
    settled -= rejected if retry else set()
    first, last = wanted
    chunk = Chunk(first, last - first + 1, [{"n": n} for n in range(first, last + 1)], split=split)
    parts = list(committed.missing(chunk))
    assert [row["n"] for part in parts for row in part.rows] == [
        n for n in range(first, last + 1) if Position(split, n) not in settled
    ]
    assert (Segment(split, first, last) in committed) == (not parts)
    assert len(committed) == len(settled)
    assert committed.rejected == rejected
    assert committed.rows == sum(rows for _, rows, _ in found)


def test_a_rejected_record_that_a_replay_wrote_is_settled() -> None:
    first_run: Receipt = ([[0, 0, 9]], 9, [[0, 4]])
    replay: Receipt = ([[0, 4, 4]], 1, [])
    assert Segment(0, 4, 4) not in Committed([first_run], retry_rejects=True)
    assert Segment(0, 0, 9) in Committed([replay, first_run], retry_rejects=True)


def test_a_chunk_that_is_wholly_missing_is_passed_on_as_it_is() -> None:
    chunk = Chunk(5, 2, [{"n": 5}, {"n": 6}])
    assert next(Committed([([[0, 0, 4]], 5, [])]).missing(chunk)) is chunk


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, BLOCKS * BLOCK])
def test_every_byte_of_a_file_up_to_4_mb_counts(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    content = bytearray(size)
    path.write_bytes(content)
    before = digest(str(path))
    for place in {0, size // 2, size // 3, size - 1} if size else set():
        content[place] ^= 1
        path.write_bytes(content)
        assert digest(str(path)) != before
        content[place] ^= 1
    path.write_bytes(bytes(content) + b"x")
    assert digest(str(path)) != before


def test_of_a_large_file_length_and_both_ends_count(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytearray(BLOCKS * BLOCK * 2)
    path.write_bytes(content)
    before = digest(str(path))
    for place in (0, -1):
        content[place] ^= 1
        path.write_bytes(content)
        assert digest(str(path)) != before
        content[place] ^= 1


def test_the_path_does_not_count_and_the_form_does(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    assert digest(str(tmp_path / "a")) == digest(str(tmp_path / "b"))
    identity = fingerprint(["x"], {"table": "t", "key": ["a"]})
    assert identity == fingerprint(["x"], {"key": ["a"], "table": "t"})
    assert identity != fingerprint(["x"], {"key": ["b"], "table": "t"})
    assert identity != fingerprint(["x", "x"], {"key": ["a"], "table": "t"})
    assert len(identity) == 32
