"""How a rollout goes, decided at its start: who is canary, which batches, what it is paused for."""

import math
from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.fleet.rollout.crew import Member
from bot.store.records import RolloutState

CANARY_SHARE, MOST_CANARIES = 0.02, 5
Count = Annotated[int, Field(ge=1)]
Minutes = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Plan(BaseModel):
    """What stands in `Rollout.plan`. Shares are of all agents in the rollout, or of a batch where it says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    canaries: int = Field(default=1, ge=0)
    soak_minutes: Minutes = 10
    batch: Count = 5
    """Agents in the first batch, and at least in each."""
    batch_share: Share = 0.10
    """Agents in every batch after the first."""
    surge: Count = 5
    """Agents that are updated at the same time: each has two machines meanwhile."""
    progress_minutes: float = Field(default=40, gt=0)
    max_failed: Count = 2
    max_failed_share: Share = 0.05
    """Of a batch."""
    error_turns: Count = 20
    """So many turns of updated agents, before their errors are compared with those of the others."""
    error_factor: float = Field(default=3, gt=0)
    error_floor: float = Field(default=0.05, ge=0, lt=1)
    """A share of failed turns that is never held against a release: where the others have none, one is not many."""
    runway_hours: float = Field(default=48, ge=0)
    takes_back: bool = True
    """When a canary fails, canaries that were updated go back."""

    setting: str = ""
    """The default release as the settings had it at the start."""
    excused: tuple[int, ...] = ()
    """Agents whose failure pauses nothing: they had failed before, or the operator goes on without them."""
    resumes_as: RolloutState | None = None
    """What a paused one goes on with."""
    is_going_back: bool = False
    """A canary failed: the others are being taken back."""


def default_canaries(agents: int) -> int:
    """2 %, one at least and five at most; none where nobody is left to be spared."""
    return min(MOST_CANARIES, max(1, math.ceil(agents * CANARY_SHARE))) if agents > 1 else 0


def choose_canaries(crew: Sequence[Member], count: int, operators: Collection[int]) -> list[int]:
    """Which agents go first: of those that work, the operator's own, then the oldest."""
    able = [member for member in crew if member.is_working]
    able.sort(key=lambda member: (member.owner_id not in operators, member.agent_id))
    return [member.agent_id for member in able[:count]]


def batches(crew: Sequence[Member], plan: Plan) -> list[list[Member]]:
    """All but the canaries, by agent id, cut as planned: a few, then a tenth at a time."""
    rest = sorted((member for member in crew if not member.is_canary), key=lambda member: member.agent_id)
    cuts = [rest[: plan.batch]]
    size = max(plan.batch, math.ceil(len(crew) * plan.batch_share))
    cuts += [rest[begin : begin + size] for begin in range(plan.batch, len(rest), size)]
    return [cut for cut in cuts if cut]


def current(cuts: Sequence[Sequence[Member]]) -> int | None:
    """Which batch is at work: the first with somebody to be updated who is awake. None: none is left."""
    return next((number for number, cut in enumerate(cuts) if any(member.is_open for member in cut)), None)
