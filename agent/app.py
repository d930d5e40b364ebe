"""Composition root: settings → store → model client → loop → turns → HTTP; and what every refusal looks like."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ASGIApp

from agent import log
from agent.auth import Door, Key
from agent.compaction import Compactor
from agent.equip import Outfitter, has_wall, runner
from agent.errors import HINTS, Refused
from agent.files import Files
from agent.history import History
from agent.images import Images
from agent.llm import Llm
from agent.loop import Bounds, Loop
from agent.prompt import UNWALLED, system_prompt
from agent.protocol import ErrorKind, Refusal
from agent.questions import Questions
from agent.routes.chat import chat, forget, stop
from agent.routes.control import health
from agent.routes.files import download, upload
from agent.settings import Settings
from agent.store import Store
from agent.turns import Limits, Turns


@dataclass(frozen=True, slots=True)
class Agent:
    """The parts of a running agent that its process deals with."""

    asgi: ASGIApp
    turns: Turns


def build(settings: Settings) -> Agent:
    """Put an agent together; `BadSettings` if its data folder cannot be used."""
    store = Store(settings.agent_data)
    llm = _llm(settings)
    files = Files(store, runner(settings), Images(store, vision=settings.agent_vision))
    turns = Turns(
        store,
        _loop(settings, store, llm, files.images),
        Outfitter.of(settings, store, files),
        _limits(settings),
        Questions(files, tools=settings.agent_tools),
    )
    key = Key(settings.agent_secret)

    @asynccontextmanager
    async def alive(_: Litestar) -> AsyncIterator[None]:
        turns.recover()
        log.info("agent ready", name=settings.agent_name, release=settings.agent_release)
        try:
            yield
        finally:
            await turns.drain(0)
            await llm.close()
            store.close()

    rooms = Litestar(
        [chat, stop, forget, health, upload, download],
        lifespan=[alive],
        dependencies={
            "turns": Provide(lambda: turns, sync_to_thread=False),
            "settings": Provide(lambda: settings, sync_to_thread=False),
            "key": Provide(lambda: key, sync_to_thread=False),
            "llm": Provide(lambda: llm, sync_to_thread=False),
            "files": Provide(lambda: files, sync_to_thread=False),
        },
        exception_handlers={Refused: _refused, HTTPException: _bad_request, Exception: _broken},
        openapi_config=None,
        logging_config=None,
    )
    return Agent(Door(rooms, key), turns)


def _llm(settings: Settings) -> Llm:
    return Llm(
        base_url=str(settings.llm_base_url),
        api_key=settings.llm_api_key,
        model=settings.agent_model,
        max_tokens=settings.agent_max_tokens,
    )


def _loop(settings: Settings, store: Store, llm: Llm, images: Images) -> Loop:
    return Loop(
        llm=llm,
        compactor=Compactor(llm, History(store, settings.agent_history_messages), settings.agent_context_tokens),
        bounds=Bounds(rounds=settings.agent_rounds, tokens=settings.agent_turn_tokens),
        system=system_prompt(name=settings.agent_name, job=settings.agent_job, limits=_unwalled(settings)),
        images=images,
        retry_pause=settings.agent_retry_pause_seconds,
    )


def _unwalled(settings: Settings) -> str:
    is_told = settings.agent_tools and not settings.agent_unconfined_tools and not has_wall()
    return UNWALLED if is_told else ""


def _limits(settings: Settings) -> Limits:
    return Limits(
        concurrent=settings.agent_concurrent_turns,
        turn_seconds=settings.agent_turn_seconds,
        coalesce_seconds=settings.agent_coalesce_seconds,
    )


def _refused(_: Request[Any, Any, Any], error: Refused) -> Response[Refusal]:
    return Response(Refusal(kind=error.kind, text=error.text), status_code=error.status)


def _bad_request(_: Request[Any, Any, Any], error: HTTPException) -> Response[Refusal]:
    return Response(Refusal(kind=_kind(error.status_code), text=_text(error)), status_code=error.status_code)


def _broken(request: Request[Any, Any, Any], error: Exception) -> Response[Refusal]:
    log.error("request broke", error, method=request.method, path=request.url.path)
    return Response(Refusal(kind=ErrorKind.INTERNAL, text=HINTS[ErrorKind.INTERNAL]), status_code=500)


def _kind(status: int) -> str:
    return {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(status, "bad_request")


def _text(error: HTTPException) -> str:
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        return "; ".join(_problem(problem) for problem in error.extra[:3])
    return error.detail


def _problem(problem: Any) -> str:
    field = problem.get("key", "data")
    # `data` is our handlers' name for the body as a whole.
    return (
        "body: must be a JSON object with chat_id and message" if field == "data" else f"{field}: {problem['message']}"
    )
