"""The floor of the benchmark: the smallest Litestar relay that asks the model the same question as the agent.

It is told once what the agent sends (`PUT /context`: the prompt, the tools, 100 messages), holds that in memory, sends
it with each message and streams the answer's bytes on. It stores nothing, reads nothing of the answer, knows nobody.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from litestar import Litestar, get, post, put
from litestar.datastructures import State
from litestar.params import JSONBody
from litestar.response import Stream


@asynccontextmanager
async def _client(app: Litestar) -> AsyncIterator[None]:
    app.state.context = {"model": os.environ["AGENT_MODEL"], "stream": True, "messages": []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


@put("/context")
async def learn(data: JSONBody[dict[str, Any]], state: State) -> None:
    """Take over a request to the model; its last message is the question."""
    data["messages"].pop()
    state.context = data


@post("/chat", status_code=200)
async def chat(data: JSONBody[dict[str, Any]], state: State) -> Stream:
    """Relay one message."""
    question = {"role": "user", "content": data["message"]}
    body = state.context | {"messages": [*state.context["messages"], question]}
    return Stream(_relay(state.session, body), media_type="text/event-stream")


@get("/health")
async def health() -> str:
    """Say that it is up."""
    return "ok"


async def _relay(session: aiohttp.ClientSession, body: dict[str, Any]) -> AsyncIterator[bytes]:
    headers = {"Authorization": f"Bearer {os.environ['LLM_API_KEY']}"}
    async with session.post(f"{os.environ['LLM_BASE_URL']}/chat/completions", json=body, headers=headers) as response:
        async for piece in response.content.iter_any():
            yield piece


def main() -> None:
    """Serve on the inherited socket, as the agent does."""
    with socket.socket(fileno=int(os.environ["AGENT_FD"])) as door:
        app = Litestar([learn, chat, health], lifespan=[_client], openapi_config=None, logging_config=None)
        config = uvicorn.Config(app, log_level="critical", access_log=False, ws="none", timeout_keep_alive=600)
        uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main()
