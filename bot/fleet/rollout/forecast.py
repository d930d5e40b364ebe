"""How long updates take and what they cost: while one goes on, its agent has two machines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from bot.fleet.rollout.crew import Member
from bot.fleet.rollout.plan import Plan
from bot.store.database import Database
from bot.store.records import ItemState, RolloutItem

GUESSED_SECONDS = 360.0
"""Of an update, as long as none is known."""
REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of all that is yet to be done. `credits` are the provider's."""

    seconds: float
    machine_hours: float
    credits: float


def forecast(crew: Sequence[Member], plan: Plan, each: float, *, soak: float) -> Forecast:
    """`each`: seconds that one update takes. `soak`: seconds of it that are left."""
    awake = [member for member in crew if member.is_open]
    canaries = sum(member.is_canary for member in awake)
    rounds = math.ceil(canaries / plan.surge) + math.ceil((len(awake) - canaries) / plan.surge)
    hours = len(awake) * each / 3600
    price = sum(member.credits_per_hour for member in awake) * each / 3600
    return Forecast(rounds * each + soak, hours, price)


async def usual_seconds(database: Database) -> float:
    """What the last updates took in the mean."""
    query = select(RolloutItem.begun_at, RolloutItem.ended_at).where(
        col(RolloutItem.state) == ItemState.DONE,
        col(RolloutItem.begun_at).is_not(None),
        col(RolloutItem.ended_at).is_not(None),
    )
    newest = query.order_by(col(RolloutItem.rollout_id).desc(), col(RolloutItem.ended_at).desc()).limit(REMEMBERED)
    async with database.session() as session:
        took = [(ended or 0) - (begun or 0) for begun, ended in await session.exec(newest)]
    return sum(took) / len(took) if took else GUESSED_SECONDS
