"""What a load came to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from adaptive import dead_letters
from adaptive.dead_letters import DeadLetter
from adaptive.metrics import Snapshot
from adaptive.rows import Position


@dataclass(frozen=True)
class LoadResult:
    """What a load of one source, or of several, came to.

    Counts are records of this run; `resumed` were settled by an earlier run of the same load.
    `already` says when the whole load was found done; `dry_run` holds what a dry run would reject.
    """

    load: str
    source: str
    written: int = 0
    duplicates: int = 0
    resumed: int = 0
    seconds: float = 0.0
    rejected_positions: frozenset[Position] = frozenset()
    dead_letters: str | None = None
    already: str | None = None
    metrics: Snapshot | None = None
    parts: Sequence[LoadResult] = field(default_factory=tuple)
    dry_run: Sequence[DeadLetter] | None = None

    @classmethod
    def of(cls, parts: Sequence[LoadResult]) -> LoadResult:
        """Return the sum of several loads, or the only one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            load=", ".join(part.load for part in parts),
            source=f"{len(parts)} files",
            written=sum(part.written for part in parts),
            duplicates=sum(part.duplicates for part in parts),
            resumed=sum(part.resumed for part in parts),
            seconds=sum(part.seconds for part in parts),
            dry_run=None if parts[0].dry_run is None else (),
            parts=tuple(parts),
        )

    @property
    def rejected_count(self) -> int:
        """Return how many records of the load were rejected, those of earlier runs included."""
        own = len(self.rejected_positions if self.dry_run is None else self.dry_run)
        return own + sum(part.rejected_count for part in self.parts)

    @cached_property
    def rejected(self) -> list[DeadLetter]:
        """Return the dead letters that count, read from their files, by position."""
        found = [letter for part in self.parts for letter in part.rejected]
        found += self.dry_run or []
        if self.dead_letters and self.rejected_positions and os.path.exists(self.dead_letters):  # noqa: PTH110
            _, letters = dead_letters.read(self.dead_letters)
            latest = {
                letter.position: letter for letter in letters if letter.position in self.rejected_positions
            }
            found += [latest[position] for position in sorted(latest)]
        return found

    def __str__(self) -> str:
        """Return the result in a line."""
        if self.already:
            return f"{self.source}: already loaded on {self.already}; --again loads it again"
        words = [f"{self.written:,} written"]
        if self.rejected_count:
            files = [
                part.dead_letters for part in (self, *self.parts) if part.dead_letters and part.rejected_count
            ]
            words.append(f"{self.rejected_count:,} rejected ({', '.join(files)})")
        if self.duplicates:
            words.append(f"{self.duplicates:,} there already")
        if self.resumed:
            words.append(f"{self.resumed:,} settled by an earlier run")
        return ", ".join([*words, f"{self.seconds:.1f} s"])
