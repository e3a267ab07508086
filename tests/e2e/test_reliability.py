"""The attacks of `python -m reliability` in short: same code, few rows, few strikes, one seed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from adaptive.testing.processes import Run, when
from reliability import cuts, kills, letters, pairs, poison, replacing, report, soak, stalls
from reliability.databases import KINDS
from reliability.trial import Trial

SEED = 4
ROWS = {"sqlite": 5_000, "postgres": 5_000, "mongo": 5_000, "sqlserver": 2_000}  # the last: a slow stand-in
SOAK_SECONDS = 3.0
PATIENCE_SECONDS = 60.0  # after which a test that hangs fails

everywhere = pytest.mark.parametrize("trial", list(KINDS), indirect=True)
connected = pytest.mark.parametrize("trial", ["postgres", "mongo", "sqlserver"], indirect=True)
quick = pytest.mark.parametrize("trial", ["sqlite", "postgres", "mongo"], indirect=True)


@pytest.fixture
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    """A trial on a database of the kind that the parameter names."""
    kind = request.param
    server = str(tmp_path) if kind == "sqlite" else request.getfixturevalue(f"{kind}_server")
    with KINDS[kind].database(server) as database:
        yield Trial(database, tmp_path / "work", ROWS[kind], SEED, times=2, clean_loads=1)


def held(trial: Trial, prove: Callable[[Trial], None]) -> Trial:
    """Run an attack, whose proof has to hold."""
    prove(trial)
    assert trial.trouble == []
    assert (trial.figures["lost"], trial.figures["duplicated"]) == (0, 0)
    return trial


@everywhere
def test_a_killed_load_resumes(trial: Trial) -> None:
    assert held(trial, kills.prove).figures["strikes"] == 2


@connected
def test_a_load_survives_cuts_at_random_bytes_and_around_a_commit(trial: Trial) -> None:
    held(trial, cuts.prove)


@quick
def test_of_two_runs_at_once_one_completes(trial: Trial) -> None:
    held(trial, pairs.prove)


@quick
def test_bad_rows_become_dead_letters_that_lead_to_them(trial: Trial) -> None:
    trial.times = 12
    assert held(trial, poison.prove).figures["dead letters"] == 12


@quick
def test_mended_letters_are_replayed_once_whatever_is_killed(trial: Trial) -> None:
    trial.times = 4
    assert held(trial, letters.prove).figures["dead letters"] >= ROWS[trial.database.name] // 20


@pytest.mark.parametrize("trial", ["sqlite"], indirect=True)
def test_a_stopped_process_that_wakes_up_changes_nothing(trial: Trial) -> None:
    load = trial.new_load("--batch", "100")
    with Run(load.command, **trial.options) as stopped:
        stopped.wait_until(when(lambda: trial.database.rows(load.table) > 0))
        stopped.send(SIGSTOP)
        while has_writer(trial.database.url):  # the second run would wait for it in vain
            stopped.send(SIGCONT)
            stopped.send(SIGSTOP)
        stalls.take_over(trial, load, stopped, lambda: stopped.send(SIGCONT), PATIENCE_SECONDS)
    trial.settle(load, "a stopped process")
    assert trial.trouble == []


def has_writer(url: str) -> bool:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)) as link:
        try:
            link.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


@pytest.mark.parametrize("trial", ["postgres", "mongo"], indirect=True)
def test_a_half_open_connection_changes_nothing_after_a_takeover(trial: Trial) -> None:
    trial.times = 1
    held(trial, stalls.connections)


@quick
def test_a_killed_replace_leaves_old_rows_or_new_ones(trial: Trial) -> None:
    assert held(trial, replacing.prove).figures["mixtures"] == 0


@pytest.mark.parametrize("trial", ["postgres", "mongo"], indirect=True)
def test_faults_leave_nothing_behind(trial: Trial) -> None:
    held(trial, lambda trial: soak.load_for(trial, SOAK_SECONDS))


@pytest.mark.parametrize("trial", ["sqlite"], indirect=True)
def test_a_failed_proof_is_reported(trial: Trial, tmp_path: Path) -> None:
    load = trial.new_load()
    trial.expect(trial.run(load.command), 0, what="a load")
    assert trial.trouble == []
    trial.expected = trial.expected._replace(rows=1)
    trial.settle(load, "with a wrong expectation")
    report.keep(report.Proof.of("kills", "python -m reliability", trial, 1.0), tmp_path)
    assert "with a wrong expectation: 0 lost, 0 duplicated" in (tmp_path / "reliability.md").read_text()
