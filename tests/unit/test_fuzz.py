"""A short run of the fuzzer; `make fuzz` has the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.cases import Case, check, mutated
from fuzz.drawn import LINES, files

SEED = 20


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet", "xml"])
def test_damaged_files_are_read_without_crash_or_silent_loss(format_: str, tmp_path: Path) -> None:
    for number in range(60):
        case = mutated(format_, SEED, number)
        try:
            check(case, tmp_path)
        except Exception as error:
            pytest.fail(f"mutated({format_!r}, {SEED}, {number}): {error!r}")


@pytest.mark.parametrize("format_", LINES)
def test_drawn_files_are_read_without_crash_or_silent_loss(
    format_: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=50, deadline=None)
    @given(files(format_), st.sampled_from((1, 7, 50)))
    def attempt(content: bytes, piece: int) -> None:
        check(Case(format_, content, piece=piece), tmp_path_factory.getbasetemp())

    attempt()
