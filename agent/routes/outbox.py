"""What the agent says unasked: do what is due, read the letters, acknowledge them."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from agent.agenda import Agenda
from agent.mode import Standing
from agent.protocol import Acknowledged, Outbox
from agent.tick import Ticker


@post("/tick", status_code=200)
async def tick(ticker: NamedDependency[Ticker]) -> Outbox:
    """Do what is due now; the letters that wait."""
    return await ticker.tick()


@get("/outbox")
async def outbox(
    agenda: NamedDependency[Agenda], standing: NamedDependency[Standing], after: FromQuery[int] = 0
) -> Outbox:
    """A page of the letters that wait, from the copy that works: all copies have those of the snapshot."""
    standing.require_active()
    return agenda.letters(after)


@post("/outbox/ack")
async def acknowledge(data: JSONBody[Acknowledged], agenda: NamedDependency[Agenda]) -> Response[None]:
    """Forget the letters that are safe with the control plane."""
    agenda.outbox.drop(data.up_to)
    return Response(None, status_code=204)
