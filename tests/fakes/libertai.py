"""A double of LibertAI: inference gateway, account backend and model catalogue on one port, as strict as the real ones.

`python -m tests.fakes.libertai --port 8081 --key LTAI_demo` runs it by itself; tests use `LibertAIDouble` in their own
process, and both script it by `LibertAISim`. Words and shapes: libertai-api and libertai-inference.
"""

import argparse
import asyncio
import json
import socket
import time
from types import TracebackType
from typing import Any, Self

import uvicorn
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream

from tests.fakes import libertai_catalogue as catalogue
from tests.fakes import libertai_images, libertai_search
from tests.fakes.libertai_conversation import require_conversation
from tests.fakes.libertai_replies import stream, whole
from tests.fakes.libertai_serving import Serving
from tests.fakes.libertai_sim import WAIT_SECONDS, Asked, Call, Found, Key, KeyState, LibertAISim, Pace, Script
from tests.fakes.libertai_world import ERROR_BODIES, Refused, World, require_key, require_payment
from tests.fakes.libertai_world import state as find_state

# The inference gateway


@post("/v1/chat/completions", status_code=200)
async def completions(request: Request[Any, Any, Any], world: NamedDependency[World]) -> Response[Any]:
    """Answer a chat."""
    authorization = request.headers.get("authorization", "")
    require_payment(world, authorization)
    body = _parse(await request.body())
    _require_model(body)
    await world.record(Call(authorization=authorization, body=body))
    require_conversation(body)
    script = world.scripts.popleft() if world.scripts else world.always
    if script.status != 200 or script.body is not None:
        return _verbatim(script)
    if not body.get("stream"):
        return Response(whole(body, script))
    frames = stream(body, script, script.pace or world.pace, world.released)
    return Stream(frames, media_type=script.content_type or "text/event-stream")


@get("/v1/models")
async def models() -> dict[str, Any]:
    """List the models; nothing here says what they can do."""
    fields = {"object": "model", "created": int(time.time()), "owned_by": "libertai"}
    return {"object": "list", "data": [{"id": name} | fields for name in catalogue.model_ids()]}


@get("/libertai/models")
async def servers() -> dict[str, Any]:
    """List the servers behind each model."""
    return {name: {"servers": [f"https://{name}.example"]} for name in catalogue.BY_ID}


@get("/libertai/auth/check", media_type=MediaType.TEXT)
async def auth_check(request: Request[Any, Any, Any], world: NamedDependency[World]) -> str:
    """Say whether a key may be used."""
    require_key(world, request.headers.get("authorization", ""))
    return "OK"


@get("/health")
async def health() -> dict[str, Any]:
    """Say that the gateway is up."""
    return {"status": "ok", "models": len(catalogue.BY_ID)}


# The account backend


@get("/usage")
async def usage(request: Request[Any, Any, Any], world: NamedDependency[World]) -> dict[str, Any]:
    """Tell a key's allowance; every rejection is the same 401."""
    state = find_state(world, request.headers.get("authorization", ""))
    if state not in {KeyState.OK, KeyState.NO_CREDITS, KeyState.MONTHLY_LIMIT, KeyState.EXTRA_CREDIT_CAP}:
        raise Refused(401, {"detail": "Invalid API key"})
    percent = 12.5 if state is KeyState.OK else 100.0
    return {
        "plan": "free",
        "window_5h": {"used_percent": percent, "resets_at": "2026-11-21T15:00:00Z"},
        "weekly": {"used_percent": percent, "resets_at": "2026-11-24T00:00:00Z"},
        "extra_usage_credits": 4.2 if state is KeyState.OK else 0.0,
    }


@get("/credits/balance")
async def balance() -> dict[str, Any]:
    """Refuse: this call wants the token of a login, never an API key."""
    raise Refused(401, {"detail": "Not authenticated"})


@get("/api/v0/aggregates/{file_name:str}")
async def aggregate(file_name: FromPath[str], keys: FromQuery[str] = "LTAI_PRICING") -> dict[str, Any]:
    """Answer as the public aggregate endpoint."""
    if file_name != f"{catalogue.ADDRESS}.json" or keys != "LTAI_PRICING":
        raise Refused(404, {"error": "No aggregate found for this address"})
    return catalogue.aggregate()


# The control API


@post("/sim/keys", status_code=204)
async def sim_keys(data: JSONBody[Key], world: NamedDependency[World]) -> None:
    """Set the state of a key."""
    world.keys[data.key] = data.state


@post("/sim/scripts", status_code=204)
async def sim_scripts(data: JSONBody[Script], world: NamedDependency[World]) -> None:
    """Queue an answer."""
    world.scripts.append(data)


@post("/sim/found", status_code=204)
async def sim_found(data: JSONBody[Found], world: NamedDependency[World]) -> None:
    """Queue an answer of the search service."""
    world.found.append(data)


