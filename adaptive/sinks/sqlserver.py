"""Write rows into a SQL Server table, exactly once."""

from __future__ import annotations

# Sent once after connecting. XACT_ABORT OFF: most errors of a statement then leave the transaction usable.
# A lock is waited for longer than the server's keepalives (30 s, then 10 probes 1 s apart) take to end a
# half-open attempt that holds it.
SESSION = """
    SET NOCOUNT OFF; SET XACT_ABORT OFF; SET LOCK_TIMEOUT 60000; SET DATEFORMAT ymd; SET ANSI_NULLS ON;
    SET ANSI_PADDING ON; SET ANSI_WARNINGS ON; SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON;
    SET QUOTED_IDENTIFIER ON; SET NUMERIC_ROUNDABORT OFF; SET TRANSACTION ISOLATION LEVEL READ COMMITTED"""
SERVER = """
    SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)),
        CAST(SERVERPROPERTY('Edition') AS nvarchar(128)), DB_NAME(), SUSER_SNAME(), SCHEMA_NAME()"""
LOCATE = """
    SELECT s.name, o.name, o.object_id FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id
    WHERE o.object_id = OBJECT_ID(?) AND o.type IN ('U', 'V')"""
# An alias type has the system type it stands for; of CLR types (240) only the user type says which.
CATALOGUE = """
    SELECT c.name, y.name, c.max_length, c.precision, c.scale, c.is_nullable, c.is_identity, c.collation_name,
        d.definition, k.key_ordinal
    FROM sys.columns AS c
        JOIN sys.types AS y
            ON y.user_type_id = CASE WHEN c.system_type_id = 240 THEN c.user_type_id ELSE c.system_type_id END
        LEFT JOIN sys.default_constraints AS d ON d.object_id = c.default_object_id
        LEFT JOIN sys.indexes AS i ON i.object_id = c.object_id AND i.is_primary_key = 1
        LEFT JOIN sys.index_columns AS k
            ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.column_id = c.column_id
    WHERE c.object_id = ? AND c.is_computed = 0 AND c.generated_always_type = 0 AND y.name <> 'timestamp'
    ORDER BY c.column_id"""
# Unique indexes and constraints without a filter, one row for each key column.
UNIQUE = """
    SELECT i.name, i.is_primary_key, c.name
    FROM sys.indexes AS i
        JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id
        JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id
    WHERE i.object_id = ? AND i.is_unique = 1 AND i.has_filter = 0 AND i.is_disabled = 0
        AND k.is_included_column = 0
    ORDER BY i.index_id, k.key_ordinal"""
CHECKS = "SELECT definition FROM sys.check_constraints WHERE parent_object_id = ? AND is_disabled = 0"
CASCADES = """
    SELECT OBJECT_NAME(parent_object_id) FROM sys.foreign_keys
    WHERE referenced_object_id = ? AND parent_object_id <> referenced_object_id
        AND delete_referential_action <> 0"""
PERMISSION = "SELECT HAS_PERMS_BY_NAME(?, ?, ?)"
STRAYS = "SELECT t.name FROM sys.tables AS t WHERE t.schema_id = SCHEMA_ID(?) AND LEFT(t.name, ?) = ?"

# Implicit transactions (ODBC's autocommit off) count BEGIN TRANSACTION twice, hence the COMMIT.
LOCK = """
    SET NOCOUNT ON;
    BEGIN TRANSACTION;
    IF @@TRANCOUNT > 1 COMMIT TRANSACTION;
    DECLARE @got int;
    EXEC @got = sp_getapplock @Resource = ?, @LockMode = 'Exclusive', @LockOwner = 'Transaction',
        @LockTimeout = 60000;
    SET NOCOUNT OFF;
    SELECT @got"""
LEDGER = {
    "loads": """CREATE TABLE {loads} (
        [load] nvarchar(200) COLLATE Latin1_General_100_BIN2 NOT NULL PRIMARY KEY,
        fingerprint nvarchar(max) NULL, source nvarchar(max) NULL, mapping nvarchar(max) NULL,
        target nvarchar(300) NULL, mode nvarchar(20) NULL, state nvarchar(20) NULL,
        [rows] bigint NULL, rejected bigint NULL,
        started_at datetime2(6) NULL, finished_at datetime2(6) NULL)""",
    "splits": """CREATE TABLE {splits} (
        [load] nvarchar(200) COLLATE Latin1_General_100_BIN2 NOT NULL, split int NOT NULL,
        owner nvarchar(100) COLLATE Latin1_General_100_BIN2 NULL, PRIMARY KEY ([load], split))""",
    "ledger": """CREATE TABLE {ledger} (
        [load] nvarchar(200) COLLATE Latin1_General_100_BIN2 NOT NULL,
        batch nvarchar(100) COLLATE Latin1_General_100_BIN2 NOT NULL,
        segments nvarchar(max) NOT NULL, [rows] bigint NULL, rejected nvarchar(max) NOT NULL,
        committed_at datetime2(6) NULL, PRIMARY KEY ([load], batch))""",
}
STATE = "SELECT state FROM {loads} WITH (UPDLOCK, HOLDLOCK) WHERE [load] = ?"
REGISTER = """
    INSERT INTO {loads} ([load], fingerprint, source, mapping, target, mode, state, started_at)
    VALUES (?, ?, ?, ?, ?, ?, 'running', SYSUTCDATETIME())"""
