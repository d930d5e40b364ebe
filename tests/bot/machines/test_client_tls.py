"""Nothing is said to an agent before its certificate is verified: by whom it is, and whose."""

import asyncio
import re
import socket
import ssl
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import uvloop
from pydantic import SecretStr

from bot.errors import AgentOffline, AgentRefused
from bot.machines import certs, health
from bot.machines import client as module
from bot.machines.certs import Authority
from bot.machines.client import AgentClient, Door
from bot.machines.provider import certificate_name
from bot.machines.tls import server_hostname
from bot.store.models import Machine
from tests.certificates import authority as stranger
from tests.certificates import leaf as strangers_leaf
from tests.fakes.secure import SecureDouble, server_context

SECRET = SecretStr("s3cret")
MINE, OTHER = certificate_name("m-0000000000000001"), certificate_name("m-0000000000000002")


@pytest.fixture(scope="module")
def authority():
    return Authority(SecretStr(certs._make()))


@pytest.fixture
async def client(authority):
    made = AgentClient(authority.context())
    yield made
    await made.close()


@pytest.fixture
async def serve(tmp_path):
    """Opens doors; they are shut after the test."""
    async with AsyncExitStack() as stack:

        async def opened(leaf, **options):
            return await stack.enter_async_context(SecureDouble(tmp_path, leaf, **options))

        yield opened


def expired(authority):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certs, "LIFETIME", timedelta(seconds=-1))
        return authority.leaf([MINE])


def not_yet_valid(authority):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certs, "SKEW", timedelta(hours=-1))
        return authority.leaf([MINE])


def of_a_stranger(_):
    certificate, key = strangers_leaf(*stranger(), MINE)
    return certs.Leaf(certificate.decode(), SecretStr(key.decode()))


def test_the_door_of_a_machine_has_its_certificates_name():
    machine = Machine(id="m-0000000000000001", agent_id=1, provider="aleph", url="https://203.0.113.9:31443")

    assert Door.of(machine, SECRET) == Door("https://203.0.113.9:31443", SECRET, MINE)
    assert MINE not in (OTHER, "")


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://203.0.113.9:31443", MINE),
        ("https://[2001:db8::7]:443", MINE),
        ("https://legal-winner-thank-year.2n6.me", None),
        ("http://127.0.0.1:8000", None),
        ("http://baal-m-1", None),
        ("", None),
        ("https://[oops", None),
    ],
)
def test_an_address_is_checked_for_the_machines_name_and_a_name_for_itself(url, checked):
    assert server_hostname(url, MINE) == checked


async def test_the_right_one_is_told_the_secret(authority, client, serve):
    agent = await serve(authority.leaf([MINE]))

    assert (await client.health(Door(agent.url, SECRET, MINE))).agent_name == "Ada"
    assert agent.calls[0].secret == "Bearer s3cret"


async def test_a_host_name_must_stand_in_the_certificate(authority, client, serve):
    named, nameless = await serve(authority.leaf([MINE, "localhost"])), await serve(authority.leaf([MINE]))

    assert await client.health(Door(f"https://localhost:{named.port}", SECRET, MINE))
    with pytest.raises(AgentOffline, match="not valid for 'localhost'"):
        await client.health(Door(f"https://localhost:{nameless.port}", SECRET, MINE))
    assert nameless.calls == []


async def test_an_address_without_a_name_must_stand_in_the_certificate(authority, client, serve):
    named, nameless = await serve(authority.leaf(["127.0.0.1"])), await serve(authority.leaf([MINE]))

    assert await client.health(Door(named.url, SECRET))
    with pytest.raises(AgentOffline, match=r"not valid for '127\.0\.0\.1'"):
        await client.health(Door(nameless.url, SECRET))


