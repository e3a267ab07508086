"""Tables, their columns and indexes, and how they are named."""

from __future__ import annotations

import re
from typing import NamedTuple

from labs.tds.types import BYTES, INTEGERS, MONEY, TEXTS, Type

NAME = Type("nvarchar", 128)
PATH_PART = re.compile(r'\[((?:[^\]]|\]\])*)\]|"((?:[^"]|"")*)"|([^.\[\]"]*)')


class Column(NamedTuple):
    """A column of a table; `default` is T-SQL."""

    name: str
    type: Type
    nullable: bool = True
    identity: bool = False
    seed: int = 1
    collation: str | None = None
    default: str | None = None
    default_name: str | None = None
    computed: bool = False

    def sqlite(self) -> str:
        """Return its definition for SQLite."""
        kind, collate = self.type.name, ""
        if kind in TEXTS or kind == "uniqueidentifier":
            # RTRIM compares bytes and ignores trailing spaces, as binary collations do.
            collate = "COLLATE RTRIM" if "_BIN" in (self.collation or "").upper() else "COLLATE sql_text"
        elif kind == "decimal" or kind in MONEY:
            collate = "COLLATE sql_decimal"
        elif kind == "datetimeoffset":
            collate = "COLLATE sql_datetimeoffset"
        affinity = "INT" if kind in INTEGERS else "BLOB" if kind in BYTES else "TEXT"
        affinity = "REAL" if kind in ("real", "float") else affinity
        return f"{quote(self.name)} {affinity} {collate} {'' if self.nullable else 'NOT NULL'}"


class Index(NamedTuple):
    """An index, or the index of a key; `kind` is PK, UQ or empty."""

    name: str
    columns: tuple[str, ...]
    kind: str = ""
    unique: bool = True
    filter: str | None = None


class Table(NamedTuple):
    """A table as it is now; the number of a temporary one is below zero."""

    id: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...] = ()

    @property
    def sqlite(self) -> str:
        """Its quoted name in SQLite."""
        return stored(self.schema, self.name)

    @property
    def path(self) -> str:
        """Its name with the schema, as errors have it."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """Return a column by its name in any case."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)


def quote(name: str) -> str:
    """Return a name quoted for SQLite."""
    return '"' + name.replace('"', '""') + '"'


def stored(schema: str, name: str) -> str:
    """Return the quoted name of a table in SQLite."""
    return quote(name if name.startswith("#") else f"{schema}.{name}")


def parts(path: str) -> list[str]:
    """Return the parts of a name like [a].b or "a"."b"."""
    found, at = [], 0
    while at <= len(path):
        match = PATH_PART.match(path, at)
        assert match
        a, b, c = match.groups()
        bare = (c or "").strip() if b is None else b.replace('""', '"')
        found.append(bare if a is None else a.replace("]]", "]"))
        at = match.end() + 1
    return found
