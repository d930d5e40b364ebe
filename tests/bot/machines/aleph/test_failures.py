"""What has gone wrong on Aleph, for others or by its own word (the project's notes on it, §8), one test for each.

From the original's history
    crns key                                      test_the_nodes_are_read_from_the_key_crns
    invalid rootfs hash                           test_an_unknown_root_file_system_is_told_before_anything_is_ordered
    message not propagated at notify, re-notify,  test_no_node_is_ever_told_to_start_an_instance
      notify to several nodes, wrong node, 503, hanging
    timeouts too short                            test_waits_are_as_long_as_the_network_was_seen_to_take
    dead nodes, retries, only one instance        test_nodes_that_fail_one_after_the_other_leave_one_instance
    hard-coded port 22, port 22 not mapped yet    test_provider.test_port_22_of_the_node_itself_is_never_taken...,
                                                  test_an_instance_mapped_to_the_nodes_own_port_22_is_not_reached
    ACME too early                                test_reaching.test_a_name_that_does_not_work_yet_comes_last
    ghost rows, orphan rows                       test_provider.test_an_instance_that_no_row_knows_is_a_stranger...
    hash not stored on failure (D12, D13)         test_provider.test_after_a_crash_before_sending_the_same_bytes...
    row deleted though the end failed (D14)       test_provider.test_while_the_network_is_away_a_machine_stays...
    not pinned (D18)                              test_provider.test_it_is_pinned_to_its_node_paid_by_credit_and_named
    secrets left to the next (D20), only forgets  test_ending.test_it_is_wiped_then_erased_then_closed_then_forgotten
    host key not checked (D8)                     test_reaching.test_the_host_key_of_the_first_contact_is_asked...
    wrong fallback of the scheduler's URL         test_reaching.test_without_the_scheduler_it_is_looked_for_where...

SDK and node
    no credits (6)                                test_provider.test_the_networks_own_refusal_for_credit_says_how_much
    payment omitted (202), any other code         test_any_refusal_of_the_network_is_told_with_its_code
    unknown rootfs (301)                          test_the_networks_own_refusal_of_the_root_file_system_says_what_to_set
    metadata non-scalar or too long               test_nothing_of_an_agent_is_told_to_the_network
    forget of an unknown hash                     test_ending.test_an_order_that_nobody_knows_is_watched_not_forgotten
    get of a forgotten hash                       test_provider.test_a_machine_is_rented_found_and_given_back (twice)
    sync timeout (PENDING), answer lost           test_provider.test_however_an_order_ends_it_is_one_instance_or_none...
    other machine with `networking: {}`           test_provider.test_port_22_of_the_node_itself_is_never_taken...
    erase refused, failing, hanging, dead host    test_ending.test_what_a_node_says_to_erasing_does_not_matter
    ports left after deletion                     test_ending.test_it_is_wiped_then_erased_then_closed_then_forgotten
    expired key, wrong domain                     test_each_command_to_a_node_is_signed_with_a_new_key_for_that_node

Operator pain
    node slow or full though listed               test_a_node_that_does_not_answer_or_is_full_is_passed_over
    never dispatched (#1004)                      test_provider.test_a_node_that_does_not_start_it_is_left_alone...
    a second allocation stops it (#1081)          test_no_node_is_ever_told_to_start_an_instance
    ports lost after a restart (#1085, #917)      test_reaching.test_a_port_that_changes_is_found_at_the_next_contact
    network dead after the host's reboot (#823)   test_one_that_ran_is_kept_while_its_node_is_away
    ports refreshed only when asked (#920)        test_reaching.test_its_https_port_is_forwarded
    names that lead elsewhere (#826)              test_reaching.test_the_gateways_own_word_for_a_name_counts
    orphan controllers (#931, #933)               test_ending.test_it_is_wiped_then_erased_then_closed_then_forgotten
    IPv6 broken (#441)                            test_a_node_without_ipv6_is_not_asked
    one says removed, another processed           test_one_word_of_removal_is_not_believed
    24-hour rule                                  test_the_day_is_reckoned_for_all_that_the_wallet_runs
    other ports wiped (client #435)               test_reaching.test_ports_of_others_stay_as_they_are

Not of this provider: the bundle's deadlocks, tokens, texts, pools, prompts in .env, apt and Docker on the machine.
"""

import json
import logging
import time

import httpx
import pytest
from aleph.sdk.client.vm_client import VmClient

