"""Files that people send, and that they are given: over HTTP, into a workspace of plain processes."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent import files as files_module
from agent.file_names import disposition, safe_name
from agent.protocol import MAX_FILE_BYTES, Role
from agent.sandbox.quota import Quota
from tests.agent.conftest import SECRET

PDF = b"%PDF-1.7 soup"


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "data" / "workspace"


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir()) if folder.is_dir() else []


async def put(client, content=PDF, file_id="f1", chat="c1", **query):
    query = {"name": "report.pdf", "role": "owner", "media_type": "application/pdf"} | query
    return await client.http.put(f"/files/{chat}/{file_id}", params=query, content=content)


async def received(client, content=PDF, **fields) -> dict[str, Any]:
    response = await put(client, content, **fields)
    assert response.status_code == 200, response.text
    return response.json()


# In


async def test_file_lands_in_the_owners_workspace_and_comes_back_as_it_was(client, workspace):
    told = await received(client)
    assert told == {
        "id": "f1",
        "name": "report.pdf",
        "media_type": "application/pdf",
        "size": len(PDF),
        "path": "received/report.pdf",
    }
    assert (workspace / "received/report.pdf").read_bytes() == PDF
    back = await client.http.get("/files/c1/f1")
    assert (back.status_code, back.content) == (200, PDF)
    assert back.headers["content-type"] == "application/pdf"
    assert back.headers["content-length"] == str(len(PDF))
    assert back.headers["x-content-type-options"] == "nosniff"
    assert 'attachment; filename="report.pdf"' in back.headers["content-disposition"]


async def test_visitors_file_lands_in_a_folder_of_their_chat(client, workspace):
    told = await received(client, role="visitor", chat="v7")
    assert told["path"] == "received/report.pdf"
    assert (workspace / "visitors/v7/received/report.pdf").read_bytes() == PDF
    assert (await client.http.get("/files/v7/f1")).content == PDF


async def test_file_of_another_chat_is_not_found(client):
    await received(client)
    response = await client.http.get("/files/c2/f1")
    assert (response.status_code, response.json()["kind"]) == (404, "not_found")


async def test_without_the_secret_nothing_goes_in_or_out(client, workspace):
    await received(client)
    for method in ("PUT", "GET"):
        response = await client.http.request(method, "/files/c1/f2", headers={"Authorization": ""})
        assert response.status_code == 401
    assert names(workspace / "received") == ["report.pdf"]


async def test_same_name_of_another_file_gets_a_number(client, workspace):
    await received(client, b"one", file_id="f1")
    assert (await received(client, b"two", file_id="f2"))["path"] == "received/report (2).pdf"
    assert (await received(client, b"three", file_id="f1", chat="c2"))["path"] == "received/report (3).pdf"
    assert [(await client.http.get(f"/files/{place}")).content for place in ("c1/f1", "c1/f2", "c2/f1")] == [
        b"one",
        b"two",
        b"three",
    ]


async def test_same_id_again_replaces_its_own_file(client, workspace):
    await received(client, b"one")
    assert (await received(client, b"second"))["path"] == "received/report.pdf"
    assert names(workspace / "received") == ["report.pdf"]
    assert (await client.http.get("/files/c1/f1")).content == b"second"


async def test_same_file_sent_twice_at_once_is_there_once(client, workspace):
    await asyncio.gather(*(received(client) for _ in range(4)))
    assert names(workspace / "received") == ["report.pdf"]


async def test_id_whose_file_was_deleted_does_not_take_anothers_place(client, workspace):
    await received(client, b"one", file_id="f1")
    (workspace / "received/report.pdf").unlink()
    await received(client, b"two", file_id="f2")
    assert (await client.http.get("/files/c1/f1")).status_code == 404
    assert (await received(client, b"one", file_id="f1"))["path"] == "received/report (2).pdf"
    assert (workspace / "received/report.pdf").read_bytes() == b"two"


async def test_file_that_is_gone_is_told(client, workspace):
    await received(client)
    (workspace / "received/report.pdf").unlink()
    response = await client.http.get("/files/c1/f1")
    assert (response.status_code, response.json()["kind"]) == (404, "not_found")
    assert "gone" in response.json()["text"]


@pytest.mark.parametrize("placed", ["link", "folder", "pipe"])
async def test_what_a_tool_put_in_its_place_is_not_handed_out(client, workspace, tmp_path, placed):
    await received(client)
    place = workspace / "received/report.pdf"
    place.unlink()
    (tmp_path / "secret").write_text(SECRET)
    {"link": lambda: place.symlink_to(tmp_path / "secret"), "folder": place.mkdir, "pipe": lambda: os.mkfifo(place)}[
        placed
    ]()
    response = await client.http.get("/files/c1/f1")
    assert response.status_code == 404
    assert SECRET not in response.text


async def test_folder_that_leads_out_takes_no_file(client, workspace, tmp_path):
    workspace.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (workspace / "received").symlink_to(tmp_path / "outside")
    assert (await put(client)).status_code == 503
    assert names(tmp_path / "outside") == []


# Sizes


async def test_big_file_goes_through_in_pieces(client, monkeypatch):
    monkeypatch.setattr(files_module, "PIECE_BYTES", 1_000)
    content = os.urandom(200_123)
    assert (await received(client, content, media_type=""))["size"] == len(content)
    async with client.http.stream("GET", "/files/c1/f1") as response:
        assert response.headers["content-length"] == str(len(content))
        assert b"".join([chunk async for chunk in response.aiter_bytes()]) == content


async def test_empty_file_is_one(client):
    assert (await received(client, b""))["size"] == 0
    assert (await client.http.get("/files/c1/f1")).content == b""


async def endless():
    for _ in range(MAX_FILE_BYTES // 1_000_000 + 1):
        yield bytes(1_000_000)


@pytest.mark.parametrize("announced", [True, False])
async def test_file_too_large_is_refused_and_leaves_nothing(client, workspace, announced):
    await received(client, b"one")
    content = bytes(MAX_FILE_BYTES + 1) if announced else endless()
    response = await put(client, content)
    assert (response.status_code, response.json()["kind"]) == (413, "too_large")
    assert names(workspace / "received") == ["report.pdf"]
    assert (await client.http.get("/files/c1/f1")).content == b"one"


async def test_largest_file_is_taken(client):
    assert (await received(client, bytes(MAX_FILE_BYTES)))["size"] == MAX_FILE_BYTES


async def test_sender_that_breaks_off_leaves_nothing(client, workspace):
    await received(client, b"one")
    url = client.http.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT /files/c1/f1?name=a.pdf&role=owner HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
    await writer.drain()
    while not any(name.startswith(".upload-") for name in names(workspace / "received")):
        await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    while names(workspace / "received") != ["report.pdf"]:
        await asyncio.sleep(0.01)
    assert (await client.http.get("/files/c1/f1")).content == b"one"


async def test_full_workspace_is_told_with_what_to_do(client, workspace, monkeypatch):
    await received(client, b"one")
    monkeypatch.setattr(Quota, "excess", lambda self, folder: "the workspace holds 2 MB: delete something")
    response = await put(client, file_id="f2")
    assert (response.status_code, response.json()["kind"]) == (507, "no_room")
    assert "delete something" in response.json()["text"]
    assert names(workspace / "received") == ["report.pdf"]


async def test_what_killed_uploads_left_is_swept_up(client, workspace):
    (workspace / "received").mkdir(parents=True)
    for name, age in ((".upload-old", 7_200), (".upload-new", 0)):
        (workspace / "received" / name).write_bytes(b"x")
        then = (workspace / "received" / name).stat().st_mtime - age
        os.utime(workspace / "received" / name, (then, then))
    await received(client)
    assert names(workspace / "received") == [".upload-new", "report.pdf"]


# Names

NAMES = [
    ("../../etc/passwd", "passwd"),
    ("..\\..\\boot.ini", "boot.ini"),
    ("/abs/olute.txt", "olute.txt"),
    ("quo\"te's.txt", "quo\"te's.txt"),
    ("new\nli\rne\0.txt", "newline.txt"),
    ("...hidden", "hidden"),
    (".upload-x", "upload-x"),
    ("", "file"),
    ("..", "file"),
    (" / ", "file"),
    ("\u202egpj.exe", "gpj.exe"),
    ("\u2028a\x1b[31m.txt", "a[31m.txt"),
    ("суп \U0001f372.txt", "суп \U0001f372.txt"),
    ("x" * 300 + ".tar.gz", "x" * 117 + ".gz"),
    ("x" * 300, "x" * 120),
    ("a." + "x" * 300, "a." + "x" * 118),
]


@pytest.mark.parametrize(("given", "safe"), NAMES)
async def test_name_of_any_kind_is_made_safe(client, workspace, given, safe):
    told = await received(client, name=given)
    assert (told["name"], told["path"]) == (safe, f"received/{safe}")
    assert names(workspace) == ["received"]
    assert (await client.http.get("/files/c1/f1")).content == PDF


@pytest.mark.parametrize("name", ["\U0001f372" * 300, "\U0001f372" * 300 + ".pdf", "é" * 300 + ".pdf", "\ud83d.txt"])
def test_long_names_fit_into_a_folder_and_keep_their_suffix(name):
    safe = safe_name(name)
    assert len(safe) <= 120
    assert len(safe.encode()) <= 200
    assert safe.endswith(".pdf") == name.endswith(".pdf")


def test_header_of_any_name_is_one_safe_line():
    header = disposition('a"b;\\ суп%\U0001f372.txt')
    assert header.isascii()
    assert header.startswith('attachment; filename="a_b__ ____')
    assert "filename*=UTF-8''a%22b%3B%5C%20%D1%81" in header


@pytest.mark.parametrize("file_id", ["a b", "é", "x" * 129, "a.b"])
async def test_id_that_is_none_is_refused(client, workspace, file_id):
    response = await put(client, file_id=file_id)
    assert (response.status_code, response.json()["kind"]) == (400, "bad_request")
    assert not workspace.exists()


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        ("text/plain", "text/plain"),
        ("", "application/octet-stream"),
        ("text/html\r\nX: y", "application/octet-stream"),
        ("image/png", "application/octet-stream"),
        ("x" * 300, "application/octet-stream"),
    ],
)
async def test_media_type_is_a_plain_one_and_no_image_that_is_none(client, claimed, kept):
    assert (await received(client, media_type=claimed))["media_type"] == kept
    assert (await client.http.get("/files/c1/f1")).headers["content-type"].partition(";")[0] == kept


# In questions


async def test_question_tells_of_its_files(client, libertai):
    file = await received(client, b"x" * 120_000)
    await client.events("What is this?", role=Role.OWNER, attachments=[file])
    [question] = (await libertai.calls())[0].messages
    line = "[Attached file: received/report.pdf, application/pdf, 120 kB.]"
    assert question["content"].startswith(f"What is this?\n{line}\n\n[Not written by the person")


async def test_model_without_tools_knows_that_it_cannot_open_files(agents, libertai):
    client = await agents(agent_tools=False)
    file = await received(client)
    await client.events("What is this?", role=Role.OWNER, attachments=[file])
    assert "13 bytes. You cannot open files" in (await libertai.calls())[0].messages[0]["content"]


@pytest.mark.parametrize(("chat", "role"), [("c2", "owner"), ("c1", "visitor")])
async def test_file_that_is_not_this_persons_refuses_the_turn(client, libertai, chat, role):
    file = await received(client)
    response = await client.ask(chat_id=chat, role=role, attachments=[file], turn_id="t1")
    assert (response.status_code, response.json()["kind"]) == (422, "unknown_file")
    assert "PUT /files" in response.json()["text"]
    assert await libertai.calls() == []
    file = await received(client, chat=chat, role=role)
    again = await client.ask(chat_id=chat, role=role, attachments=[file], turn_id="t1")
    assert again.status_code == 200


async def test_forgotten_chat_has_no_files_but_they_stay_in_the_workspace(client, workspace):
    file = await received(client)
    await client.http.delete("/chat/c1")
    assert (await client.http.get("/files/c1/f1")).status_code == 404
    assert (await client.ask(role="owner", attachments=[file])).status_code == 422
    assert names(workspace / "received") == ["report.pdf"]


async def test_files_are_known_after_a_restart(agents, workspace):
    first = await agents()
    await received(first)
    await first.turns.drain(0)
    first.turns._store.close()
    second = await agents()
    assert (await second.http.get("/files/c1/f1")).content == PDF


async def test_wall_that_is_out_of_reach_is_told(agents, monkeypatch, tmp_path):
    (tmp_path / "launcher.sock").touch()
    monkeypatch.setattr("agent.equip.SOCKET", tmp_path / "launcher.sock")
    client = await agents()
    response = await put(client)
    assert (response.status_code, response.json()["kind"]) == (503, "unavailable")
    assert "Traceback" not in json.dumps(response.json())


async def test_file_that_changes_while_it_is_fetched_is_cut_off_and_not_mixed(client, workspace):
    await received(client, b"a" * 40_000_000)

    async def fetch():
        async with client.http.stream("GET", "/files/c1/f1") as response:
            async for chunk in response.aiter_bytes():
                assert b"b" not in chunk
                (workspace / "received/report.pdf").write_bytes(b"b" * 40_000_000)

    with pytest.raises(httpx.RemoteProtocolError):
        await fetch()
