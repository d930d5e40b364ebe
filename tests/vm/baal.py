"""The whole bot as a process, on machines that boot: rented from the network's double, with Docker in them."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from pydantic import SecretStr

from bot.fleet.books import Books
from bot.machines.aleph.wallet import Wallet
from bot.store.database import Database
from bot.store.models import Machine
from tests.containers import AGENT, gateway
from tests.e2e.conftest import OPERATOR_KEY, Bot, environment
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import World
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.telegram_client import SimUser, TelegramDouble, TelegramSim
from tests.vm.standins import PREPARED_12, StandIns

CHANNEL = "BAAL-vm-rollout"
CREDITS = 10_000_000
# Machines that boot within a second need no minutes, and what fails here fails again.
HURRIED = """
from bot.cli import main
from bot.fleet import books
from bot.machines import ssh
from bot.machines.aleph.patience import Patience

books.MAX_ATTEMPTS = 1
ssh.POLL_SECONDS = 0.2
Patience.__init__.__defaults__ = (300, 360, 60, 0.5, 86_400)
main(["serve"])
"""
# Beside the database, which its agent alone may open.
READ = """
import json, pathlib, shutil, sqlite3, tempfile
folder = tempfile.mkdtemp(dir="/tmp")
for path in pathlib.Path("/data").glob("agent.db*"):
    shutil.copy(path, folder)
database = sqlite3.connect(f"{folder}/agent.db")
said = database.execute("SELECT chat_id, speaker, text FROM message ORDER BY id").fetchall()
columns = [row[1] for row in database.execute("PRAGMA table_info(message)")]
tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
[version] = database.execute("PRAGMA user_version").fetchone()
database.close()
shutil.rmtree(folder)
print(json.dumps({"said": said, "columns": columns, "tables": tables, "version": version}))
"""


@dataclass(frozen=True)
class Held:
    """What an agent's database holds."""

    said: list[tuple[str, str, str]]
    """Chat, speaker, text; oldest first."""
    columns: list[str]
    """Of a message."""
    tables: list[str]
    version: int


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    said: str


@dataclass
class Baal:
    """It and all that it works with, with one agent at most."""

    telegram: TelegramSim
    libertai: LibertAIDouble
    world: World
    standins: StandIns
    bot: Bot
    operator: SimUser
    database: Database
    books: Books = field(init=False)

    def __post_init__(self) -> None:
        self.books = Books(self.database)

    async def rollout(self, *words: str) -> Ran:
        """`baal rollout …`, beside the bot."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", "rollout", *words),
            env=self.bot.environment,
            cwd=self.bot.log.parent,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return Ran(process.returncode or 0, said.decode())

    async def machine(self, agent_id: int) -> Machine:
        """Where it works."""
        machine = await self.books.machine(agent_id)
        assert machine is not None
        return machine

    async def only(self, machine: Machine, seconds: float = 60) -> None:
        """Wait until this one is all that the network has, and the books."""
        async with asyncio.timeout(seconds):
            while {each.id for each in await self.books.machines(machine.agent_id)} != {machine.id}:
                await asyncio.sleep(0.1)
        assert len([vm for node in self.world.nodes.values() for vm in node.vms.values()]) == 1

    async def held(self, machine: Machine) -> Held:
        """What the agent there holds; nobody may talk to it meanwhile."""
        read = ("docker", "exec", "--user", str(AGENT), f"baal-{machine.id}", "python", "-c", READ)
        told = json.loads(await self._at_machine(*read))
        return Held([tuple(each) for each in told["said"]], told["columns"], told["tables"], told["version"])

    async def image(self, machine: Machine) -> str:
        """The image that runs there, as its Docker has it from the registry."""
        asked = ("docker", "inspect", "--format", "{{.Image}}", f"baal-{machine.id}")
        image = (await self._at_machine(*asked)).strip()
        return await self._at_machine("docker", "inspect", "--format", "{{json .RepoDigests}}", image)

    async def _at_machine(self, *command: str) -> str:
        [vm] = [vm for node in self.world.nodes.values() for vm in node.vms.values()]
        container = self.standins.container(vm.item_hash)
        ran: Any = await asyncio.to_thread(container.exec_run, list(command))
        assert ran.exit_code == 0, ran.output
        return str(ran.output.decode())


class Chatter:
    """A person who writes again as soon as there is an answer."""

    def __init__(self, person: SimUser, word: str) -> None:
        self.person = person
        self.said: list[str] = []
        self.silences: list[float] = []
        """Seconds until an answer began to show, for each message."""
        self._word = word

    @property
    def chat_id(self) -> str:
        """As the agent knows it."""
        return str(self.person.id)

    async def say(self) -> None:
        """One message, and its whole answer."""
        text = f"{self._word}{len(self.said) + 1}"
        begun = time.monotonic()
        await self.person.send(text)
        await self.person.wait_for(quoted(text), timeout=90)
        self.silences.append(time.monotonic() - begun)
        answer = await self.person.wait_whole(timeout=30)
        assert quoted(text) in answer.text
        self.said.append(text)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Talk until the end of the block, and to the end of an answer."""
        is_over = asyncio.Event()
        talking = asyncio.create_task(self._talk(is_over))
        try:
            yield
        finally:
            is_over.set()
            await talking

    async def _talk(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            await self.say()

    async def answers(self) -> list[str]:
        """What the bot has answered that quotes something, oldest first."""
        return [each.text for each in await self.person.messages() if each.from_bot and "You wrote: “" in each.text]


def quoted(text: str) -> str:
    """As the scripted model quotes what it is asked."""
    return f"You wrote: “{text}”"


@asynccontextmanager
async def baal_of(client: docker.DockerClient, release: str, folder: Path) -> AsyncIterator[Baal]:
    """For fixtures: nothing of it is left afterwards. Its models are at an address that machines here reach."""
    standins, key = StandIns(client, PREPARED_12), "0x" + secrets.token_hex(32)
    async with (
        TelegramDouble() as telegram,
        LibertAIDouble(keys=[OPERATOR_KEY], host=gateway(client)) as libertai,
        AlephDouble(machines=standins) as aleph,
    ):
        aleph.world.credit(Wallet(SecretStr(key), CHANNEL).address, CREDITS)
        operator = await telegram.user(name="Oscar")
        variables = environment(telegram, libertai, folder) | {
            "PROVIDER": "aleph",
            "ENGINE": "docker",
            "AGENT_IMAGE": release,
            "ADMIN_IDS": str(operator.id),
            "FREE_TIER_DAILY_MESSAGES": "100000",
            # Nothing of what is said may go into a summary.
            "AGENT_CONTEXT_TOKENS": "100000",
            "ALEPH_PRIVATE_KEY": key,
            "ALEPH_CHANNEL": CHANNEL,
            "ALEPH_API_URL": aleph.url,
            "ALEPH_CRN_LIST_URL": f"{aleph.url}/crns.json",
            "ALEPH_SCHEDULER_URL": aleph.url,
            "ALEPH_GATEWAY_URL": aleph.url,
        }
        bot = Bot(os.environ | variables, folder)
        bot.arguments = ("-c", HURRIED)
        database = Database(f"sqlite+aiosqlite:///{folder / 'data' / 'baal.sqlite'}")
        await bot.start()
        try:
            yield Baal(telegram, libertai, aleph.world, standins, bot, operator, database)
        finally:
            await bot.stop()
            await database.close()
            await standins.close()
