"""What only the process engine promises: its lock, its process numbers, its log, and that agents outlive the bot."""

import asyncio
import dataclasses
import fcntl
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from bot.errors import MachineError, NotStarted
from bot.machines import process as process_module
from bot.machines.engine import RunState, Spec
from bot.machines.process import LOG_LIMIT_BYTES, ProcessEngine
from bot.machines.provider import Place

pytestmark = pytest.mark.e2e

START_AND_LEAVE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.bot.machines.test_process import make_spec, place_in
from bot.machines.process import ProcessEngine

async def bot():
    await ProcessEngine().run(place_in(Path(sys.argv[1])), make_spec())

asyncio.run(bot())
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""
STUBBORN = """
import os, signal, socket, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("child", "w").write(str(child.pid))
door = socket.socket(fileno=int(os.environ["AGENT_FD"]))
body = b'{"status": "%s", "agent_name": "n", "release": "r"}' % sys.argv[1].encode()
while True:
    caller, _ = door.accept()
    caller.recv(65536)
    caller.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    caller.close()
"""
"""An agent that answers, but ends for SIGKILL only. Its process group has a second member."""


def make_spec():
    return Spec(
        release="r1",
        name="Chef Ada",
        job="Plans meals.",
        model="scripted",
        secret=SecretStr("a-secret-of-thirty-two-characters"),
        llm_base_url="http://127.0.0.1:9/v1",
        llm_api_key=SecretStr("LTAI_key_that_must_stay_secret"),
    )


def place_in(folder):
    return Place("m-0123456789abcdef", str(folder))


@pytest.fixture
def spec():
    return make_spec()


@pytest.fixture
async def place(tmp_path):
    made = place_in(tmp_path)
    yield made
    await ProcessEngine().remove(made)


@pytest.fixture
def engine():
    return ProcessEngine()


@pytest.fixture
def stubborn(monkeypatch):
    """Of an agent that does not end when it is told to."""
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.3)
    return ProcessEngine([sys.executable, "-c", STUBBORN, "ok"])


def process(place):
    return psutil.Process(int((Path(place.path) / "pid").read_text()))


def is_over(one):
    return not one.is_running() or one.status() == psutil.STATUS_ZOMBIE


async def until(fact):
    async with asyncio.timeout(30):
        while not fact():
            await asyncio.sleep(0.01)


# The bot's end


@pytest.mark.parametrize("end", ["killed", "by itself"])
async def test_an_agent_outlives_the_bot_that_started_it(engine, place, spec, end):
    bot = await asyncio.create_subprocess_exec(sys.executable, "-c", START_AND_LEAVE, place.path, end)
    async with asyncio.timeout(30):
        code = await bot.wait()
    started = process(place)

    url = (await engine.inspect(place)).url

    assert code == (-signal.SIGKILL if end == "killed" else 0)
    assert await engine.run(place, spec) == url
    assert process(place) == started


async def test_an_agent_that_ended_is_no_zombie_while_the_bot_runs(engine, place, spec):
    await engine.run(place, spec)
    agent = process(place)

    agent.kill()

    await until(lambda: not psutil.pid_exists(agent.pid))


# Whose process it is


async def test_a_process_number_is_never_signalled_when_no_lock_is_held(engine, place):
    somebody_else = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    (Path(place.path) / "pid").write_text(str(somebody_else.pid))
    (Path(place.path) / "lock").touch()

    await engine.remove(place)

    somebody_else.kill()
    assert await somebody_else.wait() == -signal.SIGKILL  # not SIGTERM


async def test_the_old_process_number_is_gone_when_the_new_agent_has_none(engine, place, spec):
    (Path(place.path) / "pid").write_text("999999999")

    with pytest.raises(NotStarted):
        await engine.run(place, dataclasses.replace(spec, name="a\x00b"))

    assert not (Path(place.path) / "pid").exists()


async def test_an_agent_that_does_not_end_when_told_is_killed_with_all_it_started(stubborn, place, spec):
    await stubborn.run(place, spec)
    agent, child = process(place), psutil.Process(int((Path(place.path) / "child").read_text()))

    await stubborn.remove(place)

    assert (await stubborn.inspect(place)).state is RunState.STOPPED
    await until(lambda: is_over(agent) and is_over(child))


