"""Serve from a process of its own: `python -m labs.mongo_wire`. Prints the URL and ends with its input."""

from __future__ import annotations

import sys

from labs.mongo_wire.server import WireServer

with WireServer() as running:
    print(running.url, flush=True)  # noqa: T201
    sys.stdin.read()
