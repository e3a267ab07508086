from __future__ import annotations

import re
from pathlib import Path

import adaptive


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Python before 3.11.5 matches such groups wrongly; single characters are safe."""
    files = Path(adaptive.__file__).parent.rglob("*.py")
    found = [str(file) for file in files if re.search(r"\)[*+?]\+|\(\?>", file.read_text())]
    assert found == []
