"""Each suite here runs over every implementation of its port."""

import os
import secrets
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from bot.machines.berths import Berths
from bot.machines.certs import Authority
from bot.machines.client import AgentClient
from bot.machines.docker import DockerEngine, Elsewhere
from bot.machines.engine import Spec
from bot.machines.exposure import Trust
from bot.machines.hosts import HostsProvider, read_servers
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.machines.provider import Provider
from bot.machines.ssh import Ssh
from bot.store.keepsakes import Keepsakes
from tests.containers import AGENT, AGENT_IMAGE
from tests.sshd import KEY, running_sshd

MACHINE = f"m-{secrets.token_hex(8)}"
"""Not another test process's: they share one Docker."""


class ProcessHands:
    """Looks at and meddles with what the process engine started."""

    release = "r1"
    other_release = "r2"

    def running(self, place):
        """Whatever names this one start of the agent."""
        return int((Path(place.path) / "pid").read_text())

    def is_gone(self, running):
        return not psutil.pid_exists(running) or psutil.Process(running).status() == psutil.STATUS_ZOMBIE

    def kill(self, place):
        process = psutil.Process(self.running(place))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)

    def write(self, place, text):
        (Path(place.path) / "data" / "kept").write_text(text)

    def read(self, place):
        return (Path(place.path) / "data" / "kept").read_text()

    def seen(self, place):
        """What others on the machine can see: arguments and files."""
        files = b"".join(path.read_bytes() for path in Path(place.path).rglob("*") if path.is_file())
        return " ".join(psutil.Process(self.running(place)).cmdline()).encode() + files


class DockerHands:
    """Looks at and meddles with what the docker engine started."""

    release = AGENT_IMAGE

    def __init__(self, client):
        self._client = client
        self.other_release = "baal-test/other:dev"
        client.images.get(AGENT_IMAGE).tag(self.other_release)

    def _container(self, place):
        return self._client.containers.get(f"baal-{place.machine_id}")

    def running(self, place):
        return self._container(place).id

    def is_gone(self, running):
        return running not in {container["Id"] for container in self._client.api.containers()}

    def kill(self, place):
        container = self._container(place)
        container.update(restart_policy={"Name": "no"})
        container.kill()
        container.wait()

    def write(self, place, text):
        done = self._container(place).exec_run(["sh", "-c", f"printf {text} > /data/kept"], user=str(AGENT))
        assert done.exit_code == 0, done.output

    def read(self, place):
        return self._container(place).exec_run(["cat", "/data/kept"], user=str(AGENT)).output.decode()

    def seen(self, place):
        container = self._container(place)
        arguments = container.exec_run(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).output
        files = container.exec_run(["sh", "-c", "cat /data/*; cat /run/*"], user=str(AGENT)).output
        return arguments + files + str(container.labels).encode()


@pytest.fixture(
    params=[
        "process",
        pytest.param("docker", marks=pytest.mark.image),
        pytest.param("docker-ssh", marks=pytest.mark.image),
    ]
)
def kind(request):
    """docker-ssh: this host's daemon, through an SSH server, with agents behind HTTPS."""
    if request.param != "process":
        request.getfixturevalue("agent_image")
    return request.param


@pytest.fixture
async def authority(kind, database, vault):
    return await Authority.open(Keepsakes(database, vault)) if kind == "docker-ssh" else None


@pytest.fixture
def new_engine(kind, authority):
    """What a restarted bot has: an engine that started nothing itself."""

    async def bootstrap(_shell):
        """This host has a Docker."""

    def over_ssh():
        elsewhere = Elsewhere(Ssh(KEY.export_private_key().decode()), bootstrap, Trust(authority))
        return DockerEngine("unix:///nowhere", elsewhere=elsewhere)

    return {"process": ProcessEngine, "docker": DockerEngine, "docker-ssh": over_ssh}[kind]


@pytest.fixture
async def engine(new_engine):
    made = new_engine()
    yield made
    await made.close()


@pytest.fixture
def hands(kind, request):
    return ProcessHands() if kind == "process" else DockerHands(request.getfixturevalue("docker_client"))


@pytest.fixture
async def client(authority):
    """As the bot has it: it trusts its own authority."""
    opened = AgentClient(authority.context() if authority else None)
    yield opened
    await opened.close()


@pytest.fixture
async def provider(kind, tmp_path, engine, database):
    async with AsyncExitStack() as stack:
        if kind == "docker-ssh":
            sshd = await stack.enter_async_context(running_sshd())
            made: Provider = HostsProvider(read_servers([f"localhost:{sshd.port}"]), Berths(database), engine)
        else:
            made = LocalProvider(tmp_path / "machines", engine)
        yield made
        for machine in await made.listed():
            await made.give_back(machine)


@pytest.fixture
def spec(hands):
    return Spec(
        release=hands.release,
        name="Chef Ada",
        job="Plans meals.",
        model="scripted",
        secret=SecretStr("a-secret-of-thirty-two-characters"),
        llm_base_url="http://127.0.0.1:9/v1",
        llm_api_key=SecretStr("LTAI_key_that_must_stay_secret"),
    )
