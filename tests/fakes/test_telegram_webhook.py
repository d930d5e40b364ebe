"""A webhook gets each update with its secret, again until taken, each chat in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from litestar import Litestar, Request, Response, post

from tests.fakes.telegram_client import TelegramDouble


@dataclass(slots=True)
class Receiver:
    """The bot's side: refuses as often as told, then takes."""

    refusals: int = 0
    url: str = ""
    secrets: list[str | None] = field(default_factory=list)
    taken: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    async def take(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            return [(await self.taken.get())["message"]["text"] for _ in range(count)]


class Quiet(uvicorn.Server):
    """Leaves the process's signals alone and says when it listens."""

    def __init__(self, app: Litestar) -> None:
        super().__init__(uvicorn.Config(app, port=0, ws="none", log_level="warning"))
        self.ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set_result(self.servers[0].sockets[0].getsockname()[1])


@asynccontextmanager
async def receiving(*, refusals: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver(refusals)

    @post("/hook")
    async def hook(request: Request[Any, Any, Any]) -> Response[str]:
        if receiver.refusals:
            receiver.refusals -= 1
            return Response("later", status_code=503)
        receiver.secrets.append(request.headers.get("X-Telegram-Bot-Api-Secret-Token"))
        receiver.taken.put_nowait(await request.json())
        return Response("", status_code=200)

    server = Quiet(Litestar([hook], openapi_config=None, logging_config=None))
    serving = asyncio.create_task(server._serve())
    receiver.url = f"http://127.0.0.1:{await server.ready}/hook"
    yield receiver
    server.should_exit = True
    await serving


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramDouble]:
    async with TelegramDouble() as double:
        double.server.webhooks._first_pause = 0.01
        yield double


async def test_updates_arrive_with_the_secret_and_in_order(telegram: TelegramDouble):
    user = await telegram.user()
    await user.send("before")
    async with receiving() as receiver:
        await telegram.call("setWebhook", url=receiver.url, secret_token="s-1")
        for text in "abc":
            await user.send(text)
        assert await receiver.take(4) == ["before", "a", "b", "c"]
        assert receiver.secrets == ["s-1"] * 4
        await telegram.call("deleteWebhook")


async def test_update_is_sent_again_until_it_is_taken(telegram: TelegramDouble):
    user = await telegram.user()
    async with receiving(refusals=3) as receiver:
        await telegram.call("setWebhook", url=receiver.url)
        await user.send("first")
        await user.send("second")
        assert await receiver.take(2) == ["first", "second"]
        info = (await telegram.call("getWebhookInfo"))["result"]
        await telegram.call("deleteWebhook")
    assert info["last_error_message"] == "Wrong response from the webhook: 503 Service Unavailable"
    assert (await telegram.call("getWebhookInfo"))["result"]["url"] == ""


async def test_what_was_not_taken_stays_for_polling(telegram: TelegramDouble):
    user = await telegram.user()
    await telegram.call("setWebhook", url="http://127.0.0.1:9/nobody")
    await user.send("kept")
    await telegram.call("deleteWebhook")
    updates = (await telegram.call("getUpdates"))["result"]
    assert [update["message"]["text"] for update in updates] == ["kept"]
