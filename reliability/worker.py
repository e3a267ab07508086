"""A program that loads again and again in one process: `python -m reliability.worker FILE URL TYPES`.

Each line of its input is a table to load the file into; once that is done, however often it has to be
repeated, it answers with a line of JSON: what the process holds. At the end of its input it says that once
more, when the drivers' threads have had time to end.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

import adaptive
from adaptive.types import parse_types

PAGE = os.sysconf("SC_PAGE_SIZE")
ATTEMPTS = 20
SETTLED_SECONDS = 10.0  # pymongo's threads look every half second whether their client was closed
PAUSE_SECONDS = 0.5  # before a repetition: a server that crashed needs one or two seconds


def main(file: str, url: str, types: str) -> None:
    """Load a file into each table that is named."""
    words = parse_types(types)
    for table in map(str.strip, sys.stdin):
        errors: list[str] = []
        while len(errors) < ATTEMPTS:
            try:
                adaptive.load(file, url, table=table, create=True, types=words)
                break
            except adaptive.AdaptiveError as error:
                errors.append(str(error))
                time.sleep(PAUSE_SECONDS)
        print(json.dumps({**held(), "errors": errors, "done": len(errors) < ATTEMPTS}), flush=True)
    deadline = time.monotonic() + SETTLED_SECONDS
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    print(json.dumps(held()))


def held() -> dict[str, int]:
    """Return what this process holds: bytes of memory, threads, open files and connections."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    return {
        "memory": resident,
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
