"""The port that rents machines."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """A machine that was rented, as far as an engine must know it. `path` is the folder of a local machine."""

    machine_id: str
    path: str


class Provider(Protocol):
    """Rents machines and gives them back. Every call may happen twice: the second one is harmless.

    The id is ours and stands in the database before `rent` is called, so that a crash in between never leaves a paid
    machine that nobody knows.
    """

    name: str

    async def rent(self, machine_id: str) -> None:
        """Have a machine of that id; `NoCapacity` if there is none to be had."""

    async def reach(self, machine_id: str) -> Place:
        """Wait until it can be worked on; `NotReached` if it does not come up in time or is not there."""

    async def give_back(self, machine_id: str) -> None:
        """End it and everything on it. Also harmless for one that is gone or was never rented."""

    async def listed(self) -> list[str]:
        """The ids of all machines that are rented, whether our books know them or not."""
