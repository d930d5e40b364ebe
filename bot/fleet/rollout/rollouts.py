"""Rollouts in the database. What changes one says in which state it must be found: late words change nothing."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from bot.errors import RolloutRefused
from bot.fleet.rollout.crew import Member
from bot.fleet.rollout.muster import read_agents, read_crew
from bot.fleet.rollout.plan import Plan
from bot.store.audit import Auditor
from bot.store.database import Database
from bot.store.models import Agent, Phase, Wanted
from bot.store.records import Audit, ItemState, Notice, Rollout, RolloutItem, RolloutState

WATCHER = "rollout"
"""Who stands in the audit for what nobody said."""
ROWS_AT_ONCE = 500
"""SQLite takes some thirty thousand values in a statement."""


class Rollouts:
    """Rows of `rollout` and `rollout_item`, with what is true of their agents."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._audit = Auditor(database, clock=clock)

    async def open(self) -> Rollout | None:
        """The one that is under way, or paused."""
        async with self._database.session() as session:
            return (await session.exec(select(Rollout).where(col(Rollout.is_open)))).first()

    async def last(self) -> Rollout | None:
        """The newest, open or not."""
        async with self._database.session() as session:
            return (await session.exec(select(Rollout).order_by(col(Rollout.id).desc()).limit(1))).first()

    async def has_state(self, rollout: Rollout) -> bool:
        """It is as it was when it was read."""
        async with self._database.session() as session:
            now = await session.get_one(Rollout, rollout.id)
        return now.is_open and now.state is rollout.state

    async def agents(self, target: str) -> list[Member]:
        """All agents, as members of a rollout to this release that has not begun."""
        return await read_agents(self._database, target)

    async def crew(self, rollout: Rollout, *, under_way: bool = False) -> list[Member]:
        """Its agents, by id; those alone that are under way, if these are enough."""
        return await read_crew(self._database, rollout, under_way=under_way)

    async def begin(self, rollout: Rollout, crew: Sequence[Member], *, ends: Rollout | None = None) -> Rollout:
        """Open it; `RolloutRefused` if another one is open. `ends`: an open one that ends with it.

        In one transaction: there is never half a rollout.
        """
        try:
            async with self._database.session() as session:
                if ends is not None:
                    await self._end(session, ends, RolloutState.ABORTED, reason="undone", by=rollout.by)
                session.add(rollout)
                await session.flush()
                items = [_item(rollout.id or 0, member).model_dump() for member in crew]
                # No objects: ten thousand would keep the bot that runs off its database for seconds.
                await (await session.connection()).execute(insert(RolloutItem), items)
                session.add(self._begun(rollout, agents=len(items)))
        except IntegrityError as error:
            raise RolloutRefused(
                "a rollout is open already: look with `baal rollout status`, end it with `baal rollout abort`"
            ) from error
        return rollout

    async def join(self, rollout: Rollout, crew: Collection[Member]) -> None:
        """Agents that were made since it began take part; one that does already, does."""
        items = [_item(rollout.id or 0, member).model_dump() for member in crew]
        async with self._database.transaction() as transaction:
            for begin in range(0, len(items), ROWS_AT_ONCE):
                new = self._database.insert_new(RolloutItem, items[begin : begin + ROWS_AT_ONCE])
                await transaction.execute(new)

    async def mark(self, rollout: Rollout, member: Member, state: ItemState, reason: str = "") -> bool:
        """Write down how far an agent is; False if somebody has written something else meanwhile."""
        async with self._database.transaction() as transaction:
            values = {"state": state, "reason": reason} | self._times(state)
            return bool((await transaction.execute(_of(rollout, member).values(**values))).rowcount)

    async def elect(self, rollout: Rollout, agent_ids: Collection[int]) -> None:
        """Make them canaries: those that were chosen fell asleep, or were deleted."""
        async with self._database.transaction() as transaction:
            mine = (col(RolloutItem.rollout_id) == rollout.id, col(RolloutItem.agent_id).in_(agent_ids))
            await transaction.execute(update(RolloutItem).where(*mine).values(is_canary=True))

    async def dream(self, rollout: Rollout, member: Member) -> bool:
        """What sleeps shall wake with the release, and is not woken for it; False if it has just woken."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(
                col(Agent.id) == member.agent_id,
                col(Agent.wanted) == Wanted.ASLEEP,
                col(Agent.phase) == Phase.ASLEEP,
                col(Agent.observed_generation) == col(Agent.generation),
            )
            if not (await transaction.execute(change.values(release=member.target))).rowcount:
                return False
            values = {"state": ItemState.ASLEEP, "reason": ""} | self._times(ItemState.ASLEEP)
            await transaction.execute(_of(rollout, member).values(**values))
        return True

    async def move(
        self, rollout: Rollout, state: RolloutState, *, by: str = WATCHER, reason: str = "", plan: Plan | None = None
    ) -> bool:
        """From the state that it was read in to another; False if somebody was faster."""
        async with self._database.session() as session:
            values: dict[str, Any] = {"state": state, "reason": reason, "changed_at": self._clock()}
            if plan is not None:
                values["plan"] = plan.model_dump(mode="json")
            if not (await session.exec(_as_read(rollout).values(**values))).rowcount:
                return False
            entry = self._audit.entry(by, f"rollout {state}", rollout=rollout.id, before=rollout.state, reason=reason)
            session.add(entry)
            if state is RolloutState.PAUSED and by == WATCHER:
                session.add(self._notice(rollout, state, reason=reason))
        return True

    async def retry(self, rollout: Rollout, excused: Collection[int]) -> None:
        """Those that failed, or were taken back, are tried again; the excused are not."""
        async with self._database.transaction() as transaction:
            failed = (col(RolloutItem.state) == ItemState.FAILED, col(RolloutItem.agent_id).not_in(excused))
            back = (col(RolloutItem.state) == ItemState.WAITING, col(RolloutItem.reason) != "")
            fresh = {"state": ItemState.WAITING, "reason": "", "begun_at": None, "ended_at": None}
            for which in (failed, back):
                change = update(RolloutItem).where(col(RolloutItem.rollout_id) == rollout.id, *which)
                await transaction.execute(change.values(**fresh))

    async def end(self, rollout: Rollout, state: RolloutState, *, by: str = WATCHER, reason: str = "") -> bool:
        """Close it; agents that were still waited for are passed over. False if somebody was faster."""
        async with self._database.session() as session:
            return await self._end(session, rollout, state, reason=reason, by=by)

    async def _end(self, session: AsyncSession, rollout: Rollout, state: RolloutState, *, reason: str, by: str) -> bool:
        now = self._clock()
        values = {"state": state, "is_open": False, "reason": reason, "changed_at": now, "ended_at": now}
        if not (await session.exec(_as_read(rollout).values(**values))).rowcount:
            return False
        rest = update(RolloutItem).where(
            col(RolloutItem.rollout_id) == rollout.id,
            col(RolloutItem.state).in_((ItemState.WAITING, ItemState.UPDATING)),
        )
        await session.exec(rest.values(state=ItemState.SKIPPED, reason=reason or "it had ended before", ended_at=now))
        session.add(self._audit.entry(by, f"rollout {state} and closed", rollout=rollout.id, reason=reason))
        session.add(self._notice(rollout, state, reason=reason))
        return True

    def _begun(self, rollout: Rollout, *, agents: int) -> Audit:
        return self._audit.entry(
            rollout.by,
            "rollout start" if rollout.undoes is None else "rollout undo",
            rollout=rollout.id,
            release=rollout.release,
            previous=rollout.previous,
            undoes=rollout.undoes,
            agents=agents,
            plan=rollout.plan,
        )

    def _notice(self, rollout: Rollout, state: RolloutState, *, reason: str) -> Notice:
        """To the operator, whoever that is; the moment makes it a new one each time."""
        now = self._clock()
        facts = {"rollout": rollout.id, "release": rollout.release, "reason": reason}
        name = f"rollout {rollout.id} {state} {now}"
        return Notice(id=name, user_id=0, text=f"notice-operator-rollout-{state}", facts=facts, created_at=now)

    def _times(self, state: ItemState) -> dict[str, float | None]:
        if state is ItemState.UPDATING:
            return {"begun_at": self._clock(), "ended_at": None}
        return {"ended_at": None if state is ItemState.WAITING else self._clock()}


def _item(rollout_id: int, member: Member) -> RolloutItem:
    return RolloutItem(
        rollout_id=rollout_id, agent_id=member.agent_id, previous=member.previous, is_canary=member.is_canary
    )


def _of(rollout: Rollout, member: Member) -> Any:
    return update(RolloutItem).where(
        col(RolloutItem.rollout_id) == rollout.id,
        col(RolloutItem.agent_id) == member.agent_id,
        col(RolloutItem.state) == member.state,
    )


def _as_read(rollout: Rollout) -> Any:
    return update(Rollout).where(
        col(Rollout.id) == rollout.id, col(Rollout.is_open), col(Rollout.state) == rollout.state
    )
