"""How far a rollout is: in numbers, for scripts, for a terminal and for a chat."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from bot.fleet.rollout.crew import Member
from bot.fleet.rollout.forecast import forecast, usual_seconds
from bot.fleet.rollout.plan import Plan, batches, current
from bot.fleet.rollout.rollouts import Rollouts
from bot.store.database import Database
from bot.store.records import ItemState, Rollout, RolloutState

BAR_CELLS = 20
ENDED = (ItemState.DONE, ItemState.ASLEEP, ItemState.SKIPPED, ItemState.FAILED)
SHORT_DIGEST = 12
SHOWN_FAILURES = 20


class Failure(BaseModel):
    """An agent that was not updated, and why."""

    agent_id: int
    reason: str


class Status(BaseModel):
    """The names of these fields are those of `baal rollout status --json`, which scripts read. Times: Unix."""

    id: int
    state: RolloutState
    is_open: bool
    release: str
    previous: str
    reason: str
    by: str
    undoes: int | None
    started_at: float
    changed_at: float
    ended_at: float | None
    total: int
    done: int
    updating: int
    waiting: int
    postponed: int
    """Of those that wait: something else is being done with them."""
    asleep: int
    failed: int
    skipped: int
    canaries: int
    canaries_done: int
    batch: int
    """Which is at work, from 1; 0: none."""
    batches: int
    percent: int
    eta_seconds: float | None
    """None: paused, or not open."""
    extra_credits: float
    """What the second machines of the rest will cost."""
    failures: list[Failure]

    @property
    def is_well(self) -> bool:
        """Done or on its way, and nobody failed."""
        return self.state not in {RolloutState.PAUSED, RolloutState.ABORTED} and not self.failed


@dataclass(frozen=True, slots=True)
class Look:
    """What a status is made of."""

    rollout: Rollout
    crew: Sequence[Member]
    each: float
    """Seconds that one update usually takes."""


async def read_status(database: Database, *, now: float) -> Status | None:
    """Of the newest rollout; None: there never was one."""
    rollouts = Rollouts(database)
    rollout = await rollouts.last()
    if rollout is None:
        return None
    return status(Look(rollout, await rollouts.crew(rollout), await usual_seconds(database)), now=now)


def status(look: Look, *, now: float) -> Status:
    """The numbers."""
    rollout, crew, plan = look.rollout, look.crew, Plan.model_validate(look.rollout.plan)
    counts = Counter(member.state for member in crew)
    ended = sum(counts[state] for state in ENDED)
    canaries = [member for member in crew if member.is_canary]
    cuts = batches(crew, plan)
    number = current(cuts) if rollout.state is RolloutState.ROLLING else None
    rest = forecast(crew if rollout.is_open else (), plan, look.each, soak=_soak_left(rollout, plan, now))
    is_on_its_way = rollout.is_open and rollout.state is not RolloutState.PAUSED
    return Status(
        **rollout.model_dump(exclude={"plan"}),
        total=len(crew),
        done=counts[ItemState.DONE],
        updating=counts[ItemState.UPDATING],
        waiting=counts[ItemState.WAITING],
        postponed=sum(member.is_postponed for member in crew),
        asleep=counts[ItemState.ASLEEP],
        failed=counts[ItemState.FAILED],
        skipped=counts[ItemState.SKIPPED],
        canaries=len(canaries),
        canaries_done=sum(member.state is ItemState.DONE for member in canaries),
        batch=0 if number is None else number + 1,
        batches=len(cuts),
        percent=100 * ended // len(crew) if crew else 100,
        eta_seconds=round(rest.seconds) if is_on_its_way else None,
        extra_credits=round(rest.credits, 2),
        failures=[
            Failure(agent_id=member.agent_id, reason=member.reason)
            for member in crew
            if member.state is ItemState.FAILED
        ],
    )


def _soak_left(rollout: Rollout, plan: Plan, now: float) -> float:
    if rollout.state is RolloutState.CANARY:
        return plan.soak_minutes * 60
    is_soaking = rollout.state is RolloutState.SOAKING
    return max(0.0, plan.soak_minutes * 60 - (now - rollout.changed_at)) if is_soaking else 0.0


def card(status: Status) -> str:
    """A few lines of plain text: what it is, how far, how much longer, and what is wrong."""
    undone = f" (undoes {status.undoes})" if status.undoes else ""
    lines = [
        f"Rollout #{status.id}{undone}  {short(status.previous)} → {short(status.release)}",
        f"{status.state}  {bar(status)} {status.percent} %  {status.total - _left(status)}/{status.total}",
        _numbers(status),
    ]
    if status.eta_seconds is not None:
        lines.append(f"eta {duration(status.eta_seconds)} · extra cost ~{status.extra_credits:g} credits")
    if status.reason:
        lines.append(f"⚠ {status.reason}")
    shown = status.failures[:SHOWN_FAILURES]
    lines += [f"✗ agent {failure.agent_id}: {failure.reason}" for failure in shown]
    if len(status.failures) > len(shown):
        lines.append(f"✗ and {len(status.failures) - len(shown)} more")
    return "\n".join(lines)


def bar(status: Status) -> str:
    """Filled as far as agents have ended, in whichever way."""
    filled = BAR_CELLS * status.percent // 100
    return "▓" * filled + "░" * (BAR_CELLS - filled)


def short(release: str) -> str:
    """A release's name with the first figures of its digest."""
    name, _, digest = release.rpartition("sha256:")
    return f"{name}sha256:{digest[:SHORT_DIGEST]}…" if len(digest) > SHORT_DIGEST and name != release else release


def duration(seconds: float) -> str:
    """In words as short as they can be."""
    minutes = round(seconds / 60)
    if not minutes:
        return f"{round(seconds)} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004


def _left(status: Status) -> int:
    return status.waiting + status.updating


def _numbers(status: Status) -> str:
    parts = [f"canary {status.canaries_done}/{status.canaries}", f"done {status.done}", f"updating {status.updating}"]
    if status.batch:
        parts.insert(1, f"batch {status.batch}/{status.batches}")
    named = ("waiting", "postponed", "asleep", "failed", "skipped")
    parts += [f"{name} {getattr(status, name)}" for name in named if getattr(status, name)]
    return " · ".join(parts)