async def refused(folder, authority, leaf, url="https://127.0.0.1"):
    """Call a door with that leaf; why that failed, and what it was told."""
    async with SecureDouble(folder, leaf) as agent:
        client = AgentClient(authority.context())
        try:
            with pytest.raises(AgentOffline) as caught:
                await client.health(Door(f"{url}:{agent.port}", SECRET, MINE))
        finally:
            await client.close()
        return str(caught.value), agent.calls


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("impostor", "says"),
    [
        (of_a_stranger, "its certificate is not the right one: unable to get local issuer certificate"),
        (lambda authority: authority.leaf([OTHER]), f"not the right one: .* not valid for '{MINE}'"),
        (expired, "not the right one: certificate has expired"),
        (not_yet_valid, "not the right one: certificate is not yet valid"),
        (lambda _: None, "no TLS as it should be"),
    ],
    ids=["a stranger", "another machine", "expired", "not yet valid", "plain HTTP"],
)
def test_nobody_else_is_told_the_secret(authority, tmp_path, impostor, says, loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        why, calls = runner.run(refused(tmp_path, authority, impostor(authority)))

    assert calls == []
    assert why.startswith("GET health: ")
    assert re.search(says, why), why


async def test_what_a_plain_server_gets_to_see_is_no_secret(authority, client):
    seen = bytearray()

    async def listen(reader, writer):
        seen.extend(await reader.read(65_536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AgentOffline, match="no TLS"):
            await client.health(Door(f"https://127.0.0.1:{port}", SECRET, MINE))
    assert seen
    assert b"s3cret" not in seen
    assert b"Authorization" not in seen


async def test_an_older_tls_is_not_spoken(authority, client, serve, tmp_path):
    context = server_context(tmp_path, authority.leaf([MINE]))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with SecureDouble(tmp_path, context) as agent:
        with pytest.raises(AgentOffline, match=r"no TLS as it should be|no connection"):
            await client.health(Door(agent.url, SECRET, MINE))
    assert agent.calls == []


async def test_a_client_of_public_authorities_refuses_a_private_one(authority, serve):
    agent, public = await serve(authority.leaf([MINE])), AgentClient()

    with pytest.raises(AgentOffline, match="not the right one"):
        await public.health(Door(agent.url, SECRET, MINE))
    await public.close()
    assert agent.calls == []


async def test_an_agent_cannot_send_us_on(authority, client, serve):
    elsewhere = await serve(authority.leaf([MINE]))
    plain = await serve(None)
    for target in (elsewhere, plain):
        agent = await serve(authority.leaf([MINE]), redirect=target.url)
        with pytest.raises(AgentRefused) as caught:
            await client.health(Door(agent.url, SECRET, MINE))
        assert caught.value.status == 307
        assert target.calls == []


async def test_calls_share_one_connection(authority, client, serve):
    agent = await serve(authority.leaf([MINE]))
    door = Door(agent.url, SECRET, MINE)

    await client.health(door)
    await client.health(door)
    assert len({call.connection for call in agent.calls}) == 1


async def test_a_connection_to_one_machine_is_not_used_for_another(authority, client, serve):
    agent = await serve(authority.leaf([MINE]))
    await client.health(Door(agent.url, SECRET, MINE))

    with pytest.raises(AgentOffline, match=f"not valid for '{OTHER}'"):
        await client.health(Door(agent.url, SECRET, OTHER))
    assert len(agent.calls) == 1


async def test_what_an_agent_says_of_cookies_is_not_kept(authority, client, serve):
    agent = await serve(authority.leaf(["localhost"]))
    await client.health(Door(f"https://localhost:{agent.port}", SECRET))

    assert len(client._session.cookie_jar) == 0


async def test_a_port_that_is_another_machines_now_is_told_nothing(authority, client, serve, tmp_path):
    async with SecureDouble(tmp_path, authority.leaf([MINE])) as agent:
        door, port = Door(agent.url, SECRET, MINE), agent.port
        await client.health(door)
    other = await serve(authority.leaf([OTHER]), port=port)

    with pytest.raises(AgentOffline, match=f"not valid for '{MINE}'"):
        await client.health(door)
    assert other.calls == []


async def test_an_agent_with_a_new_leaf_is_still_the_one(authority, client, serve, tmp_path):
    async with SecureDouble(tmp_path, authority.leaf([MINE])) as agent:
        door, port = Door(agent.url, SECRET, MINE), agent.port
        await client.health(door)
    await serve(authority.leaf([MINE]), port=port)

    assert await client.health(door)


async def test_a_port_where_nobody_listens_is_offline_at_once(client):
    with socket.create_server(("127.0.0.1", 0)) as freed:
        port = freed.getsockname()[1]
    begun = time.monotonic()

    with pytest.raises(AgentOffline, match="no connection: Connect"):
        await client.health(Door(f"https://127.0.0.1:{port}", SECRET, MINE))
    assert time.monotonic() - begun < module.CONNECT_SECONDS


async def test_a_port_that_says_nothing_is_offline_when_connecting_takes_too_long(authority, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    client = AgentClient(authority.context())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = Door(f"https://127.0.0.1:{silent.getsockname()[1]}", SECRET, MINE)
        with pytest.raises(AgentOffline, match="Timeout"):
            async with asyncio.timeout(30):
                await client.health(door)
    await client.close()


async def test_an_agent_without_tls_is_spoken_to_as_before(client, serve):
    agent = await serve(None)

    assert await client.health(Door(agent.url, SECRET, MINE))


async def test_no_url_is_offline(client):
    for url in ("", "https://[oops"):
        with pytest.raises(AgentOffline):
            await client.health(Door(url, SECRET, MINE))


# -- the question without a secret ---------------------------------------------------------------------------------


async def test_only_the_right_one_answers(authority, serve):
    agent, plain = await serve(authority.leaf([MINE])), await serve(None)
    tls = authority.context()

    assert await health.answers(agent.url, tls=tls, name=MINE)
    assert await health.answers(plain.url, tls=tls, name=MINE)
    assert not await health.answers(agent.url, tls=tls, name=OTHER)
    assert not await health.answers(agent.url, name=MINE)
    assert not await health.answers(plain.url.replace("http", "https"), tls=tls, name=MINE)
    assert not await health.answers("https://[oops", tls=tls, name=MINE)
    assert not await health.answers(None, tls=tls, name=MINE)
    assert all(call.secret is None for call in agent.calls)


async def test_one_that_has_an_ended_certificate_does_not_answer(authority, serve):
    agent = await serve(expired(authority))

    assert not await health.answers(agent.url, tls=authority.context(), name=MINE)


async def test_one_that_sends_us_on_does_not_answer(authority, serve):
    target = await serve(authority.leaf([MINE]))
    agent = await serve(authority.leaf([MINE]), redirect=target.url)

    assert not await health.answers(agent.url, tls=authority.context(), name=MINE)
    assert target.calls == []


async def test_a_host_name_answers_by_that_name(authority, serve):
    agent = await serve(authority.leaf([MINE, "localhost"]))

    assert await health.answers(f"https://localhost:{agent.port}", tls=authority.context(), name=OTHER)
