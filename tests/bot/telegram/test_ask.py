"""An agent's question and its buttons, from the event to the next turn; presses may come twice, as after a crash."""

from contextlib import suppress

import pytest
from telegram.ext import ExtBot

from agent.protocol import Ask, Done, ErrorKind, Event, Failed, Restart, Text
from bot.chat import turns
from bot.chat.turns import MAX_WAITING
from bot.errors import Refused
from bot.store.models import Offer
from bot.telegram.limiter import Limiter
from bot.telegram.relay import Conversation, Outcome, Relay
from bot.telegram.transport import AiohttpRequest
from tests.bot.telegram.desk import TEXTS, Desk, newest, press, said, send
from tests.bot.telegram.test_relay import LONG, Events, buttons, stage
from tests.fakes.telegram_client import SimUser
from tests.fakes.telegram_views import FaultKind, MessageView

__all__ = ["stage"]

DONE = Done(seq=9)
LONG_OPTION = "The one with the mushrooms, without cream, and for two people"


def asked(question: str, *options: str) -> Ask:
    return Ask(seq=2, question=question, options=options)


# --- what it looks like


async def test_a_question_ends_the_answer_with_a_button_for_each_option(stage):
    events = Events(Text(seq=1, text="Two ways."), asked("Which **one**?", "By hand", "With a machine that does it"))

    events.say(DONE)
    await stage.finish(stage.show(events))

    [message] = await stage.messages()
    assert message.text == "Two ways.\n\nWhich one?"
    assert message.entities == [{"type": "bold", "offset": 17, "length": 3}]
    assert buttons(message) == [("By hand", "v1|choose|t1|0"), ("With a machine that does it", "v1|choose|t1|1")]
    assert stage.journal.offered == {"t1": ["By hand", "With a machine that does it"]}


async def test_a_question_alone_is_the_whole_answer(stage):
    await stage.finish(stage.show(Events(asked("Tea?", "Yes", "No"), DONE)))

    [message] = await stage.messages()
    assert (message.text, [[button.text for button in row] for row in message.buttons]) == ("Tea?", [["Yes", "No"]])


async def test_text_after_the_question_stands_before_it_and_while_it_is_written_there_are_no_answers(stage):
    events = Events(asked("Tea?", "Yes"), Text(seq=3, text=LONG))
    showing = stage.show(events)

    growing = await stage.after(0, LONG)
    events.say(DONE)
    await stage.finish(showing)

    assert [label for label, _ in buttons(growing)] == ["⏹ Stop"]
    assert await stage.texts() == [f"{LONG}\n\nTea?"]


async def test_a_turn_that_starts_over_asks_nothing_of_before(stage):
    await stage.finish(stage.show(Events(asked("Tea?", "Yes"), Restart(seq=3), Text(seq=4, text="Hi"), DONE)))

    [message] = await stage.messages()
    assert (message.text, buttons(message), stage.journal.offered) == ("Hi", [], {})


async def test_a_turn_that_failed_asks_nothing(stage):
    failed = Failed(seq=3, kind=ErrorKind.BUSY, text="Busy.", retryable=True)

    await stage.finish(stage.show(Events(asked("Tea?", "Yes"), failed)))

    [message] = await stage.messages()
    assert (message.text, buttons(message)) == ("⚠️ Busy.", [("⟳ Retry", "v1|retry|t1")])


async def test_options_that_no_button_shows_in_full_are_listed(stage):
    await stage.finish(stage.show(Events(asked("Which?", "Soup", LONG_OPTION), DONE)))

    assert await stage.texts() == [f"Which?\n\n1. Soup\n2. {LONG_OPTION}"]


async def test_a_question_without_words_or_options_is_shown_as_well_as_it_can_be(stage):
    await stage.finish(stage.show(Events(asked(" ", "Yes"), DONE), turn_id="t1"))
    await stage.finish(stage.show(Events(asked("And?"), DONE), turn_id="t2"))

    first, second = await stage.messages()
    assert (first.text, buttons(first)) == ("Please choose:", [("Yes", "v1|choose|t1|0")])
    assert (second.text, buttons(second)) == ("And?", [])


async def test_whatever_is_asked_telegram_takes_it(stage):
    text = "\n\n".join(f"**{number:02}** " + "word " * 150 for number in range(9))
    question = "```\nWhy `x`? " + "**y** " * 900
    await stage.finish(stage.show(Events(Text(seq=1, text=text), asked(question, *[LONG_OPTION * 9] * 60), DONE)))

    messages = [message for message in await stage.messages() if not message.file]
    assert [bool(message.buttons) for message in messages] == [*[False] * (len(messages) - 1), True]
    assert await stage.telegram.refusals() == []


async def test_a_turn_shown_again_after_it_was_answered_has_no_buttons(stage):
    stage.journal.is_answered = True

    await stage.finish(stage.show(Events(asked("Tea?", "Yes"), DONE)))

    [message] = await stage.messages()
    assert (message.text, buttons(message)) == ("Tea?", [])


