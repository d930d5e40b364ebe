"""Renting from Aleph against the double of its network: what is ordered, what is paid, what is given back."""

import asyncio
import json
from functools import partial

import pytest
from pydantic import SecretStr

from bot.errors import BadSettings, MachineError, NoCapacity, NoCredit, NotReached
from bot.machines.aleph.network import Network, NetworkAway
from bot.machines.aleph.nodes import Size
from bot.machines.aleph.provider import ASKED_AT_ONCE, NotPlaced, Patience, StillThere
from bot.machines.aleph.wallet import Order, Wallet
from bot.machines.provider import Priced
from bot.store.models import Rental, RentalState
from tests.bot.machines.aleph.parts import CHANNEL, KEY, MACHINE
from tests.fakes import aleph_rules
from tests.fakes.aleph_world import ROOTFS, Status


async def test_a_machine_is_rented_found_and_given_back(aleph, ledger, provider):
    await provider.rent(MACHINE)
    address = await provider.address(MACHINE)
    assert (address.host, address.ssh_port >= 24_000) == ("127.0.0.1", True)
    assert await provider.listed() == [MACHINE]
    assert await provider.runway() == pytest.approx(2_000_000 / 14_250, rel=0.01)

    await provider.give_back(MACHINE)
    assert await provider.listed() == []
    assert aleph.world.running() == []
    assert await ledger.known() == {}
    await provider.give_back(MACHINE)
    await provider.give_back("m-ffffffffffffffff")


async def test_renting_twice_is_one_instance(aleph, provider):
    await provider.rent(MACHINE)
    await provider.rent(MACHINE)
    assert len(aleph.world.running()) == 1


async def test_it_is_pinned_to_its_node_paid_by_credit_and_named(aleph, ledger, provider):
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    rental = await ledger.current(MACHINE)
    assert entry.content["payment"]["type"] == "credit"
    assert entry.content["requirements"]["node"]["node_hash"] == rental.node
    assert entry.content["metadata"] == {"name": MACHINE, "made_by": "baal"}
    assert entry.message["channel"] == CHANNEL


async def test_without_credit_for_a_day_nothing_is_signed(aleph, ledger, provider):
    aleph.world.deposits.clear()
    aleph.world.credit(Wallet(KEY, CHANNEL).address, 341_999)
    with pytest.raises(NoCredit) as refused:
        await provider.rent(MACHINE)
    assert (refused.value.required, refused.value.available) == (342_000, 341_999)
    assert await ledger.known() == {}
    assert aleph.world.posts == []


async def test_the_networks_own_refusal_for_credit_says_how_much(aleph, ledger, provider, monkeypatch):
    monkeypatch.setattr(provider._orders, "_check_credit", lambda _: asyncio.sleep(0))
    aleph.world.deposits.clear()
    with pytest.raises(NoCredit) as refused:
        await provider.rent(MACHINE)
    assert refused.value.required == 342_000
    assert await ledger.known() == {}


@pytest.mark.parametrize("fault", ["answer_lost", "messages_fail", "sync_timeout"])
async def test_however_an_order_ends_it_is_one_instance_or_none_in_the_end(aleph, ledger, make, fault):
    setattr(aleph.world.faults, fault, True)
    provider = make(patience=Patience(process=0.3, place=1, forget=1, poll=0.01, watch=0.1))
    if fault == "sync_timeout":
        await provider.rent(MACHINE)
    else:
        with pytest.raises(NotReached):
            await provider.rent(MACHINE)
    setattr(aleph.world.faults, fault, False)
    await provider.rent(MACHINE)  # the next attempt: another order, for the first was given up
    rentals = await ledger.of(MACHINE)
    await provider.give_back(MACHINE)
    assert aleph.world.running() == []
    assert {rental.state for rental in await ledger.of(MACHINE)} == {RentalState.GONE}
    given_up = [rental.reference for rental in rentals if rental.state is RentalState.GIVEN_UP]
    for reference in given_up:
        assert aleph.world.posts[-3:].count(reference) <= 1


async def test_after_a_crash_before_sending_the_same_bytes_are_sent(aleph, ledger, make, monkeypatch):
    first = make()
    monkeypatch.setattr(first._orders, "settle", _crash)
    with pytest.raises(RuntimeError):
        await first.rent(MACHINE)
    order = (await ledger.current(MACHINE)).order
    await make().rent(MACHINE)
    (entry,) = aleph.world.running()
    assert entry.message == json.loads(order)


async def test_after_a_crash_before_sending_nothing_has_to_be_forgotten(aleph, ledger, make, monkeypatch):
    first = make()
    monkeypatch.setattr(first._orders, "settle", _crash)
    with pytest.raises(RuntimeError):
        await first.rent(MACHINE)
    await make().give_back(MACHINE)
    assert (await ledger.known(), aleph.world.posts) == ({}, [])


