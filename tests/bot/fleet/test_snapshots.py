"""Snapshots are kept whole and encrypted, or not at all, and go when nobody needs them."""

import asyncio
import logging
import os
import time
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from sqlmodel import select

from agent.protocol import Mode
from bot.errors import AgentOffline, SnapshotBroken, StoreAway
from bot.fleet.books import Books
from bot.fleet.packing import PIECE_BYTES
from bot.fleet.retention import DAY, Retention
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent, Keepsake, Wanted
from bot.store.objects import open_folder
from bot.store.records import Reason, Snapshot, SnapshotState
from tests.bot.fleet.archives import archive, full, large, pieces

log = logging.getLogger(__name__)

ADA, BEN = 1, 2
HOUR = 3_600.0


class World:
    def __init__(self, database, vault, folder, clock):
        self.database = database
        self.folder = folder
        self.clock = clock
        self.shelf = Shelf(database, Keepsakes(database, vault), clock=clock)
        self.objects = open_folder(folder)
        self.snapshots = self.restarted()

    def restarted(self):
        return Snapshots(self.shelf, self.objects, Retention(), clock=self.clock)

    async def save(self, agent_id=ADA, content=None, **options):
        content = full() if content is None else content
        return await self.snapshots.save(agent_id, Reason.SCHEDULE, pieces(content), **options)

    async def read(self, snapshot):
        async with aclosing(self.snapshots.read(snapshot)) as read:
            return b"".join([piece async for piece in read])

    async def agent(self, agent_id, wanted=Wanted.ON):
        agent = Agent(
            id=agent_id, owner_id=1, name="A", job="j", model="m", sealed_secret="s", release="r", wanted=wanted
        )
        async with self.database.session() as session:
            session.add(agent)

    async def rows(self):
        async with self.database.session() as session:
            return list(await session.exec(select(Snapshot)))

    async def keys(self):
        async with self.database.session() as session:
            return [each.id for each in await session.exec(select(Keepsake)) if each.id.startswith("snapshot-key")]

    def files(self):
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def stored(self, snapshot):
        return self.folder / snapshot.path


@pytest.fixture
def world(database, vault, tmp_path, clock):
    return World(database, vault, tmp_path / "snapshots", clock)


async def test_what_was_saved_is_read_and_proved(world):
    saved = await world.save()
    assert saved.state is SnapshotState.WHOLE
    assert (saved.last_turn, saved.plain_size, saved.created_at) == ("t1", len(full()), world.clock.now)
    assert saved.size == world.stored(saved).stat().st_size < saved.plain_size
    assert await world.read(saved) == full()
    assert (await world.snapshots.verify(saved)).last_turn == "t1"
    assert await world.snapshots.newest(ADA) == saved
    assert await world.snapshots.newest(BEN) is None


async def test_nothing_in_clear_is_stored_and_nobody_else_may_look(world, on_disk):
    workspace = b"the secret of the agent" * 100
    saved = await world.save(content=archive(workspace))
    assert b"secret of the agent" not in world.stored(saved).read_bytes()
    assert world.folder.stat().st_mode & 0o077 == 0
    assert b"the secret of the agent" not in on_disk()


async def test_snapshots_of_an_agent_are_listed_newest_first(world):
    saved = []
    for _ in range(3):
        saved.append(await world.save())
        world.clock.now += 60
    await world.save(BEN)
    assert await world.snapshots.of(ADA) == saved[::-1]
    assert await world.snapshots.newest(ADA) == saved[-1]


async def breaks_off():
    yield full()[:5_000]
    raise AgentOffline("it broke off")


@pytest.mark.parametrize("content", [b"", full()[:-1024], full()[:5000], b"nonsense" * 1000, full() + b"x"])
async def test_an_archive_that_is_not_whole_is_not_kept(world, content):
    with pytest.raises(SnapshotBroken):
        await world.save(content=content)
    assert (await world.rows(), world.files(), await world.keys()) == ([], [], [])


async def test_an_agent_that_breaks_off_is_told_and_nothing_is_kept(world):
    with pytest.raises(AgentOffline):
        await world.snapshots.save(ADA, Reason.UPDATE, breaks_off())
    assert (await world.rows(), world.files()) == ([], [])


async def test_a_save_that_is_called_off_leaves_nothing_and_closes_what_it_read(world):
    begun, closed = asyncio.Event(), asyncio.Event()

    async def endless():
        try:
            for piece in large(100, os.urandom(1 << 20)):
                yield piece
                begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    saving = asyncio.create_task(world.snapshots.save(ADA, Reason.SLEEP, endless()))
    await begun.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert closed.is_set()
    assert (await world.rows(), world.files()) == ([], [])


async def test_a_store_without_room_is_told_and_nothing_is_kept(world):
    world.folder.rmdir()
    world.folder.write_text("no folder")
    with pytest.raises(StoreAway):
        await world.save()
    # It cannot be removed either, now; later it is.
    world.folder.unlink()
    await world.snapshots.sweep()
    assert await world.rows() == []


REGIONS = [0, 8, 20, 41, 60, -20, -1]


