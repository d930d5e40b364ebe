"""Files of people's messages: kept with their turn, albums gathered, carried to the agent once, honest when lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
from sqlmodel import col, select

from agent.protocol import MAX_ATTACHMENTS, Attachment, Role
from bot.accounts.agents import Agents, Card
from bot.accounts.limits import Limits
from bot.accounts.users import Person, Users
from bot.chat.files import NO_WORDS, TRIES, Files, Incoming
from bot.chat.route import Route
from bot.chat.turns import Ask, Turns
from bot.errors import AgentOffline, AgentRefused, FileLost, Refused
from bot.machines.client import Upload
from bot.store.models import Draft, TurnFile

OLGA = 7_000_000_001


@dataclass
class FakeRoute:
    """Takes files, or fails as it is told to."""

    errors: list[Exception] = field(default_factory=list)
    took: list[tuple[str, Upload, bytes]] = field(default_factory=list)

    async def put_file(self, _agent_id: int, chat_id: str, file: Upload, content: AsyncIterator[bytes]) -> Attachment:
        body = b"".join([piece async for piece in content])
        if self.errors:
            raise self.errors.pop(0)
        self.took.append((chat_id, file, body))
        name = file.name.replace("/", "_")
        return Attachment(id=file.id, name=name, media_type=file.media_type, size=len(body), path=f"in/{name}")


@dataclass
class FakeSource:
    """Telegram's files: their ids are their content."""

    errors: list[Exception] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened.append(file_id)
        if self.errors:
            raise self.errors.pop(0)
        yield self._pieces(file_id.encode())

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        yield content[:2]
        yield content[2:]


@dataclass
class Stage:
    turns: Turns
    files: Files
    route: FakeRoute
    source: FakeSource
    limits: Limits


@pytest.fixture
def route():
    return FakeRoute()


@pytest.fixture
def source():
    return FakeSource()


@pytest.fixture
def files(database, route, source, clock):
    return Files(database, cast("Route", route), source, album_seconds=0.2, pause=0.0, clock=clock)


@pytest.fixture
def limits(database):
    return Limits(database, daily_messages=5)


@pytest.fixture
def turns(database, vault, limits, files, route):
    agents = Agents(database, vault, release="r1", limit=3)
    return Turns(database, limits, Users(database, vault), agents, cast("Route", route), files=files)


@pytest.fixture
async def agent(turns):
    await turns._users.meet(Person(OLGA, "Olga", "en"))
    return await turns._agents.create(Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="cooks", model="m"), Card(1, 1))


def incoming(number: int, *, key: str | None = None, name: str | None = None) -> Incoming:
    return Incoming(f"tg{number}", key or f"k{number}", name or f"{number}.txt", "text/plain", 3)


def ask(agent, number: int, words: str = "", *, album: str = "", file: Incoming | None = None) -> Ask:
    return Ask(
        agent=agent, chat_id=OLGA, user_id=OLGA, message_id=number, message=words, update_id=number,
        file=file or incoming(number), album=album,
    )  # fmt: skip


async def rows(database) -> list[TurnFile]:
    async with database.session() as session:
        return list(await session.exec(select(TurnFile).order_by(col(TurnFile.update_id))))


async def test_a_file_reaches_the_agent_before_its_turn(turns, agent, route):
    assert await turns.accept(ask(agent, 1, "look", file=incoming(1, name="../x.txt")))
    turn = await turns.next(OLGA)

    request = await turns._request(turn, 0, retry=False)

    assert [(chat, file.id, file.name, file.role, body) for chat, file, body in route.took] == [
        (str(OLGA), "k1", "../x.txt", Role.OWNER, b"tg1")
    ]
    assert request.message == "look"
    assert [(one.id, one.name, one.path) for one in request.attachments] == [("k1", ".._x.txt", "in/.._x.txt")]


async def test_without_words_the_agent_is_told_to_look_at_the_files(turns, agent):
    await turns.accept(ask(agent, 1))

    request = await turns._request(await turns.next(OLGA), 0, retry=False)

    assert request.message == NO_WORDS


