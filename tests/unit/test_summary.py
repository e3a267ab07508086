from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from adaptive.dead_letters import DeadLetter, DeadLetterFile
from adaptive.metrics import Metrics
from adaptive.result import LoadResult
from adaptive.rows import Position
from adaptive.summary import SHOWN, loads_table, summary


def lines(result: LoadResult) -> list[str]:
    return [" ".join(line.split()) for line in summary(result, "sqlite:///x.db, table t").splitlines()]


def rejected(folder: Path, ordinals: range, counted: range) -> LoadResult:
    """Return a load with letters for `ordinals`, of which those of `counted` were committed."""
    path = str(folder / "l.rejected.jsonl")
    DeadLetterFile(path, {"load": "l"}).append(
        DeadLetter(Position(0, n), "c", f"reason {n}", file="a.csv") for n in ordinals
    )
    return LoadResult(
        "l", "/in/a.csv", 5, rejected_positions=frozenset(Position(0, n) for n in counted), dead_letters=path
    )


def test_a_load_without_incidents_says_little() -> None:
    assert lines(LoadResult("l", "/in/a.csv", written=1_000_000, seconds=2.0)) == [
        "a.csv → sqlite:///x.db, table t",
        "written 1,000,000 rows in 2.00 s, 500,000 rows/s",
    ]


def test_what_happened_is_said() -> None:
    metrics = Metrics(0.0)
    metrics.count("retry", 2)
    metrics.committed(size=7, seconds=0.1, accepted=[(0.0, 7)], now=0.5)
    metrics.committed(size=3, seconds=0.1, accepted=[(0.0, 3)], now=0.5)
    metrics.decided(1.0, 0, 7, 2, "one more writer")
    metrics.decided(2.0, 0, 7, 1, "the last step did not pay")
    result = LoadResult(
        "l", "a.csv", written=9, duplicates=1, resumed=4, seconds=1.0,
        metrics=metrics.snapshot(2.0),
    )  # fmt: skip
    text = lines(result)
    assert "resumed 4 records were settled by an earlier run" in text
    assert "there already 1 rows left as they are" in text
    assert "batches 2 of up to 7 rows, by 2 writers" in text
    assert "retried 2 times" in text
    assert str(result) == "9 written, 1 there already, 4 settled by an earlier run, 1.0 s"


def test_the_first_rejects_are_shown_and_the_file_has_them_all(tmp_path: Path) -> None:
    result = rejected(tmp_path, range(20), range(20))
    text = lines(result)
    assert f"rejected 20 records, kept in {result.dead_letters}" in text
    assert text[-SHOWN:] == [f"a.csv, record {n + 1}: reason {n}" for n in range(SHOWN)]
    assert f"20 rejected ({result.dead_letters})" in str(result)


def test_letters_of_attempts_that_did_not_commit_do_not_count(tmp_path: Path) -> None:
    result = rejected(tmp_path, range(10), range(2, 4))
    assert [letter.position.ordinal for letter in result.rejected] == [2, 3]
    assert result.rejected_count == 2


def test_of_several_letters_of_a_record_the_last_counts(tmp_path: Path) -> None:
    result = rejected(tmp_path, range(1), range(1))
    DeadLetterFile(str(result.dead_letters), {"load": "l"}).append([DeadLetter(Position(0, 0), "c", "later")])
    assert [letter.reason for letter in result.rejected] == ["later"]


def test_a_dead_letter_file_that_is_gone_costs_the_details_only(tmp_path: Path) -> None:
    result = rejected(tmp_path, range(3), range(3))
    Path(str(result.dead_letters)).unlink()
    assert (result.rejected, result.rejected_count) == ([], 3)


def test_a_load_that_was_done_already_says_the_way_out() -> None:
    result = LoadResult("l", "/in/a.csv", already="2026-01-02 03:04")
    assert "already loaded on 2026-01-02 03:04" in lines(result)[1]
    assert "--again" in str(result)


def test_several_loads_are_summed_and_listed(tmp_path: Path) -> None:
    one = rejected(tmp_path, range(2), range(2))
    other = LoadResult("m", "/in/b.csv", written=7, seconds=1.0)
    result = LoadResult.of([one, other])
    assert (result.written, result.rejected_count, result.load) == (12, 2, "l, m")
    assert [letter.position.ordinal for letter in result.rejected] == [0, 1]
    text = lines(result)
    assert text[0] == "2 files → sqlite:///x.db, table t"
    assert text[1].startswith("a.csv: 5 written, 2 rejected")
    assert text[2].startswith("b.csv: 7 written")
    assert LoadResult.of([one]) is one


def test_the_loads_of_a_ledger_are_a_table() -> None:
    row = {
        "load": "l1", "target": "t", "mode": "append", "state": "done", "rows": 1_234, "rejected": None,
        "started_at": datetime(2026, 1, 2, tzinfo=UTC), "source": "a.csv",
    }  # fmt: skip
    heads, first, second = loads_table([row, {**row, "load": "longer", "started_at": None}]).splitlines()
    assert heads.split() == ["load", "target", "mode", "state", "rows", "rejected", "started", "source"]
    assert "1,234" in first
    assert first.index("a.csv") == second.index("a.csv") == heads.index("source")
    assert loads_table([]) == "no loads"
