"""One connection through a `FaultProxy`: two streams, pumped in both directions."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import NamedTuple

from adaptive.testing.faults import Cut, Delay, Direction, Fault, Plan, Trickle

SEGMENT = 65_536  # bytes read at once; with asyncio's own buffer a direction holds three times as many
FLUSH_SECONDS = 0.001  # between two looks whether the receiver's kernel has everything


class Side(NamedTuple):
    """The proxy's connection with the client or with the server."""

    reader: StreamReader
    writer: StreamWriter

    async def end(self, *, reset: bool) -> None:
        """Close at once, by RST or by FIN."""
        link = self.writer.get_extra_info("socket")
        with suppress(OSError):  # the other end may be gone
            if reset:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                link.shutdown(socket.SHUT_WR)
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def flush(self) -> None:
        """Wait until the other end has what was sent: a reset throws away what is under way."""
        link = self.writer.get_extra_info("socket")
        while not self.writer.is_closing() and _unsent(link):
            await asyncio.sleep(FLUSH_SECONDS)


class Link:
    """One connection; it belongs to the proxy's event loop.

    Bytes that may begin a pattern wait `hold` seconds for the next ones, no longer: a conversation goes on
    although a message ends as the pattern begins.
    """

    def __init__(self, client: Side, server: Side, plan: Plan, hold: float) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._client, self._server, self._plan, self._hold = client, server, plan, hold
        self._pumps = 2
        self._cuts: list[Cut] = []
        self._ending: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # by RST?

    def end(self, *, reset: bool) -> None:
        """Let `run` end the connection on both sides, by RST or by FIN."""
        if not self._ending.done():
            self._ending.set_result(reset)

    def stall(self) -> None:
        """Let nothing pass any more, in any direction."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything pass again, unless the connection is being cut."""
        if not self._cuts:
            self._flowing.set()

    async def run(self) -> None:
        """Forward in both directions until the connection has ended, and end it on both sides."""
        pumps = [
            asyncio.create_task(self._pump("up", self._client.reader, self._server)),
            asyncio.create_task(self._pump("down", self._server.reader, self._client)),
        ]
        reset = await self._ending
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        await asyncio.gather(self._client.end(reset=reset), self._server.end(reset=reset))
        for cut in self._cuts:
            self._plan.fire(cut)

    async def _pump(self, direction: Direction, reader: StreamReader, to: Side) -> None:
        to.writer.transport.set_write_buffer_limits(high=0)  # `drain` means: the kernel has it
        try:
            await self._forward(direction, reader, to)
            to.writer.write_eof()
        except OSError:  # the one side was reset: so is the other
            self.end(reset=True)
        self._pumps -= 1
        if not self._pumps:
            self.end(reset=False)

    async def _forward(self, direction: Direction, reader: StreamReader, to: Side) -> None:
        waiting, ended = await self._pass(direction, b"", to, settled=False), False
        while not ended:
            segment = await self._read(direction, reader, self._hold if waiting else None)
            ended = segment == b""
            waiting = await self._pass(direction, waiting + (segment or b""), to, settled=not segment)

    async def _read(self, direction: Direction, reader: StreamReader, patience: float | None) -> bytes | None:
        """Return a segment, b"" at the end, or None if none comes within `patience` seconds."""
        size = min((trickle.size for trickle in self._plan.shapes(Trickle, direction)), default=SEGMENT)
        try:
            async with asyncio.timeout(patience):
                segment = await reader.read(size)
        except TimeoutError:
            return None
        for delay in self._plan.shapes(Delay, direction) if segment else ():
            await delay.wait(delay.seconds)
        return segment

    async def _pass(self, direction: Direction, waiting: bytes, to: Side, *, settled: bool) -> bytes:
        """Send what may pass, let the faults on the way happen, and return the bytes that have to wait."""
        while True:
            await self._flowing.wait()
            allowed, fault = self._plan.let(self, direction, waiting, settled=settled)
            if fault:
                self._hold_for(fault)  # first: an answer to what passes now must not
            to.writer.write(waiting[:allowed])
            await to.writer.drain()
            self._plan.passed[direction] += allowed
            waiting = waiting[allowed:]
            if fault is None:
                return waiting
            await to.flush()
            self._happen(fault)

    def _hold_for(self, fault: Fault) -> None:
        self.stall()
        if isinstance(fault, Cut):
            self._cuts.append(fault)

    def _happen(self, fault: Fault) -> None:
        if isinstance(fault, Cut):
            self.end(reset=fault.reset)
        else:
            self._plan.fire(fault)


def _unsent(link: socket.socket) -> bool:
    """Return whether the other end's kernel has not acknowledged everything."""
    return fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, bytes(4)) != bytes(4)
