"""Show one turn of an agent in a chat while it happens: typing, a message that grows, the final answer once.

What the agent is doing stands under the text, not over it: a phone shows the end of a growing message, and only the
last message of a long answer is edited. At the top, the line would be scrolled away after the first paragraph, and
everything below it would jump when it comes and goes.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from telegram import InlineKeyboardMarkup, ReplyParameters
from telegram.constants import ChatAction, MessageEntityType
from telegram.error import BadRequest, Forbidden, NetworkError, TelegramError
from telegram.ext import ExtBot

from agent import protocol
from bot.errors import EventsEnded, FileLost, NotDelivered
from bot.log import line
from bot.telegram.answer import NEVER, SILENT_AFTER, Answer, Word
from bot.telegram.choices import Offering, choice_keyboard, choice_list
from bot.telegram.files import AgentFile, FileSender, OpenFile, why_not
from bot.telegram.keyboards import Verb, button, rows
from bot.telegram.limiter import Clock, Dropped, Limiter, Priority, edit_interval
from bot.telegram.pages import Journal, Page, Pages
from bot.telegram.render import Chunk, clipped, one_line, plain, render, stack, utf16_length
from bot.telegram.texts import Speech

log = logging.getLogger(__name__)

_FIRST_CHARS, _FIRST_SECONDS = 40, 1.5
_TYPING_EVERY, _TYPING_AT_MOST = 4.0, 300.0
_HEADER_UNITS, _STATUS_UNITS, _REASON_UNITS, _NAME_UNITS = 90, 130, 1_000, 60
_PAGE_UNITS, _PAGE_ENTITIES = 3_870, 97  # with the header and the status, and what separates them, within the limits
_FILE_PAGES, _FILE_CODE = 3, 8_000
_FILE_NAME = "answer.md"
_RETRY_FIRST, _RETRY_MOST, _RETRY_TOTAL = 0.5, 15.0, 120.0


class Ending(StrEnum):
    """How a turn ended for the person."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    UNREACHABLE = "unreachable"
    """The person blocked the bot, or it was thrown out of the group. Nothing more is sent; the turn may still run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a turn: `final` is the agent's own last event (usage, or kind and retryable); None if unreachable."""

    ending: Ending
    messages: int
    final: protocol.Final | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where and for whom a turn is shown. `header` stands in bold over the answer, for example "Ada ·"."""

    chat_id: int
    turn_id: str
    reply_to: int | None
    speech: Speech
    header: str | None = None
    open_file: OpenFile | None = None
    """Where the files of the answer are; None: there is no agent to have any."""

    @property
    def is_streamed(self) -> bool:
        """Groups allow 20 messages a minute, edits included: they get the final answer only."""
        return self.chat_id > 0


class Relay:
    """Shows turns, any number at a time."""

    def __init__(
        self,
        bot: ExtBot[Any],
        limiter: Limiter,
        journal: Journal,
        offers: Offering,
        *,
        clock: Clock | None = None,
        sender: FileSender | None = None,
    ) -> None:
        self._bot = bot
        self._limiter = limiter
        self._journal = journal
        self._offers = offers
        self._clock = clock
        self._sender = sender or FileSender(bot)
        self._active = 0

    async def show(self, conversation: Conversation, events: AsyncIterator[protocol.Event | Word]) -> Outcome:
        """Show all events of a turn, from its first one, also when it was shown in part before.

        `NotDelivered` if Telegram stays out of reach, `EventsEnded` if the events break off; what `events` raises
        passes through.
        """
        pages = Pages(
            self._bot,
            self._journal,
            chat_id=conversation.chat_id,
            turn_id=conversation.turn_id,
            reply_to=conversation.reply_to,
            recorded=await self._journal.messages(conversation.turn_id),
        )
        clock = self._clock or asyncio.get_running_loop()
        showing = _Showing(
            conversation,
            pages,
            bot=self._bot,
            limiter=self._limiter,
            offers=self._offers,
            clock=clock,
            sender=self._sender,
            interval=lambda: edit_interval(self._active),
        )
        self._active += 1
        try:
            return await showing.run(events)
        finally:
            self._active -= 1


class _Showing:
    """One turn while it is shown."""

    def __init__(
        self,
        conversation: Conversation,
        pages: Pages,
        *,
        bot: ExtBot[Any],
        limiter: Limiter,
        offers: Offering,
        clock: Clock,
        sender: FileSender,
        interval: Callable[[], float],
    ) -> None:
        self._bot = bot
        self._limiter = limiter
        self._offers = offers
        self._clock = clock
        self._conversation = conversation
        self._pages = pages
        self._interval = interval
        self._answer = Answer(clock.time())
        self._wake = asyncio.Event()
        self._is_typing_over = asyncio.Event()
        self._sender = sender
        # A turn shown before waits a moment, or its message would shrink to the first words and grow again.
        self._text_at = self._paid_until = clock.time() if len(pages) else -NEVER
        self._frame: _Frame | None = None

    async def run(self, events: AsyncIterator[protocol.Event | Word]) -> Outcome:
        reader = asyncio.create_task(self._read(events))
        reader.add_done_callback(lambda _: self._wake.set())
        typing = asyncio.create_task(self._type())
        try:
            return await self._show(reader)
        except TelegramError as error:
            if not _is_unreachable(error):
                raise
            log.info(line("person unreachable", turn=self._conversation.turn_id, chat=self._conversation.chat_id))
            return Outcome(Ending.UNREACHABLE, len(self._pages))
        finally:
            reader.cancel()
            typing.cancel()
            await asyncio.gather(reader, typing, return_exceptions=True)

    async def _read(self, events: AsyncIterator[protocol.Event | Word]) -> None:
        async for event in events:
            self._answer.hear(event, self._clock.time())
            self._wake.set()
            if self._answer.final:
                return
        raise EventsEnded(f"turn {self._conversation.turn_id}: the events ended before the turn did")

    async def _show(self, reader: asyncio.Task[None]) -> Outcome:
        while not reader.done():
            await _wait(self._wake, self._due(), self._clock)
            self._wake.clear()
            if not reader.done() and self._due() <= self._clock.time():
                await self._progress()
        reader.result()
        return await self._finish()

    async def _type(self) -> None:
        end = self._answer.started + _TYPING_AT_MOST
        while not self._is_typing_over.is_set() and self._clock.time() < end:
            with contextlib.suppress(TelegramError):  # nobody misses it; a block shows at the first message
                await self._bot.send_chat_action(
                    self._conversation.chat_id, ChatAction.TYPING, rate_limit_args=Priority.TYPING
                )
            await _wait(self._is_typing_over, self._clock.time() + _TYPING_EVERY, self._clock)

    # --- while it runs

    def _due(self) -> float:
        """When there will next be something to show, as far as one can say now."""
        if not self._conversation.is_streamed:
            return NEVER
        return max(self._wanted_at(), self._allowed_at())

    def _allowed_at(self) -> float:
        """When the next frame may be shown: text waits for no line, the line for what text has left of the rate."""
        is_line_alone = self._frame is not None and self._frame.version == self._answer.version
        return self._paid_until if is_line_alone else self._text_at + self._interval()

    def _wanted_at(self) -> float:
        answer, now = self._answer, self._clock.time()
        if not len(self._pages):
            enough = now if answer.chars >= _FIRST_CHARS else answer.first_at + _FIRST_SECONDS
            return min(enough, answer.heard_at + SILENT_AFTER, answer.word_at)
        if self._frame != self._current(now):
            return now
        return min(answer.next_silence(now), answer.word_at if answer.word_at > now else NEVER)

    def _current(self, now: float) -> "_Frame":
        return _Frame(self._answer.version, self._line(now))

    def _line(self, now: float) -> str | None:
        """What stands under the text: what is being done unless there is newer news, or how long there was none."""
        silence = self._answer.silent_for(now)
        elapsed = f"{int(silence) // 60}:{int(silence) % 60:02}"
        if word := self._answer.word_due(now):
            speech = self._conversation.speech
            return speech.plain("relay-waiting", text=word.text, elapsed=elapsed) if silence else word.text
        if self._answer.doing and not self._answer.notice:
            return self._doing(elapsed if silence else None)
        if silence:
            return self._conversation.speech.plain("relay-working", elapsed=elapsed)
        return self._answer.notice.text if self._answer.notice else None

    def _doing(self, elapsed: str | None) -> str:
        """The newest tool that runs, how many others do, and for how long if that is long."""
        speech, (*others, newest) = self._conversation.speech, self._answer.doing.values()
        shown: dict[str, str | int] = {"icon": newest.icon, "label": newest.label, "others": len(others)}
        if elapsed is None:
            return speech.plain("relay-tool", **shown)
        return speech.plain("relay-tool-slow", elapsed=elapsed, **shown)

    async def _progress(self) -> None:
        """Show the frame of this moment, if there is room for it; whatever goes wrong, a later one shows more."""
        now = self._clock.time()
        frame = self._current(now)
        self._pay(frame, now)
        priority = Priority.PROGRESS if len(self._pages) else Priority.FIRST
        if not self._limiter.has_room(self._conversation.chat_id, priority):
            return
        # Of an agent that is not there, there is nothing to stop.
        stop = None if self._answer.word_due(now) else self._stop_button()
        pages = self._paged(self._growing(frame.line), stop)
        try:
            await self._put(pages)
        except Dropped:
            return
        except NetworkError as error:
            if _is_unreachable(error):
                raise
            log.warning(line("frame not shown", turn=self._conversation.turn_id, why=error))
            return
        self._frame = frame

    def _pay(self, frame: "_Frame", now: float) -> None:
        """Every frame takes an interval of the turn's share of the rate; text may overdraw it, a line alone may not."""
        self._paid_until = max(self._paid_until, now) + self._interval()
        if self._frame is None or self._frame.version != frame.version:
            self._text_at = now

    async def _put(self, pages: list[Page]) -> None:
        if pages:
            self._is_typing_over.set()
            await self._pages.show(pages, Priority.PROGRESS, Priority.FIRST)

    # --- the end

    async def _finish(self) -> Outcome:
        self._is_typing_over.set()
        final = self._answer.final
        chunks, keyboard = self._finished(final), await self._keyboard(final)
        pages = self._paged(chunks, keyboard)
        await self._deliver(lambda: self._pages.show(pages, Priority.FINAL, Priority.FINAL))
        await self._deliver_extra(lambda: self._pages.cut(len(pages)))
        lost = self._pages.lost()
        await self._attach_files(with_answer=_deserves_file(chunks))
        if self._pages.lost() != lost:
            pages = self._paged(self._finished(final), keyboard)
            await self._deliver_extra(lambda: self._pages.show(pages, Priority.FINAL, Priority.FINAL))
        return Outcome(_ending(final), len(pages), final)

    async def _attach_files(self, *, with_answer: bool) -> None:
        """The agent's files in their order, then the answer itself."""
        for index, file in enumerate(self._answer.files):
            await self._deliver(partial(self._pages.attach, index, partial(self._send_file, file)))
        if with_answer:
            index = len(self._answer.files)
            await self._deliver_extra(lambda: self._pages.attach(index, self._send_answer))

    async def _send_file(self, event: protocol.File, reply: ReplyParameters | None) -> int | None:
        open_file = self._conversation.open_file
        if open_file is None or why_not(event.size):
            return None
        file = AgentFile(event.name, event.media_type, event.size, lambda: open_file(event.id), event.caption)
        try:
            return await self._sender.send(self._conversation.chat_id, file, reply=reply)
        except FileLost as error:
            log.warning(line("file not sent", turn=self._conversation.turn_id, why=error))
            return None

    async def _send_answer(self, reply: ReplyParameters | None) -> int:
        message = await self._bot.send_document(
            self._conversation.chat_id,
            self._answer.text.encode("utf-8", "replace"),
            filename=_FILE_NAME,
            caption=self._conversation.speech.plain("relay-file"),
            disable_notification=True,
            reply_parameters=reply,
            rate_limit_args=Priority.FINAL,
        )
        return message.message_id

    async def _deliver(self, step: Callable[[], Awaitable[None]]) -> None:
        """Try until Telegram took it; the limiter waits after a 429.

        Telegram has no idempotency key: a send whose answer got lost may be made twice. Edits, which end almost every
        answer, may be repeated.
        """
        pause, end = _RETRY_FIRST, self._clock.time() + _RETRY_TOTAL
        while True:
            try:
                return await step()
            except (NetworkError, Dropped) as error:
                if _is_unreachable(error):
                    raise
                if isinstance(error, BadRequest | Dropped) or self._clock.time() + pause > end:
                    raise NotDelivered(f"turn {self._conversation.turn_id}: {error}") from error
                log.warning(line("answer not delivered yet", turn=self._conversation.turn_id, why=error))
            await _wait(asyncio.Event(), self._clock.time() + pause, self._clock)
            pause = min(pause * 2, _RETRY_MOST)

    async def _deliver_extra(self, step: Callable[[], Awaitable[None]]) -> None:
        """Like `_deliver`, for what the answer is complete without."""
        try:
            await self._deliver(step)
        except NotDelivered as error:
            log.warning(line("answer delivered without its file", why=error))

    async def _keyboard(self, final: protocol.Final | None) -> InlineKeyboardMarkup | None:
        """What the person can answer with a button."""
        speech, question, turn_id = self._conversation.speech, self._asked(final), self._conversation.turn_id
        if question and question.options:
            is_open = await self._offers.keep(turn_id, question.options)
            return choice_keyboard(turn_id, question.options) if is_open else None
        can_go_on = self._can_go_on(final) and await self._offers.keep(turn_id, [speech.plain("relay-go-on")])
        buttons = [button(speech.plain("relay-continue"), Verb.CHOOSE, f"{turn_id}|0")] if can_go_on else []
        if isinstance(final, protocol.Failed) and (final.retryable or _is_stopped(final)):
            buttons.append(button(speech.plain("relay-retry"), Verb.RETRY, turn_id))
        return rows(buttons) if buttons else None

    def _can_go_on(self, final: protocol.Final | None) -> bool:
        """The answer ends before its end: it was stopped, or the agent's last word was why it stops here."""
        is_cut = _is_stopped(final) or (isinstance(final, protocol.Done) and self._answer.last_word is not None)
        return is_cut and bool(self._answer.text.strip())

    def _asked(self, final: protocol.Final | None) -> protocol.Ask | None:
        """The question that this turn ends with; none if it failed, since it then is not over."""
        return self._answer.question if isinstance(final, protocol.Done) else None

    # --- what it looks like

    def _rendered(self) -> list[Chunk]:
        return render(self._answer.text, units=_PAGE_UNITS, entities=_PAGE_ENTITIES)

    def _growing(self, status: str | None) -> list[Chunk]:
        chunks = self._rendered()
        if not status:
            return chunks
        shown = plain(clipped(status, _STATUS_UNITS), MessageEntityType.ITALIC)
        return [*chunks[:-1], stack([*chunks[-1:], shown], "\n\n")]

    def _finished(self, final: protocol.Final | None) -> list[Chunk]:
        question, chunks = self._asked(final), self._rendered()
        is_empty = not chunks and not self._answer.files
        for ending in [
            None if question else self._last_line(final, is_empty=is_empty),
            *self._missing_files(),
            *(self._question(question) if question else ()),
        ]:
            chunks = _under(chunks, ending) if ending else chunks
        return chunks

    def _missing_files(self) -> Iterator[Chunk]:
        """A line for each file that the person does not get."""
        say, lost = self._conversation.speech.plain, self._pages.lost()
        for index, file in enumerate(self._answer.files):
            if index in lost:
                key = why_not(file.size) or "relay-file-lost"
                yield plain(say(key, name=one_line(file.name, _NAME_UNITS), size=f"{file.size / 1e6:.1f}"))

    def _question(self, question: protocol.Ask) -> list[Chunk]:
        """The question, and its answers where the buttons cannot show them in full."""
        words = question.question if question.question.strip() else self._conversation.speech.plain("relay-choose")
        listed = choice_list(question.options)
        asked = render(words, units=_PAGE_UNITS, entities=_PAGE_ENTITIES)
        return [*asked, *([plain(listed)] if listed else [])]

    def _last_line(self, final: protocol.Final | None, *, is_empty: bool) -> Chunk | None:
        speech = self._conversation.speech
        if not isinstance(final, protocol.Failed):
            if self._answer.last_word and not is_empty:
                return plain(clipped(self._answer.last_word, _STATUS_UNITS), MessageEntityType.ITALIC)
            return plain(speech.plain("relay-empty")) if is_empty else None
        if _is_stopped(final):
            return plain(speech.plain("relay-stopped"))
        return plain(speech.plain("relay-failed", reason=clipped(final.text, _REASON_UNITS)))

    def _paged(self, chunks: list[Chunk], button: InlineKeyboardMarkup | None) -> list[Page]:
        header = self._conversation.header
        if header and chunks:
            title = plain(clipped(header, _HEADER_UNITS), MessageEntityType.BOLD)
            chunks = [stack([title, chunks[0]], "\n"), *chunks[1:]]
        return [Page(chunk, button if chunk is chunks[-1] else None) for chunk in chunks]

    def _stop_button(self) -> InlineKeyboardMarkup:
        label = self._conversation.speech.plain("relay-stop")
        return rows([button(label, Verb.STOP, self._conversation.turn_id)])


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a progress edit showed: the same again is not sent."""

    version: int
    line: str | None


async def _wait(event: asyncio.Event, until: float, clock: Clock) -> None:
    """Wait for the event, or for the time."""
    waiter = asyncio.ensure_future(event.wait())
    timer = clock.call_at(until, waiter.cancel) if until < NEVER else None
    try:
        await asyncio.wait([waiter])
    finally:
        waiter.cancel()
        if timer:
            timer.cancel()


def _ending(final: protocol.Final | None) -> Ending:
    if not isinstance(final, protocol.Failed):
        return Ending.DONE
    return Ending.STOPPED if _is_stopped(final) else Ending.FAILED


def _is_stopped(final: protocol.Final | None) -> bool:
    return isinstance(final, protocol.Failed) and final.kind == protocol.ErrorKind.STOPPED


def _under(chunks: list[Chunk], ending: Chunk) -> list[Chunk]:
    """Put it under the last message, or where that has no room for it into one more."""
    *before, last = chunks or [plain("")]
    units = utf16_length(last.text) + 2 + utf16_length(ending.text)
    if last.text and units <= _PAGE_UNITS and len(last.entities) + len(ending.entities) <= _PAGE_ENTITIES:
        return [*before, stack([last, ending], "\n\n")]
    return [*chunks, ending]


def _is_unreachable(error: TelegramError) -> bool:
    return isinstance(error, Forbidden) or (isinstance(error, BadRequest) and "chat not found" in str(error).lower())


def _deserves_file(chunks: list[Chunk]) -> bool:
    code = sum(entity.length for chunk in chunks for entity in chunk.entities if entity.type == MessageEntityType.PRE)
    return len(chunks) > _FILE_PAGES or code > _FILE_CODE
