import asyncio

import pytest
from pydantic import SecretStr

from bot.accounts.agents import Agents, Card
from bot.accounts.chats import KEY_WANTED_SECONDS, Chats
from bot.accounts.drafts import EXPIRES_AFTER, Drafts
from bot.accounts.kept import KeptAnswers
from bot.accounts.limits import Limits
from bot.accounts.users import Person, Users
from bot.errors import Refused
from bot.store.models import Draft, Phase, Wanted

OLGA = 7_000_000_001  # past 2**31, as Telegram's ids are
CARD = Card(chat_id=OLGA, message_id=5)


@pytest.fixture
def agents(database, vault):
    return Agents(database, vault, release="r1", limit=2)


def draft(**changes):
    return Draft(**{"user_id": OLGA, "chat_id": OLGA, "name": "Ada", "job": "cooks", "model": "m", **changes})


async def test_a_key_is_stored_encrypted_and_only_its_end_is_shown(database, vault, on_disk):
    users = Users(database, vault)
    await users.meet(Person(id=OLGA, name="Olga", language="en"))

    await users.connect(OLGA, SecretStr("LTAI_very_secret_f3a9"))

    user = await users.get(OLGA)
    assert user is not None
    assert user.key_hint == "f3a9"
    assert await users.key(OLGA) == SecretStr("LTAI_very_secret_f3a9")
    assert b"LTAI_very_secret" not in on_disk()
    assert b"Olga" in on_disk()


async def test_meeting_again_takes_over_the_new_name_and_keeps_the_key(database, vault):
    users = Users(database, vault)
    await users.meet(Person(id=OLGA, name="Olga", language="en"))
    await users.connect(OLGA, SecretStr("LTAI_key"))

    await users.meet(Person(id=OLGA, name="Olga B.", language="de"))

    user = await users.get(OLGA)
    assert user is not None
    assert (user.name, user.language, user.key_hint) == ("Olga B.", "de", "_key")


async def test_disconnecting_forgets_the_key(database, vault):
    users = Users(database, vault)
    await users.meet(Person(id=OLGA, name="Olga", language="en"))
    await users.connect(OLGA, SecretStr("LTAI_key"))

    await users.disconnect(OLGA)

    assert await users.key(OLGA) is None


async def test_deploying_the_same_draft_twice_makes_one_agent(agents):
    checked = draft()

    first, second = await asyncio.gather(agents.create(checked, CARD), agents.create(checked, CARD))

    assert first.id == second.id
    assert [agent.id for agent in await agents.owned(OLGA)] == [first.id]


async def test_deploying_drops_the_draft(agents, database):
    drafts = Drafts(database)
    await drafts.save(draft())
    stored = await drafts.get(OLGA)
    assert stored is not None

    await agents.create(stored, CARD)

    assert await drafts.get(OLGA) is None


async def test_one_agent_more_than_allowed_is_refused(agents):
    for _ in range(2):
        await agents.create(draft(), CARD)

    with pytest.raises(Refused, match="agent-limit"):
        await agents.create(draft(), CARD)
    with pytest.raises(Refused, match="agent-limit"):
        await agents.check_limit(OLGA)


async def test_drafts_deployed_at_the_same_time_do_not_pass_the_limit(agents):
    made = await asyncio.gather(*(agents.create(draft(), CARD) for _ in range(6)), return_exceptions=True)

    assert [str(each) for each in made if isinstance(each, Exception)] == ["agent-limit"] * 4
    assert len(await agents.owned(OLGA)) == 2


async def test_a_draft_changed_in_two_places_at_once_is_one_draft(database):
    drafts = Drafts(database)

    await asyncio.gather(*(drafts.save(draft(name=f"Ada {number}"), update_id=number) for number in range(8)))

    saved = await drafts.get(OLGA)
    assert saved is not None
    assert saved.name == f"Ada {saved.last_update_id}"


