"""A fleet in rows alone: wishes are written as the books write them, and come true when the test says so."""

from sqlalchemy import update
from sqlmodel import col, select

from bot.errors import AgentRefused
from bot.fleet.rollout.control import Control
from bot.fleet.rollout.plan import Plan
from bot.fleet.rollout.rollouts import Rollouts
from bot.fleet.rollout.runner import Runner
from bot.fleet.rollout.status import read_status
from bot.store.audit import Auditor
from bot.store.models import Agent, Machine, MachineState, Phase, Turn, TurnState, Wanted
from bot.store.records import RolloutItem

OLGA, OTTO = 7_000_000_001, 7_000_000_002
OLD, NEW = "registry/agent:1@sha256:" + 64 * "1", "registry/agent:2@sha256:" + 64 * "2"
QUICK = {"soak_minutes": 10.0}


class Killed(BaseException):
    """The bot ended here, in the middle."""


class Simulated:
    """The fleet, and all that a rollout asks of others."""

    def __init__(self, database, clock):
        self.database, self.clock = database, clock
        self.bad = set()
        """Agents whose updates fail, and they go on with what they had."""
        self.stuck = set()
        """Agents whose wishes never come true."""
        self.unwell, self.mute = set(), set()
        self.count = self.hours = None
        self.kills = []
        """Before each of these calls (by number) the bot ends."""
        self.calls = 0
        self.nudged = []
        self.most_at_once = 0
        self.rollouts = Rollouts(database, clock=clock)
        self.auditor = Auditor(database)

    async def make(self, count, *, owner=OTTO, release=OLD, wanted=Wanted.ON, phase=Phase.RUNNING):
        has_machine = phase not in {Phase.ASLEEP, Phase.GONE}
        async with self.database.session() as session:
            agents = [
                Agent(
                    owner_id=owner,
                    name="Ada",
                    job="cooks",
                    model="m",
                    sealed_secret="s",
                    release=release,
                    wanted=wanted,
                    phase=phase,
                    observed_generation=1,
                )
                for _ in range(count)
            ]
            session.add_all(agents)
            await session.flush()
            for agent in agents if has_machine else ():
                machine = Machine(
                    agent_id=agent.id or 0,
                    provider="local",
                    state=MachineState.ACTIVE,
                    release=release,
                    credits_per_hour=3.0,
                )
                agent.machine_id = machine.id
                session.add_all([machine, agent])
        return [agent.id for agent in agents]

    # What the fleet offers.

    async def wish(self, agent_id, *, release):
        self._live()
        async with self.database.transaction() as transaction:
            change = update(Agent).where(
                col(Agent.id) == agent_id, col(Agent.wanted) != Wanted.DELETED, col(Agent.release) != release
            )
            fresh = {"generation": col(Agent.generation) + 1, "attempt": 1, "next_at": 0.0, "release": release}
            done = bool((await transaction.execute(change.values(**fresh))).rowcount)
        self._live()
        return done

    async def nudge(self, agent_id):
        self._live()
        self.nudged.append(agent_id)

    async def health(self, agent_id):
        return agent_id not in self.unwell

    async def probe(self, agent_id):
        if agent_id in self.mute:
            raise AgentRefused("model-away", "the model does not answer")

    async def affordable(self):
        return self.count

    async def runway(self):
        return self.hours

    def _live(self):
        self.calls += 1
        if self.calls in self.kills:
            raise Killed

    # What happens in it.

    async def converge(self):
        """Every wish comes true, or fails."""
        async with self.database.session() as session:
            query = select(Agent).where(col(Agent.observed_generation) != col(Agent.generation))
            due = [agent for agent in await session.exec(query) if agent.id not in self.stuck]
            self.most_at_once = max(self.most_at_once, len(due))
            for agent in due:
                machine = await session.get(Machine, agent.machine_id) if agent.machine_id else None
                if agent.wanted is Wanted.DELETED:
                    agent.phase = Phase.GONE
                elif agent.wanted is Wanted.ASLEEP:
                    agent.phase, agent.machine_id = Phase.ASLEEP, None
                elif agent.id in self.bad:
                    agent.error, agent.error_code = "not-proved", "AB12"
                    agent.phase = Phase.RUNNING if machine else Phase.FAILED
                    agent.release = machine.release if machine else agent.release
                else:
                    following = Machine(
                        agent_id=agent.id, provider="local", state=MachineState.ACTIVE, release=agent.release
                    )
                    session.add(following)
                    agent.machine_id, agent.phase, agent.error, agent.error_code = (
                        following.id,
                        Phase.RUNNING,
                        None,
                        None,
                    )
                agent.observed_generation = agent.generation
                session.add(agent)

    async def want(self, agent_id, wanted):
        async with self.database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == agent_id)
            await transaction.execute(change.values(wanted=wanted, generation=col(Agent.generation) + 1))

    async def say(self, agent_id, count, *, failed=0):
        async with self.database.session() as session:
            for number in range(count):
                state = TurnState.FAILED if number < failed else TurnState.DONE
                name = f"{agent_id}-{self.clock()}-{number}"
                session.add(
                    Turn(
                        id=name,
                        agent_id=agent_id,
                        chat_id=1,
                        user_id=1,
                        message_id=1,
                        message="hi",
                        sequence=number,
                        state=state,
                        created_at=self.clock(),
                    )
                )

    # What is seen of it.

    def runner(self):
        """A new one, as after a restart: it knows nothing but the rows."""
        return Runner(self.database, self, self.nudge, self, self, operators=(OLGA,), clock=self.clock)

    def control(self, *, setting=OLD, by="olga"):
        return Control(self.database, by=by, setting=setting, operators=(OLGA,), clock=self.clock)

    async def start(self, release=NEW, *, canaries=None, **options):
        control = self.control()
        return await control.begin(await control.draft(release, Plan(**(QUICK | options)), canaries=canaries))

    async def undo(self, **options):
        control = self.control()
        return await control.begin(await control.undo(Plan(**(QUICK | options))))

    async def look(self):
        return await self.runner().look()

    async def go(self, *states, minutes=1.0, passes=400):
        """Pass after pass, each by a new runner, until it is in one of these states (or closed, if none is named)."""
        for _ in range(passes):
            status = await self.status()
            if status.state in states or (not states and not status.is_open):
                return status
            await self.look()
            await self.converge()
            self.clock.now += minutes * 60
        raise AssertionError(f"not {states}: {await self.status()}")

    async def status(self):
        return await read_status(self.database, now=self.clock())

    async def agents(self):
        async with self.database.session() as session:
            return list(await session.exec(select(Agent).order_by(col(Agent.id))))

    async def serving(self):
        """What runs, by agent."""
        async with self.database.session() as session:
            query = select(Agent.id, Machine.release).join(Machine, col(Machine.id) == col(Agent.machine_id))
            return dict((await session.exec(query)).all())

    async def items(self, rollout_id):
        async with self.database.session() as session:
            query = select(RolloutItem).where(col(RolloutItem.rollout_id) == rollout_id)
            return {item.agent_id: item for item in await session.exec(query)}
