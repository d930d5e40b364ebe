"""What the pool lacks and what it has too much of: decided from the rows alone, done elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from bot.store.models import Machine, MachineState

QUARANTINE_SECONDS = 1800.0
COMING = (MachineState.INTENT, MachineState.RENTED)


@dataclass(frozen=True, slots=True)
class Aim:
    """What the pool shall be now: so many machines, warm for that release, none older (seconds). `now` is Unix time."""

    size: int
    release: str
    recycle_seconds: float
    now: float

    def is_old(self, machine: Machine) -> bool:
        """It is to be replaced by a new one."""
        return self.now - machine.created_at >= self.recycle_seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """So many to be rented, and those that shall end."""

    rent: int
    doomed: tuple[Machine, ...]


def plan(machines: Sequence[Machine], aim: Aim, *, may_rent: bool = True) -> Plan:
    """From all of the pool's machines that are not gone.

    An old one is given back when its successor is ready, one at a time. Where nothing may be rented it is not waited
    for: what would have had a successor ends without one.
    """
    ready = [machine for machine in machines if machine.state is MachineState.READY]
    coming = [machine for machine in machines if machine.state in COMING]
    surplus = _surplus(ready, aim, may_rent=may_rent)
    staying = [machine for machine in ready if machine not in surplus]
    overlap = 1 if may_rent and aim.size and any(map(aim.is_old, staying)) else 0
    lacking = aim.size + overlap - len(staying)
    doomed = [*surplus, *_newest(coming, len(coming) - max(0, lacking)), *_released(machines, aim)]
    # What is in quarantine or cannot be given back is paid for too.
    room = 2 * aim.size - len(machines)
    return Plan(rent=max(0, min(lacking - len(coming), room)) if may_rent else 0, doomed=tuple(doomed))


def _surplus(ready: Sequence[Machine], aim: Aim, *, may_rent: bool) -> list[Machine]:
    """The ready ones that go: of older releases first, then the oldest."""
    first = sorted(ready, key=lambda machine: (machine.release == aim.release, machine.created_at))
    too_many = first[: max(0, len(ready) - aim.size)]
    unreplaced = [] if may_rent else [machine for machine in first if aim.is_old(machine) and machine not in too_many]
    return too_many + unreplaced


def _newest(coming: Sequence[Machine], number: int) -> list[Machine]:
    return sorted(coming, key=lambda machine: -machine.created_at)[: max(0, number)]


def _released(machines: Sequence[Machine], aim: Aim) -> list[Machine]:
    """Those that were in quarantine for long enough."""
    kept = [machine for machine in machines if machine.state is MachineState.QUARANTINED]
    return [machine for machine in kept if aim.now - (machine.failed_at or 0) >= QUARANTINE_SECONDS]
