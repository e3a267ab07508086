"""One client: logs it in and answers its messages."""

from __future__ import annotations

import re
import select
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from labs.tds import wire
from labs.tds.describe import describe_parameters, describe_result, type_infos
from labs.tds.errors import SqlError, unknown
from labs.tds.rpc import Call, Parameter, calls
from labs.tds.session import Session
from labs.tds.types import COLLATION, Type
from labs.tds.values import type_from_text

if TYPE_CHECKING:
    from labs.tds.server import Server

DECLARATION = re.compile(r"@(\w+)\s+([A-Za-z]\w*(?:\s*\([^)]*\))?)")
Declared = tuple[tuple[str, Type], ...]


class Disconnected(Exception):
    """The client gave up, or has gone."""


class Connection:
    """A client's connection, served by one thread."""

    def __init__(self, link: socket.socket, server: Server) -> None:
        self._link, self._server = link, server
        self._packets = wire.Packets(link)
        self.session: Session | None = None
        self._prepared: dict[int, tuple[str, Declared]] = {}
        self._descriptor = 0

    @property
    def database(self) -> str | None:
        """The database that the client chose."""
        return self.session.database if self.session else None

    def serve(self) -> None:
        """Answer until the client has gone."""
        try:
            self._log_in()
            while True:
                self._answer(*self._packets.receive())
        except (EOFError, OSError, Disconnected):
            pass
        finally:
            if self.session:
                self.session.close()
            self.cut()  # closing alone does not: the reader still has it
            self._link.close()

    def cut(self) -> None:
        """End the connection from another thread."""
        try:
            self._link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    # --- login ---

    def _log_in(self) -> None:
        kind, _, _ = self._packets.receive()
        if kind != wire.PRELOGIN:
            raise EOFError
        self._packets.send(wire.prelogin_answer())
        _, _, message = self._packets.receive()
        login = wire.read_login(message)
        reply = wire.Reply()
        try:
            self.session = self._server.session(
                login["user"], login["password"], login["database"], self._look
            )
        except SqlError as error:
            reply.error(error)
            self._packets.send(reply.finish())
            raise EOFError from None
        self.session.transaction.told = self._transaction_changed
        size = min(max(login["packet"], 512), 32767)
        self._greet(reply, self.session.database, size)
        self._packets.send(reply.finish())
        self._packets.size = size

    def _greet(self, reply: wire.Reply, database: str, size: int) -> None:
        named = wire.b_varchar
        reply.environment(1, named(database), named("master"))
        reply.environment(7, bytes([len(COLLATION)]) + COLLATION)
        reply.environment(2, named("us_english"))
        reply.add(wire.login_acknowledgement())
        reply.environment(4, named(str(size)), named("4096"))

    def _look(self) -> None:
        """Raise Disconnected if something came from the client while it waits: an attention, or its end."""
        if select.select([self._link], [], [], 0)[0]:
            raise Disconnected

    # --- requests ---

    def _answer(self, kind: int, status: int, message: bytes) -> None:
        assert self.session
        if kind == wire.ATTENTION:
            self._packets.send(wire.attention_acknowledgement())
            return
        if status & wire.RESET:
            self.session.reset()
        reply = wire.Reply(wire.DONE_IN_PROC if kind == wire.RPC else wire.DONE)
        self.session.reply = reply
        start = wire.skip_headers(message)
        try:
            if kind == wire.BATCH:
                self._batch(message[start:].decode("utf-16-le"))
            elif kind == wire.RPC:
                self._calls(message, start)
            elif kind == wire.TRANSACTION:
                self._transaction(message, start)
            else:
                raise unknown(f"a message of kind 0x{kind:02X}")
        except SqlError as error:
            reply.error(error)
        except Disconnected:
            self._abandon()
            return
        except OSError:
            raise
        except Exception as error:  # a fault of the stand-in: loud, and the test goes on to report it
            traceback.print_exc()
            reply.error(unknown(f"{error!r} in {message[start:].decode('utf-16-le', 'replace')}"))
        self._packets.send(reply.finish())

    def _abandon(self) -> None:
        """End a request that its client gave up while it waited for a lock; the transaction stays open."""
        kind, _, _ = self._packets.receive()
        if kind == wire.ATTENTION:
            self._packets.send(wire.attention_acknowledgement())

    def _batch(self, text: str) -> None:
        assert self.session
        self.session.run(text)

    def _transaction(self, message: bytes, at: int) -> None:
        assert self.session
        (request,) = struct.unpack_from("<H", message, at)
        words = {5: "BEGIN TRANSACTION", 7: "COMMIT TRANSACTION", 8: "ROLLBACK TRANSACTION"}
        if request not in words:
            raise unknown(f"transaction request {request}")
        name = message[at + 3 : at + 3 + message[at + 2]].decode("utf-16-le") if request == 8 else ""
        self.session.run(f"{words[request]} {name}")
        if request != 5 and message[at + 3 + message[at + 2]] & 1:
            self.session.run(words[5])

    def _transaction_changed(self, what: str) -> None:
        assert self.session
        if what == "began":
            self._descriptor = self._server.next_descriptor()
        described = b"\x08" + self._descriptor.to_bytes(8, "little")
        if what == "began":
            self.session.reply.environment(8, described)
        else:
            self.session.reply.environment(9 if what == "committed" else 10, b"\0", described)

    # --- procedures ---

    def _calls(self, message: bytes, start: int) -> None:
        found = list(calls(message, start))
        assert self.session
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
        assert self.session
        procedure = PROCEDURES.get(call.procedure)
        status = 0
        try:
            if procedure is None:
                raise SqlError(2812, name=call.procedure)
            procedure(self, call)
        except SqlError as error:
            self.session.reply.error(error)
            status = -6
        self.session.reply.procedure(status, last=last)

    def _array(self, members: Sequence[Call], *, last: bool) -> None:
        assert self.session
        session, first = self.session, members[0]
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
            session.reply.procedure(-6 if isinstance(outcome, SqlError) else 0, last=last and number == end)

    def _statement(self, handle: Any) -> tuple[str, Declared]:
        if handle not in self._prepared:
            raise SqlError(8179, handle=handle)
        return self._prepared[handle]

    def _prepare(self, text: str, declared: str | None) -> int:
        handle = self._server.next_descriptor() & 0x7FFFFFFF
        self._prepared[handle] = (text, declarations(declared))
        return handle

    def _run(
        self, text: str, declared: Declared, parameters: Sequence[Parameter], values: Sequence[Any]
    ) -> None:
        assert self.session
        names = [p.name.lstrip("@").lower() for p in parameters]
        given = {
            names[at] or declared[at][0]: (parameters[at].type, value) for at, value in enumerate(values)
        }
        self.session.run(text, {name: given.get(name, (kind, None)) for name, kind in declared})
        for at, parameter in enumerate(parameters):
            if parameter.output:
                kind, value = self.session.variables[names[at] or declared[at][0]]
                self.session.reply.output(at, parameter.type or kind, value, parameter.name)

    def _sp_executesql(self, call: Call) -> None:
        text, declared = call.values[0], declarations(call.values[1] if len(call.values) > 1 else "")
        self._run(text, declared, call.parameters[2:], call.values[2:])

    def _sp_prepare(self, call: Call) -> None:
        assert self.session
        handle = self._prepare(call.values[2], call.values[1])
        describe_result(self.session, call.values[2], dict(self._prepared[handle][1]))
        self.session.reply.output(0, Type("int"), handle)

    def _sp_prepexec(self, call: Call) -> None:
        assert self.session
        handle = self._prepare(call.values[2], call.values[1])
        text, declared = self._prepared[handle]
        self._run(text, declared, call.parameters[3:], call.values[3:])
        self.session.reply.output(0, Type("int"), handle)

    def _sp_execute(self, call: Call) -> None:
        text, declared = self._statement(call.values[0])
        self._run(text, declared, call.parameters[1:], call.values[1:])

    def _sp_unprepare(self, call: Call) -> None:
        self._prepared.pop(call.values[0], None)

    def _sp_describe(self, call: Call) -> None:
        assert self.session
        describe_parameters(self.session, call.values[0])

    def _sp_datatype_info(self, call: Call) -> None:
        assert self.session
        type_infos(self.session, call.values[0] if call.values else 0)


PROCEDURES: dict[str, Callable[[Connection, Call], None]] = {
    "sp_executesql": Connection._sp_executesql, "sp_prepare": Connection._sp_prepare,
    "sp_prepexec": Connection._sp_prepexec, "sp_execute": Connection._sp_execute,
    "sp_unprepare": Connection._sp_unprepare, "sp_describe_undeclared_parameters": Connection._sp_describe,
    "sp_datatype_info": Connection._sp_datatype_info, "sp_datatype_info_100": Connection._sp_datatype_info,
}  # fmt: skip


def declarations(text: str | None) -> Declared:
    """Return the parameters that a list like `@P1 int,@P2 nvarchar(10)` declares."""
    return tuple((name.lower(), type_from_text(kind)) for name, kind in DECLARATION.findall(text or ""))
