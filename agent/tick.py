"""Do what is due: the control plane calls, since an idle agent sleeps.

A reminder's letter is written in the transaction that makes its row wait for the next time, or go. Scheduled work is a
turn whose id follows from the row and its time: whatever dies in between, the next tick finds that turn, and its letter
is written once.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from agent import log, protocol
from agent.agenda import Agenda
from agent.errors import Refused
from agent.heartbeat import says_nothing
from agent.mode import Standing
from agent.protocol import Ask, Attachment, ChatRequest, ErrorKind, Event, Failed, File, Restart, Text
from agent.schedule import Planned
from agent.store import Message, Speaker
from agent.times import spoken
from agent.turns import Turns

WAIT_SECONDS = 20.0
"""How long a tick waits for work that runs, so that its letter comes with the answer."""
AGAIN_SECONDS = 60.0
"""Before work that failed is tried again."""
MAX_TRIES = 2
MAX_INTERRUPTED = 5
"""Work during which the agent dies so often is what kills it."""
_WORK = (
    "[Not written by the person now: this is scheduled work, planned in this chat for {time}. Do it and answer with "
    "the result, which is sent to them. They are not here: do not ask back.]\n\n{what}"
)
_FAILED = "⏰ {what}\n\nI could not do this now. {why}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a turn said, as a letter has it."""

    text: str
    files: tuple[Attachment, ...]


class Ticker:
    """Runs what is due, each once, however many call."""

    def __init__(self, agenda: Agenda, turns: Turns, standing: Standing) -> None:
        self._agenda = agenda
        self._standing = standing
        self._turns = turns
        self._working: dict[str, asyncio.Task[None]] = {}

    async def tick(self) -> protocol.Outbox:
        """Do it; the letters that wait. `Refused` while the agent takes no work."""
        self._standing.require_turns()
        if self._turns.draining:
            raise Refused(503, "draining", "This agent is about to stop. Ask again in a few seconds.")
        for planned in self._agenda.schedule.due(self._agenda.clock()):
            self._do(planned)
        self._beat()
        if self._working and not self._agenda.outbox.has_after(0):
            await asyncio.wait(self._working.values(), timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return self._agenda.letters()

    async def finish(self, seconds: float) -> bool:
        """Wait until all work has its letter; False if that takes longer."""
        if self._working:
            await asyncio.wait(self._working.values(), timeout=seconds)
        return not self._working

    async def close(self) -> None:
        """Leave what runs to the first tick of the next start."""
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, planned: Planned) -> None:
        if not planned.wish.does_work:
            self._remind(planned)
        elif _turn_id(planned) not in self._working:
            self._begin_work(planned)

    def _remind(self, planned: Planned) -> None:
        wish, text = planned.wish, f"⏰ {planned.wish.what}"
        if not self._turns.is_busy(wish.chat_id):  # in the middle of an answer it would confuse the model
            said = [Message(Speaker.ASSISTANT, text)]
            self._agenda.store.add_messages(_turn_id(planned), wish.chat_id, said)
        self._settle(planned, _Answer(text, ()))

    def _settle(self, planned: Planned, answer: _Answer) -> None:
        self._agenda.outbox.add(planned.wish.chat_id, answer.text, answer.files)
        self._agenda.schedule.advance(planned, self._agenda.clock())
        self._agenda.store.commit()

    # --- work

    def _begin_work(self, planned: Planned) -> None:
        if planned.tries >= MAX_INTERRUPTED:
            self._settle(planned, _failure(planned, ""))
            return
        self._agenda.schedule.begin(planned)
        self._agenda.store.commit()
        self._start(_turn_id(planned), self._work(planned))

    def _start(self, turn_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._working[turn_id] = asyncio.create_task(work, name=turn_id)
        task.add_done_callback(lambda _: self._ended(turn_id, task))

    def _ended(self, turn_id: str, task: asyncio.Task[None]) -> None:
        del self._working[turn_id]
        if not task.cancelled() and (error := task.exception()):
            log.error("scheduled work broke", error, turn=turn_id)

    async def _work(self, planned: Planned) -> None:
        events = self._turns.submit(_work_request(planned))
        final = (await events.reply()).final
        if not isinstance(final, Failed):
            self._settle(planned, _answer(events.said()))
        elif final.kind is ErrorKind.INTERRUPTED:
            log.info("scheduled work left to the next tick", turn=events.turn_id)
        elif final.retryable and final.kind is not ErrorKind.STOPPED and planned.tries + 1 < MAX_TRIES:
            self._agenda.schedule.put_off(planned, self._agenda.clock() + AGAIN_SECONDS)
            self._agenda.store.commit()
        else:
            self._settle(planned, _failure(planned, final.text))

    # --- heartbeat

    def _beat(self) -> None:
        left = self._agenda.heartbeat.running()
        if left and left not in self._working:  # the agent died in it
            self._agenda.store.drop_messages(left)
            self._agenda.heartbeat.end()
            self._agenda.store.commit()
        if request := self._agenda.heartbeat.begin(self._agenda.clock()):
            self._start(request.turn_id or "", self._look_around(request))

    async def _look_around(self, request: ChatRequest) -> None:
        events = self._turns.submit(request, is_silent=says_nothing)
        final = (await events.reply()).final
        answer = _answer(events.said())
        if not isinstance(final, Failed) and not says_nothing(answer.text):
            self._agenda.outbox.add(request.chat_id, answer.text, answer.files)
        self._agenda.heartbeat.end()
        self._agenda.store.commit()


def _turn_id(planned: Planned) -> str:
    return f"schedule-{planned.number}-{int(planned.wish.due)}"


def _work_request(planned: Planned) -> ChatRequest:
    wish = planned.wish
    return ChatRequest(
        chat_id=wish.chat_id,
        turn_id=_turn_id(planned),
        message=_WORK.format(time=spoken(wish.due, wish.zone), what=wish.what),
        role=wish.role,
        user=wish.person,
        retry=True,  # of a run that was cut off or failed before
    )


def _failure(planned: Planned, why: str) -> _Answer:
    return _Answer(_FAILED.format(what=planned.wish.what, why=why).rstrip(), ())


def _answer(events: Sequence[Event]) -> _Answer:
    text, files, question = "", [], ""
    for event in events:
        match event:
            case Text():
                text += event.text
            case Restart():
                text = ""
            case File():
                files.append(Attachment(id=event.id, name=event.name, media_type=event.media_type, size=event.size))
            case Ask():
                question = "\n".join([event.question, *(f"- {option}" for option in event.options)])
    return _Answer("\n\n".join(part for part in (text.strip(), question) if part), tuple(files))
