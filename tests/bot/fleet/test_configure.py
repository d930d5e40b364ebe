"""What owners change reaches running agents, at once or as soon as they answer, and starts with those that do not."""

import asyncio
import json
from typing import cast

import pytest

from agent import protocol
from bot.accounts.edits import Edits
from bot.accounts.kept import KeptAnswers
from bot.accounts.libertai import KEPT_NAME
from bot.accounts.tools import ToolPolicy
from bot.errors import AgentOffline, AgentRefused
from bot.fleet.books import Books
from bot.fleet.configure import Configurer
from bot.machines.client import AgentClient, Door
from bot.store.models import AgentField, Edit, MachineState, Phase, Purpose
from tests.bot.fleet.world import OLGA, World

pytestmark = pytest.mark.e2e


@pytest.fixture
def durable_url(database_url, tmp_path):
    is_server = database_url.startswith("postgresql")
    return database_url if is_server else f"sqlite:///{tmp_path / 'durable.sqlite'}"


@pytest.fixture
async def still(database, durable_url, vault, tmp_path, clock):
    """A world whose fleet does not look: its first sweep would start what a test only writes down."""
    made = World(database, durable_url, vault, tmp_path, clock)
    yield made
    await made.let_go()


@pytest.fixture
async def world(still):
    await still.fleet.start()
    yield still
    await still.fleet.stop()


async def change(database, agent_id: int, field: AgentField, value: str, *, update_id: int) -> None:
    edits, edit = Edits(database), Edit(user_id=OLGA, chat_id=OLGA, message_id=1, agent_id=agent_id, field=field)
    await edits.begin(edit, update_id)
    assert await edits.apply(edit, value, update_id + 1)
    assert not await edits.apply(edit, "again", update_id + 1), "an update changes something once"


async def test_a_running_agent_is_told_without_a_restart_and_a_started_one_by_its_environment(world, database):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.RUNNING)
    before = await world.books.agent(agent_id)

    await change(database, agent_id, AgentField.NAME, "Bob", update_id=1)
    assert await world.books.unconfigured() == [agent_id]
    assert await world.fleet.configure(agent_id)

    health = await world.health(agent_id)
    assert (health.agent_name, health.config_version) == ("Bob", 1)
    assert await world.books.unconfigured() == []
    assert (await world.books.agent(agent_id)).generation == before.generation

    # Its machine is lost: the next start has it all by its environment.
    await change(database, agent_id, AgentField.NAME, "Eve", update_id=3)
    await world.fleet.lost(await world.books.agent(agent_id))
    await world.fleet.wait_ready(agent_id, timeout=30)
    health = await world.health(agent_id)
    assert (health.agent_name, health.config_version) == ("Eve", 2)


async def test_an_agent_that_was_away_is_told_by_the_next_sweep(world, database):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.RUNNING)
    machine = await world.books.machine(agent_id)
    await world.books.note(machine.id, MachineState.ACTIVE, url="http://127.0.0.1:9")
    await change(database, agent_id, AgentField.JOB, "sings", update_id=1)
    assert not await world.fleet.configure(agent_id)

    await world.books.note(machine.id, MachineState.ACTIVE, url=machine.url)
    world.fleet._look.set()

    async with asyncio.timeout(30):
        while await world.books.unconfigured():
            await asyncio.sleep(0.02)
    assert (await world.health(agent_id)).config_version == 1


class Agent:
    """The client of an agent that answers what a test says."""

    def __init__(self, *, refusal: AgentRefused | AgentOffline | None = None, seen: int = 0) -> None:
        self.refusal = refusal
        self.seen = seen
        self.taken: list[int] = []
        self.told: list[protocol.Config] = []

    async def configure(self, _door: Door, config: protocol.Config) -> None:
        if self.refusal:
            raise self.refusal
        if config.version < self.seen:
            raise AgentRefused("stale_config", "older")
        self.taken.append(config.version)
        self.told.append(config)

    async def health(self, _door: Door) -> protocol.Health:
        return protocol.Health(status="ok", agent_name="Ada", release="r1", config_version=self.seen)


@pytest.fixture
def configurer(still):
    def make(agent: Agent) -> Configurer:
        return Configurer(
            still.books, still.agents, cast("AgentClient", agent), still.libertai, ToolPolicy(still.libertai)
        )

    return make


@pytest.fixture
async def away(still, database):
    """An agent whose row says that it runs; its own process is none."""
    agent_id = await still.agent()
    machine = await still.books.intend(agent_id, "local", Purpose.DEPLOY)
    await still.books.note(machine.id, MachineState.ACTIVE, url="http://127.0.0.1:9")
    async with database.session() as session:
        agent = await session.get_one(type(await still.books.agent(agent_id)), agent_id)
        agent.phase, agent.observed_generation, agent.machine_id = Phase.RUNNING, agent.generation, machine.id
    await change(database, agent_id, AgentField.MODEL, "smart", update_id=1)
    return agent_id


async def test_an_agent_that_has_seen_a_higher_version_is_outdone(still, configurer, away):
    agent = Agent(seen=7)
    assert not await configurer(agent).bring(away)
    await configurer(agent).sweep()
    assert agent.taken == [8]
    assert await still.books.unconfigured() == []


@pytest.mark.parametrize("can", [(True, True), (False, True), (True, False)])
async def test_an_agent_is_told_what_its_new_model_can_do(database, configurer, away, can):
    catalogue = {"models": [], "tools": {"smart": can[0]}, "vision": {"smart": can[1]}}
    await KeptAnswers(database).put(KEPT_NAME, json.dumps(catalogue))
    agent = Agent()
    assert await configurer(agent).bring(away)
    [config] = agent.told
    assert (config.model, config.tools, config.vision) == ("smart", *can)


async def test_a_model_that_nobody_knows_is_not_shown_images(configurer, away):
    agent = Agent()
    assert await configurer(agent).bring(away)
    assert [config.vision for config in agent.told] == [False]


async def test_an_agent_that_cannot_be_told_is_started_anew_once(still, configurer, away):
    generation = (await still.books.agent(away)).generation
    agent = Agent(refusal=AgentRefused("not_found", "no such place"))
    await configurer(agent).bring(away)
    assert (await still.books.agent(away)).generation == generation + 1
    assert await still.books.unconfigured() == []


async def test_what_an_agent_does_not_take_is_tried_again(still, configurer, away):
    for refusal in (AgentRefused("bad_config", "no"), AgentOffline("away")):
        assert not await configurer(Agent(refusal=refusal)).bring(away)
        assert await still.books.unconfigured() == [away]


async def test_without_a_machine_there_is_nobody_to_tell(still, configurer):
    assert not await configurer(Agent()).bring(await still.agent())


async def test_versions_of_nobody_are_zero(database, clock):
    assert await Books(database, clock=clock).config_version(99) == 0
