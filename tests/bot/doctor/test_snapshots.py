"""The store of snapshots is tried out, and what to do is said."""

import os

import pytest

from tests.fakes.s3 import BUCKET, KEY, REGION, SECRET, S3Double


@pytest.fixture(autouse=True)
def no_keys_of_the_host(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def s3(doctor):
    async with S3Double() as double:
        doctor.set(
            SNAPSHOTS_URL=f"s3://{BUCKET}/baal",
            AWS_ACCESS_KEY_ID=KEY,
            AWS_SECRET_ACCESS_KEY=SECRET,
            AWS_REGION=REGION,
            AWS_ENDPOINT_URL=double.url,
        )
        yield double


async def test_before_the_first_start_nothing_is_made(doctor):
    await doctor()

    assert doctor["snapshots"] == f"✓ {doctor.data}/snapshots, made at the first start"
    assert not doctor.data.exists()


async def test_a_folder_is_tried_and_left_as_it_was(doctor, tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    doctor.set(SNAPSHOTS_URL=f"file://{folder}")
    await doctor()

    assert doctor["snapshots"] == f"✓ {folder} takes snapshots, gives and removes them"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


async def test_a_folder_that_is_a_file(doctor, tmp_path):
    folder = tmp_path / "kept"
    folder.write_text("")
    doctor.set(SNAPSHOTS_URL=f"file://{folder}")
    await doctor()

    assert doctor["snapshots"].startswith(f"✗ SNAPSHOTS_URL: {folder} cannot be made (File exists)")


async def test_a_bucket_is_tried_and_left_as_it_was(doctor, s3):
    await doctor()

    assert doctor["snapshots"] == f"✓ s3://{BUCKET}/baal takes snapshots, gives and removes them"
    assert s3.objects == {}


async def test_a_bucket_that_there_is_not(doctor, s3):
    doctor.set(SNAPSHOTS_URL="s3://another")
    await doctor()

    assert doctor["snapshots"] == (
        "✗ snapshots cannot be stored: there is no such bucket: make it, or correct SNAPSHOTS_URL"
    )


async def test_a_key_that_is_wrong(doctor, s3):
    doctor.set(AWS_SECRET_ACCESS_KEY="not-that-of-the-double")
    table = await doctor()

    assert doctor["snapshots"] == (
        "✗ snapshots cannot be stored: the store refuses it: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "and what this key may do"
    )
    assert "not-that-of-the-double" not in table


async def test_nobody_there(doctor, s3):
    doctor.set(AWS_ENDPOINT_URL="http://127.0.0.1:1")
    await doctor()

    assert doctor["snapshots"].startswith("✗ snapshots cannot be stored: nothing answers as S3 does: check AWS_ENDP")


async def test_a_setting_that_cannot_be_used_is_told_once(doctor):
    doctor.set(SNAPSHOTS_URL="ftp://host/x")
    await doctor()

    assert doctor["snapshots"] == "· not checked: SNAPSHOTS_URL cannot be used, see above"
