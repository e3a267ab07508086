"""docs/copying-an-adapter.md is done as it stands there, in an empty folder and without the package."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from labs import Lab, open_lab

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/copying-an-adapter.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", TEXT, re.MULTILINE))
TITLES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "mongo": "MongoDB", "sqlserver": "SQL Server"}
LINE = re.compile(r"^\| ([\w ]+) \| `.*?` \| `.*?` \| (.*?) \| (.*?) \|$", re.MULTILINE)
NEEDS = {  # title → what the document asks pip for, at first and for exactly-once loads
    title: (set(re.findall(r"`(\w+)", first)), set(re.findall(r"`(\w+)", more)))
    for title, first, more in LINE.findall(TEXT)
}
PACKAGES = {
    "psycopg", "pgpq", "pymongo", "pyodbc", "pyarrow", "adbc_driver_sqlite", "adbc_driver_manager", "lxml"
}  # fmt: skip
RUN = """
import runpy, sys
sys.path.insert(0, ".")
sys.modules.update(dict.fromkeys(sys.argv[2:]))  # None: cannot be imported
runpy.run_path(sys.argv[1], run_name="__main__")
"""
SINK = "from sqlite import SqliteSink as Sink\n"


def code(section: str, language: str) -> str:
    [block] = re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)
    return str(block)


class Project:
    """A folder with the copied adapter, and a database with the table `items`."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder, self.lab, self.title = folder, lab, TITLES[lab.name]
        copy, *pip = code(self.title, "sh").splitlines()
        assert set(re.findall(r"[a-z]+", " ".join(pip).partition("install")[2])) - {"binary"} == self.needs[0]
        command, file, to = shlex.split(copy)
        assert (command, to) == ("cp", "your-project/")
        shutil.copy(ROOT / file, folder)

    @property
    def needs(self) -> tuple[set[str], set[str]]:
        return NEEDS[self.title]

    def run(self, text: str, *, exactly_once: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a block on this database, with nothing to import that the document does not ask pip for."""
        first, more = self.needs
        own = code(self.title, "python").splitlines()[0]
        text = re.sub(r'"(sqlite|postgresql|mongodb|mssql)://[^"]*"', repr(self.lab.url), text)
        (self.folder / "program.py").write_text(text.replace(SINK, f"{own} as Sink\n"))
        blocked = {"adaptive"} | PACKAGES - first - (more if exactly_once else set())
        command = [sys.executable, "-I", "-c", RUN, "program.py", *sorted(blocked)]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=120
        )

    def ids(self) -> list[int]:
        return sorted(row["item_id"] for row in self.lab.rows("items"))


@pytest.fixture(params=list(TITLES))
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "your-project"
    folder.mkdir()
    with open_lab(request, tmp_path) as lab:
        lab.make_items()
        yield Project(folder, lab)


def test_the_copied_file_writes_rows(project: Project) -> None:
    done = project.run(code(project.title, "python"))
    assert done.returncode == 0, done.stderr
    rows = {row["item_id"]: (row["name"], row["amount"]) for row in project.lab.rows("items")}
    assert rows == {1: ("hammer", 5), 2: ("nail", 1_000)}


def test_refused_rows_are_found_and_the_others_written(project: Project) -> None:
    if reason := project.lab.deviations.get("a_row_that_violates_a_check_is_isolated"):
        pytest.skip(reason)
    done = project.run(code("Rows that the database refuses", "python"))
    assert done.returncode == 0, done.stderr
    bad = [number for number in range(100) if number % 11 == 10]
    assert re.findall(r"^\d+", done.stdout, re.MULTILINE) == list(map(str, bad))
    assert project.ids() == [number for number in range(100) if number not in bad]


EXACTLY_ONCE = code("Exactly once, whatever dies", "python")
MOMENTS = {  # statement → how often it was run when the program dies
    "sink.prepare(LOAD)": 1,
    "sink.begin(batch)": 1,
    "sink.write(rows)": 2,
    "sink.commit(gaps, len(rows) - len(gaps))": 2,
    "sink.finish(LOAD)": 1,
}


def killed_after(statement: str) -> str:
    """Return the program, which dies after a statement."""
    lives = f"import itertools, os\nlives = itertools.count(1)\nend = {MOMENTS[statement]}\n"
    dies = f"({statement}, next(lives) == end and os._exit(9))[0]"
    assert EXACTLY_ONCE.count(statement) == 1
    return lives + EXACTLY_ONCE.replace(statement, dies)


@pytest.mark.parametrize("statement", MOMENTS)
def test_a_killed_load_ends_with_every_row_once(project: Project, statement: str) -> None:
    assert project.run(killed_after(statement), exactly_once=True).returncode == 9
    for _ in range(2):
        done = project.run(EXACTLY_ONCE, exactly_once=True)
    assert done.stderr.strip() == "loaded already"
    assert project.ids() == list(range(2_500))


def test_a_lost_connection_is_outlived(project: Project) -> None:
    """The document's functions, called here: the lab cuts the links of a sink from outside."""
    definitions = EXACTLY_ONCE.replace(SINK, "").partition("with Sink(")[0]
    names: dict[str, Any] = {}
    exec(definitions, names)
    deliver: Callable[..., None] = names["deliver"]
    receipt, rows = names["receipt"](0, 999), names["ROWS"][:1_000]
    with project.lab.sink("items") as sink:
        sink.prepare(names["LOAD"])
        for _ in range(2):
            project.lab.break_links()
            deliver(sink, receipt, rows)
    assert project.ids() == list(range(1_000))