@pytest.mark.parametrize("where", REGIONS)
async def test_a_byte_that_was_changed_on_disk_is_noticed(world, where):
    saved = await world.save()
    changed = bytearray(world.stored(saved).read_bytes())
    changed[where] ^= 0x40
    world.stored(saved).write_bytes(changed)
    with pytest.raises(SnapshotBroken):
        await world.read(saved)
    with pytest.raises(SnapshotBroken):
        await world.snapshots.verify(saved)


async def test_what_was_cut_lengthened_or_removed_on_disk_is_noticed(world):
    saved = await world.save()
    whole = world.stored(saved).read_bytes()
    for content in (b"", whole[:30], whole[:-1], whole + b"x", whole + whole):
        world.stored(saved).write_bytes(content)
        with pytest.raises(SnapshotBroken):
            await world.read(saved)
    world.stored(saved).unlink()
    with pytest.raises(SnapshotBroken, match="not where"):
        await world.read(saved)


async def test_no_snapshot_can_be_put_in_another_s_place(world):
    one, other, bens = await world.save(), await world.save(content=archive(b"older")), await world.save(BEN)
    mine = world.stored(one).read_bytes()
    for swapped in (other, bens):
        world.stored(one).write_bytes(world.stored(swapped).read_bytes())
        with pytest.raises(SnapshotBroken):
            await world.read(one)
    world.stored(one).write_bytes(mine)
    assert await world.read(one) == full()


async def test_a_row_that_says_something_else_is_noticed(world):
    saved = await world.save()
    saved.sha256 = "0" * 64
    with pytest.raises(SnapshotBroken, match="not what was put in"):
        await world.read(saved)


async def test_two_first_snapshots_of_an_agent_at_once_have_one_key(world):
    saved = await asyncio.gather(*(world.save() for _ in range(4)))
    assert await world.keys() == [f"snapshot-key-{ADA}"]
    for each in saved:
        assert await world.read(each) == full()


# --- what goes


async def test_what_was_taken_of_a_copy_that_stands_by_is_not_kept(world):
    before = await world.save()

    with pytest.raises(SnapshotBroken, match="stands by"):
        await world.save(content=archive(last_turn=None, mode=Mode.STANDBY))

    assert (await world.snapshots.newest(ADA)).id == before.id
    assert [world.stored(before)] == world.files()


async def test_the_newest_is_the_one_taken_last_also_where_the_clock_was_ahead_before(world):
    world.clock.now += HOUR
    before = await world.save()
    world.clock.now -= HOUR
    after = await world.save()
    newest = await world.save()

    assert (await world.snapshots.newest(ADA)).id == newest.id
    assert [each.id for each in await world.snapshots.of(ADA)] == [newest.id, after.id, before.id]


