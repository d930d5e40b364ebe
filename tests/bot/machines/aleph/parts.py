"""Names that the tests of the provider share."""

import asyncio

from pydantic import SecretStr

from bot.machines.aleph.patience import Patience

KEY = SecretStr("0x" + "01" * 32)
CHANNEL = "BAAL-test"
MACHINE, OTHER = "m-0123456789abcdef", "m-1111111111111111"
HOST_KEY = "ssh-ed25519 AAAAhost"
QUICK = Patience(process=1, place=1, forget=1, poll=0.01, watch=0.5)


async def until(fact):
    """Until something holds that the double does in the background."""
    async with asyncio.timeout(30):
        while not fact():
            await asyncio.sleep(0.005)
