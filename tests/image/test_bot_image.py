"""The bot's image as it is run: what is in it, what it may do, how it starts and ends."""

import asyncio
import json
import re
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from scripts.image.layers import scan
from tests.containers import ROOT, gateway
from tests.fakes.telegram_client import TelegramDouble

pytestmark = pytest.mark.image

BAAL = 10001
WRITABLE = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null"
CONFINED = {
    "read_only": True,
    "tmpfs": {"/tmp": "size=64m,mode=1777"},  # noqa: S108  the container's
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 256,
}


class Bots:
    """Makes containers of the bot's image, as `compose.yaml` runs it, and removes them with their volumes."""

    def __init__(self, client, image):
        self.client = client
        self._image = image
        self._made = []

    def start(self, variables, **options):
        container = self.client.containers.create(
            self._image,
            **CONFINED | {"name": f"baal-test-{secrets.token_hex(4)}", "environment": variables} | options,
        )
        self._made.append(container)
        container.start()
        return container

    def remove(self):
        for container in self._made:
            container.remove(force=True, v=True)


@pytest.fixture
def bots(docker_client, bot_image):
    made = Bots(docker_client, bot_image)
    yield made
    made.remove()


@pytest.fixture
async def telegram(docker_client):
    async with TelegramDouble(host=gateway(docker_client)) as double:
        yield double


@pytest.fixture
def variables(telegram):
    return {
        "TELEGRAM_BOT_TOKEN": telegram.token,
        "TELEGRAM_API_BASE": telegram.url,
        "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "LIBERTAI_API_KEY": "LTAI_operator",
        "MODEL_PRICES_URL": "",
    }


async def until_well(container, seconds=60):
    """The bot says so itself: sooner than Docker asks it."""
    deadline = time.monotonic() + seconds
    while (asked := await asyncio.to_thread(container.exec_run, ["python", "-m", "bot", "health"])).exit_code:
        assert time.monotonic() < deadline, (asked.output, container.logs().decode())
        await asyncio.sleep(0.1)


async def until_healthy(container, seconds=60):
    """Docker's own health check says so."""
    deadline = time.monotonic() + seconds
    while (state := _state(container))["Health"]["Status"] != "healthy":
        assert state["Running"], container.logs().decode()
        assert time.monotonic() < deadline, (state["Health"], container.logs().decode())
        await asyncio.sleep(0.2)
    return state["Health"]


def _state(container):
    container.reload()
    return container.attrs["State"]


def run(image, *command):
    """A command in a fresh container."""
    name = f"baal-test-{secrets.token_hex(4)}"
    return subprocess.run(
        ("docker", "run", "--rm", "--name", name, "--entrypoint", command[0], image, *command[1:]),
        capture_output=True,
        text=True,
        check=False,
    )


# -- what is in it -------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(docker_client, bot_image):
    labels = docker_client.images.get(bot_image).labels
    told = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert told["title"] == "Baal bot"
    assert told["licenses"] == "MIT"
    assert told["base.name"].startswith("python:")
    assert re.fullmatch(r"\d+\.\d+\.\d+", told["version"])
    assert told["revision"]
    assert told["description"]


def test_of_the_agent_it_holds_the_wire_alone(bot_image):
    ran = run(bot_image, "find", "/app/agent", "-name", "*.py", "-not", "-path", "/app/agent/protocol/*")
    assert ran.stdout.split() == ["/app/agent/__init__.py"]
    unwanted = (
        "import importlib.util as u; print([n for n in ('openai', 'jiter', 'tiktoken', 'caddy') if u.find_spec(n)])"
    )
    assert run(bot_image, "python", "-c", unwanted).stdout.strip() == "[]"


def test_what_is_installed_is_what_is_locked(bot_image):
    folder = "/opt/venv/lib/python3.13/site-packages"
    code = (
        "import importlib.metadata as m\n"
        f"print(*(d.name.lower().replace('_', '-').replace('.', '-') for d in m.distributions(path=['{folder}'])))"
    )
    installed = set(run(bot_image, "python", "-c", code).stdout.split())
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "bot.lock").read_text(), re.MULTILINE))
    assert installed <= locked
    missing = {name for name in locked - installed if not name.startswith(("pyobjc-", "winrt-"))}
    assert missing <= {"colorama", "pywin32", "tzdata"}, "those of other systems"


def test_nothing_that_builds_is_left_in_it(bot_image):
    ran = run(
        bot_image, "sh", "-c", "command -v uv gcc cc make ld strip git curl ssh; ls /uv /requirements /root/.cache"
    )
    assert ran.stdout == ""


def test_everything_that_it_serves_with_can_be_loaded(bot_image):
    """Stripped libraries and what is left out by name included."""
    ran = run(
        bot_image, "python", "-c", "import bot.app, bot.gateway, docker, psycopg, uvloop, aiosqlite; print('loaded')"
    )
    assert ran.stdout == "loaded\n", ran.stderr


