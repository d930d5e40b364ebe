"""`baal money`: a table for people, JSON for scripts, beside a bot that runs or does not."""

import asyncio
import json
import time

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from bot.cli import main
from bot.commands.money_work import _report, table
from bot.fleet.money import Account, Usage
from bot.machines.aleph.price import Burn
from bot.machines.aleph.wallet import Wallet
from bot.settings import read_settings
from bot.store.database import Database
from bot.store.models import Agent, Machine, MachineState, Phase
from tests.fakes.aleph import AlephDouble

KEY = "01" * 32
OLGA = 7_000_000_001
HOUR = 3_600


@pytest.fixture
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "4242:abc")
    monkeypatch.setenv("BOT_ENCRYPTION_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))


async def fill(folder):
    database = Database(f"sqlite+aiosqlite:///{folder / 'baal.sqlite'}")
    await database.open()
    async with database.session() as session:
        agent = Agent(
            id=1, owner_id=OLGA, name="Ada", job="", model="m", sealed_secret="s", release="r", phase=Phase.RUNNING
        )
        session.add(agent)
        # Of no length: a test at the turn of a month counts the same.
        begun = time.time() + HOUR
        session.add(
            Machine(
                agent_id=1,
                provider="aleph",
                state=MachineState.ACTIVE,
                created_at=begun,
                credits_per_hour=14_250,
            )
        )
    await database.close()


def account(number, name, **figures):
    usage = {"hours_month": 0.0, "hours": 0.0, "credits_month": 0, "credits": 0, "per_hour": 0.0} | figures
    return Account(number, name, OLGA if number else 0, "running" if number else "pool", Usage(**usage))


def test_the_table_has_a_line_for_each_agent_and_one_for_all():
    accounts = [
        account(1, "Chef Ada", hours_month=240.25, credits_month=3_423_562, per_hour=14_250.0),
        account(12, "A name that is longer than a column", hours_month=1.0, credits_month=14_250),
        account(0, "pool"),
    ]
    total = Usage(241.25, 1_000.0, 3_437_812, 14_250_000, 14_250.0)

    assert table(accounts, total, Burn(1_710_000, 14_250 / HOUR)) == (
        "AGENT  NAME                      OWNER       STATE    HOURS    CREDITS     30 DAYS\n"
        "1      Chef Ada                  7000000001  running  240.2  3,423,562  10,260,000\n"
        "12     A name that is longer t…  7000000001  running    1.0     14,250           0\n"
        "       pool                                  pool       0.0          0           0\n"
        "       total                                          241.2  3,437,812  10,260,000\n"
        "\n"
        "ever: 1,000 hours, 14,250,000 credits\n"
        "balance: 1,710,000 credits, which last 120 hours"
    )


def test_what_nobody_pays_for_has_no_balance_and_what_is_not_known_says_why():
    nothing = Usage(0.0, 0.0, 0, 0, 0.0)

    assert table([], nothing, None).endswith("\n\never: 0 hours, 0 credits")
    assert table([], nothing, Burn(10, 0.0)).endswith("10 credits, which last for ever: nothing is spent")
    assert table([], nothing, None, "api: ConnectError").endswith("balance: not known (api: ConnectError)")


def test_scripts_get_json(environment, tmp_path, capsys):
    asyncio.run(fill(tmp_path))

    with pytest.raises(SystemExit) as ended:
        main(["money", "--json"])

    assert ended.value.code == 0
    report = json.loads(capsys.readouterr().out)
    (agent,) = report["agents"]
    assert (agent["agent_id"], agent["name"], agent["owner_id"], agent["state"]) == (1, "Ada", OLGA, "running")
    assert agent["usage"]["forecast"] == report["total"]["forecast"] == 14_250 * 720
    assert report["balance"] == {"credits": None, "runway_hours": None}


def test_without_a_database_it_says_so_and_makes_none(environment, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["money"])

    assert ended.value.code == 78
    assert capsys.readouterr().err == (
        f"there is no database {tmp_path / 'baal.sqlite'}: start the bot once, or correct DATA_DIR\n"
    )
    assert list(tmp_path.iterdir()) == []


async def test_the_network_is_asked_for_the_balance(environment, tmp_path):
    await fill(tmp_path)
    async with AlephDouble(nodes=1) as aleph:
        aleph.world.credit(Wallet(SecretStr(KEY), "BAAL").address, 2_000_000)
        settings = read_settings(provider="aleph", engine="docker", aleph_private_key=KEY, aleph_api_url=aleph.url)
        report = json.loads(await _report(settings, as_json=True))
    assert report["balance"] == {"credits": 2_000_000, "runway_hours": None}

    report = json.loads(await _report(settings, as_json=True))
    assert report["balance"]["credits"] is None
    assert "trouble" in report["balance"]
