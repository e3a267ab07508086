"""A session: runs batches, keeps the transaction, and turns SQLite's errors into SQL Server's."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labs.tds import ddl
from labs.tds.batch import If, Node, Statement, Try, parse
from labs.tds.catalogue import Catalogue, parts, quote
from labs.tds.errors import COMPILE, ROLL_BACK, SqlError, unknown
from labs.tds.functions import VERSION, register
from labs.tds.translate import Plan, Translator
from labs.tds.types import Type, type_of
from labs.tds.values import Convert, converter, type_from_text
from labs.tds.violations import sql_error
from labs.tds.wire import Reply

if TYPE_CHECKING:
    from labs.tds.server import Database, Server

Variables = Mapping[str, tuple[Type, Any]]
WRITE = "write"  # the lock that stands for all of SQL Server's: SQLite has one writer
OPTIONS = {"XACT_ABORT", "NOCOUNT", "IMPLICIT_TRANSACTIONS", "FMTONLY"}
# Options that SQL Server's drivers set and that change nothing here.
IGNORED = {"ANSI_NULLS", "ANSI_PADDING", "ANSI_WARNINGS", "ARITHABORT", "CONCAT_NULL_YIELDS_NULL", "QUOTED_IDENTIFIER",
           "NUMERIC_ROUNDABORT", "TEXTSIZE", "DATEFORMAT", "TRANSACTION", "ANSI_DEFAULTS", "CURSOR_CLOSE_ON_COMMIT",
           "ANSI_NULL_DFLT_ON", "LANGUAGE", "DATEFIRST", "DEADLOCK_PRIORITY", "NO_BROWSETABLE"}  # fmt: skip
ARGUMENT = re.compile(r"\s*(?:@(\w+)\s*=\s*)?(.+?)\s*(\bOUTPUT|\bOUT)?\s*", re.DOTALL | re.IGNORECASE)


class BatchEndError(Exception):
    """The batch ends here; its error has been told."""


class Session:
    """One login in one database."""

    def __init__(self, server: Server, database: Database, user: str, look: Callable[[], None],
                 number: int) -> None:  # fmt: skip
        self._server, self._base, self.user, self._look = server, database, user, look
        self.number = number
        self.database = database.name
        self._db = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA synchronous = OFF")  # nothing here outlives a crash of the machine
        self.catalogue = Catalogue(self._db)
        self.raised: Exception | None = None
        self.caught: SqlError | None = None
        self.reply = Reply()
        self.variables: dict[str, tuple[Type, Any]] = {}
        self.on_transaction: Callable[[bool, bool], None] = lambda began, committed: None
        self._depth, self._doomed, self._tries, self._rows = 0, False, 0, 0
        self._plans: dict[Any, Plan] = {}
        self._defaults()
        register(self._db, self)

    def _defaults(self) -> None:
        self._options = dict.fromkeys(OPTIONS, False)
        self._timeout: float | None = None
        self._identity_insert = ""

    def reset(self) -> None:
        """Forget what the last user of a pooled connection left."""
        self._rollback()
        for (name,) in self._db.execute("SELECT name FROM temp.sqlite_master WHERE name LIKE '#%'").fetchall():
            if not name.startswith("#sys.") and (table := self.catalogue.table("dbo", name)):
                self.catalogue.drop(table)
        self._defaults()

    def close(self) -> None:
        """Roll back and leave."""
        self._rollback()
        self._db.close()

    # --- what functions ask for ---

    def state(self) -> int:
        """Return XACT_STATE()."""
        return -1 if self._doomed else int(self._depth > 0)

    def variable(self, name: str) -> Any:
        """Return a global variable."""
        known = {"@@TRANCOUNT": self._depth, "@@ROWCOUNT": self._rows, "@@SPID": self.number, "@@SERVERNAME": "stand-in",
                 "@@VERSION": f"Stand-in for Microsoft SQL Server {VERSION}", "@@ERROR": 0,
                 "@@LOCK_TIMEOUT": -1 if self._timeout is None else int(self._timeout * 1000)}  # fmt: skip
        if name.upper() not in known:
            raise SqlError(137, name=name)
        return known[name.upper()]

    def permitted(self, securable: str | None, kind: str | None, right: str) -> int | None:
        """Return HAS_PERMS_BY_NAME(): NULL for what does not exist."""
        if (kind or "").upper() == "OBJECT" and securable and self.catalogue.find(securable) is None:
            return None
        return int(not self._server.denied(right, ".".join(parts(securable)) if securable else None))

    def next_identity(self, number: int) -> int:
        """Return the next value of a table's identity; a rollback leaves a gap."""
        counters = self._base.identities
        if number not in counters:
            table = self.catalogue.by_id(number)
            column = next(column for column in table.columns if column.identity)
            (last,) = self._db.execute(f"SELECT max({quote(column.name)}) FROM {table.sqlite}").fetchone()
            counters[number] = column.seed - 1 if last is None else last
        counters[number] += 1
        return counters[number]

    def translator(self, variables: Mapping[str, Type] | None = None) -> Translator:
        """Return a translator for the session's state."""
        kinds = {name: kind for name, (kind, _) in self.variables.items()} if variables is None else variables
        return Translator(self.catalogue, kinds, self._identity_insert)

    # --- batches ---

    def run(self, text: str, variables: Variables | None = None) -> None:
        """Run a batch; its results and errors go to `reply`."""
        self.variables, self._tries, self.caught = dict(variables or {}), 0, None
        try:
            self._nodes(self._parsed(text))
        except BatchEndError:
            pass
        if self._doomed:
            self._rollback()
            self.reply.error(SqlError(3998))
            self.reply.done()

    def _parsed(self, text: str) -> Sequence[Node]:
        try:
            return parse(text)
        except SqlError as error:
            self._tell(error)
            raise BatchEndError from None

    def describe(self, text: str, variables: Mapping[str, Type]) -> None:
        """Tell the columns of a SELECT."""
        plan = self.translator(variables).plan(text)
        self._select(plan, [None] * len(plan.names), metadata=True)

    def _nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if isinstance(node, If):
                self._nodes(node.then if self._true(node.condition) else node.otherwise)
            elif isinstance(node, Try):
                self._try(node)
            else:
                self._statement(node)

    def _true(self, condition: str) -> bool:
        return bool(self._value(f"CASE WHEN {condition} THEN 1 ELSE 0 END"))

    def _value(self, expression: str) -> Any:
        plan = self.translator().expression(expression)
        try:
            return self._db.execute(plan.sql, self._bound(plan)).fetchone()[0]
        except sqlite3.Error as error:
            raise self._failure(error, plan, expression) from None

    def _try(self, node: Try) -> None:
        self._tries += 1
        try:
            self._nodes(node.body)
        except SqlError as error:
            self._tries -= 1
            before, self.caught = self.caught, error
            self._nodes(node.catch)
            self.caught = before
        else:
            self._tries -= 1

    def _statement(self, statement: Statement) -> None:
        try:
            self._server.about_to(statement.text)
            VERBS.get(statement.words[0], Session._unknown)(self, statement)
            self._server.did(statement.text)
        except SqlError as error:
            self._fail(error, thrown=statement.words[0] == "THROW")

    def _fail(self, error: SqlError, *, thrown: bool) -> None:
        """Do to statement, batch and transaction what an error does."""
        rolls_back = error.number in ROLL_BACK or (self._options["XACT_ABORT"] and error.number not in COMPILE)
        if self._tries:
            self._doomed = self._doomed or (rolls_back and self._depth > 0)
            raise error
        if rolls_back:
            self._rollback()
        self._tell(error)
        if rolls_back or thrown or error.number in COMPILE:
            raise BatchEndError

    def _tell(self, error: SqlError) -> None:
        self.reply.error(error)
        self.reply.done()

    def _unknown(self, statement: Statement) -> None:
        raise unknown(statement.text)

    # --- rows ---

    def _plan(self, text: str) -> Plan:
        kinds = tuple((name, kind) for name, (kind, _) in self.variables.items())
        key = text, kinds, self._identity_insert, self.catalogue.version
        if key not in self._plans:
            if len(self._plans) > 500:
                self._plans.clear()
            self._plans[key] = self.translator().plan(text)
        return self._plans[key]

    def _bound(self, plan: Plan) -> list[Any]:
        return [self.variables[name][1] for name in plan.names]

    def _query(self, statement: Statement) -> None:
        if "DM_EXEC_SESSIONS" in statement.words:
            self._enter_sessions()
        plan = self._plan(statement.text)
        for table in plan.reads:
            self._check_right("SELECT", table)
        if self._options["IMPLICIT_TRANSACTIONS"] and plan.reads and not self._depth:
            self._begin()
        if plan.locks and self._depth:
            self._lock()
        try:
            self._select(plan, self._bound(plan), metadata=self._options["FMTONLY"])
        except sqlite3.Error as error:
            raise self._failure(error, plan, statement.text) from None

    def _enter_sessions(self) -> None:
        """Fill the view of sessions; each session has a copy of its own."""
        self._db.execute('DELETE FROM "sys.dm_exec_sessions"')
        rows = self._server.all_sessions()
        self._db.executemany("INSERT INTO \"sys.dm_exec_sessions\" VALUES (?, t_db_id(?))", rows)

    def _select(self, plan: Plan, values: Sequence[Any], *, metadata: bool) -> None:
        cursor = self._db.execute(plan.sql, values)
        rows = [] if metadata else cursor.fetchall()
        names = [name for name, _ in plan.columns]
        kinds = [kind or _kind(row[at] for row in rows) for at, (_, kind) in enumerate(plan.columns)]
        if plan.targets:
            for target, value in zip(plan.targets, rows[-1] if rows else (), strict=bool(rows)):
                self._assign(target, value)
            return
        self._rows = self.reply.rows(names, kinds, rows)
        self.reply.done("SELECT", self._rows)

    def _write(self, statement: Statement) -> None:
        plan = self._plan(statement.text)
        values = self._bound(plan)
        if plan.rows:
            values = self._converted(plan, [self.variables[name][0] for name in plan.names])(values)
        if self._options["FMTONLY"]:
            self.reply.done()
            return
        self._allowed(plan)
        self._rows = self._changing(lambda: self._changed(plan, values, statement.text))
        self._server.rows += self._rows
        if not self._options["NOCOUNT"]:
            self.reply.done(plan.verb, self._rows)

    def _changed(self, plan: Plan, values: Sequence[Any], text: str) -> int:
        try:
            return self._db.execute(plan.sql, values).rowcount
        except (sqlite3.Error, OverflowError) as error:
            raise self._failure(error, plan, text, values) from None

    def _allowed(self, plan: Plan) -> None:
        assert plan.table
        self._check_right("DELETE" if plan.verb == "TRUNCATE" else plan.verb, plan.table.path)
        for table in plan.reads:
            self._check_right("SELECT", table)

    def _check_right(self, right: str, path: str) -> None:
        if self._server.denied(right, path):
            schema, _, name = path.partition(".")
            raise SqlError(229, right=right, name=name, database=self.database, schema=schema)

    def _converted(self, plan: Plan, kinds: Sequence[Type]) -> Callable[[Sequence[Any]], list[Any]]:
        """Return what makes the values of one row fit the columns of an INSERT."""
        steps: list[tuple[int, Convert, str]] = []
        for at, (kind, column) in enumerate(zip(kinds, plan.rows, strict=True)):
            if (convert := converter(kind, column.type, cut=False)) is not None:
                steps.append((at, convert, column.name))

        def fit(values: Sequence[Any]) -> list[Any]:
            row = list(values)
            for at, convert, name in steps:
                try:
                    row[at] = convert(row[at])
                except SqlError as error:
                    error.column = name
                    raise self._failure(error, plan, "") from None
            return row

        return fit

    def run_array(
        self, text: str, declared: Sequence[tuple[str, Type]], rows: Sequence[Sequence[Any]]
    ) -> Iterable[int | SqlError]:
        """Run a statement for each row of an array; yield for each its row count or its error.

        The rows of a plain INSERT inside a transaction go to SQLite in one go, up to the first that fails.
        """
        self.variables = {name: (kind, None) for name, kind in declared}
        nodes, at = self._parsed(text), 0
        while at < len(rows):
            done, error = self._rows_from(nodes, declared, rows, at)
            yield from [1] * done if error is not None or done else []
            at += done
            if error is not None:
                at += 1
                yield error

    def _rows_from(
        self, nodes: Sequence[Node], declared: Sequence[tuple[str, Type]], rows: Sequence[Sequence[Any]], at: int
    ) -> tuple[int, SqlError | None]:
        """Write rows from `at` on; return how many, and the error of the next one."""
        if len(nodes) != 1 or not isinstance(nodes[0], Statement):
            raise unknown("an array of parameters for more than one statement")
        text, done = nodes[0].text, 0

        def following() -> Iterable[list[Any]]:
            nonlocal done
            for row in rows[at:]:
                yield order(fit(row))
                done += 1

        def write() -> int:
            try:
                self._db.executemany(plan.sql, following())
            except (sqlite3.Error, OverflowError) as error:
                raise self._failure(error, plan, text, order(rows[at + done])) from None
            return done

        try:
            self._server.about_to(text)
            plan = self._plan(text)
            if plan.verb == "SELECT":
                raise unknown(f"an array of parameters for {text}")
            self._allowed(plan)
            places = [[name for name, _ in declared].index(name) for name in plan.names]
            order = lambda row: [row[place] for place in places]  # noqa: E731
            fit = (lambda row: row) if not plan.rows else self._fit_all(plan, [declared[p][1] for p in places])
            if plan.rows:
                inner, order = fit, lambda row: row
                fit = lambda row: inner([row[place] for place in places])  # noqa: E731
            self._changing(write, keep=True)
            self._server.rows += done
            self._server.did(text)
        except SqlError as error:
            self._end_of_row(error)
            return min(done, len(rows) - at - 1), error
        return done, None

    def _fit_all(self, plan: Plan, kinds: Sequence[Type]) -> Callable[[Sequence[Any]], list[Any]]:
        return self._converted(plan, kinds)

    def _end_of_row(self, error: SqlError) -> None:
        if error.number in ROLL_BACK or self._options["XACT_ABORT"]:
            self._rollback()

    def _failure(
        self, error: Exception, plan: Plan, text: str, values: Sequence[Any] = ()
    ) -> SqlError:
        raised, self.raised = self.raised, None
        found = raised if isinstance(raised, SqlError) else error
        return sql_error(found, plan, text, self.database, self._db, self._bound(plan), values)

    # --- transactions ---

    def _lock(self) -> None:
        """Take the lock that writes need, for as long as the transaction lasts."""
        if self._doomed:
            raise SqlError(3930)
        self._base.locks.acquire(WRITE, self, self._timeout, self._look)
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def _changing(self, change: Callable[[], int], *, keep: bool = False) -> int:
        """Make a change, all or nothing (or, with `keep`, what succeeded), in the transaction or one of its own."""
        if self._options["IMPLICIT_TRANSACTIONS"] and not self._depth:
            self._begin()
        self._lock()
        self._db.execute("SAVEPOINT _statement")
        try:
            count = change()
        except BaseException:
            if not keep:
                self._db.execute("ROLLBACK TO _statement")
            raise
        finally:
            self._db.execute("RELEASE _statement")
            if not self._depth:
                self._end("COMMIT")
        return count

    def _begin(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self.on_transaction(True, False)

    def _end(self, word: str) -> None:
        if self._db.in_transaction:
            self._db.execute(word)
        self._base.locks.release_all(self)

    def _rollback(self) -> None:
        began, self._depth, self._doomed = self._depth > 0, 0, False
        self._end("ROLLBACK")
        if began:
            self.on_transaction(False, False)

    def _begin_transaction(self, statement: Statement) -> None:
        if self._options["IMPLICIT_TRANSACTIONS"] and not self._depth:
            self._begin()  # SQL Server counts twice here
        self._begin()

    def _commit_transaction(self, statement: Statement) -> None:
        if not self._depth:
            raise SqlError(3902)
        if self._doomed:
            raise SqlError(3930)
        self._depth -= 1
        if not self._depth:
            self._end("COMMIT")
            self.on_transaction(False, True)
        self.reply.done()

    def _rollback_transaction(self, statement: Statement) -> None:
        name = statement.text.split()[-1] if len(statement.words) > 2 else ""
        if not self._depth:
            raise SqlError(3903)
        if not name:
            self._rollback()
        elif self._doomed:
            raise SqlError(3931)
        else:
            self._sqlite(f"ROLLBACK TO {quote(parts(name)[0])}", SqlError(6401, name=name))
        self.reply.done()

    def _save_transaction(self, statement: Statement) -> None:
        if not self._depth:
            raise SqlError(628, "Cannot issue SAVE TRANSACTION when there is no active transaction.")
        self._lock()
        self._db.execute(f"SAVEPOINT {quote(parts(statement.text.split()[-1])[0])}")
        self.reply.done()

    def _sqlite(self, sql: str, otherwise: SqlError) -> None:
        try:
            self._db.execute(sql)
        except sqlite3.OperationalError:
            raise otherwise from None

    # --- variables, options, procedures ---

    def _assign(self, name: str, value: Any) -> None:
        if name not in self.variables:
            raise SqlError(137, name="@" + name)
        kind = self.variables[name][0]
        convert = converter(None, kind, cut=True)
        self.variables[name] = kind, convert(value) if convert else value

    def _declare(self, statement: Statement) -> None:
        for name, kind, value in ddl.declared(statement.text):
            self.variables[name] = type_from_text(kind), None
            if value:
                self._assign(name, self._value(value))

    def _set(self, statement: Statement) -> None:
        words = statement.words
        if found := re.match(r"SET\s+@(\w+)\s*=\s*(.+)", statement.text, re.DOTALL | re.IGNORECASE):
            self._assign(found[1].lower(), self._value(found[2]))
        elif words[1] in OPTIONS:
            self._options[words[1]] = words[2] == "ON"
        elif words[1] == "LOCK_TIMEOUT":
            milliseconds = int(statement.text.split()[-1])
            self._timeout = None if milliseconds < 0 else milliseconds / 1000
        elif words[1] == "IDENTITY_INSERT":
            table = self.translator().table(ddl.table_in(re.sub(r"(?i)^SET\s+IDENTITY_INSERT|\w+$", "", statement.text)))
            self._identity_insert = table.path if words[-1] == "ON" else ""
            self._base.identities.pop(table.id, None)
        elif words[1] not in IGNORED:
            raise unknown(statement.text)

    def _throw(self, statement: Statement) -> None:
        if len(statement.words) == 1 and self.caught:
            raise self.caught
        number, text, state = [self._value(part) for part in ddl.split(statement.text[5:])]
        raise SqlError(number, text, state=state)

    def _raise(self, statement: Statement) -> None:
        inside = statement.text[statement.text.index("(") + 1 : statement.text.rindex(")")]
        text, severity, state = [self._value(part) for part in ddl.split(inside)][:3]
        error = SqlError(50000, str(text), severity=severity, state=state)
        if severity > 10 and self._tries:
            raise error
        self._tell(error)

    def _execute(self, statement: Statement) -> None:
        found = re.match(r"EXEC(?:UTE)?\s+(?:@(\w+)\s*=\s*)?([\w.\[\]]+)\s*(.*)", statement.text, re.DOTALL | re.IGNORECASE)
        if not found:
            raise unknown(statement.text)
        arguments: dict[str | int, Any] = {}
        for at, part in enumerate(ddl.split(found[3])):
            name, value, _ = ARGUMENT.fullmatch(part).groups()  # type: ignore[union-attr]
            arguments[name.lower() if name else at] = self._value(value)
        procedure = CALLED.get(parts(found[2])[-1].lower())
        if procedure is None:
            raise SqlError(2812, name=found[2])
        status = procedure(self, arguments)
        if found[1]:
            self._assign(found[1].lower(), status)

    def _get_lock(self, arguments: Mapping[str | int, Any]) -> int:
        wait = int(arguments.get("locktimeout", -1))
        if not self._depth and arguments.get("lockowner", "Transaction").lower() == "transaction":
            return -999
        name = f"application {arguments.get('resource', arguments.get(0))}"
        free = self._base.locks.free(name, self)
        try:
            self._base.locks.acquire(name, self, None if wait < 0 else wait / 1000, self._look)
        except SqlError as error:
            return -1 if error.number == 1222 else -3
        return 0 if free else 1

    def _release_lock(self, arguments: Mapping[str | int, Any]) -> int:
        name = f"application {arguments.get('resource', arguments.get(0))}"
        return 0 if self._base.locks.release(name, self) else -999

    def _rename(self, arguments: Mapping[str | int, Any]) -> int:
        old, new = (arguments.get(name, arguments.get(at)) for at, name in enumerate(("objname", "newname")))
        table = self.translator().table(ddl.table_in(old))
        self._changing(lambda: self.catalogue.rename(table, new) or 0)
        return 0

    def _dynamic(self, arguments: Mapping[str | int, Any]) -> int:
        if len(arguments) > 1:
            raise unknown("sp_executesql with parameters inside a batch")
        self._nodes(self._parsed(next(iter(arguments.values()))))
        return 0

    # --- tables ---

    def _kill(self, statement: Statement) -> None:
        self._server.kill(int(statement.words[1]))
        self.reply.done()

    def _define(self, statement: Statement) -> None:
        if statement.words[1] == "DATABASE":
            self._define_database(statement)
            return
        if self._server.denied(" ".join(statement.words[:2]), None):
            raise SqlError(262, right=" ".join(statement.words[:2]), database=self.database)
        try:
            self._changing(lambda: ddl.define(self, statement))
        except sqlite3.Error as error:
            raise self._failure(error, Plan("CREATE", "", ()), statement.text) from None
        self.reply.done()


    def _define_database(self, statement: Statement) -> None:
        """CREATE and DROP DATABASE; of ALTER DATABASE what sends its users away."""
        verb, (name, *options) = statement.words[0], ddl.names(statement.text)[2:]
        exists = self._server.exists(name)
        if verb == "CREATE" and exists:
            raise SqlError(1801, f"Database '{name}' already exists. Choose a different database name.")
        if verb != "CREATE" and not exists:
            raise SqlError(3701 if verb == "DROP" else 5011, f"Cannot find the database '{name}'.", severity=11)
        if verb == "CREATE":
            self._server.create(name)
        elif verb == "DROP":
            self._server.drop(name)
        elif "SINGLE_USER" in options:
            self._server.drop_connections(name, spare=self)
        else:
            raise unknown(statement.text)
        self.reply.done()


VERBS: dict[str, Callable[[Session, Statement], None]] = {
    "SELECT": Session._query, "WITH": Session._query, "INSERT": Session._write, "UPDATE": Session._write,
    "DELETE": Session._write, "TRUNCATE": Session._write, "BEGIN": Session._begin_transaction,
    "COMMIT": Session._commit_transaction, "ROLLBACK": Session._rollback_transaction,
    "SAVE": Session._save_transaction, "DECLARE": Session._declare, "SET": Session._set, "THROW": Session._throw,
    "RAISERROR": Session._raise, "EXEC": Session._execute, "EXECUTE": Session._execute, "CREATE": Session._define,
    "ALTER": Session._define, "DROP": Session._define, "KILL": Session._kill,
}  # fmt: skip
CALLED: dict[str, Callable[[Session, Mapping[str | int, Any]], int]] = {
    "sp_getapplock": Session._get_lock, "sp_releaseapplock": Session._release_lock, "sp_rename": Session._rename,
    "sp_executesql": Session._dynamic,
}  # fmt: skip


def _kind(values: Iterable[Any]) -> Type:
    """Return a type for values whose type nothing tells."""
    found = [value for value in values if value is not None]
    if any(isinstance(value, int) for value in found):
        return Type("bigint") if any(abs(value) >= 2**31 for value in found) else Type("int")
    return type_of(max(found, key=len) if found and isinstance(found[0], str | bytes) else (found or [None])[0])
