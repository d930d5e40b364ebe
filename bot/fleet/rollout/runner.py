"""Bring the open rollout one step further: whatever was done before, by whom and how far, is read from its rows."""

import time
from collections.abc import Callable, Sequence

from bot.errors import BaalError
from bot.fleet.rollout import gates
from bot.fleet.rollout.crew import TAKEN_BACK, Member, is_same, verdict
from bot.fleet.rollout.faults import errors_rise
from bot.fleet.rollout.plan import Plan, batches, choose_canaries, current
from bot.fleet.rollout.ports import Money, Nudge, Probes, Wishes
from bot.fleet.rollout.rollouts import Rollouts
from bot.store.database import Database
from bot.store.records import ItemState, Rollout, RolloutState


class Runner:
    """Passes; each is idempotent, and may end anywhere."""

    def __init__(
        self,
        database: Database,
        wishes: Wishes,
        nudge: Nudge,
        probes: Probes,
        money: Money,
        *,
        operators: Sequence[int] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._rollouts = Rollouts(database, clock=clock)
        self._wishes = wishes
        self._nudge = nudge
        self._probes = probes
        self._money = money
        self._operators = operators
        self._clock = clock

    async def look(self) -> int:
        """One pass; how many agents the open rollout has, 0 if none is open."""
        rollout = await self._rollouts.open()
        if rollout is None:
            return 0
        plan = Plan.model_validate(rollout.plan)
        crew = await self._settled(rollout)
        match rollout.state:
            case RolloutState.CANARY:
                await self._lead(rollout, plan, crew)
            case RolloutState.SOAKING:
                await self._soak(rollout, plan, crew)
            case RolloutState.ROLLING:
                await self._roll(rollout, plan, crew)
            case RolloutState.PAUSED:
                await self._take_back(rollout, plan, crew)
            case RolloutState.ABORTED | RolloutState.DONE:
                await self._wind_up(rollout, plan, crew)
        return len(crew)

    async def _settled(self, rollout: Rollout) -> list[Member]:
        """Write down what has become of each, and read them again if there was news."""
        crew = await self._rollouts.crew(rollout)
        news = [(member, news) for member in crew if (news := verdict(member))]
        for member, (state, reason) in news:
            await self._rollouts.mark(rollout, member, state, reason)
        return await self._rollouts.crew(rollout) if news else crew

    async def _lead(self, rollout: Rollout, plan: Plan, crew: list[Member]) -> None:
        """The canaries."""
        if why := gates.canaries_failed(crew, plan):
            await self._pause(rollout, plan, why, is_canary=True)
            return
        if why := gates.progress_missing(rollout, crew, plan, self._clock()):
            await self._pause(rollout, plan, why)
            return
        canaries = [member for member in crew if member.is_canary]
        if any(member.is_open for member in canaries):
            await self._begin(rollout, plan, crew, canaries)
        elif any(member.state is ItemState.DONE for member in canaries):
            await self._rollouts.move(rollout, RolloutState.SOAKING)
        elif chosen := choose_canaries([member for member in crew if member.is_ready], plan.canaries, self._operators):
            await self._rollouts.elect(rollout, chosen)
        else:
            await self._rollouts.move(rollout, RolloutState.ROLLING)

    async def _soak(self, rollout: Rollout, plan: Plan, crew: list[Member]) -> None:
        """Watch the canaries for a while; then one of them has to answer as in a real turn."""
        awake = [each for each in crew if each.is_canary and each.state is ItemState.DONE and not each.is_asleep]
        if why := await self._unwell(awake) or await errors_rise(self._database, rollout, plan):
            await self._pause(rollout, plan, why, is_canary=True)
            return
        if self._clock() - rollout.changed_at < plan.soak_minutes * 60 or not all(each.is_settled for each in awake):
            return
        if why := await self._mute(awake):
            await self._pause(rollout, plan, why, is_canary=True)
            return
        await self._rollouts.move(rollout, RolloutState.ROLLING)

    async def _unwell(self, canaries: Sequence[Member]) -> str:
        for member in canaries:
            if not member.is_settled:
                continue
            if not member.is_working or member.serving != member.target:
                return f"canary failed: agent {member.agent_id}: {member.why()}"
            if not await self._probes.health(member.agent_id):
                return f"canary failed: agent {member.agent_id} does not answer"
        return ""

    async def _mute(self, canaries: Sequence[Member]) -> str:
        """Why the first of them has no answer; the operator's own stand first."""
        for member in sorted(canaries, key=lambda each: each.owner_id not in self._operators)[:1]:
            try:
                await self._probes.probe(member.agent_id)
            except (BaalError, TimeoutError) as error:
                return f"canary failed: agent {member.agent_id} answers no turn: {error or type(error).__name__}"
        return ""

    async def _roll(self, rollout: Rollout, plan: Plan, crew: list[Member]) -> None:
        """Batch after batch; then those that sleep, and those that were made meanwhile."""
        why = gates.batch_failed(crew, plan) or gates.canaries_failed(crew, plan)
        why = why or gates.progress_missing(rollout, crew, plan, self._clock())
        why = why or await errors_rise(self._database, rollout, plan)
        if why:
            await self._pause(rollout, plan, why)
            return
        cuts = [[member for member in crew if member.is_canary], *batches(crew, plan)]
        number = current(cuts)
        if number is not None:
            await self._begin(rollout, plan, crew, cuts[number])
        elif asleep := [member for member in crew if member.state is ItemState.WAITING]:
            for member in asleep:
                await self._rollouts.dream(rollout, member)
        elif late := await self._latecomers(rollout, crew):
            await self._rollouts.join(rollout, late)
        else:
            await self._rollouts.end(rollout, RolloutState.DONE)

    async def _latecomers(self, rollout: Rollout, crew: Sequence[Member]) -> list[Member]:
        """Who was made since it began, with the release of before; of an undo, who has what it takes back."""
        known = {member.agent_id for member in crew}
        late = [each for each in await self._rollouts.agents(rollout.release) if each.agent_id not in known]
        if rollout.undoes is None:
            return [each for each in late if not is_same(each.release, rollout.release)]
        return [each for each in late if is_same(each.release, rollout.previous)]

    async def _begin(self, rollout: Rollout, plan: Plan, crew: Sequence[Member], batch: Sequence[Member]) -> None:
        """As many of the batch as there is room for."""
        ready = [member for member in batch if member.is_ready]
        under_way = sum(member.state is ItemState.UPDATING for member in crew)
        if not ready or under_way >= plan.surge:
            return
        count = await self._money.affordable()
        why = gates.runway_short(await self._money.runway(), plan) or gates.none_affordable(count, under_way)
        if why:
            await self._pause(rollout, plan, why)
            return
        # Those under way may have their second machine yet to rent: their room is counted twice rather than never.
        room = (plan.surge if count is None else min(plan.surge, count)) - under_way
        for member in ready[: max(0, room)]:
            if not await self._rollouts.has_state(rollout):
                return
            await self._update(rollout, member)

    async def _update(self, rollout: Rollout, member: Member) -> None:
        # In this order: ended in between, the next pass finds the wish in the agent's row.
        await self._wishes.wish(member.agent_id, release=member.target)
        await self._rollouts.mark(rollout, member, ItemState.UPDATING)
        await self._nudge(member.agent_id)

    async def _pause(self, rollout: Rollout, plan: Plan, why: str, *, is_canary: bool = False) -> None:
        goes_back = is_canary and plan.takes_back
        resumes_as = RolloutState.CANARY if goes_back else rollout.state
        paused = plan.model_copy(update={"resumes_as": resumes_as, "is_going_back": goes_back})
        await self._rollouts.move(rollout, RolloutState.PAUSED, reason=why, plan=paused)

    async def _take_back(self, rollout: Rollout, plan: Plan, crew: Sequence[Member]) -> None:
        """After a canary failed, the others go back to what they ran; also those that were on their way then."""
        for member in crew if plan.is_going_back else ():
            is_updated = member.is_canary and member.state is ItemState.DONE and not member.reason
            if is_updated and (member.is_free or member.release == member.previous):
                await self._wishes.wish(member.agent_id, release=member.previous)
                await self._rollouts.mark(rollout, member, ItemState.WAITING, TAKEN_BACK)
                await self._nudge(member.agent_id)

    async def _wind_up(self, rollout: Rollout, plan: Plan, crew: Sequence[Member]) -> None:
        """Nothing new begins; when what was under way has ended, it is closed."""
        is_busy = any(member.state is ItemState.UPDATING for member in crew)
        if not is_busy or gates.progress_missing(rollout, crew, plan, self._clock()):
            await self._rollouts.end(rollout, rollout.state, reason=rollout.reason)
