"""What the simulated Aleph network knows: balances, messages, aggregates, nodes and the machines on them.

Shapes and behaviour: pyaleph (CCN), aleph-vm (CRN), the scheduler's API as aleph-rs reads it.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from eth_account.hdaccount.mnemonic import Mnemonic
from eth_account.types import Language

CREDITS_PER_HOUR = Decimal(14_250)
"""Of one compute unit: 1 vCPU, 2048 MiB, 20480 MiB of disk (aggregate `pricing`, 2026)."""
DISK_CREDITS_PER_HOUR = Decimal("0.1797")
"""Of one MiB of disk more than the units bring."""
UNIT_MEMORY, UNIT_DISK = 2048, 20_480
ROOTFS = {
    "debian12": "b6ff5c3a8205d1ca4c7c3369300eeafff498b558f71b851aa2114afd0a532717",
    "ubuntu24": "5330dcefe1857bcd97b7b7f24d1420a7d46232d53f27be280c8a7071d88bd84e",
}
ZONE = "2n6.example"
SSH = 22
"""The port of a machine that its node maps without being asked."""


class Status(StrEnum):
    """Of a message, as the CCN tells it."""

    PENDING = "pending"
    PROCESSED = "processed"
    REJECTED = "rejected"
    REMOVING = "removing"
    REMOVED = "removed"
    FORGOTTEN = "forgotten"


@dataclass
class Entry:
    """A message, and what became of it."""

    message: dict[str, Any]
    content: dict[str, Any]
    status: Status
    received: float
    processed: float | None = None
    ended: float | None = None
    error_code: int | None = None
    details: dict[str, Any] | None = None
    forgotten_by: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def hash(self) -> str:
        return str(self.message["item_hash"])

    @property
    def sender(self) -> str:
        return str(self.message["sender"])

    @property
    def type(self) -> str:
        return str(self.message["type"])


class Machines(Protocol):
    """What stands for the machines: real ones with a real sshd, or light ones."""

    async def start(self, item_hash: str, keys: list[str]) -> dict[int, int]:
        """Boot one that these SSH keys open; its ports → where they are on loopback. 22 is always among them."""

    async def stop(self, item_hash: str) -> None:
        """End it, with its disk."""


class NoMachines:
    """Nothing listens at the ports it names."""

    async def start(self, item_hash: str, keys: list[str]) -> dict[int, int]:
        return {SSH: free_port()}

    async def stop(self, item_hash: str) -> None:
        return


@dataclass
class Faults:
    """What goes wrong. Seconds where it is a time."""

    messages_fail: bool = False
    """POST /messages answers 500 before it takes anything."""
    answer_lost: bool = False
    """A message is taken and processed; its answer never arrives."""
    sync_timeout: bool = False
    """A sync call answers 202 although the message will be processed."""
    process_after: float = 0
    aggregates_fail: bool = False
    place_after: float = 0
    auto_dispatch: bool = True
    never_placed: bool = False
    gateway_after: float = 0
    gateway_fails: bool = False
    gateway_says: str = ""
    """Another name than the one that the hash gives."""
    scheduler_fails: bool = False
    says_removed: int = 0
    """So many times it is said of an instance that runs that it was removed, as by another message node."""
    reject: int = 0
    """Instances are rejected with this code."""
    estimate: str = ""
    """`fails`, or credits per second."""
    balance_fails: bool = False
    list_fails: bool = False
    """crns-list answers 502."""


@dataclass
class NodeFaults:
    """What goes wrong at one node."""

    notify: str = ""
    """`hang`, `500`, `503`, `404`."""
    reserve: str = ""
    """`503`, `hang`, `404` (an older one)."""
    down: bool = False
    """Connections are cut."""
    boot_after: float = 0
    never_boots: bool = False
    alien: bool = False
    """It also lists a machine of somebody else with `networking: {}`."""
    no_port: bool = False
    """Networking is told without port 22 mapped, as after its agent was started again (aleph-vm #1085)."""
    only_ssh: bool = False
    """It does not notice what other ports are asked for until it is told to look."""
    slow: bool = False
    """It takes connections and does not answer what is asked without a signature."""
    nonsense: bool = False
    """What it lists has other types than it should."""
    erase: str = ""
    """`500`, `403`, `hang`."""


@dataclass
class Vm:
    """A machine on a node."""

    item_hash: str
    node: "Node"
    ports: dict[int, int] | None = None
    """Of the machine → on loopback; None until it has booted."""
    unread: bool = False
    """Its node could not read the aggregate of ports (aleph-vm models.py): it maps none until it is told to look."""
    stopped: bool = False
    started_at: float = 0


@dataclass
class Node:
    """A compute node (CRN)."""

    hash: str
    name: str
    address: str = ""
    version: str = "1.14.0"
    score: float = 0.9
    load: float = 0.5
    cpus: int = 16
    memory_kb: int = 64_000_000
    disk_kb: int = 500_000_000
    ipv6: bool = True
    qemu: bool = True
    terms: str | None = None
    active: bool = True
    faults: NodeFaults = field(default_factory=NodeFaults)
    vms: dict[str, Vm] = field(default_factory=dict)
    notified: list[str] = field(default_factory=list)
    reserved: int = 0

    @property
    def domain(self) -> str:
        return self.address.partition("://")[2].partition(":")[0]


class World:
    """The whole of it."""

    def __init__(self, nodes: int = 3, machines: Machines | None = None) -> None:
        self.machines = machines or NoMachines()
        self.faults = Faults()
        self.entries: dict[str, Entry] = {}
        self.aggregates: dict[str, dict[str, Any]] = {}
        self.deposits: dict[str, int] = {}
        self.nodes = {node.hash: node for node in map(_node, range(nodes))}
        self.placed: dict[str, str] = {}
        self.booted: dict[str, float] = {}
        self.skew = 0.0
        self.posts: list[str] = []
        """Hashes in the order they were broadcast, repeats included."""
        self._tasks: set[asyncio.Task[None]] = set()

    def time(self) -> float:
        """The network's clock, Unix seconds."""
        return time.time() + self.skew

    def credit(self, address: str, amount: int) -> None:
        """Top up, in credits."""
        self.deposits[address] = self.deposits.get(address, 0) + amount

    def balance(self, address: str) -> int:
        """Whole credits that are left."""
        return self.deposits.get(address, 0) - int(self.spent(address))

    def spent(self, address: str) -> Decimal:
        """What its instances have cost until now."""
        return sum((self.cost(entry) for entry in self.instances(address)), Decimal(0))

    def instances(self, address: str | None = None) -> list[Entry]:
        """Every instance that was ever processed."""
        return [
            entry
            for entry in self.entries.values()
            if entry.type == "INSTANCE" and entry.processed and address in (None, entry.sender)
        ]

    def running(self, address: str | None = None) -> list[Entry]:
        """Instances that cost money now."""
        return [entry for entry in self.instances(address) if entry.ended is None]

    def cost(self, entry: Entry) -> Decimal:
        """Credits for the time from its processing to its end."""
        end = entry.ended or self.time()
        return price(entry.content) * Decimal(end - (entry.processed or end))

    # --- machines

    def process(self, entry: Entry) -> None:
        """The CCN has accepted an instance: it costs from now on, and the scheduler places it."""
        entry.status, entry.processed = Status.PROCESSED, self.time()
        if self.faults.auto_dispatch:
            self.spawn(self._dispatch(entry))

    async def _dispatch(self, entry: Entry) -> None:
        await asyncio.sleep(self.faults.place_after)
        node = self.nodes.get(pinned(entry.content) or "") or next(
            (node for node in self.nodes.values() if not node.faults.down), None
        )
        if node is None or self.faults.never_placed or entry.ended:
            return
        self.placed[entry.hash] = node.hash
        await self.boot(entry, node)

    async def boot(self, entry: Entry, node: Node) -> None:
        """Start it on a node, unless it is there."""
        if entry.hash in node.vms or entry.ended:
            return
        vm = node.vms[entry.hash] = Vm(entry.hash, node, started_at=self.time())
        await asyncio.sleep(node.faults.boot_after)
        # Forgotten or placed elsewhere meanwhile: what runs there has the same hash, and is not to be stopped.
        if node.faults.never_boots or node.vms.get(entry.hash) is not vm:
            return
        keys = entry.content.get("authorized_keys") or []
        ports = await self.machines.start(entry.hash, keys)
        if node.vms.get(entry.hash) is not vm:  # forgotten meanwhile
            await self.machines.stop(entry.hash)
            return
        vm.ports = dict(ports)
        self.booted[entry.hash] = self.time()

    def mapped_ports(self, vm: Vm) -> dict[int, int]:
        """What its node forwards: 22, and what its owner's aggregate `port-forwarding` asks for (tcp alone)."""
        if vm.unread or vm.node.faults.no_port:
            return {}
        owner = self.entries[vm.item_hash].sender
        asked = (self.aggregates.get(owner, {}).get("port-forwarding", {}).get(vm.item_hash) or {}).get("ports", {})
        more = (
            set() if vm.node.faults.only_ssh else {int(port) for port, protocols in asked.items() if protocols["tcp"]}
        )
        ports = vm.ports or {}
        return {port: ports.setdefault(port, free_port()) for port in sorted({SSH, *more})}

    def end(self, entry: Entry, status: Status) -> None:
        """It costs nothing any more, and the nodes stop it."""
        entry.status = status
        entry.ended = entry.ended or self.time()
        for node in self.nodes.values():
            if node.vms.pop(entry.hash, None):
                self.spawn(self.machines.stop(entry.hash))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background; it ends with the simulator."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for node in self.nodes.values():
            for item_hash in list(node.vms):
                await self.machines.stop(item_hash)

    # --- faults that happen at a moment

    def move(self, item_hash: str, to: Node) -> None:
        """The scheduler places a machine elsewhere: it starts there with an empty disk."""
        for node in self.nodes.values():
            if node.vms.pop(item_hash, None):
                self.spawn(self.machines.stop(item_hash))
        self.placed[item_hash] = to.hash
        self.spawn(self.boot(self.entries[item_hash], to))

    def remap(self, item_hash: str) -> None:
        """The node maps other ports from now on."""
        for vm in [node.vms[item_hash] for node in self.nodes.values() if item_hash in node.vms]:
            vm.ports = {port: host - 1 for port, host in (vm.ports or {}).items()}

    def removing(self, item_hash: str) -> None:
        """Credit runs out: the CCN will take it away at its next round."""
        self.entries[item_hash].status = Status.REMOVING

    def remove(self, item_hash: str) -> None:
        """The CCN takes an instance away whose credit is used up."""
        entry = self.entries[item_hash]
        entry.reason = "credit_insufficient"
        self.end(entry, Status.REMOVED)


def free_port() -> int:
    """As a node chooses one; nothing listens there."""
    return random.randint(24_000, 65_535)  # noqa: S311


def pinned(content: dict[str, Any]) -> str | None:
    """The node that an instance asks for."""
    node = (content.get("requirements") or {}).get("node") or {}
    return node.get("node_hash")


def units(content: dict[str, Any]) -> int:
    """Compute units of an instance."""
    resources = content["resources"]
    return max(int(resources["vcpus"]), -(-int(resources["memory"]) // UNIT_MEMORY))


def price(content: dict[str, Any]) -> Decimal:
    """Credits per second."""
    more = max(0, int(content["rootfs"]["size_mib"]) - units(content) * UNIT_DISK)
    return (units(content) * CREDITS_PER_HOUR + more * DISK_CREDITS_PER_HOUR) / 3600


def subdomain(item_hash: str) -> str:
    """Four words: a wallet's phrase of the same bits begins with them, for BIP-39 cuts bits as the gateway does."""
    phrase = Mnemonic(Language.ENGLISH).to_mnemonic(bytes.fromhex(item_hash)[:16])
    return "-".join(phrase.split()[:4])


def _node(number: int) -> Node:
    return Node(hash=hashlib.sha256(f"node {number}".encode()).hexdigest(), name=f"node-{number}")
