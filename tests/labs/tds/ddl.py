"""CREATE and DROP, and the pieces of statements that no parser of SQL takes apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.dialects.tsql import TSQL

from labs.tds import rights
from labs.tds.errors import SqlError, unknown
from labs.tds.kinds import kind_in, name_of
from labs.tds.objects import Column, Index, Table, parts, quote
from labs.tds.parsing import read

if TYPE_CHECKING:
    from labs.tds.batch import Statement
    from labs.tds.session import Session

DECLARED = re.compile(r"@(\w+)\s+(?:AS\s+)?([A-Za-z]\w*(?:\s*\([^)]*\))?)", re.IGNORECASE)


def define(session: Session, statement: Statement) -> int:
    """Run a statement that changes tables."""
    if statement.words[:2] == ("CREATE", "SCHEMA"):
        rights.require(session, "CREATE SCHEMA")
        session.catalogue.add_schema(parts(statement.text.split()[2])[0])
        return 0
    tree = read(statement.text)
    kind = str(tree.args.get("kind") or "").upper()
    if isinstance(tree, exp.Create) and kind == "TABLE" and isinstance(tree.this, exp.Schema):
        _create_table(session, tree)
    elif isinstance(tree, exp.Create) and kind == "INDEX":
        _create_index(session, tree.this, unique=bool(tree.args.get("unique")))
    elif isinstance(tree, exp.Drop) and kind == "TABLE":
        _drop(session, tree)
    else:
        raise unknown(statement.text)
    return 0


def _drop(session: Session, tree: exp.Drop) -> None:
    for node in tree.args["tables"]:
        found = session.catalogue.table(node.db or "dbo", name_of(node.this))
        if found and rights.may_drop(session, found):
            session.catalogue.drop(found)
        elif found or not tree.args.get("exists"):
            raise SqlError(3701, name=name_of(node.this))


class _Constraints:
    """The constraints of a table that is being made."""

    def __init__(self, session: Session, schema: str, name: str) -> None:
        self.session, self.schema, self.name = session, schema, name
        self.indexes: list[Index] = []
        self.checks: list[tuple[str, exp.Expr]] = []
        self.references: list[tuple[str, list[str], exp.Expr]] = []

    def title(self, prefix: str, given: str) -> str:
        """Return a constraint's name, or one as the server makes it."""
        count = len(self.indexes) + len(self.checks) + len(self.references)
        return (
            given
            or f"{prefix}__{self.name[:9]}__{abs(hash((self.schema, self.name, count))) & 0xFFFFFFFF:08X}"
        )

    def add(self, node: exp.Expr, given: str, column: str | None) -> bool:
        """Take a constraint of the table, or of one column."""
        if isinstance(node, exp.PrimaryKeyColumnConstraint | exp.PrimaryKey):
            columns = [column] if column else [_key(part) for part in node.expressions]
            self.indexes.append(Index(self.title("PK", given), tuple(columns), "PK"))
        elif isinstance(node, exp.UniqueColumnConstraint):
            columns = [column] if column else [_key(part) for part in node.this.expressions]
            self.indexes.append(Index(self.title("UQ", given), tuple(columns), "UQ"))
        elif isinstance(node, exp.CheckColumnConstraint):
            self.checks.append((self.title("CK", given), node.this))
        elif isinstance(node, exp.Reference):
            self.references.append((self.title("FK", given), [column or ""], node))
        elif isinstance(node, exp.ForeignKey):
            names = [name_of(part) for part in node.expressions]
            self.references.append((self.title("FK", given), names, node.args["reference"]))
        else:
            return False
        return True

    def sqlite(self) -> list[str]:
        """Return checks and foreign keys as SQLite has them in CREATE TABLE."""
        translator = self.session.translator()
        found = [f"CONSTRAINT {quote(name)} CHECK ({translator.check(node)})" for name, node in self.checks]
        for name, columns, reference in self.references:
            parent, theirs = _referenced(reference)
            table = translator.table(parent)
            theirs = theirs or next(index.columns for index in table.indexes if index.kind == "PK")
            found.append(f"CONSTRAINT {quote(name)} FOREIGN KEY ({_names(columns)}) "
                         f"REFERENCES {table.sqlite} ({_names(theirs)}) {_action(reference)}")  # fmt: skip
        return found

    def enter(self, table: Table) -> None:
        """Enter everything into the catalogue, and make the indexes."""
        catalogue = self.session.catalogue
        for name, node in self.checks:
            catalogue.add_object(self.schema, name, "C", table.id, definition=f"({node.sql('tsql')})")
        for name, _, reference in self.references:
            parent = self.session.translator().table(_referenced(reference)[0])
            catalogue.add_object(self.schema, name, "F", table.id, referenced_object_id=parent.id,
                                 delete_referential_action=int("CASCADE" in _action(reference)))  # fmt: skip
        # SQLite looks at the newest index first, SQL Server at the primary key.
        for index in sorted(self.indexes, key=lambda index: index.kind == "PK"):
            found = catalogue.table(self.schema, self.name)
            assert found
            catalogue.add_index(found, index)


