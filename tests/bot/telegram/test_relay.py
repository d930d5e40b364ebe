"""A turn is shown in a chat of the Bot API double: growing, corrected, interrupted, resumed, and ended exactly once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from telegram.ext import ExtBot

from agent.protocol import (
    Done,
    ErrorKind,
    Event,
    Failed,
    KeepAlive,
    Notice,
    Restart,
    Text,
    Tool,
    ToolState,
    Usage,
)
from bot.errors import EventsEnded, NotDelivered
from bot.telegram.answer import Word
from bot.telegram.limiter import Limiter
from bot.telegram.relay import Conversation, Ending, Outcome, Relay
from bot.telegram.render import utf16_length
from bot.telegram.texts import load_texts
from bot.telegram.transport import AiohttpRequest
from tests.bot.telegram.clock import HandClock
from tests.fakes.telegram_client import SimUser, TelegramDouble
from tests.fakes.telegram_views import FaultKind, MessageView

LONG = "A sentence that is certainly longer than forty characters."
DONE = Done(seq=99, usage=Usage(completion_tokens=7))
SHOWN = ("sendMessage", "editMessageText")


class Events:
    """A turn whose events the test says one by one."""

    def __init__(self, *first: Event | Word | None) -> None:
        self._queue: asyncio.Queue[Event | Word | Exception | None] = asyncio.Queue()
        for event in first:
            self.say(event)

    def say(self, event: Event | Word | Exception | None) -> None:
        self._queue.put_nowait(event)

    def __aiter__(self) -> AsyncIterator[Event | Word]:
        return self._told()

    async def _told(self) -> AsyncIterator[Event | Word]:
        while (event := await self._queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


@dataclass
class Memory:
    """A journal, and what was offered, in dictionaries."""

    turns: dict[str, list[int]] = field(default_factory=dict)
    offered: dict[str, list[str]] = field(default_factory=dict)
    is_answered: bool = False

    async def messages(self, turn_id: str) -> list[int]:
        return self.turns.get(turn_id, [])

    async def record(self, turn_id: str, message_ids: list[int]) -> None:
        self.turns[turn_id] = message_ids

    async def keep(self, turn_id: str, options: Sequence[str]) -> bool:
        self.offered[turn_id] = list(options)
        return not self.is_answered


@dataclass
class Stage:
    """A person in front of the double, and a relay that shows them turns."""

    telegram: TelegramDouble
    person: SimUser
    clock: HandClock
    journal: Memory
    relay: Relay

    def show(
        self,
        events: Events,
        *,
        turn_id: str = "t1",
        header: str | None = None,
        chat: int | None = None,
        reply_to: int | None = None,
    ):
        speech = load_texts().speak("en")
        conversation = Conversation(chat or self.person.id, turn_id, reply_to, speech, header)
        return asyncio.create_task(self.relay.show(conversation, aiter(events)))

    async def finish(self, showing: asyncio.Task[Outcome]) -> Outcome:
        """Let time pass until the turn is over."""
        async with asyncio.timeout(30):
            while not showing.done():
                await self.clock.advance(0.5)
        return await showing

    async def after(self, seconds: float, text: str) -> MessageView:
        await self.clock.advance(seconds)
        return await self.person.wait_for(text)

    async def messages(self) -> list[MessageView]:
        return [message for message in await self.person.messages() if message.from_bot]

    async def texts(self) -> list[str]:
        return [message.text for message in await self.messages()]

    async def until_called(self, method: str, times: int) -> list[str]:
        async with asyncio.timeout(30):
            while len(calls := await self.calls(method)) < times:
                pass
        return calls

    async def calls(self, *methods: str) -> list[str]:
        return [call.method for call in await self.telegram.outbox() if call.method in methods or not methods]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    clock, journal = HandClock(), Memory()
    limiter = Limiter(clock)
    async with TelegramDouble() as telegram:
        bot = ExtBot(
            telegram.token,
            base_url=f"{telegram.url}/bot",
            request=AiohttpRequest(),
            get_updates_request=AiohttpRequest(),
            rate_limiter=limiter,
        )
        async with bot:
            person = await telegram.user(5, "Victor")
            yield Stage(telegram, person, clock, journal, Relay(bot, limiter, journal, journal, clock=clock))


def buttons(message: MessageView) -> list[tuple[str, str | None]]:
    return [(button.text, button.callback_data) for row in message.buttons for button in row]


def tool(name: str, state: ToolState = ToolState.RUNNING) -> Tool:
    return Tool(seq=2, id=name, name="read_file", label=f"Reading {name}", state=state)


async def test_a_short_answer_is_one_message_after_typing(stage):
    outcome = await stage.finish(stage.show(Events(Text(seq=1, text="Hi **there**"), DONE)))

    assert outcome == Outcome(Ending.DONE, 1, DONE)
    [message] = await stage.messages()
    assert (message.text, message.entities, message.buttons) == (
        "Hi there",
        [{"type": "bold", "offset": 3, "length": 5}],
        [],
    )
    assert await stage.calls("sendChatAction", *SHOWN) == ["sendChatAction", "sendMessage"]
    assert stage.journal.turns == {"t1": [message.id]}


async def test_typing_repeats_every_four_seconds_until_the_first_text(stage):
    events = Events()
    showing = stage.show(events)
    for number in (1, 2, 3):
        await stage.until_called("sendChatAction", number)
        await stage.clock.advance(4)
    typed = await stage.until_called("sendChatAction", 4)
    events.say(Text(seq=1, text=LONG))
    await stage.after(0, LONG)
    await stage.clock.advance(10)
    events.say(DONE)
    await stage.finish(showing)

    assert await stage.calls("sendChatAction") == typed


async def test_the_first_message_comes_at_forty_characters_with_stop(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)

    message = await stage.after(0, LONG)

    assert buttons(message) == [("⏹ Stop", "v1|stop|t1")]
    events.say(DONE)
    await stage.finish(showing)
    [message] = await stage.messages()
    assert buttons(message) == []


async def test_the_first_message_comes_after_a_moment_when_text_is_slow(stage):
    events = Events(Text(seq=1, text="Well"))
    showing = stage.show(events)

    await stage.clock.advance(1.4)
    early = await stage.texts()
    message = await stage.after(0.1, "Well")

    assert (early, message.text) == ([], "Well")
    events.say(DONE)
    await stage.finish(showing)


async def test_the_message_grows_by_edits_no_faster_than_the_interval(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)

    events.say(Text(seq=2, text=" More"))
    await stage.clock.advance(1.4)
    early = await stage.texts()
    await stage.after(0.1, " More")
    events.say(Text(seq=3, text=" and more."))
    events.say(DONE)
    await stage.finish(showing)

    assert (early, await stage.texts()) == ([LONG], [f"{LONG} More and more."])
    assert await stage.calls(*SHOWN) == ["sendMessage", "editMessageText", "editMessageText"]


async def test_nothing_is_edited_while_nothing_changes(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)

    for _ in range(10):
        events.say(KeepAlive(seq=1))
        await stage.clock.advance(1.5)

    assert await stage.calls(*SHOWN) == ["sendMessage"]
    events.say(DONE)
    await stage.finish(showing)


async def test_long_answers_continue_silently_in_new_messages(stage):
    paragraphs = [f"{number:02} " + "word " * 150 for number in range(12)]
    events = Events(Text(seq=1, text="\n\n".join(paragraphs[:3])))
    showing = stage.show(events)
    await stage.after(0, "00 word")

    events.say(Text(seq=2, text="\n\n" + "\n\n".join(paragraphs[3:])))
    await stage.after(1.5, "11 word")
    growing = await stage.messages()
    events.say(DONE)
    outcome = await stage.finish(showing)

    messages = await stage.messages()
    assert (outcome.messages, [message.text[:2] for message in messages]) == (3, ["00", "05", "10"])
    assert [[label for label, _ in buttons(message)] for message in growing] == [[], [], ["⏹ Stop"]]
    sent = await stage.telegram.outbox("sendMessage")
    assert [call.parameters.get("disable_notification") for call in sent] == ["false", "true", "true"]
    assert stage.journal.turns["t1"] == [message.id for message in messages]


async def test_an_answer_of_many_messages_also_comes_as_a_file(stage):
    text = "\n\n".join(f"**{number}** " + "word " * 150 for number in range(25))

    outcome = await stage.finish(stage.show(Events(Text(seq=1, text=text), DONE)))

    *messages, document = await stage.messages()
    assert (outcome.messages, len(messages)) == (5, 5)
    assert document.file.name == "answer.md"
    assert document.text == "The whole answer as a file, with its formatting."
    assert stage.journal.turns["t1"] == [*(message.id for message in messages), -document.id]


async def test_long_code_also_comes_as_a_file(stage):
    code = "```python\n" + "print('hello')\n" * 600 + "```"

    await stage.finish(stage.show(Events(Text(seq=1, text=code), DONE)))

    assert [message.file.name for message in await stage.messages() if message.file] == ["answer.md"]
    assert await stage.telegram.refusals() == []


async def test_a_restarted_turn_replaces_the_text_in_place(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)

    events.say(Restart(seq=2))
    events.say(Text(seq=3, text="Second try"))
    events.say(DONE)
    await stage.finish(showing)

    assert await stage.texts() == ["Second try"]


async def test_a_notice_is_one_line_below_that_text_takes_away(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)

    for number in (1, 2):
        events.say(Notice(seq=2, text=f"Trying again ({number}/3)…"))
        await stage.after(1.5, f"({number}/3)")
    noticed = await stage.messages()
    events.say(Text(seq=4, text=" Now."))
    await stage.after(1.5, "Now.")

    assert [(m.text, m.entities) for m in noticed] == [
        (f"{LONG}\n\nTrying again (2/3)…", [{"type": "italic", "offset": len(LONG) + 2, "length": 19}])
    ]
    assert await stage.texts() == [f"{LONG} Now."]
    events.say(DONE)
    await stage.finish(showing)


async def test_what_is_being_done_is_one_line_that_goes_when_it_is_done(stage):
    events = Events(tool("a.md"))
    showing = stage.show(events)
    first = await stage.after(1.5, "📄 Reading a.md…")
    events.say(tool("<b> *c*"))
    await stage.after(1.5, "📄 Reading <b> *c*… (+1)")
    events.say(tool("<b> *c*", ToolState.DONE))
    await stage.after(1.5, "📄 Reading a.md…")
    events.say(tool("a.md", ToolState.FAILED))
    events.say(Text(seq=5, text="Hi"))
    events.say(DONE)
    await stage.finish(showing)

    assert buttons(first) == [("⏹ Stop", "v1|stop|t1")]
    assert [(m.id, m.text, m.entities) for m in await stage.messages()] == [(first.id, "Hi", [])]


@pytest.mark.parametrize(
    ("name", "icon"), [("web_search", "🔎"), ("send_file", "📄"), ("shell", "⚙️"), ("made_up", "⚙️")]
)
async def test_an_icon_says_what_kind_of_thing_is_being_done(stage, name, icon):
    events = Events(Tool(seq=1, id="a", name=name, label="Working", state=ToolState.RUNNING))
    showing = stage.show(events)

    await stage.after(1.5, f"{icon} Working…")

    events.say(DONE)
    await stage.finish(showing)


async def test_of_many_tools_at_once_the_newest_is_named_and_the_others_counted(stage):
    events = Events(Text(seq=1, text=LONG), *map(tool, "abcd"))
    showing = stage.show(events)
    shown = [await stage.after(0, "📄 Reading d… (+3)")]

    for ended, left in (("b", "d… (+2)"), ("d", "c… (+1)"), ("a", "c…")):
        events.say(tool(ended, ToolState.DONE))
        shown.append(await stage.after(1.5, f"📄 Reading {left}"))
    events.say(tool("c", ToolState.DONE))
    await stage.after(1.5, LONG)
    gone = await stage.texts()
    events.say(DONE)
    await stage.finish(showing)

    assert [message.text.partition("\n\n")[0] for message in shown] == [LONG] * 4
    assert (gone, await stage.texts()) == ([LONG], [LONG])


async def test_text_does_not_wait_for_the_line(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)
    events.say(tool("a.md"))
    await stage.after(1.5, "Reading a.md")

    events.say(tool("a.md", ToolState.DONE))
    events.say(Text(seq=4, text=" Found."))
    message = await stage.after(0, "Found.")

    assert message.text == f"{LONG} Found."
    events.say(DONE)
    await stage.finish(showing)


async def test_the_line_waits_for_what_text_leaves_of_the_rate(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)
    events.say(tool("a.md"))
    await stage.after(1.5, "Reading a.md")
    events.say(Text(seq=3, text=" Found."))
    await stage.after(0, "Found.")

    events.say(tool("b.md"))
    await stage.clock.advance(2.9)  # four frames in 4.4 s would be more than one in 1.5 s
    early = await stage.texts()
    await stage.after(0.1, "Reading b.md")

    assert early == [f"{LONG} Found.\n\n📄 Reading a.md…"]
    events.say(DONE)
    await stage.finish(showing)
    assert await stage.calls(*SHOWN) == ["sendMessage", *["editMessageText"] * 4]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("<b>&lt;</b> &amp; [x](y) **y** `z` ||s||", "<b>&lt;</b> &amp; [x](y) **y** `z` ||s||"),
        ("a\nb\r\n\n\tc\x00d\u2028e\x85f", "a b c\ufffdd e f"),
        ("x" * 300, "x" * 60),
        ("👨‍👩‍👧‍👦" * 50, "👨‍👩‍👧‍👦" * 5),
        ("קרא שלום.md", "\u2068קרא שלום.md\u2069"),
        ("a\u202egpj.exe\u2066", "agpj.exe"),
        (" \u200f\n", "read_file"),
        ("", "read_file"),
        ("{ $others } { relay-stop }", "{ $others } { relay-stop }"),
    ],
)
async def test_whatever_a_tool_is_called_is_shown_as_one_plain_line(stage, label, shown):
    strange = Tool(seq=2, id="b", name="read_file", label=label, state=ToolState.RUNNING)
    events = Events(Text(seq=1, text=LONG), tool("a"), strange)
    showing = stage.show(events)
    message = await stage.after(0, "(+1)")
    events.say(DONE)
    await stage.finish(showing)

    line = f"📄 {shown}… (+1)"
    assert message.text == f"{LONG}\n\n{line}"
    assert message.entities == [{"type": "italic", "offset": len(LONG) + 2, "length": utf16_length(line)}]
    assert (await stage.texts(), await stage.telegram.refusals()) == ([LONG], [])


async def test_the_line_stands_under_the_last_message_of_a_long_answer(stage):
    text = "\n\n".join(f"**{number:02}** " + "word " * 150 for number in range(12))
    events = Events(Text(seq=1, text=text), *(tool("x" * 300 + str(number)) for number in range(100)))
    showing = stage.show(events, header="H" * 300)
    await stage.after(0, "(+99)")

    messages = await stage.messages()
    assert [("📄" in message.text, utf16_length(message.text) <= 4_096) for message in messages] == [
        *[(False, True)] * (len(messages) - 1),
        (True, True),
    ]
    events.say(DONE)
    await stage.finish(showing)
    assert not [text for text in await stage.texts() if "📄" in text]


async def test_a_tool_that_takes_long_says_for_how_long(stage):
    events = Events(tool("a"), tool("b"))
    showing = stage.show(events)
    await stage.after(1.5, "📄 Reading b… (+1)")

    await stage.after(20, "📄 Reading b… (+1) · 0:20")
    await stage.after(60, "📄 Reading b… (+1) · 1:20")

    events.say(DONE)
    await stage.finish(showing)


async def test_news_are_shown_rather_than_what_was_being_done_before(stage):
    events = Events(Text(seq=1, text=LONG), tool("a"))
    showing = stage.show(events)
    await stage.after(0, "📄 Reading a…")
    await stage.after(40, "0:40")

    events.say(Notice(seq=3, text="Ada is not answering."))
    noticed = await stage.after(1.5, "Ada is not answering.")
    events.say(tool("b"))
    again = await stage.after(1.5, "📄 Reading b… (+1)")

    assert (noticed.text, again.text) == (f"{LONG}\n\nAda is not answering.", f"{LONG}\n\n📄 Reading b… (+1)")
    events.say(DONE)
    await stage.finish(showing)


async def test_what_was_being_done_is_over_when_the_turn_starts_over(stage):
    events = Events(Text(seq=1, text=LONG), tool("a"))
    showing = stage.show(events)
    await stage.after(0, "📄 Reading a…")

    events.say(Restart(seq=3))
    events.say(tool("b"))
    message = await stage.after(1.5, "Reading b")

    assert message.text == "📄 Reading b…"
    events.say(DONE)
    await stage.finish(showing)


async def test_what_is_being_done_is_shown_again_by_a_bot_that_was_restarted(stage):
    said = (Text(seq=1, text=LONG), tool("a"), tool("b"), tool("c"), tool("c", ToolState.DONE))
    showing = stage.show(Events(*said))
    first = await stage.after(0, "📄 Reading b… (+1)")
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    events = Events(*said, tool("b", ToolState.DONE))
    showing = stage.show(events)

    again = await stage.after(1.5, "📄 Reading a…")
    events.say(tool("a", ToolState.DONE))
    events.say(DONE)
    await stage.finish(showing)

    assert (again.id, again.text) == (first.id, f"{LONG}\n\n📄 Reading a…")
    assert [(m.id, m.text) for m in await stage.messages()] == [(first.id, LONG)]


async def test_groups_are_not_told_what_is_being_done(stage):
    group = await stage.telegram.group("Friends", by=stage.person)
    events = Events(tool("a"))
    showing = stage.show(events, chat=group)
    await stage.clock.advance(30)

    events.say(Text(seq=2, text="Hi"))
    events.say(DONE)
    await stage.finish(showing)

    assert await stage.calls(*SHOWN) == ["sendMessage"]


async def test_a_notice_before_any_text_is_shown(stage):
    events = Events(Notice(seq=1, text="The model is overloaded."))
    showing = stage.show(events)

    await stage.after(1.5, "The model is overloaded.")
    events.say(Text(seq=2, text="Hi"))
    events.say(DONE)
    await stage.finish(showing)

    assert await stage.texts() == ["Hi"]


async def test_a_long_silence_is_named_with_its_time(stage):
    events = Events()
    showing = stage.show(events)

    await stage.after(20, "Still working (0:20) …")
    await stage.after(10, "Still working (0:30) …")
    events.say(Text(seq=1, text="Hi"))
    events.say(DONE)
    await stage.finish(showing)

    assert await stage.texts() == ["Hi"]


async def test_the_header_stands_over_the_answer(stage):
    await stage.finish(stage.show(Events(Text(seq=1, text="Hi"), DONE), header="Ada ·"))

    [message] = await stage.messages()
    assert (message.text, message.entities) == ("Ada ·\nHi", [{"type": "bold", "offset": 0, "length": 5}])


async def test_the_answer_replies_to_its_question(stage):
    question = await stage.person.send("Who are you?")

    await stage.finish(stage.show(Events(Text(seq=1, text="Ada"), DONE), reply_to=question.id))

    assert [message.reply_to for message in await stage.messages()] == [question.id]


async def test_the_answer_comes_without_reply_when_its_question_is_gone(stage):
    await stage.finish(stage.show(Events(Text(seq=1, text="Ada"), DONE), reply_to=4_242))

    assert [(message.text, message.reply_to) for message in await stage.messages()] == [("Ada", None)]


async def test_a_stopped_turn_keeps_its_text_and_offers_to_go_on_or_to_retry(stage):
    stopped = Failed(seq=2, kind=ErrorKind.STOPPED, text="stopped", retryable=False)

    outcome = await stage.finish(stage.show(Events(Text(seq=1, text="So far"), stopped)))

    [message] = await stage.messages()
    assert (outcome, message.text, buttons(message)) == (
        Outcome(Ending.STOPPED, 1, stopped),
        "So far\n\n⏹ Stopped",
        [("▶ Continue", "v1|choose|t1|0"), ("⟳ Retry", "v1|retry|t1")],
    )
    assert stage.journal.offered == {"t1": ["Continue."]}


async def test_a_turn_stopped_before_its_first_word_has_nothing_to_go_on_with(stage):
    await stage.finish(stage.show(Events(Failed(seq=1, kind=ErrorKind.STOPPED, text="stopped", retryable=False))))

    [message] = await stage.messages()
    assert (message.text, buttons(message)) == ("⏹ Stopped", [("⟳ Retry", "v1|retry|t1")])
    assert stage.journal.offered == {}


async def test_an_answer_that_ends_at_its_limit_says_so_and_offers_to_go_on(stage):
    cut = Notice(seq=2, text="The answer reached its length limit.")

    await stage.finish(stage.show(Events(Text(seq=1, text="So far"), cut, DONE)))

    [message] = await stage.messages()
    assert message.text == "So far\n\nThe answer reached its length limit."
    assert buttons(message) == [("▶ Continue", "v1|choose|t1|0")]


@pytest.mark.parametrize("after", [Text(seq=3, text=" More"), tool("a"), KeepAlive(seq=2)])
async def test_only_a_notice_of_the_agents_own_last_word_offers_to_go_on(stage, after):
    own = Word("It is being restarted.")

    await stage.finish(stage.show(Events(Text(seq=1, text="So far"), own, after, DONE)))

    [message] = await stage.messages()
    assert (message.text.removesuffix(" More"), buttons(message)) == ("So far", [])


@pytest.mark.parametrize(("retryable", "offered"), [(True, [("⟳ Retry", "v1|retry|t1")]), (False, [])])
async def test_a_failed_turn_says_why_and_offers_to_retry_if_that_helps(stage, retryable, offered):
    failed = Failed(seq=2, kind=ErrorKind.BUSY, text="The model is <busy>.", retryable=retryable)

    outcome = await stage.finish(stage.show(Events(Text(seq=1, text="So far"), failed)))

    [message] = await stage.messages()
    assert (outcome, message.text, buttons(message)) == (
        Outcome(Ending.FAILED, 1, failed),
        "So far\n\n⚠️ The model is <busy>.",
        offered,
    )


@pytest.mark.parametrize("text", ["", " \n"])
async def test_an_empty_answer_says_so(stage, text):
    await stage.finish(stage.show(Events(Text(seq=1, text=text), DONE)))

    assert await stage.texts() == ["The agent finished without writing an answer. Ask again, perhaps in other words."]


async def test_the_final_answer_waits_for_a_penalty_and_comes_once(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)
    await stage.telegram.fault(FaultKind.TOO_MANY_REQUESTS, "editMessageText", retry_after=60)

    events.say(Text(seq=2, text=" The end."))
    events.say(DONE)
    await stage.clock.advance(1)
    started = stage.clock.now
    other = await stage.finish(
        stage.show(Events(Text(seq=1, text="Other"), DONE), turn_id="t2", chat=await _other(stage))
    )
    in_between = stage.clock.now - started
    await stage.finish(showing)

    assert (other.ending, in_between <= 1) == (Ending.DONE, True)
    assert stage.clock.now - started >= 58
    assert await stage.texts() == [f"{LONG} The end."]
    assert [call.status for call in await stage.telegram.outbox("editMessageText")] == [429, 200]


async def _other(stage: Stage) -> int:
    return (await stage.telegram.user(6, "Olga")).id


async def test_no_progress_is_sent_during_a_penalty(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)
    await stage.telegram.fault(FaultKind.TOO_MANY_REQUESTS, "editMessageText", retry_after=60)

    for number in range(10):
        events.say(Text(seq=2, text=f" {number}"))
        await stage.clock.advance(1.5)
        await stage.until_called("editMessageText", 1)
    edits = await stage.calls("editMessageText")
    events.say(DONE)
    await stage.finish(showing)

    assert edits == ["editMessageText"]
    assert await stage.texts() == [f"{LONG} 0 1 2 3 4 5 6 7 8 9"]


async def test_the_final_answer_is_tried_again_after_server_errors(stage):
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "sendMessage", times=3)

    outcome = await stage.finish(stage.show(Events(Text(seq=1, text="Hi"), DONE)))

    assert (outcome.ending, await stage.texts()) == (Ending.DONE, ["Hi"])


async def test_a_final_edit_whose_answer_got_lost_changes_nothing_the_second_time(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)
    await stage.telegram.fault(FaultKind.LOST_ANSWER, "editMessageText")

    events.say(DONE)
    outcome = await stage.finish(showing)

    assert (outcome, await stage.texts()) == (Outcome(Ending.DONE, 1, DONE), [LONG])
    assert [call.description for call in await stage.telegram.refusals()][-1].startswith("Bad Request: message is not")


async def test_an_answer_that_cannot_be_delivered_is_an_error(stage):
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "sendMessage", times=1_000)

    with pytest.raises(NotDelivered, match="t1"):
        await stage.finish(stage.show(Events(Text(seq=1, text="Hi"), DONE)))


async def test_a_person_who_blocked_the_bot_is_unreachable(stage):
    await stage.person.block()

    outcome = await stage.finish(stage.show(Events(Text(seq=1, text=LONG))))

    assert outcome == Outcome(Ending.UNREACHABLE, 0)
    assert await stage.calls("sendMessage") == ["sendMessage"]


async def test_a_message_the_person_deleted_is_sent_again(stage):
    stage.journal.turns["t1"] = [4_242]

    await stage.finish(stage.show(Events(Text(seq=1, text="Hi"), DONE)))

    [message] = await stage.messages()
    assert (message.text, stage.journal.turns) == ("Hi", {"t1": [message.id]})


async def test_a_turn_shown_again_edits_its_messages(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    first = await stage.after(0, LONG)
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)

    outcome = await stage.finish(stage.show(Events(Text(seq=1, text=LONG), Text(seq=2, text=" End."), DONE)))

    [message] = await stage.messages()
    assert (outcome.messages, message.id, message.text) == (1, first.id, f"{LONG} End.")


async def test_a_turn_shown_again_after_its_end_changes_nothing(stage):
    text = "\n\n".join(f"**{number}** " + "word " * 150 for number in range(25))
    await stage.finish(stage.show(Events(Text(seq=1, text=text), DONE)))
    before = [(message.id, message.text) for message in await stage.messages()]

    await stage.finish(stage.show(Events(Text(seq=1, text=text), DONE)))

    assert [(message.id, message.text) for message in await stage.messages()] == before


async def test_messages_that_the_final_answer_does_not_need_are_deleted(stage):
    text = "\n\n".join(f"**{number}** " + "word " * 150 for number in range(12))
    events = Events(Text(seq=1, text=text))
    showing = stage.show(events)
    await stage.after(0, "11 word")

    events.say(Restart(seq=2))
    events.say(Text(seq=3, text="Short"))
    events.say(DONE)
    outcome = await stage.finish(showing)

    [message] = await stage.messages()
    assert (outcome.messages, message.text, stage.journal.turns) == (1, "Short", {"t1": [message.id]})


async def test_groups_get_the_final_answer_only(stage):
    group = await stage.telegram.group("Friends", by=stage.person)
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events, chat=group)
    await stage.clock.advance(8)

    events.say(DONE)
    await stage.finish(showing)

    assert await stage.calls(*SHOWN) == ["sendMessage"]


async def test_what_the_events_raise_reaches_the_caller(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(0, LONG)
    events.say(ConnectionError("gone"))

    with pytest.raises(ConnectionError, match="gone"):
        await stage.finish(showing)
    typed = await stage.calls("sendChatAction")
    await stage.clock.advance(60)
    assert await stage.calls("sendChatAction") == typed


async def test_events_that_break_off_are_an_error(stage):
    events = Events(Text(seq=1, text="Hi"), None)

    with pytest.raises(EventsEnded, match="t1"):
        await stage.finish(stage.show(events))


@pytest.mark.parametrize(
    "text",
    [
        "Use Vec<T> and List<String>",
        "```python\nprint(1)",
        "**a** " * 4_000,
        "# שלום\n\n> ציטוט **מודגש**",
        "👨‍👩‍👧‍👦" * 2_000,
        "| a | b |\n|---|---|\n| 1 | 2 |",
    ],
)
async def test_telegram_refuses_nothing_of_a_nasty_stream(stage, text):
    events = Events()
    showing = stage.show(events)
    step = max(1, len(text) // 5)
    for start in range(0, len(text), step):
        events.say(Text(seq=1, text=text[start : start + step]))
        await stage.clock.advance(2)
        await stage.messages()
    events.say(DONE)

    outcome = await stage.finish(showing)

    assert (outcome.ending, await stage.telegram.refusals()) == (Ending.DONE, [])


# --- an agent that is not there yet


async def test_a_person_sees_at_once_that_the_agent_wakes_and_then_the_answer_in_its_place(stage):
    events = Events(Word("💤 Ada is waking up."))
    showing = stage.show(events)
    waking = await stage.after(0, "💤 Ada is waking up.")

    assert (waking.text, buttons(waking)) == ("💤 Ada is waking up.", []), "there is nothing to stop yet"
    assert (await stage.after(41, "0:40")).text == "💤 Ada is waking up. · 0:40"

    events.say(Text(seq=1, text="Good"))
    growing = await stage.after(2, "Good")
    assert (growing.text, buttons(growing)) == ("Good", [("⏹ Stop", "v1|stop|t1")])
    events.say(DONE)
    await stage.finish(showing)

    assert [(message.text, message.id) for message in await stage.messages()] == [("Good", waking.id)]


async def test_a_short_hand_over_shows_nothing_but_typing(stage):
    events = Events(Word("One moment.", after=5))
    showing = stage.show(events)
    await stage.clock.advance(4.5)
    assert await stage.texts() == []
    events.say(Text(seq=1, text=LONG))
    await stage.after(2, LONG)
    events.say(DONE)
    await stage.finish(showing)

    assert "One moment." not in "".join(call.method + str(call.parameters) for call in await stage.telegram.outbox())
    assert await stage.calls("sendChatAction") != []


async def test_a_long_hand_over_is_told_after_five_seconds(stage):
    events = Events(Word("One moment.", after=5))
    showing = stage.show(events)

    assert (await stage.after(5, "One moment.")).text == "One moment."

    events.say(Text(seq=1, text="Here."))
    events.say(DONE)
    await stage.finish(showing)
    assert await stage.texts() == ["Here."]


async def test_a_hand_over_in_the_middle_of_an_answer_is_told_under_it(stage):
    events = Events(Text(seq=1, text=LONG))
    showing = stage.show(events)
    await stage.after(2, LONG)
    events.say(Word("One moment.", after=5))
    await stage.clock.advance(4)
    assert await stage.texts() == [LONG]

    assert (await stage.after(2, "One moment.")).text == f"{LONG}\n\nOne moment."

    events.say(DONE)
    await stage.finish(showing)
    assert await stage.texts() == [LONG]
