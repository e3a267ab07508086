"""The locks of one database: who waits for whom, for how long, and which wait is a deadlock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from labs.tds.errors import SqlError

# How often a waiting session looks whether its client gave up; nothing depends on it but the delay.
LOOK = 0.05


class Locks:
    """Exclusive locks by name; one session may take a lock several times and frees all at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owners: dict[str, object] = {}
        self._waits: dict[object, str] = {}

    def free(self, name: str, session: object) -> bool:
        """Return whether a session would get a lock at once."""
        return self._owners.get(name, session) is session

    def acquire(self, name: str, session: object, seconds: float | None, look: Callable[[], None]) -> None:
        """Take a lock. Raises SqlError 1222 after `seconds` (None: never) and 1205 for a deadlock.

        `look` is called now and then while waiting, and may raise.
        """
        limit = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            try:
                while self._owners.get(name, session) is not session:
                    self._waits[session] = name
                    if self._circular(session):
                        raise SqlError(1205, process=51)
                    if limit is not None and time.monotonic() >= limit:
                        raise SqlError(1222)
                    self._changed.wait(LOOK)
                    look()
                self._owners[name] = session
            finally:
                self._waits.pop(session, None)

    def release_all(self, session: object) -> None:
        """Free everything a session has."""
        with self._changed:
            self._owners = {name: owner for name, owner in self._owners.items() if owner is not session}
            self._changed.notify_all()

    def _circular(self, session: object) -> bool:
        seen, waiting = set(), session
        while (name := self._waits.get(waiting)) is not None and name not in seen:
            seen.add(name)
            waiting = self._owners.get(name, self)
            if waiting is session:
                return True
        return False
