"""Attack loads, count what is left, report: `python -m reliability kills --database postgres --times 200`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from reliability import cuts, kills, letters, pairs, poison, replacing, report, soak, stalls
from reliability.databases import KINDS, MissingServerError, database
from reliability.trial import ROOT, Trial


class Attack(NamedTuple):
    """What runs it, what it is tried on, and how often it strikes unless the command line says otherwise."""

    prove: Callable[[Trial], None]
    databases: tuple[str, ...]
    times: int


ALL = tuple(KINDS)
CONNECTED = ("postgres", "mongo", "sqlserver")
ATTACKS = {
    "kills": Attack(kills.prove, ALL, 200),
    "cuts": Attack(cuts.prove, CONNECTED, 100),
    "pairs": Attack(pairs.prove, ALL, 50),
    "poison": Attack(poison.prove, ALL, 37),
    "letters": Attack(letters.prove, ALL, 50),
    "stalls": Attack(stalls.prove, ALL, 10),
    "replace": Attack(replacing.prove, ALL, 50),
    "soak": Attack(soak.prove, ALL, 30),  # minutes
}


def arguments() -> argparse.Namespace:
    """Return the command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("attack", choices=[*ATTACKS, "all", "report"])
    parser.add_argument("--database", action="append", choices=list(KINDS), help="again for several")
    parser.add_argument("--times", type=int, help="how often to strike; by default as in docs/reliability.md")
    parser.add_argument("--minutes", type=int, help="how long to soak; all soaks only if this is given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of a load")
    parser.add_argument("--out", type=Path, default=ROOT / ".reliability", help="folder of the report")
    return parser.parse_args()


def prove(attack: str, kind: str, given: argparse.Namespace) -> bool:
    """Run one attack on one database and keep the proof; return whether it holds."""
    started, act = time.monotonic(), ATTACKS[attack]
    times = (given.minutes if attack == "soak" else given.times) or act.times
    with database(kind) as target, tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        trial = Trial(target, Path(folder), given.rows, given.seed, times)
        try:
            act.prove(trial)
        except Exception as error:  # whatever it is, the report says it
            trial.note(f"the attack ended early: {type(error).__name__}: {error}")
    option = "--minutes" if attack == "soak" else "--times"
    size = f"{option} {times} --rows {given.rows} --seed {given.seed}"
    command = f"python -m reliability {attack} --database {kind} {size}"
    proof = report.Proof.of(attack, command, trial, time.monotonic() - started)
    report.keep(proof, given.out)
    print(report.as_table(proof), flush=True)
    return not proof.trouble


def wanted(given: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the attacks and databases that the command line asks for."""
    attacks = [given.attack]
    if given.attack == "all":
        attacks = [name for name in ATTACKS if name != "soak" or given.minutes]
    chosen = given.database or list(KINDS)
    return [(name, one) for name in attacks for one in ATTACKS[name].databases if one in chosen]


def main() -> int:
    """Run the attacks; return 0 if every proof holds."""
    given = arguments()
    if given.attack == "report":
        report.write(given.out)
        return 0
    held = True
    for attack, kind in wanted(given):
        try:
            held &= prove(attack, kind, given)
        except MissingServerError as error:
            print(f"{attack} on {kind}: {error}", file=sys.stderr)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
