"""How often turns fail: with the agents that were updated, and with the others."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func
from sqlmodel import col, select

from bot.fleet.rollout.plan import Plan
from bot.store.database import Database
from bot.store.models import Turn, TurnState
from bot.store.records import ItemState, Rollout, RolloutItem

BEFORE_SECONDS = 24 * 3600.0
"""So long before the rollout counts what all agents did: at its end there are no others to compare with."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Turns that have ended, and those of them that failed."""

    turns: int = 0
    failed: int = 0

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.failed / self.turns if self.turns else 0.0


async def errors_rise(database: Database, rollout: Rollout, plan: Plan) -> str:
    """Why the release is to be suspected; empty if it is not, or not enough was said to know."""
    updated = await _ask(database, _of_updated(rollout))
    if updated.turns < plan.error_turns or updated.share <= plan.error_floor:
        return ""
    # Of all turns of a day: asked for only where there is something to compare.
    everybody = await _ask(database, _counted().where(col(Turn.created_at) >= rollout.started_at - BEFORE_SECONDS))
    others = Faults(everybody.turns - updated.turns, everybody.failed - updated.failed)
    if updated.share <= plan.error_factor * others.share:
        return ""
    return f"{updated.share:.0%} of {updated.turns} turns of updated agents failed, {others.share:.0%} of the others'"


def _of_updated(rollout: Rollout) -> Any:
    """Turns since their agent's update, and since the rollout began to do what it does: resumed, it counts anew."""
    is_after = (col(Turn.agent_id) == col(RolloutItem.agent_id)) & (col(Turn.created_at) >= col(RolloutItem.ended_at))
    is_mine = (col(RolloutItem.rollout_id) == rollout.id, col(RolloutItem.state) == ItemState.DONE)
    is_new = col(Turn.created_at) >= rollout.changed_at
    return _counted().join(RolloutItem, is_after).where(*is_mine, is_new)


def _counted() -> Any:
    failures = func.sum(case((col(Turn.state) == TurnState.FAILED, 1), else_=0))
    has_ended = col(Turn.state).in_((TurnState.DONE, TurnState.FAILED))
    return select(func.count(), failures).select_from(Turn).where(has_ended)


async def _ask(database: Database, query: Any) -> Faults:
    async with database.session() as session:
        turns, failed = (await session.exec(query)).one()
    return Faults(turns, int(failed or 0))
