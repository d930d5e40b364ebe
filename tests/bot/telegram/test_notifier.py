"""The cards of real rows, drawn into the Bot API double."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from telegram.ext import ExtBot

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.fleet.books import Books
from bot.store.database import Database
from bot.store.models import Agent, Draft, MachineState, Phase, Purpose
from bot.store.vault import Vault
from bot.telegram import notifier as module
from bot.telegram.notifier import TelegramNotifier
from bot.telegram.texts import load_texts
from bot.telegram.transport import AiohttpRequest
from tests.fakes.telegram_client import SimUser, TelegramDouble
from tests.fakes.telegram_views import FaultKind, MessageView

TEXTS = load_texts()
NOW = 1_800_000_000.0
DEADLINE_SECONDS = 30


@dataclass
class Stage:
    """An agent whose card is a message in its owner's chat."""

    telegram: TelegramDouble
    bot: ExtBot[Any]
    owner: SimUser
    database: Database
    agents: Agents
    users: Users
    books: Books
    notifier: TelegramNotifier
    agent: Agent

    @property
    def id(self) -> int:
        assert self.agent.id
        return self.agent.id

    def another(self, **settings: Any) -> TelegramNotifier:
        """The notifier of a bot that was restarted."""
        facts = {"clock": lambda: NOW + 72, "edit_seconds": 0.0, **settings}
        return TelegramNotifier(self.bot, TEXTS, self.agents, self.users, self.books, **facts)

    async def observe(self, **facts: Any) -> None:
        async with self.database.session() as session:
            row = await session.get_one(Agent, self.id)
            for name, value in facts.items():
                setattr(row, name, value)

    async def row(self) -> Agent:
        return await self.books.agent(self.id)

    async def until_closed(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await self.row()).card_open:
                await asyncio.sleep(0.005)

    async def card(self) -> MessageView:
        (message,) = [message for message in await self.owner.messages() if message.from_bot]
        return message

    async def edits(self) -> int:
        return len(await self.telegram.outbox("editMessageText"))


@pytest.fixture
async def stage(database: Database, vault: Vault) -> AsyncIterator[Stage]:
    users, books = Users(database, vault), Books(database)
    agents = Agents(database, vault, release="v1", limit=3)
    async with TelegramDouble() as telegram:
        bot: ExtBot[Any] = ExtBot(
            telegram.token,
            base_url=f"{telegram.url}/bot",
            request=AiohttpRequest(),
            get_updates_request=AiohttpRequest(),
        )
        async with bot:
            owner = await telegram.user(name="Olga")
            await users.meet(Person(owner.id, "Olga", "en"))
            message = await bot.send_message(owner.id, "Check")
            draft = Draft(user_id=owner.id, chat_id=owner.id, name="Ada", job="cooks", model="m")
            agent = await agents.create(draft, Card(owner.id, message.message_id))
            made = Stage(
                telegram, bot, owner, database, agents, users, books,
                TelegramNotifier(bot, TEXTS, agents, users, books, clock=lambda: NOW + 72, edit_seconds=0),
                agent,
            )  # fmt: skip
            await made.observe(deploy_started_at=NOW)
            yield made
            await made.notifier.stop()


async def test_the_card_follows_the_row_and_is_closed_at_the_end(stage: Stage) -> None:
    await stage.observe(phase=Phase.STARTING)
    await stage.notifier.show(stage.id)
    await stage.owner.wait_for("⏳ Agent installed", anywhere=True)

    await stage.observe(phase=Phase.RUNNING, observed_generation=1)
    await stage.notifier.show(stage.id)
    await stage.until_closed()

    card = await stage.card()
    assert card.text.startswith("🎉 Ada is live")
    assert (card.id, card.edits) == (stage.agent.card_message_id, 2)


async def test_news_that_come_while_the_card_rests_are_one_edit(stage: Stage) -> None:
    notifier = stage.another(edit_seconds=0.3)
    await stage.observe(phase=Phase.RENTING)
    await notifier.show(stage.id)
    await stage.owner.wait_for("⏳ Machine reserved", anywhere=True)
    for phase in (Phase.REACHING, Phase.STARTING, Phase.PROVING):
        await stage.observe(phase=phase)
        await notifier.show(stage.id)
    await stage.observe(phase=Phase.RUNNING, observed_generation=1)
    await notifier.show(stage.id)
    await stage.until_closed()

    calls = await stage.telegram.outbox("editMessageText")
    assert len(calls) == 2
    assert calls[1].at - calls[0].at >= 0.25
    await notifier.stop()


