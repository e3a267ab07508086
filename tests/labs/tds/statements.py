"""Statements that touch no rows: transactions, variables, options, procedures, tables, databases."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from labs.tds import ddl, rights
from labs.tds.batch import Statement
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import parts
from labs.tds.translate import Plan
from labs.tds.values import type_from_text

if TYPE_CHECKING:
    from labs.tds.session import Session

Arguments = Mapping[str | int, Any]
# Options that SQL Server's drivers set and that change nothing here.
IGNORED = {
    "ANSI_NULLS", "ANSI_PADDING", "ANSI_WARNINGS", "ARITHABORT", "CONCAT_NULL_YIELDS_NULL", "TEXTSIZE",
    "QUOTED_IDENTIFIER", "NUMERIC_ROUNDABORT", "DATEFORMAT", "TRANSACTION", "ANSI_DEFAULTS", "LANGUAGE",
    "CURSOR_CLOSE_ON_COMMIT", "ANSI_NULL_DFLT_ON", "DATEFIRST", "DEADLOCK_PRIORITY", "NO_BROWSETABLE",
}  # fmt: skip
IDENTITY_INSERT = re.compile(r"SET\s+IDENTITY_INSERT\s+(.+?)\s+(ON|OFF)", re.DOTALL | re.IGNORECASE)
CALL = re.compile(r"EXEC(?:UTE)?\s+(?:@(\w+)\s*=\s*)?([\w.\[\]]+)\s*(.*)", re.DOTALL | re.IGNORECASE)
ARGUMENT = re.compile(r"\s*(?:@(\w+)\s*=\s*)?(.+?)\s*", re.DOTALL)


def begin(session: Session, _: Statement) -> None:
    """BEGIN TRANSACTION."""
    session.transaction.begin()


def commit(session: Session, _: Statement) -> None:
    """COMMIT."""
    session.transaction.commit()
    session.reply.done()


def rollback(session: Session, statement: Statement) -> None:
    """ROLLBACK, of everything or to a savepoint."""
    if len(statement.words) > 2:
        session.transaction.rollback_to(ddl.words(statement.text)[-1])
    elif not session.transaction.depth:
        raise SqlError(3903)
    else:
        session.transaction.rollback()
    session.reply.done()


def save(session: Session, statement: Statement) -> None:
    """SAVE TRANSACTION."""
    session.transaction.save(ddl.words(statement.text)[-1])
    session.reply.done()


def declare(session: Session, statement: Statement) -> None:
    """DECLARE."""
    for name, kind in ddl.declared(statement.text):
        session.variables[name] = type_from_text(kind), None


def set_(session: Session, statement: Statement) -> None:
    """SET, of an option."""
    option, on = statement.words[1], statement.words[-1] == "ON"
    if option == "LOCK_TIMEOUT":
        milliseconds = int(statement.text.split()[-1])
        session.transaction.timeout = None if milliseconds < 0 else milliseconds / 1000
    elif found := IDENTITY_INSERT.match(statement.text):
        table = session.translator().table(ddl.table_in(found[1]))
        rights.require(session, "ALTER", table)
        session.identity_insert = table.path if on else ""
        session.base.identities.pop(table.id, None)  # to go on behind what was given
    elif option in SWITCHES:
        setattr(session, SWITCHES[option], on)
    elif option not in IGNORED:
        raise unknown(statement.text)


SWITCHES = {"XACT_ABORT": "abort", "NOCOUNT": "silent"}


def execute(session: Session, statement: Statement) -> None:
    """EXEC of a procedure that is known."""
    if not (found := CALL.match(statement.text)):
        raise unknown(statement.text)
    target, name, rest = found.groups()
    if (procedure := PROCEDURES.get(parts(name)[-1].lower())) is None:
        raise SqlError(2812, name=name)
    arguments: dict[str | int, Any] = {}
    for at, part in enumerate(ddl.split(rest)):
        if argument := ARGUMENT.fullmatch(part):
            arguments[argument[1].lower() if argument[1] else at] = session.value(argument[2])
    status = procedure(session, arguments)
    if target:
        session.assign(target.lower(), status)


def _get_lock(session: Session, arguments: Arguments) -> int:
    return session.transaction.get_lock(
        str(_argument(arguments, "resource", 0)), int(arguments.get("locktimeout", -1))
    )


def _argument(arguments: Arguments, name: str, place: int) -> Any:
    return arguments.get(name, arguments.get(place))


def kill(session: Session, statement: Statement) -> None:
    """KILL a session."""
    session.server.kill(int(statement.words[1]))
    session.reply.done()


def define(session: Session, statement: Statement) -> None:
    """CREATE, ALTER and DROP."""
    if statement.words[1] == "DATABASE":
        _define_database(session, statement)
    else:
        try:
            session.transaction.change(lambda: ddl.define(session, statement))
        except sqlite3.Error as error:
            raise session.failure(error, Plan("CREATE", "", ()), statement.text) from None
    session.reply.done()


def _define_database(session: Session, statement: Statement) -> None:
    """CREATE and DROP DATABASE; of ALTER DATABASE what sends its users away."""
    verb, (name, *options) = statement.words[0], ddl.words(statement.text)[2:]
    exists = session.server.exists(name)
    if verb == "CREATE" and exists:
        raise SqlError(1801, f"Database '{name}' already exists. Choose a different database name.")
    if verb != "CREATE" and not exists:
        raise SqlError(911, name=name)
    if verb == "CREATE":
        session.server.create(name)
    elif verb == "DROP":
        session.server.drop(name)
    elif "SINGLE_USER" in options:
        session.server.drop_connections(name, spare=session)
    else:
        raise unknown(statement.text)


VERBS: dict[str, Callable[[Session, Statement], None]] = {
    "BEGIN": begin, "COMMIT": commit, "ROLLBACK": rollback, "SAVE": save, "DECLARE": declare, "SET": set_,
    "EXEC": execute, "EXECUTE": execute, "KILL": kill,
    "CREATE": define, "ALTER": define, "DROP": define,
}  # fmt: skip
PROCEDURES: dict[str, Callable[[Session, Arguments], int]] = {"sp_getapplock": _get_lock}
