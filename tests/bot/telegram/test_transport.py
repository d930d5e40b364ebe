"""PTB speaks to a Bot API server over aiohttp: parameters, files, errors, timeouts, and never the token in a text."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from telegram.error import BadRequest, NetworkError, RetryAfter, TimedOut
from telegram.ext import ExtBot

from bot.errors import DatabaseLost
from bot.telegram.transport import AiohttpRequest

TOKEN = "1:secret-token"
ME = {"id": 1, "is_bot": True, "first_name": "Baal", "username": "baal_bot"}
MESSAGE = {"message_id": 7, "date": 1, "chat": {"id": 5, "type": "private"}}


@dataclass
class Server:
    """A Bot API server that answers whatever the test wants and keeps what it got."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    base_url: str = ""
    bodies: list[dict[str, object]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        if request.content_type == "application/json":
            self.bodies.append(await request.json())
        elif request.content_type == "multipart/form-data":
            parts = await request.post()
            self.bodies.append({name: _part(value) for name, value in parts.items()})
        return await self.answer(request)


def _part(value: object) -> object:
    return (value.filename, value.content_type, value.file.read()) if isinstance(value, web.FileField) else value


async def sends_a_message(request: web.Request) -> web.Response:
    return web.json_response({"ok": True, "result": ME if request.path.endswith("getMe") else MESSAGE})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server(sends_a_message)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.base_url = f"http://127.0.0.1:{port}/bot"
    yield server
    await runner.cleanup()


@pytest.fixture
async def bot(server) -> AsyncIterator[ExtBot[None]]:
    bot = _bot(server, AiohttpRequest())
    async with bot:
        server.bodies.clear()
        yield bot


def _bot(server: Server, request: AiohttpRequest) -> ExtBot[None]:
    return ExtBot(TOKEN, base_url=server.base_url, request=request, get_updates_request=AiohttpRequest())


async def test_parameters_arrive_with_objects_as_json_text(bot, server):
    message = await bot.send_message(5, "héllo & 😀", disable_notification=True)

    assert (message.message_id, server.bodies) == (
        7,
        [{"chat_id": "5", "text": "héllo & 😀", "disable_notification": "true"}],
    )


async def test_files_arrive_with_their_names_as_multipart(bot, server):
    await bot.send_document(5, b"# answer", filename="ответ.txt", caption="whole")

    assert server.bodies == [{"chat_id": "5", "caption": "whole", "document": ("ответ.txt", "text/plain", b"# answer")}]


async def test_one_connection_is_kept_for_calls_after_each_other(bot, server):
    for _ in range(5):
        await bot.send_message(5, "x")

    assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"description": "Bad Request: chat not found"}, BadRequest),
        (429, {"description": "Too Many Requests", "parameters": {"retry_after": 3}}, RetryAfter),
        (502, {"description": "Bad Gateway"}, NetworkError),
    ],
)
async def test_refusals_become_ptbs_errors(bot, server, status, answer, error):
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"ok": False, "error_code": status, **answer}, status=status)

    server.answer = refuse

    with pytest.raises(error):
        await bot.send_message(5, "x")


async def test_a_server_that_does_not_answer_in_time_is_a_timeout(bot, server):
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    server.answer = hang

    with pytest.raises(TimedOut):
        await bot.send_message(5, "x", read_timeout=0.05)
    never.set()


async def test_a_full_pool_is_a_timeout_of_a_request_not_sent(server):
    release, arrived = asyncio.Event(), asyncio.Event()

    async def hold(request: web.Request) -> web.Response:
        arrived.set()
        await release.wait()
        return await sends_a_message(request)

    async with _bot(server, AiohttpRequest(connections=1, connect_timeout=0.03, pool_timeout=0.02)) as bot:
        server.answer = hold
        held = asyncio.create_task(bot.send_message(5, "first"))
        await arrived.wait()
        with pytest.raises(TimedOut, match="not sent"):
            await bot.send_message(5, "second")
        release.set()
        await held

    assert [body["text"] for body in server.bodies if "text" in body] == ["first"]


async def test_a_cut_connection_is_a_network_error(bot, server):
    async def cut(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    server.answer = cut

    with pytest.raises(NetworkError, match="no answer from Telegram"):
        await bot.send_message(5, "x")


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:1/bot", "http://no.invalid/bot", "nonsense://x/bot", "http://[/bot"]
)
async def test_errors_and_logs_never_hold_the_token(base_url, caplog):
    caplog.set_level(logging.DEBUG, logger="aiohttp")
    request = AiohttpRequest(connect_timeout=2)
    await request.initialize()

    with pytest.raises(NetworkError) as raised:
        await request.post(f"{base_url}{TOKEN}/getMe")
    await request.shutdown()

    shown = [repr(raised.value), repr(raised.value.__cause__), caplog.text]
    assert [text for text in shown if "secret-token" in text] == []


async def test_a_closed_transport_says_so():
    request = AiohttpRequest()
    await request.initialize()
    await request.shutdown()
    await request.shutdown()

    with pytest.raises(NetworkError, match="closed"):
        await request.post("http://127.0.0.1:1/")


async def test_who_may_not_work_any_more_says_nothing_and_hears_nothing(server):
    answers: list[bool] = []

    async def confirm() -> None:
        if not answers.pop(0):
            raise DatabaseLost("another bot works on the database")

    bot = _bot(server, AiohttpRequest(confirm=confirm))
    answers[:] = [True, True]
    async with bot:
        answers[:] = [False]
        with pytest.raises(NetworkError):
            await bot.send_message(5, "x")
        assert server.bodies == []

        answers[:] = [True, False]
        with pytest.raises(NetworkError):
            await bot.send_message(5, "x")
        assert (len(server.bodies), answers) == (1, [])
