"""LibertAI's search service, as its double answers it."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from litestar import Request, Response, post
from litestar.di import NamedDependency

from tests.fakes.libertai_sim import Asked, Found
from tests.fakes.libertai_world import Refused, World, require_payment

_ENGINES = {"google", "bing", "duckduckgo", "brave", "semantic_scholar"}
_TYPES = {"web", "news", "images", "academic"}
_MAX_RESULTS = 50


@post("/search", status_code=200)
async def search(request: Request[Any, Any, Any], world: NamedDependency[World]) -> Response[Any]:
    """Find pages."""
    require_payment(world, request.headers.get("authorization", ""))
    body = await _body(request, {"query", "engines", "max_results", "search_type"})
    _require(isinstance(body.get("query"), str) and body["query"].strip(), "query", "String should not be empty")
    engines = body.get("engines", ["google"])
    _require(isinstance(engines, list) and engines and set(engines) <= _ENGINES, "engines", "Input should be engines")
    _require(body.get("search_type", "web") in _TYPES, "search_type", f"Input should be one of {sorted(_TYPES)}")
    wanted = body.get("max_results", 10)
    _require(isinstance(wanted, int) and 1 <= wanted <= _MAX_RESULTS, "max_results", "Input should be 1 to 50")
    found = await _next(world, Asked(path="/search", body=body))
    results = found.results if found.results is not None else [{"title": "Soup", "url": "https://soup.example/"}]
    return _response(found, {"results": _ranked(results[:wanted], engines[0]), "meta": _meta(engines)})


@post("/search/fetch", status_code=200)
async def fetch(request: Request[Any, Any, Any], world: NamedDependency[World]) -> Response[Any]:
    """Read a page."""
    require_payment(world, request.headers.get("authorization", ""))
    body = await _body(request, {"url"})
    url = str(body.get("url"))
    parts = urlsplit(url)
    _require(parts.scheme in {"http", "https"} and parts.hostname, "url", "Input should be a valid URL")
    found = await _next(world, Asked(path="/search/fetch", body=body))
    page = {"url": url, "title": found.title, "content": found.content, "word_count": len(found.content.split())}
    return _response(found, page)


async def _body(request: Request[Any, Any, Any], known: set[str]) -> dict[str, Any]:
    body = await request.json()
    _require(isinstance(body, dict), "body", "Input should be an object")
    for name in body.keys() - known:
        _require(None, name, "Extra inputs are not permitted")
    return dict(body)


def _require(fact: object, field: str, message: str) -> None:
    if not fact:
        raise Refused(422, {"detail": [{"type": "value_error", "loc": ["body", field], "msg": message}]})


async def _next(world: World, asked: Asked) -> Found:
    found = world.found.popleft() if world.found else Found()
    released = world.released
    await world.record_search(asked)
    if found.hold:
        await released.wait()
    await asyncio.sleep(found.seconds)
    return found


def _response(found: Found, answer: dict[str, Any]) -> Response[Any]:
    if found.body is not None:
        return Response(found.body.encode(), status_code=found.status, media_type="application/json")
    error = {"error": "search service timeout"} if found.status in (502, 504) else {"detail": "All engines failed"}
    return Response(answer if found.status == 200 else error, status_code=found.status)


def _ranked(results: list[dict[str, Any]], engine: str) -> list[dict[str, Any]]:
    head = {"snippet": "All about soup.", "engine": engine, "found_in": [engine]}
    return [head | {"rank": rank} | result for rank, result in enumerate(results, 1)]


def _meta(engines: list[str]) -> dict[str, Any]:
    return {"engines_used": engines, "engines_failed": [], "engine_errors": {}}
