"""The types of T-SQL's expressions, as far as a catalogue tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlglot import exp

from labs.tds.catalogue import Catalogue
from labs.tds.errors import unknown
from labs.tds.functions import INT, KINDS, TEXT
from labs.tds.types import INTEGERS, TEXTS, Type, type_of
from labs.tds.values import type_from_text

Columns = Sequence[tuple[str, Type | None]]  # of something that can be selected from

RENAMED: dict[type[exp.Expr], str] = {
    exp.ObjectId: "object_id", exp.CurrentSchema: "schema_name", exp.CurrentTimestamp: "getdate",
    exp.CurrentUser: "suser_sname", exp.Length: "len", exp.Uuid: "newid",
    exp.CurrentTimestampLTZ: "sysdatetimeoffset",
}  # fmt: skip


def name_of(node: Any) -> str:
    """Return a name; sqlglot keeps the # of a temporary table apart."""
    if node is None:
        return ""
    return f"{'#' if node.args.get('temporary') else ''}{node.name}"


def kind_in(node: exp.DataType) -> Type:
    """Return the type that a declaration or CAST names."""
    if node.this == exp.DataType.Type.USERDEFINED:
        return type_from_text(str(node.args["kind"]))
    return type_from_text(node.sql("tsql"))


def ctes(node: exp.Expr) -> list[exp.Expr]:
    """Return the WITH clauses that a part of a statement sees."""
    found: list[exp.Expr] = []
    while node.parent is not None:
        node = node.parent
        clause = node.args.get("with_") or node.args.get("with")
        found += clause.expressions if clause else []
    return found


class Kinds:
    """Works out types; `variables` gives those of @names."""

    def __init__(self, catalogue: Catalogue, variables: Mapping[str, Type]) -> None:
        self._catalogue, self._variables = catalogue, variables

    def kind(self, node: exp.Expr) -> Type | None:
        """Return the type of an expression, None if only its value will tell."""
        if type(node) in RENAMED:
            return KINDS[RENAMED[type(node)]]
        found = next((rule for classes, rule in RULES if isinstance(node, classes)), None)
        return found(self, node) if found else self._kind_of_operands(node)

    def _kind_of_cast(self, node: exp.Cast) -> Type:
        return TEXT if node.to.this == exp.DataType.Type.TEXT else kind_in(node.to)

    def _kind_of_window(self, node: exp.Window) -> Type | None:
        return Type("bigint") if isinstance(node.this, exp.RowNumber) else self.kind(node.this)

    def _kind_of_operands(self, node: exp.Expr) -> Type | None:
        if isinstance(node, exp.Case):
            kinds = [self.kind(branch.args["true"]) for branch in node.args["ifs"]]
        elif isinstance(node, exp.Coalesce):
            kinds = [self.kind(node.this), *map(self.kind, node.expressions)]
        elif isinstance(node, exp.Add | exp.Sub | exp.Mul):
            kinds = [self.kind(node.this), self.kind(node.expression)]
            kinds = kinds if all(k and (k.name in TEXTS or k.name in INTEGERS) for k in kinds) else []
        elif isinstance(node, exp.Max | exp.Min | exp.Paren | exp.Alias):
            kinds = [self.kind(node.this)]
        elif isinstance(node, exp.Sum):
            kind = self.kind(node.this)
            kinds = [Type("decimal", 0, 38, kind.scale)] if kind and kind.name == "decimal" else []
        else:
            kinds = []
        return next(filter(None, kinds), None)

    def _kind_of_column(self, node: exp.Column) -> Type | None:
        wanted, qualifier = node.name.lower(), name_of(node.args.get("table")).lower()
        scope: Any = node
        while (scope := scope.parent) is not None:
            if not isinstance(scope, exp.Select | exp.Update | exp.Delete):
                continue
            for alias, columns in self._sources(scope):
                kinds = {name.lower(): kind for name, kind in columns}
                if qualifier in ("", alias.lower()) and wanted in kinds:
                    return kinds[wanted]
        return None

    def _sources(self, scope: exp.Expr) -> list[tuple[str, Columns]]:
        origin = scope.args.get("from_") or scope.args.get("from")
        nodes = [origin.this] if origin else []
        if isinstance(scope, exp.Update | exp.Delete) and isinstance(scope.this, exp.Table):
            nodes.append(scope.this)
        nodes += [join.this for node in list(nodes) for join in node.args.get("joins") or []]
        nodes += [join.this for join in scope.args.get("joins") or []]
        return [(node.alias or name_of(node.this), self._columns(node)) for node in nodes]

    def _columns(self, node: exp.Expr) -> Columns:
        if isinstance(node, exp.Subquery):
            return self.projection(node)
        if not isinstance(node, exp.Table):
            raise unknown(node.sql("tsql"))
        for cte in ctes(node):
            if not node.db and cte.alias.lower() == node.name.lower():
                return self.projection(cte.this)
        table = self._catalogue.table(node.db or "dbo", name_of(node.this))
        return [(column.name, column.type) for column in table.columns] if table else []

    def projection(self, query: exp.Expr) -> Columns:
        """Return names and types of a query's columns."""
        while not isinstance(query, exp.Select):
            if not isinstance(query, exp.Subquery | exp.SetOperation):
                raise unknown(query.sql("tsql"))
            query = query.this
        found: list[tuple[str, Type | None]] = []
        for node in query.expressions:
            if node.is_star:
                qualifier = name_of(node.args.get("table")).lower() if isinstance(node, exp.Column) else ""
                for alias, columns in self._sources(query):
                    found += columns if qualifier in ("", alias.lower()) else []
            else:
                name = node.name if isinstance(node, exp.Column) else node.alias
                found.append((name, self.kind(node)))
        return found


def _literal_kind(node: exp.Literal) -> Type:
    if node.is_string:
        return Type("varchar", max(len(node.this), 1))
    if node.is_int:
        return type_of(int(node.this))
    if "e" in node.this.lower():
        return Type("float")
    whole, _, part = node.this.partition(".")
    return Type("decimal", 0, max(len(whole.lstrip("0")) + len(part), 1), len(part))


RULES: tuple[tuple[Any, Callable[[Kinds, Any], Type | None]], ...] = (
    (exp.Parameter, lambda kinds, node: kinds._variables.get(node.name.lower())),
    (exp.Column, Kinds._kind_of_column),
    (exp.Cast, Kinds._kind_of_cast),
    (exp.Literal, lambda _, node: _literal_kind(node)),
    (exp.Subquery | exp.Select, lambda kinds, node: kinds.projection(node)[0][1]),
    (exp.Anonymous, lambda _, node: KINDS.get(node.name.lower())),
    (exp.Count, lambda _, node: Type("bigint") if node.args.get("big_int") else INT),
    (
        exp.National | exp.Concat | exp.Left | exp.Substring | exp.Upper | exp.Lower | exp.Trim,
        lambda *_: TEXT,
    ),
    (exp.Window, Kinds._kind_of_window),
)
