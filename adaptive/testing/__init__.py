"""For people who write sinks: the conformance checks, and what a laboratory has to offer.

A laboratory (`Lab`) starts a database and looks at it with the raw driver, never through the sink.
Run every check of `checks.CHECKS` against it, as `tests/conformance/test_checks.py` does.
"""

from __future__ import annotations

from adaptive.testing.checks import CHECKS, Check
from adaptive.testing.faults import Cut, Delay, Refuse, Stall, Trickle
from adaptive.testing.lab import Lab
from adaptive.testing.proxy import FaultProxy

__all__ = ["CHECKS", "Check", "Lab", "FaultProxy", "Cut", "Stall", "Refuse", "Delay", "Trickle"]
