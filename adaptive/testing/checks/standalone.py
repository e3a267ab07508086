"""The sink's file, copied alone into another project."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adaptive.testing.checks.items import ids
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab

# None in sys.modules: cannot be imported. The URL comes by standard input: others see the arguments.
PROGRAM = """
import sys
sys.path.insert(0, ".")
sys.modules.update(dict.fromkeys(["adaptive", "pyarrow"]))
from {module} import {name}
with {name}(sys.stdin.read(), table="items") as sink:
    assert sink.begin()
    assert sink.write([{{"item_id": 1, "name": "one", "amount": 1}}]) == []
    sink.commit()
"""


@check("append")
def the_file_alone_writes_rows(lab: Lab) -> None:
    """In an empty folder, without this package and without pyarrow."""
    lab.make_items()
    kind = type(lab.sink("items"))
    file = Path(inspect.getfile(kind))
    program = PROGRAM.format(module=file.stem, name=kind.__name__)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(file, folder)
        done = subprocess.run(  # noqa: S603 - a fixed program
            [sys.executable, "-I", "-c", program],
            input=lab.url, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ids(lab) == [1]
