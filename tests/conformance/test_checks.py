"""Every conformance check on every database."""

from __future__ import annotations

import pytest

from adaptive.testing import CHECKS, Check, Lab


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_conforms(check: Check, lab: Lab) -> None:
    capabilities = lab.sink("items").capabilities
    if missing := check.needs - capabilities:
        pytest.skip(f"{lab.name} does not offer {', '.join(sorted(missing))}")
    if why := lab.deviations.get(check.name):
        pytest.skip(f"{lab.name}: {why}")
    check.run(lab)
