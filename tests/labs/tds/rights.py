"""Who may do what: logins of the server, users of a database, and the rights that they were granted.

A right on the database covers its schemas, one on a schema its tables. All schemas belong to dbo, and with
them the tables, whoever makes them: nobody has a right that was not granted, but the server's own login,
which is dbo. Temporary tables and the catalogue are open to all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labs.tds.batch import Statement
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import Table, parts
from labs.tds.translate import Plan

if TYPE_CHECKING:
    from labs.tds.session import Session

NAMED = r"(?:\[(?:[^\]]|\]\])*\]|\w+)"
PRINCIPAL = re.compile(
    rf"(?:CREATE|DROP)\s+(?:LOGIN|USER)\s+(?P<name>{NAMED})"
    rf"(?:\s+WITH\s+PASSWORD\s*=\s*N?'(?P<password>(?:[^']|'')+)'.*|\s+FOR\s+LOGIN\s+(?P<login>{NAMED}))?",
    re.DOTALL | re.IGNORECASE,
)
GRANT = re.compile(
    r"GRANT\s+(?P<rights>[\w\s,]+?)"
    rf"(?:\s+ON\s+(?:(?P<kind>OBJECT|SCHEMA|DATABASE)\s*::\s*)?(?P<path>{NAMED}(?:\.{NAMED})*))?"
    rf"\s+TO\s+(?P<user>{NAMED})",
    re.IGNORECASE,
)
DATABASE, OBJECT, SCHEMA = 0, 1, 3  # classes of what a right is granted on
SCHEMA_ID = 'SELECT schema_id FROM "sys.schemas" WHERE name = ? COLLATE NOCASE'
HELD = f"""
    SELECT 1 FROM "sys.database_permissions" g
        JOIN "sys.database_principals" p ON p.principal_id = g.grantee_principal_id
    WHERE p.login = ? AND g.permission_name IN (?, 'CONTROL') AND (g.class = {DATABASE}
        OR g.class = {OBJECT} AND g.major_id = ? OR g.class = {SCHEMA} AND g.major_id = ({SCHEMA_ID}))"""


def user_name(session: Session) -> str | None:
    """Return USER_NAME(), or None for a login that has no user in this database."""
    if session.user == session.server.user:
        return "dbo"
    query = 'SELECT name FROM "sys.database_principals" WHERE login = ?'
    found = session.db.execute(query, [session.user]).fetchone()
    return found[0] if found else "guest" if session.database == "master" else None


def permits(session: Session, right: str, on: Table | str | None = None) -> bool:
    """Return whether the login has a right on a table, on a schema, or (None) on the database."""
    table = on if isinstance(on, Table) else None
    if session.server.denied(right, table.path if table else None):
        return False
    if session.user == session.server.user or (table and table.id < 0):
        return True
    place = [table.id, table.schema] if table else [None, on]
    return session.db.execute(HELD, [session.user, right, *place]).fetchone() is not None


def may_drop(session: Session, table: Table) -> bool:
    """Return whether the login may drop a table."""
    return permits(session, "CONTROL", table) or permits(session, "ALTER", table.schema)


def has_perms_by_name(session: Session, securable: str | None, kind: str | None, right: str) -> int | None:
    """Return HAS_PERMS_BY_NAME(): NULL for a table that does not exist."""
    *_, schema, name = ["", "", *parts(securable or "")]
    on: Table | str | None = name if kind and kind.upper() == "SCHEMA" else None
    if kind and kind.upper() == "OBJECT" and (on := session.catalogue.table(schema or "dbo", name)) is None:
        return None
    return int(permits(session, right.upper(), on))


def require(session: Session, right: str, on: Table | str | None = None) -> None:
    """Raise SqlError 229, 262, 1088 or 2760, as SQL Server does, for a right that is missing."""
    if permits(session, right, on):
        return
    if isinstance(on, Table):
        places = {"name": on.name, "schema": on.schema, "database": session.database}
        raise SqlError(1088 if right == "ALTER" else 229, right=right, **places)
    raise SqlError(2760, name=on) if on else SqlError(262, right=right, database=session.database)


def check(session: Session, plan: Plan) -> None:
    """Raise SqlError 229 or 1088 for a right that a statement needs."""
    for table in plan.reads:
        require(session, "SELECT", table)
    if plan.table:
        require(session, "ALTER" if plan.verb == "TRUNCATE" else plan.verb, plan.table)


# --- statements ---


def _login(session: Session, statement: Statement) -> None:
    """CREATE and DROP LOGIN."""
    found, logins = _read(session, statement, PRINCIPAL), session.server.logins
    name, password = parts(found["name"])[0], found["password"]
    if statement.words[0] == "DROP":
        if logins.pop(name, None) is None:
            raise SqlError(15151, kind="login", name=name)
    elif name in logins:
        raise SqlError(15025, name=name)
    elif password is None:
        raise unknown(statement.text)
    else:
        logins[name] = password.replace("''", "'")
    session.reply.done()


def _user(session: Session, statement: Statement) -> None:
    """CREATE and DROP USER."""
    found = _read(session, statement, PRINCIPAL)
    name = parts(found["name"])[0]
    if statement.words[0] == "DROP":
        query = 'DELETE FROM "sys.database_principals" WHERE name = ?'
        _change(session, query, [[name]], SqlError(15151, kind="user", name=name))
    else:
        query = 'INSERT OR IGNORE INTO "sys.database_principals" (name, login) VALUES (?, ?)'
        login = parts(found["login"] or found["name"])[0]
        _change(session, query, [[name, login]], SqlError(15023, name=name))


def _grant(session: Session, statement: Statement) -> None:
    """GRANT, on a table, a schema or the database."""
    found = _read(session, statement, GRANT)
    place, user = _place(session, (found["kind"] or "").upper(), found["path"]), parts(found["user"])[0]
    query = """INSERT INTO "sys.database_permissions"
        SELECT ?, ?, principal_id, ? FROM "sys.database_principals" WHERE name = ?"""
    rows = [(*place, " ".join(right.upper().split()), user) for right in found["rights"].split(",")]
    _change(session, query, rows, SqlError(15151, kind="user", name=user))


def _read(session: Session, statement: Statement, form: re.Pattern[str]) -> re.Match[str]:
    """Take a statement apart that only dbo may use. Raises SqlError 15247."""
    if user_name(session) != "dbo":
        raise SqlError(15247)
    if not (found := form.fullmatch(statement.text)):
        raise unknown(statement.text)
    return found


def _place(session: Session, kind: str, path: str | None) -> tuple[int, int]:
    """Return class and number of what a right is granted on. Raises SqlError 15151."""
    if path is None or kind == "DATABASE":
        return DATABASE, 0
    if kind == "SCHEMA":
        (number,) = session.db.execute(SCHEMA_ID, [parts(path)[0]]).fetchone() or [None]
    else:
        number = session.catalogue.find(path)
    if number is None:
        raise SqlError(15151, kind=kind.lower() or "object", name=parts(path)[-1])
    return SCHEMA if kind == "SCHEMA" else OBJECT, number


def _change(session: Session, query: str, rows: Sequence[Sequence[Any]], otherwise: SqlError) -> None:
    """Change the catalogue; raises `otherwise` if that changes nothing."""
    if not session.transaction.change(lambda: session.db.executemany(query, rows).rowcount):
        raise otherwise
    session.reply.done()


VERBS: dict[str, Callable[[Session, Statement], None]] = {
    "CREATE LOGIN": _login, "DROP LOGIN": _login, "CREATE USER": _user, "DROP USER": _user, "GRANT": _grant,
}  # fmt: skip
