"""Each suite here runs over every implementation of its port."""

import os
import secrets
import signal
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from bot.machines.docker import DockerEngine
from bot.machines.engine import Spec
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from tests.containers import AGENT, AGENT_IMAGE

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
        return running not in {container.id for container in self._client.containers.list()}

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


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.image)])
def kind(request):
    if request.param == "docker":
        request.getfixturevalue("agent_image")
    return request.param


@pytest.fixture
def new_engine(kind):
    """What a restarted bot has: an engine that started nothing itself."""
    return {"process": ProcessEngine, "docker": DockerEngine}[kind]


@pytest.fixture
async def engine(new_engine):
    made = new_engine()
    yield made
    await made.close()


@pytest.fixture
def hands(kind, request):
    return ProcessHands() if kind == "process" else DockerHands(request.getfixturevalue("docker_client"))


@pytest.fixture
async def provider(tmp_path, engine):
    provider = LocalProvider(tmp_path / "machines", engine)
    yield provider
    for machine in await provider.listed():
        await provider.give_back(machine)


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
