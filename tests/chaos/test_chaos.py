"""Hundreds of machines rented and given back in a network that fails, by bots that are killed at every boundary.

`CHAOS_SEED=n` throws other dice (the processes' timing differs anyway), `CHAOS_AGENTS=n` makes it longer.
"""

import asyncio
import os
from decimal import Decimal

import pytest

from bot.store.models import RentalState
from tests.chaos.killer import BOUNDARIES
from tests.chaos.world import CREDITS, Chaos
from tests.fakes.aleph_world import price

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

AGENTS = int(os.environ.get("CHAOS_AGENTS", "200"))
PER_LIFE = 4
SEED = int(os.environ.get("CHAOS_SEED", "11"))


@pytest.fixture
async def chaos(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    async with Chaos(tmp_path, SEED) as made:
        yield made


async def test_no_machine_leaks_and_no_agent_is_forgotten(chaos, capsys):
    with capsys.disabled():
        print(f"\nCHAOS_SEED={SEED}")  # noqa: T201  to repeat it
    unlucky = asyncio.create_task(chaos.misfortunes.go_on())
    await live_and_die(chaos)
    unlucky.cancel()
    await asyncio.wait({unlucky})

    last = await chaos.bear()
    await chaos.until("not as wanted", chaos.unexplained)
    await chaos.until("paid for in vain", chaos.unused)
    await chaos.delete(chaos.made)
    await chaos.until("in the books", chaos.open_books)
    await chaos.until("paid for", lambda: asyncio.sleep(0, chaos.aleph.world.running()))
    await chaos.bury(last)

    with capsys.disabled():
        print(summary(chaos))  # noqa: T201  what it was worth
    await check_accounts(chaos)
    assert chaos.sent_after_the_end() == []
    assert chaos.made >= AGENTS
    assert chaos.deleted == chaos.made
    assert not set(BOUNDARIES) - set(chaos.kills)


async def live_and_die(chaos):
    """Each life has work to do, and an end of its own; a boundary that it did not come by is tried again."""
    ahead = [(boundary, chaos.dice.randint(1, 3)) for boundary in BOUNDARIES]
    chaos.dice.shuffle(ahead)
    half = len(ahead) // 2
    for number in range(3 * len(BOUNDARIES)):
        if not ahead and chaos.made >= AGENTS:
            return
        boundary, times = ahead.pop(0) if ahead else ("", 1)
        await some_wishes(chaos, boundary)
        with chaos.misfortunes.help_to(boundary):
            bot = await chaos.bear(boundary, times)
            is_dead = await chaos.dies(bot)
        await chaos.bury(bot)
        chaos.kills[boundary if is_dead else "at any moment"] += 1
        if boundary and not is_dead:
            ahead.append((boundary, 1))
        if number == half:
            chaos.lose_durable()


async def some_wishes(chaos, boundary):
    await chaos.make(PER_LIFE)
    await chaos.delete(chaos.dice.randint(1, PER_LIFE + 1))
    await chaos.try_again()
    await chaos.talk()
    if chaos.dice.random() < 0.5 or "lost" in boundary:
        chaos.misfortunes.take_away()
    if chaos.dice.random() < 0.1 or "stranger" in boundary:
        await chaos.plant()


async def check_accounts(chaos):
    """Every instance that ever cost a credit has one order that says so, and was paid for no longer than it stood."""
    world, orders = chaos.aleph.world, {rental.reference: rental for rental in await chaos.rentals()}
    paid = {entry.hash: entry for entry in world.instances()}
    assert set(paid) - set(orders) == set(paid) & chaos.strangers
    assert {rental.state for rental in orders.values()} == {RentalState.GONE}
    for item_hash in set(paid) & set(orders):
        rental, entry = orders[item_hash], paid[item_hash]
        assert rental.created_at <= entry.processed <= entry.ended <= rental.ended_at
    payer = chaos.wallet.address
    spent = world.spent(payer)
    assert spent == sum(price(entry.content) * Decimal(entry.ended - entry.processed) for entry in paid.values())
    world.skew = 3600
    assert (world.spent(payer), world.balance(payer)) == (spent, CREDITS - int(spent))


def summary(chaos):
    kills = ", ".join(f"{boundary} {count}" for boundary, count in sorted(chaos.kills.items()))
    faults = ", ".join(f"{name} {count}" for name, count in sorted(chaos.misfortunes.happened.items()))
    instances, spent = len(chaos.aleph.world.instances()), chaos.aleph.world.spent(chaos.wallet.address)
    seconds, (agent_id, generation) = chaos.longest
    return (
        f"{chaos.made} agents made, {chaos.deleted} deleted; {instances} instances paid for, "
        f"{len(chaos.strangers)} of them strangers, {spent:.0f} credits\n"
        f"{chaos.kills.total()} kills: {kills}\nfaults: {faults}\n"
        f"longest recovery: {seconds:.1f} s, through every kill meanwhile (wish {generation} of agent {agent_id})"
    )
