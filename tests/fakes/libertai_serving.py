"""Serve an ASGI application on a free port of loopback inside the running event loop."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

START_SECONDS = 10


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.told_to_stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # once, for the Date header: its ticks of 0.1 s would slow every test down
        await self.told_to_stop.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the tests' own


class Serving:
    """One application; its port is open from the beginning, so that its URL can be told before it starts."""

    def __init__(self, application: Any, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_server((host, 0))
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            application, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1, lifespan="on"
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve, once the application says that it is up."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        async with asyncio.timeout(START_SECONDS):
            await self._server.up.wait()

    async def stop(self) -> None:
        """Stop, and wait for it."""
        self._server.told_to_stop.set()
        if self._task is not None:
            await self._task
        self._socket.close()
