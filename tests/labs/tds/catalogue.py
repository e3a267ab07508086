"""What the server knows of its tables: kept in SQLite beside them, and so part of every transaction."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from labs.tds.objects import NAME, Column, Index, Table, parts, quote
from labs.tds.types import FIXED, SCALED, SIZED, TEXTS, Type

# Temporary tables have a catalogue of their own, with # before its names, in the temporary database.
TABLES = """
CREATE {temp} TABLE "{p}sys.schemas" (name TEXT, schema_id INTEGER PRIMARY KEY, principal_id INT DEFAULT 1);
CREATE {temp} TABLE "{p}sys.objects" (name TEXT, object_id INTEGER PRIMARY KEY AUTOINCREMENT, schema_id INT,
    parent_object_id INT DEFAULT 0, type TEXT, type_desc TEXT, is_ms_shipped INT DEFAULT 0, definition TEXT,
    referenced_object_id INT, delete_referential_action INT DEFAULT 0, is_disabled INT DEFAULT 0);
CREATE {temp} TABLE "{p}sys.columns" (object_id INT, name TEXT, column_id INT, system_type_id INT,
    user_type_id INT, max_length INT, precision INT, scale INT, collation_name TEXT, is_nullable INT,
    is_identity INT, is_computed INT DEFAULT 0, generated_always_type INT DEFAULT 0,
    default_object_id INT DEFAULT 0, size INT, seed INT);
CREATE {temp} TABLE "{p}sys.indexes" (object_id INT, name TEXT, index_id INT, type INT, is_unique INT,
    is_primary_key INT, is_unique_constraint INT, has_filter INT, filter_definition TEXT,
    is_disabled INT DEFAULT 0, ignore_dup_key INT DEFAULT 0);
CREATE {temp} TABLE "{p}sys.index_columns" (object_id INT, index_id INT, index_column_id INT, column_id INT,
    key_ordinal INT, is_descending_key INT DEFAULT 0, is_included_column INT DEFAULT 0);
"""
VIEWS = """
CREATE TABLE "sys.types" (name TEXT, system_type_id INT, user_type_id INT, max_length INT);
INSERT INTO "sys.schemas" (name, schema_id) VALUES ('dbo', 1), ('guest', 2), ('sys', 4);
CREATE TABLE "sys.database_principals" (name TEXT COLLATE NOCASE UNIQUE,
    principal_id INTEGER PRIMARY KEY AUTOINCREMENT, login TEXT);
CREATE TABLE "sys.database_permissions" (class INT, major_id INT NOT NULL, grantee_principal_id INT,
    permission_name TEXT);
