"""Keeps what proofs found in a JSON file, and writes docs/reliability.md from it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from reliability.trial import Trial

NAME = "reliability"


@dataclass(frozen=True)
class Proof:
    """One attack on one database: what was run where, what was counted, and what went wrong."""

    attack: str
    database: str
    server: str
    command: str
    seed: int
    rows: int
    seconds: int
    date: str
    machine: str
    figures: Mapping[str, int]
    trouble: list[str]

    @classmethod
    def of(cls, attack: str, command: str, trial: Trial, seconds: float) -> Proof:
        """Return the proof that a trial gives."""
        database, today = trial.database, datetime.now(UTC).date().isoformat()
        return cls(
            attack, database.name, database.server, command, trial.seed, trial.rows, round(seconds), today,
            machine(), dict(trial.figures), trial.trouble,
        )  # fmt: skip


def machine() -> str:
    """Return the machine, the system and Python's version."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = cpu[0].partition(": ")[2] if cpu else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB, {system}"


def keep(proof: Proof, out: Path) -> None:
    """Put a proof into the folder's JSON, in the place of an earlier one, and write the Markdown anew."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{NAME}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    found[f"{proof.attack}/{proof.database}"] = asdict(proof)
    file.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    write(out)


def write(out: Path) -> None:
    """Write the Markdown from the folder's JSON."""
    found = json.loads((out / f"{NAME}.json").read_text())
    proofs = [Proof(**one) for one in found.values()]
    (out / f"{NAME}.md").write_text(as_markdown(proofs))


def as_markdown(proofs: list[Proof]) -> str:
    """Return the report that people read: what stands in preface.md, then the figures."""
    lines = [
        Path(__file__).with_name("preface.md").read_text(),
        "## Figures",
        "",
        "| attack | database | struck | loads | rows counted | lost | duplicated | other trouble |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        *map(_line, proofs),
    ]
    lines += ["", *(f"Machine: {one}." for one in sorted({proof.machine for proof in proofs}))]
    for proof in proofs:
        lines += ["", f"### {proof.attack}: {proof.server}", "", *_section(proof)]
    return "\n".join(lines) + "\n"


def as_table(proof: Proof) -> str:
    """Return what a terminal shows of a proof."""
    lines = [f"{proof.attack} on {proof.server}, seed {proof.seed}: {proof.seconds} s"]
    lines += [f"  {count:>14,}  {name}" for name, count in proof.figures.items()]
    return "\n".join([*lines, *(f"  TROUBLE: {one}" for one in proof.trouble)])


def _line(proof: Proof) -> str:
    of = proof.figures
    numbers = (of.get("strikes", 0), of.get("loads", 0), of.get("rows counted", 0), of.get("lost", 0))
    cells = " | ".join(f"{number:,}" for number in (*numbers, of.get("duplicated", 0), len(proof.trouble)))
    return f"| {proof.attack} | {proof.database} | {cells} |"


def _section(proof: Proof) -> list[str]:
    lines = [
        f"`{proof.command}`: {proof.seconds:,} s on {proof.date}.",
        "",
        *(f"- {name}: {count:,}" for name, count in proof.figures.items()),
    ]
    return lines + [f"- **trouble**: `{one}`" for one in proof.trouble]
