"""The provider `aleph`: order, wait, find, give back, without ever losing sight of what is paid for."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bot.errors import MachineError, NoCapacity, NoCredit, NotReached
from bot.log import line
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import ENDED, Address, InstanceStatus, Network, NetworkAway, Verdict
from bot.machines.aleph.nodes import Node, Size, candidates, spread
from bot.machines.aleph.wallet import Order, Wallet
from bot.machines.provider import Place, Remote, Target
from bot.store.models import Rental, RentalState

log = logging.getLogger(__name__)

CREDIT, ROOTFS = 6, 301
"""Why the network rejects an instance (pyaleph message_status.py)."""
DAY = 86_400
CREDITS_PER_SECOND = 14_250 / 3600
"""Of one compute unit; the network's own check is what counts, this one comes before anything is signed."""


class NotPlaced(NotReached):
    """The instance was taken, and no node runs it in time."""


class StillThere(MachineError):
    """The network has not yet confirmed that an instance is gone; it is asked again until it does."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: how long an order may take to be processed, placed, forgotten; how often we look.

    `watch`: how long one whose fate is unknown is watched before we believe that it never came to be.
    """

    process: float = 300
    place: float = 360
    forget: float = 60
    poll: float = 5
    watch: float = DAY


@dataclass(frozen=True, slots=True)
class Ordered:
    """What every instance of this deployment is."""

    rootfs: str
    ssh_key: str
    size: Size = field(default_factory=Size)


