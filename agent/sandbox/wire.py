"""What the agent and the launcher say to each other.

One connection (SOCK_SEQPACKET) per call. The agent sends one packet: a `Request` as JSON, and with it two descriptors,
the tool's standard input and its output (both streams). The launcher answers with one packet when the call is over: a
`Result`. Whoever shuts down the sending side before that, or hangs up, stops the call. Output never passes through the
launcher: a pipe to the agent, which decides how much of it to read.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

SOCKET = Path("/run/launcher.sock")
MAX_PACKET = 200_000
"""Bytes; the kernel's default socket buffer is 212,992."""
MAX_SECONDS = 600.0
_DESCRIPTORS = 2

Ended = Literal["exit", "timeout", "quota", "stopped", "refused"]


class BadRequest(ValueError):
    """What came over the socket is not a request; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One program to run: its words (not joined by a shell), in which folder of the workspace, how long (seconds)."""

    command: Sequence[str]
    folder: str = "."
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended. `code` as a shell has it: 128 + n for signal n. `text` tells the model what to do, or is empty."""

    ended: Ended
    code: int
    seconds: float
    text: str = ""


def send(connection: socket.socket, request: Request, descriptors: Sequence[int]) -> None:
    """Ask; `BadRequest` if it is too long."""
    packet = _encode(request)
    if len(packet) > MAX_PACKET:
        raise BadRequest(f"a command may have {MAX_PACKET} bytes; hand longer things to its standard input")
    socket.send_fds(connection, [packet], list(descriptors))


def receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """Wait for a request and its descriptors; `BadRequest` if it is none."""
    packet, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET, _DESCRIPTORS)
    if len(descriptors) != _DESCRIPTORS:
        raise BadRequest("a request comes with two descriptors: standard input and output")
    return _to_request(packet), descriptors


def answer(connection: socket.socket, result: Result) -> None:
    """Tell how the call ended."""
    connection.sendall(_encode(result))


def to_result(packet: bytes) -> Result:
    """Read what `answer` sent."""
    return Result(**json.loads(packet))


def _encode(message: Request | Result) -> bytes:
    return json.dumps(asdict(message)).encode()


def _to_request(packet: bytes) -> Request:
    try:
        request = Request(**json.loads(packet))
    except (ValueError, TypeError) as error:
        raise BadRequest(f"not a request: {error}") from error
    if not request.command or not all(isinstance(word, str) and "\0" not in word for word in request.command):
        raise BadRequest("command: must be a list of words without NUL")
    if "\0" in request.folder:
        raise BadRequest("folder: must not contain NUL")
    if not 0 < request.seconds <= MAX_SECONDS:
        raise BadRequest(f"seconds: must be above 0 and at most {MAX_SECONDS:.0f}")
    return request
