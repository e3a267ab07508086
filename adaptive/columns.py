"""Which source column goes to which target column."""

from __future__ import annotations

from collections.abc import Sequence

from adaptive.errors import RefusedError
from adaptive.rows import Column, Field


def match(names: Sequence[str], columns: Sequence[Column], table: str) -> list[Field]:
    """Return the fields for source columns: matched exactly, else without case if that is unique.

    Raises RefusedError for a source column that the table lacks, two that meet in one, or a column
    of the table that has to be filled and is not in the source.
    """
    fields = [Field(name, column) for name in names if (column := _find(name, columns))]
    found = [field.source for field in fields]
    if lacking := [name for name in names if name not in found]:
        have = ", ".join(column.name for column in columns)
        raise RefusedError(f"table {table} has no column {', '.join(lacking)}; it has {have}")
    filled = [field.column.name for field in fields]
    if twice := {name for name in filled if filled.count(name) > 1}:
        raise RefusedError(f"several source columns match column {', '.join(sorted(twice))} of table {table}")
    if empty := [c.name for c in columns if not (c.nullable or c.default or c.name in filled)]:
        raise RefusedError(
            f"column {', '.join(empty)} of table {table} must be filled and is not in the source"
        )
    return fields


def check_key(key: Sequence[str], columns: Sequence[Column]) -> None:
    """Raise RefusedError if a column of an idempotency key is not there."""
    names = [column.name for column in columns]
    if missing := [name for name in key if name not in names]:
        raise RefusedError(f"idempotency key: no column {', '.join(missing)} among {', '.join(names)}")


def check_merge_key(key: Sequence[str], filled: Sequence[str], mode: str) -> None:
    """Raise RefusedError if the source lacks a column by which a mode tells rows apart."""
    if missing := [name for name in key if name not in filled]:
        raise RefusedError(f"mode {mode} needs the key column {', '.join(missing)}, which the source lacks")


def widened(fields: Sequence[Field], columns: Sequence[Column]) -> list[Field]:
    """Return the fields, and one more for each other column that is NULL when it is left out.

    For records that may bring a column late: nothing changes for those that do not.
    """
    filled = {field.column.name for field in fields}
    others = [c for c in columns if c.name not in filled and c.nullable and not c.default]
    return [*fields, *(Field(column.name, column) for column in others)]


def _find(name: str, columns: Sequence[Column]) -> Column | None:
    for column in columns:
        if column.name == name:
            return column
    alike = [column for column in columns if column.name.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None
