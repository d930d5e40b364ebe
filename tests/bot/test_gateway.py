"""The HTTP door: what it says of the bot's health, and when there is none."""

import asyncio
import contextlib
import os
import socket
import sqlite3
import subprocess
import sys

import httpx
import pytest
from cryptography.fernet import Fernet

from bot import health as health_module
from bot.cli import main
from bot.errors import BadSettings
from bot.gateway import gateway, listen
from bot.health import Health, Standby
from bot.settings import read_settings
from tests.conftest import Clock
from tests.fakes.telegram_client import TelegramDouble
from tests.fakes.telegram_views import FaultKind

TOKEN = "4242:a-token-that-nobody-should-see"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in ("HTTP_PORT", "HTTP_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def settings_of(**values):
    return read_settings(telegram_bot_token=TOKEN, bot_encryption_key=Fernet.generate_key().decode(), **values)


@contextlib.asynccontextmanager
async def opened(settings=None, **checks):
    """A door with these parts behind it, and a client in front."""
    settings = settings or settings_of()
    with listen(settings) as door:
        url = "http://{}:{}".format(*door.getsockname())
        async with gateway(door, settings, Health(checks)), httpx.AsyncClient(base_url=url) as client:
            yield client


async def well():
    return ""


async def broken():
    return "no answer from Telegram for 130 s"


async def raising():
    raise RuntimeError("postgresql://baal:hunter2@db")


async def test_health_names_version_revision_and_every_part():
    settings = settings_of(bot_version="1.2.3", bot_revision="abc123")
    async with opened(settings, database=well, telegram=well) as client:
        answer = await client.get("/health")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "version": "1.2.3",
        "revision": "abc123",
        "checks": {"database": "ok", "telegram": "ok"},
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_one_part_that_does_not_work_is_enough_for_503():
    async with opened(database=well, telegram=broken) as client:
        answer = await client.get("/health")

    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()["checks"] == {"database": "ok", "telegram": "no answer from Telegram for 130 s"}


async def test_a_bot_that_stands_by_is_well_and_the_door_stays_while_it_takes_over():
    settings = settings_of()
    with listen(settings) as door:
        async with httpx.AsyncClient(base_url="http://{}:{}".format(*door.getsockname())) as client:
            async with gateway(door, settings, Standby()):
                standing_by = await client.get("/health")
            between = asyncio.create_task(client.get("/health"))
            await asyncio.sleep(0)
            async with gateway(door, settings, Health({"database": well})):
                working = await between

    assert (standing_by.status_code, standing_by.json()["status"], standing_by.json()["checks"]) == (200, "standby", {})
    assert (working.status_code, working.json()["status"]) == (200, "ok")


async def test_head_has_the_status_and_no_body():
    async with opened(database=well) as up, opened(database=broken) as down:
        answers = [await client.head("/health") for client in (up, down)]

    assert [answer.status_code for answer in answers] == [200, 503]
    assert [answer.content for answer in answers] == [b"", b""]


async def test_what_a_broken_part_says_is_not_repeated():
    async with opened(database=raising) as client:
        answer = await client.get("/health")

    assert answer.json()["checks"] == {"database": "RuntimeError"}
    assert "hunter2" not in answer.text
    assert TOKEN not in answer.text


async def test_a_part_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(health_module, "CHECK_SECONDS", 0.05)

    asked, until = [], asyncio.Event()

    async def hanging():
        asked.append(1)
        await until.wait()
        return ""

    clock = Clock(0)
    health = Health({"database": hanging, "telegram": well}, clock=clock)
    for _ in range(3):
        clock.now += 2
        assert (await health.report()).parts == {"database": "no answer in 0 s", "telegram": "ok"}
    assert len(asked) == 1, "it is not asked again before it has answered"
    until.set()
    clock.now += 2
    assert (await health.report()).is_well


async def test_nothing_else_is_behind_the_door():
    async with opened(database=well) as client:
        statuses = [(await client.get(path)).status_code for path in ("/", "/schema", "/metrics", "/docs")]
        statuses.append((await client.post("/health")).status_code)

    assert statuses == [404, 404, 404, 404, 405]


async def test_asking_often_does_not_ask_the_parts_more_often(clock):
    asked = []

    async def counted():
        asked.append(clock())
        return ""

    health = Health({"database": counted}, clock=clock)
    await asyncio.gather(*(health.report() for _ in range(20)))
    assert len(asked) == 1

    clock.now += 2
    await health.report()
    assert len(asked) == 2


async def test_a_change_is_logged_once(clock, caplog):
    words = [""]

    async def changing():
        return words[0]

    health = Health({"telegram": changing}, clock=clock)
    for said in ("", "gone", "gone", "", ""):
        words[0] = said
        clock.now += 2
        await health.report()

    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "not well part=telegram why=gone"
    ]


async def test_the_port_is_free_again_when_the_door_has_closed():
    async with opened(database=well) as client:
        await client.get("/health")  # a kept connection does not hold it open
        port = client.base_url.port

    listen(settings_of(http_port=port)).close()


async def test_a_database_that_another_holds_is_not_well(database, tmp_path, monkeypatch):
    monkeypatch.setattr(health_module, "CHECK_SECONDS", 0.2)
    assert await database.trouble() == ""
    other = sqlite3.connect(tmp_path / "baal.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    clock = Clock(10)
    health = Health({"database": database.trouble}, clock=clock)

    assert (await health.report()).parts == {"database": "no answer in 0 s"}

    other.close()
    monkeypatch.setattr(health_module, "CHECK_SECONDS", 20)
    clock.now += 2
    assert (await health.report()).is_well


# -- opening it ----------------------------------------------------------------------------------------------------


def test_a_taken_port_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadSettings) as caught:
            listen(settings_of(http_port=port))

    assert str(caught.value) == (
        f"HTTP_PORT {port} cannot be opened on HTTP_HOST 127.0.0.1 (Address already in use); "
        "choose another, or 0 for none"
    )


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_one_clear_line(host):
    with pytest.raises(BadSettings, match=f"cannot be opened on HTTP_HOST {host}"):
        listen(settings_of(http_host=host))


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(BadSettings, match=r"^HTTP_PORT "):
        settings_of(http_port=port)


