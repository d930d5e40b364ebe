"""The port that rents machines."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bot.errors import MachineError

HTTPS_PORT = 443
ZONE = "baal"
MACHINE_ID = re.compile(r"m-[0-9a-f]{16}")


def certificate_name(machine_id: str) -> str:
    """The name that the certificate of a machine's agent has, however it is dialled; nobody resolves it."""
    return f"{machine_id}.{ZONE}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a machine's sshd listens now, and the host key that it had at the first contact, if there was one.

    `user` if it is not the one that all machines have.
    """

    host: str
    port: int
    host_key: str | None = None
    user: str = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """How a machine is reached that is not this host.

    `target` is asked before each connection: the address may change at any time. `pin` is told the host key seen at
    the first contact. `urls` are where the agent's HTTPS may be reached now, the best first; a host that is a name is
    also in the certificate, besides `certificate_name`. `port` is the machine's own port on which the agent is
    published.
    """

    target: Callable[[], Awaitable[Target]]
    pin: Callable[[str], Awaitable[None]]
    urls: Callable[[], Awaitable[list[str]]]
    port: int = HTTPS_PORT


@dataclass(frozen=True, slots=True)
class Place:
    """A machine that was rented, as far as an engine must know it. `path` is the folder of a local machine."""

    machine_id: str
    path: str = ""
    remote: Remote | None = None


def remote_of(place: Place) -> Remote:
    """How to reach it; `MachineError` if it is this host."""
    if place.remote is None:
        raise MachineError(f"{place.machine_id} is on this host, where nothing is reached by SSH")
    return place.remote


class Provider(Protocol):
    """Rents machines and gives them back. Every call may happen twice: the second one is harmless.

    The id is ours and stands in the database before `rent` is called, so that a crash in between never leaves a paid
    machine that nobody knows.
    """

    name: str

    async def rent(self, machine_id: str) -> None:
        """Have a machine of that id; `NoCapacity` or `NoCredit` if there is none to be had."""

    async def reach(self, machine_id: str) -> Place:
        """Wait until it has an address; `NotReached` if it does not come up in time or is not there."""

    async def give_back(self, machine_id: str) -> None:
        """End it and everything on it. Also harmless for one that is gone or was never rented."""

    async def listed(self) -> list[str]:
        """The ids of all machines that are rented, whether our books know them or not."""


@runtime_checkable
class Reconciling(Protocol):
    """A provider that may be paid for what is no machine of ours, and can tell: an order that nobody remembers."""

    async def strangers(self) -> list[str]:
        """References of what is listed as ours and is neither a machine nor about to be one."""

    async def forget_stranger(self, reference: str) -> None:
        """End it; a `MachineError` while that is not confirmed. Again is harmless."""


@runtime_checkable
class Priced(Protocol):
    """A provider whose machines cost something."""

    async def credits_per_hour(self) -> float:
        """What a machine costs that is rented now, in the provider's credits."""
