"""All of it together: the table, its order, its patience, and what must never be in it."""

import asyncio
import os
import sys
import time
from typing import Any

import pytest
from cryptography.fernet import Fernet
from litestar import Litestar, Request, get

from bot.doctor.checks import Check, Once, run_all
from bot.doctor.findings import Finding, Mark, Skipped, Wrong, table
from tests.bot.doctor.conftest import NOBODY
from tests.fakes.libertai_serving import Serving

ORDER = "settings data snapshots database secrets token webhook key allowance models docker image servers wallet clock"


async def test_everything_is_well(doctor):
    await doctor()

    assert [line[2:14].strip() for line in doctor.lines] == ORDER.split()
    assert doctor["settings"] == "✓ PROVIDER=local, ENGINE=process"
    assert doctor.wrong == []
    assert doctor.is_well


async def test_settings_that_are_wrong_come_first_and_the_rest_is_looked_at(doctor):
    doctor.set(TELEGRAM_BOT_TOKEN="no token", PROVIDER="cloud", HTTP_PORT="many")
    await doctor()

    assert doctor.lines[:3] == [
        "✗ settings     TELEGRAM_BOT_TOKEN is not a bot token (digits, a colon, letters); @BotFather gives one",
        "✗ settings     PROVIDER Input should be 'local', 'hosts' or 'aleph'",
        "✗ settings     HTTP_PORT Input should be a valid integer, unable to parse string as an integer",
    ]
    assert doctor["token"] == "· not checked: TELEGRAM_BOT_TOKEN cannot be used, see above"
    assert doctor["image"] == "· not checked: PROVIDER cannot be used, see above"
    assert doctor["allowance"].startswith("✓ plan free: ")
    assert not doctor.is_well


async def test_without_any_settings_what_can_be_looked_at_is(doctor, monkeypatch):
    doctor.environment = {"LIBERTAI_GATEWAY": NOBODY, "TELEGRAM_API_BASE": NOBODY, "LIBERTAI_ACCOUNT": NOBODY}
    await doctor()

    assert doctor.all("settings") == [
        "✗ TELEGRAM_BOT_TOKEN is not set. See .env.example.",
        "✗ BOT_ENCRYPTION_KEY is not set. See .env.example.",
    ]
    assert doctor["secrets"] == "· not checked: BOT_ENCRYPTION_KEY cannot be used, see above"
    assert doctor["data"].startswith("✓")


async def test_a_file_of_settings_that_cannot_be_read(doctor, tmp_path):
    (tmp_path / ".env").write_bytes(b"TELEGRAM_BOT_TOKEN=\xff\xfe")
    await doctor()

    assert doctor.lines == ["✗ settings     .env cannot be read (UnicodeDecodeError); let this user read it, as UTF-8"]
    assert not doctor.is_well


@pytest.fixture
async def parrot():
    """A server that repeats what it is told, in every way that it can."""

    @get(["/", "/{path:path}"])
    async def repeat(request: Request[Any, Any, Any]) -> dict[str, object]:
        told = f"{request.url} {dict(request.headers)}"
        return {"ok": True, "result": {"username": told, "url": told}, "data": [{"id": told}], "Version": told}

    serving = Serving(Litestar([repeat], openapi_config=None, logging_config=None))
    await serving.start()
    yield serving
    await serving.stop()


SECRETS = {
    "TELEGRAM_BOT_TOKEN": "424242:AAtoken-that-is-secret",
    "BOT_ENCRYPTION_KEY": f"{Fernet.generate_key().decode()},{Fernet.generate_key().decode()}",
    "LIBERTAI_API_KEY": "LTAI_key-that-is-secret",
    "DATABASE_URL": "postgresql://baal:p%40ssword-of-it@127.0.0.1:1/baal",
    "REGISTRY_PASSWORD": "password-of-the-registry",
    "ALEPH_PRIVATE_KEY": "0x" + "5ec4e7" * 11,
}
PARTS = [
    *SECRETS.values(),
    *SECRETS["BOT_ENCRYPTION_KEY"].split(","),
    "AAtoken-that-is-secret",
    "p%40ssword-of-it",
    "p@ssword-of-it",
    "5ec4e7" * 11,
]
URLS = """
TELEGRAM_API_BASE LIBERTAI_GATEWAY LIBERTAI_ACCOUNT LLM_BASE_URL
ALEPH_API_URL ALEPH_CRN_LIST_URL ALEPH_SCHEDULER_URL ALEPH_GATEWAY_URL
"""


