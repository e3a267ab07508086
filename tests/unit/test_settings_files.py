from __future__ import annotations

from pathlib import Path

import pytest

from adaptive.errors import UsageError
from adaptive.settings_files import read_settings

KNOWN = ("to", "batch", "queue_size", "key", "types", "again", "linger")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def toml(text: str, name: str = "adaptive.toml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def env(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")


def test_without_files_there_are_no_settings() -> None:
    assert read_settings(None, KNOWN) == {}


def test_dot_env_goes_before_the_toml_file() -> None:
    toml('to = "sqlite:///a.db"\nbatch = "tiers"')
    env("ADAPTIVE_BATCH=100\nADAPTIVE_QUEUE_SIZE=5\n")
    assert read_settings(None, KNOWN) == {"to": "sqlite:///a.db", "batch": "100", "queue_size": "5"}


def test_a_named_file_takes_the_place_of_adaptive_toml() -> None:
    toml("batch = 1")
    toml("queue-size = 2", "other.toml")
    assert read_settings("other.toml", KNOWN) == {"queue_size": 2}


def test_names_may_have_hyphens() -> None:
    toml("queue-size = 7\nagain = true\nlinger = 0.5")
    assert read_settings(None, KNOWN) == {"queue_size": 7, "again": True, "linger": 0.5}


def test_lists_and_tables_read_as_their_flags_are_written() -> None:
    toml('key = ["a", "b"]\n[types]\nprice = "decimal(18,4)"\nzip = "text"')
    assert read_settings(None, KNOWN) == {"key": "a,b", "types": "price=decimal(18,4),zip=text"}


def test_in_dot_env_other_programs_variables_do_not_count() -> None:
    env("HOME=/x\nPASSWORD=y\nADAPTIVE_TO=sqlite:///a.db\nADAPTIVE_KEY\n")
    assert read_settings(None, KNOWN) == {"to": "sqlite:///a.db"}


@pytest.mark.parametrize(
    ("write", "text", "message"),
    [
        (toml, "batches = 1\nqueues = 2", "adaptive.toml: there is no setting batches, queues"),
        (env, "ADAPTIVE_BATCHES=1", r"\.env: there is no setting batches"),
        (toml, "batch =", "adaptive.toml: Invalid value"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(write: type[str], text: str, message: str) -> None:
    write(text)
    with pytest.raises(UsageError, match=message):
        read_settings(None, KNOWN)


@pytest.mark.parametrize("name", ["adaptive.toml", ".env"])
def test_a_file_that_is_no_text_is_refused_by_name(name: str) -> None:
    Path(name).write_bytes(b"ADAPTIVE_BATCH='\xff'\n")
    with pytest.raises(UsageError, match=name):
        read_settings(None, KNOWN)


def test_a_named_file_has_to_be_there() -> None:
    with pytest.raises(UsageError, match=r"missing\.toml: No such file"):
        read_settings("missing.toml", KNOWN)
