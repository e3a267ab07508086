"""The server: connections, each with a thread, and the faults that a test orders."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from labs.mongo_wire import messages
from labs.mongo_wire.commands import HELLO, Commands
from labs.mongo_wire.documents import Document, RefusedError

REMEMBERED = 10_000  # commands that a test can look at
DOWN_SECONDS = 1.0  # after a crash: about what a mongod needs to start


@dataclass
class Fault:
    """What happens instead of, or after, the next commands of a name."""

    command: str
    answer: Document | None = None  # None hangs up
    after: bool = False  # once the command has been applied
    times: int = 1


class Connection(socketserver.BaseRequestHandler):
    """A client's connection."""

    server: WireServer

    def handle(self) -> None:
        """Answer message after message until one of both hangs up."""
        if self.server.is_down():
            return
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients = self.server.database.clients
        clients[self.request] = ""
        try:
            with suppress(ConnectionError):
                self._serve(clients)
        finally:
            del clients[self.request]

    def _serve(self, clients: dict[Any, str]) -> None:
        while True:
            length, number, _, kind = messages.HEADER.unpack(self._read(messages.HEADER.size))
            if length > HELLO["maxMessageSizeBytes"]:
                return
            command, sequences = messages.read(self._read(length - messages.HEADER.size), kind)
            if "client" in command:  # of the first hello
                clients[self.request] = command["client"].get("application", {}).get("name", "")
            answer = self.server.answer(command, sequences)
            if answer is None:
                return
            self.request.sendall(messages.written(answer, number, kind))

    def _read(self, size: int) -> bytes:
        """Return so many bytes; raises ConnectionError if the client is gone before them."""
        found = bytearray(size)
        view, at = memoryview(found), 0
        while at < size:
            at += (part := self.request.recv_into(view[at:]))
            if not part:
                raise ConnectionError
        return bytes(found)


class WireServer(socketserver.ThreadingTCPServer):
    """The server, on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128  # connections at once; the default of 5 refuses a load's writers now and then

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.database, self.faults = Commands(), list[Fault]()
        self.commands: deque[Document] = deque(maxlen=REMEMBERED)  # without the documents
        self._up_again = 0.0  # when, after a crash
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Return the URL, without a database."""
        return f"mongodb://127.0.0.1:{self.server_address[1]}/?directConnection=true"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def answer(self, command: Document, sequences: dict[str, list[bytes]]) -> Document | None:
        """Return the answer to a command, None to hang up."""
        name = next(iter(command))
        if name == "crash":  # no command of MongoDB's
            self.crash()
            return None
        self.commands.append(command)
        fault = self._due(name)
        if fault and not fault.after:
            return fault.answer
        try:
            answer = {**self.database.run({**command, **sequences}), "ok": 1}
        except RefusedError as error:
            return {"ok": 0, **error.answer}
        if fault:
            return None if fault.answer is None else {**answer, **fault.answer}
        return answer

    def _due(self, name: str) -> Fault | None:
        with self._lock:
            fault = next((fault for fault in self.faults if fault.command == name and fault.times), None)
            if fault:
                fault.times -= 1
            return fault

    def crash(self) -> None:
        """Be gone for a second, with half of what is being written; nothing that was acknowledged is lost.

        As MongoDB is after a kill -9, since the writes of a load wait for the journal.
        """
        self._up_again = time.monotonic() + DOWN_SECONDS
        self.database.crashes += 1
        for link in list(self.database.clients):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def is_down(self) -> bool:
        """Return whether the server has crashed just now."""
        return time.monotonic() < self._up_again
