"""An agent's whole state in one archive: out while turns go on, in on another machine, never half."""

import asyncio
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import tarfile
from contextlib import suppress

import httpx
import psutil
import pytest

from agent.archive import MANIFEST
from agent.listing import fingerprint
from agent.protocol import Done, Manifest, Role
from tests.agent.conftest import answer
from tests.fakes.libertai_sim import Script, ToolCall

NAMES: list[str | bytes] = [
    "plain.txt",
    "with space",
    "new\nline",
    "quo\"te's",
    "ünïcødé 🍲",
    "x" * 250,
    b"not\xffunicode",
    ".hidden",
]


@pytest.fixture
def workspace(tmp_path):
    """Of the agent in `tmp_path / data`, which runs without a wall."""
    folder = tmp_path / "data" / "workspace"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
async def standby(agents, tmp_path):
    return await agents(agent_mode="standby", agent_data=tmp_path / "other")


async def take(client):
    response = await client.http.get("/snapshot")
    assert response.status_code == 200, response.text
    assert len(response.content) == int(response.headers["Content-Length"])
    return response.content


async def put(client, archive):
    return await client.http.put("/snapshot", content=archive, timeout=60)


def manifest_of(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(MANIFEST)
        assert file
        return Manifest.model_validate_json(file.read())


def fill(folder):
    random.seed(1)
    for name in NAMES:
        with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb") as file:  # noqa: PTH118, PTH123
            file.write(random.randbytes(random.choice([0, 1, 511, 512, 513, 70_000])))  # noqa: S311
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "deep" / "er" / "run.sh").chmod(0o755)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("plain")
    (folder / "away").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to("loop")
    (folder / "shut").mkdir()
    (folder / "shut" / "inside").write_text("still here")
    (folder / "shut").chmod(0o500)


def seen(folder):
    """Everything in a folder: name → what it is."""
    found: dict[bytes, tuple[object, object]] = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(place, name)  # noqa: PTH118
            key = os.path.relpath(path, os.fsencode(folder))
            mode = os.lstat(path).st_mode
            if os.path.islink(path):  # noqa: PTH114
                found[key] = ("link", os.readlink(path))  # noqa: PTH115
            elif os.path.isdir(path):  # noqa: PTH112
                found[key] = ("folder", mode)
            else:
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = (mode, file.read())
    return found


# --- there and back


async def test_everything_that_makes_an_agent_is_on_the_other_machine(agents, standby, workspace, tmp_path, libertai):
    fill(workspace)
    client = await agents()
    await libertai.script(
        Script(calls=[ToolCall(name="remember", arguments={"note": "likes soup"})]), Script(text="Noted.")
    )
    first = await client.events("remember that I like soup", turn_id="t1", role=Role.OWNER)
    await client.http.put("/config", json={"version": 3, "name": "Bea"})
    archive = await take(client)

    restored = await put(standby, archive)
    assert restored.status_code == 200, restored.text
    manifest = manifest_of(archive)
    assert Manifest.model_validate(restored.json()) == manifest
    assert (manifest.last_turn, manifest.counts["turn"], manifest.counts["note"]) == ("t1", 1, 1)
    assert seen(tmp_path / "other" / "workspace") == seen(workspace)

    health = (await standby.http.get("/health")).json()
    assert (health["mode"], health["agent_name"]) == ("standby", "Bea")
    await standby.http.post("/activate", json={"epoch": 1})
    assert answer(await standby.events("again", turn_id="t1")) == answer(first)  # not run again
    await libertai.script(Script(text="You like soup."))
    await standby.events("what do I like?", turn_id="t2", role=Role.OWNER)
    asked = str((await libertai.calls())[-1].messages)
    assert "remember that I like soup" in asked
    assert "likes soup" in asked


async def test_turns_go_on_while_a_snapshot_is_taken(agents, standby, workspace, libertai):
    (workspace / "big").write_bytes(os.urandom(20_000_000))
    client = await agents()
    taking = asyncio.create_task(take(client))
    turns = 0
    while not taking.done():
        turns += isinstance((await client.events(f"{turns}", chat_id=f"c{turns}"))[-1], Done)
    assert turns
    assert (await put(standby, await taking)).status_code == 200


