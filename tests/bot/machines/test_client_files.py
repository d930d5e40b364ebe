"""Files on their way between the bot and an agent: streamed, named, refused, broken off."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from agent.protocol import Refusal, Role
from bot.errors import AgentOffline, AgentRefused, FileLost
from bot.machines.client import PIECE_BYTES, AgentClient, Door, Upload
from tests.fakes.agent import AgentDouble

NASTY = '../a "b"\n&name=c#d?%2f+ ü💥.txt'


@pytest.fixture
async def agent() -> AsyncIterator[AgentDouble]:
    agent = AgentDouble()
    await agent.start()
    yield agent
    await agent.stop()


@pytest.fixture
async def client() -> AsyncIterator[AgentClient]:
    client = AgentClient()
    yield client
    await client.close()


@pytest.fixture
def door(agent) -> Door:
    return Door(agent.url, SecretStr("s"))


def upload(name: str = "a.txt") -> Upload:
    return Upload(id="AgAD_x-1", name=name, media_type="text/plain; charset=utf-8", role=Role.OWNER)


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def test_a_file_is_handed_over_with_its_strange_name(agent, client, door):
    kept = await client.put_file(door, "-1005", upload(NASTY), pieces(b"one ", b"two"))

    assert (kept.id, kept.name, kept.size, kept.path) == ("AgAD_x-1", NASTY, 7, "inbox/AgAD_x-1")
    assert kept.media_type == "text/plain; charset=utf-8"
    assert agent.given == [("-1005", kept, Role.OWNER)]
    assert agent.files["-1005", "AgAD_x-1"] == b"one two"


@pytest.mark.parametrize("status", [413, 507])
async def test_a_refused_file_says_why(agent, client, door, status):
    agent.refusals = [(status, Refusal(kind="no_room", text="There is no room."))]

    with pytest.raises(AgentRefused) as caught:
        await client.put_file(door, "5", upload(), pieces(b"x" * PIECE_BYTES))

    assert (caught.value.status, caught.value.kind, caught.value.text) == (status, "no_room", "There is no room.")


async def test_what_breaks_on_the_senders_side_is_not_blamed_on_the_agent(agent, client, door):
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise FileLost("file-not-fetched", may_heal=True)

    with pytest.raises(FileLost):
        await client.put_file(door, "5", upload(), broken())

    assert agent.files == {}


async def test_a_file_comes_in_pieces(agent, client, door):
    agent.files["5", "f1"] = bytes(range(256)) * 2048

    async with client.get_file(door, "5", "f1") as content:
        got = [piece async for piece in content]

    assert b"".join(got) == agent.files["5", "f1"]
    assert max(map(len, got)) <= PIECE_BYTES


async def test_a_file_that_is_not_there_is_refused(agent, client, door):
    with pytest.raises(AgentRefused, match="no_file"):
        async with client.get_file(door, "5", "f1"):
            pass


async def test_a_file_that_breaks_off_is_an_agent_that_is_away(client):
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with client.get_file(Door(url, SecretStr("s")), "5", "f1") as content:
            with pytest.raises(AgentOffline, match="broke off"):
                await _whole(content)


async def _whole(content: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in content])
