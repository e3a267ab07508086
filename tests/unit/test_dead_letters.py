from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.dead_letters import DeadLetter, DeadLetterFile, read
from adaptive.errors import AdaptiveError, UsageError
from adaptive.rows import Position, Reject

HEADER = {"load": "l1", "format": "csv", "columns": ["a"]}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),  # lone surrogates too
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
texts = st.none() | st.text(st.characters())


def letter(ordinal: int = 0, **more: Any) -> DeadLetter:
    return DeadLetter(Position(0, ordinal), "bad", "because", **more)


def back(values: dict[Any, Any]) -> Any:
    """Return the values as they come back from a line."""
    line = letter(values=values).to_json()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return DeadLetter.from_json(line).values


def stored(path: Path) -> tuple[dict[str, Any], list[DeadLetter]]:
    header, letters = read(str(path))
    return header, list(letters)


@given(
    st.builds(
        DeadLetter,
        st.builds(Position, st.integers(0, 9), st.integers(0, 2**50)),
        st.text(),
        st.text(st.characters()),
        texts,
        st.none() | st.dictionaries(st.text(), json_values, max_size=4),
        st.none(),
        texts,
        st.none() | st.integers(1, 2**50),
        texts,
        texts,
    )
)
def test_a_letter_comes_back_as_it_was(written: DeadLetter) -> None:
    assert DeadLetter.from_json(written.to_json()) == written


@given(st.text(st.characters()))
def test_the_text_of_a_record_comes_back_as_it_was(raw: str) -> None:
    assert DeadLetter.from_json(letter(raw=raw).to_json()).raw == raw


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("12345678901234567890.1234"), "12345678901234567890.1234"),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (b"\x00\xff", "\\x00ff"),
        (bytearray(b"\x01"), "\\x01"),
        (datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "2026-01-02T03:04:05.678901+00:00"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({1: math.nan, None: [2**70]}, {"1": "nan", "None": [str(2**70)]}),
        ((1, {2}), [1, [2]]),
    ],
)
def test_what_json_lacks_becomes_text_and_nothing_null(value: Any, text: Any) -> None:
    assert back({"a": value}) == {"a": text}


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 10**18, 10**17, 0, -1, True, 0.1, 1e300, 5e-324])
def test_a_number_keeps_its_value(value: float) -> None:
    found = back({"a": value})["a"]
    assert type(value)(found) == value


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("123456789012345678.1234", "123456789012345678.1234"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e999", "1e999"),
        ("0.10", 0.1),
        ("7", 7),
    ],
)
def test_a_number_that_was_edited_in_is_never_rounded(number: str, value: Any) -> None:
    line = letter(values={"a": 0}).to_json().replace(b'"a": 0', b'"a": ' + number.encode())
    assert DeadLetter.from_json(line).values == {"a": value}


def test_lines_are_standard_json_that_people_can_read() -> None:
    line = letter(values={"a": "Zürich", "b": math.nan}).to_json()
    assert "Zürich" in line.decode()
    json.loads(line, parse_constant=pytest.fail)


def test_a_letter_says_where_it_stands() -> None:
    found = DeadLetter.of(3, Reject(6, "22P02", "no number", "price", {"a": 1}, None, 9), "in.csv", "sqlite")
    assert str(found) == "in.csv, record 7, line 9, column price: no number"
    position = json.loads(found.to_json())["position"]
    assert position == {"file": "in.csv", "split": 3, "record": 7, "line": 9}


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"7", b"{}", b'{"position": 1, "code": "c", "reason": "r"}',
        b'{"position": {"split": 0}, "code": "c", "reason": "r"}',
        b'{"position": {"split": 0, "record": "x"}, "code": "c", "reason": "r"}',
        b'{"position": {"split": 0, "record": null}, "code": "c", "reason": "r"}',
        b'{"position": {"split": 0, "record": 0}, "code": "c", "reason": "r"}',
        b'{"position": {"split": -1, "record": 1}, "code": "c", "reason": "r"}',
        b'{"position": {"split": 0, "record": 1}, "code": "c", "reason": "r", "row": [1]}',
        b'{"position": {"split": 0, "record": 1}, "reason": "r"}',
        b'{"position": {"split": 0, "record": 1}, "code": "c", "reason": "\xff"}',
    ],
)  # fmt: skip
def test_what_is_no_letter_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        DeadLetter.from_json(line)