async def test_a_turn_that_ran_is_interrupted_on_the_other_machine_and_can_be_run_again(client, standby, libertai):
    await libertai.script(Script(text="slow answer", hold_after=1))
    async with client.stream(turn_id="t1") as events:
        await anext(events)
        archive = await take(client)
        await libertai.release()
    assert (await put(standby, archive)).status_code == 200
    await standby.http.post("/activate", json={"epoch": 1})
    assert (await standby.events(turn_id="t1"))[-1].kind == "interrupted"
    assert isinstance((await standby.events(turn_id="t1", retry=True))[-1], Done)


async def test_a_sealed_agents_snapshot_is_what_sealing_said(agents, workspace):
    fill(workspace)
    client = await agents()
    await client.ask()
    sealed = Manifest.model_validate((await client.http.post("/seal", json={"epoch": 1})).json())
    first, again = manifest_of(await take(client)), manifest_of(await take(client))
    assert first == again
    assert first.model_copy(update={"parts": (), "mark": ""}) == sealed
    assert (bool(first.mark), len(sealed.fingerprint)) == (True, 64)


async def test_an_empty_agent_travels_too(client, standby, tmp_path):
    assert (await put(standby, await take(client))).status_code == 200
    assert not any((tmp_path / "other" / "workspace").iterdir())


async def test_a_snapshot_of_the_first_agents_is_restored(agents, standby, workspace, tmp_path):
    fill(workspace)
    client = await agents()
    await client.ask(turn_id="t1")
    restored = await put(standby, as_the_first_agents_made_it(await take(client)))
    assert restored.status_code == 200, restored.text
    assert seen(tmp_path / "other" / "workspace") == seen(workspace)
    await standby.http.post("/activate", json={"epoch": 1})
    assert isinstance((await standby.events(turn_id="t1"))[-1], Done)


async def test_what_was_there_is_replaced_whole(agents, standby, workspace, tmp_path):
    (workspace / "new").write_text("new")
    client = await agents()
    other = tmp_path / "other" / "workspace"
    other.mkdir(exist_ok=True)
    fill(other)
    assert (await put(standby, await take(client))).status_code == 200
    assert [path.name for path in other.iterdir()] == ["new"]


async def test_nothing_is_left_lying_about(agents, standby, workspace, tmp_path):
    fill(workspace)
    client = await agents()
    assert (await put(standby, await take(client))).status_code == 200
    for folder in ("data", "other"):
        assert list((tmp_path / folder / "snapshots").iterdir()) == []


# --- strange workspaces


