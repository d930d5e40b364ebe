"""The tool that hands a file of the workspace to the person."""

import os

import pytest

from agent.protocol import File, Role
from tests.agent.conftest import answer
from tests.fakes.libertai_images import png
from tests.fakes.libertai_sim import Script, ToolCall

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "data" / "workspace"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def send(client, libertai):
    """Has the model call `send_file`; the files that came, and what the model was told."""

    async def sent(path: str, *, role: Role = Role.OWNER, chat: str = "c1", **arguments) -> tuple[list[File], str]:
        call = ToolCall(name="send_file", arguments={"path": path, **arguments})
        await libertai.script(Script(calls=[call]), Script(text="Here."))
        events = await client.events("Send it", role=role, chat_id=chat)
        assert answer(events) == "Here."
        results = [message for message in (await libertai.calls())[-1].messages if message["role"] == "tool"]
        return [event for event in events if isinstance(event, File)], results[-1]["content"]

    return sent


async def test_file_is_an_event_and_can_be_fetched(send, client, workspace):
    (workspace / "plots").mkdir()
    (workspace / "plots/soup.png").write_bytes(png())
    [file], told = await send("plots/soup.png", caption=" Your soup. ")
    assert (file.name, file.media_type, file.size, file.caption) == ("soup.png", "image/png", len(png()), "Your soup.")
    assert told == f"Sent plots/soup.png ({len(png())} bytes)."
    back = await client.http.get(f"/files/c1/{file.id}")
    assert (back.content, back.headers["content-type"]) == (png(), "image/png")
    assert (await client.http.get(f"/files/c2/{file.id}")).status_code == 404


async def test_same_file_is_sent_twice_and_each_can_be_fetched(send, client, workspace):
    (workspace / "a.txt").write_text("one")
    [first], _ = await send("a.txt")
    [second], _ = await send("a.txt")
    assert first.id != second.id
    assert [(await client.http.get(f"/files/c1/{each.id}")).text for each in (first, second)] == ["one", "one"]


async def test_received_file_is_sent_back(send, client):
    await client.http.put("/files/c1/f1", params={"name": "a.pdf", "role": "owner"}, content=b"%PDF")
    [file], _ = await send("received/a.pdf")
    assert (await client.http.get(f"/files/c1/{file.id}")).content == b"%PDF"
    assert (await client.http.get("/files/c1/f1")).content == b"%PDF"


async def test_visitor_is_sent_files_of_their_own_folder_only(send, client, workspace):
    (workspace / "plan.txt").write_text("secret plan")
    (workspace / "visitors/v1").mkdir(parents=True)
    (workspace / "visitors/v1/own.txt").write_text("own")
    (workspace / "visitors/v1/link.txt").symlink_to("../../plan.txt")
    [file], _ = await send("own.txt", role=Role.VISITOR, chat="v1")
    assert (await client.http.get(f"/files/v1/{file.id}")).text == "own"
    for path in ("../../plan.txt", str(workspace / "plan.txt"), "link.txt"):
        files, told = await send(path, role=Role.VISITOR, chat="v1")
        assert files == []
        assert "outside of your folder" in told or "there is no such file" in told


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no.txt", "there is no such file"),
        (".", "is a folder"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("sparse", "at most 50 MB"),
        ("loop", "leads to itself"),
        ("pipe", "is not a file"),
        ("out", "outside of your folder"),
        ("a\0b", "NUL"),
        ("x" * 300, "File name too long"),
        ("", "is a folder"),
    ],
)
async def test_what_cannot_be_sent_is_told(send, workspace, path, says):
    (workspace / "folder").mkdir()
    (workspace / "empty").touch()
    (workspace / "loop").symlink_to("loop")
    (workspace / "out").symlink_to("/etc/passwd")
    os.mkfifo(workspace / "pipe")
    with (workspace / "sparse").open("wb") as file:
        file.truncate(2 * 1024**3)
    files, told = await send(path)
    assert files == []
    assert says in told


@pytest.mark.parametrize("name", ["a b.txt", "quo\"te's.txt", "суп 🍲.txt", "new\nline.txt", ".env", "-rf"])
async def test_file_of_any_name_is_sent(send, client, workspace, name):
    (workspace / name).write_text("soup")
    [file], _ = await send(name, caption="x" * 5_000)
    assert file.name == name.replace("\n", "").lstrip(".")
    assert len(file.caption) == 1_000
    response = await client.http.get(f"/files/c1/{file.id}")
    assert response.text == "soup"
    assert response.headers["content-disposition"].isascii()


async def test_name_that_is_no_unicode_is_refused(send, workspace, libertai):
    (workspace / os.fsdecode(b"\xff.txt")).write_text("soup")
    (workspace / "link.txt").symlink_to(os.fsdecode(b"\xff.txt"))
    files, told = await send("link.txt")
    assert files == []
    assert "is not a possible path" in told


async def test_file_that_has_changed_since_is_fetched_as_it_is_now(send, client, workspace, monkeypatch):
    monkeypatch.setattr("agent.files.PIECE_BYTES", 1_000)
    (workspace / "a.bin").write_bytes(b"x" * 5_000)
    [file], _ = await send("a.bin")
    (workspace / "a.bin").write_bytes(b"y" * 2_500)
    response = await client.http.get(f"/files/c1/{file.id}")
    assert (response.headers["content-length"], response.content) == ("2500", b"y" * 2_500)