async def test_what_the_agent_has_is_not_carried_again_until_it_is_retried(turns, agent, route, source):
    await turns.accept(ask(agent, 1))
    turn = await turns.next(OLGA)
    first = await turns._request(turn, 0, retry=False)

    assert (await turns._request(turn, 3, retry=False)).attachments == first.attachments
    assert len(route.took) == 1

    await turns.finish(turn, answered=False, is_charged=False)
    await turns.retry(turn.id, OLGA)
    again = await turns._request(await turns.next(OLGA), 0, retry=True)
    assert again.attachments == first.attachments
    assert source.opened == ["tg1", "tg1"]


async def test_an_agent_that_goes_away_meanwhile_is_given_the_rest_only(turns, agent, route, clock):
    for number in (1, 2):
        await turns.accept(ask(agent, number, album="a"))
    clock.now += 2
    turn = await turns.next(OLGA)
    original = route.put_file

    async def once(agent_id, chat_id, file, content):
        if file.id == "k2" and not route.errors:
            route.errors.append(AgentOffline("away"))
        return await original(agent_id, chat_id, file, content)

    route.put_file = once
    with pytest.raises(AgentOffline):
        await turns._request(turn, 0, retry=False)
    route.put_file = original
    request = await turns._request(turn, 0, retry=False)

    assert [one.id for one in request.attachments] == ["k1", "k2"]
    assert [file.id for _, file, _ in route.took] == ["k1", "k2"]


async def test_an_album_is_one_turn_and_costs_one_message(turns, agent, limits, clock):
    assert await turns.accept(ask(agent, 1, "both", album="a"))
    clock.now += 1
    assert not await turns.accept(ask(agent, 2, "mine", album="a"))
    assert not await turns.accept(ask(agent, 2, "mine", album="a")), "handled twice"
    assert not await turns.accept(ask(agent, 1, "both", album="a")), "the first one handled twice"
    clock.now += 2

    turn = await turns.next(OLGA)
    request = await turns._request(turn, 0, retry=False)

    assert (request.message, [one.id for one in request.attachments]) == ("both\nmine", ["k1", "k2"])
    assert await turns.count_open(OLGA) == 1
    assert (await limits.today(OLGA)).used == 1


async def test_parts_of_an_album_that_come_at_once_make_one_turn(turns, agent, clock):
    accepted = await asyncio.gather(*(turns.accept(ask(agent, number, album="a")) for number in range(1, 11)))

    assert accepted.count(True) == 1
    clock.now += 2
    request = await turns._request(await turns.next(OLGA), 0, retry=False)
    assert len(request.attachments) == MAX_ATTACHMENTS


async def test_an_album_that_is_refused_is_refused_once(turns, agent, limits):
    for number in range(1, 5):
        await turns.accept(ask(agent, number))
    with pytest.raises(Refused, match="too-many-waiting"):
        await turns.accept(ask(agent, 5, album="a"))

    assert not await turns.accept(ask(agent, 6, album="a"))
    with pytest.raises(Refused, match="too-many-waiting"):
        await turns.accept(ask(agent, 7))
    assert (await limits.today(OLGA)).used == 4


async def test_an_album_waits_for_its_rest(turns, agent, files, clock):
    await turns.accept(ask(agent, 1, album="a"))
    waiting = asyncio.create_task(turns.next(OLGA))
    while not (await turns.open()):
        await asyncio.sleep(0)
    await turns.accept(ask(agent, 2, album="a"))
    assert not waiting.done()

    clock.now += 2
    turn = await waiting

    assert turn is not None
    assert len((await turns._request(turn, 0, retry=False)).attachments) == 2


async def test_an_album_is_gathered_on_after_a_restart(turns, agent, files, clock):
    await turns.accept(ask(agent, 1, "both", album="a"))
    again = Turns(turns._database, turns._limits, turns._users, turns._agents, turns._route, files=files)

    assert not await again.accept(ask(agent, 2, album="a"))
    clock.now += 2
    turn = await again.next(OLGA)

    assert turn is not None
    assert [one.id for one in (await again._request(turn, 0, retry=False)).attachments] == ["k1", "k2"]


async def test_a_part_that_comes_late_is_a_turn_of_its_own(turns, agent, clock):
    await turns.accept(ask(agent, 1, "both", album="a"))
    clock.now += 2
    await turns.next(OLGA)

    assert await turns.accept(ask(agent, 2, album="a"))
    assert await turns.count_open(OLGA) == 2


