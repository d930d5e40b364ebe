"""The bot's HTTP door, inside its own event loop. `/health` is all there is behind it so far."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from litestar import HttpMethod, Litestar, Response, route
from litestar.di import NamedDependency, Provide
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from bot.errors import BadSettings
from bot.health import Health
from bot.settings import Settings

CLOSE_SECONDS = 3
"""How long answers that are under way may take when the door closes."""


def listen(settings: Settings) -> socket.socket:
    """Take the door's port, so that a wrong one is known before anything else starts; `BadSettings` if it is taken."""
    host, port = settings.http_host, settings.http_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise BadSettings(
            f"HTTP_PORT {port} cannot be opened on HTTP_HOST {host} ({why}); choose another, or 0 for none"
        ) from None


@asynccontextmanager
async def gateway(door: socket.socket, settings: Settings, health: Health) -> AsyncIterator[None]:
    """Answer at `door` while the block runs."""
    config = uvicorn.Config(
        _rooms(settings, health),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    server = _Server(config)
    # A copy, since it is closed at the end: who knocks between two blocks waits for the next one.
    serving = asyncio.create_task(server.serve(sockets=[door.dup()]), name="gateway")
    try:
        yield
    finally:
        server.told_to_stop.set()
        await serving


class _Server(uvicorn.Server):
    """uvicorn as a guest: the process's signals are not its own, and it sleeps while nobody asks."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told_to_stop = asyncio.Event()

    async def main_loop(self) -> None:
        # Its own wakes ten times a second to set the Date header and to look for its end.
        await self.told_to_stop.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _rooms(settings: Settings, health: Health) -> Litestar:
    return Litestar(
        [_health],
        dependencies={
            "settings": Provide(lambda: settings, sync_to_thread=False),
            "health": Provide(lambda: health, sync_to_thread=False),
        },
        openapi_config=None,
        logging_config=None,
    )


@route("/health", http_method=[HttpMethod.GET, HttpMethod.HEAD])
async def _health(
    settings: NamedDependency[Settings], health: NamedDependency[Health]
) -> Response[dict[str, str | dict[str, str]]]:
    report = await health.report()
    return Response(
        {
            "status": report.status,
            "version": settings.bot_version,
            "revision": settings.bot_revision,
            "checks": dict(report.parts),
        },
        status_code=HTTP_200_OK if report.is_well else HTTP_503_SERVICE_UNAVAILABLE,
        headers={"Cache-Control": "no-store"},
    )
