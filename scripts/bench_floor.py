"""The floor of the benchmark: the smallest Litestar relay, which streams a model server's bytes and keeps nothing."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.params import JSONBody
from litestar.response import Stream


@asynccontextmanager
async def _client(app: Litestar) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


@post("/chat", status_code=200)
async def chat(data: JSONBody[dict[str, Any]], state: State) -> Stream:
    """Relay one message."""
    return Stream(_relay(state.session, data["message"]), media_type="text/event-stream")


@get("/health")
async def health() -> str:
    """Say that it is up."""
    return "ok"


async def _relay(session: aiohttp.ClientSession, message: str) -> AsyncIterator[bytes]:
    body = {
        "model": os.environ["AGENT_MODEL"],
        "stream": True,
        "messages": [{"role": "user", "content": message}],
    }
    headers = {"Authorization": f"Bearer {os.environ['LLM_API_KEY']}"}
    async with session.post(f"{os.environ['LLM_BASE_URL']}/chat/completions", json=body, headers=headers) as response:
        async for piece in response.content.iter_any():
            yield piece


def main() -> None:
    """Serve on the inherited socket, as the agent does."""
    with socket.socket(fileno=int(os.environ["AGENT_FD"])) as door:
        app = Litestar([chat, health], lifespan=[_client], openapi_config=None, logging_config=None)
        config = uvicorn.Config(app, log_level="critical", access_log=False, ws="none")
        uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main()
