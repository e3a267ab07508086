"""What the server knows of its tables: kept in SQLite beside them, and so part of every transaction."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from labs.tds.types import BYTES, FIXED, INTEGERS, MONEY, SCALED, SIZED, TEXTS, Type

# Temporary tables have a catalogue of their own, with # before its names, in the session's temporary database.
TABLES = """
CREATE {temp} TABLE "{p}sys.schemas" (name TEXT, schema_id INTEGER PRIMARY KEY, principal_id INT DEFAULT 1);
CREATE {temp} TABLE "{p}sys.objects" (name TEXT, object_id INTEGER PRIMARY KEY AUTOINCREMENT, schema_id INT,
    parent_object_id INT DEFAULT 0, type TEXT, type_desc TEXT, is_ms_shipped INT DEFAULT 0, definition TEXT,
    other_object_id INT, delete_referential_action INT DEFAULT 0, is_disabled INT DEFAULT 0);
CREATE {temp} TABLE "{p}sys.columns" (object_id INT, name TEXT, column_id INT, system_type_id INT, user_type_id INT,
    max_length INT, precision INT, scale INT, collation_name TEXT, is_nullable INT, is_identity INT,
    is_computed INT DEFAULT 0, generated_always_type INT DEFAULT 0, default_object_id INT DEFAULT 0,
    size INT, seed INT);
CREATE {temp} TABLE "{p}sys.indexes" (object_id INT, name TEXT, index_id INT, type INT, type_desc TEXT,
    is_unique INT, is_primary_key INT, is_unique_constraint INT, has_filter INT DEFAULT 0, filter_definition TEXT,
    is_disabled INT DEFAULT 0, ignore_dup_key INT DEFAULT 0);
CREATE {temp} TABLE "{p}sys.index_columns" (object_id INT, index_id INT, index_column_id INT, column_id INT,
    key_ordinal INT, is_descending_key INT DEFAULT 0, is_included_column INT DEFAULT 0);
