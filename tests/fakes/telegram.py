"""A double of Telegram's Bot API, as strict as the real one, with a chat page: python -m tests.fakes.telegram."""

import argparse
import asyncio
import contextlib
import logging
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.di import Provide
from pydantic import BaseModel

from tests.fakes import telegram_control as control
from tests.fakes.telegram_http import BotApi, call_method, download
from tests.fakes.telegram_hub import Hub
from tests.fakes.telegram_people import Impossible
from tests.fakes.telegram_state import Clock, World
from tests.fakes.telegram_webhook import Webhooks

TOKEN = "123456789:AAdouble-of-the-bot-api_not-a-secret"
USERNAME = "baal_demo_bot"
NAME = "Baal"
LARGEST_BODY = 64 * 1024 * 1024
TICK_SECONDS = 0.1


class Server:
    """The double's parts, wired: the world behind it, the door in front."""

    def __init__(
        self, *, token: str = TOKEN, username: str = USERNAME, name: str = NAME, clock: Clock | None = None
    ) -> None:
        self.world = World(token=token, username=username, name=name, clock=clock or Clock())
        self.hub = Hub()
        self.webhooks = Webhooks(self.world)
        self.api = BotApi(self.world, self.webhooks)
        self.world.publish = self.hub.publish

    async def close(self) -> None:
        """End every held request, so that the HTTP server can stop."""
        self.api.closing.set()
        self.hub.close()
        self.world.close()
        await self.webhooks.stop()

    def app(self) -> Litestar:
        given = {"world": self.world, "api": self.api, "hub": self.hub}
        return Litestar(
            [control.People, control.Groups, control.Chats, control.Workshop, control.page, call_method, download],
            dependencies={name: _constant(part) for name, part in given.items()},
            exception_handlers={Impossible: control.explain_impossible},
            type_encoders={BaseModel: lambda model: model.model_dump(mode="json", exclude_none=True)},
            request_max_body_size=LARGEST_BODY,
            openapi_config=None,
            logging_config=None,
        )


def _constant(part: object) -> Provide:
    return Provide(lambda: part, sync_to_thread=False)


class LoopbackServer(uvicorn.Server):
    """uvicorn that lets the held requests go before it waits for them, and announces its URL."""

    def __init__(self, double: Server, *, host: str = "127.0.0.1", port: int = 0) -> None:
        config = uvicorn.Config(
            double.app(), host=host, port=port, ws="none", log_level=logging.WARNING, access_log=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        super().__init__(config)
        self._double = double
        self._leaving = asyncio.Event()
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self.ready.set_result(f"http://{host}:{port}")

    async def serve_quietly(self) -> None:
        """Serve inside somebody else's process: its signals are not this server's."""
        self.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        await self.serve()

    def leave(self) -> None:
        """End it at once: of itself it looks ten times a second whether it shall."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), TICK_SECONDS)
            ticks += 1

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        await self._double.close()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.telegram", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--token", default=TOKEN, help="the bot's token (digits, a colon, letters)")
    parser.add_argument("--username", default=USERNAME)
    parser.add_argument("--name", default=NAME)
    parser.add_argument("--clock", type=float, help="Unix time at which the double's clock starts")
    parser.add_argument("--strict-rate", action="store_true", help="1/s per chat, 20/min per group")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    double = Server(token=options.token, username=options.username, name=options.name, clock=Clock(options.clock))
    double.api.limits.strict = options.strict_rate
    server = LoopbackServer(double, host=options.host, port=options.port)
    announcing = asyncio.create_task(_announce(server))
    try:
        await server.serve()
    finally:
        announcing.cancel()


async def _announce(server: LoopbackServer) -> None:
    print(await server.ready, flush=True)  # noqa: T201 - the one line that who started it waits for


if __name__ == "__main__":
    main()
