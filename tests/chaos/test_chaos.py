"""Hundreds of deeds and misfortunes, and bots that are killed at every boundary: nobody is forgotten, and nothing is.

Three seeds share the boundaries among them. `CHAOS_SEEDS=n` takes n of them (`make chaos`), `CHAOS_SEED=n` that one
alone (the processes' timing differs anyway), `CHAOS_DEEDS=n` makes it longer.
"""

import asyncio
import os
from decimal import Decimal

import pytest

from bot.store.models import RentalState
from tests.chaos.deeds import HASTY, PLAN
from tests.chaos.killer import BOUNDARIES
from tests.chaos.world import CREDITS, Chaos
from tests.fakes.aleph_world import price

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

DEEDS = int(os.environ.get("CHAOS_DEEDS", "500"))
SHARES = 3
FIRST = 11
ONE = os.environ.get("CHAOS_SEED")
SEEDS = [int(ONE)] if ONE else range(FIRST, FIRST + int(os.environ.get("CHAOS_SEEDS", str(SHARES))))
AT_LEAST = 4
"""Deeds in each life."""
HELPFUL = {
    "put aside": "restore",
    "step restore": "restore",
    "activate": "restore",
    "settle in": "restore",
    "lost": "take away",
    "restor": "wake",
    "dozing": "sleep",
    "fall_asleep": "sleep",
    "verify": "sleep",
    "snapshots.save": "update",
    "shelf": "update",
    "probe": "update",
    "seal": "update",
    "next_epoch": "update",
    "bring ahead": "update",
    "step prove": "update",
    "hand over": "update",
    "go on": "sleep",
    "last snapshot": "delete",
    "deleting": "delete",
    "leave_all": "delete",
    "keep_until": "delete",
    "forget": "delete",
    "erase": "delete",
    "stranger": "plant",
    "rollouts.mark": "begin rollout",
    "rollouts.move": "begin hasty rollout",
    "turns": "chat",
    "wish": "chat asleep",
    "notices": "take away",
    "pool.doom": "pool no more",
    "pool.gone": "pool no more",
}
"""What has to happen for a boundary to be passed."""


@pytest.fixture(params=SEEDS)
async def chaos(request, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    async with Chaos(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def boundaries(request):
    """This seed's share."""
    seed = request.node.callspec.params["chaos"]
    return BOUNDARIES[seed % SHARES :: SHARES]


async def test_everybody_is_answered_and_nothing_is_paid_in_vain(chaos, boundaries, capsys):
    unlucky = asyncio.create_task(chaos.misfortunes.go_on())
    await live_and_die(chaos, boundaries)
    unlucky.cancel()
    await asyncio.wait({unlucky})

    last = await chaos.bear_last()
    await chaos.until("not as wanted", chaos.rest.unexplained)
    await chaos.until("paid for in vain", chaos.rest.unused)
    await chaos.until("has two machines", chaos.rest.twins)
    await everybody_up(chaos)
    await chaos.memories.check()
    await delete_all(chaos)
    await chaos.bury(last)

    with capsys.disabled():
        print(summary(chaos))  # noqa: T201  what it was worth
    await check_accounts(chaos)
    assert chaos.sent_after_the_end() == []
    assert chaos.machines.doubles == []
    assert chaos.deeds.done.total() >= DEEDS
    assert not set(boundaries) - set(chaos.kills)


async def live_and_die(chaos, boundaries):
    """Each life has work to do, and an end of its own; a boundary that it did not come by is tried again."""
    ahead = [(boundary, chaos.dice.randint(1, 2)) for boundary in boundaries]
    chaos.dice.shuffle(ahead)
    per_life, half = max(AT_LEAST, DEEDS // len(ahead)), len(ahead) // 2
    for number in range(4 * len(boundaries)):
        if not ahead and chaos.deeds.done.total() >= DEEDS:
            return
        boundary, times = ahead.pop(0) if ahead else ("", 1)
        async with chaos.misfortunes.help_to(boundary):
            is_dead = await live(chaos, boundary, times, per_life)
        chaos.kills[boundary if is_dead else "at any moment"] += 1
        if boundary and not is_dead:
            ahead.append((boundary, 1))
        if number == half:
            chaos.lose_durable()


async def live(chaos, boundary, times, deeds):
    """True if it died where it should."""
    for part, deed in HELPFUL.items():
        if part in boundary:
            await help_with(chaos, deed)
    for _ in range(deeds // 2):
        await chaos.deeds.any()
    bot = await chaos.bear(boundary, times)
    for _ in range(deeds - deeds // 2):
        await asyncio.sleep(chaos.dice.uniform(0, 0.1))
        await chaos.deeds.any()
    if chaos.dice.random() < 0.3:
        chaos.misfortunes.take_away()
    if chaos.dice.random() < 0.05:
        await chaos.plant()
    is_dead = await chaos.dies(bot)
    await chaos.bury(bot)
    return is_dead


async def help_with(chaos, deed):
    match deed:
        case "take away":
            chaos.misfortunes.take_away()
            for agent in await chaos.deeds.living():
                await chaos.deeds.ask(agent)
        case "plant":
            await chaos.plant()
        case "pool no more":
            await chaos.leave_pool()
        case "begin rollout":
            await chaos.deeds.begin_rollout(PLAN)
        case "begin hasty rollout":
            await chaos.deeds.begin_rollout(HASTY)
        case "chat asleep":
            await chaos.deeds.sleep()
            await chaos.deeds.wake_by_word()
        case _:
            for _ in range(2):
                await chaos.deeds.do(deed)


async def everybody_up(chaos):
    """Whoever sleeps is woken by a message; whoever has failed is tried again."""
    await chaos.deeds.end_rollout()
    await chaos.deeds.retry()
    for agent in await chaos.deeds.living():
        await chaos.deeds.ask(agent)
    await chaos.until("not answered", chaos.rest.unanswered)
    await chaos.until("not running", chaos.rest.not_running)
    await chaos.until("paid for in vain", chaos.rest.unused)
    await chaos.until("has two machines", chaos.rest.twins)


async def delete_all(chaos):
    for _ in await chaos.deeds.living():
        await chaos.deeds.do("delete")
    await chaos.until("in the books", chaos.open_books)
    await chaos.until("paid for", lambda: asyncio.sleep(0, chaos.aleph.world.running()))


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
    counts = [
        ", ".join(f"{name} {count}" for name, count in sorted(each.items()))
        for each in (chaos.deeds.done, chaos.kills, chaos.misfortunes.happened)
    ]
    instances, spent = len(chaos.aleph.world.instances()), chaos.aleph.world.spent(chaos.wallet.address)
    recovery, (agent_id, generation) = chaos.longest
    silence, turn_id = chaos.memories.longest
    return (
        f"\n{chaos.seed}: {chaos.deeds.done.total()} deeds: {counts[0]}\n"
        f"{chaos.kills.total()} kills: {counts[1]}\n{chaos.misfortunes.happened.total()} faults: {counts[2]}\n"
        f"{instances} instances paid for, {len(chaos.strangers)} of them strangers, {spent:.0f} credits\n"
        f"{chaos.memories.kept} answers remembered, {chaos.memories.lost} lost and said so; "
        f"longest wait for an answer: {silence:.1f} s ({turn_id})\n"
        f"longest recovery: {recovery:.1f} s, through every kill meanwhile (wish {generation} of agent {agent_id})"
    )
