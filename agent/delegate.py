"""Sub-agents: a part of the work in a fresh conversation of the same model, of which only the result comes back.

They belong to the turn that made them: what they spend counts as its own, and they end with it at the latest.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace

from agent.calls import Call
from agent.compaction import Compactor
from agent.errors import TurnFailed
from agent.history import History
from agent.loop import Bounds, Equipment, Loop, Output
from agent.protocol import Attachment, Task, ToolState
from agent.store import Message, Speaker, Store
from agent.toolbox import ToolFailed
from agent.usage import Meter, meter, metered

AT_ONCE = 3
BOUNDS = Bounds(rounds=10, tokens=150_000)
SECONDS = 180.0
MAX_CHARS = 20_000
MAX_PER_TURN = 12
_SHOWN_CHARS = 200
_MAX_MESSAGES = 400
_ALONE = (
    "Now you work on a part of a bigger task, for yourself: your words go to yourself and not to a person, and nobody "
    "can answer questions. Do the task with your tools. Then answer once, with everything that is needed to go on "
    "from it: findings with their sources, paths of files, what you could not do."
)
_CONTEXT = "{task}\n\nWhat you should know for it:\n{context}"
_STOPPED = "Stopped by the person. Do not start this again; go on without it, or ask them what they want."


@dataclass(frozen=True, slots=True)
class _Running:
    chat_id: str
    task: str
    output: "_Output"
    job: asyncio.Task[str]
    begun: float = field(default_factory=time.monotonic)


class Delegates:
    """Every sub-agent that runs here, to be seen and stopped."""

    def __init__(self, loop: Callable[[], Loop], seconds: float = SECONDS) -> None:
        """`loop` as a turn that begins now needs it; `seconds` is how long each may take."""
        self.loop = loop
        self.seconds = seconds
        self._running: dict[str, _Running] = {}

    def running(self, chat_id: str) -> tuple[Task, ...]:
        """Those of a chat, oldest first."""
        return tuple(
            Task(id=id_, task=each.task, seconds=time.monotonic() - each.begun, rounds=each.output.rounds)
            for id_, each in self._running.items()
            if each.chat_id == chat_id
        )

    def stop(self, chat_id: str, id_: str) -> bool:
        """Stop one; whether it ran in this chat. Its turn goes on."""
        running = self._running.get(id_)
        if running is None or running.chat_id != chat_id:
            return False
        running.job.cancel()
        return True

    async def watch(self, chat_id: str, task: str, output: "_Output", work: Coroutine[None, None, str]) -> str:
        """Run it to its end; `ToolFailed` if it was stopped. Cancelling this stops it too."""
        job = asyncio.create_task(work)
        self._running[output.id] = _Running(chat_id, task[:_SHOWN_CHARS], output, job)
        try:
            await asyncio.wait([job])
            if job.cancelled():
                raise ToolFailed(_STOPPED)
            return job.result()
        finally:
            del self._running[output.id]
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            output.end()


class Delegation:
    """What one turn hands out."""

    def __init__(self, delegates: Delegates, chat_id: str, out: Output) -> None:
        self.equipment: Equipment | None = None
        """Of the sub-agents; without it there can be none."""
        self._delegates = delegates
        self._chat_id = chat_id
        self._out = out
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._count = 0

    async def run(self, task: str, context: str) -> str:
        """What a sub-agent has to say about the task; `ToolFailed` if it did not get that far."""
        if not task.strip() or len(task) + len(context) > MAX_CHARS:
            raise ToolFailed(f"Give a task; with its context it may have {MAX_CHARS} characters.")
        if self._count == MAX_PER_TURN:
            raise ToolFailed(f"You have handed out {MAX_PER_TURN} tasks for this answer. Do the rest yourself.")
        self._count += 1
        question = _CONTEXT.format(task=task, context=context) if context.strip() else task
        # In memory alone: nobody comes back to this conversation.
        store = Store(None)
        try:
            output = _Output(self._out, store, self._count)
            return await self._delegates.watch(self._chat_id, task, output, self._work(question, store, output))
        finally:
            store.close()

    async def _work(self, question: str, store: Store, output: "_Output") -> str:
        async with self._slots:
            try:
                async with asyncio.timeout(self._delegates.seconds):
                    await self._answer(question, store, output)
            except TimeoutError:
                seconds = self._delegates.seconds
                raise ToolFailed(f"It was not done after {seconds:.0f} s. Do it yourself, or a smaller part.") from None
            except TurnFailed as failure:
                raise ToolFailed(f"It could not be done. {failure.hint}") from failure
        return output.text.strip()

    async def _answer(self, question: str, store: Store, output: "_Output") -> None:
        if self.equipment is None:
            raise ToolFailed("Nothing can be handed out here. Do it yourself.")
        store.add_messages(output.id, output.id, [Message(Speaker.USER, question)])
        whole = self._delegates.loop()
        compactor = Compactor(whole.llm, History(store, _MAX_MESSAGES), whole.compactor.budget)
        instructions = "\n\n".join(part for part in (self.equipment.instructions, _ALONE) if part)
        equipment = replace(self.equipment, instructions=instructions)
        metered(Meter(parent=meter()))
        await replace(whole, compactor=compactor, bounds=BOUNDS).answer(output.id, output.id, equipment, output)


class _Output:
    """Where a sub-agent's words go: what it does is shown among what its turn does."""

    asked = False

    def __init__(self, out: Output, store: Store, number: int) -> None:
        self.id = secrets.token_hex(4)
        self.text = ""
        self.rounds = 0
        self._out = out
        self._store = store
        self._number = number
        self._open: dict[str, tuple[Call, str]] = {}

    def say(self, text: str) -> None:
        self.text += text

    def restart(self) -> None:
        self.text = ""

    def notice(self, text: str) -> None:
        self._out.notice(text)

    def end_round(self, messages: Sequence[Message]) -> None:
        self._store.add_messages(self.id, self.id, messages)
        self.rounds += 1
        self.text = ""

    def tool(self, call: Call, label: str, state: ToolState) -> None:
        shown = Call(f"{self.id}-{call.id}", call.name, call.arguments)
        self._out.tool(shown, f"Delegate {self._number}: {label}", state)
        if state is ToolState.RUNNING:
            self._open[call.id] = (call, label)
        else:
            self._open.pop(call.id, None)

    def end(self) -> None:
        """Nothing that was shown goes on."""
        for call, label in list(self._open.values()):
            self.tool(call, label, ToolState.FAILED)

    def file(self, file: Attachment, caption: str) -> None:
        self._out.file(file, caption)

    def ask(self, question: str, options: Sequence[str]) -> None:
        raise ToolFailed(f"Nobody can answer {question!r} ({len(options)} options) here. Go on without.")
