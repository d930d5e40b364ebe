"""Agents in which something changed are brought to safety, each at its own moment; every snapshot can be restored."""

import asyncio
import contextlib
import json
from collections import Counter
from contextlib import aclosing

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from agent.protocol import ChatRequest, Event, Mode, Role
from bot.accounts.agents import Agents
from bot.errors import AgentOffline, AgentRefused, SnapshotBroken
from bot.fleet import safety as module
from bot.fleet.books import Books
from bot.fleet.retention import DAY, Retention
from bot.fleet.safety import AGAIN_SECONDS, LOOK_SECONDS, Safety
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.machines.client import AgentClient, Door
from bot.machines.engine import Spec
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent, Letter, Machine, MachineState, Phase, Turn, TurnState, Wanted, new_machine_id
from bot.store.objects import open_folder
from bot.store.records import Reason
from tests.bot.fleet.archives import archive, pieces
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Script

ADA, BEN = 1, 2
KEY, SECRET = "LTAI_key", SecretStr("a-secret-of-an-agent")
MINUTES = 60


class Told:
    """Stands for the agents: gives an archive, and counts who was asked."""

    def __init__(self):
        self.asked = []
        self.fails = False
        self.at_once = self.most = 0
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def snapshot(self, door):
        self.asked.append(door.url)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.may_go.wait()
            if self.fails:
                raise AgentOffline("it broke off")
            async for piece in pieces(archive()):
                yield piece
        finally:
            self.at_once -= 1


class World:
    def __init__(self, database, vault, folder, clock, client):
        self.database = database
        self.vault = vault
        self.folder = folder / "snapshots"
        self.clock = clock
        self.client = client
        shelf = Shelf(database, Keepsakes(database, vault), clock=clock)
        self.snapshots = Snapshots(shelf, open_folder(self.folder), Retention(), clock=clock)
        self.books = Books(database, clock=clock)
        self.agents = Agents(database, vault, release="r1", limit=9)
        self.safety = self.restarted()

    def restarted(self, minutes=MINUTES):
        return Safety(
            self.database, self.snapshots, self.books, self.agents, self.client, minutes=minutes, clock=self.clock
        )

    async def agent(self, agent_id, url="", **facts):
        secret = self.vault.seal(SECRET)
        agent = Agent(id=agent_id, owner_id=1, name="Ada", job="j", model="m", sealed_secret=secret, release="r1")
        machine = Machine(agent_id=agent_id, provider="local", state=MachineState.ACTIVE, url=url or f"u{agent_id}")
        facts = {"phase": Phase.RUNNING, "observed_generation": 1, "machine_id": machine.id} | facts
        async with self.database.session() as session:
            session.add_all([agent, machine])
        await self.become(agent_id, **facts)

    async def turn(self, agent_id, state=TurnState.DONE):
        at = self.clock.now
        turn = Turn(
            id=f"t-{agent_id}-{at}",
            agent_id=agent_id,
            chat_id=agent_id,
            user_id=1,
            message_id=1,
            message="hi",
            sequence=int(at),
            state=state,
            created_at=at,
        )
        async with self.database.session() as session:
            session.add(turn)
        return turn.id

    async def become(self, agent_id, **facts):
        async with self.database.transaction() as transaction:
            await transaction.execute(update(Agent).where(col(Agent.id) == agent_id).values(**facts))

    async def looks(self, minutes):
        """One every minute."""
        for _ in range(minutes):
            self.clock.now += LOOK_SECONDS
            await self.safety.look()
            await self.safety.finish()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def world(database, vault, tmp_path, clock, told):
    return World(database, vault, tmp_path, clock, told)


async def test_an_agent_is_asked_once_an_interval_and_only_if_something_changed(world, told):
    await world.agent(ADA)
    await world.agent(BEN)
    await world.turn(ADA)
    await world.looks(MINUTES)
    assert told.asked == ["u1"]
    await world.looks(3 * MINUTES)
    assert told.asked == ["u1"]
    await world.turn(ADA)
    await world.looks(MINUTES)
    assert told.asked == ["u1"] * 2
    assert [each.reason for each in await world.snapshots.of(ADA)] == [Reason.SCHEDULE] * 2


async def test_what_an_agent_did_by_itself_shows_in_its_letters(world, told):
    await world.agent(ADA)
    letter = Letter(agent_id=ADA, id=1, chat_id=1, text="wake up", files=[], received_at=world.clock.now)
    async with world.database.session() as session:
        session.add(letter)
    await world.looks(2 * MINUTES)
    assert told.asked == ["u1"]


