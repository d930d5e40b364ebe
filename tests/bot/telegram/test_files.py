"""What an agent made reaches the person: as a picture or a document, after the text, once, or a line says why not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from telegram.error import Forbidden, TelegramError, TimedOut
from telegram.ext import ExtBot

from agent.protocol import MAX_FILE_BYTES, Done, ErrorKind, Failed, File, Restart, Text
from bot.errors import AgentHeld, AgentOffline, AgentRefused, FileLost, NotDelivered
from bot.telegram.files import AgentFile, FileSender, emptied
from bot.telegram.limiter import Limiter
from bot.telegram.relay import Conversation, Relay
from bot.telegram.texts import load_texts
from bot.telegram.transport import NOT_SENT, AiohttpRequest
from tests.bot.telegram.clock import HandClock
from tests.bot.telegram.test_relay import Events, Memory, Stage
from tests.fakes.telegram_client import TelegramDouble
from tests.fakes.telegram_pictures import png
from tests.fakes.telegram_views import FaultKind, MessageView

DONE = Done(seq=99)
PICTURE = png(30, 20)


@dataclass
class Agent:
    """Its files, and what goes wrong with them."""

    contents: dict[str, bytes] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened.append(file_id)
        if self.errors:
            raise self.errors.pop(0)
        yield self._pieces(self.contents[file_id])

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    def file(self, name: str, content: bytes, media_type: str = "text/plain", **more: str) -> File:
        """An event; the file's id is its name."""
        self.contents[name] = content
        return File(seq=1, id=name, name=name, media_type=media_type, size=len(content), **more)


@dataclass
class FileStage(Stage):
    """A stage in front of an agent with files."""

    agent: Agent
    bot: ExtBot[Any]

    def show(self, events, *, turn_id="t1", reply_to=None, chat=None, header=None):
        speech = load_texts().speak("en")
        chat = chat or self.person.id
        conversation = Conversation(chat, turn_id, reply_to, speech, header, open_file=self.agent.open)
        return asyncio.create_task(self.relay.show(conversation, aiter(events)))

    async def told(self, *events) -> list[MessageView]:
        await self.finish(self.show(Events(*events)))
        return await self.messages()

    async def content(self, message: MessageView) -> bytes:
        assert message.file
        return await self.telegram.content(message.file.file_id)


@pytest.fixture
async def stage() -> AsyncIterator[FileStage]:
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
            relay = Relay(bot, limiter, journal, journal, clock=clock, sender=FileSender(bot, pauses=()))
            yield FileStage(telegram, person, clock, journal, relay, Agent(), bot)


def kinds(messages: list[MessageView]) -> list[str]:
    return [message.file.kind if message.file else message.text for message in messages]


# --- in an answer


async def test_files_come_after_the_text_in_their_order(stage):
    report = stage.agent.file("report.pdf", b"%PDF", "application/pdf", caption="the **report**")
    chart = stage.agent.file("chart.png", PICTURE, "image/png")

    text, document, photo = await stage.told(report, Text(seq=2, text="Here you are."), chart, DONE)

    assert text.text == "Here you are."
    assert (document.file.kind, document.file.name, document.text) == ("document", "report.pdf", "the **report**")
    assert (photo.file.kind, photo.text) == ("photo", "")
    assert [await stage.content(one) for one in (document, photo)] == [b"%PDF", PICTURE]
    assert stage.journal.turns["t1"] == [text.id, -document.id, -photo.id]
    assert await stage.telegram.refusals() == []


async def test_each_file_is_sent_once_over_restarts_of_the_bot(stage):
    first, second = (stage.agent.file(f"{number}.txt", b"x") for number in (1, 2))
    events = (Text(seq=1, text="Two files."), first, second, DONE)
    before = await stage.told(*events)
    stage.journal.turns["t1"].pop()  # it was killed before it sent the second

    after = await stage.told(*events)

    assert kinds(after) == [*kinds(before), "document"]
    assert await stage.told(*events) == after
    assert stage.agent.opened == ["1.txt", "2.txt", "2.txt"]


