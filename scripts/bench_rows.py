"""The rows of ten thousand agents that have lived for a while: machines of before, snapshots, turns, letters."""

import random
import time
from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Any

from pydantic import SecretStr
from sqlalchemy import insert
from sqlmodel import SQLModel

from bot.store.database import Database
from bot.store.models import (
    Agent,
    Alarm,
    Configuration,
    Letter,
    LetterState,
    Machine,
    MachineState,
    Phase,
    Turn,
    TurnState,
    User,
)
from bot.store.records import Reason, Rollout, RolloutItem, RolloutState, Snapshot, SnapshotState
from bot.store.vault import Vault

AGENTS = 10_000
MACHINES_BEFORE, SNAPSHOTS, TURNS, LETTERS = 2, 3, 10, 1
"""Of each agent."""
DAYS = 7
AT_ONCE = 5_000
JOB = "You cook, and answer what people ask about food. " * 10
SECRET = SecretStr("a secret that bot and agent share: 32 characters")


async def fill(database: Database, vault: Vault, url: str) -> None:
    """All agents run, at this URL, and everybody has heard of everything."""
    dice, now = random.Random(6), time.time()  # noqa: S311  made-up people
    sealed = vault.seal(SECRET)
    await _insert(database, User, ({"id": number} for number in range(1, AGENTS + 1)))
    await _insert(database, Agent, (_agent(number, sealed) for number in range(1, AGENTS + 1)))
    await _insert(database, Machine, _machines(url, now))
    await _insert(database, Snapshot, _snapshots(dice, now))
    await _insert(database, Turn, _turns(dice, now))
    await _insert(database, Letter, _letters(now))
    await _insert(database, Alarm, ({"agent_id": each, "at": now + 86_400} for each in range(1, AGENTS + 1, 10)))
    told = ({"agent_id": each, "version": 1, "observed_version": 1} for each in range(1, AGENTS + 1, 5))
    await _insert(database, Configuration, told)


async def open_rollout(database: Database) -> None:
    """One of all of them, in the middle."""
    rollout = Rollout(release="r2", previous="r1", state=RolloutState.PAUSED, plan={})
    async with database.session() as session:
        session.add(rollout)
        await session.flush()
        number = rollout.id
    await _insert(
        database,
        RolloutItem,
        ({"rollout_id": number, "agent_id": each, "previous": "r1"} for each in range(1, AGENTS + 1)),
    )


def machine_id(number: int) -> str:
    """Of the agent's machine."""
    return f"m-{number:016x}"


def _agent(number: int, sealed: str) -> dict[str, Any]:
    row = Agent(
        id=number,
        owner_id=number,
        name="Ada",
        job=JOB,
        model="scripted",
        sealed_secret=sealed,
        release="r1",
        observed_generation=1,
        phase=Phase.RUNNING,
        machine_id=machine_id(number),
        epoch=1,
    )
    return row.model_dump()


def _machines(url: str, now: float) -> Iterator[dict[str, Any]]:
    for number in range(1, AGENTS + 1):
        row = {"agent_id": number, "provider": "local", "release": "r1", "epoch": 1, "url": url}
        row |= {"created_at": now - DAYS * 86_400}
        yield row | {"id": machine_id(number), "state": MachineState.ACTIVE}
        for before in range(1, MACHINES_BEFORE + 1):
            yield row | {"id": machine_id(before * 1_000_000 + number), "state": MachineState.GONE}


def _snapshots(dice: random.Random, now: float) -> Iterator[dict[str, Any]]:
    for number in range(1, AGENTS + 1):
        for hours in range(SNAPSHOTS):  # the newest holds all: none has to be taken now
            at, name = now + 60 - 3_600 * hours, f"s-{dice.getrandbits(64):016x}"
            row = {"id": name, "agent_id": number, "path": f"all/{number}/{name}", "reason": Reason.SCHEDULE}
            yield row | {"state": SnapshotState.WHOLE, "manifest": "{}" * 400, "created_at": at}


def _turns(dice: random.Random, now: float) -> Iterator[dict[str, Any]]:
    for count in range(AGENTS * TURNS):
        number = count % AGENTS + 1
        row = {"id": f"u{count}", "agent_id": number, "chat_id": number, "user_id": number, "message_id": count}
        row |= {"message": "", "sequence": count, "state": TurnState.DONE}
        yield row | {"created_at": now - dice.random() * DAYS * 86_400}


def _letters(now: float) -> Iterator[dict[str, Any]]:
    for number in range(1, AGENTS + 1):
        for count in range(LETTERS):
            row = {"agent_id": number, "id": count, "chat_id": number, "text": "Soup is ready.", "files": []}
            yield row | {"state": LetterState.DELIVERED, "received_at": now - DAYS * 86_400}


async def _insert(database: Database, table: type[SQLModel], rows: Iterable[dict[str, Any]]) -> None:
    for some in batched(rows, AT_ONCE):
        async with database.transaction() as transaction:
            await transaction.execute(insert(table), list(some))
