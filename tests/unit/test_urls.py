from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptive.urls import redact, without_password

passwords = st.text(st.characters(min_codepoint=33, codec="utf-8"), min_size=4, max_size=12).map("Zq".__add__)
MARK = "Zq"  # begins every password here, and nothing else


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@host:5432/db?sslmode=require", "postgresql://u@host:5432/db"),
        ("postgresql://u@host/db", "postgresql://u@host/db"),
        ("postgresql://:p@host/db", "postgresql://host/db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db"),
        ("postgresql://u:p@[::1]:5432/db", "postgresql://u@[::1]:5432/db"),
        ("sqlite:///rel.db", "sqlite:///rel.db"),
        ("sqlite:////abs/a@b.db", "sqlite:////abs/a@b.db"),
        ("postgresql://u:a@b@host/db", "postgresql://u@host/db"),
        ("postgresql://u:a/b@host/db", "postgresql://u@host/db"),
        ("postgresql://u:a#b@host/db", "postgresql://u@host/db"),
        ("postgresql://u:a[b@host/db", "postgresql://u@host/db"),
        ("postgresql://u:a?b@host/db", "postgresql://u@…"),
        ("postgresql://u:p@host/db?password=a@b", "postgresql://u@…"),
        ("postgresql://host/db?password=a@b", "postgresql://host@…"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


PLACES = [
    "postgresql://user:{}@host:5432/db?sslmode=require",
    "postgresql://:{}@host/db",
    "postgresql://user:{}@host?x=1",
    "mssql+pyodbc://user:{}@host/db?driver=ODBC+Driver",
]
PARAMETERS = [
    "postgresql://host/db?password={}",
    "postgresql://user@host/db?sslmode=require&password={}",
    "postgresql://host/db?sslpassword={}&x=1",
    "mssql://host/db?PWD={}",
    "postgresql://user:other@host/db?pass%77ord={}",
]


@given(passwords, st.sampled_from(PLACES))
def test_a_password_never_shows_however_badly_it_is_written(password: str, url: str) -> None:
    shown = without_password(url.format(password))
    assert MARK not in shown
    assert password not in shown


@given(passwords, st.sampled_from(PLACES + PARAMETERS), st.sampled_from([quote, quote_plus]), st.text())
def test_an_encoded_password_never_survives(password: str, url: str, encode: type[str], around: str) -> None:
    assume(MARK not in around)
    written = encode(password, safe="")
    full = url.format(written)
    assert MARK not in without_password(full)
    for text in (password, written, full):
        assert MARK not in redact(f"{around}{text}{around}", full)


@given(passwords, st.sampled_from(PLACES))
def test_a_password_written_bare_is_redacted_whole(password: str, url: str) -> None:
    full = url.format(password)
    assert password not in redact(f"cannot connect to {full} with {password}", full)


@given(passwords, st.sampled_from(PARAMETERS))
def test_a_bare_password_in_a_parameter_is_redacted(password: str, url: str) -> None:
    assume(not set("&;%+") & set(password))
    full = url.format(password)
    assert password not in redact(f"cannot connect to {full} with {password}", full)


def test_a_text_without_secrets_stays_as_it_is() -> None:
    assert redact("host is down", "postgresql://u@host/db?sslmode=require") == "host is down"