def test_public_servers_are_trusted(bot_image):
    ran = run(bot_image, "python", "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))")
    assert int(ran.stdout) > 50


def test_no_layer_holds_a_secret_and_nothing_runs_with_foreign_rights(bot_image):
    assert [str(finding) for finding in scan(bot_image).findings] == []


def test_its_code_is_compiled(bot_image):
    """A read-only file system keeps no bytecode: what is not compiled would be compiled at each start."""
    code = (
        "import importlib.util as u, pathlib as p\n"
        "print(*(f for f in p.Path('/app').rglob('*.py') if not p.Path(u.cache_from_source(f)).exists()))"
    )
    assert run(bot_image, "python", "-c", code).stdout.strip() == ""


# -- how it runs ---------------------------------------------------------------------------------------------------


async def test_it_turns_healthy_as_nobody_special_and_ends_in_time(bots, telegram, variables):
    container = bots.start(variables)
    health = await until_healthy(container)
    assert health["Log"][-1]["Output"].startswith("ok (")

    _, processes = container.exec_run("cat /proc/1/status")
    status = dict(line.split(":\t", 1) for line in processes.decode().splitlines() if ":\t" in line)
    assert status["Uid"].split() == [str(BAAL)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"

    begun = time.monotonic()
    await asyncio.to_thread(container.stop, timeout=60)
    assert time.monotonic() - begun < 45
    assert _state(container)["ExitCode"] == 0
    assert "Traceback" not in container.logs().decode()
    assert await telegram.refusals() == []


async def test_it_writes_nowhere_but_in_its_data_folder(bots, telegram, variables):
    container = bots.start(variables)
    await until_well(container)
    _, found = container.exec_run(["sh", "-c", WRITABLE])
    assert [path for path in found.decode().split() if not path.startswith(("/data", "/tmp"))] == []  # noqa: S108
    changed = [change["Path"] for change in container.diff() or []]
    assert [path for path in changed if not path.startswith(("/data", "/tmp", "/run", "/etc"))] == []  # noqa: S108
    _, kept = container.exec_run("ls -la /data")
    assert "baal.sqlite" in kept.decode()
    assert "root" not in kept.decode().replace("root root", "", 1), "the folder above is the only one that is root's"


async def test_its_health_door_is_open_inside_only_and_tells_no_secret(bots, telegram, variables):
    container = bots.start(variables)
    await until_well(container)
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/health').read().decode())"
    _, said = container.exec_run(["python", "-c", ask])
    labels = container.image.labels
    report = json.loads(said)
    assert report["version"] == labels["org.opencontainers.image.version"]
    assert report["revision"] == labels["org.opencontainers.image.revision"]
    assert report["checks"] == {"database": "ok", "telegram": "ok", "fleet": "ok"}
    secret = [variables[name] for name in ("TELEGRAM_BOT_TOKEN", "BOT_ENCRYPTION_KEY", "LIBERTAI_API_KEY")]
    assert [word for word in secret if word in said.decode() + container.logs().decode()] == []

    container.reload()
    address = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(address, 8080)


@pytest.mark.parametrize("missing", ["TELEGRAM_BOT_TOKEN", "BOT_ENCRYPTION_KEY"])
def test_a_missing_setting_is_one_line_and_exit_code_78(bots, missing):
    good = {"TELEGRAM_BOT_TOKEN": "4242:abc", "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode()}
    container = bots.start({name: value for name, value in good.items() if name != missing})
    assert container.wait(timeout=30)["StatusCode"] == 78
    assert container.logs().decode() == f"{missing} is not set. See .env.example.\n"


async def test_a_token_that_telegram_does_not_know_is_one_line_and_exit_code_78(bots, telegram, variables):
    container = bots.start({**variables, "TELEGRAM_BOT_TOKEN": "4242:somebody-elses"})
    ended = await asyncio.to_thread(container.wait, timeout=30)
    assert ended["StatusCode"] == 78
    (line,) = container.logs().decode().splitlines()
    assert line == "TELEGRAM_BOT_TOKEN is refused by Telegram; @BotFather shows the right one"


def test_a_data_folder_of_somebody_else_is_one_line_and_exit_code_78(bots, tmp_path):
    good = {"TELEGRAM_BOT_TOKEN": "4242:abc", "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode()}
    for mount in ("size=10m,mode=0700", "ro,mode=1777"):
        container = bots.start(good, tmpfs={"/data": mount})
        assert container.wait(timeout=30)["StatusCode"] == 78
        (line,) = container.logs().decode().splitlines()
        assert line.startswith("DATA_DIR /data cannot be written (")


def test_the_two_images_are_built_without_what_lies_around(tmp_path):
    """What may go into an image is listed; a new file or folder is not in it by itself."""
    rules = (ROOT / ".dockerignore").read_text().split()
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!") and not (ROOT / Path(rule[1:].split("*")[0])).exists()]
    assert {".env", "data", "tests", ".git"} & {rule.lstrip("!") for rule in rules} == set()
