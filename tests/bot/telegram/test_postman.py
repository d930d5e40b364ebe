"""Letters of real rows, brought into the Bot API double."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from telegram.error import NetworkError
from telegram.ext import ExtBot

from agent import protocol
from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.chat.letters import Letters
from bot.errors import AgentRefused
from bot.store.database import Database
from bot.store.models import Draft, Letter, LetterState, Turn
from bot.store.vault import Vault
from bot.telegram.files import FileSender
from bot.telegram.limiter import Limiter
from bot.telegram.postman import Postman
from bot.telegram.texts import load_texts
from bot.telegram.transport import AiohttpRequest
from tests.fakes.telegram_client import SimUser, TelegramDouble
from tests.fakes.telegram_views import FaultKind, MessageView


@dataclass
class Stage:
    """An agent whose letters go to its owner."""

    telegram: TelegramDouble
    owner: SimUser
    database: Database
    letters: Letters
    agents: Agents
    bot: ExtBot[Any]
    agent_id: int
    postman: Postman
    make: Callable[[], Postman]
    """Another one, as after a restart."""
    files: dict[str, bytes]

    async def write(self, *texts: str) -> None:
        for number, text in enumerate(texts, 1):
            letter = protocol.Letter(id=number, chat_id=str(self.owner.id), text=text, created=0)
            await self.letters.keep(self.agent_id, [letter])
        self.postman.expect(self.owner.id)

    async def shown(self) -> list[MessageView]:
        return [message for message in await self.owner.messages() if message.from_bot]

    async def texts(self) -> list[str]:
        return [message.text for message in await self.shown()]

    async def row(self, number: int = 1) -> Letter:
        async with self.database.session() as session:
            return await session.get_one(Letter, (self.agent_id, number))


@pytest.fixture
async def stage(database: Database, vault: Vault) -> AsyncIterator[Stage]:
    users, letters = Users(database, vault), Letters(database)
    agents = Agents(database, vault, release="v1", limit=3)
    async with TelegramDouble() as telegram:
        bot: ExtBot[Any] = ExtBot(
            telegram.token,
            base_url=f"{telegram.url}/bot",
            request=AiohttpRequest(),
            get_updates_request=AiohttpRequest(),
            rate_limiter=Limiter(),
        )
        async with bot:
            owner = await telegram.user(name="Olga")
            await owner.send("/start")
            await users.meet(Person(owner.id, "Olga", "en"))
            draft = Draft(user_id=owner.id, chat_id=owner.id, name="Ada", job="cooks", model="m")
            agent_id = (await agents.create(draft, Card(owner.id, 1))).id or 0
            async with database.session() as session:
                said = Turn(
                    id="u1",
                    agent_id=agent_id,
                    chat_id=owner.id,
                    user_id=owner.id,
                    message_id=1,
                    message="hi",
                    sequence=1,
                )
                session.add(said)
            files: dict[str, bytes] = {}

            @asynccontextmanager
            async def open_file(_agent: int, _chat: str, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
                if file_id not in files:
                    raise AgentRefused("not_found", "There is no such file.")
                yield _pieces(files[file_id])

            def make() -> Postman:
                sender = FileSender(bot, pauses=())
                return Postman(bot, letters, agents, users, load_texts(), sender, open_file)

            yield Stage(telegram, owner, database, letters, agents, bot, agent_id, make(), make, files)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_letters_come_in_order_under_the_agents_name(stage: Stage) -> None:
    await stage.write("⏰ Turn off the **oven**", "⏰ Eat")

    assert await stage.postman.deliver(stage.owner.id)

    first, second = await stage.shown()
    assert (first.text, second.text) == ("Ada ·\n⏰ Turn off the oven", "Ada ·\n⏰ Eat")
    assert [(entity["type"], entity["offset"]) for entity in first.entities] == [("bold", 0), ("bold", 21)]
    row = await stage.row()
    assert (row.state, row.text) == (LetterState.DELIVERED, "")


async def test_a_letter_is_delivered_once(stage: Stage) -> None:
    await stage.write("⏰ Eat")
    for _ in range(3):
        stage.postman.expect(stage.owner.id)
        assert await stage.postman.deliver(stage.owner.id)

    assert await stage.texts() == ["Ada ·\n⏰ Eat"]


async def test_without_news_the_database_is_left_alone(stage: Stage) -> None:
    await stage.database.close()
    assert await stage.postman.deliver(stage.owner.id)


async def test_a_letter_waits_for_telegram(stage: Stage) -> None:
    await stage.write("⏰ Eat", "⏰ Sleep")
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "sendMessage")

    assert not await stage.postman.deliver(stage.owner.id)
    assert await stage.texts() == []
    assert await stage.postman.deliver(stage.owner.id)

    assert await stage.texts() == ["Ada ·\n⏰ Eat", "Ada ·\n⏰ Sleep"]


async def test_after_a_break_a_long_letter_goes_on_where_it_was(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.write("word " * 2_000)
    sending, sent = stage.postman._send_once, list[Any]()

    async def break_after_one(chat_id: int, page: Any, *, is_first: bool) -> None:
        if sent:
            raise NetworkError("gone")
        sent.append(page)
        await sending(chat_id, page, is_first=is_first)

    monkeypatch.setattr(stage.postman, "_send_once", break_after_one)
    assert not await stage.postman.deliver(stage.owner.id)
    monkeypatch.undo()
    assert await stage.postman.deliver(stage.owner.id)

    texts = await stage.texts()
    assert len(texts) == 3
    assert [text.startswith("Ada ·") for text in texts] == [True, False, False]
    assert sum(text.count("word") for text in texts) == 2_000


async def test_a_restarted_bot_goes_on(stage: Stage) -> None:
    await stage.write("⏰ Eat")
    again = stage.make()
    for chat_id in await stage.letters.waiting():
        again.expect(chat_id)

    assert await again.deliver(stage.owner.id)
    assert await stage.texts() == ["Ada ·\n⏰ Eat"]


async def test_a_letter_to_somebody_who_blocked_the_bot_is_dropped(stage: Stage) -> None:
    await stage.write("⏰ Eat", "⏰ Sleep")
    await stage.owner.block()

    assert await stage.postman.deliver(stage.owner.id)

    row = await stage.row()
    assert (row.state, row.text) == (LetterState.DROPPED, "")
    assert await stage.letters.waiting() == []


async def test_a_letter_of_nothing_is_over_at_once(stage: Stage) -> None:
    await stage.write(" \n ", "⏰ Eat")

    assert await stage.postman.deliver(stage.owner.id)

    assert await stage.texts() == ["Ada ·\n⏰ Eat"]


async def test_told_to_stop_while_it_sends_it_writes_down_that_it_has_sent(stage: Stage) -> None:
    await stage.write("⏰ Eat")
    delivering = asyncio.create_task(stage.postman.deliver(stage.owner.id))
    async with asyncio.timeout(30):
        while not await stage.telegram.outbox("sendMessage"):
            await asyncio.sleep(0)
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)

    assert await stage.texts() == ["Ada ·\n⏰ Eat"]
    again = stage.make()
    again.expect(stage.owner.id)
    assert await again.deliver(stage.owner.id)
    assert await stage.texts() == ["Ada ·\n⏰ Eat"]


def attached(name: str, content: bytes) -> protocol.Attachment:
    return protocol.Attachment(id=name[:3], name=name, media_type="text/plain", size=len(content))


async def test_files_of_a_letter_come_after_its_text_each_once(stage: Stage) -> None:
    stage.files["one"] = b"first"
    files = (attached("one.txt", b"first"), attached("two.txt", b"is gone"))
    letter = protocol.Letter(id=1, chat_id=str(stage.owner.id), text="Two files", created=0, files=files)
    await stage.letters.keep(stage.agent_id, [letter])
    stage.postman.expect(stage.owner.id)
    assert await stage.postman.deliver(stage.owner.id)

    text, document, lost = await stage.shown()
    assert text.text == "Ada ·\nTwo files"
    assert document.file
    assert (document.file.name, await stage.telegram.content(document.file.file_id)) == ("one.txt", b"first")
    assert lost.text == "📎 two.txt could not be sent."
    assert (await stage.row()).state is LetterState.DELIVERED


async def test_after_a_restart_only_the_files_that_are_missing_are_sent(stage: Stage) -> None:
    stage.files |= {"one": b"first", "two": b"second"}
    files = (attached("one.txt", b"first"), attached("two.txt", b"second"))
    letter = protocol.Letter(id=1, chat_id=str(stage.owner.id), text="Two files", created=0, files=files)
    await stage.letters.keep(stage.agent_id, [letter])
    kept = await stage.letters.next(stage.owner.id)
    assert kept
    await stage.letters.sent(kept, 2)  # as a bot leaves it that died before the second file
    again = stage.make()
    again.expect(stage.owner.id)
    assert await again.deliver(stage.owner.id)
    assert [message.file.name for message in await stage.shown() if message.file] == ["two.txt"]
