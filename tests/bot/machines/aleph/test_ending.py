"""How an instance ends: wiped, erased, forgotten, confirmed; and however often it begins again."""

import asyncio
import time

import pytest

from bot.errors import NotReached
from bot.machines.aleph.provider import Patience, StillThere
from bot.store.models import RentalState
from tests.bot.machines.aleph.parts import HOST_KEY, MACHINE, until
from tests.fakes.aleph_world import Status


async def _ran(provider):
    await provider.rent(MACHINE)
    place = await provider.reach(MACHINE)
    await place.remote.pin(HOST_KEY)
    return place


def _listen(monkeypatch, provider, steps):
    """Write down each step when it begins."""
    wallet = provider._wallet
    for name in ("erase", "ports", "forget"):
        _wrap(monkeypatch, wallet, name, steps)


def _wrap(monkeypatch, wallet, name, steps):
    work = getattr(wallet, name)

    async def listened(*arguments):
        steps.append(name)
        return await work(*arguments)

    monkeypatch.setattr(wallet, name, listened)


async def test_it_is_wiped_then_erased_then_closed_then_forgotten(aleph, ledger, make, monkeypatch):
    steps = []

    async def wipe(place):
        assert (await place.remote.target()).host_key == HOST_KEY
        steps.append("wipe")

    provider = make(wipe=wipe)
    await _ran(provider)
    (entry,) = aleph.world.running()
    _listen(monkeypatch, provider, steps)
    await provider.give_back(MACHINE)
    assert steps == ["wipe", "erase", "ports", "forget"]
    assert aleph.world.aggregates[entry.sender]["port-forwarding"] == {entry.hash: None}
    assert entry.status is Status.FORGOTTEN
    assert (await ledger.get(entry.hash)).state is RentalState.GONE


@pytest.mark.parametrize("step", ["wipe", "erase", "ports", "forget", "gone"])
async def test_killed_at_any_step_it_goes_on_and_ends(aleph, ledger, make, monkeypatch, step):
    first = make()
    await _ran(first)
    (entry,) = aleph.world.running()

    async def killed(*_):
        raise asyncio.CancelledError

    owner = {"wipe": first._endings, "gone": ledger}.get(step, first._wallet)
    with monkeypatch.context() as patched:
        patched.setattr(owner, {"wipe": "_wipe"}.get(step, step), killed)
        with pytest.raises(asyncio.CancelledError):
            await first.give_back(MACHINE)
    assert set(await ledger.known()) == {entry.hash}

    await make().give_back(MACHINE)
    assert (aleph.world.running(), await ledger.known()) == ([], {})


@pytest.mark.parametrize("error", [NotReached("gone"), RuntimeError("odd"), OSError("broken")])
async def test_a_wipe_that_fails_keeps_no_instance_alive(aleph, make, error):
    async def wipe(_place):
        raise error

    provider = make(wipe=wipe)
    await _ran(provider)
    await provider.give_back(MACHINE)
    assert aleph.world.running() == []


async def test_a_wipe_that_takes_for_ever_keeps_no_instance_alive(aleph, make, monkeypatch):
    monkeypatch.setattr("bot.machines.aleph.endings.WIPE_SECONDS", 0.05)
    provider = make(wipe=lambda _: asyncio.Event().wait())
    await _ran(provider)
    await provider.give_back(MACHINE)
    assert aleph.world.running() == []


async def test_one_that_nobody_was_on_is_not_wiped(provider, wiped):
    await provider.rent(MACHINE)
    await provider.reach(MACHINE)
    await provider.give_back(MACHINE)
    assert wiped == []


async def test_the_node_of_one_that_nobody_ever_reached_is_left_alone_for_a_while(ledger, provider):
    await provider.rent(MACHINE)
    rental = await ledger.current(MACHINE)
    await provider.give_back(MACHINE)
    assert await ledger.avoided() == {rental.node}


async def test_the_node_of_one_that_ran_is_not_blamed(ledger, provider):
    await _ran(provider)
    await provider.give_back(MACHINE)
    assert await ledger.avoided() == set()


