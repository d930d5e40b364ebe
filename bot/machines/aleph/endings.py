"""End an instance, until the network confirms it: each step may be repeated, and the row stays until the last."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bot.errors import MachineError
from bot.log import line
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import InstanceStatus, Network, NetworkAway
from bot.machines.aleph.patience import Patience
from bot.machines.aleph.places import Places, best_effort
from bot.machines.aleph.wallet import Wallet
from bot.machines.provider import Place
from bot.store.models import Rental, RentalState

log = logging.getLogger(__name__)

WIPE_SECONDS = 60
ERASE_SECONDS = 30
COSTS = {InstanceStatus.PROCESSED, InstanceStatus.REMOVING, InstanceStatus.REMOVED}
"""Removed costs nothing by this node's word; by another's it may."""

Wipe = Callable[[Place], Awaitable[None]]


class StillThere(MachineError):
    """The network has not yet confirmed that an instance is gone; it is asked again until it does."""


class Endings:
    """Ends instances."""

    def __init__(
        self,
        network: Network,
        ledger: Ledger,
        wallet: Wallet,
        places: Places,
        patience: Patience,
        *,
        wipe: Wipe | None,
        clock: Callable[[], float],
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._wallet = wallet
        self._places = places
        self._patience = patience
        self._wipe = wipe
        self._clock = clock

    async def end(self, rental: Rental) -> None:
        """Wipe, erase, close its ports, forget; `StillThere` until the network confirms it."""
        if rental.sent_at is None:
            await self._ledger.drop(rental.reference)
            rental = await self._ledger.get(rental.reference)  # it may have been sent a moment ago
        if rental.state is RentalState.GONE:
            return
        if rental.state is not RentalState.GIVEN_UP:
            # One that nobody was ever on did not start, or its network is broken: a bad node, for a while.
            await self._ledger.give_up(rental.reference, "" if rental.host_key else "never reached")
            rental = await self._ledger.get(rental.reference)
        await self._wipe_it(rental)
        await best_effort("instance not erased", rental.reference, self._erase(rental), ERASE_SECONDS)
        await self._places.close_https(rental)
        await self.forget(rental.reference, lambda: self._is_lost(rental))
        await self._ledger.gone(rental.reference)
        log.info(line("instance gone", machine=rental.machine_id, hash=rental.reference))

    async def forget(self, item_hash: str, is_lost: Callable[[], bool]) -> None:
        """Only the forgetting; `is_lost` says whether one that the network does not know will not come any more."""
        way_out = _WayOut(self._network, self._wallet, item_hash, self._patience.confirm, is_lost)
        try:
            await self._patience.until(way_out.step, self._patience.forget)
        except TimeoutError as error:
            raise StillThere(f"{item_hash} is not forgotten yet: {way_out.last}") from error

    async def _wipe_it(self, rental: Rental) -> None:
        """Neither forgetting nor erasing ends the root disk (aleph-vm: `include_rootfs=False`)."""
        if self._wipe is None or rental.host_key is None:
            return  # nobody was ever on it, so nothing of ours is
        if await self._places.find(rental) is None:
            log.warning(line("instance not wiped: no node shows it", hash=rental.reference))
            return
        await best_effort("instance not wiped", rental.reference, self._wipe(self._places.place(rental)), WIPE_SECONDS)

    async def _erase(self, rental: Rental) -> None:
        """It ends the instance at once, where forgetting takes minutes."""
        node = await self._places.node(rental)
        if not await self._wallet.erase(node.url, rental.reference):
            log.warning(line("instance not erased", hash=rental.reference, node=node.url))

    def _is_lost(self, rental: Rental) -> bool:
        """Given up, so last sent, so long ago, and unknown: it will not come. Until then it could, and be paid for."""
        return rental.ended_at is not None and self._clock() > rental.ended_at + self._patience.watch


class _WayOut:
    """One instance on its way out of the network."""

    def __init__(
        self, network: Network, wallet: Wallet, item_hash: str, confirm: float, is_lost: Callable[[], bool]
    ) -> None:
        self._network = network
        self._wallet = wallet
        self._hash = item_hash
        self._confirm = confirm
        self._is_lost = is_lost
        self._forget: dict[str, Any] | None = None
        self._removed_since: float | None = None
        self._trouble = ""
        self._status = "not asked"

    @property
    def last(self) -> str:
        """What the network said in the end."""
        return self._status + self._trouble

    async def step(self) -> bool | None:
        """True once the network has confirmed that it is gone."""
        try:
            status = (await self._network.verdict(self._hash)).status
            self._status = status.value
            if status in COSTS:
                await self._send()
        except NetworkAway as error:
            self._trouble = f"; {error}"
            return None
        if status is InstanceStatus.UNKNOWN and not self._is_lost():
            # Nothing can be done before it is known; the next sweep looks again.
            raise StillThere(f"the network does not know {self._hash} yet, and may come to")
        if status is InstanceStatus.REMOVED:
            return self._is_confirmed()
        is_gone = status in {InstanceStatus.FORGOTTEN, InstanceStatus.REJECTED, InstanceStatus.UNKNOWN}
        return True if is_gone else None

    async def _send(self) -> None:
        """The same bytes each time: it is one wish."""
        self._forget = self._forget or await self._wallet.forget(self._hash, "given back")
        verdict = await self._network.broadcast(self._forget)
        if verdict.status is InstanceStatus.REJECTED:
            self._trouble = f"; forgetting it is rejected, code {verdict.error_code}, {verdict.details}"
            log.warning(line("forget rejected", hash=self._hash, code=verdict.error_code))

    def _is_confirmed(self) -> bool | None:
        now = asyncio.get_running_loop().time()
        self._removed_since = self._removed_since or now
        return True if now >= self._removed_since + self._confirm else None