class AlephProvider:
    """Rents instances with the wallet's credits."""

    name = "aleph"

    def __init__(
        self,
        network: Network,
        ledger: Ledger,
        wallet: Wallet,
        ordered: Ordered,
        *,
        channel: str,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._wallet = wallet
        self._ordered = ordered
        self._channel = channel
        self._patience = patience or Patience()
        self._clock = clock

    async def rent(self, machine_id: str) -> None:
        """Have an instance of that name processed and paid.

        `NoCredit`, `NoCapacity`: nothing was ordered. Whatever else goes wrong, the order is given up in the books and
        ended by `give_back`.
        """
        rental = await self._ledger.current(machine_id)
        if rental and rental.state is RentalState.PAID and await self._is_taken_away(rental):
            rental = None
        rental = rental or await self._order(machine_id)
        if rental.state is RentalState.SIGNED:
            await self._settle(rental)

    async def _is_taken_away(self, rental: Rental) -> bool:
        """The network has ended it by itself. Given up, not gone: the next answer may be another node's."""
        if (await self._network.verdict(rental.reference)).status not in ENDED:
            return False
        await self._ledger.give_up(rental.reference, "")
        log.error(line("instance taken away", machine=rental.machine_id, hash=rental.reference))
        return True

    async def address(self, machine_id: str) -> Address:
        """Where it is reached now; asked anew before each connection, since the port may change at any time."""
        rental = await self._ledger.current(machine_id)
        if rental is None or rental.state is not RentalState.PAID:
            raise NotReached(f"{machine_id} is not rented")
        try:
            return await self._poll(lambda: self._look(rental), self._patience.place)
        except TimeoutError as error:
            await self._ledger.give_up(rental.reference, "not placed")
            raise NotPlaced(f"{rental.node} did not start {rental.reference} in time") from error

    async def reach(self, machine_id: str) -> Place:
        """Wait until it has an address."""
        await self.address(machine_id)

        async def target() -> Target:
            found, rental = await self.address(machine_id), await self._ledger.current(machine_id)
            return Target(found.host, found.ssh_port, rental.host_key if rental else None)

        async def pin(host_key: str) -> None:
            rental = await self._ledger.current(machine_id)
            if rental:
                await self._ledger.pin(rental.reference, host_key)

        async def urls() -> list[str]:
            return [f"https://{(await self.address(machine_id)).host}"]

        return Place(machine_id, remote=Remote(target, pin, urls))

    async def give_back(self, machine_id: str) -> None:
        """Forget every order of that name; `StillThere` until the network confirms each."""
        for rental in await self._ledger.of(machine_id):
            if rental.state is not RentalState.GONE:
                await self._end(rental)

    async def listed(self) -> list[str]:
        """Names of the instances that the network still knows as ours."""
        found = await self._network.own_instances(self._wallet.address, self._channel)
        names = {str((content.get("metadata") or {}).get("name", "")) for content in found.values()}
        return sorted(names - {""})

    async def strangers(self) -> list[str]:
        """Hashes that the network lists as ours and no order accounts for, and orders that were given up and not ended.

        An instance is given up when it does not start, and another takes its place: the machine lives on.
        """
        listed = await self._network.own_instances(self._wallet.address, self._channel)
        # After the list: an order is committed before the network hears of it.
        known = await self._ledger.known()
        given_up = {reference for reference, rental in known.items() if rental.state is RentalState.GIVEN_UP}
        return sorted((set(listed) - set(known)) | given_up)

    async def forget_stranger(self, item_hash: str) -> None:
        """Have it forgotten; `StillThere` until the network confirms it."""
        rental = (await self._ledger.known()).get(item_hash)
        if rental:
            await self._end(rental)
            return
        verdict = await self._network.verdict(item_hash)
        if verdict.status not in ENDED:
            await self._network.broadcast(await self._wallet.forget(item_hash, "nobody remembers it"))
            verdict = await self._network.verdict(item_hash)
        if verdict.status not in ENDED:
            raise StillThere(f"{item_hash} is not forgotten yet")

    async def runway(self) -> float:
        """Hours that the balance lasts for what runs now; infinite if nothing does."""
        running = await self._ledger.known()
        paid = [rental for rental in running.values() if rental.state is not RentalState.SIGNED]
        spent = sum([await self._network.cost(rental.reference) for rental in paid])
        return await self._network.balance(self._wallet.address) / spent / 3600 if spent else float("inf")

    # --- ordering

    async def _order(self, machine_id: str) -> Rental:
        """Choose a node, sign, and commit. Nothing is sent yet."""
        await self._check_credit()
        node = await self._choose()
        message = await self._wallet.instance(
            Order(machine_id, node.hash, self._ordered.rootfs, self._ordered.size, self._ordered.ssh_key)
        )
        rental = await self._ledger.commit(machine_id, message, node.hash, node.url)
        log.info(line("instance ordered", machine=machine_id, hash=rental.reference, node=node.url))
        return rental

    async def _check_credit(self) -> None:
        """The 24-hour rule: what runs and one more must be paid for a day (pyaleph check_balance)."""
        size = self._ordered.size
        units = max(size.vcpus, -(-size.memory // 2048))
        count = len(await self._network.own_instances(self._wallet.address, self._channel)) + 1
        required = round(count * units * CREDITS_PER_SECOND * DAY)
        available = await self._network.balance(self._wallet.address)
        if available < required:
            raise NoCredit(required, available)

    async def _choose(self) -> Node:
        listed = await self._network.nodes()
        found = candidates(listed, self._ordered.size, avoid=await self._ledger.avoided())
        for node in spread(found):
            if await self._answers(node):
                return node
        raise NoCapacity(f"none of {len(listed)} nodes can take an instance; {len(found)} looked as if they could")

    async def _answers(self, node: Node) -> bool:
        try:
            await self._network.executions(node.url, seconds=5)
        except NetworkAway:
            return False
        return True

    async def _settle(self, rental: Rental) -> None:
        """Send the order until the network says what becomes of it."""
        await self._ledger.sending(rental.reference)
        try:
            verdict = await self._poll(lambda: self._send(rental), self._patience.process)
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
                verdict = await self._network.broadcast(json.loads(rental.order))
        except NetworkAway as error:
            log.warning(line("network away", hash=rental.reference, why=error))
            return None
        is_open = verdict.status in {InstanceStatus.UNKNOWN, InstanceStatus.PENDING}
        return None if is_open else verdict

    async def _look(self, rental: Rental) -> Address | None:
        """On its node, or on the one that the scheduler has moved it to."""
        for url in await self._nodes_of(rental):
            try:
                address = await self._network.address(url, rental.reference)
            except NetworkAway:
                continue
            if address:
                return address
        return None

    async def _nodes_of(self, rental: Rental) -> list[str]:
        try:
            placed = await self._network.placed_on(rental.reference)
        except NetworkAway:
            placed = None
        return [placed] if placed else [rental.node_url]

    # --- giving back

    async def _end(self, rental: Rental) -> None:
        if rental.sent_at is None:
            await self._ledger.gone(rental.reference)
            return
        if rental.state is not RentalState.GIVEN_UP:
            await self._ledger.give_up(rental.reference, "")
        await self._erase(rental)
        try:
            await self._poll(lambda: self._forget(rental), self._patience.forget)
        except TimeoutError as error:
            raise StillThere(f"{rental.reference} is not forgotten yet") from error
        await self._ledger.gone(rental.reference)
        log.info(line("instance gone", machine=rental.machine_id, hash=rental.reference))

    async def _erase(self, rental: Rental) -> None:
        """Best effort: it ends the machine at once, where forgetting takes minutes."""
        for url in await self._nodes_of(rental):
            if not await self._wallet.erase(url, rental.reference):
                log.warning(line("instance not erased", hash=rental.reference, node=url))

    async def _forget(self, rental: Rental) -> bool | None:
        """Whether the network has confirmed that it is gone; None while it has not."""
        try:
            verdict = await self._network.verdict(rental.reference)
            if verdict.status in ENDED:
                return True
            if verdict.status is InstanceStatus.UNKNOWN and self._is_lost(rental):
                return True
            if verdict.status in {InstanceStatus.PROCESSED, InstanceStatus.REMOVING}:
                await self._network.broadcast(await self._wallet.forget(rental.reference, "given back"))
        except NetworkAway as error:
            log.warning(line("network away", hash=rental.reference, why=error))
        return None

    def _is_lost(self, rental: Rental) -> bool:
        """Sent so long ago, and unknown: it will not come any more. Until then a late one would be paid for."""
        return rental.sent_at is not None and self._clock() > rental.sent_at + self._patience.watch

    async def _poll[T](self, look: Callable[[], Awaitable[T | None]], seconds: float) -> T:
        async with asyncio.timeout(seconds):
            while (found := await look()) is None:  # noqa: ASYNC110  a fact of the network
                await asyncio.sleep(self._patience.poll)
        return found


def _refusal(verdict: Verdict) -> MachineError:
    error: Any = next(iter((verdict.details or {}).get("errors", [])), {})
    if verdict.error_code == CREDIT and isinstance(error, dict):
        return NoCredit(round(float(error.get("required_credits", 0))), round(float(error.get("account_credits", 0))))
    if verdict.error_code == ROOTFS:
        return NoCapacity(f"the network does not know the root file system {error}: set ALEPH_ROOTFS")
    return NoCapacity(f"the network refused the instance: {verdict.status}, code {verdict.error_code}, {error}")
