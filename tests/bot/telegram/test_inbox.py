import asyncio
import json

import pytest
from telegram import Update

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.users import Person, Users
from bot.telegram.inbox import KEPT_SECONDS, Inbox

OLGA = 7_000_000_001
KEY = "LTAI_very_secret_f3a9"


def message(update_id, text, *, chat_type="private", chat_id=OLGA):
    entities = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}] if text.startswith("/") else []
    return Update.de_json(
        {
            "update_id": update_id,
            "message": {
                "message_id": update_id,
                "date": 1_800_000_000,
                "chat": {"id": chat_id, "type": chat_type},
                "from": {"id": OLGA, "is_bot": False, "first_name": "Olga"},
                "text": text,
                "entities": entities,
            },
        },
        None,
    )


@pytest.fixture
def chats(database, clock):
    return Chats(database, clock=clock)


@pytest.fixture
def inbox(database, vault, chats, clock):
    return Inbox(database, vault, chats, clock=clock)


def texts(updates):
    return [update.message.text for update in updates]


async def test_an_update_is_stored_once_however_often_it_comes(inbox):
    first = await inbox.store([message(1, "a"), message(2, "b")])
    second = await inbox.store([message(2, "b"), message(3, "c")])

    assert (texts(first), texts(second)) == (["a", "b"], ["c"])
    assert texts(await inbox.waiting()) == ["a", "b", "c"]
    assert await inbox.next_offset() == 4


async def test_what_is_handled_leaves_only_its_number(inbox, on_disk):
    await inbox.store([message(1, "private words")])

    await inbox.done(1)

    assert await inbox.waiting() == []
    assert await inbox.store([message(1, "private words")]) == []


@pytest.mark.parametrize("text", [f"/login {KEY}", f"/login@baal_bot   {KEY}"])
async def test_a_key_behind_login_never_reaches_the_disk_in_clear(inbox, on_disk, text):
    (stored,) = await inbox.store([message(1, text)])

    assert stored.message.text.endswith("***")
    assert (await inbox.key(1)).get_secret_value() == KEY
    assert KEY.encode() not in on_disk()
    assert KEY.encode() not in json.dumps(stored.to_dict()).encode()


async def test_the_message_after_login_is_a_key_also_in_the_same_batch(inbox, on_disk):
    stored = await inbox.store([message(1, "/login"), message(2, "any-key-of-another-server")])

    assert texts(stored) == ["/login", "***"]
    assert (await inbox.key(2)).get_secret_value() == "any-key-of-another-server"
    assert b"any-key-of" not in on_disk()


async def test_a_command_after_login_is_no_key(inbox):
    stored = await inbox.store([message(1, "/login"), message(2, "/list")])

    assert texts(stored) == ["/login", "/list"]
    assert await inbox.key(2) is None


async def test_a_key_sent_in_a_group_is_cut_out_too(inbox, on_disk):
    (stored,) = await inbox.store([message(1, f"/login {KEY}", chat_type="group", chat_id=-5)])

    assert stored.message.text == "/login ***"
    assert KEY.encode() not in on_disk()


async def test_a_key_in_plain_talk_is_cut_out_too(inbox, on_disk):
    (stored,) = await inbox.store([message(1, f"my key is {KEY}, is it good?")])

    assert stored.message.text == "my key is ***, is it good?"
    assert KEY.encode() not in on_disk()


async def test_a_handled_key_is_forgotten(inbox):
    await inbox.store([message(1, f"/login {KEY}")])

    await inbox.done(1)

    assert await inbox.key(1) is None


async def test_what_broke_is_kept_and_taken_up_again_by_its_own_chat_only(inbox):
    await inbox.store([message(1, "hello")])
    await inbox.failed(1)
    assert await inbox.waiting() == []

    assert await inbox.again(1, chat_id=99) is None
    taken = await inbox.again(1, chat_id=OLGA)
    assert taken is not None
    assert taken.message.text == "hello"
    assert texts(await inbox.waiting()) == ["hello"]


async def test_a_failed_update_that_is_taken_up_twice_at_once_is_handled_once(inbox):
    await inbox.store([message(1, "hello")])
    await inbox.failed(1)

    taken = await asyncio.gather(*(inbox.again(1, chat_id=OLGA) for _ in range(6)))

    assert len([update for update in taken if update]) == 1


async def test_characters_that_no_database_holds_are_replaced_and_everything_else_is_not(inbox, database, vault):
    command = {"type": "bot_command", "offset": 0, "length": 6}
    strange = Update.de_json(
        {
            "update_id": 1,
            "message": {
                "message_id": 1,
                "date": 1_800_000_000,
                "chat": {"id": OLGA, "type": "private"},
                "from": {"id": OLGA, "is_bot": False, "first_name": "Ol\0ga", "language_code": "e\0n"},
                "text": "/start a\0b \ud83d \U0001f642 \\u0000",
                "entities": [command],
            },
        },
        None,
    )

    (stored,) = await inbox.store([strange])

    assert stored.message.text == "/start a\ufffdb \ufffd \U0001f642 \\u0000"
    assert [entity.to_dict() for entity in stored.message.entities] == [command]
    person = stored.effective_user
    await Users(database, vault).meet(Person(person.id, person.full_name, person.language_code))
    assert texts(await inbox.waiting()) == [stored.message.text]


async def test_a_key_with_a_character_that_no_database_holds_holds_nothing_up(inbox):
    await inbox.store([message(1, "/login LTAI_\0\ud83d"), message(2, "next")])

    assert texts(await inbox.waiting()) == ["/login ***", "next"]


async def test_a_button_with_a_character_that_no_database_holds_is_harmless(inbox, database, vault):
    pressed = Update.de_json(
        {
            "update_id": 1,
            "callback_query": {
                "id": "1",
                "from": {"id": OLGA, "is_bot": False, "first_name": "Olga"},
                "chat_instance": "1",
                "data": "1|deploy|\0",
            },
        },
        None,
    )

    (stored,) = await inbox.store([pressed])

    argument = stored.callback_query.data.rpartition("|")[2]
    assert await Agents(database, vault, release="r1", limit=1).by_link(argument) is None


async def test_old_numbers_are_forgotten_but_never_the_highest(inbox, clock):
    await inbox.store([message(1, "a"), message(2, "b")])
    await inbox.done(1)
    await inbox.done(2)

    clock.now += KEPT_SECONDS + 1e9
    await inbox.prune()

    assert await inbox.next_offset() == 3
