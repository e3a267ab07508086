"""Answers to the driver's questions about statements and types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from labs.tds.errors import unknown
from labs.tds.kinds import Kinds, name_of
from labs.tds.objects import Column
from labs.tds.parsing import read
from labs.tds.types import Type

if TYPE_CHECKING:
    from labs.tds.session import Session

SMALL, WORD = Type("smallint"), Type("nvarchar", 128)
UNDECLARED = (
    ("parameter_ordinal", Type("int")), ("name", WORD), ("suggested_system_type_id", Type("int")),
    ("suggested_system_type_name", WORD), ("suggested_max_length", SMALL),
    ("suggested_precision", Type("tinyint")),
    ("suggested_scale", Type("tinyint")), ("suggested_user_type_id", Type("int")),
    ("suggested_user_type_database", WORD), ("suggested_user_type_schema", WORD),
    ("suggested_user_type_name", WORD),
    ("suggested_assembly_qualified_type_name", WORD), ("suggested_xml_collection_id", Type("int")),
    ("suggested_xml_collection_database", WORD), ("suggested_xml_collection_schema", WORD),
    ("suggested_xml_collection_name", WORD), ("suggested_is_xml_document", Type("bit")),
    ("suggested_is_case_sensitive", Type("bit")), ("suggested_is_fixed_length_clr_type", Type("bit")),
    ("suggested_is_input", Type("bit")), ("suggested_is_output", Type("bit")),
    ("formal_parameter_name", WORD), ("suggested_tds_type_id", Type("int")),
    ("suggested_tds_length", Type("int")),
)  # fmt: skip
# ODBC's types, for sp_datatype_info: pyodbc asks how long texts and bytes may be, and how exact moments.
ODBC = {12: ("varchar", 8000), -9: ("nvarchar", 4000), -3: ("varbinary", 8000), 93: ("datetime2", 27)}
TYPE_INFO = (
    ("TYPE_NAME", WORD), ("DATA_TYPE", SMALL), ("PRECISION", Type("int")), ("LITERAL_PREFIX", WORD),
    ("LITERAL_SUFFIX", WORD), ("CREATE_PARAMS", WORD), ("NULLABLE", SMALL), ("CASE_SENSITIVE", SMALL),
    ("SEARCHABLE", SMALL), ("UNSIGNED_ATTRIBUTE", SMALL), ("MONEY", SMALL), ("AUTO_INCREMENT", SMALL),
    ("LOCAL_TYPE_NAME", WORD), ("MINIMUM_SCALE", SMALL), ("MAXIMUM_SCALE", SMALL), ("SQL_DATA_TYPE", SMALL),
    ("SQL_DATETIME_SUB", SMALL), ("NUM_PREC_RADIX", Type("int")), ("INTERVAL_PRECISION", SMALL),
    ("USERTYPE", SMALL),
)  # fmt: skip


def type_infos(session: Session, wanted: int) -> None:
    """Answer sp_datatype_info: one ODBC type, or all for 0."""
    rows = [
        (name, code, size, None, None, None, 1, 0, 3, None, 0, None, name, None, 7, code, None, None, None, 0)
        for code, (name, size) in ODBC.items() if wanted in (0, code)
    ]  # fmt: skip
    names, kinds = zip(*TYPE_INFO, strict=True)
    count = session.reply.rows(names, kinds, rows)
    session.reply.done("SELECT", count)


def describe_parameters(session: Session, text: str) -> None:
    """Answer sp_describe_undeclared_parameters for INSERT … VALUES (?) and column = ?."""
    rows = []
    for number, (name, column) in enumerate(_columns(session, text), 1):
        kind = column.type
        row: list[Any] = [None] * len(UNDECLARED)
        row[:8] = [number, name, kind.id, str(kind), kind.max_length, kind.digits, kind.scale, None]
        row[16:21] = [0, 0, 0, 1, 0]
        row[22:] = [kind.id, kind.max_length]
        rows.append(row)
    names, kinds = zip(*UNDECLARED, strict=True)
    session.reply.rows(names, kinds, rows)
    session.reply.done("SELECT", len(rows))


def _columns(session: Session, text: str) -> list[tuple[str, Column]]:
    tree, found = read(text), []
    for parameter in sorted(
        tree.find_all(exp.Parameter), key=lambda each: int(re.sub(r"\D", "", each.name) or 0)
    ):
        column = _target(session, tree, parameter)
        if column is None:
            raise unknown(f"the type of @{parameter.name} in {text}")
        found.append(("@" + parameter.name, column))
    return found


def _target(session: Session, tree: exp.Expr, parameter: exp.Parameter) -> Column | None:
    translator = session.translator()
    if isinstance(tree, exp.Insert) and isinstance(parameter.parent, exp.Tuple):
        table = translator.table(tree.this)
        names = [name_of(c) for c in tree.this.expressions] or [
            c.name for c in table.columns if not c.identity
        ]
        return table.column(names[parameter.parent.expressions.index(parameter)])
    other = parameter.parent and parameter.parent.args.get("this")
    if isinstance(other, exp.Column) and (kind := Kinds(session.catalogue, {}).kind(other)):
        return Column(other.name, kind)
    return None
