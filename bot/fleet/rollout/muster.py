"""Read the agents of a rollout, with what is true of them now. Columns and no objects: there may be ten thousand."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from bot.fleet.rollout.crew import Member
from bot.store.database import Database
from bot.store.models import Agent, Machine, Wanted
from bot.store.records import ItemState, Rollout, RolloutItem

AGENT: tuple[Any, ...] = (
    Agent.id,
    Agent.owner_id,
    Agent.wanted,
    Agent.phase,
    Agent.generation,
    Agent.observed_generation,
    Agent.release,
    Agent.error,
    Agent.error_code,
)
ITEM: tuple[Any, ...] = (
    RolloutItem.previous,
    RolloutItem.is_canary,
    RolloutItem.state,
    RolloutItem.reason,
    RolloutItem.begun_at,
    RolloutItem.ended_at,
)


async def read_agents(database: Database, target: str) -> list[Member]:
    """All agents, as members of a rollout to this release that has not begun."""
    async with database.transaction() as transaction:
        rows = await transaction.execute(_facts().where(col(Agent.wanted) != Wanted.DELETED).order_by(col(Agent.id)))
        return [Member(target=target, previous=row.serving or row.release, **_known(row)) for row in rows]


async def read_crew(database: Database, rollout: Rollout, *, under_way: bool = False) -> list[Member]:
    """The agents of a rollout, by id; with `under_way` those alone that are being updated."""
    join = (col(RolloutItem.agent_id) == col(Agent.id)) & (col(RolloutItem.rollout_id) == rollout.id)
    query = _facts().add_columns(*ITEM).join(RolloutItem, join).order_by(col(Agent.id))
    if under_way:
        query = query.where(col(RolloutItem.state) == ItemState.UPDATING)
    async with database.transaction() as transaction:
        targets = await _targets(transaction, rollout)
        rows = await transaction.execute(query)
        return [
            Member(
                target=targets.get(row.id, rollout.release),
                **_known(row),
                **{column.key: getattr(row, column.key) for column in ITEM},
            )
            for row in rows
        ]


def _facts() -> Any:
    """Agents, and what their machine runs."""
    query = select(*AGENT, col(Machine.release).label("serving"), col(Machine.credits_per_hour)).select_from(Agent)
    return query.join(Machine, col(Machine.id) == col(Agent.machine_id), isouter=True)


async def _targets(transaction: AsyncConnection, rollout: Rollout) -> dict[int, str]:
    """What each agent goes back to, where one is undone."""
    if rollout.undoes is None:
        return {}
    query = select(col(RolloutItem.agent_id), col(RolloutItem.previous)).where(
        col(RolloutItem.rollout_id) == rollout.undoes
    )
    return {row.agent_id: row.previous for row in await transaction.execute(query)}


def _known(row: Any) -> dict[str, Any]:
    """What is true of an agent now."""
    code = f" ({row.error_code})" if row.error_code else ""
    return {
        "agent_id": row.id,
        "owner_id": row.owner_id,
        "wanted": row.wanted,
        "phase": row.phase,
        "is_settled": row.observed_generation == row.generation,
        "release": row.release,
        "serving": row.serving or "",
        "credits_per_hour": row.credits_per_hour or 0,
        "error": f"{row.error}{code}" if row.error else "",
    }
