"""A stand-in for SQL Server: TDS 7.4 over SQLite, as much of it as the tests use. See README.md."""

from __future__ import annotations

from labs.tds.process import Served, serving

__all__ = ["Served", "serving"]