def environment(folder, telegram, **more):
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "TELEGRAM_BOT_TOKEN": telegram.token if telegram else TOKEN,
        "TELEGRAM_API_BASE": telegram.url if telegram else "http://127.0.0.1:9",
        "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MODEL_PRICES_URL": "",
        "DATA_DIR": str(folder / "data"),
        **more,
    }


def baal(command, folder, variables):
    return subprocess.run(
        [sys.executable, "-m", "bot", command],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_serving_at_a_taken_port_says_so_and_exits_78(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = baal("serve", tmp_path, environment(tmp_path, None, HTTP_PORT=port))

    assert ended.returncode == 78
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"HTTP_PORT {port} cannot be opened")


@contextlib.asynccontextmanager
async def serving(folder, variables):
    log = folder / "bot.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", "serve"), cwd=folder, env=variables, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.mark.e2e
async def test_the_bot_turns_healthy_stays_so_without_updates_and_ends_in_order(tmp_path):
    async with TelegramDouble() as telegram:
        variables = environment(tmp_path, telegram, HTTP_PORT=str(_free_port()))
        async with serving(tmp_path, variables):
            # At once, and not after the half minute that a poll may take.
            async with asyncio.timeout(30):
                while (asked := await asyncio.to_thread(baal, "health", tmp_path, variables)).returncode:
                    await asyncio.sleep(0.1)
            assert asked.stdout == "ok (dev)\n"
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{variables['HTTP_PORT']}/health")
            assert answer.json()["checks"] == {"database": "ok", "telegram": "ok", "fleet": "ok"}
        ended = await asyncio.to_thread(baal, "health", tmp_path, variables)

    assert ended.returncode == 1
    assert ended.stdout.startswith("no answer from 127.0.0.1 port ")


async def until_said(folder, variables, words):
    async with asyncio.timeout(30):
        while words not in (await asyncio.to_thread(baal, "health", folder, variables)).stdout:
            await asyncio.sleep(0.1)


@pytest.mark.e2e
async def test_a_telegram_that_is_not_there_at_the_start_is_waited_for(tmp_path):
    async with TelegramDouble() as telegram:
        await telegram.fault(FaultKind.SERVER_ERROR, "getMe", times=3)
        variables = environment(tmp_path, telegram, HTTP_PORT=str(_free_port()))
        async with serving(tmp_path, variables):
            await until_said(tmp_path, variables, "telegram: no answer from Telegram yet")
            await until_said(tmp_path, variables, "ok (dev)")


@pytest.mark.e2e
async def test_a_bot_that_waits_for_telegram_ends_when_it_is_told_to(tmp_path):
    variables = environment(tmp_path, None, HTTP_PORT=str(_free_port()))
    async with serving(tmp_path, variables):
        await until_said(tmp_path, variables, "telegram: no answer from Telegram yet")


# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "code", "says"),
    [
        ({"database": well}, 0, "ok (dev)"),
        (
            {"database": raising, "telegram": broken, "fleet": well},
            1,
            "database: RuntimeError; telegram: no answer from Telegram for 130 s",
        ),
    ],
)
async def test_the_health_command_says_it_in_a_line(monkeypatch, capsys, checks, code, says):
    async with opened(**checks) as client:
        monkeypatch.setenv("HTTP_PORT", str(client.base_url.port))
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, ["health"])

    assert ended.value.code == code
    assert capsys.readouterr().out == f"{says}\n"


async def test_the_health_command_finds_a_door_that_is_open_everywhere(monkeypatch, capsys):
    async with opened(settings_of(http_host="0.0.0.0"), database=well) as client:  # noqa: S104  what is tested
        monkeypatch.setenv("HTTP_PORT", str(client.base_url.port))
        monkeypatch.setenv("HTTP_HOST", "0.0.0.0")  # noqa: S104
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, ["health"])

    assert ended.value.code == 0


def test_the_health_command_without_a_door_says_so(monkeypatch, capsys):
    monkeypatch.setenv("HTTP_PORT", "0")
    with pytest.raises(SystemExit) as ended:
        main(["health"])

    assert ended.value.code == 1
    assert capsys.readouterr().out == "HTTP_PORT is 0: the bot has no door to ask at\n"


def test_the_health_command_reads_the_port_where_the_bot_reads_it(tmp_path, capsys):
    key = Fernet.generate_key().decode()
    (tmp_path / ".env").write_text(f"TELEGRAM_BOT_TOKEN={TOKEN}\nBOT_ENCRYPTION_KEY={key}\nHTTP_PORT=9\n")
    with pytest.raises(SystemExit) as ended:
        main(["health"])

    assert ended.value.code == 1
    assert capsys.readouterr().out.startswith("no answer from 127.0.0.1 port 9 (")


async def test_the_health_command_is_not_fooled_by_another_program(monkeypatch, capsys):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        monkeypatch.setenv("HTTP_PORT", str(other.sockets[0].getsockname()[1]))
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, ["health"])

    assert ended.value.code == 1
    assert "is not the bot" in capsys.readouterr().out


def test_asking_loads_next_to_nothing(tmp_path):
    """It is done four times a minute, for ever."""
    code = "import sys, bot.cli; bot.cli._ask_health('127.0.0.1', 9); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {"asyncio", "pydantic", "httpx", "litestar", "telegram"} & set(loaded) == set()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