async def test_sockets_and_pipes_are_left_out(agents, workspace):
    os.mkfifo(workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        os.chdir(workspace)
        door.bind("door")
    (workspace / "file").write_text("x")
    client = await agents()
    with tarfile.open(fileobj=io.BytesIO(await take(client))) as archive:
        assert archive.getnames() == ["agent.db", "workspace/file", "workspace.list", MANIFEST]


async def test_links_are_not_followed(agents, workspace, tmp_path):
    (tmp_path / "secret").write_text("the agent's own secret")
    (workspace / "soft").symlink_to(tmp_path / "secret")
    (workspace / "folder").symlink_to(tmp_path)
    assert b"the agent's own secret" not in await take(await agents())


async def test_a_workspace_that_is_too_big_for_an_archive_is_said_so(agents, workspace, monkeypatch):
    monkeypatch.setattr("agent.packing.MAX_BYTES", 10_000_000)
    with (workspace / "holes").open("wb") as file:
        file.truncate(2_000_000_000)
    refused = await (await agents()).http.get("/snapshot")
    assert (refused.status_code, refused.json()["kind"]) == (503, "not_packed")


async def test_five_thousand_files(agents, standby, workspace, tmp_path):
    for number in range(5_000):
        (workspace / f"f{number}").write_text(str(number))
    client = await agents()
    assert (await put(standby, await take(client))).status_code == 200
    assert len(list((tmp_path / "other" / "workspace").iterdir())) == 5_000


async def test_memory_does_not_grow_with_the_workspace(process, environment, tmp_path):
    big = 300_000_000
    client = await process.start()
    workspace = tmp_path / "data" / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        with (workspace / f"f{number}").open("wb") as file:
            file.truncate(big // 10)
    own = psutil.Process(process.pid)
    await client.ask()
    before, most, size = own.memory_info().rss, 0, 0
    async with client.http.stream("GET", "/snapshot", timeout=60) as response:
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            most = max(most, own.memory_info().rss)
    assert size > big
    assert most - before < 40_000_000


# --- what is refused


async def test_only_a_standby_takes_a_snapshot(client):
    archive = await take(client)
    refused = await put(client, archive)
    assert (refused.status_code, refused.json()["kind"]) == (409, "not_standby")
    await client.http.post("/seal", json={"epoch": 1})
    assert (await put(client, archive)).status_code == 409


def altered(archive, where):
    """One bit changed."""
    return archive[:where] + bytes([archive[where] ^ 1]) + archive[where + 1 :]


def with_member(archive, member, data=b""):
    """One member more in the place of the workspace, and a manifest that tells the truth about it."""
    first, last = members(archive)
    begin = first.offset_data + first.size + -first.size % 512
    member.size = len(data)
    body = without_list(archive[begin : last.offset]) + member.tobuf(tarfile.PAX_FORMAT) + data
    body += bytes(-len(data) % 512)
    manifest = manifest_of(archive).model_dump(mode="json") | {"fingerprint": ""}
    parts = [part for part in manifest["parts"] if part["name"] != "workspace"]
    told = {"name": "workspace", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return archive[:begin] + body + with_manifest(manifest | {"parts": [*parts, told]})


def without_list(workspace):
    """As the first agents made them."""
    listed = int(workspace[-20:]) + 512 if workspace.endswith(b"\n") else 0
    return workspace[: len(workspace) - listed]


def as_the_first_agents_made_it(archive, **changes):
    """Without a list, and without what the manifest has gained since."""
    first, last = members(archive)
    begin = first.offset_data + first.size + -first.size % 512
    body = without_list(archive[begin : last.offset])
    manifest = manifest_of(archive).model_dump(mode="json", exclude={"readable_from", "fingerprint", "mark", "base"})
    part = {"name": "workspace", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return (
        archive[:begin]
        + body
        + with_manifest(manifest | changes | {"parts": [manifest["parts"][0], *([part] if body else [])]})
    )


def members(archive):
    """The first and the last."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = opened.getmembers()
    return found[0], found[-1]


def with_manifest(manifest):
    said = json.dumps(manifest).encode()
    header = tarfile.TarInfo(MANIFEST)
    header.size = len(said)
    return header.tobuf(tarfile.PAX_FORMAT) + said + bytes(-len(said) % 512) + bytes(1024)


def other_manifest(archive, **changes):
    _, last = members(archive)
    return archive[: last.offset] + with_manifest(manifest_of(archive).model_dump(mode="json") | changes)


def member(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


BAD = {
    "nothing": lambda _: b"",
    "noise": lambda _: random.randbytes(10_000),  # noqa: S311
    "cut in the middle": lambda whole: whole[: len(whole) // 2],
    "cut before the manifest": lambda whole: whole[:-4096],
    "altered database": lambda whole: altered(whole, 5_000),
    "altered file": lambda whole: altered(whole, whole.index(b"the owner's file")),
    "altered manifest": lambda whole: altered(whole, whole.rindex(b'"schema_version"')),
    "newer schema": lambda whole: other_manifest(whole, schema_version=2, readable_from=2),
    "wrong counts": lambda whole: other_manifest(whole, counts={"turn": 0}),
    "wrong last turn": lambda whole: other_manifest(whole, last_turn="t9"),
    "other files than the list tells": lambda whole: other_manifest(whole, fingerprint="0" * 64),
    "a base without a list": lambda whole: as_the_first_agents_made_it(whole, base="x"),
    "no parts": lambda whole: other_manifest(whole, parts=[]),
    "path out": lambda whole: with_member(whole, member("workspace/../../evil"), b"x"),
    "absolute path": lambda whole: with_member(whole, member("/etc/evil"), b"x"),
    "elsewhere": lambda whole: with_member(whole, member("evil"), b"x"),
    "device": lambda whole: with_member(whole, member("workspace/null", tarfile.CHRTYPE)),
    "hard link": lambda whole: with_member(whole, member("workspace/hard", tarfile.LNKTYPE, "/etc/passwd")),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_archive_is_refused_and_nothing_has_changed(agents, standby, workspace, tmp_path, name):
    (workspace / "a.txt").write_text("the owner's file")
    client = await agents()
    await client.ask()
    bad = BAD[name](await take(client))
    before = seen(tmp_path / "other")
    refused = await put(standby, bad)
    assert (refused.status_code, refused.json()["kind"]) == (422, "bad_snapshot"), refused.text
    assert "no snapshot that can be restored: " in refused.json()["text"]
    after = seen(tmp_path / "other")
    after.pop(b"snapshots", None)
    assert {key for key in after if b"agent.db" not in key} == {key for key in before if b"agent.db" not in key}
    assert (await put(standby, await take(client))).status_code == 200  # the good one is still welcome


async def test_a_file_through_a_link_out_of_the_workspace_is_not_written(agents, standby, workspace, tmp_path):
    (tmp_path / "outside").mkdir()
    (workspace / "a.txt").write_text("x")
    archive = await take(await agents())
    archive = with_member(archive, member("workspace/out", tarfile.SYMTYPE, str(tmp_path / "outside")))
    archive = with_member(archive, member("workspace/out/evil"), b"x")
    assert (await put(standby, archive)).status_code == 507
    assert list((tmp_path / "outside").iterdir()) == []
    assert "not be put in place" in (await standby.http.get("/health")).json()["trouble"]
    assert (await standby.http.post("/activate", json={"epoch": 1})).status_code == 409


async def test_a_damaged_database_inside_a_well_made_archive_is_refused(agents, standby, tmp_path):
    client = await agents()
    await client.ask()
    archive = bytearray(await take(client))
    first, _ = members(bytes(archive))
    archive[first.offset_data + 4096 : first.offset_data + 8192] = os.urandom(4096)
    data = bytes(archive[first.offset_data : first.offset_data + first.size])
    told = manifest_of(bytes(archive))
    parts = [{"name": "agent.db", "size": first.size, "sha256": hashlib.sha256(data).hexdigest()}]
    parts.append(told.parts[1].model_dump())
    listed = hashlib.sha256(b"").hexdigest()  # an empty workspace
    told_now = {"parts": parts, "fingerprint": fingerprint(parts[0]["sha256"], listed)}
    refused = await put(standby, other_manifest(bytes(archive), **told_now))
    assert refused.status_code == 422
    assert "its database" in refused.json()["text"]


async def test_a_sender_that_breaks_off_leaves_nothing(client, standby, tmp_path):
    archive, url = await take(client), standby.http.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    secret = standby.http.headers["Authorization"]
    head = f"PUT /snapshot HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\nContent-Length: {len(archive)}\r\n\r\n"
    writer.write(head.encode() + archive[:5_000])
    folder = tmp_path / "other" / "snapshots"
    await until(lambda: folder.is_dir() and any(folder.iterdir()))
    writer.close()
    await until(lambda: not any(folder.iterdir()))
    assert (await put(standby, archive)).status_code == 200


async def until(fact):
    async with asyncio.timeout(30):
        while not fact():
            await asyncio.sleep(0.001)


# --- crashes


async def test_a_restore_that_was_cut_off_is_finished_at_the_next_start(agents, workspace, tmp_path):
    fill(workspace)
    client = await agents()
    await client.ask(turn_id="t1")
    archive = await take(client)
    other = tmp_path / "other"
    (other / "snapshots").mkdir(parents=True)
    (other / "snapshots" / "received.tar").write_bytes(archive)  # as a crash after the check leaves it
    (other / "snapshots" / "x.part").write_bytes(b"half")
    (other / "workspace").mkdir()
    (other / "workspace" / "half restored").write_text("x")
    standby = await agents(agent_mode="standby", agent_data=other)
    assert seen(other / "workspace") == seen(workspace)
    await standby.http.post("/activate", json={"epoch": 1})
    assert isinstance((await standby.events(turn_id="t1"))[-1], Done)
    assert list((other / "snapshots").iterdir()) == []


async def test_a_killed_agent_restores_or_keeps_what_it_had(process, environment, agents, workspace, tmp_path):
    for number in range(2_000):
        (workspace / f"f{number}").write_text(str(number))
    archive = await take(await agents())
    environment["AGENT_DATA"], environment["AGENT_MODE"] = str(tmp_path / "other"), "standby"
    client = await process.start()
    putting = asyncio.create_task(put(client, archive))
    place = tmp_path / "other" / "workspace"
    await until(lambda: place.is_dir() and sum(1 for _ in place.iterdir()) > 100)
    await process.stop()
    with pytest.raises(httpx.TransportError):
        await putting
    again = await process.start()
    assert (await again.http.get("/health")).json()["trouble"] is None
    assert len(list(place.iterdir())) == 2_000


# --- a database that is damaged


def damage(path, how):
    if how == "noise":
        path.write_bytes(os.urandom(20_000))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        data = bytearray(path.read_bytes())
        data[4096 : 4096 + 3000] = os.urandom(3000)
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["noise", "cut", "overwritten", "empty"])
async def test_a_damaged_database_is_set_aside_and_a_snapshot_brings_the_agent_back(agents, tmp_path, how):
    client = await agents()
    for number in range(50):
        await client.ask(turn_id=f"t{number}")
    archive = await take(client)
    await agents.stop(client)
    damage(tmp_path / "data" / "agent.db", how)
    damaged = (tmp_path / "data" / "agent.db").read_bytes()

    await agents.stop(await agents())
    again = await agents()  # the loss is not forgotten by a restart
    assert (await again.http.post("/activate", json={"epoch": 1})).json()["kind"] == "not_restored"
    health = (await again.http.get("/health")).json()
    assert health["mode"] == "standby"
    assert "was damaged" in health["trouble"]
    assert "Restore a snapshot" in health["trouble"]
    assert (await again.ask()).status_code == 409
    (aside,) = (tmp_path / "data").glob("agent.db.damaged-*")
    assert aside.read_bytes() == damaged

    assert (await put(again, archive)).status_code == 200
    assert (await again.http.get("/health")).json()["trouble"] is None
    assert (await again.http.post("/activate", json={"epoch": 1})).status_code == 204
    assert isinstance((await again.events(turn_id="t49"))[-1], Done)


async def test_a_database_in_use_is_not_called_damaged(client, settings, tmp_path):
    from agent.app import build  # noqa: PLC0415
    from agent.errors import BadSettings  # noqa: PLC0415

    with pytest.raises(BadSettings, match="locked"):
        build(settings())
    assert not list((tmp_path / "data").glob("*damaged*"))


# --- a full disk


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk needs root, and the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(path):
    with path.open("wb", 0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def test_on_a_full_disk_nothing_breaks_and_with_room_all_is_well(process, environment, small_disk):
    environment["AGENT_DATA"] = str(small_disk / "data")
    client = await process.start()
    assert (await client.ask(turn_id="t1")).status_code == 200
    fill_up(small_disk / "filler")
    full = await client.ask("x" * 100_000, turn_id="t2")
    assert (full.status_code, full.json()["kind"]) == (507, "no_room")
    assert (await client.http.get("/health")).status_code == 200
    assert (await client.http.get("/snapshot")).status_code == 507
    (small_disk / "filler").unlink()
    assert isinstance((await client.events("x" * 100_000, turn_id="t2"))[-1], Done)
    assert (await client.http.get("/snapshot")).status_code == 200
    await process.stop()


async def test_an_answer_that_runs_while_the_disk_fills_up_still_arrives(process, environment, libertai, small_disk):
    environment["AGENT_DATA"] = str(small_disk / "data")
    client = await process.start()
    await libertai.script(Script(text="word " * 2_000, hold_after=1))
    async with client.stream(turn_id="t1") as events:
        first = await anext(events)
        fill_up(small_disk / "filler")
        await libertai.release()
        rest = [event async for event in events]
    assert len(answer([first, *rest])) == len("word " * 2_000)
    assert isinstance(rest[-1], Done)
    assert (await client.ask("is there room?", turn_id="t2")).status_code == 507
    (small_disk / "filler").unlink()
    assert isinstance((await client.events("is there room again?", turn_id="t3"))[-1], Done)
    said = [message["content"] for message in (await libertai.calls())[-1].messages]
    assert said[-2] == ("word " * 2_000).rstrip()  # what was said while there was none is not forgotten
    assert "is there room?" not in said
    await process.stop()
