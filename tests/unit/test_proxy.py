"""FaultProxy between real sockets: what reaches the server, what reaches the client, and how it ends."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from adaptive.testing import FaultProxy

PATIENCE = 30  # seconds after which a test that hangs fails; never reached when all is well


@dataclass
class Seen:
    """What a server received on a connection, and how that ended."""

    received: bytearray = field(default_factory=bytearray)
    ending: str = ""


class Echo(socketserver.ThreadingTCPServer):
    """Sends everything back, and remembers what it saw of each connection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), EchoConnection)
        self.seen: list[Seen] = []
        self.address = "127.0.0.1", int(self.server_address[1])


class EchoConnection(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        seen = Seen()
        self.server.seen.append(seen)
        seen.ending = self.echo(seen.received)

    def echo(self, received: bytearray) -> str:
        try:
            while segment := self.request.recv(65_536):
                received += segment
                with suppress(OSError):
                    self.request.sendall(segment)
        except ConnectionResetError:
            return "reset"
        return "fin"


@contextmanager
def echo() -> Iterator[Echo]:
    """Run an echo server, until it has seen the end of every connection."""
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def read(link: socket.socket, size: int) -> bytes:
    """Return `size` bytes, or fewer if the connection ends before."""
    found = b""
    while len(found) < size and (segment := link.recv(size - len(found))):
        found += segment
    return found


def ending(link: socket.socket) -> tuple[bytes, str]:
    """Return everything that still comes, and how the connection ends."""
    found = b""
    try:
        while segment := link.recv(65_536):
            found += segment
    except ConnectionResetError:
        return found, "reset"
    return found, "fin"


def send(link: socket.socket, *segments: bytes) -> None:
    """Send segments; the connection may be cut on the way."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError):
        for segment in segments:
            link.sendall(segment)


def test_bytes_pass_unchanged_in_both_directions_and_are_counted() -> None:
    message = bytes(range(256)) * 4_000
    with echo() as server, FaultProxy(*server.address) as proxy, connect(proxy) as link:
        sender = threading.Thread(target=send, args=(link, message))
        sender.start()
        assert read(link, len(message)) == message
        sender.join()
        link.shutdown(socket.SHUT_WR)
        assert ending(link) == (b"", "fin")
        assert proxy.passed == {"up": len(message), "down": len(message)}
        assert (proxy.connections, proxy.fired) == (1, [])


def talk(link: socket.socket, message: bytes = b"hello") -> None:
    """Send a message and get it back."""
    link.sendall(message)
    assert read(link, len(message)) == message


@pytest.mark.parametrize(("reset", "how"), [(True, "reset"), (False, "fin")])
def test_cut_ends_every_connection_at_once(reset: bool, how: str) -> None:
    with echo() as server, FaultProxy(*server.address) as proxy, connect(proxy) as one, connect(proxy) as two:
        talk(one)
        talk(two)
        proxy.cut(reset=reset)
        assert [ending(one), ending(two)] == [(b"", how)] * 2
        with connect(proxy) as three:
            talk(three)
    assert [seen.ending for seen in server.seen[:2]] == [how, how]
