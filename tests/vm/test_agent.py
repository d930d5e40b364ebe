"""The whole path on machines that boot: rented, found, prepared, an agent on it that thinks and answers, given back."""

import asyncio
import secrets
from contextlib import suppress

import pytest
from docker.errors import NotFound

from agent.protocol import Done, Mode, Text
from bot.errors import NotReached
from bot.machines.certs import Authority
from bot.machines.engine import RunState
from bot.store.keepsakes import Keepsakes
from bot.store.models import RentalState
from scripts.image.registry import loopback_registry
from tests.fakes.aleph_world import Status
from tests.fakes.libertai_sim import Script
from tests.vm.deployment import KEY, deployment_of
from tests.vm.releases import forget, push
from tests.vm.standins import DEBIAN_12, PREPARED_12, PREPARED_13

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

COUNTED = "one two three four five"
DAY = 86_400
IN_THE_MIDDLE = "/var/lib/docker/tmp"
"""Where Docker puts layers while they arrive."""


@pytest.fixture(scope="module")
def release(docker_client, agent_image, pushed):
    """The agent in a registry here: its name by digest."""
    with loopback_registry(images=pushed) as place:
        repository = f"{place}/agent"
        try:
            yield push(docker_client, agent_image, repository, "v1")
        finally:
            forget(docker_client, repository)


@pytest.fixture
async def authority(database, vault, monkeypatch, tmp_path):
    """Who vouches for the agent; and the network's SDK reads nobody's folder."""
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    return await Authority.open(Keepsakes(database, vault))


@pytest.fixture
async def rig(request, docker_client, release, database, authority):
    """A deployment on machines of an image, and its models."""
    async with deployment_of(docker_client, request.param, release, database, authority) as made:
        yield made
        print(request.param, made[0].steps)  # noqa: T201  for `pytest -rP`


async def counted(own, libertai, url):
    """It thinks and answers."""
    await libertai.script(Script(text=COUNTED))
    await libertai.pace(tokens_per_second=40)
    events = await own.said(url, secrets.token_hex(4))
    pieces = [event.text for event in events if isinstance(event, Text)]
    assert isinstance(events[-1], Done), events[-1]
    assert "".join(pieces) == COUNTED
    assert len(pieces) > 1


async def until(fact, seconds=30):
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(fact):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("rig", [DEBIAN_12, PREPARED_13], ids=["debian12", "debian13-prepared"], indirect=True)
async def test_from_the_order_to_the_end(rig):
    own, libertai = rig
    with own.timed("rent"):
        await own.provider.rent(own.machine_id)
    with own.timed("reach"):
        place = await own.provider.reach(own.machine_id)
    with own.timed("prepare"):
        await own.engine.prepare(place)
    assert (await own.engine.inspect(place)).state is RunState.ABSENT
    with own.timed("run"):
        url = await own.engine.run(place, own.spec)

    mapped = own.vm().ports[443]
    assert url == f"https://127.0.0.1:{mapped}"
    health = await own.client.health(own.door(url))
    assert (health.agent_name, health.release, health.mode) == ("Ada", own.spec.release, Mode.STANDBY)
    await own.activate(url)
    await counted(own, libertai, url)
    assert (await libertai.calls())[-1].authorization == f"Bearer {KEY}"

    log = await own.engine.logs(place)
    assert log
    assert KEY not in log
    found = await own.engine.inspect(place)
    assert (found.state, found.fingerprint, found.url) == (RunState.RUNNING, own.spec.fingerprint(), url)
    runs = own.at_machine("docker", "ps", "--quiet")
    with own.timed("prepare again"):
        await own.engine.prepare(place)
    with own.timed("run again"):
        assert await own.engine.run(place, own.spec) == url
    assert own.at_machine("docker", "ps", "--quiet") == runs

    await ended(own)


async def ended(own):
    """It is given back, and nothing of it is left or costs anything."""
    (rental,) = await own.ledger.of(own.machine_id)
    machine, address = own.machine(), own.wallet.address
    with own.timed("give back"):
        await own.provider.give_back(own.machine_id)
    assert own.left == ""
    assert (await own.ledger.get(rental.reference)).state is RentalState.GONE
    assert own.world.entries[rental.reference].status is Status.FORGOTTEN
    assert await own.provider.listed() == await own.provider.strangers() == []
    with pytest.raises(NotFound):
        machine.reload()
    spent = own.world.spent(address)
    own.world.skew += DAY
    assert own.world.spent(address) == spent > 0
    assert not own.world.running(address)


@pytest.mark.parametrize("rig", [PREPARED_12], ids=["prepared"], indirect=True)
async def test_a_machine_that_is_restarted_or_moved_is_found_again(rig):
    own, libertai = rig
    await own.provider.rent(own.machine_id)
    place = await own.provider.reach(own.machine_id)
    await own.engine.prepare(place)
    first = own.vm().ports

    running = asyncio.create_task(own.engine.run(place, own.spec))
    await until(lambda: "GetImageBlob" in own.at_machine("ls", IN_THE_MIDDLE))
    with own.timed("reboot during the pull"):
        await own.reboot()
    with pytest.raises(NotReached):
        await running
    assert own.vm().ports[22] != first[22]
    with own.timed("prepare after it"):
        await own.engine.prepare(place)
    with own.timed("run after it"):
        url = await own.engine.run(place, own.spec)
    await own.activate(url)
    await counted(own, libertai, url)

    await own.reboot()
    with own.timed("back by itself"):
        again = await back(own, place)
    assert again == f"https://127.0.0.1:{own.vm().ports[443]}" != url
    await counted(own, libertai, again)

    old, other = own.machine(), next(node for node in own.world.nodes.values() if node is not own.vm().node)
    key = (await own.ledger.current(own.machine_id)).host_key
    own.world.move(own.vm().item_hash, other)
    place = await own.provider.reach(own.machine_id)
    with own.timed("prepare elsewhere"):
        await own.engine.prepare(place)
    rental = await own.ledger.current(own.machine_id)
    assert (rental.node, own.machine().id == old.id, rental.host_key == key) == (other.hash, False, False)
    # With an empty disk: what runs there from here on is what runs on any machine that is prepared.
    assert (await own.engine.inspect(place)).state is RunState.ABSENT
    await ended(own)


async def back(own, place):
    """Where it answers, once its machine has booted again; nobody starts it."""
    async with asyncio.timeout(60):
        while True:
            with suppress(NotReached):
                if url := (await own.engine.inspect(place)).url:
                    return url
            await asyncio.sleep(0.2)
