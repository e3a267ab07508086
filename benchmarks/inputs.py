"""Input files from `adaptive.orders`, made once and kept in the cache folder with their checksums."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from adaptive.orders import Checksums, checksums, loadable, orders, write


@dataclass(frozen=True)
class Input:
    """A set of orders: `scale` times the base number of rows, in a format, with faults or without."""

    format: str = "csv"
    scale: float = 1.0
    bad_share: float = 0.0
    duplicate_share: float = 0.0

    def rows(self, base: int) -> int:
        """Return the number of orders, those with faults included."""
        return int(base * self.scale)

    def path(self, cache: Path, base: int) -> Path:
        """Return the file, written now if it is not there."""
        path = self._stem(cache, base).with_suffix(f".{self.format}")
        if not path.exists():
            partial = path.with_name("partial-" + path.name)
            write(partial, self.rows(base), bad_share=self.bad_share, duplicate_share=self.duplicate_share)
            partial.replace(path)
        return path

    def checksums(self, cache: Path, base: int) -> Checksums:
        """Return what a table loaded from it must reproduce."""
        path = self._stem(cache, base).with_suffix(".sums.json")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            some = orders(self.rows(base), bad_share=self.bad_share, duplicate_share=self.duplicate_share)
            path.write_text(json.dumps(checksums(loadable(some))))
        return Checksums(*json.loads(path.read_text()))

    def _stem(self, cache: Path, base: int) -> Path:
        folder = cache / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        faults = f"-bad{self.bad_share}" * bool(self.bad_share) + f"-dup{self.duplicate_share}" * bool(
            self.duplicate_share
        )
        return folder / f"orders-{self.rows(base)}{faults.replace('.', '_')}"