async def test_the_newest_and_one_a_day_are_kept(world):
    await world.agent(ADA)
    world.clock.now = 20_000 * DAY + 60
    made = []
    for _ in range(10 * 4):
        made.append(await world.save(content=archive()))
        world.clock.now += DAY / 4
    await world.snapshots.sweep()
    kept = await world.snapshots.of(ADA)
    # The clock is at the beginning of a day of which there is none yet: six days, each its last one, and two more.
    assert [each.id for each in kept[:3]] == [each.id for each in made[:-4:-1]]
    days = [int(each.created_at // DAY) for each in kept[3:]]
    assert days == [20_008, 20_007, 20_006, 20_005, 20_004, 20_003]
    assert len(world.files()) == len(kept)
    assert [await world.read(each) == archive() for each in kept] == [True] * len(kept)


async def test_the_newest_of_an_agent_that_is_asleep_for_years_stays(world):
    await world.agent(ADA, Wanted.ASLEEP)
    saved = await world.save()
    world.clock.now += 1_000 * DAY
    await world.snapshots.sweep()
    assert await world.snapshots.of(ADA) == [saved]
    assert await world.read(saved) == full()


async def test_what_is_asked_for_until_later_stays_until_then(world):
    await world.agent(ADA)
    asked = await world.save(keep_until=world.clock.now + 30 * DAY)
    for _ in range(4):
        world.clock.now += 2 * DAY
        await world.save()
    world.clock.now += DAY
    await world.snapshots.sweep()
    assert asked.id in {each.id for each in await world.snapshots.of(ADA)}
    world.clock.now += 30 * DAY
    await world.snapshots.sweep()
    assert asked.id not in {each.id for each in await world.snapshots.of(ADA)}


async def test_what_an_agent_is_to_go_back_to_stays_until_it_did(world):
    await world.agent(ADA)
    wanted = await world.save()
    books = Books(world.database, clock=world.clock)
    await books.wish(ADA, restore=wanted.id)
    for _ in range(4):
        world.clock.now += 20 * DAY
        await world.save()
    await world.snapshots.sweep()
    assert wanted.id in {each.id for each in await world.snapshots.of(ADA)}

    async with world.database.session() as session:
        (await session.get_one(Agent, ADA)).restore_id = None
    await world.snapshots.sweep()
    assert wanted.id not in {each.id for each in await world.snapshots.of(ADA)}


async def test_a_deleted_agent_s_are_kept_for_a_week_and_then_nothing_opens_them_any_more(world):
    await world.agent(ADA, Wanted.DELETED)
    await world.agent(BEN)
    saved, bens = await world.save(), await world.save(BEN)
    copied = world.stored(saved).read_bytes()
    await world.snapshots.sweep()
    world.clock.now += 6 * DAY
    await world.snapshots.sweep()
    assert [each.id for each in await world.snapshots.of(ADA)] == [saved.id]
    world.clock.now += 1.1 * DAY
    await world.snapshots.sweep()
    assert await world.snapshots.of(ADA) == []
    assert world.files() == [world.stored(bens)]
    assert await world.keys() == [f"snapshot-key-{BEN}"]
    world.stored(saved).parent.mkdir(exist_ok=True)
    world.stored(saved).write_bytes(copied)
    with pytest.raises(SnapshotBroken, match="key"):
        await world.read(saved)


async def test_a_deleted_agent_s_are_kept_as_long_as_is_said(world):
    await world.agent(ADA, Wanted.DELETED)
    await world.save()
    await world.snapshots.keep_until(ADA, world.clock.now + 2 * DAY)
    world.clock.now += DAY
    await world.snapshots.sweep()
    assert len(await world.snapshots.of(ADA)) == 1
    world.clock.now += DAY
    await world.snapshots.sweep()
    assert await world.rows() == []


async def test_what_a_crash_left_is_removed_after_an_hour_and_not_before(world):
    await world.agent(ADA)
    saved = await world.save()
    left = await world.shelf.begin(ADA, Reason.SCHEDULE, None)
    half = world.stored(left)
    half.write_bytes(b"half")
    unfinished = half.with_name(f"{half.name}x#1")
    unfinished.write_bytes(b"part")
    unknown = half.with_name("s-0000000000000000")
    unknown.write_bytes(b"nobody's")
    await world.snapshots.sweep()
    assert len(world.files()) == 4
    world.clock.now += HOUR + 1
    for path in (half, unfinished, unknown):
        os.utime(path, (time.time() - HOUR - 10,) * 2)
    await world.restarted().sweep()
    assert world.files() == [world.stored(saved)]
    assert await world.rows() == [saved]


async def test_a_slow_save_is_not_mistaken_for_a_crash(world):
    await world.agent(ADA)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        yield full()[:2_000]
        begun.set()
        await go_on.wait()
        yield full()[2_000:]

    saving = asyncio.create_task(world.snapshots.save(ADA, Reason.SCHEDULE, slow()))
    await begun.wait()
    world.clock.now += 5 * HOUR
    await world.snapshots.sweep()
    go_on.set()
    assert await world.read(await saving) == full()


async def test_other_deployments_and_other_files_in_the_store_are_left_alone(world, vault, tmp_path):
    await world.agent(ADA)
    strange = world.folder / "somebody" / "else"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"theirs")
    os.utime(strange, (1, 1))
    await world.save()
    world.clock.now += 5 * HOUR
    await world.snapshots.sweep()
    assert strange.read_bytes() == b"theirs"


async def test_many_agents_are_swept_in_pages(world, monkeypatch):
    monkeypatch.setattr("bot.fleet.shelf.PAGE", 2)
    for agent_id in range(1, 6):
        await world.agent(agent_id)
        for _ in range(5):
            await world.save(agent_id, archive())
            world.clock.now += 1
    await world.snapshots.sweep()
    assert [len(await world.snapshots.of(agent_id)) for agent_id in range(1, 6)] == [3] * 5


# --- size


async def test_a_large_agent_takes_no_more_memory_than_a_small_one_and_the_loop_goes_on(world):
    lag = 0.0

    async def watch():
        nonlocal lag
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.005)
            lag = max(lag, time.perf_counter() - begun - 0.005)

    async def content():
        piece = os.urandom(1 << 20)
        for each in large(300, piece):
            yield each

    process, peak = psutil.Process(), 0
    await world.save()

    async def weigh():
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.02)

    before = process.memory_info().rss
    watchers = [asyncio.create_task(watch()), asyncio.create_task(weigh())]
    begun = time.monotonic()
    saved = await world.snapshots.save(ADA, Reason.SCHEDULE, content())
    saving = time.monotonic() - begun
    await world.snapshots.verify(saved)
    reading = time.monotonic() - begun - saving
    for task in watchers:
        task.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    log.info("saved %.1f s, read %.1f s, lag %.3f s, %.0f MB", saving, reading, lag, (peak - before) / 1e6)
    assert peak - before < 120_000_000
    assert lag < 0.5


async def test_what_expands_without_end_is_read_in_small_pieces(world):
    async def zeros():
        piece = bytes(1 << 20)
        for each in large(200, piece):
            yield each

    saved = await world.snapshots.save(ADA, Reason.SCHEDULE, zeros())
    assert saved.size < 100_000
    async with aclosing(world.snapshots.read(saved)) as read:
        assert max([len(piece) async for piece in read]) <= PIECE_BYTES
    assert Path(world.stored(saved)).exists()
