"""What may go wrong on a connection, and when: the plan of a `FaultProxy`.

Passive: bytes in, numbers out. The proxy does what the plan says. Directions are seen from the client:
"up" goes to the server, "down" comes from it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, TypeVar

Direction: TypeAlias = Literal["up", "down"]
Moment: TypeAlias = Literal["before", "within", "after"]
Wait: TypeAlias = Callable[[float], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """Something that happens once, at a place in the bytes that pass in one direction.

    `when` is a number of bytes, counted over each connection or over all of them, since the plan began:
    exactly so many pass before. Or it is a pattern of bytes, wherever it is split into TCP segments:
    none of it has passed (`moment` "before"), its first half ("within"), or all of it and nothing that
    came in answer ("after"). The same fault given twice happens twice.

    Raises ValueError for a pattern that is too short or a negative number.
    """

    when: int | bytes
    direction: Direction = "up"
    moment: Moment = "before"
    over: Literal["connection", "all"] = "connection"

    def __post_init__(self) -> None:
        shortest = 2 if self.moment == "within" else 1
        if isinstance(self.when, bytes) and len(self.when) < shortest:
            raise ValueError(f"a pattern needs at least {shortest} bytes, {self.when!r} has fewer")
        if isinstance(self.when, int) and self.when < 0:
            raise ValueError(f"{self.when} is no number of bytes")

    def place(self, waiting: bytes, passed: int, *, settled: bool) -> Place:
        """Return how many of the waiting bytes may pass, and whether the fault comes after them.

        Waiting bytes that may be the beginning of the pattern may not pass, unless they are `settled`:
        nothing follows them.
        """
        if isinstance(self.when, int):
            left = max(self.when - passed, 0)
            return Place(left, self) if left <= len(waiting) else Place(len(waiting))
        if (start := waiting.find(self.when)) >= 0:
            size = len(self.when)
            return Place(start + {"before": 0, "within": size // 2, "after": size}[self.moment], self)
        return Place(len(waiting) - (0 if settled else _begun(self.when, waiting)))


@dataclass(frozen=True)
class Cut(Fault):
    """End the connection on both sides: by RST, or by FIN if `reset` is false."""

    reset: bool = True


@dataclass(frozen=True)
class Stall(Fault):
    """Leave the connection half-open: it stays, and nothing passes in any direction until `resume`."""


@dataclass(frozen=True)
class Refuse:
    """Reset the next `connections` as soon as they are made."""

    connections: int = 1


@dataclass(frozen=True)
class Delay:
    """Wait before each segment passes, in one direction or in both."""

    seconds: float
    direction: Direction | None = None
    wait: Wait = asyncio.sleep


@dataclass(frozen=True)
class Trickle:
    """Let at most `size` bytes pass at a time, in one direction or in both."""

    size: int
    direction: Direction | None = None


class Place(NamedTuple):
    """How many bytes may pass, and the fault that comes then."""

    allowed: int
    fault: Fault | None = None


Planned: TypeAlias = Fault | Refuse | Delay | Trickle
Shape = TypeVar("Shape", Delay, Trickle)


class Plan:
    """The faults still to come, those that have happened, and what has passed since the plan began."""

    def __init__(self, planned: Iterable[Planned] = ()) -> None:
        self.happened = threading.Event()
        self.begin(planned)

    def begin(self, planned: Iterable[Planned]) -> None:
        """Forget everything and begin anew with these faults."""
        planned = tuple(planned)
        self._faults = [fault for fault in planned if isinstance(fault, Fault)]
        self._shapes = [shape for shape in planned if isinstance(shape, Delay | Trickle)]
        refusals = (refuse for refuse in planned if isinstance(refuse, Refuse))
        self._refusals = [refuse for refuse in refusals for _ in range(refuse.connections)]
        self._let: Counter[tuple[Hashable, Direction]] = Counter()
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.fired: list[Fault | Refuse] = []
        self.happened.clear()

    def fire(self, fault: Fault | Refuse) -> None:
        """Note that a fault has happened."""
        self.fired.append(fault)
        self.happened.set()

    def refusal(self) -> Refuse | None:
        """Return the fault by which a new connection is refused, if there is one, and take it out."""
        return self._refusals.pop(0) if self._refusals else None

    def shapes(self, kind: type[Shape], direction: Direction) -> Iterator[Shape]:
        """Yield the delays or trickles for a direction."""
        for shape in self._shapes:
            if isinstance(shape, kind) and shape.direction in (None, direction):
                yield shape

    def let(self, connection: Hashable, direction: Direction, waiting: bytes, *, settled: bool) -> Place:
        """Return how many of the waiting bytes may pass and the fault after them, and take it out."""
        nearest = Place(len(waiting))
        for fault in self._faults:
            if fault.direction == direction:
                passed = self._let[connection if fault.over == "connection" else "all", direction]
                place = fault.place(waiting, passed, settled=settled)
                nearest = min(nearest, place, key=lambda place: (place.allowed, place.fault is None))
        for counter in (connection, "all"):
            self._let[counter, direction] += nearest.allowed
        if nearest.fault:
            self._faults.remove(nearest.fault)
        return nearest


def _begun(pattern: bytes, waiting: bytes) -> int:
    """Return how many bytes of the pattern the waiting bytes end with."""
    longest = min(len(pattern) - 1, len(waiting))
    return next((size for size in range(longest, 0, -1) if waiting.endswith(pattern[:size])), 0)
