"""A message to its reply: accepted once, run once, attached to again after every kind of break."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import distinct, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, func, select

from agent import protocol
from bot.accounts.agents import Agents
from bot.accounts.limits import Limits
from bot.accounts.users import Users
from bot.chat.files import NO_WORDS, Files, Incoming
from bot.chat.fresh import Fresh
from bot.chat.route import Route
from bot.chat.run import NotYet, Run
from bot.errors import AgentError, Refused
from bot.store.database import Database
from bot.store.models import Agent, Turn, TurnState, User

MAX_WAITING = 3
"""Messages of a chat that may wait behind the one being answered."""
KNOWN_REFUSED = 256
"""Albums whose other parts need not be told the same. Forgotten by a restart: then it is said once more."""
ENDING_SECONDS, ENDING_POLL_SECONDS = 2.0, 0.05
"""How long a turn whose end is in the chat may take to be over."""
OPEN = (TurnState.QUEUED, TurnState.RUNNING)


@dataclass(frozen=True, slots=True)
class Ask:
    """A person's message to an agent."""

    agent: Agent
    chat_id: int
    user_id: int
    message_id: int
    message: str
    update_id: int
    file: Incoming | None = None
    album: str = ""
    """Telegram's id of the messages that were sent as one: they are one turn."""

    @property
    def turn_id(self) -> str:
        """The same update is the same turn, on our side and on the agent's."""
        return f"u{self.update_id}"


