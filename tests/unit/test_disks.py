"""A small disk: what is on it, and what happens when it is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptive.testing.disks import NoDiskError, SmallDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    try:
        made = SmallDisk(1 << 20, tmp_path / "disk")
    except NoDiskError as error:
        pytest.skip(f"small disk: none ({error})")
    with made:
        yield made


def on(disk: SmallDisk, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(disk.command(["sh", "-c", script]), capture_output=True, text=True, check=False)


def test_only_commands_of_the_disk_see_what_is_on_it(disk: SmallDisk) -> None:
    assert on(disk, "echo content > file").returncode == 0
    assert on(disk, "cat file").stdout == "content\n"
    assert (disk.root / "file").read_text() == "content\n"
    assert list(disk.folder.iterdir()) == []


def test_a_filled_disk_takes_as_much_as_was_left_until_it_is_cleared(disk: SmallDisk) -> None:
    disk.fill(free=100_000)
    assert "No space left on device" in on(disk, "yes > file").stderr
    assert 90_000 < (disk.root / "file").stat().st_size <= 100_000
    disk.clear()
    assert on(disk, "echo more >> file").returncode == 0


def test_nothing_of_a_disk_is_left(disk: SmallDisk) -> None:
    with disk:
        pass
    assert not disk.root.exists()
    assert str(disk.folder) not in Path("/proc/mounts").read_text()


def test_a_machine_that_lacks_the_programs_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoDiskError, match="unshare, nsenter, mount of util-linux"):
        SmallDisk(1 << 20, tmp_path)


def test_a_disk_that_cannot_be_mounted_says_why(tmp_path: Path) -> None:
    with pytest.raises(NoDiskError, match="nowhere"):
        SmallDisk(1 << 20, tmp_path / "nowhere")
