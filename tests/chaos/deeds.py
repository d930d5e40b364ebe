"""What people do: they make agents, write to them, and want this and that of them, in any order."""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlmodel import col, select

from bot.accounts.agents import Agents, Card
from bot.errors import RolloutRefused
from bot.fleet.books import Books
from bot.fleet.rollout.control import Control
from bot.fleet.rollout.plan import Plan
from bot.store.database import Database
from bot.store.models import Agent, Draft, Phase, Turn, Wanted
from bot.store.records import Snapshot, SnapshotState
from tests.chaos.bot import RELEASE

OLGA = 7_000_000_001
CARD = Card(OLGA, 1)
CHATS = 2
"""Of each agent."""
RELEASES = tuple(f"agent@sha256:{number}" for number in range(1, 5))
PLAN = Plan(soak_minutes=0, batch=2, surge=3, runway_hours=0, max_failed=3, max_failed_share=1, progress_minutes=0.3)
GO_BACK = (Phase.RUNNING, Phase.ASLEEP)
HASTY = PLAN.model_copy(update={"progress_minutes": 0.001})
"""It pauses at once, for want of progress."""
MOST, FEWEST = 18, 6
"""Agents at the same time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that somebody has sent."""

    agent_id: int
    chat_id: int
    at: float


class Deeds:
    """One at a time; each is a change of rows, as the front end and the operator's commands make it."""

    def __init__(self, database: Database, agents: Agents, books: Books, dice: random.Random) -> None:
        self._database = database
        self._agents = agents
        self._books = books
        self._dice = dice
        self._control = Control(database, by="chaos", setting=RELEASE)
        self.done: Counter[str] = Counter()
        self.asked: dict[str, Asked] = {}
        self.restored: set[int] = set()
        """Agents whose owner has taken something back, or tried to."""
        self._deeds: dict[str, Callable[[], Awaitable[object]]] = {
            "create": self.create,
            "chat": self.chat,
            "update": self.update,
            "delete": self.delete,
            "sleep": self.sleep,
            "wake": self.wake,
            "rollout": self.rollout,
            "restore": self.restore,
            "retry": self.retry,
        }

    async def any(self) -> None:
        """Whatever comes to somebody's mind."""
        living = len(await self.living())
        names, weights = zip(*WEIGHTS.items(), strict=True)
        name = self._dice.choices(names, weights)[0]
        if living < FEWEST or (name == "create" and living > MOST):
            name = "create" if living < FEWEST else "delete"
        await self.do(name)

    async def do(self, name: str) -> None:
        self.done[name] += 1
        await self._deeds[name]()

    async def create(self) -> None:
        number = self.done["create"]
        draft = Draft(user_id=OLGA, chat_id=OLGA, name=f"agent-{number}", job="cooks", model="m")
        await self._agents.create(draft, CARD)

    async def chat(self) -> None:
        if agent := await self._one():
            await self.ask(agent)

    async def ask(self, agent: Agent) -> None:
        """Write to it; nobody waits for the answer."""
        number = len(self.asked) + 1
        turn_id, chat_id = f"u{number}", (agent.id or 0) * CHATS + self._dice.randrange(CHATS)
        turn = Turn(
            id=turn_id,
            agent_id=agent.id or 0,
            chat_id=chat_id,
            user_id=OLGA,
            message_id=number,
            message=f"message {number}",
            sequence=number,
        )
        async with self._database.session() as session:
            session.add(turn)
        self.asked[turn_id] = Asked(agent.id or 0, chat_id, time.monotonic())

    async def update(self) -> None:
        if agent := await self._one(Phase.RUNNING):
            others = [release for release in RELEASES if release != agent.release]
            await self._books.wish(agent.id or 0, release=self._dice.choice(others))

    async def delete(self) -> None:
        if agent := await self._one():
            await self._agents.delete(agent.id or 0, CARD)

    async def sleep(self) -> None:
        if agent := await self._one(Phase.RUNNING):
            await self._books.wish(agent.id or 0, wanted=Wanted.ASLEEP)

    async def wake(self) -> None:
        if agent := await self._one(Phase.ASLEEP):
            await self._books.wish(agent.id or 0, wanted=Wanted.ON)

    async def restore(self) -> None:
        """Have one go back to something that it was before."""
        for agent in self._dice.sample(living := await self.living(), len(living)):
            is_settled = agent.observed_generation == agent.generation
            snapshots = await self._snapshots(agent) if is_settled and agent.phase in GO_BACK else []
            if snapshots:
                self.restored.add(agent.id or 0)
                await self._books.wish(agent.id or 0, wanted=Wanted.ON, restore=self._dice.choice(snapshots))
                return

    async def retry(self) -> None:
        for agent in await self.living():
            if agent.phase is Phase.FAILED:
                await self._agents.try_again(agent.id or 0, CARD)

    async def rollout(self) -> None:
        """Begin one, or say something to the one that is open."""
        words: list[Callable[[], Awaitable[object]]] = [
            self._begin,
            self._control.pause,
            self._control.resume,
            self._control.abort,
            self._undo,
        ]
        try:
            await self._dice.choice(words)()
        except RolloutRefused:
            self.done["rollout refused"] += 1

    async def end_rollout(self) -> None:
        try:
            await self._control.abort()
        except RolloutRefused:
            return

    async def living(self) -> list[Agent]:
        """Whom nobody has deleted."""
        async with self._database.session() as session:
            return list(await session.exec(select(Agent).where(col(Agent.wanted) != Wanted.DELETED)))

    async def _snapshots(self, agent: Agent) -> list[str]:
        is_theirs = (col(Snapshot.agent_id) == agent.id, col(Snapshot.state) == SnapshotState.WHOLE)
        query = select(col(Snapshot.id)).where(*is_theirs)
        async with self._database.session() as session:
            return list(await session.exec(query))

    async def _one(self, phase: Phase | None = None) -> Agent | None:
        """An agent in this phase, if there is one, or else any."""
        living = await self.living()
        preferred = [agent for agent in living if phase in {None, agent.phase}] or living
        return self._dice.choice(preferred) if preferred else None

    async def begin_rollout(self, plan: Plan) -> None:
        """Begin one, instead of what is open."""
        await self.end_rollout()
        try:
            await self._begin(plan)
        except RolloutRefused:
            self.done["rollout refused"] += 1

    async def wake_by_word(self) -> None:
        """Write to whoever sleeps."""
        for agent in await self.living():
            if agent.wanted is Wanted.ASLEEP:
                await self.ask(agent)

    async def _begin(self, plan: Plan = PLAN) -> None:
        await self._control.begin(await self._control.draft(self._dice.choice(RELEASES), plan))

    async def _undo(self) -> None:
        await self._control.begin(await self._control.undo(PLAN))


WEIGHTS = {
    "create": 12,
    "chat": 48,
    "update": 9,
    "delete": 7,
    "sleep": 9,
    "wake": 4,
    "rollout": 7,
    "restore": 4,
    "retry": 4,
}
