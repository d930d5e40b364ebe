"""What the bot makes of the script's end. The script itself is tried on machines: tests/vm."""

import asyncio
import subprocess
from types import SimpleNamespace

import asyncssh
import pytest

from bot.errors import NotPrepared, NotReached
from bot.machines import bootstrap as module
from bot.machines.bootstrap import bootstrap, script
from bot.machines.ssh import Shell


class Connection(asyncssh.SSHClientConnection):
    """A connection on which a script ends as a test wants."""

    def __init__(self, *, code=0, written="", error=None, hangs=False):
        self.given = []
        self._end = SimpleNamespace(returncode=code, stdout=written)
        self._error = error
        self._hangs = hangs

    async def run(self, *command, **options):
        self.given.append((*command, options["input"]))
        if self._error:
            raise self._error
        if self._hangs:
            await asyncio.Event().wait()
        return self._end


async def test_the_whole_script_goes_in_by_stdin_below_its_fingerprint():
    connection = Connection()
    await bootstrap(Shell(connection))
    ((command, given),) = connection.given
    assert command == "bash -s"
    assert given == script()
    assert given.startswith("FINGERPRINT=")
    assert "apt-get" in given


async def test_what_cannot_be_prepared_says_its_last_words():
    failing = Connection(code=100, written="x" * 5_000 + "E: Unable to locate package docker.io\n")
    with pytest.raises(NotPrepared, match="preparing the machine: exit code 100") as failed:
        await bootstrap(Shell(failing))
    assert failed.value.log.endswith("E: Unable to locate package docker.io\n")
    assert len(failed.value.log) == 2_000


async def test_a_machine_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.01)
    with pytest.raises(NotPrepared, match="took more than"):
        await bootstrap(Shell(Connection(hangs=True)))


@pytest.mark.parametrize("error", [asyncssh.ConnectionLost("gone"), ConnectionResetError()])
async def test_a_connection_that_breaks_is_the_machine_not_reached(error):
    with pytest.raises(NotReached):
        await bootstrap(Shell(Connection(error=error)))


ALLOWED = [("192.168.1.5", 8000), ("fd00::5", 8000)]


@pytest.mark.parametrize("allow", [(), ALLOWED])
def test_bash_can_read_the_script(allow):
    subprocess.run(("bash", "-n"), input=script(allow), text=True, check=True)


async def test_what_agents_may_use_besides_changes_the_fingerprint():
    connection = Connection()
    await bootstrap(Shell(connection), ALLOWED)
    given = connection.given[0][1]
    assert "ALLOWED='192.168.1.5,8000 fd00::5,8000'\n" in given
    assert given == script(ALLOWED[::-1])
    assert given.splitlines()[0] != script().splitlines()[0]


@pytest.mark.parametrize("address", ["a.example.org", "10.0.0.1'; reboot; '", ""])
def test_nothing_but_an_address_gets_into_the_script(address):
    with pytest.raises(ValueError, match="does not appear to be"):
        script([(address, 8000)])