"""
VIEWS = """
CREATE TABLE "sys.types" (name TEXT, system_type_id INT, user_type_id INT, max_length INT, is_user_defined INT);
INSERT INTO "sys.schemas" (name, schema_id) VALUES ('dbo', 1), ('guest', 2), ('sys', 4);
CREATE VIEW "sys.tables" AS SELECT * FROM "sys.objects" WHERE type = 'U';
CREATE VIEW "sys.check_constraints" AS SELECT * FROM "sys.objects" WHERE type = 'C';
CREATE VIEW "sys.default_constraints" AS SELECT * FROM "sys.objects" WHERE type = 'D';
CREATE VIEW "sys.key_constraints" AS SELECT * FROM "sys.objects" WHERE type IN ('PK', 'UQ');
CREATE VIEW "sys.foreign_keys" AS SELECT *, other_object_id AS referenced_object_id FROM "sys.objects" WHERE type = 'F';
CREATE VIEW "sys.identity_columns" AS SELECT * FROM "sys.columns" WHERE is_identity = 1;
CREATE VIEW "sys.computed_columns" AS SELECT * FROM "sys.columns" WHERE is_computed = 1;
"""
FIRST_OBJECT = 901578250  # SQL Server's numbers are large, too
DESCRIBED = {"U": "USER_TABLE", "PK": "PRIMARY_KEY_CONSTRAINT", "UQ": "UNIQUE_CONSTRAINT",
             "C": "CHECK_CONSTRAINT", "D": "DEFAULT_CONSTRAINT", "F": "FOREIGN_KEY_CONSTRAINT"}  # fmt: skip
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
    """A table as it is now; `sqlite` is its quoted name there."""

    id: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...] = ()

    @property
    def sqlite(self) -> str:
        return stored(self.schema, self.name)

    @property
    def path(self) -> str:
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
        found.append(
            a.replace("]]", "]") if a is not None else b.replace('""', '"') if b is not None else c.strip()
        )
        at = match.end() + 1
    return found


def install(db: sqlite3.Connection) -> None:
    """Make the catalogue of a new database."""
    db.executescript(TABLES.format(p="", temp="") + VIEWS)
    db.execute('INSERT INTO "sys.objects" (object_id, name, type) VALUES (?, ?, ?)', [FIRST_OBJECT, "-", "-"])
    names = [*FIXED, *(name for name in SIZED if name not in ("ntext", "text", "image")), *SCALED]
    kinds = [Type(name, 1) for name in names] + [Type("decimal", 0, 38)]
    rows = [(kind.name, kind.id, kind.id, kind.max_length, 0) for kind in kinds]
    rows += [("numeric", 108, 108, 17, 0), ("sysname", 231, 256, 256, 0), ("timestamp", 189, 189, 8, 0)]
    db.executemany('INSERT INTO "sys.types" VALUES (?, ?, ?, ?, ?)', rows)


class Catalogue:
    """The catalogue as one session sees it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._cache, self._version = db, {}, ()  # type: ignore[var-annotated]
        db.executescript(TABLES.format(p="#", temp="TEMP"))
        db.execute('CREATE TEMP TABLE "sys.dm_exec_sessions" (session_id INT, database_id INT)')
        db.execute('INSERT INTO "#sys.objects" (object_id, name, type) VALUES (-1000000, ?, ?)', ["-", "-"])

    @property
    def version(self) -> tuple[int, ...]:
        """A value that changes with every table."""
        return tuple(
            self._db.execute(f"PRAGMA {schema}.schema_version").fetchone()[0] for schema in ("main", "temp")
        )

    def table(self, schema: str, name: str) -> Table | None:
        """Return a table, or None."""
        if (version := self.version) != self._version:
            self._cache, self._version = {}, version
        key = (schema.lower(), name.lower())
        if key not in self._cache:
            self._cache[key] = self._read(schema, name)
        found: Table | None = self._cache[key]
        return found

    def find(self, path: str, kind: str | None = None) -> int | None:
        """Return what OBJECT_ID does."""
        *_, schema, name = ["", *parts(path)]
        p = "#" if name.startswith("#") else ""
        row = self._db.execute(
            f'SELECT object_id FROM "{p}sys.objects" WHERE name = ? COLLATE NOCASE AND type = coalesce(?, type) AND '
            'schema_id = (SELECT schema_id FROM "sys.schemas" WHERE name = ? COLLATE NOCASE)',
            [name, kind, "dbo" if p else schema or "dbo"],
        ).fetchone()
        return row[0] if row else None

    def by_id(self, number: int) -> Table:
        """Return the table with a number."""
        p = "#" if number < 0 else ""
        query = (f'SELECT s.name, o.name FROM "{p}sys.objects" o JOIN main."sys.schemas" s USING (schema_id) '
                 "WHERE object_id = ?")  # fmt: skip
        table = self.table(*self._db.execute(query, [number]).fetchone())
        assert table
        return table

    def _read(self, schema: str, name: str) -> Table | None:
        if schema.lower() in ("sys", "information_schema"):
            return self._system(name.lower())
        if (number := self.find(f"{quote(schema)}.{quote(name)}", "U")) is None:
            return None
        p = "#" if name.startswith("#") else ""
        rows = self._db.execute(
            f'SELECT c.name, c.system_type_id, c.size, c.precision, c.scale, c.is_nullable, c.is_identity, c.seed, '
            f'c.collation_name, d.definition, d.name, c.is_computed FROM "{p}sys.columns" c '
            f'LEFT JOIN "{p}sys.objects" d ON d.object_id = c.default_object_id '
            "WHERE c.object_id = ? ORDER BY c.column_id", [number],
        )  # fmt: skip
        names = dict(
            self._db.execute("SELECT system_type_id, name FROM \"sys.types\" WHERE name <> 'sysname'")
        )
        columns = tuple(
            Column(row[0], _type(names[row[1]], *row[2:5]), bool(row[5]), bool(row[6]), *row[7:])
            for row in rows
        )
        return Table(number, schema, name, columns, self._indexes(p, number))

    def _system(self, name: str) -> Table | None:
        found = self._db.execute(f"PRAGMA table_info({quote('sys.' + name)})").fetchall()
        columns = tuple(Column(row[1], _system_type(row[1])) for row in found)
        return Table(-1, "sys", name, columns) if columns else None

    def _indexes(self, p: str, number: int) -> tuple[Index, ...]:
        rows = self._db.execute(
            f"SELECT i.index_id, i.name, i.is_primary_key, i.is_unique_constraint, i.is_unique, i.filter_definition, "
            f'c.name FROM "{p}sys.indexes" i JOIN "{p}sys.index_columns" k USING (object_id, index_id) '
            f'JOIN "{p}sys.columns" c USING (object_id, column_id) WHERE object_id = ? ORDER BY 1, k.key_ordinal',
            [number],
        ).fetchall()
        found: dict[int, Index] = {}
        for number, name, primary, constraint, unique, condition, column in rows:
            kind = "PK" if primary else "UQ" if constraint else ""
            earlier = found[number].columns if number in found else ()
            found[number] = Index(name, (*earlier, column), kind, bool(unique), condition)
        return tuple(found.values())

    # --- changes ---

    def add_object(self, schema: str, name: str, kind: str, parent: int = 0, **more: object) -> int:
        """Enter an object; return its number."""
        p = "#" if name.startswith("#") or parent < 0 else ""
        found = self._db.execute(
            'SELECT schema_id FROM "sys.schemas" WHERE name = ? COLLATE NOCASE', [schema]
        )
        row = {"name": name, "schema_id": found.fetchone()[0], "parent_object_id": parent, "type": kind,
               "type_desc": DESCRIBED[kind], **more}  # fmt: skip
        if p and not parent:  # below zero, so that a number tells where its object is
            (lowest,) = self._db.execute('SELECT min(object_id) FROM "#sys.objects"').fetchone()
            row["object_id"] = lowest - 1
        places = ", ".join("?" * len(row))
        done = self._db.execute(
            f'INSERT INTO "{p}sys.objects" ({", ".join(row)}) VALUES ({places})', [*row.values()]
        )
        return int(done.lastrowid or 0)

    def create(self, schema: str, name: str, columns: Sequence[Column], constraints: Sequence[str]) -> Table:
        """Make a table."""
        number = self.add_object(schema, name, "U")
        p = "#" if number < 0 else ""
        for position, column in enumerate(columns, 1):
            default = 0
            if column.default is not None:
                title = (
                    column.default_name
                    or f"DF__{name[:9]}__{column.name[:5]}__{number + position & 0xFFFFFFFF:08X}"
                )
                default = self.add_object(schema, title, "D", number, definition=f"({column.default})")
            kind = column.type
            self._db.execute(
                f'INSERT INTO "{p}sys.columns" (object_id, name, column_id, system_type_id, user_type_id, max_length, '
                "precision, scale, collation_name, is_nullable, is_identity, default_object_id, size, is_computed, seed) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [number, column.name, position, kind.id, kind.id, kind.max_length, kind.digits, kind.scale,
                 column.collation or ("SQL_Latin1_General_CP1_CI_AS" if kind.name in TEXTS else None),
                 column.nullable, column.identity, default, kind.size, column.computed, column.seed],
            )  # fmt: skip
        table = Table(number, schema, name, tuple(columns))
        inner = ", ".join([*(column.sqlite() for column in columns), *constraints])
        self._db.execute(f"CREATE {'TEMP' if p else ''} TABLE {table.sqlite} ({inner})")
        return table

    def add_index(self, table: Table, index: Index) -> None:
        """Make an index."""
        p, number = "#" if table.id < 0 else "", 1 if index.kind == "PK" else len(table.indexes) + 2
        self._db.execute(f"CREATE {'UNIQUE' if index.unique else ''} INDEX {p and 'temp.'}"
                         f"{quote(f'{table.path}|{index.name}')} ON {table.sqlite} "
                         f"({', '.join(self._term(table, name) for name in index.columns)}) {index.filter or ''}")  # fmt: skip
        if index.kind:
            self.add_object(table.schema, index.name, index.kind, table.id)
        self._db.execute(
            f'INSERT INTO "{p}sys.indexes" (object_id, name, index_id, type, type_desc, is_unique, is_primary_key, '
            "is_unique_constraint, has_filter, filter_definition) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [table.id, index.name, number, 1 if index.kind == "PK" else 2, "", index.unique, index.kind == "PK",
             index.kind == "UQ", index.filter is not None, index.filter],
        )  # fmt: skip
        names = [column.name.lower() for column in table.columns]
        rows = [
            (table.id, number, at, names.index(name.lower()) + 1, at)
            for at, name in enumerate(index.columns, 1)
        ]
        self._db.executemany(
            f'INSERT INTO "{p}sys.index_columns" (object_id, index_id, index_column_id, column_id, key_ordinal) '
            "VALUES (?, ?, ?, ?, ?)", rows,
        )  # fmt: skip

    def add_schema(self, name: str) -> None:
        """Make a schema."""
        self._db.execute('INSERT INTO "sys.schemas" (name) VALUES (?)', [name])

    def add_check(self, table: Table, name: str, condition: str) -> None:
        """Make a check of a table that exists; SQLite can only do it with triggers."""
        for verb in ("INSERT", "UPDATE"):
            title = quote(f"{table.path}|{name}|{verb}")
            text = f"CHECK constraint failed: {name}".replace("'", "''")
            self._db.execute(f"CREATE TRIGGER {title} AFTER {verb} ON {table.sqlite} WHEN NOT EXISTS (SELECT 1 FROM "
                             f"{table.sqlite} WHERE rowid = NEW.rowid AND ({condition}) IS NOT 0) "
                             f"BEGIN SELECT RAISE(ABORT, '{text}'); END")  # fmt: skip

    def _term(self, table: Table, name: str) -> str:
        """Return a column for an index: to SQL Server two NULLs are one value, to SQLite they are not."""
        column = table.column(name)
        assert column, name
        if not column.nullable:
            return quote(name)
        collate = re.search(r"COLLATE \w+", column.sqlite())
        return f"ifnull({quote(name)}, x'00') {collate[0] if collate else ''}"

    def drop(self, table: Table) -> None:
        """Drop a table."""
        p = "#" if table.id < 0 else ""
        for name in ("sys.columns", "sys.indexes", "sys.index_columns", "sys.objects"):
            self._db.execute(f'DELETE FROM "{p}{name}" WHERE object_id = ?', [table.id])
        self._db.execute(f'DELETE FROM "{p}sys.objects" WHERE parent_object_id = ?', [table.id])
        self._db.execute(f"DROP TABLE {table.sqlite}")

    def rename(self, table: Table, name: str) -> int:
        """Give a table another name; return 0."""
        self._db.execute(f"ALTER TABLE {table.sqlite} RENAME TO {stored(table.schema, name)}")
        self._db.execute('UPDATE "sys.objects" SET name = ? WHERE object_id = ?', [name, table.id])
        return 0


def foreign_key(db: sqlite3.Connection, table: Table, *, referenced: bool) -> str:
    """Return the name of a foreign key of a table, or of one that refers to it."""
    side = "other_object_id" if referenced else "parent_object_id"
    found = db.execute(
        f"SELECT name FROM \"sys.objects\" WHERE type = 'F' AND {side} = ?", [table.id]
    ).fetchone()
    return str(found[0])


def _type(name: str, size: int, precision: int, scale: int) -> Type:
    decimal = name == "decimal"
    return Type(name, size, precision if decimal else 0, scale if decimal or name in SCALED else 0)


def _system_type(name: str) -> Type:
    if name.startswith(("is_", "has_")):
        return Type("bit")
    if name.endswith("_id") or name == "type_id":
        return Type("int")
    if name in ("precision", "scale", "key_ordinal", "generated_always_type"):
        return Type("tinyint")
    if name == "max_length":
        return Type("smallint")
    return Type("nvarchar", -1) if "definition" in name else NAME
