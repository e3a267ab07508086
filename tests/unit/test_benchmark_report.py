from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from adaptive.orders import checksums, orders
from benchmarks.cases import MONGODB_CASES, MSSQL_CASES, POSTGRESQL_CASES, Case
from benchmarks.contenders import Contender, command
from benchmarks.inputs import Input
from benchmarks.measure import run
from benchmarks.report import Measured, Verdict, as_json, as_markdown, verdict
from benchmarks.runner import ContenderError, Run, Runner
from benchmarks.servers import SERVERS, NoServerError
from benchmarks.targets import PARTS, Part, Target


def a_run(seconds: float, rows: int = 100, cpu: float | None = None) -> Run:
    return Run(wall=seconds, phase=seconds, memory=50.0, rows=rows, cpu=cpu)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_target_names_contenders_that_exist(part: Part) -> None:
    known = {f"{case.name}/{contender.name}" for case in part.cases for contender in case.contenders}
    assert {name for target in part.targets for name in (target.ours, *target.theirs)} <= known
    assert part.name in SERVERS


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


def test_cpu_seconds_are_per_row() -> None:
    runs = {"us": [a_run(9.0, 1_000, cpu=2.0)], "them": [a_run(1.0, 100, cpu=0.1)]}
    assert verdict(Target("", "cpu", "us", ("them",), at_most=1), runs) == Verdict(2.0, 2.0, 2.0, met=False)
    found = verdict(Target("", "cpu speed", "us", ("them",), at_least=0.5), runs)
    assert found == Verdict(0.5, 0.5, 0.5, met=True)


def test_parts_that_were_not_measured_again_stay_in_the_report() -> None:
    runs = {"mongodb/sink": [a_run(1.0, cpu=1.0)]}
    old = Measured({"date": "2026-01-01"}, runs, {"mongodb/sink_arrow": "why"})
    new = Measured({"date": "2026-01-02"}, {}, {})
    written = json.loads(json.dumps(as_json({"mongodb": old})))
    report = {name: Measured.read(found) for name, found in written.items()} | {"mssql": new}
    assert report["mongodb"] == old
    _, mssql, mongodb = as_markdown(report).split("## ")
    assert mssql.startswith("SQL Server\n\n- date: 2026-01-02\n")
    assert mongodb.startswith("MongoDB\n\n- date: 2026-01-01\n")
    assert "- mongodb/sink_arrow: why\n" in mongodb


def test_without_the_peer_there_is_no_verdict() -> None:
    assert verdict(Target("", "phase", "us", ("them",)), {"us": [a_run(1.0)]}) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_a_command_is_measured_with_its_output_and_exit_code(tmp_path: Path, terminal: bool) -> None:
    code = "import sys; print(sys.stdout.isatty()); sys.exit(3)"
    finished = run([sys.executable, "-c", code], terminal=terminal, cwd=tmp_path, env={})
    assert (finished.code, finished.output.strip()) == (3, str(terminal))


def test_a_wrong_table_has_no_time(tmp_path: Path) -> None:
    (case,) = (case for case in POSTGRESQL_CASES if case.name == "sqlite")
    does_nothing = Contender("nothing", command("nothing", "true").command, Input())
    with pytest.raises(ContenderError, match="wrong table: rows 0 instead of 50"):
        Runner(tmp_path, "", 50).measure(case, does_nothing)


def test_inputs_are_made_once(tmp_path: Path) -> None:
    source = Input("csv", scale=2)
    path = source.path(tmp_path, 50)
    written = path.stat().st_mtime_ns
    assert source.path(tmp_path, 50).stat().st_mtime_ns == written
    assert source.checksums(tmp_path, 50) == checksums(orders(100))


def test_orders_in_whole_milliseconds_have_checksums_of_their_own(tmp_path: Path) -> None:
    whole = Input("rows", milliseconds=True)
    assert whole.checksums(tmp_path, 50).micros % 1_000 == 0
    assert Input("rows").checksums(tmp_path, 50) == checksums(orders(50))


@pytest.mark.parametrize("case", [*MSSQL_CASES, *MONGODB_CASES], ids=lambda case: case.name)
def test_every_way_to_write_rows_leaves_the_right_table(case: Case, tmp_path: Path) -> None:
    base = 10_000  # 200 rows with two faults, 4 row by row, 1,000 by bulk copy
    assert case.database
    try:
        with SERVERS[case.database](tmp_path) as server:
            runs = [Runner(tmp_path, server.url, base).measure(case, each) for each in case.contenders]
    except NoServerError as error:
        pytest.skip(str(error))
    assert all(run.cpu for run in runs)
    assert {run.rows for run in runs} <= {200, 4, 1_000}
