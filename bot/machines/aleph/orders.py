"""Order an instance: see that it can be had, sign, commit, send. In this order, so that no crash loses sight of it."""

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bot.errors import MachineError, NoCapacity, NoCredit, NotReached
from bot.log import line
from bot.machines.aleph import price
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import InstanceStatus, Network, NetworkAway, Verdict
from bot.machines.aleph.nodes import Node, Size, candidates, spread
from bot.machines.aleph.patience import Patience
from bot.machines.aleph.wallet import Order, Wallet
from bot.store.models import Rental

log = logging.getLogger(__name__)

CREDIT, ROOTFS = 6, 301
"""Why the network rejects an instance (pyaleph message_status.py)."""
TRIES = 3
"""Nodes asked in one attempt."""
PROBE_SECONDS = 5
FULL = 503


@dataclass(frozen=True, slots=True)
class Ordered:
    """What every instance of this deployment is; `per_node`: how many of them one node may have, which may fail."""

    rootfs: str
    ssh_key: str
    size: Size = field(default_factory=Size)
    per_node: int = 10


class Orders:
    """Makes orders, and sees them through."""

    def __init__(self, network: Network, ledger: Ledger, wallet: Wallet, ordered: Ordered, patience: Patience) -> None:
        self._network = network
        self._ledger = ledger
        self._wallet = wallet
        self._ordered = ordered
        self._patience = patience

    async def new(self, machine_id: str) -> Rental:
        """Choose a node, sign, and commit; nothing is sent yet. `NoCredit`, `NoCapacity`: nothing is written either."""
        await self._check_rootfs()
        nodes, count = await self._nodes()
        if nodes:
            await self._check_credit(await self._sign(machine_id, nodes[0]))
        for node in nodes[:TRIES]:
            message = await self._sign(machine_id, node)
            if await self._takes(node, message):
                rental = await self._ledger.commit(machine_id, message, node.hash, node.url)
                log.info(line("instance ordered", machine=machine_id, hash=rental.reference, node=node.url))
                return rental
            self._ledger.avoid(node.hash)
        asked = min(len(nodes), TRIES)
        raise NoCapacity(
            f"none of {count} nodes takes an instance: {len(nodes)} look as if they could, {asked} were asked"
        )

    async def settle(self, rental: Rental) -> None:
        """Send the order until the network says what becomes of it."""
        try:
            verdict = await self._patience.until(lambda: self._send(rental), self._patience.process)
        except TimeoutError as error:
            await self._ledger.give_up(rental.reference, "not processed")
            raise NotReached(f"the network did not process {rental.reference} in time") from error
        if verdict.status is not InstanceStatus.PROCESSED:
            await self._ledger.gone(rental.reference, reason="")
            raise _refusal(verdict)
        await self._ledger.paid(rental.reference)

    async def _send(self, rental: Rental) -> Verdict | None:
        """Ask what became of it, and send it if nobody knows; None while that is open."""
        try:
            verdict = await self._network.verdict(rental.reference)
            if verdict.status is InstanceStatus.UNKNOWN:
                if not await self._ledger.sending(rental.reference):
                    raise NotReached(f"{rental.reference} was given up before the network knew it")
                verdict = await self._network.broadcast(json.loads(rental.order))
        except NetworkAway as error:
            log.warning(line("network away", hash=rental.reference, why=error))
            return None
        is_open = verdict.status in {InstanceStatus.UNKNOWN, InstanceStatus.PENDING}
        return None if is_open else verdict

    # --- before anything is ordered

    async def _check_rootfs(self) -> None:
        verdict = await self._network.verdict(self._ordered.rootfs)
        if verdict.status is not InstanceStatus.PROCESSED:
            raise _no_rootfs(self._ordered.rootfs, verdict.status)

    async def _check_credit(self, message: dict[str, Any]) -> None:
        """The 24-hour rule: what runs and one more must be paid for a day (pyaleph check_balance)."""
        running = await self._network.own_instances(self._wallet.address)
        usual = price.per_second(self._ordered.size)
        asked = await self._network.estimate(message) or usual
        # If the network's price has changed, then also that of what runs.
        required = round((asked + price.all_per_second(running.values()) * asked / usual) * price.DAY)
        available = await self._network.balance(self._wallet.address)
        if available < required:
            raise NoCredit(required, available)

    async def _nodes(self) -> tuple[list[Node], int]:
        """Those that may be asked, the first one first; and how many there are."""
        listed = await self._network.nodes()
        ours = Counter(rental.node for rental in (await self._ledger.known()).values())
        full = {node for node, count in ours.items() if count >= self._ordered.per_node}
        avoid = full | await self._ledger.avoided()
        return spread(candidates(listed, self._ordered.size, avoid=avoid)), len(listed)

    async def _sign(self, machine_id: str, node: Node) -> dict[str, Any]:
        ordered = self._ordered
        return await self._wallet.instance(Order(machine_id, node.hash, ordered.rootfs, ordered.size, ordered.ssh_key))

    async def _takes(self, node: Node, message: dict[str, Any]) -> bool:
        """Whether it answers, and does not say that it is full; many that are listed do neither."""
        try:
            await self._network.executions(node.url, seconds=PROBE_SECONDS)
        except NetworkAway as error:
            log.info(line("node does not answer", node=node.url, why=error))
            return False
        # An older node has no such call; what it says besides "full" does not count.
        status = await self._wallet.reserve(node.url, json.loads(message["item_content"]))
        if status in {None, FULL}:
            log.info(line("node has no room", node=node.url, status=status))
            return False
        return True


def _refusal(verdict: Verdict) -> MachineError:
    error: Any = next(iter((verdict.details or {}).get("errors", [])), {})
    if verdict.error_code == CREDIT and isinstance(error, dict):
        return NoCredit(round(float(error.get("required_credits", 0))), round(float(error.get("account_credits", 0))))
    if verdict.error_code == ROOTFS:
        return _no_rootfs(str(error), verdict.status)
    return NoCapacity(f"the network refused the instance: {verdict.status}, code {verdict.error_code}, {error}")


def _no_rootfs(item_hash: str, status: InstanceStatus) -> NoCapacity:
    return NoCapacity(
        f"the network does not have the root file system {item_hash} ({status}): set ALEPH_ROOTFS to one that it has"
    )
