"""The benchmark's stand-in for ten thousand agents: whoever is asked, and whatever for, is well."""

import asyncio
import os
import socket

from agent.protocol import Health, Mode

_REPORT = Health(
    status="ok", agent_name="Ada", release="r1", model="scripted", running_turns=0, mode=Mode.ACTIVE, epoch=1
)
_BODY = _REPORT.model_dump_json().encode()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class _Well(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.WriteTransport)  # noqa: S101  of a stream
        self._transport.write(_ANSWER * data.count(b"\r\n\r\n"))


async def _serve(door: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(_Well, sock=door)
    await server.serve_forever()


def main() -> None:
    """Serve on the inherited socket."""
    with socket.socket(fileno=int(os.environ["AGENT_FD"])) as door:
        asyncio.run(_serve(door))


if __name__ == "__main__":
    main()