@pytest.mark.parametrize("answer", ["500", "403", "hang", "down"])
async def test_what_a_node_says_to_erasing_does_not_matter(aleph, ledger, provider, monkeypatch, answer):
    monkeypatch.setattr("bot.machines.aleph.wallet.NODE_SECONDS", 0.1)
    await _ran(provider)
    for node in aleph.world.nodes.values():
        node.faults.down = answer == "down"
        node.faults.erase = answer
    await provider.give_back(MACHINE)
    assert (aleph.world.running(), await ledger.known()) == ([], {})


async def test_without_the_list_of_ports_it_is_forgotten_all_the_same(aleph, ledger, provider):
    await _ran(provider)
    aleph.world.faults.aggregates_fail = True
    await provider.give_back(MACHINE)
    assert (aleph.world.running(), await ledger.known()) == ([], {})


async def test_an_order_that_nobody_knows_is_watched_not_forgotten(aleph, ledger, make):
    aleph.world.faults.messages_fail = True
    provider = make(Patience(process=0.1, place=1, forget=60, poll=0.01, watch=60))
    with pytest.raises(NotReached):
        await provider.rent(MACHINE)
    aleph.world.faults.messages_fail = False
    sent = len(aleph.world.posts)
    async with asyncio.timeout(5):  # far less than it would wait for one that is there
        with pytest.raises(StillThere, match="does not know"):
            await provider.give_back(MACHINE)
    assert len(aleph.world.posts) == sent  # neither ordered again nor forgotten
    (rental,) = (await ledger.known()).values()
    assert rental.state is RentalState.GIVEN_UP


async def test_an_order_that_nobody_knows_keeps_none_of_the_others(aleph, ledger, make):
    aleph.world.faults.messages_fail = True
    provider = make(Patience(process=0.1, place=1, forget=1, poll=0.01, watch=60))
    with pytest.raises(NotReached):
        await provider.rent(MACHINE)
    aleph.world.faults.messages_fail = False
    ledger._clock = lambda: time.time() + 3600
    await provider.rent(MACHINE)
    with pytest.raises(StillThere):
        await provider.give_back(MACHINE)
    assert len(aleph.world.instances()) == 1
    assert aleph.world.running() == []


async def test_one_given_up_meanwhile_does_not_become_a_machine(aleph, ledger, provider):
    aleph.world.faults.process_after = 0.2
    rental = await provider._orders.new(MACHINE)
    settling = asyncio.create_task(provider._orders.settle(rental))
    await until(lambda: aleph.world.posts)
    await ledger.give_up(rental.reference, "")
    await settling
    with pytest.raises(NotReached):
        await provider.reach(MACHINE)


async def test_an_order_that_never_came_to_be_leaves_the_books_in_the_end(aleph, ledger, make):
    aleph.world.faults.messages_fail = True
    provider = make(Patience(process=0.1, place=1, forget=1, poll=0.01, watch=0))
    with pytest.raises(NotReached):
        await provider.rent(MACHINE)
    await provider.give_back(MACHINE)
    assert await ledger.known() == {}


async def test_it_is_watched_from_the_last_time_that_it_was_sent(aleph, ledger, make):
    aleph.world.faults.messages_fail = True
    provider = make(Patience(process=0.1, place=1, forget=1, poll=0.01, watch=60))
    rental = await provider._orders.new(MACHINE)
    ledger._clock = lambda: time.time() - 3600
    await ledger.sending(rental.reference)  # and killed; an hour later it is sent again, and given up
    ledger._clock = time.time
    with pytest.raises(NotReached):
        await provider.rent(MACHINE)
    with pytest.raises(StillThere):
        await provider.give_back(MACHINE)
    assert (await ledger.get(rental.reference)).sent_at < time.time() - 3000


async def test_one_wish_to_end_it_is_signed_once(aleph, make, monkeypatch):
    provider = make(Patience(process=1, place=1, forget=0.3, poll=0.01, watch=60))
    await _ran(provider)
    steps: list[str] = []
    _listen(monkeypatch, provider, steps)
    aleph.world.faults.messages_fail = True
    with pytest.raises(StillThere):
        await provider.give_back(MACHINE)
    assert steps.count("forget") == 1
