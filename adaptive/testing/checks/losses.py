"""Nothing is rounded, cut, wrapped or made NULL in silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import pyarrow as pa

from adaptive.testing.checks.items import isolated
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.types import WEST, made, numbered, written_as_arrow
from adaptive.testing.lab import Lab

BAD: list[tuple[pa.DataType, Sequence[Any]]] = [
    (pa.bool_(), [2, "perhaps"]),
    (pa.int64(), [2**63, -(2**63) - 1, 1.5, "12x", Decimal("0.5")]),
    (pa.float64(), [2**53 + 1, "many"]),
    (pa.decimal128(18, 4), [Decimal("1.00001"), Decimal(10**14), Decimal("NaN"), Decimal("Infinity"), "1,5"]),
    (pa.decimal128(15, 2), [Decimal("0.001"), Decimal(10**16), 1e-7]),
    (pa.string(), ["\ud800"]),
    (pa.date32(), ["2024-02-30", datetime(2024, 2, 29, 12, 30)]),
    (pa.timestamp("us"), ["2024-02-30T00:00:00", datetime(2024, 2, 29, 12, 30, tzinfo=WEST)]),
    (pa.uuid(), ["no"]),
]


def unchanged(lab: Lab, kept: Any, given: Any) -> bool:
    """Return whether a value that is stored says what was given, perhaps as text."""
    if isinstance(given, datetime):
        return bool(kept == lab.stored(pa.timestamp("us", given.tzinfo and "UTC"), given))
    if isinstance(given, Decimal) and given.is_finite():
        return Decimal(str(kept)) == given  # the shortest digits of a number that SQLite made of it
    return bool(kept == given or str(kept) == str(given))


@check("create")
def a_value_that_does_not_fit_is_refused_or_kept(lab: Lab) -> None:
    """Whatever the type of the column; the rows beside it are written."""
    for kind, values in BAD:
        with made(lab, kind) as (sink, _):
            rows = numbered([None, *values, None])
            refused, _ = isolated(sink, rows)
        found = {row["item_id"]: row["value"] for row in lab.rows("made")}
        lab.drop("made")
        assert sorted([*found, *refused]) == [row["item_id"] for row in rows], kind
        for row in rows:
            if row["item_id"] not in refused:
                kept, given = found[row["item_id"]], row["value"]
                assert unchanged(lab, kept, given), f"{given!r} became {kept!r} in {kind}"


class Log(logging.Handler):
    """Keeps what is said in the log `adaptive` while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.texts.append(record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger("adaptive").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("adaptive").removeHandler(self)


@check("append")
def microseconds_that_are_cut_off_are_mentioned_once(lab: Lab) -> None:
    """Not for each batch, and not by a database that keeps them."""
    kind, moment = pa.timestamp("us"), datetime(2024, 2, 29, 23, 59, 59, 999999)
    lost = lab.stored(kind, moment) == lab.stored(kind, moment.replace(microsecond=999000))
    with Log() as log, made(lab, kind) as (sink, columns):
        for first in (0, 2):
            isolated(sink, numbered([moment, moment], first))
        if "arrow" in sink.capabilities:
            written_as_arrow(sink, columns, kind, numbered([moment, moment], 4))
    assert len(log.texts) == lost, log.texts
