"""Make a machine ready for agents: Docker, its settings, a firewall. What is done there stands in bootstrap.sh."""

import hashlib
import logging
import time
from functools import cache
from importlib.resources import files

from bot.log import line
from bot.machines.ssh import Shell

log = logging.getLogger(__name__)

SECONDS = 1_500.0
"""First boot and another program's apt may take 300 s each, Docker's 100 MB ten minutes on a slow machine."""


@cache
def script() -> str:
    """What bash is given: bootstrap.sh below its own fingerprint, by which a machine knows that it has run."""
    text = files("bot.machines").joinpath("bootstrap.sh").read_text()
    return f"FINGERPRINT={hashlib.sha256(text.encode()).hexdigest()}\n{text}"


async def bootstrap(shell: Shell) -> None:
    """Have Docker answering on the machine, and agents kept from everything but the internet.

    A second time it changes nothing and takes a moment. `NotPrepared` with the end of its log; `NotReached` if the
    connection breaks: then it may still run there, and the next call waits for it.
    """
    started = time.monotonic()
    await shell.run("preparing the machine", script(), seconds=SECONDS)
    log.info(line("machine prepared", seconds=round(time.monotonic() - started, 1)))
