"""A chat with one agent in a terminal: a line, its answer as it is written, until Ctrl-D."""

import asyncio
import secrets
import sys
from collections.abc import Iterator
from contextlib import suppress

from agent import protocol
from bot.errors import AgentError
from bot.machines.client import AgentClient, Door

CHAT = "terminal"


def talk(runner: asyncio.Runner, door: Door, name: str) -> None:
    """Answer lines of stdin until it ends. Ctrl-C stops the answer being written; at the prompt it ends the chat."""
    client = runner.run(_client())
    try:
        for line in _lines():
            print(f"{name}: ", end="", flush=True)
            try:
                runner.run(_answer(client, door, line))
            except KeyboardInterrupt:
                runner.run(_stop(client, door))
    finally:
        runner.run(client.close())


async def _client() -> AgentClient:
    return AgentClient()  # its pool belongs to the running loop


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("You: " if sys.stdin.isatty() else "")
        except EOFError:
            print()
            return
        if line.strip():
            yield line


async def _answer(client: AgentClient, door: Door, message: str) -> None:
    request = protocol.ChatRequest(
        chat_id=CHAT, message=message, turn_id=secrets.token_urlsafe(12), role=protocol.Role.OWNER
    )
    try:
        async for event in client.chat(door, request):
            print(words(event), end="", flush=True)
    except AgentError as error:
        print(f"(no answer: {error})")


async def _stop(client: AgentClient, door: Door) -> None:
    print(" (stopped)")
    with suppress(AgentError):  # then the next question tells
        await client.stop(door, CHAT)


def words(event: protocol.Event) -> str:  # noqa: PLR0911  one per kind of event
    """What the terminal shows of an event."""
    match event:
        case protocol.Text():
            return event.text
        case protocol.Restart():
            return "\n(once more) "
        case protocol.Tool():
            return f"\n[{event.label}]\n" if event.state is protocol.ToolState.RUNNING else ""
        case protocol.Notice() | protocol.Failed():
            return f"\n({event.text})\n"
        case protocol.File():
            return f"\n[a file: {event.name}, {event.size:,} bytes]\n"
        case protocol.Ask():
            return "\n".join(["", event.question, *(f"  - {option}" for option in event.options), ""])
        case protocol.Done():
            return "\n"
        case protocol.KeepAlive():
            return ""