def _create_table(session: Session, tree: exp.Create) -> None:
    node = tree.this.this
    schema, name = node.db or "dbo", name_of(node.this)
    if not name.startswith("#"):
        rights.require(session, "CREATE TABLE")
        rights.require(session, "ALTER", schema)
    if session.catalogue.table(schema, name):
        raise SqlError(2714, name=name)
    constraints = _Constraints(session, schema, name)
    columns = []
    for part in tree.this.expressions:
        if isinstance(part, exp.ColumnDef):
            columns.append(_column(part, constraints))
        else:
            inner = part.expressions if isinstance(part, exp.Constraint) else [part]
            given = part.name if isinstance(part, exp.Constraint) else ""
            if not all(constraints.add(one, given, None) for one in inner):
                raise unknown(part.sql("tsql"))
    keys = {name.lower() for index in constraints.indexes if index.kind == "PK" for name in index.columns}
    columns = [c._replace(nullable=c.nullable and c.name.lower() not in keys) for c in columns]
    table = session.catalogue.create(schema, name, columns, constraints.sqlite())
    constraints.enter(table)


def _column(part: exp.ColumnDef, constraints: _Constraints) -> Column:
    name = name_of(part.this)
    if part.args.get("kind") is None:
        raise unknown(part.sql("tsql"))
    column = Column(name, kind_in(part.args["kind"]))
    for constraint in part.args.get("constraints") or []:
        node = constraint.args["kind"]
        if isinstance(node, exp.NotNullColumnConstraint):
            column = column._replace(nullable=bool(node.args.get("allow_null")))
        elif isinstance(node, exp.GeneratedAsIdentityColumnConstraint):
            seed = node.args.get("start")
            column = column._replace(identity=True, nullable=False, seed=int(seed.to_py()) if seed else 1)
        elif isinstance(node, exp.CollateColumnConstraint):
            column = column._replace(collation=node.this.name)
        elif isinstance(node, exp.DefaultColumnConstraint):
            column = column._replace(default=node.this.sql("tsql"), default_name=constraint.name or None)
        elif not constraints.add(node, constraint.name, name):
            raise unknown(part.sql("tsql"))
    return column


def _create_index(session: Session, node: exp.Index, *, unique: bool) -> None:
    table = session.translator().table(node.args["table"])
    rights.require(session, "ALTER", table)
    parameters = node.args["params"]
    columns = tuple(_key(part) for part in parameters.args["columns"])
    where = parameters.args.get("where")
    condition = f"WHERE {session.translator().check(where.this)}" if where else None
    session.catalogue.add_index(table, Index(node.name, columns, "", unique, condition))


def _referenced(node: exp.Expr) -> tuple[exp.Expr, tuple[str, ...]]:
    if isinstance(node.this, exp.Schema):
        return node.this.this, tuple(name_of(part) for part in node.this.expressions)
    return node.this, ()


def _action(node: exp.Expr) -> str:
    return " ".join(str(option) for option in node.args.get("options") or [])


def _key(node: exp.Expr) -> str:
    while not isinstance(node, exp.Identifier):
        node = node.this
    return name_of(node)


def _names(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(quote, names))


def table_in(path: str) -> exp.Table:
    """Return a name as the table it names."""
    schema, name = ["dbo", *parts(path.strip())][-2:]
    return exp.Table(this=exp.to_identifier(name, quoted=True), db=exp.to_identifier(schema, quoted=True))


def split(text: str) -> list[str]:
    """Return the parts of a list, cut at commas outside of brackets."""
    depth, start, found = 0, 0, []
    for token in TSQL().tokenize(text):
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and not depth:
            found.append(text[start : token.start])
            start = token.end + 1
    return [*found, text[start:]] if text.strip() else []


def words(text: str) -> list[str]:
    """Return the words of a statement, names without their quotes."""
    return [token.text for token in TSQL().tokenize(text)]


def declared(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and type of what DECLARE declares."""
    for part in split(re.sub(r"(?i)^DECLARE\b", "", text)):
        if not (found := DECLARED.fullmatch(part.strip())):
            raise unknown(text)
        yield found[1].lower(), found[2]
