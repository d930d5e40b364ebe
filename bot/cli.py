"""The operator's commands: serve, doctor, health, rollout, money, snapshots, restore, new-key.

Each loads what it needs by itself: `--help` should not wait two seconds for the bot, and a container asks for its
health four times a minute.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from bot.commands.money import add_money
from bot.commands.rollout import add_rollout
from bot.commands.snapshots import add_snapshots
from bot.errors import BadSettings

BAD_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h."""
HEALTH_SECONDS = 8
"""Longer than the bot takes to find out that a part of it does not answer."""
DOCTOR_THREADS = 64
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  addresses to ask, not to open
"""HTTP_HOST of a door that is open on every address → where to ask."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `baal` command and of `python -m bot`."""
    words = vars(_parser().parse_args(arguments))
    run = words.pop("run")
    try:
        run(**words)
    except BadSettings as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_CONFIGURATION)


def serve() -> None:
    """Run the bot until SIGTERM or Ctrl-C."""
    import asyncio  # noqa: PLC0415

    from bot import log  # noqa: PLC0415
    from bot.settings import read_settings  # noqa: PLC0415

    settings = read_settings()
    # PTB otherwise warns at every 429 that RetryAfter will hold a timedelta one day.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    log.configure(settings.log_level)

    import uvloop  # noqa: PLC0415

    from bot.app import serve as run  # noqa: PLC0415

    asyncio.run(run(settings), loop_factory=uvloop.new_event_loop)


def doctor() -> None:
    """Look at everything that the bot needs, and say what to do: one line each, exit code 0 if all is well."""
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    from bot.doctor import examine  # noqa: PLC0415

    async def look() -> None:
        # Names are looked up in threads: where that takes its time, the other checks must not wait for one.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(DOCTOR_THREADS))
        table, is_well = await examine()
        encoding = sys.stdout.encoding or "utf-8"
        print(table.encode(encoding, "replace").decode(encoding), flush=True)
        # Not in order: such a thread cannot be ended, and would be waited for.
        os._exit(0 if is_well else 1)

    # What libraries log may hold secrets, and says nothing that the table does not.
    logging.getLogger().addHandler(logging.NullHandler())
    asyncio.run(look())


def health() -> None:
    """Ask the bot that runs here how it is: one line, exit code 0 if all is well and 1 if not."""
    host, port = _door()
    is_well, words = _ask_health(host, port) if port else (False, "HTTP_PORT is 0: the bot has no door to ask at")
    print(words)
    sys.exit(0 if is_well else 1)


def new_key() -> None:
    """Print a fresh BOT_ENCRYPTION_KEY."""
    from cryptography.fernet import Fernet  # noqa: PLC0415

    print(Fernet.generate_key().decode())


def _door() -> tuple[str, int]:
    """Where the bot's HTTP door is. Reading the settings takes four times as long as asking, so: only if need be."""
    port = os.environ.get("HTTP_PORT", "")
    if port.isdigit():
        host, number = os.environ.get("HTTP_HOST", ""), int(port)
    else:
        from bot.settings import read_settings  # noqa: PLC0415

        settings = read_settings()
        host, number = settings.http_host, settings.http_port
    return EVERYWHERE.get(host, host), number


def _ask_health(host: str, port: int) -> tuple[bool, str]:
    """Whether all is well, and a line that says it."""
    import http.client  # noqa: PLC0415
    import json  # noqa: PLC0415

    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        report = json.loads(answer.read())
        wrong = [f"{part}: {words}" for part, words in report["checks"].items() if words != "ok"]
        return answer.status == http.client.OK, "; ".join(wrong) or f"{report['status']} ({report['version']})"
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {host} port {port} ({error or type(error).__name__})"
    except (ValueError, TypeError, LookupError, AttributeError):
        return False, f"what answers at {host} port {port} is not the bot"
    finally:
        connection.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="baal", description="Make and run AI agents from a Telegram chat.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run in (("serve", serve), ("doctor", doctor), ("health", health), ("new-key", new_key)):
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
    add_rollout(commands)
    add_money(commands)
    add_snapshots(commands)
    return parser
