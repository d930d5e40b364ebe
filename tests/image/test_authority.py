"""The agent's image behind a certificate of the bot's own authority, reached as the bot reaches machines elsewhere."""

import asyncio

import pytest
from pydantic import SecretStr

from agent.protocol import ChatRequest, Done, Text
from bot.errors import AgentOffline
from bot.machines import certs, health
from bot.machines.certs import Authority
from bot.machines.client import AgentClient, Door
from bot.machines.provider import certificate_name
from tests.containers import CADDY, KEY, SECRET, gateway, put
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Script

pytestmark = pytest.mark.image
NAME, OTHER = certificate_name("m-0000000000000001"), certificate_name("m-0000000000000002")


@pytest.fixture
async def libertai(docker_client):
    async with LibertAIDouble(keys=[KEY], host=gateway(docker_client)) as double:
        yield double


@pytest.fixture
def authority():
    return Authority(SecretStr(certs._make()))


@pytest.fixture
def url(boxes, authority, libertai):
    """Of a container that had its leaf before its start."""
    leaf = authority.leaf([NAME])
    files = {"cert.pem": leaf.certificate.encode(), "key.pem": leaf.key.get_secret_value().encode()}
    box = boxes.create({"LLM_BASE_URL": f"{libertai.url}/v1", "TLS_MODE": "files"})
    put(box.container, "/caddy", files, user=CADDY)
    box.container.start()
    return box.url(443, "https")


async def until_it_answers(authority, url):
    async with asyncio.timeout(30):
        while not await health.answers(url, tls=authority.context(), name=NAME):
            await asyncio.sleep(0.1)


async def test_a_turn_is_streamed_to_who_knows_the_authority_and_to_nobody_else(authority, url, libertai):
    await until_it_answers(authority, url)
    await libertai.script(Script(text="one two three"))
    own, public = AgentClient(authority.context()), AgentClient()
    door, request = Door(url, SecretStr(SECRET), NAME), ChatRequest(turn_id="t1", chat_id="7", message="hi")
    try:
        events = [event async for event in own.chat(door, request)]
        assert "".join(event.text for event in events if isinstance(event, Text)) == "one two three"
        assert isinstance(events[-1], Done)
        for client, name in (public, NAME), (own, OTHER):
            with pytest.raises(AgentOffline, match="its certificate is not the right one"):
                await client.health(Door(url, SecretStr(SECRET), name))
    finally:
        await own.close()
        await public.close()
