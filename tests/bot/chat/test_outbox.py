"""The agents' clock and post, on rows of both databases, with agents that a test speaks for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from agent import protocol
from bot.chat import outbox as module
from bot.chat.alarms import Alarms
from bot.chat.letters import KEPT_SECONDS, Letters
from bot.chat.outbox import Outboxes
from bot.chat.route import Route
from bot.errors import AgentBusy, AgentOffline, AgentRefused
from bot.store.models import LetterState, Turn

ADA, BOB = 1, 2
OLGA, STRANGER = 7_000_000_001, 7_000_000_009
NOW = 1_800_000_000.0
FILE = protocol.Attachment(id="f1", name="soup.png", size=3)
DEADLINE = 10


def letter(number: int, text: str = "Soup", chat: object = OLGA, **fields: Any) -> protocol.Letter:
    return protocol.Letter(id=number, chat_id=str(chat), text=text, created=NOW, **fields)


def says(*letters: protocol.Letter, due: float | None = None) -> protocol.Outbox:
    return protocol.Outbox(letters=letters, next_due=due)


@dataclass
class Agents:
    """Answers each call with the next of its script: an outbox, or an error."""

    script: list[Any] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    revived: list[int] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    lost_acks: int = 0
    is_alive: bool = True
    during: Callable[[], Any] | None = None
    held: asyncio.Event | None = None
    alive: dict[int, Callable[[], Any] | Exception] = field(default_factory=dict)
    """Those that run: what their health check does."""
    checked: list[int] = field(default_factory=list)

    async def running(self) -> list[int]:
        return list(self.alive)

    async def tick(self, agent_id: int) -> protocol.Outbox:
        self.calls.append(agent_id)
        if self.held:
            await self.held.wait()
        if self.during:
            await self.during()
        answer = self.script.pop(0) if self.script else says()
        if isinstance(answer, Exception):
            raise answer
        return cast("protocol.Outbox", answer)

    async def acknowledge(self, agent_id: int, up_to: int) -> None:
        if self.lost_acks:
            self.lost_acks -= 1
            raise AgentOffline("lost")
        self.acknowledged.append((agent_id, up_to))

    async def is_up(self, agent_id: int) -> bool:
        self.checked.append(agent_id)
        does = self.alive.get(agent_id)
        if isinstance(does, Exception):
            raise does
        if does:
            await does()
        return self.is_alive

    async def bring_back(self, agent_id: int) -> None:
        self.revived.append(agent_id)
        self.is_alive = True

    async def is_wanted(self, agent_id: int) -> bool:
        return agent_id not in self.deleted


class Post:
    """A bot's clock, and what it hands on."""

    def __init__(self, database, clock) -> None:
        self.agents = Agents()
        self.alarms = Alarms(database)
        self.letters = Letters(database, clock=clock)
        self.delivered: list[int] = []
        route = cast("Route", self.agents)
        self.outboxes = Outboxes(route, self.alarms, self.letters, self.delivered.append, clock=clock)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """End it when no call is in flight."""
        await self.until(lambda: not self.outboxes._visits)
        await self.outboxes.stop()

    async def texts(self, chat: int = OLGA) -> list[str]:
        """What waits, ticked off as if it were delivered."""
        found = []
        while waiting := await self.letters.next(chat):
            found.append(waiting.text)
            await self.letters.end(waiting, LetterState.DELIVERED)
        return found


@pytest.fixture
async def talked(database):
    """Olga has written to Ada and Bob."""
    async with database.session() as session:
        for agent_id in (ADA, BOB):
            said = Turn(
                id=f"u{agent_id}",
                agent_id=agent_id,
                chat_id=OLGA,
                user_id=OLGA,
                message_id=1,
                message="hi",
                sequence=1,
            )
            session.add(said)


@pytest.fixture
async def posts(database, talked, clock, monkeypatch):
    """Starts the clock of a bot, and after a restart that of the next."""
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    started: list[Post] = []

    async def start(post: Post | None = None) -> Post:
        made = post or Post(database, clock)
        started.append(made)
        await made.outboxes.start()
        return made

    yield start
    for post in started:
        await post.stop()


@pytest.fixture
async def post(posts):
    return await posts()


async def test_an_agent_is_called_when_it_is_due_and_its_letter_kept_once(post, clock):
    post.agents.script = [says(letter(5, files=(FILE,)), due=NOW + 99)]

    await post.alarms.tell(ADA, NOW)
    await post.until(lambda: bool(post.delivered))
    await post.until(lambda: post.alarms.all() == {ADA: NOW + 99})

    assert post.agents.calls == [ADA]
    assert post.agents.acknowledged == [(ADA, 5)]
    assert post.delivered == [OLGA]
    kept = await post.letters.next(OLGA)
    assert kept is not None
    assert (kept.text, kept.files, kept.agent_id) == ("Soup", [FILE.model_dump()], ADA)


