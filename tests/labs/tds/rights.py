"""Who may do what, by the rights that were granted.

A right on the database covers its schemas, one on a schema its tables. All schemas belong to dbo, and with
them the tables, whoever makes them: nobody has a right that was not granted, but the server's own login,
which is dbo. Temporary tables and the catalogue are open to all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.tds.errors import SqlError
from labs.tds.objects import Table, parts
from labs.tds.translate import Plan

if TYPE_CHECKING:
    from labs.tds.session import Session

HELD = """
    SELECT 1 FROM "sys.database_permissions" g
        JOIN "sys.database_principals" p ON p.principal_id = g.grantee_principal_id
    WHERE p.login = ? AND g.permission_name IN (?, 'CONTROL')
        AND (g.class = 0 OR g.class = 1 AND g.major_id = ? OR g.class = 3 AND g.major_id = t_schema_id(?))"""


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
        number = 1088 if right == "ALTER" else 229
        raise SqlError(number, right=right, name=on.name, schema=on.schema, database=session.database)
    raise SqlError(2760, name=on) if on else SqlError(262, right=right, database=session.database)


def check(session: Session, plan: Plan) -> None:
    """Raise SqlError 229 or 1088 for a right that a statement needs."""
    for table in plan.reads:
        require(session, "SELECT", table)
    if plan.table:
        require(session, "ALTER" if plan.verb == "TRUNCATE" else plan.verb, plan.table)
