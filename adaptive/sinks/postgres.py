"""Write rows into a PostgreSQL table with COPY, exactly once.

This file stands alone: it needs psycopg 3, and for `prepare` and Arrow tables pyarrow and pgpq. Copied
into another project it works as it is:

    with PostgresSink("postgresql://localhost/market", table="orders") as sink:
        sink.begin()
        sink.write([{"order_id": 1, "price": "9.99"}])
        sink.commit()

Each transaction of a load starts with its receipt in a ledger beside the target table, inserted only
while the load's splits still belong to this run: so a batch begun again is recognised, and a run that
was replaced cannot commit. Rows go by binary COPY where every value is known to arrive unchanged,
otherwise by text COPY, where the server itself reads or refuses each value.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import partial
from hashlib import sha256
from ipaddress import ip_address
from itertools import repeat
from operator import itemgetter
from typing import Any, Literal, LiteralString, NamedTuple, Self, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pgpq import ArrowToPostgresBinaryEncoder as BinaryEncoder
    from pgpq.encoders import StringEncoderBuilder
    from pgpq.schema import Jsonb as JsonbType

    TEXTS = pa.string(), pa.large_string(), pa.string_view()
    BYTES = pa.binary(), pa.large_binary(), pa.binary_view()
except ImportError:  # then there are only rows
    pa = None

Values: TypeAlias = Sequence[object] | Mapping[str, object]
Verdict: TypeAlias = Literal["retry", "overload", "in_doubt", "reject", "fatal", "taken_over"]

BINARY: LiteralString = "(FORMAT binary)"
# The rights that each mode needs on the table.
MODES = {"append": "INSERT", "ignore": "SELECT INSERT", "upsert": "SELECT INSERT UPDATE",
         "replace": "SELECT INSERT DELETE"}  # fmt: skip
# Keepalives end a half-open connection after about a minute; the kernel sends none while bytes wait for their
# acknowledgement, and then tries for 15 minutes without the last limit.
DEFAULTS = {"connect_timeout": "10", "application_name": "adaptive", "keepalives_idle": "30",
            "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "60000"}  # fmt: skip
# The same at the server's end, where the next attempt waits for the locks of a half-open one. A batch is idle
# inside its transaction only while dead letters are synced: milliseconds.
SESSION = """
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET tcp_keepalives_idle = 30;
    SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '60s';
    SET idle_in_transaction_session_timeout = '60s';
    SELECT set_config('synchronous_commit', replace(setting, 'off', 'on'), false)
    FROM pg_settings WHERE name = 'synchronous_commit'"""
# Without a ledger nobody waits for a transaction, and it may be idle for as long as its source is.
PATIENCE = "SET idle_in_transaction_session_timeout = 0"
VERDICTS: dict[str, Verdict] = {
    "08001": "retry", "08": "in_doubt", "25P03": "in_doubt", "25P04": "in_doubt", "40003": "in_doubt",
    "57P": "in_doubt", "40": "retry", "53": "overload", "55P03": "retry", "57014": "retry", "21": "reject",
    "22": "reject", "23": "reject", "44": "reject", "54000": "reject", "P0": "reject", "08P01": "fatal",
    "22P03": "fatal", "53100": "fatal",
}  # by SQLSTATE or its longest known prefix; everything else is fatal  # fmt: skip
# What the server says to bytes it cannot read. It may also be the data (54000: a value too long for an
# index): the same rows are then sent as text, and what fails there is the data.
UNREADABLE = {"XX000", "22P03", "54000", "08P01"}
# What COPY says where INSERT … ON CONFLICT might not: a key is there already, or row security is on.
COLLISION = (errors.UniqueViolation, errors.FeatureNotSupported)

# ---- statements: {words} stand for quoted names

LOCATE = """
    SELECT coalesce(n.nspname, %s, current_schema(), 'public'), coalesce(c.relname, %s), coalesce(c.oid, 0)
    FROM (SELECT to_regclass(%s) AS oid) t LEFT JOIN pg_class c ON c.oid = t.oid
        LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"""
CATALOGUE = """
    SELECT attname, CASE WHEN base.typtype = 'e' THEN 'enum'
            WHEN base.typnamespace = 'pg_catalog'::regnamespace THEN base.typname ELSE '' END,
        greatest(atttypmod, t.typtypmod), NOT (attnotnull OR t.typnotnull),
        atthasdef OR attidentity <> '' OR t.typdefault IS NOT NULL, attidentity = 'a',
        EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisprimary
            AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])),
        CASE WHEN base.typname IN ('varchar', 'bpchar') THEN nullif(greatest(atttypmod, t.typtypmod), -1) - 4
            WHEN base.typname = 'name' THEN 63 WHEN base.typname = 'char' THEN 1 END
    FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
        JOIN pg_type base ON base.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"""
UNIQUE = """
    SELECT 1 FROM pg_index i WHERE indrelid = %s AND indisunique AND indimmediate AND indpred IS NULL
        AND indexprs IS NULL AND %s = (
            SELECT array_agg(attname::text ORDER BY attname::text COLLATE "C") FROM pg_attribute
            WHERE attrelid = indrelid AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1]))"""
# The rights out of three arrays that this user lacks, as statements; on a missing table nothing is lacking.
GRANTS = """
    SELECT DISTINCT format('GRANT %%s ON %%s %%s TO %%I', wanted, kind, name, current_user)
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS rights (kind, name, wanted)
    WHERE NOT CASE kind WHEN 'SCHEMA' THEN has_schema_privilege(to_regnamespace(name), wanted)
        WHEN 'DATABASE' THEN has_database_privilege(current_database(), wanted)
        ELSE has_table_privilege(to_regclass(name), wanted)
            OR wanted <> 'DELETE' AND has_any_column_privilege(to_regclass(name), wanted) END"""
LEDGER = """
    CREATE TABLE IF NOT EXISTS {loads} (
        load text PRIMARY KEY, fingerprint text, source text, mapping text, target text, mode text,
        state text, rows bigint, rejected bigint, started_at timestamptz, finished_at timestamptz);
    CREATE TABLE IF NOT EXISTS {splits} (load text, split int, owner text, PRIMARY KEY (load, split));
    CREATE TABLE IF NOT EXISTS {ledger} (
        load text, batch text, segments jsonb NOT NULL, rows bigint, rejected jsonb NOT NULL,
        committed_at timestamptz, PRIMARY KEY (load, batch));"""
LEDGER_TABLES = ("ledger", "splits", "loads")
# The order of bytes is the fastest, and the same for all writers, which therefore cannot deadlock. As JSON,
# 250,000 keys reach the server in 0.3 s, as an array of text in 0.8 s.
KEYS = """
    CREATE TABLE IF NOT EXISTS {keys} (
        target text, key text COLLATE "C", claimed_at timestamptz, PRIMARY KEY (target, key));"""
CLAIM = """
    INSERT INTO {keys} SELECT %s, key, now() FROM json_array_elements_text(%s) AS key ORDER BY key COLLATE "C"
    ON CONFLICT DO NOTHING RETURNING key"""
# One statement, so that nothing comes between the check and the receipt. In READ COMMITTED, FOR SHARE
# waits for a takeover under way and then checks the owner again in the row as that left it; ON CONFLICT
# waits for an earlier attempt at the same batch.
RECEIPT = """
    WITH owned AS (
        SELECT FROM {splits} WHERE load = %(load)s AND split = ANY (%(splits)s::int[]) AND owner = %(owner)s
        ORDER BY split FOR SHARE
    ), replaced AS (DELETE FROM {ledger} WHERE load = %(load)s AND batch = %(replaces)s
    ), receipt AS (
        INSERT INTO {ledger} SELECT %(load)s, %(batch)s, %(segments)s, %(rows)s, '[]', now()
        WHERE (SELECT count(*) FROM owned) = cardinality(%(splits)s::int[])
        ON CONFLICT DO NOTHING RETURNING 1
    ) SELECT (SELECT count(*) FROM owned) = cardinality(%(splits)s::int[]),
        EXISTS (SELECT FROM receipt)"""
TAKEOVER = """
    INSERT INTO {splits} SELECT %s, split, %s FROM unnest(%s::int[]) split ORDER BY split
    ON CONFLICT (load, split) DO UPDATE SET owner = excluded.owner"""
# The sessions of a run carry its owner at the end of their name; see `begin`.
NAME_SESSION = """SELECT set_config('application_name',
    left(current_setting('application_name'), 30) || ' ' || %s, false)"""
END_STALLED = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity JOIN {splits}
        ON right(application_name, length(owner) + 1) = ' ' || owner
    WHERE load = %s AND datname = current_database() AND xact_start IS NOT NULL"""