async def test_nothing_is_edited_when_nothing_changed(stage: Stage) -> None:
    notifier = stage.another(edit_seconds=0.1)
    await stage.observe(phase=Phase.RENTING)
    await notifier.show(stage.id)
    await stage.owner.wait_for("⏳ Machine reserved", anywhere=True)

    await notifier.show(stage.id)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*notifier._tasks.values())

    assert await stage.edits() == 1


async def test_the_end_is_delivered_although_telegram_breaks_on_the_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "editMessageText", times=3)
    await stage.observe(phase=Phase.RUNNING, observed_generation=1)

    await stage.notifier.show(stage.id)
    await stage.until_closed()

    assert (await stage.card()).text.startswith("🎉 Ada is live")


async def test_a_lost_answer_of_telegram_is_not_a_second_card(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    await stage.telegram.fault(FaultKind.LOST_ANSWER, "editMessageText")
    await stage.observe(phase=Phase.RUNNING, observed_generation=1)

    await stage.notifier.show(stage.id)
    await stage.until_closed()

    assert (await stage.card()).text.startswith("🎉 Ada is live")


async def test_a_card_that_was_deleted_comes_as_a_new_message(stage: Stage) -> None:
    old = stage.agent.card_message_id
    await stage.telegram.call("deleteMessage", chat_id=stage.owner.id, message_id=old)
    await stage.observe(phase=Phase.RENTING)
    await stage.notifier.show(stage.id)
    await stage.owner.wait_for("⏳ Machine reserved", anywhere=True)
    await stage.observe(phase=Phase.RUNNING, observed_generation=1)
    await stage.notifier.show(stage.id)
    await stage.until_closed()

    card = await stage.card()
    assert card.text.startswith("🎉 Ada is live")
    assert (await stage.row()).card_message_id == card.id != old


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.FAILED])
async def test_a_restarted_bot_shows_how_the_wish_ended_meanwhile(stage: Stage, phase: Phase) -> None:
    await stage.observe(phase=phase, observed_generation=1, error="not-reached", error_code="7F3A")

    restarted = stage.another()
    await restarted.start()
    await stage.until_closed()

    assert (await stage.card()).text.splitlines()[0] in {"🎉 Ada is live", "❌ The machine did not come up"}
    again = stage.another()
    await again.start()
    assert await stage.edits() == 1, "a closed card is left alone"


async def test_nothing_is_charged_is_said_once_the_books_say_the_machine_is_gone(stage: Stage) -> None:
    machine = await stage.books.intend(stage.id, "local", Purpose.DEPLOY)
    await stage.observe(phase=Phase.FAILED, error="not-reached", error_code="7F3A")
    await stage.notifier.show(stage.id)
    await stage.owner.wait_for("❌", anywhere=True)
    assert "charged" not in (await stage.card()).text

    await stage.books.note(machine.id, MachineState.GONE)
    await stage.observe(observed_generation=1)
    await stage.notifier.show(stage.id)
    await stage.until_closed()

    assert (await stage.card()).text.endswith("Nothing is being charged: its machine was given back.")


async def test_the_end_of_an_earlier_wish_does_not_close_the_card_of_this_one(stage: Stage) -> None:
    await stage.observe(phase=Phase.FAILED, error="not-reached", error_code="7F3A", observed_generation=1)
    await stage.agents.try_again(stage.id, Card(stage.owner.id, stage.agent.card_message_id or 0))
    await stage.agents.close_card(stage.id, 1)

    assert (await stage.row()).card_open


async def test_a_card_without_a_reader_is_closed(stage: Stage) -> None:
    await stage.owner.block()
    await stage.observe(phase=Phase.RUNNING, observed_generation=1)

    await stage.notifier.show(stage.id)

    await stage.until_closed()


async def test_a_card_in_a_chat_that_is_gone_is_closed(stage: Stage) -> None:
    await stage.observe(phase=Phase.RUNNING, observed_generation=1, card_chat_id=404)

    await stage.notifier.show(stage.id)

    await stage.until_closed()


async def test_stopping_leaves_an_open_card_to_the_next_start(stage: Stage) -> None:
    notifier = stage.another(edit_seconds=60.0)
    await stage.observe(phase=Phase.RENTING)
    await notifier.show(stage.id)
    await stage.owner.wait_for("⏳ Machine reserved", anywhere=True)

    await notifier.stop()

    assert (await stage.row()).card_open
    assert await stage.agents.open_cards() == [stage.id]