# --- what a press does


async def question(desk: Desk, person: SimUser, *events: Event) -> MessageView:
    """A turn of this person that ended with these events: its message."""
    if await desk.services.turns.count_open(person.id) == 0:
        await send(desk, person, "hello", times=1)
    turn = await desk.services.turns.next(person.id)
    assert turn is not None
    outcome = await shown(desk, Conversation(turn.chat_id, turn.id, None, TEXTS.speak("en")), *events)
    await desk.services.turns.finish(turn, answered=isinstance(outcome.final, Done), is_charged=True)
    desk.woken.clear()
    return (await said(person))[-1]


async def shown(desk: Desk, conversation: Conversation, *events: Event) -> Outcome:
    requests = [AiohttpRequest(), AiohttpRequest()]
    bot = ExtBot(
        desk.telegram.token,
        base_url=f"{desk.telegram.url}/bot",
        request=requests[0],
        get_updates_request=requests[1],
        rate_limiter=Limiter(),
    )
    async with bot:
        relay = Relay(bot, Limiter(), desk.services.turns, desk.services.offers)
        return await relay.show(conversation, aiter(Events(*events)))


async def waiting(desk: Desk) -> list[str]:
    return [turn.message for turn in await desk.services.turns.open()]


TEA = (Text(seq=1, text="**Hello.**"), asked("Tea?", "Yes, please", LONG_OPTION), DONE)


async def test_a_press_is_the_next_message_in_full_and_marked(desk: Desk, talking: SimUser) -> None:
    asking = await question(desk, talking, *TEA)

    await press(desk, talking, "2. The one")

    (turn,) = await desk.services.turns.open()
    assert (turn.message, turn.user_id, turn.message_id) == (LONG_OPTION, talking.id, asking.id)
    assert set(desk.woken) == {talking.id}
    marked = (await said(talking))[-1]
    assert (marked.id, marked.text, marked.buttons) == (asking.id, f"{asking.text}\n\n→ {LONG_OPTION}", [])
    assert marked.entities == [{"type": "bold", "offset": 0, "length": 6}]
    assert (await desk.services.limits.today(talking.id)).used == 2


async def test_a_press_goes_to_the_agent_that_asked_whatever_the_chat_does_now(desk: Desk, talking: SimUser) -> None:
    await question(desk, talking, *TEA)
    (asking,) = await desk.services.agents.owned(talking.id)
    await send(desk, talking, "/manage", "/create", times=1)

    await press(desk, talking, "1. Yes")

    (turn,) = await desk.services.turns.open()
    assert (turn.agent_id, turn.message) == (asking.id, "Yes, please")


async def test_pressing_twice_is_one_turn_and_the_second_is_told(desk: Desk, talking: SimUser) -> None:
    asking = await question(desk, talking, *TEA)
    first = await talking.press("1. Yes")
    second = await talking.press("1. Yes", message_id=asking.id)
    third = await talking.press("2. The one", message_id=asking.id)

    await desk.handle(times=1)

    assert await waiting(desk) == ["Yes, please"]
    assert [(await each.answer()).text for each in (first, second, third)] == ["", *["That is answered already."] * 2]
    assert (await newest(talking)).endswith("→ Yes, please")


async def test_an_answer_whose_mark_failed_is_marked_by_the_next_press(desk: Desk, talking: SimUser) -> None:
    asking = await question(desk, talking, *TEA)
    await desk.telegram.fault(FaultKind.SERVER_ERROR, "editMessageText")
    await talking.press("1. Yes")
    for update in await desk.fetch():
        await desk.application.process_update(update)
    assert len(desk.errors) == 1, "it is handled again by the lane"
    desk.errors.clear()
    await desk.telegram.clear_faults()

    await talking.press("2. The one", message_id=asking.id)
    await desk.handle()

    assert await waiting(desk) == ["Yes, please"]
    assert (await newest(talking)).endswith("→ Yes, please")


async def test_writing_instead_takes_the_buttons_away_and_an_old_press_says_so(desk: Desk, talking: SimUser) -> None:
    asking = await question(desk, talking, *TEA)
    stale = await talking.press("1. Yes")
    (press_update,) = await desk.fetch()

    await send(desk, talking, "Coffee!")
    await desk.application.process_update(press_update)

    after = next(message for message in await said(talking) if message.id == asking.id)
    assert (after.text, after.buttons) == (asking.text, [])
    assert (await stale.answer()).text == "That menu is old. Write to me instead."
    assert await waiting(desk) == ["Coffee!"]


async def test_what_waited_before_the_question_came_does_not_answer_it(desk: Desk, talking: SimUser) -> None:
    await send(desk, talking, "first", "second", times=1)
    asking = await question(desk, talking, *TEA)

    assert asking.buttons
    await press(desk, talking, "1. Yes")
    assert await waiting(desk) == ["second", "Yes, please"]


