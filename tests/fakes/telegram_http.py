"""The door of the Bot API: /bot<token>/<method> and /file/bot<token>/<path>."""

import asyncio
import contextlib
import hmac
import inspect
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response, get, route
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import FromPath

from tests.fakes import telegram_wire as wire
from tests.fakes.telegram_gate import Faults, Outbox, RateLimits, Switches, raise_fault
from tests.fakes.telegram_methods import TABLE, Method
from tests.fakes.telegram_refusals import Refused, bad_request, method_not_found, unauthorized
from tests.fakes.telegram_state import World
from tests.fakes.telegram_views import Fault, FaultKind
from tests.fakes.telegram_webhook import Webhooks


class BotApi:
    """Takes a call through faults, switches and limits to its method, and notes it in the outbox."""

    def __init__(self, world: World, webhooks: Webhooks) -> None:
        self.world = world
        self.outbox = Outbox(world.token, world.clock.now)
        self.faults = Faults()
        self.switches = Switches()
        self.limits = RateLimits(world.clock.now)
        self.closing = asyncio.Event()
        hooks = (
            Method("setWebhook", wire.SetWebhook, lambda _world, call: webhooks.set(call)),
            Method("deleteWebhook", wire.DeleteWebhook, lambda _world, call: webhooks.delete(call)),
            Method("getWebhookInfo", wire.NoParameters, lambda _world, call: webhooks.info(call)),
        )
        self._methods = {method.name.lower(): method for method in (*TABLE, *hooks)}

    def owns(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.world.token.encode())

    async def call(self, name: str, parameters: Mapping[str, Any]) -> tuple[int, object]:
        """Status and body of the answer."""
        try:
            result = await self._run(name.lower(), parameters)
        except Refused as refused:
            self._note(name, parameters, refused.status, refused.description)
            return refused.status, refused.body()
        self._note(name, parameters, 200, "")
        return 200, {"ok": True, "result": result}

    async def _run(self, name: str, parameters: Mapping[str, Any]) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise method_not_found()
        chat_id = str(parameters.get("chat_id", ""))
        fault = self.faults.next(name, chat_id)
        if fault:
            await self._play(fault)
        self.switches.check(name)
        call = wire.read_parameters(method.parameters, parameters)
        self.limits.check(name, chat_id)
        result = method.run(self.world, call)
        if inspect.isawaitable(result):
            result = await result
        self.limits.spend(name, chat_id)
        if fault and fault.kind is FaultKind.LOST_ANSWER:
            raise Refused(502, "Bad Gateway")
        return result

    async def _play(self, fault: Fault) -> None:
        raise_fault(fault)
        if fault.kind is FaultKind.HANG:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), fault.seconds)
            raise Refused(504, "Gateway Timeout")

    def _note(self, name: str, parameters: Mapping[str, Any], status: int, description: str) -> None:
        call = self.outbox.note(name, parameters, status, description)
        self.world.publish("call", 0, lambda: call)


@route("/{bot:str}/{method:str}", http_method=["GET", "POST"])
async def call_method(request: Request[Any, Any, Any], api: NamedDependency[BotApi]) -> Response[bytes]:
    """Any method, with parameters from the query and from a JSON, form or multipart body."""
    bot, method = request.path_params["bot"], request.path_params["method"]
    if not bot.startswith("bot"):
        return _answer(404, {"ok": False, "error_code": 404, "description": "Not Found"})
    if not api.owns(bot[3:]):
        return _answer(401, unauthorized().body())
    try:
        parameters = await _parameters(request)
    except Refused as refused:
        return _answer(refused.status, refused.body())
    call = api.call(method, parameters)
    return _answer(*await (_unless_gone(request, call) if method.lower() == "getupdates" else call))


async def _unless_gone(
    request: Request[Any, Any, Any], call: Coroutine[Any, Any, tuple[int, object]]
) -> tuple[int, object]:
    """End a held request with its connection: a bot that stopped polling is no second poller."""
    held, gone = asyncio.create_task(call), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([held, gone], return_when=asyncio.FIRST_COMPLETED)
        return held.result() if held.done() else (499, {})
    finally:
        held.cancel()
        gone.cancel()
        await asyncio.gather(held, gone, return_exceptions=True)


def _answer(status: int, body: object) -> Response[bytes]:
    return Response(msgspec.json.encode(body), status_code=status, media_type=MediaType.JSON)


async def _parameters(request: Request[Any, Any, Any]) -> dict[str, Any]:
    query = dict(parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await request.form()
        return query | {name: await _part(value) for name, value in form.items()}
    body = await request.body()
    if not body:
        return query
    if kind == "application/json":
        return query | _object(body)
    return query | dict(parse_qsl(body.decode(), keep_blank_values=True))


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError):
        raise bad_request("can't parse request JSON object") from None


async def _part(value: Any) -> Any:
    if isinstance(value, UploadFile):
        return wire.Upload(value.filename, value.content_type, await value.read())
    return value


@get("/file/{bot:str}/{path:path}")
async def download(bot: FromPath[str], path: FromPath[str], api: NamedDependency[BotApi]) -> Response[bytes]:
    """A file by the path that getFile told."""
    if not api.owns(bot.removeprefix("bot")):
        return _answer(401, unauthorized().body())
    if fault := api.faults.next("download", ""):
        try:
            raise_fault(fault)
        except Refused as refused:
            return _answer(refused.status, refused.body())
    parts = path.strip("/").split("/")
    file = api.world.files.get(parts[1]) if len(parts) > 1 else None
    if file is None or file.id in api.world.gone_files or file.path != path.strip("/"):
        return _answer(404, {"ok": False, "error_code": 404, "description": "Not Found"})
    return Response(file.content, media_type=file.mime)