@post("/sim/always", status_code=204)
async def sim_always(data: JSONBody[Script], world: NamedDependency[World]) -> None:
    """Set the answer that is given when none is queued."""
    world.always = data


@post("/sim/pace", status_code=204)
async def sim_pace(data: JSONBody[Pace], world: NamedDependency[World]) -> None:
    """Set the pace of answers that do not bring their own."""
    world.pace = data


@post("/sim/release", status_code=204)
async def sim_release(world: NamedDependency[World]) -> None:
    """Let the answers go on that are held now; later ones hold again."""
    world.released.set()
    world.released = asyncio.Event()


@post("/sim/reset", status_code=204)
async def sim_reset(world: NamedDependency[World]) -> None:
    """Forget scripts and calls."""
    world.scripts.clear()
    world.found.clear()
    world.calls.clear()
    world.asked.clear()
    world.always = Script()
    world.pace = Pace()


@get("/sim/calls")
async def sim_calls(world: NamedDependency[World], at_least: FromQuery[int] = 0) -> list[Call]:
    """List the completions asked for, waiting until there are so many."""
    async with asyncio.timeout(WAIT_SECONDS), world.called:
        await world.called.wait_for(lambda: len(world.calls) >= at_least)
    return world.calls


@get("/sim/asked")
async def sim_asked(world: NamedDependency[World], at_least: FromQuery[int] = 0) -> list[Asked]:
    """List the requests to the search service, waiting until there are so many."""
    async with asyncio.timeout(WAIT_SECONDS), world.called:
        await world.called.wait_for(lambda: len(world.asked) >= at_least)
    return world.asked


# What it refuses


def _parse(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError as error:
        raise Refused(400, {"detail": "Invalid JSON"}) from error
    if not isinstance(body, dict):
        raise Refused(400, {"detail": "Invalid JSON"})
    return body


def _require_model(body: dict[str, Any]) -> None:
    if not catalogue.find(str(body.get("model"))):
        raise Refused(404, {"detail": f"Model '{body.get('model')}' not found"})


def _verbatim(script: Script) -> Response[bytes]:
    body = script.body if script.body is not None else json.dumps(ERROR_BODIES.get(script.status, {"detail": "Error"}))
    default = "application/json" if script.status != 200 else "text/event-stream"
    media_type = script.content_type or default
    return Response(body.encode(), status_code=script.status, media_type=media_type, headers=script.headers)


def _refused(_: Request[Any, Any, Any], error: Refused) -> Response[dict[str, Any]]:
    return Response(error.body, status_code=error.status, headers=error.headers)


def _http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    return Response({"detail": error.detail, "extra": error.extra}, status_code=error.status_code)


def application(world: World) -> Litestar:
    """Build the double."""
    search = [libertai_search.search, libertai_search.fetch, libertai_images.generate]
    gateway = [completions, models, servers, auth_check, health, *search]
    account = [usage, balance, aggregate]
    control = [sim_keys, sim_scripts, sim_always, sim_pace, sim_release, sim_reset, sim_calls, sim_found, sim_asked]
    return Litestar(
        [*gateway, *account, *control],
        dependencies={"world": Provide(lambda: world, sync_to_thread=False)},
        exception_handlers={Refused: _refused, HTTPException: _http_error},
        openapi_config=None,
        logging_config=None,
    )


class LibertAIDouble(LibertAISim):
    """The double inside this process, on a free port: `async with LibertAIDouble(keys=["LTAI_x"]) as libertai`."""

    def __init__(self, *, keys: list[str], host: str = "127.0.0.1") -> None:
        world = World()
        world.keys = dict.fromkeys(keys, KeyState.OK)
        self._serving = Serving(application(world), host)
        super().__init__(self._serving.url)

    async def __aenter__(self) -> Self:
        await self._serving.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._serving.stop()


def main() -> None:
    """Run the double by itself."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--key", action="append", default=[], help="an API key to accept; may be given several times")
    options.add_argument("--first-token", type=float, default=0.3, help="seconds before the first token")
    options.add_argument("--rate", type=float, default=25, help="tokens per second; 0 for all at once")
    given = options.parse_args()
    world = World()
    world.keys = dict.fromkeys(given.key, KeyState.OK)
    world.pace = Pace(first_token_seconds=given.first_token, tokens_per_second=given.rate or None)
    # A scripted reset breaks its connection by an exception, which uvicorn would log.
    config = uvicorn.Config(application(world), log_level="critical", access_log=False)
    with socket.create_server((given.host, given.port)) as door:
        print(f"LibertAI double at http://{given.host}:{door.getsockname()[1]}", flush=True)  # noqa: T201 - whom to call
        uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main()