TAKE_OVER = "UPDATE {splits} SET owner = ? WHERE [load] = ? AND split = ?"
TAKE = "INSERT INTO {splits} ([load], split, owner) VALUES (?, ?, ?)"
OWNED = "SELECT split FROM {splits} WITH (UPDLOCK, HOLDLOCK) WHERE [load] = ? AND owner = ?"
LOADS = """
    SELECT [load], fingerprint, source, mapping, target, mode, state, [rows], rejected, started_at, finished_at
    FROM {loads} ORDER BY started_at, [load]"""
RECEIPTS = "SELECT segments, [rows], rejected FROM {ledger} WHERE [load] = ? ORDER BY committed_at, batch"
DONE = """
    UPDATE {loads} SET state = 'done', finished_at = SYSUTCDATETIME(), [rows] = ?, rejected = ?
    WHERE [load] = ?"""
# One statement, so that nothing comes between the check and the receipt. REPEATABLEREAD keeps shared locks on
# the splits until the commit, also where reads use row versions (READ_COMMITTED_SNAPSHOT): a takeover waits
# for them, and a later receipt finds the new owner. The key of the ledger makes a second attempt at the
# same batch wait for the first; then it fails with 2627, or goes in.
RECEIPT = """
    INSERT INTO {ledger} ([load], batch, segments, [rows], rejected, committed_at)
    SELECT ?, ?, ?, ?, '[]', SYSUTCDATETIME()
    WHERE (SELECT COUNT(*) FROM {splits} WITH (REPEATABLEREAD, ROWLOCK)
        WHERE [load] = ? AND owner = ? AND split IN ({markers})) = ?"""
REPLACED = "DELETE FROM {ledger} WHERE [load] = ? AND batch = ?"
CORRECTION = "UPDATE {ledger} SET rejected = ?, [rows] = ? WHERE [load] = ? AND batch = ?"
SAVE = "SAVE TRANSACTION adaptive"
UNDO = "ROLLBACK TRANSACTION adaptive"
USABLE = "SELECT XACT_STATE()"

# `write`: rows go by fast_executemany into the target, or into a temporary table and from there by sets.
INSERT = "INSERT INTO {destination} ({columns}) VALUES ({markers})"
STAGE = "DROP TABLE IF EXISTS {stage}; CREATE TABLE {stage} ({columns})"
# MERGE has known errors (wrong results with filtered indexes, deadlocks): two plain statements are as fast.
# {same} compares the key, t for the target and s for the stage.
REDUCE = """
    DELETE FROM {stage} WHERE _adaptive_ordinal NOT IN (
        SELECT {last}(_adaptive_ordinal) FROM {stage} GROUP BY {key})"""
UPDATE = """
    UPDATE t SET {changes} FROM {destination} AS t WITH (UPDLOCK, HOLDLOCK) JOIN {stage} AS s ON {same}"""
INSERT_NEW = """
    INSERT INTO {destination} ({columns}) SELECT {columns} FROM {stage} AS s
    WHERE NOT EXISTS (SELECT 1 FROM {destination} AS t WITH (UPDLOCK, HOLDLOCK) WHERE {same}) ORDER BY {key}"""
# Of an append whose key was taken: mark what the target or an earlier row has, insert the others.
MARK = """
    UPDATE s SET _adaptive_taken = 1 FROM {stage} AS s
    WHERE EXISTS (SELECT 1 FROM {destination} AS t WHERE {same})
        OR _adaptive_ordinal NOT IN (SELECT MIN(_adaptive_ordinal) FROM {stage} GROUP BY {key})"""
TAKEN = "SELECT _adaptive_ordinal FROM {stage} WHERE _adaptive_taken = 1 ORDER BY _adaptive_ordinal"
INSERT_FREE = """
    INSERT INTO {destination} ({columns}) SELECT {columns} FROM {stage} WHERE _adaptive_taken = 0
    ORDER BY _adaptive_ordinal"""
IDENTITY_INSERT = "SET IDENTITY_INSERT {destination} {word}"
# `finish` of mode replace: DELETE and INSERT keep grants, foreign keys, views and triggers.
EMPTY = "DELETE FROM {target} WITH (TABLOCKX)"
MOVE = "INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}"