CREATE VIEW "sys.tables" AS SELECT * FROM "sys.objects" WHERE type = 'U';
CREATE VIEW "sys.check_constraints" AS SELECT * FROM "sys.objects" WHERE type = 'C';
CREATE VIEW "sys.default_constraints" AS SELECT * FROM "sys.objects" WHERE type = 'D';
CREATE VIEW "sys.key_constraints" AS SELECT * FROM "sys.objects" WHERE type IN ('PK', 'UQ');
CREATE VIEW "sys.foreign_keys" AS SELECT * FROM "sys.objects" WHERE type = 'F';
CREATE VIEW "sys.computed_columns" AS SELECT * FROM "sys.columns" WHERE is_computed = 1;
CREATE VIEW "sys.identity_columns" AS SELECT * FROM "sys.columns" WHERE is_identity = 1;
"""
DESCRIBED = {"U": "USER_TABLE", "PK": "PRIMARY_KEY_CONSTRAINT", "UQ": "UNIQUE_CONSTRAINT",
             "C": "CHECK_CONSTRAINT", "D": "DEFAULT_CONSTRAINT", "F": "FOREIGN_KEY_CONSTRAINT"}  # fmt: skip
FIRST_OBJECT = 901578250  # SQL Server's numbers are large, too
COLLATION = "SQL_Latin1_General_CP1_CI_AS"


def install(db: sqlite3.Connection) -> None:
    """Make the catalogue of a new database."""
    db.executescript(TABLES.format(p="", temp="") + VIEWS)
    db.execute('INSERT INTO "sys.objects" (object_id, type) VALUES (?, ?)', [FIRST_OBJECT, "-"])
    names = [*FIXED, *(name for name in SIZED if name not in ("ntext", "text", "image")), *SCALED]
    kinds = [Type(name, 1) for name in names] + [Type("decimal", 0, 38)]
    rows = [(kind.name, kind.id, kind.id, kind.max_length) for kind in kinds]
    rows += [("numeric", 108, 108, 17), ("sysname", 231, 256, 256), ("timestamp", 189, 189, 8)]
    db.executemany('INSERT INTO "sys.types" VALUES (?, ?, ?, ?)', rows)


class Catalogue:
    """The catalogue as one session sees it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cache: dict[tuple[str, str], Table | None] = {}
        self._version: tuple[int, ...] = ()
        db.executescript(TABLES.format(p="#", temp="TEMP"))
        db.execute(
            'CREATE TEMP TABLE "sys.dm_exec_sessions" (session_id INT, database_id INT, is_user_process BIT)'
        )
        db.execute("INSERT INTO \"#sys.objects\" (object_id, type) VALUES (-1000000, '-')")

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
        return self._cache[key]

    def find(self, path: str, kind: str | None = None) -> int | None:
        """Return what OBJECT_ID does."""
        *_, schema, name = ["", *parts(path)]
        p = "#" if name.startswith("#") else ""
        query = f"""SELECT object_id FROM "{p}sys.objects" o WHERE o.name = ? COLLATE NOCASE
            AND type = coalesce(?, type) AND schema_id = (SELECT schema_id FROM "sys.schemas" s
                WHERE s.name = ? COLLATE NOCASE)"""
        row = self._db.execute(query, [name, kind, "dbo" if p else schema or "dbo"]).fetchone()
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
        query = f"""SELECT c.name, y.name, c.size, c.precision, c.scale, c.is_nullable, c.is_identity, c.seed,
                c.collation_name, d.definition, d.name, c.is_computed
            FROM "{p}sys.columns" c JOIN "sys.types" y ON y.user_type_id = c.user_type_id
                LEFT JOIN "{p}sys.objects" d ON d.object_id = c.default_object_id
            WHERE c.object_id = ? ORDER BY c.column_id"""
        columns = tuple(
            Column(row[0], _type(*row[1:5]), bool(row[5]), bool(row[6]), *row[7:])
            for row in self._db.execute(query, [number])
        )
        return Table(number, schema, name, columns, self._indexes(p, number))

    def _system(self, name: str) -> Table | None:
        found = self._db.execute(f"PRAGMA table_info({quote('sys.' + name)})").fetchall()
        columns = tuple(Column(row[1], _system_type(row[1])) for row in found)
        return Table(-1, "sys", name, columns) if columns else None

    def _indexes(self, p: str, number: int) -> tuple[Index, ...]:
        query = f"""SELECT i.index_id, i.name, i.is_primary_key, i.is_unique_constraint, i.is_unique,
                i.filter_definition, c.name
            FROM "{p}sys.indexes" i JOIN "{p}sys.index_columns" k USING (object_id, index_id)
                JOIN "{p}sys.columns" c USING (object_id, column_id)
            WHERE object_id = ? ORDER BY i.index_id, k.key_ordinal"""
        found: dict[int, Index] = {}
        for at, name, primary, constraint, unique, condition, column in self._db.execute(query, [number]):
            kind = "PK" if primary else "UQ" if constraint else ""
            earlier = found[at].columns if at in found else ()
            found[at] = Index(name, (*earlier, column), kind, bool(unique), condition)
        return tuple(found.values())

    # --- changes ---

    def _enter(self, temporary: bool, view: str, **row: object) -> int:
        places = ", ".join("?" * len(row))
        done = self._db.execute(
            f'INSERT INTO "{"#" if temporary else ""}sys.{view}" ({", ".join(row)}) VALUES ({places})',
            [*row.values()],
        )
        return int(done.lastrowid or 0)

    def add_object(self, schema: str, name: str, kind: str, parent: int = 0, **more: object) -> int:
        """Enter an object; return its number."""
        temporary = name.startswith("#") or parent < 0
        query = 'SELECT schema_id FROM "sys.schemas" WHERE name = ? COLLATE NOCASE'
        (place,) = self._db.execute(query, [schema]).fetchone()
        if temporary:  # below zero, so that a number tells where its object is
            (lowest,) = self._db.execute('SELECT min(object_id) FROM "#sys.objects"').fetchone()
            more["object_id"] = lowest - 1
        return self._enter(
            temporary, "objects", name=name, schema_id=place, parent_object_id=parent, type=kind,
            type_desc=DESCRIBED[kind], **more,
        )  # fmt: skip

    def create(self, schema: str, name: str, columns: Sequence[Column], constraints: Sequence[str]) -> Table:
        """Make a table."""
        number = self.add_object(schema, name, "U")
        table = Table(number, schema, name, tuple(columns))
        for position, column in enumerate(columns, 1):
            self._add_column(table, column, position)
        inner = ", ".join([*(column.sqlite() for column in columns), *constraints])
        self._db.execute(f"CREATE {'TEMP' if number < 0 else ''} TABLE {table.sqlite} ({inner})")
        return table

    def _add_column(self, table: Table, column: Column, position: int) -> None:
        kind, default = column.type, 0
        if column.default is not None:
            number = table.id + position & 0xFFFFFFFF
            title = column.default_name or f"DF__{table.name[:9]}__{column.name[:5]}__{number:08X}"
            default = self.add_object(table.schema, title, "D", table.id, definition=f"({column.default})")
        self._enter(
            table.id < 0, "columns", object_id=table.id, name=column.name, column_id=position,
            system_type_id=kind.id, user_type_id=kind.id, max_length=kind.max_length, precision=kind.digits,
            scale=kind.scale, is_nullable=column.nullable, is_identity=column.identity, seed=column.seed,
            collation_name=column.collation or (COLLATION if kind.name in TEXTS else None), size=kind.size,
            is_computed=column.computed, default_object_id=default,
        )  # fmt: skip

    def add_index(self, table: Table, index: Index) -> None:
        """Make an index."""
        temporary, number = table.id < 0, 1 if index.kind == "PK" else len(table.indexes) + 2
        title = quote(f"{table.path}|{index.name}")
        terms = ", ".join(self._term(table, name) for name in index.columns)
        kind, place = "UNIQUE INDEX" if index.unique else "INDEX", "temp." if temporary else ""
        self._db.execute(f"CREATE {kind} {place}{title} ON {table.sqlite} ({terms}) {index.filter or ''}")
        if index.kind:
            self.add_object(table.schema, index.name, index.kind, table.id)
        self._enter(
            temporary, "indexes", object_id=table.id, name=index.name, index_id=number,
            type=1 if index.kind == "PK" else 2, is_unique=index.unique, is_primary_key=index.kind == "PK",
            is_unique_constraint=index.kind == "UQ", has_filter=index.filter is not None,
            filter_definition=index.filter,
        )  # fmt: skip
        names = [column.name.lower() for column in table.columns]
        for at, name in enumerate(index.columns, 1):
            self._enter(temporary, "index_columns", object_id=table.id, index_id=number, index_column_id=at,
                        column_id=names.index(name.lower()) + 1, key_ordinal=at)  # fmt: skip

    def add_schema(self, name: str) -> None:
        """Make a schema."""
        self._db.execute('INSERT INTO "sys.schemas" (name) VALUES (?)', [name])

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


def foreign_key(db: sqlite3.Connection, table: Table, *, referenced: bool) -> str:
    """Return the name of a foreign key of a table, or of one that refers to it."""
    side = "referenced_object_id" if referenced else "parent_object_id"
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
