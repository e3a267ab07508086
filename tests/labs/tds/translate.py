"""Translates one statement that reads or writes rows from T-SQL to SQLite, and works its types out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.dialects.tsql import TSQL
from sqlglot.errors import SqlglotError
from sqlglot.generators.sqlite import SQLiteGenerator
from sqlglot.tokenizer_core import TokenType

from labs.tds.catalogue import Catalogue
from labs.tds.errors import SqlError, unknown
from labs.tds.functions import KINDS
from labs.tds.kinds import RENAMED, Kinds, ctes, kind_in, name_of
from labs.tds.objects import Column, Table
from labs.tds.types import TEXTS, Type

HINTS = {"HOLDLOCK", "UPDLOCK", "TABLOCK", "TABLOCKX", "XLOCK", "ROWLOCK", "PAGLOCK", "NOLOCK", "READPAST",
         "REPEATABLEREAD", "READCOMMITTED", "SERIALIZABLE"}  # fmt: skip
LOCKING = {"UPDLOCK", "XLOCK", "TABLOCKX", "HOLDLOCK", "REPEATABLEREAD", "SERIALIZABLE"}
# What sqlglot does not tell apart or does not know.
NAMES = {TokenType.STRING, TokenType.NATIONAL_STRING, TokenType.IDENTIFIER}
REPLACED = {"CLUSTERED": "", "NONCLUSTERED": "", "REAL": "float(24)", "PERSISTED": ""}


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
    reads: tuple[str, ...] = ()
    source: str = ""
    locks: bool = False


class Generator(SQLiteGenerator):
    """Writes names in backticks: an unknown name in double quotes is a text to SQLite."""

    TRANSFORMS: ClassVar[dict[Any, Any]] = {
        **SQLiteGenerator.TRANSFORMS,
        exp.Identifier: lambda _, node: "`" + name_of(node).replace("`", "``") + "`",
    }


def plain(text: str) -> tuple[str, set[str]]:
    """Return a statement without its hints, and those; words are replaced that sqlglot takes amiss."""
    tokens, pieces, hints, at, end = TSQL().tokenize(text), [], set(), 0, 0
    words = ["" if token.token_type in NAMES else token.text.upper() for token in tokens] + [""] * 3
    while at < len(tokens):
        token, word, skip = tokens[at], words[at], 1
        piece = REPLACED.get(word)
        if word == "WITH" and words[at + 1] == "(" and words[at + 2] in HINTS:
            skip = words.index(")", at) - at + 1
            hints.update(HINTS.intersection(words[at : at + skip]))
            piece = ""
        elif word == "IDENTITY" and words[at + 1] != "(":
            piece = "IDENTITY(1, 1)"
        if piece is not None:
            pieces += [text[end : token.start], piece]
            end = tokens[at + skip - 1].end + 1
        at += skip
    return "".join([*pieces, text[end:]]), hints


def read(text: str) -> exp.Expr:
    """Parse one statement. Raises SqlError 102."""
    try:
        return sqlglot.parse_one(plain(text)[0], read="tsql")
    except SqlglotError as error:
        raise SqlError(102, f"Incorrect syntax: {error} in: {text}"[:1500], severity=15) from None


def write(node: exp.Expr) -> str:
    """Return a translated tree as SQL for SQLite. Raises SqlError if it cannot be said there."""
    try:
        return Generator(dialect="sqlite", unsupported_level=ErrorLevel.RAISE).generate(node)
    except SqlglotError as error:
        raise unknown(f"{error}: {node.sql('tsql')}") from None


class Translator:
    """Translates statements against a catalogue; `variables` gives the types of @names."""

    def __init__(
        self, catalogue: Catalogue, variables: Mapping[str, Type], identity_insert: str = ""
    ) -> None:
        self._catalogue, self._variables, self._identity_insert = catalogue, variables, identity_insert
        self._kinds = Kinds(catalogue, variables)
        self._names: list[str] = []
        self._reads: set[str] = set()

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
        return plan._replace(names=tuple(self._names), locks=locks, reads=tuple(sorted(self._reads)))

    def expression(self, text: str) -> Plan:
        """Return the plan of a SELECT of one expression."""
        plan = self._select(read(f"SELECT {text}"))
        return plan._replace(names=tuple(self._names))

    def check(self, node: exp.Expr) -> str:
        """Return a condition of a table, translated."""
        return write(self._translated(node))

    def table(self, node: exp.Expr) -> Table:
        """Return a table. Raises SqlError 208."""
        node = node.this if isinstance(node, exp.Schema) else node
        assert isinstance(node, exp.Table), node
        if (found := self._catalogue.table(node.db or "dbo", name_of(node.this))) is None:
            raise SqlError(208, name=".".join(filter(None, [node.db, name_of(node.this)])))
        return found

    # --- statements ---

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
        where = " AND ".join(f"({write(self._translated(c))})" for c in conditions)
        listed = []
        for other in others:
            plain = other.copy()
            plain.set("joins", None)
            plain.parent = other.parent
            listed.append(write(self._translated(plain)))
        return table, alias, ", ".join(listed), where and f" WHERE {where}"

    # --- trees ---

    def _translated(self, tree: exp.Expr) -> exp.Expr:
        """Return a tree for SQLite; types are looked up before anything is changed."""
        for node in tree.find_all(exp.Add, exp.Sum):
            node.meta["kind"] = self._kinds.kind(node)
        for node in tree.find_all(exp.Cast):
            node.meta["source"] = self._kinds.kind(node.this)
        return tree.transform(self._node)

    def _call(self, name: str, arguments: Sequence[exp.Expr]) -> exp.Expr:
        """Return a call of one of our functions; sqlglot does not look into what it was given instead."""
        inner = [argument.transform(self._node, copy=False) for argument in arguments]
        return exp.Anonymous(this=f"t_{name}", expressions=inner)

    def _node(self, node: exp.Expr) -> exp.Expr:
        if (known := RENAMED.get(type(node))) is not None:
            found = (node.args.get("this"), node.args.get("expression"))
            return self._call(known, [each for each in found if isinstance(each, exp.Expr)])
        if isinstance(node, exp.Anonymous):
            return self._anonymous(node)
        special = NODES.get(type(node))
        return special(self, node) if special else node

    def _anonymous(self, node: exp.Anonymous) -> exp.Expr:
        name = node.name.lower()
        if name.startswith("t_"):
            return node
        if name not in KINDS:
            raise SqlError(
                195,
                f"'{node.name}' is not a recognized built-in function name (in the stand-in).",
                severity=15,
            )
        return self._call(name, node.expressions)

    def _parameter(self, node: exp.Parameter) -> exp.Expr:
        if isinstance(node.this, exp.Parameter):
            return self._call("variable", [exp.Literal.string("@@" + node.this.name)])
        name = node.name.lower()
        if name not in self._variables:
            raise SqlError(137, name="@" + node.name)
        if name not in self._names:
            self._names.append(name)
        return exp.Var(this=f"?{self._names.index(name) + 1}")

    def _table(self, node: exp.Table) -> exp.Expr:
        if not isinstance(node.this, exp.Identifier):
            raise unknown(node.sql("tsql"))
        name = name_of(node.this)
        if not node.db and any(name.lower() == cte.alias.lower() for cte in ctes(node)):
            return node
        table = self.table(node)
        self._reads.add(table.path)
        plain = table.name if table.name.startswith("#") else f"{table.schema}.{table.name}"
        changed = exp.Table(this=exp.to_identifier(plain, quoted=True))
        changed.set(
            "alias", node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name, quoted=True))
        )
        joins = [join.transform(self._node, copy=False) for join in node.args.get("joins") or []]
        changed.set("joins", joins or None)
        return changed

    def _cast(self, node: exp.Cast) -> exp.Expr:
        inner: exp.Expr = node.this.transform(self._node, copy=False)
        if node.to.this == exp.DataType.Type.TEXT:
            return inner  # sqlglot's own addition
        return exp.Var(this=_cast_sql(write(inner), node.meta["source"], kind_in(node.to), cut=True))

    def _literal(self, node: exp.Literal) -> exp.Expr:
        if not node.is_string and "." in node.this and "e" not in node.this.lower():
            return exp.Literal.string(node.this)  # an exact number; SQLite would make it a float
        return node

    def _add(self, node: exp.Add) -> exp.Expr:
        if (kind := node.meta.get("kind")) is None or kind.name not in TEXTS:
            return node
        sides = [side.transform(self._node, copy=False) for side in (node.this, node.expression)]
        return exp.DPipe(this=sides[0], expression=sides[1])

    def _sum(self, node: exp.Sum) -> exp.Expr:
        kind = node.meta.get("kind")
        return self._call("sum", [node.this]) if kind and kind.name == "decimal" else node

    def _left(self, node: exp.Left) -> exp.Expr:
        text, length = (side.transform(self._node, copy=False) for side in (node.this, node.expression))
        return exp.Substring(this=text, start=exp.Literal.number(1), length=length)

    def _column_node(self, node: exp.Column) -> exp.Expr:
        return exp.column(node.this, table=node.args.get("table"))


NODES: dict[type[exp.Expr], Callable[[Translator, Any], exp.Expr]] = {
    exp.Parameter: Translator._parameter, exp.Table: Translator._table, exp.Cast: Translator._cast,
    exp.Literal: Translator._literal, exp.Add: Translator._add, exp.Sum: Translator._sum,
    exp.Left: Translator._left, exp.Column: Translator._column_node,
    exp.National: lambda _, node: exp.Literal.string(node.name),
}  # fmt: skip


def _variable(node: exp.Expr) -> bool:
    return isinstance(node, exp.Parameter) and not isinstance(node.this, exp.Parameter)


def _converted(sql: str, kind: Type | None, column: Column) -> str:
    """Return SQL that makes a value fit to be stored in a column."""
    return _cast_sql(sql, kind, column.type, cut=False, column=column.name) if kind != column.type else sql


def _cast_sql(sql: str, source: Type | None, target: Type, *, cut: bool, column: str = "") -> str:
    name = column.replace("'", "''")
    return f"t_cast({sql}, '{source or ''}', '{target}', {int(cut)}, '{name}')"