async def test_an_agent_that_is_not_due_is_left_asleep(post, clock, monkeypatch):
    await post.alarms.tell(ADA, NOW + 0.05)
    await post.alarms.tell(BOB, NOW + 3600)
    await asyncio.sleep(0)
    assert post.agents.calls == []

    clock.now += 1
    await post.until(lambda: post.agents.calls == [ADA])
    await post.until(lambda: post.alarms.all() == {BOB: NOW + 3600})


async def test_a_restarted_bot_calls_in_time_and_delivers_what_was_left(posts, database, clock):
    before = Post(database, clock)
    await before.alarms.tell(ADA, NOW + 60)
    await before.letters.keep(BOB, [letter(5, "Bread")])
    clock.now += 61

    post = await posts()

    await post.until(lambda: post.agents.calls == [ADA])
    assert post.delivered == [OLGA]
    assert await post.texts() == ["Bread"]


async def test_agents_without_an_alarm_are_asked_for_it_at_the_start(posts, database, clock):
    post = Post(database, clock)
    await post.alarms.tell(BOB, NOW + 60)
    post.agents.alive = {
        3: AgentRefused("unauthorized", "no"),
        ADA: lambda: post.alarms.tell(ADA, NOW),
        BOB: lambda: post.alarms.tell(BOB, NOW),
    }
    post.agents.script = [says(letter(5))]

    await posts(post)
    await post.until(lambda: bool(post.delivered))

    await post.until(lambda: post.alarms.all() == {BOB: NOW + 60})

    assert post.agents.calls == [ADA]
    assert sorted(post.agents.checked) == [ADA, 3], "Bob's is known"


async def test_letters_whose_acknowledgement_got_lost_come_again_and_are_kept_once(post):
    again = says(letter(5), letter(6, "Bread"))
    post.agents.script, post.agents.lost_acks = [again, again], 1

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: post.alarms.all() == {})

    assert post.agents.acknowledged == [(ADA, 6)]
    assert post.delivered == [OLGA]
    assert await post.texts() == ["Soup", "Bread"]


async def test_a_letter_that_was_delivered_is_not_taken_in_again(post):
    await post.letters.keep(ADA, [letter(5)])
    assert await post.texts() == ["Soup"]

    assert await post.letters.keep(ADA, [letter(5)]) == set()
    assert await post.letters.keep(BOB, [letter(5, "Bob's")]) == {OLGA}, "another agent's number"

    assert await post.texts() == ["Bob's"]


async def test_numbers_are_forgotten_when_no_agent_repeats_them_any_more(post, clock):
    await post.letters.keep(ADA, [letter(5)])
    assert await post.texts() == ["Soup"]
    await post.letters.keep(ADA, [letter(6, "Waits")])
    clock.now += KEPT_SECONDS + 1

    await post.letters.prune()

    assert await post.letters.keep(ADA, [letter(5, "Anew")]) == {OLGA}
    assert await post.texts() == ["Waits", "Anew"]


@pytest.mark.parametrize("chat", [STRANGER, "somebody", "", 2**70, -(2**63)])
async def test_an_agent_cannot_write_to_strangers(post, chat):
    post.agents.script = [says(letter(5, chat=chat), letter(6, "Bread"))]

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: post.alarms.all() == {})

    assert post.agents.acknowledged == [(ADA, 6)], "it is not asked for again"
    assert await post.texts() == ["Bread"]
    assert await post.texts(STRANGER) == []


async def test_what_no_database_holds_is_replaced(post):
    await post.letters.keep(ADA, [letter(5, "a\0b")])
    assert await post.texts() == ["a\ufffdb"]


async def test_more_than_a_page_is_fetched_at_once(post, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 3600)
    post.agents.script = [says(letter(5), due=0), says(letter(6, "Bread"), due=None)]

    await post.alarms.tell(ADA, NOW)
    await post.until(lambda: len(post.agents.calls) == 2)
    await post.until(lambda: post.alarms.all() == {})

    assert await post.texts() == ["Soup", "Bread"]


async def test_a_dead_agent_is_brought_back_for_its_reminder(post):
    post.agents.script, post.agents.is_alive = [AgentOffline("gone"), says(letter(5))], False

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: bool(post.delivered))

    assert post.agents.revived == [ADA]


