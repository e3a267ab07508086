"""Laboratories: databases that tests start, or find, and look at with the raw drivers."""

from __future__ import annotations

from adaptive.testing import Lab
from labs.databases import PostgresLab, SqliteLab, postgres_lab

__all__ = ["Lab", "PostgresLab", "SqliteLab", "postgres_lab"]
