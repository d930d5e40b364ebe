"""What machines cost: hours and credits of each agent and of all, how it goes on, and how long the balance lasts.

It is counted from the rows of machines, which stay when a machine is gone. A machine counts to the agent that has it
last, also for the time it waited in the pool.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, case, func, or_
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlmodel import col, select

from bot.fleet.machine_rows import owned_since
from bot.fleet.runway import Burn, Paid
from bot.machines.provider import Priced
from bot.store.database import Database
from bot.store.models import Agent, Machine, MachineState, Wanted

HOUR, DAY = 3_600.0, 86_400.0
MONTH_HOURS = 30 * 24
BURN_SECONDS = 60.0
"""So long the balance is remembered: to ask for it is work for the network."""
POOL = "pool"


@dataclass(frozen=True, slots=True)
class Usage:
    """Hours of machines and the provider's credits: since the month began (UTC), and ever. `per_hour` is spent now."""

    hours_month: float
    hours: float
    credits_month: int
    credits: int
    per_hour: float

    @property
    def forecast(self) -> int:
        """Credits of the next 30 days, if everything stays as it is."""
        return round(self.per_hour * MONTH_HOURS)


@dataclass(frozen=True, slots=True)
class Account:
    """What an agent costs, or (`agent_id` 0) the pool; `state` is its phase."""

    agent_id: int
    name: str
    owner_id: int
    state: str
    usage: Usage


class Rents(Protocol):
    """The part of a provider that is asked, if it has it, for prices and the balance."""

    name: str