async def test_a_file_alone_is_an_answer(stage):
    asked = await stage.person.send("Draw it")
    await stage.finish(stage.show(Events(stage.agent.file("a.png", PICTURE, "image/png"), DONE), reply_to=asked.id))

    (photo,) = await stage.messages()
    assert (photo.file.kind, photo.reply_to) == ("photo", asked.id)


async def test_only_the_first_message_is_a_reply(stage):
    asked = await stage.person.send("Go")
    events = Events(Text(seq=1, text="Here."), stage.agent.file("a.txt", b"x"), DONE)
    await stage.finish(stage.show(events, reply_to=asked.id))

    assert [message.reply_to for message in await stage.messages()] == [asked.id, None]


async def test_files_of_a_run_that_starts_over_are_not_sent(stage):
    void, kept = stage.agent.file("void.txt", b"x"), stage.agent.file("kept.txt", b"x")

    messages = await stage.told(Text(seq=1, text="a"), void, Restart(seq=2), kept, Text(seq=3, text="b"), DONE)

    assert [message.file.name for message in messages if message.file] == ["kept.txt"]


async def test_files_of_an_answer_that_failed_are_sent_all_the_same(stage):
    failed = Failed(seq=9, kind=ErrorKind.BUSY, text="Too busy.", retryable=True)

    text, document = await stage.told(Text(seq=1, text="So far."), stage.agent.file("a.txt", b"x"), failed)

    assert text.text == "So far.\n\n⚠️ Too busy."
    assert document.file.name == "a.txt"


async def test_a_long_answer_and_its_files_are_all_there(stage):
    long = "\n\n".join(f"**{number}** " + "word " * 150 for number in range(25))

    messages = await stage.told(Text(seq=1, text=long), stage.agent.file("a.txt", b"x"), DONE)

    assert [message.file.name for message in messages if message.file] == ["a.txt", "answer.md"]


@pytest.mark.parametrize("error", [AgentRefused("no_file", "gone", status=404), AgentOffline("away")])
async def test_a_file_that_is_gone_is_a_line_under_the_answer(stage, error):
    stage.agent.errors = [error]
    lost, sent = stage.agent.file("lost.txt", b"x"), stage.agent.file("sent.txt", b"x")
    events = (Text(seq=1, text="Both."), lost, sent, DONE)

    text, document = await stage.told(*events)

    assert text.text == "Both.\n\n📎 lost.txt could not be sent."
    assert document.file.name == "sent.txt"
    assert kinds(await stage.told(*events)) == [text.text, "document"], "and so it stays"
    assert stage.journal.turns["t1"] == [text.id, 0, -document.id]


async def test_what_telegram_does_not_take_is_said_politely(stage):
    huge = File(seq=1, id="h", name="film.mp4", media_type="video/mp4", size=MAX_FILE_BYTES + 12_000_000)
    empty = stage.agent.file("empty.txt", b"")

    (text,) = await stage.told(Text(seq=1, text="Here."), huge, empty, DONE)

    assert text.text == (
        "Here.\n\n📎 film.mp4 has 62.0 MB; Telegram takes 50 MB at most.\n\n"
        "📎 empty.txt is empty, so there is nothing to send."
    )
    assert stage.agent.opened == []


async def test_a_file_waits_for_telegram_like_the_answer(stage):
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "sendDocument", times=3)

    messages = await stage.told(Text(seq=1, text="Here."), stage.agent.file("a.txt", b"x"), DONE)

    assert kinds(messages) == ["Here.", "document"]


async def test_a_file_that_telegram_never_takes_is_shown_later(stage):
    await stage.telegram.fault(FaultKind.SERVER_ERROR, "sendDocument", times=99)
    events = (Text(seq=1, text="Here."), stage.agent.file("a.txt", b"x"), DONE)
    with pytest.raises(NotDelivered):
        await stage.told(*events)

    await stage.telegram.clear_faults()

    assert kinds(await stage.told(*events)) == ["Here.", "document"]


async def test_after_a_429_the_whole_file_is_sent(stage):
    await stage.telegram.fault(FaultKind.TOO_MANY_REQUESTS, "sendDocument", retry_after=2)
    content = bytes(range(256)) * 1_000

    _, document = await stage.told(Text(seq=1, text="Here."), stage.agent.file("a.bin", content), DONE)

    assert await stage.content(document) == content