async def test_a_turn_that_was_open_while_a_snapshot_was_taken_is_in_the_next_one(world, told):
    await world.agent(ADA)
    turn_id = await world.turn(ADA, TurnState.RUNNING)
    await world.looks(MINUTES)
    assert told.asked == ["u1"]
    async with world.database.transaction() as transaction:
        await transaction.execute(update(Turn).where(col(Turn.id) == turn_id).values(state=TurnState.DONE))
    await world.looks(3 * MINUTES)
    assert told.asked == ["u1"] * 2


@pytest.mark.parametrize(
    "facts",
    [
        {"generation": 2},
        {"phase": Phase.UPDATING},
        {"phase": Phase.DOZING},
        {"phase": Phase.ASLEEP, "wanted": Wanted.ASLEEP},
        {"wanted": Wanted.DELETED},
        {"phase": Phase.FAILED},
    ],
    ids=str,
)
async def test_an_agent_that_is_on_its_way_elsewhere_is_left_alone(world, told, facts):
    await world.agent(ADA, **facts)
    await world.turn(ADA)
    await world.looks(2 * MINUTES)
    assert told.asked == []


async def test_an_agent_that_begins_to_move_while_it_waits_for_its_snapshot_is_left_alone(world, told):
    told.may_go.clear()
    for agent_id in range(1, module.AT_ONCE + 2):
        await world.agent(agent_id)
        await world.turn(agent_id)
    world.clock.now += MINUTES * 60
    await world.safety.look()
    async with asyncio.timeout(30):
        while len(told.asked) < module.AT_ONCE:
            await asyncio.sleep(0.01)
    (waits,) = {f"u{agent_id}" for agent_id in range(1, module.AT_ONCE + 2)} - set(told.asked)
    await world.become(int(waits[1:]), generation=2)
    told.may_go.set()
    await world.safety.finish()
    assert waits not in told.asked


async def test_few_are_taken_at_once_and_looks_go_on_meanwhile(world, told):
    told.may_go.clear()
    for agent_id in range(1, 11):
        await world.agent(agent_id)
        await world.turn(agent_id)
    for _ in range(3):
        world.clock.now += MINUTES * 60
        await world.safety.look()
    async with asyncio.timeout(30):
        while len(told.asked) < module.AT_ONCE:
            await asyncio.sleep(0.01)
    told.may_go.set()
    await world.safety.finish()
    assert told.most == module.AT_ONCE
    assert Counter(told.asked) == Counter(f"u{agent_id}" for agent_id in range(1, 11))


async def test_one_that_fails_is_tried_again_soon_and_holds_up_no_other(world, told):
    await world.agent(ADA)
    await world.turn(ADA)
    told.fails = True
    world.clock.now += MINUTES * 60
    await world.safety.look()
    await world.safety.finish()
    assert (told.asked, await world.snapshots.of(ADA)) == (["u1"], [])
    told.fails = False
    await world.looks(int(AGAIN_SECONDS / LOOK_SECONDS) + 1)
    assert told.asked == ["u1"] * 2
    assert len(await world.snapshots.of(ADA)) == 1


async def test_after_a_start_they_do_not_come_all_at_once(world, told):
    for agent_id in range(1, 41):
        await world.agent(agent_id)
        await world.turn(agent_id)
    world.safety = world.restarted()
    await world.safety.look()
    await world.safety.finish()
    assert told.asked == []
    asked = []
    for _ in range(MINUTES):
        await world.looks(1)
        asked.append(len(told.asked))
    steps = [after - before for before, after in zip([0, *asked], asked, strict=False)]
    assert asked[-1] == 40
    assert max(steps) <= 2


async def test_a_restart_now_and_then_does_not_put_them_off(world, told):
    await world.agent(ADA)
    await world.turn(ADA)
    for _ in range(7):
        await world.looks(10)
        world.safety = world.restarted()
    assert told.asked == ["u1"]


async def test_with_zero_minutes_none_is_taken_and_old_ones_go_all_the_same(world, told):
    world.safety = world.restarted(minutes=0)
    await world.agent(ADA)
    for _ in range(5):
        await world.turn(ADA)
        await world.safety.take(*await both(world, ADA), Reason.UPDATE)
        world.clock.now += 1
    world.clock.now += 30 * DAY
    asked = len(told.asked)
    await world.looks(2 * MINUTES)
    assert (len(told.asked), len(await world.snapshots.of(ADA))) == (asked, 3)


