"""Answer a chat: load its history, ask the model, and ask once more if that may help."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from agent import log
from agent.errors import ModelFailed
from agent.history import History, newer_half
from agent.llm import Completion, Llm
from agent.protocol import ErrorKind, Usage
from agent.store import Message

_ASKING_AGAIN = {
    ErrorKind.BUSY: "The model is overloaded. Asking it again…",
    ErrorKind.UNREACHABLE: "The model stopped in the middle. Asking it again…",
    ErrorKind.BAD_REPLY: "The model sent something unreadable. Asking it again…",
    ErrorKind.TOO_LONG: "This conversation is too long for the model. Asking again without its older half…",
}
_CUT = "The answer reached its length limit. Ask me to continue for the rest."


class Output(Protocol):
    """Where an answer goes."""

    @property
    def text(self) -> str:
        """What was said since the last restart."""

    def say(self, text: str) -> None:
        """Append to the answer."""

    def restart(self) -> None:
        """Take back what was said."""

    def notice(self, text: str) -> None:
        """Tell the person something that is not part of the answer."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Drives the model through one turn."""

    llm: Llm
    history: History
    system: str
    retry_pause: float

    async def answer(self, turn_id: str, chat_id: str, out: Output) -> Usage:
        """Answer the chat's last message; `ModelFailed` if also the second attempt failed."""
        begun = time.monotonic()
        completion = await self._answer_messages(turn_id, self.history.load(chat_id), out)
        return Usage(
            prompt_tokens=completion.prompt_tokens,
            cached_tokens=completion.cached_tokens,
            completion_tokens=completion.completion_tokens,
            milliseconds=round((time.monotonic() - begun) * 1000),
        )

    async def _answer_messages(self, turn_id: str, messages: list[Message], out: Output) -> Completion:
        try:
            return await self._ask(messages, out)
        except ModelFailed as failure:
            shorter = _worth_asking(failure, messages)
            if not shorter:
                raise
            log.warning("asking again", turn=turn_id, reason=str(failure))
            out.restart()
            out.notice(_ASKING_AGAIN[failure.kind])
        await asyncio.sleep(self.retry_pause)
        return await self._ask(shorter, out)

    async def _ask(self, messages: list[Message], out: Output) -> Completion:
        completion = await self.llm.complete(self.system, messages, out.say)
        if not out.text.strip():
            raise ModelFailed(ErrorKind.BAD_REPLY, f"no text, finish_reason {completion.finish_reason!r}")
        if completion.finish_reason == "length":
            out.notice(_CUT)
        return completion


def _worth_asking(failure: ModelFailed, messages: list[Message]) -> list[Message]:
    """Choose what to ask after a failure; nothing if asking again is in vain."""
    if failure.heals:
        return messages
    return newer_half(messages) if failure.kind is ErrorKind.TOO_LONG and len(messages) > 1 else []
