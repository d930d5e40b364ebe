"""Move an agent from machine to machine: make a copy stop, take what it has, give it to another, make that one work."""

from collections.abc import AsyncGenerator, AsyncIterable

import aiohttp
from pydantic import ValidationError

from agent import protocol
from bot.errors import AgentOffline, AgentRefused
from bot.machines.caller import CONNECT_SECONDS, SILENCE_SECONDS, Body, Caller, Door, pieces_of

STATE_SECONDS = 600.0
"""While an agent packs, checks or unpacks all it has (1 GB), it may say nothing for so long."""
SENT_SECONDS = 3_600.0
"""In which an agent must have taken all that it is sent, and answered."""
PROBE_SECONDS = 120.0
"""For a word from its model, which may have to be loaded first."""


class Handover(Caller):
    """What is said to the copies of an agent. A call with a lower epoch than the copy knows is too late.

    Then `AgentRefused` (`stale_epoch`) is raised. The same call again is harmless.
    """

    async def seal(self, door: Door, epoch: int, seconds: float = 120) -> protocol.Manifest:
        """Let its turns end for so many seconds, then let it change nothing any more; what it then holds.

        `AgentBusy` if they do not end: it goes on as before.
        """
        query, patience = {"seconds": f"{seconds:g}"}, _patience(seconds + STATE_SECONDS)
        async with self.call(door, "POST", "/seal", params=query, json={"epoch": epoch}, timeout=patience) as response:
            return await _manifest(response)

    async def activate(self, door: Door, epoch: int) -> None:
        """Let it take turns from now on. `AgentRefused` (`not_restored`) if its state is not in place."""
        async with self.call(door, "POST", "/activate", json={"epoch": epoch}):
            return

    async def unseal(self, door: Door, epoch: int) -> None:
        """Go back to a sealed copy: it takes turns again. The epoch must be higher than that of its sealing."""
        async with self.call(door, "POST", "/unseal", json={"epoch": epoch}):
            return

    async def snapshot(self, door: Door, base: str = "") -> AsyncGenerator[bytes]:
        """All that an agent has, as a plain tar archive, piece by piece; `AgentOffline` when it breaks off.

        `base` names a state that the receiver has already: an agent that can tell sends what differs from it.
        """
        query = {"base": base} if base else {}
        async with self.call(door, "GET", "/snapshot", params=query, timeout=_patience(STATE_SECONDS)) as response:
            async for piece in pieces_of(response):
                yield piece

    async def restore(self, door: Door, pieces: AsyncIterable[bytes]) -> protocol.Manifest:
        """Give a copy that stands by all that it shall have; what it then holds. What `pieces` raises passes on.

        `AgentRefused` says why it does not take it, and then nothing has changed.
        """
        body, patience = Body(pieces), _patience(STATE_SECONDS, total=SENT_SECONDS)
        try:
            # A refusal comes before anything is sent (100-continue).
            async with self.call(
                door, "PUT", "/snapshot", data=aiter(body), expect100=True, timeout=patience
            ) as response:
                return await _manifest(response)
        except AgentOffline:
            if body.error is not None:
                raise body.error from None
            raise

    async def probe(self, door: Door) -> None:
        """Have it ask its model for one word, without any chat. `AgentRefused` says why there is none."""
        async with self.call(door, "POST", "/probe", timeout=_patience(PROBE_SECONDS)):
            return


def _patience(silence: float, total: float | None = None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total, connect=CONNECT_SECONDS, sock_read=max(silence, SILENCE_SECONDS))


async def _manifest(response: aiohttp.ClientResponse) -> protocol.Manifest:
    try:
        return protocol.Manifest.model_validate_json(await response.read())
    except ValidationError as error:
        raise AgentRefused("bad_manifest", "its manifest is not of this protocol") from error
