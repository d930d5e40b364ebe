"""The handlers on PTB's application, real rows and the Bot API double; updates may come twice, as after a crash."""

import datetime as dt
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr
from sqlmodel import col, select
from telegram import Update

import bot
from agent.protocol import Spending
from bot.accounts.libertai import KeyCheck, KeyState
from bot.accounts.users import Person, Users
from bot.errors import DatabaseLost
from bot.store.database import Database
from bot.store.models import Agent, Configuration, DraftStep, Edit, Machine, MachineState, Phase, TurnFile, Wanted
from bot.telegram import commands, texts
from bot.telegram.application import Updates
from bot.telegram.keyboards import Verb
from bot.telegram.texts import keys
from tests.bot.telegram.desk import AFTER, BEFORE, KEY, TEXTS, Desk, at_check, newest, press, said, send
from tests.fakes.telegram_client import SimUser
from tests.fakes.telegram_views import FaultKind, Feature

# --- the wizard: every update handled twice


async def test_every_update_of_the_wizard_may_be_handled_again(desk: Desk, olga: SimUser) -> None:
    steps = []
    await send(desk, olga, "/create")
    steps.append((await desk.draft(olga)).step)
    await send(desk, olga, "Ada")
    steps.append((await desk.draft(olga)).step)
    await send(desk, olga, "Plan meals.")
    steps.append((await desk.draft(olga)).step)
    await press(desk, olga, "fast")
    draft = await desk.draft(olga)

    assert [*steps, draft.step] == [DraftStep.NAME, DraftStep.JOB, DraftStep.MODEL, DraftStep.CHECK]
    assert (draft.name, draft.job, draft.model) == ("Ada", "Plan meals.", "fast")
    assert len(await said(olga)) == 1, "one message, edited"

    await press(desk, olga, "Deploy")
    agents = await desk.services.agents.owned(olga.id)

    assert [(agent.name, agent.job, agent.model, agent.link) for agent in agents] == [
        ("Ada", "Plan meals.", "fast", draft.link)
    ]
    assert (agents[0].card_message_id, agents[0].card_open) == ((await said(olga))[0].id, True)
    assert await desk.services.drafts.get(olga.id) is None


