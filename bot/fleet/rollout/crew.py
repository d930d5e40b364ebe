"""The agents of a rollout: how far each is in it, and how it is."""

from dataclasses import dataclass

from bot.store.models import Phase, Wanted
from bot.store.records import ItemState

TAKEN_BACK = "taken back"
"""Reason of a canary that went back to what it ran before, because another one failed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One agent in a rollout. `target` is what it shall run, `serving` what its machine runs; '' where it has none."""

    agent_id: int
    target: str
    previous: str
    is_canary: bool = False
    state: ItemState = ItemState.WAITING
    reason: str = ""
    begun_at: float | None = None
    ended_at: float | None = None

    owner_id: int = 0
    wanted: Wanted = Wanted.DELETED
    phase: Phase = Phase.GONE
    is_settled: bool = True
    """No wish is on its way."""
    release: str = ""
    """What its row wants it to run."""
    serving: str = ""
    credits_per_hour: float = 0
    """Of its machine."""
    error: str = ""

    @property
    def is_working(self) -> bool:
        """It takes turns, and nothing is being done with it."""
        return self.wanted is Wanted.ON and self.is_settled and self.phase is Phase.RUNNING

    @property
    def is_free(self) -> bool:
        """It works, or has failed, and nothing is being done with it: it can be given another release."""
        return self.wanted is Wanted.ON and self.is_settled and self.phase in {Phase.RUNNING, Phase.FAILED}

    @property
    def is_ready(self) -> bool:
        """Its update can begin."""
        return self.state is ItemState.WAITING and self.is_free

    @property
    def is_asleep(self) -> bool:
        """It has no machine: to change what it wakes with is all there is to do."""
        return self.wanted is Wanted.ASLEEP and self.is_settled and self.phase is Phase.ASLEEP

    @property
    def is_open(self) -> bool:
        """It is being updated, or has to be, and is not asleep."""
        return self.state is ItemState.UPDATING or (self.state is ItemState.WAITING and not self.is_asleep)

    @property
    def is_postponed(self) -> bool:
        """It has to be updated, and something else is being done with it."""
        return self.is_open and self.state is ItemState.WAITING and not self.is_ready

    def why(self) -> str:
        """Why it does not run what it shall."""
        words = self.error or "no reason was written down"
        return f"{words}; it runs {self.serving}" if self.phase is Phase.RUNNING and self.serving else words


def is_same(one: str, other: str) -> bool:
    """Two names of one release: the digest decides, if both have one."""
    digests = {name.partition("@")[2] for name in (one, other)}
    return one == other or (len(digests) == 1 and "" not in digests)


def verdict(member: Member) -> tuple[ItemState, str] | None:
    """What has become of an agent that is waited for or being updated, and why; None: nothing new."""
    if member.wanted is Wanted.DELETED:
        return ItemState.SKIPPED, "deleted"
    if member.state is ItemState.WAITING:
        return _adopted(member)
    if member.state is ItemState.UPDATING and member.is_settled:
        return _ended(member)
    return None


def _adopted(member: Member) -> tuple[ItemState, str] | None:
    """The wish was made, and the bot ended before it could write that down."""
    if member.release != member.target:
        return None
    return (ItemState.ASLEEP if member.is_asleep else ItemState.UPDATING), member.reason


def _ended(member: Member) -> tuple[ItemState, str] | None:
    if member.is_asleep:
        # It fell asleep over it. If its update had failed before that, its turn comes again.
        return (ItemState.ASLEEP if member.release == member.target else ItemState.WAITING), ""
    if member.phase is Phase.RUNNING and member.serving == member.target:
        is_back = member.reason == TAKEN_BACK
        return ItemState.DONE, f"could not be taken back: {member.error or 'unknown'}" if is_back else ""
    if member.phase in {Phase.RUNNING, Phase.FAILED}:
        return ItemState.FAILED, member.why()
    return None