async def test_two_albums_and_two_chats_are_kept_apart(turns, agent):
    other = Ask(
        agent=agent, chat_id=9, user_id=OLGA, message_id=3, message="", update_id=3, file=incoming(3), album="a"
    )
    accepted = [
        await turns.accept(one) for one in (ask(agent, 1, album="a"), ask(agent, 2, album="b"), other)
    ]  # fmt: skip

    assert accepted == [True, True, True]


async def test_words_of_a_part_without_a_file_belong_to_the_others(turns, agent, clock):
    part = Ask(agent=agent, chat_id=OLGA, user_id=OLGA, message_id=1, message="all", update_id=1, album="a")
    await turns.accept(part)
    await turns.accept(ask(agent, 2, album="a"))
    clock.now += 2

    request = await turns._request(await turns.next(OLGA), 0, retry=False)

    assert (request.message, [one.id for one in request.attachments]) == ("all", ["k2"])


async def test_the_same_picture_twice_is_one_file(turns, agent, clock, route):
    for number in (1, 2):
        await turns.accept(ask(agent, number, album="a", file=incoming(number, key="same")))
    clock.now += 2

    request = await turns._request(await turns.next(OLGA), 0, retry=False)

    assert [one.id for one in request.attachments] == ["same"]


async def test_a_clock_that_was_set_back_holds_nobody_up(turns, agent, clock):
    await turns.accept(ask(agent, 1, album="a"))
    clock.now -= 1_000

    assert await turns.next(OLGA) is not None


@pytest.mark.parametrize("hint", ["file-gone", "file-too-big"])
async def test_a_file_that_is_gone_is_told_at_once_with_its_name(turns, agent, source, hint):
    source.errors = [FileLost(hint)]
    await turns.accept(ask(agent, 1))

    with pytest.raises(Refused) as caught:
        await turns._request(await turns.next(OLGA), 0, retry=False)

    assert (caught.value.hint, caught.value.values) == (hint, {"name": "1.txt"})


async def test_a_file_that_may_come_is_tried_for(turns, agent, source, route):
    source.errors = [FileLost("file-not-fetched", may_heal=True)] * (TRIES - 1)
    await turns.accept(ask(agent, 1))

    await turns._request(await turns.next(OLGA), 0, retry=False)

    assert len(route.took) == 1


async def test_a_file_that_never_comes_is_given_up(turns, agent, source):
    source.errors = [FileLost("file-not-fetched", may_heal=True)] * TRIES
    await turns.accept(ask(agent, 1))

    with pytest.raises(Refused, match="file-not-fetched"):
        await turns._request(await turns.next(OLGA), 0, retry=False)

    assert source.errors == []


async def test_an_agents_refusal_of_a_file_is_in_its_words(turns, agent, route):
    route.errors = [AgentRefused("no_room", "The disk is full.", status=507)]
    await turns.accept(ask(agent, 1))

    with pytest.raises(Refused) as caught:
        await turns._request(await turns.next(OLGA), 0, retry=False)

    assert (caught.value.hint, caught.value.values) == (
        "file-refused",
        {"name": "1.txt", "reason": "The disk is full."},
    )


async def test_an_agent_that_knows_no_files_is_an_agent_to_be_updated(turns, agent, route):
    route.errors = [AgentRefused("http_404", "no refusal of the protocol", status=404)]
    await turns.accept(ask(agent, 1))

    with pytest.raises(AgentRefused):
        await turns._request(await turns.next(OLGA), 0, retry=False)


async def test_an_answered_turn_leaves_no_names_behind(turns, agent, database):
    await turns.accept(ask(agent, 1, album="a"))
    assert [row.name for row in await rows(database)] == ["1.txt"]
    turn = (await turns.open())[0]

    await turns.finish(turn, answered=True, is_charged=True)

    assert [(row.update_id, row.file_id, row.name, row.stored) for row in await rows(database)] == [(1, "", "", "")]
    assert not await turns.accept(ask(agent, 1, album="a")), "still known"


async def test_a_retried_turn_sends_its_own_files(turns, agent):
    await turns.accept(ask(agent, 1))
    turn = await turns.next(OLGA)
    await turns.record(turn.id, [11, 12, -13, 0])
    await turns.finish(turn, answered=False, is_charged=False)

    await turns.retry(turn.id, OLGA)

    assert await turns.messages(turn.id) == [11, 12]
