"""The list of checks, and how a function gets into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from adaptive.protocols import Capability
from adaptive.testing.lab import Lab

Run = Callable[[Lab], None]


@dataclass(frozen=True, slots=True)
class Check:
    """A check and the capabilities a sink needs for it."""

    run: Run
    needs: frozenset[Capability] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """Return the name of the check in words."""
        return self.run.__name__

    @property
    def subject(self) -> str:
        """Return what the check is about, in words: the name of its module."""
        return self.run.__module__.rpartition(".")[2].replace("_", " ")


CHECKS: list[Check] = []


def check(*needs: Capability) -> Callable[[Run], Run]:
    """Register a function as a check."""

    def register(run: Run) -> Run:
        CHECKS.append(Check(run, frozenset(needs)))
        return run

    return register
