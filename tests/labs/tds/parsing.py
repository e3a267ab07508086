"""Reads T-SQL as trees of sqlglot, and writes them for SQLite."""

from __future__ import annotations

from typing import Any, ClassVar

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.dialects.tsql import TSQL
from sqlglot.errors import SqlglotError
from sqlglot.generators.sqlite import SQLiteGenerator
from sqlglot.tokenizer_core import TokenType

from labs.tds.errors import SqlError, unknown
from labs.tds.kinds import name_of

HINTS = {"HOLDLOCK", "UPDLOCK", "TABLOCK", "TABLOCKX", "XLOCK", "ROWLOCK", "PAGLOCK", "NOLOCK", "READPAST",
         "REPEATABLEREAD", "READCOMMITTED", "READCOMMITTEDLOCK", "SERIALIZABLE"}  # fmt: skip
# What sqlglot does not tell apart or does not know.
NAMES = {TokenType.STRING, TokenType.NATIONAL_STRING, TokenType.IDENTIFIER}
REPLACED = {"CLUSTERED": "", "NONCLUSTERED": "", "REAL": "float(24)", "PERSISTED": ""}


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
    """Parse one statement; how the server is to carry it out is left out. Raises SqlError 102."""
    try:
        tree = sqlglot.parse_one(plain(text)[0], read="tsql")
    except SqlglotError as error:
        raise SqlError(102, f"Incorrect syntax: {error} in: {text}"[:1500], severity=15) from None
    for node in tree.walk():
        node.args.pop("options", None)
        node.args.pop("hint", None)
    return tree


def write(node: exp.Expr) -> str:
    """Return a translated tree as SQL for SQLite. Raises SqlError if it cannot be said there."""
    try:
        return Generator(dialect="sqlite", unsupported_level=ErrorLevel.RAISE).generate(node)
    except SqlglotError as error:
        raise unknown(f"{error}: {node.sql('tsql')}") from None
