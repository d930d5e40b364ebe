import asyncio
from typing import cast

import pytest
from pydantic import SecretStr

from bot.accounts.agents import Agents, Card
from bot.accounts.limits import Limits
from bot.accounts.users import Person, Users
from bot.chat.files import Files, Source
from bot.chat.route import Route
from bot.chat.turns import MAX_WAITING, Ask, Turns
from bot.errors import Refused
from bot.store.models import Draft, TurnState

OLGA, VICTOR = 7_000_000_001, 7_000_000_002


@pytest.fixture
def users(database, vault):
    return Users(database, vault)


@pytest.fixture
def limits(database, clock):
    return Limits(database, daily_messages=5, clock=clock)


@pytest.fixture
def agents(database, vault):
    return Agents(database, vault, release="r1", limit=3)


@pytest.fixture
def turns(database, limits, users, agents):
    route = cast("Route", None)  # nothing here reaches an agent
    return Turns(database, limits, users, agents, route, files=Files(database, route, cast("Source", None)))


@pytest.fixture
async def agent(agents, users):
    await users.meet(Person(OLGA, "Olga", "en"))
    await users.meet(Person(VICTOR, "Victor", "en"))
    draft = Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="cooks", model="m")
    return await agents.create(draft, Card(OLGA, 1))


def ask(agent, update_id, *, user=VICTOR):
    return Ask(
        agent=agent, chat_id=user, user_id=user, message_id=update_id, message=f"m{update_id}", update_id=update_id
    )


async def finish_next(turns, chat_id, **how):
    turn = await turns.next(chat_id)
    await turns.finish(turn, **how)
    return turn


async def test_the_same_update_is_accepted_once_and_charged_once(turns, agent, limits):
    assert await turns.accept(ask(agent, 1))
    assert not await turns.accept(ask(agent, 1))

    assert (await limits.today(VICTOR)).used == 1
    assert await turns.count_open(VICTOR) == 1


async def test_turns_of_a_chat_run_in_the_order_asked(turns, agent):
    for number in (3, 4, 5):
        await turns.accept(ask(agent, number))

    order = [(await finish_next(turns, VICTOR, answered=True, is_charged=True)).id for _ in range(3)]

    assert order == ["u3", "u4", "u5"]
    assert await turns.next(VICTOR) is None


async def test_a_message_too_many_is_refused_and_costs_nothing(turns, agent, limits):
    for number in range(1 + MAX_WAITING):
        await turns.accept(ask(agent, number))

    with pytest.raises(Refused) as caught:
        await turns.accept(ask(agent, 99))

    assert (caught.value.hint, caught.value.values) == ("too-many-waiting", {"limit": MAX_WAITING})
    assert (await limits.today(VICTOR)).used == 1 + MAX_WAITING
    assert await turns.count_open(VICTOR) == 1 + MAX_WAITING


async def test_messages_that_come_at_once_do_not_pass_the_limit(turns, agent, limits):
    accepted = await asyncio.gather(*(turns.accept(ask(agent, n)) for n in range(12)), return_exceptions=True)

    assert accepted.count(True) == 1 + MAX_WAITING
    assert await turns.count_open(VICTOR) == 1 + MAX_WAITING
    assert (await limits.today(VICTOR)).used == 1 + MAX_WAITING


async def test_the_same_update_handled_twice_at_once_is_accepted_once(turns, agent, limits):
    accepted = await asyncio.gather(*(turns.accept(ask(agent, 1)) for _ in range(8)))

    assert sorted(accepted) == [False] * 7 + [True]
    assert (await limits.today(VICTOR)).used == 1


async def test_a_turn_that_ends_while_the_next_is_looked_for_stays_over(turns, agent):
    for number in (1, 2):
        await turns.accept(ask(agent, number))
    first = await turns.next(VICTOR)
    assert first is not None

    await asyncio.gather(*(turns.next(VICTOR) for _ in range(4)), turns.finish(first, answered=True, is_charged=True))

    following = await turns.next(VICTOR)
    assert following is not None
    assert following.id == "u2"


