"""`baal rollout …`, beside a bot or without one."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from bot.cli import main
from bot.settings import Settings
from bot.store.database import Database
from bot.store.folder import sole_owner
from bot.store.owner import sole_bot
from bot.store.presence import is_bot_running
from tests.bot.fleet.simulated import OLGA, Simulated

OLD, NEW = "baal/agent:1", "baal/agent:2"


class Terminal:
    """`baal("rollout", …)` is the exit code; what was printed is in `out` and `err`."""

    def __init__(self, url, capsys):
        self.url, self.capsys = url, capsys
        self.out = self.err = ""

    def __call__(self, *words):
        self.capsys.readouterr()
        try:
            main(["rollout", *words])
        except SystemExit as end:
            self.out, self.err = self.capsys.readouterr()
            return end.code
        raise AssertionError("it has no exit code")

    def fleet(self, work):
        """Do something with the fleet, in the same database."""

        async def act():
            database = Database(self.url)
            try:
                await database.open()
                return await work(Simulated(database, time.time))
            finally:
                await database.close()

        return asyncio.run(act())

    def rows(self):
        """Everything that a rollout might change."""

        async def read(fleet):
            async with fleet.database.transaction() as transaction:
                tables = ("agent", "rollout", "rollout_item", "audit", "notice")
                return [tuple(await transaction.execute(text(f"SELECT * FROM {name} ORDER BY 1"))) for name in tables]  # noqa: S608

        return self.fleet(read)


@pytest.fixture
def environment(tmp_path, monkeypatch, database_url):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    values = {
        "TELEGRAM_BOT_TOKEN": "4242:abc",
        "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "DATABASE_URL": database_url,
        "DATA_DIR": str(tmp_path / "data"),
        "AGENT_IMAGE": OLD,
        "ADMIN_IDS": f"{OLGA}, 7",
        "LOGNAME": "olga",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def baal(environment, database_url, capsys):
    return Terminal(database_url, capsys)


@pytest.fixture
def ids(baal):
    async def make(fleet):
        others = await fleet.make(19, release=OLD)
        return await fleet.make(1, release=OLD, owner=OLGA) + others

    return baal.fleet(make)


async def run_to_its_end(fleet):
    while await fleet.look():
        await fleet.converge()


def test_a_rehearsal_shows_plan_and_cost_and_changes_nothing(baal, ids):
    before = baal.rows()

    assert baal("start", NEW, "--dry-run", "--surge", "4") == 0

    assert baal.out.splitlines() == [
        f"{OLD} → {NEW}",
        f"agents 20: canaries 1 (agent {ids[0]}) watched for 10 min, then batches of 5, 5, … (4 batches), 4 at a time",
        "about 46 min; second machines run 2.0 h, ~6 credits",
    ]
    assert baal.rows() == before


def test_started_the_rows_say_so_and_that_no_bot_acts_on_it(baal, ids):
    assert baal("start", ":2", "--yes", "--canary", "2", "--soak", "0", "--batch", "7", "--keep-canaries") == 0

    assert baal.out.splitlines()[-2:] == [
        "Rollout 1 has begun: `baal rollout status --watch` shows it.",
        "No bot runs on this database now: it goes on when one does.",
    ]
    assert baal("status", "--json") == 0
    status = json.loads(baal.out)
    assert {name: status[name] for name in ("id", "state", "release", "by", "total", "canaries", "percent")} == {
        "id": 1,
        "state": "canary",
        "release": NEW,
        "by": "olga",
        "total": 20,
        "canaries": 2,
        "percent": 0,
    }
    plan = baal.fleet(lambda fleet: fleet.rollouts.open()).plan
    assert (plan["soak_minutes"], plan["batch"], plan["takes_back"]) == (0, 7, False)


def test_from_start_to_undo(baal, ids):
    assert baal("start", NEW, "--yes", "--soak", "0") == 0
    assert baal("start", NEW, "--yes") == 1
    assert baal.err == "rollout 1 is open (canary): wait for it, or `baal rollout abort` or `undo` it\n"
    assert baal("pause", "--reason", "lunch") == 0
    assert baal("status") == 1
    assert "⚠ lunch" in baal.out
    assert baal("resume") == 0
    baal.fleet(run_to_its_end)
    assert baal("status", "--watch") == 0
    assert "done  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ 100 %  20/20" in baal.out
    assert baal("start", NEW, "--yes") == 1
    assert baal.err == f"all 20 agents have {NEW} already: there is nothing to do\n"

    assert baal("undo", "--yes") == 0
    assert f"{NEW} → {OLD}" in baal.out
    baal.fleet(run_to_its_end)

    assert set(baal.fleet(lambda fleet: fleet.serving()).values()) == {OLD}
    assert [row.who for row in baal.fleet(lambda fleet: fleet.auditor.newest())] == [
        "rollout",
        "olga",
        "rollout",
        "rollout",
        "rollout",
        "olga",
        "olga",
        "olga",
    ]


def test_failures_are_an_exit_code_for_scripts(baal, ids):
    async def fail(fleet):
        fleet.bad = {ids[3]}
        await run_to_its_end(fleet)

    assert baal("start", NEW, "--yes", "--canary", "0", "--max-failed", "3") == 0
    baal.fleet(fail)

    assert baal("status", "--json") == 1

    assert json.loads(baal.out)["failures"] == [{"agent_id": ids[3], "reason": f"not-proved (AB12); it runs {OLD}"}]


def test_without_a_yes_nothing_starts(baal, ids):
    before = baal.rows()

    assert baal("start", NEW) == 1

    assert baal.err == "Say --yes: there is no terminal to ask at.\nNothing was started.\n"
    assert baal.rows() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pause",), "no rollout is open: `baal rollout start IMAGE` begins one"),
        (("abort",), "no rollout is open: `baal rollout start IMAGE` begins one"),
        (("resume",), "no rollout is open: `baal rollout start IMAGE` begins one"),
        (("status",), "no rollout was ever started: `baal rollout start IMAGE` begins one"),
        (("undo", "--yes"), "there is nothing to undo: no rollout was ever started"),
        (("start", " ", "--yes"), "no image is named: write registry/name:tag, or :tag of the one that agents run"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(baal, ids, words, said):
    assert baal(*words) == 1

    assert baal.err == f"{said}\n"


def test_an_image_that_nobody_has_is_said(baal, ids, monkeypatch):
    monkeypatch.setenv("ENGINE", "docker")

    assert baal("start", "127.0.0.1:1/me/agent:9", "--yes") == 1

    assert baal.err.startswith("127.0.0.1:1 does not answer as a registry")
    assert baal.fleet(lambda fleet: fleet.rollouts.last()) is None


@pytest.mark.parametrize(
    "words",
    [("start",), ("start", NEW, "--surge", "0"), ("start", NEW, "--soak", "long"), ("start", NEW, "--soak", "inf")],
)
def test_wrong_words_are_refused(baal, words):
    assert baal(*words) == 2
    assert "usage: baal rollout start" in baal.err


def test_resumed_what_left_the_registry_is_noticed(baal, ids, monkeypatch):
    baal("start", "127.0.0.1:1/me/agent:9", "--yes")
    baal("pause")
    monkeypatch.setenv("ENGINE", "docker")

    assert baal("resume") == 1

    assert "does not answer as a registry" in baal.err
    assert baal("status", "--json") == 1
    assert json.loads(baal.out)["state"] == "paused"


def test_a_database_that_is_not_there_is_not_made(tmp_path, environment, baal, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'other.sqlite'}")

    assert baal("status") == 78

    assert baal.err.startswith(f"there is no database {tmp_path / 'other.sqlite'}: start the bot once")
    assert not (tmp_path / "other.sqlite").exists()


async def test_a_bot_that_runs_is_seen(database, tmp_path):
    assert not await is_bot_running(database, tmp_path)
    folder_lock = nullcontext() if database.is_server else sole_owner(tmp_path)

    with folder_lock:
        async with sole_bot(database):
            assert await is_bot_running(database, tmp_path)

    async with asyncio.timeout(30):  # a server lets go of a connection's locks after its end
        while await is_bot_running(database, tmp_path):
            await asyncio.sleep(0.02)


def test_a_process_of_its_own_works_while_a_bot_is_on_the_database(environment, baal, ids, tmp_path):
    async def ask():
        database = Database(environment["DATABASE_URL"])
        try:
            with sole_owner(tmp_path / "data"):
                async with sole_bot(database):
                    return await asyncio.to_thread(start)
        finally:
            await database.close()

    def start():
        return subprocess.run(
            [sys.executable, "-m", "bot", "rollout", "start", NEW, "--yes"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    ended = asyncio.run(ask())

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "Rollout 1 has begun: `baal rollout status --watch` shows it."
