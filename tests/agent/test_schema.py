"""Databases of other versions: an update can be undone, since an older agent works with what a newer one wrote."""

import sqlite3
from contextlib import closing

import pytest

from agent.protocol import Done, Health, Manifest, Role
from agent.store import READABLE_FROM, SCHEMA_VERSION, Store
from tests.agent.conftest import answer
from tests.agent.test_snapshot import manifest_of, other_manifest, put, take
from tests.fakes.libertai_sim import Script, ToolCall

NEWER = {"schema_version": SCHEMA_VERSION + 1, "readable_from": SCHEMA_VERSION}


def tables(database):
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in rows]


def make_newer(path):
    """As an agent of the next schema leaves it: a table more, and in each table a column more, which has a default."""
    with closing(sqlite3.connect(path)) as database:
        for name in tables(database):
            database.execute(f"ALTER TABLE {name} ADD COLUMN newer TEXT NOT NULL DEFAULT 'as always'")
        database.execute("CREATE TABLE mood (chat_id TEXT PRIMARY KEY, mood TEXT NOT NULL)")
        database.execute("INSERT INTO mood VALUES ('c1', 'merry')")
        database.execute("UPDATE message SET newer = 'told by the newer one'")
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        database.commit()


async def live(client, libertai):
    """Everything that writes into a table."""
    await libertai.script(
        Script(calls=[ToolCall(name="remember", arguments={"note": "likes soup"})]),
        Script(calls=[ToolCall(name="remind", arguments={"what": "cook", "minutes": 600})]),
        Script(text="Noted."),
    )
    assert answer(await client.events("remember, remind", turn_id="t9", role=Role.OWNER)) == "Noted."
    put_file = await client.http.put("/files/c1/f1", params={"name": "a.txt", "role": "owner"}, content=b"x")
    assert put_file.status_code == 200, put_file.text
    assert (await client.http.put("/config", json={"version": 9, "name": "Bea"})).status_code == 200
    assert (await client.http.get("/usage")).json()["days"]
    client.agenda.outbox.add("c1", "letter")
    client.agenda.store.keep_summary("c7", 1, "it was about soup")
    client.agenda.store.commit()
    assert [each.text for each in client.agenda.outbox.page()] == ["letter"]
    assert len(client.agenda.schedule.of_chat("c1", list(Role))) == 1
    assert (await client.http.post("/tick")).status_code == 200
    assert isinstance((await client.events("and on", role=Role.OWNER))[-1], Done)


async def test_an_older_agent_works_with_a_database_that_a_newer_one_has_written(agents, libertai, tmp_path):
    client = await agents()
    first = await client.events("before the update", turn_id="t1")
    await agents.stop(client)
    make_newer(tmp_path / "data" / "agent.db")

    older = await agents()

    assert answer(await older.events(turn_id="t1")) == answer(first)
    await live(older, libertai)
    assert "before the update" in str((await libertai.calls())[-1].messages)
    assert (await older.http.delete("/chat/c2")).is_success
    await agents.stop(older)
    with closing(sqlite3.connect(tmp_path / "data" / "agent.db")) as database:
        assert database.execute("SELECT mood FROM mood").fetchone() == ("merry",)
        said = database.execute("SELECT newer FROM message ORDER BY id").fetchall()
        assert (said[0], said[-1]) == (("told by the newer one",), ("as always",))


async def test_a_newer_agents_snapshot_is_restored_where_it_says_that_it_can_be_read(agents, libertai, tmp_path):
    client = await agents()
    await client.events("before the update", turn_id="t1")
    await agents.stop(client)
    make_newer(tmp_path / "data" / "agent.db")
    client = await agents()
    archive = other_manifest(await take(client), **NEWER, field_of_the_future={"a": 1})
    standby = await agents(agent_mode="standby", agent_data=tmp_path / "other")

    restored = await put(standby, archive)

    assert restored.status_code == 200, restored.text
    assert restored.json()["counts"]["mood"] == 1
    assert (await standby.http.post("/activate", json={"epoch": 1})).status_code == 204
    await live(standby, libertai)
    assert manifest_of(await take(standby)).counts["mood"] == 1, "what an older one does not know travels on"


async def test_one_that_says_it_cannot_be_read_is_refused(client, agents, tmp_path):
    newer = {"schema_version": SCHEMA_VERSION + 1, "readable_from": SCHEMA_VERSION + 1}
    standby = await agents(agent_mode="standby", agent_data=tmp_path / "other")
    refused = await put(standby, other_manifest(await take(client), **newer))
    assert (refused.status_code, refused.json()["kind"]) == (422, "bad_snapshot")
    assert f"ours is {SCHEMA_VERSION}" in refused.json()["text"]


async def test_a_manifest_says_from_which_schema_on_it_can_be_read(client):
    manifest = manifest_of(await take(client))
    assert (manifest.schema_version, manifest.readable_from) == (SCHEMA_VERSION, READABLE_FROM)
    assert READABLE_FROM <= SCHEMA_VERSION


@pytest.mark.parametrize("oldest", [True, False], ids=["the first there was", "without the parts' tables"])
async def test_a_newer_agent_adds_what_an_older_database_lacks(agents, libertai, tmp_path, oldest):
    folder = tmp_path / "data"
    Store(folder).close()
    with closing(sqlite3.connect(folder / "agent.db")) as database:
        if oldest:
            for name in tables(database):
                database.execute(f"DROP TABLE {name}")
            database.execute(
                "CREATE TABLE message (id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, "
                "turn_id TEXT NOT NULL, speaker TEXT NOT NULL, text TEXT NOT NULL)"
            )
        database.execute(
            "INSERT INTO message (chat_id, turn_id, speaker, text) VALUES ('c1', 't1', 'user', 'long ago')"
        )
        database.execute("PRAGMA user_version=0")
        database.commit()

    client = await agents()

    await live(client, libertai)
    assert "long ago" in str((await libertai.calls())[-1].messages)


def test_a_report_of_a_newer_agent_is_read():
    health = {"status": "ok", "agent_name": "Ada", "release": "r2", "mood": {"of": "the future"}}
    assert Health.model_validate(health).release == "r2"


def test_a_manifest_of_any_age_is_read():
    first = {"schema_version": 1, "release": "r1", "created": 1.0, "mode": "active", "epoch": 0, "last_turn": None}
    parts = [{"name": "agent.db", "size": 1, "sha256": "x", "compressed": True}]
    old = Manifest.model_validate(first | {"counts": {}})
    new = Manifest.model_validate(first | {"counts": {}, "parts": parts, "of_the_future": [1]})
    assert (old.readable_from, old.parts, new.parts[0].name) == (1, (), "agent.db")
