"""Work that goes on only as long as it is its right: a lease that is renewed, and lost to a newer wish."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

RENEW_SECONDS = 5.0
"""Also how long a newer wish waits for work that it makes needless; a lease lasts for many of these."""


class Superseded(Exception):
    """A newer wish stands in the row; this attempt has nothing more to do."""


async def while_held(renew: Callable[[], Awaitable[bool]], work: Coroutine[Any, Any, object]) -> None:
    """Do the work and keep renewing; `Superseded` once it may not go on, and then it has stopped.

    Steps may take longer than a lease lasts (a machine is waited for during six minutes): without this, another attempt
    would begin beside it, and what the one gives back the other could still be renting.
    """
    keeping, working = asyncio.create_task(_keep(renew)), asyncio.create_task(work)
    try:
        await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_ended = keeping.done() and not working.done()
        for task in (keeping, working):
            task.cancel()
        # `wait` ends with the tasks and raises nothing of theirs.
        await asyncio.wait({keeping, working})
    await (keeping if is_ended else working)


async def _keep(renew: Callable[[], Awaitable[bool]]) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        if not await renew():
            raise Superseded
