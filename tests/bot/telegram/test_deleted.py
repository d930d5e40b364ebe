"""An agent that was deleted is brought back as long as its last snapshot is kept."""

import time

import pytest
from sqlmodel import select

from bot.store.models import Agent, Phase, Wanted
from bot.store.records import Reason, Snapshot, SnapshotState
from tests.bot.telegram.desk import TEXTS, Desk, newest, press, said, send
from tests.fakes.telegram_client import SimUser

DAY = 86_400
CREATE = TEXTS.speak("en").plain("create")


async def deleted(desk: Desk, owner: SimUser, *, until: float = 6 * DAY, name: str = "Ada") -> Agent:
    """An agent that is gone, and of which a snapshot is kept for so many seconds more."""
    agent = await desk.agent(owner, name=name)
    gone = {"wanted": Wanted.DELETED, "phase": Phase.GONE, "observed_generation": agent.generation}
    await desk.observe(agent.id, **gone)
    await keep(desk, agent, until=until)
    return await desk.row(agent.id)


async def keep(desk: Desk, agent: Agent, *, until: float, state: SnapshotState = SnapshotState.WHOLE) -> None:
    row = Snapshot(agent_id=agent.id or 0, reason=Reason.DELETE, state=state, keep_until=time.time() + until)
    async with desk.services.agents._database.session() as session:
        session.add(row)


async def test_an_owner_brings_a_deleted_agent_back_once(desk: Desk, olga: SimUser) -> None:
    agent = await deleted(desk, olga)
    await send(desk, olga, "/list", times=1)
    listed = (await said(olga))[-1]
    assert (listed.text, [button.text for button in listed.buttons[0]]) == (
        "No agents yet.",
        [CREATE, "🗑 Deleted (1)"],
    )

    await press(desk, olga, "Deleted")
    assert (await said(olga))[-1].buttons[0][0].text.startswith("♻ Ada · until 20")
    await press(desk, olga, "Ada")

    row = await desk.row(agent.id)
    assert (row.wanted, row.phase, row.generation) == (Wanted.ON, Phase.WAITING, agent.generation + 1)
    assert (row.card_message_id, row.card_open, row.link) == (listed.id, True, agent.link)
    assert set(desk.fleet.nudged) == {agent.id}
    assert await kept_until(desk) == [None]


async def kept_until(desk: Desk) -> list[float | None]:
    async with desk.services.agents._database.session() as session:
        return list(await session.exec(select(Snapshot.keep_until)))


async def test_one_more_than_allowed_is_not_brought_back(desk: Desk, olga: SimUser) -> None:
    agent = await deleted(desk, olga)
    await desk.agent(olga, name="Bea")
    await desk.agent(olga, name="Cem")
    await send(desk, olga, "/list", times=1)
    await press(desk, olga, "Deleted", times=1)

    await press(desk, olga, "Ada", times=1)

    assert (await newest(olga)).startswith("You have 2 agents, and that is the most.")
    assert (await desk.row(agent.id)).wanted is Wanted.DELETED


async def test_what_is_no_longer_kept_is_not_offered(desk: Desk, olga: SimUser) -> None:
    await deleted(desk, olga, until=-1)

    await send(desk, olga, "/list", times=1)

    assert [[button.text for button in row] for row in (await said(olga))[-1].buttons] == [[CREATE]]


@pytest.mark.parametrize("pressed", ["{id}", "{gone}", "", "99"])
async def test_only_ones_own_and_what_is_kept_comes_back(
    desk: Desk, olga: SimUser, victor: SimUser, pressed: str
) -> None:
    agent, gone = await deleted(desk, olga), await deleted(desk, victor, until=-1, name="Vic")
    data = f"v1|undelete|{pressed.format(id=agent.id, gone=gone.id)}"
    keyboard = {"inline_keyboard": [[{"text": "Made up", "callback_data": data}]]}
    await send(desk, victor, "/start", times=1)
    await desk.telegram.call("sendMessage", chat_id=victor.id, text="old", reply_markup=keyboard)

    await press(desk, victor, "Made up", times=1)

    assert await newest(victor) == "There is no deleted agent left that could be brought back."
    assert {(await desk.row(each.id)).wanted for each in (agent, gone)} == {Wanted.DELETED}


async def test_deleting_says_how_to_get_it_back(desk: Desk, olga: SimUser) -> None:
    await desk.agent(olga)
    await desk.agent(olga, name="Bea", phase=Phase.STARTING)
    for name, says in (("Ada", "kept for 7 days: until then /list can bring it back"), ("Bea", "There is no undo.")):
        await send(desk, olga, "/list", times=1)
        await press(desk, olga, name, times=1)

        await press(desk, olga, "Delete", times=1)

        assert says in await newest(olga)
