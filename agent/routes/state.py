"""Let the agent's state travel: snapshots out and in, and which of two copies works."""

from typing import Annotated, Any

from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from agent.handover import Handover
from agent.protocol import Epoch, Manifest
from agent.snapshot import Snapshots, pieces_of

MAX_SEAL_SECONDS = 600


@get("/snapshot")
async def take_snapshot(snapshots: NamedDependency[Snapshots], base: FromQuery[str] = "") -> Stream:
    """Stream one archive of all that the agent is, without the files that are as they were in an earlier one."""
    taken = await snapshots.take(base)
    headers = {"Content-Length": str(taken.path.stat().st_size)}
    return Stream(pieces_of(taken.path), media_type="application/x-tar", headers=headers)


@put("/snapshot", request_max_body_size=None)
async def restore_snapshot(request: Request[Any, Any, Any], snapshots: NamedDependency[Snapshots]) -> Manifest:
    """Become what the archive in the body holds."""
    return await snapshots.receive(request.stream())


@post("/seal", status_code=200)
async def seal(
    data: JSONBody[Epoch],
    handover: NamedDependency[Handover],
    seconds: Annotated[float, QueryParameter(ge=0, le=MAX_SEAL_SECONDS)] = 120,
) -> Manifest:
    """Stop working; running turns may take so many seconds to end."""
    return await handover.seal(data.epoch, seconds)


@post("/activate", status_code=204)
async def activate(data: JSONBody[Epoch], handover: NamedDependency[Handover]) -> Response[None]:
    """Begin to work."""
    await handover.activate(data.epoch)
    return Response(None, status_code=204)


@post("/unseal", status_code=204)
async def unseal(data: JSONBody[Epoch], handover: NamedDependency[Handover]) -> Response[None]:
    """Work again."""
    await handover.activate(data.epoch)
    return Response(None, status_code=204)