async def test_a_fresh_start_takes_the_buttons_away(desk: Desk, talking: SimUser) -> None:
    asking = await question(desk, talking, *TEA)

    await send(desk, talking, "/new")

    after = next(message for message in await said(talking) if message.id == asking.id)
    assert after.buttons == []


async def test_a_press_that_is_refused_leaves_the_question_open(desk: Desk, talking: SimUser) -> None:
    asking = await question(desk, talking, *TEA)
    (agent,) = await desk.services.agents.owned(talking.id)
    for number in range(1 + MAX_WAITING):  # accepted, but not by writing here: that would take the buttons away
        waits = turns.Ask(agent, talking.id, talking.id, 1, "m", 10_000 + number)
        with suppress(Refused):
            await desk.services.turns.accept(waits)

    refused = await talking.press("1. Yes")
    await desk.handle(times=1)

    assert (await refused.answer()).text == ""
    assert (await newest(talking)).startswith("3 messages are waiting already.")
    offer = await desk.services.offers.find(turn_of(asking), talking.id)
    assert offer is not None
    assert offer.answered_by is None
    assert next(message for message in await said(talking) if message.id == asking.id).buttons


def turn_of(message: MessageView) -> str:
    return (message.buttons[0][0].callback_data or "").split("|")[2]


async def test_in_a_group_only_the_person_asked_may_press(desk: Desk, talking: SimUser, victor: SimUser) -> None:
    turn_id = turn_of(await question(desk, talking, *TEA))
    group = await desk.telegram.group("Kitchen", by=talking, members=[victor])
    async with desk.services.agents._database.session() as session:
        (await session.get_one(Offer, turn_id)).chat_id = group
    keyboard = {"inline_keyboard": [[{"text": "Yes", "callback_data": f"v1|choose|{turn_id}|0"}]]}
    await desk.telegram.call("sendMessage", chat_id=group, text="Tea?", reply_markup=keyboard)

    stranger = await victor.press("Yes", chat=group)
    await desk.handle(times=1)
    between = (await waiting(desk), (await said(talking, group))[-1].buttons != [])
    await talking.press("Yes", chat=group)
    await desk.handle()

    assert (await stranger.answer()).text == "Somebody else was asked. Write to me yourself."
    assert between == ([], True)
    assert await waiting(desk) == ["Yes, please"]
    assert await newest(talking, group) == "Tea?\n\n→ Yes, please"


@pytest.mark.parametrize(
    "data", ["v1|choose|", "v1|choose|u1", "v1|choose|u1|", "v1|choose|u1|99", "v1|choose|u1|²", "v1|choose|u9|0"]
)
async def test_a_made_up_answer_is_an_old_menu(desk: Desk, talking: SimUser, data: str) -> None:
    await question(desk, talking, *TEA)
    keyboard = {"inline_keyboard": [[{"text": "Made up", "callback_data": data}]]}
    await desk.telegram.call("sendMessage", chat_id=talking.id, text="old", reply_markup=keyboard)

    pressed = await talking.press("Made up")
    await desk.handle()

    assert (await pressed.answer()).text == "That menu is old. Write to me instead."
    assert await waiting(desk) == []


async def test_somebody_elses_question_in_another_chat_is_not_answered(
    desk: Desk, talking: SimUser, victor: SimUser
) -> None:
    turn_id = turn_of(await question(desk, talking, *TEA))
    keyboard = {"inline_keyboard": [[{"text": "Made up", "callback_data": f"v1|choose|{turn_id}|0"}]]}
    await desk.telegram.call("sendMessage", chat_id=victor.id, text="old", reply_markup=keyboard)

    pressed = await victor.press("Made up")
    await desk.handle(times=1)

    assert (await pressed.answer()).text == "That menu is old. Write to me instead."
    assert await waiting(desk) == []


# --- going on


async def test_going_on_after_stopped_is_one_new_turn(desk: Desk, talking: SimUser) -> None:
    stopped = Failed(seq=2, kind=ErrorKind.STOPPED, text="stopped", retryable=False)
    asking = await question(desk, talking, Text(seq=1, text="So far"), stopped)

    await talking.press("Continue")
    await talking.press("Continue", message_id=asking.id)
    await desk.handle()

    assert await waiting(desk) == ["Continue."]
    after = (await said(talking))[-1]
    assert (after.id, after.text, after.buttons) == (asking.id, "So far\n\n⏹ Stopped\n\n→ Continue.", [])


async def test_a_stopped_turn_that_was_retried_may_ask(desk: Desk, talking: SimUser) -> None:
    stopped = Failed(seq=2, kind=ErrorKind.STOPPED, text="stopped", retryable=False)
    asking = await question(desk, talking, Text(seq=1, text="So far"), stopped)
    await press(desk, talking, "Retry")

    again = await question(desk, talking, asked("Tea?", "Yes"), DONE)
    await press(desk, talking, "Yes")

    assert (again.id, again.text) == (asking.id, "Tea?")
    assert await waiting(desk) == ["Yes"]
