"""Which node an instance goes to."""

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

MIN_VERSION = (1, 13, 0)
"""From here on nodes read their ports' aggregate by themselves and check who dispatches (aleph-vm)."""
BEST = 5
"""Chosen among so many at random: all bots that take the least loaded one meet there."""


@dataclass(frozen=True, slots=True)
class Size:
    """What an instance needs: processors, MiB of memory, MiB of disk."""

    vcpus: int = 1
    memory: int = 2048
    disk: int = 20_480


@dataclass(frozen=True, slots=True)
class Node:
    """A node that may be asked."""

    hash: str
    url: str
    load: float
    score: float


def candidates(listed: Sequence[dict[str, Any]], size: Size, *, avoid: Collection[str]) -> list[Node]:
    """The nodes that could take it, best first."""
    found = [node for node in (_usable(each, size) for each in listed) if node and node.hash not in avoid]
    return sorted(found, key=lambda node: (node.load, -node.score))


def spread(nodes: list[Node], *, choose: Callable[[Sequence[Node]], Node] = random.choice) -> list[Node]:
    """The same, with one of the best put first."""
    if not nodes:
        return []
    first = choose(nodes[:BEST])
    return [first, *(node for node in nodes if node is not first)]


def _usable(listed: dict[str, Any], size: Size) -> Node | None:
    try:
        return _node(listed, size)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # one odd entry spoils nothing: any field may be missing or something else


def _node(listed: dict[str, Any], size: Size) -> Node | None:
    usage = listed.get("system_usage") or {}
    is_fit = (
        _has(listed.get("ipv6_check"), "host", "vm")
        and listed.get("qemu_support") is not False
        and not listed.get("terms_and_conditions")  # nobody has agreed to them
        and _version(listed.get("version")) >= MIN_VERSION
        and _has_room(usage, size)
    )
    if not is_fit or not listed.get("hash") or not listed.get("address"):
        return None
    cpu = usage["cpu"]
    load = float(cpu["load_average"]["load5"]) / max(1, int(cpu["count"]))
    return Node(str(listed["hash"]), str(listed["address"]).rstrip("/"), load, float(listed.get("score") or 0))


def _has(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(value.get(name) is True for name in names)


def _version(text: Any) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text or "")
    return tuple(map(int, found.groups())) if found else (0,)


def _has_room(usage: dict[str, Any], size: Size) -> bool:
    """With a fifth to spare: others rent in the same moment."""
    try:
        memory = int(usage["mem"]["available_kB"]) / 1024
        disk = int(usage["disk"]["available_kB"]) / 1024
        float(usage["cpu"]["load_average"]["load5"])
        cpus = int(usage["cpu"]["count"])
    except (KeyError, TypeError, ValueError):
        return False
    return memory >= 1.2 * size.memory and disk >= 1.2 * size.disk and cpus >= size.vcpus