class Turns:
    """Rows of `turn`, and the runs behind them."""

    def __init__(
        self, database: Database, limits: Limits, users: Users, agents: Agents, route: Route, *, files: Files
    ) -> None:
        self._database = database
        self._limits = limits
        self._users = users
        self._agents = agents
        self._route = route
        self._files = files
        self._fresh = Fresh(database, route)
        self._refused_albums: deque[str] = deque(maxlen=KNOWN_REFUSED)

    async def accept(self, ask: Ask) -> bool:
        """Take a message in and reserve one of the day's messages, in one transaction.

        False if this update was accepted before, or belongs to the same album as one that waits: that turn has it now.
        `Refused` (`too-many-waiting`, `quota-used`) leaves nothing behind, and is said once of an album.
        """
        if ask.album and ask.album in self._refused_albums:
            return False
        try:
            return await self._accept(ask)
        except Refused:
            if ask.album:
                self._refused_albums.append(ask.album)
            raise

    async def _accept(self, ask: Ask) -> bool:
        turn = Turn(
            id=ask.turn_id,
            agent_id=ask.agent.id or 0,
            chat_id=ask.chat_id,
            user_id=ask.user_id,
            message_id=ask.message_id,
            message=ask.message,
            sequence=ask.update_id,
        )
        async with self._database.transaction() as transaction:
            await self._lock(transaction, ask.chat_id)
            if ask.album and await self._join(transaction, ask):
                return False
            insert = self._database.insert_new(Turn, turn.model_dump())
            # Not by `rowcount`: of an INSERT on Postgres it is unknown.
            if (await transaction.execute(insert.returning(col(Turn.id)))).first() is None:
                return False
            await self._check_waiting(transaction, ask.chat_id)
            await self._reserve(transaction, turn.id, turn.user_id, turn.agent_id)
            await self._fresh.take(transaction, turn)
            if ask.file or ask.album:
                await self._files.add(transaction, turn.id, ask.update_id, ask.file, ask.album)
        return True

    async def open(self) -> list[Turn]:
        """Every turn that is not over, in the order asked: what a restart goes on with."""
        async with self._database.session() as session:
            query = select(Turn).where(col(Turn.state).in_(OPEN)).order_by(col(Turn.sequence))
            return list(await session.exec(query))

    async def next(self, chat_id: int) -> Turn | None:
        """The chat's oldest turn that is not over, now marked as running. The rest of an album is waited for."""
        while True:
            turn, wait = await self._take(chat_id)
            if not wait:
                return turn
            await asyncio.sleep(wait)

    async def count_open(self, chat_id: int) -> int:
        """How many of the chat's turns are not over."""
        async with self._database.transaction() as transaction:
            return await _count_open(transaction, chat_id)

    def events(self, turn: Turn) -> AsyncGenerator[protocol.Event | NotYet]:
        """The turn's events from its first on, across lost connections, restarts of the bot and of the agent.

        `AgentOffline` when the agent cannot be brought back, `AgentRefused` when it does not take the message.
        """
        return Run(self._route, turn, self._request).events()

    async def finish(self, turn: Turn, *, answered: bool, is_charged: bool, seen: int = 0) -> None:
        """It is over, after event number `seen`. If it is not to be charged, its free message is given back."""
        state = TurnState.DONE if answered else TurnState.FAILED
        over: dict[str, Any] = {"state": state, "retry": False, "seen": seen}
        if answered:
            # The agent has the conversation; only a retry would need the text here.
            over["message"] = ""
        async with self._database.transaction() as transaction:
            await self._lock(transaction, turn.chat_id)
            change = update(Turn).where(col(Turn.id) == turn.id, col(Turn.state).in_(OPEN))
            changed = await transaction.execute(change.values(**over))
            if changed.rowcount and not is_charged and turn.charged_day:
                await self._limits.give_back(transaction, turn.user_id, turn.charged_day)
            if answered:
                await self._files.forget(transaction, turn.id)

    async def stop(self, chat_id: int, turn_id: str | None = None) -> bool:
        """Stop the turn that runs in this chat (if it is this one); False if none does."""
        async with self._database.session() as session:
            query = select(Turn).where(col(Turn.chat_id) == chat_id, col(Turn.state) == TurnState.RUNNING)
            turn = (await session.exec(query if turn_id is None else query.where(col(Turn.id) == turn_id))).first()
        if turn is None:
            return False
        await self._route.stop(turn.agent_id, str(chat_id))
        return True

    async def retry(self, turn_id: str, chat_id: int) -> bool:
        """Run a turn of this chat that did not end well again; False if it is not one.

        It counts as one of the day's messages, like the first time: `Refused` (`quota-used`) if none is left.
        """
        deadline = time.monotonic() + ENDING_SECONDS
        while not await self._requeue(turn_id, chat_id):
            # The button is in the chat a moment before the row says that the turn has failed.
            if time.monotonic() > deadline:
                return False
            if not await self._is_running(turn_id, chat_id):
                # Unless it failed between the two looks, it is not one to run again.
                return await self._requeue(turn_id, chat_id)
            await asyncio.sleep(ENDING_POLL_SECONDS)
        return True

    async def _is_running(self, turn_id: str, chat_id: int) -> bool:
        async with self._database.transaction() as transaction:
            state = select(Turn.state).where(col(Turn.id) == turn_id, col(Turn.chat_id) == chat_id)
            return await transaction.scalar(state) is TurnState.RUNNING

    async def _requeue(self, turn_id: str, chat_id: int) -> bool:
        async with self._database.transaction() as transaction:
            change = update(Turn).where(
                col(Turn.id) == turn_id, col(Turn.chat_id) == chat_id, col(Turn.state) == TurnState.FAILED
            )
            again = change.values(state=TurnState.QUEUED, retry=True, charged_day=None)
            kept = again.returning(col(Turn.user_id), col(Turn.agent_id), col(Turn.answer_ids))
            row = (await transaction.execute(kept)).first()
            if row:
                await self._reserve(transaction, turn_id, row.user_id, row.agent_id)
                await self._begin_anew(transaction, turn_id, row.answer_ids)
        return row is not None

    async def forget(self, chat_id: int, agent: Agent) -> bool:
        """The conversation of this chat with the agent starts over; False: not before the chat's next message to it."""
        try:
            await self._route.forget(agent.id or 0, str(chat_id))
        except AgentError:
            await self._fresh.want(chat_id, agent.id or 0)
            return False
        return True

    def file(self, turn: Turn, file_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A file of the turn's answer, piece by piece, from its agent."""
        return self._route.get_file(turn.agent_id, str(turn.chat_id), file_id)

    async def usage(self, agent: Agent, since: str) -> protocol.Spendings:
        """What the agent's chats cost since that day (UTC, ISO); `AgentError` if it does not say so at once."""
        return await self._route.usage(agent.id or 0, since)

    async def agents_lately(self, chat_id: int) -> int:
        """How many agents this chat wrote to in the last 24 hours."""
        query = select(func.count(distinct(col(Turn.agent_id)))).where(
            col(Turn.chat_id) == chat_id, col(Turn.created_at) > time.time() - 86_400
        )
        async with self._database.transaction() as transaction:
            return await transaction.scalar(query) or 0

    async def messages(self, turn_id: str) -> list[int]:
        """Telegram message ids of the answer so far."""
        async with self._database.transaction() as transaction:
            stored = await transaction.scalar(select(Turn.answer_ids).where(col(Turn.id) == turn_id))
        return [int(part) for part in (stored or "").split(",") if part]

    async def record(self, turn_id: str, message_ids: list[int]) -> None:
        """Keep them: whoever shows the turn after a crash edits these instead of sending anew."""
        joined = ",".join(map(str, message_ids))
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Turn).where(col(Turn.id) == turn_id).values(answer_ids=joined))

    async def _take(self, chat_id: int) -> tuple[Turn | None, float]:
        """The turn to run now; or how many seconds to wait for it first."""
        async with self._database.session() as session:
            connection = await session.connection()
            await self._lock(connection, chat_id)
            query = select(Turn).where(col(Turn.chat_id) == chat_id, col(Turn.state).in_(OPEN))
            turn = (await session.exec(query.order_by(col(Turn.sequence)).limit(1))).first()
            if turn is None:
                return None, 0
            if turn.state is TurnState.QUEUED and (wait := await self._files.incomplete_for(connection, turn.id)):
                return None, wait
            turn.state = TurnState.RUNNING
            return turn, 0

    async def _join(self, transaction: AsyncConnection, ask: Ask) -> bool:
        """Add a part of an album to the turn that has the others, if that did not begin yet."""
        waiting = await self._files.album(transaction, ask.chat_id, ask.update_id, ask.album)
        if waiting is None:
            return False
        if not waiting.is_known:
            await self._files.add(transaction, waiting.turn_id, ask.update_id, ask.file, ask.album)
            words = "\n".join(part for part in (waiting.message, ask.message) if part)
            await transaction.execute(update(Turn).where(col(Turn.id) == waiting.turn_id).values(message=words))
        return True

    async def _begin_anew(self, transaction: AsyncConnection, turn_id: str, answer_ids: str) -> None:
        """What is run again sends its own files; the agent may have lost those that it was given."""
        texts = ",".join(part for part in answer_ids.split(",") if part and int(part) > 0)
        await transaction.execute(update(Turn).where(col(Turn.id) == turn_id).values(answer_ids=texts))
        await self._files.carry_again(transaction, turn_id)

    async def _lock(self, transaction: AsyncConnection, chat_id: int) -> None:
        # What is counted or chosen among a chat's turns stays so until it is acted on.
        await self._database.lock(transaction, "turns of", chat_id)

    async def _check_waiting(self, transaction: AsyncConnection, chat_id: int) -> None:
        # The one being answered and this one are not waiting behind it.
        if await _count_open(transaction, chat_id) > MAX_WAITING + 1:
            raise Refused("too-many-waiting", limit=MAX_WAITING)

    async def _reserve(self, transaction: AsyncConnection, turn_id: str, user_id: int, agent_id: int) -> None:
        if await self._thinks_on_own_key(transaction, user_id, agent_id):
            return
        day = await self._limits.reserve(transaction, user_id)
        if day is None:
            raise Refused("quota-used", **self._limits.refill())
        await transaction.execute(update(Turn).where(col(Turn.id) == turn_id).values(charged_day=day))

    async def _thinks_on_own_key(self, transaction: AsyncConnection, user_id: int, agent_id: int) -> bool:
        # A visitor's own key does not pay here: the agent thinks with its owner's.
        own = select(User.sealed_key).join(Agent, col(Agent.owner_id) == col(User.id))
        return await transaction.scalar(own.where(col(User.id) == user_id, col(Agent.id) == agent_id)) is not None

    async def _request(self, turn: Turn, after: int, *, retry: bool) -> protocol.ChatRequest:
        await self._fresh.begin(turn)
        agent, user = await self._agents.get(turn.agent_id), await self._users.get(turn.user_id)
        is_owner = agent is not None and agent.owner_id == turn.user_id
        role = protocol.Role.OWNER if is_owner else protocol.Role.VISITOR
        return protocol.ChatRequest(
            chat_id=str(turn.chat_id),
            turn_id=turn.id,
            message=turn.message or NO_WORDS,
            attachments=await self._files.carried(turn, role),
            role=role,
            user=protocol.Person(
                id=str(turn.user_id), name=user.name if user else "", language=user.language if user else ""
            ),
            after=after,
            retry=retry,
        )


async def _count_open(transaction: AsyncConnection, chat_id: int) -> int:
    query = select(func.count()).where(col(Turn.chat_id) == chat_id, col(Turn.state).in_(OPEN))
    return await transaction.scalar(query) or 0
