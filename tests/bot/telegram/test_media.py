"""What file a message brings, of every kind that Telegram has; and how it is fetched, with Telegram's refusals."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from telegram import Message
from telegram.error import TelegramError
from telegram.ext import ExtBot

from bot.chat.files import Incoming
from bot.errors import FileLost
from bot.telegram.media import incoming
from bot.telegram.source import TelegramFiles
from bot.telegram.transport import AiohttpRequest
from tests.fakes.telegram_client import TelegramDouble
from tests.fakes.telegram_pictures import png
from tests.fakes.telegram_views import FaultKind


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramDouble]:
    async with TelegramDouble() as double:
        yield double


@pytest.fixture
async def bot(telegram) -> AsyncIterator[ExtBot[Any]]:
    bot: ExtBot[Any] = ExtBot(
        telegram.token,
        base_url=f"{telegram.url}/bot",
        base_file_url=f"{telegram.url}/file/bot",
        request=AiohttpRequest(),
        get_updates_request=AiohttpRequest(),
    )
    async with bot:
        yield bot


async def received(bot: ExtBot[Any]) -> Incoming:
    (update,) = await bot.get_updates()
    assert update.message
    found = incoming(update.message)
    assert found
    return found


async def fetched(bot: ExtBot[Any], file_id: str) -> bytes:
    async with TelegramFiles(bot).open(file_id) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize(
    ("kind", "name", "media_type"),
    [
        ("document", "a.txt", "text/plain"),
        ("audio", "a.txt", "text/plain"),
        ("video", "a.txt", "text/plain"),
        ("animation", "a.txt", "text/plain"),
        ("voice", "voice_1.ogg", "text/plain"),
        ("video_note", "video_note_1.mp4", "video/mp4"),
    ],
)
async def test_every_kind_of_file_is_known_and_can_be_fetched(telegram, bot, kind, name, media_type):
    person = await telegram.user()
    await person.upload("a.txt", b"text", mime="text/plain", kind=kind)

    file = await received(bot)

    assert (file.name, file.media_type, file.size) == (name, media_type, 4)
    assert await fetched(bot, file.file_id) == b"text"


async def test_of_a_photo_the_largest_size_is_taken(telegram, bot):
    person = await telegram.user()
    await person.upload("me.png", png(300, 200), mime="image/png", kind="photo")

    file = await received(bot)

    assert (file.name, file.media_type) == ("photo_1.jpg", "image/jpeg")
    assert await fetched(bot, file.file_id) == png(300, 200)


async def test_the_same_file_has_the_same_id_and_a_strange_id_is_made_safe(telegram, bot):
    person = await telegram.user()
    for name in ("a.txt", "b.txt"):
        await person.upload(name, b"same")
    one, two = [incoming(update.message) for update in await bot.get_updates() if update.message]

    assert one
    assert two
    assert one.key == two.key
    strange = _document(file_unique_id="../" * 90)
    assert strange.key.isalnum()
    assert len(strange.key) <= 128


@pytest.mark.parametrize(
    ("told", "name"),
    [(None, "document_7.bin"), ("  ", "document_7.bin"), ("../" + "x" * 300 + ".pdf", "x" * 251 + ".pdf")],
)
def test_a_missing_or_endless_name_is_mended(told, name):
    assert _document(file_name=told).name == name


def test_a_missing_or_endless_type_is_any():
    assert {_document(mime_type=told).media_type for told in (None, "", "x/" * 100)} == {"application/octet-stream"}


async def test_a_sticker_is_no_file(telegram, bot):
    person = await telegram.user()
    await person.sticker()
    (update,) = await bot.get_updates()

    assert update.message
    assert incoming(update.message) is None


async def test_a_name_with_everything_in_it_can_be_fetched(telegram, bot):
    person = await telegram.user()
    await person.upload('a?b#c %2f "d" ü.p/df', b"content")

    assert await fetched(bot, (await received(bot)).file_id) == b"content"


async def test_a_file_over_the_limit_and_one_that_is_gone_are_final(telegram, bot):
    person = await telegram.user()
    big = await person.upload("big.bin", b"x", size=20 * 1024 * 1024 + 1)
    gone = await person.upload("gone.bin", b"x")
    await telegram.lose_file(gone.file.file_id)

    for file_id, hint in ((big.file.file_id, "file-too-big"), (gone.file.file_id, "file-gone"), ("?", "file-gone")):
        with pytest.raises(FileLost) as caught:
            await fetched(bot, file_id)
        assert (caught.value.hint, caught.value.may_heal) == (hint, False)


@pytest.mark.parametrize("method", ["getFile", "download"])
async def test_a_server_in_trouble_may_heal_and_no_error_tells_the_token(telegram, bot, caplog, method):
    person = await telegram.user()
    sent = await person.upload("a.bin", b"x")
    await telegram.fault(FaultKind.SERVER_ERROR, method)

    with pytest.raises(FileLost) as caught:
        await fetched(bot, sent.file.file_id)

    assert (caught.value.hint, caught.value.may_heal) == ("file-not-fetched", True)
    assert isinstance(caught.value.__cause__, TelegramError)
    assert telegram.token not in f"{caught.value!r}{caught.value.__cause__!r}{caplog.text}"
    assert await fetched(bot, sent.file.file_id) == b"x"


async def test_no_connection_is_told_without_the_token(telegram, bot):
    person = await telegram.user()
    sent = await person.upload("a.bin", b"x")
    file = await bot.get_file(sent.file.file_id)
    closed = f"http://127.0.0.1:1/file/bot{telegram.token}/{file.file_path}"

    with pytest.raises(TelegramError) as caught:
        async with bot.request.download(closed):
            pass

    assert telegram.token not in repr(caught.value)
    assert caught.value.__cause__ is None


def _document(**told: Any) -> Incoming:
    document = {"file_id": "F1", "file_unique_id": "AgAD1", **told}
    message = Message.de_json(
        {"message_id": 7, "date": 1_800_000_000, "chat": {"id": 5, "type": "private"}, "document": document}, None
    )
    found = incoming(message)
    assert found
    return found
