"""Translates one statement that reads or writes rows from T-SQL to SQLite, and works its types out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from sqlglot import exp

from labs.tds.catalogue import Catalogue
from labs.tds.errors import SqlError, unknown
from labs.tds.expressions import Expressions, cast_sql
from labs.tds.kinds import name_of
from labs.tds.objects import Column, Table
from labs.tds.parsing import plain, read, write
from labs.tds.types import Type

LOCKING = {"UPDLOCK", "XLOCK", "TABLOCKX", "HOLDLOCK", "REPEATABLEREAD", "SERIALIZABLE"}


class Plan(NamedTuple):
    """A statement for SQLite: `names` are its parameters in order, `columns` those of its result.

    `rows` holds, for an INSERT of nothing but parameters, the column of each of them; `reads` the tables
    that are looked at; `source` what an INSERT … SELECT inserts; `locks` says that others have to wait.
    """

    verb: str
    sql: str
    names: tuple[str, ...]
    columns: tuple[tuple[str, Type | None], ...] = ()
    table: Table | None = None
    rows: tuple[Column, ...] = ()
    reads: tuple[Table, ...] = ()
    source: str = ""
    locks: bool = False


class Translator(Expressions):
    """Translates statements; `identity_insert` is the table whose identities may be given."""

    def __init__(
        self, catalogue: Catalogue, variables: Mapping[str, Type], identity_insert: str = ""
    ) -> None:
        super().__init__(catalogue, variables)
        self._identity_insert = identity_insert

    def plan(self, text: str) -> Plan:
        """Return the plan of a SELECT, INSERT, UPDATE or DELETE."""
        tree = read(text)
        if isinstance(tree, exp.Insert):
            plan = self._insert(tree)
        elif isinstance(tree, exp.Update):
            plan = self._update(tree)
        elif isinstance(tree, exp.Delete):
            plan = self._delete(tree)
        elif isinstance(tree, exp.TruncateTable):
            table = self.table(tree.expressions[0])
            plan = Plan("TRUNCATE", f"DELETE FROM {table.sqlite}", (), table=table)
        elif isinstance(tree, exp.Query):
            plan = self._select(tree)
        else:
            raise unknown(text)
        locks = plan.verb != "SELECT" or not LOCKING.isdisjoint(plain(text)[1])
        reads = tuple(sorted(self._reads, key=attrgetter("path")))
        return plan._replace(names=tuple(self._names), locks=locks, reads=reads)

    def expression(self, text: str) -> Plan:
        """Return the plan of a SELECT of one expression."""
        plan = self._select(read(f"SELECT {text}"))
        return plan._replace(names=tuple(self._names))

    def _select(self, tree: exp.Expr) -> Plan:
        columns = tuple(self._kinds.projection(tree))
        return Plan("SELECT", write(self._translated(tree)), (), columns)

    def _insert(self, tree: exp.Insert) -> Plan:
        table = self.table(tree.this)
        named = [name_of(c) for c in tree.this.expressions] if isinstance(tree.this, exp.Schema) else None
        columns = self._targets(table, named)
        source = tree.expression
        if isinstance(source, exp.Values):
            return self._insert_values(table, columns, source)
        if not isinstance(source, exp.Query):
            raise unknown(tree.sql("tsql"))
        kinds = self._kinds.projection(source)
        if len(kinds) != len(columns):
            raise SqlError(
                121, "The select list for the INSERT statement does not match the insert list.", severity=15
            )
        inner = write(self._translated(source))
        names = [f"c{at}" for at in range(len(columns))]
        terms = [exp.column(n).sql() for n in names]
        values = [
            _converted(term, kind, column)
            for term, (_, kind), column in zip(terms, kinds, columns, strict=True)
        ]
        filled, extra = self._filled(table, columns)
        into = ", ".join(f"`{column.name}`" for column in [*columns, *filled])
        listed = [
            f"{value} AS `{column.name}`"
            for value, column in zip([*values, *extra], [*columns, *filled], strict=True)
        ]
        selected = f"WITH src ({', '.join(names)}) AS ({inner}) SELECT {', '.join(listed)} FROM src"
        return Plan(
            "INSERT", f"INSERT INTO {table.sqlite} ({into}) {selected}", (), table=table, source=selected
        )

    def _insert_values(self, table: Table, columns: Sequence[Column], source: exp.Values) -> Plan:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in source.expressions]
        if any(len(row) != len(columns) for row in rows):
            raise SqlError(
                110, "There are fewer or more columns in the INSERT statement than values.", severity=15
            )
        bare = len(rows) == 1 and all(_variable(cell) for cell in rows[0])
        filled, extra = self._filled(table, columns)
        texts = []
        for row in rows:
            cells = []
            for cell, column in zip(row, columns, strict=True):
                kind = column.type if bare else self._kinds.kind(cell)
                cells.append(_converted(write(self._translated(cell)), kind, column))
            texts.append(f"({', '.join([*cells, *extra])})")
        into = ", ".join(f"`{column.name}`" for column in [*columns, *filled])
        sql = f"INSERT INTO {table.sqlite} ({into}) VALUES {', '.join(texts)}"
        bare = bare and len(set(self._names)) == len(columns)
        return Plan("INSERT", sql, (), table=table, rows=tuple(columns) if bare else ())

    def _targets(self, table: Table, named: Sequence[str] | None) -> list[Column]:
        explicit = self._identity_insert.lower() == table.path.lower()
        if named is None:
            return [c for c in table.columns if not c.computed and (explicit or not c.identity)]
        columns = [self._column(table, name) for name in named]
        if any(column.identity for column in columns) and not explicit:
            raise SqlError(544, table=table.name)
        return columns

    def _column(self, table: Table, name: str) -> Column:
        if (found := table.column(name)) is None:
            raise SqlError(207, name=name)
        return found

    def _filled(self, table: Table, given: Sequence[Column]) -> tuple[list[Column], list[str]]:
        """Return the columns that the server fills, and with what."""
        columns, values = [], []
        for column in table.columns:
            if column in given or not (column.identity or column.default):
                continue
            value = f"t_next_identity({table.id})"
            if not column.identity:
                default = read(f"SELECT {column.default}").expressions[0]
                kind = self._kinds.kind(default)
                value = _converted(write(self._translated(default)), kind, column)
            columns.append(column)
            values.append(value)
        return columns, values

    def _update(self, tree: exp.Update) -> Plan:
        table, alias, others, where = self._from(
            tree, tree.this, tree.args.get("from_") or tree.args.get("from")
        )
        changes = []
        for change in tree.expressions:
            if not isinstance(change, exp.EQ) or not isinstance(change.this, exp.Column):
                raise unknown(tree.sql("tsql"))
            column = self._column(table, change.this.name)
            value = _converted(
                write(self._translated(change.expression)), self._kinds.kind(change.expression), column
            )
            changes.append(f"`{column.name}` = {value}")
        sql = (
            f"UPDATE {table.sqlite} AS {alias} SET {', '.join(changes)}{others and f' FROM {others}'}{where}"
        )
        return Plan("UPDATE", sql, (), table=table)

    def _delete(self, tree: exp.Delete) -> Plan:
        targets = tree.args.get("tables")
        target = targets[0] if targets else tree.this
        origin = exp.From(this=tree.this) if targets else None
        table, alias, others, where = self._from(tree, target, origin)
        if others:
            raise unknown(tree.sql("tsql"))
        return Plan("DELETE", f"DELETE FROM {table.sqlite} AS {alias}{where}", (), table=table)

    def _from(
        self, tree: exp.Expr, target: exp.Table, origin: exp.From | None
    ) -> tuple[Table, str, str, str]:
        """Return the table to change, its alias, the other tables and the condition, as SQL."""
        conditions = [tree.args["where"].this] if tree.args.get("where") else []
        others: list[exp.Expr] = []
        found: exp.Expr = target
        if origin:
            first = origin.this
            joins = [*(first.args.get("joins") or []), *(tree.args.get("joins") or [])]
            if any(join.side or join.kind not in ("", "INNER") for join in joins):
                raise unknown(tree.sql("tsql"))
            tables = [first, *(join.this for join in joins)]
            conditions += [join.args["on"] for join in joins if join.args.get("on")]
            wanted = name_of(target.this).lower()
            match = [t for t in tables if (t.alias or name_of(t.this)).lower() == wanted]
            found = match[0] if match else target
            others = [t for t in tables if t is not found]
        table = self.table(found)
        alias = f"`{found.alias or name_of(found.this)}`"
        if conditions:
            self._reads.add(table)
        where = " AND ".join(f"({write(self._translated(c))})" for c in conditions)
        listed = []
        for other in others:
            plain = other.copy()
            plain.set("joins", None)
            plain.parent = other.parent
            listed.append(write(self._translated(plain)))
        return table, alias, ", ".join(listed), where and f" WHERE {where}"


def _variable(node: exp.Expr) -> bool:
    return isinstance(node, exp.Parameter) and not isinstance(node.this, exp.Parameter)


def _converted(sql: str, kind: Type | None, column: Column) -> str:
    """Return SQL that makes a value fit to be stored in a column."""
    return cast_sql(sql, kind, column.type, cut=False, column=column.name) if kind != column.type else sql
