"""Agents, and machines that cost something, as rows."""

from datetime import UTC, datetime

from bot.store.models import Agent, Machine, MachineState, Phase, Wanted

OLGA, VIKTOR = 7_000_000_001, 7_000_000_002
HOUR = 3_600.0
PRICE = 100.0


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Rows:
    def __init__(self, database):
        self._database = database

    async def agent(self, agent_id, owner_id=OLGA, *, phase=Phase.RUNNING, wanted=Wanted.ON, generation=1):
        async with self._database.session() as session:
            session.add(
                Agent(
                    id=agent_id,
                    owner_id=owner_id,
                    name=f"Ada {agent_id}",
                    job="",
                    model="m",
                    sealed_secret="s",
                    release="r",
                    phase=phase,
                    wanted=wanted,
                    generation=generation,
                    observed_generation=1,
                )
            )

    async def machine(self, agent_id, begun, gone=None, *, claimed=None, state=MachineState.ACTIVE, price=PRICE):
        async with self._database.session() as session:
            session.add(
                Machine(
                    agent_id=agent_id,
                    provider="rented",
                    state=MachineState.GONE if gone else state,
                    created_at=at(begun),
                    gone_at=at(gone) if gone else None,
                    credits_per_hour=price,
                    claimed_at=at(claimed) if claimed else None,
                )
            )
