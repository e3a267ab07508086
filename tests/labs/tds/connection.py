"""One client: logs it in and answers its messages."""

from __future__ import annotations

import select
import socket
import struct
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from labs.tds import wire
from labs.tds.errors import SqlError, unknown
from labs.tds.procedures import Procedures
from labs.tds.types import COLLATION

if TYPE_CHECKING:
    from labs.tds.server import Server
    from labs.tds.session import Session

BEGIN, COMMIT, ROLLBACK = 5, 7, 8  # transaction requests
TRANSACTIONS = {BEGIN: "BEGIN TRANSACTION", COMMIT: "COMMIT TRANSACTION", ROLLBACK: "ROLLBACK TRANSACTION"}


class GivenUpError(Exception):
    """The client gave up waiting, or has gone."""


class Connection:
    """A client's connection, served by one thread."""

    def __init__(self, link: socket.socket, server: Server) -> None:
        self._link, self._server = link, server
        self._packets = wire.Packets(link)
        self.session: Session | None = None  # until the client is logged in
        self._descriptor = 0

    def serve(self) -> None:
        """Answer until the client has gone."""
        try:
            session = self.session = self._log_in()
            procedures = Procedures(session)
            while True:
                self._answer(session, procedures, *self._packets.receive())
        except (EOFError, OSError):
            pass
        finally:
            if self.session:
                self.session.close()
            self.cut()  # closing alone does not: the reader still has it
            self._link.close()

    def cut(self) -> None:
        """End the connection, also from another thread."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    # --- login ---

    def _log_in(self) -> Session:
        """Raises EOFError where the client is refused."""
        kind, _, _ = self._packets.receive()
        if kind != wire.PRELOGIN:
            raise EOFError
        self._packets.send(wire.prelogin_answer())
        _, _, message = self._packets.receive()
        login, reply = wire.read_login(message), wire.Reply()
        try:
            session = self._server.session(login.user, login.password, login.database, self._look)
        except SqlError as error:
            reply.error(error)
            self._packets.send(reply.finish())
            raise EOFError from None
        session.transaction.told = lambda what: self._tell_transaction(session, what)
        self._greet(reply, session.database, login.packet)
        return session

    def _greet(self, reply: wire.Reply, database: str, size: int) -> None:
        named = wire.b_varchar
        reply.environment(1, named(database), named("master"))
        reply.environment(7, bytes([len(COLLATION)]) + COLLATION)
        reply.environment(2, named("us_english"))
        reply.add(wire.login_acknowledgement())
        reply.environment(4, named(str(size)), named("4096"))
        self._packets.send(reply.finish())
        self._packets.size = size

    def _look(self) -> None:
        """Raise GivenUpError if something came from the client while it waits: an attention, or its end."""
        if select.select([self._link], [], [], 0)[0]:
            raise GivenUpError

    # --- requests ---

    def _answer(
        self, session: Session, procedures: Procedures, kind: int, status: int, message: bytes
    ) -> None:
        if kind == wire.ATTENTION:
            self._packets.send(wire.attention_acknowledgement())
            return
        if status & wire.RESET:
            session.reset()
        session.reply = wire.Reply(wire.DONE_IN_PROC if kind == wire.RPC else wire.DONE)
        try:
            self._run(session, procedures, kind, message)
        except GivenUpError:
            return  # what the client says next is an attention, or nothing
        self._packets.send(session.reply.finish())

    def _run(self, session: Session, procedures: Procedures, kind: int, message: bytes) -> None:
        start = wire.skip_headers(message)
        try:
            if kind == wire.BATCH:
                session.run(message[start:].decode("utf-16-le"))
            elif kind == wire.RPC:
                procedures.answer(message, start)
            elif kind == wire.BULK:
                session.load(message)
            elif kind == wire.TRANSACTION:
                _transaction(session, message, start)
            else:
                session.tell(unknown(f"a message of kind 0x{kind:02X}"))
        except (GivenUpError, OSError):
            raise
        except Exception as error:  # a fault of the stand-in: loud, and the test goes on to report it
            traceback.print_exc()
            session.tell(unknown(f"{error!r} in {message[start:].decode('utf-16-le', 'replace')}"))

    def _tell_transaction(self, session: Session, what: str) -> None:
        """Tell the client of its transaction, which has a number (ENVCHANGE 8, 9 and 10)."""
        if what == "began":
            self._descriptor = self._server.next_number()
        described = b"\x08" + self._descriptor.to_bytes(8, "little")
        if what == "began":
            session.reply.environment(8, described)
        else:
            session.reply.environment(9 if what == "committed" else 10, b"\0", described)


def _transaction(session: Session, message: bytes, at: int) -> None:
    """Run a transaction manager request; one that ends a transaction may ask for the next."""
    (request,) = struct.unpack_from("<H", message, at)
    if request not in TRANSACTIONS:
        session.tell(unknown(f"transaction request {request}"))
        return
    end = at + 3 + message[at + 2]
    name = message[at + 3 : end].decode("utf-16-le") if request == ROLLBACK else ""
    session.run(f"{TRANSACTIONS[request]} {name}")
    if request != BEGIN and message[end] & 1:
        session.run(TRANSACTIONS[BEGIN])