async def test_removing_says_so_when_the_lock_stays(stubborn, place):
    with (Path(place.path) / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (Path(place.path) / "pid").write_text("999999999")

        with pytest.raises(MachineError, match="does not end"):
            await stubborn.remove(place)


async def test_starting_is_refused_when_somebody_else_holds_the_lock(monkeypatch, engine, place, spec):
    monkeypatch.setattr(process_module, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.1)
    with (Path(place.path) / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(NotStarted, match="lock"):
            await engine.run(place, spec)


# Health


async def test_an_agent_on_its_way_out_is_replaced(monkeypatch, engine, place, spec):
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.3)
    with monkeypatch.context() as patience:
        patience.setattr(process_module, "START_SECONDS", 0.5)
        with pytest.raises(NotStarted, match="no answer"):
            await ProcessEngine([sys.executable, "-c", STUBBORN, "draining"]).run(place, spec)
    leaving = process(place)

    await engine.run(place, spec)

    assert process(place) != leaving


async def test_an_answer_on_the_old_port_is_not_taken_for_the_agent_when_it_is_dead(engine, place, spec, tmp_path):
    url = await engine.run(place, spec)
    await engine.remove(place)
    other = place_in(tmp_path / "other")
    Path(other.path).mkdir()
    (Path(other.path) / "started.json").write_bytes((Path(place.path) / "started.json").read_bytes())
    assert await engine.run(other, spec) == url  # on the port that was ours

    mine = await engine.run(place, spec)

    assert (await engine.inspect(other)).url == url
    assert mine != url
    await engine.remove(other)


async def test_the_port_stays_when_the_agent_comes_back(engine, place, spec):
    url = await engine.run(place, spec)
    await engine.remove(place)

    assert await engine.run(place, spec) == url


# What cannot start


@pytest.mark.parametrize("name", ["a\x00b", "a\ud800b"])
async def test_words_that_no_environment_can_carry_are_not_started(engine, place, spec, name):
    with pytest.raises(NotStarted):
        await engine.run(place, dataclasses.replace(spec, name=name))


async def test_a_job_longer_than_the_system_allows_is_not_started(engine, place, spec):
    with pytest.raises(NotStarted):
        await engine.run(place, dataclasses.replace(spec, job="x" * 5_000_000))


async def test_nothing_is_started_when_the_folder_is_not_there(engine, spec, tmp_path):
    with pytest.raises(NotStarted):
        await engine.run(place_in(tmp_path / "nowhere"), spec)


async def test_a_command_that_is_not_there_is_named_in_the_log(place, spec):
    with pytest.raises(NotStarted) as caught:
        await ProcessEngine(["/no/such/program"]).run(place, spec)

    assert "/no/such/program" in caught.value.log


# Files


async def test_what_was_started_is_noted_without_secrets_and_wholly(engine, place, spec):
    url = await engine.run(place, spec)

    noted = json.loads((Path(place.path) / "started.json").read_text())

    assert noted == {"fingerprint": spec.fingerprint(), "port": int(url.rsplit(":", 1)[1])}
    assert not list(Path(place.path).glob("*.new"))


async def test_a_log_that_grew_too_long_begins_anew_and_a_short_one_goes_on(engine, place, spec):
    log = Path(place.path) / "agent.log"
    log.write_text("earlier\n")
    await engine.run(place, spec)
    assert log.read_text().startswith("earlier\n")
    await engine.remove(place)

    log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    await engine.run(place, spec)

    assert log.stat().st_size < LOG_LIMIT_BYTES
    assert "agent ready" in await engine.logs(place)


async def test_logs_are_the_last_lines_even_of_a_huge_log(engine, place):
    (Path(place.path) / "agent.log").write_bytes(b"\xff" * 200_000 + b"\none\ntwo\nthree\n")

    assert await engine.logs(place, lines=2) == "two\nthree"


async def test_an_agent_inherits_nothing_of_the_bots_environment_but_the_basics(monkeypatch, engine, place, spec):
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "1:secret")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/certificates.pem")
    await ProcessEngine([sys.executable, "-c", STUBBORN, "ok"]).run(place, spec)

    names = process(place).environ().keys() - spec.environment().keys()

    assert "TELEGRAM_BOT_TOKEN" not in names
    assert {"PATH", "SSL_CERT_FILE", "AGENT_DATA", "AGENT_FD"} <= names
    process(place).kill()


async def test_what_nothing_confines_is_turned_on_and_off_by_the_operator_alone(place, spec):
    open_handed = ProcessEngine(unconfined_tools=True)
    for engine, given in ((ProcessEngine(), None), (open_handed, "true"), (ProcessEngine(), None)):
        await engine.run(place, spec)
        started = process(place)
        assert started.environ().get("AGENT_UNCONFINED_TOOLS") == given
        await engine.run(place, spec)
        assert process(place) == started


def test_a_spec_tells_an_agent_how_often_to_look_by_itself(spec):
    told = dataclasses.replace(spec, heartbeat_minutes=30).environment()
    assert told["AGENT_HEARTBEAT_MINUTES"] == "30"
