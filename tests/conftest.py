import os

import docker
import pytest
from cryptography.fernet import Fernet
from hypothesis import settings

from bot.store.database import Database
from bot.store.vault import Vault
from tests.containers import AGENT_IMAGE, build
from tests.needs import IN_CI, NEEDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What this machine cannot run is skipped with a reason on a laptop, and fails in CI."""
    if IN_CI:
        return
    for item in items:
        for marker, missing in NEEDS.items():
            if item.get_closest_marker(marker) and (reason := missing()):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def docker_client():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def agent_image(docker_client, tmp_path_factory):
    """The agent image, built from this tree."""
    # build("agent", tmp_path_factory.getbasetemp().parent)
    return AGENT_IMAGE


# How long an example takes says nothing on a busy machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# PTB 22.8 otherwise warns at every 429, and a warning is an error here.
os.environ.setdefault("PTB_TIMEDELTA", "true")


@pytest.fixture
async def database(tmp_path):
    opened = Database(f"sqlite+aiosqlite:///{tmp_path / 'baal.sqlite'}")
    await opened.open()
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
