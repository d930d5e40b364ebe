"""`make demo PROVIDER=docker`: its agents are containers, and none is left behind."""

import asyncio

import pytest

from bot.machines.container import MACHINE, volumes
from scripts.demo_check import make_agent
from tests.e2e.demo import drive, running, url_of
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


async def an_agent(url):
    async with TelegramSim(url) as telegram:
        await make_agent(await telegram.user(name="Olga"), name="Ada", job="Answer briefly.")


async def test_told_to_stop_it_takes_its_agents_along(tmp_path, docker_client):
    async with running(tmp_path, "--provider", "docker") as demo:
        await an_agent(await url_of(demo))
        (container,) = await asyncio.to_thread(containers, docker_client, tmp_path)

    assert demo.returncode == 0
    assert is_gone(docker_client, container)


async def test_what_a_killed_one_has_left_is_gone_after_the_next_whatever_that_is(tmp_path, docker_client):
    async with running(tmp_path, "--provider", "docker") as demo:
        await an_agent(await url_of(demo))
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