@pytest.mark.parametrize("provider", ["local", "hosts", "aleph"])
@pytest.mark.parametrize("where", ["nobody", "parrot"])
async def test_no_secret_is_ever_shown(doctor, parrot, provider, where, capfd):
    base = NOBODY if where == "nobody" else parrot.url
    with_login = base.replace("http://", "http://user:login-of-a-proxy@")
    doctor.environment = SECRETS | dict.fromkeys(URLS.split(), with_login)
    doctor.set(
        PROVIDER=provider,
        ENGINE="docker",
        DOCKER_HOST=base.replace("http", "tcp"),
        AGENT_IMAGE="127.0.0.1:1/me/agent:1",
        REGISTRY_USER="ada",
        SSH_HOSTS="127.0.0.1:1",
    )
    shown = await doctor()
    shown += "".join(capfd.readouterr())

    assert not doctor.is_well
    assert [part for part in [*PARTS, "login-of-a-proxy"] if part in shown] == []


async def test_wrong_secrets_are_not_shown_either(doctor):
    wrong = {name: f"wrong-{number}-and-hidden" for number, name in enumerate(SECRETS)}
    doctor.set(PROVIDER="aleph", **wrong)
    shown = await doctor()

    assert len(doctor.all("settings")) == 4
    assert "and-hidden" not in shown


async def test_checks_run_at_once_each_with_its_own_patience():
    async def hang() -> str:
        await asyncio.sleep(60)
        return ""

    async def quick() -> str:
        return "quick"

    began = time.monotonic()
    found = await run_all([*(Check("slow", hang) for _ in range(300)), Check("fast", quick)], (), seconds=0.2)

    assert time.monotonic() - began < 30
    assert found[0] == Finding(Mark.WRONG, "slow", "no answer in 0 s: look whether this host reaches it")
    assert found[-1] == Finding(Mark.WELL, "fast", "quick")


async def test_what_a_library_raises_is_not_shown():
    async def fail() -> str:
        raise RuntimeError("with a secret in it")

    (found,) = await run_all([Check("thing", fail)], ())

    assert found == Finding(Mark.WRONG, "thing", "cannot be checked (RuntimeError): please report this line")


async def test_a_fact_is_found_out_once_and_its_failure_is_told_once():
    asked = []

    async def find() -> int:
        asked.append(1)
        raise Wrong("it is broken")

    fact = Once(find)
    with pytest.raises(Wrong, match="it is broken"):
        await fact.get()
    with pytest.raises(Skipped, match="not checked: there is none"):
        await fact.given("there is none")
    assert asked == [1]


def test_a_line_stays_one_line_of_some_length():
    shown = table([Finding(Mark.WELL, "thing", "a\nb\x1b[31m\tc\u202e secret-word")], ["secret-word", "a"])

    assert shown == "✓ thing        a b [31m c  …"
    assert len(table([Finding(Mark.WELL, "thing", "x" * 10_000)], ())) < 1_100


@pytest.fixture
def run(doctor, tmp_path):
    """`baal doctor` in a process of its own, as an operator runs it."""

    async def run(**environment):
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "doctor", cwd=tmp_path, env=known | doctor.environment | environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        written, complaints = await process.communicate()
        return process.returncode, written, complaints.decode()

    return run


@pytest.mark.e2e
async def test_the_command_with_everything_well(run):
    code, written, complaints = await run()

    lines = written.decode().splitlines()
    assert (code, complaints) == (0, "")
    assert lines[0] == "✓ settings     PROVIDER=local, ENGINE=process"
    assert "✓ token        @baal_demo_bot" in lines


@pytest.mark.e2e
async def test_the_command_with_something_wrong(doctor, run):
    code, written, complaints = await run(TELEGRAM_BOT_TOKEN="42:wrong", PYTHONIOENCODING="ascii")

    line = b"? token        Telegram refuses it: ask @BotFather for a new one and set TELEGRAM_BOT_TOKEN"
    assert (code, complaints) == (1, "")
    assert line in written.splitlines()


@pytest.mark.e2e
async def test_names_that_take_for_ever_hold_nothing_up(doctor, tmp_path):
    """Each look-up keeps a thread, and no thread can be ended."""
    code = (
        "import socket, time; from bot.cli import main\n"
        "look_up = socket.getaddrinfo\n"
        "socket.getaddrinfo = lambda host, *more, **named: (\n"
        "    look_up(host, *more, **named) if host == '127.0.0.1' else time.sleep(60))\n"
        "main(['doctor'])"
    )
    doctor.set(PROVIDER="aleph", TELEGRAM_API_BASE="https://slow.example")
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=tmp_path, env=known | doctor.environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(45):
        written, _ = await process.communicate()

    lines = written.decode().splitlines()
    assert process.returncode == 1
    assert any(line.startswith("✗ token        slow.example does not answer (no answer in 6 s)") for line in lines)
    assert any(line.startswith("✓ data ") for line in lines)
    assert any(line.startswith("✓ key ") for line in lines)


@pytest.mark.e2e
async def test_help_of_the_command_loads_nothing_of_it():
    code = "import sys; from bot.cli import _parser; _parser(); print([m for m in sys.modules if 'doctor' in m])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    written, _ = await process.communicate()

    assert written == b"[]\n"
