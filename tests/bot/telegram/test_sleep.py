"""Agents that are asleep, on the way back or being updated, as people see them; and how owners say when they sleep."""

import pytest

from bot.store.models import Phase
from tests.bot.telegram.desk import Desk, newest, press, said, send
from tests.fakes.telegram_client import SimUser

CHOICES = [
    "as usual here (after 3 days)",
    "after 1 hour",
    "after 1 day",
    "after 1 week",
    "never: always on",
]


@pytest.mark.parametrize(
    ("phase", "stands"),
    [
        (Phase.UPDATING, "🟢 Ada · running"),
        (Phase.DOZING, "💤 Ada · asleep: wakes when you write"),
        (Phase.ASLEEP, "💤 Ada · asleep: wakes when you write"),
        (Phase.RESTORING, "🟡 Ada · coming back"),
        (Phase.WAITING, "🟡 Ada · coming back"),
    ],
)
async def test_the_list_and_the_card_show_how_an_agent_is(desk: Desk, olga: SimUser, phase: Phase, stands: str) -> None:
    agent = await desk.agent(olga)
    await desk.observe(agent.id, phase=phase)

    await send(desk, olga, "/list", times=1)
    assert (await said(olga))[-1].buttons[0][0].text == stands

    await press(desk, olga, "Ada")
    mark, _, words = stands.partition(" Ada · ")
    assert (await newest(olga)).startswith(f"Ada {mark} {words} · fast")


@pytest.mark.parametrize("phase", [Phase.DOZING, Phase.ASLEEP])
async def test_an_agent_that_is_asleep_is_opened_and_takes_messages(
    desk: Desk, olga: SimUser, victor: SimUser, phase: Phase
) -> None:
    agent = await desk.agent(olga)
    await desk.observe(agent.id, phase=phase)

    await send(desk, victor, f"/start agent_{agent.link}")
    assert "💤 Ada is asleep. It wakes when you write; that takes about a minute." in await newest(victor)

    await send(desk, victor, "What with eggs?")
    assert set(desk.woken) == {victor.id}
    assert await desk.services.turns.count_open(victor.id) == 1


async def test_an_agent_that_broke_down_is_not_said_to_be_new(desk: Desk, olga: SimUser, victor: SimUser) -> None:
    agent = await desk.agent(olga)
    await desk.observe(agent.id, phase=Phase.FAILED)

    await send(desk, victor, f"/start agent_{agent.link}")

    assert "Ada is not working at the moment. Its owner knows." in await newest(victor)


async def test_what_is_changed_of_an_agent_that_is_asleep_counts_when_it_wakes(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await desk.observe(agent.id, phase=Phase.ASLEEP)
    desk.fleet.is_away = True
    await send(desk, olga, "/list", times=1)
    await press(desk, olga, "Ada")
    await press(desk, olga, "Name")

    await send(desk, olga, "Bea")

    assert (await newest(olga)).startswith("✅ Saved. It counts from when Bea wakes.")


async def at_choices(desk: Desk, owner: SimUser) -> None:
    await send(desk, owner, "/list", times=1)
    await press(desk, owner, "Ada", times=1)
    await press(desk, owner, "Sleep", times=1)


async def test_an_owner_says_when_an_agent_falls_asleep_and_the_card_shows_it(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)

    await at_choices(desk, olga)
    asked = (await said(olga))[-1]
    assert asked.text.startswith("When may Ada fall asleep?")
    assert [line[0].text for line in asked.buttons] == [f"✓ {CHOICES[0]}", *CHOICES[1:], "◀ Back"]

    await press(desk, olga, "after 1 day")
    card = (await said(olga))[-1]
    assert card.id == asked.id
    assert "Falls asleep when idle: after 1 day" in card.text
    assert (await desk.row(agent.id)).idle_minutes == 1_440

    await press(desk, olga, "Sleep")
    assert [line[0].text for line in (await said(olga))[-1].buttons][2] == "✓ after 1 day"


@pytest.mark.parametrize(("choice", "minutes"), [("usual", None), ("1 hour", 60), ("1 week", 10_080), ("never", 0)])
async def test_each_choice_is_kept(desk: Desk, olga: SimUser, choice: str, minutes: int | None) -> None:
    agent = await desk.agent(olga)
    await desk.observe(agent.id, idle_minutes=1_440)
    await at_choices(desk, olga)

    await press(desk, olga, choice)

    assert (await desk.row(agent.id)).idle_minutes == minutes


async def test_what_an_operator_set_to_another_time_is_said_in_minutes(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await desk.observe(agent.id, idle_minutes=5)
    await send(desk, olga, "/list", times=1)

    await press(desk, olga, "Ada")

    assert "Falls asleep when idle: after 5 minutes" in await newest(olga)


@pytest.mark.parametrize("data", ["v1|idle!|{id}.hour", "v1|idle!|{mine}.century", "v1|idle!|", "v1|idle|{id}"])
async def test_nobody_puts_somebody_elses_agent_to_sleep(desk: Desk, olga: SimUser, victor: SimUser, data: str) -> None:
    agent, mine = await desk.agent(olga), await desk.agent(victor, name="Vic")
    keyboard = {"inline_keyboard": [[{"text": "Made up", "callback_data": data.format(id=agent.id, mine=mine.id)}]]}
    await send(desk, victor, "/start", times=1)
    await desk.telegram.call("sendMessage", chat_id=victor.id, text="old", reply_markup=keyboard)

    await press(desk, victor, "Made up", times=1)

    assert "Baal — your own AI agent" in await newest(victor)
    assert (await desk.row(agent.id)).idle_minutes is None
