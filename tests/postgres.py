"""A Postgres server of the tests' own: data in a temporary folder, on loopback, ended with them."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

PROGRAMS = Path("/usr/lib/postgresql")
USER = "baal"
PASSWORD = "p@ss:w/rd%"
QUOTED_PASSWORD = "p%40ss%3Aw%2Frd%25"
START_SECONDS = 30
# Its data need not outlive the machine, only its own crash: commits stay synchronous.
FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=16MB")


class Postgres:
    """One server. It can be stopped and started again on the same data, and makes databases."""

    def __init__(self) -> None:
        self.port = 0
        self._folder = Path(tempfile.mkdtemp(prefix="baal-test-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make its data folder, and start it."""
        if owner := _unprivileged():
            shutil.chown(self._folder, owner.pw_uid, owner.pw_gid)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ("--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}", "--auth=scram-sha-256")
        made = self._run("initdb", *options, f"--pwfile={password}", f"--pgdata={self._data}")
        assert made.wait(START_SECONDS) == 0, self.log()
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers. Somebody may take the port in between: then on another."""
        for _ in range(5):
            self.port = self.port or _free_port()
            here = (f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}")
            settings = [word for setting in (*here, *FAST) for word in ("-c", setting)]
            self._process = self._run("postgres", "-D", str(self._data), *settings)
            if self._answers():
                return
            self.port = 0
        raise AssertionError(self.log())

    def stop(self) -> None:
        """End it at once, with every connection, like a crash of its machine."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)
        self._process = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stopped for as long as the block runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def remove(self) -> None:
        """End it and delete its data."""
        if self._process:
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str, *, password: str = QUOTED_PASSWORD, scheme: str = "postgresql+psycopg") -> str:
        """A DATABASE_URL on it."""
        return f"{scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """The same through its socket file."""
        return f"postgresql://{USER}:{QUOTED_PASSWORD}@/{database}?host={self._folder}&port={self.port}"

    # Postgres 15 and newer. The other strategy writes every page to the log: six times slower.
    @contextmanager
    def database(self, *options: str) -> Iterator[str]:
        """The name of a fresh database, dropped afterwards. Options as in `CREATE DATABASE`."""
        name = f"baal_{secrets.token_hex(6)}"
        self.execute(" ".join([f"CREATE DATABASE {name} STRATEGY file_copy", *options]))
        yield name
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def guest(self, database: str) -> Iterator[str]:
        """DATABASE_URL for a user who owns nothing, as long as the block runs."""
        name = f"guest_{secrets.token_hex(6)}"
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")
        yield self.url(database, password="guest").replace(f"{USER}:", f"{name}:", 1)
        self.execute(f"DROP OWNED BY {name}", database=database)
        self.execute(f"DROP ROLE {name}")

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement."""
        with self.connection(database) as connection:
            connection.execute(sql.SQL(statement))

    def connection(self, database: str) -> psycopg.Connection:
        """A connection, each statement a transaction of its own."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def dump(self, database: str) -> bytes:
        """Every value in the database, as text."""
        with self.connection(database) as connection:
            tables = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            rows = [
                connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*table))).fetchall()
                for table in tables
            ]
        return repr(rows).encode()

    def log(self) -> str:
        """What its programs said."""
        return (self._folder / "log").read_text()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Not as root: the programs refuse that."""
        owner = _unprivileged()
        who = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [_newest(program), *arguments],
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the tests is not for it: it is ended when they are.
                start_new_session=True,
                **who,  # type: ignore[call-overload]
            )

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None:
            try:
                self.connection("postgres").close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)
            else:
                return True
        return False


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server for as long as the block runs."""
    server = Postgres()
    try:
        server.create()
        yield server
    finally:
        server.remove()


def _newest(program: str) -> Path:
    folders = sorted(
        (path.parent for path in PROGRAMS.glob(f"*/bin/{program}")), key=lambda path: int(path.parent.name)
    )
    assert folders, f"no {program} in {PROGRAMS}"
    return folders[-1] / program


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom root runs it as; None for anybody else."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user for user in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
