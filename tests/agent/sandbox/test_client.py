"""The agent's side of the wall, and files that pass it."""

import asyncio
import os

import pytest

from agent.sandbox.client import Sandbox
from agent.sandbox.wire import Request
from tests.agent.sandbox.launcher import launching


@pytest.fixture
def launcher(tmp_path):
    with launching(tmp_path) as launcher:
        yield launcher


@pytest.fixture
def sandbox(launcher, tmp_path):
    return Sandbox(tmp_path / "launcher.sock")


def bash(script: str) -> Request:
    return Request(["bash", "-c", script])


async def test_program_gets_its_input_and_both_its_streams_come_back(sandbox):
    content = os.urandom(300_000)
    output = await sandbox.run(bash("cat; echo oops >&2; exit 3"), content, limit=1_000_000)
    assert output.data == content + b"oops\n"
    assert (output.truncated, output.result.code) == (False, 3)


async def test_what_writes_too_much_is_stopped(sandbox):
    output = await sandbox.run(bash("yes"), limit=1_000)
    assert (len(output.data), output.truncated, output.result.ended) == (1_000, True, "stopped")


async def test_program_need_not_read_its_input(sandbox):
    assert (await sandbox.run(bash("echo done"), bytes(10_000_000))).data == b"done\n"


async def test_stream_is_read_no_faster_than_the_program_takes_it(sandbox, launcher):
    given = 0

    async def chunks():
        nonlocal given
        for _ in range(100):
            given += 1
            yield bytes(100_000)

    script = "while [ ! -e go ]; do sleep 0.01; done; wc -c"
    running = asyncio.create_task(sandbox.stream_in(bash(script), chunks()))
    while not given:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert given < 10
    (launcher.workspace / "go").touch()
    assert (await running).data.strip() == b"10000000"


async def test_stream_that_breaks_ends_the_input_and_is_raised_then(sandbox, launcher):
    async def broken():
        yield b"half"
        raise LookupError

    with pytest.raises(LookupError):
        await sandbox.stream_in(bash("cat > got; touch ended"), broken())
    assert (launcher.workspace / "got").read_bytes() == b"half"
    assert (launcher.workspace / "ended").exists()


@pytest.fixture
async def client(agents, launcher, monkeypatch, tmp_path):
    monkeypatch.setattr("agent.equip.SOCKET", tmp_path / "launcher.sock")
    return await agents()


async def put(client, content: bytes):
    return await client.http.put("/files/c1/f1", params={"name": "a.bin", "role": "owner"}, content=content)


async def test_file_passes_the_wall_both_ways(client, launcher):
    content = os.urandom(9_000_000)
    assert (await put(client, content)).status_code == 200
    assert (launcher.workspace / "received/a.bin").read_bytes() == content
    assert (await client.http.get("/files/c1/f1")).content == content


async def test_of_a_file_for_which_the_room_runs_out_nothing_is_left(client, launcher):
    launcher.full_when = "received/.upload-*"

    async def slow():
        yield bytes(1_000)
        while not launcher.stopped_for_room:
            await asyncio.sleep(0.01)

    response = await put(client, slow())
    assert (response.status_code, response.json()["kind"]) == (507, "no_room")
    assert "delete something" in response.json()["text"]
    assert list((launcher.workspace / "received").iterdir()) == []


async def test_much_goes_in_while_much_comes_out(sandbox):
    content, came = os.urandom(3_000_000), bytearray()

    async def chunks():
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    result = await sandbox.stream_out(bash("cat; exit 4"), came.extend, chunks())
    assert (bytes(came), result.code) == (content, 4)


async def test_what_is_streamed_out_needs_no_input(sandbox):
    came = bytearray()
    assert (await sandbox.stream_out(bash("cat; echo done"), came.extend)).code == 0
    assert came == b"done\n"


async def test_what_breaks_where_the_input_comes_from_is_raised(sandbox):
    async def chunks():
        yield b"half"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await sandbox.stream_out(bash("cat"), bytearray().extend, chunks())
