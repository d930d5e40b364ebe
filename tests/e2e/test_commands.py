"""Every command and screen, and what people do that they should not, through the Bot API double."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
import pytest_asyncio

from scripts.demo_check import ask, make_agent
from tests.agent.conftest import as_written
from tests.fakes.libertai_sim import Ending, KeyState, Script

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

KEY = "LTAI_olgas_own_key_f3a9"


@pytest_asyncio.fixture(loop_scope="module")
async def olga(baal):
    return await baal.telegram.user(name="Olga")


async def at_step(person, step):
    """Go to a step of the wizard."""
    await person.send("/create")
    await person.wait_for("called?")
    if step in {"job", "model", "check"}:
        await person.send("Ada")
        await person.wait_for("job?")
    if step in {"model", "check"}:
        await person.send("Answer briefly.")
        await person.wait_for("Pick a model")
    if step == "check":
        await person.press("scripted")
        await person.wait_for("Check", button="Deploy")


# --- start, help, links


async def test_start_welcomes_and_every_button_of_it_leads_somewhere_and_back(olga):
    await olga.send("/start")
    for button, shows in (
        ("My agents", "No agents yet"),
        ("Account", "LibertAI: not connected"),
        ("How it works", "1. /create"),
    ):
        await olga.send("/start")
        await olga.wait_for("your own AI agent")
        await olga.press(button)
        await olga.wait_for(shows)
    await olga.press("Back")
    await olga.wait_for("your own AI agent")


async def test_help_names_every_command(olga):
    await olga.send("/help")

    text = (await olga.wait_for("Talking")).text

    for command in (
        "create",
        "list",
        "delete",
        "export",
        "import",
        "new",
        "stop",
        "manage",
        "login",
        "logout",
        "account",
    ):
        assert f"/{command}" in text


@pytest.mark.parametrize(
    "payload", ["agent_1", "agent_doesnotexist", "agent_", "nonsense", "agent_'; DROP TABLE agent"]
)
async def test_a_link_to_nothing_says_so_and_offers_an_own_agent(olga, payload):
    await olga.send(f"/start {payload}")

    await olga.wait_for("This link no longer works.", button="Create your own")


async def test_words_without_an_agent_are_answered_with_what_to_do(olga):
    await olga.send("hello?")

    await olga.wait_for("You are not talking to an agent yet", button="Create an agent")


async def test_an_unknown_command_shows_the_help(olga):
    await olga.send("/frobnicate")

    await olga.wait_for("/create: make an agent")


@pytest.mark.parametrize(
    "data", ["v0|list|", "v1|frobnicate|1", "v1|card|999", "v1|delete!|1", "v1|deploy|nolink", "junk"]
)
async def test_a_button_that_is_old_or_not_theirs_shows_a_fresh_menu(baal, olga, data):
    await baal.telegram.call(
        "sendMessage",
        chat_id=olga.id,
        text="old",
        reply_markup={"inline_keyboard": [[{"text": "Old", "callback_data": data}]]},
    )

    await olga.press("Old")

    await olga.wait_for("your own AI agent")
    assert "That menu is old" in await olga.transcript()


# --- the wizard


async def test_the_wizard_is_one_message_that_is_edited(olga):
    await at_step(olga, "check")

    wizard = [message for message in await olga.messages() if message.from_bot]

    assert len(wizard) == 1
    assert wizard[0].edits == 3


@pytest.mark.parametrize(
    "name", ["🦊", "👩‍🍳👨‍👩‍👧‍👦", "مساعد الطبخ", "Ada\nLovelace", "x" * 40, "<b>&amp;</b>", "Vec<T>", "_*[`"]
)
async def test_odd_names_are_taken(olga, name):
    await at_step(olga, "name")
    await olga.send(name)

    text = (await olga.wait_for("job?")).text

    assert name.replace("\n", " ") in text.replace("\u2068", "").replace("\u2069", "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x" * 41, "That name has 41 characters; 40 is the most"),
        ("x" * 4000, "That name has 4,000 characters"),
        ("\u200b\u200b", "at least one visible character"),
    ],
)
async def test_names_that_are_none_are_refused_and_asked_again(olga, name, says):
    await at_step(olga, "name")
    await olga.send(name)
    await olga.wait_for(says)

    await olga.send("Ada")

    await olga.wait_for("Ada's job?")


@pytest.mark.parametrize("job", ["🦊🦊🦊", "كن مساعدا لطيفا", "Use Vec<T> & ```unclosed", "x" * 5000])
async def test_odd_jobs_are_taken(olga, job):
    await at_step(olga, "job")
    await olga.send(job)

    await olga.wait_for("Pick a model")


async def test_a_long_paste_that_telegram_splits_is_one_job(olga):
    await at_step(olga, "job")
    await olga.send("a" * 4000 + "b" * 3000)
    await olga.wait_for("Pick a model")
    await olga.press("scripted")
    check = await olga.wait_for("Check", button="Deploy")

    assert "Name: Ada" in check.text
    await olga.press("✏ Job")
    await olga.wait_for("job?")
    await olga.send("c" * 4000 + "d" * 4096 + "e")
    await olga.wait_for("That job has 8,097 characters; 8,000 is the most")


async def test_a_job_comes_from_a_text_file_too(olga):
    await at_step(olga, "job")
    await olga.upload("job.txt", "Übersetze alles.".encode(), mime="text/plain")
    await olga.wait_for("Pick a model")
    await olga.press("scripted")

    await olga.wait_for("Übersetze alles.", button="Deploy")


@pytest.mark.parametrize(
    ("name", "content", "size", "says"),
    [
        ("job.pdf", b"%PDF", None, "plain .txt file"),
        ("job.txt", b"\xff\xfe\x00", None, "plain .txt file"),
        ("job.txt", b"x", 30_000_000, "8,000 is the most"),
    ],
)
async def test_files_that_are_no_job_are_refused(olga, name, content, size, says):
    await at_step(olga, "job")
    await olga.upload(name, content, size=size)

    await olga.wait_for(says)


async def test_a_sticker_in_the_wizard_is_answered_and_the_wizard_goes_on(olga):
    await at_step(olga, "name")
    await olga.sticker()
    await olga.wait_for("That doesn't work here")

    await olga.send("Ada")

    await olga.wait_for("job?")


async def test_words_where_a_button_is_wanted_are_told_so(olga):
    await at_step(olga, "check")
    await olga.sim.pass_time(10)
    await olga.send("yes please")

    await olga.wait_for("choose with one of the buttons")


async def test_back_suggest_templates_and_edits_work(olga):
    await at_step(olga, "name")
    await olga.press("Suggest")
    await olga.wait_for("job?")
    await olga.press("Back")
    await olga.wait_for("called?")
    await olga.send("Ada")
    await olga.wait_for("Ada's job?")
    await olga.press("Cook")
    await olga.wait_for("Pick a model")
    await olga.press("scripted")
    await olga.wait_for("Plan meals", button="Deploy")
    await olga.press("✏ Name")
    await olga.wait_for("called?")
    await olga.send("Bea")
    check = await olga.wait_for("Check", button="Deploy")
    assert "Name: Bea" in check.text


async def test_other_commands_work_inside_the_wizard_and_leave_it_where_it_is(olga):
    await at_step(olga, "job")
    await olga.send("/list")
    await olga.wait_for("No agents yet")
    await olga.send("/create")
    await olga.wait_for("job?")

    await olga.send("Answer briefly.")

    await olga.wait_for("Pick a model")


@pytest.mark.parametrize("how", ["/cancel", "button"])
async def test_cancelling_throws_the_draft_away(olga, how):
    await at_step(olga, "job")
    await (olga.send("/cancel") if how == "/cancel" else olga.press("Cancel"))
    await olga.wait_for("Cancelled")

    await olga.send("Ada")

    await olga.wait_for("not talking to an agent")


# --- deploy, list, card, delete


async def press_twice(person, button):
    """A fast double tap."""
    message = await person.wait_for(button=button, anywhere=True)
    await asyncio.gather(*(person.press(button, message_id=message.id) for _ in range(2)))


async def test_pressing_deploy_and_delete_twice_is_one_job_each(baal, olga):
    await at_step(olga, "check")
    await press_twice(olga, "Deploy")
    await olga.wait_for("Ada is live", timeout=30)
    await olga.send("/list")
    listed = await olga.wait_for("Your agents")
    assert "(1 of 3)" in listed.text
    assert len(list((baal.folder / "data" / "machines").iterdir())) == 1

    await olga.press("Ada")
    await olga.wait_for("Answer briefly.", button="Delete")
    await olga.press("Delete")
    await olga.wait_for("Delete Ada?")
    await press_twice(olga, "Yes, delete it")
    await olga.wait_for("Ada is deleted. Its machine was stopped at", timeout=30)

    await olga.send("/list")
    await olga.wait_for("No agents yet")


async def test_the_limit_of_agents_is_told_before_the_first_step(baal, olga):
    for name in ("A", "B", "C"):
        await make_agent(olga, name=name, job="Answer briefly.")

    await olga.send("/create")

    await olga.wait_for("You have 3 agents, and that is the most")


async def test_delete_takes_the_link_id_and_only_the_owners(baal, olga):
    link = await make_agent(olga, name="Ada", job="Answer briefly.")
    victor = await baal.telegram.user(name="Victor")
    await victor.send(f"/delete {link.rpartition('=')[2]}")
    await victor.wait_for("There is no agent of yours")
    await victor.open(link)
    await victor.wait_for("Ada")

    await olga.send("/delete")
    await olga.wait_for("Which one?", button="Ada")
    await olga.send(f"/delete {link.rpartition('_')[2]}")
    await olga.wait_for("Delete Ada?")
    await olga.press("Yes, delete it")
    await olga.wait_for("Ada is deleted", timeout=30)

    await victor.send("still there?")
    await victor.wait_for("not talking to an agent")
    await victor.open(link)
    await victor.wait_for("This link no longer works.")


# --- talking


@pytest_asyncio.fixture(loop_scope="module")
async def talking(baal, olga):
    await make_agent(olga, name="Ada", job="Answer briefly.")
    await olga.press("Chat")
    await olga.wait_for("You are talking to your agent")
    return olga


async def test_messages_sent_quickly_are_answered_in_order_and_one_too_many_is_told(baal, talking):
    await baal.libertai.script(
        Script(text="one", hold_after=0), *(Script(text=text) for text in ("two", "three", "four"))
    )
    sent = [await talking.send(f"m{number}") for number in range(5)]
    await talking.wait_for("3 messages are waiting already", anywhere=True)
    await baal.libertai.release()
    await talking.wait_for("four", timeout=30, anywhere=True)

    said = [message.text for message in await talking.messages() if message.from_bot]
    assert [text for text in said if text in {"one", "two", "three", "four"}] == ["one", "two", "three", "four"]
    waiting = {message.id: [reaction.emoji for reaction in message.reactions] for message in await talking.messages()}
    assert waiting[sent[1].id] == ["👀"]


async def test_stop_keeps_what_was_said_and_retry_asks_again(baal, talking):
    text = " ".join(f"word{number}" for number in range(40))
    await baal.libertai.script(Script(text=text, hold_after=20))
    await talking.send("Count.")
    await talking.wait_for("word5", button="Stop")
    await talking.send("/stop")
    stopped = await talking.wait_for("⏹ Stopped", button="Retry")
    assert "word5" in stopped.text

    await baal.libertai.reply("All.")
    await talking.press("Retry")

    await talking.wait_for("All.")


async def test_a_stop_button_of_an_answer_that_is_over_is_taken_away_and_stops_nothing_else(baal, talking):
    await baal.telegram.call(
        "sendMessage",
        chat_id=talking.id,
        text="an old piece",
        reply_markup={"inline_keyboard": [[{"text": "⏹ Stop", "callback_data": "v1|stop|u1"}]]},
    )
    old = await talking.wait_for("an old piece")
    await baal.libertai.script(Script(text=" ".join(f"word{number}" for number in range(40)), hold_after=20))
    await talking.send("Count.")
    await talking.wait_for("word5", button="Stop")

    await talking.press("Stop", message_id=old.id)

    await talking.wait_for("an old piece", message_id=old.id)
    await baal.libertai.release()
    assert "word39" in (await talking.wait_for("word39")).text


async def test_a_fresh_start_forgets_the_conversation(baal, talking):
    await baal.libertai.reply("Noted.")
    await ask(talking, "My name is Olga.")
    await talking.send("/new")
    await talking.wait_for("has forgotten this conversation")
    await baal.libertai.reply("Who?")
    await ask(talking, "Who am I?")

    said = (await baal.libertai.calls(2))[-1].messages
    assert [message["content"] for message in as_written(said)] == ["Who am I?"]


async def test_leaving_an_agent_by_manage(talking):
    await talking.send("/manage")
    await talking.wait_for("You left Ada")
    await talking.send("hello?")

    await talking.wait_for("not talking to an agent")


async def test_a_sticker_to_an_agent_is_answered_with_what_works(talking):
    await talking.sticker()

    await talking.wait_for("don't work here yet — send text")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (Script(status=503), "overloaded"),
        (Script(status=500), ""),
        (Script(text="half of it " * 20, tokens=5, ending=Ending.SILENT), ""),
        (Script(text="half of it " * 20, tokens=5, ending=Ending.RESET), ""),
        (Script(body="<html>502 Bad Gateway</html>", content_type="text/html"), ""),
    ],
)
async def test_a_model_server_that_fails_for_good_is_told_in_words_and_can_be_retried(baal, talking, script, says):
    await baal.libertai.script(script, script)
    await talking.send("Hi")
    failed = await talking.wait_for("⚠️", button="Retry", timeout=30)
    assert says in failed.text
    for word in ("Traceback", "Error", "Exception", "HTTP", "html"):
        assert word not in failed.text

    await baal.libertai.reply("Better now.")
    await talking.press("Retry")

    answer = await talking.wait_for("Better now.", timeout=30)
    assert answer.text == "Better now."


async def test_a_stream_that_is_cut_once_is_asked_again_by_itself(baal, talking):
    await baal.libertai.script(
        Script(text="half of it", tokens=1, ending=Ending.SILENT), Script(text="The whole answer.")
    )

    assert await ask(talking, "Hi", timeout=30) == "The whole answer."


@pytest.mark.parametrize(
    "reply",
    [
        "word **bold** " * 1500,
        "```python\nprint('never closed')\n" * 20,
        "Use Vec<T> and List<String>.",
        "<think>x</think>\u2028 [a](b",
        "🦊" * 3000,
    ],
)
async def test_hard_replies_are_shown_without_a_refusal(baal, talking, reply):
    await baal.libertai.reply(reply)
    await talking.send("Go.")
    await talking.wait_whole(timeout=60)

    if "Vec" in reply:
        assert "Use Vec<T> and List<String>." in await talking.transcript()


async def test_the_days_free_messages_run_out_with_the_time_they_refill(baal, talking):
    def use_up():
        with closing(sqlite3.connect(baal.folder / "data" / "baal.sqlite", timeout=30)) as database, database:
            database.execute("INSERT INTO dailyusage VALUES (?, date('now'), 50)", (talking.id,))

    # In a thread: the bot is in this loop, and goes on with whatever it is writing.
    await asyncio.to_thread(use_up)

    await talking.send("one more")

    await talking.wait_for("You've used today's 50 free messages. They refill in")


# --- account


async def test_a_key_is_deleted_from_the_chat_checked_and_never_stored_in_clear(baal, olga):
    await baal.libertai.set_key(KEY)
    await olga.send("/login")
    await olga.wait_for("Send the key as your next message")

    sent = await olga.send(KEY)

    await olga.wait_for("Connected as …f3a9")
    assert sent.id not in [message.id for message in await olga.messages()]
    assert KEY.encode() not in baal.dump()
    await olga.send("/account")
    await olga.wait_for("connected (…f3a9)")
    await olga.send("/logout")
    await olga.wait_for("Disconnected")


@pytest.mark.parametrize(
    ("key", "state", "says"),
    [
        ("LTAI_nobody_knows", None, "does not know this key"),
        ("LTAI_over", KeyState.EXPIRED, "it has expired"),
        ("LTAI_poor", KeyState.NO_CREDITS, "the account has no credits"),
    ],
)
async def test_a_key_that_is_not_good_is_refused_with_the_reason(baal, olga, key, state, says):
    if state:
        await baal.libertai.set_key(key, state)

    await olga.send(f"/login {key}")

    await olga.wait_for(says)
    await olga.send("/account")
    await olga.wait_for("LibertAI: not connected")


async def test_a_connected_key_reaches_the_agents_that_are_there(baal, talking):
    await baal.libertai.set_key(KEY)
    await talking.send(f"/login {KEY}")
    await talking.wait_for("Connected as …f3a9")
    await baal.libertai.reply("On your key.")

    assert await ask(talking, "Hi", timeout=60) == "On your key."

    assert (await baal.libertai.calls(1))[-1].authorization == f"Bearer {KEY}"


async def test_a_group_is_told_to_write_in_private(baal, olga):
    group = await baal.telegram.group("Friends", by=olga)
    await olga.send("/create", chat=group)

    await olga.wait_for("I work in private chats", chat=group)
