"""`make run-agent`: one command, a chat with the container, nothing left behind."""

import os
import secrets
import signal
import subprocess
import sys
import time

import pytest
from docker.errors import NotFound

from agent import protocol
from bot.machines.container import volumes
from scripts.image.terminal import words
from tests.containers import AGENT_IMAGE, ROOT

pytestmark = pytest.mark.image
COMMAND = (sys.executable, "-m", "scripts.image.run_agent")
SECONDS = 60


@pytest.fixture
def settings(agent_image, monkeypatch):
    """Of an agent that nobody else has."""
    for name in ("LIBERTAI_API_KEY", "LLM_BASE_URL", "LLM_API_KEY", "LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return {"NAME": f"Ada {secrets.token_hex(4)} '\"$HOME", "MODEL": "scripted", "IMAGE": AGENT_IMAGE}


def container_of(client, name):
    """The container of that agent, once it runs."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for container in client.containers.list(ignore_removed=True):
            if f"AGENT_NAME={name}" in container.attrs["Config"]["Env"]:
                return container
    raise AssertionError("it does not run")


def run(settings, questions):
    environment = os.environ | settings
    return subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment,
        input=questions,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_each_line_is_answered_until_the_input_ends(settings):
    done = run(settings, "Are you there?\n\nAnd now?\n")

    assert done.returncode == 0, done.stderr
    first, second = (answer for answer in done.stdout.split(f"{settings['NAME']}: ")[1:])
    assert "“Are you there?”" in first
    assert "“And now?”" in second
    assert "scripted" in done.stderr


@pytest.fixture
def interruptible():
    """Programs that are started in the background ignore Ctrl-C, and what they start does too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_however_it_ends_the_container_and_its_volumes_are_gone(settings, docker_client, number):
    with subprocess.Popen(COMMAND, cwd=ROOT, env=os.environ | settings, stdin=subprocess.PIPE) as chat:
        container = container_of(docker_client, settings["NAME"])
        chat.send_signal(number)
        chat.wait(SECONDS)

    with pytest.raises(NotFound):
        docker_client.containers.get(container.id)
    for volume in volumes(str(container.name)):
        with pytest.raises(NotFound):
            docker_client.volumes.get(volume)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"IMAGE": "nobody/has-this:1"}, "there is no image nobody/has-this:1 here"),
        ({"IMAGE": "Not An Image"}, "there is no image Not An Image here"),
        ({"MODEL": "gpt-9"}, "MODEL=gpt-9 needs a server that has it"),
        ({"LLM_BASE_URL": "http://localhost:1/v1"}, "a container cannot reach http://localhost:1/v1"),
        ({"LLM_BASE_URL": "http://192.0.2.1:1/v1", "MODEL": "m", "NAME": "two\nlines"}, "AGENT_NAME"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(settings, wrong, complaint):
    done = run(settings | wrong, "hello\n")

    assert done.returncode == 1
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_terminal_shows_what_a_person_must_know_of_a_turn():
    events: list[protocol.Event] = [
        protocol.Text(seq=1, text="Hel"),
        protocol.KeepAlive(seq=1),
        protocol.Restart(seq=2),
        protocol.Notice(seq=3, text="Busy."),
        protocol.Text(seq=4, text="Hello"),
        protocol.Failed(seq=5, kind=protocol.ErrorKind.BUSY, text="Try later.", retryable=True),
    ]

    assert "".join(map(words, events)) == "Hel\n(once more) \n(Busy.)\nHello\n(Try later.)\n"
