"""`baal money`: what can be said. What is done loads much, and stands elsewhere (`money_work`)."""

import sys
from typing import Any


def add_money(commands: Any) -> None:
    """Add the command to a parser's."""
    about = "What agents cost: hours and credits this month, what 30 days will cost, and how long the balance lasts."
    money = commands.add_parser("money", help=about, description=about)
    money.add_argument("--json", action="store_true", help="as one JSON object, for scripts")
    money.set_defaults(run=_run)


def _run(**words: Any) -> None:
    # Here, because `baal --help` should not wait for it.
    from bot.commands.money_work import work  # noqa: PLC0415

    sys.exit(work(as_json=words["json"]))
