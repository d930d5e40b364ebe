"""`docker compose up` as an operator does it, with Telegram's and LibertAI's doubles on this host; the demo's flow."""

import asyncio
import os
import re
import secrets
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from docker.errors import NotFound

from bot.machines.container import MACHINE
from scripts.demo_check import ask, make_agent
from tests.agent.conftest import as_written
from tests.containers import ROOT, gateway
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Script
from tests.fakes.telegram_client import TelegramDouble

pytestmark = [pytest.mark.image, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

KEY = "LTAI_operator"
PASSWORD = "made-up-for-this-test"
SOCKET = Path("/var/run/docker.sock")
LONG = " ".join(f"word{number}" for number in range(60))
KILL = """
import os
for entry in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{entry}/cmdline", "rb").read().split(b"\\0")
    if words[0].endswith(b"python") and b"serve" in words:
        os.kill(int(entry), 9)
"""
REACH = """
import socket
try:
    socket.create_connection(("{host}", {port}), 3).close()
except OSError as error:
    print(type(error).__name__)
"""
RECORDED = """
import sqlite3
rows = sqlite3.connect("file:/data/baal.sqlite?mode=ro", uri=True).execute(
    "SELECT 1 FROM turn WHERE state = 'running' AND answer_ids != ''"
)
raise SystemExit(0 if rows.fetchone() else 1)
"""


@dataclass
class Project:
    """One `docker compose up`: containers, network and volumes of its own names."""

    name: str
    folder: Path
    docker: Any
    telegram: Any
    libertai: Any

    async def compose(self, *words):
        """`docker compose …`, with this machine's environment and nothing else."""
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
        where = ("--file", str(ROOT / "compose.yaml"), "--project-directory", str(self.folder))
        return await asyncio.to_thread(
            subprocess.run,
            ("docker", "compose", *where, "--project-name", self.name, *words),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    async def up(self):
        """As the README says."""
        done = await self.compose("up", "--detach", "--wait", "--no-build")
        assert done.returncode == 0, done.stderr + (await self.compose("logs")).stdout

    async def container(self, service="bot"):
        """The service's container."""
        label = [f"com.docker.compose.project={self.name}", f"com.docker.compose.service={service}"]
        (found,) = await asyncio.to_thread(self.docker.containers.list, all=True, filters={"label": label})
        return found

    async def agents(self):
        """The containers that the bot has started."""
        filters = {"label": MACHINE, "network": self.name}
        return await asyncio.to_thread(self.docker.containers.list, all=True, filters=filters)

    async def run(self, container, code, **options):
        """Python in a container."""
        return await asyncio.to_thread(container.exec_run, ["python", "-c", code], **options)

    async def reach(self, agent, host, port):
        """What a tool of that agent gets when it connects there; empty: a connection."""
        _, said = await self.run(agent, REACH.format(host=host, port=port), user="10003")
        return said.decode().strip()

    async def until_recorded(self):
        """The bot has written down which message shows the answer; see `tests/e2e/conftest.py`."""
        bot = await self.container()
        async with asyncio.timeout(30):
            while (await self.run(bot, RECORDED)).exit_code:
                await asyncio.sleep(0.05)

    async def logs(self):
        """Everything that the services wrote."""
        return (await self.compose("logs", "--no-color")).stdout

    async def left(self):
        """What is there of it."""
        return await asyncio.to_thread(self._left)

    def _left(self):
        label = {"label": f"com.docker.compose.project={self.name}"}
        things = (self.docker.containers.list(all=True, filters=label), self.docker.volumes.list(filters=label))
        networks = self.docker.networks.list(names=[self.name]) + self.docker.networks.list(filters=label)
        return [thing.name for found in (*things, networks) for thing in found]

    async def remove(self):
        """The agents, which compose knows nothing of, and the rest."""
        await self.compose("kill")
        for agent in await self.agents():
            await asyncio.to_thread(agent.remove, force=True, v=True)
            for volume in agent.attrs["Mounts"]:
                await asyncio.to_thread(self._remove_volume, volume.get("Name"))
        await self.compose("--profile", "*", "down", "--volumes", "--timeout", "1")

    def _remove_volume(self, name):
        try:
            self.docker.volumes.get(name).remove(force=True)
        except NotFound:
            return


def env_file(project, **more):
    """.env.example with its first lines filled in, and the doubles' addresses below."""
    filled = {
        "TELEGRAM_BOT_TOKEN": project.telegram.token,
        "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "LIBERTAI_API_KEY": KEY,
        "DOCKER_GID": SOCKET.stat().st_gid,
        "DOCKER_NETWORK": project.name,
        "TELEGRAM_API_BASE": project.telegram.url,
        "LIBERTAI_GATEWAY": project.libertai.url,
        "LIBERTAI_ACCOUNT": project.libertai.url,
        "MODEL_PRICES_URL": "",
        "DEFAULT_MODELS": "scripted",
        **more,
    }
    text = (ROOT / ".env.example").read_text()
    for name, value in filled.items():
        text, found = re.subn(rf"^(# )?{name}=.*$", f"{name}={value}", text, count=1, flags=re.MULTILINE)
        assert found, f"{name} is not in .env.example"
    return text


@asynccontextmanager
async def project_of(client, folder, **variables):
    host = gateway(client)
    async with TelegramDouble(host=host) as telegram, LibertAIDouble(keys=[KEY], host=host) as libertai:
        project = Project(f"baal-test-{secrets.token_hex(4)}", folder, client, telegram, libertai)
        (folder / ".env").write_text(env_file(project, **variables))
        try:
            await project.up()
            yield project
            assert "Traceback" not in await project.logs()
        finally:
            await project.remove()
        assert await project.left() == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def project(docker_client, bot_image, agent_image, tmp_path_factory):
    """One for all tests of this module: they are different people."""
    async with project_of(docker_client, tmp_path_factory.mktemp("operator")) as made:
        yield made


async def talking(project):
    """An owner in a chat with an agent of their own."""
    await project.libertai.reset()
    owner = await project.telegram.user(name="Olga")
    await make_agent(owner, name="Ada", job="Answer briefly.")
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    return owner


async def delete(owner):
    """The agent of this chat, for good."""
    await owner.send("/manage")
    await owner.send("/delete")
    await owner.wait_for("Which one?", button="Ada")
    await owner.press("Ada")
    await owner.wait_for("Ada", button="Delete")
    await owner.press("Delete")
    await owner.wait_for("Delete Ada?")
    await owner.press("Yes, delete it")
    await owner.wait_for("Ada is deleted.", timeout=60)


async def test_an_agent_is_made_talked_to_shared_and_deleted(project):
    await project.libertai.reset()
    before = {agent.name for agent in await project.agents()}
    owner = await project.telegram.user(name="Olga")
    link = await make_agent(owner, name="Ada", job="Plan meals.")
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    await project.libertai.reply("Scramble them **slowly**.")
    assert await ask(owner, "What with eggs?", timeout=30) == "Scramble them slowly."

    visitor = await project.telegram.user(name="Victor")
    await visitor.open(link)
    await visitor.wait_for("Ada")
    await project.libertai.reply("Hello Victor.")
    assert await ask(visitor, "Hi", timeout=30) == "Hello Victor."
    assert "Plan meals." in (await project.libertai.calls(2))[-1].system

    (agent,) = [agent for agent in await project.agents() if agent.name not in before]
    assert agent.attrs["HostConfig"]["PortBindings"] in (None, {}), "only the bot reaches it"
    await delete(owner)
    assert {agent.name for agent in await project.agents()} == before
    with pytest.raises(NotFound):
        await asyncio.to_thread(project.docker.volumes.get, f"{agent.name}-data")
    assert await project.telegram.refusals() == []


async def test_the_bot_is_confined(project):
    bot = await project.container()
    host = bot.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
    assert not host["PortBindings"], "nothing of it is published"
    assert bot.attrs["Config"]["User"] == "baal"


async def test_a_strangers_tools_reach_neither_the_bots_door_nor_docker(project):
    owner = await talking(project)
    (agent, *_) = await project.agents()
    assert await project.reach(agent, "bot", 8080) == "ConnectionRefusedError"
    _, there = await project.run(agent, "import os; print(os.path.exists('/var/run/docker.sock'))")
    assert there == b"False\n"
    await delete(owner)


async def test_an_answer_is_delivered_whole_and_once_after_the_bot_was_killed_in_it(project):
    owner = await talking(project)
    await project.libertai.script(Script(text=LONG, hold_after=20))
    await owner.send("Count.")
    await owner.wait_for("word5", timeout=30)
    await project.until_recorded()

    # Not `docker kill`: that is an operator's, and Docker would leave it dead.
    bot = await project.container()
    before = bot.attrs["RestartCount"]
    await project.run(bot, KILL)
    await project.libertai.release()

    await owner.wait_for("word59", timeout=60)
    assert (await project.container()).attrs["RestartCount"] == before + 1
    await whole_and_once(project, owner)


async def test_an_answer_is_delivered_whole_and_once_after_a_restart_in_it(project):
    owner = await talking(project)
    await project.libertai.script(Script(text=LONG, hold_after=20))
    await owner.send("Count.")
    await owner.wait_for("word5", timeout=30)

    restarted = await project.compose("restart", "bot")
    await project.libertai.release()

    assert restarted.returncode == 0
    await owner.wait_for("word59", timeout=60)
    await whole_and_once(project, owner)


async def whole_and_once(project, owner):
    answer = await owner.wait_whole(timeout=30)
    assert answer.text == LONG
    shown = [message for message in await owner.messages() if message.from_bot and "word5" in message.text]
    assert len(shown) == 1
    assert len(await project.libertai.calls()) == 1, "the model was asked once"
    await delete(owner)


async def test_settings_that_are_missing_are_named_in_a_line(project, tmp_path):
    other = Project(f"baal-test-{secrets.token_hex(4)}", tmp_path, project.docker, project.telegram, project.libertai)
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())

    refused = await other.compose("up", "--detach", "--no-build")

    assert refused.returncode != 0
    (line,) = refused.stderr.strip().splitlines()
    assert "DOCKER_GID" in line
    assert "is not set in .env" in line


async def test_with_postgres_it_works_the_same(docker_client, bot_image, agent_image, tmp_path):
    made = await asyncio.to_thread(
        subprocess.run, (ROOT / "scripts/standin/images", "postgres:17"), capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    variables = {
        "COMPOSE_PROFILES": "postgres",
        "POSTGRES_PASSWORD": PASSWORD,
        "DATABASE_URL": f"postgresql://baal:{PASSWORD}@postgres:5432/baal",
    }
    async with project_of(docker_client, tmp_path, **variables) as project:
        owner = await talking(project)
        await project.libertai.reply("Four.")
        assert await ask(owner, "Two and two?", timeout=30) == "Four."

        restarted = await project.compose("restart")
        assert restarted.returncode == 0, restarted.stderr
        await project.libertai.reply("Six.")
        assert await ask(owner, "And two?", timeout=60) == "Six."

        last = (await project.libertai.calls(2))[-1]
        said = [message["content"] for message in as_written(last.messages)]
        assert said == ["Two and two?", "Four.", "And two?"]
        bot = await project.container()
        _, kept = await asyncio.to_thread(bot.exec_run, ["ls", "/data"])
        assert "sqlite" not in kept.decode()
        assert PASSWORD not in await project.logs()

        (agent,), postgres = await project.agents(), await project.container("postgres")
        (place,) = postgres.attrs["NetworkSettings"]["Networks"].values()
        for host in ("postgres", place["IPAddress"]):
            assert await project.reach(agent, host, 5432) != "", f"{host} is reached"
        await delete(owner)


async def test_without_a_password_postgres_does_not_start(docker_client, bot_image, tmp_path):
    project = Project(f"baal-test-{secrets.token_hex(4)}", tmp_path, docker_client, None, None)
    filled = (ROOT / ".env.example").read_text().replace("DOCKER_GID=", "DOCKER_GID=0\nCOMPOSE_PROFILES=postgres")
    (tmp_path / ".env").write_text(filled)
    try:
        done = await project.compose("up", "--detach", "--wait", "--no-build", "postgres")
        assert done.returncode != 0
        assert "POSTGRES_PASSWORD" in await project.logs()
    finally:
        await project.remove()
    assert await project.left() == []
