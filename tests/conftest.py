import os

import pytest
from cryptography.fernet import Fernet
from hypothesis import settings

from bot.store.database import Database
from bot.store.vault import Vault

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What this machine cannot run is skipped with a reason on a laptop, and fails in CI."""
    if os.environ.get("CI") == "true" or os.path.exists(CHROMIUM):  # noqa: PTH110  asked once
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=f"no Chromium at {CHROMIUM}; set CHROMIUM"))


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
