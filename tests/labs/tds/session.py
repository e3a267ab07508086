"""A session: runs batches, and does to statement, batch and transaction what an error does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from labs.tds import bulk, bulk_rows, grants, rights, rows, statements
from labs.tds.batch import If, Node, Statement, Try, parse
from labs.tds.catalogue import Catalogue
from labs.tds.errors import COMPILE, ROLL_BACK, SqlError, unknown
from labs.tds.functions import VERSION, register
from labs.tds.objects import quote
from labs.tds.transaction import Transaction
from labs.tds.translate import Plan, Translator
from labs.tds.types import Type
from labs.tds.values import converter
from labs.tds.violations import sql_error
from labs.tds.wire import Reply

if TYPE_CHECKING:
    from labs.tds.server import Database, Server

Variables = Mapping[str, tuple[Type, Any]]
Verb = Callable[["Session", Statement], None]
PLANS = 500  # kept for statements that come again


class BatchEndError(Exception):
    """The batch ends here; its error has been told."""


class Session:
    """One login in one database; what its statements answer goes to `reply`."""

    def __init__(
        self, server: Server, base: Database, user: str, look: Callable[[], None], number: int
    ) -> None:
        self.server, self.base, self.user, self.number = server, base, user, number
        self.database = base.name
        self.db = sqlite3.connect(base.path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA synchronous = OFF")  # nothing here outlives a crash of the machine
        self.catalogue = Catalogue(self.db)
        self.transaction = Transaction(self.db, base.locks, look)
        self.raised: Exception | None = None  # by a function that SQLite called
        self.caught: SqlError | None = None  # by the CATCH that runs
        self.reply = Reply()
        self.variables: dict[str, tuple[Type, Any]] = {}
        self.count = 0  # @@ROWCOUNT
        self._tries = 0
        self.announced: bulk.Load | None = None  # by INSERT BULK
        self._plans: dict[Any, Plan] = {}
        self._defaults()
        register(self.db, self)

    def _defaults(self) -> None:
        self.abort = self.silent = False  # XACT_ABORT, NOCOUNT
        self.identity_insert = ""
        self.transaction.timeout = None

    def reset(self) -> None:
        """Forget what the last user of a pooled connection left."""
        self.transaction.rollback()
        found = self.db.execute("SELECT name FROM temp.sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in found:
            if table := self.catalogue.table("dbo", name):
                self.catalogue.drop(table)
        self._defaults()

    def close(self) -> None:
        """Roll back and leave."""
        self.transaction.rollback()
        self.db.close()

    # --- what functions ask for ---

    def state(self) -> int:
        """Return XACT_STATE()."""
        return -1 if self.transaction.doomed else int(self.transaction.depth > 0)

    def variable(self, name: str) -> Any:
        """Return a global variable. Raises SqlError 137."""
        timeout = self.transaction.timeout
        known = {"@@TRANCOUNT": self.transaction.depth, "@@ROWCOUNT": self.count, "@@SPID": self.number,
                 "@@VERSION": f"Stand-in for Microsoft SQL Server {VERSION}", "@@SERVERNAME": "stand-in",
                 "@@LOCK_TIMEOUT": -1 if timeout is None else int(timeout * 1000)}  # fmt: skip
        if name.upper() not in known:
            raise SqlError(137, name=name)
        return known[name.upper()]

    def permitted(self, securable: str | None, kind: str | None, right: str) -> int | None:
        """Return HAS_PERMS_BY_NAME()."""
        return rights.has_perms_by_name(self, securable, kind, right)

    def user_name(self) -> str | None:
        """Return USER_NAME(), or None for a login without a user here."""
        return rights.user_name(self)

    def next_identity(self, number: int) -> int:
        """Return the next value of a table's identity; a rollback leaves a gap."""
        counters = self.base.identities
        if number not in counters:
            table = self.catalogue.by_id(number)
            column = next(column for column in table.columns if column.identity)
            (last,) = self.db.execute(f"SELECT max({quote(column.name)}) FROM {table.sqlite}").fetchone()
            counters[number] = column.seed - 1 if last is None else last
        counters[number] += 1
        return counters[number]

    # --- expressions and variables ---

    def translator(self) -> Translator:
        """Return a translator for the session's state."""
        kinds = {name: kind for name, (kind, _) in self.variables.items()}
        return Translator(self.catalogue, kinds, self.identity_insert)

    def plan(self, text: str) -> Plan:
        """Return the plan of a statement."""
        kinds = tuple((name, kind) for name, (kind, _) in self.variables.items())
        key = text, kinds, self.identity_insert, self.catalogue.version
        if key not in self._plans:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            self._plans[key] = self.translator().plan(text)
        return self._plans[key]

    def bound(self, plan: Plan) -> list[Any]:
        """Return the values of a plan's parameters."""
        return [self.variables[name][1] for name in plan.names]

    def value(self, expression: str) -> Any:
        """Return what an expression comes to."""
        plan = self.translator().expression(expression)
        try:
            return self.db.execute(plan.sql, self.bound(plan)).fetchone()[0]
        except sqlite3.Error as error:
            raise self.failure(error, plan, expression) from None

    def assign(self, name: str, value: Any) -> None:
        """Set a variable. Raises SqlError 137."""
        if name not in self.variables:
            raise SqlError(137, name="@" + name)
        kind = self.variables[name][0]
        convert = converter(None, kind, cut=True)
        self.variables[name] = kind, convert(value) if convert else value

    # --- batches ---

    def run(self, text: str, variables: Variables | None = None) -> None:
        """Run a batch."""
        self.variables, self._tries, self.caught = dict(variables or {}), 0, None
        with suppress(BatchEndError):
            if path := bulk.asked(text):
                self._do(text, lambda: bulk.describe(self, path))
            else:
                self.nodes(self.parsed(text))
        if self.transaction.doomed:
            self.transaction.rollback()
            self.tell(SqlError(3998))

    def run_array(
        self, text: str, declared: Sequence[tuple[str, Type]], values: Sequence[Sequence[Any]]
    ) -> Iterable[int | SqlError]:
        """Run a statement for each row of an array; yield for each its row count or its error."""
        self.variables = {name: (kind, None) for name, kind in declared}
        nodes = self.parsed(text)
        if len(nodes) != 1 or not isinstance(nodes[0], Statement):
            raise unknown(f"an array of parameters for {text}")
        for outcome in rows.write_array(self, nodes[0].text, declared, values):
            if isinstance(outcome, SqlError) and self._rolls_back(outcome):
                self.transaction.rollback()
            yield outcome

    def load(self, message: bytes) -> None:
        """Write the rows of a bulk load."""
        with suppress(BatchEndError):
            self._do("BULK LOAD", lambda: bulk_rows.load(self, message))

    def parsed(self, text: str) -> Sequence[Node]:
        """Return the statements of a batch. Raises BatchEndError."""
        try:
            return parse(text)
        except SqlError as error:
            self.tell(error)
            raise BatchEndError from None

    def nodes(self, nodes: Iterable[Node]) -> None:
        """Run statements and blocks."""
        for node in nodes:
            if isinstance(node, If):
                true = self.value(f"CASE WHEN {node.condition} THEN 1 ELSE 0 END")
                self.nodes(node.then if true else node.otherwise)
            elif isinstance(node, Try):
                self._try(node)
            else:
                self._statement(node)

    def _try(self, node: Try) -> None:
        self._tries += 1
        try:
            self.nodes(node.body)
        except SqlError as error:
            self._tries -= 1
            before, self.caught = self.caught, error
            self.nodes(node.catch)
            self.caught = before
        else:
            self._tries -= 1

    def _statement(self, statement: Statement) -> None:
        verb = VERBS.get(" ".join(statement.words[:2])) or VERBS.get(statement.words[0], _unknown)
        self._do(statement.text, lambda: verb(self, statement))

    def _do(self, text: str, act: Callable[[], None]) -> None:
        """Do what `text` says, or fail as it was asked to fail."""
        try:
            self.server.about_to(text)
            act()
            self.server.did(text)
        except SqlError as error:
            self._fail(error)

    def _fail(self, error: SqlError) -> None:
        rolls_back = self._rolls_back(error) and error.severity > 10
        if self._tries and error.severity > 10:
            self.transaction.doomed |= rolls_back and self.transaction.depth > 0
            raise error
        if rolls_back:
            self.transaction.rollback()
        self.tell(error)
        if rolls_back or error.number in COMPILE:
            raise BatchEndError

    def _rolls_back(self, error: SqlError) -> bool:
        return error.number in ROLL_BACK or (self.abort and error.number not in COMPILE)

    def tell(self, error: SqlError) -> None:
        """Send an error."""
        self.reply.error(error)
        self.reply.done()

    def failure(
        self, error: Exception, plan: Plan, text: str, row: Sequence[Any] = (), bound: Sequence[Any] = ()
    ) -> SqlError:
        """Return what SQL Server would say to an error of SQLite, or of a function that it called."""
        raised, self.raised = self.raised, None
        return sql_error(raised or error, plan, text, self.database, self.db, bound, row)


def _unknown(_: Session, statement: Statement) -> None:
    raise unknown(statement.text)


VERBS: dict[str, Verb] = {
    "SELECT": rows.query, "WITH": rows.query, "INSERT": rows.write, "INSERT BULK": bulk.announce,
    "UPDATE": rows.write, "DELETE": rows.write, "TRUNCATE": rows.write, **statements.VERBS,
    **grants.VERBS,
}  # fmt: skip
