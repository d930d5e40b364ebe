"""What the operator's words mean for a plan, and a plan in words."""

from typing import Any

from pydantic import ValidationError

from bot.errors import RolloutRefused
from bot.fleet.rollout.control import Draft
from bot.fleet.rollout.forecast import forecast
from bot.fleet.rollout.plan import Plan, batches
from bot.fleet.rollout.status import duration, short
from bot.settings import Settings

NAMED = 5


def plan_of(settings: Settings, words: dict[str, Any]) -> Plan:
    """What was not said is as the settings have it."""
    said = {
        "soak_minutes": words["soak"],
        "batch": words["batch"],
        "surge": words["surge"],
        "max_failed": words["max_failed"],
        # Who says a number means it, however small the batch.
        "max_failed_share": 1.0 if words["max_failed"] else None,
        "progress_minutes": words["patience"],
        "takes_back": False if words.get("keep_canaries") else None,
    }
    usual = {
        "soak_minutes": settings.rollout_soak_minutes,
        "batch": settings.rollout_batch,
        "surge": settings.rollout_surge,
    }
    try:
        return Plan.model_validate(usual | {name: value for name, value in said.items() if value is not None})
    except ValidationError as error:
        raise RolloutRefused("; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())) from None


def told(draft: Draft, each: float) -> str:
    """What will happen, how long it takes and what it costs."""
    plan, crew = draft.plan, draft.crew
    canaries = [member.agent_id for member in crew if member.is_canary]
    sizes = [sum(member.is_open for member in cut) for cut in batches(crew, plan)]
    soak = plan.soak_minutes * 60 if canaries else 0.0
    cost = forecast(crew, plan, each, soak=soak)
    lines = [
        f"{short(draft.previous)} → {short(draft.release)}",
        f"agents {len(crew)}: {_canaries(canaries, plan)}, then batches of {_sizes(sizes)}, {plan.surge} at a time",
        f"about {duration(cost.seconds)}; second machines run {cost.machine_hours:.1f} h, ~{cost.credits:g} credits",
    ]
    asleep = sum(member.is_asleep for member in crew)
    if asleep:
        lines.append(f"asleep {asleep}: not woken, they wake with it")
    if plan.excused:
        lines.append(f"failed before {len(plan.excused)}: they are tried with it too, and pause nothing")
    return "\n".join(lines)


def _canaries(canaries: list[int], plan: Plan) -> str:
    if not canaries:
        return "no canaries"
    names = ", ".join(map(str, canaries[:NAMED])) + (", …" if len(canaries) > NAMED else "")
    return f"canaries {len(canaries)} (agent {names}) watched for {plan.soak_minutes:g} min"


def _sizes(sizes: list[int]) -> str:
    """First, next, and how many in all."""
    busy = [size for size in sizes if size]
    if not busy:
        return "nobody"
    shown = ", ".join(map(str, busy[:2]))
    return f"{shown}, … ({len(busy)} batches)" if len(busy) > 2 else shown  # noqa: PLR2004
