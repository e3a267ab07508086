"""Input files from `adaptive.orders`, made once and kept in the cache folder with their checksums."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adaptive.orders import Checksums, Order, checksums, loadable, orders, write


@dataclass(frozen=True)
class Input:
    """A set of orders: `scale` times the base number of rows, in a format, with faults or without.

    The format "rows" has no file: the contender makes the orders, before its clock starts. With
    `milliseconds` their times are whole ones, which is what MongoDB keeps.
    """

    format: str = "csv"
    scale: float = 1.0
    bad_share: float = 0.0
    duplicate_share: float = 0.0
    milliseconds: bool = False

    def rows(self, base: int) -> int:
        """Return the number of orders, those with faults included."""
        return int(base * self.scale)

    def orders(self, count: int) -> Iterator[Order]:
        """Yield so many orders of the set."""
        some = orders(count, bad_share=self.bad_share, duplicate_share=self.duplicate_share)
        return map(_whole_milliseconds, some) if self.milliseconds else some

    def path(self, cache: Path, base: int) -> Path:
        """Return the file, written now if it is not there."""
        if self.format == "rows":
            return Path(os.devnull)
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
            path.write_text(json.dumps(checksums(loadable(self.orders(self.rows(base))))))
        return Checksums(*json.loads(path.read_text()))

    def _stem(self, cache: Path, base: int) -> Path:
        folder = cache / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        marks = {"bad": self.bad_share, "dup": self.duplicate_share}
        faults = "".join(f"-{mark}{share}" for mark, share in marks.items() if share)
        unit = "-ms" if self.milliseconds else ""
        return folder / f"orders-{self.rows(base)}{faults.replace('.', '_')}{unit}"


def _whole_milliseconds(order: Order) -> Order:
    moment = order["placed_at"]
    return {**order, "placed_at": moment.replace(microsecond=moment.microsecond // 1000 * 1000)}