# --- one file


def agent_file(agent: Agent, event: File) -> AgentFile:
    return AgentFile(event.name, event.media_type, event.size, lambda: agent.open(event.id), event.caption)


@pytest.fixture
def send(stage) -> Callable[..., Any]:
    async def send(event: File, **how):
        sender = FileSender(stage.bot, pauses=(0.0, 0.0))
        message_id = await sender.send(stage.person.id, agent_file(stage.agent, event), **how)
        return next(message for message in await stage.messages() if message.id == message_id)

    return send


@pytest.mark.parametrize("content", [png(1, 40), b"no picture at all"])
async def test_a_picture_that_telegram_refuses_goes_as_a_document(stage, send, content):
    message = await send(stage.agent.file("odd.png", content, "image/png", caption="odd"))

    assert (message.file.kind, message.file.name, message.text) == ("document", "odd.png", "odd")
    assert await stage.content(message) == content


async def test_a_large_picture_goes_as_a_document(stage, send):
    event = stage.agent.file("big.png", PICTURE + bytes(10_000_000), "image/png")

    assert (await send(event)).file.kind == "document"
    assert await stage.calls("sendPhoto") == []


async def test_a_caption_too_long_is_cut_within_telegrams_units(stage, send):
    message = await send(stage.agent.file("a.txt", b"x", caption="🙂" * 600))

    assert message.text == "🙂" * 511 + "…"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ('a"b\r\nX: y\\c/d.txt', "a'b__X: y_c_d.txt"),
        ("отчёт 💥.txt", "отчёт 💥.txt"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("", "file"),
        ("\u202e\u2066", "__"),
    ],
)
async def test_a_strange_name_is_made_harmless(stage, send, name, sent):
    event = stage.agent.file("id", b"x").model_copy(update={"name": name})

    assert (await send(event)).file.name == sent


async def test_an_agent_that_is_away_for_a_moment_is_asked_again(stage, send):
    stage.agent.errors = [AgentOffline("away"), AgentHeld("it is handed over")]

    assert (await send(stage.agent.file("a.txt", b"x"))).file.name == "a.txt"


async def test_an_agent_that_sends_more_than_it_said_is_cut_off(stage, send):
    event = stage.agent.file("a.bin", bytes(MAX_FILE_BYTES + 1)).model_copy(update={"size": 5})

    with pytest.raises(FileLost, match="relay-file-too-large"):
        await send(event)


async def test_a_person_who_blocked_the_bot_is_no_lost_file(stage, send):
    await stage.person.block()

    with pytest.raises(Forbidden):
        await send(stage.agent.file("a.png", PICTURE, "image/png"))


async def test_an_unknown_topic_is_a_lost_file_and_no_endless_try(stage, send):
    with pytest.raises(FileLost):
        await send(stage.agent.file("a.txt", b"x"), thread_id=77)


class MuteBot:
    """Telegram takes what is sent, as far as one knows, and does not answer."""

    def __init__(self, error: TelegramError) -> None:
        self.sent = 0
        self._error = error

    async def send_document(self, *_args: object, **_how: object) -> None:
        self.sent += 1
        raise self._error


async def test_what_may_have_arrived_is_not_sent_again_and_what_did_not_is():
    agent = Agent()
    event = agent.file("a.txt", b"x")
    for error, raised in ((TimedOut(), FileLost), (TimedOut(NOT_SENT), TimedOut)):
        with pytest.raises(raised):
            await FileSender(cast("Any", MuteBot(error))).send(5, agent_file(agent, event))


async def test_what_a_killed_bot_left_on_its_way_is_removed_and_nothing_is_left_by_another(stage, tmp_path):
    (tmp_path / "sending").mkdir()
    (tmp_path / "sending" / "left").write_bytes(b"x")
    folder = emptied(tmp_path / "sending")

    await FileSender(stage.bot, folder=folder).send(5, agent_file(stage.agent, stage.agent.file("a.txt", b"x")))

    assert list(folder.iterdir()) == []


async def test_a_full_disk_is_a_lost_file(stage, send, monkeypatch):
    def full(*_args: object, **_how: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)

    with pytest.raises(FileLost):
        await send(stage.agent.file("a.txt", b"x"))
