"""A TCP proxy that spoils connections to a server on purpose, to test clients such as sinks.

    with FaultProxy("127.0.0.1", 5432, Cut(b"COMMIT", moment="after")) as proxy:
        adaptive.load("orders.csv", proxy.through("postgresql://127.0.0.1:5432/market"))
    assert proxy.fired

It knows bytes, not protocols, so it finds patterns only where the connection has no TLS. All connections
run in one thread; a few segments of each are in memory, and then a slow reader slows the writer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from adaptive.testing.faults import Direction, Fault, Plan, Planned, Refuse
from adaptive.testing.link import SEGMENT, Link, Side


class FaultProxy:
    """Listen on a free port of 127.0.0.1 and forward every connection, with the faults planned for it.

    Bytes that may begin a pattern are held back for `hold` seconds, until more come; a client that sends
    one pattern in pieces is faster than 0.25 s.

    Methods may be called from any thread; what they do is done when they return.
    """

    def __init__(self, host: str, port: int, *plan: Planned, hold: float = 0.25) -> None:
        self.connections = 0  # made so far, refused ones included
        self._server, self._accepting, self._plan, self._hold = (host, port), True, Plan(plan), hold
        self._links: dict[asyncio.Task[None], Link | None] = {}  # None until the server has been reached
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop, self._closing = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"fault proxy {self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def passed(self) -> dict[Direction, int]:
        """Return the bytes forwarded in each direction since the plan began."""
        return dict(self._plan.passed)

    @property
    def fired(self) -> list[Fault | Refuse]:
        """Return the faults that have happened since the plan began, in order."""
        return list(self._plan.fired)

    def through(self, url: str) -> str:
        """Return a URL with the proxy's host and port in place of the server's."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    def arm(self, *plan: Planned) -> None:
        """Begin a new plan, for open connections, too; counting starts again at 0."""
        self._do(lambda: self._begin(plan))

    def wait_for_fault(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds until a planned fault has happened; return whether one has."""
        return self._plan.happened.wait(timeout)

    def cut(self, *, reset: bool = True) -> None:
        """End every connection, by RST or by FIN; what is under way is lost."""
        self._do(lambda: self._end(reset=reset))

    def stall(self) -> None:
        """Leave every connection half-open: nothing passes any more, until `resume`."""
        self._do(lambda: self._each(Link.stall))

    def resume(self) -> None:
        """Let the bytes of stalled connections pass again."""
        self._do(lambda: self._each(Link.resume))

    def refuse(self) -> None:
        """Reset new connections as soon as they are made, until `accept`."""
        self._accepting = False

    def accept(self) -> None:
        """Forward new connections again."""
        self._accepting = True

    def close(self) -> None:
        """Stop listening and reset every connection. Repeating it is fine."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _do(self, act: Callable[[], Coroutine[None, None, None]]) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    # --- in the proxy's thread ---

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._arrive, sock=self._listener, limit=SEGMENT)
        await self._closing.wait()
        server.close()
        await self._end(reset=True)

    def _arrive(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._link(Side(reader, writer)))
        self._links[task] = None
        task.add_done_callback(self._links.pop)

    async def _link(self, client: Side) -> None:
        self.connections += 1
        refused = self._plan.refusal()
        try:
            if refused or not self._accepting:
                raise ConnectionRefusedError
            server = Side(*await asyncio.open_connection(*self._server, limit=SEGMENT))
        except (OSError, asyncio.CancelledError):
            await client.end(reset=True)
        else:
            link = Link(client, server, self._plan, self._hold)
            self._links[cast("asyncio.Task[None]", asyncio.current_task())] = link
            await link.run()
        if refused:
            self._plan.fire(refused)

    async def _begin(self, plan: tuple[Planned, ...]) -> None:
        self._plan.begin(plan)

    async def _each(self, act: Callable[[Link], None]) -> None:
        for link in self._links.values():
            if link:
                act(link)

    async def _end(self, *, reset: bool) -> None:
        for task, link in self._links.items():
            if link:
                link.end(reset=reset)
            else:
                task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