def test_no_file_is_made_without_a_reject(tmp_path: Path) -> None:
    DeadLetterFile(str(tmp_path / "x"), HEADER).append([])
    assert not any(tmp_path.iterdir())


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        DeadLetterFile(str(tmp_path / "x"), HEADER).append([letter()])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_the_header_is_written_once_and_letters_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for run in range(2):
        file = DeadLetterFile(str(path), HEADER)
        for n in range(2):
            file.append([letter(2 * run + n)])
    header, letters = stored(path)
    assert header == HEADER
    assert [found.position.ordinal for found in letters] == [0, 1, 2, 3]


def test_another_attempt_at_a_batch_adds_no_letter_twice(tmp_path: Path) -> None:
    file = DeadLetterFile(str(tmp_path / "x"), HEADER)
    file.append([letter(1), letter(2)])
    file.append([letter(1), letter(2), letter(3)])
    assert [found.position.ordinal for found in stored(tmp_path / "x")[1]] == [1, 2, 3]


@pytest.mark.parametrize("lost", [1, 10, 10_000])
def test_a_line_that_a_dying_process_left_unfinished_is_dropped(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "x"
    DeadLetterFile(str(path), HEADER).append([letter(1), letter(2)])
    path.write_bytes(path.read_bytes()[:-lost])
    DeadLetterFile(str(path), HEADER).append([letter(3)])
    header, letters = stored(path)
    assert header == HEADER
    assert [found.position.ordinal for found in letters] == ([1, 3] if lost < 10_000 else [3])


FULL_DISK = """
import resource, sys
from adaptive.dead_letters import DeadLetter, DeadLetterFile
from adaptive.errors import AdaptiveError
from adaptive.rows import Position
path, limit = sys.argv[1], int(sys.argv[2])
file = DeadLetterFile(path, {"load": "l"})
def letters(first, n):
    return [DeadLetter(Position(0, first + i), "bad", "x" * 100) for i in range(n)]
file.append(letters(0, 3))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    file.append(letters(3, 1_000))
except AdaptiveError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.append(letters(3, 2))
"""


@pytest.mark.parametrize("limit", [1_000, 5_000, 20_000])
def test_a_full_disk_leaves_whole_lines_and_the_letters_can_be_appended_later(
    tmp_path: Path, limit: int
) -> None:
    path = tmp_path / "x"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(path), str(limit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == f"cannot write dead letters to {path}: File too large\n"
    assert not ran.stderr
    assert [found.position.ordinal for found in stored(path)[1]] == [0, 1, 2, 3, 4]


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x"
    with pytest.raises(AdaptiveError, match=f"cannot write dead letters to {path}: No such file"):
        DeadLetterFile(str(path), HEADER).append([letter()])


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a,b\n1,2\n", b"[]\n", b"{}\n", b'{"adaptive_dead_letters": 99}\n', b"\xff\n"]
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"{path}: not a dead letter file"):
        read(str(path))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x: No such file"):
        read(str(tmp_path / "x"))


def test_a_line_that_is_no_letter_is_named_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x"
    DeadLetterFile(str(path), HEADER).append([letter(1)])
    with path.open("ab") as file:
        file.write(b"\n  \n{}\n")
    _, letters = read(str(path))
    assert next(letters).position == Position(0, 1)
    with pytest.raises(UsageError, match=f"{path}, line 5: not a dead letter: 'position' is missing"):
        next(letters)
