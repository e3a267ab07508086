"""Runs one command and measures it: wall time and the peak memory of its process tree (Linux)."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.02  # a batch lives longer than that; reading /proc takes under 1 ms


class Finished(NamedTuple):
    """A command that has ended. `seconds` from start to exit; `rss` in bytes, children included."""

    code: int
    output: str
    seconds: float
    rss: int


def run(command: Sequence[str], *, terminal: bool, cwd: Path, env: Mapping[str, str]) -> Finished:
    """Run a command to its end, on a terminal of its own if asked, so that it draws its progress."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer
    )
    os.close(writer)
    meter = _PeakMemory(process.pid)
    output = _read_all(reader)
    code = process.wait()
    seconds = time.perf_counter() - start
    return Finished(code, output, seconds, meter.stop())


def _read_all(reader: int) -> str:
    parts = []
    try:
        while part := os.read(reader, 1 << 16):
            parts.append(part)
    except OSError:  # a terminal whose other side has closed says EIO instead of end of file
        pass
    os.close(reader)
    return b"".join(parts).decode(errors="replace")


class _PeakMemory(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peak, self._ended = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, sum(map(_resident, _tree(self._pid))))

    def stop(self) -> int:
        self._ended.set()
        self.join()
        return self._peak


def _tree(pid: int) -> list[int]:
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it ended meanwhile
        return []
    return [pid, *(below for child in " ".join(tasks).split() for below in _tree(int(child)))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0
