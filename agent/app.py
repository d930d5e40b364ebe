"""Composition root: settings → store → model client → loop → turns → HTTP; and what every refusal looks like."""

import gc
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.types import ASGIApp

from agent import log
from agent.agenda import Agenda
from agent.answers import HANDLERS
from agent.auth import Door, Key
from agent.compaction import Compactor
from agent.completions.chats import Chats
from agent.config import Live
from agent.delegate import Delegates
from agent.equip import Outfitter, has_wall, runner
from agent.files import Files
from agent.handover import Handover
from agent.history import History
from agent.images import Images
from agent.llm import Llm, Server
from agent.loop import Bounds, Loop
from agent.mode import Standing
from agent.probe import Prober
from agent.prompt import UNWALLED, system_prompt
from agent.protocol import Mode
from agent.questions import Questions
from agent.reception import Reception
from agent.routes.chat import chat, forget, stop
from agent.routes.control import config, configure, health, probe, usage
from agent.routes.files import download, upload
from agent.routes.openai import complete, model, models
from agent.routes.outbox import acknowledge, outbox, tick
from agent.routes.state import activate, restore_snapshot, seal, take_snapshot, unseal
from agent.routes.tasks import stop_task, tasks
from agent.settings import Settings
from agent.snapshot import Snapshots
from agent.store import Store
from agent.tick import Ticker
from agent.turns import Limits, Turns
from agent.usage import Ledger

_WHEN_SEALED = re.compile(r"/(chat(/[^/]*/stop)?|probe|snapshot|seal|activate|unseal)")
"""What a sealed agent does besides reading. A turn that it knows is answered from the store."""
_WHEN_STANDBY = re.compile(rf"{_WHEN_SEALED.pattern}|/config")
"""Its files and letters come by snapshot alone; how it is configured may be told before."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The parts of a running agent that its process deals with."""

    asgi: ASGIApp
    turns: Turns
    agenda: Agenda


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the rooms may ask for, by these names."""

    settings: Settings
    key: Key
    store: Store
    standing: Standing
    live: Live
    ledger: Ledger
    server: Server
    prober: Prober
    files: Files
    agenda: Agenda
    delegates: Delegates
    turns: Turns
    reception: Reception
    ticker: Ticker
    chats: Chats
    snapshots: Snapshots
    handover: Handover


def build(settings: Settings, *, clock: Callable[[], float] = time.time) -> Agent:
    """Put an agent together; `BadSettings` if its data folder cannot be used. `clock` is what falls due goes by."""
    parts = _parts(settings, clock)
    return Agent(Door(_rooms(parts), parts.key), parts.turns, parts.agenda)


def _parts(settings: Settings, clock: Callable[[], float]) -> _Parts:
    store = Store(settings.agent_data)
    standing = _standing(settings, store)
    live, ledger = Live(settings, store), Ledger(store)
    server = Server(base_url=str(settings.llm_base_url), api_key=settings.llm_api_key)
    files = Files(store, runner(settings), Images(store, vision=lambda: live.settings().agent_vision))
    loop = partial(_loop, live, store, server, files.images)
    agenda = Agenda.of(store, heartbeat_minutes=settings.agent_heartbeat_minutes, clock=clock)
    delegates = Delegates(loop)
    turns = Turns(
        store,
        loop,
        Outfitter.of(settings, store, live, agenda, delegates, files),
        _limits(settings),
        questions=Questions(files, tools=lambda: live.settings().agent_tools),
        ledger=ledger,
        next_due=agenda.next_due,
        standing=standing,
        clock=clock,
    )
    ticker = Ticker(agenda, turns, standing)
    snapshots = Snapshots(settings.agent_data, store, files.runner, standing, settings.agent_release)
    return _Parts(
        settings=settings,
        key=Key(settings.agent_secret),
        store=store,
        standing=standing,
        live=live,
        ledger=ledger,
        server=server,
        prober=Prober(server, live),
        files=files,
        agenda=agenda,
        delegates=delegates,
        turns=turns,
        reception=Reception(turns, agenda, settings.agent_keepalive_seconds),
        ticker=ticker,
        chats=Chats(turns, store, files),
        snapshots=snapshots,
        handover=Handover(standing, turns, ticker, store=store, snapshots=snapshots),
    )


def _rooms(parts: _Parts) -> Litestar:
    async def writable(request: Request[Any, Any, Any]) -> None:  # Litestar runs what is not async in a thread
        may = _WHEN_STANDBY if parts.standing.mode is Mode.STANDBY else _WHEN_SEALED
        if request.method != "GET" and not may.fullmatch(request.url.path):
            parts.standing.require_active()

    return Litestar(
        [
            *(chat, stop, forget, tasks, stop_task),
            *(upload, download),
            *(health, probe, config, configure, usage),
            *(tick, outbox, acknowledge),
            *(take_snapshot, restore_snapshot, seal, activate, unseal),
            *(complete, models, model),
        ],
        before_request=writable,
        lifespan=[partial(_alive, parts)],
        dependencies={each.name: _always(getattr(parts, each.name)) for each in fields(parts)},
        exception_handlers=HANDLERS,
        openapi_config=None,
        logging_config=None,
    )


def _always(part: Any) -> Provide:
    return Provide(lambda: part, sync_to_thread=False)


@asynccontextmanager
async def _alive(parts: _Parts, _: Litestar) -> AsyncIterator[None]:
    await parts.snapshots.recover()
    if parts.standing.mode is Mode.ACTIVE:
        parts.turns.recover()
        parts.chats.recover()
    log.info("agent ready", name=parts.settings.agent_name, release=parts.settings.agent_release)
    gc.freeze()  # what is here by now stays, and need not be looked through again and again
    try:
        yield
    finally:
        await parts.ticker.close()
        await parts.turns.drain(0)
        await parts.chats.close()
        await parts.server.close()
        parts.store.close()


def _standing(settings: Settings, store: Store) -> Standing:
    standing = Standing(settings.agent_data, settings.agent_mode)
    if store.damage:
        standing.stand_by()
    return standing


def _loop(live: Live, store: Store, server: Server, images: Images) -> Loop:
    """As a turn that begins now needs it: its configuration does not change while it runs."""
    settings = live.settings()
    llm = Llm(server, settings.agent_model, settings.agent_max_tokens)
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
