"""Agents as their owners see them: made, listed, found by link, wanted otherwise. The fleet makes it come true."""

import secrets
import time
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import delete, func, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from bot.errors import Refused
from bot.store.database import Database
from bot.store.models import SERVING, Agent, Draft, Phase, User, Wanted
from bot.store.releases import default_release
from bot.store.vault import Vault

LINK_PREFIX = "agent_"


@dataclass(frozen=True, slots=True)
class Card:
    """The message that shows how a wish comes true."""

    chat_id: int
    message_id: int


class Agents:
    """Rows of `agent`."""

    def __init__(
        self, database: Database, vault: Vault, *, release: str, limit: int, has_operator_key: bool = True
    ) -> None:
        self._database = database
        self._vault = vault
        self._release = release
        self._has_operator_key = has_operator_key
        self.limit = limit
        """How many agents one person may have."""

    async def get(self, agent_id: int) -> Agent | None:
        """The agent, also when it is deleted."""
        async with self._database.session() as session:
            return await session.get(Agent, agent_id)

    async def owned(self, owner_id: int) -> list[Agent]:
        """Their agents, oldest first; deleted ones are left out."""
        async with self._database.session() as session:
            query = select(Agent).where(col(Agent.owner_id) == owner_id, col(Agent.wanted) != Wanted.DELETED)
            return list(await session.exec(query.order_by(col(Agent.id))))

    async def by_link(self, payload: str) -> Agent | None:
        """The agent behind `agent_<link>` (or the bare link); None if there is none or it is deleted."""
        async with self._database.session() as session:
            query = select(Agent).where(col(Agent.link) == payload.removeprefix(LINK_PREFIX))
            agent = (await session.exec(query)).first()
        return agent if agent and agent.wanted is not Wanted.DELETED else None

    async def check_limit(self, owner_id: int) -> None:
        """`Refused` if they may not have one more."""
        if len(await self.owned(owner_id)) >= self.limit:
            raise Refused("agent-limit", limit=self.limit)

    async def create(self, draft: Draft, card: Card) -> Agent:
        """Make the agent of a checked draft and drop the draft; the same draft again finds the same agent.

        `Refused` if its owner has as many as allowed, or if there is no key to think with. The card will show the
        deployment.
        """
        async with self._database.session() as session:
            # Pressed twice at once, it is one agent; two drafts at once do not pass the limit.
            await self._database.lock(await session.connection(), "agents of", draft.user_id)
            known = (await session.exec(select(Agent).where(col(Agent.link) == draft.link))).first()
            if known:
                return known
            living = select(func.count()).where(
                col(Agent.owner_id) == draft.user_id, col(Agent.wanted) != Wanted.DELETED
            )
            if (await session.exec(living)).one() >= self.limit:
                raise Refused("agent-limit", limit=self.limit)
            await self._check_key(session, draft.user_id)
            agent = self._agent(draft, card, await default_release(session, self._release))
            session.add(agent)
            mine = (col(Draft.user_id) == draft.user_id, col(Draft.link) == draft.link)
            await session.exec(delete(Draft).where(*mine))
        return agent

    async def _check_key(self, session: AsyncSession, owner_id: int) -> None:
        owner = None if self._has_operator_key else await session.get(User, owner_id)
        if not self._has_operator_key and not (owner and owner.sealed_key):
            raise Refused("key-needed")

    def _agent(self, draft: Draft, card: Card, release: str) -> Agent:
        return Agent(
            owner_id=draft.user_id,
            link=draft.link,
            name=draft.name,
            job=draft.job,
            model=draft.model,
            sealed_secret=self._vault.seal(SecretStr(secrets.token_urlsafe(32))),
            release=release,
            card_chat_id=card.chat_id,
            card_message_id=card.message_id,
            card_open=True,
        )

    async def delete(self, agent_id: int, card: Card) -> None:
        """Want it deleted; again is harmless. The card will show when its machine is given back."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == agent_id, col(Agent.wanted) != Wanted.DELETED)
            await transaction.execute(change.values(**fresh(card), wanted=Wanted.DELETED, phase=Phase.DELETING))

    async def try_again(self, agent_id: int, card: Card) -> None:
        """Deploy once more after a failure; does nothing unless it has failed."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == agent_id, col(Agent.phase) == Phase.FAILED)
            await transaction.execute(change.values(**fresh(card), phase=Phase.WAITING))

    async def sleep_after(self, agent_id: int, minutes: int | None) -> None:
        """Let it fall asleep when it was idle for so long. 0: never. None: as the operator says."""
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Agent).where(col(Agent.id) == agent_id).values(idle_minutes=minutes))

    async def renew(self, owner_id: int) -> list[int]:
        """Have their agents started anew with what has changed (their key); their ids."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.owner_id) == owner_id, col(Agent.phase).in_(SERVING))
            values = {"generation": col(Agent.generation) + 1, "attempt": 1, "next_at": 0.0}
            rows = await transaction.execute(change.values(**values).returning(col(Agent.id)))
            return [row.id for row in rows]

    async def move_card(self, agent_id: int, card: Card) -> None:
        """Show what is going on in another message."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == agent_id)
            place = {"card_chat_id": card.chat_id, "card_message_id": card.message_id}
            await transaction.execute(change.values(**place))

    async def close_card(self, agent_id: int, generation: int) -> None:
        """The card has shown how this wish ended."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == agent_id, col(Agent.generation) == generation)
            await transaction.execute(change.values(card_open=False))

    async def open_cards(self) -> list[int]:
        """Agents whose card has not yet shown how the wish ended."""
        async with self._database.session() as session:
            query = select(Agent.id).where(col(Agent.card_open).is_(True))
            return [agent_id for agent_id in await session.exec(query) if agent_id is not None]

    def secret(self, agent: Agent) -> SecretStr:
        """The bearer secret that bot and agent share."""
        return self._vault.open(agent.sealed_secret)


def fresh(card: Card) -> dict[str, object]:
    """What every new wish with a card starts with."""
    return {
        "generation": col(Agent.generation) + 1,
        "attempt": 1,
        "next_at": 0.0,
        "error": None,
        "error_code": None,
        "deploy_started_at": time.time(),
        "card_chat_id": card.chat_id,
        "card_message_id": card.message_id,
        "card_open": True,
    }
