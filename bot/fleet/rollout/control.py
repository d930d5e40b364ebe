"""What an operator says to rollouts: start, pause, resume, abort, undo. The bot that runs does it, soon after."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from bot.errors import RolloutRefused
from bot.fleet.rollout.crew import Member, is_same
from bot.fleet.rollout.gates import failures
from bot.fleet.rollout.plan import Plan, choose_canaries, default_canaries
from bot.fleet.rollout.rollouts import Rollouts
from bot.store.database import Database
from bot.store.models import Phase
from bot.store.records import ItemState, Rollout, RolloutState
from bot.store.releases import Releases

STARTED = (RolloutState.CANARY, RolloutState.SOAKING, RolloutState.ROLLING)
NONE_OPEN = "no rollout is open: `baal rollout start IMAGE` begins one"


@dataclass(frozen=True, slots=True)
class Draft:
    """A rollout that could be started: nothing is written yet."""

    release: str
    previous: str
    plan: Plan
    crew: Sequence[Member]
    undoes: Rollout | None = None


class Control:
    """Each of these says at once why it cannot be (`RolloutRefused`), and writes who said it into the audit."""

    def __init__(
        self,
        database: Database,
        *,
        by: str,
        setting: str,
        operators: Collection[int] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`by`: who says it. `setting`: AGENT_IMAGE. `operators`: Telegram ids whose agents go first."""
        self._rollouts = Rollouts(database, clock=clock)
        self._releases = Releases(database, setting)
        self._by = by
        self._setting = setting
        self._operators = operators
        self._clock = clock

    async def current_release(self) -> str:
        """What new agents run now."""
        return await self._releases.newest()

    async def draft(self, release: str, plan: Plan, *, canaries: int | None = None) -> Draft:
        """A rollout of this release to everybody who has another. `canaries`: None for 2 %, five at most."""
        await self._check_none_open()
        agents = await self._rollouts.agents(release)
        crew = [member for member in agents if not is_same(member.release, release)]
        if agents and not crew:
            raise RolloutRefused(f"all {len(agents)} agents have {release} already: there is nothing to do")
        if not agents:
            raise RolloutRefused("there are no agents: set AGENT_IMAGE, and new ones run it")
        return await self._planned(release, plan, crew, canaries)

    async def undo(self, plan: Plan, *, canaries: int = 0) -> Draft:
        """A rollout of what agents ran before the last one, for those that it had reached.

        One that is open ends with it; what it has under way is waited for, and then taken back too.
        """
        last = await self._rollouts.last()
        if last is None:
            raise RolloutRefused("there is nothing to undo: no rollout was ever started")
        crew = [member for member in await self._reached(last) if not is_same(member.release, member.target)]
        if not crew:
            raise RolloutRefused(f"there is nothing to undo: rollout {last.id} has updated nobody who is still there")
        return replace(await self._planned(last.previous, plan, crew, canaries), previous=last.release, undoes=last)

    async def begin(self, draft: Draft) -> Rollout:
        """Have it done; `RolloutRefused` if another was opened meanwhile."""
        has_canary = any(member.is_canary for member in draft.crew)
        now = self._clock()
        rollout = Rollout(
            release=draft.release,
            previous=draft.previous,
            state=RolloutState.CANARY if has_canary else RolloutState.ROLLING,
            plan=draft.plan.model_dump(mode="json"),
            by=self._by,
            undoes=draft.undoes.id if draft.undoes else None,
            started_at=now,
            changed_at=now,
        )
        ends = draft.undoes if draft.undoes and draft.undoes.is_open else None
        return await self._rollouts.begin(rollout, draft.crew, ends=ends)

    async def pause(self, reason: str = "") -> Rollout:
        """Nothing new begins; what is under way goes on to its end."""
        rollout = await self._open()
        if rollout.state not in STARTED:
            raise RolloutRefused(f"rollout {rollout.id} is {rollout.state} already")
        plan = Plan.model_validate(rollout.plan).model_copy(update={"resumes_as": rollout.state})
        await self._move(rollout, RolloutState.PAUSED, reason or f"{self._by} has paused it", plan)
        return rollout

    async def resume(self, *, skip_failed: bool = False) -> Rollout:
        """Go on, and try those that failed again; with `skip_failed` without them."""
        rollout = await self._open()
        if rollout.state is not RolloutState.PAUSED:
            raise RolloutRefused(f"rollout {rollout.id} is not paused: it is {rollout.state}")
        plan = Plan.model_validate(rollout.plan)
        excused = list(plan.excused)
        if skip_failed:
            excused += [member.agent_id for member in failures(await self._rollouts.crew(rollout), plan)]
        await self._rollouts.retry(rollout, excused)
        changes = {"excused": tuple(excused), "resumes_as": None, "is_going_back": False}
        await self._move(rollout, plan.resumes_as or RolloutState.CANARY, "", plan.model_copy(update=changes))
        return rollout

    async def abort(self, reason: str = "") -> Rollout:
        """End it: nothing new begins, what is under way goes on to its end, and what is updated stays."""
        rollout = await self._open()
        if rollout.state not in {*STARTED, RolloutState.PAUSED}:
            raise RolloutRefused(f"rollout {rollout.id} is {rollout.state} already, and ends with what is under way")
        why = reason or f"{self._by} has aborted it"
        if any(member.state is ItemState.UPDATING for member in await self._rollouts.crew(rollout)):
            await self._move(rollout, RolloutState.ABORTED, why, None)
        elif not await self._rollouts.end(rollout, RolloutState.ABORTED, by=self._by, reason=why):
            raise RolloutRefused("it has just changed by itself: look with `baal rollout status`, and say it again")
        return rollout

    async def _planned(self, release: str, plan: Plan, crew: Sequence[Member], canaries: int | None) -> Draft:
        count = default_canaries(len(crew)) if canaries is None else canaries
        chosen = set(choose_canaries(crew, count, self._operators))
        ailing = tuple(member.agent_id for member in crew if member.phase is Phase.FAILED)
        full = plan.model_copy(update={"canaries": count, "setting": self._setting, "excused": ailing})
        marked = [replace(member, is_canary=member.agent_id in chosen) for member in crew]
        return Draft(release, await self.current_release(), full, marked)

    async def _reached(self, last: Rollout) -> list[Member]:
        """The agents that shall run what a rollout brought, to what they ran before; and those made with it since."""
        crew = await self._rollouts.crew(last)
        known = {member.agent_id for member in crew}
        reached = [_turned(member, member.previous) for member in crew if is_same(member.release, member.target)]
        since = [each for each in await self._rollouts.agents(last.previous) if each.agent_id not in known]
        return reached + [each for each in since if is_same(each.release, last.release)]

    async def _check_none_open(self) -> None:
        rollout = await self._rollouts.open()
        if rollout is not None:
            raise RolloutRefused(
                f"rollout {rollout.id} is open ({rollout.state}): wait for it, or `baal rollout abort` or `undo` it"
            )

    async def _open(self) -> Rollout:
        rollout = await self._rollouts.open()
        if rollout is None:
            raise RolloutRefused(NONE_OPEN)
        return rollout

    async def _move(self, rollout: Rollout, state: RolloutState, reason: str, plan: Plan | None) -> None:
        if not await self._rollouts.move(rollout, state, by=self._by, reason=reason, plan=plan):
            raise RolloutRefused("it has just changed by itself: look with `baal rollout status`, and say it again")


def _turned(member: Member, target: str) -> Member:
    """As one that has its update yet to come, from what it runs now."""
    return Member(
        agent_id=member.agent_id,
        target=target,
        previous=member.serving or member.release,
        owner_id=member.owner_id,
        wanted=member.wanted,
        phase=member.phase,
        is_settled=member.is_settled,
        release=member.release,
        serving=member.serving,
        credits_per_hour=member.credits_per_hour,
        error=member.error,
    )
