"""What instances cost, in the network's credits: 1 USD is 1,000,000 of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bot.machines.aleph.nodes import Size

HOUR, DAY = 3600, 86_400
UNIT_CREDITS = 14_250
"""An hour of one compute unit; the network's own word counts, this is for when it gives none (aggregate `pricing`)."""
UNIT_MEMORY, UNIT_DISK = 2_048, 20_480
"""MiB that come with each unit."""
DISK_CREDITS = 0.1797
"""An hour of one MiB of disk beyond that."""
CREDITS_PER_USD = 1_000_000


@dataclass(frozen=True, slots=True)
class Burn:
    """What the wallet has, and what it spends per second, in credits."""

    balance: int
    per_second: float

    @property
    def hours(self) -> float:
        """So long it lasts; infinite if nothing is spent."""
        return self.balance / self.per_second / HOUR if self.per_second else float("inf")

    def missing(self, hours: float) -> int:
        """Credits to add, to last so long."""
        return max(0, round(self.per_second * hours * HOUR) - self.balance)


def per_second(size: Size) -> float:
    """Credits of an instance, by the price of 2026."""
    units = max(size.vcpus, -(-size.memory // UNIT_MEMORY))
    more = max(0, size.disk - units * UNIT_DISK)
    return (units * UNIT_CREDITS + more * DISK_CREDITS) / HOUR


def all_per_second(contents: Iterable[dict[str, Any]]) -> float:
    """The same of instances as the network lists them."""
    return sum(per_second(_size(content)) for content in contents)


def _size(content: dict[str, Any]) -> Size:
    resources, rootfs = content.get("resources") or {}, content.get("rootfs") or {}
    return Size(
        vcpus=int(resources.get("vcpus", 1)),
        memory=int(resources.get("memory", UNIT_MEMORY)),
        disk=int(rootfs.get("size_mib", UNIT_DISK)),
    )
