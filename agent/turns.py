"""Run each turn once, in a task of its own; in one chat in the order of arrival, in different chats at the same time.

A turn belongs to the agent, not to the request that asked for it: a lost connection stops nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol
from uuid import uuid4

from agent import log
from agent.calls import Call
from agent.errors import Refused, TurnFailed
from agent.events import EventLog, failed
from agent.loop import Equipment, Loop, Output
from agent.mode import Standing
from agent.protocol import (
    Ask,
    Attachment,
    ChatRequest,
    Done,
    ErrorKind,
    Failed,
    File,
    Notice,
    Restart,
    Text,
    Tool,
    ToolState,
    Usage,
)
from agent.store import Message, Speaker, Store, StoredTurn, TurnState
from agent.usage import Ledger, Meter, metered

_PARAGRAPH = "\n\n"
_SWEEP_SECONDS = 24 * 3600


class Equip(Protocol):
    """Gives a turn its tools and its context."""

    async def __call__(self, request: ChatRequest, out: Output) -> Equipment:
        """What is for who speaks in this chat. Tools may talk to the person by `out`."""


class Questions(Protocol):
    """Makes messages of requests, with the files that come with them."""

    def check(self, request: ChatRequest) -> None:
        """`Refused` if it names a file that is not there."""

    def compose(self, request: ChatRequest) -> Message:
        """As the history keeps it."""

    def forget(self, chat_id: str) -> None:
        """Forget the files of a chat."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of turns, in seconds and numbers."""

    concurrent: int
    turn_seconds: float
    coalesce_seconds: float


