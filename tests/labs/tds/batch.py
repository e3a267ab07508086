"""Cuts a batch of T-SQL into statements and the blocks around them.

Only statements are left to a parser of SQL. A semicolon ends one; so does a keyword that can only begin
the next: T-SQL asks for no semicolons, and the ODBC driver writes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot.dialects.tsql import TSQL
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token

from labs.tds.errors import SqlError, unknown

STARTS = {"IF", "DECLARE", "EXEC", "EXECUTE", "COMMIT", "ROLLBACK", "SAVE", "CREATE", "ALTER", "DROP",
          "TRUNCATE", "BEGIN", "INSERT", "KILL", "GRANT"}  # fmt: skip
OPENING = STARTS | {"SET", "SELECT", "UPDATE", "DELETE", "MERGE", "WITH", "WHILE"}
AFTER_ALTER = {"ADD", "ALTER", "DROP"}  # keywords that go on with ALTER TABLE


@dataclass(frozen=True)
class Statement:
    """One statement: its words, upper-case, and its text."""

    text: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class If:
    condition: str
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True)
class Try:
    body: tuple[Node, ...]
    catch: tuple[Node, ...]


Node = Statement | If | Try


@lru_cache(1024)
def parse(text: str) -> tuple[Node, ...]:
    """Return the statements of a batch."""
    try:
        tokens = TSQL().tokenize(text)
    except TokenError as error:
        raise SqlError(102, near=str(error)[:60]) from None
    reader = _Reader(text, tokens)
    nodes = reader.block(())
    if reader.at < len(tokens):
        raise SqlError(102, near=reader.word())
    return nodes


class _Reader:
    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self.text, self.tokens, self.at = text, tokens, 0

    def word(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].text.upper() if at < len(self.tokens) else ""

    def take(self, *words: str) -> bool:
        if all(self.word(ahead) == word for ahead, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        if not self.take(*words):
            raise SqlError(102, near=self.word())

    def block(self, ends: Sequence[str]) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while self.at < len(self.tokens) and self.word() not in ends:
            if not self.take(";"):
                nodes += self.node()
        return tuple(nodes)

    def node(self) -> tuple[Node, ...]:
        if self.take("BEGIN", "TRY"):
            body = self.block(("END",))
            self.expect("END", "TRY")
            self.take(";")
            self.expect("BEGIN", "CATCH")
            catch = self.block(("END",))
            self.expect("END", "CATCH")
            return (Try(body, catch),)
        if self.word() == "BEGIN" and self.word(1) not in ("TRAN", "TRANSACTION"):
            self.at += 1
            nodes = self.block(("END",))
            self.expect("END")
            return nodes
        if self.take("IF"):
            condition = self.span(self.condition_end())
            then = self.node()
            if self.word() == ";" and self.word(1) == "ELSE":
                self.at += 1
            return (If(condition, then, self.node() if self.take("ELSE") else ()),)
        if self.word() == "WHILE":
            raise unknown(self.text)
        end = self.statement_end()
        words = tuple(token.text.upper() for token in self.tokens[self.at : end])
        return (Statement(self.span(end), words),)

    def span(self, end: int) -> str:
        if end == self.at:
            raise SqlError(102, near=self.word())
        start, self.at = self.tokens[self.at].start, end
        return self.text[start : self.tokens[end - 1].end + 1]

    def condition_end(self) -> int:
        depth, at = 0, self.at
        while at < len(self.tokens):
            word = self.tokens[at].text.upper()
            depth += (word == "(") - (word == ")")
            if depth == 0 and word in OPENING:
                return at
            at += 1
        raise SqlError(102, near="IF")

    def statement_end(self) -> int:
        first, second, third = self.word(), self.word(1), self.word(2)
        if first == "SET" and (
            third in ("ON", "OFF") or second in ("LOCK_TIMEOUT", "TEXTSIZE", "DATEFORMAT", "ROWCOUNT")
        ):
            return self.at + 3
        depth = cases = 0
        at = self.at + 1
        while at < len(self.tokens):
            word = self.tokens[at].text.upper()
            depth += (word == "(") - (word == ")")
            cases += word == "CASE"
            if word == "END" and cases:
                cases -= 1
            elif depth == 0 and cases == 0 and self.ends(first, word, at):
                return at
            at += 1
        return at

    def ends(self, first: str, word: str, at: int) -> bool:
        if word == ";" or first == "GRANT" or (first, self.word(1)) == ("ALTER", "DATABASE"):
            return word == ";"
        if word in ("END", "ELSE"):
            return True
        if self.tokens[at].token_type.name in ("STRING", "IDENTIFIER", "NATIONAL_STRING"):
            return False
        previous = self.tokens[at - 1].text.upper()
        if word == "SET":
            return first in ("SELECT", "INSERT", "SET", "DECLARE", "EXEC", "DROP")
        if word == "SELECT":
            return first in (
                "SET",
                "DECLARE",
                "EXEC",
                "UPDATE",
                "DELETE",
                "COMMIT",
                "ROLLBACK",
                "SAVE",
                "DROP",
            )
        if word in ("UPDATE", "DELETE"):
            return first in ("SET", "SELECT", "DECLARE", "EXEC", "COMMIT", "SAVE")
        if (first == "ALTER" and word in AFTER_ALTER) or previous in (".", "AS", "ON"):
            return False
        return word in STARTS and not (word == "IF" and first == "DROP")
