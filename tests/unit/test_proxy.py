"""FaultProxy between real sockets: what reaches the server, what reaches the client, and how it ends."""

from __future__ import annotations

import select
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.testing import Cut, Delay, FaultProxy, Refuse, Stall, Trickle
from adaptive.testing.faults import Moment, Plan

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
        self.finished = threading.Semaphore(0)
        self.address = "127.0.0.1", int(self.server_address[1])

    def wait_for_an_end(self) -> None:
        """Wait until a further connection has ended and been read to its end."""
        assert self.finished.acquire(timeout=PATIENCE)


class EchoConnection(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        seen = Seen()
        self.server.seen.append(seen)
        seen.ending = self.echo(seen.received)

    def finish(self) -> None:
        self.server.finished.release()

    def echo(self, received: bytearray) -> str:
        """Send back what comes, and return how the connection ended; a reset is reported only once."""
        how, segment = "fin", b"?"
        while segment:
            try:
                segment = self.request.recv(65_536)
                received += segment
                if segment:
                    self.request.sendall(segment)
            except ConnectionResetError:
                how = "reset"
            except BrokenPipeError:
                continue  # it has ended; what came before that is still to be read
        return how


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


def silent(link: socket.socket) -> bool:
    """Return whether the connection is there and nothing has come."""
    return select.select([link], [], [], 0)[0] == []


def ending(link: socket.socket) -> tuple[bytes, str]:
    """Return everything that still comes, and how the connection ends."""
    found = b""
    try:
        while segment := link.recv(65_536):
            found += segment
    except ConnectionResetError:
        return found, "reset"
    return found, "fin"


def test_bytes_pass_unchanged_in_both_directions_and_are_counted() -> None:
    message = bytes(range(256)) * 4_000
    with echo() as server, FaultProxy(*server.address) as proxy, connect(proxy) as link:
        sender = threading.Thread(target=link.sendall, args=(message,))
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


def whole(link: socket.socket, segments: list[bytes]) -> tuple[bytes, str]:
    """Send segments and the end; return the echo and how the connection ends, whatever happens on the way."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for segment in segments:
            link.sendall(segment)
        link.shutdown(socket.SHUT_WR)
    except ConnectionResetError:  # reported only once
        return ending(link)[0], "reset"
    except OSError:  # it has ended before
        pass
    return ending(link)


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


SEGMENTS = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6)
ENDS = st.booleans()
FEW = settings(max_examples=40)


@FEW
@given(segments=SEGMENTS, when=st.integers(1, 60), reset=ENDS)
def test_cut_after_n_bytes_lets_exactly_n_bytes_reach_the_server(
    segments: list[bytes], when: int, reset: bool
) -> None:
    message = b"".join(segments)
    cut = Cut(when, reset=reset)
    with echo() as server, FaultProxy(*server.address, cut) as proxy, connect(proxy) as link:
        _, how = whole(link, segments)
        happens = when <= len(message)
        assert proxy.wait_for_fault(PATIENCE if happens else 0) == happens
        assert proxy.fired == [cut] * happens
        assert how == ("reset" if reset and happens else "fin")
        server.wait_for_an_end()
    assert [bytes(seen.received) for seen in server.seen] == [message[:when]]
    assert server.seen[0].ending == how


@FEW
@given(segments=SEGMENTS, when=st.integers(1, 60), reset=ENDS)
def test_cut_after_n_bytes_lets_exactly_n_bytes_come_back(
    segments: list[bytes], when: int, reset: bool
) -> None:
    cut = Cut(when, direction="down", reset=reset)
    with echo() as server, FaultProxy(*server.address, cut) as proxy, connect(proxy) as link:
        found, how = whole(link, segments)
        message = b"".join(segments)
        assert found == message[:when]
        assert how == ("reset" if reset and when <= len(message) else "fin")


def test_a_megabyte_before_a_cut_arrives_even_at_a_slow_reader() -> None:
    message = bytes(2_000_000)
    with echo() as server, FaultProxy(*server.address, Cut(1_000_000)) as proxy, connect(proxy) as link:
        whole(link, [message])
        server.wait_for_an_end()
    assert len(server.seen[0].received) == 1_000_000


def test_bytes_of_all_connections_count_together_if_wanted() -> None:
    cut = Cut(12, over="all")
    with (
        echo() as server,
        FaultProxy(*server.address, cut) as proxy,
        connect(proxy) as one,
        connect(proxy) as two,
    ):
        talk(one)
        talk(two)
        one.sendall(b"hello")
        assert ending(one)[1] == "reset"
        talk(two)
    assert sorted(bytes(seen.received) for seen in server.seen) == [b"hellohe", b"hellohello"]


MOMENTS = st.sampled_from(["before", "within", "after"])
AB = st.text("ab", min_size=1).map(str.encode)
PATTERN = st.text("ab", min_size=2, max_size=6).map(str.encode)


def expected(message: bytes, pattern: bytes, moment: Moment) -> bytes:
    """Return what passes before a cut at a pattern."""
    start = message.find(pattern)
    shares = {"before": 0, "within": len(pattern) // 2, "after": len(pattern)}
    return message[: start + shares[moment]] if start >= 0 else message


@given(segments=st.lists(AB), pattern=PATTERN, moment=MOMENTS)
def test_a_pattern_is_found_wherever_it_is_split(
    segments: list[bytes], pattern: bytes, moment: Moment
) -> None:
    plan, passed, waiting, fault = Plan([Cut(pattern, moment=moment)]), b"", b"", None
    for segment in [*segments, b""]:
        waiting += segment
        allowed, fault = plan.let(1, "up", waiting, settled=segment == b"")
        passed, waiting = passed + waiting[:allowed], waiting[allowed:]
        if fault:
            break
    message = b"".join(segments)
    assert passed == expected(message, pattern, moment)
    assert (fault is not None) == (pattern in message)


@FEW
@given(segments=st.lists(AB, max_size=6), pattern=PATTERN, moment=MOMENTS)
def test_what_passes_of_a_pattern_is_exact_on_a_connection(
    segments: list[bytes], pattern: bytes, moment: Moment
) -> None:
    cut = Cut(pattern, moment=moment)
    with echo() as server, FaultProxy(*server.address, cut, hold=PATIENCE) as proxy, connect(proxy) as link:
        whole(link, segments)
        server.wait_for_an_end()
    assert bytes(server.seen[0].received) == expected(b"".join(segments), pattern, moment)


def test_a_cut_after_a_pattern_lets_no_answer_through() -> None:
    cut = Cut(b"COMMIT", moment="after")
    with echo() as server, FaultProxy(*server.address, cut) as proxy, connect(proxy) as link:
        talk(link, b"INSERT")
        link.sendall(b"COMMIT; more")
        assert ending(link) == (b"", "reset")
    assert bytes(server.seen[0].received) == b"INSERTCOMMIT"


def test_a_message_that_ends_as_a_pattern_begins_is_not_held_back_for_ever() -> None:
    with (
        echo() as server,
        FaultProxy(*server.address, Cut(b"COMMIT"), hold=0.01) as proxy,
        connect(proxy) as link,
    ):
        talk(link, b"COM")
        talk(link, b"MIT")
        assert not proxy.fired


def test_a_fault_happens_once_and_one_given_twice_happens_twice() -> None:
    with echo() as server, FaultProxy(*server.address, Cut(3), Cut(3)) as proxy:
        for how in ("reset", "reset", "fin"):
            with connect(proxy) as link:
                assert whole(link, [b"hello"])[1] == how
        assert proxy.fired == [Cut(3), Cut(3)]
        assert proxy.connections == 3


@pytest.mark.parametrize(("when", "passing"), [(3, b"hel"), (b"llo", b"he")])
def test_a_stalled_connection_stays_and_passes_nothing_until_it_is_resumed(
    when: int | bytes, passing: bytes
) -> None:
    with echo() as server, FaultProxy(*server.address, Stall(when)) as proxy, connect(proxy) as link:
        link.sendall(b"hello")
        assert proxy.wait_for_fault(PATIENCE)
        with connect(proxy) as other:
            talk(other, b"others pass")
        assert server.seen[0].received == passing
        assert silent(link)
        proxy.resume()
        assert read(link, 5) == b"hello"
        talk(link)


def test_stall_and_resume_can_be_called_at_any_time() -> None:
    with echo() as server, FaultProxy(*server.address) as proxy, connect(proxy) as link:
        talk(link)
        proxy.stall()
        link.sendall(b"later")
        assert silent(link)
        proxy.resume()
        assert read(link, 5) == b"later"


def test_a_trickle_passes_a_few_bytes_at_a_time_and_a_delay_waits_before_each_of_them() -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    with (
        echo() as server,
        FaultProxy(*server.address, Trickle(3, "up"), Delay(7, "up", wait)) as proxy,
        connect(proxy) as link,
    ):
        talk(link, b"0123456789")
    assert waits == [7] * 4


def test_a_cut_that_waits_for_a_slow_reader_is_not_undone_by_resume() -> None:
    size = 12_000  # fits in the kernel's buffer of the sender and not in that of the receiver
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with FaultProxy(*listener.getsockname(), Cut(size)) as proxy, connect(proxy) as link:
            link.sendall(bytes(2 * size))
            server = listener.accept()[0]
            while proxy.passed["up"] < size:
                proxy.resume()
            proxy.resume()
            with server:
                assert ending(server) == (bytes(size), "reset")
            assert proxy.wait_for_fault(PATIENCE)


def test_refuse_resets_connections_and_accept_lets_them_in_again() -> None:
    with echo() as server, FaultProxy(*server.address, Refuse(2)) as proxy:
        for _ in range(2):
            assert_reset(proxy)
        with connect(proxy) as link:
            talk(link)
            proxy.refuse()
            assert_reset(proxy)
            talk(link)
        proxy.accept()
        with connect(proxy) as link:
            talk(link)
        assert proxy.wait_for_fault(0)
        assert proxy.fired == [Refuse(2)] * 2
        assert proxy.connections == 5


def assert_reset(proxy: FaultProxy) -> None:
    """Connect, and be reset at once."""
    with pytest.raises(ConnectionResetError), connect(proxy) as link:
        link.recv(1)


def test_a_cut_after_no_byte_at_all_comes_at_once() -> None:
    with echo() as server, FaultProxy(*server.address, Cut(0)) as proxy:
        assert_reset(proxy)
        assert proxy.wait_for_fault(PATIENCE)


def test_a_server_that_cannot_be_reached_resets_the_client() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with FaultProxy(*taken.getsockname()) as proxy:
            assert_reset(proxy)


def test_a_reset_by_the_client_reaches_the_server() -> None:
    with echo() as server, FaultProxy(*server.address) as proxy, connect(proxy) as link:
        talk(link)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()
        server.wait_for_an_end()
    assert server.seen[0].ending == "reset"


def test_a_new_plan_counts_from_nothing_on_open_connections() -> None:
    with echo() as server, FaultProxy(*server.address, Cut(100)) as proxy, connect(proxy) as link:
        talk(link, b"x" * 50)
        proxy.arm(Cut(60))
        assert proxy.passed == {"up": 0, "down": 0}
        talk(link, b"x" * 50)
        assert not proxy.wait_for_fault(0)
        whole(link, [b"x" * 50])
        assert proxy.wait_for_fault(PATIENCE)
    assert len(server.seen[0].received) == 110


def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    message = bytes(64 << 20)  # many times what the kernel's buffers take
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultProxy(*listener.getsockname()) as proxy,
        connect(proxy) as link,
        listener.accept()[0] as server,
    ):
        writer = threading.Thread(target=link.sendall, args=(message,))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive(), "somebody took in 64 MB that nobody read"
        assert read_all(server, len(message)) == len(message)
        writer.join()


def read_all(link: socket.socket, size: int) -> int:
    """Read and drop `size` bytes; return how many came."""
    left = size
    while left and (segment := link.recv(min(left, 1 << 20))):
        left -= len(segment)
    return size - left


def resources() -> tuple[int, int]:
    """Return how many threads and open files this process has."""
    return threading.active_count(), len(list(Path("/dev/fd").iterdir()))


def test_close_leaves_no_thread_and_no_socket() -> None:
    before = resources()
    with echo() as server:
        proxy = FaultProxy(*server.address, Stall(3))
        with connect(proxy) as link:
            link.sendall(b"hello")
            assert proxy.wait_for_fault(PATIENCE)
            proxy.close()
            proxy.close()
            assert ending(link) == (b"", "reset")
        proxy.cut()  # there is nothing left to cut
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    assert resources() == before


def test_a_url_is_led_through_the_proxy() -> None:
    with FaultProxy("localhost", 9) as proxy:
        url = proxy.through("postgresql://me:p%40ss@db.example:5432/market?sslmode=disable")
        assert url == f"postgresql://me:p%40ss@127.0.0.1:{proxy.port}/market?sslmode=disable"


@pytest.mark.parametrize(("when", "moment"), [(b"", "before"), (b"x", "within"), (-1, "before")])
def test_a_place_that_cannot_be_is_refused(when: int | bytes, moment: Moment) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Cut(when, moment=moment)
