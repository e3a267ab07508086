from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adaptive.orders import checksums, orders
from benchmarks.cases import CASES, TARGETS, Target
from benchmarks.contenders import Contender, command
from benchmarks.inputs import Input
from benchmarks.measure import run
from benchmarks.report import Verdict, verdict
from benchmarks.runner import ContenderError, Run, Runner


def a_run(seconds: float, rows: int = 100) -> Run:
    return Run(wall=seconds, phase=seconds, memory=50.0, rows=rows)


def test_every_target_names_contenders_that_exist() -> None:
    known = {f"{case.name}/{contender.name}" for case in CASES for contender in case.contenders}
    assert {name for target in TARGETS for name in (target.ours, *target.theirs)} <= known


def test_a_ratio_is_taken_within_a_repetition_and_against_the_fastest_peer() -> None:
    target = Target("", "phase", "us", ("slow", "fast"), at_most=0.6)
    runs = {
        "us": [a_run(1.0), a_run(2.0), a_run(1.0)],
        "slow": [a_run(9.0), a_run(9.0), a_run(1.0)],
        "fast": [a_run(2.0), a_run(4.0), a_run(4.0)],
    }
    assert verdict(target, runs) == Verdict(median=0.5, least=0.25, most=0.5, met=True)


def test_speeds_are_per_row() -> None:
    target = Target("", "speed", "us", ("them",), at_least=20)
    runs = {"us": [a_run(1.0, rows=1_000)], "them": [a_run(1.0, rows=100)]}
    assert verdict(target, runs) == Verdict(median=10.0, least=10.0, most=10.0, met=False)


def test_without_the_peer_there_is_no_verdict() -> None:
    assert verdict(Target("", "phase", "us", ("them",)), {"us": [a_run(1.0)]}) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_a_command_is_measured_with_its_output_and_exit_code(tmp_path: Path, terminal: bool) -> None:
    code = "import sys; print(sys.stdout.isatty()); sys.exit(3)"
    finished = run([sys.executable, "-c", code], terminal=terminal, cwd=tmp_path, env={})
    assert (finished.code, finished.output.strip()) == (3, str(terminal))


def test_a_wrong_table_has_no_time(tmp_path: Path) -> None:
    (case,) = (case for case in CASES if case.name == "sqlite")
    does_nothing = Contender("nothing", command("nothing", "true").command, Input())
    with pytest.raises(ContenderError, match="wrong table: rows 0 instead of 50"):
        Runner(tmp_path, "", 50).measure(case, does_nothing)


def test_inputs_are_made_once(tmp_path: Path) -> None:
    source = Input("csv", scale=2)
    path = source.path(tmp_path, 50)
    written = path.stat().st_mtime_ns
    assert source.path(tmp_path, 50).stat().st_mtime_ns == written
    assert source.checksums(tmp_path, 50) == checksums(orders(100))
