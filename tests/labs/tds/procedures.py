"""Procedures that a driver calls, and the arrays of parameters that it sends as many calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count, groupby
from typing import Any

from labs.tds.describe import describe_parameters, type_infos
from labs.tds.errors import SqlError
from labs.tds.rpc import Call, Parameter, calls
from labs.tds.session import Session
from labs.tds.types import Type
from labs.tds.values import type_from_text

DECLARATION = re.compile(r"@(\w+)\s+([A-Za-z]\w*(?:\s*\([^)]*\))?)")
FAILED = -6  # what a procedure returns that failed
Declared = tuple[tuple[str, Type], ...]


class Procedures:
    """The procedures of one connection, and the statements it prepared."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._handles = count(1)
        self._prepared: dict[int, tuple[str, Declared]] = {}

    def answer(self, message: bytes, start: int) -> None:
        """Run the calls of a message."""
        found = list(calls(message, start))
        for _, group in groupby(enumerate(found), lambda each: self._array_key(each[0], each[1])):
            members = [call for _, call in group]
            last = members[-1] is found[-1]
            if len(members) > 1:
                self._array(members, last=last)
            else:
                self._call(members[0], last=last)

    def _array_key(self, number: int, call: Call) -> Any:
        """Rows of one array have one key."""
        if call.procedure != "sp_execute":
            return number
        return call.values[0], id(call.parameters) if call.parameters else ()

    def _call(self, call: Call, *, last: bool) -> None:
        status = 0
        try:
            PROCEDURES.get(call.procedure, Procedures._missing)(self, call)
        except SqlError as error:
            self._session.reply.error(error)
            status = FAILED
        self._session.reply.procedure(status, last=last)

    def _missing(self, call: Call) -> None:
        raise SqlError(2812, name=call.procedure)

    def _array(self, members: Sequence[Call], *, last: bool) -> None:
        session, first = self._session, members[0]
        text, declared = self._statement(first.values[0])
        kinds = [parameter.type for parameter in first.parameters[1:]]
        names = [name for name, _ in declared]
        outcomes = session.run_array(
            text, list(zip(names, kinds, strict=True)), [m.values[1:] for m in members]
        )
        end = len(members) - 1
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, SqlError):
                session.reply.error(outcome)
                session.reply.done()
            else:
                session.reply.done("INSERT", outcome)
            session.reply.procedure(
                FAILED if isinstance(outcome, SqlError) else 0, last=last and number == end
            )

    def _statement(self, handle: Any) -> tuple[str, Declared]:
        if handle not in self._prepared:
            raise SqlError(8179, handle=handle)
        return self._prepared[handle]

    def _prepare(self, text: str, declared: str | None) -> int:
        handle = next(self._handles)
        self._prepared[handle] = (text, declarations(declared))
        return handle

    def _run(
        self, text: str, declared: Declared, parameters: Sequence[Parameter], values: Sequence[Any]
    ) -> None:
        names = [p.name.lstrip("@").lower() for p in parameters]
        given = {
            names[at] or declared[at][0]: (parameters[at].type, value) for at, value in enumerate(values)
        }
        self._session.run(text, {name: given.get(name, (kind, None)) for name, kind in declared})

    def _sp_executesql(self, call: Call) -> None:
        text, declared = call.values[0], declarations(call.values[1] if len(call.values) > 1 else "")
        self._run(text, declared, call.parameters[2:], call.values[2:])

    def _sp_prepare(self, call: Call) -> None:
        handle = self._prepare(call.values[2], call.values[1])
        self._session.reply.output(0, Type("int"), handle)

    def _sp_prepexec(self, call: Call) -> None:
        handle = self._prepare(call.values[2], call.values[1])
        text, declared = self._prepared[handle]
        self._run(text, declared, call.parameters[3:], call.values[3:])
        self._session.reply.output(0, Type("int"), handle)

    def _sp_execute(self, call: Call) -> None:
        text, declared = self._statement(call.values[0])
        self._run(text, declared, call.parameters[1:], call.values[1:])

    def _sp_unprepare(self, call: Call) -> None:
        self._prepared.pop(call.values[0], None)

    def _sp_describe(self, call: Call) -> None:
        describe_parameters(self._session, call.values[0])

    def _sp_datatype_info(self, call: Call) -> None:
        type_infos(self._session, call.values[0] if call.values else 0)


PROCEDURES: dict[str, Callable[[Procedures, Call], None]] = {
    "sp_executesql": Procedures._sp_executesql, "sp_prepare": Procedures._sp_prepare,
    "sp_prepexec": Procedures._sp_prepexec, "sp_execute": Procedures._sp_execute,
    "sp_unprepare": Procedures._sp_unprepare, "sp_describe_undeclared_parameters": Procedures._sp_describe,
    "sp_datatype_info": Procedures._sp_datatype_info, "sp_datatype_info_100": Procedures._sp_datatype_info,
}  # fmt: skip


def declarations(text: str | None) -> Declared:
    """Return the parameters that a list like `@P1 int,@P2 nvarchar(10)` declares."""
    return tuple((name.lower(), type_from_text(kind)) for name, kind in DECLARATION.findall(text or ""))
