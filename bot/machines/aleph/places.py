"""Where an instance is now: its node, its address, its names. Nothing of that is stable, so it is asked each time."""

import asyncio
import logging
from collections.abc import Awaitable

from bot.errors import NotReached
from bot.log import line
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.names import gateway_name
from bot.machines.aleph.network import ENDED, Address, Network, NetworkAway, Placement
from bot.machines.aleph.patience import Patience
from bot.machines.aleph.wallet import Wallet
from bot.machines.provider import HTTPS_PORT, Place, Remote, Target
from bot.store.models import Rental

log = logging.getLogger(__name__)

PORT_SECONDS = 30
"""For what may fail: forwarding a port."""


class NotPlaced(NotReached):
    """The instance was taken, and no node runs it in time."""


class Lost(NotReached):
    """The network has taken an instance away, by its own word, twice. The next attempt orders another."""


class Places:
    """Finds instances, and sees to it that they can be reached."""

    def __init__(self, network: Network, ledger: Ledger, wallet: Wallet, patience: Patience) -> None:
        self._network = network
        self._ledger = ledger
        self._wallet = wallet
        self._patience = patience

    async def wait(self, rental: Rental) -> Address:
        """Until it has an address. `NotPlaced`, `Lost`: this order is given up; `NotReached`: it is kept."""
        try:
            return await self._patience.until(lambda: self._seen(rental), self._patience.place)
        except TimeoutError as error:
            if rental.host_key is not None:
                # Its disk is there, on a node that is away for a while: nobody gives that up.
                raise NotReached(f"no node shows {rental.reference}, which ran on {rental.node_url}") from error
            await self._ledger.give_up(rental.reference, "not placed")
            raise NotPlaced(f"{rental.node_url} did not start {rental.reference} in time") from error

    async def _seen(self, rental: Rental) -> Address | None:
        address = await self.find(rental)
        if address is None and await self.is_lost(rental):
            await self._ledger.give_up(rental.reference, "")
            raise Lost(f"the network has taken {rental.reference} away: is there credit?")
        return address

    async def is_lost(self, rental: Rental) -> bool:
        """Whether the network says that it has ended, says so again later, and no node shows it."""
        if not await self._is_ended(rental) or await self.find(rental):
            return False
        await asyncio.sleep(self._patience.confirm)
        return await self._is_ended(rental) and not await self.find(rental)

    async def _is_ended(self, rental: Rental) -> bool:
        try:
            return (await self._network.verdict(rental.reference)).status in ENDED
        except NetworkAway:
            return False

    async def find(self, rental: Rental) -> Address | None:
        """On its node, or on the one that the scheduler has moved it to; None if it cannot be seen now."""
        node = await self.node(rental)
        try:
            address = await self._network.address(node.url, rental.reference)
        except NetworkAway:
            return None
        if address and node.hash != rental.node:
            log.warning(line("instance moved", hash=rental.reference, to=node.url))
            await self._ledger.moved(rental.reference, node.hash, node.url)
        return address

    async def node(self, rental: Rental) -> Placement:
        """Where the scheduler has placed it, or where it was ordered if that is not known."""
        try:
            placed = await self._network.placed_on(rental.reference)
        except NetworkAway:
            placed = None
        return placed or Placement(rental.node, rental.node_url)

    def place(self, rental: Rental) -> Place:
        """What an engine needs of it."""
        reference = rental.reference

        async def target() -> Target:
            address = await self.find(await self._ledger.get(reference))
            if address is None:
                raise NotReached(f"no node shows {reference} now")
            # Read afterwards: it may have been found elsewhere, where it has another host key.
            return Target(address.host, address.ssh_port, (await self._ledger.get(reference)).host_key)

        async def pin(host_key: str) -> None:
            await self._ledger.pin(reference, host_key)

        async def urls() -> list[str]:
            return await self.urls(await self._ledger.get(reference))

        return Place(rental.machine_id, remote=Remote(target, pin, urls))

    async def urls(self, rental: Rental) -> list[str]:
        """Where its port 443 may be reached: by its name at the gateway, by its IPv6, by the node's mapped port."""
        address = await self.find(rental)
        direct = _direct(address) if address else []
        try:
            name, is_active = await self._network.public_name(rental.reference)
        except NetworkAway:
            name, is_active = "", True  # unknown; what is known is the name that it will have
        named = f"https://{name or gateway_name(rental.reference, self._network.zone)}"
        return [named, *direct] if is_active else [*direct, named]

    # --- the mapped port: one way of three, so none of this may stop a deployment

    async def open_https(self, rental: Rental, address: Address) -> None:
        """Have the node forward a port to 443, unless it does."""
        if address.https_port is None:
            await best_effort("port not forwarded", rental.reference, self._forward(rental), PORT_SECONDS)

    async def _forward(self, rental: Rental) -> None:
        if (await self._network.ports(self._wallet.address)).get(rental.reference) is None:
            await self._network.broadcast(await self._wallet.ports(rental.reference, HTTPS_PORT))
        # Nodes watch for it by themselves, some time; asked, they look at once.
        await self._network.update((await self._ledger.get(rental.reference)).node_url, rental.reference)

    async def close_https(self, rental: Rental) -> None:
        """Take it out of the list of ports, which would grow with every instance."""
        await best_effort("ports not removed", rental.reference, self._unforward(rental), PORT_SECONDS)

    async def _unforward(self, rental: Rental) -> None:
        if (await self._network.ports(self._wallet.address)).get(rental.reference) is not None:
            await self._network.broadcast(await self._wallet.ports(rental.reference, None))


async def best_effort(failure: str, reference: str, work: Awaitable[None], seconds: float) -> None:
    """Do what is good and not needed; whatever comes of it is only logged."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except Exception as error:  # noqa: BLE001  nothing of this may keep a paid instance in the world, or an agent from it
        log.warning(line(failure, hash=reference, why=f"{type(error).__name__}: {error}"))


def _direct(address: Address) -> list[str]:
    found = [f"https://[{address.ipv6}]:{HTTPS_PORT}"] if address.ipv6 else []
    return [*found, f"https://{address.host}:{address.https_port}"] if address.https_port else found
