"""Ready answers are given once, whatever is pressed, typed, or handled again."""

import asyncio
from typing import Any, cast

import pytest

from bot.accounts.agents import Agents, Card
from bot.accounts.limits import Limits
from bot.accounts.users import Person, Users
from bot.chat.offers import Offers
from bot.chat.turns import Ask, Turns
from bot.store.models import Draft

VICTOR, GROUP = 7_000_000_002, -7_000_000_003
OPTIONS = ["Tea", "  \0 \ud800 ☕️"]


@pytest.fixture
def offers(database):
    return Offers(database)


@pytest.fixture
async def ask(database, vault, clock):
    """Accept a turn."""
    users, agents = Users(database, vault), Agents(database, vault, release="r1", limit=3)
    limits, nobody = Limits(database, daily_messages=50, clock=clock), cast("Any", None)
    turns = Turns(database, limits, users, agents, nobody, files=nobody)
    await users.meet(Person(VICTOR, "Victor", "en"))
    agent = await agents.create(Draft(user_id=VICTOR, chat_id=VICTOR, name="A", job="j", model="m"), Card(VICTOR, 1))

    async def accept(update_id: int, chat: int = VICTOR, user: int = VICTOR) -> str:
        asked = Ask(agent=agent, chat_id=chat, user_id=user, message_id=1, message="m", update_id=update_id)
        await turns.accept(asked)
        return asked.turn_id

    return accept


async def test_what_is_offered_is_found_in_its_chat_in_full(offers, ask):
    turn = await ask(1)

    assert await offers.keep(turn, OPTIONS)

    found = await offers.find(turn, VICTOR)
    assert (found.user_id, [found.option(index) for index in (0, 1, 2, None)]) == (VICTOR, [*OPTIONS, None, None])
    assert await offers.find(turn, GROUP) is None
    assert await offers.find("u99", VICTOR) is None


async def test_one_answer_is_taken_and_the_same_again_is_the_same(offers, ask):
    turn = await ask(1)
    await offers.keep(turn, OPTIONS)

    assert [await offers.claim(turn, 1, by) for by in ("u2", "u2", "u3")] == [True, True, False]
    found = await offers.find(turn, VICTOR)
    assert (found.chosen, found.answered_by) == (1, "u2")


async def test_of_answers_that_come_at_once_one_is_taken(offers, ask):
    turn = await ask(1)
    await offers.keep(turn, OPTIONS)

    taken = await asyncio.gather(*(offers.claim(turn, 0, f"u{number}") for number in range(2, 8)))

    assert taken.count(True) == 1


async def test_what_was_not_accepted_can_be_answered_again_by_that_turn_only(offers, ask):
    turn = await ask(1)
    await offers.keep(turn, OPTIONS)
    await offers.claim(turn, 1, "u2")

    await offers.release(turn, "u3")
    assert not await offers.claim(turn, 0, "u4")
    await offers.release(turn, "u2")
    assert await offers.claim(turn, 0, "u4")


async def test_a_turn_shown_again_offers_anew_until_it_is_answered(offers, ask):
    turn = await ask(1)
    assert await offers.keep(turn, OPTIONS)

    assert await offers.keep(turn, ["Other"])
    assert (await offers.find(turn, VICTOR)).option(0) == "Other"
    await offers.claim(turn, 0, "u2")

    assert not await offers.keep(turn, OPTIONS)
    assert (await offers.find(turn, VICTOR)).option(0) == "Other"


async def test_writing_on_closes_what_this_person_was_offered_before_here(offers, ask):
    mine, answered = await ask(1), await ask(2)
    others, elsewhere, later = await ask(3, user=8), await ask(4, chat=GROUP), await ask(6)
    for turn in (mine, answered, others, elsewhere, later):
        await offers.keep(turn, OPTIONS)
    await offers.claim(answered, 0, "u2")

    first = await offers.close(VICTOR, VICTOR, before=5, by="u5")
    again = await offers.close(VICTOR, VICTOR, before=5, by="u5")
    next_one = await offers.close(VICTOR, VICTOR, before=6, by="u6")

    assert (first, again, next_one) == ([mine], [mine], [])
    assert [await offers.claim(turn, 0, "u7") for turn in (mine, others, elsewhere, later)] == [False, True, True, True]
