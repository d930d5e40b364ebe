"""A double of the Aleph network: message node, list of nodes, scheduler and gateway on one port, each compute node on
one of its own, all on loopback. The unmodified SDK works against it.

`async with AlephDouble() as aleph:` in tests, which reach into `aleph.world` for facts and faults;
`python -m tests.fakes.aleph --credit 0xADDRESS=2000000` runs it by itself.
"""

import argparse
import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Self

from litestar import Litestar
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from tests.fakes import aleph_ccn, aleph_crn
from tests.fakes.aleph_auth import Denied
from tests.fakes.aleph_world import Machines, Node, World
from tests.fakes.libertai_serving import Serving


class AlephDouble:
    """A world and its servers."""

    def __init__(self, nodes: int = 3, machines: Machines | None = None) -> None:
        self.world = World(nodes, machines)
        self._public = Serving(_public(self.world))
        self._nodes = [Serving(_CutOff(_node(self.world, node), node)) for node in self.world.nodes.values()]
        for node, serving in zip(self.world.nodes.values(), self._nodes, strict=True):
            node.address = serving.url

    @property
    def url(self) -> str:
        """Of the message node, the list (`/crns.json`), the scheduler and the gateway."""
        return self._public.url

    async def __aenter__(self) -> Self:
        for serving in (self._public, *self._nodes):
            await serving.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.world.close()
        await asyncio.gather(*(serving.stop() for serving in (self._public, *self._nodes)))


class _CutOff:
    """A node that is down: the connection is cut without an answer."""

    def __init__(self, application: ASGIApp, node: Node) -> None:
        self._application = application
        self._node = node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and self._node.faults.down:
            cycle: Any = send
            cycle.__self__.transport.abort()
            return
        await self._application(scope, receive, send)


def _public(world: World) -> Litestar:
    return _litestar(aleph_ccn.ROUTES, world=Provide(lambda: world, sync_to_thread=False))


def _node(world: World, node: Node) -> Litestar:
    return _litestar(
        aleph_crn.ROUTES,
        world=Provide(lambda: world, sync_to_thread=False),
        node=Provide(lambda: node, sync_to_thread=False),
    )


def _litestar(routes: list[Any], **dependencies: Provide) -> Litestar:
    return Litestar(
        routes,
        dependencies=dependencies,
        exception_handlers={Denied: aleph_crn.denied},
        openapi_config=None,
        logging_config=None,
    )


@contextmanager
def _standins(prefix: str) -> Iterator[Machines]:
    """Real machines, of which nothing is left; nor of those of a run that was killed."""
    # Here, because all others need no Docker.
    import docker  # noqa: PLC0415

    from tests.vm.standins import PREPARED_12, StandIns, remove_all  # noqa: PLC0415

    with closing(docker.from_env()) as client:
        remove_all(client, prefix)
        try:
            yield StandIns(client, PREPARED_12, prefix)
        finally:
            remove_all(client, prefix)


async def _serve(balances: dict[str, int], nodes: int, machines: Machines | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AlephDouble(nodes, machines) as aleph:
        for address, amount in balances.items():
            aleph.world.credit(address, amount)
        print(aleph.url, flush=True)  # noqa: T201  for whoever starts it
        await stop.wait()


def main() -> None:
    """Run it until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--credit", action="append", default=[], metavar="ADDRESS=CREDITS")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--machines", choices=["none", "stand-ins"], default="none", help="what instances are")
    parser.add_argument("--prefix", default="baal-aleph-double-", help="of the names of stand-ins")
    given = parser.parse_args()
    pairs = (each.split("=", 1) for each in given.credit)
    balances = {address: int(amount) for address, amount in pairs}
    if given.machines == "none":
        asyncio.run(_serve(balances, given.nodes, None))
        return
    with _standins(given.prefix) as machines:
        # Its end waits for the threads in which machines boot.
        asyncio.run(_serve(balances, given.nodes, machines))


if __name__ == "__main__":
    main()
