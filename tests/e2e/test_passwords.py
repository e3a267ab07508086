"""A password is in nothing that comes out, whatever it is made of and however the connection fails."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from labs import Lab, mongodb, postgres_lab, sqlserver
from labs.tds.server import USER

import adaptive as library
from adaptive import cli
from adaptive.errors import AdaptiveError
from adaptive.sinks import sink_class
from adaptive.urls import redact, without_password
from e2e.conftest import Command, Finished

WORDS = ("geheim", "wortlaut", "kennung", "losung", "parole", "schlüssel", "klammer", "schweif", "пароль")
SECRET = "{}@{}:{}/{}%{}?{}#[{}]&{{{}}};+ {}".format(*WORDS)
ENCODED = quote(SECRET, safe="")
FORMS = {form.lower() for word in WORDS for form in (word, quote(word), repr(word.encode())[2:-1])}

NO_SERVER = {
    "refused": [
        "postgresql://u:{}@127.0.0.1:1/x",
        "postgresql://u@127.0.0.1:1/x?password={}",
        "postgresql://u@127.0.0.1:1/x?sslmode=require&sslkey=/nowhere&sslcert=/nowhere&sslpassword={}",
        "mongodb://u:{}@127.0.0.1:1/x?serverSelectionTimeoutMS=50",
        "mongodb://u@127.0.0.1:1/x?tls=true&tlsCertificateKeyFile=/nowhere&tlsCertificateKeyFilePassword={}",
        "mssql://u:{}@127.0.0.1:1/x",
    ],
    "no such host": [
        "postgresql://u:{}@nowhere.invalid/x",
        "mongodb://u:{}@nowhere.invalid/x?serverSelectionTimeoutMS=50",
        "mongodb+srv://u:{}@nowhere.invalid/x?serverSelectionTimeoutMS=50",
        "mssql://u:{}@nowhere.invalid/x",
    ],
    "invalid": [
        "postgresql://u:{}@127.0.0.1:port/x",
        "postgresql://u:{}@127.0.0.1:1/x?nonsense=1",
        "postgresql://u:{}@127.0.0.1:1/x?sslmode=bogus",
        "mongodb://u:{}@127.0.0.1:port/x",
        "mongodb://u:{}@127.0.0.1:1/x?nonsense=1&serverSelectionTimeoutMS=50",
        "mongodb://u:{}@127.0.0.1:1/",
        "mongodb://u:{}@127.0.0.1:1/x?authMechanism=BOGUS&serverSelectionTimeoutMS=50",
        "mssql://u:{}@127.0.0.1:port/x",
        "mssql://u:{}@127.0.0.1:1/x?nonsense=1",
        "mssql://127.0.0.1:1/x?UID=u&PWD={}",
        "sqlite://u:{}@/x.db",
        "sqlite:///nowhere/x.db?password={}",
        "mysql://u:{}@127.0.0.1:1/x",
    ],
}
ENCODED_URLS = [url.format(ENCODED) for urls in NO_SERVER.values() for url in urls]
# Not percent-encoded: none of these is a URL that could be read.
BARE_URLS = [
    f"{scheme}://u:{SECRET}@127.0.0.1:1/x" for scheme in ("postgresql", "mongodb", "mssql", "sqlite", "mysql")
]
URLS = [*ENCODED_URLS, *BARE_URLS]
# SQLite has no passwords: its sink shows the URL that it cannot read; only the command hides a part of it.
SERVER_URLS = [url for url in URLS if not url.startswith("sqlite")]
SINK_URLS = [url for url in ENCODED_URLS if not url.startswith(("sqlite", "mysql"))]


def betrayed(*texts: str | bytes) -> set[str]:
    """Return the parts of the password that are in texts, written in whatever way."""
    whole = "\n".join(text if isinstance(text, str) else text.decode(errors="replace") for text in texts)
    return {form for form in FORMS if form in whole.lower()}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("t.csv").write_text("id\n1\nx\n")
    for name in ("adaptive", "psycopg"):  # commands show their logs on a stream that ends with the test
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])


def command(url: str, *arguments: str) -> list[str]:
    return [url if argument == "URL" else argument for argument in arguments]


COMMANDS = {
    "load": ("load", "t.csv", "--to", "URL", "--create", "--log-level", "debug", "--max-retries", "0",
             "--metrics-json", "metrics"),
    "status": ("status", "URL"),
    "doctor": ("doctor", "URL", "--table", "t"),
    "source": ("load", "URL", "--to", "sqlite:///x.db", "--table", "t", "--log-level", "debug"),
}  # fmt: skip


# ---- there is no server, or no sense in the URL


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("number", range(len(URLS)))  # not the URL, which would be in the test's name
def test_a_password_is_in_no_output_of_a_command_that_fails(
    number: int,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["adaptive", *command(URLS[number], *arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert end.value.code in (1, 2), (out, err)
    assert out + err
    assert betrayed(out, err) == set()
    assert [path.name for path in Path().iterdir()] == ["t.csv"]


@pytest.mark.filterwarnings("ignore:Unknown option nonsense")  # pymongo's
@pytest.mark.parametrize("number", range(len(SERVER_URLS)))
def test_a_password_is_in_no_exception_cause_or_log_of_the_library(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for attempt in (
        lambda: library.load([{"id": 1}], SERVER_URLS[number], table="t", create=True, max_retries=0),
        lambda: library.Pipeline(SERVER_URLS[number], table="t"),
    ):
        with pytest.raises(AdaptiveError) as raised:
            attempt()
        assert betrayed(*traceback.format_exception(raised.value), repr(raised.value), caplog.text) == set()


@pytest.mark.filterwarnings("ignore:Unknown option nonsense")
@pytest.mark.parametrize("number", range(len(SINK_URLS)))
def test_a_password_is_in_no_error_of_a_sink_that_is_used_alone(number: int) -> None:
    url = SINK_URLS[number]
    with pytest.raises(Exception, match=r"\w") as raised, sink_class(url)(url, table="t") as sink:
        pytest.fail(f"there is no such database: {sink}")
    assert betrayed(*traceback.format_exception(raised.value)) == set()


@pytest.mark.parametrize(
    "content", ["to = 'URL\n", "to = ['URL']\n", "[to]\nURL = 1\n", "to = 'URL'\ncolour = 1\n", "'URL'\n"]
)
@pytest.mark.parametrize("name", ["adaptive.toml", ".env"])
def test_a_password_is_in_no_error_of_a_settings_file(
    name: str, content: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = content if name.endswith("toml") else content.replace("to = ", "ADAPTIVE_TO=")
    Path(name).write_text(content.replace("URL", f"postgresql://u:{ENCODED}@127.0.0.1:1/x"))
    monkeypatch.setattr(sys, "argv", ["adaptive", "load", "t.csv", "--log-level", "debug"])
    with pytest.raises(SystemExit):
        cli.main()
    out, err = capfd.readouterr()
    assert betrayed(out, err) == set()


# ---- there is a server


@dataclass(frozen=True)
class Login:
    """A URL with a password, and where the server stores what it is told."""

    url: str
    stored: Path | None = None
    lab: Lab | None = None

    def wrong(self) -> str:
        """Return the URL with a password that the server refuses."""
        return self.url.replace(ENCODED, f"{ENCODED}x")

    def elsewhere(self) -> str:
        """Return the URL of a database that is not there."""
        return urlsplit(self.url)._replace(path="/nowhere").geturl()

    def kept(self) -> bytes:
        """Return everything that a load has left in the database."""
        if self.stored:
            return b"".join(path.read_bytes() for path in self.stored.iterdir())
        assert self.lab
        tables = ("t", "_adaptive_loads", "_adaptive_splits", "_adaptive_ledger")
        return repr([self.lab.rows(table) for table in tables]).encode()


@pytest.fixture(params=["postgres", "sqlserver"])
def login(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Login]:
    if request.param == "postgres":
        yield from _postgres(request.getfixturevalue("postgres_server"))
    elif reason := sqlserver.missing():
        pytest.skip(reason)
    else:
        (tmp_path / "server").mkdir()
        yield from _sqlserver(tmp_path / "server")


def _postgres(server: str) -> Iterator[Login]:
    with postgres_lab(server) as lab:
        name = urlsplit(lab.url).path[1:]  # unique, like the database
        lab.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
        lab.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        try:
            parts = urlsplit(lab.url)
            place = parts.netloc.rpartition("@")[2]
            yield Login(parts._replace(netloc=f"{name}:{ENCODED}@{place}").geturl(), lab=lab)
        finally:
            lab.execute(f"DROP OWNED BY {name}")
            lab.execute(f"DROP ROLE {name}")


SERVE = """
import sys
from pathlib import Path
from labs.tds.server import Server
server = Server(Path(sys.argv[1]), password=sys.argv[2])
server.create("lab")
server.start()
print(server.port, flush=True)
sys.stdin.read()
"""


def _sqlserver(folder: Path) -> Iterator[Login]:
    """Run the stand-in with a password of ours."""
    place, pipe = Path(__file__).parents[1], subprocess.PIPE
    run_it = [sys.executable, "-c", SERVE, str(folder), SECRET]
    with subprocess.Popen(run_it, cwd=place, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        port, options = int(process.stdout.readline()), "TrustServerCertificate=yes&Encrypt=no"
        yield Login(f"mssql://{USER}:{ENCODED}@127.0.0.1:{port}/lab?{options}", stored=folder)
        process.communicate()


def run(adaptive: Command, url: str, *arguments: str) -> Finished:
    """Run a command in a process of its own."""
    (adaptive.folder / "t.csv").write_text("id\n1\nx\n")
    return adaptive(*command(url, *arguments))


@pytest.mark.parametrize("arguments", [COMMANDS["load"], COMMANDS["status"], COMMANDS["doctor"]], ids=str)
def test_a_password_is_in_no_answer_to_a_wrong_one_or_a_wrong_database(
    arguments: tuple[str, ...], login: Login, adaptive: Command
) -> None:
    if login.lab:
        with suppress(psycopg.OperationalError):
            psycopg.connect(login.wrong()).close()
            pytest.skip("this server asks for no password")
    for url, said in ((login.wrong(), ("password", "Login failed")), (login.elsewhere(), ("nowhere",))):
        done = run(adaptive, url, *arguments)
        assert done.code in (1, 2), done
        assert any(text in done.err + done.out for text in said), done
        assert betrayed(done.out, done.err) == set()
    assert betrayed(login.kept() if login.stored else b"") == set()
    assert [path.name for path in adaptive.folder.iterdir()] == ["t.csv"]


def test_a_password_is_in_nothing_that_a_load_leaves(login: Login, adaptive: Command) -> None:
    create = ("load", "t.csv", "--to", "URL", "--create", "--types", "id=int64")
    done = run(adaptive, login.url, *create, "--log-level", "debug", "--metrics-json", "metrics")
    assert done.code == 3, done
    again = [
        run(adaptive, login.url, *arguments) for arguments in (create, COMMANDS["status"], COMMANDS["doctor"])
    ]
    assert [one.code for one in again] == [0, 0, 0], again
    files = [path.read_bytes() for path in adaptive.folder.iterdir()]
    assert len(files) == 3
    assert (
        betrayed(*files, login.kept(), *(text for one in (done, *again) for text in (one.out, one.err)))
        == set()
    )


def test_a_password_that_mongodb_refuses_is_in_no_output(mongo_server: str, adaptive: Command) -> None:
    with mongodb.mongo_lab(mongo_server) as lab:
        url = re.sub("//([^/]*@)?", f"//u:{ENCODED}@", lab.url, count=1)
        for arguments in (COMMANDS["load"], COMMANDS["status"], COMMANDS["doctor"]):
            done = run(adaptive, url, *arguments)
            assert done.code in (1, 2), done
            assert betrayed(done.out, done.err) == set()


def test_the_process_list_shows_no_password(lab: Lab, adaptive: Command) -> None:
    if lab.name != "postgres":
        pytest.skip("SQLite has no passwords")
    adaptive.environment["ADAPTIVE_TO"] = lab.url
    running = adaptive.start(
        "load", "-", "--format", "csv", "--table", "t", "--create", stdin=subprocess.PIPE
    )
    arguments = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    out, err = running.communicate("id\n1\n", timeout=60)
    assert running.returncode == 0, out + err
    assert lab.url.encode() not in arguments
    assert b"postgresql" not in arguments


# ---- the texts alone


@pytest.mark.parametrize(
    "password",
    ["a", "p@ss", "a:b", "a/b", "a?b", "a#b", "a&b=c", "a%b", "[a]", "a+b", "a;b", "é", "пароль", SECRET],
)
def test_no_password_is_left_in_a_url_or_in_a_text_about_it(password: str) -> None:
    encoded = quote(password, safe="")
    for template in NO_SERVER["refused"]:
        url = template.format(encoded)
        assert f":{encoded}@" not in without_password(url)
        assert f"assword={encoded}" not in without_password(url)
        for form in (password, encoded):
            assert f" {form} " not in redact(f"cannot connect: {form} is wrong", url)
