"""What we have ordered: rows of `rental`. Each change is one short transaction, committed before what it allows."""

import json
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, func, update
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.models import Rental, RentalState

AVOID_SECONDS = 600.0
"""A node that failed is left alone so long."""
LIVING = (RentalState.SIGNED, RentalState.PAID)


class Ledger:
    """Orders of instances."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._refused: dict[str, float] = {}

    async def commit(self, machine_id: str, message: dict[str, Any], node: str, node_url: str) -> Rental:
        """Write an order down, before it is sent."""
        rental = Rental(
            reference=message["item_hash"],
            machine_id=machine_id,
            order=json.dumps(message),
            node=node,
            node_url=node_url,
        )
        async with self._database.session() as session:
            session.add(rental)
        return rental

    async def current(self, machine_id: str) -> Rental | None:
        """The order that is or may become the machine."""
        found = [rental for rental in await self.of(machine_id) if rental.state in LIVING]
        return found[-1] if found else None

    async def get(self, reference: str) -> Rental:
        """An order that was committed."""
        async with self._database.session() as session:
            return await session.get_one(Rental, reference)

    async def of(self, machine_id: str) -> list[Rental]:
        """All orders for a machine, oldest first."""
        async with self._database.session() as session:
            query = select(Rental).where(col(Rental.machine_id) == machine_id).order_by(col(Rental.created_at))
            return list(await session.exec(query))

    async def known(self) -> dict[str, Rental]:
        """Every order that may cost money now, by its reference."""
        async with self._database.session() as session:
            query = select(Rental).where(col(Rental.state) != RentalState.GONE)
            return {rental.reference: rental for rental in await session.exec(query)}

    async def avoided(self) -> set[str]:
        """Nodes where something failed lately."""
        since = self._clock() - AVOID_SECONDS
        self._refused = {node: at for node, at in self._refused.items() if at > since}
        async with self._database.session() as session:
            query = select(Rental.node).where(col(Rental.reason) != "", col(Rental.ended_at) > since)
            return {*await session.exec(query), *self._refused}

    def avoid(self, node: str) -> None:
        """A node did not take an order. Kept in memory alone: after a restart it may be asked again."""
        self._refused[node] = self._clock()

    async def sending(self, reference: str) -> bool:
        """It is about to be sent: from the first time on somebody may know it. False: it was given up, and must not."""
        may_be = col(Rental.state).in_(LIVING)
        return await self._set(reference, may_be, sent_at=func.coalesce(col(Rental.sent_at), self._clock()))

    async def drop(self, reference: str) -> None:
        """If it has not been sent by now, it never will be."""
        await self._set(reference, col(Rental.sent_at).is_(None), state=RentalState.GONE, ended_at=self._clock())

    async def paid(self, reference: str) -> None:
        """It is taken, and costs money. One that was given up meanwhile stays so."""
        await self._set(reference, col(Rental.state) == RentalState.SIGNED, state=RentalState.PAID)

    async def give_up(self, reference: str, reason: str) -> None:
        """It must end, whatever it is; `reason` keeps its node from being asked again at once, if it is one."""
        await self._set(reference, state=RentalState.GIVEN_UP, reason=reason, ended_at=self._clock())

    async def gone(self, reference: str, reason: str | None = None) -> None:
        """It costs nothing: the network has said so, or never heard of it."""
        more = {} if reason is None else {"reason": reason}
        await self._set(reference, state=RentalState.GONE, ended_at=self._clock(), **more)

    async def moved(self, reference: str, node: str, node_url: str) -> None:
        """It is on another node now, with another disk: its SSH server is met for the first time."""
        await self._set(reference, node=node, node_url=node_url, host_key=None)

    async def pin(self, reference: str, host_key: str) -> None:
        """Remember by what its SSH server was known at the first contact."""
        await self._set(reference, host_key=host_key)

    async def _set(self, reference: str, *conditions: ColumnElement[bool], **values: Any) -> bool:
        """True if it was as the conditions say."""
        is_open = col(Rental.state) != RentalState.GONE
        async with self._database.transaction() as transaction:
            change = update(Rental).where(col(Rental.reference) == reference, is_open, *conditions)
            return (await transaction.execute(change.values(**values))).rowcount == 1