from bot.errors import NoCapacity, NoCredit, NotReached
from bot.machines.aleph import orders, wallet
from bot.machines.aleph.network import Addresses, Network, NetworkAway
from bot.machines.aleph.provider import Lost, Patience, StillThere
from bot.machines.aleph.wallet import Order, Wallet
from bot.store.models import RentalState
from tests.bot.machines.aleph.parts import CHANNEL, HOST_KEY, KEY, MACHINE, OTHER
from tests.fakes import aleph_rules
from tests.fakes.aleph_world import ROOTFS, NodeFaults


async def test_the_nodes_are_read_from_the_key_crns(network):
    assert len(await network.nodes()) == 3


async def test_an_unknown_root_file_system_is_told_before_anything_is_ordered(aleph, ledger, make):
    with pytest.raises(NoCapacity, match=f"{'c' * 64}.*set ALEPH_ROOTFS"):
        await make(rootfs="c" * 64).rent(MACHINE)
    assert (aleph.world.posts, await ledger.known()) == ([], {})


async def test_the_networks_own_refusal_of_the_root_file_system_says_what_to_set(aleph, provider):
    aleph.world.faults.reject = 301
    with pytest.raises(NoCapacity, match="set ALEPH_ROOTFS"):
        await provider.rent(MACHINE)


async def test_any_refusal_of_the_network_is_told_with_its_code(aleph, ledger, provider):
    aleph.world.faults.reject = 202
    with pytest.raises(NoCapacity, match="code 202"):
        await provider.rent(MACHINE)
    aleph.world.faults.reject = 0
    await provider.give_back(MACHINE)
    assert await ledger.known() == {}
    await provider.rent(MACHINE)
    assert len(set(aleph.world.posts)) == 2  # what was refused is never sent again: it might be taken now


async def test_nothing_of_an_agent_is_told_to_the_network(aleph, provider):
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    assert entry.content["metadata"] == {"name": MACHINE, "made_by": "baal"}
    assert entry.content.get("variables") is None


async def test_no_node_is_ever_told_to_start_an_instance(aleph, provider):
    aleph.world.faults.place_after = 0.2
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    await provider.reach(MACHINE)
    assert [node.notified for node in aleph.world.nodes.values()] == [[], [], []]


def test_waits_are_as_long_as_the_network_was_seen_to_take():
    usual = Patience()
    assert usual.process >= 300
    assert usual.place >= 360


async def test_nodes_that_fail_one_after_the_other_leave_one_instance(aleph, ledger, make):
    provider = make(Patience(process=1, place=0.3, forget=1, poll=0.01, watch=0.5))
    first, second, third = aleph.world.nodes.values()
    first.faults.never_boots = second.faults.down = True
    third.faults.never_boots = True
    await _tried(provider, "m-0000000000000001")  # a machine a try, as the fleet does
    await _tried(provider, "m-0000000000000002")
    with pytest.raises(NoCapacity):  # the second node never took one
        await provider.rent("m-0000000000000003")
    first.faults.never_boots = third.faults.never_boots = False
    ledger._clock = _in_an_hour
    ledger._refused.clear()
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    assert len(aleph.world.running()) == 1
    assert set(await ledger.known()) == {aleph.world.running()[0].hash}


async def _tried(provider, machine_id):
    await provider.rent(machine_id)
    with pytest.raises(NotReached):
        await provider.reach(machine_id)
    await provider.give_back(machine_id)


def _in_an_hour():
    return time.time() + 3600


async def test_an_instance_mapped_to_the_nodes_own_port_22_is_not_reached(aleph, provider):
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    (entry,) = aleph.world.running()
    for vm in _vms(aleph, entry.hash):
        vm.ports = {22: 22}
    place = await _place(provider)
    with pytest.raises(NotReached):
        await place.remote.target()


async def _place(provider):
    return provider._places.place(await provider._rented(MACHINE))


def _vms(aleph, item_hash):
    return [node.vms[item_hash] for node in aleph.world.nodes.values() if item_hash in node.vms]


