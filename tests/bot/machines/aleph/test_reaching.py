"""Where an instance is reached: its address, its host key, its names, its ports."""

import asyncio

import pytest

from bot.errors import NotReached
from bot.machines.aleph.names import gateway_name
from bot.machines.aleph.wallet import Wallet
from tests.bot.machines.aleph.parts import CHANNEL, HOST_KEY, KEY, MACHINE
from tests.fakes import aleph_rules
from tests.fakes.aleph_world import ZONE

IPV6 = "https://[2001:db8::1]:443"


async def _reached(provider):
    await provider.rent(MACHINE)
    return await provider.reach(MACHINE)


def _vm(aleph):
    (found,) = [vm for node in aleph.world.nodes.values() for vm in node.vms.values()]
    return found


async def test_a_machine_that_is_not_rented_is_not_reached(provider):
    with pytest.raises(NotReached):
        await provider.reach(MACHINE)


async def test_the_target_is_the_nodes_mapped_port(aleph, provider):
    target = await (await _reached(provider)).remote.target()
    assert (target.host, target.port, target.host_key) == ("127.0.0.1", _vm(aleph).ports[22], None)


async def test_the_host_key_of_the_first_contact_is_asked_for_after(provider):
    place = await _reached(provider)
    await place.remote.pin(HOST_KEY)
    assert (await place.remote.target()).host_key == HOST_KEY
    again = await provider.reach(MACHINE)
    assert (await again.remote.target()).host_key == HOST_KEY


async def test_a_port_that_changes_is_found_at_the_next_contact(aleph, provider):
    place = await _reached(provider)
    before = (await place.remote.target()).port
    _vm(aleph).node.faults.no_port = True
    with pytest.raises(NotReached):
        await place.remote.target()
    _vm(aleph).node.faults.no_port = False
    aleph.world.remap(_vm(aleph).item_hash)
    assert (await place.remote.target()).port == before - 1


async def test_one_that_was_moved_has_another_host_key(aleph, ledger, provider):
    place = await _reached(provider)
    await place.remote.pin(HOST_KEY)
    rental = await ledger.current(MACHINE)
    other = next(node for node in aleph.world.nodes.values() if node.hash != rental.node)
    aleph.world.move(rental.reference, other)
    moved = await provider.reach(MACHINE)
    assert (await moved.remote.target()).host_key is None
    assert (await ledger.current(MACHINE)).node == other.hash


async def test_without_the_scheduler_it_is_looked_for_where_it_was_ordered(aleph, provider):
    aleph.world.faults.scheduler_fails = True
    await (await _reached(provider)).remote.target()


# --- names


async def test_the_best_way_is_its_name_then_its_ipv6_then_a_port_of_the_node(aleph, provider):
    urls = await (await _reached(provider)).remote.urls()
    name = gateway_name(_vm(aleph).item_hash, ZONE)
    assert urls == [f"https://{name}", IPV6, f"https://127.0.0.1:{_vm(aleph).ports[443]}"]


async def test_a_name_that_does_not_work_yet_comes_last(aleph, provider):
    aleph.world.faults.gateway_after = 60
    place = await _reached(provider)
    *direct, name = await place.remote.urls()
    assert direct[0] == IPV6
    assert name == f"https://{gateway_name(_vm(aleph).item_hash, ZONE)}"
    aleph.world.faults.gateway_after = 0
    assert (await place.remote.urls())[0] == f"https://{gateway_name(_vm(aleph).item_hash, ZONE)}"


async def test_without_the_gateways_word_the_name_is_reckoned(aleph, provider):
    aleph.world.faults.gateway_fails = True
    assert (await (await _reached(provider)).remote.urls())[0] == f"https://{gateway_name(_vm(aleph).item_hash, ZONE)}"


async def test_the_gateways_own_word_for_a_name_counts(aleph, provider):
    aleph.world.faults.gateway_says = "four-other-words-here"
    assert (await (await _reached(provider)).remote.urls())[0] == f"https://four-other-words-here.{ZONE}"


async def test_while_its_node_is_away_its_name_is_left(aleph, provider):
    place = await _reached(provider)
    for node in aleph.world.nodes.values():
        node.faults.down = True
    assert await place.remote.urls() == [f"https://{gateway_name(_vm(aleph).item_hash, ZONE)}"]


# --- ports


async def test_its_https_port_is_forwarded(aleph, provider):
    await _reached(provider)
    (entry,) = aleph.world.running()
    kept = aleph.world.aggregates[entry.sender]["port-forwarding"]
    assert kept == {entry.hash: {"ports": {"443": {"tcp": True, "udp": False}}}}
    assert set(aleph.world.mapped_ports(_vm(aleph))) == {22, 443}


async def test_it_is_asked_for_once(aleph, provider):
    await _reached(provider)
    asked = len(aleph.world.posts)
    await provider.reach(MACHINE)
    _vm(aleph).node.faults.only_ssh = True  # the node has lost it; the list of ports still has it
    await provider.reach(MACHINE)
    assert len(aleph.world.posts) == asked
    assert set(aleph.world.mapped_ports(_vm(aleph))) == {22, 443}


async def test_ports_of_others_stay_as_they_are(aleph, provider):
    theirs = await Wallet(KEY, CHANNEL).ports("d" * 64, 80)
    aleph_rules.take(aleph.world, theirs)
    await _reached(provider)
    await provider.give_back(MACHINE)
    (kept,) = [each["port-forwarding"] for each in aleph.world.aggregates.values()]
    assert kept["d" * 64] == {"ports": {"80": {"tcp": True, "udp": False}}}


async def test_without_the_list_of_ports_it_is_reached_by_its_name(aleph, provider):
    await provider.rent(MACHINE)
    await provider.address(MACHINE)  # it has booted, and the node has read the list
    aleph.world.faults.aggregates_fail = True
    place = await provider.reach(MACHINE)
    assert await place.remote.urls() == [f"https://{gateway_name(_vm(aleph).item_hash, ZONE)}", IPV6]


async def test_a_forward_that_takes_for_ever_holds_nothing_up(aleph, provider, monkeypatch, network):
    monkeypatch.setattr("bot.machines.aleph.places.PORT_SECONDS", 0.05)
    monkeypatch.setattr(network, "update", lambda *_: asyncio.Event().wait())
    assert (await _reached(provider)).machine_id == MACHINE