async def test_a_used_up_day_is_refused_with_the_time_until_it_refills(turns, agent):
    for number in range(5):
        await turns.accept(ask(agent, number))
        await finish_next(turns, VICTOR, answered=True, is_charged=True)

    with pytest.raises(Refused) as caught:
        await turns.accept(ask(agent, 99))

    assert caught.value.hint == "quota-used"
    assert caught.value.values == {"limit": 5, "hours": 16, "minutes": 0}
    assert await turns.next(VICTOR) is None


async def test_an_answer_that_failed_gives_its_message_back(turns, agent, limits):
    await turns.accept(ask(agent, 1))

    turn = await finish_next(turns, VICTOR, answered=False, is_charged=False, seen=7)
    await turns.finish(turn, answered=False, is_charged=False)

    assert (await limits.today(VICTOR)).used == 0


async def test_a_failed_turn_can_be_retried_and_goes_on_behind_what_was_seen(turns, agent, limits):
    await turns.accept(ask(agent, 1))
    await finish_next(turns, VICTOR, answered=False, is_charged=False, seen=7)

    assert not await turns.retry("u1", OLGA), "somebody else's"
    assert await turns.retry("u1", VICTOR)
    assert not await turns.retry("u1", VICTOR), "pressed twice"

    turn = await turns.next(VICTOR)
    assert turn is not None
    assert (turn.id, turn.message, turn.retry, turn.seen) == ("u1", "m1", True, 7)
    assert (await limits.today(VICTOR)).used == 1


async def test_a_turn_whose_end_is_shown_a_moment_before_it_is_over_can_be_retried(turns, agent):
    await turns.accept(ask(agent, 1))
    turn = await turns.next(VICTOR)

    pressed = asyncio.create_task(turns.retry("u1", VICTOR))
    await asyncio.sleep(0)
    await turns.finish(turn, answered=False, is_charged=False)

    assert await pressed


async def test_a_turn_that_fails_between_the_two_looks_of_a_retry_can_be_retried(turns, agent, monkeypatch):
    await turns.accept(ask(agent, 1))
    turn = await turns.next(VICTOR)
    is_running = turns._is_running

    async def finish_and_look(turn_id, chat_id):
        await turns.finish(turn, answered=False, is_charged=False)
        return await is_running(turn_id, chat_id)

    monkeypatch.setattr(turns, "_is_running", finish_and_look)

    assert await turns.retry("u1", VICTOR)


async def test_an_answered_turn_is_not_retried(turns, agent):
    await turns.accept(ask(agent, 1))
    await finish_next(turns, VICTOR, answered=True, is_charged=True)

    assert not await turns.retry("u1", VICTOR)


async def test_the_owner_with_a_key_is_not_counted_and_a_visitor_with_one_is(turns, agent, users, limits):
    for person in (OLGA, VICTOR):
        await users.connect(person, SecretStr("LTAI_key"))

    await turns.accept(ask(agent, 1, user=OLGA))
    await turns.accept(ask(agent, 2, user=VICTOR))

    assert (await limits.today(OLGA)).used == 0
    assert (await limits.today(VICTOR)).used == 1


async def test_open_turns_are_found_after_a_restart(turns, agent):
    for number in (1, 2, 3):
        await turns.accept(ask(agent, number))
    await finish_next(turns, VICTOR, answered=True, is_charged=True)
    await turns.next(VICTOR)

    assert [(turn.id, turn.state) for turn in await turns.open()] == [
        ("u2", TurnState.RUNNING),
        ("u3", TurnState.QUEUED),
    ]


async def test_shown_messages_are_remembered(turns, agent):
    await turns.accept(ask(agent, 1))
    assert await turns.messages("u1") == []

    await turns.record("u1", [11, 12])

    assert await turns.messages("u1") == [11, 12]
