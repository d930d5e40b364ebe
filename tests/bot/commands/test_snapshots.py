"""`baal snapshots` and `baal restore`, beside a bot or without one."""

import asyncio

import pytest
from cryptography.fernet import Fernet

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.cli import main
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.store.audit import Auditor
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent, Draft
from bot.store.objects import open_folder
from bot.store.records import Reason
from tests.bot.fleet.archives import full, pieces

OLGA = 7_000_000_001


@pytest.fixture
def url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'baal.sqlite'}"


@pytest.fixture
def kept(url, vault, tmp_path):
    """An agent, and its snapshot."""
    return asyncio.run(_keep(url, vault, tmp_path))


async def _keep(url, vault, tmp_path):
    database = Database(url)
    await database.open()
    await Users(database, vault).meet(Person(OLGA, "Olga", "en"))
    draft = Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="cooks", model="m")
    agent = await Agents(database, vault, release="r1", limit=9).create(draft, Card(OLGA, 1))
    snapshots = Snapshots(Shelf(database, Keepsakes(database, vault)), open_folder(tmp_path / "snapshots"))
    snapshot = await snapshots.save(agent.id or 0, Reason.SLEEP, pieces(full()))
    await database.close()
    return agent.id, snapshot.id


async def read(url, look):
    database = Database(url)
    await database.open()
    try:
        return await look(database)
    finally:
        await database.close()


@pytest.fixture
def baal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "4242:abc")
    monkeypatch.setenv("BOT_ENCRYPTION_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(words)
        return ended.value.code, capsys.readouterr()

    return run


def test_what_is_kept_is_listed(baal, kept):
    agent_id, snapshot_id = kept

    code, said = baal("snapshots")

    assert code == 0
    assert said.out.split()[:8] == ["SNAPSHOT", "AGENT", "NAME", "TAKEN", "(UTC)", "WHY", "BYTES", "KEPT"]
    assert said.out.splitlines()[1].startswith(f"{snapshot_id}  {agent_id}")
    assert baal("snapshots", "99")[1].out == "Nothing is kept.\n"


def test_an_agent_is_wanted_back_at_a_snapshot_and_that_is_written_down(baal, kept, url):
    agent_id, snapshot_id = kept

    code, said = baal("restore", str(agent_id), snapshot_id)

    assert code == 0
    assert f"goes back to {snapshot_id}" in said.out
    assert "No bot runs on this database now" in said.out
    agent = asyncio.run(read(url, lambda database: _agent(database, agent_id)))
    assert (agent.restore_id, agent.generation) == (snapshot_id, 2)
    [entry] = asyncio.run(read(url, lambda database: Auditor(database).newest()))
    assert (entry.what, entry.agent_id, entry.details) == ("restore", agent_id, {"snapshot": snapshot_id})
    assert baal("restore", str(agent_id), snapshot_id)[0] == 1, "it is wanted already"


async def _agent(database, agent_id):
    async with database.session() as session:
        return await session.get_one(Agent, agent_id)


def test_what_is_not_kept_cannot_be_gone_back_to(baal, kept):
    code, said = baal("restore", str(kept[0]), "s-0000")

    assert code == 1
    assert said.err == "there is no whole snapshot s-0000: `baal snapshots` lists those that there are\n"


def test_an_agent_that_is_not_there_cannot_go_back(baal, kept):
    code, said = baal("restore", "99", kept[1])

    assert code == 1
    assert said.err.startswith("there is no agent 99")
