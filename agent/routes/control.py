"""Say how the agent is, what it spent, and how it is configured; configure it anew."""

from datetime import date
from typing import Any

from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from agent import log
from agent.agenda import Agenda
from agent.auth import Key
from agent.config import Live
from agent.errors import Refused
from agent.llm import Server
from agent.mode import Standing
from agent.probe import Prober
from agent.protocol import Config, Health, Spendings
from agent.snapshot import Snapshots
from agent.turns import Turns
from agent.usage import Ledger


@get("/health")
async def health(  # noqa: PLR0917 - dependencies, by name
    request: Request[Any, Any, Any],
    turns: NamedDependency[Turns],
    agenda: NamedDependency[Agenda],
    live: NamedDependency[Live],
    key: NamedDependency[Key],
    server: NamedDependency[Server],
    standing: NamedDependency[Standing],
    snapshots: NamedDependency[Snapshots],
) -> Health:
    """Tell everybody that the agent is up, and who has the secret also what it does."""
    known = key.opens(request.scope["headers"])
    if known:  # the control plane has found it: a first message is not far, and loading the client takes a second
        server.connect()
    settings = live.settings()
    return Health(
        status="draining" if turns.draining else "ok",
        agent_name=settings.agent_name,
        release=settings.agent_release,
        version=settings.agent_version,
        revision=settings.agent_revision,
        digest=settings.agent_digest,
        model=settings.agent_model if known else None,
        running_turns=turns.running if known else None,
        next_due=agenda.next_due() if known else None,
        config_version=settings.agent_config_version if known else None,
        mode=standing.mode if known else None,
        epoch=standing.epoch if known else None,
        trouble=(snapshots.trouble or None) if known else None,
    )


@post("/probe", status_code=204)
async def probe(prober: NamedDependency[Prober]) -> Response[None]:
    """Prove that the model answers from here."""
    await prober.probe()
    return Response(None, status_code=204)


@get("/config")
async def config(live: NamedDependency[Live]) -> Config:
    """Tell what is in force."""
    return live.config()


@put("/config")
async def configure(data: JSONBody[Config], live: NamedDependency[Live]) -> Config:
    """Change it for the turns that begin from now on; what is in force then."""
    live.change(data)
    log.info("configured", version=data.version)
    return live.config()


@get("/usage")
async def usage(
    ledger: NamedDependency[Ledger], since: FromQuery[str | None] = None, chat_id: FromQuery[str | None] = None
) -> Spendings:
    """Tell what chats cost, by day (UTC): since a day, of one chat or of all."""
    try:
        return ledger.read(date.fromisoformat(since) if since else None, chat_id or None)
    except ValueError:
        raise Refused(400, "bad_request", "since: must be a day as YYYY-MM-DD") from None
