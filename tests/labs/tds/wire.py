"""TDS 7.4 as a server speaks it: packets, and the tokens of an answer (MS-TDS, sections 2.2.1 to 2.2.7)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, BinaryIO, NamedTuple, cast

from labs.tds.encoding import encoder
from labs.tds.errors import SqlError
from labs.tds.types import Type, type_info

BATCH, RPC, ATTENTION, BULK, TRANSACTION, LOGIN, PRELOGIN = 0x01, 0x03, 0x06, 0x07, 0x0E, 0x10, 0x12
RESET = 0x08 | 0x10  # status bits of a packet: reset the connection first
DONE, DONE_PROC, DONE_IN_PROC = 0xFD, 0xFE, 0xFF
MORE, ERROR, COUNT, ATTENTION_DONE, RPC_IN_BATCH = 0x01, 0x02, 0x10, 0x20, 0x80
COMMANDS = {"SELECT": 0xC1, "INSERT": 0xC3, "DELETE": 0xC4, "UPDATE": 0xC5, "BULK": 0xF0}
NULLABLE, UPDATABLE, IDENTITY, COMPUTED = 0x01, 0x08, 0x10, 0x20  # flags of a column
SERVER = "stand-in"


class Packets:
    """The messages of one connection."""

    def __init__(self, link: socket.socket) -> None:
        self._link, self.size = link, 4096
        self._reader = cast("BinaryIO", link.makefile("rb", 1 << 17))

    def receive(self) -> tuple[int, int, bytes]:
        """Return kind, status of the first packet and content of the next message. Raises EOFError."""
        pieces: list[bytes] = []
        first: int | None = None
        while True:
            header = self._read(8)
            kind, status, size = struct.unpack_from(">BBH", header)
            if kind == ATTENTION or first is None:  # an attention takes back the message it is sent amid
                pieces, first = [], status
            pieces.append(self._read(size - 8))
            if status & 1:
                return kind, first, b"".join(pieces)

    def _read(self, size: int) -> bytes:
        if len(raw := self._reader.read(size)) < size:
            raise EOFError
        return raw

    def send(self, content: bytes) -> None:
        """Send an answer."""
        room, packets = self.size - 8, []
        for number, start in enumerate(range(0, max(len(content), 1), room)):
            piece = content[start : start + room]
            last = start + room >= len(content)
            packets.append(struct.pack(">BBHHBB", 4, last, len(piece) + 8, 0, (number + 1) & 0xFF, 0) + piece)
        self._link.sendall(b"".join(packets))


class Reply:
    """The tokens that answer one message; `done` tells which kind of DONE ends a statement."""

    def __init__(self, done: int = DONE) -> None:
        self._parts: list[bytes] = []
        self._outputs: list[bytes] = []
        self._done, self._last = done, -1
        self.failed = False

    def add(self, token: bytes) -> None:
        """Add a token as it is."""
        self._parts.append(token)

    def done(self, command: str = "", count: int | None = None) -> None:
        """End a statement; more may follow."""
        status = MORE | (ERROR if self.failed else 0) | (COUNT if count is not None else 0)
        self._last, self.failed = len(self._parts), False
        self.add(struct.pack("<BHHQ", self._done, status, COMMANDS.get(command, 0), count or 0))

    def procedure(self, status: int, *, last: bool) -> None:
        """End an RPC request: its status, what it hands back, and DONEPROC."""
        failed = ERROR if self.failed else 0
        self.add(struct.pack("<Bi", 0x79, status))
        self._parts += self._outputs
        self._outputs.clear()
        self._last, self.failed = len(self._parts), False
        self.add(struct.pack("<BHHQ", DONE_PROC, MORE | failed | (0 if last else RPC_IN_BATCH), 0xE0, 0))

    def error(self, error: SqlError) -> None:
        """Add ERROR, or INFO for what is no error; the next `done` says so."""
        self.failed = self.failed or error.severity > 10
        number = struct.pack("<iBB", error.number, error.state, error.severity)
        body = number + _us(str(error)) + _b(SERVER) + _b("") + struct.pack("<i", 1)
        self.add(struct.pack("<BH", 0xAA if error.severity > 10 else 0xAB, len(body)) + body)

    def environment(self, kind: int, new: bytes, old: bytes = b"\0") -> None:
        """Add ENVCHANGE; the values bring their lengths."""
        self.add(struct.pack("<BHB", 0xE3, 1 + len(new) + len(old), kind) + new + old)

    def rows(self, names: Sequence[str], kinds: Sequence[Type], rows: Iterable[Sequence[Any]]) -> int:
        """Add a result set; return its number of rows."""
        self.columns(names, kinds)
        encoders = [encoder(kind) for kind in kinds]
        count = len(self._parts)
        self._parts += [
            b"\xd1" + b"".join([e(v) for e, v in zip(encoders, row, strict=True)]) for row in rows
        ]
        return len(self._parts) - count

    def columns(
        self, names: Sequence[str], kinds: Sequence[Type], flags: Iterable[int] = repeat(NULLABLE | UPDATABLE)
    ) -> None:
        """Add COLMETADATA."""
        described = [
            struct.pack("<IH", 0, flag) + type_info(kind, nullable=bool(flag & NULLABLE)) + _b(name)
            for name, kind, flag in zip(names, kinds, flags, strict=False)
        ]
        self.add(struct.pack("<BH", 0x81, len(names)) + b"".join(described))

    def output(self, ordinal: int, kind: Type, value: Any, name: str = "") -> None:
        """Hand a value back with the end of the procedure (RETURNVALUE)."""
        head = struct.pack("<BH", 0xAC, ordinal) + _b(name) + struct.pack("<BIH", 1, 0, 0)
        self._outputs.append(head + type_info(kind) + encoder(kind)(value))

    def finish(self) -> bytes:
        """Return the whole answer; its last DONE says that nothing follows."""
        if not self._parts or self._last != len(self._parts) - 1:
            self.done()
        final = bytearray(self._parts[-1])
        final[1] &= ~MORE
        return b"".join(self._parts[:-1]) + final


def prelogin_answer() -> bytes:
    """Return the answer to PRELOGIN: version 16, no encryption."""
    options = ((0, bytes([16, 0, 16, 0, 0, 0])), (1, b"\x02"), (2, b"\0"), (4, b"\0"))
    at, heads, values = len(options) * 5 + 1, b"", b""
    for token, value in options:
        heads += struct.pack(">BHH", token, at + len(values), len(value))
        values += value
    return heads + b"\xff" + values


def login_acknowledgement() -> bytes:
    """Return LOGINACK."""
    body = b"\x01\x74\x00\x00\x04" + _b("Microsoft SQL Server") + bytes([16, 0, 16, 0])
    return struct.pack("<BH", 0xAD, len(body)) + body


def attention_acknowledgement() -> bytes:
    """Return the DONE that acknowledges an attention."""
    return struct.pack("<BHHQ", DONE, ATTENTION_DONE, 0, 0)


class Login(NamedTuple):
    """Who logs in where, and in which size packets are to come."""

    user: str
    password: str
    database: str
    packet: int


def read_login(message: bytes) -> Login:
    """Read LOGIN7."""

    def text(at: int) -> bytes:
        start, length = struct.unpack_from("<HH", message, at)
        return message[start : start + length * 2]

    password = bytes(((b ^ 0xA5) << 4 | (b ^ 0xA5) >> 4) & 0xFF for b in text(44))
    size = struct.unpack_from("<I", message, 8)[0] or 4096
    names = (text(40).decode("utf-16-le"), password.decode("utf-16-le"), text(68).decode("utf-16-le"))
    return Login(*names, min(max(size, 512), 32767))


def skip_headers(message: bytes) -> int:
    """Return where a request begins after ALL_HEADERS."""
    return int.from_bytes(message[:4], "little")


def b_varchar(text: str) -> bytes:
    """Return a text with its length in one byte."""
    return bytes([len(text)]) + text.encode("utf-16-le")


_b = b_varchar


def _us(text: str) -> bytes:
    raw = text.encode("utf-16-le", "replace")[:8000]
    return struct.pack("<H", len(raw) // 2) + raw