STALLED = "60s"  # a takeover waits for a transaction; one of a batch takes seconds
CORRECTION = "UPDATE {ledger} SET rejected = %s, rows = coalesce(%s, rows) WHERE load = %s AND batch = %s"
LOADS = """
    SELECT load, fingerprint, source, mapping, target, mode, state,
        coalesce(rows, (SELECT sum(rows) FROM {ledger} r WHERE r.load = l.load), 0)::bigint AS rows,
        coalesce(rejected, (SELECT sum(jsonb_array_length(rejected)) FROM {ledger} r
            WHERE r.load = l.load), 0)::bigint AS rejected, started_at, finished_at
    FROM {loads} l"""
DONE = """
    UPDATE {loads} SET state = 'done', finished_at = now(), (rows, rejected) = (
        SELECT coalesce(sum(rows), 0), coalesce(sum(jsonb_array_length(rejected)), 0)
        FROM {ledger} WHERE load = %(load)s) WHERE load = %(load)s"""
# What LIKE leaves out of the staging table of `replace`, so that it refuses what the target will refuse: the
# target's own number sequences (with others it would use numbers again) and foreign keys.
STAGING_EXTRAS = """
    SELECT format('ALTER TABLE %%s ALTER %%I SET DEFAULT nextval(%%L)', %(staging)s::text, attname,
        pg_get_serial_sequence(%(table)s, attname))
    FROM pg_attribute WHERE attrelid = %(oid)s AND attidentity <> ''
    UNION ALL SELECT format('ALTER TABLE %%s ADD %%s', %(staging)s::text, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid = %(oid)s AND contype = 'f' AND confrelid <> conrelid
        AND has_table_privilege(confrelid, 'REFERENCES')"""
# DELETE and INSERT keep grants, views, foreign keys and triggers, which renaming loses, and let readers
# see the old rows until the commit, where TRUNCATE would make them wait.
SWAP = """
    LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM {target};
    INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {staging};
    DROP TABLE {staging}"""
# The staging table of a merge has no constraints: triggers may mend rows. A heap does not keep the order of
# COPY, hence the ordinal.
MERGE_STAGING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS
    AS SELECT {columns} FROM {target} WITH NO DATA;
    ALTER TABLE {staging} ADD COLUMN IF NOT EXISTS _adaptive_ordinal bigserial"""
# In the order of the key, so that writers cannot deadlock. Of rows with one key the last (upsert) or first
# (ignore) counts; a NULL is never the same key. Asking for NULLs only where they may be saves 10 to 20 %, and
# then taking out repeated keys costs next to nothing.
MERGE = """
    INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT DISTINCT ON ({same}) {columns} FROM {staging} ORDER BY {same}, _adaptive_ordinal {direction}
    ON CONFLICT ({key}) DO {action}"""
SAME_OR_NULL = "{key}, CASE WHEN ROW({key}) IS NOT NULL THEN 0 ELSE _adaptive_ordinal END"

# Rows whose unique key the target or an earlier staged row has are told apart in one go: 1 % of them made a
# load of 100,000 rows take 2.5 times as long this way, 10 times when each failed a COPY. NULLs differ.
SIFT = """
    WITH judged AS (
        SELECT s.*, ROW({key}) IS NOT NULL AND (
            row_number() OVER (PARTITION BY {key} ORDER BY _adaptive_ordinal) > 1
            OR EXISTS (SELECT FROM {destination} t WHERE ({theirs}) = ({ours}))) AS taken
        FROM {staging} s
    ), written AS (
        INSERT INTO {destination} ({columns}) OVERRIDING SYSTEM VALUE
        SELECT {columns} FROM judged WHERE NOT taken ORDER BY _adaptive_ordinal
    ) SELECT _adaptive_ordinal - (SELECT min(_adaptive_ordinal) FROM judged) FROM judged
    WHERE taken ORDER BY 1"""
INDEX_KEY = """
    SELECT array_agg(attname::text) FROM pg_index JOIN pg_attribute ON attrelid = indrelid
        AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])
    WHERE indexrelid = to_regclass(%s) AND indpred IS NULL AND indexprs IS NULL"""


class OwnershipLostError(Exception):
    """Another run has taken the load's splits over; nothing of this run can be committed."""


class ConnectError(psycopg.OperationalError):
    """Connecting failed, and so nothing was applied.

    It may always pass: libpq keeps the SQLSTATE of a failed connection to itself, and its text is in
    the server's language (lc_messages can only be set by a superuser, and after authentication).
    """

    sqlstate = "08001"


class ValueRefusedError(psycopg.DataError):
    """A Python value that its column cannot take; `index` is its row."""

    sqlstate = "22000"

    def __init__(self, index: int, reason: object) -> None:
        super().__init__(str(reason))
        self.index = index


class UnknownColumnError(LookupError):
    """A row or a table brings a column that cannot be written to."""

    def __init__(self, table: str, column: str) -> None:
        super().__init__(f"there is no column {column!r} to write to in {table}")
        self.column = column


class KeyMissingError(LookupError):
    """The key that decides between rows is in none of them."""


class Form(NamedTuple):
    """A form in which COPY can take the rows of a write."""

    feed: Callable[[psycopg.Copy], None]
    options: LiteralString = ""