async def test_one_that_is_given_back_while_it_is_ordered_is_never_sent(aleph, ledger, make, monkeypatch):
    first, verdict = make(), Network.verdict

    async def slow(network, item_hash):
        if await ledger.known():
            await make().give_back(MACHINE)
        return await verdict(network, item_hash)

    monkeypatch.setattr(first._orders._network, "verdict", partial(slow, first._orders._network))
    with pytest.raises(NotReached, match="given up"):
        await first.rent(MACHINE)
    assert (await ledger.known(), aleph.world.posts) == ({}, [])


async def test_one_that_is_given_back_while_it_is_sent_is_forgotten(aleph, ledger, make, monkeypatch):
    first, second = make(), make()
    monkeypatch.setattr(first._orders, "settle", _crash)
    with pytest.raises(RuntimeError):
        await first.rent(MACHINE)
    known = await ledger.of(MACHINE)
    await second.rent(MACHINE)

    monkeypatch.setattr(second._ledger, "of", lambda _machine_id: asyncio.sleep(0, known))  # as it was before
    await second.give_back(MACHINE)

    assert ([each.sent_at for each in known], aleph.world.running(), await ledger.known()) == ([None], [], {})


async def _crash(_rental: Rental) -> None:
    raise RuntimeError


async def test_one_that_is_processed_late_is_still_found_and_forgotten(aleph, ledger, make):
    aleph.world.faults.process_after = 0.5
    provider = make(patience=Patience(process=0.1, place=1, forget=0.1, poll=0.01, watch=60))
    with pytest.raises(NotReached):
        await provider.rent(MACHINE)
    with pytest.raises(StillThere):
        await provider.give_back(MACHINE)  # it may yet come to be
    async with asyncio.timeout(30):
        while await ledger.known():
            try:
                await provider.give_back(MACHINE)
            except StillThere:
                continue
    assert aleph.world.running() == []
    assert aleph.world.instances() != []


async def test_a_node_that_does_not_start_it_is_left_alone_afterwards(aleph, ledger, provider):
    for node in aleph.world.nodes.values():
        node.faults.never_boots = True
    await provider.rent(MACHINE)
    with pytest.raises(NotPlaced):
        await provider.address(MACHINE)
    failed = (await ledger.of(MACHINE))[-1].node
    await provider.give_back(MACHINE)
    await provider.rent("m-1111111111111111")
    assert (await ledger.current("m-1111111111111111")).node != failed


async def test_port_22_of_the_node_itself_is_never_taken_for_the_machines(aleph, provider):
    for node in aleph.world.nodes.values():
        node.faults.no_port = node.faults.alien = True
    await provider.rent(MACHINE)
    with pytest.raises(NotPlaced):
        await provider.address(MACHINE)


async def test_a_machine_that_was_moved_is_found_on_its_new_node(aleph, ledger, provider):
    await provider.rent(MACHINE)
    before = await provider.address(MACHINE)
    rental = await ledger.current(MACHINE)
    other = next(node for node in aleph.world.nodes.values() if node.hash != rental.node)
    aleph.world.move(rental.reference, other)
    assert await provider.address(MACHINE) != before


async def test_nodes_that_are_down_old_full_or_want_terms_are_not_asked(aleph, ledger, provider):
    down, old, good = aleph.world.nodes.values()
    down.faults.down, old.version = True, "1.10.2"
    await provider.rent(MACHINE)
    assert (await ledger.current(MACHINE)).node == good.hash
    good.terms = "a" * 64
    with pytest.raises(NoCapacity, match="none of 3 nodes takes"):
        await provider.rent("m-1111111111111111")


async def test_a_machine_that_the_network_took_away_is_given_back_as_gone(aleph, ledger, provider):
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    aleph.world.remove(entry.hash)
    await provider.give_back(MACHINE)
    assert entry.status is Status.REMOVED
    assert await ledger.known() == {}


async def test_a_machine_that_the_network_took_away_is_rented_anew_and_the_old_order_watched(aleph, ledger, provider):
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    aleph.world.remove(entry.hash)
    await provider.rent(MACHINE)
    assert len(aleph.world.running()) == 1
    assert await provider.strangers() == [entry.hash]
    await provider.forget_stranger(entry.hash)
    assert (await provider.strangers(), list(await ledger.known())) == ([], [aleph.world.running()[0].hash])


async def test_an_instance_that_was_given_up_ends_although_its_machine_lives_on(aleph, ledger, provider):
    for node in aleph.world.nodes.values():
        node.faults.never_boots = True
    await provider.rent(MACHINE)
    with pytest.raises(NotPlaced):
        await provider.address(MACHINE)
    for node in aleph.world.nodes.values():
        node.faults.never_boots = False
    await provider.rent(MACHINE)
    assert len(aleph.world.running()) == 2
    (given_up,) = await provider.strangers()
    await provider.forget_stranger(given_up)
    (entry,) = aleph.world.running()
    assert entry.hash == (await ledger.current(MACHINE)).reference


