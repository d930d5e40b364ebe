"""Files that come with people's messages: rows of `turn_file`, and the way from Telegram to the agent."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select

from agent import protocol
from bot.chat.route import Route
from bot.errors import AgentRefused, FileLost, Refused
from bot.log import line
from bot.machines.client import Upload
from bot.store.database import Database
from bot.store.models import Turn, TurnFile, TurnState

log = logging.getLogger(__name__)

NO_WORDS = "[no text, see the attached files]"
"""What the agent is told where a person sent files and no words."""
ALBUM_SECONDS = 1.5
"""Without a further message of an album, after which it counts as whole: Telegram does not say how many there are."""
_ROUNDING = 0.001
TRIES = 3
FIRST_PAUSE_SECONDS = 1.0
REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.INSUFFICIENT_STORAGE)
"""What an agent answers that knows files and does not take this one. Its words are for the person."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file as Telegram tells of it. `key` is its id on the agent; `size` is in bytes, 0 where Telegram is silent."""

    file_id: str
    key: str
    name: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Album:
    """The turn that has the other parts of an album. `is_known`: it has this one too."""

    turn_id: str
    message: str
    is_known: bool


class Source(Protocol):
    """Where the files that people send are (the front end's)."""

    def open(self, file_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A file, piece by piece; `FileLost` also while it is read."""


class Files:
    """Kept with the turn as soon as they are heard of, carried when it runs."""

    def __init__(
        self,
        database: Database,
        route: Route,
        source: Source,
        *,
        album_seconds: float = ALBUM_SECONDS,
        pause: float = FIRST_PAUSE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._route = route
        self._source = source
        self._album_seconds = album_seconds
        self._pause = pause
        self._clock = clock

    async def add(
        self, transaction: AsyncConnection, turn_id: str, update_id: int, file: Incoming | None, album: str
    ) -> None:
        """Keep a file with its turn; None for a part of an album whose words alone are wanted."""
        row = TurnFile(update_id=update_id, turn_id=turn_id, album=album, added_at=self._clock())
        if file:
            row.file_id, row.key, row.name = file.file_id, file.key, file.name
            row.media_type, row.size = file.media_type, file.size
        await transaction.execute(self._database.insert_new(TurnFile, row.model_dump()))

    async def album(self, transaction: AsyncConnection, chat_id: int, update_id: int, album: str) -> Album | None:
        """The turn that has this part of an album already, or could still take it."""
        query = (
            select(Turn.id, Turn.message, TurnFile.update_id, Turn.state)
            .join(TurnFile, col(TurnFile.turn_id) == col(Turn.id))
            .where(col(Turn.chat_id) == chat_id, col(TurnFile.album) == album)
        )
        rows = (await transaction.execute(query)).all()
        known = next((row for row in rows if row.update_id == update_id), None)
        if known:
            return Album(known.id, known.message, is_known=True)
        waiting = [row for row in rows if row.state is TurnState.QUEUED]
        if not waiting or len(waiting) >= protocol.MAX_ATTACHMENTS:
            return None
        return Album(waiting[0].id, waiting[0].message, is_known=False)

    async def incomplete_for(self, transaction: AsyncConnection, turn_id: str) -> float:
        """Seconds for which more of the turn's album may still come; 0 if it has none, or all."""
        newest = select(func.max(TurnFile.added_at)).where(col(TurnFile.turn_id) == turn_id, col(TurnFile.album) != "")
        added_at = await transaction.scalar(newest)
        if added_at is None:
            return 0
        left = added_at + self._album_seconds - self._clock()
        # A clock that was set back must not hold anybody up. Sums of such large floats are a little off.
        return left if 0 < left <= self._album_seconds + _ROUNDING else 0

    async def forget(self, transaction: AsyncConnection, turn_id: str) -> None:
        """The agent has them: only a retry would need more than the update's number here."""
        nothing = {"file_id": "", "key": "", "name": "", "stored": ""}
        await transaction.execute(update(TurnFile).where(col(TurnFile.turn_id) == turn_id).values(**nothing))

    async def carry_again(self, transaction: AsyncConnection, turn_id: str) -> None:
        """Whatever the agent was given before, it is given again."""
        await transaction.execute(update(TurnFile).where(col(TurnFile.turn_id) == turn_id).values(stored=""))

    async def carried(self, turn: Turn, role: protocol.Role) -> tuple[protocol.Attachment, ...]:
        """The turn's files, as the agent calls them; those that it does not have yet are brought to it.

        `Refused` where one cannot be had or is not taken; of the agent's errors, `AgentOffline` and `AgentBusy` pass.
        """
        async with self._database.session() as session:
            query = select(TurnFile).where(col(TurnFile.turn_id) == turn.id, col(TurnFile.file_id) != "")
            rows = list(await session.exec(query.order_by(col(TurnFile.update_id))))
        # The same picture twice in an album is one file.
        files = {row.key: row for row in rows}
        return tuple([await self._carried(turn, row, role) for row in files.values()])

    async def _carried(self, turn: Turn, row: TurnFile, role: protocol.Role) -> protocol.Attachment:
        if row.stored:
            return protocol.Attachment.model_validate_json(row.stored)
        try:
            attachment = await self._bring(turn, row, role)
        except FileLost as error:
            log.warning(line("file not fetched", turn=turn.id, update=row.update_id, why=error))
            raise Refused(error.hint, name=row.name) from error
        except AgentRefused as error:
            if error.status not in REFUSED:
                raise
            log.warning(line("file refused", turn=turn.id, update=row.update_id, kind=error.kind))
            raise Refused("file-refused", name=row.name, reason=error.text) from error
        async with self._database.transaction() as transaction:
            stored = update(TurnFile).where(col(TurnFile.update_id) == row.update_id)
            await transaction.execute(stored.values(stored=attachment.model_dump_json()))
        return attachment

    async def _bring(self, turn: Turn, row: TurnFile, role: protocol.Role) -> protocol.Attachment:
        announced = Upload(id=row.key, name=row.name, media_type=row.media_type, role=role)
        pause, tries = self._pause, TRIES
        while True:
            tries -= 1
            try:
                async with self._source.open(row.file_id) as content:
                    return await self._route.put_file(turn.agent_id, str(turn.chat_id), announced, content)
            except FileLost as error:
                if not error.may_heal or not tries:
                    raise
                log.info(line("file not fetched yet", turn=turn.id, update=row.update_id, pause=pause))
            await asyncio.sleep(pause)
            pause *= 2
