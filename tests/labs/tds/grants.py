"""CREATE and DROP LOGIN or USER, and GRANT: what only dbo may do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labs.tds import ddl
from labs.tds.batch import Statement
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import parts

if TYPE_CHECKING:
    from labs.tds.session import Session

NAMED = r"(?:\[(?:[^\]]|\]\])*\]|\w+)"
GRANT = re.compile(
    r"GRANT\s+([\w\s,]+?)"
    rf"(?:\s+ON\s+(?:(OBJECT|SCHEMA|DATABASE)\s*::\s*)?({NAMED}(?:\.{NAMED})*))?\s+TO\s+({NAMED})",
    re.IGNORECASE,
)
PLACES = {"DATABASE": "0, 0", "OBJECT": "1, t_object_id(:path)", "SCHEMA": "3, t_schema_id(:name)"}


def login(session: Session, statement: Statement) -> None:
    """CREATE LOGIN name WITH PASSWORD = '…', and DROP LOGIN name."""
    _only_dbo(session)
    logins, (name, *options) = session.server.logins, ddl.words(statement.text)[2:]
    create = statement.words[0] == "CREATE"
    if create == (name in logins):
        raise SqlError(15025 if create else 15151, kind="login", name=name)
    if not create:
        del logins[name]
    elif statement.words[3:6] != ("WITH", "PASSWORD", "="):
        raise unknown(statement.text)
    else:
        logins[name] = options[3]
    session.reply.done()


def user(session: Session, statement: Statement) -> None:
    """CREATE USER name FOR LOGIN name, and DROP USER name."""
    name, *options = ddl.words(statement.text)[2:]
    if statement.words[0] == "DROP":
        query = 'DELETE FROM "sys.database_principals" WHERE name = ?'
        _change(session, query, [[name]], SqlError(15151, kind="user", name=name))
    elif statement.words[3:5] in ((), ("FOR", "LOGIN")):
        query = 'INSERT OR IGNORE INTO "sys.database_principals" (name, login) VALUES (?, ?)'
        _change(session, query, [[name, options[2] if options else name]], SqlError(15023, name=name))
    else:
        raise unknown(statement.text)


def grant(session: Session, statement: Statement) -> None:
    """GRANT rights ON a table, a schema or the database TO a user."""
    if not (found := GRANT.fullmatch(statement.text)):
        raise unknown(statement.text)
    rights, kind, path, grantee = found.groups()
    place = PLACES[(kind or ("OBJECT" if path else "DATABASE")).upper()]
    named = {"path": path, "name": path and parts(path)[-1], "user": parts(grantee)[0]}
    query = f"""INSERT OR IGNORE INTO "sys.database_permissions"
        SELECT {place}, principal_id, :right FROM "sys.database_principals" WHERE name = :user"""
    rows = [{**named, "right": " ".join(right.upper().split())} for right in rights.split(",")]
    missing = " or ".join(filter(None, (path, grantee)))
    _change(session, query, rows, SqlError(15151, kind="object or user", name=missing))


def _only_dbo(session: Session) -> None:
    if session.user_name() != "dbo":
        raise SqlError(15247)


def _change(session: Session, query: str, rows: Sequence[Any], otherwise: SqlError) -> None:
    """Change the catalogue; raises `otherwise` if that changes nothing."""
    _only_dbo(session)
    if not session.transaction.change(lambda: session.db.executemany(query, rows).rowcount):
        raise otherwise
    session.reply.done()


VERBS: dict[str, Callable[[Session, Statement], None]] = {
    "CREATE LOGIN": login, "DROP LOGIN": login, "CREATE USER": user, "DROP USER": user, "GRANT": grant,
}  # fmt: skip