async def test_a_lost_connection_is_no_reason_to_restart_an_agent(post):
    post.agents.script = [AgentOffline("lost"), says(letter(5))]

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: bool(post.delivered))

    assert post.agents.revived == []


@pytest.mark.parametrize(
    "error", [AgentBusy("draining", "ask again"), AgentRefused("sealed", "no"), RuntimeError("broken")]
)
async def test_an_agent_that_does_not_let_itself_be_called_is_called_again_later(post, error):
    post.agents.script = [error, error, says(letter(5))]

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: bool(post.delivered))

    assert post.agents.calls == [ADA] * 3
    assert post.agents.revived == []


async def test_one_that_fails_does_not_hold_up_the_others(post, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 3600)
    post.agents.script = [AgentBusy("draining", "ask again"), says(letter(5))]

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: post.agents.calls == [ADA])
    await post.alarms.tell(BOB, 0)
    await post.until(lambda: bool(post.delivered))

    assert post.agents.calls == [ADA, BOB]
    assert post.alarms.all() == {ADA: 0}


async def test_an_agent_whose_clock_is_behind_is_not_called_without_pause(post, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(module, "EMPTY_PAUSE_SECONDS", 3600)
    post.agents.script = [says(due=NOW), says(due=NOW)]

    await post.alarms.tell(ADA, NOW)
    await post.until(lambda: not post.outboxes._visits and bool(post.agents.calls))
    post.alarms.news.set()
    await post.until(lambda: not post.alarms.news.is_set())

    assert post.agents.calls == [ADA]


async def test_a_deleted_agent_is_not_called_any_more(post):
    post.agents.deleted = {ADA}

    await post.alarms.tell(ADA, 0)
    await post.until(lambda: post.alarms.all() == {})

    assert post.agents.calls == []


async def test_an_agent_is_called_once_at_a_time(post):
    post.agents.held = asyncio.Event()
    await post.alarms.tell(ADA, 5)
    await post.until(lambda: post.agents.calls == [ADA])
    for at in (4, 3, 2):
        await post.alarms.tell(ADA, at)
    await post.until(lambda: not post.alarms.news.is_set())

    assert post.agents.calls == [ADA]
    post.agents.held.set()
    await post.until(lambda: post.alarms.all() == {})


async def test_many_are_called_side_by_side_but_not_all_at_once(post, monkeypatch):
    post.agents.held = asyncio.Event()
    for agent_id in range(100, 100 + module.AT_ONCE + 5):
        await post.alarms.tell(agent_id, 0)
    await post.until(lambda: len(post.outboxes._visits) == module.AT_ONCE + 5)
    await post.until(lambda: len(post.agents.calls) == module.AT_ONCE)

    post.agents.held.set()

    await post.until(lambda: len(post.agents.calls) == module.AT_ONCE + 5)
    await post.until(lambda: post.alarms.all() == {})


# Alarms


async def test_turns_that_end_together_leave_the_earliest_time(database):
    alarms = Alarms(database)

    await asyncio.gather(*(alarms.tell(ADA, NOW + seconds) for seconds in (9, 3, 7, 1, 5)))

    again = Alarms(database)
    await again.load()
    assert (alarms.all(), again.all()) == ({ADA: NOW + 1}, {ADA: NOW + 1})


async def test_what_a_turn_tells_only_makes_an_alarm_earlier(database):
    alarms = Alarms(database)
    for at in (NOW + 9, NOW + 5, NOW + 7):
        await alarms.tell(ADA, at)

    assert alarms.all() == {ADA: NOW + 5}
    again = Alarms(database)
    await again.load()
    assert again.all() == {ADA: NOW + 5}


async def test_the_answer_to_a_call_makes_it_later_or_ends_it(database):
    alarms = Alarms(database)
    await alarms.tell(ADA, NOW)
    alarms.begin(ADA)
    await alarms.settle(ADA, NOW + 9)
    assert alarms.all() == {ADA: NOW + 9}

    alarms.begin(ADA)
    await alarms.settle(ADA, None)
    again = Alarms(database)
    await again.load()
    assert (alarms.all(), again.all()) == ({}, {})


@pytest.mark.parametrize("answer", [None, NOW + 99])
async def test_what_a_turn_told_during_the_call_is_not_forgotten(post, answer):
    async def during() -> None:
        post.agents.during = None
        await post.alarms.tell(ADA, NOW + 50)

    post.agents.script, post.agents.during = [says(due=answer)], during

    await post.alarms.tell(ADA, NOW)
    await post.until(lambda: post.alarms.all() == {ADA: NOW + 50})
