"""A disk of a few megabytes, to test what a full one does.

with SmallDisk(20 << 20, folder) as disk:
    disk.fill(free=1 << 20)
    attempt = run(disk.command([sys.executable, "-m", "adaptive", "load", …, "--to", f"sqlite:///{folder}/x.db"]))
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Its standard input holds it: the disk goes away with this process, or with the one that made it.
HOLD = 'mount -t tmpfs -o "size=$1,mode=0777" none "$0" && echo mounted && exec cat'
FILLER = ".filler"
ENTER = 'cd "$0" && exec "$@"'


class NoDiskError(Exception):
    """This machine lets nobody, or not this user, mount a file system."""


class SmallDisk:
    """A file system in memory, `size` bytes large, on a folder; seen only by commands made with `command`.

    It stands in a mount namespace of its own, for which an ordinary user needs a user namespace, too. From
    outside it can be read and written under `root`, which SQLite cannot open, since it resolves links itself.
    Raises NoDiskError with the reason if the machine allows none.
    """

    def __init__(self, size: int, folder: Path) -> None:
        self.folder = folder
        self._user = [] if os.geteuid() == 0 else ["--user"]
        root = ["--map-root-user"] if self._user else []
        missing = [name for name in ("unshare", "nsenter", "mount") if not shutil.which(name)]
        if missing:
            raise NoDiskError(f"{', '.join(missing)} of util-linux is not in PATH")
        command = ["unshare", "--mount", *self._user, *root, "sh", "-c", HOLD, str(folder), str(size)]
        pipe = subprocess.PIPE
        self._holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603
        if self._holder.stdout and self._holder.stdout.readline() != "mounted\n":
            raise NoDiskError(self._holder.communicate()[1].strip())
        self.root = Path(f"/proc/{self._holder.pid}/root{folder.resolve()}")

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    def command(self, command: Sequence[str]) -> list[str]:
        """Return a command as one that sees the disk, and that runs in its folder."""
        entered = ["--preserve-credentials", *self._user] if self._user else []
        place = ["--target", str(self._holder.pid), "--mount", *entered]
        return ["nsenter", *place, "--", "sh", "-c", ENTER, str(self.folder), *command]

    def fill(self, free: int) -> None:
        """Take all room but `free` bytes, until `clear`."""
        disk = os.statvfs(self.root)
        with (self.root / FILLER).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_bsize - free)

    def clear(self) -> None:
        """Give back the room that `fill` has taken."""
        (self.root / FILLER).unlink()