class Money:
    """Reads rows, and asks the provider that is paid for machines."""

    def __init__(
        self, database: Database, provider: Rents | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`provider` if it is known here: prices and the balance are its."""
        self._database = database
        self._provider = provider
        self._clock = clock
        self._burn: tuple[float, Burn] | None = None

    async def total(self) -> Usage:
        """Of all machines, also those of deleted agents."""
        async with self._database.transaction() as transaction:
            query = select(*_sums(self._clock(), col(Machine.created_at))).where(*_COSTS)
            row = (await transaction.execute(query)).one()
        return _usage(row)

    async def account(self, agent_id: int) -> Usage:
        """Of one agent (0: the pool, with what its machines cost before agents took them); all zero if it had none."""
        if agent_id:
            query = select(*_sums(self._clock(), owned_since())).where(col(Machine.agent_id) == agent_id, *_COSTS)
        else:
            query = select(*_pool_sums(self._clock())).where(*_COSTS)
        async with self._database.transaction() as transaction:
            return _usage((await transaction.execute(query)).one())

    async def accounts(self, owner_id: int | None = None) -> list[Account]:
        """Of each agent (of one owner), the one that costs most this month first; of all, then also of the pool.

        Agents that were deleted are left out if they have cost nothing this month.
        """
        async with self._database.transaction() as transaction:
            rows = (await transaction.execute(_per_agent(self._clock(), owner_id))).all()
        accounts = [Account(row.id, row.name, row.owner_id, row.phase.value, _usage(row)) for row in rows]
        if owner_id is None and (pool := await self.account(0)).hours:
            accounts.append(Account(0, POOL, 0, POOL, pool))
        return accounts

    async def credits_per_hour(self) -> float:
        """What one more machine would cost; 0 where machines are one's own."""
        return await self._provider.credits_per_hour() if isinstance(self._provider, Priced) else 0.0

    async def burn(self) -> Burn | None:
        """The balance, not older than a minute; None where nothing is paid for."""
        if not isinstance(self._provider, Paid):
            return None
        if self._burn is None or self._clock() - self._burn[0] > BURN_SECONDS:
            self._burn = (self._clock(), await self._provider.burn())
        return self._burn[1]

    async def runway(self) -> float | None:
        """Hours that the balance lasts (infinite if nothing is spent); None where nothing is paid for."""
        burn = await self.burn()
        return burn.hours if burn else None

    async def affordable(self) -> int | None:
        """How many more machines the balance lasts for, each for a day like those that run; None: as many as one likes.

        The network rents none beyond that, and takes away what runs (aleph.md §5).
        """
        burn, price = await self.burn(), await self.credits_per_hour()
        if burn is None or price <= 0:
            return None
        free = burn.balance - burn.per_second * DAY
        return max(0, int(free // (price * DAY / HOUR)))


def month_start(now: float) -> float:
    """Unix time at which the calendar month began (UTC)."""
    midnight = {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    return datetime.fromtimestamp(now, UTC).replace(**midnight).timestamp()  # type: ignore[arg-type]


def spent(since: float, now: float) -> ColumnElement[float]:
    """SQL: the credits of a machine's row between these times."""
    return _credits(_seconds(since, now, col(Machine.created_at)))


def spent_on_agent(since: float, now: float) -> ColumnElement[float]:
    """SQL: those of them that its agent has cost, and not the pool before."""
    return _credits(_seconds(since, now, owned_since()))


def _credits(seconds: ColumnElement[float]) -> ColumnElement[float]:
    return seconds * col(Machine.credits_per_hour) / HOUR


def costs_since(since: float) -> tuple[ColumnElement[bool], ...]:
    """SQL: the machines that may have cost something since then."""
    return (*_COSTS, or_(col(Machine.gone_at).is_(None), col(Machine.gone_at) > since))


# What was only intended has cost nothing.
_COSTS = (col(Machine.state) != MachineState.INTENT,)


def _seconds(
    since: float, now: float, begun: SQLCoreOperations[float], ended: SQLCoreOperations[Any] | None = None
) -> ColumnElement[float]:
    """Of a machine's time from `begun` to `ended` (or its end, or now), what lies after `since`."""
    end = func.coalesce(col(Machine.gone_at), now) if ended is None else ended
    start = case((begun < since, since), else_=begun)
    return case((end > start, end - start), else_=0.0)


def _sums(now: float, begun: SQLCoreOperations[float]) -> list[ColumnElement[Any]]:
    month, is_here = month_start(now), col(Machine.state) != MachineState.GONE
    per_hour = case((is_here, col(Machine.credits_per_hour)), else_=0.0)
    return _totals(_seconds(month, now, begun), _seconds(0.0, now, begun), per_hour)


def _pool_sums(now: float) -> list[ColumnElement[Any]]:
    month, is_pools = month_start(now), col(Machine.agent_id) == 0
    created, claimed = col(Machine.created_at), col(Machine.claimed_at)

    def seconds(since: float) -> ColumnElement[float]:
        before = case((claimed.is_not(None), _seconds(since, now, created, claimed)), else_=0.0)
        return case((is_pools, _seconds(since, now, created)), else_=before)

    is_here = is_pools & (col(Machine.state) != MachineState.GONE)
    return _totals(seconds(month), seconds(0.0), case((is_here, col(Machine.credits_per_hour)), else_=0.0))


def _totals(
    month: ColumnElement[float], ever: ColumnElement[float], per_hour: ColumnElement[float]
) -> list[ColumnElement[Any]]:
    sums = {
        "hours_month": month / HOUR,
        "hours": ever / HOUR,
        "credits_month": _credits(month),
        "credits": _credits(ever),
        "per_hour": per_hour,
    }
    return [func.coalesce(func.sum(each), 0.0).label(name) for name, each in sums.items()]


def _per_agent(now: float, owner_id: int | None) -> Select[Any]:
    sums = (
        select(col(Machine.agent_id), *_sums(now, owned_since()))
        .where(*_COSTS)
        .group_by(col(Machine.agent_id))
        .subquery()
    )
    figures = [func.coalesce(each, 0.0).label(each.name) for each in sums.columns if each.name != "agent_id"]
    this_month = func.coalesce(sums.c.credits_month, 0.0)
    agent: list[Any] = [col(Agent.id), col(Agent.name), col(Agent.owner_id), col(Agent.phase)]
    query: Select[Any] = select(*agent, *figures).outerjoin(sums, col(Agent.id) == sums.c.agent_id)
    query = query.where(or_(col(Agent.wanted) != Wanted.DELETED, this_month > 0))
    query = query.order_by(this_month.desc(), col(Agent.id))
    return query if owner_id is None else query.where(col(Agent.owner_id) == owner_id)


def _usage(row: Any) -> Usage:
    return Usage(
        hours_month=row.hours_month,
        hours=row.hours,
        credits_month=round(row.credits_month),
        credits=round(row.credits),
        per_hour=row.per_hour,
    )
