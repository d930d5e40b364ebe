"""The operator's commands: `baal serve`, `baal new-key`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from bot import log
from bot.errors import BadSettings
from bot.settings import read_settings

BAD_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `baal` command and of `python -m bot`."""
    chosen = _parser().parse_args(arguments)
    try:
        chosen.run()
    except BadSettings as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_CONFIGURATION)


def serve() -> None:
    """Run the bot until SIGTERM or Ctrl-C."""
    settings = read_settings()
    # PTB otherwise warns at every 429 that RetryAfter will hold a timedelta one day.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    log.configure(settings.log_level)
    # Here, because `baal --help` should not wait two seconds for them.
    import uvloop  # noqa: PLC0415

    from bot.app import serve as run  # noqa: PLC0415

    asyncio.run(run(settings), loop_factory=uvloop.new_event_loop)


def new_key() -> None:
    """Print a fresh BOT_ENCRYPTION_KEY."""
    from cryptography.fernet import Fernet  # noqa: PLC0415

    print(Fernet.generate_key().decode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="baal", description="Make and run AI agents from a Telegram chat.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run in (("serve", serve), ("new-key", new_key)):
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
    return parser
