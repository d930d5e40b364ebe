"""All of Baal as processes on loopback: the bot as it is served, real agents, doubles of Telegram and LibertAI."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from sqlalchemy import NullPool, create_engine, text

from bot.app import build
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.settings import read_settings
from bot.store.folder import sole_owner
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import LibertAISim
from tests.fakes.telegram_client import TelegramDouble, TelegramSim

OPERATOR_KEY = "LTAI_operator"
STOP_SECONDS = 30


class Bot:
    """The bot's process; it can be killed and started again on the same data."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.log = folder / "bot.log"
        self.arguments: tuple[str, ...] = ("-m", "bot", "serve")
        self.environment = environment
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self.arguments, env=self.environment, cwd=self._folder, stdout=log, stderr=log
            )

    async def wait(self, *, timeout: float) -> int:
        """Until it ends by itself; its exit code."""
        assert self._process is not None
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """`kill -9`: no handler runs, nothing is flushed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            return await self._process.wait()


@dataclass
class World:
    telegram: TelegramSim
    libertai: LibertAISim
    bot: Bot
    folder: Path
    stored: str
    """URL of the bot's database, for a driver without async."""

    @property
    def machines(self) -> LocalProvider:
        return LocalProvider(self.folder / "data" / "machines", ProcessEngine())

    def agent_pids(self) -> list[int]:
        return [int(path.read_text()) for path in (self.folder / "data" / "machines").glob("*/pid")]

    async def until_logged(self, words: str, *, times: int = 1) -> None:
        """Wait until the bot has logged this."""
        async with asyncio.timeout(60):
            while self.bot.log.read_text().count(words) < times:
                await asyncio.sleep(0.05)

    async def until_recorded(self) -> None:
        """Wait until the bot has written down which message shows the answer.

        Telegram has no idempotency key: killed between a send and this record, the bot sends a second message.
        """
        await self.until_row("SELECT 1 FROM turn WHERE answer_ids != ''")

    async def until_phase(self, phase: str) -> None:
        """Wait until an agent is in this phase of its deployment."""
        await self.until_row("SELECT 1 FROM agent WHERE phase = :phase", phase=phase)

    async def until_row(self, query: str, **values: str) -> None:
        """Wait until the bot's database answers this with a row."""
        with create_engine(self.stored, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            async with asyncio.timeout(30):
                while not connection.execute(text(query), values).first():
                    await asyncio.sleep(0.005)

    def change(self, statement: str) -> None:
        """Change the bot's database behind its back."""
        with create_engine(self.stored, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(statement))

    def dump(self) -> bytes:
        """Everything Baal has on disk."""
        return b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())


def environment(telegram: TelegramSim, libertai: LibertAISim, folder: Path) -> dict[str, str]:
    """The settings of a bot that talks to these doubles."""
    return {
        "TELEGRAM_BOT_TOKEN": telegram.token,
        "TELEGRAM_API_BASE": telegram.url,
        "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "LIBERTAI_API_KEY": OPERATOR_KEY,
        "LIBERTAI_GATEWAY": libertai.url,
        "LIBERTAI_ACCOUNT": libertai.url,
        "MODEL_PRICES_URL": "",
        "DEFAULT_MODELS": "scripted",
        "DATA_DIR": str(folder / "data"),
    }


@pytest.fixture
async def world(tmp_path, database_url):
    """The bot on SQLite, or on what `database_url` is parametrised with."""
    is_server = database_url.startswith("postgresql")
    stored = database_url if is_server else f"sqlite:///{tmp_path / 'data' / 'baal.sqlite'}"
    async with TelegramDouble() as telegram, LibertAIDouble(keys=[OPERATOR_KEY]) as libertai:
        variables = os.environ | environment(telegram, libertai, tmp_path)
        variables |= {"DATABASE_URL": database_url} if is_server else {}
        made = World(telegram, libertai, Bot(variables, tmp_path), tmp_path, stored)
        await made.bot.start()
        try:
            yield made
        finally:
            await made.bot.kill()
            for machine in await made.machines.listed():
                await made.machines.give_back(machine)
        if "Traceback" in made.bot.log.read_text():
            pytest.fail(f"the bot logged an exception:\n{made.bot.log.read_text()[-4000:]}")


@dataclass
class Baal:
    """The bot inside the test's own process: no restarts here, but it starts quickly."""

    telegram: TelegramSim
    libertai: LibertAISim
    folder: Path

    def dump(self) -> bytes:
        """Everything Baal has on disk."""
        return b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_baal(tmp_path_factory):
    """One bot for a whole module: its tests are different people."""
    folder = tmp_path_factory.mktemp("baal")
    async with TelegramDouble() as telegram, LibertAIDouble(keys=[OPERATOR_KEY]) as libertai:
        values = {name.lower(): value for name, value in environment(telegram, libertai, folder).items()}
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            settings = read_settings(**values)
            stack.enter_context(sole_owner(settings.data_dir))
            front = await build(settings, stack)
            running = asyncio.create_task(front.run_until(stop))
            yield Baal(telegram, libertai, folder)
            stop.set()
            await running
        provider = LocalProvider(folder / "data" / "machines", ProcessEngine())
        for machine in await provider.listed():
            await provider.give_back(machine)


@pytest_asyncio.fixture(loop_scope="module")
async def baal(running_baal):
    await running_baal.libertai.reset()
    await running_baal.libertai.set_key(OPERATOR_KEY)
    refused = len(await running_baal.telegram.refusals())
    yield running_baal
    assert (await running_baal.telegram.refusals())[refused:] == []
