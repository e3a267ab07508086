"""A check that cannot fail is none: sinks with one fault each, and the check that has to notice it."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from labs import SqliteLab

from adaptive.sinks.sqlite import SqliteSink
from adaptive.testing import CHECKS


class FaultyLab(SqliteLab):
    """A SQLite file whose sink has a fault."""

    def __init__(self, path: Path, kind: type[SqliteSink]) -> None:
        super().__init__(path)
        self._kind = kind

    def sink(self, table: str, **options: Any) -> Any:
        return self._kind(self.url, table=table, **options)


class LosesTheLastRow(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write(rows[:-1])


class CommitsOnRollback(SqliteSink):
    def rollback(self) -> None:
        super().commit()


class ForgetsReceipts(SqliteSink):
    def begin(self, _: Any = None) -> bool:
        return super().begin()


class ForgetsWhatWasCommitted(SqliteSink):
    def receipts(self, load: str) -> Any:
        return super().receipts(load)[:1]


class KnowsNoOwner(SqliteSink):
    def classify(self, error: BaseException) -> Any:
        verdict = super().classify(error)
        return "retry" if verdict == "taken_over" else verdict


class TakesBadRowsForBadConnections(SqliteSink):
    def classify(self, error: BaseException) -> Any:
        verdict = super().classify(error)
        return "in_doubt" if verdict == "reject" else verdict


class BlamesTheWrongRow(SqliteSink):
    def write(self, rows: Any) -> Any:
        return [(max(index - 1, 0), code, reason) for index, code, reason in super().write(rows)]

    def hint(self, error: BaseException) -> int | None:
        found = super().hint(error)
        return found and found - 1


class LetsTheFirstRowWin(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write(rows[::-1])


class GoesThroughFloat(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write(
            [{n: _replaced(v, Decimal, lambda v: str(float(v))) for n, v in r.items()} for r in rows]
        )


class CutsMicroseconds(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write(
            [
                {n: _replaced(v, datetime, lambda v: v.replace(microsecond=0)) for n, v in r.items()}
                for r in rows
            ]
        )


def _replaced(value: Any, kind: type, change: Any) -> Any:
    return change(value) if isinstance(value, kind) else value


class MakesEmptyTextNull(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write([{n: None if v == "" else v for n, v in row.items()} for row in rows])


class CutsAtItsBound(SqliteSink):
    max_rows = 3

    def write(self, rows: Any) -> Any:
        return super().write(rows[: self.max_rows])


class CommitsEachTableByItself(SqliteSink):
    def beside(self, table: str, **options: Any) -> Any:
        sink: Any = super().beside(table, **options)
        write = sink.write

        def and_commit(rows: Any) -> Any:
            refused = write(rows)
            self.commit()
            return refused

        sink.write = and_commit
        return sink


class LosesEmptyRows(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write([row for row in rows if row])


class WritesEmptyRowsAsNulls(SqliteSink):
    def write(self, rows: Any) -> Any:
        return super().write([row or {"name": None} for row in rows])


class CountsWhatIsDone(SqliteSink):
    def loads(self) -> Any:
        done = {"rows": 0, "rejected": 0}
        return [load if load["state"] == "done" else {**load, **done} for load in super().loads()]


class SaysNothing(SqliteSink):
    def doctor(self) -> list[str]:
        return super().doctor()[:1]


class NeedsItsPackage(SqliteSink):
    """Its file is this one, which imports the package."""


FAULTS = [
    (LosesTheLastRow, "append_writes_rows_once"),
    (CommitsOnRollback, "rollback_leaves_nothing"),
    (ForgetsReceipts, "a_repeated_batch_is_a_no_op"),
    (ForgetsWhatWasCommitted, "a_load_goes_on_with_batches_of_another_size"),
    (KnowsNoOwner, "the_loser_of_a_takeover_commits_nothing"),
    (TakesBadRowsForBadConnections, "a_violated_constraint_is_a_reject_of_its_row"),
    (BlamesTheWrongRow, "a_violated_constraint_is_a_reject_of_its_row"),
    (BlamesTheWrongRow, "a_row_whose_key_is_taken_is_isolated"),
    (LosesEmptyRows, "a_row_without_a_column_to_write_to_is_isolated"),
    (WritesEmptyRowsAsNulls, "a_row_without_a_column_to_write_to_is_isolated"),
    (CountsWhatIsDone, "loads_that_run_are_counted_from_their_receipts"),
    (LetsTheFirstRowWin, "upsert_lets_the_last_row_win"),
    (GoesThroughFloat, "decimal_of_38_digits_comes_back_as_it_was"),
    (CutsMicroseconds, "timestamp_comes_back_as_it_was"),
    (MakesEmptyTextNull, "text_comes_back_as_it_was"),
    (CutsAtItsBound, "a_write_at_its_bound_goes_in_and_one_over_it_is_not_cut"),
    (CommitsEachTableByItself, "a_rollback_takes_all_tables"),
    (SaysNothing, "missing_rights_are_named_with_what_mends_them"),
    (NeedsItsPackage, "the_file_alone_writes_rows"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_faulty_sink_does_not_conform(tmp_path: Path, fault: type[SqliteSink], name: str) -> None:
    [check] = [check for check in CHECKS if check.name == name]
    with pytest.raises((AssertionError, sqlite3.IntegrityError)):
        check.run(FaultyLab(tmp_path / "lab.db", fault))


class SplitsAtItsBound(SqliteSink):
    max_rows = 3

    def write(self, rows: Any) -> Any:
        for first in range(0, len(rows), self.max_rows):
            assert super().write(rows[first : first + self.max_rows]) == []
        return []


class RefusesWhatIsOverItsBound(SqliteSink):
    max_rows = 3

    def write(self, rows: Any) -> Any:
        if len(rows) > self.max_rows:
            raise RuntimeError("at most 3 rows at once")
        return super().write(rows)


@pytest.mark.parametrize("kind", [SplitsAtItsBound, RefusesWhatIsOverItsBound])
def test_a_bound_of_rows_may_split_or_refuse(tmp_path: Path, kind: type[SqliteSink]) -> None:
    [check] = [check for check in CHECKS if check.name.startswith("a_write_at_its_bound")]
    check.run(FaultyLab(tmp_path / "lab.db", kind))
