"""Takes the time of a piece of work in the process that does it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def timed(work: Callable[[], object]) -> str:
    """Do the work; return, in JSON, its seconds and this process's CPU seconds (all threads, no children)."""
    start, spent = time.perf_counter(), time.process_time()
    work()
    return json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - spent})
