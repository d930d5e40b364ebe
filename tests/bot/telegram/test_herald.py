"""Notices of real rows, told into the Bot API double."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pytest
from telegram.ext import ExtBot

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.fleet.notices import OPERATOR, Notices
from bot.store.database import Database
from bot.store.models import Agent, Draft
from bot.store.records import Notice
from bot.store.vault import Vault
from bot.telegram import texts
from bot.telegram.herald import Herald, worded
from bot.telegram.limiter import Limiter
from bot.telegram.texts import keys, load_texts
from bot.telegram.transport import AiohttpRequest
from tests.fakes.telegram_client import SimUser, TelegramDouble
from tests.fakes.telegram_views import FaultKind, MessageView

TEXTS = load_texts()
SAY = TEXTS.speak("en")
NOON = 1_800_014_400.0
"""12:00 UTC on 15 January 2027."""
DEADLINE_SECONDS = 30
FACTS: dict[str, Any] = {
    "name": "Ada", "minutes": 12, "at": NOON, "cap": "agent", "agent": 7,
    "machine": "m-1", "rollout": 12, "reason": "Canaries failed.",
    "release": "baal/agent:2", "hours": 70, "credits": 812, "count": 5, "why": "no node",
}  # fmt: skip
"""All that any of them tells."""


@dataclass
class Stage:
    telegram: TelegramDouble
    notices: Notices
    owner: SimUser
    agent: Agent
    make: Callable[..., Herald]
    """One that runs until the test ends; another one as after a restart."""

    async def until_told(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.notices.waiting():
                await asyncio.sleep(0.005)


@pytest.fixture
async def stage(database: Database, vault: Vault) -> AsyncIterator[Stage]:
    users, notices = Users(database, vault), Notices(database)
    agents = Agents(database, vault, release="v1", limit=3)
    heralds: list[Herald] = []
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
            agent = await agents.create(draft, Card(owner.id, 1))

            def make(**settings: Any) -> Herald:
                heralds.append(Herald(bot, TEXTS, notices, users, agents, **{"look_seconds": 0.05} | settings))
                return heralds[-1]

            yield Stage(telegram, notices, owner, agent, make)
            for herald in heralds:
                await herald.stop()


async def told(person: SimUser) -> list[MessageView]:
    return [message for message in await person.messages() if message.from_bot]


async def test_an_owner_is_told_once_with_the_way_to_the_card(stage: Stage) -> None:
    await stage.make().start()
    for _ in range(2):
        await stage.notices.post("healed 1 2", stage.owner.id, "notice-healed", agent_id=stage.agent.id or 0)
        await stage.until_told()

    [message] = await told(stage.owner)
    assert message.text == ("Your agent Ada was moved to a new machine: its old one failed. Nothing was lost.")
    assert [[button.text for button in row] for row in message.buttons] == [["⚙ Manage"]]


async def test_each_operator_is_told_once_although_the_bot_was_restarted_in_between(stage: Stage) -> None:
    other = await stage.telegram.user(name="Otto")
    await other.send("/start")
    first = stage.make(admins=(stage.owner.id, other.id))
    await stage.notices.post("pool", OPERATOR, "notice-operator-pool", why="no node")
    await first.start()
    await stage.until_told()
    await first.stop()
    await stage.make(admins=(stage.owner.id, other.id)).start()
    await stage.notices.post("pool", OPERATOR, "notice-operator-pool", why="no node")
    await stage.until_told()

    assert [len(await told(person)) for person in (stage.owner, other)] == [1, 1]


async def test_what_was_posted_while_no_bot_ran_is_told_by_the_next(stage: Stage) -> None:
    await stage.notices.post("healed", stage.owner.id, "notice-healed", name="Ada")

    await stage.make().start()

    await stage.owner.wait_for("was moved to a new machine")


async def test_while_telegram_is_away_it_waits_and_is_told_when_it_is_back(stage: Stage) -> None:
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "sendMessage", times=3)
    await stage.notices.post("healed", stage.owner.id, "notice-healed", name="Ada")

    await stage.make().start()

    await stage.owner.wait_for("was moved to a new machine")
    await stage.until_told()
    assert len(await told(stage.owner)) == 1


async def test_who_blocked_the_bot_is_not_tried_again_and_keeps_nobody_waiting(stage: Stage) -> None:
    other = await stage.telegram.user(name="Otto")
    await other.send("/start")
    await stage.owner.block()
    await stage.make().start()
    await stage.notices.post("healed 1", stage.owner.id, "notice-healed", name="Ada")
    await stage.notices.post("healed 2", other.id, "notice-healed", name="Ben")

    await stage.until_told()
    assert await told(stage.owner) == []
    assert len(await told(other)) == 1


async def test_who_never_wrote_to_the_bot_is_not_tried_again(stage: Stage) -> None:
    await stage.make(admins=(987_654,)).start()
    await stage.notices.post("pool", OPERATOR, "notice-operator-pool", why="no node")

    await stage.until_told()


async def test_a_penalty_of_one_chat_delays_nobody_else(stage: Stage) -> None:
    other = await stage.telegram.user(name="Otto")
    await other.send("/start")
    await stage.telegram.fault(FaultKind.TOO_MANY_REQUESTS, "sendMessage", chat=stage.owner.id, retry_after=60)
    await stage.make().start()
    await stage.notices.post("healed 1", stage.owner.id, "notice-healed", name="Ada")
    await stage.notices.post("healed 2", other.id, "notice-healed", name="Ben")

    await other.wait_for("Your agent Ben was moved")


async def test_a_notice_without_words_keeps_none_of_the_others_waiting(stage: Stage) -> None:
    await stage.make().start()
    await stage.notices.post("broken", stage.owner.id, "notice-nobody-wrote")
    await stage.notices.post("healed", stage.owner.id, "notice-healed", name="Ada")

    await stage.owner.wait_for("was moved to a new machine")
    assert [notice.id for notice in await stage.notices.waiting()] == ["broken"]


async def test_a_moment_is_shown_by_the_readers_own_clock(stage: Stage) -> None:
    await stage.make().start()
    await stage.notices.post("lost", stage.owner.id, "notice-healed-lost", name="Ada", minutes=1, at=NOON)

    message = await stage.owner.wait_for("may be missing")

    assert "in the minute before 2027-01-15, 12:00 UTC may be missing" in message.text
    [moment] = [entity for entity in message.entities if entity["type"] == "date_time"]
    assert (moment["unix_time"], moment["date_time_format"]) == (int(NOON), "dt")
    shown = message.text.encode("utf-16-le")[2 * moment["offset"] : 2 * (moment["offset"] + moment["length"])]
    assert shown.decode("utf-16-le") == "2027-01-15, 12:00 UTC"


def test_a_moment_of_today_has_no_date() -> None:
    notice = Notice(id="1", user_id=1, text="notice-restored", facts={"name": "Ada", "at": NOON}, created_at=NOON + 60)

    assert worded(notice, SAY, None).text == "Your agent Ada is back as it was at 12:00 UTC."


def test_a_loss_is_told_up_to_the_moment_of_the_notice_where_no_other_is_known() -> None:
    facts = {"name": "Ada", "minutes": 4}
    notice = Notice(id="1", user_id=1, text="notice-healed-lost", facts=facts, created_at=NOON)

    assert "in the 4 minutes before 12:00 UTC may be missing" in worded(notice, SAY, None).text


@pytest.mark.parametrize("key", sorted(key for key in keys(files(texts) / "en") if key.startswith("notice-")))
def test_every_notice_has_its_words(key: str) -> None:
    facts = FACTS | ({"time": "12:00", "day": "2027-01-15"} if key in {"notice-time", "notice-day"} else {})

    words = worded(Notice(id="1", user_id=1, text=key, facts=facts, created_at=NOON + 60), SAY, None).text

    assert "{" not in words
    assert "  " not in words