async def test_what_is_kept_twice_at_once_is_kept(database):
    kept = KeptAnswers(database)

    await asyncio.gather(*(kept.put("models", "known") for _ in range(8)))
    await kept.put("models", "newer")

    assert await kept.get("models") == "newer"


async def test_a_number_that_no_row_has_finds_none(agents):
    assert await agents.get(10**18 - 1) is None


async def test_without_any_key_to_think_with_no_agent_is_made(database, vault):
    keyless = Agents(database, vault, release="r1", limit=2, has_operator_key=False)
    users = Users(database, vault)
    await users.meet(Person(id=OLGA, name="Olga", language="en"))

    with pytest.raises(Refused, match="key-needed"):
        await keyless.create(draft(), CARD)
    await users.connect(OLGA, SecretStr("LTAI_key"))

    assert (await keyless.create(draft(), CARD)).id


async def test_a_link_is_unguessable_and_finds_its_agent_until_it_is_deleted(agents):
    agent = await agents.create(draft(), CARD)

    assert len(agent.link) == 12
    found = await agents.by_link(f"agent_{agent.link}")
    assert found is not None
    assert found.id == agent.id
    assert await agents.by_link("agent_1") is None

    await agents.delete(agent.id, CARD)

    assert await agents.by_link(f"agent_{agent.link}") is None


async def test_deleting_twice_is_one_wish(agents):
    agent = await agents.create(draft(), CARD)

    await agents.delete(agent.id, CARD)
    await agents.delete(agent.id, CARD)

    deleted = await agents.get(agent.id)
    assert (deleted.wanted, deleted.phase, deleted.generation) == (Wanted.DELETED, Phase.DELETING, 2)


async def test_trying_again_needs_a_failure(agents):
    agent = await agents.create(draft(), CARD)

    await agents.try_again(agent.id, CARD)

    assert (await agents.get(agent.id)).generation == 1


async def test_a_draft_expires_after_a_day(database, clock):
    drafts = Drafts(database, clock=clock)
    await drafts.save(draft(), update_id=9)
    kept = await drafts.get(OLGA)
    assert kept is not None
    assert kept.last_update_id == 9

    clock.now += EXPIRES_AFTER

    assert await drafts.get(OLGA) is None


async def test_free_messages_run_out_and_come_back_at_midnight(database, clock):
    limits = Limits(database, daily_messages=2, clock=clock)
    async with database.transaction() as transaction:
        days = [await limits.reserve(transaction, OLGA) for _ in range(3)]

    assert days == ["2027-01-15", "2027-01-15", None]
    assert (await limits.today(OLGA)).used == 2

    clock.now += (await limits.today(OLGA)).refill_seconds

    assert (await limits.today(OLGA)).used == 0


async def test_fifty_messages_at_once_never_pass_the_limit(database, clock):
    limits = Limits(database, daily_messages=10, clock=clock)

    async def reserve():
        async with database.transaction() as transaction:
            return await limits.reserve(transaction, OLGA)

    days = await asyncio.gather(*(reserve() for _ in range(50)))

    assert len([day for day in days if day]) == 10


async def test_a_message_given_back_can_be_used_again(database, clock):
    limits = Limits(database, daily_messages=1, clock=clock)
    async with database.transaction() as transaction:
        day = await limits.reserve(transaction, OLGA)
        assert day is not None
        await limits.give_back(transaction, OLGA, day)
        again = await limits.reserve(transaction, OLGA)

    assert again == day


async def test_a_chat_remembers_its_agent_and_waits_five_minutes_for_a_key(database, clock):
    chats = Chats(database, clock=clock)
    await chats.talk_to(OLGA, 3)
    await chats.want_key(OLGA)

    assert await chats.agent_id(OLGA) == 3
    assert await chats.is_key_wanted(OLGA)

    clock.now += KEY_WANTED_SECONDS
    assert not await chats.is_key_wanted(OLGA)
    await chats.leave_all(3)
    assert await chats.agent_id(OLGA) is None
