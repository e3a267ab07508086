"""Serves the tests' MongoDB in memory from a process of its own: `python -m benchmarks.wire`.

It prints its URL, and ends with its input. `tests/` has to be in PYTHONPATH.
"""

from __future__ import annotations

import sys
from typing import Any

from labs.mongodb_wire import WireServer


class Forgetful(WireServer):  # type: ignore[misc]
    """A server that does not keep the commands for a test to look at: they would fill the memory."""

    def answer(self, command: dict[str, Any]) -> dict[str, Any] | None:
        """Answer a command."""
        answer: dict[str, Any] | None = super().answer(command)
        self.commands.clear()
        return answer


if __name__ == "__main__":
    with Forgetful() as server:
        print(server.url, flush=True)
        sys.stdin.read()
