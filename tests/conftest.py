import asyncio
import os
import shutil
from pathlib import Path

import docker
import pytest
from cryptography.fernet import Fernet
from hypothesis import settings
from xdist.remote import Producer

from bot.store.database import Database
from bot.store.vault import Vault
from tests.containers import AGENT_IMAGE, build
from tests.needs import IN_CI, NEEDS, OPT_IN
from tests.postgres import running_postgres
from tests.spread import LONG, Spread, module_of

ON_EACH_DATABASE = (
    "bot/store/",
    "bot/accounts/test_accounts.py",
    "bot/accounts/test_kept_for_owners.py",
    "bot/chat/",
    "bot/fleet/",
    "bot/machines/test_hosts.py",
    "bot/telegram/test_inbox.py",
)
"""What keeps rows; the rest is tested on SQLite alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of what keeps rows on SQLite and on Postgres."""
    where = metafunc.definition.path.relative_to(Path(__file__).parent).as_posix()
    if "database_url" in metafunc.fixturenames and where.startswith(ON_EACH_DATABASE):
        each = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("database_url", each, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What this machine cannot run is skipped with a reason on a laptop, and fails in CI. Long ones go first."""
    needs = {marker: missing for marker, missing in NEEDS.items() if marker in OPT_IN or not IN_CI}
    for item in items:
        for marker, missing in needs.items():
            if item.get_closest_marker(marker) and (reason := missing()):
                item.add_marker(pytest.mark.skip(reason=reason))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not module_of(item.nodeid).startswith(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spread | None:
    """Instead of `load`, which is what `-n` means if nothing is said of it."""
    return Spread(config, log) if config.getvalue("dist") == "load" else None


@pytest.fixture(scope="session")
def docker_client():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def pushed(tmp_path_factory):
    """Where registries here have their images: the test processes share it, so that each layer is pushed once."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "registry"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def agent_image(docker_client, tmp_path_factory):
    """The agent image, built from this tree."""
    build("agent", tmp_path_factory.getbasetemp().parent)
    return AGENT_IMAGE


# How long an example takes says nothing on a busy machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# PTB 22.8 otherwise warns at every 429, and a warning is an error here.
os.environ.setdefault("PTB_TIMEDELTA", "true")


@pytest.fixture(scope="session")
def postgres():
    """A server of this test process's own."""
    with running_postgres() as server:
        server.execute("CREATE DATABASE made")
        asyncio.run(_make_tables(server.url("made")))
        yield server


async def _make_tables(url: str) -> None:
    database = Database(url)
    await database.open()
    await database.close()


@pytest.fixture
def postgres_url(postgres):
    """A fresh database on it. The tables are copied: five times faster than making them for each test."""
    with postgres.database("TEMPLATE made") as name:
        yield postgres.url(name)


@pytest.fixture
def database_url(request, tmp_path):
    if getattr(request, "param", "sqlite") == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite+aiosqlite:///{tmp_path / 'baal.sqlite'}"


@pytest.fixture
def on_disk(request, database_url, tmp_path):
    """What can be read in the database's files without a key."""
    if database_url.startswith("sqlite"):
        return lambda: b"".join(path.read_bytes() for path in tmp_path.glob("baal.sqlite*"))
    return lambda: request.getfixturevalue("postgres").dump(database_url.rpartition("/")[2])


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory):
    """A database with every table and no row."""
    file = tmp_path_factory.mktemp("tables") / "baal.sqlite"
    asyncio.run(_make_tables(f"sqlite+aiosqlite:///{file}"))
    return file


@pytest.fixture
async def database(database_url, empty_file, tmp_path):
    """Its tables are copied too, and not looked at again."""
    opened = Database(database_url)
    if not opened.is_server:
        shutil.copy(empty_file, tmp_path / "baal.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
def vault():
    return Vault([Fernet.generate_key().decode()])


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock(1_800_000_000.0)
