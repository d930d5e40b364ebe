"""What a caller is told when a request goes wrong: by the kind of error, never an exception's own words."""

import errno
import sqlite3
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from agent import log, refusals
from agent.database import is_full
from agent.errors import HINTS, Refused
from agent.packing import NotPacked
from agent.protocol import ErrorKind, Refusal

_FULL = Refusal(
    kind="no_room",
    text="The disk of this agent's machine is full. Delete something, or give it a bigger machine, and try again.",
)
_NOT_PACKED = Refusal(
    kind="not_packed",
    text="The files of this agent could not be read, so there is no whole snapshot now. Try again.",
)


def _refused(request: Request[Any, Any, Any], error: Refused) -> Response[Any]:
    return _answer(request, error.status, Refusal(kind=error.kind, text=error.text), error.param)


def _bad_request(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    refusal = Refusal(kind=_kind(error.status_code), text=_text(error))
    return _answer(request, error.status_code, refusal, _param(error))


def _not_packed(request: Request[Any, Any, Any], error: NotPacked) -> Response[Any]:
    log.error("workspace not packed", error)
    return _answer(request, 503, _NOT_PACKED)


def _not_written(request: Request[Any, Any, Any], error: OSError | sqlite3.OperationalError) -> Response[Any]:
    if not _is_full(error):
        return _broken(request, error)
    log.error("disk full", error, path=request.url.path)
    return _answer(request, 507, _FULL)


def _is_full(error: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return is_full(error)


def _broken(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    log.error("request broke", error, method=request.method, path=request.url.path)
    return _answer(request, 500, Refusal(kind=ErrorKind.INTERNAL, text=HINTS[ErrorKind.INTERNAL]))


HANDLERS: Any = {
    Refused: _refused,
    HTTPException: _bad_request,
    NotPacked: _not_packed,
    OSError: _not_written,
    sqlite3.OperationalError: _not_written,
    Exception: _broken,
}
"""For the application."""


def _answer(request: Request[Any, Any, Any], status: int, refusal: Refusal, param: str | None = None) -> Response[Any]:
    path = request.url.path
    body, headers = refusals.body(path, status, refusal, param), refusals.headers(path, refusal)
    return Response(body, status_code=status, headers=headers)


def _kind(status: int) -> str:
    return {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(status, "bad_request")


def _text(error: HTTPException) -> str:
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        return "; ".join(_problem(problem) for problem in error.extra[:3])
    return error.detail


def _param(error: HTTPException) -> str | None:
    """The field at fault; None if it is the body as a whole."""
    problems = error.extra if isinstance(error, ValidationException) and isinstance(error.extra, list) else []
    field = problems[0].get("key") if problems else None
    return field if isinstance(field, str) and field != "data" else None


def _problem(problem: Any) -> str:
    field = problem.get("key", "data")
    # `data` is our handlers' name for the body as a whole.
    return "body: must be a JSON object, as this call takes it" if field == "data" else f"{field}: {problem['message']}"