class PostgresSink:
    """Write one PostgreSQL table. One instance per thread.

    Order of calls: `open`, then transactions `begin`, `write`…, `commit` or `rollback`, then `close`.
    `table` may be `schema.table`; in `"a.b"`, quoted, the dot belongs to the name. Without a table there
    is only `loads`, of every table of the database, and `doctor`. `key` names the columns that decide
    what `ignore` and `upsert` take for the same row (default: the primary key). The ledger's tables are
    `<ledger>_loads`, `_splits`, `_ledger` and, for idempotency keys, `_keys`, beside the target unless a
    schema is named; with None there are none, and no mode `replace`.

    Raises ValueError if an argument cannot be right.
    """

    capabilities: frozenset[Any] = frozenset(
        [*MODES, "transactional", "create", "keys", "tables", *(["arrow"] if pa else [])]
    )
    max_rows: int | None = None
    max_bytes: int | None = None
    max_writers: int | None = None

    def __init__(
        self,
        url: str,
        *,
        table: str | None = None,
        mode: str = "append",
        key: str | Sequence[str] = (),
        ledger: str | None = "_adaptive",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")
        if mode == "replace" and ledger is None:
            raise ValueError("mode replace needs a ledger")
        self._url, self._path, self._mode = url, _parse_table(table), mode
        self._session = Session(_parse_url(url), SESSION if ledger else f"{SESSION}; {PATIENCE}")
        self._key = (key,) if isinstance(key, str) else tuple(key)
        self._ledger = _parse_table(ledger)
        self._tables: tuple[str, ...] = LEDGER_TABLES  # of the ledger, that this load needs
        self._merges = mode in ("ignore", "upsert")
        self._known: Table | None = None
        self._copied = ""  # the table that COPY wrote to, as the server's errors name it
        self._collided = False  # a key was there already: from now on COPY and merge
        self._as_text: set[tuple[str, ...]] = set()  # columns that binary COPY failed for
        self.duplicates = 0

    @property
    def doomed(self) -> bool:
        """Return whether the transaction can only be rolled back."""
        return self._session.doomed

    def beside(self, table: str, *, mode: str = "append", key: str | Sequence[str] = ()) -> PostgresSink:
        """Return a sink for another table that writes within this one's transactions, without a ledger.

        Raises ValueError if an argument cannot be right, mode `replace` included.
        """
        sink = PostgresSink(self._url, table=table, mode=mode, key=key, ledger=None)
        sink._session = self._session
        return sink

    # ---- connection

    def open(self) -> None:
        """Connect. Raises ConnectError."""
        self._session.open()

    def close(self) -> None:
        """Disconnect, rolling back what is open. Repeating it is fine; raises nothing."""
        self._session.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- loads

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ready for a load, under an advisory lock, and return the table's columns.

        Raises LookupError if the table or a unique index for `key` is missing, PermissionError if
        a right is missing, ValueError if `schema` or the mode does not fit the table.
        """
        self._tables = (*LEDGER_TABLES, "keys") if load.get("keys") else LEDGER_TABLES
        try:
            table = self._locate()
            if not table.oid and schema is None:
                raise LookupError(f"table {table} does not exist; create it first (or load with --create)")
            if missing := self._missing_rights(table):
                raise PermissionError(f"rights are missing on {table}; run: {'; '.join(missing)}")
            if self._ledger:
                self._make_ledger(table)
            with self._connection.transaction():
                self._lock(str(table))
                if not self._locate().oid and schema is not None:
                    self._create(schema)
                if self._ledger:
                    self._start(load)
        except errors.InsufficientPrivilege as error:
            raise PermissionError(str(error)) from error
        return self.columns()

    def columns(self) -> Sequence[tuple[Any, ...]]:
        """Return the table's columns, and change nothing. Raises LookupError if it is missing."""
        key = self._table.key
        return [
            (c.name, c.arrow() or pa.string(), c.nullable, c.filled, c.name in key, c.max_length)
            for c in self._table.columns
        ]

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of this table, or of all without one, oldest first; [] without a ledger."""
        table = self._locate() if self._path else None
        if not self._ledger or (table and not table.oid):
            return []
        *qualified, prefix = self._ledger
        home = qualified or ([table.schema] if table else [])
        readable = """SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relname = %s AND nspname = coalesce(%s, nspname) AND relkind = 'r'
                AND has_table_privilege(c.oid, 'SELECT')"""
        found: list[dict[str, Any]] = []
        for (schema,) in self._run(readable, [f"{prefix}_loads", next(iter(home), None)]).fetchall():
            query = sql.SQL(LOADS).format(**self._names(Table(schema, "")))
            found += self._connection.cursor(row_factory=dict_row).execute(query)
        chosen = (row for row in found if table is None or row["target"] == str(table))
        return sorted(chosen, key=lambda row: (row["started_at"], row["load"]))

    def empty(self) -> bool:
        """Return whether the table is seen to have no rows; a missing one has none."""
        if not self._locate().oid:
            return True
        with suppress(errors.InsufficientPrivilege):
            return self._run("SELECT 1 FROM {target} LIMIT 1").fetchone() is None
        return False

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed of a load: segments, rows, rejected positions; [] without a ledger."""
        if not self._ledger or not self._has_ledger(self._locate()):
            return []
        return self._run("SELECT segments, rows, rejected FROM {ledger} WHERE load = %s", [load]).fetchall()

    def finish(self, load: Mapping[str, Any]) -> None:
        """Swap `replace` in, compact the receipts and mark the load done. Raises OwnershipLostError."""
        name = load["load"]
        if not self._ledger:
            return
        with self._connection.transaction():
            state = self._run("SELECT state FROM {loads} WHERE load = %s FOR UPDATE", [name]).fetchone()
            if state == ("done",):
                return
            owned = "SELECT split FROM {splits} WHERE load = %s AND owner = %s ORDER BY split FOR UPDATE"
            if not {split for (split,) in self._run(owned, [name, load["owner"]])}.issuperset(load["splits"]):
                raise OwnershipLostError(f"load {name} was taken over by another run")
            if self._mode == "replace":
                columns = _list(column.name for column in self._table.columns)
                self._run(SWAP, staging=self._table.beside(self._table.staging(name)), columns=columns)
            self._run(DONE, {"load": name})
            self._run("DELETE FROM {ledger} WHERE load = %s AND rejected = '[]'", [name])
            # Without its splits a late batch of this very run finds no owner, and so is refused as well.
            self._run("DELETE FROM {splits} WHERE load = %s", [name])

    def doctor(self) -> list[str]:
        """Return what is found out about server, table and rights, in words; changes nothing."""
        info = self._connection.info
        server = f"PostgreSQL {info.parameter_status('server_version')}"
        found = [f"{server}, database {info.dbname}, user {info.user}"]
        found += self._session.exposure()
        if self._path:
            table = self._locate()
            found.append(f"table {table} {'exists' if table.oid else 'does not exist'}")
            found += [f"a right is missing: {grant}" for grant in self._missing_rights(table)]
            if self._ledger and not self._has_ledger(table):
                ddl = sql.SQL(LEDGER).format(**self._names(table)).as_string()
                found.append(f"the ledger will be created by the first load, or beforehand: {ddl}")
        return found

    # ---- transactions

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Open a transaction whose first statement is the receipt; False if it is already committed.

        Raises OwnershipLostError if another run has the splits now, ValueError for replace without a load.
        """
        if self._mode == "replace" and receipt is None:
            raise ValueError("mode replace needs a load: prepare it, begin with receipts, finish it")
        table, session, answer = self._table, self._session, None
        try:
            with self._connection.pipeline():  # one round trip
                self._run("BEGIN ISOLATION LEVEL READ COMMITTED")
                if session.immediate:
                    self._run("SET CONSTRAINTS ALL IMMEDIATE")
                if receipt:
                    answer = self._enter(receipt)
                self._run("SAVEPOINT adaptive")
            owned, inserted = (answer and answer.fetchone()) or (True, True)
        except BaseException:
            self.rollback()
            raise
        session.dirty, session.staged = False, set()
        session.receipt = (receipt["load"], receipt["batch"]) if receipt else None
        if not (owned and inserted):
            self.rollback()
        if not owned:
            raise OwnershipLostError(f"the load into {table} was taken over by another run")
        return bool(inserted)

    def _enter(self, receipt: Mapping[str, Any]) -> psycopg.Cursor[Any]:
        """Enter a receipt; the answer says whether the splits are owned, and whether it is new."""
        if self._session.owner != receipt["owner"]:
            self._run(NAME_SESSION, [receipt["owner"]])
            self._session.owner = receipt["owner"]
        segments = [list(segment) for segment in receipt["segments"]]
        splits = sorted({split for split, _, _ in segments})
        return self._run(RECEIPT, {**receipt, "segments": Jsonb(segments), "splits": splits})

    def write(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, str]]:
        """Write mappings of column to value; a key that a row lacks is NULL.

        Returns the rows whose unique key was taken, if the others could be written; else all or
        nothing. Raises the driver's error, or ValueRefusedError, also for a column that the table lacks,
        for a row without columns, and for one without the key that its mode needs.
        """
        self.duplicates = 0
        if not rows:
            return []
        names, values = _tuples(rows)
        try:
            columns = self._columns(names)
        except UnknownColumnError as error:
            index = next(index for index, row in enumerate(rows) if error.column in row)
            raise ValueRefusedError(index, error) from None
        except KeyMissingError as error:
            raise ValueRefusedError(0, error) from None
        if any(column.type in ("json", "jsonb") for column in columns):
            values = [tuple(map(_wrap_json, columns, row)) for row in values]
        forms = [Form(partial(_feed_text, columns=columns, rows=values))]
        if _fits(columns, values):
            forms.insert(0, Form(partial(_feed_binary, columns=columns, rows=values), BINARY))
        return self._write(names, len(rows), forms)

    def write_arrow(self, rows: pa.Table) -> list[tuple[int, str, str]]:
        """Write a table, in binary if its types are those of `prepare`, else as text. As `write`.

        Raises the driver's error, ValueRefusedError or LookupError (no such column).
        """
        self.duplicates = 0
        if not rows.num_rows:
            return []
        names = tuple(rows.schema.names)
        columns = self._columns(names)
        forms = [Form(partial(_feed_lines, columns=columns, rows=rows))]
        if _is_typed(columns, rows.schema):
            forms.insert(0, Form(partial(_feed_arrow, columns=columns, rows=rows), BINARY))
        return self._write(names, rows.num_rows, forms)

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Enter idempotency keys of the table; return those that were not there. Waits for other claims."""
        self._session.dirty = True  # so the next write sets a savepoint, and its failure takes no claim back
        return {key for (key,) in self._run(CLAIM, [str(self._table), Json(list(keys))])}

    def release(self, keys: Sequence[str]) -> None:
        """Take back keys that this transaction has claimed."""
        self._session.dirty = True
        self._run("DELETE FROM {keys} WHERE target = %s AND key = ANY (%s)", [str(self._table), list(keys)])

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable; `rejected` and `rows` correct the receipt.

        Deferred constraints are checked first. If one fails, the transaction is doomed, and in the
        following ones each write checks them at once, so that the rows can be told apart.
        """
        session = self._session
        try:
            with self._connection.pipeline():
                self._run("SET CONSTRAINTS ALL IMMEDIATE")
                if session.receipt and (rejected or rows is not None):
                    positions = Jsonb([list(position) for position in rejected])
                    self._run(CORRECTION, [positions, rows, *session.receipt])
                self._run("COMMIT")
        except BaseException as error:
            session.doomed, session.immediate = True, self.classify(error) == "reject"
            raise

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing."""
        self._session.rollback()

    # ---- errors

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that failed, where COPY's line in the error's context names it."""
        if isinstance(error, ValueRefusedError):
            return error.index
        context = error.diag.context if isinstance(error, psycopg.Error) else None
        line = re.search(rf"^COPY {re.escape(self._copied)}, \D+(\d+)", context or "", re.MULTILINE)
        return int(line[1]) - 1 if line else None

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means: retry, in_doubt, reject, fatal or taken_over. By SQLSTATE."""
        if isinstance(error, OwnershipLostError):
            return "taken_over"
        if isinstance(error, psycopg.Error) and (state := error.sqlstate):
            return next((VERDICTS[state[:n]] for n in (5, 3, 2) if state[:n] in VERDICTS), "fatal")
        return "in_doubt" if isinstance(error, psycopg.OperationalError) else "fatal"

    # ---- catalogue

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        return self._session.connection

    @property
    def _table(self) -> Table:
        table = self._known if self._known and self._known.oid else self._locate()
        if not table.oid:
            raise LookupError(f"table {table} does not exist")
        return table

    @property
    def _destination(self) -> tuple[str, str]:
        """Return where the rows go: schema and table."""
        load, _ = self._session.receipt or ("", "")
        name = self._table.staging(load) if self._mode == "replace" else self._table.name
        return self._table.schema, name

    def _locate(self) -> Table:
        """Look the target up, search_path included, with its columns."""
        if not self._path:
            raise ValueError("say the table")
        schema = self._path[0] if len(self._path) == 2 else None
        quoted = sql.Identifier(*self._path).as_string()
        found = Table(*self._run(LOCATE, [schema, self._path[-1], quoted]).fetchone())  # type: ignore[misc]
        if found.oid:
            columns = tuple(map(Column._make, self._run(CATALOGUE, [found.oid])))
            key = self._key or tuple(column.name for column in columns if column.key)
            if self._merges and not self._run(UNIQUE, [found.oid, sorted(key)]).fetchone():
                wanted = f"({', '.join(key) or 'a key'}) of {found}"
                raise LookupError(f"mode {self._mode} needs a unique index on {wanted}")
            found = found._replace(columns=columns, key=key)
        self._known = found
        return found

    def _columns(self, names: Sequence[str]) -> list[Column]:
        """Return the columns to write to.

        Raises RuntimeError outside a transaction, LookupError if one does not exist or the key is missing.
        """
        if self._session.idle:
            raise RuntimeError("begin a transaction before writing")
        known = {column.name: column for column in self._table.columns}
        if unknown := [name for name in names if name not in known]:
            raise UnknownColumnError(f"{self._table}, which has {', '.join(known)}", unknown[0])
        if self._merges and (missing := sorted({*self._table.key}.difference(names))):
            wanted = f"mode {self._mode} needs the key in every row"
            raise KeyMissingError(f"{wanted}; missing: {', '.join(missing)}")
        return [known[name] for name in names]

    def _run(self, query: LiteralString, values: Values = (), **names: sql.Composable) -> psycopg.Cursor[Any]:
        """Execute a statement; {target} and the ledger's words stand for the quoted identifiers."""
        if "{" in query:
            names |= self._names(self._known or self._locate())
        if values:  # then psycopg looks for placeholders, also in names
            names = {word: sql.SQL(name.as_string().replace("%", "%%")) for word, name in names.items()}
        cursor: psycopg.Cursor[Any] = self._connection.execute(sql.SQL(query).format(**names), values or None)
        return cursor

    # ---- ledger

    def _names(self, table: Table) -> dict[str, sql.Identifier]:
        """Return what the words in our statements stand for: the table, and the ledger's tables."""
        found = {"target": table.beside(table.name)}
        if self._ledger:
            schema, prefix = self._ledger_place(table)
            words = (*LEDGER_TABLES, "keys")
            found |= {word: sql.Identifier(schema, f"{prefix}_{word}") for word in words}
        return found

    def _ledger_place(self, table: Table) -> Sequence[str]:
        """Return the schema of the ledger and the beginning of its tables' names."""
        return (table.schema, *self._ledger)[-2:]

    def _has_ledger(self, table: Table) -> bool:
        schema, prefix = self._ledger_place(table)
        query = """SELECT count(*) = %s FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = %s AND relname = ANY (%s)"""
        names = [f"{prefix}_{word}" for word in self._tables]
        return self._run(query, [len(names), schema, names]).fetchone() == (True,)

    def _make_ledger(self, table: Table) -> None:
        with self._connection.transaction():
            self._lock(f"{self._names(table)['loads'].as_string()} ledger")
            if not self._has_ledger(table):
                self._run(LEDGER)
                if "keys" in self._tables:
                    self._run(KEYS)

    def _lock(self, name: str) -> None:
        self._run("SELECT pg_advisory_xact_lock(hashtextextended('adaptive ' || %s, 0))", [name])

    def _missing_rights(self, table: Table) -> list[str]:
        """Return the GRANT statements that this user lacks for a load."""
        home = sql.Identifier((table.schema, *self._ledger[:-1])[-1]).as_string()
        if hidden := self._missing([("SCHEMA", home, "USAGE")]):
            return hidden  # without it nothing can be asked about the tables there
        names = {word: name.as_string() for word, name in self._names(table).items()}
        ledger = [names[word] for word in self._tables if word in names]
        wanted = [("TABLE", names["target"], right) for right in MODES[self._mode].split()]
        for name in ledger:
            wanted += [("TABLE", name, right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")]
        if not table.oid or self._mode == "replace":
            wanted.append(("SCHEMA", sql.Identifier(table.schema).as_string(), "CREATE"))
        if ledger and not self._has_ledger(table):
            wanted.append(("SCHEMA", home, "CREATE"))
        if self._merges:
            wanted.append(("DATABASE", sql.Identifier(self._connection.info.dbname).as_string(), "TEMPORARY"))
        return self._missing(wanted)

    def _missing(self, rights: Sequence[tuple[str, str, str]]) -> list[str]:
        return [grant for (grant,) in self._run(GRANTS, list(map(list, zip(*rights, strict=True))))]

    def _create(self, schema: pa.Schema) -> None:
        """Create the missing target, and forget what the ledger knows of an earlier one."""
        parts = [sql.SQL("{} {}").format(sql.Identifier(f.name), sql.SQL(_ddl_type(f))) for f in schema]
        if self._key:
            parts.append(sql.SQL("PRIMARY KEY ({})").format(_list(self._key)))
        self._run("CREATE TABLE {target} ({parts})", parts=sql.SQL(", ").join(parts))
        table = self._locate()
        forget: LiteralString = (
            "DELETE FROM {rows} WHERE load IN (SELECT load FROM {loads} WHERE target = %s)"
        )
        for word in LEDGER_TABLES if self._ledger else ():  # the loads come last: they tell which
            self._run(forget, [str(table)], rows=self._names(table)[word])
        keys = self._names(table)["keys"].as_string() if self._ledger else None
        if self._run("SELECT to_regclass(%s)", [keys]).fetchone() != (None,):
            self._run("DELETE FROM {keys} WHERE target = %s", [str(table)])

    def _start(self, load: Mapping[str, Any]) -> None:
        """Register the load and take its splits over; wait for transactions of the earlier owner."""
        name = load["load"]
        if self._run("SELECT state FROM {loads} WHERE load = %s", [name]).fetchone() == ("done",):
            return
        self._take_over([name, load["owner"], list(load["splits"])])
        if self._mode == "replace":
            self._stage(name)
        self._run(
            """INSERT INTO {loads} (load, fingerprint, source, mapping, target, mode, state, started_at)
            VALUES (%(load)s, %(fingerprint)s, %(source)s, %(mapping)s, %(target)s, %(mode)s, 'running',
                now()) ON CONFLICT (load) DO NOTHING""",
            {**load, "target": str(self._table), "mode": self._mode},
        )

    def _take_over(self, owned: Sequence[object]) -> None:
        """Write the owner into the splits once no transaction of the earlier owner holds them.

        One that takes too long is ended: its client has stalled, perhaps in the middle of a COPY, where no
        limit of its session ends it.
        """
        try:
            with self._connection.transaction():
                self._run("SELECT set_config('lock_timeout', %s, true)", [STALLED])
                self._run(TAKEOVER, owned)
        except errors.LockNotAvailable:
            self._run(END_STALLED, owned[:1])
            self._run(TAKEOVER, owned)
        self._run("SET LOCAL lock_timeout = DEFAULT")

    def _stage(self, load: str) -> None:
        """Make the staging table of a load, or keep that of a resumed one; drop those of ended loads.

        Raises ValueError if swapping it in would change other tables.
        """
        table = self._table
        cascades = """SELECT DISTINCT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'
            AND confrelid = %s AND conrelid <> confrelid AND confdeltype IN ('c', 'n', 'd')"""
        if others := ", ".join(name for (name,) in self._run(cascades, [table.oid])):
            raise ValueError(f"replacing {table} would change {others} through ON DELETE; use another mode")
        running = self._run("SELECT load FROM {loads} WHERE target = %s AND state = 'running'", [str(table)])
        kept = {table.staging(name) for (name,) in running}
        staged = """SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'
            AND starts_with(relname, %s) AND pg_has_role(relowner, 'USAGE')"""
        values = [sql.Identifier(table.schema).as_string(), table.staging("")]
        present = {name for (name,) in self._run(staged, values)}
        for name in present - kept:
            self._run("DROP TABLE {stray}", stray=table.beside(name))
        if table.staging(load) in present & kept:
            return
        self._run("DELETE FROM {ledger} WHERE load = %s", [load])  # rows that went with their staging table
        staging = table.beside(table.staging(load))
        self._run("CREATE TABLE {staging} (LIKE {target} INCLUDING ALL EXCLUDING IDENTITY)", staging=staging)
        about = {"staging": staging.as_string(), "table": str(table), "oid": table.oid}
        for (statement,) in self._run(STAGING_EXTRAS, about).fetchall():
            self._connection.execute(statement.encode())

    # ---- writing

    def _write(self, names: tuple[str, ...], rows: int, forms: Sequence[Form]) -> list[tuple[int, str, str]]:
        """Write in the first form, and again as long as a failure teaches a better way."""
        form, *others = forms[-1:] if names in self._as_text else forms
        try:
            self._put(names, rows, form)
        except BaseException as error:
            self._session.undo_write()
            if others and _is_unreadable(error):
                self._as_text.add(names)
            elif self._merges and not self._collided and isinstance(error, COLLISION):
                self._collided = True
            elif self._merges or rows == 1 or not isinstance(error, errors.UniqueViolation):
                raise
            elif (refused := self._sift(names, form, error)) is not None:
                return refused
            else:
                raise
            return self._write(names, rows, forms)
        return []

    def _put(self, names: tuple[str, ...], rows: int, form: Form) -> None:
        """Copy the rows into the target; once a key was there already, into a staging table, and merge.

        The first costs what an append costs, the second 2 (new keys) to 3 times that (all there already).
        """
        self._session.begin_write()
        if not self._collided:
            self._copy(self._destination, names, form)
            return
        merged = self._merge(self._stage_rows(names, form), names)
        self.duplicates = rows - merged if self._mode == "ignore" else 0

    def _stage_rows(self, names: tuple[str, ...], form: Form) -> sql.Identifier:
        name = f"_adaptive_merge_{_digest(f'{self._table} {names}')}"
        staging = sql.Identifier("pg_temp", name)
        self._run(MERGE_STAGING, staging=staging, columns=_list(names))
        if name in self._session.staged:
            self._run("TRUNCATE {staging}", staging=staging)
        self._session.staged.add(name)
        self._copy(("pg_temp", name), names, form)
        return staging

    def _sift(
        self, names: tuple[str, ...], form: Form, error: errors.UniqueViolation
    ) -> list[tuple[int, str, str]] | None:
        """Write the rows that keep the unique index an error names, and return the others.

        None, with nothing written, if its key is not among the columns or something else is wrong, too.
        """
        index = sql.Identifier(str(error.diag.schema_name), str(error.diag.constraint_name)).as_string()
        key: list[str] = (self._run(INDEX_KEY, [index]).fetchone() or ([],))[0] or []
        if not key or not set(key) <= set(names):
            return None
        try:
            self._session.begin_write()
            judged = self._run(
                SIFT, staging=self._stage_rows(names, form), columns=_list(names), key=_list(key),
                destination=sql.Identifier(*self._destination),
                ours=sql.SQL(", ").join([sql.Identifier("s", name) for name in key]),
                theirs=sql.SQL(", ").join([sql.Identifier("t", name) for name in key]),
            )  # fmt: skip
        except psycopg.Error:
            self._session.undo_write()
            self._copied = self._destination[-1]  # the first error is raised, and `hint` reads it
            return None
        return [(row, str(error.sqlstate), str(error.diag.message_primary)) for (row,) in judged]

    def _copy(self, table: tuple[str, ...], names: tuple[str, ...], form: Form) -> None:
        self._copied = table[-1]
        parts = sql.Identifier(*table), _list(names), sql.SQL(form.options)
        with self._connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN {}").format(*parts)) as copy:
            form.feed(copy)

    def _merge(self, staging: sql.Identifier, names: tuple[str, ...]) -> int:
        """Move the staged rows over; return how many were inserted or updated."""
        table, upsert, key = self._table, self._mode == "upsert", _list(self._table.key)
        nullable = any(column.nullable for column in table.columns if column.name in table.key)
        fixed = {*table.key, *(column.name for column in table.columns if column.generated)}
        changed = [sql.SQL("{0} = excluded.{0}").format(_list([name])) for name in names if name not in fixed]
        update = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(changed))
        return self._run(
            MERGE, staging=staging, columns=_list(names), key=key,
            same=sql.SQL(SAME_OR_NULL).format(key=key) if nullable else key,
            direction=sql.SQL("DESC" if upsert else "ASC"),
            action=update if upsert and changed else sql.SQL("NOTHING"),
        ).rowcount  # fmt: skip


def _parse_url(url: str) -> dict[str, Any]:
    """Return psycopg's connection parameters, ours where the URL says nothing.

    Raises ValueError, in whose text no part of the URL appears: it might be of the password.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("a PostgreSQL URL starts with postgresql://")
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        given = {}
    if not given or urlsplit(url).netloc.count("@") > 1:
        raise ValueError("not a valid PostgreSQL URL; %-encode special characters, @ in a password is %40")
    return {**DEFAULTS, **given, "client_encoding": "UTF8"}


def _exposure(host: str, *, encrypted: bool, sslmode: str) -> list[str]:
    """Return a finding about a connection that others could listen to; none about a local one."""
    local = host.startswith(("/", "@")) or host == "localhost"
    with suppress(ValueError):
        local = ip_address(host).is_loopback
    if local or (encrypted and sslmode.startswith("verify")):
        return []
    fault = "the server's certificate is not checked" if encrypted else "the connection is not encrypted"
    advice = "add ?sslmode=verify-full&sslrootcert=system to the URL"
    return [f"{fault}, so others on the way can read and change it: {advice}"]


def _parse_table(table: str | None) -> tuple[str, ...]:
    """Return the parts of `table`, `schema.table` or `"quoted.name"`; none without a table."""
    if table is None:
        return ()
    found = re.fullmatch(r'(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)', table)
    if found is None or "\0" in table:
        raise ValueError(f'cannot read the table name {table!r}: say table, schema.table or "a quoted.name"')
    parts = filter(None, found.groups())
    return tuple(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts)


def _list(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


class Session:
    """A connection and the transaction that is open on it: of a sink and of those beside it."""

    def __init__(self, conninfo: Mapping[str, Any], settings: LiteralString) -> None:
        self._conninfo, self._settings = conninfo, settings
        self.link: psycopg.Connection[Any] | None = None
        self.receipt: tuple[str, str] | None = None  # load and batch
        self.owner: str | None = None  # that the session is named after
        self.staged: set[str] = set()  # the staging tables of merges that hold rows of this transaction
        self.dirty = False  # something was written since the savepoint
        self.doomed = False
        self.immediate = False  # deferred constraints are checked by each write, not by commit

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """Return the connection. Raises RuntimeError if there is none."""
        if self.link is None:
            raise RuntimeError("open the sink first")
        return self.link

    @property
    def idle(self) -> bool:
        """Return whether no transaction is open."""
        return self.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def open(self) -> None:
        """Connect unless it is connected. Raises ConnectError."""
        if self.link is not None and not self.link.closed:
            return
        self.doomed, self.owner = False, None
        try:
            # pgbouncer and ALTER TABLE both break server-side prepared statements; ours are few
            self.link = psycopg.connect(**self._conninfo, autocommit=True, prepare_threshold=None)
            self.link.execute(self._settings)
        except psycopg.Error as error:
            self.close()
            raise ConnectError(str(error).strip()) from None  # the original carries the password

    def close(self) -> None:
        """Disconnect, rolling back what is open."""
        self.rollback()
        if self.link is not None:
            self.link.close()
            self.link = None

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing."""
        if self.link is not None and not self.idle:
            with suppress(psycopg.Error):
                self.link.execute("ROLLBACK")
        self.doomed, self.owner = False, None

    def exposure(self) -> list[str]:
        """Return what somebody on the way to the server could do, if anything."""
        link = self.connection.pgconn
        (mode,) = (option.val or b"" for option in link.info if option.keyword == b"sslmode")
        host = self.connection.info.hostaddr or self.connection.info.host
        return _exposure(host, encrypted=link.ssl_in_use, sslmode=mode.decode())

    def begin_write(self) -> None:
        """Set the savepoint that a failed write goes back to."""
        if self.dirty:
            self.connection.execute("RELEASE SAVEPOINT adaptive; SAVEPOINT adaptive")
        self.dirty = True

    def undo_write(self) -> None:
        """Go back to the savepoint; where that fails the transaction is doomed."""
        try:
            self.connection.execute("ROLLBACK TO SAVEPOINT adaptive")
            self.dirty = False
        except psycopg.Error:
            self.doomed = True


# ---- catalogue


class Table(NamedTuple):
    """The target table; `oid` is 0 and there are no columns while it does not exist."""

    schema: str
    name: str
    oid: int = 0
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()

    def __str__(self) -> str:
        return sql.Identifier(self.schema, self.name).as_string()

    def beside(self, name: str) -> sql.Identifier:
        """Return a table in the same schema."""
        return sql.Identifier(self.schema, name)

    def staging(self, load: str) -> str:
        """Return the table that holds a load's rows until `replace` swaps them in; "": its prefix."""
        return f"_adaptive_replace_{_digest(str(self))}_{_digest(load) if load else ''}"


class Column(NamedTuple):
    """A column as the catalogue has it, domains resolved; `type` is "" if it is not a built-in one.

    `filled` says that the server fills it when it is left out, `generated` that it cannot be updated.
    """

    name: str
    type: str
    modifier: int
    nullable: bool
    filled: bool
    generated: bool
    key: bool
    max_length: int | None

    @property
    def scale(self) -> int | None:
        """Return the decimals of a numeric column, which may be fewer than none; None if it keeps all."""
        bounded = self.type == "numeric" and self.modifier >= 0
        return (((self.modifier - 4) & 0x7FF) ^ 0x400) - 0x400 if bounded else None

    @property
    def micros(self) -> int:
        """Return the microseconds that values of a time type are multiples of."""
        bounded = self.type in ("timestamp", "timestamptz", "time") and 0 <= self.modifier < 6
        return 10 ** (6 - self.modifier) if bounded else 1

    def arrow(self) -> pa.DataType | None:
        """Return the Arrow type whose binary form is known to arrive unchanged, if there is one."""
        if self.type in STRING_TYPES:
            return pa.string()
        if self.type == "numeric":
            precision, scale = (self.modifier - 4) >> 16, self.scale
            if scale is None or scale < 0 or max(precision, scale) > 38:
                return None
            return pa.decimal128(max(precision, scale), scale)
        # timestamp(3) would round what is finer, so its values have to come in milliseconds
        unit = "us" if not 0 <= self.modifier <= 3 else "ms" if self.modifier else "s"
        return {
            "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(),
            "float4": pa.float32(), "float8": pa.float64(), "date": pa.date32(),
            "timestamp": pa.timestamp(unit), "timestamptz": pa.timestamp(unit, "UTC"), "bytea": pa.binary(),
            "uuid": pa.uuid(), "time": pa.time64("us") if unit == "us" else pa.time32(unit),
        }.get(self.type)  # fmt: skip


def _ddl_type(field: pa.Field) -> str:
    """Return the PostgreSQL type for an Arrow field. Raises ValueError if there is none."""
    kind = field.type
    is_a = pa.types
    kinds = [
        (is_a.is_boolean, "boolean"), (is_a.is_uint64, "numeric(20, 0)"), (is_a.is_integer, "bigint"),
        (is_a.is_floating, "double precision"), (is_a.is_decimal, "numeric({0.precision}, {0.scale})"),
        (is_a.is_date, "date"), (is_a.is_time, "time"), (is_a.is_nested, "jsonb"), (is_a.is_null, "text"),
        (is_a.is_timestamp, "timestamptz" if getattr(kind, "tz", None) else "timestamp"),
        (pa.json_().__eq__, "jsonb"), (pa.uuid().__eq__, "uuid"), (TEXTS.__contains__, "text"),
        (BYTES.__contains__, "bytea"), (is_a.is_fixed_size_binary, "bytea"),
    ]  # fmt: skip
    found = next((word.format(kind) for check, word in kinds if check(kind)), None)
    if found is None:
        raise ValueError(f"column {field.name!r}: no PostgreSQL type for {kind}; say one with --types")
    return found


# ---- Python values


Check: TypeAlias = Callable[["Column", Sequence[Any]], bool]


def _is_only(kind: type) -> Check:
    return lambda _, values: set(map(type, values)) <= {kind}


def _fits_in(code: str) -> Check:
    def check(column: Column, values: Sequence[Any]) -> bool:
        with suppress(struct.error, OverflowError):
            struct.pack(f"<{len(values)}{code}", *values)
            return int not in set(map(type, values)) or not any(_is_rounded(column, v) for v in values)
        return False

    return check


def _keeps_places(column: Column, values: Sequence[Any]) -> bool:
    return column.scale is None or not any(map(_is_cut, values, repeat(Decimal(1).scaleb(-column.scale))))


def _keeps_seconds(column: Column, values: Sequence[Any]) -> bool:
    return column.micros == 1 or not any(getattr(value, "microsecond", 0) % column.micros for value in values)


def _is_cut(value: object, unit: Decimal) -> bool:
    """Say whether a numeric column of multiples of `unit` would round a number."""
    try:
        (value if isinstance(value, Decimal) else Decimal(str(value))).quantize(unit, None, EXACT)
    except InvalidOperation:
        return False  # no number, or too large: the server refuses it
    except Inexact:
        return True
    return False


def _is_rounded(column: Column, value: object) -> bool:
    """Say whether a column of floats would round an integer."""
    bits = FLOAT_BITS.get(column.type)
    if bits is None or type(value) is not int or not value:
        return False
    return (abs(value) // (value & -value)).bit_length() > bits


EXACT = Context(prec=2000, traps=[Inexact, InvalidOperation])
FLOAT_BITS = {"float4": 24, "float8": 53}
# Type name → (OID for psycopg's binary dumpers, how its values are checked first). psycopg wraps integers out
# of range (2**40 → 0 in int4), takes any truth value for bool, rounds 2**53 + 1 and cuts the time off a date;
# the server rounds what has more decimals than its column.
ROW_TYPES: dict[str, tuple[int, Check | None]] = {
    "bool": (16, _is_only(bool)), "int2": (21, _fits_in("h")), "int4": (23, _fits_in("i")),
    "int8": (20, None), "float4": (700, _fits_in("f")), "float8": (701, _fits_in("d")),
    "numeric": (1700, _keeps_places), "text": (25, None), "varchar": (25, None), "bpchar": (25, None),
    "enum": (25, None), "date": (1082, _is_only(date)), "timestamp": (1114, _keeps_seconds),
    "timestamptz": (1184, _keeps_seconds), "bytea": (17, None), "uuid": (2950, None), "jsonb": (3802, None),
    "json": (114, None),
}  # fmt: skip


def _is_unreadable(error: BaseException) -> bool:
    """Say whether a failed binary COPY is to be sent again as text: the form was at fault, or might be."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate in UNREADABLE
    return isinstance(error, Exception) and not isinstance(error, psycopg.OperationalError)


def _tuples(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns, those of the first row first, and the rows as tuples.

    itemgetter is the fastest way; its KeyError, or a row of another length, shows uneven rows. Raises
    ValueRefusedError for a row without columns.
    """
    names = tuple(rows[0])
    with suppress(KeyError):
        if names and set(map(len, rows)) == {len(names)}:
            pick = itemgetter(*names)
            return names, list(map(pick, rows)) if len(names) > 1 else [(pick(row),) for row in rows]
    if not all(rows):
        raise ValueRefusedError(list(map(bool, rows)).index(False), "the row is empty")
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return names, [tuple(map(row.get, names)) for row in rows]


def _wrap_json(column: Column, value: object) -> object:
    """Return a value of a JSON column for psycopg: text is JSON already, anything else is encoded."""
    if value is None or column.type not in ("json", "jsonb"):
        return value
    return Jsonb(value, dumps=str if isinstance(value, str) else DUMP_JSON)


def _inside_json(value: object) -> str:
    """Return the text of what JSON has no form for; of a decimal, too, which most readers make a float."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")


DUMP_JSON = partial(json.dumps, default=_inside_json)


def _fits(columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> bool:
    """Say whether binary COPY keeps every value. What it would refuse by itself is not looked at."""
    if any(column.type not in ROW_TYPES for column in columns):
        return False
    for index, column in enumerate(columns):
        _, fit = ROW_TYPES[column.type]
        if fit and not fit(column, [value for row in rows if (value := row[index]) is not None]):
            return False
    return True


def _feed_binary(copy: psycopg.Copy, columns: Sequence[Column], rows: Iterable[tuple[Any, ...]]) -> None:
    copy.set_types([ROW_TYPES[column.type][0] for column in columns])
    for row in rows:
        copy.write_row(row)


def _feed_text(copy: psycopg.Copy, columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> None:
    for index, column in enumerate(columns):
        _refuse_losses(column, [row[index] for row in rows])
    for index, row in enumerate(rows):
        try:
            copy.write_row(row)
        except (psycopg.OperationalError, MemoryError):
            raise
        except Exception as error:
            raise ValueRefusedError(index, error) from error


def _refuse_losses(column: Column, values: Sequence[object]) -> None:
    """Raise ValueRefusedError for the first value of which the server would drop a part without a word."""
    if column.scale is None and set(map(type, values)) <= {str, bool, type(None)}:
        return
    for index, value in enumerate(values):
        if value is not None and (lost := _lost(column, value)):
            raise ValueRefusedError(index, f"column {column.name!r}: {lost}")


def _lost(column: Column, value: object) -> str | None:
    kind = column.type
    if isinstance(value, bytes | bytearray | memoryview) and kind != "bytea":
        return "bytes for a column that is not bytea"
    if isinstance(value, datetime) and kind == "date" and value.time() != time.min:
        return "the time of day does not fit in a date"
    if isinstance(value, datetime | time) and value.tzinfo and kind in ("timestamp", "time", "date"):
        return "the column has no time zone"
    if isinstance(value, datetime | time) and value.microsecond % column.micros:
        return f"the column keeps {column.modifier} decimals of a second"
    if _is_rounded(column, value):
        return f"{value} has more digits than {kind} keeps"
    if column.scale is not None and _is_cut(value, Decimal(1).scaleb(-column.scale)):
        return f"{value} has more than {column.scale} decimals"
    return None


# ---- Arrow

# Text in Arrow that pgpq's encoder writes as the server expects it.
STRING_TYPES = {"text", "varchar", "bpchar", "name", "enum", "json", "jsonb"}
# pgpq holds the GIL and returns one bytes object per piece: of 2k, 8k, 16k and 64k rows 16k was the fastest.
PIECE_ROWS, PIECE_BYTES = 16_384, 8_000_000


def _is_typed(columns: Sequence[Column], schema: pa.Schema) -> bool:
    """Say whether a table has exactly the types of the columns."""
    return all(
        field.type == column.arrow() or (column.type in STRING_TYPES - {"jsonb"} and field.type in TEXTS)
        for column, field in zip(columns, schema, strict=True)
    )


def _pieces(rows: pa.Table) -> list[pa.RecordBatch]:
    size = PIECE_BYTES * rows.num_rows // (rows.nbytes + 1)
    pieces: list[pa.RecordBatch] = rows.to_batches(max_chunksize=min(max(size, 1), PIECE_ROWS))
    return pieces


def _feed_arrow(copy: psycopg.Copy, columns: Sequence[Column], rows: pa.Table) -> None:
    builders = {field.name: BinaryEncoder.infer_encoder(field) for field in rows.schema}
    for column, field in zip(columns, rows.schema, strict=True):
        if column.type == "jsonb":
            builders[field.name] = StringEncoderBuilder.new_with_output(field, JsonbType())
    encoder = BinaryEncoder.new_with_encoders(rows.schema, builders)
    copy.write(encoder.write_header())
    for piece in _pieces(rows):
        copy.write(encoder.write_batch(piece))
    copy.write(encoder.finish())


def _feed_lines(copy: psycopg.Copy, columns: Sequence[Column], rows: pa.Table) -> None:
    """Send COPY's text format: unlike CSV, one row is one line, and so an error's line is the row."""
    for column, values in zip(columns, rows.columns, strict=True):
        whole = column.type in FLOAT_BITS and pa.types.is_integer(values.type)
        if whole or (column.scale is not None and values.type != column.arrow()):
            _refuse_losses(column, values.to_pylist())
    tab, newline, empty = (pa.scalar(text, pa.large_string()) for text in ("\t", "\n", ""))
    null = {"null_handling": "replace", "null_replacement": "\\N"}
    for piece in _pieces(rows):
        lines = pc.binary_join_element_wise(*map(_escape, piece.columns), tab, **null)
        copy.write(pc.binary_join_element_wise(lines, empty, newline).buffers()[2])


def _escape(column: pa.Array) -> pa.Array:
    """Return a column as COPY's text format has it; bytes and uuid, rare here, one by one."""
    if column.type == pa.uuid():
        texts = [value and str(UUID(bytes=value)) for value in column.storage.to_pylist()]
        return pa.array(texts, pa.large_string())
    if column.type in BYTES or pa.types.is_fixed_size_binary(column.type):
        texts = [None if value is None else f"\\\\x{value.hex()}" for value in column.to_pylist()]
        return pa.array(texts, pa.large_string())
    text = column.cast(pa.large_string())
    if column.type in TEXTS and pc.any(pc.match_substring_regex(text, r"[\\\n\r\t]")).as_py():
        for char, escaped in (("\\", r"\\"), ("\n", r"\n"), ("\r", r"\r"), ("\t", r"\t")):
            text = pc.replace_substring(text, char, escaped)
    return text
