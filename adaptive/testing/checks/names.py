"""Hostile names and values."""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa

from adaptive.rows import Row
from adaptive.testing.checks.items import table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load


@check("append")
def hostile_names_and_values_are_just_data(lab: Lab) -> None:
    """Quotes, semicolons, reserved words and other scripts, as identifiers and as values."""
    names = ["select", 'quo"te', "semi;colon", "back\\slash", "blank space", "Ünïcödé", "per%cent", "it's"]
    schema = pa.schema([("item_id", pa.int64()), *((name, pa.string()) for name in names)])
    values = [
        "'); DROP TABLE items; --",
        '"',
        "\\",
        "\\N",
        "",
        " ",
        "NULL",
        "\t\n\r",
        "株式 🚀",
        "%s {} $1 ?",
    ]
    rows: list[Row] = [{"item_id": i, **dict.fromkeys(names, value)} for i, value in enumerate(values)]
    with closing(lab.sink('"the ""table"".x"')) as sink:
        sink.open()
        columns = sink.prepare(a_load(), schema)
        sink.begin()
        sink.write(rows)
        if "arrow" in sink.capabilities:
            sink.write_arrow(table_of([{**row, "item_id": row["item_id"] + 100} for row in rows], columns))
        sink.commit()
    found = {row["item_id"]: row for row in lab.rows('the "table".x')}
    for row in rows:
        assert found[row["item_id"]] == row
        if "arrow" in sink.capabilities:
            assert found[row["item_id"] + 100] == {**row, "item_id": row["item_id"] + 100}
