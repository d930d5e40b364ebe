"""Large things are kept in a folder or in a bucket: whole, or not at all."""

import asyncio
import os
import time
from contextlib import aclosing

import pytest
from cryptography.fernet import Fernet

from bot.errors import BadSettings, StoreAway
from bot.settings import read_settings
from bot.store import objects as module
from bot.store.objects import open_objects
from tests.fakes.s3 import BUCKET, KEY, REGION, SECRET, S3Double

MB = 1 << 20


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def s3():
    async with S3Double() as double:
        yield double


def settings(folder, **values):
    return read_settings(
        telegram_bot_token="1:x", bot_encryption_key=Fernet.generate_key().decode(), data_dir=folder, **values
    )


def bucket(tmp_path, s3, **values):
    given = {
        "snapshots_url": f"s3://{BUCKET}/of/baal/",
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "aws_region": REGION,
        "aws_endpoint_url": s3.url,
    }
    return open_objects(settings(tmp_path, **given | values), is_patient=False)


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    """A store, and what is in it by path."""
    if request.param == "folder":
        return open_objects(settings(tmp_path)), lambda: in_folder(tmp_path / "snapshots")
    s3 = request.getfixturevalue("s3")
    return bucket(tmp_path, s3), lambda: in_bucket(s3)


def in_folder(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_bucket(s3):
    assert not s3.uploads, "an upload was left in its middle: it costs money, and nobody sees it"
    return {path.removeprefix("of/baal/"): content for path, content in s3.objects.items()}


async def pieces(content, size=MB):
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(objects, path):
    async with aclosing(objects.get(path)) as stored:
        return b"".join([piece async for piece in stored])


@pytest.mark.parametrize("size", [0, 1, 8 * MB, 20 * MB + 7])
async def test_what_is_put_there_is_there(store, size):
    objects, there = store
    content = os.urandom(size)
    assert await objects.put("a/1/s-1", pieces(content)) == size
    assert there() == {"a/1/s-1": content}
    assert await read(objects, "a/1/s-1") == content


async def test_what_is_not_there_is_said(store):
    objects, _ = store
    with pytest.raises(FileNotFoundError):
        await read(objects, "a/1/s-1")
    await objects.delete("a/1/s-1")
    assert [path async for path in objects.old("a")] == []


async def test_what_is_removed_is_gone(store):
    objects, there = store
    await objects.put("a/1/s-1", pieces(b"x"))
    await objects.put("a/1/s-2", pieces(b"y"))
    await objects.delete("a/1/s-1")
    assert there() == {"a/1/s-2": b"y"}


async def test_old_ones_are_listed_and_only_below_the_prefix(store):
    objects, _ = store
    for path in ("a/1/s-1", "a/2/s-2", "b/1/s-3"):
        await objects.put(path, pieces(b"x"))
    assert sorted([path async for path in objects.old("a", seconds=-10)]) == ["a/1/s-1", "a/2/s-2"]
    assert [path async for path in objects.old("a", seconds=3_600)] == []


class Spoilt(Exception):
    pass


@pytest.mark.parametrize("error", [Spoilt, TimeoutError, FileNotFoundError])
@pytest.mark.parametrize("megabytes", [0, 1, 30])
async def test_what_breaks_off_is_taken_back_and_says_why_itself(store, megabytes, error):
    objects, there = store

    async def broken():
        for _ in range(megabytes):
            yield os.urandom(MB)
        raise error

    with pytest.raises(error):
        await objects.put("a/1/s-1", broken())
    assert there() == {}


async def test_what_is_called_off_is_taken_back(store):
    objects, there = store
    given = asyncio.Event()

    async def endless():
        for _ in range(30):
            yield os.urandom(MB)
        given.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(objects.put("a/1/s-1", endless()))
    await given.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert there() == {}


# --- a folder


async def test_what_a_dead_writer_left_is_tidied_up_when_it_is_old(tmp_path):
    objects = open_objects(settings(tmp_path))
    await objects.put("a/1/s-1", pieces(b"x"))
    left = tmp_path / "snapshots/a/1/s-2#1"
    left.write_bytes(b"half")
    await objects.tidy()
    assert left.exists()
    os.utime(left, (time.time() - 4_000,) * 2)
    await objects.tidy()
    assert not left.exists()
    assert await read(objects, "a/1/s-1") == b"x"


async def test_another_folder_can_be_named(tmp_path):
    objects = open_objects(settings(tmp_path, snapshots_url=f"file://{tmp_path}/else%20where"))
    await objects.put("a", pieces(b"x"))
    assert (tmp_path / "else where/a").read_bytes() == b"x"


def test_a_folder_that_cannot_be_made_is_a_setting_to_correct(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match=r"SNAPSHOTS_URL: .*file/x cannot be made"):
        open_objects(settings(tmp_path, snapshots_url=f"file://{tmp_path}/file/x"))


# --- a bucket


async def test_a_large_object_goes_in_parts_few_at_a_time(tmp_path, s3):
    objects = bucket(tmp_path, s3)
    s3.is_open.clear()
    taken = 0

    async def endless():
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield bytes(MB)

    putting = asyncio.create_task(objects.put("a", endless()))
    async with asyncio.timeout(30):
        while sum(asked.startswith("PUT") for asked in s3.asked) < module.UPLOADS:
            await asyncio.sleep(0.01)
    # A server that does not take them holds up who brings them.
    assert taken < 50
    s3.is_open.set()
    assert await putting == 200 * MB
    assert len(s3.objects["of/baal/a"]) == 200 * MB


async def test_a_server_that_stumbles_is_asked_again(tmp_path, s3):
    objects = bucket(tmp_path, s3)
    s3.fails = [503]
    await objects.put("a", pieces(b"x"))
    s3.fails = [500]
    assert await read(objects, "a") == b"x"


@pytest.mark.parametrize(
    "wrong",
    [
        {"aws_secret_access_key": "another"},
        {"aws_access_key_id": "AKIANOTHER"},
        {"aws_region": "mars-1"},
    ],
    ids=str,
)
async def test_a_store_that_refuses_is_away_and_no_secret_is_said(tmp_path, s3, wrong):
    objects = bucket(tmp_path, s3, **wrong)
    for call in (objects.put("a", pieces(b"x")), objects.delete("a"), anext(objects.old("a"))):
        with pytest.raises(StoreAway) as said:
            await call
        assert SECRET not in str(said.value)
        assert len(str(said.value)) < 300


async def test_nothing_is_stored_in_a_bucket_that_there_is_not(tmp_path, s3):
    objects = bucket(tmp_path, s3, snapshots_url="s3://another-bucket")
    with pytest.raises(StoreAway):
        await objects.put("a", pieces(b"x"))
    with pytest.raises(FileNotFoundError):
        await read(objects, "a")


async def test_a_store_that_does_not_answer_is_away(tmp_path, s3):
    objects = bucket(tmp_path, s3, aws_endpoint_url="http://127.0.0.1:1")
    with pytest.raises(StoreAway):
        await objects.put("a", pieces(b"x" * 30))
    with pytest.raises(StoreAway):
        await read(objects, "a")


async def test_what_is_not_set_is_taken_from_the_environment(tmp_path, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    objects = open_objects(settings(tmp_path, snapshots_url=f"s3://{BUCKET}"))
    await objects.put("a", pieces(b"x"))
    assert s3.objects == {"a": b"x"}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("snapshots_url", "gs://bucket", "write s3://"),
        ("snapshots_url", "relative/folder", "write s3://"),
        ("snapshots_url", "s3://", "write s3://"),
        ("snapshots_url", "file://host/folder", "write s3://"),
        ("snapshots_url", "s3://key:very-secret@bucket/x", "must hold no key"),
        ("aws_endpoint_url", "minio:9000", "write https://"),
        ("aws_endpoint_url", "https://user:very-secret@minio", "write https://"),
        ("snapshot_minutes", "-1", "greater than"),
        ("snapshot_keep_last", "0", "greater than"),
    ],
)
def test_bad_settings_are_named_and_not_repeated(tmp_path, name, value, why):
    with pytest.raises(BadSettings, match=why) as said:
        settings(tmp_path, **{name: value})
    assert name.upper() in str(said.value)
    assert "very-secret" not in str(said.value)
