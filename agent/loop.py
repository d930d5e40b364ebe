"""One turn: ask the model, run the tools it calls, ask again, until it has answered or has had enough."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent import log
from agent.calls import Call, read_json, replayable
from agent.compaction import Compactor, Frame
from agent.errors import ModelFailed
from agent.history import Past, valid
from agent.images import Images
from agent.llm import Completion, Llm
from agent.protocol import Attachment, ErrorKind, ToolState
from agent.store import Aside, Message, Speaker
from agent.toolbox import Result, Toolbox
from agent.usage import meter

_ASKING_AGAIN = {
    ErrorKind.BUSY: "The model is overloaded. Asking it again…",
    ErrorKind.UNREACHABLE: "The model stopped in the middle. Asking it again…",
    ErrorKind.BAD_REPLY: "The model sent something unreadable. Asking it again…",
    ErrorKind.TOO_LONG: "This conversation is too long for the model. Asking again with a summary of it…",
}
_CUT = "The answer reached its length limit. Ask me to continue for the rest."
_CUT_CALL = "Not run: your answer reached its length limit in the middle of this call. Do it in smaller steps."
_REPEATED = "Not run: you have called this {times} times with the same arguments. Try something else, or answer."
_ENOUGH = "You have used all the steps there are for one answer. Answer now with what you have; say what is missing."
_SAME_CALL, _TOO_OFTEN = 3, 5


class Output(Protocol):
    """Where a turn's answer goes."""

    @property
    def text(self) -> str:
        """What was said since the last restart or round."""

    def say(self, text: str) -> None:
        """Append to the answer."""

    def restart(self) -> None:
        """Take back what was said since the last round."""

    def notice(self, text: str) -> None:
        """Tell the person something that is not part of the answer."""

    def end_round(self, messages: Sequence[Message]) -> None:
        """What was said stands, and these messages belong to the history."""

    def tool(self, call: Call, label: str, state: ToolState) -> None:
        """Tell that a tool begins or has ended."""

    def file(self, file: Attachment, caption: str) -> None:
        """Hand the person a file."""

    def ask(self, question: str, options: Sequence[str]) -> None:
        """Ask the person, and end the answer when the tools of this round are done."""

    @property
    def asked(self) -> bool:
        """Whether the person was asked."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What one turn has: its tools, and what the model should know now (the time, the notes; see `agent.asides`).

    The instructions stand at the end of the system prompt, and seldom change.
    """

    toolbox: Toolbox
    now: Aside
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one turn: rounds of tool calls, and tokens that it may cost in all."""

    rounds: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Loop:
    """Drives the model through turns."""

    llm: Llm
    compactor: Compactor
    system: str
    bounds: Bounds
    retry_pause: float
    images: Images

    async def answer(self, turn_id: str, chat_id: str, equipment: Equipment, out: Output) -> None:
        """Answer the chat's last message; `ModelFailed` if that is not to be had, also after asking once more."""
        await _Turn(self, turn_id, chat_id, equipment, out).run()


class _Turn:
    """The state of one turn."""

    def __init__(self, loop: Loop, turn_id: str, chat_id: str, equipment: Equipment, out: Output) -> None:
        self._loop = loop
        self._turn_id = turn_id
        self._chat_id = chat_id
        self._toolbox = equipment.toolbox
        self._tools = equipment.toolbox.schemas()
        self._system = "\n\n".join(part for part in (loop.system, equipment.instructions) if part)
        self._frame = Frame(self._system, equipment.now, equipment.toolbox.chars())
        self._out = out
        self._spent = meter()
        self._spent.limit = loop.bounds.tokens
        self._calls: Counter[tuple[str, str]] = Counter()
        self._retried = False

    async def run(self) -> None:
        for _ in range(self._loop.bounds.rounds):
            completion = await self._ask(self._tools)
            if not completion.calls:
                self._end(completion)
                return
            await self._run_tools(completion)
            if self._out.asked:
                return
            if self._is_stuck():
                break
        self._end(await self._ask([], _ENOUGH))

    async def _ask(self, tools: Sequence[dict[str, object]], last_words: str = "") -> Completion:
        past = await self._fit()
        try:
            return await self._complete(past, tools, last_words)
        except ModelFailed as failure:
            if self._retried or not (failure.heals or failure.kind is ErrorKind.TOO_LONG):
                raise
            self._retried = True
            log.warning("asking again", turn=self._turn_id, reason=str(failure))
            self._out.restart()
            self._out.notice(_ASKING_AGAIN[failure.kind])
            if failure.kind is ErrorKind.TOO_LONG:
                past = await self._smaller(past, failure)
        await asyncio.sleep(self._loop.retry_pause)
        return await self._complete(past, tools, last_words)

    async def _fit(self, *, squeeze: bool = False) -> Past:
        return await self._loop.compactor.fit(self._chat_id, self._frame, squeeze=squeeze)

    async def _smaller(self, past: Past, failure: ModelFailed) -> Past:
        smaller = await self._fit(squeeze=True)
        if smaller.messages() == past.messages():
            raise failure
        return smaller

    async def _complete(self, past: Past, tools: Sequence[dict[str, object]], last_words: str) -> Completion:
        messages = past.messages()
        if last_words:
            messages = valid([*messages, Message(Speaker.USER, last_words)])
        images = self._loop.images.shown(self._chat_id, messages)
        completion = await self._loop.llm.complete(self._system, messages, self._out.say, tools, images)
        if not (self._out.text.strip() or (completion.calls and not last_words)):
            raise ModelFailed(ErrorKind.BAD_REPLY, f"no text, finish_reason {completion.finish_reason!r}")
        if completion.spoilt and not completion.calls and not self._retried:
            raise ModelFailed(ErrorKind.BAD_REPLY, "a malformed call in the text")
        return completion

    async def _run_tools(self, completion: Completion) -> None:
        """Run them and write them down with their results, also when the turn is stopped in the middle."""
        calls = completion.calls
        self._spent.count_calls(len(calls))
        results: dict[str, Result] = {}
        try:
            if completion.finish_reason == "length":
                results = {call.id: Result(call.id, _CUT_CALL, ok=False) for call in calls}
            else:
                await self._run_new(calls, results)
        finally:
            said = Message(Speaker.ASSISTANT, self._out.text.rstrip(), tuple(replayable(call) for call in calls))
            self._out.end_round(valid([_ASKED, said, *(_message(result) for result in results.values())])[1:])

    async def _run_new(self, calls: Sequence[Call], results: dict[str, Result]) -> None:
        fresh = []
        for call in calls:
            key = (call.name, _canonical(call.arguments))
            self._calls[key] += 1
            if self._calls[key] > _SAME_CALL:
                words = _REPEATED.format(times=self._calls[key])
                results[call.id] = Result(call.id, words, ok=False)
            else:
                fresh.append(call)
        await self._toolbox.run(fresh, results, self._out.tool)

    def _is_stuck(self) -> bool:
        return self._spent.is_over or max(self._calls.values(), default=0) >= _TOO_OFTEN

    def _end(self, completion: Completion) -> None:
        if completion.finish_reason == "length":
            self._out.notice(_CUT)


_ASKED = Message(Speaker.USER, "")
"""Before an answer, so that it is valid."""


def _message(result: Result) -> Message:
    return Message(Speaker.TOOL, result.text, call_id=result.call_id)


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(read_json(arguments or "{}"), sort_keys=True)
    except ValueError:
        return arguments
