"""Statements that read or write rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from labs.tds import rights
from labs.tds.batch import Statement
from labs.tds.errors import SqlError, unknown
from labs.tds.translate import Plan
from labs.tds.types import Type, type_of
from labs.tds.values import Convert, converter

if TYPE_CHECKING:
    from labs.tds.session import Session

Row = Sequence[Any]


def query(session: Session, statement: Statement) -> None:
    """Run a SELECT."""
    if "DM_EXEC_SESSIONS" in statement.words:
        _enter_sessions(session)
    plan = session.plan(statement.text)
    rights.check(session, plan)
    if plan.locks and session.transaction.depth:
        session.transaction.lock()
    try:
        found = session.db.execute(plan.sql, session.bound(plan)).fetchall()
    except sqlite3.Error as error:
        raise session.failure(error, plan, statement.text) from None
    names = [name for name, _ in plan.columns]
    kinds = [kind or _kind(row[at] for row in found) for at, (_, kind) in enumerate(plan.columns)]
    session.count = session.reply.rows(names, kinds, found)
    session.reply.done("SELECT", session.count)


def write(session: Session, statement: Statement) -> None:
    """Run an INSERT, UPDATE, DELETE or TRUNCATE."""
    plan = session.plan(statement.text)
    values = session.bound(plan)
    if plan.rows:
        values = _fitting(session, plan, [session.variables[name][0] for name in plan.names])(values)
    rights.check(session, plan)

    def change() -> int:
        try:
            return session.db.execute(plan.sql, values).rowcount
        except (sqlite3.Error, OverflowError) as error:
            raise session.failure(error, plan, statement.text, values, values) from None

    session.count = session.transaction.change(change)
    if not session.silent:
        session.reply.done(plan.verb, session.count)


def write_array(
    session: Session, text: str, declared: Sequence[tuple[str, Type]], rows: Sequence[Row]
) -> Iterator[int | SqlError]:
    """Write the rows of an array; yield for each how many it changed, or its error.

    They go to SQLite in one go up to the first that fails, then from the one behind it on.
    """
    at = 0
    while at < len(rows):
        done, error = _write_from(session, text, declared, rows, at)
        yield from [1] * done
        at += done + 1
        if error is not None:
            yield error
        else:
            return


def _write_from(
    session: Session, text: str, declared: Sequence[tuple[str, Type]], rows: Sequence[Row], at: int
) -> tuple[int, SqlError | None]:
    """Return how many rows from `at` on were written, and the error of the next."""
    done, row = 0, rows[at]

    def change() -> int:
        nonlocal done, row
        try:
            session.db.executemany(plan.sql, following())
        except (sqlite3.Error, OverflowError) as error:
            raise session.failure(error, plan, text, row, row) from None
        return done

    def following() -> Iterator[Row]:
        nonlocal done, row
        for number, given in enumerate(islice(rows, at, None)):
            done = number  # SQLite asks for a row when the one before is written
            row = fit(chosen(given))
            yield row
        done = len(rows) - at

    try:
        session.server.about_to(text)
        plan = session.plan(text)
        chosen = _chooser(plan, [name for name, _ in declared])
        fit = _fitting(session, plan, chosen([kind for _, kind in declared]))
        rights.check(session, plan)
        if plan.verb == "SELECT":
            raise unknown(f"an array of parameters for {text}")
        session.transaction.change(change, keep=True)
        session.server.did(text)
    except SqlError as error:
        return done, error
    return done, None


def _chooser(plan: Plan, names: Sequence[str]) -> Callable[[Row], Row]:
    """Return what puts the values of a row into the order of a plan's parameters."""
    places = [names.index(name) for name in plan.names]
    if places == list(range(len(names))):
        return lambda row: row
    return itemgetter(*places) if len(places) > 1 else lambda row: [row[place] for place in places]


def _fitting(session: Session, plan: Plan, kinds: Sequence[Type]) -> Callable[[Row], list[Any]]:
    """Return what makes the values of a row fit the columns of an INSERT of nothing but parameters."""
    steps: list[tuple[int, Convert, str]] = []
    for at, (kind, column) in enumerate(zip(kinds, plan.rows, strict=bool(plan.rows))):
        if (convert := converter(kind, column.type, cut=False)) is not None:
            steps.append((at, convert, column.name))

    def fit(values: Row) -> list[Any]:
        row = list(values)
        for at, convert, name in steps:
            try:
                row[at] = convert(row[at])
            except SqlError as error:
                error.column = name
                raise session.failure(error, plan, "") from None
        return row

    return fit


def _enter_sessions(session: Session) -> None:
    """Fill the view of sessions; each session has a copy of its own."""
    session.db.execute('DELETE FROM "sys.dm_exec_sessions"')
    session.db.executemany(
        'INSERT INTO "sys.dm_exec_sessions" VALUES (?, t_db_id(?), 1)', session.server.sessions()
    )


def _kind(values: Iterable[Any]) -> Type:
    """Return a type for values whose type nothing tells."""
    found = [value for value in values if value is not None]
    if not found:
        return type_of(None)
    if isinstance(found[0], int):
        return type_of(max(found, key=abs))
    return type_of(max(found, key=len) if isinstance(found[0], str | bytes) else found[0])
