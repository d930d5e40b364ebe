"""Run an agent: `python -m agent`, described by its environment."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agent import lean  # noqa: F401 - for its effect on what follows

# isort: split
from uvicorn.config import Config
from uvicorn.server import Server

from agent import log
from agent.app import Agent, build
from agent.errors import BadSettings
from agent.sandbox.kernel import forbid_dumps
from agent.settings import Settings, listen, read_settings

EX_CONFIG = 78
_IDLE_SECONDS = 120
"""Of a kept connection: longer than the bot (45 s) and Caddy (75 s) keep it, or it ends as it is used again."""
_CLOSE_SECONDS = 3
"""For clients that do not read the end of their stream."""


class _Server(Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's handlers close the port first, and end the process by the signal instead of with exit code 0.
        yield


def main() -> int:
    """Serve until told to stop."""
    log.setup()
    forbid_dumps()
    try:
        settings = read_settings()
        return asyncio.run(_serve(settings), loop_factory=_config(None).get_loop_factory())
    except BadSettings as error:
        print(f"agent: {error}", file=sys.stderr)  # noqa: T201 - for whoever starts it by hand
        return EX_CONFIG


async def _serve(settings: Settings) -> int:
    with listen(settings) as door:
        agent = build(settings)
        server = _Server(_config(agent))
        draining = asyncio.create_task(_drain_on_signal(agent, server, settings.agent_drain_seconds))
        try:
            await server.serve(sockets=[door])
        finally:
            draining.cancel()
        return 0


async def _drain_on_signal(agent: Agent, server: Server, seconds: float) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
    log.info("agent draining", turns=agent.turns.running)
    await agent.turns.drain(seconds)
    server.should_exit = True


def _config(agent: Agent | None) -> Config:
    return Config(
        agent.asgi if agent else "",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
