"""Records of a program are taken in pieces, and none is lost when the program fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from labs import SqliteLab

import adaptive
from adaptive.errors import SourceError, UsageError
from adaptive.rows import Row
from adaptive.sources.rows import PIECE, SAMPLE, RowsSource


def failing(count: int, error: Exception) -> Iterator[Row]:
    """Yield records, then fail."""
    yield from ({"id": number} for number in range(count))
    raise error


def ids(source: RowsSource) -> Iterator[int]:
    for piece in source.read():
        yield from (row["id"] for row in piece)


@pytest.mark.parametrize("count", [0, 1, SAMPLE, SAMPLE + 1, 2 * PIECE, 2 * PIECE + 7])
def test_every_record_comes_once_and_in_order(count: int) -> None:
    assert list(ids(RowsSource({"id": number} for number in range(count)))) == list(range(count))


@pytest.mark.parametrize("count", [1, SAMPLE, SAMPLE + 1, 2 * PIECE + 7])
def test_an_error_of_the_program_comes_after_the_records_before_it(count: int) -> None:
    source = RowsSource(failing(count, KeyError("colour")))
    found: list[int] = []
    assert source.infer() == pa.schema({"id": pa.int64()})
    with pytest.raises(KeyError, match="colour"):
        found.extend(ids(source))
    assert found == list(range(count))
    assert source.consumed == count


def test_an_error_instead_of_the_first_record_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError, match="colour"):
        RowsSource(failing(0, KeyError("colour"))).schema()
    with pytest.raises(UsageError, match="no rows"):
        RowsSource([]).schema()


def refilled() -> Iterator[Row]:
    """Yield one mapping again and again, with other values."""
    record = {}
    for number in range(SAMPLE + 5):
        record["id"] = number
        yield record


def test_a_mapping_that_its_producer_fills_again_is_taken_as_it_was() -> None:
    assert list(ids(RowsSource(refilled()))) == list(range(SAMPLE + 5))


@pytest.mark.parametrize("records", [[{"id": 1}, 5], {"id": 1}])
def test_what_is_no_mapping_is_an_error_after_the_records_before_it(records: Any) -> None:
    source = RowsSource(records)
    with pytest.raises(TypeError, match=r"a record is a mapping of column to value, not (int|str)"):
        assert list(ids(source)) == [1]


@pytest.mark.parametrize("value", ["x", 1.5, 2**70])
def test_values_of_other_types_matter_only_where_a_table_is_to_be_made(value: Any) -> None:
    source = RowsSource([{"id": 1, "note": "a"}, {"id": 2, "note": 5 if value == "x" else value}])
    assert source.schema().names == ["id", "note"]
    with pytest.raises(UsageError, match="column note: the types of its values do not agree"):
        source.infer()


def test_a_load_writes_what_the_program_gave_before_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lab = SqliteLab(tmp_path / "x.db")
    with pytest.raises(SourceError, match="after record 12,345: KeyError: 'colour'") as stopped:
        adaptive.load(failing(12_345, KeyError("colour")), lab.url, table="t", create=True)
    assert isinstance(stopped.value.__cause__, KeyError)
    assert stopped.value.result.written == 12_345
    assert sorted(row["id"] for row in lab.rows("t")) == list(range(12_345))
