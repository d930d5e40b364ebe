"""Data folder, database, and the secrets in it."""

import shutil
import sqlite3
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from bot.store.database import Database
from bot.store.folder import sole_owner
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent
from bot.store.owner import LOCK
from bot.store.vault import Vault


@pytest.fixture
async def stored(doctor):
    """A database with a keepsake and an agent in it."""
    doctor.data.mkdir()
    database = Database(f"sqlite+aiosqlite:///{doctor.data / 'baal.sqlite'}")
    await database.open()
    vault = Vault([doctor.environment["BOT_ENCRYPTION_KEY"]])
    await Keepsakes(database, vault).get("thing", lambda: "a secret")
    async with database.session() as session:
        sealed = vault.seal(SecretStr("another"))
        session.add(Agent(owner_id=1, name="Ada", job="", model="m", sealed_secret=sealed, release="r"))
    await database.close()


async def test_before_the_first_start_there_is_nothing_and_that_is_well(doctor):
    await doctor()

    assert doctor["data"].startswith(f"✓ {doctor.data}, made at the first start, ")
    assert doctor["database"] == "✓ SQLite, made at the first start"
    assert doctor["secrets"] == "· nothing is stored yet"
    assert not doctor.data.exists()


async def test_what_is_stored_opens(doctor, stored):
    await doctor()

    assert doctor["database"] == f"✓ SQLite {sqlite3.sqlite_version}, agents: 1; no bot runs on it now"
    assert doctor["secrets"] == "✓ all 2 open with BOT_ENCRYPTION_KEY"


async def test_a_bot_that_runs_is_seen_and_not_disturbed(doctor, stored):
    with sole_owner(doctor.data):
        await doctor()
        assert doctor["database"].endswith("; a bot runs on it")
        assert doctor.is_well
    with sole_owner(doctor.data):
        pass


async def test_a_key_that_is_gone(doctor, stored):
    old = doctor.environment["BOT_ENCRYPTION_KEY"]
    doctor.set(BOT_ENCRYPTION_KEY=Fernet.generate_key().decode())
    await doctor()
    assert doctor["secrets"] == (
        "✗ 2 of 2 do not open with BOT_ENCRYPTION_KEY: put the old key back, last, after a comma"
    )

    doctor.set(BOT_ENCRYPTION_KEY=f"{Fernet.generate_key().decode()},{old}")
    await doctor()
    assert doctor["secrets"] == "✓ all 2 open with BOT_ENCRYPTION_KEY"


async def test_a_folder_that_is_a_file(doctor):
    doctor.data.write_text("")
    await doctor()

    assert doctor["data"] == (
        f"✗ {doctor.data} cannot be written (Not a directory): let the bot's user own it, or set DATA_DIR"
    )
    assert doctor["database"] == f"✗ {doctor.data} is no folder: make it, or correct DATA_DIR"


async def test_a_database_in_a_folder_that_is_not_there(doctor, tmp_path):
    doctor.set(DATABASE_URL=f"sqlite:///{tmp_path}/nowhere/baal.sqlite")
    await doctor()

    assert doctor["database"] == f"✗ {tmp_path}/nowhere is no folder: make it, or correct DATABASE_URL"


async def test_a_folder_that_cannot_be_written(doctor):
    doctor.set(DATA_DIR="/proc/baal")
    await doctor()

    assert doctor["data"].startswith("✗ /proc/baal cannot be written (")


async def test_a_disk_that_is_full(doctor, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3 // 2))
    await doctor()

    assert doctor["data"] == (f"✗ only 0.50 GiB are free in {doctor.data}: make room, or set DATA_DIR to a larger disk")


async def test_a_file_that_is_no_database(doctor):
    doctor.data.mkdir()
    (doctor.data / "baal.sqlite").write_text("not a database " * 1000)
    await doctor()

    assert doctor["database"].startswith("✗ DATABASE_URL: file is not a database. ")
    assert doctor["secrets"] == "· not checked: the database does not open"


async def test_a_database_that_somebody_keeps_locked(doctor, stored, monkeypatch):
    monkeypatch.setattr("bot.doctor.database.SECONDS", 0.1)
    other = sqlite3.connect(doctor.data / "baal.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    await doctor()
    other.close()

    assert doctor["database"].startswith("✗ DATABASE_URL: database is locked. ")


@pytest.mark.postgres
async def test_postgres(doctor, postgres_url, postgres):
    doctor.set(DATABASE_URL=postgres_url)
    await doctor()
    assert doctor["database"].startswith("✓ Postgres ")
    assert doctor["database"].endswith(", agents: 0; no bot runs on it now")

    with postgres.connection(postgres_url.rpartition("/")[2]) as other:
        other.execute(f"SELECT pg_advisory_lock({LOCK})")
        await doctor()
    assert doctor["database"].endswith("; a bot runs on it")
    assert doctor.is_well


@pytest.mark.postgres
async def test_postgres_with_a_wrong_password(doctor, postgres):
    doctor.set(DATABASE_URL=postgres.url("postgres", password="wr0ng-password", scheme="postgres"))
    table = await doctor()

    assert doctor["database"].startswith("✗ DATABASE_URL: ")
    assert "Correct user and password in it" in doctor["database"]
    assert "wr0ng-password" not in table


async def test_postgres_that_is_away(doctor):
    doctor.set(DATABASE_URL="postgresql://baal:s3cret-word@127.0.0.1:1/baal")
    table = await doctor()

    assert doctor["database"].startswith("✗ DATABASE_URL: ")
    assert doctor["database"].endswith("Start the server, or correct host and port.")
    assert "s3cret-word" not in table
