"""The lane of a chat's turns: answer its messages one after the other, also those a restart finds open."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from agent import protocol
from bot.accounts.agents import Agents
from bot.accounts.users import Users
from bot.chat.run import AgentDown, AgentMoving, AgentWaking, NotYet
from bot.chat.turns import Turns
from bot.errors import AgentError, AgentOffline, AgentRefused, NotDelivered, Refused
from bot.log import line
from bot.store.models import Agent, Turn, Wanted
from bot.telegram.answer import Word
from bot.telegram.ordering import Lanes
from bot.telegram.postman import Postman
from bot.telegram.relay import Conversation, Ending, Outcome, Relay
from bot.telegram.render import one_line
from bot.telegram.texts import Speech, Texts

log = logging.getLogger(__name__)

UNDELIVERED_PAUSE_SECONDS = 30.0
WORDS: dict[type[NotYet], tuple[str, float]] = {
    AgentDown: ("agent-down", 0),
    AgentWaking: ("agent-waking", 0),
    AgentMoving: ("agent-moving", 5),
}
"""What the person is told, after so many seconds: most of the time a machine is changed faster."""
_NAME_UNITS = 40


class Conversations:
    """Turns of different chats run side by side, those of one chat in the order they were asked."""

    def __init__(
        self, turns: Turns, agents: Agents, users: Users, relay: Relay, texts: Texts, *, postman: Postman
    ) -> None:
        self._turns = turns
        self._agents = agents
        self._users = users
        self._relay = relay
        self._texts = texts
        self._postman = postman
        self._lanes: Lanes[int] = Lanes("turns", self._answer_next)

    def wake(self, chat_id: int) -> None:
        """A turn of this chat was accepted."""
        self._lanes.put(chat_id, chat_id)

    def deliver(self, chat_id: int) -> None:
        """There are letters for this chat: after the answer that is being shown."""
        self._postman.expect(chat_id)
        self._lanes.put(chat_id, chat_id)

    async def resume(self) -> None:
        """Go on with every turn that is not over."""
        for turn in await self._turns.open():
            self.wake(turn.chat_id)

    async def stop(self) -> None:
        """Leave running turns to the next start, which attaches to them again."""
        await self._lanes.drain(timeout=0)

    async def _answer_next(self, chat_id: int) -> None:
        turn = await self._turns.next(chat_id)
        is_through = (turn is None or await self._answer(turn)) and await self._postman.deliver(chat_id)
        if not is_through:
            await asyncio.sleep(UNDELIVERED_PAUSE_SECONDS)
            self.wake(chat_id)

    async def _answer(self, turn: Turn) -> bool:
        """False if Telegram could not be reached: the answer is kept, and shown when it can."""
        agent, user = await self._agents.get(turn.agent_id), await self._users.get(turn.user_id)
        speech = self._texts.speak(user.language if user else None)
        events = Events(self._turns, turn, agent, speech)
        try:
            # Closed here, and not whenever it is collected: the relay reads no further than the final event, and a
            # stream that is first closed by the end of the loop finds the connections under it being closed as well.
            async with aclosing(events.shown()) as shown:
                outcome = await self._relay.show(await self._conversation(turn, agent, speech), shown)
        except NotDelivered as error:
            log.warning(line("answer not delivered yet", turn=turn.id, why=error))
            return False
        await self._finish(turn, outcome, events.seen)
        return True

    async def _conversation(self, turn: Turn, agent: Agent | None, speech: Speech) -> Conversation:
        is_one_of_several = turn.chat_id < 0 or await self._turns.count_open(turn.chat_id) > 1
        talks_to_several = await self._turns.agents_lately(turn.chat_id) > 1
        return Conversation(
            chat_id=turn.chat_id,
            turn_id=turn.id,
            reply_to=turn.message_id if is_one_of_several else None,
            speech=speech,
            header=f"{agent.name} ·" if agent and talks_to_several else None,
            open_file=lambda file_id: self._turns.file(turn, file_id),
        )

    async def _finish(self, turn: Turn, outcome: Outcome, seen: int) -> None:
        if outcome.ending is Ending.UNREACHABLE:
            # Nobody reads on: no more tokens for it.
            with suppress(AgentError):
                await self._turns.stop(turn.chat_id)
        is_charged = outcome.ending in {Ending.DONE, Ending.STOPPED}
        await self._turns.finish(turn, answered=outcome.ending is Ending.DONE, is_charged=is_charged, seen=seen)
        log.info(line("turn over", turn=turn.id, agent=turn.agent_id, ended=outcome.ending))


class Events:
    """A turn's events in the person's words, among them what the bot itself knows of the agent."""

    def __init__(self, turns: Turns, turn: Turn, agent: Agent | None, speech: Speech) -> None:
        self._turns = turns
        self._turn = turn
        self._agent = agent
        self._speech = speech
        self._is_waking = False
        self.seen = turn.seen

    async def shown(self) -> AsyncGenerator[protocol.Event | Word]:
        """Ends with a final event, whatever happens to the agent."""
        if self._agent is None or self._agent.wanted is Wanted.DELETED:
            yield self._failed(protocol.ErrorKind.INTERNAL, "agent-deleted", retryable=False)
            return
        try:
            async with aclosing(self._turns.events(self._turn)) as events:
                async for event in events:
                    yield self._translate(event)
        except AgentOffline as error:
            log.warning(line("agent offline", turn=self._turn.id, agent=self._turn.agent_id, why=error))
            key = "agent-not-woken" if self._is_waking else "agent-offline"
            yield self._failed(protocol.ErrorKind.UNREACHABLE, key, retryable=True)
        except Refused as refusal:
            said = self._speech.plain(refusal.hint, **refusal.values)
            yield protocol.Failed(seq=self.seen, kind=protocol.ErrorKind.INTERNAL, text=said, retryable=True)
        except AgentRefused as error:
            log.warning(line("agent refused", turn=self._turn.id, agent=self._turn.agent_id, why=error))
            yield self._failed(protocol.ErrorKind.INTERNAL, "agent-refused", retryable=True)

    def _translate(self, event: protocol.Event | NotYet) -> protocol.Event | Word:
        self._is_waking = isinstance(event, AgentWaking)
        if isinstance(event, AgentDown | AgentWaking | AgentMoving):
            key, after = WORDS[type(event)]
            return Word(self._say(key), after)
        self.seen = event.seq
        return event

    def _failed(self, kind: protocol.ErrorKind, key: str, *, retryable: bool) -> protocol.Failed:
        return protocol.Failed(seq=self.seen, kind=kind, text=self._say(key), retryable=retryable)

    def _say(self, key: str) -> str:
        return self._speech.plain(key, name=one_line(self._agent.name, _NAME_UNITS) if self._agent else "")
