"""The provider `aleph`: order, wait, find, give back, without ever losing sight of what is paid for."""

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import batched
from typing import Any

from bot.errors import MachineError, NotReached
from bot.log import line
from bot.machines.aleph import price
from bot.machines.aleph.endings import Endings, StillThere, Wipe
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Address, Network, NetworkAway
from bot.machines.aleph.orders import Ordered, Orders
from bot.machines.aleph.patience import Patience
from bot.machines.aleph.places import Lost, NotPlaced, Places
from bot.machines.aleph.price import Burn
from bot.machines.aleph.wallet import MADE_BY, Wallet
from bot.machines.provider import MACHINE_ID, Place
from bot.store.models import Rental, RentalState

__all__ = ["AlephProvider", "Lost", "NotPlaced", "Ordered", "Patience", "StillThere"]

log = logging.getLogger(__name__)

ASKED_AT_ONCE = 8
"""Prices of instances: the network tells one at a time, and thousands one after the other take minutes."""


class AlephProvider:
    """Rents instances with the wallet's credits.

    No node is ever told to start one: the scheduler dispatches what is paid by credit, and a second allocation of an
    instance that boots stops it (aleph-vm #1081). One that is not placed in time is ordered anew elsewhere.
    """

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
        wipe: Wipe | None = None,
    ) -> None:
        """`wipe` removes what agents left on a machine, before it goes back to a stranger."""
        self._network = network
        self._ledger = ledger
        self._wallet = wallet
        self._channel = channel
        self._size = ordered.size
        waits = patience or Patience()
        self._orders = Orders(network, ledger, wallet, ordered, waits)
        self._places = Places(network, ledger, wallet, waits)
        self._endings = Endings(network, ledger, wallet, self._places, waits, wipe=wipe, clock=clock)

    async def rent(self, machine_id: str) -> None:
        """Have an instance of that name processed and paid.

        `NoCredit`, `NoCapacity`: nothing was ordered. Whatever else goes wrong, the order is given up in the books and
        ended by `give_back`.
        """
        _check(machine_id)
        rental = await self._ledger.current(machine_id)
        if rental and rental.state is RentalState.PAID and await self._places.is_lost(rental):
            log.error(line("instance taken away", machine=machine_id, hash=rental.reference))
            await self._ledger.give_up(rental.reference, "")
            rental = None
        rental = rental or await self._orders.new(machine_id)
        if rental.state is RentalState.SIGNED:
            await self._orders.settle(rental)

    async def reach(self, machine_id: str) -> Place:
        """Wait until it has an address, and have its HTTPS port forwarded."""
        rental = await self._rented(machine_id)
        await self._places.open_https(rental, await self._places.wait(rental))
        return self._places.place(rental)

    async def address(self, machine_id: str) -> Address:
        """Where it is reached now; asked anew before each connection, since the port may change at any time."""
        return await self._places.wait(await self._rented(machine_id))

    async def give_back(self, machine_id: str) -> None:
        """End every order of that name; `StillThere` until the network confirms each."""
        _check(machine_id)
        kept: MachineError | None = None
        for rental in await self._ledger.of(machine_id):
            try:
                await self._endings.end(rental)
            except MachineError as error:
                kept = error  # it keeps none of the others
        if kept:
            raise kept

    async def listed(self) -> list[str]:
        """Names of the instances that the network still knows as ours."""
        names = {str(content["metadata"].get("name", "")) for content in (await self._made()).values()}
        return sorted(name for name in names if MACHINE_ID.fullmatch(name))

    async def strangers(self) -> list[str]:
        """Hashes of instances that may cost money and are no machine.

        Those that Baal made in our channel and no row knows: they belong to a row that is lost, or to another
        deployment with the same wallet and channel. And those given up and not ended, while another order has taken
        their place, so that nobody gives their machine back.
        """
        # The network first: what is ordered in between stands in the books by then.
        found = await self._made()
        known = await self._ledger.known()
        given_up = {each for each, rental in known.items() if rental.state is RentalState.GIVEN_UP}
        return sorted((found.keys() - known.keys()) | given_up)

    async def forget_stranger(self, item_hash: str) -> None:
        """End one of them; `StillThere` until the network confirms it."""
        rental = (await self._ledger.known()).get(item_hash)
        if rental:
            await self._endings.end(rental)
        else:
            await self._endings.forget(item_hash, lambda: False)
        log.info(line("stranger gone", hash=item_hash))

    async def burn(self) -> Burn:
        """What the wallet has and spends, whoever uses it."""
        running = await self._network.own_instances(self._wallet.address)
        per_second = 0.0
        for some in batched(running, ASKED_AT_ONCE):
            # All of them have ended before any error is raised: nothing goes on behind the caller's back.
            costs = await asyncio.gather(*map(self._network.cost, some), return_exceptions=True)
            for cost in costs:
                if isinstance(cost, BaseException):
                    raise cost
                per_second += cost
        return Burn(await self._network.balance(self._wallet.address), per_second)

    async def credits_per_hour(self) -> float:
        """Of an instance as they are ordered now: what the network takes for the newest, or the price that is known."""
        usual = price.per_second(self._size) * price.HOUR
        paid = [rental for rental in (await self._ledger.known()).values() if rental.state is RentalState.PAID]
        if not paid:
            return usual
        newest = max(paid, key=lambda rental: rental.created_at)
        try:
            return await self._network.cost(newest.reference) * price.HOUR or usual
        except NetworkAway as error:
            log.warning(line("price not known", why=error))
            return usual

    async def runway(self) -> float:
        """Hours that the balance lasts for what runs now; infinite if nothing does."""
        return (await self.burn()).hours

    async def _made(self) -> dict[str, dict[str, Any]]:
        """Instances of this deployment, as the network lists them: hash → content with metadata."""
        found = await self._network.own_instances(self._wallet.address, self._channel)
        return {each: content for each, content in found.items() if _is_ours(content)}

    async def _rented(self, machine_id: str) -> Rental:
        rental = await self._ledger.current(machine_id)
        if rental is None or rental.state is not RentalState.PAID:
            raise NotReached(f"{machine_id} is not rented")
        return rental


def _is_ours(content: dict[str, Any]) -> bool:
    """Others may use the same wallet and channel: Baal before it was this one, or a person."""
    return (content.get("metadata") or {}).get("made_by") == MADE_BY


def _check(machine_id: str) -> None:
    if not MACHINE_ID.fullmatch(machine_id):
        raise MachineError(f"not a machine id: {machine_id!r}")