@pytest.mark.parametrize(
    "fault",
    [{"slow": True}, {"down": True}, {"reserve": "503"}, {"reserve": "hang"}],
)
async def test_a_node_that_does_not_answer_or_is_full_is_passed_over(aleph, ledger, make, monkeypatch, fault):
    monkeypatch.setattr(orders, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(wallet, "NODE_SECONDS", 0.2)
    *bad, good = aleph.world.nodes.values()
    for node in bad:
        node.faults = NodeFaults(**fault)
    await make().rent(MACHINE)
    assert (await ledger.current(MACHINE)).node == good.hash
    good.terms = "a" * 64
    with pytest.raises(NoCapacity):
        await make().rent(OTHER)
    assert await ledger.avoided() == {node.hash for node in bad}


async def test_an_older_node_that_cannot_reserve_is_taken_all_the_same(aleph, provider):
    for node in aleph.world.nodes.values():
        node.faults.reserve = "404"
    await provider.rent(MACHINE)


async def test_room_is_reserved_on_the_node_that_is_ordered(aleph, ledger, provider):
    await provider.rent(MACHINE)
    chosen = (await ledger.current(MACHINE)).node
    assert {node.hash: node.reserved for node in aleph.world.nodes.values() if node.reserved} == {chosen: 1}


async def test_no_node_gets_more_than_its_share(aleph, make):
    provider = make(per_node=1)
    for number in range(3):
        await provider.rent(f"m-{number:016}")
    assert sorted(len(node.vms) for node in aleph.world.nodes.values()) == [1, 1, 1]
    with pytest.raises(NoCapacity):
        await provider.rent(MACHINE)


async def test_a_node_without_ipv6_is_not_asked(aleph, ledger, provider):
    *without, good = aleph.world.nodes.values()
    for node in without:
        node.ipv6 = False
    await provider.rent(MACHINE)
    assert (await ledger.current(MACHINE)).node == good.hash


async def test_odd_entries_in_the_list_of_nodes_spoil_nothing(provider, network, monkeypatch):
    listed = await network.nodes()
    odd = [{"hash": 1, "version": 13, "system_usage": []}, {"ipv6_check": "yes"}, {}]
    odd.append(listed[0] | {"version": 14})
    odd.append(listed[0] | {"score": "high", "system_usage": listed[0]["system_usage"] | {"mem": None}})

    async def nodes():
        return [*odd, *listed]

    monkeypatch.setattr(network, "nodes", nodes)
    await provider.rent(MACHINE)


async def test_nonsense_from_a_node_is_no_address(aleph, provider):
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    for node in aleph.world.nodes.values():
        node.faults.nonsense = True
    with pytest.raises(NotReached):
        await (await _place(provider)).remote.target()


async def test_the_day_is_reckoned_for_all_that_the_wallet_runs(aleph, provider):
    other = Order("theirs", next(iter(aleph.world.nodes)), ROOTFS["debian12"], provider._orders._ordered.size, "key")
    aleph_rules.take(aleph.world, await Wallet(KEY, "ANOTHER-CHANNEL").instance(other))
    aleph.world.deposits = {Wallet(KEY, CHANNEL).address: 700_000}
    await provider.rent(MACHINE)
    with pytest.raises(NoCredit) as refused:
        await provider.rent(OTHER)
    assert refused.value.required == 3 * 342_000
    assert len(aleph.world.running()) == 2


@pytest.mark.parametrize(("estimate", "required"), [("7.916666666666666", 684_000), ("fails", 342_000)])
async def test_the_price_is_the_networks_or_the_last_one_known(aleph, provider, estimate, required):
    aleph.world.faults.estimate = estimate
    aleph.world.deposits.clear()
    with pytest.raises(NoCredit) as refused:
        await provider.rent(MACHINE)
    assert (refused.value.required, refused.value.available) == (required, 0)


async def test_nobody_who_is_asked_for_a_price_could_order(aleph, provider, network, monkeypatch):
    asked = []
    ask = network._ask

    async def listen(method, url, **more):
        asked.append(json.dumps(more.get("json") or {}))
        return await ask(method, url, **more)

    monkeypatch.setattr(network, "_ask", listen)
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    assert sum("item_content" in each for each in asked) == 1
    assert not any(entry.message["signature"] in each for each in asked)


async def test_each_command_to_a_node_is_signed_with_a_new_key_for_that_node(aleph, provider, monkeypatch):
    made = []
    make = VmClient

    def listening(account, url):
        client = make(account, url)
        made.append((url, client.pubkey_payload["pubkey"]["x"]))
        return client

    monkeypatch.setattr(wallet, "VmClient", listening)
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    await provider.give_back(MACHINE)
    assert len(made) == 2
    assert len({key for _, key in made}) == 2


async def test_the_wallets_key_is_in_no_log_whatever_fails(aleph, provider, caplog):
    caplog.set_level(logging.DEBUG)
    for node in aleph.world.nodes.values():
        node.faults.erase = "500"
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    aleph.world.faults.messages_fail = True
    with pytest.raises(StillThere) as refused:
        await provider.give_back(MACHINE)
    key = KEY.get_secret_value().removeprefix("0x")
    assert "broadcast: HTTP 500" in str(refused.value)
    assert key not in caplog.text
    assert "\\x01\\x01" not in caplog.text
    assert key not in repr(refused.value) + repr(vars(provider))


async def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr("bot.machines.aleph.network.MAX_BYTES", 1000)

    async def endless():
        while True:
            yield b" " * 100

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(NetworkAway):
            await Network(Addresses("http://a", "http://a", "http://a", "http://a"), http).nodes()


# --- an instance that ran


async def _ran(aleph, ledger, provider):
    await provider.rent(MACHINE)
    place = await provider.reach(MACHINE)
    await place.remote.pin(HOST_KEY)
    return aleph.world.running()[0]


async def test_one_that_ran_is_kept_while_its_node_is_away(aleph, ledger, make):
    provider = make(Patience(process=1, place=0.2, forget=1, poll=0.01, watch=0.5))
    entry = await _ran(aleph, ledger, provider)
    for node in aleph.world.nodes.values():
        node.faults.down = True
    with pytest.raises(NotReached, match="ran on"):
        await provider.reach(MACHINE)
    assert (await ledger.get(entry.hash)).state is RentalState.PAID
    for node in aleph.world.nodes.values():
        node.faults.down = False
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    assert [each.hash for each in aleph.world.running()] == [entry.hash]


@pytest.mark.parametrize("times", [1, 2])
async def test_one_word_of_removal_is_not_believed(aleph, ledger, provider, times):
    entry = await _ran(aleph, ledger, provider)
    aleph.world.faults.says_removed = times
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    assert (await ledger.current(MACHINE)).reference == entry.hash


async def test_one_word_of_removal_is_not_believed_either_while_its_node_is_away(aleph, ledger, provider):
    entry = await _ran(aleph, ledger, provider)
    for node in aleph.world.nodes.values():
        node.faults.down = True
    aleph.world.faults.says_removed = 1
    await provider.rent(MACHINE)
    assert (await ledger.current(MACHINE)).reference == entry.hash


async def test_one_that_the_network_took_away_is_lost_and_ordered_anew(aleph, ledger, provider):
    first = await _ran(aleph, ledger, provider)
    aleph.world.remove(first.hash)
    with pytest.raises(Lost):
        await provider.reach(MACHINE)
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    second = await ledger.current(MACHINE)
    assert (second.reference != first.hash, second.host_key) == (True, None)
    assert await provider.strangers() == [first.hash]
    await provider.forget_stranger(first.hash)
    assert (await provider.strangers(), set(await ledger.known())) == ([], {second.reference})


async def test_renting_again_notices_by_itself_that_it_was_taken_away(aleph, ledger, provider):
    first = await _ran(aleph, ledger, provider)
    aleph.world.remove(first.hash)
    await provider.rent(MACHINE)
    assert (await ledger.current(MACHINE)).reference != first.hash


async def test_a_removal_that_one_node_alone_believes_is_forgotten_everywhere(aleph, ledger, provider):
    entry = await _ran(aleph, ledger, provider)
    aleph.world.faults.says_removed = 2
    await provider.give_back(MACHINE)
    assert entry.forgotten_by
    assert aleph.world.running() == []


async def test_one_whose_credit_runs_out_is_forgotten_too(aleph, ledger, provider):
    entry = await _ran(aleph, ledger, provider)
    aleph.world.removing(entry.hash)
    assert await provider.listed() == [MACHINE]
    await provider.give_back(MACHINE)
    assert aleph.world.running() == []


async def test_a_rejected_end_is_told_with_its_code(aleph, ledger, provider, monkeypatch):
    entry = await _ran(aleph, ledger, provider)
    stranger = Wallet(type(KEY)("0x" + "02" * 32), CHANNEL)
    monkeypatch.setattr(provider._wallet, "_account", stranger._account)
    with pytest.raises(StillThere, match="code 2"):
        await provider.give_back(MACHINE)
    assert set(await ledger.known()) == {entry.hash}
