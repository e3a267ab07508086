"""The conformance checks: what every sink has to do, one function each.

A check takes a `Lab` with an empty database and raises AssertionError. It uses the sink's contract and
the lab only. Importing a module enters its checks.
"""

from __future__ import annotations

from importlib import import_module

from adaptive.testing.checks.registry import CHECKS, Check

__all__ = ["CHECKS", "Check", "SUBJECTS"]

SUBJECTS = (
    *("connecting", "writing", "limits", "receipts", "resume", "takeover", "writers", "tables"),
    *("several_tables", "isolation", "modes", "keys", "types", "losses", "names", "errors", "rights"),
    "standalone",
)
for subject in SUBJECTS:
    import_module(f"{__name__}.{subject}")