async def both(world, agent_id):
    machine = await world.books.machine(agent_id)
    assert machine
    return await world.books.agent(agent_id), machine


async def test_watching_goes_on_after_an_error_and_ends_with_its_block(world, told, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    looked = asyncio.Event()
    real, failures = world.safety.look, [RuntimeError("the database stumbled")]

    async def look():
        if failures:
            raise failures.pop()
        await real()
        looked.set()

    monkeypatch.setattr(world.safety, "look", look)
    async with world.safety.watched(), asyncio.timeout(30):
        await looked.wait()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("safety")] == []


# --- with real agents


class Standby(Spec):
    """Of a machine that is to take over."""

    def environment(self):
        return super().environment() | {"AGENT_MODE": "standby"}


@pytest.fixture
async def libertai():
    async with LibertAIDouble(keys=[KEY]) as double:
        yield double


@pytest.fixture
async def client():
    made = AgentClient()
    yield made
    await made.close()


@pytest.fixture
async def machines(tmp_path, client, libertai):
    """Starts real agent processes, each in a folder of its own, on standby: `door = await machines()`."""
    engine = ProcessEngine()
    provider = LocalProvider(tmp_path / "machines", engine)
    async with contextlib.AsyncExitStack() as stack:

        async def start():
            name = new_machine_id()
            await provider.rent(name)
            stack.push_async_callback(provider.give_back, name)
            spec = Standby("r1", "Ada", "You cook.", "qwen3.6-35b-a3b", SECRET, f"{libertai.url}/v1", SecretStr(KEY))
            return Door(await engine.run(await provider.reach(name), spec), SECRET)

        yield start


@pytest.fixture
def kept(database, vault, tmp_path, clock, client):
    """A world whose agents are real ones."""
    return World(database, vault, tmp_path, clock, client)


async def says(client, door, turn_id, message):
    request = ChatRequest(chat_id="c1", turn_id=turn_id, message=message, role=Role.OWNER)
    return [event async for event in client.chat(door, request)]


@pytest.mark.e2e
async def test_every_stored_snapshot_makes_an_agent_that_knows_the_conversation(kept, client, machines, libertai):
    old = await machines()
    await client.activate(old, 1)
    await kept.agent(ADA, old.url)
    answers: dict[str | None, list[Event]] = {}
    for number, food in enumerate(("soup", "bread", "cake"), 1):
        await libertai.script(Script(text=f"{food}, noted"))
        answers[f"t{number}"] = await says(client, old, f"t{number}", f"I like {food}.")
        await kept.safety.take(*await both(kept, ADA), Reason.SCHEDULE)
        kept.clock.now += 1

    stored = await kept.snapshots.of(ADA)
    assert [each.last_turn for each in stored] == ["t3", "t2", "t1"]
    for number, each in enumerate(stored):
        assert (await kept.snapshots.verify(each)).last_turn == each.last_turn
        door = await machines()
        async with aclosing(kept.snapshots.read(each)) as read:
            restored = await client.restore(door, read)
        assert restored.last_turn == each.last_turn
        await client.activate(door, 2)
        assert (await client.health(door)).mode is Mode.ACTIVE
        # Asked again for a turn it had, it has the answer; asked something new, it tells its model what was said.
        asked = len(await libertai.calls())
        assert await says(client, door, each.last_turn, "whatever") == answers[each.last_turn]
        assert len(await libertai.calls()) == asked
        await libertai.script(Script(text="you like them"))
        await says(client, door, "new", "What do I like?")
        told = json.dumps((await libertai.calls())[-1].messages)
        assert [food in told for food in ("soup", "bread", "cake")] == [True, number < 2, number < 1]


@pytest.mark.e2e
async def test_a_snapshot_that_was_tampered_with_changes_nothing_in_the_agent(kept, client, machines, libertai):
    old, new = await machines(), await machines()
    await client.activate(old, 1)
    await kept.agent(ADA, old.url)
    await libertai.script(Script(text="hello"))
    await says(client, old, "t1", "hi")
    saved = await kept.safety.take(*await both(kept, ADA), Reason.UPDATE)
    path = kept.folder / saved.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(SnapshotBroken):
        await client.restore(new, kept.snapshots.read(saved))
    path.write_bytes(whole)
    assert (await client.restore(new, kept.snapshots.read(saved))).last_turn == "t1"
    with pytest.raises(AgentRefused, match="not_standby"):
        await client.restore(old, kept.snapshots.read(saved))
