"""A machine with a real kernel and a real systemd, from its first boot to a wiped agent. Only with `make e2e-qemu`."""

import asyncio
import re

import docker
import httpx
import pytest
from pydantic import SecretStr

from bot.errors import NotStarted
from bot.machines import health
from bot.machines.bootstrap import bootstrap
from bot.machines.certs import Authority
from bot.machines.docker import DockerEngine, Elsewhere
from bot.machines.engine import RunState, Spec
from bot.machines.exposure import Trust
from bot.machines.provider import certificate_name
from bot.store.keepsakes import Keepsakes
from scripts.image.push import push
from scripts.image.registry import loopback_registry
from tests.vm.qemu import BOOT_SECONDS, MACHINE_ID, emulated

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(3_600)]

NAME = f"baal-{MACHINE_ID}"
HOST, RESOLVER, GATEWAY = "10.0.2.2", "10.0.2.3", "10.213.0.1"
"""QEMU's own network: this host's loopback and its resolver as the machine sees them; and the machine's bridge."""
DIAL = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.split(":")
    try:
        socket.create_connection((host, int(port)), 20).close()
        print(place, "open")
    except OSError as error:
        print(place, error.strerror or error)
"""
IN_FORCE = "baal-firewall check && systemctl is-enabled baal-firewall"
BOOTED = """
until systemctl is-active -q docker; do sleep 1; done
guarded=$(systemctl show -P ActiveEnterTimestampMonotonic baal-firewall)
started=$(systemctl show -P InactiveExitTimestampMonotonic docker)
echo "$guarded $started"
"""
OURS = re.compile("baal|docker|containerd|ssh|resolved|networkd")


@pytest.fixture(scope="module")
def machine():
    with emulated() as booted:
        asyncio.run(booted.bootstrap())
        booted.said("bootstrap")
        yield booted


@pytest.fixture
async def authority(database, vault):
    return await Authority.open(Keepsakes(database, vault))


@pytest.fixture
async def engine(machine, authority):
    made = DockerEngine("unix:///nowhere", elsewhere=Elsewhere(machine.ssh, bootstrap, Trust(authority)))
    yield made
    await made.close()


@pytest.fixture
def release(docker_client, agent_image):
    """The agent in a registry that only this host reaches."""
    with loopback_registry() as place:
        name = f"{place}/baal/agent"
        docker_client.images.get(agent_image).tag(name, "qemu")
        try:
            yield f"{name}@{push(f'{name}:qemu')}"
        finally:
            docker_client.images.remove(f"{name}:qemu")


@pytest.fixture
def spec(release):
    return Spec(
        release=release,
        name="Ada",
        job="Plans meals.",
        model="scripted",
        secret=SecretStr("a-secret-of-thirty-two-characters"),
        llm_base_url="http://127.0.0.1:9/v1",
        llm_api_key=SecretStr("LTAI_key_that_must_stay_secret"),
    )


@pytest.fixture
async def neighbour():
    """Something at a private address that the machine reaches and its agents must not."""

    async def serve(_reader, writer):
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


async def run(engine, machine, spec):
    """An engine allows a minute for the start, which may not be enough here. The fleet tries again, too."""
    for attempts_left in reversed(range(3)):
        try:
            return await engine.run(machine.place, spec)
        except NotStarted as error:
            print(f"\n{error}\n{error.log}")  # noqa: T201
            if not attempts_left:
                raise
    return None


async def failed(machine):
    """Units of ours that systemd says failed; it may have more to say about others."""
    said = await machine.run("systemctl list-units --failed --plain --no-legend")
    print(f"\nfailed units: {said.strip() or 'none'}")  # noqa: T201
    return [line for line in said.splitlines() if OURS.search(line)]


async def test_a_fresh_machine_is_made_ready(machine, engine):
    async with machine.shell() as shell, shell.docker() as host:
        version, bridge, security = await asyncio.to_thread(_ask, host)
    print(f"\nDocker {version}, {security}, kernel {(await machine.run('uname -r')).strip()}")  # noqa: T201
    assert bridge == "10.213.0.0/24"
    assert "name=apparmor" in security
    assert (await machine.run(IN_FORCE)).strip() == "enabled"
    assert await failed(machine) == []
    with machine.timed("again"):
        await engine.prepare(machine.place)
    assert machine.steps["again"] < machine.steps["bootstrap"] / 5


def _ask(host):
    client = docker.DockerClient(base_url=host, timeout=60)
    try:
        bridge = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
        return client.version()["Version"], bridge, client.info()["SecurityOptions"]
    finally:
        client.close()


async def test_an_agent_lives_on_it_until_it_is_wiped(machine, engine, authority, spec, neighbour):
    with machine.timed("run"):
        url = await run(engine, machine, spec)
    machine.said("run")
    assert url == (await machine.urls())[0]
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await asyncio.to_thread(httpx.get, f"{url}/health", timeout=30)
    await walled(machine, neighbour)

    await reboots(machine, authority, url)
    await walled(machine, neighbour)
    assert (await engine.inspect(machine.place)).fingerprint == spec.fingerprint()

    with machine.timed("wipe"):
        await engine.wipe(machine.place)
    assert (await engine.inspect(machine.place)).state is RunState.ABSENT
    assert NAME not in await machine.run("docker ps -a; docker volume ls")


async def reboots(machine, authority, url):
    """Everything is back by itself, the firewall first."""
    with machine.timed("reboot"):
        await machine.reboot()
    machine.said("reboot")
    guarded, started = (await machine.run(BOOTED, seconds=BOOT_SECONDS)).split()
    assert 0 < int(guarded) <= int(started)
    assert (await machine.run(IN_FORCE)).strip() == "enabled"
    assert await failed(machine) == []
    with machine.timed("agent back"):
        async with asyncio.timeout(BOOT_SECONDS):
            while not await health.answers(url, tls=authority.context(), name=certificate_name(MACHINE_ID)):
                await asyncio.sleep(1)  # a fact of the machine
    machine.said("agent back")


async def walled(machine, neighbour):
    """The agent is confined, and reaches its resolver but not what is private."""
    await machine.run(f"timeout 20 bash -c '</dev/tcp/{neighbour.replace(':', '/')}'")
    profile = await machine.run("docker inspect -f '{{.AppArmorProfile}}' " + NAME)
    assert profile.strip() == "docker-default"
    places = (f"{RESOLVER}:53", neighbour, f"{GATEWAY}:22")
    said = await machine.run(f"docker exec -i -u 10003 {NAME} python - {' '.join(places)} <<'END'\n{DIAL}\nEND")
    assert said.splitlines() == [f"{RESOLVER}:53 open", *(f"{place} Connection refused" for place in places[1:])]
