"""Run one command as the agent's tools run: `python -m agent.sandbox [--seconds N] [--folder F] COMMAND…`.

For a look inside a container, as the agent's user: `docker exec -u 10001 CONTAINER python -m agent.sandbox id`.
One word is given to bash, several are a program and its arguments. Prints the output, then how it ended (to stderr).
"""

import argparse
import asyncio
import sys

from agent.sandbox.client import Sandbox
from agent.sandbox.wire import Request


def main() -> int:
    """The exit code is the command's."""
    parser = argparse.ArgumentParser(prog="agent.sandbox", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--stdin", action="store_true", help="hand our standard input to it")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    command = ["bash", "-c", *chosen.command] if len(chosen.command) == 1 else chosen.command
    stdin = sys.stdin.buffer.read() if chosen.stdin else b""
    output = asyncio.run(Sandbox().run(Request(command, chosen.folder, chosen.seconds), stdin))
    sys.stdout.buffer.write(output.data)
    sys.stdout.flush()
    print(("truncated " if output.truncated else "") + str(output.result), file=sys.stderr)  # noqa: T201
    return output.result.code


if __name__ == "__main__":
    sys.exit(main())
