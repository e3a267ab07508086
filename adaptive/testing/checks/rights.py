"""What `doctor` says."""

from __future__ import annotations

from contextlib import closing

from adaptive.testing.checks.items import started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab


@check("append")
def advice_is_given(lab: Lab) -> None:
    """`doctor` says something about a table that can be loaded."""
    lab.make_items()
    with closing(started(lab)) as sink:
        assert sink.doctor()
