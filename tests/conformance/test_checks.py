"""Every conformance check on every database."""

from __future__ import annotations

import pytest

from adaptive.testing import CHECKS, Check, Lab


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_conforms(check: Check, lab: Lab) -> None:
    missing = check.needs - lab.sink("items").capabilities
    if missing:
        reasons = [lab.deviations.get(name, f"not offered by {lab.name}") for name in sorted(missing)]
        pytest.skip("; ".join(dict.fromkeys(reasons)))
    if why := lab.deviations.get(check.name):
        pytest.skip(why)
    check.run(lab)
