"""Make a machine ready for agents: Docker, its settings, a firewall. What is done there stands in bootstrap.sh."""

import hashlib
import logging
import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from ipaddress import ip_address

from bot.log import line
from bot.machines.ssh import Shell

type Endpoint = tuple[str, int]
"""An IP address and a port."""

log = logging.getLogger(__name__)

SECONDS = 1_500.0
"""First boot and another program's apt may take 300 s each, Docker's 100 MB ten minutes on a slow machine."""


@cache
def _text() -> str:
    return files("bot.machines").joinpath("bootstrap.sh").read_text()


def script(allow: Sequence[Endpoint] = ()) -> str:
    """What bash is given: bootstrap.sh below what it allows and a fingerprint, by which a machine knows it has run.

    `ValueError` for an address that is none.
    """
    allowed = " ".join(sorted({f"{ip_address(address)},{port:d}" for address, port in allow}))
    text = f"ALLOWED='{allowed}'\n{_text()}"
    return f"FINGERPRINT={hashlib.sha256(text.encode()).hexdigest()}\n{text}"


async def bootstrap(shell: Shell, allow: Sequence[Endpoint] = ()) -> None:
    """Have Docker answering on the machine, and agents kept from everything but the internet.

    `allow`: what they may use over TCP besides, although its address is private. A second time it changes nothing and
    takes a moment. `NotPrepared` with the end of its log; `NotReached` if the connection breaks: then it may still run
    there, and the next call waits for it.
    """
    started = time.monotonic()
    await shell.run("preparing the machine", script(allow), seconds=SECONDS)
    log.info(line("machine prepared", seconds=round(time.monotonic() - started, 1)))