async def test_parts_of_a_paste_are_joined_once_though_each_is_handled_twice(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create", "Ada", "a" * 4096 + "b" * 3000)

    draft = await desk.draft(olga)
    assert draft.job == "a" * 4096 + "b" * 3000
    assert draft.step is DraftStep.MODEL
    assert len(await said(olga)) == 1


async def test_a_paste_that_is_too_long_is_told_and_none_of_it_can_be_deployed(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create", "Ada", "a" * 9000, times=1)

    texts = [message.text for message in await said(olga)]
    assert texts[-2].startswith("What is Ada's job?")
    assert texts[-1] == "That job has 9,000 characters; 8,000 is the most. Shorten it and send it again."
    assert (await desk.draft(olga)).step is DraftStep.JOB


async def test_a_job_of_many_emoji_gets_its_check_card(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create", "Ada", "🦊" * 4000)
    await press(desk, olga, "fast")

    assert "🦊🦊" in await newest(olga)
    assert (await desk.draft(olga)).step is DraftStep.CHECK


async def test_a_suggested_name_is_the_same_when_the_press_is_handled_again(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create")
    await olga.press("Suggest")
    (update,) = await desk.fetch()
    await desk.application.process_update(update)
    first = (await desk.draft(olga)).name
    await desk.application.process_update(update)

    assert first
    assert (await desk.draft(olga)).name == first


async def test_an_update_of_before_changes_nothing_after_a_later_one(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create")
    await olga.send("Ada")
    (early,) = await desk.fetch()
    await desk.application.process_update(early)
    await press(desk, olga, "Cook")

    await desk.application.process_update(early)

    draft = await desk.draft(olga)
    assert (draft.name, draft.step) == ("Ada", DraftStep.MODEL)


async def test_the_wizard_goes_on_in_a_new_message_when_its_own_was_deleted(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create")
    old = (await desk.draft(olga)).message_id
    await desk.telegram.call("deleteMessage", chat_id=olga.id, message_id=old)

    await send(desk, olga, "Ada")

    (message,) = await said(olga)
    assert "Ada's job?" in message.text
    assert (await desk.draft(olga)).message_id == message.id != old


async def test_a_second_create_goes_on_where_the_draft_is_and_says_so_once(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create", "Ada")
    await send(desk, olga, "/create")

    texts = [message.text for message in await said(olga)]
    assert [text for text in texts if "I kept your draft" in text] == ["I kept your draft. /cancel throws it away."]
    assert "Ada's job?" in texts[-1]
    assert len([text for text in texts if "Ada's job?" in text]) == 1, "the wizard stays one message"


@pytest.mark.parametrize("command", ["/list", "/help", "/account", "/start", "/logout", "/stop", "/new"])
async def test_other_commands_inside_the_wizard_are_answered_and_leave_it_where_it_is(
    desk: Desk, olga: SimUser, command: str
) -> None:
    await send(desk, olga, "/create", "Ada")
    before = len(await said(olga))

    await send(desk, olga, command, times=1)

    assert len(await said(olga)) == before + 1
    assert (await desk.draft(olga)).step is DraftStep.JOB
    await send(desk, olga, "Plan meals.")
    assert (await desk.draft(olga)).step is DraftStep.MODEL


async def test_only_the_model_step_waits_for_the_catalogue(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create", "Ada", times=1)
    assert desk.libertai.looked_up == 0

    await press(desk, olga, "Cook", times=1)
    assert desk.libertai.looked_up == 1


async def test_cancelling_throws_the_draft_away_and_offers_a_new_one(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create", "Ada")
    await press(desk, olga, "Cancel")

    assert await newest(olga) == "Cancelled. Nothing was made."
    assert await desk.services.drafts.get(olga.id) is None
    await press(desk, olga, "Create an agent")
    assert (await desk.draft(olga)).step is DraftStep.NAME


@pytest.mark.parametrize("times", [1, 2])
async def test_the_cancel_command_ends_the_wizards_message(desk: Desk, olga: SimUser, times: int) -> None:
    await send(desk, olga, "/create", "Ada")
    await send(desk, olga, "/cancel", times=times)

    first, *_ = await said(olga)
    assert (first.text, first.buttons) == ("Cancelled. Nothing was made.", [])
    assert await desk.services.drafts.get(olga.id) is None


async def test_a_draft_with_a_missing_answer_is_not_deployed_by_a_made_up_button(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/create")
    draft = await desk.draft(olga)
    for data in ("v1|step|check", f"v1|deploy|{draft.link}", "v1|model|fast", "v1|step|nowhere", "v1|template|x"):
        await made_up(desk, olga, data)

    assert await desk.services.agents.owned(olga.id) == []
    assert (await desk.draft(olga)).step is DraftStep.NAME


async def test_the_limit_is_told_before_the_first_step_and_again_at_deploy(desk: Desk, olga: SimUser) -> None:
    await at_check(desk, olga)
    for name in ("A", "B"):
        await desk.agent(olga, name=name)

    await press(desk, olga, "Deploy", times=1)
    assert (await newest(olga)).startswith("You have 2 agents, and that is the most.")
    assert (await desk.draft(olga)).step is DraftStep.CHECK

    await send(desk, olga, "/cancel", times=1)
    await send(desk, olga, "/create", times=1)
    assert (await newest(olga)).startswith("You have 2 agents, and that is the most.")
    assert await desk.services.drafts.get(olga.id) is None


async def test_without_a_key_to_think_with_nothing_is_deployed_and_the_draft_is_kept(desk: Desk, olga: SimUser) -> None:
    desk.services.agents._has_operator_key = False
    await at_check(desk, olga)
    await press(desk, olga, "Deploy", times=1)
    assert (await newest(olga)).startswith("Agents think with a LibertAI key, and none is connected yet.")
    assert (await desk.draft(olga)).step is DraftStep.CHECK
    await desk.services.users.connect(olga.id, SecretStr(KEY))

    await press(desk, olga, "Deploy")

    assert [agent.name for agent in await desk.services.agents.owned(olga.id)] == ["Ada"]


def test_every_refusal_anywhere_has_its_words() -> None:
    source = "".join(path.read_text() for path in Path(bot.__file__).parent.rglob("*.py"))
    hints = set(re.findall(r'(?:Refused|FileLost)\(\s*"([a-z-]+)"', source)) | {"file-too-big"}

    assert "quota-used" in hints
    assert hints <= keys(files(texts) / "en")


async def made_up(desk: Desk, person: SimUser, data: str) -> None:
    """Press a button with this data, as an old message or a self-written client may hold it."""
    keyboard = {"inline_keyboard": [[{"text": "Made up", "callback_data": data}]]}
    await desk.telegram.call("sendMessage", chat_id=person.id, text="old", reply_markup=keyboard)
    await press(desk, person, "Made up", times=1)


# --- buttons


def test_every_button_has_one_handler() -> None:
    tables = [*commands.PLACES, *commands.OF_MESSAGES, *commands.OF_AGENTS, *commands.OF_DRAFTS]
    tables += [Verb.DEPLOY, *commands.OF_SETTINGS]

    assert sorted(tables) == sorted(Verb)


@pytest.mark.parametrize(
    "data",
    [
        "v0|list|", "v1|frobnicate|1", "junk", "v1|card|", "v1|card|²", "v1|delete!|99", "v1|deploy|nolink",
        f"v1|card|{'9' * 50}", "v1|model|fast",
    ],
)  # fmt: skip
async def test_a_button_without_anything_behind_it_brings_a_fresh_menu(desk: Desk, olga: SimUser, data: str) -> None:
    await made_up(desk, olga, data)

    texts = [message.text for message in await said(olga)][-2:]
    assert texts[0] == "That menu is old. Here is a fresh one."
    assert texts[1].startswith("Baal — your own AI agent")


@pytest.mark.parametrize("data", ["v1|again|x", f"v1|again|{'9' * 50}", "v1|again|1"])
async def test_asking_again_for_nothing_says_so(desk: Desk, olga: SimUser, data: str) -> None:
    await made_up(desk, olga, data)

    assert await newest(olga) == "There is nothing to ask again."


@pytest.mark.parametrize("verb", ["card", "chat", "delete", "delete!", "try"])
async def test_nobody_presses_the_buttons_of_somebody_elses_agent(
    desk: Desk, olga: SimUser, victor: SimUser, verb: str
) -> None:
    agent = await desk.agent(olga, phase=Phase.FAILED)

    await made_up(desk, victor, f"v1|{verb}|{agent.id}")

    assert (await said(victor))[-2].text == "That menu is old. Here is a fresh one."
    assert (await desk.row(agent.id)).generation == agent.generation
    assert await desk.services.chats.agent_id(victor.id) is None


async def test_a_button_counts_although_its_query_is_too_old(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/start")
    await olga.press("My agents")
    await desk.telegram.pass_time(120)

    await desk.handle(times=1)

    assert await newest(olga) == "No agents yet."


# --- start and leave


@pytest.mark.parametrize("payload", ["agent_1", "1", "agent_", "agent_doesnotexist", "AGENT_x", "x' OR 1=1"])
async def test_no_guessed_link_opens_an_agent(desk: Desk, olga: SimUser, victor: SimUser, payload: str) -> None:
    await desk.agent(olga)

    await send(desk, victor, f"/start {payload}")

    assert await newest(victor) == "This link no longer works."
    assert await desk.services.chats.agent_id(victor.id) is None


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Phase.RUNNING, "runs on its own machine"),
        (Phase.RENTING, "still being set up"),
        (Phase.FAILED, "could not be set up"),
    ],
)
async def test_a_visitor_who_opens_a_link_is_told_how_the_agent_is(
    desk: Desk, olga: SimUser, victor: SimUser, phase: Phase, says: str
) -> None:
    agent = await desk.agent(olga, phase=phase, name="<Ada> & Co")

    await send(desk, victor, f"/start agent_{agent.link}")

    assert says in await newest(victor)
    assert "<Ada> & Co" in await newest(victor)
    assert await desk.services.chats.agent_id(victor.id) == agent.id
    assert [command.command for command in await victor.commands()] == ["new", "stop", "manage", "list", "help"]


@pytest.mark.parametrize("how", ["/manage", "/exit", "button"])
async def test_leaving_an_agent_leaves_it(desk: Desk, olga: SimUser, how: str) -> None:
    agent = await desk.agent(olga)
    await send(desk, olga, f"/start agent_{agent.link}")
    await (press(desk, olga, "Leave", times=1) if how == "button" else send(desk, olga, how, times=1))

    assert await newest(olga) == "You left Ada."
    assert await desk.services.chats.agent_id(olga.id) is None
    await send(desk, olga, "hello?")
    assert (await newest(olga)).startswith("You are not talking to an agent yet.")
    assert desk.woken == []


async def test_a_server_without_command_menus_is_none_the_worse(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await desk.telegram.fault(FaultKind.SERVER_ERROR, "setMyCommands", times=9)

    await send(desk, olga, f"/start agent_{agent.link}", "/manage", times=1)

    assert await newest(olga) == "You left Ada."


# --- talking


async def test_a_message_is_accepted_and_charged_once(desk: Desk, talking: SimUser) -> None:
    await send(desk, talking, "hello")

    assert [turn.message for turn in await desk.services.turns.open()] == ["hello"]
    assert desk.woken == [talking.id]
    assert (await desk.services.limits.today(talking.id)).used == 1


async def test_what_waits_is_marked_as_seen_and_one_too_many_is_told(desk: Desk, talking: SimUser) -> None:
    sent = [await talking.send(f"m{number}") for number in range(5)]
    await desk.handle(times=1)

    assert (await newest(talking)).startswith("3 messages are waiting already.")
    assert [turn.message for turn in await desk.services.turns.open()] == ["m0", "m1", "m2", "m3"]
    seen = {message.id for message in await talking.messages() if message.reactions}
    assert seen == {message.id for message in sent[1:4]}


async def test_a_server_without_reactions_answers_all_the_same(desk: Desk, talking: SimUser) -> None:
    await desk.telegram.switch_off(Feature.REACTIONS)

    await send(desk, talking, "one", "two", times=1)

    assert len(await desk.services.turns.open()) == 2


async def test_a_sticker_to_an_agent_is_answered_and_costs_nothing(desk: Desk, talking: SimUser) -> None:
    await talking.sticker()
    await desk.handle(times=1)

    assert await newest(talking) == "Stickers don't work here yet — send text, photo, voice or a file."
    assert (await desk.services.limits.today(talking.id)).used == 0


async def attached(desk: Desk) -> list[tuple[str, list[str]]]:
    """Words and files of the turns that wait."""
    async with desk.services.agents._database.session() as session:
        rows = list(await session.exec(select(TurnFile).order_by(col(TurnFile.update_id))))
    turns = await desk.services.turns.open()
    return [(turn.message, [row.name for row in rows if row.turn_id == turn.id and row.name]) for turn in turns]


@pytest.mark.parametrize("kind", ["document", "voice", "audio", "video", "video_note", "animation", "photo"])
async def test_a_file_to_an_agent_is_a_message(desk: Desk, talking: SimUser, kind: str) -> None:
    await talking.upload("notes.txt", b"notes", mime="text/plain", kind=kind, caption="Read this")
    await desk.handle()

    ((words, names),) = await attached(desk)
    assert (words, len(names)) == ("Read this", 1)
    assert desk.woken == [talking.id]
    assert (await desk.services.limits.today(talking.id)).used == 1


async def test_an_album_to_an_agent_is_one_message_without_reactions(desk: Desk, talking: SimUser) -> None:
    files = [(f"{number}.txt", b"x", "text/plain") for number in range(3)]
    await talking.album(*files, caption="All of them")
    await desk.handle()

    assert await attached(desk) == [("All of them", ["0.txt", "1.txt", "2.txt"])]
    assert (desk.woken, (await desk.services.limits.today(talking.id)).used) == ([talking.id], 1)
    assert not [message for message in await talking.messages() if message.reactions]


async def test_a_file_too_large_is_refused_with_name_and_size_and_costs_nothing(desk: Desk, talking: SimUser) -> None:
    await talking.upload("film <1>.mp4", b"x", size=25_000_000, caption="Look")
    await desk.handle(times=1)

    assert await newest(talking) == (
        "film <1>.mp4 has 23.8 MB, and Telegram gives bots 20 MB at most. Send a smaller file, or a link to it."
    )
    assert await attached(desk) == []
    assert (await desk.services.limits.today(talking.id)).used == 0


async def test_a_file_without_an_agent_to_read_it_is_told_so(desk: Desk, olga: SimUser) -> None:
    await olga.upload("notes.txt", b"notes")
    await desk.handle(times=1)

    assert (await newest(olga)).startswith("You are not talking to an agent yet.")


async def test_the_days_messages_run_out_with_the_time_they_refill(desk: Desk, talking: SimUser) -> None:
    for number in range(6):
        await send(desk, talking, f"m{number}", times=1)
        for turn in await desk.services.turns.open():
            await desk.services.turns.finish(turn, answered=True, is_charged=True)

    assert (await newest(talking)).startswith("You've used today's 5 free messages. They refill in")


async def test_a_fresh_start_forgets_this_chat(desk: Desk, talking: SimUser) -> None:
    (agent,) = await desk.services.agents.owned(talking.id)

    await send(desk, talking, "/new", times=1)

    assert await newest(talking) == "A fresh start: Ada has forgotten this conversation."
    assert desk.route.forgotten == [(agent.id, str(talking.id))]


async def test_a_fresh_start_of_an_agent_that_is_away_is_kept_for_the_next_message(
    desk: Desk, talking: SimUser
) -> None:
    desk.route.is_away = True

    await send(desk, talking, "/new", "Hello again", "And more", times=3)

    told = "A fresh start: Ada is not awake just now, and forgets this conversation before your next message."
    assert await newest(talking) == told
    assert [turn.starts_over for turn in await desk.services.turns.open()] == [True, False]


async def test_stop_without_an_answer_being_written_says_so(desk: Desk, talking: SimUser) -> None:
    await send(desk, talking, "/stop", times=1)

    assert await newest(talking) == "Nothing is being written at the moment."


async def test_opening_a_link_takes_plain_messages_away_from_the_wizard_until_create(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await send(desk, olga, "/create", f"/start agent_{agent.link}", "for the agent")
    assert [turn.message for turn in await desk.services.turns.open()] == ["for the agent"]

    await send(desk, olga, "/create", "Bea")

    assert (await desk.draft(olga)).name == "Bea"


async def test_a_service_message_is_not_answered(desk: Desk, talking: SimUser) -> None:
    before = await said(talking)
    pinned = {"message_id": 900, "date": 1, "chat": {"id": talking.id, "type": "private"}, "text": "x"}
    raw = {
        "update_id": 999_999_999,
        "message": {
            "message_id": 901,
            "date": 1,
            "chat": {"id": talking.id, "type": "private"},
            "from": {"id": talking.id, "is_bot": False, "first_name": "Olga"},
            "pinned_message": pinned,
        },
    }
    await desk.application.process_update(Update.de_json(raw, desk.bot))

    assert desk.errors == []
    assert await said(talking) == before


# --- list, card, delete, try again


async def test_the_list_shows_how_each_agent_is_and_leads_to_its_card(desk: Desk, olga: SimUser) -> None:
    await desk.agent(olga, name="Ada")
    await desk.agent(olga, name="<Bea>", phase=Phase.FAILED)

    await send(desk, olga, "/list", times=1)
    listed = (await said(olga))[-1]
    assert listed.text == "Your agents (2 of 2)"
    assert [line[0].text for line in listed.buttons[:2]] == ["🟢 Ada · running", "🔴 <Bea> · failed"]

    await press(desk, olga, "Bea")
    card = (await said(olga))[-1]
    assert card.id == listed.id
    assert "<Bea> 🔴 failed" in card.text
    edits = ["✏️ Name", "📝 Job", "🧠 Model"]
    assert [[button.text for button in line] for line in card.buttons] == [
        ["⟳ Try again"],
        edits,
        ["💤 Sleep", "⬇ Export"],
        ["🗑 Delete", "◀ Back"],
    ]


@pytest.mark.parametrize(
    ("known", "line"), [({"fast": True}, " · tools: yes"), ({"fast": False}, " · tools: no"), ({}, "")]
)
async def test_the_card_says_whether_the_agent_has_tools_if_that_is_known(
    desk: Desk, olga: SimUser, known: dict[str, bool], line: str
) -> None:
    await desk.agent(olga, name="Ada")
    desk.libertai.tools.update(known)
    await send(desk, olga, "/list", times=1)

    await press(desk, olga, "Ada")

    first, second, *_ = (await said(olga))[-1].text.splitlines()
    assert (first.partition(" · fast · v1")[2], second[:5]) == (line, "t.me/")


def spending(chat_id: str, day: str) -> Spending:
    return Spending(
        chat_id=chat_id,
        day=day,
        turns=6,
        prompt_tokens=1_000,
        cached_tokens=900,
        completion_tokens=200,
        tool_calls=3,
        milliseconds=4,
    )


async def test_the_card_tells_what_the_agent_did_today(desk: Desk, olga: SimUser) -> None:
    await desk.agent(olga, name="Ada")
    today = dt.datetime.now(dt.UTC).date()
    days = [today, today, today - dt.timedelta(days=1)]
    desk.route.spent = [spending(str(number), day.isoformat()) for number, day in enumerate(days)]
    await send(desk, olga, "/list", times=1)

    await press(desk, olga, "Ada")

    assert (await newest(olga)).splitlines()[1] == "Today: 12 messages, 2,400 tokens"


async def test_the_card_tells_what_a_paid_machine_costs(desk: Desk, olga: SimUser, database: Database) -> None:
    agent = await desk.agent(olga, name="Ada")
    machine = Machine(agent_id=agent.id or 0, provider="aleph", state=MachineState.ACTIVE, credits_per_hour=100.0)
    month = dt.datetime.now(dt.UTC).replace(day=1, hour=0, minute=0, second=0).timestamp()
    machine.created_at, machine.gone_at = month, month + 2 * 3600
    async with database.session() as session:
        session.add(machine)
    await send(desk, olga, "/list", times=1)

    await press(desk, olga, "Ada")

    assert "This month: awake for 2 hours, 200 credits; 30 days like now: 72,000" in await newest(olga)


async def test_the_card_comes_without_usage_of_an_agent_that_does_not_tell(desk: Desk, olga: SimUser) -> None:
    await desk.agent(olga, name="Ada")
    await desk.agent(olga, name="Bea", phase=Phase.WAITING)
    for name in ("Ada", "Bea"):
        await send(desk, olga, "/list", times=1)
        await press(desk, olga, name)

        assert (await newest(olga)).splitlines()[1].startswith("t.me/")
        desk.route.spent = []


async def test_a_long_list_has_pages(desk: Desk, olga: SimUser) -> None:
    desk.services.agents.limit = 20
    made = [await desk.agent(olga, name=f"A{number}") for number in range(10)]
    await send(desk, olga, "/list", times=1)
    first = (await said(olga))[-1]

    await press(desk, olga, AFTER)
    second = (await said(olga))[-1]
    await desk.observe(made[0].id, wanted=Wanted.DELETED)
    await desk.observe(made[1].id, wanted=Wanted.DELETED)
    await made_up(desk, olga, "v1|page|7")
    shortened = (await said(olga))[-1]

    create = TEXTS.speak("en").plain("create")
    assert first.text == "Your agents (10 of 20) · page 1 of 2"
    assert [row[-1].text for row in first.buttons[-3:]] == ["🟢 A7 · running", AFTER, create]
    assert (second.id, second.text) == (first.id, "Your agents (10 of 20) · page 2 of 2")
    assert [[button.text for button in row] for row in second.buttons] == [
        ["🟢 A8 · running"], ["🟢 A9 · running"], [BEFORE], [create],
    ]  # fmt: skip
    assert (shortened.text, len(shortened.buttons)) == ("Your agents (8 of 20)", 9)


async def test_deleting_twice_is_one_job_and_no_complaint(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await send(desk, olga, f"/delete {agent.link}", times=1)
    before = len(await said(olga))
    question = (await said(olga))[-1]
    await olga.press("Yes, delete it")
    await olga.press("Yes, delete it", message_id=question.id)
    await desk.handle()

    row = await desk.row(agent.id)
    assert (row.wanted, row.phase, row.generation) == (Wanted.DELETED, Phase.DELETING, agent.generation + 1)
    assert (row.card_message_id, row.card_open) == (question.id, True)
    assert len(await said(olga)) == before, "the question becomes the card; nothing else is said"


async def test_delete_without_a_link_asks_which_one_if_there_is_one(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/delete", times=1)
    assert await newest(olga) == "No agents yet."
    await desk.agent(olga)

    await send(desk, olga, "/delete", times=1)

    assert (await newest(olga)).startswith("Which one?")


async def test_keeping_it_brings_the_card_back(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await send(desk, olga, f"/delete https://t.me/baal_bot?start=agent_{agent.link}", times=1)
    assert "kept for 7 days" in await newest(olga)

    await press(desk, olga, "Keep it")

    assert "Ada 🟢 running" in await newest(olga)
    assert (await desk.row(agent.id)).wanted is Wanted.ON


@pytest.mark.parametrize("words", ["nolink", "1", "agent_1"])
async def test_only_ones_own_agent_is_deleted_and_by_link_only(
    desk: Desk, olga: SimUser, victor: SimUser, words: str
) -> None:
    agent = await desk.agent(olga)

    await send(desk, olga, f"/delete {words}", times=1)
    await send(desk, victor, f"/delete {agent.link}", times=1)

    for person in (olga, victor):
        assert (await newest(person)).startswith("There is no agent of yours")
    assert (await desk.row(agent.id)).wanted is Wanted.ON


async def test_trying_again_twice_is_one_wish(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga, phase=Phase.FAILED)
    await send(desk, olga, "/list", times=1)
    await press(desk, olga, "Ada")

    await press(desk, olga, "Try again")

    row = await desk.row(agent.id)
    assert (row.phase, row.generation, row.card_open) == (Phase.WAITING, agent.generation + 1, True)


# --- account


async def test_a_key_is_deleted_from_the_chat_and_connected(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    desk.libertai.keys[KEY] = KeyCheck(KeyState.GOOD)
    await send(desk, olga, "/login", times=1)
    sent = await olga.send(KEY)
    await desk.handle(times=1)

    assert await newest(olga) == "✅ Connected as …f3a9. Your agents now think on your key."
    assert sent.id not in [message.id for message in await olga.messages()]
    assert desk.fleet.nudged == [agent.id]
    key = await desk.services.users.key(olga.id)
    assert key
    assert key.get_secret_value() == KEY


async def test_the_wait_for_a_key_is_cancelled_and_the_next_message_is_none(desk: Desk, olga: SimUser) -> None:
    desk.libertai.keys[KEY] = KeyCheck(KeyState.GOOD)
    await send(desk, olga, "/login", "/cancel", times=1)
    assert await newest(olga) == "Cancelled. I am not waiting for a key any more."

    await send(desk, olga, "hello", times=1)

    assert (await newest(olga)).startswith("You are not talking to an agent yet.")


async def test_a_key_handled_again_is_not_said_to_stand_in_the_chat_still(desk: Desk, olga: SimUser) -> None:
    desk.libertai.keys[KEY] = KeyCheck(KeyState.GOOD)

    await send(desk, olga, f"/login {KEY}", times=2)

    assert [message.text for message in await said(olga)] == [
        "✅ Connected as …f3a9. Your agents now think on your key."
    ] * 2


async def test_a_key_that_cannot_be_deleted_is_the_persons_to_delete(desk: Desk, olga: SimUser) -> None:
    desk.libertai.keys[KEY] = KeyCheck(KeyState.GOOD)
    await desk.telegram.fault(FaultKind.SERVER_ERROR, "deleteMessage")

    await send(desk, olga, f"/login {KEY}", times=1)

    assert (await said(olga))[0].text == ("I could not delete your message with the key. Please delete it yourself.")


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (KeyCheck(KeyState.UNKNOWN), "LibertAI does not know this key."),
        (KeyCheck(KeyState.BLOCKED, "no_credits"), "the account has no credits. It was not stored."),
        (KeyCheck(KeyState.BLOCKED, "brand_new_reason"), "no reason given. It was not stored."),
    ],
)
async def test_a_key_that_is_not_good_is_not_stored(desk: Desk, olga: SimUser, check: KeyCheck, says: str) -> None:
    desk.libertai.keys[KEY] = check

    await send(desk, olga, f"/login {KEY}", times=1)

    assert says in await newest(olga)
    assert await desk.services.users.key(olga.id) is None


async def test_a_key_is_not_stored_while_libertai_is_away(desk: Desk, olga: SimUser) -> None:
    desk.libertai.is_away = True

    await send(desk, olga, f"/login {KEY}", times=1)

    assert "It was not stored; try again in a minute." in await newest(olga)
    assert await desk.services.users.key(olga.id) is None


async def test_the_account_tells_key_usage_messages_and_agents(desk: Desk, olga: SimUser) -> None:
    await desk.agent(olga)
    await send(desk, olga, "/account", times=1)
    assert "LibertAI: not connected" in await newest(olga)
    await desk.services.users.connect(olga.id, SecretStr(KEY))

    await send(desk, olga, "/account", times=1)
    assert await newest(olga) == (
        "Account\nLibertAI: connected (…f3a9)\nPlan Go: 12 % of 5 hours used, 3 % of the week, $4.20 extra\n"
        "Today: 0 of 5 free messages\nAgents: 1 of 2"
    )
    desk.libertai.is_away = True
    await send(desk, olga, "/account", times=1)
    assert "LibertAI did not say how much is used just now." in await newest(olga)


async def test_logging_out_forgets_the_key_and_tells_the_agents(desk: Desk, olga: SimUser) -> None:
    agent = await desk.agent(olga)
    await send(desk, olga, "/logout", times=1)
    assert await newest(olga) == "No key is connected."
    await desk.services.users.connect(olga.id, SecretStr(KEY))

    await press_account(desk, olga, "Disconnect")

    assert (await newest(olga)).startswith("Disconnected.")
    assert await desk.services.users.key(olga.id) is None
    assert desk.fleet.nudged == [agent.id]


async def press_account(desk: Desk, person: SimUser, button: str) -> None:
    await send(desk, person, "/account", times=1)
    await press(desk, person, button, times=1)


# --- a database that goes away


class LostUsers:
    """Rows that cannot be reached."""

    async def meet(self, _person: Person) -> None:
        raise DatabaseLost("the connection broke")


async def test_what_was_being_handled_when_the_database_was_lost_is_left_to_the_next_start(
    desk: Desk, olga: SimUser
) -> None:
    updates = Updates()
    updates.serve(replace(desk.services, users=cast("Users", LostUsers())))
    await olga.send("/start")
    (lost,) = await desk.fetch()

    updates.dispatch(lost)
    await updates.drain()

    assert [update.update_id for update in await desk.services.inbox.waiting()] == [lost.update_id]
    assert await said(olga) == [], "no apology: it will be answered"


# --- groups


async def test_a_key_in_a_group_is_deleted_warned_about_and_not_connected(desk: Desk, olga: SimUser) -> None:
    desk.libertai.keys[KEY] = KeyCheck(KeyState.GOOD)
    group = await desk.telegram.group("Friends", by=olga, admin=True)
    sent = await olga.send(f"/login {KEY}", chat=group)
    await desk.handle(times=1)

    assert "treat it as leaked" in await newest(olga, group)
    assert sent.id not in [message.id for message in await olga.messages(chat=group)]
    assert await desk.services.users.key(olga.id) is None


async def test_commands_in_a_group_are_sent_to_the_private_chat(desk: Desk, olga: SimUser) -> None:
    group = await desk.telegram.group("Friends", by=olga, admin=True)
    await olga.send("/create", chat=group)
    await desk.handle(times=1)

    assert await newest(olga, group) == f"I work in private chats. Write to me there: t.me/{desk.telegram.username}"
    assert await desk.services.drafts.get(olga.id) is None


@pytest.mark.parametrize("words", ["/create@some_other_bot", "hello all"])
async def test_what_is_not_for_the_bot_in_a_group_is_not_answered(desk: Desk, olga: SimUser, words: str) -> None:
    group = await desk.telegram.group("Friends", by=olga, admin=True)
    await olga.send(words, chat=group)
    await desk.handle(times=1)

    assert [message.text for message in await said(olga, group) if not message.service] == []


# --- changing an agent


async def version(desk: Desk, agent: Agent) -> int:
    async with desk.services.agents._database.session() as session:
        configuration = await session.get(Configuration, agent.id)
    return configuration.version if configuration else 0


async def at_card(desk: Desk, person: SimUser) -> Agent:
    made = await desk.agent(person)
    await send(desk, person, "/list", times=1)
    await press(desk, person, "Ada")
    return made


async def test_an_agent_is_renamed_by_the_next_message_once(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Name")
    assert "What should Ada be called?" in await newest(olga)

    await send(desk, olga, "Chef   Bob")

    assert (await desk.row(made.id)).name == "Chef Bob"
    assert await version(desk, made) == 1
    assert set(desk.fleet.configured) == {made.id}
    text = (await said(olga))[-1].text
    assert text.startswith("✅ Changed.")
    assert "Chef Bob 🟢 running" in text
    await send(desk, olga, "Hello")
    assert (await desk.row(made.id)).name == "Chef Bob", "only the answer is one"


async def test_a_job_is_changed_and_the_rest_of_a_cut_paste_belongs_to_it(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Job")
    assert "cooks" in await newest(olga)

    await send(desk, olga, "a" * 4096 + "b" * 100)

    assert (await desk.row(made.id)).job == "a" * 4096 + "b" * 100


async def test_what_follows_a_short_job_at_once_is_no_part_of_it(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Job")
    await send(desk, olga, "Sing.", "Hello!")
    assert (await desk.row(made.id)).job == "Sing."


async def test_a_job_that_is_too_long_together_is_told_and_changes_nothing(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Job")
    await send(desk, olga, "a" * 9000)
    assert (await desk.row(made.id)).job == "cooks"
    assert any("8,000 is the most" in message.text for message in await said(olga))

    assert [message.text for message in await said(olga) if "✅" in message.text] == []

    async with desk.services.agents._database.session() as session:
        (await session.get_one(Edit, olga.id)).answered_at -= 60  # some time later
    await send(desk, olga, "Sing.")

    assert (await desk.row(made.id)).job == "Sing."


async def test_a_model_is_changed_by_a_button(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Model")
    assert "fast: $0.2 in" in await newest(olga)

    await press(desk, olga, "smart")

    assert (await desk.row(made.id)).model == "smart"
    assert await version(desk, made) == 1
    assert "smart" in await newest(olga)


async def test_an_agent_that_is_away_is_told_later(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    desk.fleet.is_away = True
    await press(desk, olga, "Name")
    await send(desk, olga, "Bob")
    assert (await newest(olga)).startswith("✅ Saved. Bob hears of it")
    assert (await desk.row(made.id)).name == "Bob"


@pytest.mark.parametrize(("words", "told"), [(" ", None), ("\u200b", "name-empty"), ("x" * 41, "name-too-long")])
async def test_a_name_that_is_none_is_told_and_asked_for_again(
    desk: Desk, olga: SimUser, words: str, told: str | None
) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Name")
    if told:
        await send(desk, olga, words, times=1)
        assert "✅" not in await newest(olga)
    assert (await desk.row(made.id)).name == "Ada"
    await send(desk, olga, "Bob")
    assert (await desk.row(made.id)).name == "Bob"


@pytest.mark.parametrize("way", ["Back", "/cancel", "/list", "/create"])
async def test_a_question_about_an_agent_is_over_when_its_owner_does_something_else(
    desk: Desk, olga: SimUser, way: str
) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Name")
    if way.startswith("/"):
        await send(desk, olga, way, times=1)
    else:
        await press(desk, olga, way)
    await send(desk, olga, "Bob", times=1)
    assert (await desk.row(made.id)).name == "Ada"


async def test_only_its_owner_changes_an_agent(desk: Desk, olga: SimUser, victor: SimUser) -> None:
    made = await at_card(desk, olga)
    mine = await desk.agent(victor, name="Vic")
    await send(desk, victor, "/list", times=1)
    await press(desk, victor, "Vic")
    await press(desk, victor, "Name")
    async with desk.services.agents._database.session() as session:
        (await session.get_one(Edit, victor.id)).agent_id = made.id or 0
    await send(desk, victor, "Mallory", times=1)
    assert (await desk.row(made.id)).name == "Ada"
    assert (await desk.row(mine.id)).name == "Vic"


async def test_a_question_expires(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Name")
    desk.services.edits._clock = lambda: 9_999_999_999.0
    await send(desk, olga, "Bob", times=1)
    assert (await desk.row(made.id)).name == "Ada"


async def test_pressing_a_model_that_nobody_was_asked_for_is_an_old_menu(desk: Desk, olga: SimUser) -> None:
    made = await at_card(desk, olga)
    await press(desk, olga, "Model")
    async with desk.services.agents._database.session() as session:
        await session.delete(await session.get_one(Edit, olga.id))
    await press(desk, olga, "smart", times=1)
    assert (await desk.row(made.id)).model == "fast"
