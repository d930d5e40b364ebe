"""Why a rollout has to pause: from what its rows and the clock say. An empty text: it may go on."""

from collections.abc import Sequence

from bot.fleet.rollout.crew import Member
from bot.fleet.rollout.plan import Plan, batches
from bot.store.records import ItemState, Rollout

NAMED = 5
"""So many agents are named in a reason."""


def failures(crew: Sequence[Member], plan: Plan) -> list[Member]:
    """Those that failed, and count."""
    return [member for member in crew if member.state is ItemState.FAILED and member.agent_id not in plan.excused]


def canaries_failed(crew: Sequence[Member], plan: Plan) -> str:
    """One is enough."""
    failed = [member for member in failures(crew, plan) if member.is_canary]
    return f"canary failed: {_told(failed)}" if failed else ""


def batch_failed(crew: Sequence[Member], plan: Plan) -> str:
    """Too many of one batch; it may be one that has ended."""
    for number, batch in enumerate(batches(crew, plan), start=1):
        failed = failures(batch, plan)
        if len(failed) >= plan.max_failed or len(failed) >= max(1, plan.max_failed_share * len(batch)):
            return f"{len(failed)} of {len(batch)} in batch {number} failed: {_told(failed)}"
    return ""


def progress_missing(rollout: Rollout, crew: Sequence[Member], plan: Plan, now: float) -> str:
    """Nothing has ended for too long. A pause does not count: with its end the clock starts anew."""
    last = max([rollout.changed_at, *(member.ended_at or 0 for member in crew)])
    if now - last < plan.progress_minutes * 60:
        return ""
    stuck = [member for member in crew if member.state is ItemState.UPDATING or member.is_postponed]
    names = ", ".join(str(member.agent_id) for member in stuck[:NAMED])
    return f"no progress in {plan.progress_minutes:g} minutes" + (f"; waiting for agent {names}" if names else "")


def runway_short(hours: float | None, plan: Plan) -> str:
    """The balance would end too soon."""
    if hours is None or hours >= plan.runway_hours:
        return ""
    return f"the credits last {hours:.0f} h, less than {plan.runway_hours:g} h: top up the wallet"


def none_affordable(count: int | None, under_way: int) -> str:
    """The balance allows no second machine, and none is about to come back."""
    if count is None or count > 0 or under_way:
        return ""
    return "the credits do not allow one more machine (24 hours of all have to be there): top up the wallet"


def _told(members: Sequence[Member]) -> str:
    told = "; ".join(f"agent {member.agent_id}: {member.reason}" for member in members[:NAMED])
    return told + (f"; and {len(members) - NAMED} more" if len(members) > NAMED else "")