async def test_an_instance_in_our_channel_that_no_row_knows_is_a_stranger_and_is_forgotten(aleph, provider):
    await provider.rent(MACHINE)
    wallet, node = Wallet(KEY, CHANNEL), next(iter(aleph.world.nodes))
    order = Order("m-1111111111111111", node, ROOTFS["debian12"], Size(), "ssh-ed25519 AAAA")
    message = await wallet.instance(order)
    await provider._network.broadcast(message)
    assert await provider.strangers() == [message["item_hash"]]
    await provider.forget_stranger(message["item_hash"])
    await provider.forget_stranger(message["item_hash"])
    assert await provider.strangers() == []
    assert len(aleph.world.running()) == 1


async def test_a_stranger_is_not_forgotten_before_the_network_says_so(aleph, ledger, provider):
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    await ledger.gone(entry.hash)
    aleph.world.faults.messages_fail = True
    with pytest.raises(MachineError):
        await provider.forget_stranger(entry.hash)
    assert await provider.strangers() == [entry.hash]


async def test_while_the_network_is_away_a_machine_stays_in_the_books(aleph, ledger, provider):
    await provider.rent(MACHINE)
    aleph.world.faults.messages_fail = True
    with pytest.raises(StillThere):
        await provider.give_back(MACHINE)
    assert len(await ledger.known()) == 1
    aleph.world.faults.messages_fail = False
    await provider.give_back(MACHINE)
    assert aleph.world.running() == []


async def test_an_instance_that_no_row_knows_is_a_stranger_and_can_be_ended(aleph, ledger, provider):
    await provider.rent(MACHINE)
    stranger = await _made_elsewhere(aleph, "m-2222222222222222")
    assert await provider.strangers() == [stranger]

    await provider.forget_stranger(stranger)
    await provider.forget_stranger(stranger)
    assert await provider.strangers() == []
    assert [entry.hash for entry in aleph.world.running()] == [(await ledger.current(MACHINE)).reference]


async def test_what_others_make_with_the_same_wallet_is_no_stranger(aleph, provider):
    await _made_elsewhere(aleph, "m-2222222222222222", channel="OTHER")
    (entry,) = aleph.world.running()
    entry.message["channel"] = CHANNEL
    del entry.content["metadata"]["made_by"]
    assert await provider.strangers() == []


async def test_a_stranger_is_reported_until_the_network_has_confirmed_its_end(aleph, provider):
    stranger = await _made_elsewhere(aleph, "m-2222222222222222")
    aleph.world.faults.messages_fail = True
    with pytest.raises(StillThere):
        await provider.forget_stranger(stranger)
    assert await provider.strangers() == [stranger]


async def _made_elsewhere(aleph, name, channel=CHANNEL):
    node = next(iter(aleph.world.nodes.values()))
    message = await Wallet(KEY, channel).instance(
        Order(name, node.hash, ROOTFS["debian12"], Size(), "ssh-ed25519 AAAA")
    )
    aleph_rules.take(aleph.world, message)
    return message["item_hash"]


@pytest.mark.parametrize("key", ["", "0x12", "not hex", "00" * 32])
def test_a_bad_private_key_is_refused_without_being_repeated(key):
    with pytest.raises(BadSettings) as refused:
        Wallet(SecretStr(key), CHANNEL)
    assert "ALEPH_PRIVATE_KEY" in str(refused.value)
    assert not key or key not in str(refused.value)


async def test_the_price_of_a_machine_is_what_the_network_takes_for_the_newest(provider, aleph):
    assert await provider.credits_per_hour() == pytest.approx(14_250)
    await provider.rent(MACHINE)

    burn = await provider.burn()

    assert await provider.credits_per_hour() == pytest.approx(burn.per_second * 3_600)
    assert isinstance(provider, Priced)


async def test_the_prices_of_many_machines_are_asked_a_few_at_a_time(provider, monkeypatch):
    instances, asked, peak = [str(number) for number in range(20)], 0, 0

    async def own_instances(_address):
        return dict.fromkeys(instances)

    async def cost(item_hash):
        nonlocal asked, peak
        asked += 1
        peak = max(peak, asked)
        await asyncio.sleep(0)
        asked -= 1
        if item_hash == "nobody":
            raise NetworkAway("the network does not answer")
        return 0.5

    monkeypatch.setattr(provider._network, "own_instances", own_instances)
    monkeypatch.setattr(provider._network, "cost", cost)

    assert ((await provider.burn()).per_second, peak) == (10.0, ASKED_AT_ONCE)
    instances[3] = "nobody"
    with pytest.raises(NetworkAway):
        await provider.burn()
    assert asked == 0