class Turn:
    """A turn that waits or runs: the answer it collects, and the events it emits."""

    def __init__(self, request: ChatRequest, events: EventLog, store: Store, coalesce: float) -> None:
        self.id = events.turn_id
        self.chat_id = request.chat_id
        self.request = request
        self.events = events
        self.text = ""
        self.asked = False
        self.task: asyncio.Task[None] | None = None
        self.halted_by = ErrorKind.INTERRUPTED
        self.is_silent: Callable[[str], bool] | None = None
        self.spent: Meter | None = None
        self._store = store
        self._coalesce = coalesce
        self._rounds: list[str] = []
        self._held: list[str] = []
        self._question: Ask | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def answer(self) -> str:
        """All that was said."""
        return _PARAGRAPH.join([*self._rounds, self.text.strip()]).strip()

    def say(self, text: str) -> None:
        """Append to the answer: the first piece goes out at once, what follows soon after goes out together."""
        gap = _PARAGRAPH if self._rounds and not self.text else ""
        self._held.append(gap + text)
        self.text += text
        if self._timer is None:
            self._send_held()

    def restart(self) -> None:
        """Take back what was said since the last round."""
        self.settle()
        if self.text:
            self.events.emit(Restart(seq=self.events.last + 1))
            self.text = ""
            if self._rounds:
                self.events.emit(Text(seq=self.events.last + 1, text=_PARAGRAPH.join(self._rounds)))

    def notice(self, text: str) -> None:
        """Tell the person something that is not part of the answer."""
        self.settle()
        self.events.emit(Notice(seq=self.events.last + 1, text=text))

    def tool(self, call: Call, label: str, state: ToolState) -> None:
        """Tell the person what is being done."""
        self.settle()
        self.events.emit(Tool(seq=self.events.last + 1, id=call.id, name=call.name, label=label, state=state))

    def file(self, file: Attachment, caption: str) -> None:
        """Hand the person a file."""
        self.settle()
        said = file.model_dump(include={"id", "name", "media_type", "size"})
        self.events.emit(File(seq=self.events.last + 1, caption=caption, **said))

    def ask(self, question: str, options: Sequence[str]) -> None:
        """Ask the person, once the round has ended; the history has it as the end of the answer."""
        self.asked = True
        self._question = Ask(seq=0, question=question, options=tuple(options))

    def end_round(self, messages: Sequence[Message]) -> None:
        """What was said stands, and these messages belong to the history."""
        self.settle()
        self._store.add_messages(self.id, self.chat_id, messages)
        if self.text.strip():
            self._rounds.append(self.text.strip())
        self.text = ""
        if self._question:
            self.events.emit(self._question.model_copy(update={"seq": self.events.last + 1}))
            self._store.add_messages(self.id, self.chat_id, [Message(Speaker.ASSISTANT, self._question.in_words())])
            self._question = None

    def settle(self) -> None:
        """Send what is held back now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._emit_held()

    def _send_held(self) -> None:
        self._timer = None
        if self._held:
            self._emit_held()
            self._timer = asyncio.get_running_loop().call_later(self._coalesce, self._send_held)

    def _emit_held(self) -> None:
        if not self._held:
            return
        text = "".join(self._held)
        self._held.clear()
        self.events.emit(Text(seq=self.events.last + 1, text=text))


class Turns:
    """Owns every turn from its acceptance to its last event."""

    def __init__(
        self,
        store: Store,
        loop: Callable[[], Loop],
        equip: Equip,
        limits: Limits,
        *,
        questions: Questions,
        ledger: Ledger,
        next_due: Callable[[], float | None],
        standing: Standing,
        clock: Callable[[], float],
    ) -> None:
        """`loop` is asked for by each turn that begins; `next_due` says when the control plane shall call."""
        self.draining = False
        self._standing = standing
        self._questions = questions
        self._ledger = ledger
        self._equip = equip
        self._store = store
        self._loop = loop
        self._limits = limits
        self._next_due = next_due
        self._clock = clock
        self._swept: float | None = None
        self._slots = asyncio.Semaphore(limits.concurrent)
        self._live: dict[str, Turn] = {}
        self._queues: dict[str, deque[Turn]] = {}  # the first of each runs

    @property
    def running(self) -> int:
        """How many turns wait or run."""
        return len(self._live)

    def is_busy(self, chat_id: str) -> bool:
        """Whether a turn of this chat waits or runs."""
        return chat_id in self._queues

    def submit(self, request: ChatRequest, *, is_silent: Callable[[str], bool] | None = None) -> EventLog:
        """Start a turn, or find the one of this id; return its events.

        With `is_silent` it is one that nobody asked: if it fails, or that says so of its answer, the history of the
        chat keeps nothing of it.
        """
        turn_id = request.turn_id or uuid4().hex
        live = self._live.get(turn_id)
        stored = self._store.find_turn(turn_id)
        if stored is None:
            return self._start(request, turn_id, is_silent)
        if stored.chat_id != request.chat_id:
            raise Refused(409, "other_chat", "This turn_id belongs to another chat. Choose a new one for a new turn.")
        return live.events if live else self._past(request, stored)

    def recover(self) -> None:
        """Say of the turns that were running when the agent died that they were interrupted."""
        for stored in self._store.running_turns():
            events = EventLog.of_past_turn(self._store, stored.id, base=stored.base)
            self._end(events, failed(ErrorKind.INTERRUPTED, events.last + 1))
            log.warning("turn interrupted", turn=stored.id)
        self._sweep()

    def chat_of(self, turn_id: str) -> str | None:
        """The chat of a turn that waits or runs; None of one that has ended."""
        live = self._live.get(turn_id)
        return live.chat_id if live else None

    def stop(self, chat_id: str) -> bool:
        """Stop the turn that runs in a chat; its text so far stands."""
        queue = self._queues.get(chat_id)
        if queue:
            _halt(queue[0], ErrorKind.STOPPED)
        return bool(queue)

    async def forget(self, chat_id: str) -> None:
        """Stop all turns of a chat and erase what was said in it."""
        await self._halt_all([self._queues.get(chat_id, deque())], ErrorKind.STOPPED)
        self._questions.forget(chat_id)
        self._store.forget_chat(chat_id)
        log.info("chat forgotten", chat=chat_id)

    async def drain(self, seconds: float) -> None:
        """Take no new turns, give the others this long to end, then interrupt them."""
        self.draining = True
        if not await self.finish(seconds):
            await self._halt_all(list(self._queues.values()), ErrorKind.INTERRUPTED)

    async def finish(self, seconds: float) -> bool:
        """Wait until all turns have ended; False if they take longer."""
        try:
            async with asyncio.timeout(seconds):
                while tasks := _tasks(self._queues.values()):
                    await asyncio.wait(tasks)
        except TimeoutError:
            return False
        return True

    def _start(self, request: ChatRequest, turn_id: str, is_silent: Callable[[str], bool] | None) -> EventLog:
        self._refuse_if_draining()
        self._questions.check(request)
        self._store.add_turn(turn_id, request.chat_id)
        return self._enqueue(request, EventLog(self._store, turn_id), is_silent)

    def _past(self, request: ChatRequest, stored: StoredTurn) -> EventLog:
        past = EventLog.of_past_turn(self._store, stored.id, base=stored.base)
        final = past.so_far().final
        if not (request.retry and isinstance(final, Failed) and final.retryable):
            return past
        self._refuse_if_draining()
        self._questions.check(request)
        self._store.rerun_turn(stored.id, past.last)
        events = EventLog(self._store, stored.id, base=past.last)
        if past.spoke():
            events.emit(Restart(seq=events.last + 1))
        return self._enqueue(request, events)

    def _refuse_if_draining(self) -> None:
        self._standing.require_turns()
        if self.draining:
            raise Refused(503, "draining", "This agent is about to stop. Ask again in a few seconds.")

    def _enqueue(
        self, request: ChatRequest, events: EventLog, is_silent: Callable[[str], bool] | None = None
    ) -> EventLog:
        turn = Turn(request, events, self._store, self._limits.coalesce_seconds)
        turn.is_silent = is_silent
        self._live[turn.id] = turn
        queue = self._queues.setdefault(turn.chat_id, deque())
        queue.append(turn)
        if len(queue) == 1:
            self._launch(turn)
        return events

    def _launch(self, turn: Turn) -> None:
        turn.task = asyncio.create_task(self._run(turn))
        # A callback also hears of a task that is cancelled before its first step.
        turn.task.add_done_callback(partial(self._ended, turn))

    async def _run(self, turn: Turn) -> None:
        async with self._slots, asyncio.timeout(self._limits.turn_seconds):
            turn.spent = Meter()
            metered(turn.spent)
            if turn.events.is_again:
                # Not added twice, and moved to the end, where the model answers it.
                self._store.drop_messages(turn.id)
            self._store.add_messages(turn.id, turn.chat_id, [self._questions.compose(turn.request)])
            equipment = await self._equip(turn.request, turn)
            await self._loop().answer(turn.id, turn.chat_id, equipment, turn)

    def _ended(self, turn: Turn, task: asyncio.Task[None]) -> None:
        turn.settle()
        kind = _failure(turn, task)
        cost = turn.spent.usage() if turn.spent else Usage()
        with self._store.as_far_as_there_is_room():
            self._keep(turn, kind, cost)
        number = turn.events.last + 1
        self._end(
            turn.events, failed(kind, number) if kind else Done(seq=number, usage=cost, next_due=self._next_due())
        )
        log.info("turn ended", turn=turn.id, outcome=kind.value if kind else "done")
        self._leave(turn)
        with self._store.as_far_as_there_is_room():
            self._sweep()

    def _keep(self, turn: Turn, kind: ErrorKind | None, cost: Usage) -> None:
        """What stays of a turn that has ended, in the history and in the sums."""
        if turn.text.strip() and kind in (None, ErrorKind.STOPPED):
            self._store.add_messages(turn.id, turn.chat_id, [Message(Speaker.ASSISTANT, turn.text.rstrip())])
        if kind is ErrorKind.TOO_LONG:  # kept, it would make every later turn too long
            self._store.drop_messages(turn.id)
        if turn.is_silent and (kind or (not turn.asked and turn.is_silent(turn.answer))):
            self._store.drop_messages(turn.id)
        if turn.spent:  # else it never ran
            self._ledger.add(turn.chat_id, cost)

    def _sweep(self) -> None:
        """Once a day, since an agent may run for months."""
        now = self._clock()
        if self._swept is None or now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._store.drop_old_turns()

    def _end(self, events: EventLog, final: Done | Failed) -> None:
        with self._store.as_far_as_there_is_room():
            self._store.end_turn(events.turn_id, TurnState.DONE if isinstance(final, Done) else TurnState.FAILED)
        events.end(final)

    def _leave(self, turn: Turn) -> None:
        del self._live[turn.id]
        queue = self._queues[turn.chat_id]
        queue.remove(turn)
        if not queue:
            del self._queues[turn.chat_id]
        elif queue[0].task is None:
            self._launch(queue[0])

    async def _halt_all(self, queues: list[deque[Turn]], kind: ErrorKind) -> None:
        tasks = _tasks(queues)
        for queue in queues:
            for waiting in list(islice(queue, 1, None)):
                self._end(waiting.events, failed(kind, waiting.events.last + 1))
                self._leave(waiting)
            if queue:
                _halt(queue[0], kind)
        if tasks:
            await asyncio.wait(tasks)


def _tasks(queues: Iterable[deque[Turn]]) -> list[asyncio.Task[None]]:
    return [queue[0].task for queue in queues if queue and queue[0].task]


def _halt(turn: Turn, kind: ErrorKind) -> None:
    if turn.task is not None:
        turn.halted_by = kind
        turn.task.cancel()


def _failure(turn: Turn, task: asyncio.Task[None]) -> ErrorKind | None:
    if task.cancelled():
        return turn.halted_by
    error = task.exception()
    if error is None:
        return None
    if isinstance(error, TurnFailed):
        log.warning("turn failed", turn=turn.id, reason=str(error))
        return error.kind
    if isinstance(error, TimeoutError):
        log.warning("turn took too long", turn=turn.id)
        return ErrorKind.UNREACHABLE
    log.error("turn broke", error, turn=turn.id)
    return ErrorKind.INTERNAL
