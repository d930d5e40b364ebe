"""Who comes in: secrets, versions of the protocol, requests that are none."""

import pytest

from agent.protocol import VERSION, VERSION_HEADER
from tests.agent.conftest import MODEL, SECRET


async def test_health_tells_strangers_little(client):
    response = await client.http.get("/health", headers={"Authorization": ""})
    told = {"status": "ok", "agent_name": "Ada", "release": "dev", "protocol": VERSION, "version": "dev"}
    said = {name: value for name, value in response.json().items() if value is not None}
    assert said == told | {"revision": "unknown"}


async def test_health_tells_the_bot_more(client):
    health = (await client.http.get("/health")).json()
    assert (health["model"], health["running_turns"]) == (MODEL, 0)


@pytest.mark.parametrize("path", ["/chat", "/nowhere", "/", "/chat/c1/stop", "/health/x"])
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", SECRET, f"Bearer {SECRET}x", "Bearer é".encode()])
async def test_everything_else_is_closed_without_the_secret(client, path, given):
    response = await client.http.post(path, json={}, headers={"Authorization": given})
    assert (response.status_code, response.json()["kind"]) == (401, "unauthorized")
    assert response.headers[VERSION_HEADER] == str(VERSION)


@pytest.mark.parametrize("version", ["0", str(VERSION + 2), "x", ""])
async def test_version_the_agent_does_not_speak_is_refused(client, version):
    response = await client.http.post("/chat", json={}, headers={VERSION_HEADER: version})
    assert (response.status_code, response.json()["kind"]) == (426, "protocol")


@pytest.mark.parametrize("version", [VERSION, VERSION + 1])
async def test_bot_of_this_or_the_next_version_is_understood(client, version):
    response = await client.http.post(
        "/chat", json={"chat_id": "1", "message": "x"}, headers={VERSION_HEADER: str(version)}
    )
    assert (response.status_code, response.headers[VERSION_HEADER]) == (200, str(VERSION))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "body"),
        (b"{x", "JSON"),
        (b"[]", "body"),
        (b'{"chat_id": "1"}', "message"),
        (b'{"chat_id": "1", "message": ""}', "message"),
        (b'{"chat_id": "", "message": "x"}', "chat_id"),
        (b'{"chat_id": "1", "message": "x", "turn_id": ""}', "turn_id"),
        (b'{"chat_id": "1", "message": "x", "after": -1}', "after"),
        (b'{"chat_id": "1", "message": "x", "role": "king"}', "role"),
        (b'{"chat_id": "1", "message": "x", "surprise": 1}', "surprise"),
        (b'{"chat_id": "1", "message": "' + b"x" * 200_001 + b'"}', "message"),
        (b'{"chat_id": "1", "message": "\\ud83d"}', ""),
    ],
)
async def test_request_that_is_none_is_refused_by_the_name_of_its_fault(client, body, named):
    response = await client.http.post("/chat", content=body, headers={"Content-Type": "application/json"})
    refusal = response.json()
    assert (response.status_code, refusal["kind"]) == (400, "bad_request")
    assert named in refusal["text"]
    assert "Traceback" not in refusal["text"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/chat", 405)])
async def test_unknown_places_are_refused_in_the_protocols_words(client, method, path, status):
    response = await client.http.request(method, path)
    assert response.status_code == status
    assert set(response.json()) == {"kind", "text"}


async def test_body_too_large_is_refused(client):
    response = await client.http.post("/chat", content=b"x" * 11_000_000)
    assert (response.status_code, response.json()["kind"]) == (413, "too_large")
