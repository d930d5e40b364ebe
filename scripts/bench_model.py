"""The benchmark's model server: LibertAI's double on an inherited socket."""

import os
import socket

import uvicorn

from tests.fakes.libertai import application
from tests.fakes.libertai_sim import KeyState
from tests.fakes.libertai_world import World


def main() -> None:
    """Serve, knowing the key of the environment."""
    world = World()
    world.keys = {os.environ["LLM_API_KEY"]: KeyState.OK}
    with socket.socket(fileno=int(os.environ["AGENT_FD"])) as door:
        # Nobody's kept connection ends between two rounds, just as it is used again.
        config = uvicorn.Config(
            application(world), log_level="critical", access_log=False, ws="none", timeout_keep_alive=600
        )
        uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main()
