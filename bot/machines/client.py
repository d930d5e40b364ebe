"""Speak `agent.protocol` to agents over one long-lived pool of connections."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from pydantic import ValidationError

from agent import protocol
from agent.protocol import Attachment
from bot.errors import AgentOffline, AgentRefused
from bot.machines.caller import CONNECT_SECONDS, KEPT_SECONDS, PIECE_BYTES, Body, Door, pieces_of
from bot.machines.handover import Handover

__all__ = ["CONNECT_SECONDS", "KEPT_SECONDS", "PIECE_BYTES", "AgentClient", "Door", "Upload"]

GLANCE_SECONDS = 1.5
"""For what a screen is complete without."""


@dataclass(frozen=True, slots=True)
class Upload:
    """How a file is announced to the agent. `name` is a stranger's: the agent makes it safe."""

    id: str
    name: str
    media_type: str
    role: protocol.Role


class AgentClient(Handover):
    """All that is said to agents; what moves them from machine to machine is in `Handover`.

    Every call raises `AgentHeld` where the agent does not work (any more, or yet): ask again where it works now.
    """

    async def chat(self, door: Door, request: protocol.ChatRequest) -> AsyncGenerator[protocol.Event]:
        """Run a turn or attach to it: its events after `request.after`, keep-alives included, until a final one.

        `AgentOffline` when the connection fails or breaks, `AgentBusy` when it takes no turn now, `AgentRefused` when
        it refuses this one. Asking again for the same `turn_id` is always safe.
        """
        # An agent of the version before refuses fields that it does not know, also where they say nothing.
        body = request.model_dump_json(exclude_defaults=True).encode()
        headers = {"Accept": protocol.EVENT_STREAM, "Content-Type": "application/json"}
        async with self.call(door, "POST", "/chat", data=body, headers=headers) as response:
            try:
                async for event in protocol.from_sse(response.content.iter_any()):
                    yield event
                    if isinstance(event, protocol.Final):
                        return
            except (aiohttp.ClientError, TimeoutError) as error:
                raise AgentOffline(f"the stream broke: {type(error).__name__}") from error
        raise AgentOffline("the stream ended before the turn did")

    async def health(self, door: Door) -> protocol.Health:
        """Who answers there; with the secret, so that an agent that does not share it is refused."""
        async with self.call(door, "GET", "/health") as response:
            try:
                return protocol.Health.model_validate_json(await response.read())
            except ValidationError as error:
                raise AgentRefused("bad_health", "its health report is not of this protocol") from error

    async def configure(self, door: Door, config: protocol.Config) -> None:
        """Change name, job, model or limits from its next turn on; `AgentRefused` (`stale_config`) if it has newer."""
        body = config.model_dump_json(exclude_none=True).encode()
        async with self.call(door, "PUT", "/config", data=body, headers={"Content-Type": "application/json"}):
            return

    async def stop(self, door: Door, chat_id: str) -> None:
        """Stop the running turn of a chat; harmless if none runs."""
        async with self.call(door, "POST", f"/chat/{quote(chat_id, safe='')}/stop"):
            return

    async def forget(self, door: Door, chat_id: str) -> None:
        """Forget the conversation of a chat."""
        async with self.call(door, "DELETE", f"/chat/{quote(chat_id, safe='')}"):
            return

    async def put_file(self, door: Door, chat_id: str, file: Upload, content: AsyncIterable[bytes]) -> Attachment:
        """Store a file of a person's with the agent; the same id again replaces it. What `content` raises passes on.

        `AgentRefused` also where it takes no such file (413) or has no room (507); its text is for the person.
        """
        query = {"name": file.name, "role": file.role.value, "media_type": file.media_type}
        body = Body(content)
        try:
            async with self.call(door, "PUT", _file_path(chat_id, file.id), params=query, data=aiter(body)) as response:
                return Attachment.model_validate_json(await response.read())
        except ValidationError as error:
            raise AgentRefused("bad_attachment", "its answer to a file is not of this protocol") from error
        except AgentOffline:
            if body.error is not None:
                raise body.error from None
            raise

    @asynccontextmanager
    async def get_file(self, door: Door, chat_id: str, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file that the agent made, piece by piece. `AgentOffline` also when it breaks off in the middle."""
        async with self.call(door, "GET", _file_path(chat_id, file_id)) as response:
            yield pieces_of(response)

    async def tick(self, door: Door) -> protocol.Outbox:
        """Have it do what is due; the letters that wait, and when to call again."""
        async with self.call(door, "POST", "/tick") as response:
            try:
                return protocol.Outbox.model_validate_json(await response.read())
            except ValidationError as error:
                raise AgentRefused("bad_outbox", "its outbox is not of this protocol") from error

    async def acknowledge(self, door: Door, up_to: int) -> None:
        """The letters up to this number are safe here; again is harmless."""
        body = protocol.Acknowledged(up_to=up_to).model_dump_json().encode()
        headers = {"Content-Type": "application/json"}
        async with self.call(door, "POST", "/outbox/ack", data=body, headers=headers):
            return

    async def usage(self, door: Door, since: str) -> protocol.Spendings:
        """What its chats cost since that day (UTC, ISO). Asked with little patience: `AgentOffline` also when slow."""
        timeout = aiohttp.ClientTimeout(total=GLANCE_SECONDS)
        async with self.call(door, "GET", "/usage", params={"since": since}, timeout=timeout) as response:
            try:
                return protocol.Spendings.model_validate_json(await response.read())
            except ValidationError as error:
                raise AgentRefused("bad_usage", "its usage is not of this protocol") from error


def _file_path(chat_id: str, file_id: str) -> str:
    return f"/files/{quote(chat_id, safe='')}/{quote(file_id, safe='')}"
