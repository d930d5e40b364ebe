"""Fetch updates and store them before they are acknowledged: the next request confirms only what is in the database."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

from telegram import Update
from telegram.error import Conflict, InvalidToken, RetryAfter, TelegramError
from telegram.ext import ExtBot

from bot.log import line
from bot.telegram.inbox import Inbox

log = logging.getLogger(__name__)

POLL_SECONDS = 30
SILENCE_SECONDS = 120.0
"""Longer than a poll that finds nothing and the longest pause together: then Telegram does not answer us any more."""
ALLOWED = [Update.MESSAGE, Update.CALLBACK_QUERY]
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class Intake:
    """Long polling without PTB's Updater, whose queue is in memory and confirmed before it is handled."""

    def __init__(
        self,
        bot: ExtBot[Any],
        inbox: Inbox,
        dispatch: Callable[[Update], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bot = bot
        self._inbox = inbox
        self._dispatch = dispatch
        self._clock = clock
        self._answered_at: float | None = None
        self._patience = 0

    async def run(self) -> NoReturn:
        """Poll until cancelled. `InvalidToken` ends it: only the operator can mend that."""
        for update in await self._inbox.waiting():
            self._dispatch(update)
        offset = await self._inbox.next_offset()
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                offset = await self._fetch(offset)
                pause = FIRST_PAUSE_SECONDS
                self._answered_at, self._patience = self._clock(), POLL_SECONDS
            except InvalidToken:
                raise
            except RetryAfter as error:
                await asyncio.sleep(_seconds(error))
            except TelegramError as error:
                log.warning(line("polling failed", why=_advice(error), pause=pause))
                # Whether it goes again is known at once, and not after half a minute.
                self._patience = 0
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def trouble(self) -> str:
        """What is wrong with polling; empty if Telegram has answered lately."""
        if self._answered_at is None:
            return "no answer from Telegram yet"
        silence = self._clock() - self._answered_at
        return f"no answer from Telegram for {silence:.0f} s" if silence > SILENCE_SECONDS else ""

    async def _fetch(self, offset: int | None) -> int | None:
        wait = self._patience
        updates = await self._bot.get_updates(
            offset=offset, limit=100, timeout=wait, read_timeout=wait + 10, allowed_updates=ALLOWED
        )
        for update in await self._inbox.store(updates):
            self._dispatch(update)
        return updates[-1].update_id + 1 if updates else offset


def _seconds(error: RetryAfter) -> float:
    wait = error.retry_after
    return float(wait) if isinstance(wait, int) else wait.total_seconds()


def _advice(error: TelegramError) -> str:
    if isinstance(error, Conflict):
        return "another bot polls with this token, or a webhook is set; end it"
    return f"{type(error).__name__}: {error}"
