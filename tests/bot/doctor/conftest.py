"""A bot's surroundings, all well and made of doubles; each test breaks one thing."""

import time
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet

from bot.doctor import examine
from bot.settings import Settings
from tests.fakes.aleph import AlephDouble
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.registry import RegistryDouble
from tests.fakes.telegram import TOKEN
from tests.fakes.telegram_client import TelegramDouble

KEY = "LTAI_key_of_the_operator"
NOBODY = "http://127.0.0.1:1"


class Doctor:
    """`await doctor()` looks round; `doctor["token"]` is that line without its name."""

    def __init__(self, environment, monkeypatch, folder):
        self.environment = environment
        self.data = folder / "data"
        self.is_well = None
        self.lines = []
        self._monkeypatch = monkeypatch

    def set(self, **environment):
        self.environment |= environment

    async def __call__(self, now: Callable[[], float] = time.time):
        for name, value in self.environment.items():
            self._monkeypatch.setenv(name, value)
        table, self.is_well = await examine(now)
        self.lines = table.splitlines()
        return table

    def all(self, name):
        return [f"{line[0]} {line[15:]}" for line in self.lines if line[2:].startswith(f"{name:<12} ")]

    def __getitem__(self, name):
        (line,) = self.all(name)
        return line

    @property
    def wrong(self):
        return [line[2:14].strip() for line in self.lines if line.startswith("✗")]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    """Nothing of the host's, and no .env."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def telegram():
    async with TelegramDouble() as double:
        yield double


@pytest.fixture
async def libertai():
    async with LibertAIDouble(keys=[KEY]) as double:
        yield double


@pytest.fixture
async def registry():
    async with RegistryDouble() as double:
        yield double


@pytest.fixture
async def aleph():
    async with AlephDouble(nodes=3) as double:
        yield double


@pytest.fixture
def doctor(telegram, libertai, monkeypatch, tmp_path):
    environment = {
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_API_BASE": telegram.url,
        "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "LIBERTAI_API_KEY": KEY,
        "LIBERTAI_GATEWAY": libertai.url,
        "LIBERTAI_ACCOUNT": libertai.url,
        "DATA_DIR": str(tmp_path / "data"),
    }
    return Doctor(environment, monkeypatch, tmp_path)
