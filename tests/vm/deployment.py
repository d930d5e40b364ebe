"""All that a bot has for one agent on a rented machine, over the network's double and machines that boot."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import docker
import httpx
from docker.models.containers import Container
from pydantic import SecretStr

from agent.protocol import ChatRequest, Event, Text
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.patience import Patience
from bot.machines.aleph.provider import AlephProvider, Ordered
from bot.machines.aleph.wallet import Wallet
from bot.machines.bootstrap import bootstrap
from bot.machines.certs import Authority
from bot.machines.client import AgentClient, Door
from bot.machines.docker import DockerEngine, Elsewhere
from bot.machines.engine import Spec
from bot.machines.exposure import Trust
from bot.machines.inference import private_endpoints
from bot.machines.provider import Place, certificate_name
from bot.store.database import Database
from tests.containers import gateway
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS, ZONE, Vm, World
from tests.fakes.libertai import LibertAIDouble
from tests.vm.machine import new_ssh
from tests.vm.standins import StandIns

CHANNEL = "BAAL-vm-test"
CREDITS = 2_000_000
KEY = "LTAI_key_that_must_stay_secret"
SECRET = SecretStr("a-secret-of-thirty-two-characters")
OFTEN = Patience(process=10, place=60, forget=30, poll=0.2)


class Deployment:
    """One agent, `machine_id`, from its order to its end."""

    def __init__(
        self,
        standins: StandIns,
        world: World,
        *,
        network: Network,
        database: Database,
        authority: Authority,
        spec: Spec,
    ) -> None:
        self.standins = standins
        self.world = world
        self.spec = spec
        self.machine_id = f"m-{secrets.token_hex(8)}"
        self.client = AgentClient(authority.context())
        self.wallet = Wallet(SecretStr("0x" + secrets.token_hex(32)), CHANNEL)
        self.left: str | None = None
        """What was on the machine when its agent had been wiped."""
        self.steps: dict[str, float] = {}
        """What was timed → seconds."""
        world.credit(self.wallet.address, CREDITS)
        self._ssh = new_ssh()
        self._trust = Trust(authority)
        self.ledger = Ledger(database)
        ordered = Ordered(rootfs=ROOTFS["debian12"], ssh_key=self._ssh.public_key)
        self.provider = AlephProvider(
            network, self.ledger, self.wallet, ordered, channel=CHANNEL, patience=OFTEN, wipe=self._wipe
        )
        self.engine: DockerEngine

    async def open(self) -> None:
        """As the bot does when it starts."""
        allow = await private_endpoints(self.spec.llm_base_url)
        self.engine = DockerEngine(
            "unix:///nowhere", elsewhere=Elsewhere(self._ssh, partial(bootstrap, allow=allow), self._trust)
        )

    async def close(self) -> None:
        """As the bot does when it ends."""
        await self.client.close()
        await self.engine.close()

    def vm(self) -> Vm:
        """The machine, on the node where it is."""
        (found,) = [vm for node in self.world.nodes.values() for vm in node.vms.values()]
        return found

    def machine(self) -> Container:
        """What stands for it."""
        return self.standins.container(self.vm().item_hash)

    def at_machine(self, *command: str) -> str:
        """What a command says there, typed at its own console."""
        ran: Any = self.machine().exec_run(list(command))
        return str(ran.output.decode())

    async def reboot(self) -> None:
        """Its node starts it again, and maps other ports to it."""
        vm = self.vm()
        vm.ports = await self.standins.reboot(vm.item_hash)

    def door(self, url: str) -> Door:
        """To the agent that answers there."""
        return Door(url, SECRET, certificate_name(self.machine_id))

    async def activate(self, url: str) -> None:
        """Let it take turns: it was started to stand by."""
        await self.client.activate(self.door(url), 1)

    async def said(self, url: str, turn_id: str) -> list[Event]:
        """A turn, as it is streamed."""
        request = ChatRequest(turn_id=turn_id, chat_id="7", message="Count.")
        started, events = time.monotonic(), list[Event]()
        async for event in self.client.chat(self.door(url), request):
            if isinstance(event, Text) and not any(isinstance(each, Text) for each in events):
                self.steps["first text"] = round(time.monotonic() - started, 2)
            events.append(event)
        return events

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long it takes."""
        started = time.monotonic()
        yield
        self.steps[step] = round(time.monotonic() - started, 2)

    async def _wipe(self, place: Place) -> None:
        await self.engine.wipe(place)
        containers, volumes = ("docker", "ps", "--all", "--quiet"), ("docker", "volume", "ls", "--quiet")
        self.left = await asyncio.to_thread(lambda: self.at_machine(*containers) + self.at_machine(*volumes))


@asynccontextmanager
async def deployment_of(
    client: docker.DockerClient, image: str, release: str, database: Database, authority: Authority
) -> AsyncIterator[tuple[Deployment, LibertAIDouble]]:
    """For fixtures: nothing of it is left afterwards. Its models are at an address that only machines here reach."""
    standins = StandIns(client, image)
    async with (
        LibertAIDouble(keys=[KEY], host=gateway(client)) as libertai,
        AlephDouble(machines=standins) as aleph,
        httpx.AsyncClient() as http,
    ):
        network = Network(Addresses(aleph.url, f"{aleph.url}/crns.json", aleph.url, aleph.url, ZONE), http)
        spec = _spec(release, libertai.base_url)
        made = Deployment(standins, aleph.world, network=network, database=database, authority=authority, spec=spec)
        await made.open()
        try:
            yield made, libertai
        finally:
            await made.close()
            await standins.close()


def _spec(release: str, models: str) -> Spec:
    return Spec(
        release=release,
        name="Ada",
        job="Counts.",
        model="qwen3.6-35b-a3b",
        secret=SECRET,
        llm_base_url=models,
        llm_api_key=SecretStr(KEY),
    )
