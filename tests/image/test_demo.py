"""`make demo PROVIDER=docker`: its agents are containers, and none is left behind."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from bot.machines.container import MACHINE, volumes
from scripts.demo_check import ask, greet, make_agent
from scripts.demo_docker import DockerSite
from tests.containers import TOOL
from tests.e2e.demo import drive, running, url_of
from tests.fakes.libertai_sim import LibertAISim, Script, ToolCall
from tests.fakes.telegram_client import TelegramSim

pytestmark = [pytest.mark.image, pytest.mark.usefixtures("agent_image"), pytest.mark.timeout(240)]


async def test_it_is_driven_once_and_leaves_nothing(tmp_path):
    done = await drive(tmp_path, "--provider", "docker", seconds=120)

    assert done.code == 0, done.said
    assert "Tools: all. Agents run commands and write files in a container of their own" in done.said
    assert "“What can I cook with eggs?”" in done.said
    assert "deleted, it left no machine behind" in done.said


def containers(client, folder):
    """The containers of a demo's machines."""
    found = client.containers.list(all=True, filters={"label": MACHINE}, ignore_removed=True)
    return [each for each in found if (folder / "data" / "machines" / each.labels[MACHINE]).exists()]


@asynccontextmanager
async def an_agent(url):
    """Its owner, in a chat with it."""
    async with TelegramSim(url) as telegram:
        olga = await telegram.user(name="Olga")
        await greet(olga)
        await make_agent(olga, name="Ada", job="Answer briefly.", timeout=DockerSite.deploy_seconds)
        await olga.press("Chat")
        await olga.wait_for("You are talking to your agent")
        yield olga


async def run_there(owner, model, command):
    """What a tool answered that the model called."""
    arguments = json.dumps({"command": command})
    async with LibertAISim(model) as libertai:
        calls = [ToolCall(id="c1", name="shell", arguments=arguments)]
        await libertai.script(Script(text="", calls=calls), Script(text="I ran it."))
        assert await ask(owner, "Run it.") == "I ran it."
        return next(each["content"] for each in (await libertai.calls())[-1].messages if each["role"] == "tool")


async def test_tools_run_inside_and_told_to_stop_it_takes_its_agents_along(tmp_path, docker_client):
    async with running(tmp_path, "--provider", "docker") as demo, an_agent(await url_of(demo)) as owner:
        (container,) = await asyncio.to_thread(containers, docker_client, tmp_path)
        model = next(line for line in container.attrs["Config"]["Env"] if line.startswith("LLM_BASE_URL="))

        said = await run_there(owner, model.partition("=")[2].removesuffix("/v1"), "hostname; id -u")

        assert f"{container.id[:12]}\n{TOOL}" in said

    assert demo.returncode == 0
    assert is_gone(docker_client, container)


async def test_what_a_killed_one_has_left_is_gone_after_the_next_whatever_that_is(tmp_path, docker_client):
    async with running(tmp_path, "--provider", "docker") as demo, an_agent(await url_of(demo)):
        (container,) = await asyncio.to_thread(containers, docker_client, tmp_path)
        demo.kill()
        await demo.wait()
    assert not is_gone(docker_client, container)

    async with running(tmp_path) as another:
        await url_of(another)

        assert is_gone(docker_client, container)


def is_gone(client, container):
    """With its volumes."""
    listed = client.containers.list(all=True, filters={"id": container.id}, ignore_removed=True)
    return not listed and not client.volumes.list(filters={"name": list(volumes(container.name))})
