"""Translates expressions from T-SQL to SQLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlglot import exp

from labs.tds.catalogue import Catalogue
from labs.tds.errors import SqlError, unknown
from labs.tds.functions import KINDS
from labs.tds.kinds import RENAMED, Kinds, ctes, kind_in, name_of
from labs.tds.objects import Table
from labs.tds.parsing import write
from labs.tds.types import TEXTS, Type


class Expressions:
    """Translates against a catalogue; `variables` gives the types of @names.

    It notes which variables an expression needs, and which tables it looks at.
    """

    def __init__(self, catalogue: Catalogue, variables: Mapping[str, Type]) -> None:
        self._catalogue, self._variables = catalogue, variables
        self._kinds = Kinds(catalogue, variables)
        self._names: list[str] = []
        self._reads: set[Table] = set()

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
        self._reads.add(table)
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
        return exp.Var(this=cast_sql(write(inner), node.meta["source"], kind_in(node.to), cut=True))

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


NODES: dict[type[exp.Expr], Callable[[Expressions, Any], exp.Expr]] = {
    exp.Parameter: Expressions._parameter, exp.Table: Expressions._table, exp.Cast: Expressions._cast,
    exp.Literal: Expressions._literal, exp.Add: Expressions._add, exp.Sum: Expressions._sum,
    exp.Left: Expressions._left, exp.Column: Expressions._column_node,
    exp.National: lambda _, node: exp.Literal.string(node.name),
}  # fmt: skip


def cast_sql(sql: str, source: Type | None, target: Type, *, cut: bool, column: str = "") -> str:
    """Return SQL that converts a value; `column` is what an error names."""
    name = column.replace("'", "''")
    return f"t_cast({sql}, '{source or ''}', '{target}', {int(cut)}, '{name}')"
